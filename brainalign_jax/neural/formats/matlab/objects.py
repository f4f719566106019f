"""The objects of MATLAB 7.3 files: classes, cells, structs and text in datasets and groups of HDF5.

MATLAB writes a variable as a dataset or group of its name with its class in an attribute.
Dimensions are reversed; cells and struct arrays are datasets of references into `#refs#`; an empty
array is stored as its size. Source: files of MATLAB; the docs of h5py, hdf5storage and matio.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.machine import free_memory
from brainalign_jax.neural.formats.matlab.fields import HeapReader
from brainalign_jax.neural.formats.matlab.origin import Origin

CLASSES = {"double": "f8", "single": "f4", "logical": "?", "canonical empty": "f8"} | {
    f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}"
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
_PLAIN = {np.dtype(code): name for name, code in CLASSES.items() if name != "canonical empty"}
_MAX_DEPTH = 64  # of nested cells and structs
_SMALL = 2**20  # bytes that may be declared without proof that they are stored
_EXPANSION = 1032  # deflate makes at most so many bytes of one
_MAX_BARE = 65536  # elements of an array that is stored as its size
REMEDY = "save it in MATLAB as a plain array, cell or struct"


class _Data(NamedTuple):
    """A dataset; asking HDF5 for its shape and type takes time, so it is done once."""

    item: Any
    shape: tuple[int, ...]
    dtype: np.dtype


class ObjectReader:
    """One variable of an open file.

    Works on h5py's identifiers: tables of words have some 50,000 objects, and the objects of h5py
    that wrap identifiers take several times as long. What HDF5 raises is left to the caller.
    """

    def __init__(self, origin: Origin, file, name: str) -> None:
        import h5py

        if not file:
            raise origin.unsupported("the file was closed", "read before close()")
        self._h5py, self._origin, self._file, self._name = h5py, origin, file, name
        self._size = origin.path.stat().st_size
        self._untold = 0  # bytes taken since the free memory was looked at
        # By address: what is referenced twice is read once, and None while it is being read.
        self._values: dict[int, np.ndarray | None] = {}
        key = name.encode()
        if name.startswith("#") or not file.id.links.exists(key):
            raise origin.missing(name, (name for name in file if not name.startswith("#")))
        self._heap = HeapReader(origin.path, file.userblock_size)
        self.object = self._open(file.id, key)

    def read(self) -> np.ndarray:
        """The variable, nested as SciPy does it for older versions."""
        return self._value(self.object, 0)

    def shape(self) -> tuple[int, ...]:
        """MATLAB's size of the variable."""
        data = self._data(self.object)
        self._class(self.object, data)
        if data is not None:
            empty = self._empty_shape(data)
            return data.shape[::-1] if empty is None else empty
        fields = self._fields(self.object)
        columns = self._struct_columns(fields)
        return next(iter(columns.values())).shape[::-1] if columns else (1, 1)

    def number_type(self) -> np.dtype | None:
        """The type of a numeric array, checked; None for any other class."""
        data = self._data(self.object)
        code = CLASSES.get(self._class(self.object, data))
        if code is None or data is None:
            return None
        if self._empty_shape(data) is None:
            self._check_stored(data)
            self._check_numbers(data)
        return np.dtype(code)

    def _open(self, group, key: bytes):
        if group.links.get_info(key).type != self._h5py.h5l.TYPE_HARD:
            raise self._origin.unsupported(f"{self._name!r} links to another place", REMEDY)
        return self._h5py.h5o.open(group, key)

    def _value(self, item, depth: int) -> np.ndarray:
        if depth > _MAX_DEPTH:
            raise self._origin.damaged(f"{self._name!r} nests cells or structs {depth} deep")
        address = self._h5py.h5o.get_info(item).addr
        if address in self._values:
            value = self._values[address]
            if value is None:
                raise self._origin.damaged(f"{self._name!r} contains itself")
            return value
        self._values[address] = None
        data = self._data(item)
        cls = self._class(item, data)
        if data is None:
            if cls != "struct":
                raise self._origin.damaged(f"{self._name!r} holds a group of class {cls!r}")
            value = self._struct(item, depth)
        elif (shape := self._empty_shape(data)) is not None:
            value = self._empty(data, cls, shape)
        elif cls == "cell":
            value = self._resolve(data, depth)
        elif cls == "char":
            value = self._text(data)
        else:
            self._check_numbers(data)
            value = self._stored(data).astype(CLASSES[cls], copy=False).T
        self._values[address] = value
        return value

    def _data(self, item) -> _Data | None:
        """A dataset with its properties; None for a group."""
        if isinstance(item, self._h5py.h5d.DatasetID):
            return _Data(item, item.shape, item.dtype)
        if isinstance(item, self._h5py.h5g.GroupID):
            return None
        raise self._origin.damaged(f"{self._name!r} is neither data nor a group")

    def _stored(self, data: _Data) -> np.ndarray:
        self._check_stored(data)
        self._take(math.prod(data.shape) * (data.dtype.itemsize + 8))  # and as MATLAB's class
        values = np.empty(data.shape, data.dtype)
        data.item.read(self._h5py.h5s.ALL, self._h5py.h5s.ALL, values)
        return values

    def _take(self, n_bytes: int) -> None:
        """Count memory that is about to be taken, of all datasets of the variable together."""
        self._untold += n_bytes
        if self._untold > _SMALL:
            self._origin.check_memory(self._untold, self._name)
            self._untold = 0  # what was allowed shows in the memory that is free

    def _resolve(self, data: _Data, depth: int) -> np.ndarray:
        """The objects that a dataset of references points to, as an object array."""
        if not self._holds_references(data):
            raise self._origin.damaged(f"a cell of {self._name!r} holds no references")
        references = self._stored(data)
        values = np.empty(references.shape, object)
        flat, dereference = values.reshape(-1), self._h5py.h5r.dereference
        for index, reference in enumerate(references.reshape(-1)):
            flat[index] = self._value(dereference(reference, self._file.id), depth + 1)
        return values.T

    def _text(self, data: _Data) -> np.ndarray:
        if data.dtype.kind != "u" or data.dtype.itemsize > 2 or not data.shape:
            raise self._origin.damaged(f"text of {self._name!r} is stored as {data.dtype}")
        codes = np.ascontiguousarray(self._stored(data).T)
        *shape, width = codes.shape
        if ((codes >= 0xD800) & (codes < 0xE000)).any():  # characters of two UTF-16 units
            rows = codes.reshape(-1, width).astype("<u2")
            return np.array([row.tobytes().decode("utf-16-le", "replace") for row in rows]).reshape(
                shape
            )
        return codes.astype("u4").view(f"U{width}").reshape(shape)

    def _struct(self, group, depth: int) -> np.ndarray:
        fields = self._fields(group)
        if not fields:
            return np.empty((1, 1), object)
        dtype = [(name, object) for name in fields]
        columns = self._struct_columns(fields)
        if not columns:
            value = np.empty((1, 1), dtype)
            for name, field in fields.items():
                value[name][0, 0] = self._value(field, depth + 1)
            return value
        if len({column.shape for column in columns.values()}) != 1:
            raise self._origin.damaged(f"fields of a struct in {self._name!r} differ in size")
        value = np.empty(next(iter(columns.values())).shape[::-1], dtype)
        for name, column in columns.items():
            value[name] = self._resolve(column, depth)
        return value

    def _struct_columns(self, fields: dict[str, object]) -> dict[str, _Data]:
        """The fields of a struct array, which are references without a class; {} for a scalar."""
        columns = {}
        for name, field in fields.items():
            data = self._data(field)
            if data is None or self._h5py.h5a.exists(field, b"MATLAB_class"):
                return {}
            if not self._holds_references(data):
                return {}
            columns[name] = data
        return columns

    def _fields(self, group) -> dict[str, object]:
        """The fields of a struct in MATLAB's order, opened."""
        names = [name.decode() for name in group]
        order = self._field_order(group)
        if order is not None and sorted(order) == sorted(names):
            names = order
        return {name: self._open(group, name.encode()) for name in names}

    def _field_order(self, item) -> list[str] | None:
        # MATLAB leaves the attribute out where it would be too long.
        if not self._h5py.h5a.exists(item, b"MATLAB_fields"):
            return None
        count = math.prod(self._h5py.h5a.open(item, b"MATLAB_fields").shape)
        names = self._heap.field_names(self._h5py.h5o.get_info(item).addr, count)
        if names is None:
            fields = self._attribute(item, "MATLAB_fields")
            names = [b"".join(np.asarray(field).astype("S1").tolist()).decode() for field in fields]
        return names

    def _attribute(self, item, name: str):
        """An attribute of any type, None where there is none."""
        if not self._h5py.h5a.exists(item, name.encode()):
            return None
        kind, h5t = self._h5py.h5a.open(item, name.encode()).get_type(), self._h5py.h5t
        if kind.get_class() == h5t.VLEN:
            # HDF5 follows wild pointers where this is neither a sequence (0) nor a string (1).
            flavour, content = kind.encode()[3] & 0xF, kind.get_super().get_class()
            if flavour > 1 or content not in (h5t.STRING, h5t.INTEGER):
                raise self._origin.damaged(f"attribute {name} of {self._name!r} has no valid type")
        is_group = isinstance(item, self._h5py.h5g.GroupID)
        return (self._h5py.Group if is_group else self._h5py.Dataset)(item).attrs[name]

    def _holds_references(self, data: _Data) -> bool:
        return self._h5py.check_ref_dtype(data.dtype) is self._h5py.Reference

    def _class(self, item, data: _Data | None) -> str:
        """The MATLAB class of an object; what is not read here is refused."""
        cls = self._class_name(item)
        if data is None and self._h5py.h5a.exists(item, b"MATLAB_sparse"):
            what = "a sparse matrix"
        elif self._h5py.h5a.exists(item, b"MATLAB_object_decode"):
            what = f"an object of the MATLAB class {cls!r}"
        elif data is not None and data.dtype.names is not None:
            what = "complex numbers"
        elif cls in CLASSES or cls in ("char", "cell", "struct"):
            return cls
        elif cls is not None:
            what = f"an object of the MATLAB class {cls!r}"
        # Plain HDF5 of other programs: groups as structs, numbers by their own type.
        elif data is None:
            return "struct"
        elif (kind := data.dtype.newbyteorder("=")) in _PLAIN:
            return _PLAIN[kind]
        else:
            what = f"data of type {kind} without a MATLAB class"
        raise self._origin.unsupported(f"{self._name!r} is or holds {what}", REMEDY)

    def _class_name(self, item) -> str | None:
        h5a = self._h5py.h5a
        if not h5a.exists(item, b"MATLAB_class"):
            return None
        text = np.empty((), "S64")
        try:
            h5a.open(item, b"MATLAB_class").read(text)
        except (TypeError, OSError):  # of variable length or in an array, from other programs
            text = np.asarray(self._attribute(item, "MATLAB_class"))
        name: Any = text.item()
        return name.decode() if isinstance(name, bytes) else str(name)

    def _empty_shape(self, data: _Data) -> tuple[int, ...] | None:
        """The size of an empty array; None for one that has elements."""
        if not self._h5py.h5a.exists(data.item, b"MATLAB_empty"):
            return data.shape[::-1] if 0 in data.shape else None
        if not np.any(self._attribute(data.item, "MATLAB_empty")):
            return None
        if data.dtype.kind not in "ui" or not 2 <= math.prod(data.shape) <= 32:
            raise self._origin.damaged(f"an empty array of {self._name!r} has no size")
        shape = tuple(self._stored(data).reshape(-1).tolist())
        if min(shape) < 0 or math.prod(max(1, extent) for extent in shape) > 2**48:
            raise self._origin.damaged(f"an empty array of {self._name!r} has size {shape}")
        return shape

    def _empty(self, data: _Data, cls: str, shape: tuple[int, ...]) -> np.ndarray:
        fields = self._field_order(data.item) if cls == "struct" else None
        # Structs without fields are stored as their size, whatever it is; text loses an axis.
        bare = cls == "struct" and not fields
        n_elements = math.prod(shape[:-1] if cls == "char" else shape)
        if (0 not in shape and not bare) or n_elements > _MAX_BARE:
            raise self._origin.damaged(f"an empty array of {self._name!r} has size {shape}")
        self._take(8 * n_elements * max(1, len(fields or ())))
        if cls == "char":
            return np.zeros(shape[:-1], "<U1")
        if fields:
            return np.empty(shape, [(name, object) for name in fields])
        return np.empty(shape, CLASSES.get(cls, object))

    def _check_numbers(self, data: _Data) -> None:
        if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
            raise self._origin.damaged(f"numbers of {self._name!r} are stored as {data.dtype}")

    def _check_stored(self, data: _Data) -> None:
        """Refuse a dataset in other files, and one that declares more than the file or the memory can
        hold, before memory is taken."""
        # First of all: external storage names any file of the machine, and declares what it likes.
        created, h5d = data.item.get_create_plist(), self._h5py.h5d
        if created.get_external_count() or created.get_layout() == h5d.VIRTUAL:
            raise self._origin.unsupported(f"{self._name!r} is kept in other files", REMEDY)
        declared = math.prod(data.shape) * data.dtype.itemsize
        stored = data.item.get_storage_size()
        if stored == declared <= _SMALL:
            return
        most, chunk = _SMALL, 0
        if created.get_layout() == h5d.CHUNKED:
            chunk = math.prod(created.get_chunk()) * data.dtype.itemsize
            most += stored * _EXPANSION
        else:
            most += stored
        if stored > self._size or max(declared, chunk) > most:
            raise self._origin.damaged(
                f"{self._name!r} of size {data.shape[::-1]} declares {declared} bytes where "
                f"{stored} are stored"
            )
        if chunk and created.get_nfilters():
            self._check_chunks(data, created, chunk)

    def _check_chunks(self, data: _Data, created, chunk: int) -> None:
        """Refuse chunks that inflate to more than they hold: HDF5 goes on as long as there is memory.

        created: the dataset's properties; chunk: bytes of one. Looks at the chunks only where all
        that is stored could become more than the memory, and inflates none that could not.
        """
        filters = [created.get_filter(index)[0] for index in range(created.get_nfilters())]
        if filters.count(self._h5py.h5z.FILTER_DEFLATE) > 1:
            raise self._origin.damaged(f"{self._name!r} is deflated twice")
        free = free_memory()
        if data.item.get_storage_size() * _EXPANSION <= free:
            return
        large = []  # offsets of chunks that could fill the memory

        def look(info) -> None:
            if info.size > chunk + chunk // 64 + 2**10:
                raise self._origin.damaged(f"a chunk of {self._name!r} holds more than it declares")
            if info.size * _EXPANSION > free:
                large.append(info.chunk_offset)

        if hasattr(data.item, "chunk_iter"):  # of HDF5 1.14
            data.item.chunk_iter(look)
        else:
            for index in range(data.item.get_num_chunks()):
                look(data.item.get_chunk_info(index))
        for offset in large if filters[-1] == self._h5py.h5z.FILTER_DEFLATE else ():
            mask, packed = data.item.read_direct_chunk(offset)
            if not mask and len(zlib.decompressobj().decompress(packed, chunk + 2**10)) > chunk + 8:
                raise self._origin.damaged(f"a chunk of {self._name!r} holds more than it declares")
