"""MATLAB files of version 7.3 (HDF5): whole variables, and matrices in blocks of columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from brainalign_jax.neural.formats.matlab.objects import ObjectReader
from brainalign_jax.neural.formats.matlab.origin import MatlabError, Origin

_SLAB, _MAX_SLAB = 2**23, 2**27  # bytes read at a time; at most, or a quarter of the matrix


class Hdf5File:
    """A version 7.3 file; see `open_matlab`. It is kept open until `close`."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._file = open_hdf5(origin)
        try:
            with explained(origin):
                # `#refs#` and `#subsystem#` hold the content of cells and MATLAB's own objects.
                self._names = tuple(name for name in self._file if not name.startswith("#"))
        except MatlabError:
            self.close()
            raise

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what `columns` returned can still be read."""
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of their names."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """MATLAB's size of a variable."""
        with explained(self._origin):
            return ObjectReader(self._origin, self._file, name).shape()

    def read(self, name: str) -> np.ndarray:
        """A whole variable, as `open_matlab` describes."""
        with explained(self._origin):
            return ObjectReader(self._origin, self._file, name).read()

    def columns(self, name: str) -> Hdf5Columns:
        """A matrix [time, V] to be read in blocks of columns; it outlives this object."""
        with explained(self._origin):
            return Hdf5Columns(self._origin, self._file, name)


class Hdf5Columns:
    """A matrix [time, V] of a version 7.3 file, read in blocks of columns; a `ColumnSource`."""

    def __init__(self, origin: Origin, file, name: str) -> None:
        reader = ObjectReader(origin, file, name)
        self._origin, self._name = origin, name
        self.shape, self.dtype = reader.shape(), reader.number_type()
        if self.dtype is None or len(self.shape) != 2 or 0 in self.shape:
            raise origin.no_matrix(name, self.shape)
        data = file[name]
        row = self.shape[0] * data.dtype.itemsize
        rows = data.chunks[0] if data.chunks else 1
        # Whole chunks, so that none is inflated twice, unless that takes too much memory.
        whole = max(1, _SLAB // (rows * row)) * rows
        most = max(_MAX_SLAB, row * len(data) // 4)
        self._slab = whole if rows * row <= most else max(1, most // row)
        # As stored, and in the inflated chunks that HDF5 keeps.
        origin.check_memory(2 * min(self._slab, len(data)) * row, name)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive [time, <= size] columns in Fortran order, from column 0 at every call.

        Raises ValueError naming the file where the file is damaged.
        """
        if size < 1:
            raise ValueError(f"blocks of {size} columns; give a positive number")
        slabs, slab = self._slabs(), ()
        for first in range(0, self.shape[1], size):
            block = np.empty((min(size, self.shape[1] - first), self.shape[0]), self.dtype)
            filled = 0
            while filled < len(block):
                if not len(slab):
                    slab = next(slabs)
                count = min(len(block) - filled, len(slab))
                block[filled : filled + count] = slab[:count]
                slab = slab[count:]
                filled += count
            yield block.T

    def _slabs(self) -> Iterator[np.ndarray]:
        """Consecutive rows [<= slab, time] of the dataset, in the same memory every time."""
        with open_hdf5(self._origin) as file:
            with explained(self._origin):
                data = file[self._name]
                slab = np.empty((min(self._slab, len(data)), self.shape[0]), data.dtype)
            for first in range(0, self.shape[1], len(slab)):
                count = min(len(slab), self.shape[1] - first)
                with explained(self._origin):
                    data.read_direct(slab, np.s_[first : first + count], np.s_[:count])
                yield slab[:count]


def open_hdf5(origin: Origin):
    """The open file, for reading. Raises ImportError without h5py, MatlabError for a damaged file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{origin.path} is an HDF5 file (MATLAB 7.3): `pip install h5py`, or save it with -v7"
        ) from error
    with explained(origin):
        # No lock is taken: shared folders often refuse it, and nothing is written.
        return h5py.File(origin.path, "r", locking=False)


@contextmanager
def explained(origin: Origin):
    """HDF5 meets damage as an error of almost any type; the user sees one, with the remedy."""
    try:
        yield
    except MatlabError:
        raise
    except Exception as error:
        raise origin.damaged(str(error) or type(error).__name__) from error
