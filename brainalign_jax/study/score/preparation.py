"""Responses and vectors made ready for the solvers: voxel selection, scaling, PCA and lossless
reduction, on the host and in blocks of voxels: what is reduced is never copied as a whole."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.linalg import blas

from brainalign_jax.neural import selection
from brainalign_jax.neural.fields import column_blocks
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.space import VolumeSpace
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.decoding import n_top_axes

_RANK_STEP = 32
_SELECTION_FOLDS = 10  # as in Pereira et al. 2018
_ROWS = 1024  # of a Gram matrix mirrored at a time


def prepare_responses(
    values: np.ndarray,
    eligible: np.ndarray,
    protocol: Protocol,
    *,
    width: int,
    train: np.ndarray | None = None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
    form: str = "values",
    dtype: str = "float32",
) -> np.ndarray:
    """Responses [N, V] as the protocol selects, scales and reduces them: [N, R], or [F, N, R].

    Args:
      eligible: [N] words that take part; the rows of the others become zero.
      width: number of features of the model's vectors.
      train: [F, N] masks of the folds' training rows. Where the protocol fits anything on training
        rows, every fold has responses of its own; else, or without masks, there is one for all.
      score: training rows [N] mask -> score of each voxel [V], for protocol.n_voxels.
      form: what is kept of them: all "values"; the inner "products" of rows, which are then expressed in
        the axes they span, R <= N (see `lossless_reduction`); or those of rows "centred" over the
        voxels, whose cosines are the correlations of the rows.
      dtype: of the result.

    Where alphas are in units of the kernel nothing depends on the responses' unit, and they are
    brought to a root mean square of one: responses in tesla would be lost in float32.

    Raises: ValueError if the responses are the same for all words, or n_voxels exceeds the voxels.
    """
    if all(np.ptp(block[eligible], axis=0).max() == 0 for _, block in column_blocks(values)):
        raise ValueError(
            f"the {values.shape[1]} features of the responses are the same for all "
            f"{int(eligible.sum())} words: there is nothing to decode"
        )
    if protocol.n_voxels > values.shape[1]:
        raise ValueError(
            f"n_voxels={protocol.n_voxels} but the responses have {values.shape[1]} voxels: lower it"
        )

    def fitted(rows: np.ndarray) -> np.ndarray:
        chosen = values
        if protocol.n_voxels:
            chosen = values[:, selection.select(score(rows), protocol.n_voxels)]
        if protocol.pca == "model_width":
            n_axes = min(int(rows.sum()), chosen.shape[1], width)
            scores = _reduced(chosen, eligible, rows, protocol, n_axes)
            return row_centred(scores) if form == "centred" else scores
        scale = _scaling(chosen, rows, protocol)
        if form == "values":
            return _scaled_rows(chosen, eligible, *scale, dtype=dtype)
        return lossless_reduction(
            chosen, eligible, *scale, center_rows=form == "centred", dtype=dtype
        )

    if train is None or not fits_each_fold(protocol):
        return fitted(eligible).astype(dtype, copy=False)
    stacked = None
    for index, rows in enumerate(train):
        fold = fitted(rows)
        if stacked is None or fold.shape[1] > stacked.shape[2]:  # ranks may differ between folds
            wider = np.zeros((len(train), *fold.shape), dtype)
            if stacked is not None:
                wider[:index, :, : stacked.shape[2]] = stacked[:index]
            stacked = wider
        stacked[index, :, : fold.shape[1]] = fold
    return stacked


def voxel_score(
    responses: WordResponses,
    vectors: np.ndarray,
    token_to_type: np.ndarray,
    known: dict[bytes, np.ndarray],
    *,
    values: np.ndarray | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """The score of each voxel [V] as a function of the rows [N] bool that it may learn from.

    It is the informativeness of a voxel, with its neighbours where the responses know their places,
    about vectors [T, D] of the word types. Rows are cross-validated in blocks, as neighbouring words
    share scans. known: keeps the scores of each set of rows, as they take minutes. values: [N, V] in
    place of the responses' own.
    """
    values = responses.values if values is None else values

    def score(rows: np.ndarray) -> np.ndarray:
        key = np.packbits(rows).tobytes()
        if key not in known:
            known[key] = fresh(rows)
        return known[key]

    def fresh(rows: np.ndarray) -> np.ndarray:
        count = int(rows.sum())
        neighbours = None
        if isinstance(responses.space, VolumeSpace):
            neighbours = selection.voxel_neighbours(responses.space.indices)
        return selection.informativeness(
            values[rows],
            vectors[token_to_type[rows]],
            neighbours=neighbours,
            folds=np.arange(count) * _SELECTION_FOLDS // count,
        )

    return score


def fits_each_fold(protocol: Protocol) -> bool:
    """Whether every fold has prepared responses of its own."""
    fits = protocol.n_voxels > 0 or protocol.scaling != "none" or protocol.pca != "none"
    return fits and protocol.fitted_on == "training"


def reduces_vectors(protocol: Protocol) -> bool:
    """Whether the model's vectors are reduced to no more axes than the responses have."""
    return protocol.pca == "model_width" and protocol.fitted_on == "all_rows"


