"""A user's path made absolute, and files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
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
