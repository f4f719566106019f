"""Shapes: how far apart two sets of items stay after the best rotation, more or less whitened before.

alpha is 1 for a rotation alone (Procrustes), 0 for full whitening, where distances go by canonical
correlations, and between them for part of it. The angle is a metric: the triangle inequality holds between
models and brains.

Reference: Williams et al. (2021), NeurIPS, arXiv:2110.14739.
"""

import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float


def shape_similarity(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, alpha: float = 1.0
) -> Float[Array, ""]:
    """Cosine of x [T, D] and y [T, E], centred and whitened by alpha, after the best rotation: 0 to 1.

    Whitened axes keep alpha of their size s and get 1 - alpha: alpha s + 1 - alpha. It is 1 where a rotation,
    one factor for all axes (alpha 0 or 1) and adding a vector to all items make x of y.

    Raises: ValueError for alpha outside 0 to 1.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(shape_similarity(x, 3 * x[:, ::-1] + 1).round(3))
    1.0
    """
    return similarity_of_shapes(unit_shape(x, alpha=alpha), unit_shape(y, alpha=alpha))


def shape_distance(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, alpha: float = 1.0
) -> Float[Array, ""]:
    """Angle of two shapes in radians, 0 to pi / 2: the arc cosine of `shape_similarity`. A metric.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> bool(shape_distance(x, 3 * x[:, ::-1] + 1) < 0.01)
    True
    """
    return jnp.arccos(jnp.clip(shape_similarity(x, y, alpha=alpha), 0, 1))


def unit_shape(x: Float[Array, "T D"], *, alpha: float = 1.0) -> Float[Array, "T min(T,D)"]:
    """[T, min(T, D)] of x [T, D]: centred, whitened by alpha, in its principal axes, sum of squares one.

    Raises: ValueError for alpha outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 (whitened) to 1 (rotated only)")
    centred = linalg.center(x, x.mean(axis=0), jnp.ones(len(x), x.dtype))
    basis, sizes, _ = jnp.linalg.svd(centred, full_matrices=False)
    varies = sizes > max(x.shape) * jnp.finfo(x.dtype).eps * sizes[0]
    kept = jnp.where(varies, alpha * sizes + (1 - alpha), 0)
    return basis * linalg.divided(kept, jnp.sqrt(jnp.square(kept).sum()))


def similarity_of_shapes(
    first: Float[Array, "T k"], second: Float[Array, "T l"]
) -> Float[Array, ""]:
    """`shape_similarity` of two sides' `unit_shape`: the sum of the singular values of their product."""
    return jnp.linalg.svd(linalg.matmul(first.T, second), compute_uv=False).sum()
