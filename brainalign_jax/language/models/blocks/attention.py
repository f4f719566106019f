"""Attention over right-padded texts: which keys a query sees, rotary positions, the products."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.models.blocks.layers import at_least_float32, matmul_precision


class TextInputs(NamedTuple):
    """What every block needs to know of the texts of a batch.

    visible: [B, 1, 1 or T, T] bool, query × key, without the windows; lengths: [B] int32 tokens, or
    None where several texts share a row; cosine, sine: [T, R / 2] float32 of the rotary angles, or None.
    """

    visible: jax.Array
    lengths: jax.Array | None
    cosine: jax.Array | None
    sine: jax.Array | None


def text_inputs(config: TransformerConfig, attention_mask: jax.Array) -> TextInputs:
    """The inputs shared by all blocks, from the mask [B, T] of right-padded texts."""
    attention_mask = jnp.asarray(attention_mask, jnp.int32)
    visible = attention_mask[:, None, None, :] > 0
    return _text_inputs(config, visible, attention_mask.sum(1, dtype=jnp.int32))


def packed_inputs(config: TransformerConfig, text: jax.Array) -> TextInputs:
    """The same for rows of several texts: text [B, T] int32 numbers them from 1, 0 is padding.

    A query sees its own text only. Rotary angles count from the row's start: only differences of
    positions matter to them.
    """
    return _text_inputs(config, text[:, None, :, None] == text[:, None, None, :], None)


def _text_inputs(config, visible, lengths) -> TextInputs:
    time = visible.shape[-1]
    if config.causal:
        visible = visible & jnp.tril(jnp.ones((time, time), bool))
    cosine = sine = None
    if config.rotary:
        position = jnp.arange(time, dtype=jnp.float32)
        angles = position[:, None] * jnp.asarray(np.asarray(config.rotary, np.float32))
        cosine, sine = jnp.cos(angles), jnp.sin(angles)
    return TextInputs(visible, lengths, cosine, sine)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """x [B, T, heads, head width] with its first R elements turned; element i is paired with
    element i + R / 2. cosine, sine: [T, R / 2]."""
    half = cosine.shape[-1]
    wide = at_least_float32(x.dtype)
    cosine, sine = (table[:, None, :].astype(wide) for table in (cosine, sine))
    first, second = x[..., :half].astype(wide), x[..., half : 2 * half].astype(wide)
    turned = jnp.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-1
    )
    return jnp.concatenate([turned.astype(x.dtype), x[..., 2 * half :]], axis=-1)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    texts: TextInputs,
    *,
    scale: jax.Array,
    window: jax.Array | None,
    causal: bool,
) -> jax.Array:
    """Softmax attention, [B, T, heads, head width].

    query has n_heads, key and value n_kv_heads; `scale` is a float32 scalar on the scores;
    `window` an int32 scalar, how many tokens a query sees (0: all), or None. The softmax is taken
    in float32 (float64 for float64). cuDNN's flash attention is used on a GPU in a half type,
    where nothing but padding and causality hides a key.
    """
    if window is None and texts.lengths is not None and _flash_fits(query):
        # The scale differs between blocks where it is divided by the layer; cuDNN takes a constant.
        query = (query.astype(jnp.float32) * scale).astype(query.dtype)
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            scale=1.0,
            is_causal=causal,
            key_value_seq_lengths=texts.lengths,
            implementation="cudnn",
        )
    visible = _visible(texts, window)
    if not _library_fits(query.dtype):
        return _attend_plainly(query, key, value, visible, scale)
    precision = "highest" if matmul_precision(query.dtype) is not None else None
    with jax.default_matmul_precision(precision):
        return jax.nn.dot_product_attention(
            query, key, value, mask=visible, scale=scale, implementation="xla"
        )


def _visible(texts: TextInputs, window: jax.Array | None) -> jax.Array:
    if window is None:
        return texts.visible
    position = jnp.arange(texts.visible.shape[-1], dtype=jnp.int32)
    distance = position[:, None] - position
    return texts.visible & ((window == 0) | (distance < window))


def _flash_fits(query: jax.Array) -> bool:
    return (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
        and query.shape[1] > 1
    )


def _library_fits(dtype) -> bool:
    # jax.nn.dot_product_attention takes every softmax in float32, and asks for float16 products
    # with float32 sums, which only a GPU has.
    return dtype in (jnp.float32, jnp.bfloat16) or (
        dtype == jnp.float16 and jax.default_backend() == "gpu"
    )


def _attend_plainly(query, key, value, visible, scale):
    groups = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(part, groups, axis=2) for part in (key, value))
    precision, wide = matmul_precision(query.dtype), at_least_float32(query.dtype)
    scores = jnp.einsum(
        "bqhd,bkhd->bhqk", query, key, precision=precision, preferred_element_type=wide
    )
    # A finite minimum keeps rows without any visible key (an empty text) free of NaN.
    scores = jnp.where(visible, scores * scale.astype(wide), jnp.finfo(wide).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value, precision=precision)
