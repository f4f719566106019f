"""Wehbe et al. 2014: eight people read chapter 9 of Harry Potter, one word every half second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.matlab import open_matlab
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.readers.stories import harry_potter_numpy
from brainalign_jax.neural.readers.stories.story import (
    Story,
    asked_names,
    check_scans,
    number_of,
    story_dataset,
    subject_files,
    text_of,
)
from brainalign_jax.neural.readout import Processing
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus, split_sentences

NAME = "harry_potter"
SOURCE = "http://www.cs.cmu.edu/afs/cs/project/theo-73/www/plosone/ (Wehbe et al. 2014)"
FIXATION = "+"
_LARGEST = 2**12  # voxels along an axis that a scanner might have
LAYOUTS = ("mat", "numpy")
_EXPECTED = (
    "expected a (1, N) struct array of nested cells, text at words[0][i][0][0][0][0] and onset at "
    "words[0][i][1][0][0]"
)


@register(NAME)
def read_harry_potter(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    layout: str | None = None,
    fixation: str = "drop",
    word_duration: float = 0.5,
) -> Dataset:
    """The word responses of the readers of chapter 9; any number of runs and voxels.

    data_dir: the folder with the files, or its parent if that one is named "harry_potter".
    layout: "mat", the release's `subject_*.mat` (MATLAB 5 to 7.3), or "numpy", the files of the
    repository brain_language_nlp, see `harry_potter_numpy`; None takes the .mat files where both are
    there. Subjects are named "1" to "8" in the .mat files, "F" and "H" to "N" in the other ones
    (1 and "subject_1" are understood).
    processing: cleaning and read-out, see `Processing`.
    fixation: "drop" or "keep" the fixation crosses ("+") that the files list between the words. They
    carry no word and do not belong into a sentence; kept, they are rows.
    word_duration: seconds, for files that state none. A word belongs to the run between whose
    first and last volume (plus a TR) it begins. The typography of the first subject's words counts:
    the files disagree in dots and dashes only, any other difference is an error.
    The space of the .mat layout is the grid of voxels that `meta` lists; a file whose list does not
    fit the columns of `data` (some of the release) has none. It has no affine: `meta.matrix`, a map
    to MNI space, does not say whether it counts voxels from 0 or from 1.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: Wehbe et al. 2014, PLoS ONE 9(11):e112575; Toneva & Wehbe 2019 (NumPy files).
    """
    check_known("fixation=", fixation, ("drop", "keep"))
    if not np.isfinite(word_duration) or word_duration < 0:
        raise ValueError(f"word_duration is {word_duration}; give seconds, not negative")
    paths, opener = _find(Path(data_dir), layout)
    chosen = choose_subjects(NAME, tuple(paths), asked_names(subjects))

    def open_subject(subject: str) -> tuple[Story, BoldRecording]:
        return opener(paths[subject], subject)

    opened = open_subject(chosen[0])
    first = opened[0]
    crosses = np.array([word == FIXATION for word in first.words])
    keep = ~crosses if fixation == "drop" else np.ones(len(crosses), bool)
    if not keep.any():
        raise ValueError(f"{first.path} lists fixation crosses only; get it from {SOURCE}")
    words = tuple(word for word, kept in zip(first.words, keep, strict=True) if kept)
    durations = first.durations
    if durations is None:
        durations = np.full(len(first.words), float(word_duration))
    run = first.word_runs()[keep]
    stimulus = Stimulus(
        words,
        onsets=first.onsets[keep],
        durations=durations[keep],
        sentence=split_sentences(words, run),
        run=run,
        attributes={"story": (NAME,) * len(words), "section": run},
    )
    meta = {
        "dataset": NAME,
        "citation": "Wehbe et al. 2014, PLoS ONE 9(11):e112575",
        "licence": "see the release (also at Dryad, doi 10.5061/dryad.gt413)",
        "notes": f"{int(crosses.sum())} fixation crosses, "
        + ("left out" if fixation == "drop" else "kept as rows"),
        "layout": "mat" if opener is open_mat else "numpy",
    }
    return story_dataset(NAME, chosen, opened, stimulus, keep, open_subject, processing, meta)


def open_mat(path: Path, subject: str) -> tuple[Story, BoldRecording]:
    """The story and the scans of one `subject_*.mat`; `data` is read when its blocks are asked for.

    Raises FileNotFoundError, or ValueError naming the file for a damaged file, missing variables,
    or another nesting or shape.
    """
    with open_matlab(path, source=SOURCE) as mat:
        time = mat.read("time")
        if time.ndim != 2 or time.shape[1] != 2 or len(time) < 2 or time.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: time has shape {time.shape} and dtype {time.dtype}; expected [volumes, 2], "
                "seconds and run"
            )
        whole = np.isfinite(time).all() and not (time[:, 1] % 1).any()
        if not whole or np.abs(time[:, 1]).max() > 1e6:
            raise ValueError(
                f"{path}: time holds NaN, infinite values or no numbers of runs; get it again from "
                f"{SOURCE}"
            )
        words = mat.read("words")
        check_scans(mat.shape("data"), [len(time)], path)
        bold = mat.columns("data")
        meta = mat.read("meta") if "meta" in mat.names else None
    times, run = time[:, 0].astype(np.float64), time[:, 1].astype(np.int32)
    texts, onsets, durations = _read_words(words, path)
    story = Story(texts, onsets, durations, times, run, path)
    space = None if meta is None else _read_space(meta, bold.shape[1])
    return story, BoldRecording(subject, bold, times, run, space=space, source=str(path))


def _find(data_dir: Path, layout: str | None):
    """Subject name -> file, and the function that opens such a file."""
    if layout is not None:
        check_known("layout=", layout, LAYOUTS)
    if layout != "numpy":
        paths = subject_files(data_dir, ("", NAME), r"subject_(\w+)\.mat")
        if paths:
            return paths, open_mat
    if layout != "mat":
        folder = harry_potter_numpy.find_words(data_dir, ("", NAME))
        if folder is not None:
            return harry_potter_numpy.find_subjects(folder), harry_potter_numpy.open_numpy
    looked = {
        "mat": "subject_*.mat",
        "numpy": harry_potter_numpy.WORDS,
        None: f"subject_*.mat or {harry_potter_numpy.WORDS}",
    }[layout]
    source = harry_potter_numpy.SOURCE if layout == "numpy" else SOURCE
    raise FileNotFoundError(f"there is no {data_dir / looked}; get it from {source}")


def _read_words(array: np.ndarray, path: Path):
    fields = array.dtype.names
    if array.ndim != 2 or array.shape[0] != 1 or not array.size or not fields or len(fields) < 2:
        raise ValueError(
            f"{path}: words has shape {array.shape} and dtype {array.dtype}; {_EXPECTED}"
        )
    # By name where they have the release's names: HDF5 keeps no order of fields.
    names = ("text", "start", "length") if {"text", "start"} <= set(fields) else fields
    columns = [array[name][0] for name in names[:3] if name in fields]
    texts, numbers = [], np.full((2, array.shape[1]), np.nan)
    for index, (text, *seconds) in enumerate(zip(*columns, strict=True)):
        try:
            if not isinstance(text, np.ndarray) or text.dtype != object or text.shape != (1, 1):
                # A string without its cell would be read as its first letter.
                raise ValueError("the text is not a cell with one string")
            texts.append(text_of(text[0, 0]))
            numbers[0, index] = number_of(seconds[0])
            if len(seconds) > 1 and seconds[1].size:
                numbers[1, index] = number_of(seconds[1])
        except (IndexError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: word {index} is nested in another way ({error}); {_EXPECTED}"
            ) from error
    # A length for no word is a file without lengths; for some words, `Story` says where it lacks.
    return tuple(texts), numbers[0], None if np.isnan(numbers[1]).all() else numbers[1]


def _read_space(meta: np.ndarray, n_voxels: int) -> VoxelSpace | None:
    """The grid of voxels, None where `meta` lists none or other ones than the columns of `data`."""

    def field(name: str) -> np.ndarray:
        named = meta.dtype.names and name in meta.dtype.names and meta.size == 1
        value = np.asarray(meta[name].flat[0]) if named else np.empty(0)
        return value if value.dtype.kind in "fiu" else np.empty(0)

    coordinates, dims = field("colToCoord"), [field(f"dim{axis}") for axis in "xyz"]
    if coordinates.shape != (n_voxels, 3) or any(dim.size != 1 for dim in dims):
        return None
    indices, shape = (
        coordinates - 1,
        np.array([dim.flat[0] for dim in dims]),
    )  # MATLAB's are 1-based
    if not np.isfinite(coordinates).all() or not np.isfinite(shape).all():
        return None
    whole = not (indices % 1).any() and not (shape % 1).any()
    whole = whole and (shape <= _LARGEST).all()
    if not whole or (indices < 0).any() or (indices >= shape).any():
        return None
    indices = indices.astype(np.int64)
    if len(np.unique(indices, axis=0)) < n_voxels:
        return None
    return VoxelSpace.volume(indices, tuple(int(n) for n in shape), affine=None)
