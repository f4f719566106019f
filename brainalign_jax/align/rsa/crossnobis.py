"""Crossnobis: squared distances of items in units of noise, zero in the mean where nothing differs.

Noise adds to every squared distance, and more where there is more of it. The product of a difference in one
part of the data with the same difference in another part adds none, as their noise is independent: squared
distances may then be below zero. Directions of large noise count less (Mahalanobis), by a covariance that is
shrunk toward equal variances, since features are more than repeats.

References: Walther et al. (2016), NeuroImage 137:188-200; Ledoit & Wolf (2004), J. Multivariate Analysis
88:365-411; rsatoolbox, rdm/calc.py and data/noise.py ("shrinkage_eye").
"""

from typing import NamedTuple

import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float
from brainalign_jax.align.rsa.pairs import pair_places


class Noise(NamedTuple):
    """Inverse root of a noise covariance: `inner` along the rows of axes [k, V], `outer` across them.

    weight: of each residual's products with itself in that covariance.
    """

    axes: Float[Array, "k V"]
    inner: Float[Array, " k"]
    outer: Float[Array, ""]
    weight: Float[Array, ""]


def shrunk_noise(
    residuals: Float[Array, "M V"], *, n_dof: int | None = None, n_features: int | None = None
) -> Noise:
    """Noise covariance of residuals [M, V], shrunk toward equal variances as Ledoit & Wolf do.

    Args:
      n_dof: degrees of freedom of the residuals; None for M.
      n_features: where residuals are in the axes that they span, how many features these were made of.

    Residuals that are all zero have a covariance of one. Raises: ValueError for fewer than two residuals,
    or n_dof below one.
    """
    n_rows, width = residuals.shape
    n_dof, n_features = n_rows if n_dof is None else n_dof, n_features or width
    if n_rows < 2 or n_dof < 1:
        raise ValueError(
            f"{n_rows} residuals with {n_dof} degrees of freedom have no covariance: give more repeats"
        )
    _, sizes, axes = jnp.linalg.svd(residuals, full_matrices=False)
    variances = jnp.square(sizes) / n_rows
    square, mean = jnp.square(variances).sum(), variances.sum() / n_features
    spread = square - n_features * mean**2
    fourth = jnp.square(jnp.square(residuals).sum(axis=1)).mean()
    error = jnp.minimum((fourth - square) / n_rows, spread)
    # Never none: what no residual tells of has a variance, too.
    shrinkage = jnp.clip(linalg.ratio(error, spread, spread <= 0), 1e-6, 1)
    factor = n_rows / n_dof
    inner = factor * (shrinkage * mean + (1 - shrinkage) * variances)
    outer = factor * shrinkage * mean
    nothing = mean <= 0
    return Noise(
        axes,
        jnp.where(nothing, 1, linalg.divided(1.0, jnp.sqrt(inner))),
        jnp.where(nothing, 1, linalg.divided(1.0, jnp.sqrt(outer))),
        jnp.where(nothing, 0, (1 - shrinkage) / n_dof),
    )


def noise_normalised(x: Float[Array, "*items V"], noise: Noise) -> Float[Array, "*items V"]:
    """x [..., V] in units of the noise, in which its covariance is one."""
    along = linalg.matmul(x, noise.axes.T) * (noise.inner - noise.outer)
    return noise.outer * x + linalg.matmul(along, noise.axes)


def normalised_without_own(
    x: Float[Array, "K V"],
    own: Float[Array, "M V"],
    noise: Noise,
    share: Float[Array, ""],
) -> Float[Array, "K V"]:
    """x [K, V] of one item in units of the noise of the others.

    Noise that an item's own residuals are part of is small where its parts differ: their product would be
    above zero in the mean where there is nothing but noise, and the more so the fewer residuals it has.

    Args:
      own: the item's residuals, which `noise` was made of; rows of zeros may be added.
      share: of the degrees of freedom that the others have, above 0 and up to 1.
    """
    covariance = jnp.square(linalg.divided(1.0, noise.inner)) - jnp.square(1 / noise.outer)
    inner = 1 / jnp.sqrt(jnp.square(1 / noise.outer) + covariance / share)
    rest = noise._replace(inner=inner)
    gone = noise_normalised(own, rest) * jnp.sqrt(noise.weight / share)
    _, sizes, axes = jnp.linalg.svd(gone, full_matrices=False)
    left = jnp.maximum(1 - jnp.square(sizes), 8 * jnp.finfo(x.dtype).eps)
    x = noise_normalised(x, rest)
    return x + linalg.matmul(linalg.matmul(x, axes.T) * (1 / jnp.sqrt(left) - 1), axes)


def crossnobis(partitions: Float[Array, "..."], noise: Noise | None = None) -> Float[Array, " P"]:
    """Cross-validated squared distances of items, condensed [N (N - 1) / 2], for each feature.

    Args:
      partitions: [N, K, V] means of N items in K parts of the data with independent noise.
      noise: of the features; None for distances as they are (cross-validated Euclidean).

    The mean over all pairs of different parts of (x_i - x_j) in the one times (x_i - x_j) in the other.

    Raises: ValueError for fewer than two parts.

    >>> import jax
    >>> noise = jax.random.normal(jax.random.key(0), (20, 4, 50))
    >>> abs(float(crossnobis(noise).mean())) < 0.05
    True
    """
    if partitions.ndim != 3 or partitions.shape[1] < 2:
        raise ValueError(
            f"partitions have shape {partitions.shape}; give [items, parts, features] of at least two parts"
        )
    n_items, n_parts, n_features = partitions.shape
    centred = partitions - partitions.mean(axis=0)
    if noise is not None:
        centred = noise_normalised(centred, noise)
    whole = linalg.gram(centred.sum(axis=1))
    products = whole - linalg.gram(centred.reshape(n_items, -1))  # of different parts alone
    sizes = jnp.diagonal(products)
    distances = sizes[:, None] + sizes[None, :] - 2 * products
    scale = n_parts * (n_parts - 1) * n_features
    return distances.reshape(-1)[pair_places(n_items)] / scale
