"""Natural Stories: nineteen people listened to stories told on the radio (OSF eq2ba)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.matlab import open_matlab
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.readers.stories.story import (
    Story,
    asked_names,
    check_scans,
    number_of,
    sentences_by_pause,
    story_dataset,
    subject_files,
    text_of,
)
from brainalign_jax.neural.readout import Processing
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.stimulus import Stimulus, split_sentences

NAME = "natural_stories"
SOURCE = "https://osf.io/eq2ba (Zhang et al. 2020)"
LONGEST_WORD = 1.0  # seconds; what lasts longer until the next word is a pause
_RUN_GAP = 1.5  # median TRs between two volumes of one run, at most
_WORDS_A_SENTENCE = 100  # more words than this between full stops: the texts carry no punctuation
_EXPECTED = (
    "expected an (N, 1) cell of (2, 1) cells, text at words[i][0][0][0][0] and onset at "
    "words[i][0][1][0][0][0]"
)


@register(NAME)
def read_natural_stories(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    word_duration: float | None = None,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The word responses of the listeners in `subject_*.mat` (MATLAB 5 to 7.3).

    data_dir: the folder with the files, or its parent if that one is named "natural_stories".
    Subjects are named "1" to "19" (1 and "subject_1" are understood). processing: cleaning and
    read-out, see `Processing`.
    The files have no runs: where the volume times step back, or forward by more than 1.5 times
    their median step, a new run begins, counted from 1. A word belongs to the run between whose first
    and last volume (plus a TR) it begins; where the clock restarts in each run, words have no run,
    which is an error.
    word_duration: seconds; None lets a word last until the next one of its run, but at most 1 s. The
    files state none. The last word of a run lasts as long as the run's median word.
    pause (s), max_sentence (words): how texts without punctuation are cut, see `sentences_by_pause`.
    Those have more than 100 words between full stops; others end their sentences themselves.
    The files hold no voxel coordinates, so that the responses have no space.
    All subjects must list the same words at the same times.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: Zhang et al. 2020, Nature Communications 11:1877.
    """
    if word_duration is not None and not (np.isfinite(word_duration) and word_duration >= 0):
        raise ValueError(f"word_duration is {word_duration}; give seconds, not negative, or none")
    paths = subject_files(Path(data_dir), ("", NAME), r"subject_(\w+)\.mat")
    if not paths:
        raise FileNotFoundError(
            f"there is no {Path(data_dir) / 'subject_*.mat'}; get it from {SOURCE}"
        )
    chosen = choose_subjects(NAME, tuple(paths), asked_names(subjects))

    def open_subject(subject: str) -> tuple[Story, BoldRecording]:
        return open_listener(paths[subject], subject)

    opened = open_subject(chosen[0])
    first = opened[0]
    run = first.word_runs()
    durations = _durations(first.onsets, run, word_duration)
    sentence, made_by = split_sentences(first.words, run), "the texts' punctuation"
    if sentence[-1] + 1 - len(np.unique(run)) < len(run) / _WORDS_A_SENTENCE:
        made_by = f"pauses of {pause:g} s or more, at most {max_sentence} words long"
        sentence = _sentences_by_pause(first.onsets, durations, run, pause, max_sentence)
    stimulus = Stimulus(
        first.words,
        onsets=first.onsets,
        durations=durations,
        sentence=sentence,
        run=run,
        attributes={"section": run},
    )
    lasting = (
        "until the next word, at most 1 s" if word_duration is None else f"{word_duration:g} s"
    )
    meta = {
        "dataset": NAME,
        "citation": "Zhang et al. 2020, Nature Communications 11:1877",
        "licence": "see the release",
        "notes": f"runs from gaps in the volume times; sentences from {made_by}; words last {lasting}",
    }
    everything = np.ones(len(run), bool)
    return story_dataset(NAME, chosen, opened, stimulus, everything, open_subject, processing, meta)


def open_listener(path: Path, subject: str) -> tuple[Story, BoldRecording]:
    """The story and the scans of one `subject_*.mat`; `data` is read when its blocks are asked for.

    Raises FileNotFoundError, or ValueError naming the file for a damaged file, missing variables,
    or another nesting or shape.
    """
    with open_matlab(path, source=SOURCE) as mat:
        time = mat.read("time")
        if time.ndim != 2 or time.shape[0] != 1 or time.size < 2 or time.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: time has shape {time.shape} and dtype {time.dtype}; expected one row of "
                "seconds, (1, volumes)"
            )
        times = time[0].astype(np.float64)
        if not np.isfinite(times).all():
            raise ValueError(
                f"{path}: time holds NaN or infinite values; get it again from {SOURCE}"
            )
        cells = mat.read("words")
        check_scans(mat.shape("data"), [len(times)], path)
        bold = mat.columns("data")
    run = runs_by_gap(times, source=str(path))
    words, onsets = _read_words(cells, path)
    story = Story(words, onsets, None, times, run, path)
    return story, BoldRecording(subject, bold, times, run, source=str(path))


def runs_by_gap(times: np.ndarray, *, source: str) -> np.ndarray:
    """Run [time] int32, from 1, of volumes known by their times [time] (seconds) only.

    A step back, or one of more than 1.5 times the median step, starts a run.
    Raises ValueError naming `source` where two volumes have the same time.
    """
    steps = np.diff(times)
    if not steps.all():
        index = int(np.argmax(steps == 0))
        raise ValueError(
            f"{source}: volumes {index} and {index + 1} have the same time, {times[index]:g} s; the "
            "file is damaged: get it again"
        )
    forward = steps[steps > 0]
    tr = np.median(forward) if forward.size else 0.0
    starts = (steps < 0) | (steps > _RUN_GAP * tr)
    return np.concatenate([[1], 1 + np.cumsum(starts)]).astype(np.int32)


def _read_words(array: np.ndarray, path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    if array.ndim != 2 or array.shape[1] != 1 or not array.size or array.dtype != object:
        raise ValueError(
            f"{path}: words has shape {array.shape} and dtype {array.dtype}; {_EXPECTED}"
        )
    texts, onsets = [], np.empty(len(array))
    for index, cell in enumerate(array[:, 0]):
        try:
            if not isinstance(cell, np.ndarray) or cell.shape != (2, 1) or cell.dtype != object:
                raise ValueError("it is not a (2, 1) cell of text and onset")
            texts.append(text_of(cell[0, 0]))
            onsets[index] = number_of(cell[1, 0])
        except ValueError as error:
            raise ValueError(
                f"{path}: word {index} is nested in another way ({error}); {_EXPECTED}"
            ) from error
    return tuple(texts), onsets


def _durations(onsets: np.ndarray, run: np.ndarray, word_duration: float | None) -> np.ndarray:
    if word_duration is not None:
        return np.full(len(onsets), float(word_duration))
    durations = np.empty(len(onsets))
    for label in np.unique(run):
        rows = np.flatnonzero(run == label)
        known = np.minimum(np.diff(onsets[rows]), LONGEST_WORD)
        durations[rows[:-1]] = known
        durations[rows[-1]] = np.median(known) if known.size else LONGEST_WORD
    return durations


def _sentences_by_pause(onsets, durations, run, pause, max_words) -> np.ndarray:
    sentence, count = np.empty(len(onsets), np.int32), 0
    for label in dict.fromkeys(run.tolist()):  # in the order of presentation
        rows = run == label
        numbers = sentences_by_pause(
            onsets[rows], (onsets + durations)[rows], pause=pause, max_words=max_words
        )
        sentence[rows] = numbers + count
        count += int(numbers[-1]) + 1
    return sentence
