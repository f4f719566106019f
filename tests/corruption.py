"""Corrupted copies of data sets, and what becomes of them in a reader.

For tests/neural/readers/test_corrupted_files.py. Damage is done to bytes (`cut`, `flip`, `patch`) or to
what a sound file says: the changes at the end, which `edit_...` makes and writes the file anew.
"""

from __future__ import annotations

import gzip
import queue
import struct
import threading
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.io
from simulate.matlab73 import write_matlab73

import brainalign_jax
from brainalign_jax.neural.formats.matlab import open_matlab
from brainalign_jax.neural.readers import open_dataset

PACKAGE = Path(brainalign_jax.__file__).resolve().parent
SECONDS = 20.0  # within which a reader must have made up its mind


class Outcome(NamedTuple):
    """What opening a data set and loading all its subjects came to.

    error: what was raised, or None. warned: the user warnings, without the folder's name. others:
    warnings of other kinds, which came from the inside. words: number of words of the data set, of
    each subject's responses and of their stimulus. shapes: subject -> shape of the responses.
    finite: whether all of them are. values: subject -> the responses; text: words and onsets.
    """

    error: BaseException | None
    warned: frozenset[str]
    others: tuple[str, ...]
    words: tuple[int, ...] = ()
    shapes: dict[str, tuple[int, int]] = {}
    finite: bool = True
    values: dict[str, np.ndarray] = {}
    text: tuple = ()


def read(reader: str, folder: Path, options: dict[str, Any], inner: str = "") -> Outcome:
    """Open the data set in folder / inner and load every subject. TimeoutError after `SECONDS`."""

    def load() -> Outcome:
        dataset = open_dataset(reader, folder / inner, **options)
        words, shapes, finite, values = [len(dataset.stimulus)], {}, True, {}
        for subject in dataset.subjects:
            responses = dataset.load(subject)
            shapes[subject] = responses.values.shape
            words += [len(responses.values), len(responses.stimulus), len(responses.valid)]
            finite &= bool(np.isfinite(responses.values).all())
            values[subject] = np.array(responses.values)
        onsets = dataset.stimulus.onsets
        text = (dataset.stimulus.words, None if onsets is None else onsets.tolist())
        return Outcome(None, frozenset(), (), tuple(words), shapes, finite, values, text)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome = _within(SECONDS, load)
        except TimeoutError:
            raise
        except BaseException as error:  # judged by `complaint`
            outcome = Outcome(error, frozenset(), ())
    warned = {
        str(warning.message).replace(str(folder), "")
        for warning in caught
        if issubclass(warning.category, UserWarning)
    }
    others = tuple(
        f"{warning.category.__name__}: {warning.message} ({warning.filename}:{warning.lineno})"
        for warning in caught
        if not issubclass(warning.category, UserWarning)
    )
    return outcome._replace(warned=frozenset(warned), others=others)


def complaint(outcome: Outcome, sound: Outcome, folder: Path, *, silent: bool) -> str:
    """What is wrong with what a reader made of a corrupted copy; "" if nothing is.

    sound: of the data set before; folder: the copy; silent: whether the damage may go unseen as long
    as the words and shapes are right.
    """
    if outcome.others:
        return f"a warning from the inside: {outcome.others[0]}"
    if outcome.error is not None:
        return _complaint_of_error(outcome.error, folder)
    new = outcome.warned - sound.warned
    if not outcome.finite:
        return "responses are not finite"
    if len(set(outcome.words)) != 1:
        return f"the numbers of words disagree: {outcome.words}"
    if not new and (outcome.words != sound.words or outcome.shapes != sound.shapes):
        return f"silently {outcome.shapes} where {sound.shapes} are right"
    return "" if new or silent else "neither an error nor a warning"


def changed_columns(outcome: Outcome, sound: Outcome) -> int:
    """In how many columns of responses, of all subjects, a reading differs from the sound one.

    Other words, onsets, subjects or shapes are -1.
    """
    if outcome.text != sound.text or outcome.shapes != sound.shapes:
        return -1
    return sum(
        int((values != sound.values[subject]).any(axis=0).sum())
        for subject, values in outcome.values.items()
    )


def verdict(outcome: Outcome, sound: Outcome) -> str:
    """ "error", "warning" or "unseen"."""
    if outcome.error is not None:
        return "error"
    return "warning" if outcome.warned - sound.warned else "unseen"


def _complaint_of_error(error: BaseException, folder: Path) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    if type(error) is not FileNotFoundError and not isinstance(error, ValueError):
        return f"an error of the wrong kind, {said}"
    # The innermost frame is where it was raised; C functions, which have none, raise in other lines.
    inside = Path(last.filename).resolve().is_relative_to(PACKAGE)
    if not inside or not (last.line or "").startswith("raise"):
        return f"an error that was not raised on purpose, {said}"
    names = [str(folder), *(path.name for path in folder.rglob("*"))]
    if not any(name in str(error) for name in names):
        return f"an error that names no file, {said}"
    return ""


