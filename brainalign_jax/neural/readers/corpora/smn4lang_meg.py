"""SMN4Lang (Wang et al. 2022), the MEG: epochs around the words of sixty stories in Chinese (ds004078)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.arrays import check_memory
from brainalign_jax.neural.formats.text.sidecars import read_table
from brainalign_jax.neural.readers.corpora.sections import Section, check_present, stimulus_of
from brainalign_jax.neural.readers.corpora.smn4lang import (
    CITATION,
    N_STORIES,
    SOURCE,
    WORD_TIMES,
    choose_listeners,
    read_story,
)
from brainalign_jax.neural.readers.mne_files import (
    Cut,
    check_cut,
    epochs_around,
    open_recording,
    rows_of_epochs,
    scaled_by_type,
)
from brainalign_jax.neural.readers.registry import Dataset, find_folder, register
from brainalign_jax.neural.readout.epochs import (
    BAD_EPOCHS,
    EpochedResponses,
    check_window,
    mean_loader,
    without_bad_epochs,
)

NAME = "smn4lang_meg"
_DECIM = 10  # of the release's 1,000 samples a second
AUDIO = 10.65  # seconds that the release adds to the words' times, for the scanner's sake
_RECORDING = re.compile(r"sub-(?P<subject>\d+)_task-RDR_run-(?P<run>\d+)_meg\.fif")
_BEGIN, _END = "Beg", "End"
# Seconds from Beg to End that all other people have in these stories. Of these two recordings the trigger of
# the start was lost, and the Beg that their tables have lies 6.0 and 7.5 s too late for the story's length.
_LOST_STARTS = {("08", 16): 294.456, ("09", 7): 279.970}
_SLACK = 1.0  # seconds that words may reach beyond the sound, as aligners round


@register(NAME)
def read_smn4lang_meg(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    stories: int | Sequence[int] | None = None,
    picks: str | None = None,
    tmin: float = -0.2,
    tmax: float = 0.8,
    baseline: tuple[float, float] | None = None,
    decim: int | None = None,
    resample: float | None = None,
    window: tuple[float, float] | None = None,
    bad_epochs: str = "raise",
    audio_delay: float = 0.0,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The listeners' MEG around each word, through MNE-Python; a story is a run, both of the same number.

    data_dir: the folder with `derivatives`, or its parent if that one is named "smn4lang_meg", "smn4lang" or
    "ds004078". Subjects are named "01" to "12" (1 and "sub-01" are understood).
    stories: numbers from 1 to 60; None takes those that there are of all chosen subjects. The epochs of all
    sixty are some 6 GB a person: choose stories, or fewer channels.
    picks: types of channels, as "mag", or names with commas between them; None takes all sensors that are
    good in all chosen stories.
    tmin, tmax: seconds from the word's onset between which epochs are cut.
    baseline: START:STOP (s) whose mean is taken off each epoch.
    decim: of so many samples one is kept; None is 10, which leaves 100 a second, as the release was filtered
    to 1 to 40 Hz, and 1 with resample.
    resample: Hz, by MNE's filter; decim counts the samples that it leaves.
    window: seconds START:STOP whose mean is a word's response, for studies without a time axis; None takes
    the whole epoch.
    bad_epochs: "raise" for epochs with missing values, or "drop".
    audio_delay: seconds from the trigger to the sound at the ear, of which the release says nothing.
    pause (s), max_sentence (words): as of `smn4lang`.

    The onsets of the words are seconds from the start of a story's sound, which the trigger `Beg` of its
    `_events.tsv` marks. Words whose epochs reach beyond a recording are left out for that subject.

    What is known and from where: names of files and channels, the filter, the triggers, that run N is story
    N (from Beg to End it is as long as the sound, to .1 s) and that the words' times are 10.65 s late are in
    the release, version 1.0.4. Of 08's story 16 and 09's story 7 the trigger of the start was not recorded,
    and the release's README has it computed from the End: that is done here, whatever Beg the tables have.
    Raises FileNotFoundError, ModuleNotFoundError where MNE-Python is not installed, or ValueError naming the
    file and the remedy.
    Reference: Wang et al. 2022, Scientific Data 9:590.
    """
    check_known("bad_epochs=", bad_epochs, BAD_EPOCHS)
    check_window(window)
    if decim is None:
        decim = _DECIM if resample is None else 1
    cut = check_cut(Cut(picks, tmin, tmax, baseline, decim, resample))
    if not np.isfinite(audio_delay):
        raise ValueError(f"audio_delay={audio_delay} must be seconds")
    holds = "derivatives/preprocessed_data"
    root = find_folder(Path(data_dir), ("", NAME, "smn4lang", "ds004078"), holds, SOURCE).parent
    recordings = find_recordings(root)
    chosen, numbers = choose_listeners(NAME, recordings, subjects, stories)
    times = root / WORD_TIMES
    sections = [
        _from_the_sound(read_story(times / f"story_{number}_word_time.mat", number))
        for number in numbers
    ]
    stimulus, made_by = stimulus_of(sections, language="zh", pause=pause, max_sentence=max_sentence)
    meta = {
        "dataset": NAME,
        "citation": CITATION,
        "licence": "CC0",
        "notes": made_by,
        "language": "zh",
        "stories": list(numbers),
        "audio_delay": float(audio_delay),
        **{name: value for name, value in cut._asdict().items() if value is not None},
    }

    def load_epochs(subject: str) -> EpochedResponses:
        paths = []
        for number in numbers:
            name = f"sub-{subject}_task-RDR_run-{number}_meg.fif"
            paths.append(root / holds / f"sub-{subject}" / "MEG" / name)
            check_present(paths[-1], SOURCE)
        starts = [
            audio_start(path, subject, section)
            for path, section in zip(paths, sections, strict=True)
        ]
        raws = [open_recording(path, picks) for path in paths]
        shared = _shared_channels(raws, paths)
        values, valid, seconds = np.empty(0), np.zeros(len(stimulus), bool), np.empty(0)
        types: list[str] = []
        first = 0
        for raw, path, section, start in zip(raws, paths, sections, starts, strict=True):
            onsets = section.onsets + start + audio_delay
            epochs = epochs_around(raw.pick(shared), path, section.words, onsets, cut)
            if not len(values):
                seconds, types = epochs.times, epochs.get_channel_types()
                shape = (len(stimulus), len(shared), len(seconds))
                check_memory(4 * int(np.prod(shape)), path, f"the epochs of {len(paths)} stories")
                values = np.zeros(shape, np.float32)
            if len(epochs.times) != len(seconds) or not np.allclose(epochs.times, seconds):
                raise ValueError(
                    f"{path} has {raw.info['sfreq']:g} samples a second, {paths[0]} "
                    f"{raws[0].info['sfreq']:g}: give resample= (Hz), or other stories"
                )
            if len(epochs):
                kept = first + rows_of_epochs(epochs, len(section.words), path)
                values[kept] = epochs.get_data(copy=True)
                valid[kept] = True
            first += len(section.words)
        if not valid.any():
            raise ValueError(
                f"{paths[0]}: no epoch from {tmin:g} to {tmax:g} s of any word lies in the recordings; give "
                "another tmin and tmax"
            )
        values = scaled_by_type(values, types)
        good = without_bad_epochs(values, valid, bad_epochs)
        try:
            return EpochedResponses(subject, values, seconds, stimulus, tuple(shared), good, meta)
        except ValueError as error:
            raise ValueError(f"{paths[0].parent}: {error}") from error

    load = mean_loader(load_epochs, window)
    return Dataset(NAME, chosen, stimulus, load, meta, epochs=load_epochs)


