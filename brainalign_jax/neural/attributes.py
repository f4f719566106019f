"""Attributes of items from a table of the user's: norms by word, or a value a row of the data set."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.attributes import LONGEST, MOST, check_name, known
from brainalign_jax.files import user_path
from brainalign_jax.neural import norms
from brainalign_jax.neural.formats.text.delimited import (
    MISSING,
    DelimitedText,
    described_text,
    is_number,
)
from brainalign_jax.stimulus import Stimulus, clean_word

SUFFIXES = (".csv", ".tsv")
_KEYS = ("row", "word")
_BYTES = 2**28  # of a file
_FIELDS = 20_000_000  # rows times columns


def join_attributes(
    stimulus: Stimulus, path: str | os.PathLike
) -> tuple[Stimulus, dict[str, float]]:
    """The stimulus with the attributes of a table, and the share of its words that each is known of.

    Args:
      path: a `.csv` or `.tsv`, its first line the header. A column "word" (in any case) says whose values a
        row holds: all tokens of that word type, cleaned and whatever its case. Or a column "row" does, of
        the data set from 1; a column "word" beside it is then held against the words. Every other column
        is an attribute, in place of one of that name; blanks and dots in its name become _. A column is
        of numbers where half of its values or more are numbers. NA, nan and the like are unknown.

    Raises: FileNotFoundError, or ValueError naming the file, row and column.
    """
    path = user_path(path, "attributes", "a .csv or .tsv file")
    names, rows = _read(path)
    places = {name.strip().casefold(): at for at, name in enumerate(names)}
    if len(places) < len(names):
        folded = [name.strip().casefold() for name in names]
        twice = next(name for name in folded if folded.count(name) > 1)
        raise ValueError(f"{path} has two columns named {twice!r}: rename or remove one")
    keys = [key for key in _KEYS if key in places]
    if not keys:
        raise ValueError(
            f"{path} has no column named word or row, but {', '.join(names[:8])}: name the one that says "
            "whose values a row holds"
        )
    others = [at for name, at in places.items() if name not in _KEYS]
    chosen = {_attribute_name(names[at], path): at for at in others}
    if len(chosen) < len(others):
        raise ValueError(f"{path} has columns that differ in blanks and dots only: rename one")
    if not chosen or len(chosen) > MOST:
        raise ValueError(
            f"{path} has {len(chosen)} columns beside {' and '.join(keys)}: give 1 to {MOST} attributes"
        )
    if keys[0] == "row":
        source = _by_row(stimulus, rows, places, path)
    else:
        source = _by_word(stimulus, rows, places["word"], list(chosen.values()), path)
    joined, coverage = {}, {}
    for name, at in chosen.items():
        values = _column([row[at].strip() for row in rows], name, path)
        unknown = np.full(1, np.nan) if values.dtype.kind == "f" else np.zeros(1, values.dtype)
        joined[name] = np.concatenate([values, unknown])[source]  # -1 is the last one
        coverage[name] = float(known(joined[name]).mean())
        if not coverage[name]:
            raise ValueError(
                f"{path}: column {name!r} is known of none of the {len(stimulus)} words: are it and the "
                f"column {keys[0]!r} those that were meant?"
            )
    return stimulus.with_attributes(**joined), coverage


def split_attributes(text: str) -> tuple[str, ...]:
    """The tables and names of norms in a text, between commas but for those in the name of a file."""
    if Path(text).expanduser().is_file():
        return (text,)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def joined_attributes(
    stimulus: Stimulus, sources: str | os.PathLike | Sequence[str | os.PathLike]
) -> tuple[Stimulus, dict[str, Any]]:
    """The stimulus with the attributes of tables and of norms by name, later ones in place of earlier ones.

    sources: a table or several, as of `join_attributes`, or names as of `norms.read_norms`.

    Returns: the stimulus, and what a data set's meta says: "file", the tables; "norms", where they are from;
      "known_of", attribute -> share of the words.

    Raises: as `join_attributes` and `norms.read_norms`.
    """
    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    names = [source for source in several if isinstance(source, str) and norms.is_norm(source)]
    tables = [source for source in several if source not in names]
    coverage: dict[str, float] = {}
    about: dict[str, object] = {}
    if names:
        rated = norms.read_norms(stimulus, names)
        stimulus = stimulus.with_attributes(**rated.values)
        coverage |= {name: float(known(values).mean()) for name, values in rated.values.items()}
        about["norms"] = list(rated.sources)
    for table in tables:
        stimulus, covered = join_attributes(stimulus, table)
        coverage |= covered
    if tables:
        about["file"] = ", ".join(Path(table).name for table in tables)
    return stimulus, {**about, "known_of": coverage}


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The columns' names and the rows of a table."""
    if not path.is_file():
        named = "" if path.suffix else f"; norms by name are {', '.join(norms.NAMES)}"
        raise FileNotFoundError(f"there is no table of attributes at {path}{named}")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no table of attributes: give a .csv or .tsv file")
    if path.stat().st_size > _BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes: give a table of at most {_BYTES:,}"
        )
    table = DelimitedText(path)
    lines = table.rows()
    names = next(lines, [])
    if table.n_rows * len(names) > _FIELDS:
        raise ValueError(
            f"{path} has {table.n_rows:,} rows of {len(names)} columns: leave out what is not needed, up to "
            f"{_FIELDS:,} fields"
        )
    rows = []
    for number, row in enumerate(lines, 1):
        if len(row) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(row)} fields for {len(names)} columns; correct it"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows below its header: give a value a word")
    return names, rows


