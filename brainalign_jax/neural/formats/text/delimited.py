"""Text tables (`.csv`, `.tsv`): encoding, header, which columns hold numbers, and where one is damaged."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

MISSING = ("", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "#N/A")
_OPEN_QUOTE = (
    "holds a line break within quotes (a field that begins with a quote must be quoted, its quotes "
    "doubled; where quotes are text, give quotes=false)"
)
_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " "}
_LONGEST = 2**24  # characters of a line
_PART = 2**24  # bytes of numbers that are read at once
_PEEK_FIELDS = 2_000_000
_PEEK = 100  # rows that tell columns of numbers from columns of text


class DelimitedText:
    """A table in a text file, UTF-8 or (with a byte-order mark) UTF-16, its first line the header.

    separator: one character, or "tab", "comma", "semicolon" or "space"; None is a tab for .tsv, else a
    comma. quotes=False takes quotes as text.
    n_rows: lines that are not empty, without the header. A last line without its break gives a
    warning, as text has no other sign of being cut off. Raises ValueError naming the line that is
    not text.
    """

    def __init__(self, path: Path, *, separator: str | None = None, quotes: bool = True):
        self.path, self.quotes = path, quotes
        separator = separator or ("tab" if path.suffix.lower() == ".tsv" else "comma")
        self.separator = _SEPARATORS.get(separator, separator)
        with path.open("rb") as file:
            marked = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        self.encoding = "utf-16" if marked else "utf-8-sig"
        self.n_rows = self._count_lines() - 1

    def rows(self) -> Iterator[list[str]]:
        """The fields of every line that is not empty, the header first."""
        quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        with self.path.open(newline="", encoding=self.encoding) as file:
            try:
                reader = csv.reader(file, delimiter=self.separator, quoting=quoting)
                yield from (row for row in reader if row)
            except (csv.Error, TypeError) as error:  # TypeError: a separator of two characters
                raise ValueError(
                    f"{self.path} cannot be read as a table: {error}; the separator must be one "
                    f"character, or {', '.join(_SEPARATORS)}; where quotes are text, give quotes=false"
                ) from error

    def header(self) -> tuple[list[str], set[str]]:
        """The columns' names, and those that hold numbers: half of the first values or more."""
        names, first = self._first_rows()
        numeric = [
            sum(is_number(text) or text.strip() in MISSING for text in column) >= len(column) / 2
            for column in zip(*first, strict=True)
        ]
        numeric = numeric or [True] * len(names)  # without rows there is nothing to tell
        return names, {name for name, yes in zip(names, numeric, strict=True) if yes}

    def first_numbers(self, name: str) -> list[float]:
        """The first values of a column, NaN for what is no number."""
        names, first = self._first_rows()
        texts = [row[names.index(name)] for row in first]
        return [float(text) if is_number(text) else np.nan for text in texts]

    def first_text(self, name: str) -> tuple[str, int]:
        """The first value of a column that is neither missing nor a number, and its row."""
        names, first = self._first_rows()
        at = names.index(name)
        for number, row in enumerate(first, 1):
            if row[at].strip() not in MISSING and not is_number(row[at]):
                return row[at].strip(), number
        return "", 0

    def numbers(self, columns: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float64 [rows, columns]) of parts of a wide table, missing values as NaN.

        Raises ValueError naming the row.
        """
        rows = self.rows()
        names = next(rows, [])
        place = {name: at for at, name in enumerate(names)}
        wanted = [place[name] for name in columns]
        size = max(1, _PART // (8 * len(wanted)))
        values = (self._numbers_of(*line, names, wanted) for line in enumerate(rows, 1))
        for start in itertools.count(0, size):
            if not (part := list(itertools.islice(values, size))):
                return
            yield start, np.stack(part)

    def _numbers_of(
        self, number: int, row: list[str], names: list[str], wanted: list[int]
    ) -> np.ndarray:
        """The numbers in the places `wanted` of a row."""
        texts = [row[at] for at in wanted] if len(row) == len(names) else ["_"]
        if not any("_" in text for text in texts):
            with contextlib.suppress(ValueError):
                return np.array(texts, np.float64)
        if problem := _row_problem(number, row, names, {names[at] for at in wanted}):
            raise ValueError(
                f"{self.path} is not a complete table: {problem}; correct it or write it again"
            )
        return np.array([np.nan if text.strip() in MISSING else float(text) for text in texts])

    def _first_rows(self) -> tuple[list[str], list[list[str]]]:
        """The columns' names and the first rows that have as many fields; few of a wide table."""
        rows = self.rows()
        names = next(rows, [])
        many = min(_PEEK, max(3, _PEEK_FIELDS // max(len(names), 1)))
        return names, [row for row in itertools.islice(rows, many) if len(row) == len(names)]

    def locate(self, numbers: Sequence[str]) -> str:
        """What is wrong in the first bad row, "" if nothing is; numbers: columns that must be numeric.

        Reads the file slowly: for use after a fast reader has failed.
        """
        rows = self.rows()
        names = next(rows, [])
        wanted = set(numbers)
        for number, row in enumerate(rows, 1):
            if problem := _row_problem(number, row, names, wanted):
                return problem
        return ""

    def _count_lines(self) -> int:
        count, number, last = 0, 0, ""
        try:
            with self.path.open(encoding=self.encoding) as file:
                while line := file.readline(_LONGEST):
                    number += 1
                    if len(line) == _LONGEST:
                        raise ValueError(
                            f"{self.path}: line {number} is longer than {_LONGEST:,} characters; a row "
                            "must be a line"
                        )
                    last = line
                    if "\0" in line:
                        raise ValueError(
                            f"{self.path} holds binary data in line {number}; write it again"
                        )
                    count += line != "\n"
            if number and not last.endswith("\n"):
                warnings.warn(
                    f"{self.path} does not end with a line break: it may be cut off; if it is whole, "
                    "add one",
                    UserWarning,
                    stacklevel=5,
                )
        except UnicodeError as error:
            if self.encoding != "utf-16":  # text is decoded some lines ahead: find the line itself
                lines = self.path.read_bytes().splitlines()
                same = (line.decode(errors="ignore").encode() == line for line in lines)
                number = list(same).index(False)
            raise ValueError(
                f"{self.path} is not text in UTF-8 in line {number + 1} ({error}); save the whole "
                "file in one encoding, UTF-8"
            ) from None
        return count


def described_text(text: str, row: int) -> str:
    """What a text among numbers looks like, for messages.

    >>> described_text("1,5", 3)
    "'1,5' in row 3: decimal commas, write decimal points"
    """
    if not text:
        return ""
    described = f"{text[:40]!r} in row {row}"
    if re.fullmatch(r"[+\-−]?[\d.\s']*\d,\d+([eE][+-]?\d+)?", text):
        return f"{described}: decimal commas, write decimal points"
    if re.fullmatch(r"[+-]?\d{1,3}([\s',]\d{3})+(\.\d+)?", text):
        return f"{described}: signs between thousands, leave them out"
    if re.fullmatch(r"[−–]\s*\d.*", text):
        return f"{described}: a dash for a minus, write -"
    if re.fullmatch(r"[+-]?[\d.]+\s*[^\W\d]+|[+-]?[\d.]+\s*%", text):
        return f"{described}: a unit, write the number alone"
    if re.fullmatch(
        r"[^\w\s]+|missing|none|undefined|<na>|#\w+[/!?]*\w*[!?]*", text, re.IGNORECASE
    ):
        return f"{described}: for a missing value? write NA, or nothing"
    return described


def _row_problem(number: int, row: list[str], names: list[str], numeric: set[str]) -> str:
    """What is wrong in a row, "" if nothing is."""
    if any("\n" in text or "\r" in text for text in row):
        return f"row {number} {_OPEN_QUOTE}"
    if len(row) != len(names):
        return f"row {number} has {len(row)} fields for {len(names)} columns"
    for name, text in zip(names, row, strict=True):
        if name in numeric and text.strip() not in MISSING and not is_number(text):
            return f"column {name!r} holds {text!r} in row {number}, which is not a number"
    return ""


def is_number(text: str) -> bool:
    """Whether the text of a field is a number, as table readers take it."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
