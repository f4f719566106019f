"""How a command ends: one line that says what was wrong or what is kept, and an exit status.

0 done, 2 the command line is wrong and nothing was done, 1 data, a model or the output was refused while
working, 130 stopped by Ctrl-C and 143 by the system (SIGTERM), where what is finished is kept.
"""

import codecs
import contextlib
import errno
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

USAGE, REFUSED = 2, 1
STATUSES = (
    "Exit status: 0 done; 2 the command line is wrong, nothing was done; 1 data, a model or the output was "
    "refused; 130 stopped by Ctrl-C, 143 by SIGTERM: the same command then goes on with what is finished."
)
KEPT = "what is finished is kept, and the same command goes on from there"
_GRACE = 5.0  # seconds that a stopped command has for its own end


class Misuse(ValueError):
    """The command line is wrong, which is only seen when the options are put together."""


@contextlib.contextmanager
def misuse() -> Iterator[None]:
    """Where options are put together: a ValueError is a mistake in the command line."""
    try:
        yield
    except ValueError as error:
        raise Misuse(str(error)) from error


class _Notice:
    """What is said once of a stop, by the thread that hears of it first; number: of the signal."""

    def __init__(self, who: str, kept: str):
        self._text, self._lock, self.number = (who, kept), threading.Lock(), 0

    def give(self, number: int) -> None:
        self.number, (who, kept) = number, self._text
        if self._lock.acquire(blocking=False):
            by = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
            say(f"{who}: stopped by {by}: {kept}")


def ended(work: Callable[[], int | None], who: str, kept: str = KEPT) -> int:
    """Do the work; its exit status. Whatever a user can mend is one line on standard error.

    who: begins each line. kept: what is left of a work that was stopped.
    """
    notice = _Notice(who, kept)
    try:
        with _warnings_as_lines(who), stoppable(notice):
            status = work() or 0
            sys.stdout.flush()  # a full disk behind it is told here, not when Python ends
            return status
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        notice.give(notice.number or signal.SIGINT)
        return 128 + notice.number
    except Exception as error:
        if notice.number:  # what became of the signal in a library
            return 128 + notice.number
        if isinstance(error, Misuse):
            return refused(error, who)
        said = explained(error)
        if said is None:
            raise
        return refused(said, who, REFUSED)
    finally:
        _give_up_output()


def _give_up_output() -> None:
    """Let nothing more be written to a standard output that takes nothing more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refused(error: object, who: str, status: int = USAGE) -> int:
    """Say in a line what was wrong; the status."""
    say(f"{who}: {error}")
    return status


def say(line: str) -> None:
    """A line on standard error, if there still is one."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


# What a user does about an error of the system.
_REMEDIES = {
    (
        errno.ENOSPC,
        errno.EDQUOT,
    ): "free space or name a folder on another disk; what is finished is kept, "
    "and the same command goes on from there",
    (errno.EACCES, errno.EPERM): "name a folder that you may write to, or change the permissions",
    (errno.EROFS,): "name a folder on a disk that can be written to",
    (errno.ENOTDIR, errno.EEXIST): "a file lies where a folder is needed: name another folder",
    (errno.EISDIR,): "a folder lies where a file is needed: name another file",
    (errno.ENAMETOOLONG,): "give a shorter name",
    (errno.EMFILE, errno.ENFILE): "allow more open files with `ulimit -n 4096`",
    (errno.ENOENT,): "check the name",
    (
        errno.EIO,
        errno.ESTALE,
    ): "the disk or its connection fails: try again, or name another folder",
    (
        errno.EFBIG,
    ): "files of this size are not allowed here: raise `ulimit -f`, or name another disk",
}
_BY_NUMBER = {number: remedy for numbers, remedy in _REMEDIES.items() for number in numbers}
_PEERS = (
    "gloo", "coordination service", "coordinationservice", "coordination_service", "heartbeat",
    "deadline_exceeded",
)  # fmt: skip


