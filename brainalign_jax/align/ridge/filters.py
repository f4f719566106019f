"""Few functions that span the ridge filters 1 / (w + alpha) of many alphas on one spectrum.

On the eigenvalues w at hand the filters are smooth in w and in alpha, so that all of them lie, to
rounding, in a space of few dimensions: on eigenvalues that differ by a factor of 3 (1,000 words of
10,000 independent voxels) 5 functions give 16 filters to 1e-5, on a spectrum over 3 decades 10 do. A
prediction is linear in its filter: one matrix product a function gives the predictions of all alphas.

A filter acts on an eigen-direction together with its eigenvalue, so that accuracy is that of the
shrinkage w / (w + alpha), relative to the largest of the same alpha.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real

_SAMPLES = 512  # eigenvalues that stand for all of them: the filters are smooth


class FilterBasis(NamedTuple):
    """Filters of A alphas as combinations of B functions of the eigenvalue.

    coefficients @ functions is [A, R], the filters. functions: [B, R], zero where the eigenvalue is zero.
    coefficients: [A, B].
    """

    functions: Float[Array, "B R"]
    coefficients: Float[Array, "A B"]


def shrinkage(
    eigenvalues: Float[Array, " R"],
    alphas: Real[Array, " A"],
    floor: Float[Array, ""] | Float[Array, " R"] | float = 0.0,
) -> Float[Array, "A R"]:
    """w / (w + alpha) [A, R], the share of each eigen-direction that each alpha keeps.

    Args:
      eigenvalues: [R]; those that are not positive keep nothing.
      alphas: [A], not negative; 0 keeps everything (the minimum-norm solution).
      floor: scalar or [R], below which an eigenvalue is rounding. An alpha above the floor outweighs the
        rounding; an alpha at or below it would blow it up, and keeps nothing of those directions.
    """
    alphas = jnp.asarray(alphas, eigenvalues.dtype)[:, None]
    floor = jnp.asarray(floor, eigenvalues.dtype)
    dropped = (eigenvalues <= 0) | ((eigenvalues <= floor) & (alphas <= floor))
    return linalg.ratio(eigenvalues, eigenvalues + alphas, dropped)


def inverses(
    eigenvalues: Float[Array, " R"], alphas: Real[Array, " A"], floor: Float[Array, ""]
) -> Float[Array, "A R"]:
    """1 / (w + alpha) [A, R], of directions that are rounding too where alpha outweighs it.

    Among directions below the floor are some that the data know well enough: without them a kernel with a few
    eigenvalues far above the others loses what those have to say.

    Args: as of `shrinkage`. Eigenvalues that are negative by rounding share one null space with those just
      above zero, of which no part may be left out alone: they count as zero.
    """
    alphas = jnp.asarray(alphas, eigenvalues.dtype)[:, None]
    known = (eigenvalues > floor) | (alphas > floor)
    total = jnp.maximum(eigenvalues, 0) + alphas
    return jnp.where(known, 1 / jnp.where(known, total, 1), 0)


def filter_basis(
    eigenvalues: Float[Array, " R"],
    alphas: Real[Array, " A"],
    *,
    size: int,
    floor: Float[Array, ""] | Float[Array, " R"] | float = 0.0,
) -> FilterBasis:
    """The functions that come closest to the filters of all alphas, from the SVD of the shrinkages.

    Args:
      eigenvalues: [R]; zeros (padding, null directions) have no influence.
      alphas: [A]. floor: as in `shrinkage`.
      size: number of functions B, 1 to A; `basis_size` says how many are needed. With size = A the
        functions are the filters themselves.

    Raises: ValueError if size is not between 1 and the number of alphas.
    """
    if not 1 <= size <= alphas.shape[0]:
        raise ValueError(
            f"size={size} must lie between 1 and {alphas.shape[0]}, the number of alphas: "
            "`basis_size` gives the size that a tolerance needs"
        )
    kept = shrinkage(eigenvalues, alphas, floor)
    inverse = jnp.where(eigenvalues > 0, linalg.divided(1, eigenvalues), 0)
    if size == alphas.shape[0]:
        return FilterBasis(kept * inverse, jnp.eye(size, dtype=eigenvalues.dtype))
    largest = kept.max(axis=1, keepdims=True)
    rows = linalg.divided(kept, largest)
    functions = jnp.linalg.svd(rows, full_matrices=False)[2][:size]
    functions = jnp.pad(functions, ((0, size - functions.shape[0]), (0, 0)))
    # Projected, not taken from the SVD: the best coefficients for the functions as they were rounded.
    coefficients = largest * linalg.matmul(rows, functions.T)
    return FilterBasis(functions * inverse, coefficients)


def basis_size(
    eigenvalues: Float[np.ndarray, "..."],
    alphas: Real[np.ndarray, " A"],
    *,
    tolerance: float = 1e-5,
    floor: Float[np.ndarray, "..."] | float = 0.0,
) -> int:
    """Number of functions B, 1 to A, that gives all shrinkages to the tolerance. On the host, in float64.

    Args:
      eigenvalues: any shape, those of several folds together; for a spectral interval,
        `np.geomspace(lowest, highest, 200)`. alphas: [A].
      tolerance: largest error of a shrinkage, relative to the largest of the same alpha.
      floor: as in `shrinkage`, of a shape that broadcasts to the eigenvalues.
    """
    left, singular, right = np.linalg.svd(
        _relative_shrinkage(eigenvalues, alphas, floor)[0], full_matrices=False
    )
    # errors of leaving out the last functions, the largest size first
    error = np.zeros((left.shape[0], right.shape[1]))
    for size in range(len(singular), 1, -1):
        error += singular[size - 1] * np.outer(left[:, size - 1], right[size - 1])
        if np.abs(error).max() > tolerance:
            return size
    return 1


class SpanningAlphas(NamedTuple):
    """Alphas whose filters span those of all: indices [B] and coefficients [A, B]."""

    indices: Int[np.ndarray, " B"]
    coefficients: Float[np.ndarray, "A B"]


def spanning_alphas(
    eigenvalues: Float[np.ndarray, "..."],
    alphas: Real[np.ndarray, " A"],
    *,
    tolerance: float = 1e-5,
    floor: Float[np.ndarray, "..."] | float = 0.0,
    relative: bool = True,
) -> SpanningAlphas:
    """Some of the alphas, whose filters give those of the others to the tolerance. On the host, in float64.

    At most one or two more than `basis_size`, and no basis to form: predictions at these alphas, combined.
    Arguments as in `basis_size`. Unless relative, the error is that of the shrinkages as they are: enough
    for squared errors, and an alpha far above the spectrum, with predictions all but zero, is not made to
    stand for others with a large coefficient. Rows are picked one after the other, each that of the
    largest error of what was picked before (an interpolative decomposition).
    """
    rows, largest = _relative_shrinkage(eigenvalues, alphas, floor)
    if not relative:
        rows, largest = rows * largest, np.ones_like(largest)
    left = rows.copy()
    picked: list[int] = []
    while len(picked) < len(rows):
        error = np.abs(left).max(axis=1)
        error[picked] = -1
        if picked and error.max() <= tolerance:
            break
        picked.append(int(error.argmax()))
        # lstsq, not Gram-Schmidt: the rows are nearly dependent by design
        coefficients = np.linalg.lstsq(rows[picked].T, rows.T, rcond=1e-13)[0].T
        coefficients[picked] = np.eye(len(picked))
        left = rows - coefficients @ rows[picked]
    scale = np.where(largest > 0, largest, 1)
    return SpanningAlphas(np.array(picked, np.int32), coefficients * scale / scale[picked].T)


def filter_skeleton(
    eigenvalues: Float[Array, " R"], alphas: Float[Array, " A"], tolerance: float | Float[Array, ""]
) -> tuple[Int[Array, " A"], Float[Array, "A A"], Int[Array, ""]]:
    """A few alphas whose ridge filters 1 / (w + alpha) combine to those of all alphas.

    What `spanning_alphas` picks on the host, in a compiled program: for spectra that are known there only.
    Greedy: the alpha whose gains w / (w + alpha) are worst approximated comes next, until no gain is off
    by more than `tolerance`. It is the gain that limits the error of a prediction.

    Args: eigenvalues: [R]; alphas: [A].

    Returns: order [A], indices of alphas of which the first `rank` matter; coefficients [A, A] of each
      alpha in terms of those, zero beyond the rank; rank, a scalar.
    """
    total = eigenvalues[None, :] + alphas[:, None]
    gains = linalg.ratio(eigenvalues[None, :], total, total <= 0)
    n_alphas = len(alphas)

    def add(k, state):
        residual, coefficients, order, rank = state
        worst = jnp.abs(residual).max(axis=1)
        pivot = worst.argmax()
        direction = residual[pivot]
        norm = (direction**2).sum()
        needed = (worst[pivot] > tolerance) & (norm > 0)
        # The pivot's own share is exactly one, so that an alpha in the list is its own filter.
        share = linalg.divided(linalg.matmul(residual, direction), norm)
        share = jnp.where(jnp.arange(n_alphas) == pivot, 1, share) * needed.astype(gains.dtype)
        residual = residual - share[:, None] * direction[None, :]
        coefficients = coefficients - share[:, None] * coefficients[pivot][None, :]
        coefficients = coefficients.at[:, k].add(share)
        return residual, coefficients, order.at[k].set(pivot), rank + needed.astype(rank.dtype)

    start = (
        gains,
        jnp.zeros((n_alphas, n_alphas), gains.dtype),
        jnp.arange(n_alphas),
        jnp.array(0),
    )
    _, coefficients, order, rank = jax.lax.fori_loop(0, n_alphas, add, start)
    return order, coefficients, rank


def _relative_shrinkage(eigenvalues, alphas, floor) -> tuple[np.ndarray, np.ndarray]:
    """(shrinkages [A, S] over each alpha's largest, the largest [A, 1]) at S of the positive eigenvalues."""
    w = np.asarray(eigenvalues, np.float64)
    floor = np.broadcast_to(np.asarray(floor, np.float64), w.shape)[w > 0]
    w, alphas = w[w > 0], np.asarray(alphas, np.float64)[:, None]
    if not w.size:
        return np.zeros((len(alphas), 1)), np.zeros((len(alphas), 1))
    picked = np.argsort(w)[np.unique(np.linspace(0, w.size - 1, _SAMPLES).astype(int))]
    w, floor = w[picked], floor[picked]
    kept = np.where((w > floor) | (alphas > floor), w / (w + alphas), 0)
    largest = kept.max(axis=1, keepdims=True)
    return kept / np.where(largest > 0, largest, 1), largest
