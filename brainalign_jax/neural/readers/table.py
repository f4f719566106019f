"""Tables of words x features that a user made: one row a word, one column a voxel, region or channel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.text.columns import SPANS, TIMING
from brainalign_jax.neural.formats.text.tables import SUFFIXES, ArrayTable, ColumnTable, npz_names
from brainalign_jax.neural.inner_products import MARK
from brainalign_jax.neural.readers.options import split_items, written_items
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.voxels import check_voxels
from brainalign_jax.spans import POOLINGS, Spans
from brainalign_jax.stimulus import Stimulus

NAME = "table"
_SHOWN = 20  # columns that a message names
_SAME_TIME = 1e-3  # seconds by which onsets of two subjects may differ: rounding in text


class _Source(NamedTuple):
    """Where a subject is: a table, the rows of it that are the subject's (None: all), or a file
    that WordResponses.save wrote (table None)."""

    path: Path
    table: ColumnTable | ArrayTable | None
    rows: np.ndarray | None
    stimulus: Stimulus
    label: str
    spans: Spans | None = None


@register(NAME)
def read_table(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    word_column: str = "word",
    subject_column: str = "subject",
    drop_columns: str | Iterable[str] = (),
    feature_columns: str | Iterable[str] = (),
    separator: str | None = None,
    quotes: bool = True,
    bad_voxels: str = "raise",
    span_pooling: str = "mean",
    span_apart: bool = False,
) -> Dataset:
    """Word responses that are there already, from `.csv`, `.tsv`, `.parquet` or `.npz`.

    data_dir: one file, or a folder of files, one a subject: the file's name is the subject's. One
    table may hold all subjects, told apart by `subject_column`; it may lie in a folder of its own.
    word_column: the column of the words, which must be there.
    subject_column: the column that tells subjects of one table apart, where it is there.
    drop_columns: columns to leave out. Several are a list, or one string with : or commas between them.
    feature_columns: names of the only columns that are features, whatever they look like; * and ? stand
    for any characters, * alone for all columns of numbers. Written as drop_columns.
    separator: of text files: one character, or "tab", "comma", "semicolon" or "space"; None is a tab in
    .tsv, else a comma.
    quotes: whether quotes in text files hold fields together; without, they are text.
    Other columns: `onset` and `duration` (s), `run`, `sentence` (whole numbers) where they are there, in
    any case and without blanks around the names; all other columns of numbers are features, in order
    (meta "feature_names"). One whose name or values look like a time, run, subject or row number is
    refused until it is named. Columns of text, and an index that pandas or R wrote, are left out with a
    warning, unless `drop_columns` names them. "NA", "null" and "nan" are words where they stand for
    words, and missing values elsewhere. Features that lie too far from zero for float32 are centred (meta
    "centred").
    A `.npz` holds what `WordResponses.save` wrote, which is looked through at each load and stays in
    the file, or plain arrays, see `ArrayTable`. A word that is listed twice, at one time, gives a
    warning.
    bad_voxels: "raise" for features with missing, infinite or constant values, or "drop".
    With columns `span_start` and `span_end` an item is several words of a sentence, as an idiom is: the word
    column then holds the sentence, whose words, parted by blanks, count from 0, the end left out.
    span_pooling: how they become one vector: "mean", "last" word, or "head", the word `span_head` (-1 or
    without the column: the last that is no function word); span_apart: whether spans of the same words are
    items of their own; see `Spans`.
    Raises FileNotFoundError, or ValueError naming the file and row: no features, text among numbers,
    a missing word, columns named twice, damage, or subjects whose words or times differ.
    """
    options = {
        "word_column": word_column,
        "subject_column": subject_column,
        "drop_columns": _names(drop_columns),
        "feature_columns": _names(feature_columns) or None,
        "separator": separator,
        "quotes": quotes,
    }
    of_spans = {"pooling": span_pooling, "apart": span_apart}
    check_known("bad_voxels=", bad_voxels, ("raise", "drop"))
    check_known("span_pooling=", span_pooling, POOLINGS)
    paths = _table_paths(Path(data_dir))
    if len(paths) == 1:
        sources = _read_sources(paths[0], options, of_spans)
        chosen = choose_subjects(NAME, tuple(sources), subjects)
    else:
        stems = {path.stem: path for path in paths}
        if len(stems) < len(paths):
            twice = next(a for a in paths for b in paths if a is not b and a.stem == b.stem)
            raise ValueError(
                f"{data_dir} has two tables named {twice.stem!r}; keep one file a subject"
            )
        # Only the files asked for are opened; the others may be anything.
        asked = choose_subjects(NAME, tuple(stems), subjects)
        sources = {}
        for stem in asked:
            of_file = _read_sources(stems[stem], options, of_spans)
            if len(of_file) > 1:
                raise ValueError(
                    f"{stems[stem]} holds {len(of_file)} subjects and lies beside other tables; give "
                    "the path of the file itself"
                )
            sources[stem] = next(iter(of_file.values()))
        chosen = asked
    first = sources[chosen[0]]
    for subject in chosen[1:]:
        _check_same_words(sources[subject], first)
    used = {id(s.table): s.table for s in map(sources.get, chosen) if s.table is not None}
    if left_out := _left_out(used.values()):
        warnings.warn(f"{first.path}: {left_out}", UserWarning, stacklevel=2)
    meta = {
        "dataset": NAME,
        "notes": "a table of the user's own" if first.table else "word responses that were saved",
        "files": sorted({sources[subject].path.name for subject in chosen}),
    }
    if first.table is not None and first.table.features:
        alike = len({table.features for table in used.values()}) == 1
        meta["features"] = _described_features(first.table.features)
        meta["features"] += "" if alike else f" in {first.path.name}; other subjects have others"

    def load(subject: str) -> WordResponses:
        source = sources[subject]
        if source.table is None:
            saved = WordResponses.load(source.path, verify=True)
            return saved if saved.subject == subject else replace(saved, subject=subject)
        values, problem, centred = source.table.values(source.rows)
        if len(values) != len(source.stimulus):
            raise ValueError(
                f"{source.label}: {len(values)} rows of values for {len(source.stimulus)} words; "
                "give one row a word (was the file changed since it was opened?)"
            )
        if problem and bad_voxels == "raise":
            raise ValueError(
                f"{source.label}: {problem}; correct it, or leave the feature out with "
                "drop_columns= or bad_voxels=drop"
            )
        source.table.check_order(values, source.stimulus.run)
        values, kept = check_voxels(
            values, subject=subject, bad_voxels=bad_voxels, what=str(source.path)
        )
        names = np.array(source.table.features, object)[kept]
        of_subject = {"feature_names": names.tolist(), "dropped_voxels": int((~kept).sum())}
        if centred:
            of_subject["centred"] = True
        return WordResponses(subject, values, first.stimulus, None, {**meta, **of_subject})

    return Dataset(NAME, chosen, first.stimulus, load, meta, spans=first.spans)


def _names(columns: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(columns, str):
        parts = split_items(columns) if columns else ()
        return tuple(name.strip() for name in parts)
    return tuple(columns)


def _left_out(tables: Iterable[ColumnTable | ArrayTable]) -> str:
    """Which columns are no features without having been named, and why; "" if there are none."""
    tables = list(tables)
    text = sorted({name for table in tables for name in table.ignored})
    index = sorted({name for table in tables for name in table.index})
    looks = {name: said for table in tables if table.ignored for name, said in table.looks.items()}
    parts = []
    if text:
        said = [f"{name}: {looks[name]}" for name in text if looks.get(name)][:_SHOWN]
        some = ", ".join(text[:_SHOWN]) + ", ..." * (len(text) > _SHOWN)
        parts.append(
            f"the columns {some} hold text and are left out" + f" ({'; '.join(said)})" * bool(said)
        )
    if index:
        parts.append(f"the columns {', '.join(index)} hold an index and are left out")
    if parts and len(text) <= _SHOWN:
        named = [name for name in (*text, *index) if name != "without a name"]
        parts.append(f"give drop_columns={written_items(named)} to silence this" if named else "")
    return "; ".join(part for part in parts if part)


def _described_features(names: Sequence[str]) -> str:
    """How many columns are features, and which."""
    some = ", ".join(names[:_SHOWN]) + (f", ..., {names[-1]}" if len(names) > _SHOWN else "")
    return f"{len(names)} ({some})"


def _table_paths(data_dir: Path) -> list[Path]:
    expected = f"a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
    if data_dir.is_file():
        if data_dir.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{data_dir} is not a table: give {expected}, or a folder of such files"
            )
        return [data_dir]
    if not data_dir.is_dir():
        raise FileNotFoundError(
            f"there is no {data_dir}; give {expected}, or a folder of such files"
        )
    paths = [
        path
        for path in data_dir.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise FileNotFoundError(f"there is no table in {data_dir}; put {expected} a subject there")
    # By number where they are numbers, so that 10 follows 9.
    return sorted(
        paths,
        key=lambda p: (not p.stem.isdigit(), p.stem.zfill(20) if p.stem.isdigit() else p.stem),
    )


def _read_sources(path: Path, options: dict, of_spans: dict) -> dict[str, _Source]:
    """The subjects of one file."""
    if path.suffix.lower() == ".npz":
        if "header" in npz_names(path):
            saved = WordResponses.load(path)
            if MARK in saved.meta:
                raise ValueError(
                    f"{path} holds inner products, not responses: open its folder as --dataset=kernels"
                )
            stimulus = saved.stimulus
            return {path.stem: _Source(path, None, None, stimulus, str(path))}
        chosen = {name: options[name] for name in ("drop_columns", "feature_columns")}
        table: ColumnTable | ArrayTable = ArrayTable(path, **chosen)
    else:
        table = ColumnTable(path, **options)
    words, timing, subjects = table.items()
    if subjects is None:
        stimulus, spans = _items(words, timing, str(path), of_spans)
        return {path.stem: _Source(path, table, None, stimulus, str(path), spans)}
    labels, sources = np.array(subjects), {}
    for subject in dict.fromkeys(subjects):
        rows = labels == subject
        label = f"{path}, subject {subject}"
        stimulus, spans = _items(
            [word for word, kept in zip(words, rows, strict=True) if kept],
            {name: value[rows] for name, value in timing.items()},
            label,
            of_spans,
        )
        sources[subject] = _Source(path, table, rows, stimulus, label, spans)
    return sources


def _items(
    words: list[str], fields: dict[str, np.ndarray], label: str, of_spans: dict
) -> tuple[Stimulus, Spans | None]:
    """The items of a table; of one with spans, the spans too, whose sentences are then its words."""
    timing = {name: values for name, values in fields.items() if name not in SPANS}
    span_fields = {name.removeprefix("span_"): fields[name] for name in SPANS if name in fields}
    if not span_fields:
        return _stimulus(words, timing, label), None
    if not {"start", "end"} <= set(span_fields):
        lacking = next(name for name in SPANS if name not in fields)
        raise ValueError(
            f"{label} has a column of spans but no {lacking!r}; add it, or rename the other"
        )
    try:
        spans = Spans.of_sentences(words, **span_fields, **of_spans)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return _stimulus(list(spans.items().words), timing, label), spans


def _stimulus(words: list[str], timing: dict[str, np.ndarray], label: str) -> Stimulus:
    try:
        stimulus = Stimulus(tuple(words), **timing)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    if stimulus.onsets is None:
        return stimulus
    run = np.zeros(len(words), np.int32) if stimulus.run is None else stimulus.run
    changes = np.flatnonzero(np.diff(run)) + 1
    if len(changes) >= len(np.unique(run)):
        seen = np.unique(run, return_index=True)[1]
        row = int(next(change for change in changes if change not in seen))
        raise ValueError(
            f"{label}: row {row + 1} ({words[row]!r}) goes back to run {run[row]}; the words must be in "
            "the order in which they were presented, run by run: sort the table by run and onset"
        )
    same = (np.diff(stimulus.onsets) == 0) & (np.diff(run) == 0)
    again = [row for row in np.flatnonzero(same) + 1 if words[row] == words[row - 1]]
    if again:
        warnings.warn(
            f"{label}: {len(again)} words are listed twice, the first is {words[again[0]]!r} in row "
            f"{again[0] + 1}, at the onset of the row above; give one row a word",
            UserWarning,
            stacklevel=2,
        )
    return stimulus


def _check_same_words(source: _Source, first: _Source) -> None:
    words, others = source.stimulus.words, first.stimulus.words
    remedy = "all subjects must have the same words in the same order; or open them one by one"
    for row, (word, other) in enumerate(zip(words, others, strict=False), 1):
        if word != other:
            raise ValueError(
                f"{source.label}: word {row} is {word!r} where {first.label} has {other!r}; {remedy}"
            )
    if len(words) != len(others):
        raise ValueError(
            f"{source.label} has {len(words)} words and {first.label} {len(others)}; {remedy}"
        )
    if _sentences_of(source) != _sentences_of(first):
        raise ValueError(
            f"{source.label} has other sentences or spans than {first.label}; {remedy}"
        )
    for name in TIMING.values():
        values, theirs = getattr(source.stimulus, name), getattr(first.stimulus, name)
        if (values is None) != (theirs is None):
            has, lacks = (source, first) if theirs is None else (first, source)
            raise ValueError(f"{has.label} has {name} and {lacks.label} has none; {remedy}")
        if values is None:
            continue
        apart = np.abs(values - theirs) > (_SAME_TIME if name in ("onsets", "durations") else 0)
        if apart.any():
            row = int(np.argmax(apart))
            raise ValueError(
                f"{source.label}: {name} of word {row + 1} ({words[row]!r}) is {values[row]:g} where "
                f"{first.label} has {theirs[row]:g}; {remedy}"
            )


def _sentences_of(source: _Source) -> tuple | None:
    """The sentences and spans of a subject's items, None where these are words."""
    spans = source.spans
    if spans is None:
        return None
    places = (spans.start, spans.end, spans.head)
    return spans.stimulus.words, *(values.tobytes() for values in places)
