"""Voxel selection: scores of voxels, learnt from training rows only, and the columns they keep.

Every function takes the rows that a score may learn from. Scores of all rows, used to choose voxels
for a cross-validation over the same rows, have seen the test words: fit a
`voxel_selector.VoxelSelector` in each fold.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from brainalign_jax.threads import one_blas_thread

_BLOCK_BYTES = 2**25  # of the predictions of a block of voxels: they stay near the cache
_ROUNDING = 1e-12  # what centring leaves of a constant column, as a share of the column


def voxel_neighbours(indices: np.ndarray) -> np.ndarray:
    """The up to 26 voxels that touch each voxel by a face, an edge or a corner.

    indices: [V, 3] integer voxel indices, each once, as `VoxelSpace.volume` has them.
    Returns [V, 26] int32 columns in rising order, the unused places at the end -1.
    """
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.shape[1] != 3 or not len(indices):
        raise ValueError(f"indices have shape {indices.shape}; give [voxels, 3]")
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices have dtype {indices.dtype}; give integer voxel indices, no mm")
    # A margin of one voxel all around, so that steps never wrap to the next row of the grid.
    place = indices.astype(np.int64) - indices.min(axis=0) + 1
    strides = np.r_[1, np.cumprod(place.max(axis=0)[:2] + 2)]
    keys = place @ strides
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    if (in_order[1:] == in_order[:-1]).any():
        at = order[1:][np.argmax(in_order[1:] == in_order[:-1])]
        raise ValueError(f"voxel {indices[at].tolist()} occurs twice; give each voxel once")
    n = len(keys)
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    neighbours = np.full((n, 26), n, np.int32)
    for column, step in enumerate((steps @ strides)[np.any(steps != 0, axis=1)]):
        at = np.minimum(np.searchsorted(in_order, keys + step), n - 1)
        hit = in_order[at] == keys + step
        neighbours[hit, column] = order[at[hit]]
    neighbours.sort(axis=1)
    neighbours[neighbours == n] = -1
    return neighbours


def informativeness(
    values: np.ndarray,
    targets: np.ndarray,
    *,
    neighbours: np.ndarray | None = None,
    alpha: float = 1.0,
    n_folds: int = 10,
    folds: np.ndarray | None = None,
    n_jobs: int | None = None,
) -> np.ndarray:
    """How well a voxel and its neighbours predict the best predicted dimension of the targets.

    For every voxel, ridge regression from its own and its neighbours' values to each target
    dimension, cross-validated within the given rows; the correlation of predicted and true values
    over all rows, at most over dimensions, is the voxel's score. As in the original, columns of
    values and targets are centred over the given rows and not scaled, there is no intercept, and
    alpha is added to the diagonal of the neighbourhood's unscaled Gram matrix.

    values: [n, V], targets: [n, D], training rows only. neighbours: [V, K] columns of `values`,
    -1 where there is none, see `voxel_neighbours`; None: every voxel on its own.
    n_folds: row i is in fold i modulo n_folds, the original's ten by default. folds: [n] labels
    instead, for rows that must stay together, such as the sentences of a passage.
    n_jobs: threads; None takes all cores.
    Returns [V] float64 between -1 and 1; 0 where a prediction is constant.
    Raises ValueError for shapes that disagree, NaN, too few rows or columns outside `values`.
    Reference: Pereira et al. 2018, Nature Communications 9:963, methods, "voxel selection".
    """
    values, targets = np.asarray(values), np.asarray(targets, np.float64)
    if values.ndim != 2 or targets.ndim != 2 or len(values) != len(targets) or 0 in values.shape:
        raise ValueError(
            f"values have shape {values.shape} and targets {targets.shape}; give [rows, voxels] and "
            "[rows, dimensions] with the same rows"
        )
    if not targets.shape[1]:
        raise ValueError("targets have no dimension; give [rows, dimensions]")
    for name, array in (("values", values), ("targets", targets)):
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(
                f"{name}[{row}, {column}] is {array[row, column]}; drop such voxels or words first"
            )
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; give a positive ridge penalty")
    order, bounds = _folds(len(values), n_folds, folds)
    columns = _neighbourhoods(values.shape[1], neighbours)
    targets = _centred(targets)[order]
    norm = np.linalg.norm(targets, axis=0)
    scaled = np.divide(targets, norm, out=np.zeros_like(targets), where=norm > 0)

    size = max(1, min(256, _BLOCK_BYTES // (8 * targets.size)))
    blocks = [columns[start : start + size] for start in range(0, len(columns), size)]

    def score(block: np.ndarray) -> np.ndarray:
        return _block_scores(values, order, block, targets, scaled, bounds, alpha)

    # One thread a block: BLAS' own threads gain nothing on matrices this small.
    with one_blas_thread(), ThreadPoolExecutor(_threads(n_jobs)) as pool:
        return np.concatenate(list(pool.map(score, blocks)))


def stability(repeats: np.ndarray) -> np.ndarray:
    """How alike a voxel's responses are in repeated presentations: their mean pairwise correlation.

    repeats: [R, n, V], R >= 2 presentations of the same n training rows (for the 180 concepts of
    Pereira et al., the three paradigms). Returns [V] float64; a presentation in which the voxel is
    constant counts as uncorrelated with the others.
    Raises ValueError for another shape, fewer than two presentations or rows, or NaN.
    Reference: Mitchell et al. 2008, Science 320:1191.
    """
    repeats = np.asarray(repeats)
    if repeats.ndim != 3 or min(repeats.shape[:2]) < 2 or not repeats.shape[2]:
        raise ValueError(
            f"repeats have shape {repeats.shape}; give [presentations, rows, voxels] with at least "
            "two presentations and two rows"
        )
    if not np.isfinite(repeats).all():
        raise ValueError("repeats hold NaN or infinite values; drop such voxels first")
    total, n_varying = np.zeros(repeats.shape[1:]), np.zeros(repeats.shape[2])
    for repeat in repeats:
        centred = _centred(repeat)
        norm = np.linalg.norm(centred, axis=0)
        total += np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
        n_varying += norm > 0
    # |sum of unit vectors|^2 holds every pair twice, and each vector's own product once.
    pairs = len(repeats) * (len(repeats) - 1)
    return ((total**2).sum(axis=0) - n_varying) / pairs


def select(scores: np.ndarray, n: int) -> np.ndarray:
    """The columns of the n highest scores [V], in rising order; of equal scores the first columns.

    Raises ValueError for NaN, or n outside 1..V.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"scores have shape {scores.shape} or hold NaN; give one number a voxel")
    if isinstance(n, bool) or n != int(n) or not 1 <= n <= len(scores):
        raise ValueError(
            f"n is {n}; give an integer between 1 and the {len(scores)} voxels there are"
        )
    return np.sort(np.argsort(-scores, kind="stable")[: int(n)])


