"""Banded ridge of several feature spaces and of some of them, from one search.

A model of some spaces is the joint model with no weight on the others. So one pass over the candidates
(weights of the spaces on the simplex, each with all penalties) serves the joint model, each space alone, and
all but one: each takes the best of the candidates that it allows. "No features" is a candidate of all. In the
folds of the search the joint model is therefore never worse than any of its parts, as banded ridge should be.

References: Dupré la Tour et al. (2022), NeuroImage 264; Hadidi et al. (2025), Illusions of alignment between
large language models and brains.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Bool, Float, Int, Real, Shaped
from brainalign_jax.align.ridge import banded_ridge, banded_search, ridge
from brainalign_jax.align.ridge.banded_search import Folds, Search

NONE = -1  # the candidate of a target that no features predict better than the nuisances


class Submodels(NamedTuple):
    """Which of G spaces each of J models has: has [J, G] bool; the joint model first.

    alone, without: [G] rows of `has`, of each space by itself and of all but each.
    """

    has: Bool[np.ndarray, "J G"]
    alone: Int[np.ndarray, " G"]
    without: Int[np.ndarray, " G"]


class Split(NamedTuple):
    """Predictions of M rows, less the nuisances'.

    joint: [G, M, T] of each space in the joint model; each: [J, M, T] of the models, the joint one first.
    """

    joint: Float[Array, "G M T"]
    each: Float[Array, "J M T"]


def submodels(n_spaces: int) -> Submodels:
    """The joint model, each space alone and all but one, each model once."""
    alone = np.eye(n_spaces, dtype=bool)
    rows = [tuple(row) for row in (np.ones(n_spaces, bool), *alone, *~alone) if row.any()]
    has = list(dict.fromkeys(rows))
    place = {row: number for number, row in enumerate(has)}
    without = [place.get(tuple(row), NONE) for row in ~alone]
    return Submodels(
        np.array(has), np.array([place[tuple(row)] for row in alone]), np.array(without)
    )


def simplex_grid(n_spaces: int, ratios: Sequence[float]) -> Float[np.ndarray, "S G"]:
    """Gammas [S, G], float32, all there are: a space has no weight, the largest, or a ratio of the largest.

    ratios: between 0 and 1. Each single space comes first, so that among equals the fewest spaces are taken.

    Raises: ValueError for a ratio that is not between 0 and 1.
    """
    if outside := [ratio for ratio in ratios if not 0 < ratio < 1]:
        raise ValueError(f"ratios holds {outside[0]:g}: give weights between 0 and 1")
    levels = (0.0, *sorted(set(ratios)), 1.0)
    grid = [row for row in itertools.product(levels, repeat=n_spaces) if max(row) == 1]
    grid.sort(key=lambda row: sum(weight > 0 for weight in row))
    return (np.array(grid) / np.sum(grid, axis=1, keepdims=True)).astype(np.float32)


def search(
    grams: Float[Array, "G N N"],
    targets: Float[Array, "N T"],
    folds: Folds,
    gammas: Float[Array, "S G"],
    has: Bool[Array, "J G"],
    alphas: Real[Array, " A"],
    *,
    tolerance: float = 0.0,
    target_batch: int | None = None,
) -> Search:
    """The candidate of least cross-validated squared error of each model and target, fields [J, T].

    Args:
      grams: [G, N, N]; targets: [N, T]; folds: with their nuisances, see `banded_search.fold_blocks`.
      gammas: [S, G]; has: [J, G] of `submodels`; alphas: [A]. A model allows the gammas that are zero where
        it has no space.
      tolerance, target_batch: as of `banded_search.search`.

    Returns: gamma_index and alpha_index are -1 where no features are best.
    """
    gammas = jnp.asarray(gammas, targets.dtype)
    allowed = ~((gammas[:, None, :] > 0) & ~has).any(axis=2)

    def consider(best, candidate):
        index, gamma, may = candidate
        errors = banded_search.cv_errors(
            grams, targets, folds, gamma, alphas, tolerance=tolerance, target_batch=target_batch
        )
        alpha = ridge.select_alpha(errors, shared=False)
        error = jnp.take_along_axis(errors, alpha[None], axis=0)[0]
        better = may[:, None] & (error < best.errors)
        new = Search(index, alpha, error)
        return jax.tree.map(lambda n, b: jnp.where(better, n.astype(b.dtype), b), new, best), None

    def without_features(fold):
        _, held_out, scale = banded_search.fold_targets(
            targets, fold, fit_intercept=True, score="mse"
        )
        return (held_out**2).sum(axis=0) * scale

    error = jax.lax.map(without_features, folds).mean(axis=0)
    shape = (len(has), targets.shape[1])
    none = jnp.full(shape, NONE, jnp.int32)
    start = Search(none, none, jnp.broadcast_to(error, shape))
    return jax.lax.scan(consider, start, (jnp.arange(len(gammas)), gammas, allowed))[0]


def predictions(
    grams: Float[Array, "G N N"],
    targets: Float[Array, "N T"],
    weights: Shaped[Array, " N"],
    rows: Int[Array, " M"],
    gammas: Float[Array, "S G"],
    alphas: Real[Array, " A"],
    chosen: Search,
    *,
    target_batch: int | None = None,
) -> Split:
    """Predictions of the rows [M] by what `search` chose, fitted to the rows with weight [N].

    grams: [G, N, N] and targets: [N, T] less their fit by the nuisances on these rows.
    """
    n_models, n_targets = chosen.errors.shape
    gammas, alphas = (jnp.asarray(x, targets.dtype) for x in (gammas, alphas))
    # An infinite penalty leaves nothing of the features.
    penalties = jnp.where(chosen.gamma_index == NONE, jnp.inf, alphas[chosen.alpha_index])
    fitted = banded_ridge.refit(
        grams,
        jnp.tile(targets, (1, n_models)),
        weights,
        gammas,
        jnp.maximum(chosen.gamma_index, 0).reshape(-1),
        penalties.reshape(-1),
        chosen.errors.reshape(-1),
        fit_intercept=False,
        target_batch=target_batch,
    )
    cross = grams[:, rows]

    def of_space(total, space):
        gamma, own = space
        predicted = gamma * linalg.matmul(own, fitted.dual_coef)
        return total + predicted, predicted[:, :n_targets]

    start = jnp.zeros((len(rows), n_models * n_targets), targets.dtype)
    total, joint = jax.lax.scan(of_space, start, (fitted.gammas, cross))
    return Split(joint, total.reshape(len(rows), n_models, n_targets).swapaxes(0, 1))
