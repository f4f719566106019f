"""Cells: what is trained on and what is tested, of equal sizes and on equal terms whatever the conditions.

The words that a cell tests are the only candidates, and no cell was trained on any of them. The same words
with the same candidates are tested after training on the rest of their own condition, and after training on
as many words of another one: what differs between the two cells is the training alone. By the joint rule the
candidates are as many words of each condition, and no cell was trained on any of them either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.studies.generalisation.conditions import Items

LEAST_TRAINED = 10
LEAST_CANDIDATES = 2


class Sizes(NamedTuple):
    """n_train: words trained on; n_candidates: words tested in a fold; n_folds: in each condition."""

    n_train: int
    n_candidates: int
    n_folds: int


class Cells(NamedTuple):
    """Items by their index. train: [F, n_train]; test: [F, n_candidates]; trained, tested: [F] conditions."""

    train: np.ndarray
    test: np.ndarray
    trained: np.ndarray
    tested: np.ndarray


def equal_sizes(items: Items, *, n_folds: int, n_train: int | None = None) -> Sizes:
    """The largest sizes that all cells can have, however the conditions' labels are exchanged.

    n_folds: no more than the units of the smallest condition, or the matched sets. n_train: fewer words than
    there could be.

    Raises: ValueError naming the condition that has too few words or runs, with the remedy.
    """
    units, counts = np.unique(items.unit, return_counts=True)
    unit_label = _unit_labels(items, units)
    of_condition = np.bincount(unit_label, minlength=len(items.names))
    smallest = int(of_condition.argmin())
    what = "words" if len(units) == len(items.unit) else "runs"
    if items.sets is None:
        n_folds = min(n_folds, int(of_condition[smallest]))
        if n_folds < 2:
            raise ValueError(
                f"condition {items.names[smallest]!r} has {of_condition[smallest]} {what}, which cannot be "
                "both trained on and tested: widen it"
            )
        counts = np.sort(counts)
        tested = of_condition // n_folds
        trained = of_condition - -(-of_condition // n_folds)
        n_candidates = int(counts[: tested.min()].sum())
        most = int(min(counts[:n].sum() for n in trained))
    else:
        smallest, n_folds, n_candidates, most = _matched_sizes(items, n_folds)
    if most < LEAST_TRAINED or n_candidates < LEAST_CANDIDATES:
        raise ValueError(
            f"condition {items.names[smallest]!r} has {of_condition[smallest]} {what}{_paired(items)}, which "
            f"leave {most} words to train on and {n_candidates} to test in {n_folds} folds: at least "
            f"{LEAST_TRAINED} and {LEAST_CANDIDATES} are needed; widen it, or change n_folds"
        )
    if n_train is not None and not LEAST_TRAINED <= n_train <= most:
        raise ValueError(
            f"n_train={n_train} must be {LEAST_TRAINED} to {most}, which condition "
            f"{items.names[smallest]!r} leaves to train on"
        )
    return Sizes(most if n_train is None else n_train, n_candidates, n_folds)


def common_sizes(items_of: Sequence[Items], *, n_folds: int, n_train: int | None = None) -> Sizes:
    """The largest sizes that the cells of several matchings can all have. Raises: as `equal_sizes`."""
    n_folds = min(
        equal_sizes(items, n_folds=n_folds, n_train=n_train).n_folds for items in items_of
    )
    every = [equal_sizes(items, n_folds=n_folds, n_train=n_train) for items in items_of]
    return Sizes(*(min(parts) for parts in zip(*every, strict=True)))


def draw_cells(items: Items, sizes: Sizes, *, n_splits: int, rng: np.random.Generator) -> Cells:
    """Cells of every condition trained on and tested, each fold of each of n_splits splits."""
    n_conditions = len(items.names)
    drawn_by = items.unit if items.sets is None else items.sets
    drawn: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    for _ in range(n_splits):
        if items.sets is not None:
            # A set's words are tested in the same fold of each condition.
            sets = rng.permutation(np.unique(items.sets[items.sets >= 0]))
            folds = np.array_split(sets, sizes.n_folds)
        for tested in range(n_conditions):
            words = np.flatnonzero(items.condition == tested)
            if items.sets is None:
                folds = np.array_split(rng.permutation(np.unique(items.unit[words])), sizes.n_folds)
            for fold in folds:
                held = np.isin(drawn_by[words], fold)
                test = rng.choice(words[held], sizes.n_candidates, replace=False)
                for trained in range(n_conditions):
                    others = np.flatnonzero(items.condition == trained)
                    pool = words[~held] if trained == tested else others
                    train = rng.choice(pool, sizes.n_train, replace=False)
                    drawn.append((train, test, trained, tested))
    return Cells(*(np.array(part) for part in zip(*drawn, strict=True)))


def draw_joint_cells(
    items: Items, sizes: Sizes, *, n_splits: int, rng: np.random.Generator
) -> Cells:
    """Cells that test n_candidates words of every condition together, one condition after the other.

    Trained on words of one condition that the fold does not hold. tested: -1, for all conditions; see
    `tested_apart`. test: [F, C * n_candidates].
    """
    words_of = [np.flatnonzero(items.condition == label) for label in range(len(items.names))]
    drawn_by = items.unit if items.sets is None else items.sets
    drawn: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    for _ in range(n_splits):
        if items.sets is None:
            units_of = [rng.permutation(np.unique(items.unit[words])) for words in words_of]
        else:
            units_of = [rng.permutation(np.unique(items.sets[items.sets >= 0]))] * len(words_of)
        folds_of = [np.array_split(units, sizes.n_folds) for units in units_of]
        for folds in zip(*folds_of, strict=True):
            held = [
                np.isin(drawn_by[words], fold) for words, fold in zip(words_of, folds, strict=True)
            ]
            tested = [
                rng.choice(words[own], sizes.n_candidates, replace=False)
                for words, own in zip(words_of, held, strict=True)
            ]
            for trained, words in enumerate(words_of):
                train = rng.choice(words[~held[trained]], sizes.n_train, replace=False)
                drawn.append((train, np.concatenate(tested), trained, -1))
    return Cells(*(np.array(part) for part in zip(*drawn, strict=True)))


def tested_apart(cells: Cells, n_conditions: int) -> Cells:
    """Joint cells as one a condition tested, in the order of `words_apart`: [F * C] of n_candidates words."""
    n_cells = len(cells.train)
    return Cells(
        np.repeat(cells.train, n_conditions, axis=0),
        cells.test.reshape(n_cells * n_conditions, -1),
        np.repeat(cells.trained, n_conditions),
        np.tile(np.arange(n_conditions), n_cells),
    )


def words_apart(ranks: np.ndarray, n_conditions: int) -> np.ndarray:
    """Ranks [..., F, L, C * n] in joint cells as those of the cells of `tested_apart` [..., F * C, L, n]."""
    *lead, n_cells, n_layers, n_words = ranks.shape
    parts = ranks.reshape(*lead, n_cells, n_layers, n_conditions, n_words // n_conditions)
    parts = np.moveaxis(parts, -2, -3)
    return parts.reshape(*lead, n_cells * n_conditions, n_layers, n_words // n_conditions)


def exchanged(items: Items, rng: np.random.Generator) -> Items:
    """The items with the conditions' labels exchanged between units: each has as many units as before.

    Matched units exchange theirs within their set alone, and what is in none keeps its own.
    """
    units, first, unit_of = np.unique(items.unit, return_index=True, return_inverse=True)
    labels = items.condition[first]
    if items.sets is None:
        return items._replace(condition=rng.permutation(labels)[unit_of])
    members = _members(items.sets[first], labels)
    labels = labels.copy()
    # Drawn for every set that there could be: those of several people are then exchanged alike.
    orders = rng.permuted(np.tile(np.arange(len(items.names)), (len(units), 1)), axis=1)
    set_orders = orders[np.unique(items.sets[items.sets >= 0])]
    labels[members] = np.take_along_axis(labels[members], set_orders, axis=1)
    return items._replace(condition=labels[unit_of])


def _members(sets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The units [P, C] of each matched set, by condition."""
    paired = np.flatnonzero(sets >= 0)
    order = paired[np.lexsort((labels[paired], sets[paired]))]
    return order.reshape(n_sets(sets), -1)


