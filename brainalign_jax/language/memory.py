"""How much memory the devices have."""

from __future__ import annotations

import jax

from brainalign_jax.machine import left_memory, total_memory


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
    # Half of all, where nothing tells what is left.
    return left_memory() or (total_memory() or 8 << 30) // 2
