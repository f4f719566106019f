"""A user's path made absolute, and files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from pathlib import Path


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
    given = os.path.join(os.getcwd(), os.path.expanduser(text))
    path = os.path.normpath(given)
    # After a link to a folder, ".." is the folder around what the link points to.
    return Path(path if os.path.realpath(path) == os.path.realpath(given) else given)


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
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{name}: this is a folder", str(path))
    output_folder(path if not path.parent.is_dir() else path.parent, name)
    longest = os.pathconf(path.anchor, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(path.name)) + 14 > longest:  # with what `new_file` adds
        raise OSError(errno.ENAMETOOLONG, f"{name}: the name is too long", str(path))
    return path


@contextlib.contextmanager
def new_file(path: Path):
    """A file to write, in place of `path` once it is complete; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the mode of any new file.
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def umask() -> int:
    """The permissions that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(folder: Path) -> None:
    """Have the system write the folder's list of files to the disk."""
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
