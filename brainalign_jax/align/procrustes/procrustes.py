"""Orthogonal Procrustes: the rotation that brings one set of vectors closest to another.

One problem: `fit`, then `apply`. Many folds of one problem: `totals` once, `without` for each fold (the
cross-covariance of the training rows is the total minus the block of the rows left out), then
`fit_moments`; `fit_folds` and `predict_folds` do the three. Fewer training rows n than dimensions:
`span` once for each side and set of training rows, and `fit_spans` for each pair of a source and a
target on the same rows. For V = D that is 8 n^2 D / 3 + O(n^3) operations a side, shared by all that it
is paired with, and O(n^3) a pair instead of O(D^3); `polar` has the counts of the rest.

Reference: Schoenemann (1966), A generalized solution of the orthogonal Procrustes problem,
Psychometrika 31:1-10.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Shaped
from brainalign_jax.align.procrustes import polar


class ProcrustesMap(NamedTuple):
    """x -> (x - source_mean) @ rotation + target_mean; rotation [V, D], means [V] and [D]."""

    rotation: Float[Array, "V D"]
    source_mean: Float[Array, " V"]
    target_mean: Float[Array, " D"]


class LowRankMap(NamedTuple):
    """A ProcrustesMap with its rotation kept as left [V, r] @ right [r, D]."""

    left: Float[Array, "V r"]
    right: Float[Array, "r D"]
    source_mean: Float[Array, " V"]
    target_mean: Float[Array, " D"]

    @property
    def rotation(self) -> Float[Array, "V D"]:
        """[V, D]."""
        return linalg.matmul(self.left, self.right)


class Moments(NamedTuple):
    """What the rows say of a rotation: their centred cross-covariance [V, D] and means [V] and [D].

    added: where the rows are not to be centred, what the cross-covariance lacks for that; the means are then
    those of the map, zero. Kept apart, as float32 holds no more than the larger of the two.
    """

    cross: Float[Array, "V D"]
    source_mean: Float[Array, " V"]
    target_mean: Float[Array, " D"]
    added: polar.Mean | None = None


def fit(
    source: Float[Array, "N V"],
    target: Float[Array, "N D"],
    weights: Shaped[Array, " N"],
    *,
    center: bool = True,
    algorithm: str = "auto",
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
      algorithm: of the polar decomposition, see `polar.isometry`.

    Raises: ValueError on an unknown algorithm.
    """
    n_rows = source.shape[0]
    if 2 * n_rows <= min(source.shape[1], target.shape[1]):
        rows = jnp.arange(n_rows)
        spans = (span(x, rows, weights, center=center) for x in (source, target))
        low_rank = fit_spans(*spans, center=center, algorithm=algorithm)
        return ProcrustesMap(low_rank.rotation, low_rank.source_mean, low_rank.target_mean)
    source_mean, target_mean = (linalg.weighted_mean(x, weights) for x in (source, target))
    w = weights.astype(source.dtype)[:, None]
    source = linalg.center(source, source_mean, weights) * w
    cross = linalg.matmul(source.T, linalg.center(target, target_mean, weights))
    moments = _moments(cross, w.sum(), source_mean, target_mean, center=center)
    return fit_moments(moments, algorithm=algorithm, rank_bound=n_rows)


def _moments(
    cross: Float[Array, "V D"],
    total: Float[Array, ""],
    source_mean: Float[Array, " V"],
    target_mean: Float[Array, " D"],
    *,
    center: bool,
) -> Moments:
    """Moments of rows of a total weight, from their centred cross-covariance and means."""
    if center:
        return Moments(cross, source_mean, target_mean)
    zeros = jnp.zeros_like(source_mean), jnp.zeros_like(target_mean)
    return Moments(cross, *zeros, polar.Mean(total * source_mean, target_mean))


