"""What lies beside images: words with their onsets, confounds, names of regions, JSON sidecars."""

from __future__ import annotations

import json
import re
import reprlib
import unicodedata
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.names import nearest
from brainalign_jax.neural.formats.text.delimited import MISSING, DelimitedText, is_number
from brainalign_jax.stimulus import Stimulus, split_sentences

WORD_COLUMNS = ("word", "text", "token")
_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
_DERIVED = ("", "_derivative1", "_power2", "_derivative1_power2")
CONFOUND_STRATEGIES = {
    "none": (),
    "motion6": _MOTION,
    "motion24": tuple(f"{name}{suffix}" for suffix in _DERIVED for name in _MOTION),
    "acompcor": (*_MOTION, *(f"a_comp_cor_{number:02d}" for number in range(6)), "cosine*"),
}
_LARGEST_JSON = 2**25  # bytes; sidecars with an entry a slice and volume have a few MB


class Table(NamedTuple):
    """A text table: columns by name, all of text; row numbers in messages count from 1 below it."""

    path: Path
    columns: dict[str, list[str]]

    def column(self, *names: str) -> list[str]:
        """The first of the columns `names` that is there. Raises ValueError with the nearest."""
        for name in names:
            if name in self.columns:
                return self.columns[name]
        raise ValueError(
            f"{self.path} has no column {' or '.join(map(repr, names))}; "
            f"{nearest(names[0], self.columns)}"
        )

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64, NaN where a value is missing. Raises ValueError naming the row."""
        texts = self.column(name)
        for row, text in enumerate(texts, 1):
            if text not in MISSING and not is_number(text):
                raise ValueError(
                    f"{self.path}: column {name!r} holds {text!r} in row {row}, which is not a number"
                )
        return np.array([np.nan if text in MISSING else float(text) for text in texts])


class WordTable(NamedTuple):
    """words: N texts; onsets [N] s; durations [N] s, run [N] int and sentence (N labels), each None
    where the table has none; left_out: rows that hold no word ("n/a")."""

    path: Path
    words: tuple[str, ...]
    onsets: np.ndarray
    durations: np.ndarray | None
    run: np.ndarray | None
    sentence: tuple[str, ...] | None
    left_out: int

    def rows(self, keep: np.ndarray) -> WordTable:
        """The rows of a boolean mask [N]."""
        return self._replace(
            words=tuple(word for word, kept in zip(self.words, keep, strict=True) if kept),
            onsets=self.onsets[keep],
            durations=None if self.durations is None else self.durations[keep],
            run=None if self.run is None else self.run[keep],
            sentence=None
            if self.sentence is None
            else tuple(label for label, kept in zip(self.sentence, keep, strict=True) if kept),
        )


def read_table(path: str | Path) -> Table:
    """A `.tsv`, `.csv` or other table of text, its first line the names of the columns.

    The separator is a comma in a `.csv`, else a tab. Quotes are undone where every row then still
    is one line, else they are text: BIDS does not quote, and a word may begin with a quote.
    Raises FileNotFoundError, or ValueError naming the file and row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table at {path}")
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    text = DelimitedText(path, separator=separator)
    rows = list(text.rows())
    if len(rows) != text.n_rows + 1 or any("\n" in field for row in rows for field in row):
        rows = list(DelimitedText(path, separator=separator, quotes=False).rows())
    names = rows[0] if rows else []
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: its first line is {names}; it must name every column once, separated by "
            f"{'commas' if separator == ',' else 'tabs'}"
        )
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(row)} fields for {len(names)} columns; correct it, or "
                "get the table again if it is truncated"
            )
    columns = zip(*rows[1:], strict=True) if len(rows) > 1 else ([] for _ in names)
    return Table(path, {name: list(column) for name, column in zip(names, columns, strict=True)})


