"""The layers of which all families are built: dense, norm, embedding table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


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
    """Layer normalisation over the last axis, computed in at least float32.

    `rms`: divided by the root mean square; no mean is taken off and there is no bias.
    """

    def __init__(self, lead, width, *, eps, affine, dtype, rms=False):
        self.eps = eps
        self.rms = rms
        self.scale = nnx.Param(jnp.ones((*lead, width), dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros((*lead, width), dtype)) if affine and not rms else None

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(at_least_float32(x.dtype))
        centred = wide if self.rms else wide - wide.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.eps)
        if self.scale is not None:
            y = y * self.scale[...].astype(y.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(y.dtype)
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


def matmul_precision(dtype) -> jax.lax.Precision | None:
    """ "highest" for float32 and wider: an accelerator would otherwise compute in TF32."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype).itemsize >= 4 else None


def at_least_float32(dtype) -> jnp.dtype:
    """The dtype itself, or float32 where it is a half type: what sums and norms are taken in."""
    return jnp.dtype(jnp.float32) if jnp.dtype(dtype).itemsize < 4 else jnp.dtype(dtype)
