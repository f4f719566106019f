"""LeBel et al. 2023: nine people listened to stories of The Moth Radio Hour; cortical voxels (ds003020)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.matlab.stacked import StackedRows
from brainalign_jax.neural.formats.text.sidecars import check_covered, read_json
from brainalign_jax.neural.formats.text.textgrid import read_textgrid
from brainalign_jax.neural.readers.corpora.sections import (
    Section,
    check_present,
    checked_section,
    got_files,
    stimulus_of,
)
from brainalign_jax.neural.readers.options import split_items
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    find_folder,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.neural.recording import BoldRecording

NAME = "lebel2023"
SOURCE = "https://openneuro.org/datasets/ds003020"
TR = 2.0
SOUND = 10.0  # seconds from the first volume of a scan to the start of the sound
FIRST = 10  # volumes at the start of a scan that the responses lack
LOST = 20  # volumes that the responses lack in all
# Labels of the word tier that are no words, without braces: noises, breaths, laughter, pauses.
NOISES = ("", "sentence_start", "sentence_end", "br", "lg", "ls", "ns", "sp")
_SLACK = 0.05  # seconds by which intervals may overlap: tools that wrote the files rounded


@register(NAME)
def read_lebel2023(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    processing: Processing = Processing(),
    stories: str | Sequence[str] | None = None,
    tr: float = TR,
    slice_time_ref: float = 0.0,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The word responses of the listeners, voxels of the cortex as the release preprocessed them.

    data_dir: the folder with `derivative`, or its parent if that one is named "lebel2023" or
    "ds003020". Subjects are named as "UTS03" ("sub-UTS03" is understood).
    stories: names such as "souls"; None takes those that there are of all chosen subjects. Each is a
    run, numbered from 1 in the order of the alphabet, or as they are given; its words have the
    attributes `story`, `section` (the run's number) and `language`.
    tr: seconds; 2 by the release and in the authors' models (2.0045, which their code fills into gaps
    between triggers, would move the end of a story of ten minutes by 1.4 s).
    slice_time_ref: part of a TR added to the volume times; the authors' own models take 0.
    pause (s), max_sentence (words): how the words become sentences, see `sentences_by_pause`. The
    transcripts carry no punctuation.

    The sound begins 10 s after the first volume of a scan, and the responses lack ten volumes at the
    scan's start and ten at its end: row k of a story is the volume 10 + 2k s into the sound. Words
    before the first of them are read out where their response is covered. Labels of noises, breaths
    and pauses are no words. Words in capitals alone are made lower case.

    What is known and from where: files, numbers of volumes and the TR (2 s) are in the release (its
    README, respdict.json, JSON sidecars, version 3.1.0). The start of the sound, what is trimmed and
    which labels are no words are those of the authors' code (HuthLab/deep-fMRI-dataset), which the
    number of rows that the responses must have confirms: 20 fewer than respdict.json tells. The voxels'
    places are in the release's pycortex files, which are not read: the responses have no space.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: LeBel et al. 2023, Scientific Data 10:555.
    """
    root = find_folder(Path(data_dir), ("", NAME, "ds003020"), "derivative", SOURCE) / "derivative"
    heard = find_stories(root)
    asked = [subjects] if isinstance(subjects, str) else subjects
    asked = None if asked is None else [str(name).removeprefix("sub-") for name in asked]
    there = heard
    if asked is None:
        there = got_files(heard, NAME)
    chosen = choose_subjects(NAME, tuple(there if asked is None else heard), asked)
    names = _chosen_stories(heard, there, chosen, stories)
    lengths = _volumes(root / "respdict.json", names)
    sections = [
        read_story(root / "TextGrids" / f"{name}.TextGrid", number)
        for number, name in enumerate(names, 1)
    ]
    stimulus, made_by = stimulus_of(sections, language="en", pause=pause, max_sentence=max_sentence)
    meta = {
        "dataset": NAME,
        "citation": "LeBel et al. 2023, Scientific Data 10:555, doi 10.1038/s41597-023-02437-z",
        "licence": "CC0",
        "notes": made_by,
        "language": "en",
        "stories": list(names),
        "slice_time_ref": float(slice_time_ref),
    }
    if not (np.isfinite(tr) and 0 < tr < 10):
        raise ValueError(f"tr is {tr}; give the TR in seconds, {TR:g} in the release")
    if not 0 <= slice_time_ref <= 1:
        raise ValueError(f"slice_time_ref is {slice_time_ref}; give a part of a TR, 0 to 1")

    def load(subject: str, reading: Reading):
        paths = [heard[subject][name] for name in names]
        for path in paths:
            check_present(path, SOURCE)
        bold = StackedRows(paths, "data", source=SOURCE)
        for path, length, name in zip(paths, bold.lengths, names, strict=True):
            if length != lengths[name] - LOST:
                raise ValueError(
                    f"{path} has {length} volumes where {root / 'respdict.json'} tells of a scan of "
                    f"{lengths[name]}, of which {LOST} are trimmed; get both again from {SOURCE}"
                )
        times = [story_times(length, tr, slice_time_ref) for length in bold.lengths]
        run = np.repeat(np.arange(1, len(names) + 1, dtype=np.int32), bold.lengths)
        recording = BoldRecording(
            subject,
            bold,
            np.concatenate(times),
            run,
            source=f"{paths[0]} and {len(paths) - 1} more",
        )
        check_covered(
            stimulus,
            np.concatenate(times) + LOST / 2 * tr,  # the volumes that were trimmed at the end
            run,
            {section.label: section.path for section in sections},
        )
        return reading(recording, stimulus, processing, meta=meta)

    return scans_dataset(NAME, chosen, stimulus, load, meta)


