"""Tables of words x features, one row a word: `.csv`, `.tsv` and `.parquet` read by columns, `.npz` by
arrays. Read strictly: what is not a number where one is expected is an error with its row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.neural.formats.arrays import (
    ARRAY_DAMAGE,
    Offsets,
    as_float32,
    check_size,
    offsets_of,
    read_npz,
)
from brainalign_jax.neural.formats.text.columns import (
    FIELDS,
    check_features,
    check_order,
    counts_rows,
    may_be_index,
    selected,
    shown,
    sort_columns,
    without_dropped,
)
from brainalign_jax.neural.formats.text.delimited import MISSING, DelimitedText, described_text

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
_BLOCK = 2**24  # bytes of a text table read at once; a row must fit in
_WIDE = 4096  # columns that Arrow reads at once; each takes some kilobytes of its own
# Arrow takes numbers with blanks around them, but not what stands for a missing one.
_NULLS = [before + text + after for text in MISSING for before in ("", " ") for after in ("", " ")]
_LISTED = 20  # columns of text that messages name
_WORD = 120  # bytes that a word or a subject's name takes in memory, twice


class Items(NamedTuple):
    """words: [N]; timing: `FIELDS` that the table has, each [N]; subjects: [N] or None."""

    words: list[str]
    timing: dict[str, np.ndarray]
    subjects: list[str] | None


class Values(NamedTuple):
    """values: [N, V] float32; problem: where the first missing or infinite one is, "" without; centred:
    whether the columns were centred, as float32 could not hold their differences else."""

    values: np.ndarray
    problem: str
    centred: bool


class ColumnTable:
    """A `.csv`, `.tsv` or `.parquet` file whose columns are words, timing and features.

    word_column: must be there. subject_column, and the columns of `FIELDS` (`onset`, `run`, ...): used
    where they are there; names count without blanks around them and in any case. All other columns but
    drop_columns are features, if they hold numbers and their names are not those of a time, run, subject
    or row number; a text file's column does where at least half of its first 100 values are numbers or
    missing. feature_columns: names or patterns of the only columns that are features, whatever they
    look like. `features`, `ignored` (text) and `index` (row numbers that were written with the table)
    name them, in order; `looks` says what the first columns of text hold.
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
        feature_columns: Sequence[str] | None = None,
        separator: str | None = None,
        quotes: bool = True,
    ):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no table at {self.path}")
        self._text = None
        if self.path.suffix.lower() != ".parquet":
            self._text = DelimitedText(self.path, separator=separator, quotes=quotes)
            names, numeric = self._text.header()
            self._n_rows = max(self._text.n_rows, 0)
        else:
            names, numeric, self._n_rows = _parquet_schema(self.path)
        columns = sort_columns(
            self.path,
            names,
            word_column=word_column,
            subject_column=subject_column,
            drop_columns=drop_columns,
            feature_columns=feature_columns,
        )
        self.word_column, self.subject_column = columns.word, columns.subject
        self._timing = columns.timing
        self.timing = tuple(columns.timing)
        numbers = [name for name in columns.others if name in numeric]
        text = [name for name in columns.others if name not in numeric]
        index: list[str] = []
        if not columns.named:
            index = [name for name in numbers if may_be_index(name) and self._is_index(name)]
            numbers = [name for name in numbers if name not in index]
            check_features(self.path, numbers)
        elif text:
            raise ValueError(
                f"{self.path}: column {shown(text[0])!r} is to be a feature and holds "
                f"{self._looks(text[0])}; write numbers with decimal points"
            )
        self._n_columns = len(names)
        self._named, self._columns = columns.named, tuple(numbers)
        self.features = tuple(map(shown, numbers))
        self.index = tuple(shown(name) or "without a name" for name in index)
        self.ignored = tuple(map(shown, text))
        self.looks = {shown(name): self._looks(name) for name in text[:_LISTED]}
        if not self.features:
            raise ValueError(
                f"{self.path} has no feature columns: beside {word_column!r} and timing there are "
                f"{_listed(self.ignored, self.looks) or 'none'}; add columns of numbers (with decimal points)"
            )

    def items(self) -> Items:
        """Words, timing and subjects of all rows; no feature is read."""
        strings = [name for name in (self.word_column, self.subject_column) if name is not None]
        check_size(
            self.path, self._n_rows * (8 * len(self._timing) + _WORD * len(strings)), "its words"
        )
        self._check_packing((*strings, *self._timing.values()))
        texts: dict[str, list[str]] = {name: [] for name in strings}
        timing: dict[str, list[np.ndarray]] = {name: [] for name in self.timing}
        for batch in self._batches(strings, tuple(self._timing.values())):
            for name, column_texts in texts.items():
                column_texts += self._strings(batch, name, len(column_texts))
            for name, column in self._timing.items():
                timing[name].append(self._floats(batch, column))
        words = texts[self.word_column]
        if not words:
            raise ValueError(f"{self.path} has no rows: one row a word is expected")
        if self._text and len(words) != self._text.n_rows:
            place = self._text.locate(()) or "a quote is not closed; or give quotes=false"
            raise ValueError(
                f"{self.path} has {self._text.n_rows} lines below its header but {len(words)} rows: "
                f"{place}; correct it or write it again"
            )
        times = {FIELDS[name]: np.concatenate(parts) for name, parts in timing.items()}
        for name, column in self._timing.items():
            finite = np.isfinite(times[FIELDS[name]])
            if not finite.all():
                raise ValueError(
                    f"{self.path}: column {column!r} has no number in row {np.argmin(finite) + 1}; "
                    f"fill it in, or give drop_columns={shown(column)}"
                )
        return Items(words, times, texts.get(self.subject_column))

    def values(self, rows: np.ndarray | None = None) -> Values:
        """Features of the rows (boolean mask over the file's rows; None: all), missing ones as NaN.

        Read twice, if columns have to be centred, see `as_float32`.
        """
        count = self._n_rows if rows is None else int(np.count_nonzero(rows))
        check_size(self.path, 4.0 * count * len(self.features), "its features")
        self._check_packing(self._columns)
        values, problem, low, high = self._filled(count, rows)
        offsets = offsets_of(low, high, len(values))
        if offsets is not None:
            values, problem, _, _ = self._filled(count, rows, offsets)
            offsets.settle(values)
        return Values(values, problem, offsets is not None)

    def check_order(self, values: np.ndarray, run: np.ndarray | None) -> None:
        """Raise ValueError for a feature of values [N, V] that grows with the words, see `check_order`."""
        if not self._named:
            check_order(self.path, values, self.features, run)

    def _filled(
        self, count: int, rows: np.ndarray | None, offsets: Offsets | None = None
    ) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
        """[count, V] float32, what is wrong with them first, and each column's least and largest value."""
        width = len(self._columns)
        values = np.empty((count, width), np.float32)
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        problem, first_bad, done = "", (count, width), 0
        for first, start, block in self._blocks():
            names = range(first, first + block.shape[1])
            if start + len(block) > self._n_rows:
                raise ValueError(f"{self.path} has more rows than it had when it was opened")
            keep = slice(None) if rows is None else rows[start : start + len(block)]
            before = start if rows is None else int(np.count_nonzero(rows[:start]))
            numbers, block = np.arange(start, start + len(block))[keep], block[keep]
            if not len(block):
                continue
            low[names] = np.minimum(low[names], block.min(axis=0))
            high[names] = np.maximum(high[names], block.max(axis=0))
            part = values[before : before + len(block), first : first + len(names)]
            with np.errstate(over="ignore"):  # the overflow is reported as infinite
                part[...] = block if offsets is None else block - offsets.values[names]
            if not (finite := np.isfinite(part)).all():
                row, column = (int(index[0]) for index in np.nonzero(~finite))
                if (before + row, first + column) < first_bad:
                    first_bad = (before + row, first + column)
                    value = "no value" if np.isnan(part[row, column]) else "an infinite value"
                    name = self.features[first + column]
                    problem = f"column {name!r} has {value} in row {numbers[row] + 1}"
            if first + len(names) == width:
                done = before + len(block)
        return values[:done], problem, low, high

    def _blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """(first column, first row, float64 [rows, columns]) of parts of the features."""
        width = len(self._columns)
        if self._text is not None and self._n_columns > _WIDE:
            yield from ((0, row, block) for row, block in self._text.numbers(self._columns))
            return
        for first in range(0, width, _WIDE):
            names, start = self._columns[first : first + _WIDE], 0
            for batch in self._batches((), names):
                block = np.empty((batch.num_rows, len(names)))
                for column, name in enumerate(names):
                    block[:, column] = self._floats(batch, name)
                yield first, start, block
                start += batch.num_rows

    def _check_packing(self, names: Sequence[str]) -> None:
        """Raise ValueError where columns of a Parquet file are packed so far that they cannot be data."""
        if self._text is not None:
            return
        wanted = set(names)
        with parquet_file(self.path) as file:
            for group in range(file.metadata.num_row_groups):
                part, n_bytes = file.metadata.row_group(group), 0
                for column in range(part.num_columns):
                    chunk = part.column(column)
                    if chunk.path_in_schema in wanted:
                        n_bytes += max(chunk.total_uncompressed_size, 0)
                check_size(self.path, 2.0 * n_bytes, f"its columns ({part.num_rows} rows)")

    def _is_index(self, name: str) -> bool:
        if self._text is not None:
            return counts_rows(self._text.first_numbers(name))
        self._check_packing((name,))
        batch = next(iter(self._batches((), (name,))), None)
        return batch is not None and counts_rows(self._floats(batch, name))

    def _looks(self, name: str) -> str:
        return "" if self._text is None else described_text(*self._text.first_text(name))

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
        from pyarrow import csv

        if self._text is None:
            with parquet_file(self.path) as file:
                rows = max(1, min(4096, _BLOCK // (8 * len([*strings, *numbers]))))
                yield from file.iter_batches(rows, columns=[*strings, *numbers])
            return
        try:
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
                    include_columns=list(types), column_types=types, null_values=_NULLS
                ),
            ) as reader:
                yield from reader
        except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
            raise ValueError(
                f"{self.path} is not a complete table: {self._text.locate(numbers) or error}; correct it or "
                "write it again"
            ) from error


