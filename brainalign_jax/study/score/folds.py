"""Training and test masks over word tokens: contiguous blocks with a purge gap, drawn words, runs.

`Split` holds them as arrays of a fixed size for compiled programs: which words are asked for, which may be
answered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import Protocol


class Folds(NamedTuple):
    """Boolean masks over the N word tokens; shapes are static whatever the folds' sizes.

    train: [F, N]; test: [F, N]. A token may be in neither: not covered by the recording, no word,
    inside the purge gap, or in the test block but of a type that occurs outside of it too.
    """

    train: Bool[np.ndarray, "F N"]
    test: Bool[np.ndarray, "F N"]


def outer_folds(
    stimulus: Stimulus,
    groups: np.ndarray,
    eligible: np.ndarray,
    protocol: Protocol,
    *,
    seed: int,
    may_be_empty: bool = False,
) -> Folds:
    """The study's folds over the eligible tokens [N].

    Args:
      groups: [N] tokens that are one word for the purpose of holding words out: word types without
        regard to case, since "The" and "the" have much the same vector.
      may_be_empty: a fold without a word to test is no error.

    Raises: ValueError if there are fewer word types (or runs) than folds, or if a fold would have
    no word to test or fewer than two to train on.
    """
    rng = np.random.default_rng(seed)
    kind, n_folds = protocol.folds, protocol.n_folds
    if kind == "leave_run_out":
        tests = _runs(stimulus, eligible)
    elif kind.startswith("shuffled"):
        tests = _drawn(_units(stimulus, groups, protocol), eligible, n_folds, rng)
    else:
        tests = _blocks(eligible, groups, n_folds)
    return _finish(stimulus, groups, eligible, tests, protocol, may_be_empty=may_be_empty)


def inner_folds(
    stimulus: Stimulus,
    groups: np.ndarray,
    train: np.ndarray,
    protocol: Protocol,
    *,
    seed: int,
    may_be_empty: bool = False,
) -> list[Folds]:
    """Folds [I, N] within each outer training mask of train [F, N], for choosing alpha.

    The test words of the outer fold are in no inner fold.
    """
    inner = []
    for fold, eligible in enumerate(train):
        rng = np.random.default_rng((seed, fold))
        if protocol.inner_shuffle:
            units = _units(stimulus, groups, protocol)
            tests = _drawn(units, eligible, protocol.n_inner_folds, rng)
        else:
            tests = _blocks(eligible, groups, protocol.n_inner_folds)
        folds = _finish(
            stimulus, groups, eligible, tests, protocol, "inner fold", may_be_empty=may_be_empty
        )
        inner.append(folds)
    return inner


def _blocks(eligible: np.ndarray, groups: np.ndarray, n_folds: int) -> list[np.ndarray]:
    rows = np.flatnonzero(eligible)
    _check_count(len(np.unique(groups[rows])), n_folds)
    return [_mask(block, eligible.size) for block in np.array_split(rows, n_folds)]


def _units(stimulus: Stimulus, groups: np.ndarray, protocol: Protocol) -> np.ndarray:
    """What is drawn as a whole [N]: word types, or runs such as the passages of sentences."""
    if protocol.folds != "shuffled_runs":
        return groups
    if stimulus.run is None:
        raise ValueError(
            "shuffled_runs needs words with run labels; choose --folds=shuffled_types instead"
        )
    return stimulus.run


def _drawn(
    units: np.ndarray, eligible: np.ndarray, n_folds: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Test masks [N] of units drawn at random, each in one fold."""
    labels = np.unique(units[eligible])
    _check_count(len(labels), n_folds)
    drawn = np.array_split(rng.permutation(labels), n_folds)
    return [eligible & np.isin(units, part) for part in drawn]


def _runs(stimulus: Stimulus, eligible: np.ndarray) -> list[np.ndarray]:
    if stimulus.run is None or len(np.unique(stimulus.run[eligible])) < 2:
        raise ValueError(
            "leave_run_out needs words of at least two runs; choose --folds=contiguous instead"
        )
    return [eligible & (stimulus.run == run) for run in np.unique(stimulus.run[eligible])]


def _finish(
    stimulus: Stimulus,
    groups: np.ndarray,
    eligible: np.ndarray,
    tests: list[np.ndarray],
    protocol: Protocol,
    kind: str = "fold",
    *,
    may_be_empty: bool = False,
) -> Folds:
    train = [eligible & ~test for test in tests]
    purged = protocol.purge > 0 and stimulus.onsets is not None
    if purged:
        train = [
            mask & ~near(stimulus.onsets, stimulus.run, test, protocol.purge)
            for mask, test in zip(train, tests, strict=True)
        ]
    if protocol.hold_out_types:
        # Leaving a tested word's other occurrences out of the training would not do: their
        # neighbours, which share their scans and sentences, would stay.
        tests = [test & ~np.isin(groups, groups[eligible & ~test]) for test in tests]
    for fold, (fit, test) in enumerate(zip(train, tests, strict=True)):
        if np.unique(groups[fit]).size < 2 or not (test.any() or may_be_empty):
            lack, remedy = "two word types to train on", "ask for more folds"
            if purged:
                remedy += f", or shorten --purge, which is {protocol.purge:g} s"
            if not (test.any() or may_be_empty):
                lack = "a word to test that occurs in it only"
                remedy = "ask for fewer folds"
                remedy += ", or use --hold_out_types=false" * protocol.hold_out_types
            raise ValueError(
                f"{kind} {fold} of {len(tests)} lacks {lack}, of {len(np.unique(groups[eligible]))} "
                f"word types in all: {remedy}"
            )
    return Folds(np.stack(train), np.stack(tests))


