"""Word decoding by nearest neighbours: cosine, CSLS, the rank of the true word, precision@k.

Reference: Conneau, Lample, Ranzato, Denoyer & Jegou (2018), Word translation without parallel data
(CSLS: cross-domain similarity local scaling).
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg


def cosine(source: jax.Array, target: jax.Array) -> jax.Array:
    """Cosines [Q, C] between queries [Q, D] and candidates [C, D]; a zero vector has cosine 0."""
    return linalg.matmul(_unit(source), _unit(target).T)


def _unit(x: jax.Array) -> jax.Array:
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1)


def csls(
    source: jax.Array,
    target: jax.Array,
    *,
    k: int = 10,
    source_weights: jax.Array | None = None,
) -> jax.Array:
    """CSLS scores [Q, C]: 2 cos(x, y) - r_T(x) - r_S(y).

    r_T(x) is the mean cosine of query x with its k nearest candidates, r_S(y) that of candidate y
    with its k nearest queries.

    Args:
      source: [Q, D] queries, only those: predictions of training words among them would mark
        the training words as hubs and so give the answer away. target: [C, D] candidates.
      k: number of neighbours, at most Q and C.
      source_weights: [Q] mask of queries; the others are nobody's neighbour. Where fewer than k
        queries have weight, r_S is the mean over those there are.

    Raises: ValueError if k is below 1 or above Q or C.
    """
    return csls_from_cosine(cosine(source, target), k=k, source_weights=source_weights)


def csls_from_cosine(
    cosines: jax.Array, *, k: int, source_weights: jax.Array | None = None
) -> jax.Array:
    """`csls` from similarities [Q, C] that are already there. Arguments as there."""
    n_queries, n_candidates = cosines.shape
    if not 1 <= k <= min(n_queries, n_candidates):
        raise ValueError(
            f"CSLS with k={k} neighbours needs at least {k} queries and candidates, but there are "
            f"{n_queries} and {n_candidates}: lower csls_k"
        )
    if source_weights is None:
        source_weights = jnp.ones(n_queries, bool)
    valid = linalg.training_mask(source_weights, cosines.dtype) > 0
    r_target = jax.lax.top_k(cosines, k)[0].mean(axis=1)
    nearest = jax.lax.top_k(jnp.where(valid[:, None], cosines, -jnp.inf).T, k)[0]
    there = jnp.isfinite(nearest)
    count = jnp.maximum(there.sum(axis=1), 1).astype(cosines.dtype)
    r_source = jnp.where(there, nearest, 0).sum(axis=1) / count
    return 2 * cosines - r_target[:, None] - r_source[None, :]


def ranks(scores: jax.Array, gold: jax.Array) -> jax.Array:
    """Rank [Q] of the gold candidate of each query, 1 is best: a count, no sorting.

    A tie with others costs half of them, so that constant scores rank at chance. NaN anywhere in a
    query's scores ranks last.

    Args:
      scores: [Q, C]; gold: [Q] index of the true candidate.
    """
    # XLA may otherwise compute the gold score a second time with other rounding (fused
    # multiply-add), and the gold candidate would not even tie with itself.
    scores = jax.lax.optimization_barrier(scores)
    gold = gold[:, None].astype(jnp.int32)
    own = jnp.take_along_axis(scores, gold, axis=1)
    other = jnp.arange(scores.shape[1], dtype=jnp.int32) != gold
    above = ((scores > own) & other).sum(axis=1)
    ties = ((scores == own) & other).sum(axis=1)
    rank = 1 + above.astype(scores.dtype) + ties.astype(scores.dtype) / 2
    return jnp.where(jnp.isnan(scores).any(axis=1), jnp.full_like(rank, scores.shape[1]), rank)


def precision_at(
    ranks: jax.Array, ks: tuple[int, ...], weights: jax.Array | None = None
) -> jax.Array:
    """Weighted fraction [len(ks)] of ranks [Q] that are at most k, for each k of ks."""
    if weights is None:
        weights = jnp.ones_like(ranks)
    hits = ranks[None, :] <= jnp.asarray(ks, ranks.dtype)[:, None]
    return linalg.matmul(hits.astype(ranks.dtype), linalg.normalized_weights(weights, ranks.dtype))


def rank_accuracy(ranks: jax.Array, n_candidates: int) -> jax.Array:
    """1 - (rank - 1) / (C - 1) [Q]: one is perfect, one half is chance."""
    return 1 - (ranks - 1) / (n_candidates - 1)
