"""Matrices [time, V] in plain HDF5 files, one below the other, read in blocks of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.matlab.hdf5 import explained, open_hdf5
from brainalign_jax.neural.formats.matlab.objects import ObjectReader
from brainalign_jax.neural.formats.matlab.origin import Origin

_SLAB = 2**27  # bytes of all files' columns that are read at a time


class StackedRows:
    """The datasets `name` of several files as one recording [time, V]; a `ColumnSource`.

    paths: at least one, in order of time; every dataset is a matrix of numbers with V columns. source:
    where the files come from, for messages. lengths: rows of each file.
    Only the headers are read before `blocks` is asked for; some 128 MB are held at a time.
    Raises FileNotFoundError, ImportError without h5py, or ValueError naming the file.
    """

    def __init__(self, paths: Sequence[Path], name: str, *, source: str = ""):
        self._origins = [Origin(path, source) for path in paths]
        self._name = name
        self.lengths: tuple[int, ...] = ()
        n_columns, dtypes = None, []
        for origin in self._origins:
            if not origin.path.is_file():
                raise FileNotFoundError(f"there is no {origin.path}; get it from {source}")
            with open_hdf5(origin) as file, explained(origin):
                reader = ObjectReader(origin, file, name)
                shape, dtype = reader.shape()[::-1], reader.number_type()
            if dtype is None or len(shape) != 2 or 0 in shape:
                raise origin.no_matrix(name, shape)
            if n_columns not in (None, shape[1]):
                raise ValueError(
                    f"{origin.path} has {shape[1]} columns and {self._origins[0].path} {n_columns}; the "
                    f"files of a person must agree: get both again from {source}"
                )
            n_columns = shape[1]
            self.lengths += (shape[0],)
            dtypes.append(dtype)
        self.shape = (sum(self.lengths), n_columns)
        self.dtype = np.result_type(*dtypes)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive [time, <= size] columns, from column 0 at every call.

        Raises ValueError naming the file that is damaged or has changed.
        """
        if size < 1:
            raise ValueError(f"blocks of {size} columns; give a positive number")
        row = self.shape[0] * self.dtype.itemsize
        width = max(size, _SLAB // row // size * size)
        for first in range(0, self.shape[1], width):
            slab = self._columns(first, min(first + width, self.shape[1]))
            for start in range(0, slab.shape[1], size):
                yield slab[:, start : start + size]

    def _columns(self, first: int, last: int) -> np.ndarray:
        values = np.empty((self.shape[0], last - first), self.dtype)
        start = 0
        for origin, length in zip(self._origins, self.lengths, strict=True):
            with open_hdf5(origin) as file, explained(origin):
                # The data set's own type first: HDF5 converts to no other without a copy.
                values[start : start + length] = file[self._name][:, first:last]
            start += length
        return values
