"""RDMs compared in units of their noise: the whitened cosine and correlation.

The distances of a noisy RDM are not independent: two that share an item share its noise. With S the
covariance [N, N] of the items' noise and C the contrasts [P, N] of the pairs, that of squared distances is
V = (C S C')^2, entry by entry, where items do not differ. The whitened cosine of RDMs a and b is
a' V^-1 b / sqrt(a' V^-1 a b' V^-1 b). V is P x P and never formed: distances are a linear map of the items'
second moment G, less its means, and V^-1 is S^-1 on both sides of G within the contrasts. Of equal and
independent noise it is the plain linear CKA of the two second moments.

References: Diedrichsen et al. (2020), arXiv:2007.02789; rsatoolbox, rdm/compare.py (cosine_cov, corr_cov).
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float
from brainalign_jax.align.rsa.pairs import square_form

COMPARISONS = ("cosine_cov", "corr_cov")


def compare(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    *,
    method: str = "cosine_cov",
    noise: Float[Array, "..."] | None = None,
) -> Float[Array, ""]:
    """Whitened similarity of two condensed RDMs [P] of squared distances, -1 to 1.

    Args:
      method: "cosine_cov", or "corr_cov" of distances less their mean.
      noise: [N] variances or [N, N] covariance of the items' noise; None for equal and independent.

    Returns: a scalar, 0 where one RDM is zero, or for corr_cov constant.

    Raises: ValueError for an unknown method, RDMs over other pairs, or noise of other items.

    >>> import jax
    >>> rdm = jax.random.uniform(jax.random.key(0), (45,))
    >>> float(compare(rdm, 3 * rdm).round(3)), float(compare(rdm, 1 - rdm, method="corr_cov").round(3))
    (1.0, -1.0)
    """
    if a.shape != b.shape:
        raise ValueError(f"the RDMs cover different pairs: {a.shape} and {b.shape}")
    first, second = (unit_matrix(rdm, method=method, noise=noise) for rdm in (a, b))
    return jnp.vdot(first, second, precision="highest")


def unit_matrix(
    rdm: Float[Array, " P"], *, method: str = "cosine_cov", noise: Float[Array, "..."] | None = None
) -> Float[Array, "M M"]:
    """Matrix of a condensed RDM whose product with another's, summed, is their whitened similarity.

    [N, N], or [N - 1, N - 1] with noise; of length one, or zero where there is nothing to compare.

    Raises: as `compare`.
    """
    if method not in COMPARISONS:
        raise ValueError(f"unknown comparison {method!r}: choose one of {', '.join(COMPARISONS)}")
    if method == "corr_cov":
        mean = rdm.mean()
        centred = rdm - mean
        constant = jnp.abs(centred).max() <= 8 * jnp.finfo(rdm.dtype).eps * jnp.abs(mean)
        rdm = jnp.where(constant, 0, centred)
    moment = second_moment(square_form(rdm))
    if noise is not None:
        moment = _whitened(moment, noise)
    return linalg.divided(moment, jnp.sqrt(jnp.square(moment).sum()))


def second_moment(squares: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Inner products [N, N] of the items less their mean, from their squared distances [N, N]."""
    rows = squares.mean(axis=1)
    return -(squares - rows[:, None] - rows[None, :] + rows.mean()) / 2


def _whitened(moment: Float[Array, "N N"], noise: Float[Array, "..."]) -> Float[Array, "M M"]:
    """L^-1 M L^-T [N - 1, N - 1] of the moment M and noise L L' within the contrasts of the items."""
    n_items = len(moment)
    check_items(noise, n_items)
    noise = (jnp.diag(noise) if noise.ndim == 1 else noise).astype(moment.dtype)
    # A reflection that takes the mean of the items to the first axis: the others are contrasts.
    mean = linalg.reflector(jnp.full(n_items, 1 / jnp.sqrt(n_items), moment.dtype))

    def contrasts(matrix: Float[Array, "N N"]) -> Float[Array, "M M"]:
        return linalg.reflected(linalg.reflected(matrix, mean).T, mean)[1:, 1:]

    root = jnp.linalg.cholesky(contrasts(noise))
    half = jax.scipy.linalg.solve_triangular(root, contrasts(moment), lower=True)
    return jax.scipy.linalg.solve_triangular(root, half.T, lower=True)


def check_items(noise: Float[Array, "..."], n_items: int) -> None:
    """Raises: ValueError for noise that is not of so many items."""
    if noise.shape not in ((n_items,), (n_items, n_items)):
        raise ValueError(
            f"the RDM is of {n_items} items and the noise {noise.shape}: give [items] variances or "
            "[items, items] covariances"
        )
