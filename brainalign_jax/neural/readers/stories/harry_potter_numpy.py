"""The Harry Potter recordings as NumPy files, as the repository brain_language_nlp has them.

A folder with `words_fmri.npy` [N], `time_words_fmri.npy` [N] seconds, `time_fmri.npy` [volumes]
seconds, `runs_fmri.npy` [volumes], and for each subject `data_subject_F.npy` or `data_F.npy`
[volumes, voxels]. The published recordings are detrended, smoothed, and lack the first 20 and the
last 15 volumes of each run; the four other files describe all 1,351 volumes.
Reference: Toneva & Wehbe 2019, arXiv 1905.11833.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.arrays import ARRAY_DAMAGE, n_elements
from brainalign_jax.neural.readers.stories.story import Story, check_scans, subject_files
from brainalign_jax.neural.recording import BoldRecording

SOURCE = "https://github.com/mtoneva/brain_language_nlp (Toneva & Wehbe 2019)"
WORDS = "words_fmri.npy"
FOLDERS = ("", "fMRI", "data/fMRI")
TRIMMED = (20, 15)  # volumes that the published recordings lack at the start and end of each run


def find_words(data_dir: Path, parents: Iterable[str]) -> Path | None:
    """The first folder of data_dir / parent / `FOLDERS` that holds the words; None without one."""
    for parent in parents:
        for folder in FOLDERS:
            if (Path(data_dir) / parent / folder / WORDS).is_file():
                return Path(data_dir) / parent / folder
    return None


def find_subjects(folder: Path) -> dict[str, Path]:
    """Subject name -> file. Raises FileNotFoundError where the folder has none."""
    paths = subject_files(folder, ("",), r"data_(?:subject_)?([A-Za-z0-9]+)\.npy")
    if not paths:
        raise FileNotFoundError(
            f"there is no {folder / 'data_subject_*.npy'} beside {WORDS}; get it from {SOURCE}"
        )
    return paths


def open_numpy(path: Path, subject: str) -> tuple[Story, BoldRecording]:
    """The story and the scans (a memory map) of one subject.

    A recording with as many rows as `time_fmri.npy` is complete; one that is 35 rows a run shorter
    lacks the volumes of `TRIMMED`, whose times are left out too.
    Raises FileNotFoundError, or ValueError naming the file for pickles, damage and other shapes.
    """
    folder = path.parent
    words = _words(folder / WORDS)
    onsets = _vector(folder / "time_words_fmri.npy")
    times = _vector(folder / "time_fmri.npy")
    run = _vector(folder / "runs_fmri.npy")
    if len(onsets) != len(words):
        raise ValueError(
            f"{folder / 'time_words_fmri.npy'} has {len(onsets)} times for the {len(words)} words of "
            f"{WORDS}; get both from {SOURCE}"
        )
    if len(run) != len(times) or (run % 1).any() or np.abs(run).max() > 1e6:
        raise ValueError(
            f"{folder / 'runs_fmri.npy'} must have one whole run number for each of the {len(times)} "
            f"times of time_fmri.npy; it has {len(run)} values: get both from {SOURCE}"
        )
    run = run.astype(np.int32)
    story = Story(words, onsets, None, times, run, folder / "*_fmri.npy")
    bold = _load(path)
    counts = [len(times)]
    recorded = _recorded(run)
    if recorded is not None:
        counts.append(int(recorded.sum()))
    check_scans(bold.shape, counts, path)
    if bold.dtype.kind not in "fiu":
        raise ValueError(f"{path} has dtype {bold.dtype}, not numbers; get it again from {SOURCE}")
    if len(bold) < len(times):
        times, run = times[recorded], run[recorded]
    return story, BoldRecording(subject, bold, times, run, source=str(path))


def _recorded(run: np.ndarray) -> np.ndarray | None:
    """Which volumes [time] bool the published recordings hold; None where a run would be used up."""
    recorded = np.zeros(len(run), bool)
    first, last = TRIMMED
    for label in np.unique(run):
        of_run = np.flatnonzero(run == label)
        if len(of_run) - first - last < 2:
            return None
        recorded[of_run[first : len(of_run) - last]] = True
    return recorded


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; get it from {SOURCE}")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":  # NumPy reads a header as long as it says
                start = io.BytesIO(b"\x93NUMPY" + file.read(2**14))
                if n_elements(start) > path.stat().st_size:
                    raise ValueError("it declares more elements than it has bytes")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ARRAY_DAMAGE as error:
        if "Python objects" in str(error) or _is_pickle(path):
            raise ValueError(
                f"{path} holds Python objects (a pickle), which can run code when it is read; if you "
                f"trust it, save it once without: array = numpy.load({path.name!r}, "
                f"allow_pickle=True); numpy.save({path.name!r}, numpy.array(array.tolist()))"
            ) from error
        raise ValueError(
            f"{path} cannot be read as a NumPy array ({error}): it is truncated or damaged; delete "
            f"it and get it again from {SOURCE}"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive of arrays, not one array; get it from {SOURCE}")
    return array


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _vector(path: Path) -> np.ndarray:
    array = _load(path)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} has shape {array.shape} and dtype {array.dtype}; expected a vector of numbers"
        )
    values = np.array(array, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: entry {int(np.argmin(np.isfinite(values)))} is not finite; get it from {SOURCE}"
        )
    return values


def _words(path: Path) -> tuple[str, ...]:
    array = _load(path)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "US":
        raise ValueError(
            f"{path} has shape {array.shape} and dtype {array.dtype}; expected a vector of strings"
        )
    try:
        if array.dtype.kind == "S":
            return tuple(word.decode("utf-8").strip() for word in array.tolist())
        codes = np.array(array, array.dtype.newbyteorder("=")).view(np.uint32)
        # Python crashes on code points that do not exist; lone surrogates cannot be written.
        if (codes > 0x10FFFF).any() or (codes & 0xFFFFF800 == 0xD800).any():
            raise ValueError("code points that do not exist")
        return tuple(word.strip() for word in array.tolist())
    except ValueError as error:
        raise ValueError(
            f"{path} holds words that are no text ({error}): it is damaged; get it again from {SOURCE}"
        ) from error
