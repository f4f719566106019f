"""MATLAB files of level 5 of simulated subjects, their recording written in blocks."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

_TEXT = b"MATLAB 5.0 MAT-file, simulated by brainalign_jax"
# Type of the stored numbers and class of the array, in "MAT-File Format", The MathWorks.
_LEVEL5 = {"float64": (9, 6), "float32": (7, 7)}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; becomes `path` where the block ends without an error, else is removed."""
    temporary = path.with_name(path.name + ".partial")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_mat(
    path: Path,
    shape: tuple[int, int],
    dtype: str | np.dtype,
    blocks: Iterable[np.ndarray],
    others: Mapping[str, Any],
    *,
    compress: int = 1,
) -> None:
    """Write `data` [time, V] from consecutive blocks of its columns, then the other variables.

    As MATLAB's -v7. others: name -> what `scipy.io.savemat` takes: arrays, strings, object arrays
    (cells), structured arrays (structs), dicts (a 1x1 struct). compress: level of zlib, 0 for none.
    Equal arguments give equal bytes. Raises ValueError for an unknown level, or a matrix of 2 GB or more.
    """
    if compress not in range(10):
        raise ValueError(f"compress is {compress!r}; give a level from 0 (none) to 9")
    if shape[0] * shape[1] * np.dtype(dtype).itemsize >= 2**31:
        raise ValueError(
            f"a matrix of shape {shape} has 2 GB or more: too many for a file of level 5"
        )
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_TEXT.ljust(124) + struct.pack("<2H", 0x100, 0x4D49))
        _write_level5(file, shape, np.dtype(dtype), blocks, compress)
        rest = io.BytesIO()
        scipy.io.savemat(rest, dict(others), do_compression=compress > 0, oned_as="row")
        file.write(rest.getbuffer()[128:])


def _write_level5(file: BinaryIO, shape, dtype: np.dtype, blocks, compress: int) -> None:
    stored, cls = _LEVEL5[dtype.name]
    size = shape[0] * shape[1] * dtype.itemsize
    header = struct.pack("<4I", 6, 8, cls, 0)  # flags
    header += struct.pack("<2I2i", 5, 8, *shape)
    header += struct.pack("<2I8s", 1, 4, b"data")
    header += struct.pack("<2I", stored, size)
    header = struct.pack("<2I", 14, len(header) + size + -size % 8) + header
    start = file.tell()
    if compress:
        file.write(struct.pack("<2I", 15, 0))  # the length is known at the end
    squeeze = zlib.compressobj(compress) if compress else None

    def put(content) -> None:
        file.write(content if squeeze is None else squeeze.compress(content))

    put(header)
    for block in _checked(blocks, shape):
        put(np.asarray(block, dtype).T.tobytes())  # MATLAB stores columns
    put(bytes(-size % 8))
    if squeeze is not None:
        file.write(squeeze.flush())
        end = file.tell()
        file.seek(start)
        file.write(struct.pack("<2I", 15, end - start - 8))
        file.seek(end)


def _checked(blocks: Iterable[np.ndarray], shape) -> Iterator[np.ndarray]:
    count = 0
    for block in blocks:
        count += block.shape[1]
        yield block
    if count != shape[1]:
        raise ValueError(f"the blocks have {count} columns for a matrix of shape {shape}")
