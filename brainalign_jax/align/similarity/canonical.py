"""Canonical correlations: what two representations have in common up to any invertible linear map.

With as many axes as items they are 1 whatever the representations are. SVCCA keeps the leading principal axes
of each side; PWCCA weighs the canonical directions by what they carry of one side; a penalty shrinks an axis
by how little varies in it.

References: Raghu et al. (2017), NeurIPS, arXiv:1706.05806 (SVCCA); Morcos et al. (2018), NeurIPS,
arXiv:1806.05759 (PWCCA); Golub & Zha (1995), for the correlations as singular values; Vinod (1976), J.
Econometrics 4:147-166, for the penalty.
"""

from typing import NamedTuple

import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float


class Axes(NamedTuple):
    """Leading principal axes of items.

    basis: [T, k] orthonormal, zero where nothing varies any more. sizes: [k] singular values.
    """

    basis: Float[Array, "T k"]
    sizes: Float[Array, " k"]


def canonical_correlations(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, n_axes: int | None = None
) -> Float[Array, " k"]:
    """[k] canonical correlations, from large to small, of the leading axes of x [T, D] and y [T, E].

    n_axes: principal axes of each side; None for all, min(D, E) correlations then. Axes in which a side does
    not vary have a correlation of zero.

    Raises: ValueError for n_axes below 1 or above D or E, and where both sides have so many axes, T or more
    together, that correlations are 1 by construction.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 3))
    >>> canonical_correlations(x, x @ x[:3]).round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    widths = (x.shape[1], y.shape[1]) if n_axes is None else (n_axes, n_axes)
    _check(x, y, *widths)
    return correlations_of_axes(
        *(unit_axes(s, n_axes=n) for s, n in zip((x, y), widths, strict=True))
    )


def cca(
    x: Float[Array, "T D"], y: Float[Array, "T E"], *, penalty: float = 1.0
) -> Float[Array, ""]:
    """Mean canonical correlation of all axes of x [T, D] and y [T, E], each side with a ridge penalty.

    An axis of size s counts s / sqrt(s^2 + penalty m), with m the mean square of a side's centred items: so
    many axes as items say something, and even x and x have less than 1. Of no penalty the plain mean.
    Over as many axes as both sides vary in, 0 where one does not vary.

    Raises: ValueError for a penalty below zero, or none where correlations are 1 by construction.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 12))
    >>> float(cca(x, 2 * x + 1, penalty=0).round(3)), round(float(cca(x, 2 * x + 1)), 1)
    (1.0, 0.7)
    """
    if penalty == 0:
        _check(x, y, x.shape[1], y.shape[1])
    return mean_correlation(shrunk_axes(x, penalty=penalty), shrunk_axes(y, penalty=penalty))


def svcca(x: Float[Array, "T D"], y: Float[Array, "T E"], *, n_axes: int = 10) -> Float[Array, ""]:
    """Mean canonical correlation of the n_axes leading principal axes of x [T, D] and y [T, E].

    Over as many as both sides vary in, 0 where one does not vary.

    Raises: as `canonical_correlations`.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 12))
    >>> float(svcca(x, 2 * x + 1).round(3))
    1.0
    """
    _check(x, y, n_axes, n_axes)
    return mean_correlation(unit_axes(x, n_axes=n_axes), unit_axes(y, n_axes=n_axes))


def pwcca(x: Float[Array, "T D"], y: Float[Array, "T E"], *, n_axes: int = 10) -> Float[Array, ""]:
    """Canonical correlations of the n_axes leading axes, weighed by what their directions carry of x [T, D].

    The weight of a direction h is the sum over the leading axes of x of |h . x_j|. Not the same with both
    sides exchanged.

    Raises: as `canonical_correlations`.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 12))
    >>> float(pwcca(x, 2 * x + 1).round(3))
    1.0
    """
    _check(x, y, n_axes, n_axes)
    return weighted_correlation(unit_axes(x, n_axes=n_axes), unit_axes(y, n_axes=n_axes))


def unit_axes(x: Float[Array, "T D"], *, n_axes: int) -> Axes:
    """The n_axes leading principal axes of x [T, D] over the items.

    Raises: ValueError for n_axes below 1, or above T - 1 or D.
    """
    most = min(len(x) - 1, x.shape[1])
    if not 1 <= n_axes <= most:
        raise ValueError(
            f"{len(x)} items of {x.shape[1]} features have no {n_axes} axes: n_axes must be 1 to {most}"
        )
    basis, sizes = _all_axes(x)
    return Axes(basis[:, :n_axes], sizes[:n_axes])


def shrunk_axes(x: Float[Array, "T D"], *, penalty: float) -> Axes:
    """All principal axes of x [T, D], each as short as `cca` counts it.

    Raises: ValueError for a penalty below zero.
    """
    if not penalty >= 0:
        raise ValueError(f"penalty is {penalty}; give 0 or a share of the mean square, as 1")
    axes = _all_axes(x)
    squares = jnp.square(axes.sizes)
    sizes = jnp.sqrt(squares + penalty * squares.sum() / len(x))
    return axes._replace(basis=axes.basis * linalg.divided(axes.sizes, sizes))


def _all_axes(x: Float[Array, "T D"]) -> Axes:
    centred = linalg.center(x, x.mean(axis=0), jnp.ones(len(x), x.dtype))
    basis, sizes, _ = jnp.linalg.svd(centred, full_matrices=False)
    constant = sizes <= max(x.shape) * jnp.finfo(x.dtype).eps * sizes[0]  # and NaN stays
    return Axes(jnp.where(constant, 0, basis), jnp.where(constant, 0, sizes))


def correlations_of_axes(first: Axes, second: Axes) -> Float[Array, " k"]:
    """`canonical_correlations` of two sides' `unit_axes`."""
    cross = linalg.matmul(first.basis.T, second.basis)
    return jnp.clip(jnp.linalg.svd(cross, compute_uv=False), 0, 1)


def mean_correlation(first: Axes, second: Axes) -> Float[Array, ""]:
    """`svcca` of two sides' `unit_axes`, `cca` of their `shrunk_axes`."""
    n_axes = jnp.minimum((first.sizes > 0).sum(), (second.sizes > 0).sum())
    correlations = correlations_of_axes(first, second)
    return correlations.sum() / jnp.maximum(n_axes, 1).astype(correlations.dtype)


def weighted_correlation(first: Axes, second: Axes) -> Float[Array, ""]:
    """`pwcca` of two sides' `unit_axes`."""
    left, correlations, _ = jnp.linalg.svd(
        linalg.matmul(first.basis.T, second.basis), full_matrices=False
    )
    # Direction basis @ left[:, c], against axis j of size s_j: |left[j, c]| s_j.
    weights = linalg.matmul(first.sizes, jnp.abs(left))
    total = (weights * jnp.clip(correlations, 0, 1)).sum()
    return linalg.ratio(total, weights.sum(), weights.sum() == 0)


def _check(x: Float[Array, "T D"], y: Float[Array, "T E"], of_x: int, of_y: int) -> None:
    if of_x + of_y > len(x) - 1:
        raise ValueError(
            f"{of_x} and {of_y} axes of {len(x)} items have canonical correlations of 1 by construction: "
            f"give n_axes of at most {(len(x) - 1) // 2}, or more items"
        )
