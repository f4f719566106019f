"""A file that is read bit by bit, and must not be replaced or written to between two of them."""

from __future__ import annotations

from pathlib import Path


class UnchangedFile:
    """Remembers which file lies at `path`, its size and when it was written."""

    def __init__(self, path: Path):
        self.path, self._state = path, _state(path)

    def check(self) -> None:
        """Raise ValueError if another file lies there now, or if it was written to."""
        if _state(self.path) != self._state:
            raise ValueError(
                f"{self.path} was replaced or written to while its tensors were read, which would "
                "mix two checkpoints; load the model again once the file is complete."
            )


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
