"""Mutual nearest neighbours: do two representations put the same items next to each other?

A local measure: what lies far apart does not count. Reference: Huh et al. (2024), ICML, arXiv:2405.07987,
where it is called mutual k-nearest-neighbour alignment.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg


def mutual_neighbours(x: jax.Array, y: jax.Array, *, k: int = 10) -> jax.Array:
    """Share of the k nearest neighbours (by cosine) in x [T, D] that are so in y [T, E], mean over items.

    Between 0 and 1; of unrelated representations k / (T - 1) in the mean.

    Raises: ValueError where there are no more than k items.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(mutual_neighbours(x, 2 * x[:, ::-1]))
    1.0
    """
    return jnp.vdot(unit_neighbours(x, k=k), unit_neighbours(y, k=k))


def unit_neighbours(x: jax.Array, *, k: int = 10) -> jax.Array:
    """Matrix [T, T] of x [T, D] whose product with another's, summed, is their share of mutual neighbours.

    Entry (i, j) is 1 / sqrt(k T) where j is among the k nearest neighbours of i, never i itself, else 0. Of
    equally near ones the first are taken.

    Raises: ValueError for k below 1, or where there are no more than k items.
    """
    n_items = x.shape[0]
    if not 1 <= k < n_items:
        raise ValueError(
            f"{n_items} items have no {k} neighbours each: k must be 1 to {n_items - 1}"
        )
    unit = linalg.divided(x, jnp.sqrt(jnp.square(x).sum(axis=1, keepdims=True)))
    similarity = jnp.where(jnp.eye(n_items, dtype=bool), -jnp.inf, linalg.gram(unit))
    _, nearest = jax.lax.top_k(similarity, k)
    chosen = jnp.zeros((n_items, n_items), x.dtype)
    return chosen.at[jnp.arange(n_items)[:, None], nearest].set(1 / jnp.sqrt(k * n_items))
