"""Representational similarity analysis: distance matrices over items and their comparison.

Reference: Kriegeskorte, Mur & Bandettini (2008), Front. Syst. Neurosci. 2:4; Nili et al. (2014) for
Kendall's tau-a.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg

METRICS = ("correlation", "cosine", "euclidean", "spearman")
COMPARISONS = ("pearson", "spearman", "kendall_tau_a")


def rdm(x: jax.Array, *, metric: str = "correlation") -> jax.Array:
    """Distances between the rows of x [N, D], condensed [N (N - 1) / 2] in scipy's pdist order.

    metric: "correlation" (1 - Pearson), "cosine", "euclidean" or "spearman" (1 - Spearman). A
    constant row (a zero row for cosine) has similarity 0 with every other.

    Raises: ValueError for an unknown metric or fewer than two rows.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown RDM metric {metric!r}: choose one of {', '.join(METRICS)}")
    if x.shape[0] < 2:
        raise ValueError(f"an RDM needs at least two rows, x has shape {x.shape}")
    upper = jnp.triu_indices(x.shape[0], k=1)
    if metric == "euclidean":
        # From differences: the Gram matrix would lose the distances of near duplicates.
        distances = jax.lax.map(lambda row: jnp.linalg.norm(x - row, axis=1), x)
        return distances[upper]
    return 1 - linalg.gram(unit_rows(x, metric=metric))[upper]


def unit_rows(x: jax.Array, *, metric: str) -> jax.Array:
    """Rows of x [N, D] scaled so that their inner products are the similarity of `metric`."""
    if metric == "spearman":
        x = rank(x)
    if metric != "cosine":
        mean = x.mean(axis=1, keepdims=True)
        scale = jnp.abs(x).max(axis=1, keepdims=True)
        x = x - mean
        # A constant row leaves rounding behind, which must not be blown up to unit length.
        x = jnp.where(
            jnp.abs(x).max(axis=1, keepdims=True) > 8 * jnp.finfo(x.dtype).eps * scale, x, 0
        )
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1)


def rank(x: jax.Array) -> jax.Array:
    """Ranks along the last axis of x [..., P], from 1, ties given their average rank."""
    ordered = jnp.sort(x, axis=-1)

    def average_rank(values, ordered):
        below = jnp.searchsorted(ordered, values, side="left")
        upto = jnp.searchsorted(ordered, values, side="right")
        return (below + upto + 1).astype(x.dtype) / 2

    flat = jax.vmap(average_rank)(x.reshape(-1, x.shape[-1]), ordered.reshape(-1, x.shape[-1]))
    return flat.reshape(x.shape)


def compare(a: jax.Array, b: jax.Array, *, method: str = "spearman") -> jax.Array:
    """Similarity of two condensed RDMs [P]: Pearson, Spearman, or Kendall's tau-a (ties score 0).

    Tau-a takes P^2 time and P memory. A constant RDM compares as 0. Raises: ValueError.
    """
    if method not in COMPARISONS:
        raise ValueError(f"unknown comparison {method!r}: choose one of {', '.join(COMPARISONS)}")
    if a.shape != b.shape:
        raise ValueError(f"the RDMs cover different pairs: {a.shape} and {b.shape}")
    if method == "kendall_tau_a":
        size = a.shape[0]

        def concordance(i):
            return jnp.sum(jnp.sign(a[i] - a) * jnp.sign(b[i] - b))

        total = jax.lax.map(concordance, jnp.arange(size), batch_size=min(size, 64)).sum()
        return total / size / (size - 1)
    return jnp.vdot(comparison_vector(a, method=method), comparison_vector(b, method=method))


def comparison_vector(rdm: jax.Array, *, method: str) -> jax.Array:
    """Unit vector [P] of an RDM: inner products of such vectors are Pearson or Spearman correlations.

    Each RDM is transformed once; all layers x subjects are then one matrix product.
    """
    return unit_rows(rdm[None, :], metric="correlation" if method == "pearson" else "spearman")[0]
