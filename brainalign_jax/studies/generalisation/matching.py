"""Conditions whose tested words are alike in what they should not differ in: frequency, length, position.

What is matched are units, as what is held out: single words or, where these are held out as a whole, runs by
the means of their words. Units of the smallest condition get a partner each in every other one, without
replacement, so that the sum of the squared distances, in standard deviations, is the least that there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from brainalign_jax.align.rsa import reliability
from brainalign_jax.attributes import is_text, known
from brainalign_jax.names import nearest
from brainalign_jax.neural import norms
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation.conditions import Items
from brainalign_jax.study.words import token_features

RELIABILITY = "reliability"
_FEATURES = {
    "length": ("letters",),
    "position": ("position_in_sentence", "position_in_run", "position_in_text"),
}
_MOST_PAIRS = 2**24  # of units of two conditions
_MOST_PRODUCTS = 2**28  # people times items squared
_HALVES = 20


class Balance(NamedTuple):
    """How far two conditions lie apart in a variable: difference of the means in standard deviations.

    means: of the first and the second condition before matching. before, after: the standardised difference,
    first less second, of all units and of the matched ones; the deviation is that before matching.
    """

    variable: str
    first: str
    second: str
    means: tuple[float, float]
    before: float
    after: float


class Matching(NamedTuple):
    """sets: [I] the matched set that each item's unit is in, -1 for none: the number of its unit in the
    smallest condition, in the matchings of several people alike; balance: by variable."""

    sets: np.ndarray
    balance: tuple[Balance, ...]


def matching_variables(
    stimulus: Stimulus, items: Items, names: Sequence[str], *, lower: bool = False
) -> dict[str, np.ndarray]:
    """Variable -> its mean [I] over each item's tokens; `RELIABILITY` is left to `item_reliability`.

    An attribute of the name goes first; else length is the letters of the word, frequency that of `wordfreq`,
    and position its place in the sentence, the run or the text, whichever of them is known first.

    Raises: ValueError for a name that is neither, text, or a variable that is unknown or the same for all.
    """
    _, token_to_type = stimulus.types(lower=lower)
    features = token_features(stimulus)
    variables = {}
    for name in dict.fromkeys(names):
        if name == RELIABILITY and name not in stimulus.attributes:
            continue
        column = _column(stimulus, features, name)
        totals, counts = np.zeros((2, len(items.types)))
        rows = np.flatnonzero(items.rows & known(column))
        places = np.searchsorted(items.types, token_to_type[rows])
        np.add.at(totals, places, column[rows])
        np.add.at(counts, places, 1)
        values = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
        if not (np.nanmax(values, initial=-np.inf) > np.nanmin(values, initial=np.inf)):
            raise ValueError(
                f"--match: {name!r} is unknown or the same for all words of the conditions: leave it out"
            )
        variables[name] = values
    return variables


def matched(items: Items, variables: Mapping[str, np.ndarray], *, caliper: float) -> Matching:
    """Units of all conditions in sets of one each, which differ by `caliper` deviations at most.

    caliper: largest difference in any variable between a unit of the smallest condition and its partners, in
      standard deviations within conditions. Units of which a variable is unknown have no partner.

    Raises: ValueError where fewer than two sets are found, with how many there are, or for too many units.
    """
    units, first, unit_of = np.unique(items.unit, return_index=True, return_inverse=True)
    condition = items.condition[first]
    values = np.stack([_unit_means(column, unit_of) for column in variables.values()], axis=1)
    usable = ~np.isnan(values).any(axis=1)
    members = [np.flatnonzero(usable & (condition == c)) for c in range(len(items.names))]
    sizes = [len(rows) for rows in members]
    smallest = int(np.argmin(sizes))
    if sizes[smallest] * max(sizes) > _MOST_PAIRS:
        raise ValueError(
            f"conditions of {sizes[smallest]:,} and {max(sizes):,} words have too many pairs to be matched: "
            "narrow the conditions"
        )
    deviation = _deviation([values[rows] for rows in members])
    scaled = values / deviation
    partners = np.full((len(items.names), sizes[smallest]), -1)
    partners[smallest] = members[smallest]
    for other in range(len(items.names)):
        if other != smallest:
            partners[other] = _partners(scaled, members[smallest], members[other], caliper=caliper)
    kept = np.flatnonzero((partners >= 0).all(axis=0))
    partners = partners[:, kept]
    n_sets = len(kept)
    if n_sets < 2:
        counts = " and ".join(
            f"{size} of {name!r}" for size, name in zip(sizes, items.names, strict=True)
        )
        raise ValueError(
            f"--match={','.join(variables)}: {n_sets} of {counts} have a partner within "
            f"caliper={caliper:g} standard deviations, and two folds need 2: raise --caliper, match by fewer "
            "variables, or widen the conditions"
        )
    set_of = np.full(len(units), -1)
    set_of[partners] = kept
    balance = [
        Balance(
            variable,
            items.names[a],
            items.names[b],
            (float(column[members[a]].mean()), float(column[members[b]].mean())),
            float((column[members[a]].mean() - column[members[b]].mean()) / spread),
            float((column[partners[a]].mean() - column[partners[b]].mean()) / spread),
        )
        for variable, column, spread in zip(variables, values.T, deviation, strict=True)
        for a, b in itertools.combinations(range(len(items.names)), 2)
    ]
    return Matching(set_of[unit_of], tuple(balance))


def mean_balance(matchings: Sequence[Matching]) -> tuple[Balance, ...]:
    """The balance of several people's matchings: means over people."""
    rows = zip(*(matching.balance for matching in matchings), strict=True)
    return tuple(
        of_variable[0]._replace(
            means=tuple(np.mean([row.means for row in of_variable], axis=0).tolist()),
            before=float(np.mean([row.before for row in of_variable])),
            after=float(np.mean([row.after for row in of_variable])),
        )
        for of_variable in rows
    )


