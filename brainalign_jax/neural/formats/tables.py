"""Tables of words x features, one row a word: `.csv`, `.tsv` and `.parquet` read by columns, `.npz` by
arrays. Read strictly: what is not a number where one is expected is an error with its row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import nearest
from brainalign_jax.neural.formats.arrays import ARRAY_DAMAGE
from brainalign_jax.neural.formats.delimited import MISSING, DelimitedText

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
TIMING = {"onset": "onsets", "duration": "durations", "run": "run", "sentence": "sentence"}
_BLOCK = 2**24  # bytes of a text table read at once; a row must fit in


class Items(NamedTuple):
    """words: [N]; timing: Stimulus fields that the table has, each [N]; subjects: [N] or None."""

    words: list[str]
    timing: dict[str, np.ndarray]
    subjects: list[str] | None


class ColumnTable:
    """A `.csv`, `.tsv` or `.parquet` file whose columns are words, timing and features.

    word_column: must be there. subject_column, and `onset`, `duration`, `run` and `sentence`: used
    where they are there. All other columns but drop_columns are features, if they hold numbers; a
    text file's column does where at least half of its first 100 values are numbers or missing.
    `features` and `ignored` (text) name them, in order.
    separator: of a text file; None is a comma for .csv and a tab for .tsv. quotes=False takes quotes
    as text, for files that nobody quoted.
    A word is never missing: "NA", "null" and "nan" are words. Rows count from 1, without the header.
    Raises FileNotFoundError, or ValueError naming the file and the column, row or line.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        word_column: str = "word",
        subject_column: str = "subject",
        drop_columns: Sequence[str] = (),
        separator: str | None = None,
        quotes: bool = True,
    ):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no table at {self.path}")
        self._text = None
        if self.path.suffix.lower() != ".parquet":
            self._text = DelimitedText(self.path, separator=separator, quotes=quotes)
        names, numeric = self._text.header() if self._text else _parquet_schema(self.path)
        _check_names(self.path, names, word_column, drop_columns)
        self.word_column = word_column
        kept = [name for name in names if name != word_column and name not in drop_columns]
        self.subject_column = subject_column if subject_column in kept else None
        self.timing = tuple(name for name in TIMING if name in kept)
        others = [name for name in kept if name not in (self.subject_column, *self.timing)]
        self.features = tuple(name for name in others if name in numeric)
        self.ignored = tuple(name for name in others if name not in numeric)
        if not self.features:
            raise ValueError(
                f"{self.path} has no feature columns: beside {word_column!r} and timing there are "
                f"{_listed(self.ignored) or 'none'}; add columns of numbers (with decimal points)"
            )

    def items(self) -> Items:
        """Words, timing and subjects of all rows; no feature is read."""
        subject = () if self.subject_column is None else (self.subject_column,)
        words: list[str] = []
        subjects: list[str] = []
        timing: dict[str, list[np.ndarray]] = {name: [] for name in self.timing}
        for batch in self._batches((self.word_column, *subject), self.timing):
            words += self._strings(batch, self.word_column, len(words))
            for name in subject:
                subjects += self._strings(batch, name, len(subjects))
            for name in self.timing:
                timing[name].append(self._floats(batch, name))
        if not words:
            raise ValueError(f"{self.path} has no rows: one row a word is expected")
        if self._text and len(words) != self._text.n_rows:
            place = self._text.locate(()) or "a quote is not closed; or give quotes=false"
            raise ValueError(
                f"{self.path} has {self._text.n_rows} lines below its header but {len(words)} rows: "
                f"{place}; correct it or write it again"
            )
        times = {TIMING[name]: np.concatenate(parts) for name, parts in timing.items()}
        for name in self.timing:
            finite = np.isfinite(times[TIMING[name]])
            if not finite.all():
                raise ValueError(
                    f"{self.path}: column {name!r} has no number in row {np.argmin(finite) + 1}; "
                    f"fill it in, or give drop_columns={name}"
                )
        return Items(words, times, subjects if subject else None)

    def values(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, str]:
        """Features [N, V] float32 of the rows (boolean mask over the file's rows; None: all).

        Missing values are NaN; the second result says where the first missing or infinite one is.
        """
        blocks, problem, start = [np.empty((0, len(self.features)), np.float32)], "", 0
        for batch in self._batches((), self.features):
            keep = slice(None) if rows is None else rows[start : start + batch.num_rows]
            numbers = np.arange(start, start + batch.num_rows)[keep]
            block = np.empty((len(numbers), len(self.features)), np.float32)
            with np.errstate(over="ignore"):  # the overflow is reported as infinite
                for column, name in enumerate(self.features):
                    block[:, column] = self._floats(batch, name)[keep]
            if not problem and not (finite := np.isfinite(block)).all():
                row, column = (int(index[0]) for index in np.nonzero(~finite))
                value = "no value" if np.isnan(block[row, column]) else "an infinite value"
                problem = f"column {self.features[column]!r} has {value} in row {numbers[row] + 1}"
            blocks.append(block)
            start += batch.num_rows
        return np.concatenate(blocks), problem

    def _strings(self, batch, name: str, start: int) -> list[str]:
        import pyarrow as pa

        try:
            texts = [(text or "").strip() for text in batch.column(name).cast("string").to_pylist()]
        except (pa.ArrowException, UnicodeError) as error:
            raise ValueError(
                f"{self.path}: column {name!r} is no text ({error}); write it as text"
            ) from error
        if "" in texts:
            raise ValueError(
                f"{self.path}: row {start + texts.index('') + 1} has no {name!r}; drop the row or "
                "fill it in"
            )
        return texts

    def _floats(self, batch, name: str) -> np.ndarray:
        import pyarrow as pa

        try:
            column = batch.column(name).cast("float64", safe=False)
        except pa.ArrowException as error:
            raise ValueError(
                f"{self.path}: column {name!r} does not hold numbers ({error}); correct it, or give "
                "drop_columns= with its name"
            ) from error
        return column.to_numpy(zero_copy_only=False)

    def _batches(self, strings: Sequence[str], numbers: Sequence[str]) -> Iterator:
        import pyarrow as pa
        from pyarrow import csv, parquet

        try:
            if self._text is None:
                with parquet.ParquetFile(self.path) as file:
                    yield from file.iter_batches(4096, columns=[*strings, *numbers])
                return
            types = {name: pa.string() for name in strings}
            types |= {name: pa.float64() for name in numbers}
            wide = self._text.encoding == "utf-16"
            with csv.open_csv(
                self.path,
                csv.ReadOptions(block_size=_BLOCK, encoding="utf-16" if wide else "utf8"),
                csv.ParseOptions(
                    delimiter=self._text.separator, quote_char='"' if self._text.quotes else False
                ),
                csv.ConvertOptions(
                    include_columns=list(types), column_types=types, null_values=list(MISSING)
                ),
            ) as reader:
                yield from reader
        except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
            place = self._text.locate(numbers) if self._text else ""
            raise ValueError(
                f"{self.path} is not a complete table: {place or error}; correct it or write it again"
            ) from error


