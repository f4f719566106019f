"""Weighted centring, Gram matrices and principal components.

Rows are samples. `weights` marks the training rows (1) and the rows left out (0): masks keep shapes
static, so that folds of different sizes share one compiled program. Products ask for
`precision="highest"`, since an eigen-decomposition or a rank follows them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align.array_types import Array, Bool, Float, Shaped


def matmul(a: Array, b: Array) -> Array:
    """Matrix product at full precision (never TF32 or bfloat16 passes)."""
    return jnp.matmul(a, b, precision="highest")


def product(a: Array, b: Array) -> Array:
    """Matrix product of predictions and similarities, which no factorisation follows.

    At full precision, too, unless the caller asked for another: `jax.default_matmul_precision`.
    """
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return jnp.matmul(a, b, precision=asked or "highest")


def divided(x: Array | float, size: Array) -> Array:
    """x / size; x as it is where size is not positive."""
    return x / jnp.where(size > 0, size, 1)


def ratio(part: Array | float, whole: Array, undefined: Bool[Array, "..."]) -> Array:
    """part / whole, and 0 where it is undefined, whatever the two are there."""
    return jnp.where(undefined, 0, part / jnp.where(undefined, 1, whole))


def normalized_weights(weights: Shaped[Array, " N"], dtype) -> Float[Array, " N"]:
    """[N] weights that sum to one; all-zero weights stay zero."""
    weights = weights.astype(dtype)
    return divided(weights, weights.sum())


def weighted_mean(x: Float[Array, "N D"], weights: Shaped[Array, " N"]) -> Float[Array, " D"]:
    """Mean [D] of the rows of x [N, D] that have weight; the others may hold anything, NaN included."""
    w = normalized_weights(weights, x.dtype)
    return matmul(w, masked_rows(x, w))


def center(
    x: Float[Array, "N D"], mean: Float[Array, " D"], weights: Shaped[Array, " N"]
) -> Float[Array, "N D"]:
    """x - mean with the rows without weight at zero, and columns that are constant but for rounding."""
    centred = masked_rows(x - mean, weights)
    size = jnp.abs(masked_rows(x, weights)).max(axis=0)
    constant = jnp.abs(centred).max(axis=0) <= 8 * jnp.finfo(x.dtype).eps * size
    return jnp.where(constant & jnp.isfinite(size), 0, centred)


def training_mask(weights: Shaped[Array, " *N"], dtype) -> Float[Array, " *N"]:
    """1 where a row has weight and 0 where it is left out [N], as `dtype`."""
    return (weights.astype(dtype) > 0).astype(dtype)


def masked_rows(x: Float[Array, "N D"], weights: Shaped[Array, " N"]) -> Float[Array, "N D"]:
    """x [N, D] with the rows without weight set to zero, even where they hold NaN."""
    return jnp.where((weights.astype(x.dtype) != 0)[:, None], x, jnp.zeros_like(x))


def unit_rows(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Rows of x [..., D] scaled to length one; a zero row stays zero.

    A row that holds NaN or an infinity, or is too long for its type, is NaN.
    """
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    norm = jnp.where(norm < jnp.inf, norm, jnp.nan)
    return x / jnp.where(norm == 0, 1, norm)


def unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """The vector [n] scaled to length one, whatever its size; a zero vector stays zero."""
    x = divided(x, jnp.abs(x).max())
    return divided(x, jnp.sqrt((x**2).sum()))


def reflector(unit_vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """w [n], by which `reflected` takes the unit vector to plus or minus the first axis."""
    sign = jnp.where(unit_vector[0] < 0, -1, 1).astype(unit_vector.dtype)
    return unit(unit_vector.at[0].add(sign))


def reflected(x: Float[Array, "... n"], reflector: Float[Array, " n"]) -> Float[Array, "... n"]:
    """x - 2 w (w x) of the rows of x [..., n], its own inverse."""
    return x - 2 * matmul(x, reflector)[..., None] * reflector


def gram(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
    """Inner products [N, N] between the rows of x [N, D]."""
    return matmul(x, x.T)


def center_gram(gram: Float[Array, "N N"], weights: Shaped[Array, " N"]) -> Float[Array, "N N"]:
    """Gram matrix of `x - weighted_mean(x, weights)` for all rows, from the Gram matrix of x.

    Args:
      gram: [N, N] inner products of all rows, training and left out.
      weights: [N] training mask or weights.

    Returns: [N, N].
    """
    w = normalized_weights(weights, gram.dtype)
    column = matmul(gram, w)
    return gram - column[:, None] - column[None, :] + matmul(w, column)


class PrincipalComponents(NamedTuple):
    """Principal axes of the training rows: mean [V], components [V, n], variance [n]."""

    mean: Float[Array, " V"]
    components: Float[Array, "V n"]
    variance: Float[Array, " n"]


def principal_components(
    x: Float[Array, "N V"], weights: Shaped[Array, " N"], *, n_components: int
) -> PrincipalComponents:
    """Axes of largest variance of the rows of x [N, V] that have weight.

    Axes beyond the rank of the training rows are zero, and signs are fixed (the loading of largest
    magnitude is positive), so that the result is a function of the data alone.

    Raises: ValueError if n_components is not between 1 and min(N, V).
    """
    if not 1 <= n_components <= min(x.shape):
        raise ValueError(
            f"n_components={n_components} must lie between 1 and {min(x.shape)}, the smaller side of "
            f"x {x.shape}: ask for fewer components"
        )
    mean = weighted_mean(x, weights)
    w = normalized_weights(weights, x.dtype)
    train = masked_rows(x - mean, w) * jnp.sqrt(w)[:, None]
    _, singular, rows = jnp.linalg.svd(train, full_matrices=False)
    singular, rows = singular[:n_components], rows[:n_components]
    rows = jnp.where((singular <= rank_tolerance(singular[0], x.shape))[:, None], 0, rows)
    largest = jnp.take_along_axis(rows, jnp.abs(rows).argmax(axis=1)[:, None], axis=1)
    rows = rows * jnp.where(largest < 0, -1, 1).astype(x.dtype)
    count = training_mask(weights, x.dtype).sum()
    variance = singular**2 * count / jnp.maximum(count - 1, 1)
    return PrincipalComponents(mean, rows.T, variance)


def transform(pc: PrincipalComponents, x: Float[Array, "M V"]) -> Float[Array, "M n"]:
    """Scores [M, n] of the rows of x [M, V] on the principal axes."""
    return matmul(x - pc.mean, pc.components)


def rounding_share(shape: tuple[int, ...], dtype) -> float:
    """Share of the largest singular value, or eigenvalue, below which one is rounding.

    Products leave random errors in what should be zero, and `eigh` and `svd` their own: a few eps of the
    largest, growing at most as the square root of the size. (The usual bound, eps times the size, takes
    directions for rounding that the data do determine.)
    """
    return max(16.0, math.sqrt(max(shape))) * float(jnp.finfo(dtype).eps)


def rank_tolerance(
    largest: Float[Array, "..."], shape: tuple[int, ...], beside: Float[Array, "..."] | float = 0.0
) -> Float[Array, "..."]:
    """Size below which a singular value or eigenvalue of a matrix of that shape is rounding.

    largest: of them. beside: the size of numbers that the matrix is a difference of, as a Gram matrix that
    is centred afterwards.
    """
    return jnp.maximum(largest, beside) * rounding_share(shape, largest.dtype)