def _attribute_name(column: str, path: Path) -> str:
    try:
        return check_name(column.strip().replace(" ", "_").replace(".", "_"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _by_row(
    stimulus: Stimulus, rows: Sequence[Sequence[str]], places: dict[str, int], path: Path
) -> np.ndarray:
    """Which row [N] of the table each token has, -1 for none."""
    source = np.full(len(stimulus), -1)
    for number, row in enumerate(rows):
        text = row[places["row"]].strip()
        if not text.isdecimal() or len(text) > 12 or not 1 <= int(text) <= len(stimulus):
            raise ValueError(
                f"{path}: column 'row' holds {text[:40]!r} in row {number + 1}; rows of the data set count "
                f"from 1 to {len(stimulus)}"
            )
        token = int(text) - 1
        if source[token] >= 0:
            raise ValueError(
                f"{path}: rows {source[token] + 1} and {number + 1} are both of row {text}; keep one"
            )
        source[token] = number
        if "word" in places and _folded(row[places["word"]]) != _folded(stimulus.words[token]):
            raise ValueError(
                f"{path}: column 'word' holds {row[places['word']][:40]!r} in row {number + 1}, where row "
                f"{text} of the data set is {stimulus.words[token][:40]!r}; rows count from 1, in the data "
                "set's order"
            )
    return source


def _by_word(
    stimulus: Stimulus,
    rows: Sequence[Sequence[str]],
    place: int,
    columns: Sequence[int],
    path: Path,
) -> np.ndarray:
    """Which row [N] of the table each token has, -1 for none."""
    number_of: dict[str, int] = {}
    for number, row in enumerate(rows):
        word = _folded(row[place])
        if not word:
            raise ValueError(
                f"{path}: column 'word' holds {row[place][:40]!r} in row {number + 1}, which is no word; "
                "leave the row out"
            )
        first = number_of.setdefault(word, number)
        differs = [at for at in columns if rows[first][at].strip() != row[at].strip()]
        if differs:
            raise ValueError(
                f"{path}: rows {first + 1} and {number + 1} are both of the word {word!r} and differ in "
                f"column {differs[0] + 1}; keep one"
            )
    return np.array([number_of.get(_folded(word), -1) for word in stimulus.words])


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", clean_word(word).casefold())


def _column(texts: Sequence[str], name: str, path: Path) -> np.ndarray:
    """The values of a column, numbers or text."""
    present = [text for text in texts if text not in MISSING]
    if sum(map(is_number, present)) < len(present) / 2:
        long = next((number for number, text in enumerate(texts, 1) if len(text) > LONGEST), None)
        if long is not None:
            raise ValueError(
                f"{path}: column {name!r} has {len(texts[long - 1])} characters in row {long}; shorten it "
                f"to at most {LONGEST}"
            )
        return np.array(["" if text in MISSING else text for text in texts], str)
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        if text in MISSING:
            continue
        values[row] = float(text) if is_number(text) else np.inf
        if not np.isfinite(values[row]):
            raise ValueError(
                f"{path}: column {name!r} of numbers holds {described_text(text, row + 1)}; correct it, or "
                "leave it empty where it is unknown"
            )
    return values
