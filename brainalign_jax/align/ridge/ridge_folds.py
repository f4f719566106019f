"""Factors of ridge regression for cross-validation: of all rows there are, and of the rows of each fold.

Folds are padded lists of rows, so that shapes are static and work on test rows is of their number only.

References: Saunders, Gammerman & Vovk (1998) for the dual form; Golub & Van Loan (2013), 8.1.1, for the
interlacing of eigenvalues (Cauchy).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real, Shaped
from brainalign_jax.align.ridge import filters


class FoldRows(NamedTuple):
    """Rows of F folds as padded lists, so that work on test rows is of their number only.

    train: [F, n]; test: [F, m]; left_out: [F, l], all rows that are not for training, those of the test
    among them; and the masks of the same shapes, 0 where padded.
    """

    train: Int[Array, "F n"]
    train_mask: Shaped[Array, "F n"]
    test: Int[Array, "F m"]
    test_mask: Shaped[Array, "F m"]
    left_out: Int[Array, "F l"]
    left_out_mask: Shaped[Array, "F l"]

    def astype(self, dtype) -> "FoldRows":
        """The same with masks in the type of the data."""
        return FoldRows(
            *(
                jnp.asarray(x) if np.issubdtype(x.dtype, np.integer) else jnp.asarray(x, dtype)
                for x in self
            )
        )

    def train_mean(self, x: Float[Array, "N D"]) -> Float[Array, " D"]:
        """Mean [D] of the training rows of x [N, D], of one fold."""
        return linalg.matmul(linalg.normalized_weights(self.train_mask, x.dtype), x[self.train])

    @property
    def holds_out_less(self) -> bool:
        """Whether a total minus what is left out is less work than the training rows."""
        return self.left_out.shape[-1] < self.train.shape[-1]


def fold_rows(
    train: Shaped[np.ndarray, "..."],
    test: Shaped[np.ndarray, "..."],
    weights: Shaped[np.ndarray, " N"] | None = None,
) -> FoldRows:
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
    lists: list[Any] = []
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

    eigenvalues: Float[Array, " R"]
    vectors: Float[Array, "N R"] | Float[Array, "V R"]
    floor: Float[Array, ""]
    lift: Float[Array, ""]
    weights: Float[Array, " N"]
    fit_intercept: Float[Array, ""]
    features: Float[Array, "N V"] | None


class FoldFactor(NamedTuple):
    """Eigen-decomposition of the training rows of each fold, where that of all rows will not do.

    With I the length of a fold's input, n (dual) or V (primal): eigenvalues: [F, R], zero where nothing but
    noise; vectors: [F, I, R]; scores: [F, m, R] of the test rows; floor: [F], as in `RowsFactor`.
    """

    eigenvalues: Float[Array, "F R"]
    vectors: Float[Array, "F I R"]
    scores: Float[Array, "F m R"]
    floor: Float[Array, " F"]


def gram(features: Float[Array, "N V"], *, blocks: int = 4) -> Float[Array, "N N"]:
    """Inner products [N, N] of the rows of features [N, V]: the blocks below the diagonal, mirrored.

    With 4 blocks of rows 5/8 of the operations of one product; from 512 rows, where products are many.
    """
    n = features.shape[0]
    if n < 512:
        return linalg.gram(features)
    edges = [n * i // blocks for i in range(blocks + 1)]
    strips = [
        linalg.matmul(features[low:high], features[:high].T)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    padded = [jnp.pad(strip, ((0, 0), (0, n - strip.shape[1]))) for strip in strips]
    lower = jnp.tril(jnp.concatenate(padded))
    return lower + jnp.tril(lower, -1).T


def factor(
    gram: Float[Array, "N N"], weights: Shaped[Array, " N"], *, fit_intercept: bool = True
) -> RowsFactor:
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
    with_intercept = jnp.asarray(fit_intercept, gram.dtype)
    return RowsFactor(*_spectrum(kernel, size), lift, mask, with_intercept, None)


def factor_primal(
    features: Float[Array, "N V"], weights: Shaped[Array, " N"], *, fit_intercept: bool = True
) -> RowsFactor:
    """Primal factor, for features [N, V] with V at most N. Arguments as in `factor`."""
    mask = linalg.training_mask(weights, features.dtype)
    if fit_intercept:
        features = features - linalg.weighted_mean(features, mask)
    features = linalg.masked_rows(features, mask)
    spectrum = _spectrum(linalg.matmul(features.T, features))
    with_intercept = jnp.asarray(fit_intercept, features.dtype)
    return RowsFactor(*spectrum, jnp.zeros_like(with_intercept), mask, with_intercept, features)


def factor_folds(
    gram: Float[Array, "N N"], rows: FoldRows, *, fit_intercept: bool = True
) -> FoldFactor:
    """Dual factor of each fold, from the Gram matrix [N, N]; arguments as in `factor`."""

    def fold_grams(train, train_mask, test, test_mask):
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

    inside, across, size = jax.vmap(fold_grams)(*rows.astype(gram.dtype)[:4])
    eigenvalues, vectors, floor = _spectrum(inside, size)
    return FoldFactor(eigenvalues, vectors, linalg.matmul(across, vectors), floor)


def factor_folds_primal(full: RowsFactor, rows: FoldRows) -> FoldFactor:
    """Primal factor of each fold, from that of all rows: their covariance minus what is left out."""
    features: Any = full.features
    total = linalg.matmul(features.T, features)

    def fold_covariance(fold):
        if fold.holds_out_less:
            held = features[fold.left_out] * fold.left_out_mask[:, None]
            inside = total - linalg.matmul(held.T, held)
        else:
            train = features[fold.train] * fold.train_mask[:, None]
            inside = linalg.matmul(train.T, train)
        mean = fold.train_mean(features) * full.fit_intercept
        inside = inside - fold.train_mask.sum() * mean[:, None] * mean
        return inside, (features[fold.test] - mean) * fold.test_mask[:, None]

    inside, test = jax.vmap(fold_covariance)(rows.astype(features.dtype))
    eigenvalues, vectors, floor = _spectrum(inside)
    return FoldFactor(eigenvalues, vectors, linalg.matmul(test, vectors), floor)


def folds_follow(full: RowsFactor, alphas: Real[np.ndarray, " A"]) -> bool:
    """Whether the folds' operators can be had from the factor of all rows (dual), to 1e-4. On the host.

    They come of a Cholesky factor as ill-conditioned as the Gram matrix plus the smallest alpha.
    """
    if full.features is not None:
        return False
    present = np.asarray(full.eigenvalues)[-int(np.sum(full.weights)) :]
    smallest, limit = float(np.min(alphas)), 1e-4 / np.finfo(present.dtype).eps
    return bool(present.max() + smallest < limit * (float(present.min()) + smallest))


def span_alphas(
    full: RowsFactor,
    folds: FoldFactor | None,
    alphas: Real[np.ndarray, " A"],
    *,
    tolerance: float = 1e-5,
) -> filters.SpanningAlphas:
    """`filters.spanning_alphas` on the eigenvalues of all folds, on the host.

    Without a FoldFactor on the interval of those of all rows: each fold's lie within it (Cauchy).
    """
    if folds is not None:
        floor = np.asarray(folds.floor)[:, None]
        return filters.spanning_alphas(
            np.asarray(folds.eigenvalues), alphas, tolerance=tolerance, floor=floor, relative=False
        )
    present = np.asarray(full.eigenvalues, np.float64)[-int(np.sum(full.weights)) :]
    highest = max(present.max(), np.finfo(np.float64).tiny)
    interval = np.geomspace(max(present.min(), 1e-9 * highest), highest, 400)
    return filters.spanning_alphas(interval, alphas, tolerance=tolerance, relative=False)


def _spectrum(matrix: Array, size=0.0) -> tuple[Array, Array, Array]:
    """(eigenvalues [..., R], vectors [..., n, R], the size of rounding [...]) of a positive matrix.

    Eigenvalues that are nothing but noise are zero. size: that of the numbers the matrix is a difference of.
    """
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    largest = jnp.maximum(eigenvalues[..., -1], size)
    noise = 10 * jnp.finfo(matrix.dtype).eps * largest
    eigenvalues = jnp.where(eigenvalues > noise[..., None], eigenvalues, 0)
    return eigenvalues, vectors, linalg.rank_tolerance(largest, matrix.shape[-2:])
