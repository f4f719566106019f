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

Factors by Cholesky at B shifts of each fold took as long as one eigen-decomposition on a CPU, and leave
alpha = 0 and singular matrices open.

References: Golub, Heath & Wahba (1979) on choosing alpha; la Tour et al. (2022), NeuroImage 264, for
himalaya, which this follows in what it returns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import filters, linalg, ridge


class FoldRows(NamedTuple):
    """Rows of F folds as padded lists, so that work on test rows is of their number only.

    train: [F, n]; test: [F, m]; left_out: [F, l], all rows that are not for training, those of the test
    among them; and the masks of the same shapes, 0 where padded.
    """

    train: jax.Array
    train_mask: jax.Array
    test: jax.Array
    test_mask: jax.Array
    left_out: jax.Array
    left_out_mask: jax.Array


def fold_rows(train: np.ndarray, test: np.ndarray, weights: np.ndarray | None = None) -> FoldRows:
    """Lists from masks [F, N], on the host; padded to the longest fold.

    weights: [N], the rows there are: the others are in no list. All by default.

    Raises: ValueError if shapes differ, there is no fold, or one lacks training or test rows.
    """
    train, test = (np.atleast_2d(np.asarray(masks)) > 0 for masks in (train, test))
    if train.shape != test.shape:
        raise ValueError(
            f"masks of training {train.shape} and test rows {test.shape} differ in shape"
        )
    present = np.ones(train.shape[1], bool) if weights is None else np.asarray(weights) > 0
    train, test = train & present, test & present
    for fold, counts in enumerate(zip(train.sum(axis=1), test.sum(axis=1), strict=True)):
        if not all(counts):
            raise ValueError(
                f"fold {fold} has {counts[0]} training and {counts[1]} test rows of {len(present)}: "
                "both need at least one"
            )
    if not len(train):
        raise ValueError("there is no fold: pass masks of one or more")
    lists = []
    for masks in (train, test, present & ~train):
        longest = max(1, masks.sum(axis=1).max())
        rows = np.zeros((len(masks), longest), np.int32)
        padding = np.zeros((len(masks), longest), np.float32)
        for fold, mask in enumerate(masks):
            rows[fold, : mask.sum()] = np.flatnonzero(mask)
            padding[fold, : mask.sum()] = 1
        lists += [rows, padding]
    return FoldRows(*lists)


class RowsFactor(NamedTuple):
    """Eigen-decomposition of all rows there are, for the refit; computed once for all targets and alphas.

    eigenvalues: [R], zero where nothing but noise; vectors: [N, R] (dual) or [V, R] (primal);
    floor: scalar, the eigenvalue below which all is rounding (see `filters.shrinkage`);
    lift: scalar, the eigenvalue given to the constant direction, which an intercept leaves without one
    (dual only, else 0); weights: [N], 1 on the rows there are; fit_intercept: scalar, 1 or 0;
    features: [N, V], centred, primal only (else None).
    """

    eigenvalues: jax.Array
    vectors: jax.Array
    floor: jax.Array
    lift: jax.Array
    weights: jax.Array
    fit_intercept: jax.Array
    features: jax.Array | None


class FoldFactor(NamedTuple):
    """Eigen-decomposition of the training rows of each fold, where that of all rows will not do.

    With I the length of a fold's input, n (dual) or V (primal): eigenvalues: [F, R], zero where nothing but
    noise; vectors: [F, I, R]; scores: [F, m, R] of the test rows; floor: [F], as in `RowsFactor`.
    """

    eigenvalues: jax.Array
    vectors: jax.Array
    scores: jax.Array
    floor: jax.Array


class CrossValidated(NamedTuple):
    """Chosen alphas and the fit to all rows.

    index: [T] or, shared, a scalar: the chosen alpha. errors: [A, T], mean over folds of the mean squared
    error. weights: [N, T] of the rows (dual) or [V, T] of the features (primal), at the chosen alpha.
    target_mean: [T], zero without an intercept.
    rank: [F + 1], eigenvalues above rounding in each fold and in the refit, and floor: [F + 1], the size
    of rounding: an alpha at or below it uses the leading directions up to that rank only. [1], of the
    refit alone, without a FoldFactor: then there is no rank to lose.
    """

    index: jax.Array
    errors: jax.Array
    weights: jax.Array
    target_mean: jax.Array
    rank: jax.Array
    floor: jax.Array


def factor(gram: jax.Array, weights: jax.Array, *, fit_intercept: bool = True) -> RowsFactor:
    """Dual factor, for sources with more features than rows.

    Args:
      gram: [N, N] inner products of all source rows. Centring takes place inside; in float32 rows of a
        large common offset are best centred before.
      weights: [N] mask of the rows there are.
      fit_intercept: centre source and targets by the training means, of each fold and of all rows.
    """
    mask = linalg.training_mask(weights, gram.dtype)
    kernel = linalg.center_gram(gram, mask) if fit_intercept else gram
    kernel = kernel * mask[:, None] * mask
    size = (jnp.diagonal(gram) * mask).max()
    lift = jnp.zeros((), gram.dtype)
    if fit_intercept:
        count = jnp.maximum(mask.sum(), 1)
        lift = jnp.trace(kernel) / count
        kernel = kernel + lift / count * mask[:, None] * mask
    one = jnp.asarray(fit_intercept, gram.dtype)
    return RowsFactor(*_spectrum(kernel, size), lift, mask, one, None)


