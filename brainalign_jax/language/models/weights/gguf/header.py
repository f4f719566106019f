"""What stands before the weights in a GGUF file: the metadata, and each tensor's shape, type and place.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. A file is
foreign text: no count is trusted before the bytes that it stands for are known to be there. The package
`gguf` says how many bytes a quantised block takes.
"""

from __future__ import annotations

import functools
import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

SUFFIX = ".gguf"
_MOST_FIELDS, _MOST_TENSORS, _MOST_AXES = 100_000, 1_000_000, 4
_MOST_BYTES = 1 << 26  # of all that stands before the weights; 8 MB are usual
_MOST_ITEMS = 1 << 21  # of a list; long vocabularies have 262,144, and twice as many merges
_SCALARS = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_ALIGNMENT = "general.alignment"


class Place(NamedTuple):
    """A tensor: shape, slowest axis first; number of its type in GGML; where its bytes are."""

    shape: tuple[int, ...]
    kind: int
    start: int
    n_bytes: int


class Header(NamedTuple):
    """fields: the metadata by name; tensors: name -> where it lies."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Place]


def is_gguf(path: str | Path) -> bool:
    """Whether a checkpoint is one GGUF file, not a folder."""
    return str(path).endswith(SUFFIX)


def package(path: Path) -> Any:
    """The package `gguf`; ImportError, with the extra to install, where it is not there."""
    try:
        import gguf
    except ImportError as error:
        raise ImportError(
            f"{path} is a GGUF file, which needs gguf: pip install 'brainalign_jax[gguf]'"
        ) from error
    return gguf


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises: ValueError, with the file and the remedy, where it is none, is truncated or damaged, is one
      part of several, or has weights of a type that is not known.
    """
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(path: Path, size: int, _written: int) -> Header:
    sizes = package(path).GGML_QUANT_SIZES
    with path.open("rb") as file:
        magic = file.read(8)
        if magic[:4] != b"GGUF" or len(magic) < 8:
            raise ValueError(f"{path} is no GGUF file, whatever its name says; give another file.")
        (version,) = struct.unpack("<I", magic[4:])
        if version not in (2, 3):
            raise ValueError(
                f"{path} is GGUF of version {version if version < 1 << 16 else 'big-endian'}; "
                "versions 2 and 3, little-endian, are read: convert the model again."
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Parser(path, content, size).header({int(k): v for k, v in sizes.items()})


class _Parser:
    """Reads one thing after another from the beginning of a file."""

    def __init__(self, path: Path, content: mmap.mmap, size: int):
        self.path, self.content, self.size, self.at = path, content, size, 8

    def header(self, block_sizes: dict[int, tuple[int, int]]) -> Header:
        n_tensors, n_fields = self._numbers("QQ")
        self._bound(n_tensors, _MOST_TENSORS, 24, "tensors")
        self._bound(n_fields, _MOST_FIELDS, 12, "fields")
        fields: dict[str, Any] = {}
        for _ in range(n_fields):
            name = self._text()
            if name in fields:
                raise self._damaged(f"the field {name[:80]!r} is there twice")
            fields[name] = self._value(self._numbers("I")[0], name)
        n_parts = fields.get("split.count", 1)
        if not isinstance(n_parts, int):
            raise self._damaged(f"split.count is {str(n_parts)[:40]!r}, no whole number")
        if n_parts > 1:
            raise ValueError(
                f"{self.path} is one of {n_parts} parts of a model; make one file of "
                "them with `llama-gguf-split --merge`."
            )
        tensors: dict[str, Place] = {}
        for _ in range(n_tensors):
            name = self._text()
            if name in tensors:
                raise self._damaged(f"the tensor {name[:80]!r} is there twice")
            tensors[name] = self._place(name, block_sizes)
        alignment = fields.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"{_ALIGNMENT} is {alignment!r}")
        first = -(-self.at // alignment) * alignment
        placed = {}
        for name, place in tensors.items():
            placed[name] = place._replace(start=first + place.start)
            if placed[name].start + place.n_bytes > self.size:
                raise self._damaged(f"it ends within the tensor {name[:80]!r}")
        return Header(self.path, fields, placed)

    def _place(self, name: str, block_sizes: dict[int, tuple[int, int]]) -> Place:
        (n_axes,) = self._numbers("I")
        if not 1 <= n_axes <= _MOST_AXES:
            raise self._damaged(f"the tensor {name[:80]!r} has {n_axes} axes")
        shape = self._numbers("Q" * n_axes)[::-1]
        kind, start = self._numbers("IQ")
        if kind not in block_sizes:
            raise ValueError(
                f"{self.path}: the tensor {name[:80]!r} has weights of the type {kind}, which this "
                "version of gguf does not know: pip install --upgrade gguf."
            )
        per_block, block_bytes = block_sizes[kind]
        if min(shape) < 1 or shape[-1] % per_block:
            raise self._damaged(f"the tensor {name[:80]!r} has the shape {shape}")
        return Place(shape, kind, start, math.prod(shape) // per_block * block_bytes)

    def _value(self, kind: int, name: str) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _LIST:
            return self._numbers(self._scalar(kind, name))[0]
        item, count = self._numbers("IQ")
        if item == _STRING:
            self._bound(count, _MOST_ITEMS, 8, f"strings of {name[:80]!r}")
            return [self._text() for _ in range(count)]
        letter = self._scalar(item, name)
        self._bound(count, _MOST_ITEMS, struct.calcsize(letter), f"items of {name[:80]!r}")
        return list(self._numbers(f"{count}{letter}"))

    def _scalar(self, kind: int, name: str) -> str:
        letter = _SCALARS.get(kind)
        if letter is None:
            raise self._damaged(f"the field {name[:80]!r} has a value of the type {kind}")
        return letter

    def _numbers(self, letters: str) -> tuple:
        layout = struct.Struct(f"<{letters}")
        begin = self._step(layout.size)
        return layout.unpack_from(self.content, begin)

    def _text(self) -> str:
        (length,) = self._numbers("Q")
        begin = self._step(length)
        return self.content[begin : begin + length].decode("utf-8", "replace")

    def _step(self, count: int) -> int:
        """Where the next `count` bytes begin; they are there."""
        begin = self.at
        if count > min(self.size, _MOST_BYTES) - begin:
            raise self._damaged("it ends within its header")
        self.at = begin + count
        return begin

    def _bound(self, count: int, most: int, least_bytes: int, what: str) -> None:
        if count > most or count * least_bytes > self.size - self.at:
            raise self._damaged(f"it claims {count} {what}")

    def _damaged(self, said: str) -> ValueError:
        return ValueError(f"{self.path} is truncated or corrupt ({said}). Download it again.")
