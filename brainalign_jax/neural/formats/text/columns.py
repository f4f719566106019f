"""Which column of a table is what: matched by name, and what looks like no feature refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import nearest

TIMING = {"onset": "onsets", "duration": "durations", "run": "run", "sentence": "sentence"}
SPANS = (
    "span_start",
    "span_end",
    "span_head",
)  # words of the sentence that stands in place of the word
# What is read of a table beside words and features: column -> what it is called.
FIELDS = TIMING | {name: name for name in SPANS}
# pandas and R write an index under such a name.
_INDEX = re.compile(r"|unnamed: \d+(\.\d+)?|index|level_\d+|\.\.\.1|rownames?", re.IGNORECASE)
_LOOKS_LIKE = {
    "a time": "onset onsets offset offsets duration durations dur time times timestamp timestamps start "
    "stop begin beginning end ending latency latencies tmin tmax xmin xmax",
    "a run": "run runs session sessions ses block blocks trial trials scan volume tr sentence sentences "
    "sent story passage paragraph chapter section",
    "a subject": "subject subjects subj sub participant participants ppt person reader listener pid",
    "a row number": "index idx row rows rowname rownames id ids item items position order unnamed",
}
_OWN = {word: what for what, words in _LOOKS_LIKE.items() for word in words.split()}
_FILLERS = frozenset(
    re.findall(
        "[a-z]+",
        "s sec secs second seconds ms msec msecs millisecond milliseconds us min no nr num nb number label "
        "name of in the t word words token tokens global local first last abs rel",
    )
)
_FEW_ROWS = 20  # of fewer rows nothing is told by their order


class Columns(NamedTuple):
    """What the columns of a table are, each by its name in the file.

    word; subject: None where there is none; timing: "onset", ... (of `FIELDS`) -> column; others: what may be
    a feature; named: whether the user named the features.
    """

    word: str
    subject: str | None
    timing: dict[str, str]
    others: tuple[str, ...]
    named: bool


def shown(name: str) -> str:
    """A column's name without blanks and invisible signs around it."""
    if name.isascii():
        return name.strip()
    return unicodedata.normalize("NFC", re.sub("[\u200b\ufeff]", "", name)).strip()


def sort_columns(
    path: Path,
    names: Sequence[str],
    *,
    word_column: str,
    subject_column: str,
    drop_columns: Sequence[str] = (),
    feature_columns: Sequence[str] | None = None,
) -> Columns:
    """What each column of a table is; names count without blanks around them, and in any case.

    feature_columns: names or patterns with * and ?; None takes all that remain.
    Raises ValueError naming the file and the column: none of that name, or two.
    """
    if not any(shown(name) for name in names):
        raise ValueError(f"{path} is empty; the first line must name the columns")
    seen: set[str] = set()
    for name in map(shown, names):
        if name in seen:
            raise ValueError(f"{path} has two columns {name!r}; name each column once")
        seen.add(name)
    kept = without_dropped(path, names, drop_columns)
    word = _only(path, word_column, kept)
    if word is None:
        raise ValueError(
            f"{path} has no column {word_column!r}; {nearest(word_column, names)}: name it with "
            "word_column=, or give separator= where the columns are not told apart"
        )
    kept.remove(word)
    subject = _only(path, subject_column, kept)
    by_field = {name: _only(path, name, kept) for name in FIELDS}
    timing = {name: column for name, column in by_field.items() if column not in (None, subject)}
    others = [name for name in kept if name != subject and name not in timing.values()]
    if feature_columns is not None:
        others = selected(path, others, feature_columns)
    elif "" in map(shown, others) and shown(names[0]) != "":
        raise ValueError(
            f"{path}: column {list(map(shown, names)).index('') + 1} has no name: an index that was "
            "written with the table? Name it, write the table without it, or give drop_columns=: for "
            "that name"
        )
    return Columns(word, subject, timing, tuple(others), feature_columns is not None)


def without_dropped(path: Path, names: Sequence[str], drop_columns: Sequence[str]) -> list[str]:
    """The names without the dropped ones. Raises ValueError for a dropped one that is not there."""
    dropped = set()
    for name in drop_columns:
        same = _matches(name, names)
        if not same:
            raise ValueError(f"{path} has no column {name!r} to drop; {nearest(name, names)}")
        dropped.update(same[:1])
    return [name for name in names if name not in dropped]