def item_reliability(similarities: np.ndarray) -> np.ndarray:
    """Agreement [S, I] of the other people about each item, for each person: theirs alone, not the person's.

    The other people are halved, in as many ways as there are, up to 20. Of each half the mean similarities of
    an item to all others are correlated with those of the other half; the mean over halvings is corrected for
    the length of the halves (Spearman and Brown).

    similarities: [S, I, I] correlations between each person's responses to the items.
    """
    agreement = np.empty(similarities.shape[:2])
    n_items = similarities.shape[1]
    off_diagonal = ~np.eye(n_items, dtype=bool)
    for person in range(len(similarities)):
        others = np.delete(np.arange(len(similarities)), person)
        correlations = []
        for half in reliability.draw_splits(len(others), _HALVES):
            halves = [
                similarities[others[people]].mean(axis=0)[off_diagonal].reshape(n_items, -1)
                for people in (half, ~half)
            ]
            correlations.append(_correlation(*halves))
        mean = np.mean(correlations, axis=0)
        agreement[person] = np.asarray(reliability.spearman_brown(mean.astype(np.float32)))
    return agreement


def check_people(n_people: int, n_items: int) -> None:
    """Raises: ValueError where reliability cannot be told of so many people, or takes too much memory."""
    if n_people < 3:
        raise ValueError(
            f"--match={RELIABILITY} is the agreement of two halves of the other people, and there are "
            f"{n_people} people: it needs 3; leave it out"
        )
    if n_people * n_items**2 > _MOST_PRODUCTS:
        raise ValueError(
            f"--match={RELIABILITY} of {n_items:,} words and {n_people} people takes more similarities than "
            "can be held: narrow the conditions, or leave it out"
        )


def similarity_of_items(rows: np.ndarray) -> np.ndarray:
    """Correlations [I, I] between the responses [I, V] to the items, less their mean."""
    rows = rows - rows.mean(axis=0)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    return (rows @ rows.T).astype(np.float32)


def _column(stimulus: Stimulus, features: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The values [N] of a variable of the tokens."""
    if name in stimulus.attributes:
        column = stimulus.attribute(name)
        if is_text(column):
            raise ValueError(f"--match: {name!r} is text; match by attributes of numbers")
        return column
    for feature in _FEATURES.get(name, ()):
        if feature in features:
            return features[feature]
    if name == norms.FREQUENCY:
        return norms.word_frequencies(stimulus)
    if name == "position":
        raise ValueError(
            "--match=position: these are isolated words, which have no place in a sentence or text: leave "
            "it out"
        )
    there = (*_FEATURES, norms.FREQUENCY, RELIABILITY, *stimulus.attributes)
    raise ValueError(
        f"--match: {name!r} is nothing that is known of the words; {nearest(name, there)}; --attributes "
        "gives others"
    )


def _unit_means(column: np.ndarray, unit_of: np.ndarray) -> np.ndarray:
    """The mean [U] of each unit's items of which the variable is known; NaN where it is of none."""
    there = ~np.isnan(column)
    counts = np.bincount(unit_of, there)
    totals = np.bincount(unit_of, np.where(there, column, 0))
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _deviation(values: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation [K] within conditions; over all units where it is zero."""
    within = np.sqrt(np.mean([group.var(axis=0) if len(group) else 0 for group in values], axis=0))
    overall = np.concatenate(values).std(axis=0) if sum(map(len, values)) else within
    deviation = np.where(within > 0, within, overall)
    return np.where(deviation > 0, deviation, 1)


def _partners(
    scaled: np.ndarray, units: np.ndarray, others: np.ndarray, *, caliper: float
) -> np.ndarray:
    """The partner [len(units)] of each unit among the others; -1 where there is none.

    As many as possible have one, and their squared distances have the smallest sum.
    """
    cost = np.zeros((len(units), len(others)))
    allowed = np.ones(cost.shape, bool)
    for column in scaled.T:
        difference = np.abs(column[units][:, None] - column[others][None])
        allowed &= difference <= caliper * (1 + 1e-9)
        cost += difference**2
    beyond = 1 + len(units) * cost.max(where=allowed, initial=0)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, beyond))
    partner = np.full(len(units), -1)
    partner[rows] = np.where(allowed[rows, columns], others[columns], -1)
    return partner


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation [I] of the rows of two arrays [I, M]; zero where one does not vary."""
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    lengths = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.where(
        lengths > 0, (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1), 0
    )
