"""What was downloaded into a folder, and whether it still is what it was."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import filelock

from brainalign_jax.files import new_file

FILE_NAME = "downloads.json"
_LOCKS = ".downloads"
_FORMAT = 1
OFFICIAL, FIRST, BY_HAND = "official", "first download", "placed by hand"


class Record:
    """The JSON file of a folder that says which files were put there, from where and what they are.

    Beside the SHA-256 of a file its size and time of change are kept: as long as both are the
    same, the file counts as verified, so that gigabytes are not read at each call.
    Raises ValueError for a record file that cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / FILE_NAME

    def entry(self, name: str) -> dict | None:
        """What is known of a file: sha256, checksum (its kind), url, date, files."""
        return self._read().get(name)

    def remember(
        self, name: str, sha256: str | None, kind: str, url: str | None, files: Mapping[str, str]
    ) -> None:
        """Keep what a file is. files: {path: SHA-256} of what it put into the folder."""
        stamps = {path: {"sha256": digest, **self._stamp(path)} for path, digest in files.items()}
        entry = {
            "sha256": sha256,
            "checksum": kind,
            "url": url,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "files": stamps,
        }
        with lock(self.folder, FILE_NAME):
            content = {"format": _FORMAT, "files": self._read() | {name: entry}}
            with new_file(self.path) as file:
                file.write(json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")

    def unchanged(self, path: str, stamp: Mapping, *, verify: bool) -> bool:
        """Whether the file is there as it was recorded; reads it where size or time differ."""
        if not (self.folder / path).is_file():
            return False
        now = self._stamp(path)
        if now["size"] != stamp["size"]:
            return False
        if now["mtime_ns"] == stamp["mtime_ns"] and not verify:
            return True
        return sha256_of(self.folder / path) == stamp["sha256"]

    def digests(self, paths: Iterable[Path]) -> dict[str, str]:
        """{path in the folder: SHA-256}."""
        return {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in paths}

    def _stamp(self, path: str) -> dict[str, int]:
        status = (self.folder / path).stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def _read(self) -> dict[str, dict]:
        if not self.path.is_file():
            return {}
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} instead of {_FORMAT}")
            for entry in content["files"].values():
                # What is read of it anywhere, so that a damaged record shows here.
                entry["sha256"], entry["checksum"], entry["url"]
                for stamp in entry["files"].values():
                    stamp["sha256"], int(stamp["size"]), int(stamp["mtime_ns"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{self.path} is not a readable record of downloads ({error!r}); delete it, and the "
                "files in its folder are recorded anew as they are"
            ) from error
        return content["files"]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(folder: Path, name: str) -> AbstractContextManager:
    """Held while `name` in `folder` is written, against other threads and processes.

    A process that dies gives it back. In a folder that cannot be written to nothing is held.
    """
    if not os.access(folder, os.W_OK):
        return nullcontext()
    locks = folder / _LOCKS
    locks.mkdir(exist_ok=True)
    return filelock.FileLock(locks / f"{name.replace('/', '__')}.lock")
