"""Linear centred kernel alignment (CKA): do two representations have the same inner products?

With K and L the inner products of the two sides' vectors, CKA is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).
The plain estimate of HSIC counts each item's product with itself, and grows with the vectors' width where
nothing is shared; the debiased one leaves these out, and is zero in the mean over unrelated representations.

References: Kornblith et al. (2019), ICML, arXiv:1905.00414; for the debiased HSIC Song et al. (2012), JMLR
13:1393-1434, equation 5, and Szekely & Rizzo (2014), Annals of Statistics 42:2382-2412, as a product of
matrices.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg


def linear_cka(x: jax.Array, y: jax.Array, *, debiased: bool = True) -> jax.Array:
    """Alignment of the inner products of x [T, D] and y [T, E]: 1 where they are proportional.

    Without a change by rotation, by one factor for all axes, or by adding the same vector to all items. The
    plain estimate (debiased=False) lies between 0 and 1, the debiased one may be below zero.

    Returns: a scalar, 0 where one side does not vary.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(linear_cka(x, 3 * x[:, ::-1] + 1).round(3))
    1.0
    """
    return jnp.vdot(unit_kernel(x, debiased=debiased), unit_kernel(y, debiased=debiased))


def unit_kernel(x: jax.Array, *, debiased: bool = True) -> jax.Array:
    """Matrix [T, T] of x [T, D] whose product with another's, summed over all entries, is their CKA.

    The centred inner products, scaled to a sum of squares of one. debiased: rows without their own item sum
    to zero, and the diagonal is zero; it needs four items.

    Raises: ValueError for fewer than 4 items where debiased.
    """
    n_items = x.shape[0]
    if debiased and n_items < 4:
        raise ValueError(f"debiased CKA needs at least 4 items, not {n_items}")
    kernel = linalg.gram(linalg.center(x, x.mean(axis=0), jnp.ones(n_items, x.dtype)))
    if debiased:
        kernel = _without_diagonal(kernel)
        rows = kernel.sum(axis=1) / (n_items - 2)
        total = rows.sum() / (n_items - 1)
        kernel = _without_diagonal(kernel - rows[:, None] - rows[None, :] + total)
    return linalg.divided(kernel, jnp.sqrt(jnp.square(kernel).sum()))


def _without_diagonal(matrix: jax.Array) -> jax.Array:
    return jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix)