def prepare_vectors(
    values: np.ndarray,
    protocol: Protocol,
    *,
    n_features: int,
    folds: bool = True,
    dtype: str = "float32",
) -> np.ndarray:
    """Model vectors [L, T, D]; the paper's PCA leaves no more axes than the responses have.

    folds: whether folds will scale them by their training words (`decoding.fold_axes`), where the protocol
    says so; else they are scaled here, over all words.
    """
    reduces = reduces_vectors(protocol) and values.shape[-1] > n_features
    scaling = "none" if folds and protocol.scales_in_folds else protocol.vector_scaling
    if scaling == "abtt":
        values = np.stack([_without_top_axes(layer) for layer in values])
        scaling = "none"
    if reduces or scaling != "none":
        choices = dataclasses.replace(protocol, scaling=scaling, alpha_unit="absolute")
        every = np.ones(values.shape[1], bool)
        values = np.stack(
            [
                _reduced(layer, every, every, choices, n_features)
                if reduces
                else _scaled(layer, every, *_scaling(layer, every, choices))
                for layer in values
            ]
        )
    return np.asarray(values, dtype)


def lossless_reduction(
    values: np.ndarray,
    eligible: np.ndarray | None = None,
    shift: np.ndarray | float = 0.0,
    scale: np.ndarray | float = 1.0,
    *,
    center_rows: bool = False,
    dtype: str = "float32",
) -> np.ndarray:
    """Rows of (values - shift) / scale [N, V] in the axes they span [N, R]: inner products are kept.

    center_rows: of the rows less their own mean over the V voxels.

    Word responses made from fewer volumes than words have low rank, and then every factorisation
    is small. R <= N is rounded up to a multiple of 32 with zero columns. Rows that are not eligible
    are zero. Worked in float64, in blocks of voxels.
    """
    n_rows, n_features = values.shape
    eligible = np.ones(n_rows, bool) if eligible is None else eligible
    if n_features <= n_rows // 2:
        rows = _scaled_rows(values, eligible, shift, scale, dtype=dtype)
        return row_centred(rows) if center_rows else rows
    gram = _gram(values, eligible, shift, scale)
    squares = np.diagonal(gram).copy()
    if center_rows:
        means = _row_means(values, eligible, shift, scale)
        gram -= n_features * means[:, None] * means
    # Rows without length stay so: rounding must not be taken for a direction.
    empty = np.diagonal(gram) <= 1e-12 * squares
    variances, axes = np.linalg.eigh(gram)
    variances, axes = variances[::-1], axes[:, ::-1]
    rank = int((variances > variances[0] * n_rows * np.finfo(np.float64).eps * 10).sum())
    size = min(n_rows, rounded_rank(rank))
    scores = np.zeros((n_rows, size))
    scores[:, :rank] = axes[:, :rank] * np.sqrt(variances[:rank])
    scores[empty] = 0
    return scores.astype(dtype, copy=False)


