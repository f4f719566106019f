"""What a study shows of itself while it runs: one line a stage, and the time to the end of everything.

On a terminal the line of the stage that runs is drawn anew; elsewhere (a file, a notebook's log, CI) each
stage leaves one plain line when it ends.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple, TextIO

PLAN, VECTORS, SCORES, NULLS, CEILINGS, TESTS, REPORT = (
    "memory plan",
    "word vectors",
    "scores",
    "null draws",
    "noise ceilings",
    "similarity tests",
    "evidence and report",
)
_PAUSE = 0.2  # seconds between two drawings


class Stage(NamedTuple):
    """total: pieces of work; cost: seconds that one is guessed to take; unit: what a piece is called."""

    total: float
    cost: float = 1.0
    unit: str = ""


class Progress:
    """The stages of a study, in order, and how far each is.

    stages: name -> Stage. A stage that has begun tells its own pace; for the others the guesses are scaled by
    how far those before were off. show: False for silence.
    """

    def __init__(self, stages: dict[str, Stage], *, show: bool = True, file: TextIO | None = None):
        self._stages, self._done = stages, dict.fromkeys(stages, 0.0)
        self._skipped = dict.fromkeys(stages, 0.0)
        self._seconds = dict.fromkeys(stages, 0.0)
        self._file = sys.stderr if file is None else file
        self._show, self._running = show, ""
        self.live = show and self._file.isatty()
        self._begin = self._drawn = self._entered = time.monotonic()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator["Progress"]:
        """The part of a program that works on a stage; it may be entered several times."""
        before, self._running = self._running, name
        begin = self._entered = time.monotonic()
        earlier = self._seconds[name]
        self._draw(force=True)
        try:
            yield self
        finally:
            self._seconds[name] = earlier + time.monotonic() - begin
            self._running = before
        if self._done[name] >= self._stages[name].total - 1e-6:
            self._line(self._ended(name))

    def update(self, n: float = 1) -> None:
        """So many pieces more of the running stage are done."""
        if self._running:
            self._done[self._running] += n
            self._draw()

    def skip(self, n: float) -> None:
        """So many pieces more of the running stage were done before, which tells nothing of its pace."""
        if self._running:
            self._skipped[self._running] += n
        self.update(n)

    def complete(self, name: str) -> None:
        """All pieces of a stage, if there is one of this name, are done, or are not for this process."""
        if name in self._stages:
            self._done[name] = self._stages[name].total

    def done(self, name: str) -> float:
        """Pieces of a stage that are done."""
        return self._done[name]

    def note(self, text: str) -> None:
        """A line of its own."""
        self._line(text)

    def left(self) -> float | None:
        """Seconds to the end of everything; None before anything is known."""
        worked = {
            name: stage.cost * (self._done[name] - self._skipped[name])
            for name, stage in self._stages.items()
        }
        if sum(worked.values()) <= 0:
            return None
        spent = dict(self._seconds)
        if self._running:
            spent[self._running] += time.monotonic() - self._entered
        pace = sum(spent.values()) / sum(worked.values())
        seconds = 0.0
        for name, stage in self._stages.items():
            own_pace = spent[name] / worked[name] if worked[name] > 0 else pace
            seconds += max(0.0, stage.cost * (stage.total - self._done[name])) * own_pace
        return seconds

    def _ended(self, name: str) -> str:
        stage = self._stages[name]
        pieces = f"{stage.total:g} {stage.unit}, " if stage.unit else ""
        text = f"{name}: {pieces}{_time(self._seconds[name])}"
        waiting = [other for other in self._stages if self._done[other] < self._stages[other].total]
        if not waiting:
            return f"{text}; all is done, {_time(time.monotonic() - self._begin)}"
        left = self.left()
        about = "" if left is None else f", about {_time(left)} to the end of everything"
        return f"{text}; left: {', '.join(waiting)}{about}"

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self.live or not self._running or (now - self._drawn < _PAUSE and not force):
            return
        self._drawn = now
        name = self._running
        stage, left = self._stages[name], self.left()
        number = list(self._stages).index(name) + 1
        about = "" if left is None else f", about {_time(left)} to the end of everything"
        share = f": {self._done[name]:.0f} of {stage.total:g} {stage.unit}" if stage.unit else ""
        text = f"[{number}/{len(self._stages)}] {name}{share}{about}"
        self._file.write(f"\r\x1b[K{text}")
        self._file.flush()

    def _line(self, text: str) -> None:
        if self._show:
            self._file.write(f"\r\x1b[K{text}\n" if self.live else f"{text}\n")
            self._file.flush()


def _time(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
