"""Cells: what is trained on and what is tested, of equal sizes and on equal terms whatever the conditions.

The words that a cell tests are the only candidates, and no cell was trained on any of them. The same words
with the same candidates are tested after training on the rest of their own condition, and after training on
as many words of another one: what differs between the two cells is the training alone.
"""

from __future__ import annotations

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

    n_folds: no more than the units of the smallest condition. n_train: fewer words than there could be.

    Raises: ValueError naming the condition that has too few words or runs, with the remedy.
    """
    units, counts = np.unique(items.unit, return_counts=True)
    counts = np.sort(counts)
    unit_label = _unit_labels(items, units)
    of_condition = np.bincount(unit_label, minlength=len(items.names))
    smallest = int(of_condition.argmin())
    n_folds = min(n_folds, int(of_condition[smallest]))
    what = "words" if len(units) == len(items.unit) else "runs"
    if n_folds < 2:
        raise ValueError(
            f"condition {items.names[smallest]!r} has {of_condition[smallest]} {what}, which cannot be both "
            "trained on and tested: widen it"
        )
    tested = of_condition // n_folds
    trained = of_condition - -(-of_condition // n_folds)
    n_candidates = int(counts[: tested.min()].sum())
    most = int(min(counts[:n].sum() for n in trained))
    if most < LEAST_TRAINED or n_candidates < LEAST_CANDIDATES:
        raise ValueError(
            f"condition {items.names[smallest]!r} has {of_condition[smallest]} {what}, which leave {most} "
            f"words to train on and {n_candidates} to test in {n_folds} folds: at least {LEAST_TRAINED} and "
            f"{LEAST_CANDIDATES} are needed; widen it, or change n_folds"
        )
    if n_train is not None and not LEAST_TRAINED <= n_train <= most:
        raise ValueError(
            f"n_train={n_train} must be {LEAST_TRAINED} to {most}, which condition "
            f"{items.names[smallest]!r} leaves to train on"
        )
    return Sizes(most if n_train is None else n_train, n_candidates, n_folds)


def draw_cells(items: Items, sizes: Sizes, *, n_splits: int, rng: np.random.Generator) -> Cells:
    """Cells of every condition trained on and tested, each fold of each of n_splits splits."""
    n_conditions = len(items.names)
    drawn: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    for _ in range(n_splits):
        for tested in range(n_conditions):
            own = np.flatnonzero(items.condition == tested)
            units = rng.permutation(np.unique(items.unit[own]))
            for fold in np.array_split(units, sizes.n_folds):
                held = np.isin(items.unit[own], fold)
                test = rng.choice(own[held], sizes.n_candidates, replace=False)
                for trained in range(n_conditions):
                    others = np.flatnonzero(items.condition == trained)
                    pool = own[~held] if trained == tested else others
                    train = rng.choice(pool, sizes.n_train, replace=False)
                    drawn.append((train, test, trained, tested))
    return Cells(*(np.array(part) for part in zip(*drawn, strict=True)))


def exchanged(items: Items, rng: np.random.Generator) -> Items:
    """The items with the conditions' labels exchanged between units: each has as many units as before."""
    units, unit_of = np.unique(items.unit, return_inverse=True)
    labels = rng.permutation(_unit_labels(items, units))
    return items._replace(condition=labels[unit_of])


def _unit_labels(items: Items, units: np.ndarray) -> np.ndarray:
    """The condition [U] of each unit: those of its items are the same."""
    _, first = np.unique(items.unit, return_index=True)
    return items.condition[first]
