"""Multi-output ridge regression from one eigen-decomposition, for every alpha and every target.

The factor depends on the source and the training mask only, so it is computed once per subject and
fold and reused for all layers of all models. The penalty is alpha |B|^2 with the squared error
*summed* over rows, as in scikit-learn's Ridge. With an intercept the prediction shrinks toward the
training mean of the target.

References: Hoerl & Kennard (1970); Saunders, Gammerman & Vovk (1998) for the dual form; the
closed-form leave-one-out error is Allen's PRESS (1974).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real, Shaped

_N_LEADING = 16  # steps that part an eigenvalue from one a third as large, to float32 rounding


class RidgeFactor(NamedTuple):
    """Eigen-decomposition of a masked, centred source, for predictions of all N rows.

    The prediction of target y [N] is `mean + scores @ ((basis.T @ (y - mean)) / (eigenvalues + alpha))`,
    where the mean is that of the training rows, or zero without an intercept.

    eigenvalues: [R]; scores: [N, R], all rows, or [M, R], those whose predictions are asked for;
    basis: [N, R], orthonormal columns (or zero), zero on the rows left out;
    weights: [N], 1 on training rows; fit_intercept: scalar, 1 or 0.
    """

    eigenvalues: Float[Array, " R"]
    scores: Float[Array, "M R"]
    basis: Float[Array, "N R"]
    weights: Float[Array, " N"]
    fit_intercept: Float[Array, ""]


def factor(
    gram: Float[Array, "N N"], weights: Shaped[Array, " N"], *, fit_intercept: bool = True
) -> RidgeFactor:
    """Dual factor, for sources with more features than rows.

    Args:
      gram: [N, N] inner products of all source rows, not centred.
      weights: [N] training mask (0 or 1).
      fit_intercept: centre by the training means; otherwise nothing is centred.
    """
    mask = linalg.training_mask(weights, gram.dtype)
    kernel, eigenvalues, vectors, floor = dual_spectrum(gram, mask, fit_intercept=fit_intercept)
    eigenvalues, vectors = _drop_null(eigenvalues, vectors, floor)
    basis = mask[:, None] * vectors
    return RidgeFactor(
        eigenvalues,
        linalg.matmul(kernel, basis),
        basis,
        mask,
        jnp.asarray(fit_intercept, gram.dtype),
    )


def dual_spectrum(
    gram: Float[Array, "N N"], mask: Float[Array, " N"], *, fit_intercept: bool
) -> tuple[Float[Array, "N N"], Float[Array, " N"], Float[Array, "N N"], Float[Array, ""]]:
    """(kernel, eigenvalues, vectors, size of rounding) of the rows in the mask; arguments as of `factor`.

    kernel: [N, N] centred with an intercept, of all rows. eigenvalues: ascending, rounding among them.
    """
    kernel = linalg.center_gram(gram, mask) if fit_intercept else gram
    eigenvalues, vectors = jnp.linalg.eigh(mask[:, None] * kernel * mask[None, :])
    size = jnp.where(mask > 0, jnp.diagonal(gram), 0).max()
    return kernel, eigenvalues, vectors, linalg.rank_tolerance(eigenvalues[-1], gram.shape, size)


def factor_primal(
    features: Float[Array, "N V"], weights: Shaped[Array, " N"], *, fit_intercept: bool = True
) -> RidgeFactor:
    """Primal factor, for sources [N, V] with fewer features than rows. Arguments as in `factor`.

    Rows that are not centred are ruled by their mean, beside whose square float32 would lose the others:
    without an intercept the largest direction is split off before the rest is decomposed.
    """
    mask = linalg.training_mask(weights, features.dtype)
    if fit_intercept:
        features = features - linalg.weighted_mean(features, mask)
    train = features * mask[:, None]
    eigenvalues, vectors = _spectrum(train) if fit_intercept else _spectrum_beside_mean(train)
    root = jnp.sqrt(eigenvalues)
    inverse_root = jnp.where(root > 0, linalg.divided(1, root), 0)
    return RidgeFactor(
        eigenvalues,
        linalg.matmul(features, vectors) * root,
        linalg.matmul(train, vectors) * inverse_root,
        mask,
        jnp.asarray(fit_intercept, features.dtype),
    )


def _spectrum(train: Float[Array, "N V"]) -> tuple[Float[Array, " V"], Float[Array, "V V"]]:
    """Eigenvalues [V], ascending, and vectors [V, V] of train' train for rows [N, V]; zero where rounding."""
    eigenvalues, vectors = jnp.linalg.eigh(linalg.matmul(train.T, train))
    floor = linalg.rank_tolerance(eigenvalues[-1], vectors.shape)
    return _drop_null(eigenvalues, vectors, floor)


