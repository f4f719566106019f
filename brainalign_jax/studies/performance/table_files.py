"""Tables of users, as CSV, TSV, JSON or parquet: rows by name of column, bounded before they are read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import reprlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign_jax.files import Damaged, read_parquet

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".json", ".jsonl", ".parquet")
_BYTES = 2**27  # of a file, unpacked
_ROWS = 2_000_000
_MISSING = ("", "na", "n/a", "nan", "null", "none")
_COLLECTIONS = (list, tuple, dict, set, np.ndarray)


def is_table(path: Path) -> bool:
    """Whether a file has the name of a table that can be read."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """The rows of a table; names of columns without blanks around them and in lower case.

    JSON is a list of objects, one a row, or an object of lists, one a column; or, where "task" is needed,
    an object of models, each with an object of tasks and values.

    Raises: FileNotFoundError or ValueError naming the file, and the column or row that is wrong.
    """
    name = path.name.lower()
    if not path.is_file():
        raise FileNotFoundError(f"there is no table at {path}")
    if not is_table(path):
        raise ValueError(f"{path} is no table: give {', '.join(SUFFIXES)}")
    if name.endswith(".parquet"):
        rows = _of_parquet(path)
    elif name.endswith((".json", ".jsonl")):
        rows = _of_json(path, nested="task" in needed)
    else:
        rows = _of_text(path, "\t" if ".tsv" in name else ",")
    rows = rows.rename(columns=lambda column: str(column).strip().lower())
    if len(set(rows.columns)) < len(rows.columns):
        twice = rows.columns[rows.columns.duplicated()][0]
        raise ValueError(f"{path} has two columns {twice!r}: rename one")
    missing = [column for column in needed if column not in rows.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, only {', '.join(map(str, rows.columns[:12]))}: "
            f"give {', '.join(needed)}"
        )
    if rows.empty or len(rows) > _ROWS:
        raise ValueError(f"{path} has {len(rows):,} rows: give 1 to {_ROWS:,}")
    return rows.reset_index(drop=True)


def numbers(rows: pd.DataFrame, column: str, path: Path) -> list[float]:
    """A column as numbers, NaN where a row has none or there is no such column.

    Raises: ValueError naming file, column and row of what is no finite number.
    """
    if column not in rows.columns:
        return [math.nan] * len(rows)
    values = []
    for row, value in enumerate(rows[column], 1):
        number = number_of(value)
        if number is None:
            raise ValueError(
                f"{path}: {column} is {shown(value)} in row {row}: write a finite number, or leave it empty"
            )
        values.append(number)
    return values


def texts(rows: pd.DataFrame, column: str, path: Path, default: str = "") -> list[str]:
    """A column as text without blanks around it; the default where a row has none.

    Raises: ValueError naming file, column and row of a list or another collection.
    """
    if column not in rows.columns:
        return [default] * len(rows)
    kept = []
    for row, value in enumerate(rows[column], 1):
        if isinstance(value, _COLLECTIONS):
            raise ValueError(f"{path}: {column} is {shown(value)} in row {row}: write one text")
        kept.append("" if _missing(value) else str(value).strip())
    return [value or default for value in kept]


def shown(value: object) -> str:
    """A value as a message shows it: in one line, and cut where it is long."""
    return " ".join(reprlib.repr(value).split())


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises: ValueError naming it where it is too large or no JSON."""
    try:
        return json.loads(_content(path))
    except (ValueError, RecursionError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no JSON ({error}): write it again") from error


def number_of(value: Any) -> float | None:
    """A finite number, NaN for what stands for a missing one, None for anything else."""
    if isinstance(value, (bool, np.bool_, *_COLLECTIONS)):
        return None
    if _missing(value) or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isinf(number) else number


def _missing(value: Any) -> bool:
    """Whether a cell, which is no collection, is empty: None, NaN, or NA of a nullable column."""
    try:
        return value is None or value is pd.NA or bool(value != value)
    except (TypeError, ValueError):  # an object that does not compare
        return False


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends in .gz; no more than are allowed are held."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            content = file.read(_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch or write it again") from error
    if len(content) > _BYTES:
        raise ValueError(f"{path} has more than {_BYTES:,} bytes: give a table that is smaller")
    return content


def _of_parquet(path: Path) -> pd.DataFrame:
    try:
        return read_parquet(_content(path))
    except Damaged as error:
        raise ValueError(f"{path} is damaged ({error}): write it again") from error


def _of_text(path: Path, separator: str) -> pd.DataFrame:
    try:
        lines = csv.reader(
            io.StringIO(_content(path).decode("utf-8-sig"), newline=""),
            delimiter=separator,
            strict=True,
        )
        header = next(lines, [])
        rows = []
        for row, line in enumerate(lines, 1):
            if not any(cell.strip() for cell in line):
                continue
            if len(line) != len(header):
                raise ValueError(
                    f"{path}: row {row} has {len(line)} cells below {len(header)} names: correct it"
                )
            rows.append(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}): save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read ({error}): write it again") from error
    return pd.DataFrame(rows, columns=header, dtype=object)


def _of_json(path: Path, *, nested: bool) -> pd.DataFrame:
    if path.name.lower().endswith(".jsonl"):
        try:
            lines = _content(path).decode("utf-8-sig").splitlines()
            content = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path} is no JSON a line ({error}): write it again") from error
    else:
        content = read_json(path)
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return pd.DataFrame(content, dtype=object)
    if isinstance(content, dict) and content:
        columns = list(content.values())
        if all(isinstance(c, list) for c in columns) and len({len(c) for c in columns}) == 1:
            return pd.DataFrame(content, dtype=object)
        if nested and all(isinstance(of_model, dict) for of_model in columns):
            rows = [
                {"model": model, "task": task, "value": value}
                for model, of_model in content.items()
                for task, value in of_model.items()
            ]
            return pd.DataFrame(rows, columns=["model", "task", "value"], dtype=object)
    raise ValueError(
        f"{path} is no table: give a list of objects, one a row, or an object of columns of one length"
    )