def n_sets(sets: np.ndarray) -> int:
    """How many matched sets there are among the set [I] of each item, -1 for none."""
    return len(np.unique(sets[sets >= 0]))


def _matched_sizes(items: Items, n_folds: int) -> tuple[int, int, int, int]:
    """(condition with the fewest words to train on, folds, candidates, most words to train on)."""
    units, first, counts = np.unique(items.unit, return_index=True, return_counts=True)
    members = _members(items.sets[first], items.condition[first])
    least = np.sort(
        counts[members].min(axis=1)
    )  # words of a set's smallest unit, whatever its label
    n_folds = min(n_folds, len(members))
    unmatched = np.bincount(items.condition[items.sets < 0], minlength=len(items.names))
    smallest = int(unmatched.argmin())
    kept = len(members) - -(-len(members) // n_folds)
    most = int(unmatched[smallest] + least[:kept].sum())
    return smallest, n_folds, int(least[: len(members) // n_folds].sum()), most


def _paired(items: Items) -> str:
    return "" if items.sets is None else f", {n_sets(items.sets)} of them matched"


def _unit_labels(items: Items, units: np.ndarray) -> np.ndarray:
    """The condition [U] of each unit: those of its items are the same."""
    _, first = np.unique(items.unit, return_index=True)
    return items.condition[first]