def _spectrum_beside_mean(
    train: Float[Array, "N V"],
) -> tuple[Float[Array, " V"], Float[Array, "V V"]]:
    """`_spectrum` with the largest direction apart, where it stands out: rounding is that of the rest."""
    if train.shape[1] < 2:
        return _spectrum(train)

    def step(_, pair):
        moved = linalg.unit(linalg.matmul(linalg.matmul(train, pair[0]), train))
        return moved, jnp.abs(moved - pair[0]).max()

    start = linalg.unit(train.sum(axis=0)), jnp.asarray(jnp.inf, train.dtype)
    leading, change = jax.lax.fori_loop(0, _N_LEADING, step, start)

    def apart(train):
        toward = linalg.reflector(leading)
        eigenvalues, vectors = _spectrum(linalg.reflected(train, toward)[:, 1:])
        vectors = linalg.reflected(jnp.pad(vectors, ((1, 0), (0, 0))).T, toward).T
        largest = (linalg.matmul(train, leading) ** 2).sum()
        return jnp.append(eigenvalues, largest), jnp.concatenate(
            [vectors, leading[:, None]], axis=1
        )

    stands_out = (jnp.abs(leading).max() > 0) & (change <= 16 * jnp.finfo(train.dtype).eps)
    return jax.lax.cond(stands_out, apart, _spectrum, train)


def _drop_null(
    eigenvalues: Float[Array, " R"], vectors: Float[Array, "N R"], floor: Float[Array, ""]
) -> tuple[Float[Array, " R"], Float[Array, "N R"]]:
    """Zero the directions that are rounding: they carry no signal, and a tiny alpha would blow them up."""
    keep = eigenvalues > floor
    return jnp.where(keep, eigenvalues, 0), vectors * keep.astype(vectors.dtype)


def _project(
    factor: RidgeFactor, targets: Float[Array, "N T"]
) -> tuple[Float[Array, " T"], Float[Array, "R T"]]:
    """(training means [T], basis.T @ (targets - means) [R, T])."""
    means = linalg.weighted_mean(targets, factor.weights) * factor.fit_intercept
    train = linalg.masked_rows(targets - means, factor.weights)
    return means, linalg.matmul(factor.basis.T, train)


def _filter(eigenvalues: Array, alpha: Array) -> Array:
    """1 / (eigenvalue + alpha), and 0 where both are zero (the minimum-norm solution)."""
    total = eigenvalues + alpha
    return linalg.ratio(1, total, total <= 0)


def predict(
    factor: RidgeFactor,
    targets: Float[Array, "N T"],
    alpha: Real[Array, ""] | Real[Array, " T"] | float,
) -> Float[Array, "M T"]:
    """Predictions [N, T] for all rows, training and left out.

    Args:
      targets: [N, T]; rows without weight have no influence, whatever they hold.
      alpha: scalar, or one per target [T]; not negative.
    """
    means, projected = _project(factor, targets)
    alpha = jnp.asarray(alpha, targets.dtype)
    gains = _filter(factor.eigenvalues[:, None], jnp.atleast_1d(alpha)[None, :])
    return means + linalg.matmul(factor.scores, projected * gains)


def predict_path(
    factor: RidgeFactor, targets: Float[Array, "N T"], alphas: Real[Array, " A"]
) -> Float[Array, "A M T"]:
    """Predictions [A, N, T] for each of alphas [A], all from one projection of the targets."""
    means, projected = _project(factor, targets)
    gains = _filter(factor.eigenvalues[None, :], jnp.asarray(alphas, targets.dtype)[:, None])
    return means + linalg.matmul(factor.scores * gains[:, None, :], projected)


def loo_errors(
    factor: RidgeFactor, targets: Float[Array, "N T"], alphas: Real[Array, " A"]
) -> Float[Array, "A T"]:
    """Mean squared leave-one-out error [A, T] over the training rows, exactly, without refitting.

    With an intercept the mean is estimated anew without the row. Where a row alone decides its own
    fit (leverage one, only at alpha zero) the error is not defined and is given as NaN.
    """
    alphas = jnp.asarray(alphas, targets.dtype)[:, None]
    n_train = factor.weights.sum()
    basis = factor.basis
    # Both the residual and 1 - leverage are sums over the basis and over what lies outside of it.
    # Taken as differences from one they would cancel, and small alphas would drown in rounding.
    kept = jnp.where(alphas > 0, alphas * _filter(factor.eigenvalues[None, :], alphas), 0)
    mean_leverage = factor.fit_intercept / jnp.maximum(n_train, 1)
    outside = 1 - mean_leverage - (basis**2).sum(axis=1)
    outside = jnp.where(outside > jnp.finfo(targets.dtype).eps * 10 * targets.shape[0], outside, 0)
    means, projected = _project(factor, targets)
    beyond = linalg.masked_rows(targets - means, factor.weights) - linalg.matmul(basis, projected)
    residual = jnp.where((outside > 0)[:, None], beyond, 0) + linalg.matmul(
        basis * kept[:, None, :], projected
    )
    slack = outside + linalg.matmul(kept, (basis**2).T)
    errors = (residual / jnp.where(slack > 0, slack, jnp.nan)[:, :, None]) ** 2
    errors = jnp.where(factor.weights[None, :, None] > 0, errors, 0)
    return errors.sum(axis=1) / n_train


def select_alpha(errors: Float[Array, "A T"], *, shared: bool) -> Int[Array, ""] | Int[Array, " T"]:
    """Index of the alpha of least error, the first at a tie; NaN never wins.

    Args:
      errors: [A, T] error of each alpha for each target.
      shared: one alpha for all targets (scalar index, least mean error) or one per target ([T]).
    """
    if shared:
        errors = errors.mean(axis=1)
    return jnp.where(jnp.isnan(errors), jnp.inf, errors).argmin(axis=0)