class ArrayTable:
    """A `.npz` of plain arrays: `words` [N] text, `values` [N, V]; optional `onsets`, `durations`,
    `run`, `sentence` [N] and `feature_names` [V] text. Used as a `ColumnTable`; never unpickled."""

    subject_column = None
    ignored = ()
    _KNOWN = ("words", "values", "feature_names", *TIMING.values())

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._names = npz_names(self.path)
        unknown = [name for name in self._names if name not in self._KNOWN]
        missing = [name for name in ("words", "values") if name not in self._names]
        if missing or unknown:
            problem = f"has no array {missing[0]!r}" if missing else f"has an array {unknown[0]!r}"
            raise ValueError(
                f"{self.path} {problem}; expected are words, values and, optionally, "
                f"{', '.join(self._KNOWN[2:])} (or what WordResponses.save writes)"
            )

    def items(self) -> Items:
        """Words and timing of all rows."""
        words = self._read("words")
        if words.ndim != 1 or words.dtype.kind != "U" or not len(words):
            raise ValueError(
                f"{self.path}: words has shape {words.shape} and dtype {words.dtype}; give a vector "
                "of text: np.array(words, dtype=str)"
            )
        texts = [str(word).strip() for word in words]
        if "" in texts:
            raise ValueError(f"{self.path}: row {texts.index('') + 1} has no word; drop the row")
        timing = {name: self._read(name) for name in TIMING.values() if name in self._names}
        for name, value in timing.items():
            if value.shape != words.shape or value.dtype.kind not in "fiu":
                raise ValueError(
                    f"{self.path}: {name} has shape {value.shape} and dtype {value.dtype} for "
                    f"{len(words)} words; give one number a word"
                )
            if not (finite := np.isfinite(value)).all():
                row = int(np.argmin(finite))
                raise ValueError(
                    f"{self.path}: {name} is {value[row]} in row {row + 1}; fill it in"
                )
        return Items(texts, timing, None)

    def values(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, str]:
        """Features [N, V] float32 and where the first missing or infinite value is; sets `features`."""
        values = self._read("values")
        if values.ndim != 2 or values.dtype.kind not in "fiub" or 0 in values.shape:
            raise ValueError(
                f"{self.path}: values has shape {values.shape} and dtype {values.dtype}; give a "
                "matrix of numbers [words, features]"
            )
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        names = np.array([f"feature {column}" for column in range(values.shape[1])])
        if "feature_names" in self._names:
            names = self._read("feature_names")
        if names.shape != values.shape[1:] or names.dtype.kind != "U":
            raise ValueError(
                f"{self.path}: feature_names has shape {names.shape} and dtype {names.dtype} for "
                f"{values.shape[1]} features; give one text a feature"
            )
        self.features = tuple(str(name) for name in names)
        problem = ""
        if not (finite := np.isfinite(values)).all():
            row, column = (int(index[0]) for index in np.nonzero(~finite))
            problem = f"feature {self.features[column]!r} is {values[row, column]} in row {row + 1}"
        return values if rows is None else values[rows], problem

    def _read(self, name: str) -> np.ndarray:
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                array = file[name]
            if not isinstance(array, np.ndarray):  # NumPy gives the bytes of what is no array
                raise ValueError("it is no array")
            return array
        except ARRAY_DAMAGE as error:
            raise ValueError(
                f"{self.path}: {name} cannot be read ({error}): the file is truncated, damaged or "
                "pickled; write it again with np.savez and without object arrays"
            ) from error