def fit_moments(
    moments: Moments, *, algorithm: str = "auto", rank_bound: int | None = None
) -> ProcrustesMap:
    """The map of `fit` from means and cross-covariance; rank_bound as in `polar.isometry`."""
    rotation = polar.isometry(
        moments.cross, mean=moments.added, algorithm=algorithm, rank_bound=rank_bound
    )
    return ProcrustesMap(rotation, moments.source_mean, moments.target_mean)


def apply(map: ProcrustesMap | LowRankMap, source: Float[Array, "M V"]) -> Float[Array, "M D"]:
    """Predicted targets [M, D] for the rows of source [M, V]."""
    centred = source - map.source_mean
    if isinstance(map, LowRankMap):
        moved = linalg.matmul(linalg.matmul(centred, map.left), map.right)
    else:
        moved = linalg.matmul(centred, map.rotation)
    return moved + map.target_mean


def _mean(x: Array, weights: Array, center: bool) -> Array:
    return linalg.weighted_mean(x, weights) if center else jnp.zeros_like(x[0])


# --- folds: the total minus what is left out ------------------------------------------------------


class Totals(NamedTuple):
    """Sums over all rows, from which those of the training rows of any fold follow.

    source [N, V], target [N, D]: centred by their weighted means source_offset [V], target_offset [D],
    so that nothing cancels in the differences, and zero where a row has no weight. weights [N]. cross
    [V, D], source_sum [V], target_sum [D]: weighted sums over the rows.
    """

    source: Float[Array, "N V"]
    target: Float[Array, "N D"]
    weights: Float[Array, " N"]
    source_offset: Float[Array, " V"]
    target_offset: Float[Array, " D"]
    cross: Float[Array, "V D"]
    source_sum: Float[Array, " V"]
    target_sum: Float[Array, " D"]


def totals(
    source: Float[Array, "N V"], target: Float[Array, "N D"], weights: Shaped[Array, " N"]
) -> Totals:
    """Sums over the rows of source [N, V] and target [N, D], for `without`.

    Args:
      weights: [N]; rows of weight zero are left out of every fold and may hold anything.
    """
    source_offset = linalg.weighted_mean(source, weights)
    target_offset = linalg.weighted_mean(target, weights)
    source = linalg.center(source, source_offset, weights)
    target = linalg.center(target, target_offset, weights)
    weights = weights.astype(source.dtype)
    cross = linalg.matmul(source.T * weights, target)
    source_sum, target_sum = linalg.matmul(weights, source), linalg.matmul(weights, target)
    return Totals(
        source, target, weights, source_offset, target_offset, cross, source_sum, target_sum
    )


def without(
    totals: Totals, held_out: Int[Array, " B"], mask: Shaped[Array, " B"], *, center: bool = True
) -> Moments:
    """Moments of the rows that are not held out: the total minus the block of those that are.

    2 B V D operations for B rows instead of 2 N V D. Meant for folds that train on much of the data:
    of a training set of a share p of it, the moments have 1 / p times the rounding error of a sum.

    Args:
      held_out: [B] row numbers, each once. mask: [B], zero where an entry is padding.
      center: subtract the means of the rows that are not held out.
    """
    source, target = totals.source[held_out], totals.target[held_out]
    weights = totals.weights[held_out] * linalg.training_mask(mask, source.dtype)
    cross = totals.cross - linalg.matmul(source.T * weights, target)
    total = totals.weights.sum() - weights.sum()
    total = jnp.where(total > 0, total, 1)
    source_mean = (totals.source_sum - linalg.matmul(weights, source)) / total
    target_mean = (totals.target_sum - linalg.matmul(weights, target)) / total
    return _moments(
        cross - total * source_mean[:, None] * target_mean,
        total,
        source_mean + totals.source_offset,
        target_mean + totals.target_offset,
        center=center,
    )


