"""Nearest neighbours: do two representations put the same items next to each other?

Local measures: what lies far apart does not count. References: Huh et al. (2024), ICML, arXiv:2405.07987, for
mutual k-nearest-neighbour alignment; Klabunde et al. (2023), arXiv:2305.06329, section 3.4, for the Jaccard
index; Fagin, Kumar & Sivakumar (2003), SIAM J. Discrete Math. 17:134-160, for the overlap of ranks.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int


def mutual_neighbours(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, k: int = 10
) -> Float[Array, ""]:
    """Share of the k nearest neighbours (by cosine) in x [T, D] that are so in y [T, E], mean over items.

    Between 0 and 1; of unrelated representations k / (T - 1) in the mean.

    Raises: ValueError where there are no more than k items.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(mutual_neighbours(x, 2 * x[:, ::-1]).round(4))
    1.0
    """
    return jnp.vdot(unit_neighbours(x, k=k), unit_neighbours(y, k=k))


def unit_neighbours(x: Float[Array, "T D"], *, k: int = 10) -> Float[Array, "T T"]:
    """Matrix [T, T] of x [T, D] whose product with another's, summed, is their share of mutual neighbours.

    Entry (i, j) is 1 / sqrt(k T) where j is among the k nearest neighbours of i, never i itself, else 0.
    Those that are as near as the last of them share what is left of k.

    Raises: ValueError for k below 1, or where there are no more than k items.
    """
    n_items = len(x)
    similarity, nearest, _ = _nearest(x, k)
    last = nearest[:, -1:]
    nearer, equal = similarity > last, similarity == last
    nearer, equal = nearer.astype(x.dtype), equal.astype(x.dtype)
    left = k - nearer.sum(axis=1, keepdims=True)
    chosen = nearer + equal * left / equal.sum(axis=1, keepdims=True)
    return chosen * (1 / jnp.sqrt(k * n_items)).astype(x.dtype)


def jaccard_neighbours(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, k: int = 10
) -> Float[Array, ""]:
    """Jaccard index of the k nearest neighbours (by cosine) in x [T, D] and in y [T, E], mean over items.

    Those in both, divided by those in one or both. Between 0 and 1; lower than `mutual_neighbours` where
    not all are shared.

    Raises: ValueError where there are no more than k items.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(jaccard_neighbours(x, 2 * x[:, ::-1]))
    1.0
    """
    return jaccard_of_ranks(neighbour_ranks(x, k=k), neighbour_ranks(y, k=k), k=k)


def rank_overlap(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, k: int = 10
) -> Float[Array, ""]:
    """Share of the d nearest neighbours of x [T, D] that are so in y [T, E], mean over d = 1 to k and items.

    Unlike in `mutual_neighbours` their order counts, the nearest most. Between 0 and 1; of unrelated
    representations (k + 1) / 2 (T - 1) in the mean. Called average overlap where lists are compared.

    Raises: ValueError where there are no more than k items.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(rank_overlap(x, 2 * x[:, ::-1]).round(4))
    1.0
    """
    return overlap_of_ranks(neighbour_ranks(x, k=k), neighbour_ranks(y, k=k), k=k)


def neighbour_ranks(x: Float[Array, "T D"], *, k: int = 10) -> Int[Array, "T T"]:
    """[T, T] int32 of x [T, D]: 0 where j is the nearest neighbour of i, to k - 1; k for the others and i.

    Of equally near ones the first come first: where many are, as of few distinct vectors or one feature, two
    representations are alike by their order alone.

    Raises: as `unit_neighbours`.
    """
    nearest = _nearest(x, k)[2]
    ranks = jnp.full((len(x), len(x)), k, jnp.int32)
    places = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), nearest.shape)
    return ranks.at[jnp.arange(len(x))[:, None], nearest].set(places)


def jaccard_of_ranks(
    first: Int[Array, "T T"], second: Int[Array, "T T"], *, k: int
) -> Float[Array, ""]:
    """`jaccard_neighbours` of two sides' `neighbour_ranks`."""
    shared = ((first < k) & (second < k)).sum(axis=1)
    return (shared / (2 * k - shared)).mean()


def overlap_of_ranks(
    first: Int[Array, "T T"], second: Int[Array, "T T"], *, k: int
) -> Float[Array, ""]:
    """`rank_overlap` of two sides' `neighbour_ranks`."""
    # Neighbours of ranks a and b are both among the d nearest for d above the larger of the two.
    counted = jnp.append(jnp.cumsum(1 / jnp.arange(k, 0, -1))[::-1], 0) / k
    return counted[jnp.maximum(first, second)].sum(axis=1).mean()


def _nearest(
    x: Float[Array, "T D"], k: int
) -> tuple[Float[Array, "T T"], Float[Array, "T k"], Int[Array, "T k"]]:
    """(cosines [T, T], those of the nearest neighbours of each item [T, k], which these are [T, k])."""
    n_items = x.shape[0]
    if not 1 <= k < n_items:
        raise ValueError(
            f"{n_items} items have no {k} neighbours each: k must be 1 to {n_items - 1}"
        )
    unit = linalg.divided(x, jnp.sqrt(jnp.square(x).sum(axis=1, keepdims=True)))
    similarity = jnp.where(jnp.eye(n_items, dtype=bool), -jnp.inf, linalg.gram(unit))
    return similarity, *jax.lax.top_k(similarity, k)