def story_times(n_volumes: int, tr: float = TR, slice_time_ref: float = 0.0) -> np.ndarray:
    """Seconds [n_volumes] from the start of the sound of a story's rows: 10, 12, ... for a TR of 2 s."""
    return (FIRST + np.arange(n_volumes) + slice_time_ref) * tr - SOUND


def find_stories(root: Path) -> dict[str, dict[str, Path]]:
    """Subject -> story -> file of responses, in the folder `derivative`.

    Raises FileNotFoundError where there are none.
    """
    stories_of: dict[str, dict[str, Path]] = {}
    for folder in sorted((root / "preprocessed_data").glob("*")):
        if folder.is_dir():
            # A folder's own listing has the links of git-annex that lead nowhere, too.
            files = sorted(path for path in folder.iterdir() if path.suffix == ".hf5")
            if files:
                stories_of[folder.name] = {path.stem: path for path in files}
    if not stories_of:
        raise FileNotFoundError(
            f"there is no {root / 'preprocessed_data' / 'UTS03' / 'souls.hf5'}, nor another story; get "
            f"them from {SOURCE}, or with `brainalign fetch {NAME}`"
        )
    return stories_of


def read_story(path: Path, label: int) -> Section:
    """The words of a TextGrid with the tiers `phone` and `word`, in seconds from the sound's start.

    Raises FileNotFoundError, or ValueError naming the file and interval.
    """
    check_present(path, SOURCE)
    intervals = read_textgrid(path, ("word", "words"), slack=_SLACK)
    spoken = [
        (number, start, end, text)
        for number, (start, end, text) in enumerate(intervals, 1)
        if text.lower().strip("{}").strip() not in NOISES
    ]
    texts = [text for *_, text in spoken]
    if not any(letter.islower() for text in texts for letter in text):
        texts = [text.lower() for text in texts]
    return checked_section(
        label,
        texts,
        [start for _, start, _, _ in spoken],
        [end for _, _, end, _ in spoken],
        story=path.stem,
        path=path,
        places=[f"interval {number}" for number, *_ in spoken],
    )


def _volumes(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Story -> volumes of its scan, by respdict.json."""
    check_present(path, SOURCE)
    told = read_json(path)
    for name in names:
        count = told.get(name)
        if isinstance(count, bool) or not isinstance(count, int) or not LOST < count < 10_000:
            raise ValueError(
                f"{path} gives {str(count)[:40]} as the number of volumes of {name!r}; get it again from "
                f"{SOURCE}"
            )
    return {name: told[name] for name in names}


def _chosen_stories(
    heard: Mapping[str, Mapping[str, Path]],
    there: Mapping[str, Mapping[str, Any]],
    subjects: Sequence[str],
    stories: str | Sequence[str] | None,
) -> tuple[str, ...]:
    """The stories asked for, or those that are there of all the subjects.

    Raises ValueError naming what is amiss.
    """
    shared = [
        name for name in there[subjects[0]] if all(name in there[other] for other in subjects)
    ]
    if stories is None:
        if not shared:
            raise ValueError(
                f"{NAME}: no story is there of all of {', '.join(subjects)}; choose with subjects="
            )
        return tuple(shared)
    names = split_items(stories) if isinstance(stories, str) else [str(name) for name in stories]
    names = [name.strip() for name in names]
    for name in names:
        check_known("story", name, sorted(set().union(*heard.values())), of=NAME)
        for subject in subjects:
            if name not in heard[subject]:
                raise ValueError(
                    f"{NAME}: there is no {name!r} of {subject}; choose other stories, or subjects"
                )
    if not names or len(set(names)) < len(names):
        raise ValueError(f"stories is {stories!r}; name each story once, or leave it out for all")
    return tuple(names)
