"""From a linear map to the ranks of the true words among the candidates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, retrieval, scoring
from brainalign_jax.study.fold_arrays import Split
from brainalign_jax.study.protocol import Protocol


class LayerVectors(NamedTuple):
    """Vectors of the word types in one layer, in the axes they span where there are fewer types than
    dimensions: inner products are kept.

    values: [T, E], E <= D; rotation: [E, D] back to the model's dimensions, or None where E is D.
    """

    values: jax.Array
    rotation: jax.Array | None


class Map(NamedTuple):
    """x -> (x - source_mean) @ weight + target_mean; weight [R, E], means [R] and [E]."""

    weight: jax.Array
    source_mean: jax.Array
    target_mean: jax.Array


def spanned_vectors(values: jax.Array) -> LayerVectors:
    """The vectors [T, D] of one layer as `LayerVectors` with E = min(T, D)."""
    if values.shape[0] >= values.shape[1]:
        return LayerVectors(values, None)
    left, singular, right = jnp.linalg.svd(values, full_matrices=False)
    return LayerVectors(left * singular, right)


def principal_axes(layer: LayerVectors, weights: jax.Array, *, n_axes: int) -> LayerVectors:
    """The vectors on their n_axes principal axes over the training words: values [T, n_axes].

    weights: [T], positive for the words that the axes are fitted on. As many axes as there are where
    there are fewer. Correlation and r2 of predictions are then over these axes.
    """
    values = layer.values
    if values.shape[1] <= n_axes:
        return layer
    used = (weights > 0).astype(values.dtype)
    centred = (values - linalg.weighted_mean(values, used)) * used[:, None]
    _, axes = jnp.linalg.eigh(linalg.matmul(centred.T, centred))
    return LayerVectors(linalg.matmul(values, axes[:, ::-1][:, :n_axes]), None)


def predicted(map: Map, rows: jax.Array) -> jax.Array:
    """Predicted vectors [M, E] for rows [M, R]."""
    return linalg.product(rows - map.source_mean, map.weight) + map.target_mean


def decode(
    map: Map,
    queries: jax.Array,
    tokens: jax.Array,
    vectors: jax.Array,
    mean: jax.Array,
    split: Split,
    protocol: Protocol,
    *,
    csls: bool = True,
) -> dict[str, jax.Array]:
    """Ranks of the true words among the candidates, with CSLS or without.

    Args:
      queries: [Q, R] responses asked about; tokens: [N, R] responses of all tokens.
      vectors: [T, E] of the candidates; mean: [E] what both sides are centred by.
    """
    candidates = vectors - mean
    similarity = retrieval.cosine(predicted(map, queries) - mean, candidates)
    if protocol.candidate_scaling == "spread":
        fitted = linalg.unit_rows(predicted(map, tokens) - mean)
        weights = linalg.normalized_weights(split.train, fitted.dtype)
        # The mean squared cosine of a candidate c with the fitted f is c' (mean of f f') c.
        moment = linalg.product((fitted * weights[:, None]).T, fitted)
        unit = linalg.unit_rows(candidates)
        spread = jnp.sqrt(jnp.maximum((linalg.product(unit, moment) * unit).sum(axis=1), 0))
        similarity = similarity / jnp.where(spread > 0, spread, 1)
    return ranks(similarity, split, protocol, csls=csls)


def ranks(
    similarity: jax.Array, split: Split, protocol: Protocol, *, csls: bool = True
) -> dict[str, jax.Array]:
    """Ranks [Q] by similarity [Q, T] among the candidates, plain and, if asked for, with CSLS."""
    allowed = split.candidates > 0
    found = {"rank_nn": retrieval.ranks(jnp.where(allowed, similarity, -jnp.inf), split.gold)}
    if not csls:
        return found
    # Far below any similarity, yet finite: CSLS means must not meet infinities.
    similarity = jnp.where(allowed[None, :], similarity, jnp.asarray(-1e6, similarity.dtype))
    scaled = retrieval.csls_from_cosine(
        similarity, k=protocol.csls_k, source_weights=split.query_mask
    )
    return found | {"rank_csls": retrieval.ranks(jnp.where(allowed, scaled, -jnp.inf), split.gold)}


def prediction_scores(
    map: Map, queries: jax.Array, layer: LayerVectors, split: Split
) -> dict[str, jax.Array]:
    """Correlation and r2 of predicted and true vectors over the queries, mean over dimensions."""
    found, true = predicted(map, queries), layer.values[split.gold]
    if layer.rotation is not None:
        found, true = (linalg.product(x, layer.rotation) for x in (found, true))
    return {
        "pearson": scoring.pearson(true, found, split.query_mask).mean(),
        "r2": scoring.r2(true, found, split.query_mask).mean(),
    }
