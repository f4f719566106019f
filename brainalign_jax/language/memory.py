"""How much memory the devices have."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def device_bytes() -> int:
    """Memory of the smallest local device, in bytes; the CPU's is what the process may still take."""
    sizes = []
    for device in jax.local_devices():
        stats = device.memory_stats() if device.platform != "cpu" else None
        if stats and stats.get("bytes_limit"):
            sizes.append(int(stats["bytes_limit"]))
    return min(sizes) if sizes else _available() // _simulated()


def _simulated() -> int:
    """Devices that share the memory of this machine."""
    return jax.local_device_count() if jax.default_backend() == "cpu" else 1


def _available() -> int:
    path = Path("/proc/meminfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30