def npz_names(path: str | Path) -> tuple[str, ...]:
    """The names of the arrays in a `.npz`. Raises FileNotFoundError, or ValueError for damage."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table at {path}")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return tuple(file.files)
    except ARRAY_DAMAGE as error:
        raise ValueError(
            f"{path} is not a .npz file, or is truncated ({error}); write it again"
        ) from error


def _parquet_schema(path: Path) -> tuple[list[str], set[str]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise ValueError(
            f"{path} is not a Parquet file, or is truncated ({error}); write it again"
        ) from error
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal)
    numeric = {field.name for field in schema if any(kind(field.type) for kind in kinds)}
    # pandas stores an index without a name under such a name.
    names = [name for name in schema.names if not re.fullmatch(r"__index_level_\d+__", name)]
    return names, numeric


def _check_names(path: Path, names: list[str], word_column: str, drop: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{path} is empty; the first line must name the columns")
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{path} has two columns {twice!r}; name each column once")
    if word_column not in names:
        raise ValueError(
            f"{path} has no column {word_column!r}; {nearest(word_column, names)}: name it with "
            "word_column=, or give separator= where the columns are not told apart"
        )
    if missing := [name for name in drop if name not in names]:
        raise ValueError(
            f"{path} has no column {missing[0]!r} to drop; {nearest(missing[0], names)}"
        )
    if "" in names and "" not in drop:
        raise ValueError(
            f"{path}: column {names.index('') + 1} has no name: an index that was written with the "
            "table? Name it, write the table without it, or give drop_columns=: for that name"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