class ArrayTable:
    """A `.npz` of plain arrays: `words` [N] text, `values` [N, V]; optional `onsets`, `durations`,
    `run`, `sentence`, `span_start`, `span_end`, `span_head` [N] and `feature_names` [V] text, "feature 0",
    ... without. Used as a `ColumnTable`, with the same drop_columns and feature_columns; never unpickled."""

    subject_column = None
    ignored = index = ()
    looks: Mapping[str, str] = {}
    features: tuple[str, ...] = ()
    _KNOWN = ("words", "values", "feature_names", *FIELDS.values())

    def __init__(
        self,
        path: str | Path,
        *,
        drop_columns: Sequence[str] = (),
        feature_columns: Sequence[str] | None = None,
    ):
        self.path = Path(path)
        self._dropped, self._wanted = drop_columns, feature_columns
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
        timing = {name: self._read(name) for name in FIELDS.values() if name in self._names}
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

    def check_order(self, values: np.ndarray, run: np.ndarray | None) -> None:
        """As of a `ColumnTable`."""
        if self._wanted is None:
            check_order(self.path, values, self.features, run)

    def values(self, rows: np.ndarray | None = None) -> Values:
        """Features of the rows (boolean mask; None: all); sets `features`."""
        values = self._read("values")
        if values.ndim != 2 or values.dtype.kind not in "fiub" or 0 in values.shape:
            raise ValueError(
                f"{self.path}: values has shape {values.shape} and dtype {values.dtype}; give a "
                "matrix of numbers [words, features]"
            )
        columns = self._chosen(values.shape[1])
        values = values[:, columns] if len(columns) < values.shape[1] else values
        values, centred = as_float32(values if rows is None else values[rows])
        problem = ""
        if not (finite := np.isfinite(values)).all():
            row, column = (int(index[0]) for index in np.nonzero(~finite))
            problem = f"feature {self.features[column]!r} is {values[row, column]} in row {row + 1}"
        return Values(values, problem, centred)

    def _chosen(self, n_columns: int) -> list[int]:
        """Which columns of the values are features; sets `features`."""
        array = np.array([f"feature {column}" for column in range(n_columns)])
        if "feature_names" in self._names:
            array = self._read("feature_names")
        if array.shape != (n_columns,) or array.dtype.kind != "U":
            raise ValueError(
                f"{self.path}: feature_names has shape {array.shape} and dtype {array.dtype} for "
                f"{n_columns} features; give one text a feature"
            )
        names = array.tolist()
        if self._dropped or self._wanted is not None:
            if len(set(names)) < n_columns:
                raise ValueError(
                    f"{self.path}: feature_names names some features twice: name each once to choose "
                    "among them"
                )
            kept = without_dropped(self.path, names, self._dropped)
            kept = kept if self._wanted is None else selected(self.path, kept, self._wanted)
            if not kept:
                raise ValueError(f"{self.path}: drop_columns leaves no features; drop fewer")
        else:
            kept = names
            check_features(self.path, names)
        self.features = tuple(kept)
        places = {name: column for column, name in enumerate(names)}
        return list(range(n_columns)) if kept is names else [places[name] for name in kept]

    def _read(self, name: str) -> np.ndarray:
        try:
            return read_npz(self.path, name)
        except ARRAY_DAMAGE as error:
            if str(error).startswith(str(self.path)):  # too large
                raise
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


def _parquet_schema(path: Path) -> tuple[list[str], set[str], int]:
    """The columns' names, those of numbers, and the number of rows."""
    import pyarrow as pa

    with parquet_file(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal)
    numeric = {field.name for field in schema if any(kind(field.type) for kind in kinds)}
    # pandas stores an index without a name under such a name.
    names = [name for name in schema.names if not re.fullmatch(r"__index_level_\d+__", name)]
    return names, numeric, n_rows


@contextmanager
def parquet_file(path: Path) -> Iterator:
    """An open `.parquet` file. Raises ValueError naming it for damage, also while it is read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise ValueError(
            f"{path} is not a Parquet file, or is truncated ({error}); write it again"
        ) from error


def _listed(names: Sequence[str], looks: Mapping[str, str]) -> str:
    some = [repr(name) + f" ({looks[name]})" * bool(looks[name]) for name in names[:_LISTED]]
    return ", ".join(some) + (", ..." if len(names) > _LISTED else "")
