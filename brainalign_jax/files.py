"""A user's path made absolute; files and tables written completely or not at all, and files with a seal."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pandas as pd

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8,16}\.tmp")
_DAY = 86_400.0  # seconds, after which what cannot be locked is taken for left over
_SEAL = b"\nbrainalign_jax seal 1, SHA-256 "
_SEAL_BYTES = len(_SEAL) + 64 + 1
_BLOCK = 2**20
_LONGEST_NAME = 255  # bytes, of most file systems
_SMALL = 2**26  # bytes of a table that nothing is said about
_PACKED = 1000  # times that a table of results can be packed


class Damaged(ValueError):
    """A file whose bytes are not those that were written."""


def user_path(value: str | os.PathLike, name: str, what: str = "a folder") -> Path:
    """The absolute path that a user means: taken once, where it enters, whatever folder comes later.

    "~" is the user's home; links stay as they are.

    Args:
      value: what the user gave. name: of the argument, flag or variable it came by, for the message.
      what: the remedy, after "give".

    Raises: ValueError where value is empty, blank or no path.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ValueError(f"{name} is {value!r}: give {what}")
    if not text.strip():
        raise ValueError(f"{name} is empty ({text!r}): give {what}")
    absolute = os.path.join(os.getcwd(), os.path.expanduser(text))
    path = os.path.normpath(absolute)
    # After a link to a folder, ".." is the folder around what the link points to.
    return Path(path if os.path.realpath(path) == os.path.realpath(absolute) else absolute)


_TRIAL = 64 * 1024  # bytes


def output_folder(value: str | os.PathLike, name: str) -> Path:
    """The absolute path of a folder that can be written to: tried before anything is computed for it.

    Nothing is made: a file without a name is written to the nearest folder that is there, and is gone.

    Raises: ValueError as `user_path`; OSError with the path where the folder cannot be made or written to.
    """
    folder = user_path(value, name)
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        what = "a link that leads nowhere" if there.is_symlink() else "no folder"
        raise NotADirectoryError(errno.ENOTDIR, f"{name}: this is {what}", str(there))
    longest = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for part in folder.relative_to(there).parts:
        if len(os.fsencode(part)) > longest:
            said = f"{name}: a name is longer than {longest} bytes"
            raise OSError(errno.ENAMETOOLONG, said, str(folder))
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_TRIAL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        said = f"{name} cannot be written to: {error.strerror or error}"
        raise type(error)(error.errno, said, str(there)) from error
    return folder


def output_file(value: str | os.PathLike, name: str) -> Path:
    """The absolute path of a file that can be written, tried as by `output_folder`; it replaces another.

    Raises: as `output_folder`; IsADirectoryError where a folder has this name.
    """
    path = user_path(value, name, "a file")
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, f"{name}: this is a folder", str(path))
    output_folder(path if not path.parent.is_dir() else path.parent, name)
    longest = os.pathconf(path.anchor, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(path.name)) > longest:
        raise OSError(errno.ENAMETOOLONG, f"{name}: the name is too long", str(path))
    return path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, in place of `path` once it is complete; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = _new_temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextlib.contextmanager
def new_sealed_file(path: Path) -> Iterator[_Sealing]:
    """As `new_file`, with a seal at the end: the SHA-256 of the file's name and of all that is written."""
    with new_file(path) as file:
        sealing = _Sealing(file, path.name)
        yield sealing
        file.write(_SEAL + sealing.digest.hexdigest().encode() + b"\n")


@contextlib.contextmanager
def sealed_file(path: Path) -> Iterator[BinaryIO]:
    """A file of `new_sealed_file` to read, every byte of it checked before the first is given away.

    The seal follows what was written: read no further than that, or take `sealed_bytes`.

    Raises: FileNotFoundError; Damaged where the bytes, or the name, are not those that were written.
    """
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - _SEAL_BYTES
        if left < 0:
            raise Damaged("it is cut off")
        digest = hashlib.sha256(path.name.encode())
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise Damaged("it is cut off")
            digest.update(block)
            left -= len(block)
        if file.read() != _SEAL + digest.hexdigest().encode() + b"\n":
            raise Damaged("its bytes were changed or cut off")
        file.seek(0)
        yield file


def sealed_bytes(path: Path) -> bytes:
    """All that was written to a file of `new_sealed_file`. Raises: as `sealed_file`."""
    with sealed_file(path) as file:
        return file.read()[:-_SEAL_BYTES]


def write_parquet(rows: pd.DataFrame, path: Path, *, sealed: bool = False) -> None:
    """Write a table whole or not at all. sealed: as by `new_sealed_file`."""
    with (new_sealed_file if sealed else new_file)(path) as file:
        file.write(rows.to_parquet(index=False))


