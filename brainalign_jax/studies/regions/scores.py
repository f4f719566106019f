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
from brainalign_jax.align.ridge import partial_ridge, residual_ridge
from brainalign_jax.align.stats import scoring
from brainalign_jax.study.score import volumes
from brainalign_jax.study.score.volumes import (
    TimeFolds,
    kept_share,
    padded_rows,
    unit_columns,
)

_TOGETHER = 8  # recordings worked at once
_ROUNDING = 1e-5  # of a time course's deviation; a prediction below it is none
_WIDTH = 8  # nuisances are padded to multiples of it, so that sets share compiled programs


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
    nuisances = np.pad(unit_columns(nuisances), ((0, 0), (0, _WIDTH - count % _WIDTH)))
    layers = [jnp.asarray(unit_columns(layer)) for layer in layers] or [None]
    every, every_weight = padded_rows([np.flatnonzero(mask) for mask in folds.train])
    choices = []
    for fold, (columns, weights) in enumerate(zip(every, every_weight, strict=True)):
        outer = (jnp.asarray(folds.train[fold], jnp.float32), folds.test_rows[fold])
        inner = (
            folds.inner_train[fold][:, columns] * weights,
            np.searchsorted(columns, folds.inner_rows[fold]),
            folds.inner_weights[fold],
        )
        candidates = [
            _candidates(layer, nuisances, outer, inner, lambdas, alphas, columns)
            for layer in layers
        ]
        forms, hats = (jnp.concatenate(parts) for parts in zip(*candidates, strict=True))
        choices.append(Choices(forms, columns, weights, hats))
    return choices


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
    fold_features = None if features is None else features[columns]
    train, held, weights = inner
    forms = partial_ridge.error_forms(
        fold_features, nuisances[columns], train, held, weights, lambdas, alphas
    )
    upper = jnp.triu_indices(len(columns))
    twice = jnp.where(upper[0] == upper[1], 1, 2).astype(forms.dtype)
    return forms[:, upper[0], upper[1]] * twice, hats


def score(choices: Sequence[Choices], folds: TimeFolds, targets: np.ndarray) -> Scores:
    """Scores of P recordings [P, N, S, R] by candidates of `prepare`."""
    targets = jnp.asarray(targets, jnp.float32)
    correlation, residual, total, chosen = 0.0, 0.0, 0.0, []
    for fold, choice in enumerate(choices):
        test = (folds.test_rows[fold], folds.test_weights[fold])
        fold_scores = _score_fold(
            choice.forms, choice.hats, targets, choice.columns, choice.weights, *test
        )
        correlation = correlation + np.asarray(fold_scores[0], np.float64) / len(choices)
        residual = residual + np.asarray(fold_scores[1], np.float64)
        total = total + np.asarray(fold_scores[2], np.float64)
        chosen.append(np.asarray(fold_scores[3]))
    r2 = 1 - residual / np.where(total > 0, total, np.inf)
    return Scores(correlation, r2, np.stack(chosen))


@jax.jit
def _score_fold(forms, hats, targets, columns, column_weights, rows, weights):
    """(r, residual and total sum of squares [P, S, R], chosen candidates [P, R])."""
    upper = jnp.triu_indices(len(columns))

    def of_draw(y):  # [N, S, R]
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

    return jax.lax.map(of_draw, targets, batch_size=_TOGETHER)


def ceiling(bold: np.ndarray, folds: TimeFolds) -> np.ndarray:
    """[S, R]: how well the mean of the other subjects' time courses [N, S, R] predicts one's own."""
    z = unit_columns(bold)
    others = z.sum(axis=1, keepdims=True) - z
    flat = (len(z), -1)
    return volumes.ceiling(z.reshape(flat), others.reshape(flat), folds).reshape(z.shape[1:])


def shifted(bold: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Recordings [P, N, S, R] float32 of the rows [P, N] of bold [N, S, R]: subjects share each shift."""
    return bold[rows].astype(np.float32)


def shifted_residuals(bold: np.ndarray, nuisances: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `shifted`, but only what the nuisances [N, K] leave of bold is shifted (Freedman & Lane 1983).

    What the nuisances explain stays in place, as far as it is more than a fit of noise (`kept_share`), so
    that the shifted recordings have all that the true one has but what the features might add.
    """
    flat = bold.reshape(len(bold), -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    basis = residual_ridge.nuisance_fit(nuisances, np.ones(len(bold))).basis[:, 1:]
    fitted = basis @ (basis.T @ flat) * kept_share(basis, flat, rows)
    fitted = fitted.reshape(bold.shape)
    return (fitted + (bold - fitted)[rows]).astype(np.float32)
