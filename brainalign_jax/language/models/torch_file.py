"""Read tensors from a file of `torch.save`, without torch and without running what is in it.

Both formats: the zip archive (PyTorch 1.6 and later) and the older stream of pickles. The
unpickler knows a handful of names and refuses every other, so a file cannot run code.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from brainalign_jax.language.models.unchanged_file import UnchangedFile

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _StorageType:
    """Stands for a class like torch.FloatStorage; calling it is an error."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Where the elements lie: a zip member or root key, an element offset, the number of them."""

    key: str
    dtype: np.dtype
    n_elements: int
    n_stored: int
    offset: int = 0


@dataclass(frozen=True)
class _LazyTensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _rebuild_tensor_v2(storage, offset, size, stride, requires_grad=False, hooks=None, meta=None):
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    size, stride = tuple(size), tuple(stride)
    if not (all(map(_is_count, (offset, *size, *stride))) and len(size) == len(stride)):
        raise pickle.UnpicklingError(f"a tensor with shape {size}, stride {stride}, {offset=}")
    if 0 not in size:
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if end > storage.n_elements:
            raise pickle.UnpicklingError(
                f"a tensor of shape {size} and stride {stride} that reads element {end} of a "
                f"storage of {storage.n_elements}"
            )
    return _LazyTensor(storage, offset, size, stride)


def _rebuild_parameter(data, requires_grad=False, hooks=None):
    return data


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(name) for name in _STORAGE_DTYPES},
    **{("torch.storage", name): _StorageType(name) for name in _STORAGE_DTYPES},
}


class _Refused(Exception):
    """The file names something outside the allow-list."""


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise pickle.UnpicklingError(f"an unknown reference {pid!r}")
        _, kind, key, _, n_elements, *view = pid
        if not isinstance(kind, _StorageType) or not _is_count(n_elements):
            raise pickle.UnpicklingError(f"a storage of type {kind!r} and length {n_elements!r}")
        key, dtype = str(key), _STORAGE_DTYPES[kind.name]
        root = _Storage(key, dtype, n_elements, n_elements)
        if self.storages.setdefault(key, root) != root:
            raise pickle.UnpicklingError(f"two different storages under the key {key}")
        if view and view[0] is not None:
            _, offset, size = view[0]
            if not (_is_count(offset) and _is_count(size) and offset + size <= n_elements):
                raise pickle.UnpicklingError(f"a view {view[0]!r} of {n_elements} elements")
            return _Storage(key, dtype, size, n_elements, offset)
        return root


class TorchFile(Mapping[str, np.ndarray]):
    """The tensors of one `torch.save` file, by name; each is read when asked for.

    Raises ValueError, with the file and the remedy, on a truncated or corrupt file, on anything
    but a flat dictionary of tensors, on names outside the allow-list, and once the file was
    replaced or written to.
    """

    def __init__(self, path: Path):
        self.path, self._unchanged = path, UnchangedFile(path)
        with self._reading(), open(path, "rb") as stream:
            self._is_zip = zipfile.is_zipfile(path)
            saved = self._open_zip() if self._is_zip else self._open_legacy(stream)
        if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
            raise ValueError(
                f"{path} holds {type(saved).__name__}, not a dictionary of named tensors; save "
                "the model's state_dict() instead."
            )
        other = [name for name, value in saved.items() if not isinstance(value, _LazyTensor)]
        if other:
            raise ValueError(
                f"{path} holds entries that are not tensors: {', '.join(other[:10])}; save the "
                "model's state_dict() alone."
            )
        self._tensors: dict[str, _LazyTensor] = dict(saved)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        self._unchanged.check()
        with self._reading():
            stored = self._read_storage(tensor.storage)
        self._unchanged.check()
        with self._reading():
            elements = stored[tensor.offset :]
            steps = tuple(step * elements.itemsize for step in tensor.strides)
            if 0 in tensor.shape:
                return np.zeros(tensor.shape, elements.dtype)
            return np.lib.stride_tricks.as_strided(elements, tensor.shape, steps, writeable=False)

    def _open_zip(self) -> Any:
        with zipfile.ZipFile(self.path) as archive:
            names = set(archive.namelist())
            (pickled,) = (n for n in names if n == "data.pkl" or n.endswith("/data.pkl"))
            self._prefix = pickled.removesuffix("data.pkl")
            order = self._prefix + "byteorder"
            if order in names and archive.read(order) != b"little":
                raise pickle.UnpicklingError("big-endian numbers")
            with archive.open(pickled) as stream:
                unpickler = _TensorUnpickler(stream)
                saved = unpickler.load()
            for storage in unpickler.storages.values():
                size = archive.getinfo(f"{self._prefix}data/{storage.key}").file_size
                if size != storage.n_stored * storage.dtype.itemsize:
                    raise pickle.UnpicklingError(f"storage {storage.key} has {size} bytes")
        return saved

    def _open_legacy(self, stream: BinaryIO) -> Any:
        header = [_TensorUnpickler(stream).load() for _ in range(3)]
        if header[:2] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL] or not isinstance(header[2], dict):
            raise pickle.UnpicklingError("not the header of torch.save")
        if not header[2].get("little_endian", True):
            raise pickle.UnpicklingError("big-endian numbers")
        unpickler = _TensorUnpickler(stream)
        saved = unpickler.load()
        keys = [str(key) for key in _TensorUnpickler(stream).load()]
        if sorted(keys) != sorted(unpickler.storages):
            raise pickle.UnpicklingError("its list of storages does not fit its tensors")
        end = self.path.stat().st_size
        self._starts: dict[str, int] = {}
        for key in keys:
            storage = unpickler.storages[key]
            (n_elements,) = struct.unpack("<q", stream.read(8))
            self._starts[key] = stream.tell()
            stop = stream.tell() + n_elements * storage.dtype.itemsize
            if n_elements != storage.n_stored or stop > end:
                raise pickle.UnpicklingError(f"storage {key} is cut short")
            stream.seek(stop)
        return saved

    def _read_storage(self, storage: _Storage) -> np.ndarray:
        if self._is_zip:
            with zipfile.ZipFile(self.path) as archive:
                raw = archive.read(f"{self._prefix}data/{storage.key}")
        else:
            with open(self.path, "rb") as stream:
                stream.seek(self._starts[storage.key])
                raw = stream.read(storage.n_stored * storage.dtype.itemsize)
        elements = np.frombuffer(raw, storage.dtype)
        return elements[storage.offset : storage.offset + storage.n_elements]

    def _reading(self) -> _ErrorsNameTheFile:
        return _ErrorsNameTheFile(self.path)


class _ErrorsNameTheFile:
    """Turn whatever a damaged file makes the readers raise into a ValueError that helps."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, _Refused):
            raise ValueError(
                f"{self.path} asks for {error}, which a file of plain tensors does not need; it "
                "was refused and nothing was run. Use a safetensors checkpoint, or save the "
                "state_dict() alone from a source you trust."
            ) from error
        # A damaged pickle can raise nearly anything; only the operating system's errors stay.
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise ValueError(
                f"{self.path} is not a readable torch.save file ({error or kind.__name__}): it is "
                "truncated, corrupt or of another format. Download it again."
            ) from error
