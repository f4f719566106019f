"""Ridge of features beside nuisances, each with a penalty of its own: what features add to nuisances.

The model minimises |y - b - Z C - X B|^2 + lambda |C|^2 + alpha |B|^2 over the training rows, where X are
the features less their least-squares fit by the nuisances Z. So the features have no part in what the
nuisances can explain, the two penalties do not mix, and at alpha = inf the joint model is that of the
nuisances alone: banded ridge in which the nuisances come first.

Everything is linear in the targets and given as operators, so that one factorisation serves all
subjects, regions and permutations. The squared error of cross-validation is then a quadratic form of
the target, and its sum over many targets needs their inner products only.

References: Frisch & Waugh (1933) and Lovell (1963) for the residuals; Nunez-Elizalde, Huth & Gallant
(2019), NeuroImage 197, for bands.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real, Shaped
from brainalign_jax.align.ridge import ridge


def nuisance_operators(
    nuisances: Float[Array, "N K"], weights: Shaped[Array, " N"], lambdas: Real[Array, " L"]
) -> Float[Array, "L N N"]:
    """[L, N, N] from targets to the nuisances' predictions of all rows, with an intercept.

    nuisances: [N, K], K may be zero: then the training mean. weights: [N] training mask; the columns of
    rows left out are zero. lambdas: [L] penalties in units of a nuisance's sum of squares over the
    training rows, about which they are standardised; at zero, directions that are rounding are left out.
    """
    mask = linalg.training_mask(weights, nuisances.dtype)
    mean = jnp.broadcast_to(linalg.normalized_weights(mask, mask.dtype), (len(mask), len(mask)))
    lambdas = jnp.asarray(lambdas, mask.dtype)
    if nuisances.shape[1] == 0:
        return jnp.broadcast_to(mean, (len(lambdas), *mean.shape))
    columns = _standardised(nuisances, mask)
    fitted = ridge.factor_primal(columns, mask, fit_intercept=False)
    total = fitted.eigenvalues + lambdas[:, None] * mask.sum()
    gains = jnp.where(fitted.eigenvalues > 0, linalg.divided(1, total), 0)
    return mean + linalg.matmul(fitted.scores * gains[:, None, :], fitted.basis.T)


def _standardised(columns: Float[Array, "N K"], mask: Float[Array, " N"]) -> Float[Array, "N K"]:
    """Columns [N, K] about their training mean, in units of their training deviation."""
    columns = columns - linalg.weighted_mean(columns, mask)
    square = (linalg.masked_rows(columns, mask) ** 2).sum(axis=0) / jnp.maximum(mask.sum(), 1)
    return columns / jnp.sqrt(jnp.where(square > 0, square, 1))


def without_nuisances(
    rows: Float[Array, "N D"], nuisances: Real[Array, "N K"], weights: Shaped[Array, " N"]
) -> Float[Array, "N D"]:
    """What nuisances leave of rows: rows [N, D] less their least-squares fit over the weighted rows.

    nuisances: [N, K]; directions of theirs that are rounding are left out. weights: [N], not negative, zero
    for rows that are fitted from the others. The weighted mean of the rows stays, so that an intercept is the
    same with nuisances and without (Frisch & Waugh 1933).
    """
    weights = weights.astype(rows.dtype)
    columns = _standardised(nuisances.astype(rows.dtype), linalg.training_mask(weights, rows.dtype))
    columns = columns - linalg.weighted_mean(columns, weights)
    known = linalg.masked_rows(columns, weights) * weights[:, None]
    eigenvalues, axes = jnp.linalg.eigh(linalg.matmul(known.T, columns))
    kept = eigenvalues > linalg.rank_tolerance(eigenvalues[-1], columns.shape)
    gains = jnp.where(kept, linalg.divided(1, eigenvalues), 0)
    centred = linalg.masked_rows(rows - linalg.weighted_mean(rows, weights), weights)
    projected = linalg.matmul(axes.T, linalg.matmul(known.T, centred))
    return rows - linalg.matmul(columns, linalg.matmul(axes, gains[:, None] * projected))


def factor(
    features: Float[Array, "N D"], nuisances: Float[Array, "N K"], weights: Shaped[Array, " N"]
) -> ridge.RidgeFactor:
    """Factor of the features [N, D] less their fit by the nuisances [N, K], in units of their deviation.

    Fit and deviations are those of the training rows; a feature that the nuisances explain wholly is
    left out.
    """
    mask = linalg.training_mask(weights, features.dtype)
    centred = _standardised(features, mask)
    fit = nuisance_operators(nuisances, mask, jnp.zeros(1))[0]
    left = centred - linalg.matmul(fit, centred)
    square = (linalg.masked_rows(left, mask) ** 2).sum(axis=0) / jnp.maximum(mask.sum(), 1)
    explained = square <= 1e-8
    left = jnp.where(explained, 0, left / jnp.sqrt(jnp.where(explained, 1, square)))
    return ridge.factor(linalg.gram(left), mask, fit_intercept=False)


def operators(
    fitted: ridge.RidgeFactor,
    nuisance: Float[Array, "L N N"],
    alphas: Real[Array, " A"],
    rows: Int[Array, " M"],
) -> Float[Array, "L*A M N"]:
    """[L * A, M, N] from targets to the joint predictions of the M rows asked for, lambda by lambda.

    fitted: of `factor`; nuisance: [L, N, N] of `nuisance_operators`, with the same nuisances and weights.
    alphas: [A], in units of the mean diagonal of the kernel over the training rows; inf leaves the
    nuisances alone.
    """
    size = fitted.eigenvalues.sum() / jnp.maximum(fitted.weights.sum(), 1)
    total = fitted.eigenvalues + jnp.asarray(alphas, fitted.eigenvalues.dtype)[:, None] * size
    gains = jnp.where(fitted.eigenvalues > 0, linalg.divided(1, total), 0)
    added = linalg.matmul(fitted.scores[rows] * gains[:, None, :], fitted.basis.T)
    joint = nuisance[:, None, rows] + added
    return joint.reshape(-1, *joint.shape[2:])


def error_forms(
    features: Float[Array, "N D"] | None,
    nuisances: Float[Array, "N K"],
    train: Shaped[Array, "I N"],
    test_rows: Int[Array, "I M"],
    test_weights: Shaped[Array, "I M"],
    lambdas: Real[Array, " L"],
    alphas: Real[Array, " A"],
) -> Float[Array, "_ N N"]:
    """[L * A, N, N]: y @ form @ y is the squared error of cross-validation for a target y.

    Args:
      features: [N, D], or None for the nuisances alone, [L, N, N]; nuisances: [N, K].
      lambdas: [L], alphas: [A], see `nuisance_operators` and `operators`.
      train: [I, N] masks of the folds; test_rows: [I, M] indices, test_weights: [I, M], 0 where padded.
    """
    count = len(lambdas) * (1 if features is None else len(alphas))

    def add(total, fold):
        mask, rows, weights = fold
        nuisance = nuisance_operators(nuisances, mask, lambdas)
        if features is None:
            predicted = nuisance[:, rows]
        else:
            predicted = operators(factor(features, nuisances, mask), nuisance, alphas, rows)
        hit = (rows[:, None] == jnp.arange(len(mask))).astype(nuisances.dtype)
        residual = (hit - predicted) * weights[:, None]
        return total + linalg.matmul(residual.swapaxes(1, 2), residual), None

    start = jnp.zeros((count, len(nuisances), len(nuisances)), nuisances.dtype)
    return jax.lax.scan(add, start, (train, test_rows, test_weights))[0]