def fit_folds(
    source: Float[Array, "N V"],
    target: Float[Array, "N D"],
    held_out: Int[Array, "F B"],
    mask: Shaped[Array, "F B"],
    weights: Shaped[Array, " N"],
    *,
    center: bool = True,
    algorithm: str = "auto",
) -> ProcrustesMap:
    """`fit` to the rows that each fold does not hold out; leaves of the map [F, ...].

    Args:
      source: [N, V]; target: [N, D].
      held_out: [F, B] row numbers that are no training rows of the fold: test rows, rows of a purge
        gap. mask: [F, B], zero where an entry is padding.
      weights: [N] mask or weights of all folds.
      center, algorithm: as in `fit`.
    """
    sums = totals(source, target, weights)

    def fit_fold(fold) -> ProcrustesMap:
        moments = without(sums, *fold, center=center)
        return fit_moments(
            moments, algorithm=algorithm, rank_bound=_training_rows(held_out, source)
        )

    return jax.lax.map(fit_fold, (held_out, mask))


def predict_folds(
    source: Float[Array, "N V"],
    target: Float[Array, "N D"],
    held_out: Int[Array, "F B"],
    mask: Shaped[Array, "F B"],
    weights: Shaped[Array, " N"],
    *,
    center: bool = True,
    algorithm: str = "auto",
) -> Float[Array, "F B D"]:
    """Predicted targets [F, B, D] of the rows that each fold holds out, arguments as in `fit_folds`.

    What `apply` gives with the maps of `fit_folds`, without the cost of the rotations where B < V.
    """
    sums = totals(source, target, weights)

    def predict_fold(fold) -> jax.Array:
        moments = without(sums, *fold, center=center)
        moved = polar.rotate(
            source[fold[0]] - moments.source_mean,
            moments.cross,
            mean=moments.added,
            algorithm=algorithm,
            rank_bound=_training_rows(held_out, source),
        )
        return moved + moments.target_mean

    return jax.lax.map(predict_fold, (held_out, mask))


def _training_rows(held_out: Array, source: Array) -> int:
    """Number of training rows of the smallest fold, if none of its entries is padding."""
    return max(1, source.shape[0] - held_out.shape[1])


# --- fewer training rows than dimensions ----------------------------------------------------------


class Span(NamedTuple):
    """Centred training rows as coordinates [n, r] @ basis^T, basis [V, r] orthonormal, r = min(n, V).

    weights [n] of the rows; their mean [V].
    """

    basis: Float[Array, "V r"]
    coordinates: Float[Array, "n r"]
    weights: Float[Array, " n"]
    mean: Float[Array, " V"]


def span(
    x: Float[Array, "N V"],
    rows: Int[Array, " n"],
    weights: Shaped[Array, " n"],
    *,
    center: bool = True,
) -> Span:
    """QR factorisation of the training rows of x [N, V], for `fit_spans`.

    Args:
      rows: [n] numbers of the training rows. weights: [n] of these, zero where an entry is padding.
      center: subtract their mean; otherwise the mean is zero.
    """
    x = x[rows]
    mean = _mean(x, weights, center)
    basis, triangle = jnp.linalg.qr(linalg.center(x, mean, weights).T)
    return Span(basis, triangle.T, weights.astype(x.dtype), mean)


def fit_spans(
    source: Span, target: Span, *, center: bool = True, algorithm: str = "auto"
) -> LowRankMap:
    """The map of `fit` from the spans of the same training rows of source and target.

    The polar factor of X^T Y = Q_x (C_x^T C_y) Q_y^T is that of the small matrix between the bases.
    center: as for the two spans.
    """
    parts, mean = [source.coordinates, target.coordinates], None
    if not center:
        means = [linalg.weighted_mean(x, source.weights) for x in parts]
        parts = [
            linalg.masked_rows(x - m, source.weights) for x, m in zip(parts, means, strict=True)
        ]
        mean = polar.Mean(source.weights.sum() * means[0], means[1])
    core = linalg.matmul(parts[0].T * source.weights, parts[1])
    left = linalg.matmul(source.basis, polar.isometry(core, mean=mean, algorithm=algorithm))
    return LowRankMap(left, target.basis.T, source.mean, target.mean)
