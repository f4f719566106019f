"""NumPy's files, `.npy` and `.npz`, read within bounds; and numbers of any kind as float32 without loss."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from brainalign_jax.machine import free_memory

# What NumPy raises for a damaged `.npy` or `.npz`. RuntimeError is also an unknown compression or a
# password, where a flag is damaged; SyntaxError and TokenError are a damaged header of an array.
ARRAY_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    SyntaxError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_SMALL = 2**26  # bytes that nothing is said about
_PACKED = 200  # times that a recording, or its words, can be packed
# In float32 a range at this many times its length from zero is still held to 4 millionths.
_FAR = 64
_VERY_FAR = 2**14  # the same for fewer rows than _FEW, whose range may be short by chance
_FEW = 8
_NOISE = 2**12  # steps of a type: a shorter range is what computing leaves of a constant
DEFLATE = 1032  # deflate makes at most so many bytes of one
_LONGEST_HEADER = 2**14  # bytes of a `.npy`'s header; NumPy itself stops at 10,000
_ROUNDED = 2048  # deviations that an offset may be away from zero: float32 then keeps 1e-4 of one


def check_size(path: str | os.PathLike, n_bytes: float, what: str) -> None:
    """Raise ValueError, before anything is allocated, for contents that cannot be what they declare.

    n_bytes: what would be held in memory; more than half of what is free, or more than 200 times the
    file, is refused. what: the part of the file, for the message.
    """
    if n_bytes <= _SMALL:
        return
    size = os.stat(path).st_size
    if n_bytes > _PACKED * size:
        raise ValueError(
            f"{path}: {what} would take {n_bytes / 2**20:,.0f} MB, {n_bytes / max(size, 1):,.0f} times "
            "the file: no recording can be packed so far; the file is damaged, or holds next to nothing"
        )
    if n_bytes > free_memory() / 2:
        raise ValueError(
            f"{path}: {what} would take {n_bytes / 2**30:,.1f} GB and {free_memory() / 2**30:,.1f} GB are "
            "free; keep fewer columns or words in a file, or use a machine with more memory"
        )


def check_memory(n_bytes: int, path: Path | str, what: str) -> None:
    """Raise ValueError naming the file where `what` needs more memory than there is, before it is taken.

    n_bytes: from the file's header. Asks the system only for what is more than a few MB.
    """
    if n_bytes > 2**24 and n_bytes > (free := free_memory()):
        raise ValueError(
            f"{path}: {what} needs {n_bytes / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are "
            "free: its header is damaged, or it needs a larger machine"
        )


def read_npz(path: Path, name: str) -> np.ndarray:
    """One array of a `.npz`, see `read_member`. Raises one of ARRAY_DAMAGE."""
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = archive.namelist()
        return read_member(archive, archive.getinfo(name if name in members else f"{name}.npy"))


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array of an open archive, its header held against the sizes of member and file before it is read.

    zipfile compares the checksum when the last byte is read. Raises one of ARRAY_DAMAGE.
    """
    with archive.open(info) as content:
        version = np.lib.format.read_magic(content)
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} is an array of the unknown version {version}")
        shape, _, dtype = _HEADERS[version](content)
        n_bytes = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and n_bytes != info.file_size - content.tell():
            raise ValueError(f"{info.filename} has not the length of its shape {shape}")
    check_size(archive.fp.name, n_bytes, f"{info.filename} {shape}")
    with archive.open(info) as content:
        array = np.lib.format.read_array(content, allow_pickle=False)
        content.read(1)
    return array


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def n_elements(file: BinaryIO) -> int:
    """How many elements the header of an open `.npy` declares. Raises ValueError where it is none."""
    version = np.lib.format.read_magic(file)
    return math.prod(_HEADERS.get(version, _HEADERS[2, 0])(file)[0])


def _start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in a way that np.savez does not know")
    with archive.open(member) as file:
        return file.read(_LONGEST_HEADER)


def check_archive(path: Path, names: Iterable[str]) -> None:
    """Raise ValueError where the arrays `names` of a `.npz` are not what memory can take.

    By the archive's directory and the arrays' headers, before anything else is inflated: NumPy takes
    what they declare, and elements of no bytes take none in the file.
    Raises what `ARRAY_DAMAGE` lists for an archive that is damaged or lacks an array.
    """
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(f"{name}.npy") for name in names]
        starts = [_start(archive, member) for member in members]
    for member, start in zip(members, starts, strict=True):
        if start[:6] == b"\x93NUMPY" and n_elements(io.BytesIO(start)) > member.file_size:
            raise ValueError(f"{member.filename} declares more elements than it has bytes")
    for member in members:
        if member.file_size > DEFLATE * member.compress_size + 64:
            raise ValueError(f"{member.filename} declares more bytes than it can hold")
    check_memory(2 * sum(member.file_size for member in members), path, "its arrays")


def float32_holds(dtype: np.dtype) -> bool:
    """Whether float32 holds every number of a type as it is."""
    return np.can_cast(dtype, np.float32)


