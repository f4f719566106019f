"""Brennan et al. 2016: 28 people listened to chapter 1 of Alice in Wonderland; six regions."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.names import unknown
from brainalign_jax.neural.formats.text.textgrid import read_textgrid
from brainalign_jax.neural.readers.options import split_items
from brainalign_jax.neural.readers.registry import Dataset, register, scans_dataset
from brainalign_jax.neural.readers.stories.alice_files import (
    REGIONS,
    SILENCES,
    SOURCE,
    TEXTGRID,
    check_volumes,
    find_release,
    read_motion,
    read_regressor,
    read_timecourses,
    timecourse_path,
    usable_subjects,
    volume_times,
)
from brainalign_jax.neural.readers.stories.story import sentences_by_pause
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.stimulus import Stimulus

NAME = "alice"
N_WORDS = 2127
CONFOUNDS = ("motion", "rate", "sound_power")


@register(NAME)
def read_alice(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    radius: str = "10mm",
    confounds: str | Iterable[str] = "none",
    pause: float = 0.6,
    max_sentence: int = 30,
    processing: Processing = Processing(),
) -> Dataset:
    """The six regions' word responses for the 2,127 words of the chapter; one run.

    data_dir: the folder with `alice_data_shared` and `alice_stim_shared`, or its parent.
    radius: "10mm" or "6mm" regions. processing: how the words are read out of the scans.
    confounds: what is regressed out of every region: "none", or some of "motion" (six realignment
    parameters), "rate" (words a second) and "sound_power". The last two are as the release ships them,
    convolved with the haemodynamic response. Several are a list, or one string with : or commas. None
    are by default: the word rate is part of what a language area responds to.
    pause (s), max_sentence (words): how the words become sentences, see `sentences_by_pause`. The
    aligned words carry no punctuation. They are the aligner's: clitics are words of their own
    ("could", "n't").
    A subject whose recording is all zeros (s33) is left out with a warning, and is an error when
    asked for. Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    Reference: Brennan et al. 2016, Brain & Language 157-158:81-94.
    """
    folder, chosen, left_out = usable_subjects(data_dir, subjects, radius)
    removed = _confound_names(confounds)
    if left_out:
        warnings.warn(
            f"alice: subject {', '.join(left_out)} is left out: the recording is all zeros",
            UserWarning,
            stacklevel=2,
        )
    stimulus = read_stimulus(folder, pause=pause, max_sentence=max_sentence)
    n_volumes = len(read_timecourses(folder, chosen[0], radius))
    times = volume_times(n_volumes)
    meta = {
        "dataset": NAME,
        "citation": "Brennan et al. 2016, Brain & Language 157-158:81-94",
        "licence": "CC BY 4.0",
        "notes": f"sentences are pseudo-sentences: stretches between pauses of {pause:g} s or "
        f"more, cut at their longest pause down to {max_sentence:g} words; clitics are words",
        "radius": radius,
        "confounds": list(removed),
        "feature_names": list(REGIONS),
    }

    def load(subject: str, reading: Reading):
        path = timecourse_path(folder, subject, radius)
        bold = read_timecourses(folder, subject, radius)
        if len(bold) != n_volumes:
            raise ValueError(
                f"{path} has {len(bold)} volumes where {chosen[0]} has {n_volumes}; "
                f"get it again from {SOURCE}"
            )
        check_volumes(folder, subject, path, n_volumes)
        columns = []
        for name in removed:
            if name == "motion":
                columns.append(read_motion(folder, subject))
            else:
                file = "rate" if name == "rate" else "sndpwr"
                columns.append(read_regressor(folder, subject, file)[:, None])
            if len(columns[-1]) != n_volumes:
                raise ValueError(
                    f"{path} has {n_volumes} volumes and the {name} file of {subject} "
                    f"{len(columns[-1])}; get both again from {SOURCE}"
                )
        recording = BoldRecording(
            subject,
            bold,
            times,
            np.zeros(n_volumes, np.int32),
            confounds=np.concatenate(columns, axis=1) if columns else None,
            feature_names=REGIONS,
            source=str(path),
        )
        return reading(recording, stimulus, processing, meta=meta)

    return scans_dataset(NAME, chosen, stimulus, load, meta)


def read_stimulus(data_dir: str | Path, *, pause: float = 0.6, max_sentence: int = 30) -> Stimulus:
    """The words of the chapter with onsets, durations (s) and pseudo-sentences; one run.

    Raises FileNotFoundError, or ValueError for a TextGrid that is damaged, has no words, or whose
    intervals do not adjoin, as Praat writes them. Warns where there are not 2,127 words.
    """
    path = find_release(data_dir) / TEXTGRID
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; get the release from {SOURCE}")
    intervals = read_textgrid(path, "word")
    for number, (interval, following) in enumerate(itertools.pairwise(intervals), 1):
        if following[0] - interval[1] > 1e-6:
            raise ValueError(
                f"{path}: interval {number} ends at {interval[1]} s and the next begins at {following[0]} s; "
                f"intervals must adjoin: the file is damaged; get it again from {SOURCE}"
            )
    words = [item for item in intervals if item[2].lower() not in SILENCES]
    if not words:
        raise ValueError(f"{path}: the word tier holds silences only; get it again from {SOURCE}")
    if len(words) != N_WORDS:
        # A damaged label can turn a silence into a word, which nothing else would show.
        warnings.warn(
            f"{path} has {len(words)} words where the release has {N_WORDS}: it is another text, or it "
            f"is damaged; get it again from {SOURCE}",
            UserWarning,
            stacklevel=2,
        )
    onsets = np.array([start for start, _, _ in words])
    offsets = np.array([end for _, end, _ in words])
    return Stimulus(
        tuple(text for _, _, text in words),
        onsets=onsets,
        durations=offsets - onsets,
        sentence=sentences_by_pause(onsets, offsets, pause=pause, max_words=max_sentence),
        run=np.zeros(len(onsets), np.int32),
        attributes={"story": (NAME,) * len(onsets)},
    )


def _confound_names(confounds: str | Iterable[str]) -> tuple[str, ...]:
    parts = split_items(confounds) if isinstance(confounds, str) else confounds
    names = tuple(dict.fromkeys(str(name).strip() for name in parts))
    if names in ((), ("",), ("none",)):
        return ()
    if strange := [name for name in names if name not in CONFOUNDS]:
        raise ValueError(unknown("confound", strange[0], CONFOUNDS, of=NAME) + "; or none alone")
    return names
