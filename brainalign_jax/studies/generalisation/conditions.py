"""Conditions: which words are in them, by the words' attributes, and what may be held out of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.attributes import NAMES, is_text, known
from brainalign_jax.names import check_known
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.report.wording import counted

_TERM = re.compile(rf"\s*({NAMES.pattern})\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*")
_QUANTILE = re.compile(r"q(\d{1,2}(?:\.\d+)?|100)")
_COMPARE: dict[str, Callable] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "=": np.equal,
}
_MOST = 20  # conditions
_SHOWN = 5  # words in a message


class Items(NamedTuple):
    """The words that take part, a row each.

    types: [I] word types; condition: [I] index of the condition that each is in; unit: [I], of what is
      drawn as a whole: the item itself, or its run. names: of the conditions. rows: [N] tokens that count.
    sets: [I] of `matching.Matching`, -1 for items that are not tested; None where all are.
    """

    types: np.ndarray
    condition: np.ndarray
    unit: np.ndarray
    names: tuple[str, ...]
    rows: np.ndarray
    sets: np.ndarray | None = None


def split_conditions(text: str | Sequence[str]) -> tuple[str, ...]:
    """The conditions of a text, between semicolons, or of a sequence.

    Raises: ValueError for fewer than two conditions, one given twice, or what is none.

    >>> split_conditions("concreteness<3; concreteness>=4")
    ('concreteness<3', 'concreteness>=4')
    """
    parts = text.split(";") if isinstance(text, str) else text
    conditions = tuple(part.strip() for part in parts if part.strip())
    if not 2 <= len(conditions) <= _MOST or len(set(conditions)) < len(conditions):
        raise ValueError(
            f"{counted(len(set(conditions)), 'condition')} in {text!r}: give two to {_MOST} with ; between "
            "them, as concreteness<3;concreteness>=4"
        )
    for condition in conditions:
        _terms(condition)
    return conditions


def condition_mask(stimulus: Stimulus, condition: str) -> np.ndarray:
    """The words [N] that are in a condition; those of which an attribute is unknown are not.

    condition: terms with & between them, each an attribute, one of < <= > >= = != and a value: a number, a
      quantile of the words' values as q33, or a text; several with | between them after = or !=.

    Raises: ValueError naming the condition for an attribute that is unknown, or the same for all words, a
      value that no word has, or text that is compared with a number.
    """
    mask = np.ones(len(stimulus), bool)
    for name, sign, value in _terms(condition):
        try:
            values = stimulus.attribute(name)
        except ValueError as error:
            raise ValueError(
                f"condition {condition!r}: {error}; --attributes=FILE gives others"
            ) from None
        there = known(values)
        distinct = np.unique(values[there])
        if len(distinct) < 2:
            said = f"{distinct[0]} for all words" if len(distinct) else "unknown of all words"
            raise ValueError(
                f"condition {condition!r}: attribute {name!r} is {said}: choose one that varies"
            )
        if is_text(values) or "|" in value:
            mask &= there & _among(values, distinct, sign, value, condition)
            continue
        number = _number(values[there], value, condition)
        if sign == "!=":
            mask &= there & (values != number)
        else:
            mask &= there & _COMPARE[sign](values, number)
    return mask


def items_in(
    stimulus: Stimulus, conditions: Sequence[str], eligible: np.ndarray, *, lower: bool = False
) -> Items:
    """The word types all of whose eligible tokens [N] are in one condition, with their units.

    Where words have runs, these are the units: words of a run share scans, or the topic of a passage, so
    that a run is trained on or tested as a whole, and types that occur in several runs are left out.

    Raises: ValueError for a condition without words, words in two conditions, a run with words of two
      conditions, or words in time without runs.
    """
    _, token_to_type = stimulus.types(lower=lower)
    eligible = eligible & (token_to_type >= 0)
    masks = np.stack([condition_mask(stimulus, condition) & eligible for condition in conditions])
    both = masks.sum(axis=0) > 1
    if both.any():
        rows = np.flatnonzero(both)
        first, second = np.flatnonzero(masks[:, rows[0]])[:2]
        words = ", ".join(stimulus.words[row] for row in rows[:_SHOWN])
        raise ValueError(
            f"{len(rows)} words are in both {conditions[first]!r} and {conditions[second]!r} ({words}): give "
            "conditions that exclude one another"
        )
    label = np.where(masks.any(axis=0), masks.argmax(axis=0), -1)
    run = _runs(stimulus, label, conditions)
    n_types = int(token_to_type.max(initial=-1)) + 1
    # Types whose tokens differ in condition or run are not one item.
    pairs = np.stack([token_to_type, label, run])[:, eligible]
    pairs = np.unique(pairs, axis=1)
    single = np.bincount(pairs[0], minlength=n_types)[pairs[0]] == 1
    types, condition, unit = pairs[:, single & (pairs[1] >= 0)]
    for index, name in enumerate(conditions):
        if not (condition == index).any():
            raise ValueError(
                f"condition {name!r} holds no word that is in it wherever it occurs: choose another value"
            )
    if len(np.unique(run)) < 2:
        unit = np.arange(len(types))
    rows = eligible & np.isin(token_to_type, types)
    return Items(types, condition, unit, tuple(conditions), rows)


def _terms(condition: str) -> list[tuple[str, str, str]]:
    """(attribute, sign, value) of each term. Raises ValueError for what is none."""
    terms = []
    for term in condition.split("&"):
        match = _TERM.fullmatch(term)
        if match is None or not match.group(3):
            raise ValueError(
                f"condition {condition!r}: {term.strip()!r} is no attribute, sign and value, as "
                "concreteness<3, concreteness>=q67, topic=animals or topic=animals|tools"
            )
        terms.append(match.groups())
    return terms


def _number(values: np.ndarray, text: str, condition: str) -> float:
    """The number that a text is, or the quantile of the values that it names."""
    if quantile := _QUANTILE.fullmatch(text):
        return float(np.quantile(values, float(quantile.group(1)) / 100))
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"condition {condition!r}: {text!r} is no number, nor a quantile as q33")
    return number


def _among(
    values: np.ndarray, distinct: np.ndarray, sign: str, text: str, condition: str
) -> np.ndarray:
    """Whether each value is one of those that the text lists, or none of them where the sign is !=."""
    if sign not in ("=", "!="):
        kind = "text" if is_text(values) else "several values"
        raise ValueError(f"condition {condition!r}: {sign} is not for {kind}; give = or !=")
    wanted = [part.strip() for part in text.split("|")]
    if is_text(values):
        for value in wanted:
            check_known("value", value, distinct.tolist(), of=f"condition {condition!r}")
    else:
        wanted = [_number(distinct, value, condition) for value in wanted]
    return np.isin(values, wanted) == (sign == "=")


def _runs(stimulus: Stimulus, label: np.ndarray, conditions: Sequence[str]) -> np.ndarray:
    """Run [N] of each word, zero where there are none, with what is in its way."""
    if stimulus.run is None or len(np.unique(stimulus.run)) < 2:
        if stimulus.onsets is not None:
            raise ValueError(
                "the words follow one another in time, in one run: neighbours share scans, and conditions "
                "cannot be held apart; choose a data set of isolated items, or of several runs"
            )
        return np.zeros(len(stimulus), int)
    for run in np.unique(stimulus.run):
        here = np.unique(label[(stimulus.run == run) & (label >= 0)])
        if len(here) > 1:
            first, second = (conditions[index] for index in here[:2])
            raise ValueError(
                f"run {run} has words of {first!r} and of {second!r}: words of a run share scans or their "
                "topic, and are held out as a whole; choose conditions made of whole runs or passages"
            )
    return stimulus.run
