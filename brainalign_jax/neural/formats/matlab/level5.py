"""MATLAB files of versions 5, 6 and 7 (level 5): checked before SciPy reads them, or streamed."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.io

from brainalign_jax.neural.formats.matlab.elements import (
    CLASSES,
    COMPRESSED,
    LOGICAL,
    MATRIX,
    STORED,
    UNSUPPORTED,
    Malformed,
    Unsupported,
    check_variable,
    numbers_tag,
    read_header,
)
from brainalign_jax.neural.formats.matlab.origin import Origin

_HEADER = 128  # bytes of text, version and byte order that precede the first variable
_PREFIX = 1024  # bytes of a variable that hold its class, shape and name
_EXPANSION = 1032  # deflate makes at most so many bytes of one
_ARRAY = (
    256  # bytes of an array in a cell or struct beside its values; 8 in the file if it is empty
)
_CHUNK, _PIECE = 2**18, 2**22  # compressed bytes at a time, and what may become of them
_REMEDY = "save it in MATLAB as a plain array, cell or struct"


class _Variable(NamedTuple):
    """start, length: bytes in the file; size: bytes of the variable, tag included, decompressed;
    stored, offset: of the values of a numeric array, type and place in the decompressed bytes."""

    start: int
    length: int
    compressed: bool
    size: int
    cls: int
    shape: tuple[int, ...]
    dtype: np.dtype | None = None
    stored: np.dtype | None = None
    offset: int = 0
    refusal: str = ""


class Level5File:
    """A level-5 file; see `open_matlab`. No file is kept open."""

    def __init__(self, origin: Origin, order: str) -> None:
        self._origin, self._order = origin, order
        self._variables = {}
        for name, variable in self._walk():
            if name:  # a variable without a name holds MATLAB's own objects
                self._variables[name] = variable

    def __enter__(self) -> Level5File:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to do: every reading opens the file anew."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of the file."""
        return tuple(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        """MATLAB's size of a variable."""
        return self._variable(name).shape

    def read(self, name: str) -> np.ndarray:
        """A whole variable, as `open_matlab` describes."""
        variable = self._variable(name)
        try:
            if variable.stored is not None:
                size = variable.stored.itemsize + variable.dtype.itemsize
                self._origin.check_memory(math.prod(variable.shape) * size, name)
                return self._read_numbers(variable)
            self._origin.check_memory(
                3 * variable.size, name
            )  # the bytes, SciPy's copy, the arrays
            return self._read_nested(name, variable)
        except MemoryError:
            raise self._origin.damaged(
                f"{name!r} declares {variable.size} bytes, more than there is memory"
            ) from None

    def columns(self, name: str) -> Level5Columns:
        """A matrix [time, V] to be read in blocks of columns; it outlives this object."""
        variable = self._variable(name)
        if variable.stored is None or len(variable.shape) != 2 or 0 in variable.shape:
            raise self._origin.no_matrix(name, variable.shape)
        return Level5Columns(self._origin, name, variable)

    def _variable(self, name: str) -> _Variable:
        if name not in self._variables:
            raise self._origin.missing(name, self.names)
        variable = self._variables[name]
        if variable.refusal:
            raise self._origin.unsupported(f"{name!r} is or holds {variable.refusal}", _REMEDY)
        return variable

    def _read_numbers(self, variable: _Variable) -> np.ndarray:
        # MATLAB stores columns; reversed, the shape is that of the rows of C.
        values = np.empty(variable.shape[::-1], variable.stored)
        with _Stream(self._origin, variable) as stream:
            stream.read(variable.offset)
            stream.readinto(_bytes(values))
            stream.finish()
        return values.astype(variable.dtype, copy=False).T

    def _read_nested(self, name: str, variable: _Variable) -> np.ndarray:
        content = bytearray(_HEADER + variable.size)
        # A header of our own: SciPy takes a zero in the text of the file's for MATLAB 4.
        content[:_HEADER] = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(
            f"{self._order}2H", 0x100, 0x4D49
        )
        with _Stream(self._origin, variable) as stream:
            stream.readinto(memoryview(content)[_HEADER:])
            stream.finish()
        n_arrays = content.count(struct.pack(f"{self._order}I", MATRIX))
        self._origin.check_memory(_ARRAY * n_arrays, name)
        try:
            check_variable(content, _HEADER, self._order)
            value = scipy.io.loadmat(io.BytesIO(content), mat_dtype=True)[name]
            if not isinstance(value, np.ndarray):  # SciPy may give its complaint as the value
                raise ValueError(value)
            return value
        except Unsupported as error:
            raise self._origin.unsupported(f"{name!r} is or holds {error}", _REMEDY) from None
        except MemoryError:
            raise
        except Exception as error:
            # Whatever SciPy trips over, the file contradicts itself.
            raise self._origin.damaged(f"{name!r}: {error}") from error

    def _walk(self) -> Iterator[tuple[str, _Variable]]:
        """Name and place of every variable; all of them must end within the file."""
        path = self._origin.path
        size = path.stat().st_size
        position = _HEADER
        with path.open("rb") as file:
            while position < size:
                file.seek(position)
                tag = file.read(8)
                if len(tag) < 8:
                    raise self._origin.damaged(f"it ends within a tag, at byte {position}")
                kind, length = struct.unpack(f"{self._order}2I", tag)
                start, end = position + 8, position + 8 + length
                if kind not in (MATRIX, COMPRESSED) or length == 0:
                    raise self._origin.damaged(f"no variable at byte {position}, type {kind}")
                if end > size:
                    raise self._origin.damaged(f"{size} bytes where it needs at least {end}")
                if kind == MATRIX:
                    start, length = position, length + 8
                yield self._describe(start, length, kind == COMPRESSED)
                position = end

    def _describe(self, start: int, length: int, compressed: bool) -> tuple[str, _Variable]:
        size = length * _EXPANSION if compressed else length
        variable = _Variable(start, length, compressed, size, 0, ())
        with _Stream(self._origin, variable, chunk=_PREFIX) as stream:
            prefix = stream.read(8)
            kind, count = struct.unpack(f"{self._order}2I", prefix)
            if kind != MATRIX or count + 8 > size:
                raise self._origin.damaged(
                    f"a variable of type {kind} with {count} bytes at byte {start}"
                )
            variable = variable._replace(size=count + 8)
            prefix += stream.read(min(count, _PREFIX))
        try:
            header = read_header(prefix, 8, variable.size, self._order)
            variable = variable._replace(cls=header.cls, shape=header.shape)
            if header.cls in UNSUPPORTED:
                variable = variable._replace(refusal=UNSUPPORTED[header.cls])
            elif header.cls in CLASSES:
                values = numbers_tag(prefix, header, variable.size, self._order)
                variable = variable._replace(
                    dtype=np.dtype(bool if header.flags & LOGICAL else CLASSES[header.cls]),
                    stored=np.dtype(self._order + STORED[values.type]),
                    offset=values.start,
                )
        except Unsupported as error:
            variable = variable._replace(refusal=str(error))
        except Malformed as error:
            raise self._origin.damaged(f"variable at byte {start}: {error}") from None
        return header.name, variable


class Level5Columns:
    """A matrix [time, V] of a level-5 file, read in blocks of columns; a `ColumnSource`."""

    def __init__(self, origin: Origin, name: str, variable: _Variable) -> None:
        self._origin, self._name, self._variable = origin, name, variable
        self.shape, self.dtype = variable.shape, variable.dtype

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive [time, <= size] columns in Fortran order, from column 0 at every call.

        A compressed variable is inflated a few MB at a time. The last block comes after the
        checksum, so whoever got all blocks has the matrix that was saved.
        Raises ValueError naming the file where the file is damaged.
        """
        if size < 1:
            raise ValueError(f"blocks of {size} columns; give a positive number")
        variable, (time, n_columns) = self._variable, self.shape
        taken = variable.stored.itemsize + variable.dtype.itemsize
        self._origin.check_memory(min(size, n_columns) * time * taken, self._name)
        with _Stream(self._origin, variable) as stream:
            stream.read(variable.offset)
            for first in range(0, n_columns, size):
                count = min(size, n_columns - first)
                block = np.empty((count, time), variable.stored)
                stream.readinto(_bytes(block))
                if first + count == n_columns:
                    stream.finish()
                yield block.astype(variable.dtype, copy=False).T


class _Stream:
    """The decompressed bytes of one variable, in order. zlib and the file release the GIL."""

    def __init__(self, origin: Origin, variable: _Variable, chunk: int = _CHUNK) -> None:
        self._origin, self._variable, self._chunk = origin, variable, chunk
        self._left = variable.length  # bytes of the file that are still to be read
        self._done = 0  # decompressed bytes handed out
        self._piece = memoryview(b"")
        self._inflate = zlib.decompressobj() if variable.compressed else None
        self._file = origin.path.open("rb", buffering=0)
        self._file.seek(variable.start)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        content = bytearray(count)
        self.readinto(memoryview(content))
        return bytes(content)

    def readinto(self, view: memoryview) -> None:
        """Fill `view` with the next bytes."""
        filled = 0
        while filled < len(view):
            if self._inflate is None:
                count = self._file.readinto(view[filled : filled + self._left])
                self._left -= count or 0
            else:
                if not self._piece:
                    self._piece = memoryview(self._next(_PIECE))
                count = min(len(self._piece), len(view) - filled)
                view[filled : filled + count] = self._piece[:count]
                self._piece = self._piece[count:]
            if not count:
                raise self._origin.damaged(
                    f"the variable at byte {self._variable.start} ends after "
                    f"{self._done + filled} bytes"
                )
            filled += count
        self._done += filled

    def finish(self) -> None:
        """Check that nothing but padding is left, and the checksum of a compressed variable."""
        rest = self._variable.size - self._done
        if self._inflate is not None:
            rest = len(self._piece)
            while rest < 8 and (more := self._next(8)):
                rest += len(more)
            ended = self._inflate.eof and not self._left and not self._inflate.unused_data
            if not ended or self._done + rest != self._variable.size:
                raise self._origin.damaged(
                    f"the variable at byte {self._variable.start} is longer or shorter than the "
                    f"{self._variable.size} bytes it declares"
                )
        if rest >= 8:
            raise self._origin.damaged(
                f"{rest} bytes follow the content of the variable at byte {self._variable.start}"
            )

    def _next(self, limit: int) -> bytes:
        """At most `limit` more decompressed bytes; none at the end of the variable."""
        try:
            while not self._inflate.eof:
                data = self._inflate.unconsumed_tail
                if not data:
                    data = self._file.read(min(self._chunk, self._left))
                    self._left -= len(data)
                piece = self._inflate.decompress(data, limit)
                if piece or not data:
                    return piece
        except zlib.error as error:
            raise self._origin.damaged(
                f"variable at byte {self._variable.start}: {error}"
            ) from None
        return b""


def _bytes(values: np.ndarray) -> memoryview:
    return memoryview(values.reshape(-1).view(np.uint8))
