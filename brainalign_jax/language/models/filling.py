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

from brainalign_jax.language.models.sources import Source
from brainalign_jax.language.models.transformer import LanguageModel, TransformerConfig

_FLOATS = ("float16", "bfloat16", "float32", "float64")
Placement = Callable[[str, tuple[int, ...]], jax.sharding.Sharding | None]


class Weights:
    """The weights of a checkpoint, as the parameters of a model: all of it, or layer by layer.

    build: makes the model; only its shapes are looked at. tensors: by their names in `sources`;
    stored: those names -> the names in the files, for messages. placement: the sharding of a
    parameter, from its path ("blocks.qkv.kernel") and shape; the default device without it.
    Raises ValueError if a tensor is unused or a parameter unfilled.
    """

    def __init__(
        self,
        build: Callable[[], LanguageModel],
        sources: Mapping[str, Source],
        tensors: Mapping[str, np.ndarray],
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
        self.placement = placement or (lambda path, shape: None)
        self.graph, self._state = nnx.split(abstract)
        self.block_graph, _ = nnx.split(abstract.blocks)
        self._leaves = {
            ".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(self._state)
        }
        self._check_names()

    @property
    def n_params(self) -> int:
        """Number of parameters of the encoder or decoder."""
        return sum(math.prod(leaf.shape) for _, leaf in self._leaves.values())

    def model(self) -> LanguageModel:
        """The model with every parameter, or ValueError with all faults."""
        return nnx.merge(self.graph, self._filled(lambda path, leaf: self._parameter(path)))

    def outer(self) -> LanguageModel:
        """The model without its blocks' parameters: what comes before the blocks and after them."""

        def fill(path: str, leaf: Any) -> tuple[jax.Array, list[str]]:
            if path.startswith("blocks."):
                return jnp.zeros((0,), self.dtype), []
            return self._parameter(path)

        return nnx.merge(self.graph, self._filled(fill))

    def layer(self, layer: int) -> nnx.State:
        """The parameters of one block, for `apply_block` with `block_graph`."""
        found, faults = [], []
        for path, (keys, leaf) in self._leaves.items():
            if path.startswith("blocks."):
                value, wrong = self._parameter(path, layer)
                found.append((keys[1:], leaf.replace(value)))
                faults += wrong
        if faults:
            raise misfit(self.folder, self.config, faults)
        return nnx.from_flat_state(found)

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

    def _filled(self, fill: Callable[[str, Any], tuple[jax.Array, list[str]]]) -> nnx.State:
        found, faults = {}, []
        # A table is twice in memory while it is filled: while the rest is not there yet.
        for path in sorted(self._leaves, key=lambda path: path.startswith("blocks.")):
            keys, leaf = self._leaves[path]
            value, wrong = fill(path, leaf)
            found[path] = keys, leaf.replace(value)
            faults += wrong
        if faults:
            raise misfit(self.folder, self.config, faults)
        return nnx.from_flat_state([found[path] for path in self._leaves])

    def _parameter(self, path: str, layer: int | None = None) -> tuple[jax.Array, list[str]]:
        """A parameter (of one block alone, if `layer` is given) and the faults of its tensors."""
        shape, groups = self._leaves[path][1].shape, self._names(path)
        stacked = path.startswith("blocks.") and layer is None
        if layer is not None:
            shape, groups = shape[1:], groups[layer : layer + 1]
        source, faults = self.sources[path], []
        sharding = self.placement(path, shape)
        single = not stacked and len(groups[0]) == 1
        whole = None if single else _empty(shape, self.dtype, sharding)
        # A view of nothing, for the shapes of the parts.
        one = np.broadcast_to(np.float32(0), shape[1:] if stacked else shape)
        for index, group in enumerate(groups):
            start = 0
            for name, part in zip(group, source.split(one), strict=True):
                values, expected = self.tensors[name], source.stored_shape(part.shape)
                if values.shape != expected:
                    faults.append(
                        f"{self.stored[name]} has shape {values.shape}, config.json wants {expected}"
                    )
                elif values.dtype.name not in _FLOATS:
                    faults.append(f"{self.stored[name]} has dtype {values.dtype}, not a float")
                elif single:
                    whole = jax.device_put(source.arrange(values).astype(self.dtype), sharding)
                elif not faults:
                    place = (index,) * stacked + (0,) * (part.ndim - 1) + (start,)
                    whole = _placer(source, stacked, sharding)(whole, values, place)
                    # The host forgets this tensor before it reads the next.
                    whole.block_until_ready()
                values = None
                start += part.shape[-1]
        return whole, faults


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
        f"the weights in {folder} do not fit the {config.family} model in its config.json: "
        f"{'; '.join(faults)}. Check that config.json and weights belong together, or download "
        "both again."
    )
