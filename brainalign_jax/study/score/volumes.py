"""Analyses whose rows are volumes: features of the words at them, folds of them, and circular shifts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.neural.readout.encoding import design_matrix
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.options import Design
from brainalign_jax.study.score.folds import near


class TimeFolds(NamedTuple):
    """Contiguous folds over the volumes; M is the size of the largest test block.

    train: [F, N] masks; test_rows [F, M] indices and test_weights [F, M], 0 where padded; and the same of
    the inner folds: inner_train [F, I, N], inner_rows [F, I, M'], inner_weights [F, I, M'].
    """

    train: np.ndarray
    test_rows: np.ndarray
    test_weights: np.ndarray
    inner_train: np.ndarray
    inner_rows: np.ndarray
    inner_weights: np.ndarray


def time_folds(
    times: np.ndarray, run: np.ndarray, *, n_folds: int, n_inner: int, purge: float
) -> TimeFolds:
    """Blocks of neighbouring volumes, and blocks within the training volumes of each.

    times: [N] seconds; run: [N] labels. purge: seconds before and after a test block, of the same run,
    that are neither trained on nor tested.

    Raises: ValueError for fewer than two folds, or folds that leave fewer than ten training volumes.
    """
    if n_folds < 2 or n_inner < 2:
        raise ValueError(f"{n_folds} outer and {n_inner} inner folds: give two or more of each")
    if not purge >= 0:
        raise ValueError(f"purge is {purge} s; give zero or more seconds")
    n = len(times)
    tests = np.array_split(np.arange(n), n_folds)
    train = np.stack([_away(np.ones(n, bool), test, times, run, purge) for test in tests])
    inner_tests = [np.array_split(np.flatnonzero(mask), n_inner) for mask in train]
    inner_train = np.stack(
        [
            [_away(mask, test, times, run, purge) for test in parts]
            for mask, parts in zip(train, inner_tests, strict=True)
        ]
    )
    said = f"{n} volumes in {n_folds} x {n_inner} folds with a purge of {purge:g} s"
    return _checked(train, tests, inner_train, inner_tests, said, "a shorter purge")


def _checked(train, tests, inner_train, inner_tests, said: str, remedy: str) -> TimeFolds:
    least = min(inner_train.sum(axis=-1).min(), min(map(len, tests)))
    if least < 10:
        raise ValueError(f"{said} leave a fold of {least}: use fewer folds or {remedy}")
    rows, weights = padded_rows(tests)
    most = max(map(len, sum(inner_tests, [])))
    inner = [padded_rows(parts, most) for parts in inner_tests]
    return TimeFolds(
        train,
        rows,
        weights,
        inner_train,
        np.stack([padded for padded, _ in inner]),
        np.stack([weight for _, weight in inner]),
    )


def _away(mask, test, times, run, purge) -> np.ndarray:
    """mask [N] without the rows within `purge` seconds of a tested row of the same run."""
    tested = np.zeros(len(mask), bool)
    tested[test] = True
    return mask & ~near(times, run, tested, purge) & ~tested


def padded_rows(parts: Sequence[np.ndarray], size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the parts in one array [P, M], and 1 where they are rows, 0 where a part is shorter.

    size: M, at least; the longest part's if not given.
    """
    size = max(size, *map(len, parts))
    rows, weights = np.zeros((len(parts), size), np.int32), np.zeros((len(parts), size), np.float32)
    for index, part in enumerate(parts):
        rows[index, : len(part)], weights[index, : len(part)] = part, 1
        rows[index, len(part) :] = part[-1]
    return rows, weights


def unit_columns(values: np.ndarray) -> np.ndarray:
    """Columns [N, D] of mean zero and deviation one, float32: only so that no digits are lost.

    Nothing depends on it: features are standardised, and nuisances scaled, on the training rows.
    """
    values = np.asarray(values, np.float64)
    values = values - values.mean(axis=0)
    scale = values.std(axis=0)
    return (values / np.where(scale > 0, scale, 1)).astype(np.float32)


def run_folds(run: np.ndarray, *, n_folds: int, n_inner: int) -> TimeFolds:
    """Folds of whole runs, neighbours together, and inner folds of whole runs of the others.

    run: [N] labels of three runs or more. There are no more folds than runs; each run by itself where
    n_folds allows it.

    Raises: ValueError for fewer than three runs, for folds that leave one run to train on, which has no inner
      folds, and for folds that leave fewer than ten training volumes.
    """
    labels = np.unique(run)
    if len(labels) < 3:
        raise ValueError(f"{len(labels)} runs cannot be left out in turn: take folds of volumes")
    parts = np.array_split(labels, min(n_folds, len(labels)))
    kept = [np.setdiff1d(labels, part) for part in parts]
    if min(map(len, kept)) < 2:
        raise ValueError(
            f"{len(labels)} runs in {n_folds} folds leave one run to train on, which has no runs to choose "
            "layer and penalty by: give three or more folds (--n_folds=3), or take folds of volumes "
            "(--folds=volumes)"
        )
    n_inner = min(n_inner, min(map(len, kept)))

    def rows_of(groups: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.flatnonzero(np.isin(run, group)) for group in groups]

    tests = rows_of(parts)
    inner_tests = [rows_of(np.array_split(others, n_inner)) for others in kept]
    train = np.stack([np.isin(run, others) for others in kept])
    inner_train = np.repeat(train[:, None], n_inner, axis=1)
    for masks, inner in zip(inner_train, inner_tests, strict=True):
        for mask, rows in zip(masks, inner, strict=True):
            mask[rows] = False
    said = f"{len(labels)} runs of {len(run)} volumes in {len(tests)} x {n_inner} folds"
    return _checked(train, tests, inner_train, inner_tests, said, "longer runs")


