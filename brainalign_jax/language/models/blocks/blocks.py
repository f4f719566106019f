"""Attention and feed-forward blocks of all families, their parameters stacked over layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.blocks.activations import ACTIVATIONS
from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.models.blocks.attention import TextInputs, attend, rotate
from brainalign_jax.language.models.blocks.layers import Dense, Norm


class BlockFill(NamedTuple):
    """What stands in place of parts that are switched off, zero for parts that are on; [L, ...] as the gates.

    heads: [L, H, head width], of what each head gives to the output projection; attention,
    feed_forward: [L, width], of what the sub-layer adds to the residual; block: [L, width], of what
    a block that is passed by adds to it.
    """

    heads: jax.Array
    attention: jax.Array
    feed_forward: jax.Array
    block: jax.Array


class BlockGates(NamedTuple):
    """Factors on the parts of the blocks, all with a leading layer axis outside the scan.

    heads: [L, H] float32, on what each head gives to the output projection; attention,
    feed_forward: [L] float32, on what the sub-layer adds to the residual; block: [L] bool, False
    lets the residual pass the block unchanged; rotary: [L] bool, False leaves queries and keys
    unturned. fill: what stands in place of what is off, or None for nothing.
    """

    heads: jax.Array
    attention: jax.Array
    feed_forward: jax.Array
    block: jax.Array
    rotary: jax.Array
    fill: BlockFill | None = None


class PositionGate(NamedTuple):
    """A float32 scalar on the position embeddings, and [width] what is added in their place."""

    factor: jax.Array
    fill: jax.Array


class Interventions(NamedTuple):
    """What is switched off, as arrays: the same shapes whatever the setting.

    positions: float32 scalar on the position embeddings added to the word's, or a PositionGate;
    blocks: BlockGates.
    """

    positions: jax.Array | PositionGate
    blocks: BlockGates


class LayerInputs(NamedTuple):
    """What a block needs beside its parameters, with a leading layer axis outside the scan.

    scale: [L] float32 on the attention scores; window: [L] int32, see `attend`, or None; gates:
    BlockGates, or None where nothing is switched off.
    """

    scale: jax.Array
    window: jax.Array | None
    gates: BlockGates | None


class SubLayers(NamedTuple):
    """What the two sub-layers of a block add to the residual, [B, T, width] each: after the
    output projection and its bias, before the residual sum; and what the heads, side by side, give to
    the output projection [B, T, heads x head width]."""

    attention: jax.Array
    feed_forward: jax.Array
    heads: jax.Array


def layer_inputs(
    config: TransformerConfig, interventions: Interventions | None = None
) -> LayerInputs:
    """The inputs of all blocks, stacked, to be scanned with the parameters or indexed by layer."""
    window = jnp.asarray(np.asarray(config.windows, np.int32)) if config.windows else None
    gates = None if interventions is None else interventions.blocks
    return LayerInputs(jnp.asarray(config.score_scales()), window, gates)


def apply_block(
    graph: nnx.GraphDef,
    parameters: Any,
    x: jax.Array,
    texts: TextInputs,
    layer: LayerInputs,
    *,
    sublayers: bool = False,
) -> tuple[jax.Array, SubLayers | None]:
    """One block on x [B, T, width], from the parameters and inputs of its layer alone.

    `graph` and the stacked parameters are `nnx.split(model.blocks)`; `parameters` are those of
    one layer, `jax.tree.map(lambda p: p[l], stacked)`. The second value is None unless
    `sublayers`.
    """
    x, parts = nnx.merge(graph, parameters)(x, texts, layer)
    return x, parts if sublayers else None


class Blocks(nnx.Module):
    """Attention and feed-forward blocks; parameters stacked over layers, written for one layer.

    Called on a module whose parameters have lost their layer axis (inside the scan).
    """

    def __init__(self, config: TransformerConfig, *, dtype, rngs: nnx.Rngs):
        c, lead = config, (config.n_layers,)
        residual_std = c.init_std if c.residual_init_std is None else c.residual_init_std
        common = dict(dtype=dtype, rngs=rngs)
        norm = dict(eps=c.norm_eps, affine=c.norm_affine, dtype=dtype, rms=c.rms_norm)
        mixed = c.n_heads * c.head_size
        qkv_bias = c.bias if c.qkv_bias is None else c.qkv_bias
        out_bias = c.bias if c.out_bias is None else c.out_bias
        self.config = c
        self.attention_norm = Norm(lead, c.width, **norm)
        # Query, key and value side by side: one product instead of three. Gate and input too.
        self.qkv = Dense(lead, c.width, sum(c.qkv_widths), bias=qkv_bias, std=c.init_std, **common)
        self.attention_out = Dense(lead, mixed, c.width, bias=out_bias, std=residual_std, **common)
        self.ffn_norm = Norm(lead, c.width, **norm)
        inner = 2 * c.ffn_width if c.gated else c.ffn_width
        self.ffn_in = Dense(lead, c.width, inner, bias=c.bias, std=c.init_std, **common)
        self.ffn_out = Dense(lead, c.ffn_width, c.width, bias=c.bias, std=residual_std, **common)
        self.query_norm = Norm(lead, c.head_size, **norm) if c.head_norm else None
        self.key_norm = Norm(lead, c.head_size, **norm) if c.head_norm else None

    def __call__(
        self, x: jax.Array, texts: TextInputs, layer: LayerInputs
    ) -> tuple[jax.Array, SubLayers]:
        """x [B, T, width] → the block's output and what its sub-layers added."""
        c, gates = self.config, layer.gates
        normed = self.attention_norm(x) if c.norm_first else x
        mixed = self._mixed(normed, texts, layer)
        attended = self.attention_out(mixed)
        if gates is not None:
            mixed, attended = (part * gates.attention.astype(x.dtype) for part in (mixed, attended))
            if gates.fill is not None:
                attended = attended + gates.fill.attention.astype(x.dtype)
        if c.parallel:
            fed = self._feed_forward(self.ffn_norm(x), gates)
            # transformers' order of the sum.
            y = fed + attended + x
        elif c.norm_first:
            y = x + attended
            fed = self._feed_forward(self.ffn_norm(y), gates)
            y = y + fed
        else:
            y = self.attention_norm(x + attended)
            fed = self._feed_forward(y, gates)
            y = self.ffn_norm(y + fed)
        if gates is not None:
            passed = x if gates.fill is None else x + gates.fill.block.astype(x.dtype)
            y = jnp.where(gates.block, y, passed)
        return y, SubLayers(attended, fed, mixed)

    def _mixed(self, x: jax.Array, texts: TextInputs, layer: LayerInputs) -> jax.Array:
        """What the heads, side by side, give to the output projection."""
        c, gates = self.config, layer.gates
        batch, time, _ = x.shape
        queries, keys, _ = c.qkv_widths
        parts = jnp.split(self.qkv(x), (queries, queries + keys), axis=-1)
        query, key, value = (part.reshape(batch, time, -1, c.head_size) for part in parts)
        if c.head_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if c.rotary:
            cosine, sine = texts.cosine, texts.sine
            if gates is not None:
                cosine = jnp.where(gates.rotary, cosine, jnp.ones_like(cosine))
                sine = jnp.where(gates.rotary, sine, jnp.zeros_like(sine))
            query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        # No window hides a key of a text that fits into the smallest.
        hides = time > min((window for window in c.windows if window), default=time)
        mixed = attend(
            query,
            key,
            value,
            texts,
            scale=layer.scale,
            window=layer.window if hides else None,
            causal=c.causal,
        )
        if gates is not None:
            mixed = mixed * gates.heads[:, None].astype(x.dtype)
            if gates.fill is not None:
                mixed = mixed + gates.fill.heads.astype(x.dtype)
        return mixed.reshape(batch, time, -1)

    def _feed_forward(self, x: jax.Array, gates: BlockGates | None) -> jax.Array:
        inner = self.ffn_in(x)
        activation = ACTIVATIONS[self.config.activation]
        if self.config.gated:
            gate, inner = jnp.split(inner, 2, axis=-1)
            inner = activation(gate) * inner
        else:
            inner = activation(inner)
        y = self.ffn_out(inner)
        if gates is None:
            return y
        y = y * gates.feed_forward.astype(x.dtype)
        return y if gates.fill is None else y + gates.fill.feed_forward.astype(x.dtype)