def selected(path: Path, names: Sequence[str], feature_columns: Sequence[str]) -> list[str]:
    """The names that match a name or pattern, in order. Raises ValueError for a pattern that matches none."""
    wanted: set[str] = set()
    for pattern in feature_columns:
        some = [name for name in names if fnmatchcase(shown(name), pattern)]
        some = some or _matches(pattern, names)
        if not some:
            raise ValueError(
                f"{path} has no column {pattern!r} for a feature; {nearest(pattern, names)}"
            )
        wanted.update(some)
    return [name for name in names if name in wanted]


def may_be_index(name: str) -> bool:
    """Whether pandas or R gives such a name to an index that it writes with a table."""
    return _INDEX.fullmatch(shown(name)) is not None


def counts_rows(values: Sequence[float]) -> bool:
    """Whether the first values of a column are what an index holds: whole numbers that grow."""
    numbers = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        return bool(np.all(numbers == np.floor(numbers)) and np.all(np.diff(numbers) > 0))


def check_features(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError where a column of numbers has the name of a time, run, subject or row number."""
    for name in names:
        if what := looks_like(name):
            raise ValueError(_refusal(path, shown(name), f"looks like {what} by its name"))


def looks_like(name: str) -> str:
    """What a name says that a column of numbers is, "" where it may well be a feature.

    >>> looks_like("Word_Onset (ms)"), looks_like("SubjectID"), looks_like("time 3"), looks_like("LATL")
    ('a time', 'a subject', '', '')
    """
    name = shown(name)
    if may_be_index(name):
        return "a row number"
    if any(char.isdigit() for char in name):
        return ""  # one of several, such as the times of a response
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+", name)
    words = [part.lower() for part in parts]
    kinds = [_OWN[word] for word in words if word in _OWN]
    return kinds[0] if kinds and all(word in _OWN or word in _FILLERS for word in words) else ""


def check_order(path: Path, values: np.ndarray, names: Sequence[str], run=None) -> None:
    """Raise ValueError where a feature of values [N, V] grows or falls with the words, as no response does.

    run: [N], within which a time grows; None is one run. Of fewer than 20 words nothing is said.
    """
    if len(values) < _FEW_ROWS:
        return
    same = np.ones(len(values) - 1, bool) if run is None else np.diff(run) == 0
    enough = same.sum() >= _FEW_ROWS // 2
    for column, name in enumerate(names):
        steps = np.diff(values[:, column])
        within = steps[same]
        if (steps == 1).all():
            what = "counts the rows"
        elif enough and (within > 0).all():
            what = "grows from word to word, as a time does"
        elif enough and (within < 0).all():
            what = "falls from word to word, as the time that is left does"
        elif (
            (steps >= 0).all()
            and (steps % 1 == 0).all()
            and 0 < (steps > 0).sum() < len(steps) // 4
        ):
            what = "holds whole numbers that only grow, as the labels of runs or subjects do"
        else:
            continue
        raise ValueError(_refusal(path, name, what))


def _refusal(path: Path, name: str, what: str) -> str:
    return (
        f"{path}: column {name!r} {what}: it is taken for no feature until "
        f"feature_columns= names it (feature_columns=* names all); else give drop_columns={name}, or rename "
        f"it to what it is: {', '.join(TIMING)} (times in seconds), or subject"
    )


def _matches(name: str, names: Sequence[str]) -> list[str]:
    """The columns of that name: the one of exactly this spelling, or all without blanks and case."""
    for same in (str, shown, lambda text: shown(text).casefold()):
        if matching := [column for column in names if same(column) == same(name)]:
            return matching
    return []


def _only(path: Path, name: str, names: Sequence[str]) -> str | None:
    """The column of that name, None without one. Raises ValueError for two in any spelling."""
    matching = [column for column in names if shown(column).casefold() == shown(name).casefold()]
    if len(matching) > 1:
        raise ValueError(
            f"{path} has two columns for {name!r}, {matching[0]!r} and {matching[1]!r}; keep one, or give "
            "drop_columns= with the other"
        )
    return matching[0] if matching else None
