"""Read tensors from a file of `torch.save`, without torch and without running what is in it.

Both formats: the zip archive (PyTorch 1.6 and later) and the older stream of pickles. The pickles
are read by `plain_pickle`, which knows a handful of names and refuses every other, so a file can
neither run code nor change anything that a file read later depends on. Sizes are bounded by the
file's own before anything is allocated.
"""

from __future__ import annotations

import io
import math
import reprlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from brainalign_jax.language.models.weights import plain_pickle
from brainalign_jax.language.models.weights.plain_pickle import Malformed, Name, Refused
from brainalign_jax.language.models.weights.unchanged_file import UnchangedFile

_MOST_PICKLE = 64_000_000  # bytes; a model of 10,000 tensors needs two million
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


_ORDERED_DICT = Name("collections", "OrderedDict")
_TENSOR = Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = Name("torch._utils", "_rebuild_parameter")


def _is_storage_type(name: Any) -> bool:
    modules = "torch", "torch.storage"
    return isinstance(name, Name) and name.module in modules and name.name in _STORAGE_DTYPES


def _is_known(name: Name) -> bool:
    return name in (_ORDERED_DICT, _TENSOR, _PARAMETER) or _is_storage_type(name)


def _call(function: Name, arguments: tuple) -> Any:
    if function == _ORDERED_DICT:
        (pairs,) = arguments or ((),)
        return plain_pickle.pairs_to_dict(pairs)
    if function == _PARAMETER:
        tensor, *_ = arguments
        return tensor
    if function == _TENSOR:
        return _tensor(*arguments)
    raise Refused(f"a call of {function.module}.{function.name}")


def _tensor(storage, offset, size, stride, *_) -> _LazyTensor:
    if not isinstance(storage, _Storage):
        raise Malformed("a tensor without a storage")
    size, stride = tuple(size), tuple(stride)
    if not (all(map(_is_count, (offset, *size, *stride))) and len(size) == len(stride)):
        raise Malformed(f"a tensor with shape {_short(size)}, stride {_short(stride)}")
    if 0 not in size:
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if end > storage.n_elements:
            raise Malformed(
                f"a tensor of shape {size} and stride {stride} that reads element {end} of a "
                f"storage of {storage.n_elements}"
            )
        if math.prod(size) > storage.n_elements:
            raise Malformed(
                f"a tensor of shape {size} that repeats the {storage.n_elements} elements of its "
                "storage"
            )
    return _LazyTensor(storage, offset, size, stride)


def _short(value: Any) -> str:
    return reprlib.repr(value)


class _Pickles:
    """Reads the pickles of one file and keeps the storages that they refer to."""

    def __init__(self, stream: BinaryIO, end: int):
        self.stream, self.end = stream, end
        self.storages: dict[str, _Storage] = {}

    def load(self) -> Any:
        return plain_pickle.load(
            self.stream, self.end, call=_call, refer=self._storage, known=_is_known
        )

    def _storage(self, pid: Any) -> _Storage:
        if not (type(pid) is tuple and len(pid) in (5, 6) and pid[0] == "storage"):
            raise Malformed(f"an unknown reference {_short(pid)}")
        _, kind, key, _, n_elements, *view = pid
        if not _is_storage_type(kind) or not _is_count(n_elements):
            raise Malformed(f"a storage of type {_short(kind)}, length {_short(n_elements)}")
        if not isinstance(key, str | int):
            raise Malformed(f"a storage under the key {_short(key)}")
        key, dtype = str(key), _STORAGE_DTYPES[kind.name]
        root = _Storage(key, dtype, n_elements, n_elements)
        if self.storages.setdefault(key, root) != root:
            raise Malformed(f"two different storages under the key {key}")
        if view and view[0] is not None:
            _, offset, size = view[0]
            if not (_is_count(offset) and _is_count(size) and offset + size <= n_elements):
                raise Malformed(f"a view {_short(view[0])} of {n_elements} elements")
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
        not_tensors = [name for name, value in saved.items() if not isinstance(value, _LazyTensor)]
        if not_tensors:
            raise ValueError(
                f"{path} holds entries that are not tensors: {', '.join(not_tensors[:10])}; save the "
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

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of a tensor, which is not read."""
        tensor = self._tensors[name]
        return tensor.shape, tensor.storage.dtype.name

    def _open_zip(self) -> Any:
        with zipfile.ZipFile(self.path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            (pickled,) = (n for n in members if n == "data.pkl" or n.endswith("/data.pkl"))
            self._prefix = pickled.removesuffix("data.pkl")
            order = self._prefix + "byteorder"
            if order in members and _stored(members[order]).file_size > 16:
                raise Malformed("a byte order of more than 16 bytes")
            if order in members and archive.read(order) != b"little":
                raise Malformed("big-endian numbers")
            end = _stored(members[pickled]).file_size
            if end > _MOST_PICKLE:
                raise Malformed(f"a list of tensors of {end / 1e6:.0f} MB")
            pickles = _Pickles(io.BytesIO(archive.read(pickled)), end)
            saved = pickles.load()
            total = 0
            for storage in pickles.storages.values():
                size = _stored(members[f"{self._prefix}data/{storage.key}"]).file_size
                if size != storage.n_stored * storage.dtype.itemsize:
                    raise Malformed(f"storage {storage.key} has {size} bytes")
                total += size
            if total > self.path.stat().st_size:
                raise Malformed(f"storages of {total} bytes, more than the file has")
        return saved

    def _open_legacy(self, stream: BinaryIO) -> Any:
        end = self.path.stat().st_size
        pickles = _Pickles(stream, end)
        header = [pickles.load() for _ in range(3)]
        if header[:2] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL] or not isinstance(header[2], dict):
            raise Malformed("not the header of torch.save")
        if not header[2].get("little_endian", True):
            raise Malformed("big-endian numbers")
        saved = pickles.load()
        keys = [str(key) for key in pickles.load()]
        if sorted(keys) != sorted(pickles.storages):
            raise Malformed("its list of storages does not fit its tensors")
        self._starts: dict[str, int] = {}
        for key in keys:
            storage = pickles.storages[key]
            (n_elements,) = struct.unpack("<q", stream.read(8))
            self._starts[key] = stream.tell()
            stop = stream.tell() + n_elements * storage.dtype.itemsize
            if n_elements != storage.n_stored or stop > end:
                raise Malformed(f"storage {key} is cut short")
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


def _stored(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The member, if it lies in the archive as it is: torch.save never compresses."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise Malformed(
            f"{member.filename} is compressed, {member.compress_size} bytes for "
            f"{member.file_size}, which torch.save never does"
        )
    return member


class _ErrorsNameTheFile:
    """Turn whatever a damaged file makes the readers raise into a ValueError that helps."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Refused):
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
