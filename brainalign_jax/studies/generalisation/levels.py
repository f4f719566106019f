"""Levels of novelty: word, sentence, passage, topic, story, experiment; what each trains on and tests.

The same words with the same candidates are tested at every level, after training on as many words. At a level
no group that a tested word is in (its topic, say) is trained on. Of the words that this leaves the nearest
are: first those that share the tested words' groups at the next level.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from brainalign_jax.attributes import known
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation.cells import (
    LEAST_CANDIDATES,
    LEAST_TRAINED,
    Cells,
    Sizes,
)
from brainalign_jax.studies.generalisation.conditions import Items

WORD, SENTENCE, RUN, PERSON = "word", "sentence", "run", "person"
LEVELS = (WORD, SENTENCE, RUN, "passage", "section", "topic", "story", "experiment")
_KNOWN = 0.9  # of the words, at least


class Ladder(NamedTuple):
    """items: those that take part, their names the levels'; groups: [K, I], a row a level of words.

    absent: level -> why the data set does not have it. block: [I] of what is exchanged as a whole in draws.
    """

    items: Items
    groups: np.ndarray
    absent: dict[str, str]
    block: np.ndarray

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, from the finest."""
        return self.items.names


def find_levels(stimulus: Stimulus, eligible: np.ndarray, *, lower: bool = False) -> Ladder:
    """The levels that the words [N] have, from the finest; words that are in two groups of one are left out.

    Words in time share scans with their neighbours: their ladder begins at the run.

    Raises: ValueError where no level is left, with what each lacks.
    """
    _, token_to_type = stimulus.types(lower=lower)
    eligible = eligible & (token_to_type >= 0)
    labels, absent = {}, {}
    for name in LEVELS:
        column = _labels(stimulus, token_to_type, name)
        reason = _lack(column, eligible, name, timed=stimulus.onsets is not None)
        same = None if reason else _same_partition(column[eligible], labels, eligible)
        if same == RUN:  # the name that the data set has for its runs says more
            labels = {name if level == RUN else level: marks for level, marks in labels.items()}
            absent[RUN] = f"its groups are those of {name}"
        elif reason or same:
            absent[name] = reason or f"its groups are those of {same}"
        else:
            labels[name] = column
    if not labels:
        listed = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise ValueError(f"the words have no level of novelty to be tested ({listed})")
    for column in labels.values():
        eligible = eligible & (column >= 0)
    grouped = np.stack([token_to_type, *labels.values()])[:, eligible]
    grouped = np.unique(grouped, axis=1)
    single = np.bincount(grouped[0])[grouped[0]] == 1
    types, groups = grouped[0, single], grouped[1:, single]
    groups = np.stack([np.unique(row, return_inverse=True)[1] for row in groups])
    order = np.argsort([-(row.max() + 1) for row in groups], kind="stable")
    rows = eligible & np.isin(token_to_type, types)
    names = tuple(list(labels)[place] for place in order)
    run = np.zeros(len(token_to_type), int) if stimulus.run is None else stimulus.run
    block = run[rows][np.unique(token_to_type[rows], return_index=True)[1]]
    if len(np.unique(block)) < 2:
        block = np.arange(len(types))
    items = Items(types, np.zeros(len(types), int), np.arange(len(types)), names, rows)
    return Ladder(items, groups[order], absent, block)


