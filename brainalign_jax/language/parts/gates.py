"""What every part of a model adds to an alignment, to first order, from its word vectors' gradient.

A gate is a factor of one on what a part writes. The derivative of the alignment by a gate, with its sign
turned, is what the alignment changes by if the part's removal goes on as it begins: the estimate of zero
ablation. With the part's mean in its place the derivative is taken along (mean - value). One pass backward
gives it for all parts. Integrated, the derivative is averaged on the way from one to zero, part by part.

The states that enter the blocks are kept for one batch at a time, and everything inside a block is computed
again on the way back, so that the memory does not grow with depth but for these states.

References: Michel, Levy & Neubig (2019), NeurIPS, arXiv:1905.10650; Sundararajan, Taly & Yan (2017), ICML,
arXiv:1703.01365.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.hidden_states import pooled_states
from brainalign_jax.language.models.blocks.blocks import BlockFill, apply_block, layer_inputs
from brainalign_jax.language.parts.ablation import Ablation, open_gates
from brainalign_jax.language.parts.components import Component

# (layer, its vectors [T, D]) -> gradients [K, T, D] of K alignments.
Gradients = Callable[[int, np.ndarray], np.ndarray]
SUBLAYERS = ("attention", "ffn", "layers")  # the parts of a block behind its heads, in order
_NAMES = {"attention": "attention", "ffn": "feed_forward", "layers": "block"}


class Gates(NamedTuple):
    """Factors on the parts of the blocks, and what is added to each; all with a leading layer axis.

    heads: [L, H]; attention, feed_forward: [L]; block: [L], on what the whole block adds to the residual.
    """

    heads: jax.Array
    attention: jax.Array
    feed_forward: jax.Array
    block: jax.Array
    fill: BlockFill


class Estimate(NamedTuple):
    """The changes [K, H + 3] of K alignments read at a layer without each part of a block.

    block, layer: where the parts are and where it is read; how: "zero" or "mean". The parts are the heads,
    then `SUBLAYERS`.
    """

    block: int
    layer: int
    how: str
    changes: np.ndarray


class GateGradients:
    """A model and the words that it reads, as of an `Ablation`, and the derivatives by its gates."""

    def __init__(self, ablation: Ablation):
        self._ablation, self.config = ablation, ablation.config
        model = ablation.model
        self._whole = nnx.split(model)
        self._graph, self._stacked = nnx.split(model.blocks)
        self._inputs = layer_inputs(self.config, open_gates(self.config))
        self._batches = [
            (pooled_states.device_batch(batch), batch.shared)
            for batch in ablation.packing.batches()
        ]

    @property
    def n_parts(self) -> int:
        """Parts of a block: its heads, and `SUBLAYERS`."""
        return self.config.n_heads + len(SUBLAYERS)

    def vectors(self) -> np.ndarray:
        """The word vectors [L + 1, T, D] with all gates at one, as `embed` gives them."""
        layers = range(self.config.n_layers + 1)
        by_layer = self._read(self._embedded(), self._open(), 0, layers)
        return np.stack([by_layer[layer] for layer in layers])

    def first_order(
        self,
        gradients: Gradients,
        deep: Collection[int],
        blocks: Collection[int],
        *,
        hows: Sequence[str],
    ) -> Iterator[Estimate]:
        """Estimates of all parts of the blocks, read right behind each and in layers `deep` behind it."""
        vectors, gates, first = self.vectors(), self._open(), min(blocks)
        cotangents = {
            layer: jnp.asarray(gradients(layer, vectors[layer]))
            for layer in sorted({*deep, *(block + 1 for block in blocks)} - set(range(first + 1)))
        }
        states = self._embedded()
        for block in range(first):
            states = self._through(states, gates, block)
        derivatives = self._pulled(states, gates, first, cotangents, set(deep))
        for block in range(first, max(blocks) + 1):
            if block in blocks:
                means = self._means(states, block) if "mean" in hows else None
                for (at, layer), by_gates in derivatives.items():
                    if at == block:
                        for how in hows:
                            yield Estimate(block, layer, how, _changes(by_gates, means, how))
            states = self._through(states, gates, block)

    def integrated(
        self,
        gradients: Gradients,
        deep: Collection[int],
        parts: Collection[Component],
        *,
        hows: Sequence[str],
        steps: int,
    ) -> Iterator[Estimate]:
        """`first_order` of some parts, averaged over the way on which each fades by itself.

        The average over `steps` points of Gauss and Legendre is the exact change, as exact as the points are
        many: what first order lacks of it is how the alignment bends on the way. Each point takes a run and a
        pass backward behind the part, about three times what switching it off takes. Changes of other parts
        are NaN.
        """
        states, on = self._embedded(), self._open()
        points, weights = np.polynomial.legendre.leggauss(steps)
        columns_of: dict[int, list[int]] = {}
        for part in parts:
            if (column := part_of(part, self.config.n_heads)) is not None:
                columns_of.setdefault(part.block, []).append(column)
        for block in range(max(columns_of, default=-1) + 1):
            columns = columns_of.get(block, [])
            means = self._means(states, block) if "mean" in hows and columns else None
            layers = {block + 1} | {layer for layer in deep if layer > block}
            for how in hows if columns else ():
                totals: dict[int, np.ndarray] = {}
                for column in columns:
                    for factor, weight in zip((1 + points) / 2, weights / 2, strict=True):
                        gates = _faded(on, block, column, factor, means, how)
                        read = self._read(states, gates, block, layers)
                        cotangents = {
                            layer: jnp.asarray(gradients(layer, values))
                            for layer, values in read.items()
                        }
                        derivatives = self._pulled(
                            states, gates, block, cotangents, layers, once=True
                        )
                        for layer in layers:
                            changes = _changes(derivatives[block, layer], means, how)
                            total = totals.setdefault(layer, np.zeros_like(changes))
                            total[:, column] += weight * changes[:, column]
                for layer, changes in sorted(totals.items()):
                    changes[:, np.setdiff1d(np.arange(self.n_parts), columns)] = np.nan
                    yield Estimate(block, layer, how, changes)
            states = self._through(states, on, block)

    def _open(self) -> Gates:
        n_layers, blocks = self.config.n_layers, self._inputs.gates
        ones = jnp.ones(n_layers)
        return Gates(jnp.ones((n_layers, self.config.n_heads)), ones, ones, ones, blocks.fill)

    def _embedded(self) -> list[jax.Array]:
        on = open_gates(self.config).positions
        return [_embed(*self._whole, batch, on) for batch, _ in self._batches]

    def _means(self, states: Sequence[jax.Array], block: int) -> BlockFill:
        return self._ablation.facts(self._stacked, states, self._batches, block).means

    def _through(self, states, gates: Gates, block: int) -> list[jax.Array]:
        static = self._graph, self.config
        return [
            _forward(
                static, self._stacked, self._inputs, gates, x, batch, np.int32(block), shared=shared
            )
            for x, (batch, shared) in zip(states, self._batches, strict=True)
        ]

    def _finishes(self, layer: int) -> bool:
        return self._ablation.finishes and layer == self.config.n_layers

    def _read(
        self, states, gates: Gates, first: int, layers: Collection[int]
    ) -> dict[int, np.ndarray]:
        """The word vectors [T, D] in the layers, from what enters the block `first`."""
        by_layer = {}
        for layer in range(first, max(layers) + 1):
            if layer in layers:
                total = jnp.zeros((self._ablation.n_types, self.config.width), jnp.float32)
                for x, (batch, _) in zip(states, self._batches, strict=True):
                    total = total + _words(
                        *self._whole, x, batch, len(total), self._finishes(layer)
                    )
                by_layer[layer] = np.asarray(total)
            if layer < max(layers):
                states = self._through(states, gates, layer)
        return by_layer

    def _pulled(
        self,
        states: Sequence[jax.Array],
        gates: Gates,
        first: int,
        cotangents: dict[int, jax.Array],
        deep: Collection[int],
        *,
        once: bool = False,
    ) -> dict[tuple[int, int], Gates]:
        """(block, layer) -> derivatives by the gates of a block of what is read at the layer, [K, ...].

        cotangents: layer -> [K, T, D]. Those of the layers `deep` go on to the block `first`, of the others
        one block back. once: only those of the block `first`.
        """
        derivatives: dict[tuple[int, int], Gates] = {}
        static = self._graph, self.config
        for x, (batch, shared) in zip(states, self._batches, strict=True):
            entering = [x]
            for block in range(first, max(cotangents)):
                entering.append(
                    _forward(
                        static,
                        self._stacked,
                        self._inputs,
                        gates,
                        entering[-1],
                        batch,
                        np.int32(block),
                        shared=shared,
                    )
                )
            lanes: dict[int, jax.Array] = {}
            for block in range(max(cotangents) - 1, first - 1, -1):
                layer = block + 1
                if layer in cotangents:
                    state = entering[layer - first]
                    lanes[layer] = _pull_words(
                        *self._whole, state, batch, cotangents[layer], self._finishes(layer)
                    )
                if not lanes:
                    continue
                names, sizes = list(lanes), [len(lane) for lane in lanes.values()]
                into, by_gates = _pull_block(
                    static,
                    self._stacked,
                    self._inputs,
                    gates,
                    entering[block - first],
                    batch,
                    np.int32(block),
                    jnp.concatenate(list(lanes.values())),
                    shared=shared,
                )
                edges = np.cumsum([0, *sizes])
                for name, low, high in zip(names, edges[:-1], edges[1:], strict=True):
                    if not once or block == first:
                        own = jax.tree.map(lambda leaf, a=low, b=high: leaf[a:b], by_gates)
                        known = derivatives.get((block, name))
                        derivatives[block, name] = (
                            own if known is None else jax.tree.map(jnp.add, known, own)
                        )
                lanes = {
                    name: into[low:high]
                    for name, low, high in zip(names, edges[:-1], edges[1:], strict=True)
                    if name in deep
                }
        return derivatives


def part_of(component: Component, n_heads: int) -> int | None:
    """The column of a component in `Estimate.changes`; None for what has no gate."""
    if component.kind == "heads":
        return component.head
    return n_heads + SUBLAYERS.index(component.kind) if component.kind in SUBLAYERS else None


def _changes(by_gates: Gates, means: BlockFill | None, how: str) -> np.ndarray:
    """Changes [K, H + 3] from the derivatives by the gates of a block."""
    heads, *others, fill = by_gates
    changes = -np.concatenate([heads, np.stack(others, axis=1)], axis=1, dtype=np.float64)
    if how == "mean":
        along = [(np.asarray(fill.heads, np.float64) * np.asarray(means.heads)).sum(axis=-1)]
        for name in ("attention", "feed_forward", "block"):
            product = np.asarray(getattr(fill, name), np.float64) * np.asarray(getattr(means, name))
            along.append(product.sum(axis=-1, keepdims=True))
        changes = changes + np.concatenate(along, axis=1)
    return changes


def _faded(on: Gates, block: int, column: int, factor: float, means, how: str) -> Gates:
    """The gates with that of a part at a factor, and the rest of the mean in its place."""
    n_heads = on.heads.shape[1]
    is_head = column < n_heads
    name = "heads" if is_head else _NAMES[SUBLAYERS[column - n_heads]]
    place = (block, column) if is_head else (block,)
    gates = on._replace(**{name: getattr(on, name).at[place].set(factor)})
    if how == "mean":
        mean = means.heads[column] if is_head else getattr(means, name)
        filled = getattr(on.fill, name).at[place].set((1 - factor) * mean)
        gates = gates._replace(fill=on.fill._replace(**{name: filled}))
    return gates


def _gated(graph, config, stacked, inputs, gates: Gates, x, batch, block, *, shared):
    """A block's output with the gates' factors; the gates are those of this block alone."""
    parameters, layer = jax.tree.map(lambda leaf: leaf[block], (stacked, inputs))
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    fill = gates.fill._replace(block=jnp.zeros_like(gates.fill.block))
    inner = layer.gates._replace(
        heads=gates.heads, attention=gates.attention, feed_forward=gates.feed_forward, fill=fill
    )
    y = apply_block(graph, parameters, x, texts, layer._replace(gates=inner))[0]
    return y * gates.block + x * (1 - gates.block) + gates.fill.block


def _pooled(graph, state, x, batch, n_types: int, finishes: bool):
    x = nnx.merge(graph, state).finish(x) if finishes else x
    total = jnp.zeros((1, n_types, x.shape[-1]), jnp.float32)
    return pooled_states.add_pooled(total, 0, x, batch)[0]


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph, state, batch, gate):
    return pooled_states.first_states(nnx.merge(graph, state), batch, gate)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _words(graph, state, x, batch, n_types, finishes):
    return _pooled(graph, state, x, batch, n_types, finishes)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _pull_words(graph, state, x, batch, cotangents, finishes):
    """[K, B, T, D] of the states from those [K, types, D] of the words."""
    n_types = cotangents.shape[1]
    _, pull = jax.vjp(lambda x: _pooled(graph, state, x, batch, n_types, finishes), x)
    return jax.vmap(lambda cotangent: pull(cotangent)[0])(cotangents)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared",))
def _forward(static, stacked, inputs, gates, x, batch, block, *, shared):
    graph, config = static
    own = jax.tree.map(lambda leaf: leaf[block], gates)
    return _gated(graph, config, stacked, inputs, own, x, batch, block, shared=shared)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared",))
def _pull_block(static, stacked, inputs, gates, x, batch, block, cotangents, *, shared):
    """(of what enters the block [K, B, T, D], of its gates [K, ...]) from those of its output."""
    graph, config = static
    own = jax.tree.map(lambda leaf: leaf[block], gates)

    def through(x, own):
        return _gated(graph, config, stacked, inputs, own, x, batch, block, shared=shared)

    _, pull = jax.vjp(through, x, own)
    return jax.vmap(pull)(cotangents)
