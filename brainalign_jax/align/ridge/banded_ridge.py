"""Banded ridge: ridge for groups of features, each with a scale of its own, which differ between targets.

The model minimises |y - sum_g X_g B_g - b|^2 + sum_g alpha / gamma_g |B_g|^2, which is kernel ridge
with the kernel sum_g gamma_g K_g and the penalty alpha: gammas lie on the simplex, K_g = X_g X_g^T. The
Gram matrices are shared by all targets; gammas and alpha are not. `banded_search` chooses the two among
candidates, `banded_descent` by gradient descent; here is the fit at given scales, and what follows.

References: Nunez-Elizalde, Huth & Gallant (2019), NeuroImage 197; Dupré la Tour, Eickenberg,
Nunez-Elizalde & Gallant (2022), Feature-space selection with banded ridge regression, NeuroImage 264.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Shaped
from brainalign_jax.align.ridge import filters, ridge


class BandedRidge(NamedTuple):
    """A fit of T targets to the training rows, for predictions by `predict` and `predict_split`.

    gammas: [G, T] kernel weights on the simplex; alphas: [T] penalties; errors: [T] cross-validated
    error at the two; dual_coef: [N, T], zero on rows left out; offsets: [G, T] what each group
    predicts for the mean training row, before centring; means: [T] training means of the targets. The
    last two are zero without an intercept.
    """

    gammas: Float[Array, "G T"]
    alphas: Float[Array, " T"]
    errors: Float[Array, " T"]
    dual_coef: Float[Array, "N T"]
    offsets: Float[Array, "G T"]
    means: Float[Array, " T"]

    @property
    def log_deltas(self) -> Float[Array, "G T"]:
        """log(gamma / alpha) [G, T], himalaya's `deltas`: -inf where gamma is 0, +inf where alpha is."""
        return jnp.log(self.gammas) - jnp.log(self.alphas)


def refit(
    grams: Float[Array, "G N N"],
    targets: Float[Array, "N T"],
    weights: Shaped[Array, " N"],
    gammas: Float[Array, "S G"],
    gamma_index: Int[Array, " T"],
    alphas: Float[Array, " T"],
    errors: Float[Array, " T"],
    *,
    fit_intercept: bool = True,
    target_batch: int | None = None,
) -> BandedRidge:
    """Fit each target at its gamma and alpha, factoring once for the targets that share a gamma.

    Args:
      grams: [G, N, N]; targets: [N, T]; weights: [N] training mask.
      gammas: [S, G]; gamma_index: [T] into gammas; alphas: [T]; errors: [T], passed on.
      target_batch: targets solved at a time; None is all. A gamma of more targets is factored again.
    """
    n_targets = targets.shape[1]
    batch = min(target_batch or n_targets, n_targets)
    mask = linalg.training_mask(weights, targets.dtype)
    gammas, alphas = (jnp.asarray(x, targets.dtype) for x in (gammas, alphas))
    means = linalg.weighted_mean(targets, mask)
    means = means if fit_intercept else jnp.zeros_like(means)
    order = jnp.argsort(gamma_index, stable=True)
    # Room for a last window that starts at the last target; -1 is nobody's gamma.
    sorted_index = jnp.pad(gamma_index[order], (0, batch), constant_values=-1)
    sorted_alphas = jnp.pad(alphas[order], (0, batch))
    centred = linalg.masked_rows(targets - means, mask)[:, order]
    centred = jnp.pad(centred, ((0, 0), (0, batch)))

    def solve(state):
        start, coef = state
        index = jax.lax.dynamic_slice(sorted_index, (start,), (batch,))
        alpha = jax.lax.dynamic_slice(sorted_alphas, (start,), (batch,))
        y = jax.lax.dynamic_slice(centred, (0, start), (len(mask), batch))
        kernel = jnp.tensordot(gammas[index[0]], grams, 1, precision="highest")
        _, eigenvalues, basis, floor = ridge.dual_spectrum(
            kernel, mask, fit_intercept=fit_intercept
        )
        # What is left out has no influence on any prediction.
        gain = filters.inverses(eigenvalues, alpha, floor).T
        solved = mask[:, None] * linalg.matmul(basis, linalg.matmul(basis.T, y) * gain)
        same_gamma = index == index[0]
        window = jax.lax.dynamic_slice(coef, (0, start), (len(mask), batch))
        window = jnp.where(same_gamma, solved, window)
        return start + same_gamma.sum(dtype=start.dtype), jax.lax.dynamic_update_slice(
            coef, window, (jnp.zeros_like(start), start)
        )

    state = jnp.zeros((), order.dtype), jnp.zeros_like(centred)
    _, coef = jax.lax.while_loop(lambda s: s[0] < n_targets, solve, state)
    coef = jnp.zeros_like(targets).at[:, order].set(coef[:, :n_targets])
    chosen = gammas[gamma_index].T
    w = linalg.normalized_weights(mask, targets.dtype)
    offsets = chosen * linalg.matmul(jnp.einsum("n,gnm->gm", w, grams, precision="highest"), coef)
    offsets = offsets if fit_intercept else jnp.zeros_like(offsets)
    return BandedRidge(chosen, alphas, errors, coef, offsets, means)


