"""A batch through a model, its hidden states pooled to words inside the compiled program.

Every layer's states are pooled as soon as they are there, so [layers, batch, time, width] never
exists: what leaves the program are the sums [S, rows, D], in float32 whatever the model's dtype.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from brainalign_jax.language.models.blocks.attention import TextInputs, packed_inputs, text_inputs
from brainalign_jax.language.models.blocks.blocks import Interventions, apply_block, layer_inputs
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import Head
from brainalign_jax.language.text import predicted_tokens
from brainalign_jax.language.text.packing import Batch
from brainalign_jax.language.text.predicted_tokens import Scored


class Sums(NamedTuple):
    """Running sums over words. states: [S, rows, width] float32; final: [rows, final width] where
    the last layer has another width, else None; surprisal: [N] float32, of the words of the
    stimulus, or None."""

    states: jax.Array | np.ndarray
    final: jax.Array | np.ndarray | None
    surprisal: jax.Array | np.ndarray | None = None


class DeviceBatch(NamedTuple):
    """The arrays of a `packing.Batch` as the programs take them."""

    ids: jax.Array
    text: jax.Array
    position: jax.Array
    token: jax.Array
    row: jax.Array
    weight: jax.Array
    scored: Scored | None


def device_batch(batch: Batch, sharding: jax.sharding.Sharding | None = None) -> DeviceBatch:
    """The batch on the device, or on all devices of a sharding that copies."""
    return jax.device_put(DeviceBatch(*batch[:6], batch.scored), sharding)


def copied_to_all(state: nnx.State) -> NamedSharding | None:
    """The sharding that copies an array to all devices of a divided model; None on one device."""
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf.sharding, NamedSharding) and leaf.sharding.num_devices > 1:
            return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None


def empty_sums(model: LanguageModel, n_rows: int, *, last: str, n_words: int | None = None) -> Sums:
    """Zeros [S, n_rows, D] on the device; n_words: the N of surprisal, where there is to be any."""
    final = last == "hf" and model.project_out is not None
    width = pooled_width(model.config, last)
    states = jnp.zeros((model.n_layers + (not final), n_rows, width), jnp.float32)
    return Sums(
        states,
        jnp.zeros((n_rows, model.config.embed_width)) if final else None,
        None if n_words is None else jnp.zeros(n_words, jnp.float32),
    )


def add_pooled(sums: jax.Array, layer: Any, x: jax.Array, batch: DeviceBatch, scale: Any = 1.0):
    """sums [S, rows, D] with the batch's words added at `layer`; a layer beyond S adds nothing.

    x [B, T, D or less]; row r gets the sum of weight[k] x[token[k]] over row[k] == r, times `scale`.
    """
    x = jnp.pad(x, [(0, 0), (0, 0), (0, sums.shape[-1] - x.shape[-1])])
    picked = x.reshape(-1, x.shape[-1])[batch.token].astype(jnp.float32)
    weighted = picked * (batch.weight * scale)[:, None]
    return sums.at[layer, batch.row].add(weighted, mode="drop", indices_are_sorted=True)


def add_surprisal(
    sums: jax.Array, model: LanguageModel, head: Head, x: jax.Array, scored: Scored
) -> jax.Array:
    """sums [N] with what the scored sub-tokens add to the surprisal (nats) of their words.

    x [B, T, width]: the output of the last block.
    """
    last = model.finish(x)
    scores = predicted_tokens.token_scores(model, head, last, scored.place, scored.target)
    return sums.at[scored.row].add(-scores.log_probability.astype(jnp.float32), mode="drop")


def inputs_of(config, batch: DeviceBatch, *, shared: bool) -> TextInputs:
    """What the blocks need to know of the texts; `shared`: several texts lie in a row."""
    if shared:
        return packed_inputs(config, batch.text)
    # A row without any token would have a softmax over nothing.
    return text_inputs(config, (batch.text > 0).at[:, 0].set(True))


def first_states(model: LanguageModel, batch: DeviceBatch, gate: jax.Array | None) -> jax.Array:
    """The embedding output [B, T, width]."""
    mask = (batch.text > 0).astype(jnp.int32)
    return model.embed_tokens(batch.ids, mask, gate, positions=batch.position)


def finish_sums(model: LanguageModel, sums: Sums, x: jax.Array, batch: DeviceBatch, last: str):
    """sums with the last layer added as transformers gives it, for last="hf"; else as they are."""
    if last != "hf" or (model.final_norm is None and model.project_out is None):
        return sums
    x = model.finish(x)
    if sums.final is None:
        return sums._replace(states=add_pooled(sums.states, model.n_layers, x, batch))
    return sums._replace(final=add_pooled(sums.final[None], 0, x, batch)[0])


def n_pooled(config, last: str) -> int:
    """How many states are pooled as they are, the embedding output included: with last="hf" the
    last block's is not, if a norm or projection follows it. `last` may also name a sub-layer."""
    finished = config.final_norm or config.width != config.embed_width
    return config.n_layers + (last != "hf" or not finished)


def pooled_width(config, last: str) -> int:
    """The width of what is pooled: that of the states, and of all heads where these are pooled."""
    return max(config.width, config.n_heads * config.head_size * (last == "heads"))


def block_and_pooled(graph, parameters, x, texts, layer, last: str) -> tuple[jax.Array, jax.Array]:
    """A block's output, and what of it is pooled: the output itself, or, where `last` is
    "attention" or "feed_forward", what that sub-layer adds to the residual; where it is "heads",
    what these give to the output projection."""
    x, parts = apply_block(graph, parameters, x, texts, layer, sublayers=True)
    return x, getattr(parts, last, x)


def _add_batch(
    graph: nnx.GraphDef,
    sums: Sums,
    state: nnx.State,
    batch: DeviceBatch,
    interventions: Interventions | None,
    *,
    last: str,
    shared: bool,
    sharding: NamedSharding | None = None,
) -> tuple[Sums, jax.Array]:
    merged = nnx.merge(graph, state)
    model, head = (merged, None) if batch.scored is None else merged
    config = model.config
    texts = inputs_of(config, batch, shared=shared)
    blocks, stacked = nnx.split(model.blocks)
    first = first_states(model, batch, None if interventions is None else interventions.positions)
    plain = n_pooled(config, last)

    def run_block(carry, scanned):
        x, states, layer = carry
        x, pooled = block_and_pooled(blocks, scanned[0], x, texts, scanned[1], last)
        states = add_pooled(states, layer, pooled, batch, (layer < plain).astype(jnp.float32))
        return (x, states, layer + 1), None

    states = add_pooled(sums.states, 0, first, batch)
    carry = first, states, jnp.int32(1)
    (x, states, _), _ = jax.lax.scan(
        run_block, carry, (stacked, layer_inputs(config, interventions))
    )
    sums = finish_sums(model, sums._replace(states=states), x, batch, last)
    if head is not None:
        total = add_surprisal(sums.surprisal, model, head, x, batch.scored)
        sums = sums._replace(surprisal=total)
    if sharding is not None:
        sums = jax.lax.with_sharding_constraint(sums, sharding)
    return sums, sums.states[0, 0, 0]


add_batch = jax.jit(
    _add_batch, static_argnums=0, static_argnames=("last", "shared", "sharding"), donate_argnums=1
)
add_batch.__doc__ = """(sums + what the batch adds to them, a number to wait for); `sums` is given away.

graph, state: `nnx.split(model)`, or `nnx.split((model, head))` for batches with what is scored;
shared: whether rows hold several texts; last: "hf", "raw" or a sub-layer;
sharding: that of the sums, where the model is divided.
Compiles once for each shape of batch.
"""