def near(onsets: np.ndarray, run: np.ndarray | None, test: np.ndarray, purge: float) -> np.ndarray:
    """Rows [N] whose onset [N] is within `purge` seconds of a tested row [N] of the same run [N] or None."""
    close = np.zeros(len(onsets), bool)
    run = np.zeros(len(onsets), int) if run is None else run
    for label in np.unique(run[test]):
        tested = np.sort(onsets[test & (run == label)])
        rows = np.flatnonzero(run == label)
        after = np.searchsorted(tested, onsets[rows])
        gap = np.minimum(
            np.abs(onsets[rows] - tested[np.maximum(after - 1, 0)]),
            np.abs(onsets[rows] - tested[np.minimum(after, len(tested) - 1)]),
        )
        close[rows] |= gap <= purge
    return close


def _mask(rows: np.ndarray, size: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows] = True
    return mask


def _check_count(n_types: int, n_folds: int) -> None:
    if n_types < n_folds:
        raise ValueError(
            f"{n_folds} folds need at least as many word types (or runs), but there are {n_types}: "
            f"ask for fewer folds"
        )


class Split(NamedTuple):
    """One training set and the words decoded with it, padded to static shapes.

    train: [N] token mask. test: [N] token mask. queries: [Q] what is decoded, word types or tokens.
    query_mask: [Q], 0 where padded. gold: [Q] true type of each query. candidates: [T] mask of the
    word types that compete.
    """

    train: jax.Array
    test: jax.Array
    queries: jax.Array
    query_mask: jax.Array
    gold: jax.Array
    candidates: jax.Array


def split_arrays(
    folds: Folds,
    token_to_type: np.ndarray,
    *,
    queries: str,
    candidates: np.ndarray,
    least: int = 1,
) -> Split:
    """Splits stacked along the fold axis [F, ...], as NumPy arrays.

    Args:
      folds: F masks over N tokens. token_to_type: [N].
      queries: "types" or "tokens". candidates: [T] mask, or one a fold [F, T].
      least: smallest number of query slots Q.
    """
    asked = [
        np.unique(token_to_type[mask]) if queries == "types" else np.flatnonzero(mask)
        for mask in folds.test
    ]
    slots = max(least, max(len(fold_rows) for fold_rows in asked))
    ids = np.zeros((len(asked), slots), np.int32)
    mask = np.zeros((len(asked), slots), np.float32)
    for fold, rows in enumerate(asked):
        ids[fold, : len(rows)] = rows
        mask[fold, : len(rows)] = 1
    gold = ids if queries == "types" else np.maximum(token_to_type, 0).astype(np.int32)[ids]
    return Split(
        folds.train.astype(np.float32),
        folds.test.astype(np.float32),
        ids,
        mask,
        gold,
        np.broadcast_to(candidates, (len(asked), candidates.shape[-1])).astype(np.float32),
    )


def type_sums(x: jax.Array, mask: jax.Array, token_to_type: jax.Array, n_types: int) -> jax.Array:
    """Sums [T, ...] of the rows of x [N, ...] over the tokens of the mask [N] of each type."""
    chosen = (mask > 0).reshape(-1, *[1] * (x.ndim - 1))
    return jax.ops.segment_sum(jnp.where(chosen, x, 0), token_to_type, num_segments=n_types)


def type_means(
    x: jax.Array, mask: jax.Array, token_to_type: jax.Array, n_types: int
) -> tuple[jax.Array, jax.Array]:
    """(means [T, ...] over the tokens of the mask of each type, counts [T]); absent types are zero."""
    counts = type_sums(mask.astype(x.dtype), mask, token_to_type, n_types)
    total = type_sums(x, mask, token_to_type, n_types)
    return total / jnp.maximum(counts, 1).reshape(-1, *[1] * (x.ndim - 1)), counts


def query_rows(
    x: jax.Array, split: Split, token_to_type: jax.Array, n_types: int, *, queries: str
) -> jax.Array:
    """Rows [Q, ...] of x [N, ...] averaged to queries; those of padded queries are zero."""
    if queries == "types":
        rows = type_means(x, split.test, token_to_type, n_types)[0][split.queries]
    else:
        rows = x[split.queries]
    return rows * split.query_mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
