"""Random search for the scales of banded ridge: candidates on the simplex, each with all alphas.

One eigen-decomposition a candidate and fold serves all targets and alphas (see `banded_ridge` for the
model). Only a few alphas are multiplied with the targets, where a tolerance allows it; the others are
combined of those.

Folds are masks. The eigen-decomposition of a fold costs the cube of its rows, so rows are gathered to
the static sizes `n_train` and `n_test`, the largest of any fold; without them all N rows are kept.

Reference: Dupré la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022), NeuroImage 264.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, PRNGKeyArray, Real, Shaped
from brainalign_jax.align.ridge import filters, ridge
from brainalign_jax.align.ridge.banded_ridge import BandedRidge, refit
from brainalign_jax.align.ridge.residual_ridge import NuisanceFit

_NODES = 4  # alphas to a matrix product: fewer leave it slender, more are computed in vain


class Search(NamedTuple):
    """The best candidate of each target: index into gammas [T], index into alphas [T], its error [T]."""

    gamma_index: Int[Array, " T"]
    alpha_index: Int[Array, " T"]
    errors: Float[Array, " T"]


class Folds(NamedTuple):
    """Rows of each fold, padded to one size: train [F, n], test [F, m], and masks, 0 on the padding.

    nuisances: fits [F, N, K + 1] by nuisances without a penalty on the training rows, an intercept among
    them, which are taken off kernels and targets; None for none.
    """

    train: Int[Array, "F n"]
    train_mask: Float[Array, "F n"]
    test: Int[Array, "F m"]
    test_mask: Float[Array, "F m"]
    nuisances: NuisanceFit | None = None


def simplex_samples(
    key: PRNGKeyArray,
    *,
    n_samples: int,
    n_groups: int,
    concentration: tuple[float, ...] = (0.1, 1.0),
    dtype=jnp.float32,
) -> Float[Array, "n_samples n_groups"]:
    """Gammas [n_samples, n_groups]: equal weights first, then Dirichlet samples.

    Args:
      key: of `jax.random.key`.
      concentration: of the symmetric Dirichlet distributions that are taken in turn. 1 is uniform on the
        simplex; small values lie near its corners, where few groups have weight.
    """
    levels = jnp.asarray(concentration, dtype)[jnp.arange(n_samples) % len(concentration)]
    levels = jnp.broadcast_to(levels[:, None], (n_samples, n_groups))
    gammas = jax.random.dirichlet(key, levels, dtype=dtype)
    return gammas.at[0].set(1 / n_groups)


def fold_rows(
    train: Shaped[Array, "F N"],
    test: Shaped[Array, "F N"],
    dtype,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Folds:
    """Masks train and test [F, N] as padded lists of rows. A size too small drops rows: see `Folds`."""

    def rows(mask, size):
        order = jnp.argsort(mask == 0, axis=1, stable=True)[:, :size]
        return order, linalg.training_mask(jnp.take_along_axis(mask, order, axis=1), dtype)

    return Folds(*rows(train, n_train), *rows(test, n_test))


def fold_blocks(
    kernel: Float[Array, "N N"], fold: Folds, *, fit_intercept: bool
) -> tuple[Float[Array, "n n"], Float[Array, "m n"]]:
    """One fold's kernel between training rows [n, n], and from test to training rows [m, n].

    Centred by the training means with an intercept, or less the fit by the nuisances; rows of padding are
    zero.
    """
    train, test = kernel[fold.train][:, fold.train], kernel[fold.test][:, fold.train]
    if fold.nuisances is not None:
        scores, basis = (part[fold.train] for part in fold.nuisances)
        basis = linalg.masked_rows(basis, fold.train_mask)
        fitted = linalg.matmul(basis.T, train)
        train = train - linalg.matmul(scores, fitted)
        test = test - linalg.matmul(fold.nuisances.scores[fold.test], fitted)
        train, test = (x - linalg.matmul(linalg.matmul(x, basis), scores.T) for x in (train, test))
    elif fit_intercept:
        w = linalg.normalized_weights(fold.train_mask, kernel.dtype)
        row, column = linalg.matmul(train, w), linalg.matmul(test, w)
        constant = linalg.matmul(w, row)
        train = train - row[:, None] - row[None, :] + constant
        test = test - column[:, None] - row[None, :] + constant
    mask = fold.train_mask
    return train * mask[:, None] * mask[None, :], test * fold.test_mask[:, None] * mask[None, :]


def fold_targets(
    targets: Float[Array, "N T"], fold: Folds, *, fit_intercept: bool, score: str
) -> tuple[Float[Array, "n T"], Float[Array, "m T"], Float[Array, " T"]]:
    """One fold's targets less the training means, of training [n, T] and test rows [m, T]; and a scale [T].

    Or less their fit by the nuisances, where the fold has some.
    The scale makes a sum of squared test errors a mean ("mse") or a share of the variance ("r2"; NaN
    where the target is constant).
    """
    train = linalg.masked_rows(targets[fold.train], fold.train_mask)
    test = linalg.masked_rows(targets[fold.test], fold.test_mask)
    if score == "r2":
        centred = linalg.center(test, linalg.weighted_mean(test, fold.test_mask), fold.test_mask)
        total = (centred**2).sum(axis=0)
        scale = jnp.where(total > 0, linalg.divided(1, total), jnp.nan)
    else:
        scale = jnp.broadcast_to(1 / jnp.maximum(fold.test_mask.sum(), 1), test.shape[1:])
    if fold.nuisances is not None:
        scores, basis = (part[fold.train] for part in fold.nuisances)
        fitted = linalg.matmul(linalg.masked_rows(basis, fold.train_mask).T, train)
        train = linalg.masked_rows(train - linalg.matmul(scores, fitted), fold.train_mask)
        test = test - linalg.matmul(fold.nuisances.scores[fold.test], fitted)
        test = linalg.masked_rows(test, fold.test_mask)
    elif fit_intercept:
        mean = linalg.weighted_mean(train, fold.train_mask)
        train = linalg.masked_rows(train - mean, fold.train_mask)
        test = linalg.masked_rows(test - mean, fold.test_mask)
    return train, test, scale


def scaled_error(
    squared: Float[Array, "... T"], scale: Float[Array, " T"]
) -> Float[Array, "... T"]:
    """Summed squared errors times scale: 1 - r2, thus 1, where a constant target gives no scale."""
    return jnp.where(jnp.isnan(scale), 1, squared * jnp.where(jnp.isnan(scale), 1, scale))


def fitted_rows(
    train: Shaped[Array, "F N"], test: Shaped[Array, "F N"], dtype
) -> Float[Array, " N"]:
    """Mask [N] of the rows that are in some fold, training or test."""
    return ((train != 0) | (test != 0)).any(axis=0).astype(dtype)


def cv_errors(
    grams: Float[Array, "G N N"],
    targets: Float[Array, "N T"],
    folds: Folds,
    gamma: Float[Array, " G"],
    alphas: Real[Array, " A"],
    *,
    fit_intercept: bool = True,
    score: str = "mse",
    tolerance: float = 0.0,
    target_batch: int | None = None,
) -> Float[Array, "A T"]:
    """Cross-validated errors [A, T] of one gamma [G] at every alpha; mean over folds. See `search`."""
    n_alphas, n_targets = len(alphas), targets.shape[1]
    alphas = jnp.asarray(alphas, targets.dtype)
    batch = min(target_batch or n_targets, n_targets)
    padded = jnp.pad(targets, ((0, 0), (0, -n_targets % batch)))
    batches = padded.reshape(len(targets), -1, batch).swapaxes(0, 1)
    kernel = jnp.tensordot(gamma, grams, 1, precision="highest")
    n_groups = -(-n_alphas // _NODES)
    unused = n_groups * _NODES - n_alphas

    def fold_errors(fold):
        train, test = fold_blocks(kernel, fold, fit_intercept=fit_intercept)
        eigenvalues, vectors = jnp.linalg.eigh(train)
        size = jnp.where(fold.train_mask > 0, jnp.diagonal(kernel)[fold.train], 0).max()
        scores = linalg.matmul(test, vectors)
        floor = linalg.rank_tolerance(eigenvalues[-1], train.shape, size)
        known = (eigenvalues > floor) | (alphas.min() > floor)
        present = jnp.where(known, jnp.maximum(eigenvalues, 0), 0)
        order, mixing, rank = filters.filter_skeleton(present, alphas, tolerance)
        used = -(-rank // _NODES)
        inverses = filters.inverses(eigenvalues, alphas[order], floor)
        inverses = jnp.pad(inverses, ((0, unused), (0, 0))).reshape(n_groups, _NODES, 1, -1)
        mixing = jnp.pad(mixing, ((0, 0), (0, unused)))

        def resolve(i, resolvents):
            block = (scores * inverses[i]).reshape(-1, len(train))
            return resolvents.at[i].set(linalg.matmul(block, vectors.T))

        shape = (n_groups, _NODES * len(test))
        resolvents = jnp.zeros((*shape, len(train)), train.dtype)
        resolvents = jax.lax.fori_loop(0, used, resolve, resolvents)

        def batch_errors(targets):
            y, held_out, scale = fold_targets(
                targets, fold, fit_intercept=fit_intercept, score=score
            )

            def predict_nodes(i, predicted):
                return predicted.at[i].set(linalg.matmul(resolvents[i], y))

            predicted = jnp.zeros((*shape, batch), y.dtype)
            predicted = jax.lax.fori_loop(0, used, predict_nodes, predicted)
            predicted = predicted.reshape(n_groups * _NODES, -1)
            predicted = linalg.matmul(mixing, predicted).reshape(n_alphas, *held_out.shape)
            return scaled_error(((held_out - predicted) ** 2).sum(axis=1), scale)

        return jax.lax.map(batch_errors, batches)

    errors = jax.lax.map(fold_errors, folds).mean(axis=0)
    return errors.swapaxes(0, 1).reshape(n_alphas, -1)[:, :n_targets]


def search(
    grams: Float[Array, "..."],
    targets: Float[Array, "..."],
    train: Shaped[Array, "..."],
    test: Shaped[Array, "..."],
    gammas: Float[Array, "..."],
    alphas: Real[Array, " A"],
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    fit_intercept: bool = True,
    score: str = "mse",
    tolerance: float = 0.0,
    target_batch: int | None = None,
) -> Search:
    """The gamma and alpha of least cross-validated error for each target; the first at a tie.

    Only the best so far is kept, whatever the number of gammas.

    Args:
      grams: [G, N, N] inner products of all rows, group by group, not centred.
      targets: [N, T]; rows in no fold may hold anything.
      train, test: [F, N] masks.
      gammas: [S, G] candidates on the simplex. alphas: [A], not negative.
      n_train, n_test: static sizes of the largest fold; None keeps all rows, at a higher cost.
      score: "mse", mean over folds of the mean squared error, or "r2", of 1 - r2.
      tolerance: error allowed in a filter's gain (of at most 1), which saves products with the targets
        (see `filters.filter_skeleton`); 0 computes every alpha.
      target_batch: targets at a time; None is all.

    Raises: ValueError on shapes that do not fit or an unknown score.
    """
    check_shapes(grams, targets, train, test, gammas, score)
    folds = fold_rows(train, test, targets.dtype, n_train=n_train, n_test=n_test)
    gammas = jnp.asarray(gammas, targets.dtype)

    def consider(best, candidate):
        index, gamma = candidate
        errors = cv_errors(
            grams,
            targets,
            folds,
            gamma,
            alphas,
            fit_intercept=fit_intercept,
            score=score,
            tolerance=tolerance,
            target_batch=target_batch,
        )
        chosen = ridge.select_alpha(errors, shared=False)
        error = jnp.take_along_axis(errors, chosen[None, :], axis=0)[0]
        better = error < best.errors
        new = Search(jnp.full_like(best.gamma_index, index), chosen, error)
        return jax.tree.map(lambda n, b: jnp.where(better, n.astype(b.dtype), b), new, best), None

    none = jnp.zeros(targets.shape[1], jnp.int32)
    start = Search(none, none, jnp.full(targets.shape[1], jnp.inf, targets.dtype))
    return jax.lax.scan(consider, start, (jnp.arange(len(gammas)), gammas))[0]


def random_search(
    grams: Float[Array, "..."],
    targets: Float[Array, "..."],
    train: Shaped[Array, "..."],
    test: Shaped[Array, "..."],
    gammas: Float[Array, "..."],
    alphas: Real[Array, " A"],
    *,
    fit_intercept: bool = True,
    target_batch: int | None = None,
    **options,
) -> BandedRidge:
    """`search`, then `refit` to all rows of the folds. Arguments as in `search`."""
    options = dict(options, fit_intercept=fit_intercept, target_batch=target_batch)
    chosen = search(grams, targets, train, test, gammas, alphas, **options)
    return refit(
        grams,
        targets,
        fitted_rows(train, test, targets.dtype),
        gammas,
        chosen.gamma_index,
        jnp.asarray(alphas, targets.dtype)[chosen.alpha_index],
        chosen.errors,
        fit_intercept=fit_intercept,
        target_batch=target_batch,
    )


def check_shapes(grams, targets, train, test, gammas, score) -> None:
    """Raises: ValueError if the shapes do not fit or the score is unknown."""
    n = targets.shape[0]
    if grams.ndim != 3 or grams.shape[1:] != (n, n):
        raise ValueError(
            f"grams {grams.shape} must be [groups, {n}, {n}] for targets {targets.shape}"
        )
    if train.shape != test.shape or train.ndim != 2 or train.shape[1] != n:
        raise ValueError(f"train {train.shape} and test {test.shape} must both be [folds, {n}]")
    if gammas.ndim != 2 or gammas.shape[1] != len(grams) or not len(gammas):
        raise ValueError(f"gammas {gammas.shape} must be [candidates, {len(grams)}], one a group")
    if score not in ("mse", "r2"):
        raise ValueError(f"score={score!r} is not one of 'mse', 'r2'")
