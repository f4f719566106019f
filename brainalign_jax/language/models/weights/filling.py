"""Weights from the files to the devices, one tensor at a time.

The parameters are made on the devices, empty, and filled in place: the host holds no more than the
tensor that is on its way, whatever the size of the model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models.blocks.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.weights.gguf.header import is_gguf
from brainalign_jax.language.models.weights.sources import Source
from brainalign_jax.language.models.weights.weight_files import Tensors

_FLOATS = ("float16", "bfloat16", "float32", "float64")
Placement = Callable[[str, tuple[int, ...]], jax.sharding.Sharding | None]


class Weights:
    """The weights of a checkpoint, as the parameters of a model: all of it, or layer by layer.

    build: makes the model; only its shapes are looked at. tensors: by their names in `sources`;
    stored: those names -> the names in the files, for messages. placement: the sharding of a
    parameter, from its path ("blocks.qkv.kernel") and shape; the default device without it.
    Raises ValueError if a tensor is unused, a parameter unfilled, or a shape or dtype another than
    the config's: all by the files' headers, before anything is allocated.
    """

    def __init__(
        self,
        build: Callable[[], LanguageModel],
        sources: Mapping[str, Source],
        tensors: Tensors,
        stored: Mapping[str, str],
        *,
        dtype: Any,
        folder: Path,
        placement: Placement | None = None,
    ):
        abstract = nnx.eval_shape(build)
        self.config = abstract.config
        self.sources, self.tensors, self.stored = sources, tensors, stored
        self.dtype, self.folder = jnp.dtype(dtype), folder
        self.placement = placement
        self.graph, self._state = nnx.split(abstract)
        self.block_graph, _ = nnx.split(abstract.blocks)
        self._leaves = {
            ".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(self._state)
        }
        self._check_names()
        self._check_headers()

    @property
    def n_params(self) -> int:
        """Number of parameters of the encoder or decoder."""
        return sum(math.prod(leaf.shape) for _, leaf in self._leaves.values())

    def model(self) -> LanguageModel:
        """The model with every parameter; ValueError where the memory cannot hold them."""
        devices = jax.local_device_count() if self.placement else 1
        check_room(
            self.n_params * self.dtype.itemsize,
            device_bytes() * devices,
            f"the weights in {self.folder}",
            "take a smaller dtype, or layout='streamed' to embed",
        )
        return nnx.merge(self.graph, self._filled(self._parameter))

    def outer(self) -> LanguageModel:
        """The model without its blocks' parameters: what comes before the blocks and after them."""

        def fill(path: str) -> jax.Array:
            in_block = path.startswith("blocks.")
            return jnp.zeros((0,), self.dtype) if in_block else self._parameter(path)

        return nnx.merge(self.graph, self._filled(fill))

    def layer(self, layer: int) -> nnx.State:
        """The parameters of one block, for `apply_block` with `block_graph`."""
        return nnx.from_flat_state(
            (keys[1:], leaf.replace(self._parameter(path, layer)))
            for path, (keys, leaf) in self._leaves.items()
            if path.startswith("blocks.")
        )

    def _check_names(self) -> None:
        wanted = [name for path in self._leaves for group in self._names(path) for name in group]
        unfilled = [name for name in wanted if name not in self.tensors]
        unused = sorted(self.stored[name] for name in set(self.tensors) - set(wanted))
        faults = []
        if unfilled:
            faults.append(f"no tensor for: {', '.join(unfilled)}")
        if unused:
            faults.append(f"no place for: {', '.join(unused)}")
        if faults:
            raise misfit(self.folder, self.config, faults)

    def _names(self, path: str) -> list[list[str]]:
        """The names of the tensors of a parameter, for each of its layers."""
        layers = range(self.config.n_layers) if path.startswith("blocks.") else range(1)
        return [[name.format(layer=n) for name in self.sources[path].names] for n in layers]

    def _check_headers(self) -> None:
        faults = []
        for path in self._leaves:
            source, groups = self.sources[path], self._names(path)
            shape = self._leaves[path][1].shape
            # A view of nothing, for the shapes of the parts.
            placeholder = np.broadcast_to(
                np.float32(0), shape[1:] if path.startswith("blocks.") else shape
            )
            parts = [source.stored_shape(part.shape) for part in source.split(placeholder)]
            for name, expected in ((n, e) for g in groups for n, e in zip(g, parts, strict=True)):
                stored_shape, dtype = self.tensors.header(name)
                if stored_shape != expected:
                    faults.append(
                        f"{self.stored[name]} has shape {stored_shape}, "
                        f"{_described_in(self.folder)} wants {expected}"
                    )
                elif dtype not in _FLOATS:
                    faults.append(f"{self.stored[name]} has dtype {dtype}, not a float")
        if faults:
            raise misfit(self.folder, self.config, faults)

    def _filled(self, fill: Callable[[str], jax.Array]) -> nnx.State:
        filled = {}
        # A table is twice in memory while it is filled: while the rest is not there yet.
        for path in sorted(self._leaves, key=lambda path: path.startswith("blocks.")):
            keys, leaf = self._leaves[path]
            filled[path] = keys, leaf.replace(fill(path))
        return nnx.from_flat_state([filled[path] for path in self._leaves])

    def _parameter(self, path: str, layer: int | None = None) -> jax.Array:
        """A parameter, or that of one block alone."""
        shape, groups = self._leaves[path][1].shape, self._names(path)
        stacked = path.startswith("blocks.") and layer is None
        if layer is not None:
            shape, groups = shape[1:], groups[layer : layer + 1]
        source = self.sources[path]
        sharding = None if self.placement is None else self.placement(path, shape)
        if not stacked and len(groups[0]) == 1:
            values = self.tensors[groups[0][0]]
            return jax.device_put(source.arrange(values).astype(self.dtype), sharding)
        whole = _empty(shape, self.dtype, sharding)
        placeholder = np.broadcast_to(np.float32(0), shape[1:] if stacked else shape)
        for index, group in enumerate(groups):
            start = 0
            for name, part in zip(group, source.split(placeholder), strict=True):
                values = self.tensors[name]
                place = (index,) * stacked + (0,) * (part.ndim - 1) + (start,)
                whole = _placer(source, stacked, sharding)(whole, values, place)
                # The host forgets this tensor before it reads the next.
                whole.block_until_ready()
                values = None
                start += part.shape[-1]
        return whole


