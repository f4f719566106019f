"""Orthogonal Procrustes: the rotation that brings one set of vectors closest to another.

Reference: Schoenemann (1966), A generalized solution of the orthogonal Procrustes problem,
Psychometrika 31:1-10.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg


class ProcrustesMap(NamedTuple):
    """x -> (x - source_mean) @ rotation + target_mean; rotation [V, D], means [V] and [D]."""

    rotation: jax.Array
    source_mean: jax.Array
    target_mean: jax.Array


def fit(
    source: jax.Array, target: jax.Array, weights: jax.Array, *, center: bool = True
) -> ProcrustesMap:
    """Maximise sum_i w_i <(x_i - mean_x) R, y_i - mean_y> over isometries R.

    With V <= D, where R preserves lengths, this minimises the squared distance
    sum_i w_i |(x_i - mean_x) R - (y_i - mean_y)|^2.

    Where the weighted cross-covariance has rank r below min(V, D), R is the minimal partial
    isometry of rank r: the best rotation is arbitrary on the rest, which the data say nothing of,
    and there the prediction is the training mean.

    Args:
      source: [N, V]; target: [N, D]; V and D may differ.
      weights: [N] training mask or weights.
      center: subtract the training means first; otherwise the means of the map are zero.
    """
    source_mean = jnp.zeros_like(source[0])
    target_mean = jnp.zeros_like(target[0])
    if center:
        source_mean = linalg.weighted_mean(source, weights)
        target_mean = linalg.weighted_mean(target, weights)
    w = weights.astype(source.dtype)[:, None]
    source = linalg.center(source, source_mean, weights) * w
    cross = linalg.matmul(source.T, linalg.center(target, target_mean, weights))
    return ProcrustesMap(linalg.polar_isometry(cross), source_mean, target_mean)


def apply(map: ProcrustesMap, source: jax.Array) -> jax.Array:
    """Predicted targets [M, D] for the rows of source [M, V]."""
    return linalg.matmul(source - map.source_mean, map.rotation) + map.target_mean