def at_volumes(
    stimulus: Stimulus, times: np.ndarray, run: np.ndarray, values: np.ndarray, design: Design
) -> np.ndarray:
    """Features of the words [W, D] as regressors at the volumes [N, D * delays].

    times: [N] seconds on the clock of the onsets; run: [N] labels, those of the stimulus' where it has any.
    """
    return design_matrix(
        stimulus.onsets,
        np.asarray(values, np.float64),
        times,
        method=design.design,
        durations=stimulus.durations,
        delays=design.delays,
        hrf=design.hrf,
        run=stimulus.run,
        volume_run=None if stimulus.run is None else run,
    )


def shifted_rows(
    run: np.ndarray, times: np.ndarray, *, n_shifts: int, least: float, random_state: int = 0
) -> np.ndarray:
    """[1 + P, N] rows of circular shifts; the first are the rows as they are.

    Every run is turned in itself by at least `least` seconds in either direction; with 0, as p-values of
    smooth time courses need it (see `evidence.draws`), by any number of volumes. In one run all shifts are
    different, and none is no shift; in several, each run has a shift of its own.

    Raises: ValueError if a run is too short, or has fewer shifts than are asked for.
    """
    rng = np.random.default_rng(random_state)
    labels = np.unique(run)
    index = np.tile(np.arange(len(run)), (1 + n_shifts, 1))
    for label in labels:
        rows = np.flatnonzero(run == label)
        step = np.median(np.diff(times[rows])) if len(rows) > 1 else np.inf
        low = max(len(labels) == 1, int(np.ceil(least / step)))
        possible = np.arange(low, len(rows) - max(low, 1) + 1)
        if len(possible) < (n_shifts if len(labels) == 1 else 2):
            raise ValueError(
                f"run {label} of {len(rows)} volumes has {len(possible)} circular shifts of at least "
                f"{least:g} s, but {n_shifts} were asked for: ask for fewer, or shorten the least shift"
            )
        shifts = rng.choice(possible, n_shifts, replace=len(labels) > 1)
        places = (np.arange(len(rows)) + shifts[:, None]) % len(rows)
        index[1:, rows] = rows[places]
    return index


def kept_share(basis: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[V]: the share of their fit by nuisances that stays in place where time courses are turned.

    basis: [N, K] orthonormal, of the nuisances without intercept; values: [N, V] less their mean; rows:
    [1 + P, N] of `shifted_rows`. A fit takes some of any noise, which nuisances then predict again in every
    turned recording, where adding features of noise costs some of it: the differences of turned recordings
    would lie below those of the recording (with four nuisances, a fourth of regions of noise at p < .05).
    What is kept is what exceeds the fit to turned recordings, and nothing unless it exceeds 95 % of these.
    """
    if len(rows) < 2 or not basis.shape[1]:
        return np.zeros(values.shape[1])
    # Turning the basis back is turning the values, and narrower.
    back = np.argsort(rows[1:], axis=1)
    turned = basis[back].transpose(0, 2, 1).reshape(-1, len(basis))
    of_turned = ((turned @ values) ** 2).reshape(len(rows) - 1, basis.shape[1], -1).sum(axis=1)
    energy = ((basis.T @ values) ** 2).sum(axis=0)
    exceeds = energy > np.quantile(of_turned, 0.95, axis=0)
    share = 1 - of_turned.mean(axis=0) / np.where(energy > 0, energy, 1)
    return np.sqrt(np.where(exceeds, np.maximum(share, 0), 0))


def ceiling(values: np.ndarray, others: np.ndarray, folds: TimeFolds) -> np.ndarray:
    """[V]: Pearson's r of time courses [N, V] and other people's mean in a test block, mean over blocks."""
    total = np.zeros(values.shape[1])
    for rows, weights in zip(folds.test_rows, folds.test_weights, strict=True):
        own, mean = (x[rows[weights > 0]].astype(np.float64) for x in (values, others))
        own, mean = own - own.mean(axis=0), mean - mean.mean(axis=0)
        length = np.sqrt((own**2).sum(axis=0) * (mean**2).sum(axis=0))
        total += (own * mean).sum(axis=0) / np.where(length > 0, length, np.inf)
    return total / len(folds.test_rows)