def read_words(
    path: str | Path, *, word_column: str | None = None, fallback: Sequence[str] = ()
) -> WordTable:
    """The words of a table: columns onset (s) and word; optional duration (s), run and sentence.

    word_column: None takes the first of "word", "text", "token" and those of `fallback`, which must
    not look like conditions (50 words or more, no more than 5 of them different). A row whose word
    is "n/a" holds another event and is left out. Durations and sentences count where every word has one.
    Rows are in order of presentation: run by run, onsets not decreasing within a run.
    Raises FileNotFoundError, or ValueError naming the file and row.
    """
    table = read_table(path)
    texts = table.column(*([word_column] if word_column else (*WORD_COLUMNS, *fallback)))
    onsets = table.numbers("onset")
    durations = table.numbers("duration") if "duration" in table.columns else None
    run = table.numbers("run") if "run" in table.columns else None
    sentence = table.columns.get("sentence")
    keep = [row for row, text in enumerate(texts) if text.strip() != "n/a"]
    if not keep:
        raise ValueError(f"{path} holds no words; one row a word is expected")
    for row in keep:
        if not texts[row].strip():
            raise ValueError(f"{path}: row {row + 1} has no word; fill it in, or write n/a")
        if any(unicodedata.category(char) == "Cc" for char in texts[row].strip()):
            raise ValueError(
                f"{path}: row {row + 1} ({texts[row]!r}) holds a control character; the table is "
                "damaged: get it again, or correct the word"
            )
        if not np.isfinite(onsets[row]):
            raise ValueError(
                f"{path}: row {row + 1} ({texts[row]!r}) has onset {onsets[row]}; give seconds"
            )
        if durations is not None and durations[row] < 0:
            raise ValueError(
                f"{path}: row {row + 1} ({texts[row]!r}) lasts {durations[row]:g} s; durations are "
                "not negative"
            )
        if run is not None and not run[row] == np.floor(run[row]):
            raise ValueError(
                f"{path}: row {row + 1} ({texts[row]!r}) has run {run[row]}; give a whole number"
            )
    named = word_column or set(WORD_COLUMNS) & set(table.columns)
    kinds = sorted({texts[row] for row in keep})
    if not named and len(keep) >= 50 and len(kinds) <= 5:
        raise ValueError(
            f"{path} has no column {', '.join(map(repr, WORD_COLUMNS))}, and its column of conditions "
            f"holds {', '.join(kinds)} only: name the column of the words with word_column="
        )
    if run is not None:
        run = run[keep]
        if (huge := np.abs(run) > 1e6).any():
            raise ValueError(
                f"{path}: run {run[np.argmax(huge)]:g} is no number of a run; repair it"
            )
        run = run.astype(np.int32)
    onsets = onsets[keep]
    if sentence is not None:
        sentence = tuple(sentence[row] for row in keep)
        sentence = None if set(sentence) & {"", "n/a"} else sentence
    same = np.ones(len(keep) - 1, bool) if run is None else run[1:] == run[:-1]
    falls = (same & (np.diff(onsets) < 0)) | (False if run is None else np.diff(run) < 0)
    if falls.any():
        row = keep[int(np.argmax(falls)) + 1]
        raise ValueError(
            f"{path}: row {row + 1} ({texts[row]!r}) begins before the row above it; sort the table by "
            "run and onset, or add a column 'run' where the clock restarts"
        )
    if durations is not None:
        durations = durations[keep]
        durations = durations if np.isfinite(durations).all() else None
    return WordTable(
        Path(path),
        tuple(texts[row].strip() for row in keep),
        onsets,
        durations,
        run,
        sentence,
        len(texts) - len(keep),
    )


def words_of_runs(tables: Sequence[WordTable], runs: Sequence[int]) -> Stimulus:
    """One stimulus of the tables of several runs, labelled `runs`; each run's clock is its own.

    A column "run" in a table is not looked at. Sentences follow the column "sentence" where all
    tables have one, else the punctuation. Durations count where all tables have them.
    """
    words = tuple(word for table in tables for word in table.words)
    run = np.repeat(np.asarray(runs, np.int32), [len(table.words) for table in tables])
    if all(table.sentence is not None for table in tables):
        labels = [label for table in tables for label in table.sentence]
        changes = [
            row > 0 and (labels[row] != labels[row - 1] or run[row] != run[row - 1])
            for row in range(len(labels))
        ]
        sentence = np.cumsum(changes).astype(np.int32)
    else:
        sentence = split_sentences(words, run)
    durations = None
    if all(table.durations is not None for table in tables):
        durations = np.concatenate([table.durations for table in tables])
    try:
        return Stimulus(
            words,
            onsets=np.concatenate([table.onsets for table in tables]),
            durations=durations,
            sentence=sentence,
            run=run,
        )
    except ValueError as error:
        raise ValueError(f"{tables[0].path}: {error}") from error


def check_covered(
    stimulus: Stimulus, times: np.ndarray, run: np.ndarray, paths: Mapping[int, Path]
) -> None:
    """Raise ValueError where a word begins more than a TR after the last volume of its run.

    times [time] in seconds, run [time]; paths: the table of each run's words. Words before the first
    volume are no error: the first volumes may have been discarded.
    """
    for label in np.unique(stimulus.run).tolist():
        of_run = np.flatnonzero(stimulus.run == label)
        scans = times[run == label]
        tr = float(np.median(np.diff(scans)))
        late = stimulus.onsets[of_run] > scans[-1] + tr + 1e-6
        if late.any():
            word = int(of_run[np.argmax(late)])
            raise ValueError(
                f"{paths[label]}: {int(late.sum())} words of run {label} begin after its last volume "
                f"({scans[-1]:g} s), the first is {stimulus.words[word]!r} at "
                f"{stimulus.onsets[word]:g} s; onsets must be in seconds on the clock of the volumes, "
                "and table and image of the same run"
            )


