"""Arrays in files: what damage raises, what memory they may take, and what float32 holds of them."""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
DEFLATE = 1032  # deflate makes at most so many bytes of one
_LONGEST_HEADER = 2**14  # bytes of a `.npy`'s header; NumPy itself stops at 10,000
_ROUNDED = 2048  # deviations that an offset may be away from zero: float32 then keeps 1e-4 of one


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


def check_memory(n_bytes: int, path: Path | str, what: str) -> None:
    """Raise ValueError naming the file where `what` needs more memory than there is, before it is taken.

    n_bytes: from the file's header. Asks the system only for what is more than a few MB.
    """
    if n_bytes > 2**24 and n_bytes > (free := free_memory()):
        raise ValueError(
            f"{path}: {what} needs {n_bytes / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are "
            "free: its header is damaged, or it needs a larger machine"
        )


def free_memory() -> int:
    """Bytes that this process may still take: what the machine and its control group have left."""
    left = []
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) * 1024)
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            left.append(int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass  # no control group of version 2
    if not left and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        left.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(left, default=2**40)


def n_elements(file: BinaryIO) -> int:
    """How many elements the header of an open `.npy` declares. Raises ValueError where it is none."""
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return math.prod(read(file)[0])


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
