"""Text tables (`.csv`, `.tsv`): encoding, header, which columns hold numbers, and where one is damaged."""

from __future__ import annotations

import csv
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
        rows = self.rows()
        names = next(rows, [])
        first = [row for row, _ in zip(rows, range(_PEEK), strict=False) if len(row) == len(names)]
        numeric = [
            np.mean([is_number(text) or text.strip() in MISSING for text in column]) >= 0.5
            for column in zip(*first, strict=True)
        ]
        numeric = numeric or [True] * len(names)  # without rows there is nothing to tell
        return names, {name for name, yes in zip(names, numeric, strict=True) if yes}

    def locate(self, numbers: Sequence[str]) -> str:
        """What is wrong in the first bad row, "" if nothing is; numbers: columns that must be numeric.

        Reads the file slowly: for use after a fast reader has failed.
        """
        rows = self.rows()
        names = next(rows, [])
        wanted = set(numbers)
        for number, row in enumerate(rows, 1):
            if any("\n" in text or "\r" in text for text in row):
                return f"row {number} {_OPEN_QUOTE}"
            if len(row) != len(names):
                return f"row {number} has {len(row)} fields for {len(names)} columns"
            for name, text in zip(names, row, strict=True):
                if name in wanted and text.strip() not in MISSING and not is_number(text):
                    return f"column {name!r} holds {text!r} in row {number}, which is not a number"
        return ""

    def _count_lines(self) -> int:
        count, number = 0, 0
        try:
            with self.path.open(encoding=self.encoding) as file:
                for number, line in enumerate(file, 1):
                    if "\0" in line:
                        raise ValueError(
                            f"{self.path} holds binary data in line {number}; write it again"
                        )
                    count += line != "\n"
            if number and not line.endswith("\n"):
                warnings.warn(
                    f"{self.path} does not end with a line break: it may be cut off; if it is whole, "
                    "add one",
                    UserWarning,
                    stacklevel=5,
                )
        except UnicodeError as error:
            if self.encoding != "utf-16":  # text is decoded some lines ahead: find the line itself
                lines = self.path.read_bytes().splitlines()
                number = next(i for i, line in enumerate(lines) if not _is_utf8(line))
            raise ValueError(
                f"{self.path} is not text in UTF-8 in line {number + 1} ({error}); save the whole "
                "file in one encoding, UTF-8"
            ) from None
        return count


def is_number(text: str) -> bool:
    """Whether the text of a field is a number, as table readers take it."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
