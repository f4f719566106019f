"""What else stands in a part's place than zero or its mean: its own output elsewhere, or weights drawn anew.

Resampled, each sub-token gets what the part gives at a sub-token of another text, drawn at random: what is
typical of the part stays, what is of this text goes. Drawn anew, the part is that of an untrained model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.hidden_states import pooled_states
from brainalign_jax.language.models.blocks.blocks import Interventions, layer_inputs
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.interventions import Parts, Specification, reinitialise
from brainalign_jax.language.parts.components import GATE_NAMES
from brainalign_jax.language.text.packing import Batch


def drawn_donors(batches: Sequence[Batch], seed: Sequence[int]) -> np.ndarray:
    """For every place of all batches [P], B x T after B x T, the place whose output it gets; padding its own.

    The donor is drawn from the sub-tokens of other texts at the same position in their text; where no other
    text is so long, from all sub-tokens of other texts; where there is one text only, from its other ones.

    Raises: ValueError for a single sub-token.
    """
    read, text, position = _places(batches)
    if len(read) < 2:
        raise ValueError(
            "the words are a single sub-token, which no other can stand for: give more words, or leave "
            "resample out of the ways (--how)"
        )
    generator = np.random.default_rng(tuple(seed))
    donors = np.arange(sum(batch.text.size for batch in batches))
    order = np.argsort(position, kind="stable")
    _, starts, counts = np.unique(position[order], return_index=True, return_counts=True)
    for start, count in zip(starts, counts, strict=True):
        members = order[start : start + count]  # of as many texts
        if count > 1:
            other = generator.integers(count - 1, size=count)
            other += other >= np.arange(count)
            donors[read[members]] = read[members[other]]
            continue
        (alone,) = members
        others = np.flatnonzero(text != text[alone])
        if not len(others):
            others = np.delete(np.arange(len(read)), alone)
        donors[read[alone]] = read[generator.choice(others)]
    return donors


def drawn_positions(batches: Sequence[Batch], seed: Sequence[int]) -> list[np.ndarray]:
    """Positions [B, T] of sub-tokens drawn from all that are read, for each batch."""
    _, _, position = _places(batches)
    generator = np.random.default_rng(tuple(seed))
    return [generator.choice(position, batch.position.shape) for batch in batches]


def _places(batches: Sequence[Batch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the sub-tokens that are read: place in all batches, number of the text, position in it."""
    most = max(int(batch.text.max()) for batch in batches) + 1
    number, first = [], 0
    for batch in batches:
        lines = np.arange(first, first + len(batch.text))[:, None]
        number.append(np.where(batch.text > 0, lines * most + batch.text, -1).ravel())
        first += len(batch.text)
    text = np.concatenate(number)
    read = np.flatnonzero(text >= 0)
    position = np.concatenate([batch.position.ravel() for batch in batches])
    return read, text[read], position[read]


def outputs_of_block(graph, config, stacked, states, batches, block: int, kind: str) -> jax.Array:
    """What parts of a kind give in an intact block at every place [P, width]; of the heads side by side."""
    inputs = layer_inputs(config)
    return jnp.concatenate(
        [
            _outputs(
                (graph, config),
                stacked,
                inputs,
                x,
                batch,
                np.int32(block),
                shared=shared,
                kind=kind,
            ).reshape(x.shape[0] * x.shape[1], -1)
            for x, (batch, shared) in zip(states, batches, strict=True)
        ]
    )


def through_resampled(
    graph, config, stacked, states, batches, gates: Interventions, setting, outputs, donors
) -> list[jax.Array]:
    """The states behind a block in which the setting's part, off in `gates`, gives its donors' outputs.

    outputs: [P, width], see `outputs_of_block`; donors: [P], see `drawn_donors`.
    """
    kind, block, head = setting.component
    if kind == "heads":
        outputs = outputs[:, head * config.head_size : (head + 1) * config.head_size]
    inputs, start, after = layer_inputs(config, gates), 0, []
    for x, (batch, shared) in zip(states, batches, strict=True):
        stop = start + x.shape[0] * x.shape[1]
        fill = outputs[donors[start:stop]].reshape(*x.shape[:2], -1)
        place = np.array([block, max(head, 0)], np.int32)
        options = dict(shared=shared, kind=kind)
        after.append(
            _through_filled((graph, config), stacked, inputs, fill, x, batch, place, **options)
        )
        start = stop
    return after


def with_part_drawn_anew(model: LanguageModel, component, fresh: LanguageModel) -> LanguageModel:
    """The model with the weights of one part from `fresh`; see `interventions.reinitialise`."""
    kind, block, head = component
    if kind == "positions":
        parts = Parts(positions=True)
    elif kind == "heads":
        parts = Parts(heads=((block, head),))
    else:
        name = "layers" if kind == "layers" else GATE_NAMES[kind]
        parts = Parts(**{name: (block,)})
    return reinitialise(model, Specification(reinitialised=parts), fresh=fresh)


def with_even_gains(model: LanguageModel, block: int, how: str) -> LanguageModel:
    """The model with the gains of a block's two layer norms one ("zero"), or each norm's at their "mean"."""
    graph, state = nnx.split(model)
    leaves = []
    for path, leaf in nnx.to_flat_state(state):
        if path in (("blocks", "attention_norm", "scale"), ("blocks", "ffn_norm", "scale")):
            gains = leaf[...]
            even = jnp.ones_like(gains[block]) * (gains[block].mean() if how == "mean" else 1)
            leaf = leaf.replace(gains.at[block].set(even.astype(gains.dtype)))
        leaves.append((path, leaf))
    return nnx.merge(graph, nnx.from_flat_state(leaves))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared", "kind"))
def _outputs(static, stacked, inputs, x, batch, block, *, shared, kind):
    graph, config = static
    parameters, layer = jax.tree.map(lambda leaf: leaf[block], (stacked, inputs))
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    module = nnx.merge(graph, parameters)
    y, parts = module(x, texts, layer)
    return y - x if kind == "layers" else getattr(parts, GATE_NAMES[kind])


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared", "kind"))
def _through_filled(static, stacked, inputs, fill, x, batch, place, *, shared, kind):
    graph, config = static
    block, head = place
    parameters, layer = jax.tree.map(lambda leaf: leaf[block], (stacked, inputs))
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    if kind == "heads":
        empty = jnp.zeros((*x.shape[:2], config.n_heads, config.head_size), fill.dtype)
        fill = empty.at[:, :, head].set(fill)
    filled = layer.gates.fill._replace(**{GATE_NAMES[kind]: fill})
    layer = layer._replace(gates=layer.gates._replace(fill=filled))
    return nnx.merge(graph, parameters)(x, texts, layer)[0]
