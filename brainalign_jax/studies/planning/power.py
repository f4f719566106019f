"""The power of the tests that the package does, in closed form: of people's signs, intervals and null draws.

Sign flips of people are as powerful as the t-test of their effects, at the level that so many flips can reach
(Lehmann & Romano 2005, Testing Statistical Hypotheses, 15.2): noncentral t. Where only flips of everybody at
once reach it (six people, two-sided), all must have the same sign, which is less likely. What people share of
the words is in the effect of a study and in no spread between its people; power is averaged over it.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy

from brainalign_jax.studies.planning.components import Components
from brainalign_jax.study.evidence.chance import LEVEL

FLIPS, INTERVAL, DRAWS = "sign flips", "interval", "null draws"
LEAST_PEOPLE = 6  # with whom an ablation flips signs over people, `ablation.table.LEAST_PEOPLE`
_NODES = 9  # of a Gauss-Hermite or quantile rule
_FARTHEST = 30.0  # noncentrality beyond which power is 1


class GroupTest(NamedTuple):
    """How a group is tested, at .05. kind: FLIPS of people, INTERVAL over people and words, or DRAWS.

    sides: of flips. n_flips: at most. n_tests: of which the largest is tested. words_too: fewer people than
    LEAST_PEOPLE are tested over words. confidence: of the interval. Of draws: critical, how many of the
    null's standard deviations the best layer must reach; null_words, null_noise: variances of one word under
    the null, shared by people and not; highest: [P] what the best layer of each draw reached, in this unit.
    """

    kind: str
    sides: int = 1
    n_flips: int = 4999
    n_tests: int = 1
    words_too: bool = False
    confidence: float = 0.95
    critical: float = math.nan
    null_words: float = 0.0
    null_noise: float = 0.0
    highest: np.ndarray | None = None


def power_of(
    components: Components, n_people: int, n_words: float, test: GroupTest
) -> float | np.ndarray:
    """Probability that a study of so many people and words shows the effect; n_words may be infinite.

    components: their effect is that with so many words. Of arrays of draws an array.
    """
    how = {FLIPS: _flip_power, INTERVAL: _interval_power, DRAWS: _draw_power}[test.kind]
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in components[:4]))
    power = how(_with_arrays(components, *arrays), n_people, n_words, test)
    return float(power) if np.ndim(power) == 0 else power


def _with_arrays(components: Components, effect, between, words, noise) -> Components:
    return components._replace(effect=effect, between=between, words=words, noise=noise)


def attained_level(n_units: int, n_flips: int, sides: int) -> float:
    """The largest p below .05 that flips of so many units can have; 0 where there is none.

    >>> attained_level(4, 4999, 1), attained_level(5, 4999, 1), attained_level(5, 4999, 2)
    (0.0, 0.03125, 0.0)
    """
    every = n_units < 60 and 2**n_units - 1 <= n_flips
    total = 2**n_units if every else n_flips + 1
    reached = math.ceil(LEVEL * total) - 1
    if every and sides == 2:  # a flip and its mirror image are as far from zero
        reached -= reached % 2
    return reached / total


def _flip_power(components: Components, n_people: int, n_words: float, test: GroupTest):
    words, noise = components.words / n_words, components.noise / n_words
    if test.words_too and n_people < LEAST_PEOPLE:
        if np.isinf(n_words):  # what words there are say all, of these people
            spread = np.sqrt(components.between / n_people)
            return _normal(components.effect, spread)
        units, shared = int(n_words), components.between / n_people
        error = np.sqrt(words + noise / n_people)
    else:
        units, shared = n_people, words
        error = np.sqrt((components.between + noise) / n_people)
    level = attained_level(units, test.n_flips, test.sides)
    if not level:
        return np.zeros_like(components.effect)
    same_sign = units < 60 and test.n_tests == 1 and round(level * 2.0**units) == test.sides
    level = 1 - (1 - level) ** (1 / test.n_tests)
    critical = scipy.stats.t.isf(level / test.sides, units - 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    power = np.zeros_like(components.effect)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        mean = components.effect + node * np.sqrt(shared)
        reach = mean / np.where(error > 0, error, 1)
        reach = np.where(error > 0, reach, np.sign(mean) * _FARTHEST)
        reach = np.clip(reach, -_FARTHEST, _FARTHEST)
        if same_sign:  # the only flips that reach it are none, and all of them
            power = power + weight * scipy.stats.norm.cdf(reach / np.sqrt(units)) ** units
            continue
        above = scipy.stats.nct.sf(critical, units - 1, reach)
        above = np.where(np.isfinite(above), above, reach > critical)
        power = power + weight * np.where(reach >= max(_FARTHEST, critical), 1.0, above)
    return power


def _interval_power(components: Components, n_people: int, n_words: float, test: GroupTest):
    """That the bootstrap's lower bound is above zero: its variance counts noise three times."""
    words, noise = components.words / n_words, components.noise / n_words / n_people
    spread = components.between / n_people + noise
    error = np.sqrt(spread + words)
    factor = scipy.stats.norm.isf((1 - test.confidence) / 2)
    shares = scipy.stats.chi2.ppf((np.arange(_NODES) + 0.5) / _NODES, n_people - 1) / n_people
    power = np.zeros_like(components.effect)
    for share in shares:
        bootstrap = np.sqrt(spread * share + words + noise * (2 - 1 / n_people))
        power = power + _normal(components.effect - factor * bootstrap, error) / _NODES
    return power


def _draw_power(components: Components, n_people: int, n_words: float, test: GroupTest):
    per_word = components.words + components.noise / n_people
    error = np.sqrt(components.between / n_people + per_word / n_words)
    null = np.sqrt((test.null_words + test.null_noise / n_people) / n_words)
    return _normal(components.effect - test.critical * null, error)


def _normal(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Probability of what is above zero, of a normal distribution."""
    known = spread > 0
    return np.where(
        known, scipy.stats.norm.cdf(mean / np.where(known, spread, 1)), np.asarray(mean > 0, float)
    )
