"""Ridge of features beside nuisances without a penalty, for many targets with a penalty and layer each.

The model minimises |y - Z c - X b|^2 + alpha |b|^2 over the training rows, where Z has an intercept.
By Frisch & Waugh (1933) and Lovell (1963) the features' part is an ordinary ridge on the features less their
least-squares fit by Z, and the nuisances' part is that of the nuisances alone: one factor of each serves all
targets, penalties and permutations. Layer and penalty of a target are those of the least squared error of
inner folds, "no features" among them.

Nuisances are given as their fit: predictions of all rows are `scores @ (basis.T @ y)`, see `nuisance_fit`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Bool, Float, Int, Real, Shaped
from brainalign_jax.align.ridge import ridge

_EXPLAINED = 1e-8  # share of a feature's variance; what nuisances leave below it is rounding
_STEADY = 0.1  # of the deviation over all rows, that training rows must have along a direction of nuisances
_LARGE = 0.1  # of a direction's square, from which a nuisance takes part in it


class NuisanceFit(NamedTuple):
    """scores: [N, K + 1], all rows; basis: [N, K + 1], zero on the rows left out; of NumPy or JAX."""

    scores: Float[Array, "N K+1"]
    basis: Float[Array, "N K+1"]


class Factors(NamedTuple):
    """Of one fold's features: they predict `scores @ (basis.T @ y / (eigenvalues + alpha))` of tested rows.

    eigenvalues: [R]; basis: [N, R], zero on the rows left out; scores: [M, R], zero where padded; size:
    scalar, the mean diagonal of the kernel over the training rows, in units of which penalties are given.
    """

    eigenvalues: Float[Array, " R"]
    basis: Float[Array, "N R"]
    scores: Float[Array, "M R"]
    size: Float[Array, ""]


class Best(NamedTuple):
    """predicted: [M, T], of nuisances and features; nuisances: [M, T], of the nuisances alone; layer,
    alpha: [T] indices, layer -1 where no features are best."""

    predicted: Float[Array, "M T"]
    nuisances: Float[Array, "M T"]
    layer: Int[Array, " T"]
    alpha: Int[Array, " T"]


class _Directions(NamedTuple):
    """Of nuisances [N, K], scaled to their deviation over the rows of a mask: their places [N, R] on R
    directions that are orthogonal there; left: [n, R] and size: [R] of these; loadings: [K, R]; steady: [R]
    bool, whether the rows of the mask vary enough along it; constant: [K] bool, of nuisances that do not
    vary there.
    """

    places: Float[np.ndarray, "N R"]
    left: Float[np.ndarray, "n R"]
    size: Float[np.ndarray, " R"]
    loadings: Float[np.ndarray, "K R"]
    steady: Bool[np.ndarray, " R"]
    constant: Bool[np.ndarray, " K"]


def _directions(nuisances: Real[np.ndarray, "N K"], mask: Shaped[np.ndarray, " N"]) -> _Directions:
    nuisances, mask = np.asarray(nuisances, np.float64), np.asarray(mask, bool)
    train = nuisances[mask]
    mean = train.mean(axis=0)
    spread = np.sqrt(((train - mean) ** 2).mean(axis=0))
    constant = spread <= 1e-12 * np.abs(mean)
    unit = (nuisances - mean) / np.where(constant, np.inf, spread)
    left, size, right = np.linalg.svd(unit[mask], full_matrices=False)
    places = unit @ right.T
    varies = places.std(axis=0)
    steady = (size / np.sqrt(mask.sum()) >= _STEADY * varies) | (varies < 1e-8)
    return _Directions(places, left, size, right.T, steady, constant)


def nuisance_fit(nuisances: Real[np.ndarray, "N K"], mask: Shaped[np.ndarray, " N"]) -> NuisanceFit:
    """The least-squares fit by an intercept and nuisances [N, K] on the rows of the mask [N], in float64.

    K may be zero. Directions that are rounding of the others are left out, as zero columns; and so are
    those along which these rows vary less than a tenth of all rows: what is fitted there says nothing of
    the others.
    """
    mask = np.asarray(mask, bool)
    own = _directions(nuisances, mask)
    kept = (own.size > 1e-10 * own.size.max(initial=0)) & own.steady
    inverse = np.where(kept, 1 / np.where(kept, own.size, 1), 0)
    width, rank = nuisances.shape[1], len(own.size)
    scores, basis = np.zeros((2, len(mask), 1 + width))
    scores[:, 0], basis[mask, 0] = 1, 1 / mask.sum()
    scores[:, 1 : 1 + rank] = own.places * inverse
    basis[mask, 1 : 1 + rank] = own.left * kept
    return NuisanceFit(scores, basis)


def unidentified(
    nuisances: Real[np.ndarray, "N K"], mask: Shaped[np.ndarray, " N"]
) -> Bool[np.ndarray, " K"]:
    """[K] bool: nuisances [N, K] of which `nuisance_fit` leaves a part out, as the mask's rows do not tell
    it.

    Such as the position in the text beside that in the run, where there is one run in the mask.
    """
    own = _directions(nuisances, mask)
    varies = np.asarray(nuisances, np.float64).std(axis=0) > 0
    parts = (own.loadings**2 > _LARGE) & ~own.steady
    return parts.any(axis=1) | (own.constant & varies)


def residual_features(
    features: Float[Array, "N D"], fit: NuisanceFit, weights: Shaped[Array, " N"]
) -> Float[Array, "N D"]:
    """Features [N, D] less their fit, all rows, in units of their deviation over the training rows.

    weights: [N] training mask. A feature that the nuisances explain wholly there is zero.
    """
    mask = linalg.training_mask(weights, features.dtype)
    centred = features - linalg.weighted_mean(features, mask)

    def deviation(x):
        return jnp.sqrt((linalg.masked_rows(x, mask) ** 2).sum(axis=0) / jnp.maximum(mask.sum(), 1))

    unit = linalg.divided(centred, deviation(centred))
    inner = linalg.matmul(fit.basis.T, linalg.masked_rows(unit, mask))
    left = unit - linalg.matmul(fit.scores, inner)
    spread = deviation(left)
    return jnp.where(spread**2 > _EXPLAINED, linalg.divided(left, spread), 0)


def factor(
    features: Float[Array, "N D"],
    fit: NuisanceFit,
    weights: Shaped[Array, " N"],
    test_rows: Int[Array, " M"],
    test_weights: Shaped[Array, " M"],
    *,
    dual: bool,
) -> Factors:
    """Factors of one fold.

    Args:
      features: [N, D]; fit: of `nuisance_fit`, with the same training rows; weights: [N] training mask.
      test_rows: [M] indices; test_weights: [M], 0 where padded.
      dual: whether the rows' kernel is decomposed, not the features' covariance: where D is at least N.
    """
    left = residual_features(features, fit, weights)
    if dual:
        fitted = ridge.factor(linalg.gram(left), weights, fit_intercept=False)
    else:
        fitted = ridge.factor_primal(left, weights, fit_intercept=False)
    scores = fitted.scores[test_rows] * test_weights.astype(left.dtype)[:, None]
    size = linalg.divided(fitted.eigenvalues.sum(), fitted.weights.sum())
    return Factors(fitted.eigenvalues, fitted.basis, scores, size)


def _gains(eigenvalues: Array, penalty: Array) -> Array:
    return jnp.where(eigenvalues > 0, linalg.divided(1, eigenvalues + penalty), 0)


def best_predictions(
    inner: Factors,
    inner_fits: NuisanceFit,
    inner_test: tuple[Int[Array, "I m"], Shaped[Array, "I m"]],
    outer: Factors,
    outer_fit: NuisanceFit,
    test_rows: Int[Array, " M"],
    columns: Int[Array, " n"],
    alphas: Float[Array, " A"],
    targets: Float[Array, "N T"],
) -> Best:
    """Predictions of the tested rows by the layer and penalty that are best for each target in inner folds.

    Args:
      inner: factors of L layers and I inner folds, leading axes [L, I], over the n rows of `columns`;
      inner_fits: [I, n, K + 1]; inner_test: rows [I, M'], of those of `columns`, and weights [I, M'].
      outer: factors [L] over all N rows; outer_fit: [N, K + 1]; test_rows: [M].
      columns: [n] rows that the inner folds are made of. alphas: [A], times the factors' `size`.
      targets: [N, T].
    """
    inside = targets[columns]
    rows, weights = inner_test
    fitted = jnp.einsum("ink,nt->ikt", inner_fits.basis, inside, precision="highest")
    scores = jax.vmap(lambda scores, places: scores[places])(inner_fits.scores, rows)
    guess = jnp.einsum("imk,ikt->imt", scores, fitted, precision="highest")
    residual = (inside[rows] - guess) * weights[..., None]
    nuisances = linalg.matmul(
        outer_fit.scores[test_rows], linalg.matmul(outer_fit.basis.T, targets)
    )

    def step(best, factors):
        number, of_inner, whole = factors
        least, added, layer, alpha = best
        projected = jnp.einsum("inr,nt->irt", of_inner.basis, inside, precision="highest")

        def error(penalty):
            gains = _gains(of_inner.eigenvalues, penalty * of_inner.size[:, None])
            weighted = of_inner.scores * gains[:, None, :]
            guess = jnp.einsum("imr,irt->imt", weighted, projected, precision="highest")
            return ((residual - guess) ** 2).sum(axis=(0, 1))

        errors = jax.lax.map(error, alphas)
        index = ridge.select_alpha(errors, shared=False).astype(jnp.int32)
        lowest = jnp.take_along_axis(errors, index[None], axis=0)[0]
        gains = _gains(whole.eigenvalues[:, None], alphas[index][None] * whole.size)
        guess = linalg.matmul(whole.scores, linalg.matmul(whole.basis.T, targets) * gains)
        better = lowest < least
        return (
            jnp.where(better, lowest, least),
            jnp.where(better, guess, added),
            jnp.where(better, number, layer),
            jnp.where(better, index, alpha),
        ), None

    none = jnp.full(targets.shape[1], -1, jnp.int32)
    start = (residual**2).sum(axis=(0, 1)), jnp.zeros_like(nuisances), none, none
    numbers = jnp.arange(len(outer.size), dtype=jnp.int32)
    (_, added, layer, alpha), _ = jax.lax.scan(step, start, (numbers, inner, outer))
    return Best(nuisances + added, nuisances, layer, alpha)


def stacked(factors: Sequence[Factors]) -> Factors:
    """Factors with a leading axis, of layers whose ranks may differ."""
    most = max(of_layer.eigenvalues.shape[-1] for of_layer in factors)

    def wide(values):
        gap = most - values.shape[-1]
        return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, gap)])

    return Factors(
        jnp.stack([wide(of_layer.eigenvalues) for of_layer in factors]),
        jnp.stack([wide(of_layer.basis) for of_layer in factors]),
        jnp.stack([wide(of_layer.scores) for of_layer in factors]),
        jnp.stack([of_layer.size for of_layer in factors]),
    )