def _centred(columns: np.ndarray) -> np.ndarray:
    """[n, C] float64 minus the columns' means; constant columns become exactly zero."""
    columns = columns.astype(np.float64)
    size = np.linalg.norm(columns, axis=0)
    columns -= columns.mean(axis=0)
    columns[:, np.linalg.norm(columns, axis=0) <= _ROUNDING * size] = 0.0
    return columns


def _folds(n: int, n_folds: int, folds: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of their folds [n], and where each fold starts and ends [folds + 1]."""
    if folds is None:
        if n_folds < 2 or n < n_folds:
            raise ValueError(
                f"{n_folds} folds of {n} rows; give at least two folds and as many rows as folds"
            )
        labels = np.arange(n) % n_folds
    else:
        labels = np.asarray(folds)
        if labels.shape != (n,) or len(np.unique(labels)) < 2:
            raise ValueError(
                f"folds have shape {labels.shape} and {len(np.unique(labels))} labels for {n} rows; "
                "give one label a row and at least two different ones"
            )
    counts = np.unique(labels, return_counts=True)[1]
    return np.argsort(labels, kind="stable"), np.r_[0, np.cumsum(counts)]


def _neighbourhoods(n_voxels: int, neighbours: np.ndarray | None) -> np.ndarray:
    """[V, 1 + K] columns: the voxel itself, its neighbours, -1 where there is none."""
    voxel = np.arange(n_voxels)[:, None]
    if neighbours is None:
        return voxel
    neighbours = np.asarray(neighbours)
    if neighbours.ndim != 2 or len(neighbours) != n_voxels or neighbours.dtype.kind not in "iu":
        raise ValueError(
            f"neighbours have shape {neighbours.shape} and dtype {neighbours.dtype} for {n_voxels} "
            "voxels; give integer columns [voxels, K]"
        )
    outside = (neighbours < -1) | (neighbours >= n_voxels)
    if outside.any():
        row = int(np.argmax(outside.any(axis=1)))
        raise ValueError(
            f"neighbours[{row}] is {neighbours[row].tolist()}; columns count from 0 to "
            f"{n_voxels - 1}, -1 for none (the release's own tables count from 1, 0 for none)"
        )
    return np.concatenate([voxel, neighbours], axis=1)


def _block_scores(
    values: np.ndarray,
    order: np.ndarray,
    columns: np.ndarray,
    targets: np.ndarray,
    scaled: np.ndarray,
    bounds: np.ndarray,
    alpha: float,
) -> np.ndarray:
    """Scores [b] of the neighbourhoods columns [b, K]; targets [n, D] centred, scaled to length one
    too, rows as `order` has them: fold after fold."""
    used, place = np.unique(columns, return_inverse=True)
    place = place.reshape(columns.shape)
    x = np.zeros((len(used), len(order)))  # column -1, where it occurs, stays zero
    x[used >= 0] = _centred(values[:, used[used >= 0]]).T[:, order]
    block = x[place]  # [b, K, n]
    gram = block @ block.transpose(0, 2, 1) + alpha * np.eye(columns.shape[1])
    product = x @ targets  # of all voxels in use, each once
    predicted = np.empty((len(columns), *targets.shape))
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        test = block[:, :, start:stop]
        # Solving for the few test rows costs less than for the many dimensions of the targets.
        weights = np.linalg.solve(gram - test @ test.transpose(0, 2, 1), test)
        training = product - x[:, start:stop] @ targets[start:stop]
        np.matmul(weights.transpose(0, 2, 1), training[place], out=predicted[:, start:stop])
    mean = predicted.mean(axis=1)
    square = np.einsum("bnd,bnd->bd", predicted, predicted)
    spread = square - len(order) * mean**2
    spread[spread <= _ROUNDING * square] = np.inf
    # `scaled` has mean zero, so the predictions need no centring here.
    return (np.einsum("bnd,nd->bd", predicted, scaled) / np.sqrt(spread)).max(axis=1)


def _threads(n_jobs: int | None) -> int:
    if n_jobs is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if n_jobs < 1:
        raise ValueError(f"n_jobs is {n_jobs}; give a positive number of threads, or None")
    return n_jobs
