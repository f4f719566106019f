"""What the machine has left for this process, and what is installed on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import psutil

_OWN_GROUPS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# By what /proc/self/cgroup lists, of versions 2 and 1: where groups lie; files of their limit and of what
# they hold; the line of memory.stat with what of it the system gives up for others.
_GROUP_FILES = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory() -> int:
    """Bytes that this process may still take: what the machine and its control groups have left."""
    return max(1, min([psutil.virtual_memory().available, *_left_in_groups()]))


def resident_bytes() -> int:
    """Bytes of memory that this process holds now."""
    return psutil.Process().memory_info().rss


def _left_in_groups() -> Iterator[int]:
    """Bytes that each control group around this process has left of its limit."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = _OWN_GROUPS.read_text().splitlines()
    for line in lines:
        _, kind, name = line.split(":", 2)
        if kind not in _GROUP_FILES:
            continue
        place, limit, held, given_up = _GROUP_FILES[kind]
        folder = _GROUPS / place / name.lstrip("/")
        # In a container the group's own folder may not be in sight, but what is around it is.
        for group in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):  # none there, or "max"
                left = int((group / limit).read_text()) - int((group / held).read_text())
                yield left + _in_stat(group / "memory.stat", given_up)


def _in_stat(path: Path, name: str) -> int:
    """The number behind a name in a file of such lines; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0


def package_version(package: str) -> str | None:
    """The version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
