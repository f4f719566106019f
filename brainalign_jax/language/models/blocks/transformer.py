"""What a language model is, whatever its family: embeddings, stacked blocks, what follows them.

Every parameter of a block carries a leading layer axis; the blocks run by `jax.lax.scan`, so the
compile time does not grow with depth, and every hidden state comes out of the scan.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.blocks.architecture import TransformerConfig, refuse_options
from brainalign_jax.language.models.blocks.attention import text_inputs
from brainalign_jax.language.models.blocks.blocks import (
    Blocks,
    Interventions,
    PositionGate,
    SubLayers,
    apply_block,
    layer_inputs,
)
from brainalign_jax.language.models.blocks.layers import Dense, Embedding, Norm
from brainalign_jax.names import check_known

__all__ = [
    "Blocks",
    "Dense",
    "Embedding",
    "HiddenStates",
    "LanguageModel",
    "Norm",
    "TransformerConfig",
    "gated",
    "hidden_states",
    "refuse_options",
]


class HiddenStates(NamedTuple):
    """Hidden states of a batch.

    `states` is [S, batch, time, width]: the embedding output, then every block; S = n_layers + 1,
    as transformers' `output_hidden_states`. `final` is None except where the last state has
    another width (opt-350m with last="hf"): there it is [batch, time, embed_width] and `states`
    lacks the last one (S = n_layers). `sublayers`, where asked for, is what attention and
    feed-forward of every block add to the residual, [n_layers, batch, time, width] each.
    """

    states: jax.Array
    final: jax.Array | None
    sublayers: SubLayers | None = None


class LanguageModel(nnx.Module):
    """Base of all families: embeddings, stacked blocks, and what follows the last.

    A subclass adds the tables of positions and token types where it has them, and adds these in `embedded`.
    """

    positions: Any

    def __init__(self, config: TransformerConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.config = config
        self.blocks = Blocks(config, dtype=dtype, rngs=rngs)
        # One assignment each: an NNX attribute that was None cannot become a module later.
        self.final_norm = (
            Norm(
                (),
                config.width,
                eps=config.norm_eps,
                affine=config.norm_affine,
                dtype=dtype,
                rms=config.rms_norm,
            )
            if config.final_norm
            else None
        )
        self.project_out = self._projection(config.width, config.embed_width, dtype, rngs)
        shape = config.vocab_size, config.embed_width
        shared = dict(std=config.init_std, dtype=dtype, rngs=rngs)
        self.words = Embedding(*shape, zero_row=config.pad_id, **shared)

    def _projection(self, n_in: int, n_out: int, dtype, rngs: nnx.Rngs) -> Dense | None:
        """Between embedding width and block width; None where they are equal."""
        if n_in == n_out:
            return None
        std = self.config.init_std
        return Dense((), n_in, n_out, bias=False, std=std, dtype=dtype, rngs=rngs)

    @property
    def family(self) -> str:
        return self.config.family

    @property
    def n_layers(self) -> int:
        return self.config.n_layers

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def max_length(self) -> int:
        """Largest number of tokens in one text."""
        return self.config.max_length

    @property
    def n_params(self) -> int:
        """Number of parameters of the encoder or decoder: no language-model head, no pooler."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(self, nnx.Param)))

    def embed_tokens(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        position_gate: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """Input of the first block, [B, T, width]; `position_gate` is a float32 scalar on the
        position embeddings, `positions` [B, T] int32 a token's place in its text where several
        texts share a row."""
        if positions is None:
            positions = self.places(attention_mask)
        return self.embedded(input_ids, positions, position_gate)

    def places(self, attention_mask) -> jax.Array:
        """A token's place [T], or [B, T], in its text where a row is one text."""
        return jnp.arange(attention_mask.shape[1], dtype=jnp.int32)

    def embedded(self, input_ids, positions, position_gate) -> jax.Array:
        """`embed_tokens` where the tokens' places are known."""
        return self.words(input_ids)

    def finish(self, x: jax.Array) -> jax.Array:
        """What follows the last block: the final norm and projection, where there are any."""
        x = x if self.final_norm is None else self.final_norm(x)
        return x if self.project_out is None else self.project_out(x)

    def last_state(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        *,
        interventions: Interventions | None = None,
    ) -> jax.Array:
        """The last state alone, as transformers gives it, [B, T, width or embed_width]: what a
        language-model head reads. The arguments as for a call."""
        _check_shapes(input_ids, attention_mask, self.max_length)
        texts = text_inputs(self.config, attention_mask)
        graph, stacked = nnx.split(self.blocks)
        gate = None if interventions is None else interventions.positions
        first = self.embed_tokens(input_ids, attention_mask, gate)

        def run_block(x, scanned):
            return apply_block(graph, scanned[0], x, texts, scanned[1])[0], None

        scanned = stacked, layer_inputs(self.config, interventions)
        return self.finish(jax.lax.scan(run_block, first, scanned)[0])

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        *,
        last: str = "hf",
        interventions: Interventions | None = None,
        sublayers: bool = False,
    ) -> HiddenStates:
        """All hidden states of right-padded token ids.

        `input_ids`, `attention_mask` are int32 [batch, time], the mask 1 on tokens and 0 on
        padding. `last="hf"` gives the last state as transformers does (after the final norm and
        projection, where there are any), `last="raw"` the output of the last block. States at
        padding positions mean nothing. `interventions`: what is switched off, see
        `interventions.gates`. Raises ValueError on wrong shapes, on more than `max_length` tokens
        and on an unknown `last`.
        """
        check_known("last=", last, ("hf", "raw"))
        _check_shapes(input_ids, attention_mask, self.max_length)
        input_ids = jnp.asarray(input_ids, jnp.int32)
        attention_mask = jnp.asarray(attention_mask, jnp.int32)
        texts = text_inputs(self.config, attention_mask)
        graph, stacked = nnx.split(self.blocks)

        def run_block(x, scanned):
            parameters, layer = scanned
            x, parts = apply_block(graph, parameters, x, texts, layer, sublayers=sublayers)
            return x, (x, parts)

        gate = None if interventions is None else interventions.positions
        first = self.embed_tokens(input_ids, attention_mask, gate)
        scanned = stacked, layer_inputs(self.config, interventions)
        x, (outputs, parts) = jax.lax.scan(run_block, first, scanned)
        if last == "raw" or (self.final_norm is None and self.project_out is None):
            return HiddenStates(jnp.concatenate([first[None], outputs]), None, parts)
        x = self.finish(x)
        if self.project_out is not None:
            return HiddenStates(jnp.concatenate([first[None], outputs[:-1]]), x, parts)
        return HiddenStates(jnp.concatenate([first[None], outputs[:-1], x[None]]), None, parts)