def offsets_cost_digits(values: np.ndarray) -> bool:
    """Whether columns [rows, V] lie so far from zero that float32 would round their variation.

    Constant columns and those with NaN or infinite values do not count.
    """
    if float32_holds(values.dtype) or not values.size:
        return False
    with np.errstate(all="ignore"):
        offset = np.abs(values.mean(axis=0, dtype=np.float64))
        spread = _exact(values).std(axis=0, dtype=np.float64)
        varies = np.isfinite(spread) & (spread > 8 * np.finfo(np.float64).eps * offset)
        if values.dtype.kind in "iu":  # exact whatever their size
            varies = spread > 0
        return bool((varies & (offset > _ROUNDED * spread)).any())


def centred(values: np.ndarray) -> np.ndarray:
    """Columns [rows, V] without their means, in float64; all of them, so that none differs in kind."""
    with np.errstate(all="ignore"):  # NaN and infinite values are reported by whoever checks them
        values = _exact(values)
        return values - values.mean(axis=0, dtype=np.float64)


def _exact(values: np.ndarray) -> np.ndarray:
    """Whole numbers [rows, V] less the smallest of their column, which float64 holds; others as they are."""
    if values.dtype.kind not in "iu":
        return values
    # Modulo 2**64 differences of numbers of either kind are right.
    low = values.min(axis=0).astype(np.uint64)
    return (values.astype(np.uint64) - low).astype(np.float64)


def as_float32(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Numbers [N, V] as float32, and whether their columns had to be centred for it.

    Where a column lies so far from zero that float32 would round its differences, all columns are
    centred first, in the precision that they have; but those that are constant in it.
    """
    if values.dtype.kind == "b" or values.dtype.itemsize < 4 or values.dtype == np.float32:
        return values.astype(np.float32, copy=False), False
    offsets = (
        offsets_of(values.min(axis=0), values.max(axis=0), len(values)) if len(values) else None
    )
    if offsets is None:
        with np.errstate(over="ignore"):  # what overflows is reported as infinite
            return values.astype(np.float32), False
    centred = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, offset in enumerate(offsets.values):
            centred[:, column] = less(values[:, column], offset)
    offsets.settle(centred)
    return centred, True


class Offsets(NamedTuple):
    """values: [V], a value within each column, to be taken off before it is float32, zero where none
    is; moved: [V] bool, the columns that are centred."""

    values: np.ndarray
    moved: np.ndarray

    def settle(self, values: np.ndarray) -> None:
        """Take off, in place, the means that columns of float32 values [N, V] have without offsets."""
        moved = np.flatnonzero(self.moved)
        for start in range(0, len(moved), 1024):
            part = moved[start : start + 1024]
            values[:, part] -= values[:, part].mean(axis=0, dtype=np.float64).astype(np.float32)


def offsets_of(low: np.ndarray, high: np.ndarray, n_rows: int) -> Offsets | None:
    """What to take off columns with these least and largest values [V]; None where none need be.

    low, high: of the type that the values have, NaN where a value is missing. Columns that are constant
    to the precision of the type, or hold what float32 cannot, are left as they are.
    """
    floats = low.dtype.kind == "f"
    with np.errstate(over="ignore", invalid="ignore"):
        bottom, top = low.astype(np.float64), high.astype(np.float64)
        size = np.maximum(np.abs(bottom), np.abs(top))
        spread = top - bottom
        if floats:
            least = _NOISE * np.finfo(low.dtype).eps * size
        else:  # differences are exact, unless they wrap around
            least = 0.0
            spread = np.where(spread < 2.0**62, (high - low).view(f"u{low.itemsize}"), np.inf)
        sound = np.isfinite(spread) & (size <= np.finfo(np.float32).max) & (spread > least)
        if not (sound & (size > (_FAR if n_rows >= _FEW else _VERY_FAR) * spread)).any():
            return None
        middle = low + (high - low) / 2 if floats else low
    return Offsets(np.where(sound, middle, np.zeros((), low.dtype)), sound)


def check_float32(values: np.ndarray, subject: str, *, first: int = 0) -> None:
    """Raise ValueError where float32 would round a column of [N, V] by a thousandth of its range.

    first: the number of the first column, for messages. Of fewer than 8 rows nothing is said.
    """
    if len(values) < _FEW or values.dtype.itemsize < 4 or values.dtype == np.float32:
        return
    low, high = values.min(axis=0), values.max(axis=0)
    offsets = offsets_of(low, high, len(values))
    if offsets is None:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
        spread = high.astype(np.float64) - low.astype(np.float64)
        lost = offsets.moved & (far * 2.0**-24 > 1e-3 * spread)
    if lost.any():
        column = int(np.argmax(lost))
        raise ValueError(
            f"subject {subject}: column {first + column} varies by {spread[column]:g} around "
            f"{low[column]:g}, which float32 would round away; subtract each column's mean before, in "
            "float64"
        )


def less(column: np.ndarray, offset: np.generic) -> np.ndarray:
    """A column without its offset, in its own precision."""
    if column.dtype.kind == "f":
        return column - offset
    if column.dtype.itemsize < 8:
        return column.astype(np.int64) - int(offset)
    return (column - offset).astype(np.int64)