def factor_primal(
    features: jax.Array, weights: jax.Array, *, fit_intercept: bool = True
) -> RowsFactor:
    """Primal factor, for features [N, V] with V at most N. Arguments as in `factor`."""
    mask = linalg.training_mask(weights, features.dtype)
    if fit_intercept:
        features = features - linalg.weighted_mean(features, mask)
    features = linalg.masked_rows(features, mask)
    spectrum = _spectrum(linalg.matmul(features.T, features))
    one = jnp.asarray(fit_intercept, features.dtype)
    return RowsFactor(*spectrum, jnp.zeros_like(one), mask, one, features)


def factor_folds(gram: jax.Array, rows: FoldRows, *, fit_intercept: bool = True) -> FoldFactor:
    """Dual factor of each fold, from the Gram matrix [N, N]; arguments as in `factor`."""

    def one_fold(train, train_mask, test, test_mask):
        inside, across = gram[train][:, train], gram[test][:, train]
        if fit_intercept:
            w = linalg.normalized_weights(train_mask, gram.dtype)
            column = linalg.matmul(inside, w)
            mean = linalg.matmul(w, column)
            across = across - linalg.matmul(across, w)[:, None] - column[None, :] + mean
            inside = inside - column[:, None] - column[None, :] + mean
        size = (jnp.diagonal(gram)[train] * train_mask).max()
        across = across * test_mask[:, None] * train_mask
        return inside * train_mask[:, None] * train_mask, across, size

    inside, across, size = jax.vmap(one_fold)(*_typed(rows, gram.dtype)[:4])
    eigenvalues, vectors, floor = _spectrum(inside, size)
    return FoldFactor(eigenvalues, vectors, linalg.matmul(across, vectors), floor)


def factor_folds_primal(full: RowsFactor, rows: FoldRows) -> FoldFactor:
    """Primal factor of each fold, from that of all rows: their covariance minus what is left out."""
    features = full.features
    total = linalg.matmul(features.T, features)

    def one_fold(fold):
        if _holds_out_less(fold):
            held = features[fold.left_out] * fold.left_out_mask[:, None]
            inside = total - linalg.matmul(held.T, held)
        else:
            train = features[fold.train] * fold.train_mask[:, None]
            inside = linalg.matmul(train.T, train)
        mean = _fold_mean(features, fold) * full.fit_intercept
        inside = inside - fold.train_mask.sum() * mean[:, None] * mean
        return inside, (features[fold.test] - mean) * fold.test_mask[:, None]

    inside, test = jax.vmap(one_fold)(FoldRows(*_typed(rows, features.dtype)))
    eigenvalues, vectors, floor = _spectrum(inside)
    return FoldFactor(eigenvalues, vectors, linalg.matmul(test, vectors), floor)


def folds_follow(full: RowsFactor, alphas: np.ndarray) -> bool:
    """Whether the folds' operators can be had from the factor of all rows (dual), to 1e-4. On the host.

    They come of a Cholesky factor as ill-conditioned as the Gram matrix plus the smallest alpha.
    """
    if full.features is not None:
        return False
    present = np.asarray(full.eigenvalues)[-int(np.sum(full.weights)) :]
    smallest, limit = float(np.min(alphas)), 1e-4 / np.finfo(present.dtype).eps
    return bool(present.max() + smallest < limit * (float(present.min()) + smallest))


def span_alphas(
    full: RowsFactor, folds: FoldFactor | None, alphas: np.ndarray, *, tolerance: float = 2e-5
) -> filters.SpanningAlphas:
    """`filters.spanning_alphas` on the eigenvalues of all folds, on the host.

    Without a FoldFactor on the interval of those of all rows: each fold's lie within it (Cauchy).
    """
    if folds is not None:
        floor = np.asarray(folds.floor)[:, None]
        return filters.spanning_alphas(
            np.asarray(folds.eigenvalues), alphas, tolerance=tolerance, floor=floor
        )
    present = np.asarray(full.eigenvalues, np.float64)[-int(np.sum(full.weights)) :]
    highest = max(present.max(), np.finfo(np.float64).tiny)
    interval = np.geomspace(max(present.min(), 1e-9 * highest), highest, 400)
    return filters.spanning_alphas(interval, alphas, tolerance=tolerance)


