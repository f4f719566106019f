"""Scores of every voxel: what nuisances, a model, and both together predict of held-out time.

A fold's factors of all layers are made once and serve all voxels, people on one clock and shifted recordings,
which are worked in chunks of columns by one compiled program.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align.ridge import residual_ridge
from brainalign_jax.align.ridge.residual_ridge import Factors, NuisanceFit
from brainalign_jax.align.stats import scoring
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.score.volumes import (
    TimeFolds,
    kept_share,
    padded_rows,
    unit_columns,
)

NONE = -1  # the layer of a voxel for which no features are best
_STILL = 1e-6  # sum of squares about the blocks' means, of columns of deviation one: below it is rounding


class Chunks(NamedTuple):
    """voxels, shifts: how many of each are worked at once; divided: voxels whose variance is divided at
    once.
    """

    voxels: int
    shifts: int
    divided: int = 0


class VoxelScores(NamedTuple):
    """Of the V voxels of a person, in the recording as it is and P shifted ones.

    r, r_nuisances: [V], mean over folds of Pearson's r within the test block, of nuisances and features, and
    of the nuisances alone; r2, r2_nuisances: [V], 1 - residual / total sum of squares, both about the means
    of each test block, NaN where the recording does not vary in any; added: [1 + P, V] float32, r less
    r_nuisances, of the recording first; layers: [F, V] the layer of each fold, -1 where no features were
    best.
    """

    r: np.ndarray
    r_nuisances: np.ndarray
    r2: np.ndarray
    r2_nuisances: np.ndarray
    added: np.ndarray
    layers: np.ndarray


class FoldFactors(NamedTuple):
    """What one outer fold has in common for all columns, on the device; see `best_predictions`."""

    inner: Factors
    inner_fits: NuisanceFit
    inner_test: tuple
    outer: Factors
    outer_fit: NuisanceFit
    test_rows: jax.Array
    test_weights: jax.Array
    columns: jax.Array


class FoldShapes(NamedTuple):
    """rows: training rows of an outer fold; tested, inner_tested: rows of a test block, all at most."""

    folds: int
    inner: int
    rows: int
    tested: int
    inner_tested: int


def shapes_of(folds: TimeFolds) -> FoldShapes:
    """The sizes that the factors of the folds have."""
    n_folds, n_inner = folds.inner_train.shape[:2]
    rows = int(folds.train.sum(axis=1).max())
    return FoldShapes(n_folds, n_inner, rows, folds.test_rows.shape[1], folds.inner_rows.shape[2])


def fold_factors(
    layers: Sequence[np.ndarray], nuisances: np.ndarray, folds: TimeFolds, fold: int
) -> FoldFactors:
    """Factors of all layers of one outer fold and its inner folds.

    layers: [N, D] each, float32 as of `unit_columns`; nuisances: [N, K], K may be zero.
    """
    every, weights = padded_rows([np.flatnonzero(mask) for mask in folds.train])
    columns, weight = every[fold], weights[fold]
    masks = folds.inner_train[fold][:, columns] * weight
    rows = np.searchsorted(columns[: int(weight.sum())], folds.inner_rows[fold]).astype(np.int32)
    inner_weights = folds.inner_weights[fold]
    fits = [residual_ridge.nuisance_fit(nuisances[columns], mask) for mask in masks]
    inner_fits = NuisanceFit(
        *(np.stack(part).astype(np.float32) for part in zip(*fits, strict=True))
    )
    outer_mask = folds.train[fold].astype(np.float32)
    whole = residual_ridge.nuisance_fit(nuisances, outer_mask)
    outer_fit = NuisanceFit(*(part.astype(np.float32) for part in whole))
    test = (folds.test_rows[fold], folds.test_weights[fold])
    inner, outer = [], []
    for layer in layers:
        dual = layer.shape[1] >= len(columns), layer.shape[1] >= len(layer)
        of_inner, of_outer = _layer_factors(
            layer, columns, inner_fits, masks, rows, inner_weights, outer_fit, outer_mask, *test, dual=dual
        )  # fmt: skip
        inner.append(of_inner)
        outer.append(of_outer)
    return FoldFactors(
        residual_ridge.stacked(inner),
        inner_fits,
        (rows, inner_weights),
        residual_ridge.stacked(outer),
        outer_fit,
        *test,
        columns,
    )


def unidentified(nuisances: Mapping[str, np.ndarray], folds: TimeFolds) -> dict[str, int]:
    """Nuisance [N, K] -> in how many training sets, outer and inner, a part of it is left out: see
    `nuisance_fit`.

    Only those with some.
    """
    if not nuisances:
        return {}
    owners = np.repeat(np.arange(len(nuisances)), [part.shape[1] for part in nuisances.values()])
    every, counts = np.concatenate(list(nuisances.values()), axis=1), np.zeros(len(nuisances), int)
    for train, inner in zip(folds.train, folds.inner_train, strict=True):
        for rows, masks in ((np.ones(len(train), bool), train[None]), (train, inner[:, train])):
            for mask in masks:
                left_out = owners[residual_ridge.unidentified(every[rows], mask)]
                counts[np.unique(left_out)] += 1
    return {name: int(count) for name, count in zip(nuisances, counts, strict=True) if count}


def _factors_of_layer(
    features,
    columns,
    inner_fits,
    inner_masks,
    inner_rows,
    inner_weights,
    outer_fit,
    outer_mask,
    test_rows,
    test_weights,
    *,
    dual,
):
    own = features[columns]
    inner = jax.lax.map(
        lambda fold: residual_ridge.factor(own, *fold, dual=dual[0]),
        (inner_fits, inner_masks, inner_rows, inner_weights),
    )
    outer = residual_ridge.factor(
        features, outer_fit, outer_mask, test_rows, test_weights, dual=dual[1]
    )
    return inner, outer


_layer_factors = compiled(_factors_of_layer, static_argnames=("dual",))


class _Sums(NamedTuple):
    """Of [shifts, voxels]: r and r of the nuisances in one test block, sums of squares of both residuals and
    of the recording about the block's means, and the layer."""

    r: jax.Array
    r_nuisances: jax.Array
    residual: jax.Array
    residual_nuisances: jax.Array
    total: jax.Array
    layer: jax.Array