def find_recordings(root: Path) -> dict[str, dict[int, Path]]:
    """Subject -> story -> recording. Raises FileNotFoundError where there are none."""
    recordings: dict[str, dict[int, Path]] = {}
    for place in sorted(root.glob("derivatives/preprocessed_data/sub-*/MEG")):
        # A folder's own listing has the links of git-annex that lead nowhere, too.
        for path in sorted(place.iterdir()):
            match = _RECORDING.fullmatch(path.name)
            if match and 1 <= int(match["run"]) <= N_STORIES:
                recordings.setdefault(match["subject"], {})[int(match["run"])] = path
    if not recordings:
        name = "derivatives/preprocessed_data/sub-01/MEG/sub-01_task-RDR_run-1_meg.fif"
        raise FileNotFoundError(
            f"there is no {root / name}, nor a recording of another story; get them from {SOURCE}, or with "
            f"`brainalign fetch {NAME}`"
        )
    return {subject: recordings[subject] for subject in sorted(recordings)}


def audio_start(recording: Path, subject: str, section: Section) -> float:
    """Seconds from the start of a recording to that of the story's sound, by the events beside it.

    Raises FileNotFoundError, or ValueError naming the table for triggers that are missing or too near for the
    words of the story.
    """
    path = recording.with_name(recording.name.replace("_meg.fif", "_events.tsv"))
    check_present(path, SOURCE)
    table = read_table(path)
    kinds, seconds = table.column("trial_type"), table.numbers("onset")
    marks: dict[str, float] = {}
    for kind in (_BEGIN, _END):
        rows = [row for row, text in enumerate(kinds) if text.strip() == kind]
        if len(rows) != 1 or not 0 <= seconds[rows[0]] < np.inf:
            raise ValueError(
                f"{path} has {len(rows)} rows with trial_type {kind!r}, and one is expected, with an onset "
                f"in seconds from the recording's start: get it again from {SOURCE}"
            )
        marks[kind] = float(seconds[rows[0]])
    lost = _LOST_STARTS.get((subject, section.label))
    if lost is not None:
        return marks[_END] - lost
    sound, words = marks[_END] - marks[_BEGIN], float(section.offsets[-1])
    if words > sound + _SLACK:
        raise ValueError(
            f"{path}: from {_BEGIN} to {_END} are {sound:g} s, and the words of {section.path} last "
            f"{words:g} s: get both again from {SOURCE}"
        )
    return marks[_BEGIN]


def _from_the_sound(section: Section) -> Section:
    """The section with times from the start of the sound. Raises ValueError for words before it."""
    if section.onsets[0] < AUDIO - _SLACK:
        raise ValueError(
            f"{section.path}: the first word begins at {section.onsets[0]:g} s, before the sound, which by "
            f"the release begins at {AUDIO:g} s: get it again from {SOURCE}"
        )
    return section._replace(onsets=section.onsets - AUDIO, offsets=section.offsets - AUDIO)


def _shared_channels(raws: Sequence[Any], paths: Sequence[Path]) -> list[str]:
    """The channels that all recordings have, in the first one's order."""
    others = [set(raw.ch_names) for raw in raws[1:]]
    shared = [name for name in raws[0].ch_names if all(name in names for names in others)]
    if not shared:
        raise ValueError(
            f"{paths[0].parent}: no channel is good in all stories; give fewer, or picks="
        )
    return shared
