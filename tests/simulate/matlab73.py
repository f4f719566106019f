"""Files in the layout of MATLAB's `save -v7.3`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import ascii_letters

import h5py
import numpy as np
import scipy.io

_TEXT = "MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."
_USER_BLOCK = 512
_CLASSES = {"f8": "double", "f4": "single", "b1": "logical"} | {
    f"{kind}{bits // 8}": f"{prefix}int{bits}"
    for kind, prefix in (("i", ""), ("u", "u"))
    for bits in (8, 16, 32, 64)
}
_COMPRESSED = 10_000  # bytes from which a dataset is compressed
_CHUNK = 2**16  # bytes of a chunk, before compression
_DIGITS = (ascii_letters + "1234567890").encode()  # of the names of what cells refer to


def write_matlab73(
    path: str | os.PathLike, variables: Mapping[str, object], *, compression: int | None = 3
) -> Path:
    """Write variables as MATLAB's `save -v7.3` lays them out in HDF5. Returns the path.

    variables: by name. As in `scipy.io.savemat`: numbers and numeric or logical arrays (a vector is
    a row), strings and string arrays (text, one row a string), object arrays (cells), mappings
    (structs) and structured arrays (struct arrays); nested as deep as wanted.
    compression: deflate level of large arrays, or None. An existing file is replaced.
    Raises ValueError for names that are none in MATLAB, or values that it has no class for.
    """
    path = Path(path)
    # MATLAB itself writes the earliest format.
    with h5py.File(path, "w", userblock_size=_USER_BLOCK, libver="earliest") as file:
        writer = _Writer(h5py, file, compression)
        for name, value in variables.items():
            writer.write(file.id, _name(name), value, name)
    with path.open("r+b") as file:
        file.write(_TEXT.ljust(116).encode() + bytes(8) + b"\x00\x02IM")
    return path


def in_matlab73(path: Path, *, compression: int | None = 3) -> None:
    """Write a file of MATLAB 5 anew as one of 7.3."""
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    write_matlab73(path, content, compression=compression)


class _Writer:
    """Works on h5py's identifiers, which is several times as fast for many small objects."""

    def __init__(self, h5py, file, compression: int | None) -> None:
        self._h5py, self._file, self._compression = h5py, file, compression
        self._references = None
        self._count = 0
        self._scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        self._compact = self._created()
        self._compact.set_layout(h5py.h5d.COMPACT)
        self._types = {}

    def _created(self):
        created = self._h5py.h5p.create(self._h5py.h5p.DATASET_CREATE)
        created.set_obj_track_times(False)  # or the second of the day would be in the file
        return created

    def write(self, group, name: bytes, value: object, where: str):
        """Write one value as `name` of a group; where: the variable and fields, for messages."""
        if isinstance(value, Mapping):
            fields = list(value)
            if not fields:
                return self._empty(group, name, "struct", (1, 1))
            item = self._h5py.h5g.create(group, name)
            for field in fields:
                self.write(item, _name(field), value[field], f"{where}.{field}")
            return self._set_class(item, "struct", fields)
        array = np.asarray(value)
        if array.dtype.kind == "U":
            return self._text(group, name, array)
        array = array.reshape((1,) * (2 - array.ndim) + array.shape)
        if array.dtype.names is not None:
            return self._structs(group, name, array, where)
        is_cell = array.dtype == object and isinstance(value, np.ndarray)
        if is_cell and array.size:
            return self._cells(group, name, array, where, "cell")
        cls = "cell" if is_cell else _CLASSES.get(array.dtype.str[1:])
        if cls is None:
            raise ValueError(
                f"{where} has dtype {array.dtype}, which MATLAB has no class for here; "
                "give numbers, logical values, strings, object arrays or mappings"
            )
        if array.size == 0:
            return self._empty(group, name, cls, array.shape)
        if cls == "logical":
            return self._dataset(group, name, array.astype("u1"), cls, decode=1)
        return self._dataset(group, name, array, cls)

    def _text(self, group, name: bytes, array: np.ndarray):
        units = [list(_units(text)) for text in array.reshape(-1).tolist()]
        width = max(map(len, units), default=0)
        if width == 0:
            return self._empty(group, name, "char", (0,) * max(2, array.ndim), decode=2)
        codes = np.array([row + [32] * (width - len(row)) for row in units], "u2")
        shape = array.shape or (1,)
        return self._dataset(group, name, codes.reshape(*shape, width), "char", decode=2)

    def _structs(self, group, name: bytes, array: np.ndarray, where: str):
        fields = list(array.dtype.names)
        if array.size == 0 or not fields:
            return self._empty(group, name, "struct", array.shape, fields)
        if array.size == 1:  # a scalar holds its values, an array references to them
            values = {field: array.flat[0][field] for field in fields}
            return self.write(group, name, values, where)
        item = self._h5py.h5g.create(group, name)
        for field in fields:
            self._cells(item, _name(field), array[field], f"{where}.{field}", None)
        return self._set_class(item, "struct", fields)

    def _cells(self, group, name: bytes, array: np.ndarray, where: str, cls: str | None):
        values = array.T
        references = np.empty(values.shape, self._h5py.ref_dtype)
        flat, h5r = references.reshape(-1), self._h5py.h5r
        for index, value in enumerate(values.reshape(-1)):
            store, key = self._next_reference()
            item = self.write(store, key, value, f"{where}{{{index + 1}}}")
            self._attribute(item, b"H5PATH", np.array(b"/#refs#/" + key))
            flat[index] = h5r.create(store, key, h5r.OBJECT)
        return self._dataset(group, name, references.T, cls)

    def _next_reference(self):
        if self._references is None:
            self._references = self._h5py.h5g.create(self._file.id, b"#refs#")
            self._empty(self._references, b"a", "canonical empty", (0, 0))
        self._count += 1
        # a, b, ... 0, ab, bb, ...: the first digit counts least.
        number, key = self._count, b""
        while number:
            number, digit = divmod(number, len(_DIGITS))
            key += _DIGITS[digit : digit + 1]
        return self._references, key

    def _empty(self, group, name: bytes, cls: str, shape, fields=(), decode: int | None = None):
        """An array without elements is stored as its size."""
        item = self._dataset(group, name, np.array(shape, "u8"), cls, decode)
        self._attribute(item, b"MATLAB_empty", np.array(1, "u1"))
        return self._set_fields(item, fields)

    def _dataset(
        self, group, name: bytes, array: np.ndarray, cls: str | None, decode: int | None = None
    ):
        h5py = self._h5py
        data = np.ascontiguousarray(array.T)
        small = data.nbytes < _COMPRESSED
        created = self._compact if small else self._created()
        if not small and self._compression is not None:
            chunk = list(data.shape)
            for axis in range(data.ndim):
                row = data.dtype.itemsize * int(np.prod(chunk[axis + 1 :], dtype=np.int64))
                chunk[axis] = max(1, min(chunk[axis], _CHUNK // row))
            created.set_chunk(tuple(chunk))
            created.set_deflate(self._compression)
        space = h5py.h5s.create_simple(data.shape)
        item = h5py.h5d.create(group, name, self._type(data.dtype), space, created)
        item.write(h5py.h5s.ALL, h5py.h5s.ALL, data)
        if cls is not None:
            self._set_class(item, cls)
        if decode is not None:
            self._attribute(item, b"MATLAB_int_decode", np.array(decode, "i4"))
        return item

    def _set_class(self, item, cls: str, fields=()):
        self._attribute(item, b"MATLAB_class", np.array(cls.encode()))
        return self._set_fields(item, fields)

    def _set_fields(self, item, fields):
        if len(fields):
            letters = np.empty(len(fields), object)
            for index, field in enumerate(fields):
                letters[index] = np.array(list(field), "S1")
            is_group = isinstance(item, self._h5py.h5g.GroupID)
            holder = (self._h5py.Group if is_group else self._h5py.Dataset)(item)
            dtype = self._h5py.vlen_dtype(np.dtype("S1"))
            holder.attrs.create("MATLAB_fields", letters, dtype=dtype)
        return item

    def _attribute(self, item, name: bytes, value: np.ndarray) -> None:
        self._h5py.h5a.create(item, name, self._type(value.dtype), self._scalar).write(value)

    def _type(self, dtype: np.dtype):
        if dtype not in self._types:
            self._types[dtype] = self._h5py.h5t.py_create(dtype, logical=dtype.hasobject)
        return self._types[dtype]


def _units(text: str) -> np.ndarray:
    """The UTF-16 units of a text."""
    return np.frombuffer(text.encode("utf-16-le"), "<u2")


def _name(name: str) -> bytes:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise ValueError(
            f"{name!r} is no name in MATLAB; use letters, digits and _, a letter first, at most 63"
        )
    return name.encode()


def nested_variables() -> dict[str, object]:
    """Variables of every kind, for tests: an array, cells in cells, a struct array, and a struct."""
    pair = np.empty((2, 1), object)
    pair[0, 0], pair[1, 0] = "café", np.array([[1.5]])
    cells = np.empty((3, 1), object)
    cells[:, 0] = [pair, "plain", np.arange(6.0).reshape(2, 3)]
    table = np.empty((1, 2), [("text", object), ("start", object)])
    for index in range(2):
        table[0, index] = (pair, np.array([[float(index)]]))
    return {
        "time": np.arange(8.0).reshape(4, 2),
        "cells": cells,
        "table": table,
        "meta": {"number": 3.0, "grid": np.eye(3), "name": "one"},
    }
