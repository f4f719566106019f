"""Praat TextGrids that the tests read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


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
