"""Agreement of predictions with targets, column by column."""

import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Shaped


def _weights(
    target: Float[Array, "N T"], weights: Shaped[Array, " N"] | None
) -> Float[Array, " N"]:
    if weights is None:
        weights = jnp.ones(target.shape[0], target.dtype)
    return linalg.normalized_weights(weights, target.dtype)


def pearson(
    target: Float[Array, "N T"],
    prediction: Float[Array, "N T"],
    weights: Shaped[Array, " N"] | None = None,
) -> Float[Array, " T"]:
    """Correlation [T] over the rows with weight of target and prediction [N, T].

    A constant column, of either, scores 0; one that holds NaN or an infinity in a row with weight, or
    numbers too large for the squares of their type, NaN.
    """
    w = _weights(target, weights)[:, None]
    target, prediction = (linalg.masked_rows(x, w[:, 0]) for x in (target, prediction))
    a = target - (w * target).sum(axis=0)
    b = prediction - (w * prediction).sum(axis=0)
    covariance, va, vb = (w * a * b).sum(axis=0), (w * a * a).sum(axis=0), (w * b * b).sum(axis=0)
    # Compare with the size of the values: a constant column leaves only rounding behind.
    eps = (8 * jnp.finfo(target.dtype).eps) ** 2
    constant = [
        variance <= eps * (w * x**2).sum(axis=0) for x, variance in ((target, va), (prediction, vb))
    ]
    known = jnp.isfinite(va) & jnp.isfinite(vb)
    undefined = constant[0] | constant[1]
    # The root of zero has no derivative.
    root_a, root_b = (jnp.sqrt(jnp.where(undefined, 1, variance)) for variance in (va, vb))
    correlation = linalg.ratio(covariance, root_a * root_b, undefined)
    return jnp.where(known, correlation, jnp.nan)


def r2(
    target: Float[Array, "N T"],
    prediction: Float[Array, "N T"],
    weights: Shaped[Array, " N"] | None = None,
) -> Float[Array, " T"]:
    """Coefficient of determination [T]: 1 - residual / total sum of squares over the rows with weight.

    The total is taken about the mean of the target over the same rows. A constant target scores 0; NaN
    as in `pearson`.
    """
    w = _weights(target, weights)[:, None]
    target, prediction = (linalg.masked_rows(x, w[:, 0]) for x in (target, prediction))
    residual = (w * (target - prediction) ** 2).sum(axis=0)
    centred = target - (w * target).sum(axis=0)
    total = (w * centred**2).sum(axis=0)
    eps = (8 * jnp.finfo(target.dtype).eps) ** 2
    constant = total <= eps * (w * target**2).sum(axis=0)
    explained = jnp.where(constant, 0, 1 - residual / jnp.where(constant, 1, total))
    return jnp.where(jnp.isfinite(total) & jnp.isfinite(residual), explained, jnp.nan)
