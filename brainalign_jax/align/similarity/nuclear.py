"""Sums of singular values of many matrices, without the singular values.

A CPU has a tridiagonal form of a Gram matrix in a fraction of the time of an SVD, and the trace of its square
root is an integral over shifts, sqrt(a) = 2/pi int a / (a + s^2) ds, of traces that a recurrence along the
diagonals gives. A Gram matrix squares: what is lost of singular values that are small beside the largest is
bounded, and where the bound is above `TOLERANCE` of a sum, the batch gets its SVDs.

References: Hale, Higham & Trefethen (2008), SIAM J. Numer. Anal. 46:2505-2523, for square roots by contour
integrals; Golub & Van Loan (2013), Matrix Computations, 8.3 and 8.4, for the tridiagonal form.
"""

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float

TOLERANCE = 2e-4  # share of a sum, that the bound may be; errors are a quarter of it and less
_FEWEST = 32  # of narrower matrices an SVD is no slower
# Shifts s by factors of e^_STEP, beside a largest eigenvalue of 1 at most: the trapezoidal rule in log s is
# right to 2 exp(-pi^2 / _STEP), and what is below and above goes by geometric series.
_STEP, _LEAST, _N_SHIFTS = 0.5, 1e-3, 20


def nuclear_norms(x: Float[Array, "*B k l"]) -> Float[Array, "*B"]:
    """Sums [...] of the singular values of matrices [..., k, l], to `TOLERANCE` in float32.

    By SVD in float64, of narrow matrices, on accelerators, and of all where one is not determined so well.
    """
    if x.dtype != jnp.float32 or min(x.shape[-2:]) < _FEWEST:
        return _by_svd(x)
    return jax.lax.platform_dependent(x, cpu=_by_gram, default=_by_svd)


def _by_svd(x: Float[Array, "*B k l"]) -> Float[Array, "*B"]:
    return jnp.linalg.svd(x, compute_uv=False).sum(axis=-1)


def _by_gram(x: Float[Array, "*B k l"]) -> Float[Array, "*B"]:
    sums, errors = _sums_and_errors(x)
    return jax.lax.cond((errors <= TOLERANCE * sums).all(), lambda _: sums, _by_svd, x)


def _sums_and_errors(
    x: Float[Array, "*B k l"],
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Sums of singular values, and bounds of their errors."""
    wide = x if x.shape[-2] <= x.shape[-1] else jnp.swapaxes(x, -1, -2)
    largest = jnp.abs(x).max(axis=(-2, -1))
    wide = linalg.divided(wide, largest[..., None, None])
    gram = linalg.matmul(wide, jnp.swapaxes(wide, -1, -2))
    size = jnp.sqrt(jnp.square(gram).sum(axis=(-2, -1)))
    gram = linalg.divided(gram, size[..., None, None])
    _, diagonal, beside, _ = jax.lax.linalg.tridiagonal(gram)
    shifts = _LEAST * np.exp(_STEP * np.arange(_N_SHIFTS))
    below, inverse = _resolvents(diagonal, beside, np.square(shifts).astype(np.float32))
    ratio = np.exp(-_STEP)
    small, small_cubed = (shifts[0] ** p * ratio**p / (1 - ratio**p) for p in (1, 3))
    large, large_cubed = (shifts[-1] ** -p * ratio**p / (1 - ratio**p) for p in (1, 3))
    sums = jnp.tensordot(below, shifts.astype(np.float32), axes=1)
    sums += small * diagonal.shape[-1] - small_cubed / shifts[0] ** 2 * inverse[..., 0]
    # The squares of the eigenvalues sum to 1.
    sums += large * diagonal.sum(axis=-1) - large_cubed
    weight = 2 / np.pi * _STEP
    # A rounding of the Gram matrix moves an eigenvalue a by eps, its root by eps / (2 sqrt(a)), and roots
    # below the least shift are lost.
    roots = jnp.tensordot(inverse, (1 / shifts).astype(np.float32), axes=1)
    least = inverse[..., 0] - ratio**2 * inverse[..., 1]
    errors = weight * jnp.finfo(x.dtype).eps * roots + _LEAST * least
    scale = largest * jnp.sqrt(size)
    return scale * weight * sums, scale * errors


def _resolvents(
    diagonal: Float[Array, "*B k"], beside: Float[Array, "*B m"], squares: np.ndarray
) -> tuple[Float[Array, "*B J"], Float[Array, "*B J"]]:
    """Sums over eigenvalues a of a / (a + s^2), and of s^2 / (a + s^2), for squares [J] of shifts.

    By the pivots q of the shifted matrix and s^2 times their derivatives p, down the diagonal.
    """

    def step(carry, entries):
        q, p, of_values, of_shifts = carry
        value, square = (entry[..., None] for entry in entries)
        lost = square / q
        q_next = value + squares - lost
        p_next = squares + lost * p / q
        of_values += (value - lost * (1 + p / q)) / q_next
        return (q_next, p_next, of_values, of_shifts + p_next / q_next), None

    nothing = jnp.zeros((*diagonal.shape[:-1], len(squares)), diagonal.dtype)
    along = jnp.moveaxis(diagonal, -1, 0)
    before = jnp.moveaxis(jnp.square(beside), -1, 0)
    before = jnp.concatenate([jnp.zeros_like(along[:1]), before])
    sums, _ = jax.lax.scan(step, (nothing + 1, nothing, nothing, nothing), (along, before))
    return sums[2], sums[3]
