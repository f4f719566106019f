"""Cross-validated choice of alpha for many targets, all folds and all alphas, and the refit.

A fold's predictions of its test rows are linear in the targets: with the eigen-decomposition of the
training rows, `scores @ (vectors.T @ input / (eigenvalues + alpha))`, the input being the training
targets [n, T] (dual) or their cross-covariances with the features [V, T] (primal). The filters of all
alphas are combinations of B functions (see `filters`), so that B products a fold give the predictions of
all alphas, and the squared errors follow from the inner products of these B predictions. They are taken
as differences to the residual of a middle alpha: what is subtracted in float32 is small where errors
are alike, and alphas of like errors are ordered as in float64.

What decides (multiply-adds, a fold of n training and m test rows, T targets, A alphas):

- dual or primal: an n x n or V x V eigen-decomposition (about 9 n^3 or 9 V^3), products of m n T or
  m V T a function, and N V T for the cross-covariances. Primal where V is at most N. These are the total
  minus the held-out block, which no fold computes twice.
- basis or one product an alpha: B or A products; the inner products of B predictions cost
  m T B (B + 3) / 2, little beside m n T. One product an alpha only where B = A.
- m B below T: the B operators [m, n] are formed (B m n^2), and the targets never rotated (n^2 T).
- refit: 2 N^2 T dual, 2 V^2 T primal; half with one alpha for all targets.
- one factor for all folds (dual, where the Gram matrix is regular enough: `ridge_folds.folds_follow`): with
  P = (K + alpha)^-1 a fold's operator is -P_oo^-1 P_ot, o the rows left out and t those of training. N^3 a
  function and a Cholesky factor of l rows a fold, in place of 9 n^3 a fold. Cholesky factors of the
  training rows at B shifts took as long as one eigen-decomposition of them (1,000 words, CPU), and neither
  does for alpha = 0 with a singular matrix: then each fold has its eigen-decomposition.

References: Golub, Heath & Wahba (1979) on choosing alpha; la Tour et al. (2022), NeuroImage 264, for
himalaya, which this follows in what it returns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real
from brainalign_jax.align.ridge import filters, ridge
from brainalign_jax.align.ridge.ridge_folds import FoldFactor, FoldRows, RowsFactor


class CrossValidated(NamedTuple):
    """Chosen alphas and the fit to all rows.

    index: [T] or, shared, a scalar: the chosen alpha. errors: [A, T], mean over folds of the mean squared
    error. weights: [N, T] of the rows (dual) or [V, T] of the features (primal), at the chosen alpha.
    target_mean: [T], zero without an intercept.
    rank: [F + 1], eigenvalues above rounding in each fold and in the refit, and floor: [F + 1], the size
    of rounding: an alpha at or below it uses the leading directions up to that rank only. [1], of the
    refit alone, without a FoldFactor: then there is no rank to lose.
    """

    index: Int[Array, ""] | Int[Array, " T"]  # type: ignore[assignment] # of tuples, which nobody asks for
    errors: Float[Array, "A T"]
    weights: Float[Array, "N T"] | Float[Array, "V T"]
    target_mean: Float[Array, " T"]
    rank: Int[Array, " F+1"] | Int[Array, " 1"]
    floor: Float[Array, " F+1"] | Float[Array, " 1"]


def cross_validate(
    full: RowsFactor,
    folds: FoldFactor | None,
    rows: FoldRows,
    targets: Float[Array, "N T"],
    alphas: Real[Array, " A"],
    span: filters.SpanningAlphas,
    *,
    tile: int = 2048,
    shared: bool = False,
) -> CrossValidated:
    """Error of every alpha for every target, the best alpha, and the fit to all rows with it.

    Args:
      full: of `factor` or `factor_primal`. folds: of `factor_folds` or `factor_folds_primal`, or None
        where `folds_follow` from the dual factor. rows: the folds.
      targets: [N, T]; rows without weight have no influence, whatever they hold.
      alphas: [A], not negative.
      span: of `span_alphas`, the alphas to compute; the others' predictions are combinations of theirs.
      tile: targets at a time. Beside factors, targets and result, (A + B^2) T numbers are held (primal:
        and V T), B m I of a fold's operators, and (I + (B + 3) m) of each target of a tile.
      shared: one alpha for all targets, the one of least mean error.
    """
    dtype, count = targets.dtype, targets.shape[1]
    alphas = jnp.asarray(alphas, dtype)
    tiles = _Tiles(count, tile)
    means = tiles.map(lambda start: linalg.weighted_mean(tiles.cut(targets, start), full.weights))
    means = means * full.fit_intercept
    rows = rows.astype(dtype)

    def columns(start):
        """Centred targets of a tile [N, width]."""
        return linalg.masked_rows(tiles.cut(targets, start) - tiles.cut(means, start), full.weights)

    covariances = None
    if full.features is not None:
        covariances = tiles.map(lambda start: linalg.matmul(full.features.T, columns(start)))

    def cut(start):
        """(targets, covariances) of a tile."""
        return columns(start), None if covariances is None else tiles.cut(covariances, start)

    errors = _errors(full, folds, rows, cut, alphas, span, tiles)
    index = ridge.select_alpha(errors, shared=shared)
    chosen = jnp.broadcast_to(alphas[index], (count,))
    vectors = full.vectors
    if full.features is None:  # not even rounding for the rows there are not
        vectors = vectors * full.weights[:, None]
    operator = None
    if shared and count > full.vectors.shape[0]:
        gain = _gain(full.eigenvalues, chosen[:1], full.floor)[0]
        operator = linalg.matmul(vectors * gain, full.vectors.T)

    def refit(start):
        y, covariance = cut(start)
        y = y if covariance is None else covariance
        if operator is not None:
            return linalg.matmul(operator, y)
        gain = _gain(full.eigenvalues, tiles.cut(chosen, start), full.floor).T
        return linalg.matmul(vectors, linalg.matmul(full.vectors.T, y) * gain)

    rank = (full.eigenvalues > full.floor).sum(keepdims=True, dtype=jnp.int32)
    rank = rank - (full.lift > 0).astype(jnp.int32)
    floor = full.floor[None]
    if folds is not None:
        above = (folds.eigenvalues > folds.floor[:, None]).sum(axis=1, dtype=jnp.int32)
        rank = jnp.append(above, rank)
        floor = jnp.append(folds.floor, floor)
    return CrossValidated(index, errors, tiles.map(refit), means, rank, floor)


def _errors(full, folds, rows: FoldRows, cut, alphas, span, tiles) -> Array:
    """Mean over folds of the mean squared error of the test rows [A, T]."""
    indices, coefficients = span
    size, n_test = indices.shape[0], rows.test.shape[1]
    coefficients = jnp.asarray(coefficients, alphas.dtype)
    direct = size == alphas.shape[0]
    reference = coefficients[alphas.shape[0] // 2]
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    # rotating the targets is less work than forming the operators
    project = folds is not None and tiles.count <= size * n_test

    def add_fold(sums, values):
        fold, factor = values
        if factor is None:
            operators = jax.lax.map(lambda a: _fold_operator(full, fold, a), alphas[indices])
        else:
            gain = _gain(factor.eigenvalues, alphas[indices], factor.floor)
            operators = factor.scores * gain[:, None, :]
        operators = operators.reshape(size * n_test, -1)
        if folds is not None and not project:
            operators = linalg.matmul(operators, factor.vectors.T)

        def tile_sums(start):
            y, covariance = cut(start)
            source, mean = _fold_input(full, fold, y, covariance)
            if project:
                source = linalg.matmul(factor.vectors.T, source)
            predicted = linalg.matmul(operators, source).reshape(size, n_test, tiles.width)
            residual = (y[fold.test] - mean) * fold.test_mask[:, None]
            if direct:
                squares = ((residual - predicted) ** 2).sum(axis=1)
                return jnp.zeros_like(squares).at[indices].set(squares)
            residual = residual - sum(reference[b] * predicted[b] for b in range(size))
            return jnp.stack(
                [(residual**2).sum(axis=0)]
                + [(predicted[b] * residual).sum(axis=0) for b in range(size)]
                + [(predicted[i] * predicted[j]).sum(axis=0) for i, j in pairs]
            )

        return sums + tiles.map(tile_sums) / (n_folds * fold.test_mask.sum()), None

    n_folds = rows.test.shape[0]
    n_sums = size if direct else 1 + size + len(pairs)
    start = jnp.zeros((n_sums, tiles.count), alphas.dtype)
    sums = jax.lax.scan(add_fold, start, (rows, folds))[0]
    if direct:
        return sums
    step = coefficients - reference
    squares = jnp.stack([(1 if i == j else 2) * step[:, i] * step[:, j] for i, j in pairs], axis=1)
    change = linalg.matmul(jnp.concatenate([-2 * step, squares], axis=1), sums[1:])
    return jnp.maximum(sums[0] + change, 0)


def _fold_operator(
    full: RowsFactor, fold: FoldRows, alpha: Float[Array, ""]
) -> Float[Array, "m n"]:
    """[m, n] that predicts the test rows from the training targets, less their mean: H.

    With P the inverse of the Gram matrix plus alpha on what is orthogonal to the constant, o the rows
    left out and t those of training, H = -P_oo^{-1} P_ot: nothing of a fold is decomposed but P_oo.
    """
    mask = fold.left_out_mask
    rows = full.vectors[fold.left_out]
    inverse = linalg.matmul(rows / (full.eigenvalues + alpha), full.vectors.T)
    count = full.weights.sum()
    inverse = inverse - full.fit_intercept / (count * (full.lift + alpha))
    inside = inverse[:, fold.left_out] * mask[:, None] * mask
    across = inverse[:, fold.train] * mask[:, None] * fold.train_mask
    scale = 1 / (full.eigenvalues[-1] + alpha)
    chol = jnp.linalg.cholesky(inside + jnp.diag((1 - mask) * scale))
    solved = -jax.scipy.linalg.cho_solve((chol, True), across)
    place = (fold.test[:, None] == fold.left_out) & (mask > 0)
    solved = solved[place.argmax(axis=1)] * fold.test_mask[:, None]
    mean = linalg.normalized_weights(fold.train_mask, mask.dtype) * full.fit_intercept
    return solved - fold.test_mask[:, None] * mean


def _fold_input(full, fold: FoldRows, y: Array, covariance):
    """(what a fold's operators act on [I, width], training mean of the targets [width])."""
    if covariance is None:
        train = y[fold.train]
        w = linalg.normalized_weights(fold.train_mask, y.dtype) * full.fit_intercept
        return train, linalg.matmul(w, train)
    features = full.features
    mean = fold.train_mean(y) * full.fit_intercept
    if fold.holds_out_less:
        held = features[fold.left_out] * fold.left_out_mask[:, None]
        covariance = covariance - linalg.matmul(held.T, y[fold.left_out])
    else:
        train = features[fold.train] * fold.train_mask[:, None]
        covariance = linalg.matmul(train.T, y[fold.train])
    shift = fold.train_mean(features) * fold.train_mask.sum()
    return covariance - shift[:, None] * mean, mean


def _gain(eigenvalues: Array, alphas: Array, floor: Array) -> Array:
    """1 / (w + alpha) [T, R], zero in the directions an alpha does not use."""
    inverse = linalg.divided(1, eigenvalues)
    return filters.shrinkage(eigenvalues, alphas, floor) * inverse


class _Tiles:
    """Tiles of one width that cover `count` columns; the last may overlap the one before."""

    def __init__(self, count: int, tile: int):
        number = -(-count // min(tile, count))
        self.count = count
        self.width = min(count, -(-count // (16 * number)) * 16)
        last = count - self.width
        self.starts = [min(start, last) for start in range(0, count, self.width)]

    def cut(self, x: Array, start) -> Array:
        """The columns of a tile, of x [..., T]."""
        return jax.lax.dynamic_slice_in_dim(x, start, self.width, axis=-1)

    def map(self, function) -> Array:
        """[..., T] from a function of the first column of a tile that gives [..., width]."""
        if len(self.starts) == 1:
            return function(0)
        starts = jnp.asarray(self.starts, jnp.int32)
        shape = jax.eval_shape(function, starts[0])

        def step(i, out):
            return jax.lax.dynamic_update_slice_in_dim(out, function(starts[i]), starts[i], axis=-1)

        empty = jnp.zeros((*shape.shape[:-1], self.count), shape.dtype)
        return jax.lax.fori_loop(0, len(self.starts), step, empty)