def check_room(needed: int, room: int, what: str, remedy: str) -> None:
    """Raises: ValueError where `needed` bytes for `what` are more than the `room` in memory."""
    if needed > room:
        raise ValueError(
            f"{what} take {needed / 1e9:.1f} GB, more than the {room / 1e9:.1f} GB of memory that "
            f"are free; {remedy}."
        )


def _empty(shape: tuple[int, ...], dtype: jnp.dtype, sharding: Any) -> jax.Array:
    return jnp.zeros(shape, dtype, device=sharding)


@functools.cache
def _placer(source: Source, stacked: bool, sharding: Any) -> Callable:
    """A compiled function that writes a tensor of the file into its place in the parameter."""
    # Names and widths do not matter to it: one program for all tensors of a shape.
    arrange = source._replace(names=(), widths=()).arrange

    def place(whole: jax.Array, values: jax.Array, start: tuple[int, ...]) -> jax.Array:
        part = arrange(values).astype(whole.dtype)
        return jax.lax.dynamic_update_slice(whole, part[None] if stacked else part, start)

    return jax.jit(place, donate_argnums=0, out_shardings=sharding)


def misfit(folder: Path, config: TransformerConfig, faults: list[str]) -> ValueError:
    """The error that tells all the ways in which weights do not fit the architecture."""
    return ValueError(
        f"the weights in {folder} do not fit the {config.family} model in its {_described_in(folder)}: "
        f"{'; '.join(faults)}. Check that {_described_in(folder)} and weights belong together, or download "
        "both again."
    )


def _described_in(folder: Path) -> str:
    return "metadata" if is_gguf(folder) else "config.json"