def explained(error: Exception) -> str | None:
    """What is said of an exception that can be expected, in a line with the remedy; None for others."""
    if isinstance(error, OSError) and error.strerror:
        places = [str(path) for path in (error.filename, error.filename2) if path is not None]
        remedy = _BY_NUMBER.get(error.errno or 0)
        said = f"{' -> '.join(places)}: " * bool(places) + error.strerror
        return said + f": {remedy}" * bool(remedy)
    text = str(error)
    lower = text.lower()
    if isinstance(error, MemoryError) or "resource_exhausted" in lower:
        detail = f" ({text.splitlines()[0]})" if text else ""
        return f"the memory is used up{detail}: lower --max_memory_gb, --threads or --batch"
    lost = any(sign in lower for sign in _PEERS) and not _told_by_a_peer(error)
    if lost and isinstance(error, RuntimeError):  # also JAX's own
        said = f"another process of this study has ended or is out of reach: {KEPT}, once all "
        return f"{said}processes are started again ({text.splitlines()[0]})"
    if isinstance(error, ImportError | ValueError | OSError) or _told_by_a_peer(error):
        remedy = _of_the_system(lower)
        return text + f": {remedy}" * (remedy is not None and remedy not in text)
    remedy = _of_the_system(lower)
    return None if remedy is None else f"{text}: {remedy}"


def _told_by_a_peer(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "of this study failed: " in str(error)


def _of_the_system(text: str) -> str | None:
    """The remedy of an error of the system that a library has put into words of its own."""
    for number, remedy in _BY_NUMBER.items():
        if number not in (errno.ENOENT, errno.EEXIST) and os.strerror(number).lower() in text:
            return remedy
    return None


@contextlib.contextmanager
def _warnings_as_lines(who: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"{who}: warning: {message}")
        yield


@contextlib.contextmanager
def stoppable(notice: _Notice) -> Iterator[None]:
    """Ctrl-C and SIGTERM say at once what is kept, and end the process within some seconds.

    Python's own handlers wait until a compiled program gives the main thread back, which may take minutes:
    a thread of its own hears of the signal, says so, and ends the process after `_GRACE` seconds or at the
    second signal. Files are written whole or not at all, so that this costs what was not finished alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook, _notices[:] = sys.unraisablehook, [*_notices, notice]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reader, notice), daemon=True)
    watch.start()
    # An interrupt that a callback of a library swallows is no news: the grace ends the process.
    sys.unraisablehook = lambda told: told.exc_type is KeyboardInterrupt or hook(told)
    take_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(earlier)
        os.close(writer)
        watch.join(1.0)
        sys.unraisablehook = hook
        _notices.pop()


_notices: list[_Notice] = []  # of the commands that run, the last one innermost


def take_signals() -> None:
    """Take the signals, also back from a library that took them (JAX's coordination does)."""
    if _notices and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    _notices[-1].number = number
    raise KeyboardInterrupt


def _watch(reader: int, notice: _Notice) -> None:
    number = _heard(reader, None)
    if number is not None:
        notice.give(number)
        if _heard(reader, _GRACE) is not None or not _closed(reader):
            os._exit(128 + number)
    os.close(reader)


def _heard(reader: int, seconds: float | None) -> int | None:
    """The next of the signals that stop; None at the end of the work, or after so many seconds."""
    while select.select([reader], [], [], seconds)[0]:
        text = os.read(reader, 1)
        if not text:
            return None
        if text[0] in (signal.SIGINT, signal.SIGTERM):
            return text[0]
    return None


def _closed(reader: int) -> bool:
    return bool(select.select([reader], [], [], 0)[0]) and not os.read(reader, 1)


def leave(status: int) -> int:
    """The status, for the end of the process; a stopped or broken one does not wait for anything more.

    Python would wait for its threads, and JAX for the other processes of a study.
    """
    joined = getattr(sys.modules.get("jax"), "distributed", None)
    with contextlib.suppress(Exception):
        joined = joined is not None and joined.is_initialized()
    if status > 128 or (status and joined is True):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "≤": "<=", "≥": ">=", "→": "->",
    "’": "'", "‘": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip


def plain_output() -> None:
    """Let standard output and error say what they can where their encoding lacks a character."""
    codecs.register_error("brainalign_plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if not encoding.lower().replace("-", "").startswith("utf") and hasattr(
            stream, "reconfigure"
        ):
            stream.reconfigure(errors="brainalign_plain")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if 0xDC80 <= ord(letter) <= 0xDCFF:  # a byte of a file's name, as the system gave it
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    escaped = letter.encode("ascii", "backslashreplace").decode()
    return _PLAIN.get(letter, escaped), error.start + 1