def _chunk_sums(factors: FoldFactors, basis, share, values, index, alphas) -> _Sums:
    """basis: [N, K], orthonormal, of the nuisances' fit to all rows; share: [v], of `kept_share`; values:
    [N, v]; index: [s, N] rows."""
    # What the nuisances explain stays in place (Freedman & Lane 1983), where it is more than a fit of noise.
    fitted = share * jnp.matmul(
        basis, jnp.matmul(basis.T, values, precision="highest"), precision="highest"
    )
    turned = (values - fitted)[index.T]
    shape = turned.shape[1:]
    targets = (fitted[:, None, :] + turned).reshape(len(values), -1)
    test_rows, weights = factors.test_rows, factors.test_weights
    best = residual_ridge.best_predictions(
        factors.inner,
        factors.inner_fits,
        factors.inner_test,
        factors.outer,
        factors.outer_fit,
        test_rows,
        factors.columns,
        alphas,
        targets,
    )
    true, w = targets[test_rows], weights[:, None]

    def about(x):
        return x - (w * x).sum(axis=0) / w.sum()

    def squares(x):
        return (w * about(x) ** 2).sum(axis=0)

    sums = _Sums(
        scoring.pearson(true, best.predicted, weights),
        scoring.pearson(true, best.nuisances, weights),
        squares(true - best.predicted),
        squares(true - best.nuisances),
        squares(true),
        best.layer,
    )
    return _Sums(*(part.reshape(shape) for part in sums))


_chunk = compiled(_chunk_sums)


