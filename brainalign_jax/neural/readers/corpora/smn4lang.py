"""SMN4Lang (Wang et al. 2022): twelve people heard sixty stories in Chinese, in fMRI and MEG (ds004078)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.images.grayordinates import open_cifti
from brainalign_jax.neural.formats.matlab import open_matlab
from brainalign_jax.neural.readers.corpora.sections import (
    Section,
    check_present,
    checked_section,
    chosen_sections,
    got_files,
    named_volumes,
    respond_to_sections,
    stimulus_of,
)
from brainalign_jax.neural.readers.images.image_files import known_labels
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    find_folder,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readers.stories.story import text_of
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.stimulus import clean_word

NAME = "smn4lang"
SOURCE = "https://openneuro.org/datasets/ds004078"
CITATION = "Wang et al. 2022, Scientific Data 9:590, doi 10.1038/s41597-022-01708-5"
WORD_TIMES = "derivatives/annotations/time_align/word-level"
TR = 0.71
N_STORIES = 60
SPACES = {"cifti": ("CIFTI", ".dtseries.nii"), "volume": ("MNI", ".nii.gz")}
_IMAGE = re.compile(
    r"sub-(?P<subject>\d+)_task-RDR_run-(?P<run>\d+)_bold(?:\.dtseries\.nii|\.nii\.gz)"
)


@register(NAME)
def read_smn4lang(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    stories: int | Sequence[int] | None = None,
    space: str | None = None,
    mask: str | None = None,
    atlas: str | None = None,
    labels: str | None = None,
    resample: bool = False,
    tr: float | None = None,
    first_volume: float = 0.0,
    slice_time_ref: float = 0.0,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The word responses of the listeners in fMRI; a story is a run, both of the same number. Their MEG is
    `smn4lang_meg`.

    data_dir: the folder with `derivatives`, or its parent if that one is named "smn4lang" or
    "ds004078". Subjects are named "01" to "12" (1 and "sub-01" are understood).
    stories: numbers from 1 to 60; None takes those that there are of all chosen subjects.
    space: "cifti", grayordinates, or "volume", MNI; None takes "volume" with a mask or atlas, else the
    one that is there, of both "cifti". All sixty stories of a person are some 13 GB of grayordinates,
    34 GB of packed volumes: choose stories, or give a mask or atlas.
    mask: an image in data_dir, or "epi", "background" or "all", see `open_volumes`. None is "epi",
    computed for each subject, and "all" with an atlas.
    atlas, labels: files in data_dir: regions and their names, see `open_volumes`.
    resample: whether a mask or atlas of another grid is resampled.
    tr: seconds, whatever the images say; None takes 0.71, and an image that says another TR is refused.
    first_volume: seconds on the clock of the words of a story's first volume.
    slice_time_ref: part of a TR added to the volume times; HCP's pipelines do not shift slices.
    pause (s), max_sentence (words): how texts without punctuation become sentences, see
    `sentences_by_pause`.

    Words are those of `time_align/word-level`. Signs of punctuation that stand there alone end the word
    before them and are no words. Attributes of the words: `story` ("story_7"), `section` (its number)
    and `language` ("zh").

    What is known and from where: names of files, the TR, and that the times of the words already
    contain the 10.65 s from the start of a scan to that of the audio are in the release (its README,
    sidecars and list of files, version 1.0.4). That a file of times has the variables `word`, `start`
    and `end`, and rows of punctuation among its words, is how published analyses read them.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: Wang et al. 2022, Scientific Data 9:590.
    """
    holds = "derivatives/preprocessed_data"
    root = find_folder(Path(data_dir), ("", NAME, "ds004078"), holds, SOURCE).parent
    pictured = any(value is not None for value in (mask, atlas, labels))
    images, chosen_space = find_scans(root, space, "volume" if pictured else "cifti")
    if pictured and chosen_space == "cifti":
        raise ValueError("mask=, atlas= and labels= are for volumes; give space=volume")
    chosen, numbers = choose_listeners(NAME, images, subjects, stories)
    times = root / WORD_TIMES
    sections = [read_story(times / f"story_{number}_word_time.mat", number) for number in numbers]
    stimulus, made_by = stimulus_of(sections, language="zh", pause=pause, max_sentence=max_sentence)
    meta = {
        "dataset": NAME,
        "citation": CITATION,
        "licence": "CC0",
        "notes": made_by,
        "language": "zh",
        "stories": list(numbers),
        "space": chosen_space,
        "mask": mask,
        "atlas": None if atlas is None else str(atlas),
        "first_volume": float(first_volume),
        "slice_time_ref": float(slice_time_ref),
    }

    def load(subject: str, reading: Reading):
        for number in numbers:
            if number not in images[subject]:
                folder, ending = SPACES[chosen_space]
                name = f"sub-{subject}_task-RDR_run-{number}_bold{ending}"
                path = root / "derivatives" / "preprocessed_data" / f"sub-{subject}" / folder / name
                raise FileNotFoundError(
                    f"there is no {path}; get it from {SOURCE}, or choose other stories, or space="
                )
        scans = [images[subject][number] for number in numbers]
        for scan in scans:
            check_present(scan, SOURCE)
        if chosen_space == "cifti":
            source = open_cifti(scans)
        else:
            options = dict(mask=mask, atlas=atlas, labels=labels, resample=resample)
            source = named_volumes(root, subject, scans, **options)
        return respond_to_sections(
            subject,
            source,
            sections,
            stimulus,
            processing,
            tr=tr,
            release_tr=TR,
            first_volume=first_volume,
            slice_time_ref=slice_time_ref,
            release=SOURCE,
            meta=meta,
            reading=reading,
        )

    return scans_dataset(NAME, chosen, stimulus, load, meta)


