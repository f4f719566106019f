"""Centred kernel alignment (CKA): do two representations have the same inner products, or near items?

With K and L the inner products of the two sides' vectors, CKA is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).
The plain estimate of HSIC counts each item's product with itself, and grows with the vectors' width where
nothing is shared; the debiased one leaves these out, and is zero in the mean over unrelated representations.

References: Kornblith et al. (2019), ICML, arXiv:1905.00414; for the debiased HSIC Song et al. (2012), JMLR
13:1393-1434, equation 5, and Szekely & Rizzo (2014), Annals of Statistics 42:2382-2412, as a product of
matrices; Nguyen, Raghu & Kornblith (2021), ICLR, arXiv:2010.15327, section 2, for batches of items.
"""

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float


def linear_cka(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, debiased: bool = True
) -> Float[Array, ""]:
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


def unit_kernel(x: Float[Array, "T D"], *, debiased: bool = True) -> Float[Array, "T T"]:
    """Matrix [T, T] of x [T, D] whose product with another's, summed over all entries, is their CKA.

    The centred inner products, scaled to a sum of squares of one. debiased: rows without their own item sum
    to zero, and the diagonal is zero; it needs four items.

    Raises: ValueError for fewer than 4 items where debiased.
    """
    _check_items(x, debiased)
    kernel = linalg.gram(_centred(x))
    return _of_length_one(_without_own(kernel) if debiased else kernel)


def minibatch_cka(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, size: int = 256
) -> Float[Array, ""]:
    """As the debiased `linear_cka`, from batches of at most `size` items: memory grows with T, not T^2.

    HSIC and both norms are means over the batches, which are drawn at random, always the same of so many
    items. Of no more than `size` items it is `linear_cka`.

    Returns: a scalar, 0 where one side does not vary.

    Raises: ValueError for a size below 4, or fewer than 4 items.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(minibatch_cka(x, 3 * x[:, ::-1] + 1, size=10).round(3))
    1.0
    """
    return jnp.vdot(unit_batches(x, size=size), unit_batches(y, size=size), precision="highest")


def unit_batches(x: Float[Array, "T D"], *, size: int = 256) -> Float[Array, "..."]:
    """Matrices [batches, b, b] of x [T, D] whose product with another's, summed, is their `minibatch_cka`.

    Raises: as `minibatch_cka`.
    """
    if size < 4:
        raise ValueError(f"size is {size}; a batch of debiased CKA needs at least 4 items")
    _check_items(x, True)
    batches = x[_places(len(x), size)]
    kernels = jax.vmap(lambda rows: _without_own(linalg.gram(_centred(rows))))(batches)
    return _of_length_one(kernels)


def _places(n_items: int, size: int) -> np.ndarray:
    """Items [batches, b] of equal batches of at least 4, at random; a few are in two where the number does
    not divide."""
    n_batches = -(-n_items // size)
    drawn = np.random.default_rng(0).permutation(n_items)
    return np.resize(drawn, (n_batches, max(4, -(-n_items // n_batches))))


def rbf_cka(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, bandwidth: float = 0.5, debiased: bool = True
) -> Float[Array, ""]:
    """As `linear_cka`, with exp(-d^2 / 2 s^2) of the distances d in place of the inner products.

    bandwidth: s, in units of each side's median distance. Small ones compare what lies near, large ones give
    linear CKA.

    Returns: a scalar, 0 where one side does not vary.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 5))
    >>> float(rbf_cka(x, 3 * x[:, ::-1] + 1).round(3))
    1.0
    """
    kernels = [unit_rbf_kernel(side, bandwidth=bandwidth, debiased=debiased) for side in (x, y)]
    return jnp.vdot(*kernels)


def unit_rbf_kernel(
    x: Float[Array, "T D"], *, bandwidth: float = 0.5, debiased: bool = True
) -> Float[Array, "T T"]:
    """Matrix [T, T] of x [T, D] whose product with another's, summed over all entries, is their RBF CKA.

    Raises: ValueError for fewer than 4 items where debiased, or a bandwidth that is not above zero.
    """
    _check_items(x, debiased)
    if not bandwidth > 0:
        raise ValueError(f"bandwidth is {bandwidth}; give a share of the median distance, as 0.5")
    products = linalg.gram(_centred(x))
    norms = jnp.diagonal(products)
    squares = jnp.maximum(norms[:, None] + norms[None, :] - 2 * products, 0)
    median = jnp.median(squares[jnp.triu_indices(len(x), 1)])
    kernel = jnp.exp(-linalg.divided(squares, 2 * bandwidth**2 * median))
    if debiased:
        kernel = _without_own(kernel)
    else:
        rows = kernel.mean(axis=1)
        kernel = kernel - rows[:, None] - rows[None, :] + rows.mean()
    return jnp.where(median <= 0, 0, _of_length_one(kernel))


def _check_items(x: Float[Array, "T D"], debiased: bool) -> None:
    if debiased and len(x) < 4:
        raise ValueError(f"debiased CKA needs at least 4 items, not {len(x)}")


def _centred(x: Float[Array, "T D"]) -> Float[Array, "T D"]:
    return linalg.center(x, x.mean(axis=0), jnp.ones(len(x), x.dtype))


def _without_own(kernel: Float[Array, "T T"]) -> Float[Array, "T T"]:
    """The kernel [T, T] without its diagonal, centred so that rows without their own item sum to zero."""
    n_items = len(kernel)
    kernel = _without_diagonal(kernel)
    rows = kernel.sum(axis=1) / (n_items - 2)
    total = rows.sum() / (n_items - 1)
    return _without_diagonal(kernel - rows[:, None] - rows[None, :] + total)


def _of_length_one(kernel: Float[Array, "*batches T T"]) -> Float[Array, "*batches T T"]:
    return linalg.divided(kernel, jnp.sqrt(jnp.square(kernel).sum()))


def _without_diagonal(matrix: Float[Array, "T T"]) -> Float[Array, "T T"]:
    return jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix)
