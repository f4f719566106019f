"""Rank correlations of few models, given their size: permutations, resamples, families, how many it takes.

All arrays end in the axis of the M models. A partial Spearman correlation is that of the residuals of ranks
after a linear fit to the ranks of what is given.

References: Freedman & Lane 1983, J. Bus. Econ. Stat. 1:292-298 (permuted residuals); Fieller, Hartley &
Pearson 1957, Biometrika 44:470-481 (the variance 1.06 / (n - 3)); Shrout & Fleiss 1979, Psychol. Bull.
86:420-428 (intraclass correlation); Swamy & Arora 1972, Econometrica 40:261-275 (random intercepts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from brainalign_jax.study.evidence.chance import LEVEL

_TINY = 1e-9  # share of the variance of ranks below which residuals are rounding
_VARIANCE = 1.06  # of Fisher's z of a rank correlation, times n - 3
POWER = 0.8


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, ties at their mean, less the mean rank."""
    ranked = stats.rankdata(np.asarray(values, float), axis=-1)
    return ranked - ranked.mean(axis=-1, keepdims=True)


def basis_of(given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Orthonormal vectors [..., M] that span the centred columns; zeros for one that others span."""
    basis: list[np.ndarray] = []
    for column in given:
        left = _less(column, basis)
        size, before = _norm(left), _norm(column)
        usable = size > math.sqrt(_TINY) * np.maximum(before, _TINY)
        basis.append(np.where(usable, left / np.where(usable, size, 1), 0.0))
    return basis


def residuals(ranked: np.ndarray, basis: Sequence[np.ndarray]) -> np.ndarray:
    """Centred ranks less what the basis explains; zero where that is all but rounding."""
    left = _less(ranked, basis)
    return np.where(_norm(left) > math.sqrt(_TINY) * _norm(ranked), left, 0.0)


def correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Correlation of centred values along the last axis, NaN where one side does not vary."""
    product = (left * right).sum(axis=-1)
    size = _norm(left)[..., 0] * _norm(right)[..., 0]
    return np.clip(np.where(size > _TINY, product / np.where(size > _TINY, size, 1), np.nan), -1, 1)


def partial_spearman(
    left: np.ndarray, right: np.ndarray, given: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Spearman correlation of values [..., M], given others; the plain one where nothing is given.

    >>> round(float(partial_spearman(np.array([1.0, 2, 3, 9]), np.array([2.0, 3, 5, 4]))), 3)
    0.8
    """
    basis = basis_of([ranks(column) for column in given])
    return correlation(residuals(ranks(left), basis), residuals(ranks(right), basis))


def orders(families: np.ndarray | None, count: int, n_models: int, seed: int) -> np.ndarray:
    """Random orders [count, M] of models; of each family among themselves where families [M] are given."""
    rng = np.random.default_rng((seed, 1))
    codes = np.zeros(n_models, int) if families is None else families
    places = np.argsort(codes, kind="stable")
    drawn = np.argsort(codes + rng.random((count, n_models)), axis=1)
    by_model = np.empty((count, n_models), int)
    by_model[:, places] = drawn
    return by_model


def distinct_orders(families: np.ndarray) -> float:
    """How many orders of models within their families [M] there are."""
    return math.exp(sum(math.lgamma(count + 1) for count in np.bincount(families)))


def permutation_test(
    scores: np.ndarray, tasks: np.ndarray, given: Sequence[np.ndarray], drawn: np.ndarray
) -> np.ndarray:
    """Two-sided p [T] of the partial Spearman of scores [M] and tasks [T, M], NaN where there is none.

    The residuals of the scores' ranks are put into the orders drawn [B, M] and the fit is taken off again.
    Orders within families keep what lies between families: a correlation counts by its distance from the mean
    of all draws and the observed.
    """
    basis = basis_of([ranks(column) for column in given])
    own, other = residuals(ranks(scores), basis), residuals(ranks(tasks), basis)
    observed = correlation(own, other)
    moved = _less(own[drawn], basis)
    moved = moved / np.maximum(_norm(moved), _TINY)
    null = moved @ (other / np.maximum(_norm(other), _TINY)).T
    centre = (observed + null.sum(axis=0)) / (1 + len(null))
    reached = np.abs(null - centre) >= np.abs(observed - centre) - 1e-9
    p = (1 + reached.sum(axis=0)) / (1 + len(null))
    return np.where(np.isfinite(observed) & (len(null) > 0), p, np.nan)


class Resamples(NamedTuple):
    """models: [B, M] which are drawn; people: [B, S] the share of each."""

    models: np.ndarray
    people: np.ndarray


def resamples(n_models: int, n_people: int, count: int, seed: int) -> Resamples:
    """Draws of models and of people, with replacement; one person is always drawn."""
    rng = np.random.default_rng((seed, 2))
    models = rng.integers(0, n_models, (count, n_models))
    people = rng.multinomial(n_people, np.full(n_people, 1 / n_people), count) / n_people
    return Resamples(models, people)


def drawn_correlations(
    scores: np.ndarray, tasks: np.ndarray, given: Sequence[np.ndarray], drawn: Resamples
) -> np.ndarray:
    """[B, T] partial Spearman of scores [S, M] and tasks [T, M] in resamples, NaN of draws without one.

    A draw of fewer than 4 + len(given) different models has none.
    """
    own = np.take_along_axis(drawn.people @ scores, drawn.models, axis=1)
    basis = basis_of([ranks(column[drawn.models]) for column in given])
    own = residuals(ranks(own), basis)
    ordered = np.sort(drawn.models, axis=1)
    enough = 1 + (np.diff(ordered, axis=1) > 0).sum(axis=1) >= 4 + len(given)
    columns = [correlation(own, residuals(ranks(task[drawn.models]), basis)) for task in tasks]
    return np.where(enough[:, None], np.stack(columns, axis=1), np.nan)


def interval(drawn: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bounds of draws [B, ...]; NaN where fewer than half of the draws have a value."""
    known = np.isfinite(drawn).mean(axis=0) >= 0.5
    filled = np.where(known, drawn, 0.0)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    lower, upper = np.nanquantile(filled, tails, axis=0)
    return np.where(known, lower, np.nan), np.where(known, upper, np.nan)


class Families(NamedTuple):
    """within: partial Spearman of ranks that are centred within families; random_intercept: with a random
    intercept of each family; effect: share of the scores' variance, given size, that lies between families.
    NaN where families do not tell it."""

    within: float
    random_intercept: float
    effect: float


def family_parts(
    scores: np.ndarray, tasks: np.ndarray, given: Sequence[np.ndarray], families: np.ndarray
) -> Families:
    """What families [M] do to the relation of scores [M] and tasks [M].

    effect: one-way intraclass correlation, of the residuals of the scores' ranks given size; a negative
    estimate is 0. random_intercept: generalised least squares, as ordinary least squares after a share of
    each family's mean is taken off every column, by the intraclass correlation of the full fit's residuals.
    """
    own, other = ranks(scores), ranks(tasks)
    columns = [ranks(column) for column in given]
    n_models, n_families = len(own), int(families.max()) + 1
    inside = [_less_mean(column, families) for column in (own, other, *columns)]
    basis = basis_of(inside[2:])
    freedom = n_models - n_families - sum(bool(vector.any()) for vector in basis)
    within = np.nan
    if freedom >= 2:
        within = float(correlation(residuals(inside[0], basis), residuals(inside[1], basis)))
    sized = basis_of(columns)
    effect = _intraclass(_less(own, sized), families)
    full = basis_of([*columns, other])
    share = _intraclass(_less(own, full), families)
    if not np.isfinite(share):
        return Families(within, np.nan, effect)
    counts = np.bincount(families)[families]
    taken = 1 - np.sqrt((1 - share) / np.maximum(1 - share + counts * share, _TINY))
    made = [column - taken * _family_means(column, families) for column in (own, other, *columns)]
    # The constant is no longer one: it is fitted as a column.
    design = np.stack([1 - taken, *made[2:]], axis=1)
    left = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in made[:2]]
    return Families(within, float(correlation(*left)), effect)


def without_each_family(
    scores: np.ndarray, tasks: np.ndarray, given: Sequence[np.ndarray], families: np.ndarray
) -> tuple[float, float]:
    """Least and greatest partial Spearman without one family; NaN of one family, or too few models left."""
    values = []
    for family in np.unique(families):
        rest = families != family
        if rest.sum() >= 4 + len(given):
            columns = [column[rest] for column in given]
            values.append(float(partial_spearman(scores[rest], tasks[rest], columns)))
    values = [value for value in values if np.isfinite(value)]
    if len(np.unique(families)) < 2 or not values:
        return np.nan, np.nan
    return min(values), max(values)


def reliability(scores: np.ndarray, given: Sequence[np.ndarray] = ()) -> float:
    """Of the mean over people of scores [S, M]: the intraclass correlation ICC(C, k), NaN of one person.

    It is the mean over all halves of the people of their Spearman-Brown corrected correlation (Cronbach's
    alpha). given: what is taken off each person's scores before, by its ranks.
    """
    n_people, n_models = scores.shape
    basis = basis_of([ranks(column) for column in given])
    left = _less(scores - scores.mean(axis=1, keepdims=True), basis)
    freedom = n_models - 1 - sum(bool(vector.any()) for vector in basis)
    if n_people < 2 or freedom < 1:
        return np.nan
    mean = left.mean(axis=0)
    between = n_people * np.square(mean).sum() / freedom
    error = np.square(left - mean).sum() / (freedom * (n_people - 1))
    return float(1 - error / between) if between > 0 else np.nan


def partial_reliability(known: float, scores: np.ndarray, given: Sequence[np.ndarray]) -> float:
    """The reliability of what size leaves of scores [M] whose own reliability is known."""
    own = ranks(scores)
    left = residuals(own, basis_of([ranks(column) for column in given]))
    kept = float(np.square(left).sum() / max(np.square(own).sum(), _TINY))
    return (known - (1 - kept)) / kept if kept > _TINY else np.nan


def corrected(value: float, known: float) -> float:
    """A correlation as it would be if the scores were without error, within -1 and 1; NaN if unknown."""
    usable = np.isfinite(known) and known > 0
    return float(np.clip(value / math.sqrt(min(known, 1.0)), -1, 1)) if usable else np.nan


def needed_models(value: float, n_given: int, *, power: float = POWER) -> float:
    """How many models find a partial Spearman correlation of this size, two-sided at .05; NaN of none.

    By Fisher's z, with the variance 1.06 / (n - 3 - given) of rank correlations.

    >>> needed_models(0.5, 0), needed_models(0.5, 1)
    (31.0, 32.0)
    """
    if not np.isfinite(value) or abs(value) < 1e-6:
        return np.nan
    z = math.atanh(min(abs(value), 0.999))
    both = stats.norm.isf(LEVEL / 2) + stats.norm.ppf(power)
    return float(max(math.ceil(3 + n_given + _VARIANCE * (both / z) ** 2), 4 + n_given))


def detectable(n_models: int, n_given: int, *, power: float = POWER) -> float:
    """The least partial Spearman correlation that so many models find; NaN where none is."""
    freedom = n_models - 3 - n_given
    if freedom < 1:
        return np.nan
    both = stats.norm.isf(LEVEL / 2) + stats.norm.ppf(power)
    return math.tanh(both * math.sqrt(_VARIANCE / freedom))


def _norm(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(values).sum(axis=-1, keepdims=True))


def _less(values: np.ndarray, basis: Sequence[np.ndarray]) -> np.ndarray:
    left = values - values.mean(axis=-1, keepdims=True)
    for vector in basis:
        left = left - (left * vector).sum(axis=-1, keepdims=True) * vector
    return left


def _family_means(column: np.ndarray, families: np.ndarray) -> np.ndarray:
    return (np.bincount(families, column) / np.bincount(families))[families]


def _less_mean(column: np.ndarray, families: np.ndarray) -> np.ndarray:
    left = column - _family_means(column, families)
    return np.where(np.abs(left) > _TINY * max(np.abs(column).max(), 1), left, 0.0)


def _intraclass(values: np.ndarray, families: np.ndarray) -> float:
    """One-way intraclass correlation of values [M], at least 0; NaN where families do not tell it."""
    counts = np.bincount(families)
    n_models, n_families = len(values), len(counts)
    if n_families < 2 or n_models == n_families:
        return np.nan
    means = _family_means(values, families)
    between = np.square(means - values.mean()).sum() / (n_families - 1)
    within = np.square(values - means).sum() / (n_models - n_families)
    size = (n_models - np.square(counts).sum() / n_models) / (n_families - 1)
    total = between + (size - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > _TINY else np.nan
