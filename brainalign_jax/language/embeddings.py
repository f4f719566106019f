"""The word vectors of a model: the values, what they are rows of, and how they were made."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_FORMAT = "brainalign_jax.Embeddings.1"


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The word vectors of one model, all layers. Arrays are copied and made read-only.

    model: its name as asked for.
    types: the T words of the rows: word types, or the presented words where meta["level"] is
        "token".
    values: [L, T, D] float32; layer 0 is the embedding output, layer l the output of block l.
    final: [T, D_final] float32, the last layer where it has another width (opt-350m), else None.
    meta: JSON-serialisable; family, n_params, n_layers (blocks), revision, weights (fingerprint),
        tokenizer, pooling, context, window, last, lower, level, and more.

    Raises ValueError for shapes that disagree, values that are not finite, repeated types.
    """

    model: str
    types: tuple[str, ...]
    values: np.ndarray
    final: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        types = tuple(str(word) for word in self.types)
        values = _frozen("values", self.values, ("L", len(types), "D"))
        final = self.final
        if final is not None:
            final = _frozen("final", final, (len(types), "D_final"))
        if self.meta.get("level") == "type" and len(set(types)) < len(types):
            repeated = next(word for word in types if types.count(word) > 1)
            raise ValueError(f"type {repeated!r} is repeated; at level 'type' a word has one row")
        try:
            meta = json.loads(json.dumps(self.meta))
        except (TypeError, ValueError) as error:
            raise ValueError(f"meta must be JSON-serialisable: {error}") from error
        for name, value in (("types", types), ("values", values), ("final", final), ("meta", meta)):
            object.__setattr__(self, name, value)

    @property
    def n_states(self) -> int:
        """Number of layers, `final` included."""
        return len(self.values) + (self.final is not None)

    def blocks(self) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """(layer indices, values [l, T, D]) of layers of equal width; together all layers."""
        if len(self.values):
            yield tuple(range(len(self.values))), self.values
        if self.final is not None:
            yield (len(self.values),), self.final[None]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over model, types, values and meta."""
        digest = hashlib.sha256(_FORMAT.encode())
        digest.update(self._header().encode())
        for array in (self.values, self.final):
            if array is not None:
                digest.update(np.ascontiguousarray(array, "<f4"))
        return digest.hexdigest()

    def _header(self) -> str:
        header = {
            "format": _FORMAT,
            "model": self.model,
            "types": self.types,
            "shape": self.values.shape,
            "final_shape": None if self.final is None else self.final.shape,
            "meta": self.meta,
        }
        return json.dumps(header, sort_keys=True)

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` file, completely or not at all; returns its path."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"{path} does not end in .npz; give a path that does")
        arrays = {"header": np.frombuffer(self._header().encode(), np.uint8), "values": self.values}
        if self.final is not None:
            arrays["final"] = self.final
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            # mkstemp makes the file private; give it the mode of any new file.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return path

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for any other file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; embed the stimulus and save it there")
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes().decode())
                if header["format"] != _FORMAT:
                    raise ValueError(f"its format is {header['format']!r}")
                final = file["final"] if "final" in file.files else None
                return cls(
                    header["model"], tuple(header["types"]), file["values"], final, header["meta"]
                )
        except Exception as error:
            raise ValueError(
                f"{path} is not a file of Embeddings ({error}); write it with Embeddings.save"
            ) from error


def _frozen(name: str, value, shape: tuple) -> np.ndarray:
    array = np.array(value, np.float32)
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or 0 in array.shape:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"{name} has shape {array.shape}; expected [{expected}], not empty")
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{name}{row.tolist()} is {array[tuple(row)]}; the checkpoint is broken, or its numbers "
            "overflow in the precision used (load it as float32)"
        )
    array.flags.writeable = False
    return array