def _within(seconds: float, call: Callable[[], Outcome]) -> Outcome:
    answers: queue.Queue = queue.Queue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # raised again below
            answers.put((None, error))

    threading.Thread(target=work, name="reader under test", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the reader has not come back after {seconds:g} s") from None
    if error is not None:
        raise error
    return answer


def cut(path: Path, end: float) -> None:
    """Keep the first `end` bytes: a share (0 to 1), or how many are to be missing (negative)."""
    data = path.read_bytes()
    path.write_bytes(data[: int(end) if end < 0 else int(end * len(data))])


def flip(path: Path, name: str, *, first: int = 0, last: int | None = None, bits: int = 1) -> None:
    """Flip some bits between two bytes of a file; which ones follows from `name`."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for place in rng.integers(8 * first, 8 * min(last or len(data), len(data)), bits).tolist():
        data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def patch(path: Path, place: int, form: str, *values: float) -> None:
    """Overwrite bytes (see `struct`) of a file, or of what a `.gz` file holds."""
    packed = path.suffix == ".gz"
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into(form, data, place, *values)
    path.write_bytes(gzip.compress(data, 1) if packed else data)


def edit_mat(path: Path, **changes: Callable[[np.ndarray], Any] | None) -> None:
    """Write a MATLAB file anew with variables changed, or left out (None)."""
    with open_matlab(path) as file:
        content = {name: file.read(name) for name in file.names if changes.get(name, 0) is not None}
    for name, change in changes.items():
        if change is not None:
            content[name] = change(content[name])
    if path.read_bytes()[:10] == b"MATLAB 7.3":
        write_matlab73(path, content)
    else:
        scipy.io.savemat(path, content, do_compression=True, long_field_names=True)


def edit_npy(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a `.npy` anew, as a pickle where the change gives objects."""
    np.save(path, change(np.load(path)), allow_pickle=True)


def edit_npz(path: Path, **changes: Callable[[np.ndarray], np.ndarray] | None) -> None:
    """Write a `.npz` anew with arrays changed, or left out (None)."""
    with np.load(path) as file:
        content = {name: file[name] for name in file.files if changes.get(name, 0) is not None}
    for name, change in changes.items():
        if change is not None:
            content[name] = change(content[name])
    np.savez(path, **content)


def edit_headers(path: Path, old: bytes, new: bytes) -> None:
    """Replace the first `old` in every member of a `.npz`; its checksums are made to fit."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(old, new, 1))


def edit_lines(path: Path, change: Callable[[list[str]], Iterable[str]]) -> None:
    """Write a text file anew, whole lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def edit_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Write a `.csv`, `.tsv` or `.parquet` table anew."""
    if path.suffix == ".parquet":
        change(pd.read_parquet(path)).to_parquet(path, index=False)
        return
    separator = "," if path.suffix == ".csv" else "\t"
    table = pd.read_csv(path, sep=separator, keep_default_na=False, na_values=["n/a"])
    table = change(table)
    table.to_csv(path, sep=separator, index=False, na_rep="n/a")


def edit_nifti(path: Path, change: Callable[[np.ndarray], np.ndarray], dtype=np.float32) -> None:
    """Write a NIfTI image anew with other values, unscaled."""
    import nibabel as nib

    image = nib.load(path)
    header = image.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    values = change(np.asarray(image.dataobj, np.float32)).astype(dtype)
    nib.Nifti1Image(values, image.affine, header).to_filename(path)


def edit_gifti(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a GIFTI time series [volumes, vertices] anew."""
    import nibabel as nib

    values = change(np.stack([array.data for array in nib.load(path).darrays]))
    intent = "NIFTI_INTENT_TIME_SERIES"
    arrays = [nib.gifti.GiftiDataArray(row, intent, "NIFTI_TYPE_FLOAT32") for row in values]
    nib.GiftiImage(darrays=arrays).to_filename(path)


def edit_cifti(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a CIFTI-2 series [volumes, grayordinates] anew, with as many volumes as there are."""
    import nibabel as nib

    image = nib.load(path)
    values = change(np.asarray(image.dataobj).copy())
    series, brain = (image.header.get_axis(index) for index in (0, 1))
    series = nib.cifti2.SeriesAxis(series.start, series.step, len(values))
    nib.Cifti2Image(values, header=(series, brain)).to_filename(path)


def put(place, value):
    """Another value, or block of values, in its place."""

    def change(array):
        array = np.array(array)
        array[place] = value
        return array

    return change


def swapped(array):
    """The 8th and 9th entries change places."""
    array = array.copy()
    array[[7, 8]] = array[[8, 7]]
    return array


def shuffled(array):
    """Rows in another order."""
    return array[np.random.default_rng(0).permutation(len(array))]


def without_row(array):
    """The 8th entry is gone."""
    return np.delete(array, 7, axis=0)


def twice(array):
    """The 8th entry comes twice."""
    return np.concatenate([array[:8], array[7:]])


def transposed(array):
    """Rows are columns."""
    return array.T


def nan_block(array):
    """NaN in some rows of three columns."""
    return put((slice(3, 9), slice(2, 5)), np.nan)(array)


def dead_block(array):
    """Zeros in all rows of three columns."""
    return put((slice(None), slice(2, 5)), 0.0)(array)


def overlapping(times):
    """The second run begins 40 s earlier."""
    times = times.copy()
    times[np.argmax(np.diff(times)) + 1 :] -= 40
    return times


def as_objects(array):
    """Python objects, which NumPy pickles."""
    return array.astype(object)


def of_column(column, change):
    """A change of one column of a table, or of one field of a MATLAB struct array (1, N)."""

    def changed(table):
        table = table.copy()
        if isinstance(table, pd.DataFrame):
            table[column] = change(table[column].to_numpy())
        elif table.dtype.names:
            table[column][0] = change(table[column][0])
        else:
            table[:, column] = change(table[:, column])
        return table

    return changed


def of_field(name, change):
    """A change of one field of a MATLAB struct (1, 1)."""

    def changed(content):
        content = content.copy()
        content[name][0, 0] = change(content[name][0, 0])
        return content

    return changed


def cell(text):
    """A MATLAB cell that holds one text."""
    content = np.empty((1, 1), object)
    content[0, 0] = text
    return content


def of_pair(index, row, value):
    """Text (row 0) or onset (row 1) of a word of Natural Stories."""

    def changed(words):
        words = words.copy()
        pair = words[index, 0].copy()
        pair[row, 0] = value
        words[index, 0] = pair
        return words

    return changed
