"""Training and test masks over word tokens: contiguous blocks with a purge gap, drawn types, runs."""

from typing import NamedTuple

import numpy as np

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import Protocol


class Folds(NamedTuple):
    """Boolean masks over the N word tokens; shapes are static whatever the folds' sizes.

    train: [F, N]; test: [F, N]. A token may be in neither: not covered by the recording, no word,
    inside the purge gap, or of a type that is tested.
    """

    train: np.ndarray
    test: np.ndarray


def outer_folds(
    stimulus: Stimulus,
    token_to_type: np.ndarray,
    eligible: np.ndarray,
    protocol: Protocol,
    *,
    seed: int,
) -> Folds:
    """The study's folds over the eligible tokens [N].

    Raises: ValueError if there are fewer word types (or runs) than folds, or if a fold would have
    no word to train on.
    """
    rng = np.random.default_rng(seed)
    kind, n_folds = protocol.folds, protocol.n_folds
    if kind == "leave_run_out":
        tests = _runs(stimulus, eligible)
    elif kind == "shuffled_types":
        tests = _drawn_types(token_to_type, eligible, n_folds, rng)
    else:
        tests = _blocks(eligible, token_to_type, n_folds)
    return _finish(stimulus, token_to_type, eligible, tests, protocol)


def inner_folds(
    stimulus: Stimulus,
    token_to_type: np.ndarray,
    train: np.ndarray,
    protocol: Protocol,
    *,
    seed: int,
) -> list[Folds]:
    """Folds [I, N] within each outer training mask of train [F, N], for choosing alpha.

    The test words of the outer fold are in no inner fold.
    """
    inner = []
    for fold, eligible in enumerate(train):
        rng = np.random.default_rng((seed, fold))
        if protocol.inner_shuffle:
            tests = _drawn_types(token_to_type, eligible, protocol.n_inner_folds, rng)
        else:
            tests = _blocks(eligible, token_to_type, protocol.n_inner_folds)
        inner.append(_finish(stimulus, token_to_type, eligible, tests, protocol))
    return inner


def _blocks(eligible: np.ndarray, token_to_type: np.ndarray, n_folds: int) -> list[np.ndarray]:
    rows = np.flatnonzero(eligible)
    _check_count(len(np.unique(token_to_type[rows])), n_folds)
    return [_mask(block, eligible.size) for block in np.array_split(rows, n_folds)]


def _drawn_types(
    token_to_type: np.ndarray, eligible: np.ndarray, n_folds: int, rng: np.random.Generator
) -> list[np.ndarray]:
    types = np.unique(token_to_type[eligible])
    _check_count(len(types), n_folds)
    drawn = np.array_split(rng.permutation(types), n_folds)
    return [eligible & np.isin(token_to_type, part) for part in drawn]


def _runs(stimulus: Stimulus, eligible: np.ndarray) -> list[np.ndarray]:
    if stimulus.run is None or len(np.unique(stimulus.run[eligible])) < 2:
        raise ValueError(
            "leave_run_out needs words of at least two runs; choose --folds=contiguous instead"
        )
    return [eligible & (stimulus.run == run) for run in np.unique(stimulus.run[eligible])]


def _finish(
    stimulus: Stimulus,
    token_to_type: np.ndarray,
    eligible: np.ndarray,
    tests: list[np.ndarray],
    protocol: Protocol,
) -> Folds:
    test = np.stack(tests)
    train = eligible & ~test
    if protocol.purge > 0 and stimulus.onsets is not None:
        train &= ~np.stack([_near(stimulus, mask, protocol.purge) for mask in test])
    if protocol.hold_out_types:
        train &= ~np.stack([np.isin(token_to_type, token_to_type[mask]) for mask in test])
    for fold in range(len(test)):
        if np.unique(token_to_type[train[fold]]).size < 2:
            raise ValueError(
                f"fold {fold} of {len(test)} leaves fewer than two word types to train on, of "
                f"{len(np.unique(token_to_type[eligible]))}: use more folds, a shorter --purge or "
                "--hold_out_types=false"
            )
    return Folds(train, test)


def _near(stimulus: Stimulus, test: np.ndarray, purge: float) -> np.ndarray:
    """Tokens [N] whose onset is within `purge` seconds of a tested token of the same run."""
    near = np.zeros(len(stimulus), bool)
    run = np.zeros(len(stimulus), int) if stimulus.run is None else stimulus.run
    for label in np.unique(run[test]):
        tested = np.sort(stimulus.onsets[test & (run == label)])
        rows = np.flatnonzero(run == label)
        after = np.searchsorted(tested, stimulus.onsets[rows])
        gap = np.minimum(
            np.abs(stimulus.onsets[rows] - tested[np.maximum(after - 1, 0)]),
            np.abs(stimulus.onsets[rows] - tested[np.minimum(after, len(tested) - 1)]),
        )
        near[rows] |= gap <= purge
    return near


def _mask(rows: np.ndarray, size: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows] = True
    return mask


def _check_count(n_types: int, n_folds: int) -> None:
    if n_types < n_folds:
        raise ValueError(
            f"{n_folds} folds need at least as many word types, but there are {n_types}: "
            f"ask for fewer folds"
        )