def read_parquet(content: bytes) -> pd.DataFrame:
    """The table that the bytes of a Parquet file hold.

    Raises: Damaged where they hold none, or declare one that so few bytes cannot hold.
    """
    import pandas as pd
    from pyarrow import parquet

    try:
        declared = parquet.read_metadata(io.BytesIO(content))
        if 8 * declared.num_rows * declared.num_columns > max(_SMALL, _PACKED * len(content)):
            raise ValueError(f"{len(content):,} bytes declare {declared.num_rows:,} rows")
        return pd.read_parquet(io.BytesIO(content))
    except Exception as error:
        raise Damaged(str(error)) from error


class _Sealing:
    """A file to write, all of it counted into a digest."""

    def __init__(self, file: BinaryIO, name: str):
        self._file, self.digest = file, hashlib.sha256(name.encode())

    def write(self, data) -> int:
        self.digest.update(data)
        return self._file.write(data)


@contextlib.contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder of its own below `parent`, removed at the end; if this process dies, by `remove_leftovers`."""
    parent.mkdir(parents=True, exist_ok=True)
    handle, path = _new_locked(parent / name, _open_new_folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Held by one thread of one process at a time, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        _wait_for_lock(handle)
        yield
    finally:
        os.close(handle)


def leftovers(folder: Path, prefix: str = "") -> list[Path]:
    """What processes that died left of their temporary files and folders; of names that begin so."""
    abandoned = []
    for path in _temporaries(folder, prefix):
        with _held_if_left(path) as left:
            abandoned += [path] if left else []
    return abandoned


def remove_leftovers(folder: Path, prefix: str = "") -> None:
    """Remove `leftovers`; what another process or thread is writing stays."""
    for path in _temporaries(folder, prefix):
        with _held_if_left(path) as left:  # nobody can begin to write there meanwhile
            if left and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif left:
                with contextlib.suppress(OSError):
                    path.unlink()


def _temporaries(folder: Path, prefix: str) -> list[Path]:
    candidates = [path for path in folder.glob(".*.tmp") if path.name.startswith(f".{prefix}")]
    return [path for path in sorted(candidates) if _TEMPORARY.fullmatch(path.name)]


@contextlib.contextmanager
def _held_if_left(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of a temporary file or folder, which is then held in here."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        yield False  # gone meanwhile, or another user's
        return
    try:
        yield _take_lock(handle)
    finally:
        os.close(handle)


def _wait_for_lock(handle: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)


def _take_lock(handle: int) -> bool:
    """Whether the lock was free; where there are no locks, whether the age says that it would be."""
    try:
        if fcntl is None:
            raise OSError("no locks")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(handle).st_mtime > _DAY


def _temporary_name(path: Path) -> Path:
    """A name beside the path's that begins as it does, so far as there is room for what comes behind it."""
    name, end = path.name, f".{secrets.token_hex(8)}.tmp"
    while len(os.fsencode(f".{name}{end}")) > _LONGEST_NAME:
        name = name[:-1]
    return path.with_name(f".{name}{end}")


def _new_temporary(path: Path) -> tuple[int, Path]:
    """(descriptor, name) of a new file beside `path`, locked while it is open, with a new file's mode.

    Its name is drawn by the system's randomness: numbers of processes are the same on two machines.
    """
    return _new_locked(path, _open_new_file)


def _new_locked(path: Path, open_new: Callable[[Path], int | None]) -> tuple[int, Path]:
    """(descriptor, name) of a temporary beside `path`, locked while it is open."""
    while True:
        temporary = _temporary_name(path)
        handle = open_new(temporary)
        if handle is None:
            continue
        _wait_for_lock(handle)
        # Between its making and its lock it may have been taken for left over.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary), os.fstat(handle)):
                return handle, temporary
        os.close(handle)


def _open_new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)


def _open_new_folder(path: Path) -> int | None:
    path.mkdir()
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # taken for left over
        return None


def sync(folder: Path) -> None:
    """Have the system write the folder's list of files to the disk, where it can be asked for."""
    with contextlib.suppress(OSError):  # some network file systems cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# What a spreadsheet takes for the beginning of a formula, also behind apostrophes that hide one.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def spreadsheet_text(text: str) -> str:
    """A text for a cell of a table that spreadsheets open: an apostrophe before what begins a formula.

    >>> spreadsheet_text("=1+1"), spreadsheet_text("'tis"), spreadsheet_text("-")
    ("'=1+1", "'tis", "'-")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def plain_text(cell: str) -> str:
    """The text that `spreadsheet_text` made the cell of.

    >>> plain_text("'=1+1"), plain_text("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
