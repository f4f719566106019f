"""Praat TextGrids: the times of words in a sound file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.arrays import check_size

# The largest number of intervals that a file may declare; a longer number is damage.
_COUNT = re.compile(r"intervals\s*:\s*size\s*=\s*(\d{1,9})\s")
_INTERVAL = re.compile(
    r"intervals\s*\[\s*\d+\s*\]\s*:?\s*"
    r'xmin\s*=\s*(\S+)\s+xmax\s*=\s*(\S+)\s+text\s*=\s*"((?:[^"]|"")*)"(?!")'
)

_TOKEN = re.compile(r'"(?:[^"]|"")*"|[^\s"]+')
_TIERS = ('"IntervalTier"', '"TextTier"')
_CHRONOLOGICAL = "Praat chronological TextGrid text file"


def read_textgrid(
    path: str | Path, tier: str | Sequence[str] = "word", *, slack: float = 0.0
) -> list[tuple[float, float, str]]:
    """The intervals (start s, end s, text) of one interval tier of a Praat TextGrid.

    tier: its name, or several of which the file has one. slack: seconds that an interval may begin
    before the one above it ends; with any, intervals may have no length, too.
    The formats are Praat's long, short and chronological text, in UTF-8, or UTF-16 with a byte-order
    mark. Text is stripped; doubled quotes are undone.
    Raises FileNotFoundError, or ValueError naming the file for another format, a tier that is not
    there or there twice, a truncated file, an interval with end <= start, or intervals that overlap.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no TextGrid at {path}")
    check_size(path, 12.0 * path.stat().st_size, "its text")
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 or UTF-16 text ({error}); save it so") from None
    wanted = (tier,) if isinstance(tier, str) else tuple(tier)
    if _CHRONOLOGICAL in text[:200]:
        name, entries = _chronological(path, text, wanted)
    elif "ooTextFile" in text[:200] and re.search(r"item\s*\[\s*1\s*\]", text):
        name, entries = _long(path, text, wanted)
    elif "ooTextFile" in text[:200] and "<exists>" in text[:400]:
        name, entries = _short(path, text, wanted)
    else:
        raise ValueError(
            f"{path} is not a TextGrid in Praat's long text format (nor in its short or chronological "
            "one); save it as such"
        )
    intervals, previous = [], -np.inf
    for number, (first, last, label) in enumerate(entries, 1):
        try:
            start, end = float(first), float(last)
        except ValueError:
            start = end = np.nan
        forward = start <= end if slack > 0 else start < end
        if not (np.isfinite([start, end]).all() and forward and start >= previous - 1e-6 - slack):
            raise ValueError(
                f"{path}: interval {number} of tier {name!r} runs from {first} to {last} s; times "
                "must be numbers, start < end, without overlap: repair the file or get it again"
            )
        previous = end
        intervals.append((start, end, label.replace('""', '"').strip()))
    return intervals


def _the_tier(path: Path, names: Sequence[str], wanted: Sequence[str]) -> int:
    """The place of the one tier that is wanted. Raises ValueError."""
    places = [place for place, name in enumerate(names) if name in wanted]
    if len(places) != 1:
        shown = " or ".join(map(repr, wanted))
        problem = f"no tier {shown}" if not places else f"{len(places)} tiers {shown}"
        raise ValueError(f"{path} has {problem}; its tiers are {list(names)}")
    return places[0]


def _long(path: Path, text: str, wanted: Sequence[str]) -> tuple[str, list[tuple[str, str, str]]]:
    tiers = re.split(r"^\s*item\s*\[\s*\d+\s*\]\s*:?\s*$", text, flags=re.MULTILINE)[1:]
    named = [(re.search(r'name\s*=\s*"([^"]*)"', body), body) for body in tiers]
    known = [(match[1], body) for match, body in named if match]
    name, body = known[_the_tier(path, [name for name, _ in known], wanted)]
    declared = _COUNT.search(body)
    if declared is None:
        raise ValueError(f"{path}: tier {name!r} is not an interval tier, or the file is truncated")
    entries = _INTERVAL.findall(body)
    _check_count(path, name, declared.group(1), len(entries))
    return name, entries


def _short(path: Path, text: str, wanted: Sequence[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """The same order as the long format, without the names of what follows."""
    tokens = _TOKEN.findall(text[text.index("<exists>") + len("<exists>") :])[1:]
    tiers, place = [], 0
    while place + 5 <= len(tokens) and tokens[place] in _TIERS:
        kind, name, count = tokens[place], tokens[place + 1][1:-1], tokens[place + 4]
        if not re.fullmatch(r"\d{1,9}", count):
            raise ValueError(
                f"{path}: tier {name!r} declares {count} intervals; the file is damaged: get it again"
            )
        width = 3 if kind == _TIERS[0] else 2
        place += 5 + width * int(count)
        rows = tokens[place - width * int(count) : place]
        tiers.append((kind, name, count, rows))
    kind, name, count, rows = tiers[_the_tier(path, [tier[1] for tier in tiers], wanted)]
    if kind != _TIERS[0]:
        raise ValueError(f"{path}: tier {name!r} is not an interval tier, or the file is truncated")
    whole = list(zip(rows[::3], rows[1::3], rows[2::3], strict=False))
    entries = [(start, end, label[1:-1]) for start, end, label in whole if _is_text(label)]
    _check_count(path, name, count, len(entries))
    return name, entries


def _chronological(
    path: Path, text: str, wanted: Sequence[str]
) -> tuple[str, list[tuple[str, str, str]]]:
    """Tiers first, then the intervals of all tiers in the order of their starts, tier by number."""
    lines = text.split("\n", 3)
    tokens = _TOKEN.findall(lines[3] if len(lines) > 3 else "")
    tiers, place = [], 0
    while place + 4 <= len(tokens) and tokens[place] in _TIERS:
        tiers.append((tokens[place], tokens[place + 1][1:-1], tokens[place + 3]))
        place += 4
    number = _the_tier(path, [name for _, name, _ in tiers], wanted)
    kind, name, last = tiers[number]
    if kind != _TIERS[0]:
        raise ValueError(f"{path}: tier {name!r} is not an interval tier, or the file is truncated")
    entries = []
    while place < len(tokens):
        tier_number = tokens[place]
        if not re.fullmatch(r"\d{1,4}", tier_number) or not 1 <= int(tier_number) <= len(tiers):
            break
        width = 4 if tiers[int(tier_number) - 1][0] == _TIERS[0] else 3
        row = tokens[place : place + width]
        if len(row) < width or not _is_text(row[-1]):
            break
        if int(tier_number) == number + 1:
            entries.append((row[1], row[2], row[3][1:-1]))
        place += width
    if place < len(tokens) or not entries or entries[-1][1] != last:
        ends = entries[-1][1] if entries else "no interval"
        raise ValueError(
            f"{path}: tier {name!r} lasts until {last} s and can be read until {ends}: the file is "
            "truncated or damaged; get it again"
        )
    return name, entries


def _is_text(token: str) -> bool:
    return len(token) >= 2 and token[0] == token[-1] == '"'


def _check_count(path: Path, name: str, declared: str, read: int) -> None:
    if read != int(declared):
        raise ValueError(
            f"{path}: tier {name!r} declares {declared} intervals but {read} can "
            "be read: the file is truncated or damaged; get it again"
        )