def cross_validate(
    full: RowsFactor,
    folds: FoldFactor | None,
    rows: FoldRows,
    targets: jax.Array,
    alphas: jax.Array,
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
    means = linalg.weighted_mean(targets, full.weights) * full.fit_intercept
    rows = FoldRows(*_typed(rows, dtype))

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


def _errors(full, folds, rows: FoldRows, cut, alphas, span, tiles) -> jax.Array:
    """Mean over folds of the mean squared error of the test rows [A, T]."""
    indices, coefficients = span
    size, n_test = indices.shape[0], rows.test.shape[1]
    coefficients = jnp.asarray(coefficients, alphas.dtype)
    direct = size == alphas.shape[0]
    reference = coefficients[alphas.shape[0] // 2]
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    # rotating the targets is less work than forming the operators
    project = folds is not None and tiles.count <= size * n_test

    def one_fold(sums, values):
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
    sums = jax.lax.scan(one_fold, start, (rows, folds))[0]
    if direct:
        return sums
    step = coefficients - reference
    squares = jnp.stack([(1 if i == j else 2) * step[:, i] * step[:, j] for i, j in pairs], axis=1)
    change = linalg.matmul(jnp.concatenate([-2 * step, squares], axis=1), sums[1:])
    return jnp.maximum(sums[0] + change, 0)


def _fold_operator(full: RowsFactor, fold: FoldRows, alpha: jax.Array) -> jax.Array:
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


def _fold_input(full, fold: FoldRows, y: jax.Array, covariance):
    """(what a fold's operators act on [I, width], training mean of the targets [width])."""
    if covariance is None:
        train = y[fold.train]
        w = linalg.normalized_weights(fold.train_mask, y.dtype) * full.fit_intercept
        return train, linalg.matmul(w, train)
    features = full.features
    mean = _fold_mean(y, fold) * full.fit_intercept
    if _holds_out_less(fold):
        held = features[fold.left_out] * fold.left_out_mask[:, None]
        covariance = covariance - linalg.matmul(held.T, y[fold.left_out])
    else:
        train = features[fold.train] * fold.train_mask[:, None]
        covariance = linalg.matmul(train.T, y[fold.train])
    shift = _fold_mean(features, fold) * fold.train_mask.sum()
    return covariance - shift[:, None] * mean, mean


def _fold_mean(x: jax.Array, fold: FoldRows) -> jax.Array:
    """Mean [D] of the training rows of x [N, D]."""
    return linalg.matmul(linalg.normalized_weights(fold.train_mask, x.dtype), x[fold.train])


def _holds_out_less(fold: FoldRows) -> bool:
    """Whether the total minus what is left out is less work than the training rows."""
    return fold.left_out.shape[-1] < fold.train.shape[-1]


def _typed(lists, dtype) -> tuple:
    """Masks of a FoldRows in the type of the data; row numbers as they are."""
    return tuple(
        jnp.asarray(x) if np.issubdtype(x.dtype, np.integer) else jnp.asarray(x, dtype)
        for x in lists
    )


def _spectrum(matrix: jax.Array, size=0.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(eigenvalues [..., R], vectors [..., n, R], the size of rounding [...]) of a positive matrix.

    Eigenvalues that are nothing but noise are zero. size: that of the numbers the matrix is a difference of.
    """
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    unit = jnp.finfo(matrix.dtype).eps * jnp.maximum(eigenvalues[..., -1], size)
    eigenvalues = jnp.where(eigenvalues > 10 * unit[..., None], eigenvalues, 0)
    return eigenvalues, vectors, unit * max(10, matrix.shape[-1])


def _gain(eigenvalues: jax.Array, alphas: jax.Array, floor: jax.Array) -> jax.Array:
    """1 / (w + alpha) [T, R], zero in the directions an alpha does not use."""
    inverse = 1 / jnp.where(eigenvalues > 0, eigenvalues, 1)
    return filters.shrinkage(eigenvalues, alphas, floor) * inverse


class _Tiles:
    """Tiles of one width that cover `count` columns; the last may overlap the one before."""

    def __init__(self, count: int, tile: int):
        number = -(-count // min(tile, count))
        self.count = count
        self.width = min(count, -(-count // (16 * number)) * 16)
        last = count - self.width
        self.starts = [min(start, last) for start in range(0, count, self.width)]

    def cut(self, x: jax.Array, start) -> jax.Array:
        """The columns of a tile, of x [..., T]."""
        return jax.lax.dynamic_slice_in_dim(x, start, self.width, axis=-1)

    def map(self, function) -> jax.Array:
        """[length, T] from a function of the first column of a tile that gives [length, width]."""
        if len(self.starts) == 1:
            return function(0)
        starts = jnp.asarray(self.starts, jnp.int32)
        shape = jax.eval_shape(function, starts[0])

        def step(i, out):
            return jax.lax.dynamic_update_slice_in_dim(out, function(starts[i]), starts[i], axis=-1)

        empty = jnp.zeros((*shape.shape[:-1], self.count), shape.dtype)
        return jax.lax.fori_loop(0, len(self.starts), step, empty)
