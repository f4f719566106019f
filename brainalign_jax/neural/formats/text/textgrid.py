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


def read_textgrid(path: str | Path, tier: str = "word") -> list[tuple[float, float, str]]:
    """The intervals (start s, end s, text) of one interval tier of a Praat TextGrid, long format.

    Text is stripped; doubled quotes are undone. UTF-8, or UTF-16 with a byte-order mark.
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
    if "ooTextFile" not in text[:200] or not re.search(r"item\s*\[\s*1\s*\]", text):
        raise ValueError(f"{path} is not a TextGrid in Praat's long text format; save it as such")
    tiers = re.split(r"^\s*item\s*\[\s*\d+\s*\]\s*:?\s*$", text, flags=re.MULTILINE)[1:]
    names = [re.search(r'name\s*=\s*"([^"]*)"', body) for body in tiers]
    found = [body for match, body in zip(names, tiers, strict=True) if match and match[1] == tier]
    if len(found) != 1:
        known = [match[1] for match in names if match]
        problem = f"no tier {tier!r}" if not found else f"{len(found)} tiers {tier!r}"
        raise ValueError(f"{path} has {problem}; its tiers are {known}")
    declared = _COUNT.search(found[0])
    if declared is None:
        raise ValueError(f"{path}: tier {tier!r} is not an interval tier, or the file is truncated")
    entries = _INTERVAL.findall(found[0])
    if len(entries) != int(declared.group(1)):
        raise ValueError(
            f"{path}: tier {tier!r} declares {declared.group(1)} intervals but {len(entries)} can "
            "be read: the file is truncated or damaged; get it again"
        )
    intervals, previous = [], -np.inf
    for number, (first, last, label) in enumerate(entries, 1):
        try:
            start, end = float(first), float(last)
        except ValueError:
            start = end = np.nan
        if not (np.isfinite([start, end]).all() and start < end and start >= previous - 1e-6):
            raise ValueError(
                f"{path}: interval {number} of tier {tier!r} runs from {first} to {last} s; times "
                "must be numbers, start < end, without overlap: repair the file or get it again"
            )
        previous = end
        intervals.append((start, end, label.replace('""', '"').strip()))
    return intervals


def write_textgrid(
    path: str | Path, intervals: Sequence[tuple[float, float, str]], tier: str = "word"
) -> Path:
    """Write intervals (start s, end s, text) as a TextGrid of one tier, long format, UTF-8.

    `read_textgrid` returns the same numbers. Raises ValueError for no intervals, or intervals that
    it would refuse.
    """
    path, previous = Path(path), -np.inf
    for number, (start, end, _) in enumerate(intervals, 1):
        if not (np.isfinite([start, end]).all() and previous - 1e-6 <= start < end):
            raise ValueError(
                f"interval {number} runs from {start} to {end} s; give finite times in order, without "
                "overlap"
            )
        previous = end
    if not len(intervals):
        raise ValueError(f"there are no intervals to write to {path}; give at least one")
    first, last = float(intervals[0][0]), float(intervals[-1][1])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        f"xmin = {first!r}",
        f"xmax = {last!r}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        f'        name = "{tier}"',
        f"        xmin = {first!r}",
        f"        xmax = {last!r}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, end, label) in enumerate(intervals, 1):
        doubled = label.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {float(start)!r}",
            f"            xmax = {float(end)!r}",
            f'            text = "{doubled}"',
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
