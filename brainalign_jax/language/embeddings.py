"""The word vectors of a model: the values, what they are rows of, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from brainalign_jax.files import new_file, user_path

_FORMAT = "brainalign_jax.Embeddings.1"
FERTILITY = "fertility"  # in meta: mean sub-tokens of a word token, no part of fingerprints


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The word vectors of one model, all layers. Arrays are copied and made read-only.

    model: its name as asked for.
    types: the T words of the rows: word types, or the presented words where meta["level"] is
        "token".
    values: [L, T, D] float32; layer 0 is the embedding output, layer l the output of block l.
    final: [T, D_final] float32, the last layer where it has another width (opt-350m), else None.
    meta: JSON-serialisable; family, n_params, n_layers (blocks), revision, weights (fingerprint),
        tokenizer, pooling, context, window, last, lower, level, fertility (mean number of sub-tokens of a
        word token), and more.
    surprisal: [N] float32, of every word of the stimulus in nats (over ln 2: bits), NaN where it is
        not defined; None where it was not asked for.

    Raises ValueError for shapes that disagree, values that are not finite, repeated types.

    >>> import brainalign_jax as ba
    >>> vectors = ba.Embeddings("mine", ("sun", "moon"), [[[0.1, 0.7, 0.3], [0.4, 0.2, 0.6]]])
    >>> path = vectors.save("mine.npz")
    >>> ba.Embeddings.load(path).values.shape
    (1, 2, 3)
    """

    model: str
    types: tuple[str, ...]
    values: Float[np.ndarray, "L T D"]
    final: Float[np.ndarray, "T D_final"] | None = None
    meta: dict = field(default_factory=dict)
    surprisal: Float[np.ndarray, " N"] | None = None

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
        surprisal = self.surprisal
        if surprisal is not None:
            n_words = len(types) if meta.get("level") == "token" else "N"
            surprisal = _frozen("surprisal", surprisal, (n_words,), undefined=True)
        for name, value in (
            ("types", types),
            ("values", values),
            ("final", final),
            ("meta", meta),
            ("surprisal", surprisal),
        ):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """One line: of which model, and their sizes."""
        sizes = "{} layers x {} words x {}".format(*self.values.shape)
        final = "" if self.final is None else f" + 1 x {self.final.shape[1]}"
        return f"Embeddings({self.model!r}, {sizes}{final}, {self.values.dtype})"

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

    def arrays(self) -> dict[str, np.ndarray]:
        """values, final and surprisal, those that are there, by name."""
        named = ("values", self.values), ("final", self.final), ("surprisal", self.surprisal)
        return {name: array for name, array in named if array is not None}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over model, types, arrays and meta, but not its fertility, a later addition."""
        digest = hashlib.sha256(_FORMAT.encode())
        known = {name: value for name, value in self.meta.items() if name != FERTILITY}
        digest.update(self._header(known).encode())
        for array in self.arrays().values():
            digest.update(np.ascontiguousarray(array, "<f4"))
        return digest.hexdigest()

    def _header(self, meta: dict) -> str:
        header = {
            "format": _FORMAT,
            "model": self.model,
            "types": self.types,
            "shape": self.values.shape,
            "final_shape": None if self.final is None else self.final.shape,
            "meta": meta,
        }
        if self.surprisal is not None:  # fingerprints of the others stay as they were
            header["surprisal_shape"] = self.surprisal.shape
        return json.dumps(header, sort_keys=True)

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` file, completely or not at all; returns its path."""
        path = user_path(path, "path", "a file")
        if path.suffix != ".npz":
            raise ValueError(f"{path} does not end in .npz; give a path that does")
        header = np.frombuffer(self._header(self.meta).encode(), np.uint8)
        with new_file(path) as file:
            np.savez(file, header=header, **self.arrays())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for any other file."""
        path = user_path(path, "path", "a file")
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; embed the stimulus and save it there")
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes().decode())
                if header["format"] != _FORMAT:
                    raise ValueError(f"its format is {header['format']!r}")
                final, surprisal = (
                    file[name] if name in file.files else None for name in ("final", "surprisal")
                )
                types = tuple(header["types"])
                return cls(header["model"], types, file["values"], final, header["meta"], surprisal)
        except Exception as error:
            raise ValueError(
                f"{path} is not a file of Embeddings ({error}); write it with Embeddings.save"
            ) from error


def _frozen(name: str, value, shape: tuple, *, undefined: bool = False) -> np.ndarray:
    """A read-only float32 copy; undefined: whether it may hold NaN."""
    array = np.array(value, np.float32)
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or 0 in array.shape:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"{name} has shape {array.shape}; expected [{expected}], not empty")
    wrong = np.isinf(array) if undefined else ~np.isfinite(array)
    if wrong.any():
        row = np.argwhere(wrong)[0]
        raise ValueError(
            f"{name}{row.tolist()} is {array[tuple(row)]}; the checkpoint is broken, or its numbers "
            "overflow in the precision used (load it as float32)"
        )
    array.flags.writeable = False
    return array
