"""Split-half reliability, where the same words were presented more than once.

The repetitions are split into two halves, which are averaged and compared. Half of the data are noisier
than all of them: the Spearman-Brown formula says how well all repetitions would agree with as many new
ones. The square root of that is the highest correlation that a perfect model of the words could reach
with the mean response.

References: Spearman (1910), Brown (1910), Br. J. Psychol. 3; Lage-Castellanos et al. (2019), PLoS Comput.
Biol. 15:e1006397.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Bool, Float, Shaped
from brainalign_jax.align.rsa import rsa
from brainalign_jax.align.stats import scoring


def spearman_brown(correlation: Float[Array, " *V"], factor: float = 2.0) -> Float[Array, " *V"]:
    """Reliability of `factor` times as much data as the correlation was measured with.

    factor r / (1 + (factor - 1) r). Where that is below -1, which no reliability is, -1.
    """
    denominator = 1 + (factor - 1) * correlation
    corrected = jnp.maximum(linalg.divided(factor * correlation, denominator), -1)
    reliability = jnp.where(denominator > 0, corrected, -1)
    return jnp.where(jnp.isfinite(correlation), reliability, jnp.nan)


def draw_splits(
    n_repeats: int, n_splits: int = 100, *, random_state: int = 0
) -> Bool[np.ndarray, "H K"]:
    """Halves [H, K] bool of K repetitions: all there are where these are no more than n_splits.

    Of an odd number one half has one less, and the corrected reliability is a little too low.
    Raises: ValueError for fewer than two repetitions.
    """
    if n_repeats < 2:
        raise ValueError(f"{n_repeats} repetition has no halves: reliability needs at least two")
    half = n_repeats // 2
    even = n_repeats % 2 == 0
    if math.comb(n_repeats, half) // (1 + even) <= n_splits:
        chosen: list[Sequence[int]] = list(itertools.combinations(range(n_repeats), half))
        chosen = chosen[: len(chosen) // 2] if even else chosen  # the others are complements
    else:
        rng = np.random.default_rng(random_state)
        chosen = [rng.permutation(n_repeats)[:half].tolist() for _ in range(n_splits)]
    splits = np.zeros((len(chosen), n_repeats), bool)
    for row, members in zip(splits, chosen, strict=True):
        row[list(members)] = True
    return splits


def split_half(
    repeats: Float[Array, "K N V"],
    splits: Bool[Array, "H K"],
    weights: Shaped[Array, " N"] | None = None,
):
    """Reliability [V] of each voxel's profile over the words, corrected for length.

    Args:
      repeats: [K, N, V] responses of K presentations of the same N words.
      splits: [H, K] from `draw_splits`; correlations are averaged over splits, then corrected.
      weights: [N] mask of words that count.

    A voxel that is constant in a half counts as 0 there.
    """

    def split_correlations(split):
        return scoring.pearson(*_halves(repeats, split), weights)

    return spearman_brown(jax.lax.map(split_correlations, splits).mean(axis=0))


def split_half_rdm(
    repeats: Float[Array, "K N V"],
    splits: Bool[Array, "H K"],
    *,
    metric: str = "correlation",
    method: str = "spearman",
) -> Float[Array, ""]:
    """Reliability of the RDM of repeats [K, N, V], scalar, corrected for length.

    splits: as in `split_half`. metric, method: as in `rsa.rdm` and `rsa.compare`. That of Kendall's
    tau-a is no correlation and is corrected all the same.
    """

    def split_correlation(split):
        first, second = (rsa.rdm(half, metric=metric) for half in _halves(repeats, split))
        return rsa.compare(first, second, method=method)

    return spearman_brown(jax.lax.map(split_correlation, splits).mean())


def _halves(
    repeats: Float[Array, "K N V"], split: Bool[Array, " K"]
) -> tuple[Float[Array, "N V"], Float[Array, "N V"]]:
    """Mean responses [N, V] of the repetitions in the split [K] and of the others."""
    flat = repeats.reshape(repeats.shape[0], -1)
    members = jnp.stack([split, ~split]).astype(repeats.dtype)
    members = members / members.sum(axis=1, keepdims=True)
    first, second = linalg.matmul(members, flat).reshape(2, *repeats.shape[1:])
    return first, second
