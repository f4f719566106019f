"""A model larger than the device's memory: its layers pass through one at a time, over all batches.

Each weight is read once. What a layer gives for every batch is kept, on the device where there is
room, else on the host; sums of one layer at a time lie on the device.
"""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.hidden_states import pooled_states
from brainalign_jax.language.hidden_states.extraction import Saver, check_ids
from brainalign_jax.language.hidden_states.pooled_states import Sums
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models.blocks.blocks import layer_inputs
from brainalign_jax.language.models.blocks.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.heads import Head
from brainalign_jax.language.text.packing import Packing


class Layers(Protocol):
    """A model by its layers; see `models.weights.filling.Weights`."""

    config: TransformerConfig
    block_graph: nnx.GraphDef
    n_params: int

    def outer(self) -> LanguageModel:
        """What comes before the blocks and after them."""

    def layer(self, layer: int) -> nnx.State:
        """The parameters of one block."""


class LoadedLayers:
    """The layers of a model that lies in memory."""

    def __init__(self, model: LanguageModel):
        self.model, self.config, self.n_params = model, model.config, model.n_params
        self.block_graph, self._stacked = nnx.split(model.blocks)

    def outer(self) -> LanguageModel:
        """The model."""
        return self.model

    def layer(self, layer: int) -> nnx.State:
        """The parameters of one block."""
        return jax.tree.map(lambda leaf: leaf[layer], self._stacked)


def extract(
    layers: Layers,
    packing: Packing,
    n_rows: int,
    *,
    last: str = "hf",
    interventions: Any = None,
    read_head: Callable[[LanguageModel], Head] | None = None,
    saver: Saver | None = None,
    on_words: Callable[[int], Any] = lambda n: None,
    keep_bytes: int | None = None,
) -> Sums:
    """`extraction.extract`, with one layer at a time on the device.

    keep_bytes: what the states between layers may take of the device's memory, a quarter if not
    given; they lie on the host where they take more. Saves its state after a layer. on_words: told
    after each layer, in words x layers.
    """
    model = layers.outer()
    check_ids(model, packing)
    if read_head is not None:
        read_head(model)  # a checkpoint without one is an error now, not after the last layer
    config, n_pooled = model.config, pooled_states.n_pooled(model.config, last)
    graph, state = nnx.split(model)
    batches = list(packing.batches())
    shared = [batch.shared for batch in batches]
    arrays = [pooled_states.device_batch(batch) for batch in batches]
    n_words = [batch.n_words for batch in batches]
    positions = sum(batch.ids.size for batch in batches)
    del batches
    shapes = jax.eval_shape(lambda: pooled_states.empty_sums(model, n_rows, last=last))
    sums = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)

    def layer_sums(step: Callable[[int, jax.Array], tuple]) -> np.ndarray:
        total = jnp.zeros((1, *sums.states.shape[1:]), jnp.float32)
        for number in range(len(arrays)):
            total = step(number, total)
            total.block_until_ready()
            on_words(n_words[number])
        return np.asarray(total[0])

    begin, plan = 0, f"layers of {packing.digest()}"
    saved = None if saver is None else saver.load(plan)
    dtype = jax.eval_shape(
        functools.partial(pooled_states.first_states, gate=None), model, arrays[0]
    ).dtype
    if keep_bytes is None:
        keep_bytes = device_bytes() // 4
    fits = positions * config.width * dtype.itemsize <= keep_bytes
    keep = (lambda x: x) if fits else np.asarray
    states: list = [None] * len(arrays)
    if saved is None:
        gate = None if interventions is None else interventions.positions

        def embed(number: int, total: jax.Array) -> jax.Array:
            x, total = _embed(graph, state, total, arrays[number], gate)
            states[number] = keep(x)
            return total

        sums.states[0] = layer_sums(embed)
    else:
        begin = saved.done
        sums = Sums(saved.arrays["states"], saved.arrays.get("final"))
        for number in range(len(arrays)):
            bits = saved.arrays[f"batch {number}"]
            states[number] = keep(jax.device_put(bits.view(dtype)))
        on_words(sum(n_words) * (begin + 1))

    inputs = layer_inputs(config, interventions)
    for layer, parameters in _layers_from(layers, begin, config.n_layers):
        layer_input = jax.tree.map(lambda leaf, at=layer: leaf[at], inputs)

        step = functools.partial(
            _through_block,
            layers.block_graph,
            config,
            parameters,
            layer_input,
            states,
            arrays,
            shared,
            keep,
            last,
        )
        total = layer_sums(step)
        if layer + 1 < n_pooled:
            sums.states[layer + 1] = total
        if saver is not None and layer + 1 < config.n_layers and saver.due():
            saver.save(plan, layer + 1, _to_save(sums, states))
    if n_pooled <= config.n_layers:
        _add_last(graph, state, sums, states, arrays, last)
    if read_head is not None:
        graph, state = nnx.split((model, read_head(model)))
        total = jnp.zeros(packing.n_presented, jnp.float32)
        for x, batch in zip(states, arrays, strict=True):
            total = _score(graph, state, total, jnp.asarray(x), batch.scored)
        sums = sums._replace(surprisal=np.asarray(total))
    return sums


