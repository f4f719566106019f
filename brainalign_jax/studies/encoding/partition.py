"""How the variance that several feature spaces explain of every voxel is divided between them.

Banded ridge with a weight of each space and a penalty for each voxel, chosen in inner folds, beside nuisances
without a penalty; and by the same search each space alone, and all but each. Divided in two ways: by
subtraction (what a space adds to the others, and what is left, which two or more share), and by the product
measure, whose shares sum to the joint r2.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.ridge import banded_ridge, banded_search, banded_spaces, residual_ridge
from brainalign_jax.align.ridge.residual_ridge import NuisanceFit
from brainalign_jax.studies.encoding.scores import reached_by_nuisances, unit_chunk, varying
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.score.volumes import TimeFolds, padded_rows, unit_columns

_TOLERANCE = 3e-6  # error allowed in the gain of a filter: at the rounding of float32
_BATCH = (
    512  # columns whose errors at all penalties are held at once, or that are looked at at once
)


class Shares(NamedTuple):
    """Of the V voxels of a person and G spaces, all on held-out time, r2 as of `scores.VoxelScores`.

    r, r2: [V], of all spaces and nuisances together; r2_nuisances: [V], of the nuisances alone; alone,
    without: [G, V], r2 of nuisances and each space, and of all but it; product_r2, product_r: [1 + G, V],
    what nuisances and each space have in r2 and r, which they sum to.
    """

    r: np.ndarray
    r2: np.ndarray
    r2_nuisances: np.ndarray
    alone: np.ndarray
    without: np.ndarray
    product_r2: np.ndarray
    product_r: np.ndarray

    @property
    def unique(self) -> np.ndarray:
        """[G, V]: r2 of all together less that of all but each space."""
        return self.r2 - self.without

    @property
    def shared(self) -> np.ndarray:
        """[V]: r2 beyond nuisances that is of no space alone, as two or more of them explain it."""
        return self.r2 - self.r2_nuisances - self.unique.sum(axis=0)


class _Fold(NamedTuple):
    """What an outer fold has in common for all columns; kernels [G, N, N] less their fit by nuisances."""

    kernels: jax.Array
    inner: banded_search.Folds
    columns: np.ndarray
    fit: NuisanceFit
    mask: np.ndarray
    test_rows: np.ndarray
    test_weights: np.ndarray


class _Sums(NamedTuple):
    """Of one test block and [T] columns: r and its parts [1 + G, T]; the parts of the product measure [1 +
    G, T].

    residuals: squares of those of each model and, last, of the nuisances alone [J + 1, T]; total: of the
    recording.
    """

    r: jax.Array
    parts_r: jax.Array
    products: jax.Array
    residuals: jax.Array
    total: jax.Array


def _kernel_of(features, fit, mask):
    left = residual_ridge.residual_features(features, fit, mask)
    kernel = linalg.gram(left)
    return linalg.divided(kernel, (jnp.diagonal(kernel) * mask).sum() / mask.sum())


_kernel = compiled(_kernel_of)


def varies_beside(space: np.ndarray, nuisances: np.ndarray) -> bool:
    """Whether nuisances [N, K] leave something of a space [N, D] that varies."""
    every = np.ones(len(space))
    fit = _float32(residual_ridge.nuisance_fit(nuisances, every))
    return any(
        residual_ridge.residual_features(
            unit_columns(space[:, start : start + _BATCH]), fit, every
        ).any()
        for start in range(0, space.shape[1], _BATCH)
    )


def _float32(fit: NuisanceFit) -> NuisanceFit:
    return NuisanceFit(*(np.asarray(part, np.float32) for part in fit))


def _fold(
    spaces: Sequence[np.ndarray], nuisances: np.ndarray, folds: TimeFolds, fold: int
) -> _Fold:
    every, weights = padded_rows([np.flatnonzero(mask) for mask in folds.train])
    columns, weight = every[fold], weights[fold]
    masks = folds.inner_train[fold][:, columns] * weight
    rows = np.searchsorted(columns[: int(weight.sum())], folds.inner_rows[fold]).astype(np.int32)
    fits = [_float32(residual_ridge.nuisance_fit(nuisances[columns], mask)) for mask in masks]
    inner = banded_search.Folds(
        *padded_rows([np.flatnonzero(mask) for mask in masks]),
        rows,
        folds.inner_weights[fold],
        NuisanceFit(*(np.stack(part) for part in zip(*fits, strict=True))),
    )
    mask = folds.train[fold].astype(np.float32)
    fit = _float32(residual_ridge.nuisance_fit(nuisances, mask))
    kernels = jnp.stack([_kernel(features, fit, mask) for features in spaces])
    test = folds.test_rows[fold], folds.test_weights[fold]
    return _Fold(kernels, inner, columns, fit, mask, *test)


def _sums_of_fold(fold: _Fold, gammas, has, alphas, targets) -> _Sums:
    batch = min(_BATCH, targets.shape[1])
    chosen = banded_spaces.search(
        fold.kernels[:, fold.columns][:, :, fold.columns],
        targets[fold.columns],
        fold.inner,
        gammas,
        has,
        alphas,  # times the kernels' mean diagonal, which is one
        tolerance=_TOLERANCE,
        target_batch=batch,
    )
    fitted = linalg.matmul(fold.fit.basis.T, targets)
    split = banded_spaces.predictions(
        fold.kernels,
        targets - linalg.matmul(fold.fit.scores, fitted),
        fold.mask,
        fold.test_rows,
        gammas,
        alphas,
        chosen,
        target_batch=batch,
    )
    w = fold.test_weights[:, None]

    def about(x):
        return x - (w * x).sum(axis=-2, keepdims=True) / w.sum()

    def squares(x):
        return (w * about(x) ** 2).sum(axis=-2)

    nuisances = linalg.matmul(fold.fit.scores[fold.test_rows], fitted)
    true, parts = targets[fold.test_rows], jnp.concatenate([nuisances[None], split.joint])
    parts_r = banded_ridge.split_correlation(true, parts, fold.test_weights)
    joint = about(parts.sum(axis=0))
    return _Sums(
        parts_r.sum(axis=0),
        parts_r,
        (w * (2 * about(true) - joint) * about(parts)).sum(axis=1),
        jnp.concatenate([squares(true - nuisances - split.each), squares(true - nuisances)[None]]),
        squares(true),
    )


_sums = compiled(_sums_of_fold)


def score(
    people: Sequence[np.ndarray],
    spaces: Sequence[np.ndarray],
    nuisances: np.ndarray,
    folds: TimeFolds,
    ratios: Sequence[float],
    alphas: Sequence[float],
    width: int,
    told: Callable[[float], None] = lambda share: None,
) -> list[Shares]:
    """How the variance of people on one clock is divided.

    Args:
      people: time courses [N, V] of each; spaces: features at the volumes, [N, D] each; nuisances: [N, K].
      ratios: of `banded_spaces.simplex_grid`; alphas: penalties, times the kernel's mean diagonal over the
        training volumes of an outer fold, as of `residual_ridge.best_predictions`.
      width: columns worked at once; told: of the shares of the work that are done, up to 1.
    """
    models = banded_spaces.submodels(len(spaces))
    gammas = banded_spaces.simplex_grid(len(spaces), ratios)
    alphas, spaces = np.asarray(alphas, np.float32), [unit_columns(space) for space in spaces]
    sizes = [values.shape[1] for values in people]
    every = np.concatenate(people, axis=1) if len(people) > 1 else people[0]
    n_folds, starts = len(folds.train), range(0, every.shape[1], width)
    means = np.zeros((2 + len(spaces), every.shape[1]))
    sums = np.zeros((len(models.has) + len(spaces) + 3, every.shape[1]))
    for number in range(n_folds):
        fold = jax.device_put(_fold(spaces, nuisances, folds, number))
        for start in starts:
            part = slice(start, min(start + width, every.shape[1]))
            chunk = unit_chunk(every[:, part], width)
            fold_sums = _sums(fold, gammas, models.has, alphas, chunk)
            r, parts_r, products, residuals, total = (
                np.asarray(each, np.float64)[..., : part.stop - part.start] for each in fold_sums
            )
            means[:, part] += np.concatenate([r[None], parts_r]) / n_folds
            sums[:, part] += np.concatenate([products, residuals, total[None]])
            told(1 / (n_folds * len(starts)))
        del fold
    products, residuals, total = np.split(sums, [1 + len(spaces), len(sums) - 1])
    total = varying(total)
    r2 = 1 - residuals / total
    # Where there is but one space, all but it are the nuisances: the last row.
    shares = Shares(
        means[0], r2[0], r2[-1], r2[models.alone], r2[models.without], products / total, means[1:]
    )
    edges = np.cumsum(sizes)[:-1]
    return [
        Shares(*parts)
        for parts in zip(*(np.split(each, edges, axis=-1) for each in shares), strict=True)
    ]


def quantities(shares: Shares) -> dict[str, np.ndarray]:
    """What is drawn and averaged of the shares, quantity -> [V]; spaces are numbered from 1."""
    named = {
        "spaces_r": shares.r,
        "spaces_r2": shares.r2,
        "spaces_nuisances_r2": shares.r2_nuisances,
        "spaces_nuisances_product_r2": shares.product_r2[0],
        "spaces_nuisances_product_r": shares.product_r[0],
        "spaces_shared_r2": shares.shared,
    }
    several = {
        "alone_r2": shares.alone,
        "without_r2": shares.without,
        "unique_r2": shares.unique,
        "product_r2": shares.product_r2[1:],
        "product_r": shares.product_r[1:],
    }
    for number in range(len(shares.alone)):
        named |= {f"space-{number + 1}_{name}": each[number] for name, each in several.items()}
    return named


def omega(r2, r2_nuisances, without, alone) -> np.ndarray:
    """The share of a space's r2 that the other spaces reach, all beyond the nuisances; NaN where it has none.

    As of `scores.reached_by_nuisances`, by which all together explain no less than a part, on held-out time
    as the search has it in the inner folds.
    """
    beyond = (value - r2_nuisances for value in (r2, without, alone))
    return reached_by_nuisances(*beyond)
