"""Bootstrap intervals over subjects, over items, and over both at once.

Resampling n units with replacement gives each a multinomial count, and a mean over resampled units is a
weighted mean: all resamples are two matrix products, and nothing is gathered.

What is resampled decides what the interval speaks of: over subjects, of other people reading the same
words; over items, of other words read by the same people; over both (crossed), of other people and other
words. The crossed bootstrap is conservative: what is noise in a single cell counts three times in its
variance (Owen 2007, Ann. Appl. Stat. 1:386-411). Intervals from few units are narrow: the variance of a
bootstrap mean is (n - 1) / n of what it should be.

References: Efron & Tibshirani (1993), An Introduction to the Bootstrap; DiCiccio & Efron (1996),
Stat. Sci. 11:189-228 (BCa).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Real, Shaped

OVER = ("subjects", "items", "both")


class Interval(NamedTuple):
    """Estimate, lower and upper bound, and the bootstrap's standard error; equal shapes."""

    estimate: Float[Array, "..."]
    lower: Float[Array, "..."]
    upper: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def draw_counts(
    n_units: int, n_bootstraps: int, *, random_state: int | np.random.SeedSequence = 0
) -> Float[np.ndarray, "B n"]:
    """How often each of n units is drawn in each resample: [B, n] float32, rows that sum to n.

    Raises: ValueError for fewer than two units, whose resamples would all be alike.
    """
    if n_units < 2:
        raise ValueError(f"{n_units} unit cannot be resampled: a bootstrap needs at least two")
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_bootstraps)
    return counts.astype(np.float32)


def draw_stratified(
    strata: Sequence[object], n_bootstraps: int, *, random_state: int = 0
) -> Float[np.ndarray, "B S"]:
    """How often each of S units is drawn in each resample within its own stratum: [B, S] float32.

    strata: the label of each unit's stratum. Each stratum keeps its size; a unit that is alone in its own
    is drawn once, always.
    """
    labels = np.unique(np.asarray(strata), return_inverse=True)[1]
    counts = np.ones((n_bootstraps, len(labels)), np.float32)
    seeds = np.random.SeedSequence(random_state).spawn(int(labels.max(initial=-1)) + 1)
    for label, seed in enumerate(seeds):
        units = np.flatnonzero(labels == label)
        if len(units) > 1:
            counts[:, units] = draw_counts(len(units), n_bootstraps, random_state=seed)
    return counts


def draw_hierarchical(
    n_subjects: int, n_items: int, n_bootstraps: int, *, over: str = "both", random_state: int = 0
) -> tuple[Float[np.ndarray, "B S"], Float[np.ndarray, "B I"]]:
    """Counts ([B, S], [B, I]) of a bootstrap over "subjects", "items" or "both" independently.

    What is not resampled has counts of one. Raises: ValueError for an unknown name, or fewer than two
    of what is to be resampled.
    """
    if over not in OVER:
        raise ValueError(f"over={over!r} is unknown: choose one of {', '.join(OVER)}")
    seeds = np.random.SeedSequence(random_state).spawn(2)
    drawn = []
    for name, size, seed in zip(OVER, (n_subjects, n_items), seeds, strict=False):
        if over in (name, "both"):
            drawn.append(draw_counts(size, n_bootstraps, random_state=seed))
        else:
            drawn.append(np.ones((n_bootstraps, size), np.float32))
    of_subjects, of_items = drawn
    return of_subjects, of_items


def subject_means(
    scores: Float[Array, "S I"], mask: Shaped[Array, "S I"], item_counts: Real[Array, "B I"]
) -> Float[Array, "B S"]:
    """Mean score [B, S] of each subject over the items as often as they were drawn.

    Args:
      scores: [S, I] of every subject and item, hits or ranks. mask: [S, I], 0 where there is none.
      item_counts: [B, I].

    NaN where none of a subject's items was drawn, and for a subject with a score that is no finite number.
    """
    counts, mask = item_counts.astype(scores.dtype), mask.astype(scores.dtype)
    total = linalg.matmul(counts, jnp.where(mask > 0, scores * mask, 0).T)
    size = linalg.matmul(counts, mask.T)
    return jnp.where(size > 0, linalg.divided(total, size), jnp.nan)


def group_means(
    means: Float[Array, "*#B S"], subject_counts: Real[Array, "*#B S"]
) -> Float[Array, " B"]:
    """Mean [B] over subjects of their means [B, S] or [S], as often as they were drawn [B, S].

    Subjects without a mean (NaN) do not count; NaN where no subject is left.
    """
    known = ~jnp.isnan(means)
    weights = jnp.where(known, subject_counts.astype(means.dtype), 0)
    total = weights.sum(axis=-1)
    mean = linalg.divided((weights * jnp.where(known, means, 0)).sum(axis=-1), total)
    return jnp.where(total > 0, mean, jnp.nan)