def choose_listeners(
    name: str,
    files: Mapping[str, Mapping[int, Path]],
    subjects: str | int | Iterable[str | int] | None,
    stories: int | Sequence[int] | None,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The people and the numbers of the stories that are asked for; None: those that are there, of all.

    files: subject -> story -> recording. Raises ValueError for unknown ones, and where people share no story.
    """
    asked = known_labels(subjects, tuple(files), "sub-")
    there = files
    if asked is None:
        there = got_files(files, name)
    chosen = choose_subjects(name, tuple(there if asked is None else files), asked)
    shared = set.intersection(*(set(there[subject]) for subject in chosen))
    if stories is None and not shared:
        raise ValueError(
            f"{name}: no story is there of all of {', '.join(chosen)}; choose with subjects="
        )
    every = range(1, N_STORIES + 1)
    if stories is None:
        return chosen, tuple(sorted(shared))
    return chosen, chosen_sections(stories, every, "stories")


def find_scans(
    root: Path, space: str | None, preferred: str
) -> tuple[dict[str, dict[int, Path]], str]:
    """Subject -> story -> scan, and the space that was taken.

    space: None takes `preferred` where there are scans in it, else the other one.
    Raises FileNotFoundError where there are none.
    """
    if space is not None:
        check_known("space", space, SPACES, of=NAME)
    wanted = (space,) if space else (preferred, *(name for name in SPACES if name != preferred))
    for name in wanted:
        folder, ending = SPACES[name]
        scans_of: dict[str, dict[int, Path]] = {}
        for place in sorted(root.glob(f"derivatives/preprocessed_data/sub-*/{folder}")):
            # A folder's own listing has the links of git-annex that lead nowhere, too.
            for path in sorted(place.iterdir()):
                match = _IMAGE.fullmatch(path.name)
                if match and path.name.endswith(ending) and 1 <= int(match["run"]) <= N_STORIES:
                    scans_of.setdefault(match["subject"], {})[int(match["run"])] = path
        if scans_of:
            return {subject: scans_of[subject] for subject in sorted(scans_of)}, name
    folder, ending = SPACES[wanted[0]]
    name = f"derivatives/preprocessed_data/sub-01/{folder}/sub-01_task-RDR_run-1_bold{ending}"
    raise FileNotFoundError(
        f"there is no {root / name}, nor a scan of another story; get them from {SOURCE}, or with "
        f"`brainalign fetch {NAME}`"
    )


def read_story(path: Path, number: int) -> Section:
    """The words of a `story_N_word_time.mat` (MATLAB 5 to 7.3), in seconds from the start of the scan.

    Raises FileNotFoundError, or ValueError naming the file and word.
    """
    check_present(path, SOURCE)
    with open_matlab(path, source=SOURCE) as mat:
        words, starts, ends = _texts(mat.read("word"), path), mat.read("start"), mat.read("end")
    for name, values in (("start", starts), ("end", ends)):
        if values.dtype.kind not in "fiu" or values.size != len(words):
            raise ValueError(
                f"{path}: {name} has shape {values.shape} and type {values.dtype} for {len(words)} "
                f"words; one number a word is expected: get it again from {SOURCE}"
            )
    texts, rows = [], []
    for row, word in enumerate(words):
        # A sign of punctuation is the end of the word before it, whatever its times.
        if word and not clean_word(word) and texts:
            texts[-1] += word
        else:
            texts.append(word)
            rows.append(row)
    return checked_section(
        number,
        texts,
        starts.reshape(-1)[rows],
        ends.reshape(-1)[rows],
        story=f"story_{number}",
        path=path,
        places=[f"word {row + 1}" for row in rows],
    )


def _texts(words: np.ndarray, path: Path) -> list[str]:
    """The words of a char matrix, a row each, or of a cell of strings."""
    cells = words.reshape(-1)
    if not cells.size or cells.dtype.kind not in "UO":
        raise ValueError(
            f"{path}: word has shape {words.shape} and type {words.dtype}; texts are expected, a row "
            f"each: get it again from {SOURCE}"
        )
    if cells.dtype.kind == "U":
        return [str(text).strip() for text in cells]
    try:
        return [text_of(cell) for cell in cells]
    except ValueError as error:
        raise ValueError(
            f"{path}: a word is no text ({error}); get it again from {SOURCE}"
        ) from error