def draw_ladder(
    ladder: Ladder,
    *,
    n_folds: int,
    n_splits: int,
    n_train: int | None,
    people: bool,
    rng: np.random.Generator,
) -> tuple[Ladder, Sizes, Cells, np.ndarray | None]:
    """(ladder, sizes, cells, aligning words) with the levels that leave enough words to train on.

    people: whether new people are a level, the last, with the words of the finest one. At most half of these
      are then trained on; the others [F, A] align the person, and none of them is trained on in those cells.

    n_folds: a fold tests words of a share of 1 / n_folds of each level's groups, at least one, and of half of
      those that share a group of the next level at most, so that others of it can be trained on.

    Raises: ValueError for too few words to train on or to test, or another n_train than there can be.
    """
    while True:
        tests = _draw_tests(ladder, n_folds, n_splits, rng)
        pools = np.array(
            [
                [len(_pool(ladder, level, test)) for test in tests]
                for level in range(len(ladder.levels))
            ]
        ).min(axis=1)
        short = [level for level in range(len(pools)) if pools[level] < LEAST_TRAINED]
        if people and pools[0] // 2 < LEAST_TRAINED and 0 not in short:
            people = False
            reason = f"only {pools[0]} words are left to train on and to align people by"
            ladder = ladder._replace(absent={**ladder.absent, PERSON: reason})
        if not short:
            break
        if len(short) == len(pools):
            raise ValueError(
                f"{len(ladder.items.types)} words leave {pools.max()} to train on in {n_folds} folds: at "
                f"least {LEAST_TRAINED} are needed; give more n_folds, or more words"
            )
        gone = {
            ladder.levels[level]: f"only {pools[level]} words are left to train on: "
            f"{LEAST_TRAINED} are needed"
            for level in short
        }
        kept = [level for level in range(len(pools)) if level not in short]
        items = ladder.items._replace(names=tuple(ladder.levels[level] for level in kept))
        ladder = ladder._replace(
            items=items, groups=ladder.groups[kept], absent={**ladder.absent, **gone}
        )
    most = int(min(pools.min(), pools[0] // 2) if people else pools.min())
    if n_train is not None and not LEAST_TRAINED <= n_train <= most:
        raise ValueError(
            f"n_train={n_train} must be {LEAST_TRAINED} to {most}, which the levels leave to train on"
        )
    sizes = Sizes(n_train or most, tests.shape[1], n_folds)
    train, trained = [], []
    for level in range(len(ladder.levels)):
        for test in tests:
            train.append(_nearest(ladder, level, test, sizes.n_train, rng))
            trained.append(level)
    levels = np.array(trained)
    cells = Cells(np.stack(train), np.tile(tests, (len(ladder.levels), 1)), levels, levels)
    if not people:
        return ladder, sizes, cells, None
    finest = Cells(*(part[: len(tests)] for part in cells))
    n_aligning = int(pools[0]) - sizes.n_train
    aligning = [
        rng.choice(np.setdiff1d(_pool(ladder, 0, test), train_words), n_aligning, replace=False)
        for train_words, test in zip(finest.train, finest.test, strict=True)
    ]
    last = np.full(len(tests), len(ladder.levels))
    finest = finest._replace(trained=last, tested=last)
    cells = Cells(*(np.concatenate(parts) for parts in zip(cells, finest, strict=True)))
    items = ladder.items._replace(names=(*ladder.levels, PERSON))
    return ladder._replace(items=items), sizes, cells, np.stack(aligning)


def exchanged_items(ladder: Ladder, rng: np.random.Generator) -> np.ndarray:
    """The item [I] whose vector each item has in a draw: blocks change places, neighbours stay neighbours."""
    blocks = rng.permutation(np.unique(ladder.block))
    to = np.concatenate([np.flatnonzero(ladder.block == block) for block in blocks])
    exchanged = np.empty(len(to), int)
    exchanged[np.argsort(ladder.block, kind="stable")] = to
    return exchanged


def _labels(stimulus: Stimulus, token_to_type: np.ndarray, name: str) -> np.ndarray | None:
    """The group [N] of each token at a level, -1 where it is unknown; None where nothing says it."""
    if name == WORD:
        return token_to_type
    if name in stimulus.attributes:
        values = stimulus.attribute(name)
        groups = np.unique(values, return_inverse=True)[1]
        return np.where(known(values), groups, -1)
    column = {SENTENCE: stimulus.sentence, RUN: stimulus.run}.get(name)
    return None if column is None else np.unique(column, return_inverse=True)[1]


def _lack(column: np.ndarray | None, eligible: np.ndarray, name: str, *, timed: bool) -> str | None:
    """Why a level cannot be tested; None where it can be."""
    if timed and name in (WORD, SENTENCE):
        return "words in time share scans with their neighbours"
    if column is None:
        return "the data set does not say it"
    share = (column[eligible] >= 0).mean()
    if share < _KNOWN:
        return f"it is known of {share:.0%} of the words"
    if len(np.unique(column[eligible & (column >= 0)])) < 2:
        return "it is the same for all words"
    return None


def _same_partition(
    column: np.ndarray, labels: dict[str, np.ndarray], eligible: np.ndarray
) -> str | None:
    """The level that parts the words in the same groups."""
    for name, other in labels.items():
        pairs = np.unique(np.stack([column, other[eligible]]), axis=1).shape[1]
        if pairs == len(np.unique(column)) == len(np.unique(other[eligible])):
            return name
    return None


def _draw_tests(
    ladder: Ladder, n_folds: int, n_splits: int, rng: np.random.Generator
) -> np.ndarray:
    """Words [n_splits * n_folds, n_candidates] tested in each fold: of few groups at every level."""
    n_items = len(ladder.items.types)
    by_level = list(ladder.groups[::-1])  # from the coarsest
    words = ladder.levels[0] == WORD
    if not words:
        by_level.append(np.arange(n_items))
    folds = []
    for _ in range(n_splits):
        coarsest = rng.permutation(by_level[0].max() + 1)
        for fold in range(n_folds):
            chosen = np.arange(n_items)
            for place, groups in enumerate(by_level):
                n_groups = groups.max() + 1
                share = max(1, n_groups // n_folds)
                if place == 0:
                    taken = coarsest[(fold * share + np.arange(share)) % n_groups]
                else:
                    present = np.unique(groups[chosen])
                    # Where single words are not a level, none of a tested group needs to be trained on.
                    halved = len(present) // 2 if words or place < len(by_level) - 1 else share
                    taken = rng.permutation(present)[: max(1, min(share, halved))]
                chosen = chosen[np.isin(groups[chosen], taken)]
            folds.append(rng.permutation(chosen))
    n_candidates = min(len(test) for test in folds)
    if n_candidates < LEAST_CANDIDATES:
        raise ValueError(
            f"{n_items} words leave {n_candidates} to test in {n_folds} folds of the levels "
            f"{', '.join(ladder.levels)}: at least {LEAST_CANDIDATES} are needed; give fewer n_folds"
        )
    return np.stack([test[:n_candidates] for test in folds])


def _pool(ladder: Ladder, level: int, test: np.ndarray) -> np.ndarray:
    """The items whose group at a level no tested item is in, nor any at a finer one."""
    free = np.ones(len(ladder.items.types), bool)
    free[test] = False
    for groups in ladder.groups[: level + 1]:
        free &= ~np.isin(groups, groups[test])
    return np.flatnonzero(free)


def _nearest(
    ladder: Ladder, level: int, test: np.ndarray, n_train: int, rng: np.random.Generator
) -> np.ndarray:
    """n_train items that are new at a level: those first that share a group at the next ones."""
    pool = rng.permutation(_pool(ladder, level, test))
    distance = np.full(len(pool), len(ladder.levels))
    for coarser in range(len(ladder.levels) - 1, level, -1):
        groups = ladder.groups[coarser]
        distance[np.isin(groups[pool], groups[test])] = coarser
    return rng.permutation(pool[np.argsort(distance, kind="stable")[:n_train]])