def hierarchical(
    scores: Float[Array, "..."],
    mask: Shaped[Array, "..."],
    subject_counts: Real[Array, "..."],
    item_counts: Real[Array, "..."],
    *,
    confidence: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """Interval of the mean over subjects of their mean scores over items.

    Args:
      scores: [S, I], hits or ranks of every subject and item. mask: [S, I], 0 where there is none.
      subject_counts: [B, S] and item_counts: [B, I] from `draw_hierarchical`; a column of ones all
        through is not resampled.
      confidence: of the two-sided interval. method: "percentile", or "bca", corrected for bias and
        skewness with the acceleration of all units that are resampled.

    NaN where a score that counts is no finite number.

    Raises: ValueError for shapes that disagree or an unknown method.
    """
    _check_method(method)
    n_subjects, n_items = scores.shape
    n_boot = subject_counts.shape[0]
    if (
        mask.shape != scores.shape
        or subject_counts.shape != (n_boot, n_subjects)
        or item_counts.shape != (n_boot, n_items)
    ):
        raise ValueError(
            f"scores {scores.shape}, mask {mask.shape}, subject_counts {subject_counts.shape} and "
            f"item_counts {item_counts.shape} disagree: give [S, I], [S, I], [B, S] and [B, I]"
        )

    def statistic(subjects, items):
        return group_means(subject_means(scores, mask, items), subjects)

    ones = jnp.ones((1, n_subjects), scores.dtype), jnp.ones((1, n_items), scores.dtype)
    # A subject whose mean is NaN would be passed over.
    known = (jnp.isfinite(scores) | ~(mask.astype(scores.dtype) > 0)).all()
    estimate = jnp.where(known, statistic(*ones)[0], jnp.nan)
    drawn = statistic(subject_counts, item_counts)
    if method == "percentile":
        return percentile(drawn, estimate, confidence=confidence)
    without_subject = statistic(1 - jnp.eye(n_subjects, dtype=scores.dtype), ones[1])
    without_item = statistic(ones[0], 1 - jnp.eye(n_items, dtype=scores.dtype))
    # Only what is resampled makes the distribution skewed.
    left_out = []
    for jackknife, counts in ((without_subject, subject_counts), (without_item, item_counts)):
        resampled = (counts != 1).any()
        left_out.append(jnp.where(resampled, jackknife, 0))
    return bca(drawn, estimate, left_out, confidence=confidence)


def percentile(
    drawn: Float[Array, "..."],
    estimate: Float[Array, "..."],
    *,
    confidence: float = 0.95,
    axis: int = 0,
) -> Interval:
    """Percentile interval from the bootstrap distribution along `axis` of drawn; NaN draws do not count.

    NaN where the estimate is no finite number.
    """
    tail = (1 - confidence) / 2
    lower, upper = jnp.nanquantile(drawn, jnp.asarray([tail, 1 - tail], drawn.dtype), axis=axis)
    return _interval(estimate, lower, upper, jnp.nanstd(drawn, axis=axis, ddof=1))


def _interval(estimate, *bounds) -> Interval:
    known = jnp.isfinite(estimate)
    return Interval(*(jnp.where(known, x, jnp.nan) for x in (estimate, *bounds)))


def bca(
    drawn: Float[Array, " B"],
    estimate: Float[Array, ""],
    left_out: list[Float[Array, " _"]],
    *,
    confidence: float = 0.95,
) -> Interval:
    """BCa interval from one bootstrap distribution [B], as scipy.stats.bootstrap.

    left_out: for each sample that is resampled, the statistic [n] without each of its n units. Where
    they are all the same, or all draws are, there is nothing to correct. NaN as in `percentile`.
    """
    valid = ~jnp.isnan(drawn)
    size = jnp.maximum(valid.sum(), 1).astype(drawn.dtype)
    below = (valid & (drawn < estimate)).sum().astype(drawn.dtype)
    level = (valid & (drawn == estimate)).sum().astype(drawn.dtype)
    share = jnp.clip((below + level / 2) / size, 0.5 / size, 1 - 0.5 / size)
    bias = ndtri(share)
    cubes = squares = jnp.zeros((), drawn.dtype)
    for without_unit in left_out:
        n_units = without_unit.shape[0]
        influence = (n_units - 1) * (without_unit.mean() - without_unit)
        cubes += (influence**3).sum() / n_units**3
        squares += (influence**2).sum() / n_units**2
    tiny = (8 * jnp.finfo(drawn.dtype).eps * jnp.abs(estimate)) ** 2
    constant = squares <= tiny
    acceleration = jnp.where(constant, 0, cubes / (6 * jnp.where(constant, 1, squares) ** 1.5))
    tail = ndtri(jnp.asarray([(1 - confidence) / 2, (1 + confidence) / 2], drawn.dtype))
    shifted = bias + tail
    level = ndtr(bias + shifted / (1 - acceleration * shifted))
    lower, upper = jnp.nanquantile(drawn, level)
    return _interval(estimate, lower, upper, jnp.nanstd(drawn, ddof=1))


def _check_method(method: str) -> None:
    if method not in ("percentile", "bca"):
        raise ValueError(f"method={method!r} is unknown: choose percentile or bca")
