"""Progress: one line a stage, no carriage returns where nobody looks, the time to the end of everything."""

import contextlib
import io
from types import SimpleNamespace

import pytest

from brainalign_jax.study import progress
from brainalign_jax.study.evidence import gather
from brainalign_jax.study.progress import REPORT, TESTS, Progress, Stage

STAGES = {"first": Stage(4, 1.0, "pieces"), "second": Stage(1, 2.0)}


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(shown, clock):
    """Four pieces of 3 s, then a stage of 10 s; what was left on the way."""
    left = [shown.left()]
    with shown.stage("first"):
        for _ in range(4):
            clock[0] += 3
            shown.update()
            left.append(shown.left())
    with shown.stage("second"):
        clock[0] += 10
        shown.update()
    return [*left, shown.left()]


def test_elsewhere_each_stage_leaves_one_plain_line(clock):
    file = io.StringIO()
    run(Progress(STAGES, file=file), clock)
    assert file.getvalue().splitlines() == [
        "first: 4 pieces, 12 s; left: second, about 6 s to the end of everything",
        "second: 10 s; all is done, 22 s",
    ]
    assert "\r" not in file.getvalue() and "\x1b" not in file.getvalue()


def test_what_is_left_is_scaled_by_the_pace_so_far(clock):
    # Three times as slow as guessed: 3 pieces of 3 s and a stage of 6 s are left, then 2 ...
    assert run(Progress(STAGES, show=False), clock) == [None, 15.0, 12.0, 9.0, 6.0, 0.0]


def test_what_was_done_before_tells_nothing_of_the_pace(clock):
    shown = Progress(STAGES, show=False)
    with shown.stage("first"):
        clock[0] += 1
        shown.skip(2)
        assert shown.left() is None
        clock[0] += 4
        shown.update()
        assert (
            shown.left() == 5.0 + 2 * 5.0
        )  # a piece of the first stage, and the second's, twice as dear


def test_a_terminal_is_drawn_anew(clock):
    file = Terminal()
    run(Progress(STAGES, file=file), clock)
    drawn = file.getvalue()
    assert "\r\x1b[K[1/2] first: 2 of 4 pieces, about 12 s to the end of everything" in drawn
    assert "\r\x1b[K[2/2] second, about 6 s to the end of everything" in drawn
    assert drawn.count("\n") == 2


def test_a_stage_may_be_entered_again(clock):
    file = io.StringIO()
    shown = Progress(STAGES, file=file)
    for _ in range(2):
        with shown.stage("first"):
            clock[0] += 1
            shown.update(2)
    assert file.getvalue().startswith("first: 4 pieces, 2 s; left: second")
    assert shown.done("first") == 4


def test_what_the_first_process_does_is_not_left_to_another(clock, monkeypatch):
    monkeypatch.setattr(gather.processes, "index", lambda: 1)
    monkeypatch.setattr(gather.processes, "together", contextlib.nullcontext)
    file = io.StringIO()
    shown = Progress({TESTS: Stage(3), REPORT: Stage(1)}, file=file)
    gather.group_tables(SimpleNamespace(progress=shown, evidence=None))
    with shown.stage(REPORT):
        shown.update()
    assert file.getvalue() == f"{REPORT}: 0 s; all is done, 0 s\n"


def test_silence(clock):
    file = io.StringIO()
    shown = Progress(STAGES, show=False, file=file)
    run(shown, clock)
    shown.note("a note")
    assert file.getvalue() == ""


def test_long_times_are_in_minutes_and_hours():
    assert [progress._time(x) for x in (4.4, 89, 120, 5000, 7200)] == [
        "4 s", "89 s", "2 min", "83 min", "2.0 h",
    ]  # fmt: skip
