"""What a curve of specifications says as one: a joint test, and how much of its spread each choice makes.

All specifications see the same draws, so that what is made of the whole curve has a distribution of its own
under the null. References: Simonsohn, Simmons & Nelson (2020), Nature Human Behaviour 4:1208-1214; of Shapley
values of variance Owen (2014), SIAM/ASA J. Uncertainty Quantification 2:245-251.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.align.stats import inference
from brainalign_jax.study.evidence.chance import LEVEL

_TIE = 1e-9  # rounding of a mean over people, far below one hit


class JointTest(NamedTuple):
    """Statistics of a curve and their p: the mean and the median of z, and the share of specifications with
    p < .05. z: the excess over the mean in standard deviations, both over all draws and the data, so that no
    column has a part of its own in them."""

    mean_z: float
    median_z: float
    share: float
    p_mean: float
    p_median: float
    p_share: float


class Part(NamedTuple):
    """Of the spread of a curve: what a choice makes by its Shapley value, by itself alone, and with all
    interactions that it has a part in. Shares; the first add up to one."""

    shapley: float
    alone: float
    total: float


def p_values(values: np.ndarray) -> np.ndarray:
    """[S] of scores [S, 1 + P], the data's first: ties count against the data."""
    values = _level(values)
    return np.asarray(inference.p_value(values[:, 0], values[:, 1:].T), np.float64)


def joint_test(values: np.ndarray) -> JointTest:
    """The joint test of scores [S, 1 + P], the data's first."""
    values = _level(values)
    spread = values.std(axis=1, keepdims=True)
    centred = values - values.mean(axis=1, keepdims=True)
    z = np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0)
    # Each column's p, had it been the data: those at least as high, itself among them.
    order = np.sort(values, axis=1)
    below = np.stack([np.searchsorted(row, own) for row, own in zip(order, values, strict=True)])
    significant = (values.shape[1] - below) / values.shape[1] < LEVEL
    columns = z.mean(axis=0), np.median(z, axis=0), significant.mean(axis=0)
    p = [float(p_values(column[None])[0]) for column in columns]
    return JointTest(*(float(column[0]) for column in columns), *p)


def _level(values: np.ndarray) -> np.ndarray:
    """Scores without the digits that rounding makes, so that equal ones are equal."""
    return np.round(values / _TIE) * _TIE


def parts_of(values: np.ndarray, sizes: Sequence[int]) -> list[Part]:
    """The part of each choice in the variance of values [S], over all combinations of levels.

    sizes: levels of each choice, of which the last varies fastest. Exact: the variance of the mean given
    each set of choices is computed. All zero where nothing varies.

    Raises: ValueError where the values are not of all combinations, or of more than 14 choices.
    """
    if len(values) != np.prod(sizes):
        raise ValueError(f"{len(values)} values are not those of levels {tuple(sizes)}")
    if len(sizes) > 14:
        raise ValueError(f"{len(sizes)} choices have more sets than can be held: vary 14 or fewer")
    grid = np.asarray(values, np.float64).reshape(tuple(sizes))
    places = range(len(sizes))
    given: dict[tuple[int, ...], float] = {}
    for count in range(len(sizes) + 1):
        for chosen in itertools.combinations(places, count):
            others = tuple(place for place in places if place not in chosen)
            given[chosen] = float((grid.mean(axis=others) if others else grid).var())
    whole = given[tuple(places)]
    if whole <= 0:
        return [Part(0.0, 0.0, 0.0)] * len(sizes)
    # The variance that a set makes beyond all of its subsets.
    beyond: dict[tuple[int, ...], float] = {}
    for chosen, variance in given.items():
        inside = (
            beyond[subset]
            for count in range(len(chosen))
            for subset in itertools.combinations(chosen, count)
        )
        beyond[chosen] = variance - sum(inside)
    parts = []
    for place in places:
        having = {chosen: own for chosen, own in beyond.items() if place in chosen}
        shapley = sum(own / len(chosen) for chosen, own in having.items())
        alone, total = beyond[(place,)], sum(having.values())
        parts.append(Part(shapley / whole, alone / whole, total / whole))
    return parts