def gated(x: jax.Array, gate: jax.Array | PositionGate | None) -> jax.Array:
    """x times a float32 scalar, in the dtype of x, with what stands in its place; x itself without a gate."""
    if isinstance(gate, PositionGate):
        return x * gate.factor.astype(x.dtype) + gate.fill.astype(x.dtype)
    return x if gate is None else x * gate.astype(x.dtype)


def hidden_states(
    model: LanguageModel,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    *,
    last: str = "hf",
    interventions: Interventions | None = None,
    sublayers: bool = False,
) -> HiddenStates:
    """`model(input_ids, attention_mask, ...)`, checked on the host and compiled.

    Compiles once per shape of the batch, and once more for interventions, whatever they are.
    Raises ValueError as the model does, and also on token ids outside the vocabulary and on a mask
    that is not ones followed by zeros in every row.
    """
    _check_shapes(input_ids, attention_mask, model.max_length)
    if not isinstance(input_ids, jax.core.Tracer):
        ids = np.asarray(input_ids)
        if ids.size and (ids.min() < 0 or ids.max() >= model.config.vocab_size):
            bad = ids.min() if ids.min() < 0 else ids.max()
            raise ValueError(
                f"token id {bad} is outside the vocabulary of {model.config.vocab_size} entries; "
                "use the tokenizer that belongs to this checkpoint."
            )
    if not isinstance(attention_mask, jax.core.Tracer):
        mask = np.asarray(attention_mask).astype(np.int32)
        if not np.isin(mask, (0, 1)).all() or (np.diff(mask, axis=1) > 0).any():
            raise ValueError(
                "attention_mask must be ones followed by zeros in every row; pad on the right."
            )
    graph, state = nnx.split(model)
    return _run_compiled(
        graph, state, input_ids, attention_mask, interventions, last=last, sublayers=sublayers
    )


def _run(graph, state, input_ids, attention_mask, interventions, *, last, sublayers):
    return nnx.merge(graph, state)(
        input_ids, attention_mask, last=last, interventions=interventions, sublayers=sublayers
    )


_run_compiled = jax.jit(_run, static_argnums=0, static_argnames=("last", "sublayers"))


def _check_shapes(input_ids, attention_mask, max_length: int) -> None:
    shape, mask_shape = np.shape(input_ids), np.shape(attention_mask)
    if len(shape) != 2 or shape != mask_shape or 0 in shape:
        raise ValueError(
            f"input_ids {shape} and attention_mask {mask_shape} must both be [batch, time], not "
            "empty; pad the texts to one length."
        )
    if shape[1] > max_length:
        raise ValueError(
            f"{shape[1]} tokens are more than the {max_length} positions of this model; cut the "
            "texts into shorter contexts."
        )