def read_confounds(
    path: str | Path, columns: Sequence[str] | None, n_volumes: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Confounds [n_volumes, C] float64 and their names, from a table with one row a volume.

    columns: names, "*" and "?" standing for any characters; None takes all. A missing value in the
    first row, which derivatives have, becomes that of the second row, as nilearn does it.
    Raises FileNotFoundError, or ValueError naming the file and column.
    """
    table = read_table(path)
    names: list[str] = list(table.columns) if columns is None else []
    for wanted in columns or ():
        matching = [name for name in table.columns if fnmatchcase(name, wanted)]
        if not matching and not set("*?") & set(wanted):
            raise ValueError(f"{path} has no column {wanted!r}; {nearest(wanted, table.columns)}")
        names += [name for name in matching if name not in names]
    values = np.empty((n_volumes, len(names)))
    for index, name in enumerate(names):
        column = table.numbers(name)
        if len(column) != n_volumes:
            raise ValueError(
                f"{path} has {len(column)} rows for {n_volumes} volumes; give one each"
            )
        if np.isnan(column[0]):
            column[0] = column[1]
        if not np.isfinite(column).all():
            row = int(np.argmin(np.isfinite(column))) + 1
            raise ValueError(
                f"{path}: column {name!r} has no finite value in row {row}; choose other columns"
            )
        values[:, index] = column
    return values, tuple(names)


def join_confounds(parts: Sequence[tuple[np.ndarray, tuple[str, ...]]]) -> np.ndarray | None:
    """Confounds of several runs [time, C], zero where a run has no such column; None without any."""
    names = list(dict.fromkeys(name for _, part_names in parts for name in part_names))
    if not names:
        return None
    joined = []
    for values, columns in parts:
        full = np.zeros((len(values), len(names)))
        full[:, [names.index(name) for name in columns]] = values
        joined.append(full)
    return np.concatenate(joined)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON sidecar. Raises ValueError naming the file for anything else."""
    try:
        if (size := path.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"{size} bytes are too many for a sidecar")
        content = json.loads(path.read_text("utf-8-sig"))
    except RecursionError:
        raise ValueError(
            f"{path} nests lists or objects too deeply for a sidecar; repair it"
        ) from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not readable as JSON ({error}); repair it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; repair it")
    return content


def number_of(metadata: Mapping[str, Any], key: str, path: Path) -> float | None:
    """A number of a sidecar, or None where it is not there. Raises ValueError for other values.

    path: the image that the sidecar belongs to.
    """
    value = metadata.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ValueError(
            f"{path}: its JSON sidecar has {key} = {reprlib.repr(value)}; it must be a number"
        )
    return float(value)


def read_labels(path: str | Path, regions: Sequence[int]) -> tuple[str, ...]:
    """Names of the regions of an atlas, in the order of `regions`.

    A `.tsv` or `.csv` has columns "index" and "name" (BIDS); any other text file has lines of
    number and name ("12 Amygdala", as in FreeSurfer's tables, colours ignored), or one name a line
    in the order of the regions' numbers. Raises FileNotFoundError, or ValueError naming the file.
    """
    path = Path(path)
    if path.suffix.lower() in (".tsv", ".csv"):
        table = read_table(path)
        numbers, names = table.column("index", "label"), table.column("name", "region")
        pairs = list(zip(numbers, names, strict=True))
    else:
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; give the table of the atlas's regions")
        try:
            lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        except UnicodeError as error:
            raise ValueError(f"{path} is not UTF-8 text ({error}); save it so") from error
        lines = [line for line in lines if line and not line.startswith("#")]
        matches = [re.fullmatch(r"(\d+)[\s,:]+(.*?)((?:\s+\d+){3,4})?", line) for line in lines]
        if all(matches):
            pairs = [(match.group(1), match.group(2)) for match in matches]
        elif len(lines) != len(regions):
            raise ValueError(
                f"{path} has {len(lines)} names for {len(regions)} regions; give lines of number and "
                "name, or one name for every region"
            )
        else:
            ascending = sorted(int(region) for region in regions)
            pairs = [(str(region), name) for region, name in zip(ascending, lines, strict=True)]
    known = {}
    for number, name in pairs:
        if not re.fullmatch(r"\s*\d+(\.0*)?\s*", number) or not name.strip():
            raise ValueError(f"{path}: a region has number {number!r} and name {name!r}; give both")
        known[int(float(number))] = name.strip()
    missing = [int(region) for region in regions if int(region) not in known]
    if missing:
        raise ValueError(f"{path} has no name for region {missing[0]} of the atlas; add it")
    return tuple(known[int(region)] for region in regions)
