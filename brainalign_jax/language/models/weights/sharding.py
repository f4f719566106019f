"""A model's parameters spread over several devices."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brainalign_jax.language.models.weights.filling import Placement

# Which axis of a parameter is divided, counted from the last: the heads and the feed-forward
# features of every block, which meet again in the sum of the next product; rows of the vocabulary.
_DIVIDED = {
    "blocks.qkv.kernel": 1,
    "blocks.qkv.bias": 1,
    "blocks.attention_out.kernel": 2,
    "blocks.ffn_in.kernel": 1,
    "blocks.ffn_in.bias": 1,
    "blocks.ffn_out.kernel": 2,
    "words.table": 2,
}


def over_devices(devices: Sequence[jax.Device] | None = None) -> Placement:
    """A placement that divides the large parameters among the devices and copies the others.

    devices: all of this process if not given. An axis that does not divide evenly is not divided.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    mesh = Mesh(np.array(devices), ("model",))

    def place(path: str, shape: tuple[int, ...]) -> NamedSharding:
        axes: list[str | None] = [None] * len(shape)
        at = _DIVIDED.get(path)
        if at is not None and shape[-at] % len(devices) == 0:
            axes[-at] = "model"
        return NamedSharding(mesh, PartitionSpec(*axes))

    return place
