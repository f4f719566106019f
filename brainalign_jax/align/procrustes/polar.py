"""The isometry of a polar decomposition, by the algorithm that suits shape and platform.

For cross [V, D] = U S W^T of numerical rank r the result is U_r W_r^T, the minimal partial isometry:
unlike an orthogonal completion it is unique where r is below min(V, D), hence deterministic.

With n = min(V, D) = max(V, D), in floating-point operations, of which a matrix product takes 2 n^3:

| algorithm | operations | of which matrix products |
|---|---|---|
| svd | about 22 n^3 | 1 product; half of the rest is bound by memory |
| gram | about 9 n^3 for `eigh`, 6 n^3, and a thin SVD of n/8 columns | 3 products |
| qdwh | a step or two of 15 n^3 (QR), two of 5 n^3 (Cholesky), 3 of 6 n^3 | 1 a step, and 11 |
| newton_schulz | 13 steps of 6 n^3 in float32, 28 in float64 | 39 or 84, 2 more, and nothing else |

On a CPU gram is the fastest, then svd: at n = 768 in float32 a core takes 45 ms for `eigh`, 90 ms for
`svd`, 22 ms for a QR and 9 ms for a product. On a GPU or TPU `svd` and `eigh` run far below the rate of
a product (QR and triangular solves less so), which is why large matrices are left to products alone
there; where the lines between the three lie has been chosen by the counts above, not measured.
`rotate` spends a product of M rows where `isometry` spends one of V rows.

Sums over rows that are not centred are ruled by their mean: one singular value is thousands of times the
others, which sink into its rounding. Such a matrix is given as `cross` plus the outer product of two
vectors (`mean`), and its largest singular direction is split off before the rest is decomposed.

References: Higham (1986) SIAM J. Sci. Stat. Comput. 7:1160-1174; Nakatsukasa, Bai & Gygi (2010) SIAM J.
Matrix Anal. Appl. 31:2700-2720 (QDWH); Amsel et al. (2025), The Polar Express, arXiv 2505.16932
(polynomials).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align.array_types import Array, Bool, Float
from brainalign_jax.align.linalg import (
    divided,
    matmul,
    reflected,
    reflector,
    rounding_share,
    unit,
)

ALGORITHMS = ("svd", "gram", "qdwh", "newton_schulz")
# Singular values below this share of the largest are lost in a float32 Gram matrix; see `_gram`.
_WELL_DETERMINED = 1e-2
# s -> s^3 (5 - 3 s^2) / 2 takes s to 1, quadratically, from above its fixed point _PARTING, and to 0,
# cubically, from below.
_SEPARATE = (0.0, 2.5, -1.5)
_PARTING = math.sqrt(2 / 3)
_N_SEPARATING = 3
# Share of the largest singular value from which on a polynomial has to be close to one.
_CUSHION = 0.1
_N_LEADING = 16  # steps that bring a singular value to float32 rounding of one 0.6 times as large


def choose(
    shape: tuple[int, ...], rank_bound: int | None = None, platform: str | None = None
) -> str:
    """Algorithm for a matrix [V, D] whose rank cannot exceed rank_bound, on that platform.

    Args:
      shape: (V, D). rank_bound: for instance the number of training rows; None for min(V, D).
      platform: "cpu", "gpu", "tpu"; None for JAX's default backend.

    Returns: "svd", "gram", "qdwh" or "newton_schulz".
    """
    smaller = min(shape)
    rank = smaller if rank_bound is None else min(smaller, rank_bound)
    if (platform or jax.default_backend()) != "cpu":
        return "newton_schulz" if smaller >= 256 else "qdwh" if smaller >= 64 else "svd"
    return "gram" if smaller >= 192 and 2 * _trailing(smaller, rank) <= smaller else "svd"


class Mean(NamedTuple):
    """Vectors [V] and [D] whose outer product is added to a matrix [V, D]."""

    left: Float[Array, " V"]
    right: Float[Array, " D"]


def isometry(
    cross: Float[Array, "V D"],
    *,
    mean: Mean | None = None,
    algorithm: str = "auto",
    rank_bound: int | None = None,
) -> Float[Array, "V D"]:
    """Minimal partial isometry [V, D] of the polar decomposition of cross [V, D].

    Singular values below `linalg.rounding_share` count as zero. The iterations (qdwh, newton_schulz) meet it
    to a factor of three, as they bound the largest singular value instead of computing it, and
    leave a singular value within a few per cent of the threshold between zero and one.

    Args:
      mean: makes it the isometry of cross + outer(left, right). Where the outer product rules, rounding
        is that of cross: singular values count as zero beside the second largest.
      algorithm: "svd", "gram", "qdwh", "newton_schulz" or "auto", see `choose`. "gram" falls back on
        "svd" where too many singular values are small for it. Batched by `vmap`, "gram" takes one
        matrix after the other, as LAPACK does anyway.
      rank_bound: about the largest rank to expect, None for min(V, D): decides on cost alone.

    Raises: ValueError on an unknown algorithm.
    """
    return _rotate_with_mean(None, cross, mean, algorithm, rank_bound)


def rotate(
    rows: Float[Array, "M V"],
    cross: Float[Array, "V D"],
    *,
    mean: Mean | None = None,
    algorithm: str = "auto",
    rank_bound: int | None = None,
) -> Float[Array, "M D"]:
    """rows @ isometry(cross), [M, D] for rows [M, V]: cheaper than the isometry where M is below V."""
    if rows.shape[0] >= cross.shape[0]:
        isometric = isometry(cross, mean=mean, algorithm=algorithm, rank_bound=rank_bound)
        return matmul(rows, isometric)
    return _rotate_with_mean(rows, cross, mean, algorithm, rank_bound)


def _rotate_with_mean(
    rows: Float[Array, "M V"] | None,
    cross: Float[Array, "V D"],
    mean: Mean | None,
    algorithm: str,
    rank_bound: int | None,
) -> Float[Array, "_ D"]:
    """`_rotate` of cross + outer(mean): with the largest singular direction apart, where it stands out."""
    if mean is None:
        return _rotate(rows, cross, algorithm, rank_bound)
    if algorithm == "auto":
        algorithm = choose(cross.shape, rank_bound)

    def whole():
        return _rotate(rows, cross + mean.left[:, None] * mean.right, algorithm, rank_bound)

    if min(cross.shape) < 2:
        return whole()
    left, right, reached = _leading_pair(cross, mean)

    def apart():
        # Reflections take the pair to the first axes: what remains is a matrix of the others, in which
        # the outer product has no more than the small parts of its vectors.
        toward_left, toward_right = reflector(left), reflector(right)
        rest = reflected(reflected(cross, toward_right).T, toward_left).T
        outer = (
            reflected(mean.left, toward_left)[1:, None] * reflected(mean.right, toward_right)[1:]
        )
        rest_rows = None if rows is None else reflected(rows, toward_left)[:, 1:]
        moved = _rotate(rest_rows, rest[1:, 1:] + outer, algorithm, rank_bound)
        moved = reflected(jnp.pad(moved, ((rows is None, 0), (1, 0))), toward_right)
        if rows is None:
            return reflected(moved.T, toward_left).T + left[:, None] * right
        return moved + matmul(rows, left)[:, None] * right

    return jax.lax.cond(reached, apart, whole)


def _leading_pair(
    cross: Float[Array, "V D"], mean: Mean
) -> tuple[Float[Array, " V"], Float[Array, " D"], Bool[Array, ""]]:
    """The largest singular vectors [V], [D] of cross + outer(mean), and whether they were found.

    They are where the next singular value is less than about 0.6 times as large.
    """
    start = unit(mean.left), unit(mean.right)

    def step(_, pair):
        (left, right), _ = pair
        new_left = unit(matmul(cross, right) + mean.left * matmul(mean.right, right))
        new_right = unit(matmul(new_left, cross) + mean.right * matmul(mean.left, new_left))
        moved = jnp.abs(new_left - left).max() + jnp.abs(new_right - right).max()
        return (new_left, new_right), moved

    pair = start, jnp.asarray(jnp.inf, cross.dtype)
    (left, right), moved = jax.lax.fori_loop(0, _N_LEADING, step, pair)
    there = (jnp.abs(left).max() > 0) & (jnp.abs(right).max() > 0)
    return left, right, there & (moved <= 16 * jnp.finfo(cross.dtype).eps)


def _rotate(rows: Array | None, cross: Array, algorithm: str, rank_bound: int | None) -> Array:
    """rows @ isometry(cross), or the isometry for rows None."""
    if algorithm == "auto":
        algorithm = choose(cross.shape, rank_bound)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm={algorithm!r} is not one of 'auto', {str(ALGORITHMS)[1:-1]}")
    if algorithm == "svd":
        return _svd(rows, cross)
    if algorithm == "gram":
        by_gram = functools.partial(_gram_or_svd, trailing=_trailing(min(cross.shape), rank_bound))
        if rows is None:
            return jax.custom_batching.sequential_vmap(functools.partial(by_gram, None))(cross)
        return jax.custom_batching.sequential_vmap(by_gram)(rows, cross)
    return _left(rows, _iterated(cross, algorithm))


def _left(rows: Array | None, x: Array) -> Array:
    return x if rows is None else matmul(rows, x)


def _svd(rows: Array | None, cross: Array) -> Array:
    left, singular, right = jnp.linalg.svd(cross, full_matrices=False)
    rounding = singular <= singular[0] * rounding_share(cross.shape, cross.dtype)
    return matmul(_left(rows, jnp.where(rounding, 0, left)), right)


# --- the Gram matrix of the smaller side ----------------------------------------------------------


def _trailing(n: int, rank_bound: int | None) -> int:
    """Number of the smallest singular directions that `_gram` decomposes anew, the null space with them.

    n / 8: of the product of two square Gaussian matrices, n / 16 are below _WELL_DETERMINED.
    """
    null = 0 if rank_bound is None else max(0, n - rank_bound)
    return min(n, n // 8 + 1 + null)


def _gram_or_svd(rows: Array | None, cross: Array, *, trailing: int) -> Array:
    """`_gram`, or `_svd` where too many singular values are small for it."""
    wide = cross.shape[0] < cross.shape[1]
    tall = _unit_scale(cross.T if wide else cross)
    gram = _lower_gram(tall)
    n = gram.shape[0]
    # `eigh` is wasted where most singular values are small. Seen from the participation ratio of the
    # squared singular values, (sum s^2)^2 / sum s^4, before it is spent: n if equal, n / 2 of a square
    # Gaussian matrix, 1 if one rules.
    lower = jnp.tril(gram, -1)
    diagonal = jnp.diagonal(gram)
    squares = 2 * (lower**2).sum() + (diagonal**2).sum()
    promising = diagonal.sum() ** 2 > squares * (n / 4)

    def spectral(_):
        moved, smallest = _gram(rows, tall, gram, trailing=trailing, wide=wide)
        return moved, smallest > _WELL_DETERMINED

    def hopeless(_):
        n_rows = (cross if rows is None else rows).shape[0]
        return jnp.zeros((n_rows, cross.shape[1]), cross.dtype), jnp.array(False)

    moved, reached = jax.lax.cond(promising, spectral, hopeless, None)
    return jax.lax.cond(reached, lambda: moved, lambda: _svd(rows, cross))


def _lower_gram(x: Array) -> Array:
    """Lower triangle of x^T x in a matrix whose upper right block is left at zero."""
    half = x.shape[1] // 2
    if half < 64:
        return matmul(x.T, x)
    a, b = x[:, :half], x[:, half:]
    zeros = jnp.zeros((half, x.shape[1] - half), x.dtype)
    return jnp.block([[matmul(a.T, a), zeros], [matmul(b.T, a), matmul(b.T, b)]])


def _gram(
    rows: Array | None, tall: Array, gram: Array, *, trailing: int, wide: bool
) -> tuple[Array, Array]:
    """rows @ isometry from the eigenvectors of tall^T tall, and the least s / s_1 relied upon.

    Squaring costs digits: an eigenvector of singular value s is known to eps (s_1 / s)^2. So the
    smallest directions are made orthogonal to the others by one step of block elimination, with
    products of an error of eps s_1 s only, and tall is decomposed anew on them by a thin SVD.
    """
    vectors, values = jax.lax.linalg.eigh(gram, lower=True, symmetrize_input=False)
    largest = jnp.sqrt(jnp.maximum(values[-1], 0))
    small, leading, values = vectors[:, :trailing], vectors[:, trailing:], values[trailing:]
    coupling = matmul(tall.T, matmul(tall, small))
    small = small - matmul(leading, matmul(leading.T, coupling) / values[:, None])
    small = jnp.linalg.qr(small)[0]
    left, singular, right = jnp.linalg.svd(matmul(tall, small), full_matrices=False)
    rounding = singular <= largest * rounding_share(tall.shape, tall.dtype)
    left = jnp.where(rounding, 0, left)
    scaled = leading / jnp.sqrt(values)
    if wide:
        moved = matmul(_left(rows, _outside(scaled.T, small).T), leading.T)
        moved = matmul(_outside(moved, small), tall.T)
        moved = moved + matmul(matmul(_left(rows, small), right.T), left.T)
    else:
        moved = _outside(_left(rows, tall), small)
        moved = matmul(matmul(moved, scaled), leading.T)
        anew = matmul(_left(rows, left), right)
        moved = moved + matmul(anew - matmul(moved, small), small.T)
    smallest = jnp.sqrt(jnp.maximum(values.min(initial=jnp.inf), 0))
    return moved, divided(smallest, largest)


def _outside(rows: Array, basis: Array) -> Array:
    """Rows without their part in the span of the orthonormal columns of the basis."""
    return rows - matmul(matmul(rows, basis), basis.T)


# --- iterations on the singular values ------------------------------------------------------------


def _iterated(cross: Array, algorithm: str) -> Array:
    """Isometry by steps that bring the singular values to one, then steps that part them from zero.

    The largest singular value is bounded by (sum s^8)^(1/8), at most n^(1/8) times too large, and the
    steps are those for `rounding_share` times that bound: the schedule does not depend on the data.
    """
    wide = cross.shape[0] < cross.shape[1]
    x = _unit_scale(cross.T if wide else cross)
    gram = matmul(x.T, x)
    size = jnp.sqrt((gram**2).sum())
    gram = divided(gram, size)
    bound = jnp.sqrt(size * jnp.sqrt(jnp.sqrt((matmul(gram, gram) ** 2).sum())))
    x = divided(x, bound)
    schedule = _schedule(algorithm, rounding_share(cross.shape, cross.dtype))
    if algorithm == "qdwh":
        for coefficients in schedule:
            x = _qdwh_step(x, *coefficients)
        schedule = ()
    polynomials = jnp.asarray(schedule + _N_SEPARATING * (_SEPARATE,), x.dtype)
    x = jax.lax.scan(
        lambda x, coefficients: (_polynomial_step(x, *coefficients), None), x, polynomials
    )[0]
    return x.T if wide else x


def _unit_scale(x: Array) -> Array:
    """x with its largest entry at one, so that powers of it neither overflow nor vanish."""
    return divided(x, jnp.abs(x).max())


def _polynomial_step(x: Array, a: Array, b: Array, c: Array) -> Array:
    """Singular values s -> a s + b s^3 + c s^5: three products."""
    gram = matmul(x.T, x)
    return a * x + matmul(x, b * gram + c * matmul(gram, gram))


def _qdwh_step(x: Array, a: float, b: float, c: float) -> Array:
    """Singular values s -> s (a + b s^2) / (1 + c s^2), by QR where c is large, else by Cholesky."""
    identity = jnp.eye(x.shape[1], dtype=x.dtype)
    if c > 100:
        q = jnp.linalg.qr(jnp.concatenate([math.sqrt(c) * x, identity]))[0]
        product = matmul(q[: x.shape[0]], q[x.shape[0] :].T) / math.sqrt(c)
    else:
        factor = jnp.linalg.cholesky(identity + c * matmul(x.T, x)), True
        product = jax.scipy.linalg.cho_solve(factor, x.T).T
    return b / c * x + (a - b / c) * product


@functools.lru_cache
def _schedule(algorithm: str, tolerance: float) -> tuple[tuple[float, float, float], ...]:
    """Coefficients (a, b, c) of the steps that take singular values of `tolerance` to _PARTING."""
    build, step = {
        "qdwh": (_qdwh_schedule, lambda s, a, b, c: s * (a + b * s**2) / (1 + c * s**2)),
        "newton_schulz": (_polynomials, lambda s, a, b, c: s * (a + b * s**2 + c * s**4)),
    }[algorithm]

    def after(s: float, steps) -> float:
        return functools.reduce(lambda s, coefficients: step(s, *coefficients), steps, s)

    steps = build(tolerance)
    low, high = tolerance / 1e3, tolerance
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if after(middle, steps) > _PARTING else (middle, high)
    return build(tolerance * tolerance / low)


def _qdwh_schedule(lower: float) -> tuple[tuple[float, float, float], ...]:
    """Dynamically weighted Halley steps for singular values in [lower, 1]."""
    steps = []
    while lower < 0.99:
        square = lower**2
        d = (4 * (1 - square) / square**2) ** (1 / 3)
        root = math.sqrt(1 + d)
        a = root + 0.5 * math.sqrt(8 - 4 * d + 8 * (2 - square) / (square * root))
        b = (a - 1) ** 2 / 4
        steps.append((a, b, a + b - 1))
        lower *= (a + b * square) / (1 + (a + b - 1) * square)
    return tuple(steps)


def _polynomials(lower: float) -> tuple[tuple[float, float, float], ...]:
    """Odd quintics, each the closest to one on the interval to which the last took [lower, 1].

    Of an interval wider than _CUSHION only the upper part counts: the closest polynomial on all of it
    takes large singular values down to the smallest, where rounding swamps them. All are a hundredth
    smaller than the polynomial expects, as it rises steeply where the interval ends.
    """
    steps, upper = [], 1.0
    while lower < 0.99 * upper:
        start = max(lower, _CUSHION * upper)
        a, b, c = _closest_quintic(start, upper)
        upper = 2 - start * (a + b * start**2 + c * start**4)
        a, b, c = a / 1.01, b / 1.01**3, c / 1.01**5
        steps.append((a, b, c))
        lower = lower * (a + b * lower**2 + c * lower**4)
    return tuple(steps)


def _closest_quintic(lower: float, upper: float) -> tuple[float, float, float]:
    """Coefficients of the odd quintic of least largest distance from one on [lower, upper] (Remez)."""
    inner = (3 * lower + upper) / 4, (lower + 3 * upper) / 4
    error = None
    for _ in range(50):
        points = np.array([lower, *inner, upper])
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        system = np.stack([points, points**3, points**5, signs], axis=1)
        a, b, c, new_error = (float(x) for x in np.linalg.solve(system, np.ones(4)))
        if error is not None and abs(new_error - error) < 1e-14:
            break
        error = new_error
        spread = math.sqrt(9 * b**2 - 20 * a * c)
        inner = math.sqrt((-3 * b - spread) / (10 * c)), math.sqrt((-3 * b + spread) / (10 * c))
    return a, b, c
