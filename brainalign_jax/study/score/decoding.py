"""From a linear map to the ranks of the true words among the candidates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, retrieval
from brainalign_jax.align.stats import scoring
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.folds import Split

MOST_TYPES = 2  # times the axes: with more, products of all types are no longer kept for a layer


class LayerVectors(NamedTuple):
    """Vectors of the word types in one layer, in the axes they span where there are fewer types than
    dimensions: inner products are kept.

    values: [T, E], E <= D; rotation: [E, D] back to the model's dimensions, or None where E is D.
    products: [T, T] inner products of the values less their mean over the types, for methods that
    correlate vectors less each vector's own mean over the axes, too; None where there are many types.
    """

    values: jax.Array
    rotation: jax.Array | None
    products: jax.Array | None = None


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
    values = left * singular
    return LayerVectors(values, right, centred_gram(values))


def correlated_vectors(values: jax.Array) -> LayerVectors:
    """The vectors [T, D] of one layer less their own means, in their own axes, with their products."""
    if values.shape[0] > MOST_TYPES * values.shape[1]:
        return LayerVectors(values, None)
    values = values - values.mean(axis=1, keepdims=True)
    return LayerVectors(values, None, centred_gram(values))


def centred_gram(values: jax.Array) -> jax.Array:
    """The products of `LayerVectors` [T, T] of values [T, E]."""
    return linalg.gram(values - values.mean(axis=0))


def cosines(layer: LayerVectors, mean: jax.Array) -> jax.Array:
    """Cosines [T, T] of the values less a mean [E], from their products; zero for one at the mean."""
    away = mean - layer.values.mean(axis=0)
    along = linalg.product(layer.values, away) - linalg.product(mean - away, away)
    along = along - linalg.product(away, away) / 2
    products = layer.products - along[:, None] - along
    squares = jnp.diagonal(products)
    inverse = _inverse_roots(squares, layer.products)
    return products * inverse[:, None] * inverse


def _inverse_roots(squares: jax.Array, products: jax.Array) -> jax.Array:
    """1 / sqrt(squares) [T]; zero for those that are rounding beside the products [T, T]."""
    real = squares > 1e-12 * jnp.diagonal(products).mean()
    return jnp.where(real, 1 / jnp.sqrt(jnp.where(real, squares, 1)), 0)


class CentredProducts(NamedTuple):
    """Inner products of a layer's values less a shift, for candidates that are centred in many ways.

    values: [T, E] less their mean; mean, shift: [E]; products: [T, T] of values; rows: [T] of values with
    shift - mean.
    """

    values: jax.Array
    mean: jax.Array
    shift: jax.Array
    products: jax.Array
    rows: jax.Array


def centred_products(layer: LayerVectors, shift: jax.Array) -> CentredProducts:
    """For `candidate_products`; shift: [E], best near the mean of the values, as float32 cancels."""
    mean = layer.values.mean(axis=0)
    values = layer.values - mean
    away = shift - mean
    return CentredProducts(values, mean, away, layer.products, linalg.product(values, away))


def candidate_products(
    centred: CentredProducts, mean: jax.Array, basis: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """(basis [K, T] times (v - shift) times the unit (v - mean)', [K, T]; 1 / |v - mean| [T]).

    basis None: the identity. Zero for a candidate that is at the mean.
    """
    values, _, shift, products, rows = centred
    away = mean - centred.mean
    along = linalg.product(values, away)
    squares = jnp.diagonal(products) - 2 * along + linalg.product(away, away)
    inverse = _inverse_roots(squares, products)
    # (u - s)(u - m)' = u u' - (u m') - (u s')' + s m'
    corner = linalg.product(shift, away) - rows
    if basis is None:
        across = products - along[:, None] + corner
    else:
        across = linalg.product(basis, products) - linalg.product(basis, along)[:, None]
        across = across + basis.sum(axis=1)[:, None] * corner
    return across * inverse, inverse


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


def fold_axes(
    layer: LayerVectors, weights: jax.Array, *, scaling: str, n_axes: int
) -> LayerVectors:
    """The vectors as the training words of a fold scale and reduce them.

    weights: [T], positive for the training words, or [F, T] of several folds: values are then [F, T, E].
    scaling: "none", or as of `Protocol.vector_scaling`, fitted on the training words. n_axes: as of
    `principal_axes`, 0 for all.
    """
    if weights.ndim == 2:
        return jax.lax.map(
            lambda of_fold: fold_axes(layer, of_fold, scaling=scaling, n_axes=n_axes), weights
        )
    if scaling != "none":
        layer = LayerVectors(_scaled(layer.values, weights > 0, scaling), None)
    return principal_axes(layer, weights, n_axes=n_axes) if n_axes > 0 else layer


def _scaled(values: jax.Array, known: jax.Array, scaling: str) -> jax.Array:
    """Vectors [T, E] scaled by the words known [T] bool."""
    if scaling == "minmax":
        low = jnp.where(known[:, None], values, jnp.inf).min(axis=0)
        size = jnp.where(known[:, None], values, -jnp.inf).max(axis=0) - low
        return (values - low) / jnp.where(size > 0, size, 1)
    used = known.astype(values.dtype)
    values = values - linalg.weighted_mean(values, used)
    centred = values * used[:, None]
    if scaling == "zscore":
        size = jnp.sqrt(jnp.square(centred).sum(axis=0) / used.sum())
        return values / jnp.where(size > 0, size, 1)
    _, axes = jnp.linalg.eigh(linalg.matmul(centred.T, centred))
    top = axes[:, -n_top_axes(values.shape[1]) :]
    return values - linalg.matmul(linalg.matmul(values, top), top.T)


def n_top_axes(width: int) -> int:
    """How many principal axes "abtt" takes off vectors of so many dimensions: one in a hundred."""
    return max(1, width // 100)


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
    others: tuple[jax.Array, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """Ranks of the true words among the candidates, with CSLS or without.

    Args:
      queries: [Q, R] responses asked about; tokens: [N, R] responses of all tokens.
      vectors: [T, E] of the candidates; mean: [E] what both sides are centred by.
      others: responses [M, R] that are not asked about, yet neighbours in CSLS where their weight [M] is
        positive.
    """
    rows = queries if others is None else jnp.concatenate([queries, others[0]])
    similarity = similarities(map, rows, tokens, vectors, mean, split, protocol)
    if others is not None:
        others = similarity[len(queries) :], others[1]
    return ranks(similarity[: len(queries)], split, protocol, csls=csls, others=others)


def similarities(
    map: Map,
    rows: jax.Array,
    tokens: jax.Array,
    vectors: jax.Array,
    mean: jax.Array,
    split: Split,
    protocol: Protocol,
) -> jax.Array:
    """Similarities [M, T] of the predictions for rows [M, R] with the candidates; the rest as of `decode`."""
    candidates = vectors - mean
    similarity = retrieval.cosine(predicted(map, rows) - mean, candidates)
    if protocol.candidate_scaling == "spread":
        spread = jnp.sqrt(jnp.maximum(_mean_squares(map, tokens, candidates, mean, split), 0))
        similarity = similarity / jnp.where(spread > 0, spread, 1)
    return similarity


def _mean_squares(
    map: Map, tokens: jax.Array, candidates: jax.Array, mean: jax.Array, split: Split
) -> jax.Array:
    """Mean squared cosine [T] of each candidate [T, E] with the predictions of the training tokens [N, R].

    It is u' M u of a unit candidate u, where M is the weighted mean of f f' over the unit predictions f.
    """
    unit = linalg.unit_rows(candidates)
    n_features, n_axes = map.weight.shape
    if 3 * n_features > 2 * n_axes:
        weights = linalg.normalized_weights(split.train, unit.dtype)
        fitted = linalg.unit_rows(predicted(map, tokens) - mean)
        moment = linalg.product((fitted * weights[:, None]).T, fitted)
        return (linalg.product(unit, moment) * unit).sum(axis=1)
    # Fewer features than axes: with f = (x w + o) / |x w + o|, M is w' (mean of x x' / |f|^2) w and what
    # the offset o adds, and nothing of size N has E columns. The offset is one more feature.
    offset = map.target_mean - mean
    weight = jnp.concatenate([map.weight, offset[None]])
    centred = tokens - map.source_mean
    rows = jnp.concatenate([centred, jnp.ones_like(centred[:, :1])], axis=1)
    squares = (linalg.product(rows, linalg.gram(weight)) * rows).sum(axis=1)
    inverse = jnp.where(squares > 0, 1 / jnp.where(squares > 0, squares, 1), 0)
    inverse = inverse * linalg.normalized_weights(split.train, unit.dtype)
    moment = linalg.product((rows * inverse[:, None]).T, rows)
    along = linalg.product(unit, weight.T)
    return (linalg.product(along, moment) * along).sum(axis=1)


def ranks(
    similarity: jax.Array,
    split: Split,
    protocol: Protocol,
    *,
    csls: bool = True,
    others: tuple[jax.Array, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """Ranks [Q] by similarity [Q, T] among the candidates, plain and, if asked for, with CSLS.

    others: similarities [M, T] of what else are neighbours, where their weight [M] is positive.
    """
    allowed = split.candidates > 0
    by_rule = {"rank_nn": retrieval.ranks(jnp.where(allowed, similarity, -jnp.inf), split.gold)}
    if not csls:
        return by_rule
    # Far below any similarity, yet finite: CSLS means must not meet infinities.
    least = jnp.asarray(-1e6, similarity.dtype)
    similarity = jnp.where(allowed[None, :], similarity, least)
    if others is not None:
        others = jnp.where(allowed[None, :], others[0], least), others[1]
    scaled = retrieval.csls_from_cosine(
        similarity, k=protocol.csls_k, source_weights=split.query_mask, others=others
    )
    return by_rule | {
        "rank_csls": retrieval.ranks(jnp.where(allowed, scaled, -jnp.inf), split.gold)
    }


def pooled_ranks(similarity: jax.Array, folds: Split, protocol: Protocol) -> dict[str, jax.Array]:
    """`ranks` [F, Q] by similarity [F, Q, T] with the queries of all folds as neighbours.

    folds: with a leading axis F; their candidates are the same.
    """
    n_types = similarity.shape[-1]
    flat = folds._replace(
        query_mask=folds.query_mask.reshape(-1),
        gold=folds.gold.reshape(-1),
        candidates=folds.candidates[0],
    )
    by_rule = ranks(similarity.reshape(-1, n_types), flat, protocol)
    return {name: x.reshape(folds.gold.shape) for name, x in by_rule.items()}


def prediction_scores(
    map: Map, queries: jax.Array, layer: LayerVectors, split: Split
) -> dict[str, jax.Array]:
    """Correlation and r2 of predicted and true vectors over the queries, mean over dimensions."""
    guessed, true = predicted(map, queries), layer.values[split.gold]
    if layer.rotation is not None:
        guessed, true = (linalg.product(x, layer.rotation) for x in (guessed, true))
    return {
        "pearson": scoring.pearson(true, guessed, split.query_mask).mean(),
        "r2": scoring.r2(true, guessed, split.query_mask).mean(),
    }