def predict_split(model: BandedRidge, cross: Float[Array, "G M N"]) -> Float[Array, "G M T"]:
    """What each group adds to the prediction [G, M, T]; they sum to `predict` less the training means.

    Args: cross: [G, M, N] inner products of M new rows with the N rows of the fit, not centred.
    """
    raw = linalg.matmul(cross, model.dual_coef)
    return model.gammas[:, None, :] * raw - model.offsets[:, None, :]


def predict(model: BandedRidge, cross: Float[Array, "G M N"]) -> Float[Array, "M T"]:
    """Predictions [M, T] from cross [G, M, N], as in `predict_split`."""
    return model.means + predict_split(model, cross).sum(axis=0)


def split_r2(
    targets: Float[Array, "M T"],
    split: Float[Array, "G M T"],
    weights: Shaped[Array, " M"] | None = None,
) -> Float[Array, "G T"]:
    """Product measure [G, T]: each group's share in the r2 of the groups' sum; a share may be negative.

    sum((2 y - sum_h p_h) p_g) / sum(y^2) with y the targets less their mean over the rows with weight, as
    himalaya's `r2_score_split`. The shares sum to the r2 of the sum of `split` for those y.

    Args: targets: [M, T]; split: [G, M, T] of `predict_split`; weights: [M], or None for all rows.
    """
    weights = jnp.ones(targets.shape[0], targets.dtype) if weights is None else weights
    mask = linalg.training_mask(weights, targets.dtype)
    centred = linalg.center(targets, linalg.weighted_mean(targets, mask), mask)
    total = (centred**2).sum(axis=0)
    product = ((2 * centred - split.sum(axis=0)) * split * mask[:, None]).sum(axis=1)
    return linalg.ratio(product, total, total == 0)


def split_correlation(
    targets: Float[Array, "M T"],
    split: Float[Array, "G M T"],
    weights: Shaped[Array, " M"] | None = None,
) -> Float[Array, "G T"]:
    """Each group's share [G, T] in the correlation of targets with the groups' sum; a share may be negative.

    cov(y, p_g) / (sd(y) sd(sum_h p_h)), as himalaya's `correlation_score_split`. The shares sum to Pearson's
    r of the sum; 0 where it or the target is constant. Arguments as in `split_r2`.
    """
    weights = jnp.ones(targets.shape[0], targets.dtype) if weights is None else weights
    mask = linalg.training_mask(weights, targets.dtype)

    def centred(x):
        return linalg.center(x, linalg.weighted_mean(x, mask), mask)

    y, parts, joint = centred(targets), jax.vmap(centred)(split), centred(split.sum(axis=0))
    size = jnp.sqrt((y**2).sum(axis=0) * (joint**2).sum(axis=0))
    return linalg.ratio((y * parts).sum(axis=1), size, size == 0)
