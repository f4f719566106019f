"""How commands end: one line with the remedy, an exit status, and what is kept."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest

from brainalign_jax.commands import ending
from brainalign_jax.commands.command import Command, help_text
from brainalign_jax.commands.ending import explained
from brainalign_jax.files import output_file, output_folder


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ending.Misuse("--x is missing"), 2, "who: --x is missing"),
        (ValueError("file.csv, row 3"), 1, "who: file.csv, row 3"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/o"),
            1,
            "/o: No space left on device: free",
        ),
        (OSError(errno.EMFILE, "Too many open files", "/o"), 1, "ulimit -n"),
        (
            OSError(errno.EROFS, "Read-only file system", "/o"),
            1,
            "on a disk that can be written to",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/o"), 1, "change the permissions"),
        (ValueError("tensorstore: No space left on device"), 1, "free space"),
        (ImportError("this needs h5py: pip install h5py"), 1, "pip install h5py"),
        (MemoryError(), 1, "the memory is used up: lower --max_memory_gb"),
        (
            RuntimeError("process 1 of this study failed: ValueError: x"),
            1,
            "process 1 of this study",
        ),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C: what is finished is kept"),
    ],
)
def test_what_can_be_expected_is_one_line_and_a_status(error, status, said, capsys):
    assert ending.ended(raising(error), "who") == status
    printed = capsys.readouterr().err
    assert said in printed and printed.startswith("who: ") and printed.count("\n") == 1


def test_what_nobody_expects_is_shown_whole():
    for error in (KeyError("a"), AssertionError("b"), RuntimeError("c"), TypeError("d")):
        assert explained(error) is None
        with pytest.raises(type(error)):
            ending.ended(raising(error), "who")


def test_a_peer_that_died_is_named():
    fault = type("JaxRuntimeError", (RuntimeError,), {})
    said = explained(fault("UNKNOWN: Gloo AllGather failed: Connection closed by peer\nmore"))
    assert said.startswith("another process of this study has ended or is out of reach: what is")
    assert "start" in said and "Gloo AllGather failed" in said and "\n" not in said
    gone = RuntimeError("Unable to initialize backend 'cpu': UNAVAILABLE: xla.CoordinationService")
    assert explained(gone).startswith("another process of this study has ended")
    assert explained(fault("INTERNAL: a bug")) is None
    assert "memory is used up" in explained(fault("RESOURCE_EXHAUSTED: 3 GB"))


STOPPED = """
import signal, sys, time
from brainalign_jax.commands import ending
def work():
    print("ready", flush=True)
    {wait}
sys.exit(ending.leave(ending.ended(work, "who")))
"""
AT_ONCE = "time.sleep(60)"
# A callback that swallows the interrupt, as libraries' callbacks do, and goes on.
STUBBORN = """
    ending._GRACE = 0.2
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("wait", [AT_ONCE, STUBBORN])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_and_says_what_is_kept(number, wait):
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(wait=wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, message = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    by = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    assert message == f"who: stopped by {by}: {ending.KEPT}\n"


def test_signals_are_given_back_and_can_be_taken_again():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def work():
        taken = signal.getsignal(signal.SIGTERM)
        assert taken != before[0]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as JAX's coordination does
        ending.take_signals()
        assert signal.getsignal(signal.SIGTERM) == taken

    assert ending.ended(work, "who") == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_an_output_folder_is_tried_and_nothing_is_made(tmp_path):
    assert output_folder(tmp_path / "a" / "b", "output_dir") == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("kept")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    long = "x" * 300
    for name, kind in (
        ("file", NotADirectoryError),
        ("file/below", NotADirectoryError),
        ("nowhere", NotADirectoryError),
        (long, OSError),
        (f"a/{long}/b", OSError),
    ):
        with pytest.raises(kind, match="output_dir") as caught:
            output_folder(tmp_path / name, "output_dir")
        assert "\n" not in explained(caught.value) and "name" in explained(caught.value)
    assert (tmp_path / "file").read_text() == "kept"
    assert output_file(tmp_path / "t" / "s.csv", "--output") == tmp_path / "t" / "s.csv"
    with pytest.raises(IsADirectoryError, match="--output"):
        output_file(tmp_path, "--output")


def test_a_folder_that_refuses_writing_is_told_before_the_work(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="output_dir cannot be written to: No space left") as caught:
        output_folder(tmp_path / "out", "output_dir")
    assert caught.value.errno == errno.ENOSPC and "free space" in explained(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_an_output_that_takes_nothing_more_is_one_line():
    command = [sys.executable, "-m", "brainalign_jax", "datasets"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("brainalign: No space left on device: free space")
    assert done.stderr.count("\n") == 1


def test_an_encoding_without_a_character_gets_what_it_has(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    ending.plain_output()
    print("P@10 … .2 – .3, wörk, na\udcefve")
    streams[0].flush()
    assert streams[0].buffer.getvalue() == b"P@10 ... .2 - .3, w\\xf6rk, na\xefve\n"


def test_the_exit_statuses_are_in_every_help():
    text = help_text(Command("x", "x", (), (), lambda values, text: None))
    assert "Exit status: 0 done; 2 the command line is wrong" in text