def rounded_rank(rank: int) -> int:
    """Columns for so many axes: subjects of nearly equal rank share compiled programs."""
    return -(-rank // _RANK_STEP) * _RANK_STEP


def type_means(
    values: np.ndarray, token_to_type: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(types that have eligible tokens [T'], their mean rows [T', V])."""
    types, index = np.unique(token_to_type[eligible], return_inverse=True)
    total = np.zeros((len(types), values.shape[1]))
    np.add.at(total, index, values[eligible])
    return types, (total / np.bincount(index)[:, None]).astype(values.dtype)


def _scaling(values: np.ndarray, rows: np.ndarray, protocol: Protocol) -> tuple:
    """(shift, scale), numbers or [V], of the protocol's scaling fitted on rows [N] bool."""
    if protocol.scaling == "none":
        if protocol.alpha_unit != "kernel":
            return 0.0, 1.0
        square = sum(
            np.square(block[rows], dtype=np.float64).sum() for _, block in column_blocks(values)
        )
        return 0.0, np.sqrt(square / (rows.sum() * values.shape[1])) or 1.0
    shift, scale = np.empty(values.shape[1]), np.empty(values.shape[1])
    for part, block in column_blocks(values):
        block = block[rows].astype(np.float64)
        if protocol.scaling == "minmax":
            shift[part], scale[part] = block.min(axis=0), np.ptp(block, axis=0)
        else:
            shift[part], scale[part] = block.mean(axis=0), block.std(axis=0)
    return shift, np.where(scale > 0, scale, 1)


def _reduced(values, eligible, rows, protocol: Protocol, n_axes: int) -> np.ndarray:
    """Scores [N, n_axes] on principal axes fitted to the rows [N] bool, scaled before or after."""
    if protocol.scaling_order == "before_pca" or protocol.scaling == "none":
        scaling = _scaling(values, rows, protocol)
        return _principal_scores(values, eligible, rows, scaling, n_axes)
    scores = _principal_scores(values, eligible, rows, (0.0, 1.0), n_axes)
    return _scaled(scores, eligible, *_scaling(scores, rows, protocol))


def _without_top_axes(values: np.ndarray) -> np.ndarray:
    """Vectors [T, E] without their mean and their first principal axes, over all words."""
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    top = np.linalg.eigh(centred.T @ centred)[1][:, -n_top_axes(values.shape[1]) :]
    return centred - (centred @ top) @ top.T


def _scaled(values, eligible, shift, scale) -> np.ndarray:
    return np.where(eligible[:, None], (values.astype(np.float64) - shift) / scale, 0)


def _of(parameter: np.ndarray | float, part: slice):
    return parameter[part] if np.ndim(parameter) else parameter


def _scaled_rows(values, eligible, shift, scale, *, dtype: str) -> np.ndarray:
    """The scaled rows, worked in float64 block by block."""
    scaled = np.empty(values.shape, dtype)
    for part, block in column_blocks(values):
        scaled[:, part] = _scaled(block, eligible, _of(shift, part), _of(scale, part))
    return scaled


def _row_means(values, eligible, shift, scale) -> np.ndarray:
    """Means [N] of the scaled rows over the V voxels."""
    total = np.zeros(len(values))
    for part, block in column_blocks(values):
        total += _scaled(block, eligible, _of(shift, part), _of(scale, part)).sum(axis=1)
    return total / values.shape[1]


def row_centred(rows: np.ndarray) -> np.ndarray:
    """Rows [..., V] less their own means, in their type; those constant but for rounding become zero."""
    centred = (rows - rows.mean(axis=-1, keepdims=True, dtype=np.float64)).astype(rows.dtype)
    size = np.abs(rows).max(axis=-1, keepdims=True)
    varies = np.abs(centred).max(axis=-1, keepdims=True) > 8 * np.finfo(rows.dtype).eps * size
    return np.where(varies, centred, 0)


def _gram(values, eligible, shift, scale, mean_rows: np.ndarray | None = None) -> np.ndarray:
    """Inner products [N, N] of the scaled rows, less their mean over mean_rows [N] if given."""
    n_rows = len(values)
    gram = np.zeros((n_rows, n_rows), order="F")
    for part, block in column_blocks(values):
        block = _scaled(block, eligible, _of(shift, part), _of(scale, part))
        if mean_rows is not None:
            block -= block[mean_rows].mean(axis=0)
        # Adds to the lower triangle in place: a second matrix of this size may not fit.
        gram = blas.dsyrk(1.0, block.T, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1)
    for start in range(0, n_rows, _ROWS):
        stop = min(start + _ROWS, n_rows)
        gram[start:stop, stop:] = gram[stop:, start:stop].T
        corner = gram[start:stop, start:stop]
        corner += np.tril(corner, -1).T
    return gram


def _principal_scores(values, eligible, rows, scaling, n_components: int) -> np.ndarray:
    """Scores [N, n_components] on the principal axes of the scaled rows [N] bool."""
    n_rows, n_features = values.shape
    # Axes without variance are no axes: their scores are zero, not rounding over rounding.
    least = n_rows * np.finfo(np.float64).eps * 10
    if n_features <= n_rows:
        scaled = _scaled(values, eligible, *scaling)
        scaled -= scaled[rows].mean(axis=0)
        _, singular, axes = np.linalg.svd(scaled[rows], full_matrices=False)
        singular, axes = singular[:n_components], axes[:n_components]
        real = singular**2 > singular[0] ** 2 * least
        scores = scaled @ axes.T * real
        top = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    else:
        gram = _gram(values, eligible, *scaling, mean_rows=rows)
        variances, axes = np.linalg.eigh(gram[np.ix_(rows, rows)])
        variances, axes = variances[::-1][:n_components], axes[:, ::-1][:, :n_components]
        real = variances > variances[0] * least
        inverse = np.where(real, 1 / np.sqrt(np.where(real, variances, 1)), 0)
        scores = gram[:, rows] @ axes * inverse
        top = np.zeros(axes.shape[1])
        for part, block in column_blocks(values):
            block = _scaled(block, eligible, _of(scaling[0], part), _of(scaling[1], part))[rows]
            loadings = axes.T @ (block - block.mean(axis=0))
            largest = loadings[np.arange(len(top)), np.abs(loadings).argmax(axis=1)]
            top = np.where(np.abs(largest) > np.abs(top), largest, top)
    # As scikit-learn: the largest loading of an axis is positive. Rank correlations of rows, as in the
    # paper's RDMs, depend on the signs of the axes.
    scores = scores * np.where(top < 0, -1, 1)
    return np.where(eligible[:, None], scores, 0)