def score(
    people: Sequence[np.ndarray],
    layers: Sequence[np.ndarray],
    nuisances: np.ndarray,
    folds: TimeFolds,
    shifts: np.ndarray,
    alphas: Sequence[float],
    chunks: Chunks,
    told: Callable[[float], None] = lambda share: None,
) -> list[VoxelScores]:
    """Scores of people on one clock.

    Args:
      people: time courses [N, V] of each; layers: a model's features at the volumes, [N, D] each; nuisances:
        [N, K]; shifts: [1 + P, N] of `shifted_rows`; alphas: of `residual_ridge.best_predictions`.
      told: of the shares of the work that are done, up to 1.
    """
    layers = [unit_columns(layer) for layer in layers]
    whole = residual_ridge.nuisance_fit(nuisances, np.ones(len(nuisances)))
    basis = np.asarray(whole.basis, np.float32)[:, 1:]
    n_folds, n_rows = len(folds.train), len(shifts)
    blocks = _padded_blocks(n_rows, chunks.shifts)
    kept = [_Kept.empty(values.shape[1], n_rows, n_folds) for values in people]
    pieces = n_folds * sum(-(-values.shape[1] // chunks.voxels) for values in people) * len(blocks)
    alphas = np.asarray(alphas, np.float32)
    shares = [_shares(basis, values, shifts, chunks.voxels) for values in people]
    for fold in range(n_folds):
        factors = jax.device_put(fold_factors(layers, nuisances, folds, fold))
        for values, own, of_person in zip(people, kept, shares, strict=True):
            for start in range(0, values.shape[1], chunks.voxels):
                part = slice(start, min(start + chunks.voxels, values.shape[1]))
                chunk = unit_chunk(values[:, part], chunks.voxels)
                share = of_person[start : start + chunks.voxels]
                for block in blocks:
                    sums = _chunk(factors, basis, share, chunk, shifts[block], alphas)
                    own.add(fold, part, block, [np.asarray(each) for each in sums])
                    told(1 / pieces)
        del factors
    return [own.scores() for own in kept]


def _shares(basis: np.ndarray, values: np.ndarray, shifts: np.ndarray, width: int) -> np.ndarray:
    """`kept_share` of all columns, float32, zeros up to a whole number of chunks of that width."""
    starts = range(0, values.shape[1], width)
    parts = (unit_chunk(values[:, start : start + width], width) for start in starts)
    return np.concatenate([kept_share(basis, part, shifts).astype(np.float32) for part in parts])


def _padded_blocks(count: int, size: int) -> list[np.ndarray]:
    """Indices 0 to count - 1 in blocks of one size; the last one goes on with the last index."""
    indices = np.arange(-(-count // size) * size).clip(max=count - 1)
    return list(indices.reshape(-1, size))


def unit_chunk(values: np.ndarray, width: int) -> np.ndarray:
    """Columns in units of their deviation, and zeros up to the width of a chunk."""
    chunk = np.zeros((len(values), width), np.float32)
    chunk[:, : values.shape[1]] = unit_columns(values)
    return chunk


class _Kept(NamedTuple):
    """What is summed up over folds for one person."""

    added: np.ndarray
    r: np.ndarray
    r_nuisances: np.ndarray
    squares: np.ndarray
    layers: np.ndarray

    @classmethod
    def empty(cls, n_voxels: int, n_rows: int, n_folds: int) -> "_Kept":
        return cls(
            np.zeros((n_rows, n_voxels), np.float32),
            np.zeros(n_voxels),
            np.zeros(n_voxels),
            np.zeros((3, n_voxels)),
            np.full((n_folds, n_voxels), NONE, np.int16),
        )

    def add(self, fold: int, part: slice, block: np.ndarray, sums: Sequence[np.ndarray]) -> None:
        width, n_folds = part.stop - part.start, len(self.layers)
        r, r_nuisances, *squares, layer = (each[:, :width] for each in sums)
        first = np.unique(block, return_index=True)[1]
        self.added[block[first], part] += ((r - r_nuisances) / n_folds)[first]
        if block[0] == 0:  # the recording as it is
            self.r[part] += r[0] / n_folds
            self.r_nuisances[part] += r_nuisances[0] / n_folds
            self.squares[:, part] += [each[0] for each in squares]
            self.layers[fold, part] = layer[0]

    def scores(self) -> VoxelScores:
        residual, residual_nuisances, total = self.squares
        total = varying(total)
        return VoxelScores(
            self.r,
            self.r_nuisances,
            1 - residual / total,
            1 - residual_nuisances / total,
            self.added,
            self.layers,
        )


def varying(total: np.ndarray) -> np.ndarray:
    """Sums of squares [V] of recordings about the means of the test blocks; NaN where all are still.

    Such as a column that changes between runs only, of which there is no r2.
    """
    return np.where(total > _STILL, total, np.nan)


def chosen_layer(layers: np.ndarray) -> np.ndarray:
    """[V]: the layer that most folds [F, V] chose, the first of equals; -1 where most chose no features."""
    counts = np.stack([(layers == number).sum(axis=0) for number in range(NONE, layers.max() + 1)])
    return counts.argmax(axis=0) + NONE


def reached_by_nuisances(joint: np.ndarray, nuisances: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The share of a model's r2 that nuisances reach, 1 - (joint - nuisances) / model; NaN where it has none.

    Both together are taken to explain no less than either alone, and nuisances no less than nothing.
    Reference: Hadidi et al. 2025, Illusions of alignment between large language models and brains.
    """
    nuisances = np.maximum(nuisances, 0)
    joint = np.maximum(np.maximum(joint, nuisances), model)
    has_some = model > 0
    return np.where(has_some, 1 - (joint - nuisances) / np.where(has_some, model, 1), np.nan)
