"""Encoding of few regions, scored at once for all subjects and all shifted recordings.

The features are the same for all subjects. So every fit is a matrix from time courses to predictions, and
a fold's matrices of all layers and penalties serve subjects, regions and permutations alike. Layer and
penalty are chosen for each region by the squared error in inner folds, summed over subjects, of each
recording anew: for a shifted one as for the true one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.ridge import partial_ridge
from brainalign_jax.align.stats import scoring
from brainalign_jax.study.score.folds import near

_TOGETHER = 8  # recordings worked at once
_ROUNDING = 1e-5  # of a time course's deviation; a prediction below it is none
_WIDTH = 8  # nuisances are padded to multiples of it, so that sets share compiled programs


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


class Choices(NamedTuple):
    """One outer fold's candidates, C = layers x lambdas x alphas, in this order.

    forms: [C, n (n + 1) / 2], the error forms' upper triangles, off-diagonal entries twice; columns [n]
    their rows, the training rows; weights: [n], 0 where padded; hats: [C, M, N] from time courses to
    predictions of the test rows.
    """

    forms: jax.Array
    columns: np.ndarray
    weights: np.ndarray
    hats: jax.Array


class Scores(NamedTuple):
    """Of P recordings. correlation: [P, S, R], mean over folds of Pearson's r within the test block;
    r2: [P, S, R], 1 - residual / total sum of squares, both about the means of each test block;
    chosen: [F, P, R] the candidate of each fold."""

    correlation: np.ndarray
    r2: np.ndarray
    chosen: np.ndarray


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
    least = min(inner_train.sum(axis=-1).min(), min(map(len, tests)))
    if least < 10:
        raise ValueError(
            f"{n} volumes in {n_folds} x {n_inner} folds with a purge of {purge:g} s leave a fold of "
            f"{least}: use fewer folds or a shorter purge"
        )
    rows, weights = _padded(tests)
    inner = [_padded(parts, max(map(len, sum(inner_tests, [])))) for parts in inner_tests]
    return TimeFolds(
        train,
        rows,
        weights,
        inner_train,
        np.stack([one for one, _ in inner]),
        np.stack([one for _, one in inner]),
    )


def _away(mask, test, times, run, purge) -> np.ndarray:
    """mask [N] without the rows within `purge` seconds of a tested row of the same run."""
    tested = np.zeros(len(mask), bool)
    tested[test] = True
    return mask & ~near(times, run, tested, purge) & ~tested


def _padded(parts: Sequence[np.ndarray], size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    size = max(size, *map(len, parts))
    rows, weights = np.zeros((len(parts), size), np.int32), np.zeros((len(parts), size), np.float32)
    for index, part in enumerate(parts):
        rows[index, : len(part)], weights[index, : len(part)] = part, 1
        rows[index, len(part) :] = part[-1]
    return rows, weights


def prepare(
    layers: Sequence[np.ndarray],
    nuisances: np.ndarray,
    folds: TimeFolds,
    lambdas: Sequence[float],
    alphas: Sequence[float],
) -> list[Choices]:
    """The candidates of every outer fold.

    layers: a model's features at the volumes, [N, D] each; none for the nuisances alone.
    nuisances: [N, K]; K may be zero. lambdas, alphas: penalties of nuisances and features in the units of
    `partial_ridge`; alpha inf for "no features".
    """
    count = nuisances.shape[1]
    lambdas = lambdas if count else [0.0]
    lambdas, alphas = (jnp.asarray(x, jnp.float32) for x in (lambdas, alphas))
    nuisances = np.pad(_unit(nuisances), ((0, 0), (0, _WIDTH - count % _WIDTH)))
    layers = [jnp.asarray(_unit(layer)) for layer in layers] or [None]
    every, every_weight = _padded([np.flatnonzero(mask) for mask in folds.train])
    choices = []
    for fold, (columns, weights) in enumerate(zip(every, every_weight, strict=True)):
        outer = (jnp.asarray(folds.train[fold], jnp.float32), folds.test_rows[fold])
        inner = (
            folds.inner_train[fold][:, columns] * weights,
            np.searchsorted(columns, folds.inner_rows[fold]),
            folds.inner_weights[fold],
        )
        found = [
            _candidates(layer, nuisances, outer, inner, lambdas, alphas, columns)
            for layer in layers
        ]
        forms, hats = (jnp.concatenate(parts) for parts in zip(*found, strict=True))
        choices.append(Choices(forms, columns, weights, hats))
    return choices


def _unit(values: np.ndarray) -> np.ndarray:
    """Columns [N, D] of mean zero and deviation one, float32: only so that no digits are lost.

    Nothing depends on it: features are standardised, and nuisances scaled, on the training rows.
    """
    values = np.asarray(values, np.float64)
    values = values - values.mean(axis=0)
    scale = values.std(axis=0)
    return (values / np.where(scale > 0, scale, 1)).astype(np.float32)


@jax.jit
def _candidates(features, nuisances, outer, inner, lambdas, alphas, columns):
    """(forms [C, n (n + 1) / 2], hats [C, M, N]) of one layer, C = lambdas x alphas."""
    mask, rows = outer
    nuisance = partial_ridge.nuisance_operators(nuisances, mask, lambdas)
    if features is None:
        hats = nuisance[:, rows]
    else:
        fitted = partial_ridge.factor(features, nuisances, mask)
        hats = partial_ridge.operators(fitted, nuisance, alphas, rows)
    # The inner folds are made of the outer training rows.
    own = None if features is None else features[columns]
    forms = partial_ridge.error_forms(own, nuisances[columns], *inner, lambdas, alphas)
    upper = jnp.triu_indices(len(columns))
    twice = jnp.where(upper[0] == upper[1], 1, 2).astype(forms.dtype)
    return forms[:, upper[0], upper[1]] * twice, hats


def score(choices: Sequence[Choices], folds: TimeFolds, targets: np.ndarray) -> Scores:
    """Scores of P recordings [P, N, S, R] by candidates of `prepare`."""
    targets = jnp.asarray(targets, jnp.float32)
    correlation, residual, total, chosen = 0.0, 0.0, 0.0, []
    for fold, choice in enumerate(choices):
        test = (folds.test_rows[fold], folds.test_weights[fold])
        found = _score_fold(
            choice.forms, choice.hats, targets, choice.columns, choice.weights, *test
        )
        correlation = correlation + np.asarray(found[0], np.float64) / len(choices)
        residual = residual + np.asarray(found[1], np.float64)
        total = total + np.asarray(found[2], np.float64)
        chosen.append(np.asarray(found[3]))
    r2 = 1 - residual / np.where(total > 0, total, np.inf)
    return Scores(correlation, r2, np.stack(chosen))


@jax.jit
def _score_fold(forms, hats, targets, columns, column_weights, rows, weights):
    """(r, residual and total sum of squares [P, S, R], chosen candidates [P, R])."""
    upper = jnp.triu_indices(len(columns))

    def one(y):  # [N, S, R]
        share = (column_weights / column_weights.sum())[:, None, None]
        mean = (share * y[columns]).sum(axis=0)
        train = y[columns] - mean
        spread = jnp.sqrt((share * train**2).sum(axis=0))
        # Subjects count alike in the choice.
        train = train / jnp.where(spread > 0, spread, 1)
        products = jnp.einsum("nsr,msr->rnm", train, train, precision="highest")
        errors = linalg.matmul(forms, products[:, upper[0], upper[1]].T)
        index = jnp.where(jnp.isnan(errors), jnp.inf, errors).argmin(axis=0)
        # The mean is taken off and needs no putting back: all scores are about the blocks' means.
        centred = y - mean
        predicted = jnp.einsum("rmn,nsr->msr", hats[index], centred, precision="highest")
        # No features and no nuisances predict a constant, of which only rounding is left.
        size = jnp.sqrt((predicted**2).mean(axis=0))
        predicted = jnp.where(size > _ROUNDING * spread, predicted, 0)
        true = centred[rows]
        flat = (len(rows), -1)
        r = scoring.pearson(true.reshape(flat), predicted.reshape(flat), weights)
        w = weights[:, None, None]
        about = true - predicted
        about = about - (w * about).sum(axis=0) / w.sum()
        true = true - (w * true).sum(axis=0) / w.sum()
        sums = ((w * x**2).sum(axis=0) for x in (about, true))
        return (r.reshape(y.shape[1:]), *sums, index)

    return jax.lax.map(one, targets, batch_size=_TOGETHER)


def ceiling(bold: np.ndarray, folds: TimeFolds) -> np.ndarray:
    """[S, R]: how well the mean of the other subjects' time courses does as the prediction of one's own.

    bold: [N, S, R]. Scored as the models are: mean over test blocks of the correlation within them.
    """
    z = (bold - bold.mean(axis=0)) / bold.std(axis=0)
    others = z.sum(axis=1, keepdims=True) - z
    scores = []
    for rows, weights in zip(folds.test_rows, folds.test_weights, strict=True):
        rows = rows[weights > 0]
        a, b = (x[rows] - x[rows].mean(axis=0) for x in (z, others))
        scores.append((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)))
    return np.mean(scores, axis=0)


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


def shifted(bold: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Recordings [P, N, S, R] float32 of the rows [P, N] of bold [N, S, R]: subjects share each shift."""
    return bold[rows].astype(np.float32)


def shifted_residuals(bold: np.ndarray, nuisances: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `shifted`, but only what the nuisances [N, K] leave of bold is shifted (Freedman & Lane 1983).

    What the nuisances explain stays in place, so that the shifted recordings have all that the true one
    has but what the features might add.
    """
    design = np.column_stack([np.ones(len(bold)), _unit(nuisances).astype(np.float64)])
    flat = bold.reshape(len(bold), -1)
    fitted = (design @ np.linalg.lstsq(design, flat, rcond=None)[0]).reshape(bold.shape)
    return (fitted + (bold - fitted)[rows]).astype(np.float32)
