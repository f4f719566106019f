"""Does a score grow with model size? Slopes on log10 of the number of parameters, subjects as random effects.

Every subject has a slope of their own, the mean over subjects is the effect, and the spread between them
its uncertainty. The models are taken as given: an interval speaks of other people, not of other models.
A handful of models of one family share their training data, so that a slope across families with an
interval that is narrow over subjects may still be the difference between two families.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Real, Shaped
from brainalign_jax.align.stats import bootstrap, inference


class SlopeTest(NamedTuple):
    """Score per decade of parameters: mean over subjects with its interval, and two-sided p-values.

    p_sign_flip: share of sign flips of the subjects' slopes with a mean at least as far from zero; valid
    where slopes are symmetric about zero under the null. p_bootstrap: twice the share of resamples
    beyond zero, never above one. subjects: slope [S] of each; NaN where it is not determined.
    """

    interval: bootstrap.Interval
    p_sign_flip: Float[Array, ""]
    p_bootstrap: Float[Array, ""]
    subjects: Float[Array, " S"]


def subject_slopes(
    scores: Float[Array, "S M"],
    log10_parameters: Float[Array, " M"],
    families: Int[Array, " M"],
    mask: Shaped[Array, "S M"] | None = None,
    *,
    n_families: int,
) -> Float[Array, " S"]:
    """Least-squares slope [S] of each subject's scores on model size, with an intercept for each family.

    Args:
      scores: [S, M] of every subject and model; log10_parameters: [M].
      families: [M] family of each model, 0 to n_families - 1. All zero with n_families=1: one intercept,
        the slope across families; otherwise the slope within them.
      mask: [S, M], 0 where a score is missing.

    NaN where the models with a score are all of one size (within every family).
    """
    dtype = scores.dtype
    weights = jnp.ones_like(scores) if mask is None else (mask > 0).astype(dtype)
    scores = jnp.where(weights > 0, scores, 0)
    size = log10_parameters.astype(dtype)
    member = (families[:, None] == jnp.arange(n_families)).astype(dtype)
    count = linalg.matmul(weights, member)
    mean = linalg.divided(linalg.matmul(weights * size, member), count)
    centred = weights * (size - linalg.matmul(mean, member.T))
    square = (centred**2).sum(axis=1)
    tiny = (8 * jnp.finfo(dtype).eps * jnp.abs(size).max()) ** 2 * size.shape[0]
    slope = (centred * scores).sum(axis=1) / jnp.where(square > tiny, square, 1)
    return jnp.where(square > tiny, slope, jnp.nan)


def draw_signs(
    n_subjects: int, n_permutations: int, *, random_state: int = 0
) -> Float[np.ndarray, "P S"]:
    """Sign flips [P, S] of +-1 but for the identity: all there are where these are no more than asked for."""
    if 2**n_subjects - 1 <= n_permutations:
        codes = np.arange(1, 2**n_subjects, dtype=np.int64)[:, None]
        return (1 - 2 * ((codes >> np.arange(n_subjects)) & 1)).astype(np.float32)
    rng = np.random.default_rng(random_state)
    return rng.choice(np.array([-1, 1], np.float32), size=(n_permutations, n_subjects))


def slope_test(
    slopes: Float[Array, " S"],
    counts: Real[Array, "B S"],
    signs: Real[Array, "P S"],
    *,
    confidence: float = 0.95,
    method: str = "percentile",
) -> SlopeTest:
    """The mean of the subjects' slopes [S], its bootstrap interval and p-values.

    Args:
      counts: [B, S] from `bootstrap.draw_counts`. signs: [P, S] from `draw_signs`.
      confidence, method: as in `bootstrap.hierarchical`.

    Subjects without a slope (NaN) do not count.
    """
    known = (~jnp.isnan(slopes)).astype(slopes.dtype)
    filled = jnp.where(known > 0, slopes, 0)
    interval = bootstrap.hierarchical(
        slopes[:, None],
        known[:, None],
        counts,
        jnp.ones((counts.shape[0], 1), slopes.dtype),
        confidence=confidence,
        method=method,
    )
    total = filled.sum()
    flipped = jnp.abs(linalg.matmul(signs.astype(slopes.dtype), filled))
    # Flips that only differ by rounding from the observed sum are as far from zero as it is.
    observed = jnp.abs(total) * (1 - 16 * jnp.finfo(slopes.dtype).eps)
    p_sign_flip = inference.p_value(observed, flipped)
    means = bootstrap.group_means(jnp.where(known > 0, slopes, jnp.nan), counts)
    valid = ~jnp.isnan(means)
    beyond = [1 + (valid & side).sum() for side in (means <= 0, means >= 0)]
    share = jnp.minimum(*beyond).astype(slopes.dtype) / (1 + valid.sum()).astype(slopes.dtype)
    p_bootstrap = jnp.where(jnp.isfinite(total), jnp.minimum(2 * share, 1), jnp.nan)
    return SlopeTest(interval, p_sign_flip, p_bootstrap, slopes)
