"""Variables of MATLAB files, versions 5 to 7.3, read alike and checked for damage."""

from __future__ import annotations

import os
from pathlib import Path

from brainalign_jax.neural.formats.matlab.hdf5 import Hdf5File
from brainalign_jax.neural.formats.matlab.level5 import Level5File
from brainalign_jax.neural.formats.matlab.origin import Origin

MatlabFile = Level5File | Hdf5File
_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = (0, 512, 1024, 2048)  # bytes before the HDF5 of a file; MATLAB writes 512


def open_matlab(path: str | os.PathLike, *, source: str = "") -> MatlabFile:
    """Open a MATLAB file of version 5, 6, 7 (level 5) or 7.3 (HDF5; needs h5py).

    path: the file; source: where to get it again, for messages. The result has

    - `names`: the variables;
    - `shape(name)`: MATLAB's size;
    - `read(name)`: the variable as an array, nested as `scipy.io.loadmat` does it, whatever the
      version: numbers in MATLAB's shape and class (also where a file stores integers of a double
      matrix in fewer bytes), logical as bool, text as an array of strings without its last axis
      ("abc": shape (1,)), cells as object arrays [rows, columns], structs as structured arrays of
      objects [rows, columns];
    - `columns(name)`: a matrix [time, V] as a `ColumnSource`, read a few MB at a time; it stays
      valid after `close`;
    - `close()`; it is a context manager too.

    Only what is asked for is decompressed. Values shared by several cells of a 7.3 file are one
    array. Raises FileNotFoundError, ImportError without h5py, or ValueError naming the file and the
    remedy for a file that is damaged, no MATLAB file, of version 4, or that lacks a variable, and
    for complex, sparse and MATLAB's own objects. Damage of stored values that no checksum covers
    (uncompressed variables) cannot be seen.
    """
    origin = Origin(Path(path), source)
    if not origin.path.is_file():
        again = f"; get it from {source}" if source else "; check the path"
        raise FileNotFoundError(f"there is no file {path}{again}")
    with origin.path.open("rb") as file:
        head = file.read(max(_USER_BLOCKS) + len(_HDF5))
    if any(head.startswith(_HDF5, start) for start in _USER_BLOCKS):
        return Hdf5File(origin)
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    version = head[124:126] if order == ">" else head[125:123:-1]
    if order is None or version[:1] not in (b"\1", b"\2"):
        again = f"get it again from {source}" if source else "check where it comes from"
        raise origin.unsupported(
            "no MATLAB file of version 5 to 7.3, or its header is damaged",
            f"{again}; save a file of version 4 with -v7",
        )
    if version[:1] == b"\2":
        raise origin.damaged("a MATLAB 7.3 file without HDF5 content")
    return Level5File(origin, order)
