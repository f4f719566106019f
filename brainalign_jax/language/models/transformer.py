"""Blocks shared by BERT, GPT-2 and OPT, and what a language model returns.

Every parameter of a block carries a leading layer axis; the blocks run by `jax.lax.scan`, so the
compile time does not grow with depth, and every hidden state comes out of the scan.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.activations import ACTIVATIONS


@dataclass(frozen=True)
class TransformerConfig:
    """The architecture, in one vocabulary for the three families.

    `width` is the width of the residual stream, `embed_width` that of the token embedding (they
    differ in opt-350m only), `max_length` the number of usable token positions and
    `position_offset` the unused rows before them (2 for OPT). `scale_by_layer` divides the
    attention scores of block l (from 0) by l + 1. `init_std` and `pad_id` matter to untrained
    models only. Raises ValueError on sizes that cannot be, or an unknown activation.
    """

    family: str
    vocab_size: int
    width: int
    n_layers: int
    n_heads: int
    ffn_width: int
    max_length: int
    activation: str
    norm_eps: float
    embed_width: int
    causal: bool
    norm_first: bool
    final_norm: bool
    bias: bool = True
    norm_affine: bool = True
    type_vocab_size: int = 0
    position_offset: int = 0
    scale_scores: bool = True
    scale_by_layer: bool = False
    init_std: float = 0.02
    residual_init_std: float | None = None
    pad_id: int | None = None

    def __post_init__(self) -> None:
        sizes = "vocab_size", "width", "n_layers", "n_heads", "ffn_width", "max_length"
        for name in (*sizes, "embed_width"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{self.family}: {name} is {getattr(self, name)} and must be at least 1; "
                    "correct config.json."
                )
        if self.width % self.n_heads:
            raise ValueError(
                f"{self.family}: hidden size {self.width} is not a multiple of the "
                f"{self.n_heads} attention heads; correct config.json."
            )
        if self.activation not in ACTIVATIONS:
            close = difflib.get_close_matches(str(self.activation), ACTIVATIONS, n=1)
            raise ValueError(
                f"{self.family}: activation {self.activation!r} is not supported"
                + (f" (did you mean {close[0]!r}?)" if close else "")
                + f"; supported: {', '.join(ACTIVATIONS)}."
            )

    def score_scales(self) -> np.ndarray:
        """Factor on the attention scores of each block, [L] float32."""
        scale = 1 / math.sqrt(self.width // self.n_heads) if self.scale_scores else 1.0
        divisor = np.arange(1, self.n_layers + 1) if self.scale_by_layer else np.ones(self.n_layers)
        return (scale / divisor).astype(np.float32)


def refuse_options(config: Any, supported: Mapping[str, Any]) -> None:
    """Raise ValueError if an option in a transformers config has a value we do not implement.

    `supported` maps an option to the one value implemented. An absent, None or empty option is
    taken as not set.
    """
    wrong = []
    for option, value in supported.items():
        found = getattr(config, option, None)
        if found is not None and found != value and not (isinstance(found, dict) and not found):
            wrong.append(f"{option}={found!r} (only {value!r})")
    if wrong:
        raise ValueError(
            f"config.json asks for what the {config.model_type} model here does not implement: "
            f"{'; '.join(wrong)}. Use a checkpoint without it."
        )


class HiddenStates(NamedTuple):
    """Hidden states of a batch.

    `states` is [S, batch, time, width]: the embedding output, then every block; S = n_layers + 1,
    as transformers' `output_hidden_states`. `final` is None except where the last state has
    another width (opt-350m with last="hf"): there it is [batch, time, embed_width] and `states`
    lacks the last one (S = n_layers).
    """

    states: jax.Array
    final: jax.Array | None


class Dense(nnx.Module):
    """x @ kernel + bias, with `kernel` [*lead, n_in, n_out]; `lead` is the layer axis, if any."""

    def __init__(self, lead, n_in, n_out, *, bias, std, dtype, rngs):
        draw = jax.random.normal(rngs.params(), (*lead, n_in, n_out), jnp.float32)
        self.kernel = nnx.Param((draw * jnp.float32(std)).astype(dtype))
        self.bias = nnx.Param(jnp.zeros((*lead, n_out), dtype)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.matmul(x, self.kernel[...], precision=matmul_precision(x.dtype))
        return y if self.bias is None else y + self.bias[...]


class Norm(nnx.Module):
    """Layer normalisation over the last axis, computed in at least float32."""

    def __init__(self, lead, width, *, eps, affine, dtype):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((*lead, width), dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros((*lead, width), dtype)) if affine else None

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(at_least_float32(x.dtype))
        centred = wide - wide.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.eps)
        if self.scale is not None:
            y = y * self.scale[...].astype(y.dtype) + self.bias[...].astype(y.dtype)
        return y.astype(x.dtype)


class Embedding(nnx.Module):
    """A table [rows, width] looked up by row."""

    def __init__(self, rows, width, *, std, dtype, rngs, zero_row=None):
        table = jax.random.normal(rngs.params(), (rows, width), jnp.float32) * jnp.float32(std)
        if zero_row is not None:
            table = table.at[zero_row].set(0)
        self.table = nnx.Param(table.astype(dtype))

    def __call__(self, rows: jax.Array) -> jax.Array:
        return jnp.take(self.table[...], rows, axis=0, mode="clip")


class Blocks(nnx.Module):
    """Attention and feed-forward blocks; parameters stacked over layers, written for one layer.

    Called on a module whose parameters have lost their layer axis (inside the scan).
    """

    def __init__(self, config: TransformerConfig, *, dtype, rngs: nnx.Rngs):
        c, lead = config, (config.n_layers,)
        residual_std = c.init_std if c.residual_init_std is None else c.residual_init_std
        dense = dict(bias=c.bias, dtype=dtype, rngs=rngs)
        norm = dict(eps=c.norm_eps, affine=c.norm_affine, dtype=dtype)
        self.config = c
        self.attention_norm = Norm(lead, c.width, **norm)
        # Query, key and value side by side: one product instead of three.
        self.qkv = Dense(lead, c.width, 3 * c.width, std=c.init_std, **dense)
        self.attention_out = Dense(lead, c.width, c.width, std=residual_std, **dense)
        self.ffn_norm = Norm(lead, c.width, **norm)
        self.ffn_in = Dense(lead, c.width, c.ffn_width, std=c.init_std, **dense)
        self.ffn_out = Dense(lead, c.ffn_width, c.width, std=residual_std, **dense)

    def __call__(self, x: jax.Array, visible: jax.Array, scale: jax.Array) -> jax.Array:
        """x [B, T, width]; visible [B, 1, 1 or T, T] bool, query × key; scale of the scores."""
        if self.config.norm_first:
            x = x + self._attend(self.attention_norm(x), visible, scale)
            return x + self._feed_forward(self.ffn_norm(x))
        x = self.attention_norm(x + self._attend(x, visible, scale))
        return self.ffn_norm(x + self._feed_forward(x))

    def _attend(self, x: jax.Array, visible: jax.Array, scale: jax.Array) -> jax.Array:
        batch, time, width = x.shape
        precision, wide = matmul_precision(x.dtype), at_least_float32(x.dtype)
        qkv = self.qkv(x).reshape(batch, time, 3, self.config.n_heads, -1)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk", query, key, precision=precision, preferred_element_type=wide
        )
        # A finite minimum keeps rows without any visible key (an empty text) free of NaN.
        scores = jnp.where(visible, scores * scale.astype(wide), jnp.finfo(wide).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value, precision=precision)
        return self.attention_out(mixed.reshape(batch, time, width))

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        return self.ffn_out(ACTIVATIONS[self.config.activation](self.ffn_in(x)))


class LanguageModel(nnx.Module):
    """Base of `Bert`, `GPT2` and `OPT`: embeddings, stacked blocks, and what follows the last.

    A subclass adds its embedding tables and implements `embed_tokens`.
    """

    def __init__(self, config: TransformerConfig, *, dtype, rngs: nnx.Rngs):
        self.config = config
        self.blocks = Blocks(config, dtype=dtype, rngs=rngs)
        # One assignment each: an NNX attribute that was None cannot become a module later.
        self.final_norm = (
            Norm((), config.width, eps=config.norm_eps, affine=config.norm_affine, dtype=dtype)
            if config.final_norm
            else None
        )
        self.project_out = self._projection(config.width, config.embed_width, dtype, rngs)

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

    def embed_tokens(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        """Input of the first block, [B, T, width]."""
        raise NotImplementedError

    def __call__(
        self, input_ids: jax.Array, attention_mask: jax.Array, *, last: str = "hf"
    ) -> HiddenStates:
        """All hidden states of right-padded token ids.

        `input_ids`, `attention_mask` are int32 [batch, time], the mask 1 on tokens and 0 on
        padding. `last="hf"` gives the last state as transformers does (after the final norm and
        projection, where there are any), `last="raw"` the output of the last block. States at
        padding positions mean nothing. Raises ValueError on wrong shapes, on more than
        `max_length` tokens and on an unknown `last`.
        """
        if last not in ("hf", "raw"):
            raise ValueError(f"last={last!r} is not known; use 'hf' or 'raw'.")
        _check_shapes(input_ids, attention_mask, self.max_length)
        input_ids = jnp.asarray(input_ids, jnp.int32)
        attention_mask = jnp.asarray(attention_mask, jnp.int32)

        visible = attention_mask[:, None, None, :] > 0
        if self.config.causal:
            time = input_ids.shape[1]
            visible = visible & jnp.tril(jnp.ones((time, time), bool))
        graph, stacked = nnx.split(self.blocks)

        def run_block(x, layer):
            parameters, scale = layer
            x = nnx.merge(graph, parameters)(x, visible, scale)
            return x, x

        first = self.embed_tokens(input_ids, attention_mask)
        scales = jnp.asarray(self.config.score_scales())
        x, outputs = jax.lax.scan(run_block, first, (stacked, scales))
        if last == "raw" or (self.final_norm is None and self.project_out is None):
            return HiddenStates(jnp.concatenate([first[None], outputs]), None)
        x = x if self.final_norm is None else self.final_norm(x)
        if self.project_out is not None:
            return HiddenStates(jnp.concatenate([first[None], outputs[:-1]]), self.project_out(x))
        return HiddenStates(jnp.concatenate([first[None], outputs[:-1], x[None]]), None)


def hidden_states(
    model: LanguageModel, input_ids: jax.Array, attention_mask: jax.Array, *, last: str = "hf"
) -> HiddenStates:
    """`model(input_ids, attention_mask, last=last)`, checked on the host and compiled.

    Compiles once per shape of the batch. Raises ValueError as the model does, and also on token
    ids outside the vocabulary and on a mask that is not ones followed by zeros in every row.
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
    return _run_compiled(graph, state, input_ids, attention_mask, last=last)


def _run(graph, state, input_ids, attention_mask, *, last):
    return nnx.merge(graph, state)(input_ids, attention_mask, last=last)


_run_compiled = jax.jit(_run, static_argnums=0, static_argnames="last")


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


def matmul_precision(dtype) -> jax.lax.Precision | None:
    """ "highest" for float32 and wider: an accelerator would otherwise compute in TF32."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype).itemsize >= 4 else None


def at_least_float32(dtype) -> jnp.dtype:
    """The dtype itself, or float32 where it is a half type: what sums and norms are taken in."""
    return jnp.dtype(jnp.float32) if jnp.dtype(dtype).itemsize < 4 else jnp.dtype(dtype)
