"""What the machine has left for this process, and what is installed on it."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path


def free_memory() -> int:
    """Bytes that this process may still take; all that the machine has where the system tells no more."""
    return left_memory() or total_memory() or 2**40


def left_memory() -> int | None:
    """Bytes that the machine and the control group of this process have left; None where they do not tell."""
    left = []
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) * 1024)
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            left.append(int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass  # no control group of version 2
    return max(min(left), 1) if left else None


def total_memory() -> int | None:
    """Bytes of memory that the machine has; None where it does not tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def package_version(package: str) -> str | None:
    """The version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
