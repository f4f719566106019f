"""How much memory the devices have."""

from __future__ import annotations

import jax

from brainalign_jax.machine import free_memory


def accelerator_bytes() -> int:
    """Memory of the smallest local accelerator, in bytes; 0 without one, or where it does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    return min((int((told or {}).get("bytes_limit", 0)) for told in stats), default=0)


def device_bytes() -> int:
    """Memory of the smallest local device, in bytes; the CPU's is what the process may still take.

    Devices that are simulated on the CPU share it.
    """
    simulated = jax.local_device_count() if jax.default_backend() == "cpu" else 1
    return accelerator_bytes() or free_memory() // simulated