def _through_block(
    graph, config, parameters, inputs, states, arrays, shared, keep, last, number, total
) -> jax.Array:
    """Batch `number` through a block: its states are replaced, its words added to `total`."""
    x, total = _block(
        (graph, config),
        jnp.asarray(states[number]),
        total,
        parameters,
        arrays[number],
        inputs,
        shared=shared[number],
        last=last,
    )
    states[number] = keep(x)
    return total


def _layers_from(layers: Layers, begin: int, end: int) -> Iterator[tuple[int, nnx.State]]:
    """(number, parameters) of each layer; the next is read while one is computed."""
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        coming = reader.submit(layers.layer, begin) if begin < end else None
        for number in range(begin, end):
            parameters, coming = coming.result(), None
            if number + 1 < end:
                coming = reader.submit(layers.layer, number + 1)
            yield number, parameters
            # Two layers at most: this one goes before the one after the next is read.
            del parameters


def _to_save(sums: Sums, states: list) -> dict[str, np.ndarray]:
    kept = {name: value for name, value in sums._asdict().items() if value is not None}
    for number, x in enumerate(states):
        x = np.asarray(x)
        # NumPy's files know no bfloat16.
        kept[f"batch {number}"] = x.view(np.dtype(f"u{x.dtype.itemsize}"))
    return kept


def _add_last(graph, state, sums: Sums, states: list, arrays: list, last: str) -> None:
    target = sums.states[-1] if sums.final is None else sums.final
    total = jnp.zeros((1, *target.shape), jnp.float32)
    for x, batch in zip(states, arrays, strict=True):
        total = _finish(graph, state, total, jnp.asarray(x), batch)
    target[...] = np.asarray(total[0])


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _embed(graph, state, total, batch, gate):
    x = pooled_states.first_states(nnx.merge(graph, state), batch, gate)
    return x, pooled_states.add_pooled(total, 0, x, batch)


@functools.partial(
    jax.jit, static_argnums=0, static_argnames=("shared", "last"), donate_argnums=(1, 2)
)
def _block(static, x, total, parameters, batch, inputs, *, shared, last):
    graph, config = static
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    x, pooled = pooled_states.block_and_pooled(graph, parameters, x, texts, inputs, last)
    return x, pooled_states.add_pooled(total, 0, pooled, batch)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _finish(graph, state, total, x, batch):
    return pooled_states.add_pooled(total, 0, nnx.merge(graph, state).finish(x), batch)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _score(graph, state, total, x, scored):
    model, head = nnx.merge(graph, state)
    return pooled_states.add_surprisal(total, model, head, x, scored)
