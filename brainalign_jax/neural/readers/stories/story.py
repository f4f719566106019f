"""What the readers of stories share: nested lists of words, one text for all subjects, sentences by pauses.

No data set of its own: `harry_potter` and `natural_stories` build on it, and `alice` for its sentences.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainalign_jax.neural.readers.registry import Dataset, scans_dataset
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.neural.recording import BoldRecording, assign_runs
from brainalign_jax.stimulus import Stimulus, clean_word


@dataclass(frozen=True, eq=False)
class Story:
    """What a subject's files say about the presentation, checked.

    words: N texts as presented; onsets, durations: [N] seconds, durations None where the files have
    none; times, run: [volumes] seconds and label of every volume that was recorded; path: the file.

    Raises ValueError naming the file for other lengths, blank words, and times that are not finite,
    not on one clock, or do not increase: the onsets over the text, the volumes within a run.
    """

    words: tuple[str, ...]
    onsets: np.ndarray
    durations: np.ndarray | None
    times: np.ndarray
    run: np.ndarray
    path: Path

    def __post_init__(self) -> None:
        n = len(self.words)
        for index, word in enumerate(self.words):
            if not word.strip():
                raise ValueError(
                    f"{self.path}: word {index} of {n} is blank; the file is damaged: get it again"
                )
        if not n or self.onsets.shape != (n,) or len(self.times) != len(self.run):
            raise ValueError(
                f"{self.path}: {n} words with onsets of shape {self.onsets.shape}, {len(self.times)} "
                f"volume times with {len(self.run)} run labels; each word and volume needs one"
            )
        timed = [("onset of word", self.onsets), ("time of volume", self.times)]
        if self.durations is not None:
            timed.append(("duration of word", self.durations))
            if (negative := self.durations < 0).any():
                index = int(np.argmax(negative))
                raise ValueError(
                    f"{self.path}: the duration of word {index} is {self.durations[index]:g} s; the "
                    "file is damaged: get it again"
                )
        for name, values in timed:
            if not (finite := np.isfinite(values)).all():
                index = int(np.argmin(finite))
                raise ValueError(
                    f"{self.path}: the {name} {index} is {values[index]}; the file is damaged: get "
                    "it again"
                )
        if (falls := np.diff(self.onsets) < 0).any():
            index = int(np.argmax(falls))
            raise ValueError(
                f"{self.path}: the onsets are not sorted: word {index} ({self.words[index]!r}) "
                f"begins at {self.onsets[index]:g} s and word {index + 1} "
                f"({self.words[index + 1]!r}) at {self.onsets[index + 1]:g} s; the words must be in "
                "the order in which they were presented, on the one clock of the volumes"
            )
        same_run = self.run[1:] == self.run[:-1]
        if (stuck := same_run & (np.diff(self.times) <= 0)).any():
            index = int(np.argmax(stuck))
            raise ValueError(
                f"{self.path}: the volume times do not increase within run {self.run[index]}: volume "
                f"{index} is at {self.times[index]:g} s, volume {index + 1} at "
                f"{self.times[index + 1]:g} s; the file is damaged: get it again"
            )
        labels, counts = np.unique(self.run, return_counts=True)
        if (counts < 2).any():
            raise ValueError(
                f"{self.path}: run {labels[np.argmin(counts)]} has one volume only; its TR is "
                "unknown: leave the run out"
            )

    def word_runs(self) -> np.ndarray:
        """Run [N] int32 of every word, see `assign_runs`."""
        return assign_runs(self.onsets, self.times, self.run, source=str(self.path))


def story_dataset(
    name: str,
    subjects: tuple[str, ...],
    first: tuple[Story, BoldRecording],
    stimulus: Stimulus,
    rows: np.ndarray,
    open_subject: Callable[[str], tuple[Story, BoldRecording]],
    processing: Processing,
    meta: dict,
) -> Dataset:
    """The data set of subjects who were presented with the same text.

    first: the first subject's story, from which `stimulus` was made, and its scans, which are read at
    each load; rows: [N] bool, the words of the story that are in the stimulus. open_subject: name ->
    story and scans, called for the others at each load.
    """
    text, scans = first

    def load(subject: str, reading: Reading):
        story, recording = first if subject == scans.subject else open_subject(subject)
        _same_text(story, text)
        word_runs = story.word_runs()[rows]
        if (moved := word_runs != stimulus.run).any():
            index = int(np.argmax(moved))
            raise ValueError(
                f"{story.path}: word {np.flatnonzero(rows)[index]} ({stimulus.words[index]!r}) is in "
                f"run {word_runs[index]}, in {text.path} in run {stimulus.run[index]}; open the subjects "
                "one by one"
            )
        return reading(recording, stimulus, processing, meta=meta)

    return scans_dataset(name, subjects, stimulus, load, meta)


def subject_files(data_dir: Path, folders: Iterable[str], pattern: str) -> dict[str, Path]:
    """Subject name -> file, from the first of data_dir / folder that holds files named `pattern`.

    pattern: a regular expression whose one group is the subject. Numbers are sorted as numbers.
    Empty where no folder has such files. Raises ValueError for two files of one subject.
    """
    for folder in (Path(data_dir) / name for name in folders):
        paths: dict[str, Path] = {}
        for path in sorted(folder.glob("*.*")):
            if match := re.fullmatch(pattern, path.name):
                subject = match.group(1)
                if subject in paths:
                    raise ValueError(
                        f"{paths[subject]} and {path} are both of subject {subject}; move one away"
                    )
                paths[subject] = path
        if paths:
            order = sorted(paths, key=lambda name: (not name.isdigit(), len(name), name))
            return {name: paths[name] for name in order}
    return {}


def asked_names(
    subjects: str | int | Iterable[str | int] | None, prefix: str = "subject_"
) -> list[str] | None:
    """`subjects` as names: 1 and "subject_1" are "1"."""
    if subjects is None:
        return None
    asked = [subjects] if isinstance(subjects, str | int | np.integer) else subjects
    return [str(name).removeprefix(prefix) for name in asked]


def text_of(cell: np.ndarray) -> str:
    """The string of a MATLAB char row as SciPy reads it, array(['text']); an empty one is array([]).

    Raises ValueError for anything else.
    """
    if not isinstance(cell, np.ndarray) or cell.dtype.kind != "U" or cell.shape not in ((0,), (1,)):
        raise ValueError(f"its text is {_described(cell)}, not one string")
    return str(cell[0]).strip() if cell.size else ""


def number_of(cell: np.ndarray) -> float:
    """The number of a 1x1 MATLAB matrix. Raises ValueError for anything else."""
    if not isinstance(cell, np.ndarray) or cell.shape != (1, 1) or cell.dtype.kind not in "fiu":
        raise ValueError(f"its time is {_described(cell)}, not a 1x1 matrix")
    return float(cell[0, 0])


def _described(cell) -> str:
    if isinstance(cell, np.ndarray):
        return f"an array of shape {cell.shape} and dtype {cell.dtype}"
    return f"of type {type(cell).__name__}"


def check_scans(shape: Sequence[int], counts: Sequence[int], path: Path) -> None:
    """Raises ValueError unless `data` is [volumes, voxels] with one of `counts` volumes."""
    if len(shape) != 2 or shape[0] not in counts or not shape[1]:
        expected = " or ".join(str(count) for count in dict.fromkeys(counts))
        raise ValueError(
            f"{path}: data has shape {tuple(shape)}; expected [volumes, voxels] with {expected} "
            "volumes, as many as there are volume times: get the file again"
        )


def _same_text(story: Story, first: Story) -> None:
    again = "all subjects were presented with the same text: get the files again"
    if len(story.words) != len(first.words):
        raise ValueError(
            f"{story.path} lists {len(story.words)} words and {first.path} {len(first.words)}; {again}"
        )
    for index, (word, other) in enumerate(zip(story.words, first.words, strict=True)):
        if word != other and _plain(word) != _plain(other):
            raise ValueError(
                f"{story.path}: word {index} is {word!r} where {first.path} has {other!r}; {again}"
            )
    apart = np.abs(story.onsets - first.onsets) > 1e-3
    if apart.any():
        index = int(np.argmax(apart))
        raise ValueError(
            f"{story.path}: word {index} ({first.words[index]!r}) begins at "
            f"{story.onsets[index]:g} s where {first.path} has {first.onsets[index]:g} s; open the "
            "subjects one by one"
        )


def _plain(word: str) -> str:
    """A word without its typography: the files of one release disagree in dots, dashes and markup."""
    word = clean_word(word.replace("…", "..."))
    return re.sub(r"[-–—]+", "-", word.replace("’", "'").replace("‘", "'"))


def sentences_by_pause(
    onsets: np.ndarray, offsets: np.ndarray, *, pause: float = 0.6, max_words: int = 30
) -> np.ndarray:
    """Pseudo-sentence index [N] int32 of words known by their times only (seconds).

    A pause of `pause` seconds or more starts a new sentence: 0.6 s gives 82 stretches of 26 words
    on average on the Alice chapter, as long as Carroll's sentences are. A stretch of more than
    `max_words` words is cut at its longest inner pause, of equals the nearest to its middle, again
    and again until no part is longer.
    """
    if not pause > 0 or max_words < 1:
        raise ValueError(f"pause is {pause} s and max_words {max_words}; both must be positive")
    gaps = np.asarray(onsets)[1:] - np.asarray(offsets)[:-1]
    bounds = [0, *(np.flatnonzero(gaps >= pause) + 1).tolist(), len(onsets)]
    starts = np.zeros(len(onsets), bool)
    parts = list(itertools.pairwise(bounds))
    while parts:
        begin, end = parts.pop()
        starts[begin] = True
        if end - begin > max_words:
            cuts = np.arange(begin + 1, end)
            inner = np.round(gaps[cuts - 1], 6)  # adjoining intervals differ from 0 by rounding
            cut = int(cuts[np.lexsort((np.abs(cuts - (begin + end) / 2), -inner))[0]])
            parts += [(begin, cut), (cut, end)]
    return (np.cumsum(starts) - 1).astype(np.int32)
