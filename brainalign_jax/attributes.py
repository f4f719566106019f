"""What is known of the items of a stimulus, by name: concreteness, topic, passage; one value a word token."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np

NAMES = re.compile(r"[^\W\d][\w-]{0,63}")
MOST = 256  # attributes of a stimulus
LONGEST = 200  # characters of a text


class Attributes(Mapping):
    """Name -> values [N], read-only: float64 with NaN where unknown, or text with "" where unknown.

    given: name -> N numbers, or N texts; None and NaN among either are unknown values. Names are letters,
      digits, _ and -, begin with a letter or _, and have at most 64 characters; texts have at most 200.

    Raises: ValueError naming the attribute for another length, a mixture of numbers and text, infinite
      numbers, or a name or text that is too long.
    """

    def __init__(self, given: Mapping[str, object] | None, n: int):
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(
                f"attributes is a {type(given).__name__}; give a mapping of names to values"
            )
        if given is not None and len(given) > MOST:
            raise ValueError(f"there are {len(given)} attributes; give at most {MOST}")
        self._values = MappingProxyType(
            {check_name(name): _checked(name, values, n) for name, values in (given or {}).items()}
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Attributes({', '.join(self) or 'none'})"

    def __reduce__(self):
        n = len(next(iter(self._values.values()))) if self._values else 0
        return Attributes, (dict(self._values), n)

    def digest(self) -> bytes:
        """SHA-256 over names and values, in any order of the names; all NaN count alike."""
        digest = hashlib.sha256()
        for name in sorted(self):
            values = self[name]
            for text in (name, values.dtype.kind, *(values if is_text(values) else ())):
                data = str(text).encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
            if not is_text(values):
                # Adding zero turns -0.0 into 0.0.
                digest.update(
                    np.where(np.isnan(values), np.nan, values + 0).astype("<f8").tobytes()
                )
        return digest.digest()


def is_text(values: np.ndarray) -> bool:
    """Whether the values of an attribute are text."""
    return values.dtype.kind == "U"


def known(values: np.ndarray) -> np.ndarray:
    """[N] bool: where an attribute has a value."""
    return values != "" if is_text(values) else ~np.isnan(values)


def check_name(name: object) -> str:
    """The name of an attribute. Raises ValueError where it cannot be one."""
    if not isinstance(name, str) or not NAMES.fullmatch(name):
        raise ValueError(
            f"an attribute cannot be named {str(name)[:80]!r}: use letters, digits, _ and -, a letter or _ "
            "first, at most 64"
        )
    return name


def _checked(name: str, values: Any, n: int) -> np.ndarray:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise ValueError(f"attribute {name!r} is {str(values)[:80]!r}; give one value a word")
    if not isinstance(values, np.ndarray):
        values = np.fromiter(values, object, len(values))
    if values.shape != (n,):
        size = f"{len(values)} values" if values.ndim == 1 else f"shape {values.shape}"
        raise ValueError(f"attribute {name!r} has {size} for {n} words; give one value a word")
    if values.dtype.kind in "OT":
        values = _of_objects(name, values)
    if values.dtype.kind == "U":
        letters = np.char.str_len(values)
        if letters.max(initial=0) > LONGEST:
            row = int(letters.argmax())
            raise ValueError(
                f"attribute {name!r} has {letters[row]} characters in row {row + 1}; shorten it to at most "
                f"{LONGEST}"
            )
        checked = values.astype(f"U{max(1, letters.max(initial=0))}")
    elif values.dtype.kind in "fiub":
        checked = values.astype(np.float64)
        if np.isinf(checked).any():
            row = int(np.isinf(checked).argmax())
            raise ValueError(
                f"attribute {name!r} is {checked[row]} in row {row + 1}; give a finite number, or NaN where "
                "it is unknown"
            )
    else:
        raise ValueError(f"attribute {name!r} has dtype {values.dtype}; give numbers or text")
    checked.flags.writeable = False
    return checked


def _is_missing(value: object) -> bool:
    """Whether a value is None, NaN or the missing value of pandas."""
    return value is None or str(value) == "<NA>" or (isinstance(value, Real) and value != value)


def _of_objects(name: str, values: np.ndarray) -> np.ndarray:
    """Objects [N] as numbers or as text; None, NaN and missing values of pandas are unknown."""
    unknown = [_is_missing(value) for value in values]
    kinds = {
        isinstance(value, str) for value, gone in zip(values, unknown, strict=True) if not gone
    }
    if len(kinds) > 1:
        first = isinstance(values[unknown.index(False)], str)
        row = next(
            row
            for row, value in enumerate(values)
            if not unknown[row] and isinstance(value, str) != first
        )
        raise ValueError(
            f"attribute {name!r} has numbers and text: row {row + 1} is {str(values[row])[:80]!r}; give one "
            "or the other"
        )
    if kinds == {True}:
        texts = ["" if gone else value for value, gone in zip(values, unknown, strict=True)]
        wrong = [row for row, text in enumerate(texts) if len(text) > LONGEST or "\0" in text]
        if wrong:
            row = wrong[0]
            raise ValueError(
                f"attribute {name!r} has {len(texts[row])} characters or a NUL in row {row + 1}; give plain "
                f"text of at most {LONGEST}"
            )
        return np.array(texts, str)
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if unknown[row]:
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"attribute {name!r} is of type {type(value).__name__} in row {row + 1}; give numbers or text"
            ) from None
    return numbers
