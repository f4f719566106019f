"""Encoding in each window: every channel predicted from a layer by ridge, in the folds of the decoding.

The layer is the source, so that one factor of a fold serves all windows, channels, penalties and null draws.
The penalty is one for all channels of a window, of least squared error in the inner folds; draws keep it.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import intersubject_correlation
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.timecourse.decoding import WindowScores
from brainalign_jax.studies.timecourse.windows import Recording
from brainalign_jax.study.computation import Computation, compiled
from brainalign_jax.study.evidence.draws import Draw, draw_nulls
from brainalign_jax.study.evidence.nulls import NullPlan
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.folds import inner_folds, outer_folds
from brainalign_jax.study.score.workbench import layer_numbers

METRIC = "encoding_r"


class _Fold(NamedTuple):
    """train: [N] mask; test: [Q] tokens, asked: [Q] mask of them; inner: the same of the inner folds [I]."""

    train: np.ndarray
    test: np.ndarray
    asked: np.ndarray
    inner: tuple[np.ndarray, np.ndarray, np.ndarray]


def encode_windows(
    recording: Recording,
    stimulus: Stimulus,
    model: Embeddings,
    scoring: Scoring,
    null: NullPlan | None,
    *,
    computation: Computation,
) -> WindowScores:
    """Correlation of predicted and recorded channels over the tested words, in the mean over channels.

    Of each fold apart, then the mean over folds by their words.
    """
    _, token_to_type = stimulus.types(lower=scoring.lower)
    eligible = recording.valid & (token_to_type >= 0)
    folds = _folds(stimulus, eligible, scoring)
    targets = _standardised(recording.values, eligible).swapaxes(0, 1)  # [N, W, C]
    rows = np.arange(len(stimulus))[None]
    if null is not None:
        draws = draw_nulls(
            null.kind, stimulus, eligible, token_to_type, null.n_draws, seed=null.seed
        )
        rows = np.concatenate([rows, [moved(draw, token_to_type, eligible) for draw in draws]])
    numbers: list[int] = []
    cubes = []
    weights = np.array([fold.asked.sum() for fold in folds], float)
    types = np.maximum(token_to_type, 0)
    for chosen, (known, values) in zip(
        layer_numbers(model, scoring.layers), model.blocks(), strict=True
    ):
        for layer in chosen:
            vectors = _spanned(np.asarray(values[known.index(layer)], np.float64))[types]
            vectors = vectors.astype(computation.dtype)
            with computation.context():
                by_fold = [
                    np.asarray(
                        _fold_scores(
                            vectors,
                            targets.astype(computation.dtype),
                            *fold[:3],
                            *fold.inner,
                            rows,
                            protocol=_penalties(scoring.protocol),
                        )
                    )
                    for fold in folds
                ]
            cubes.append(np.average(by_fold, axis=0, weights=weights))  # [1 + P, W]
            numbers.append(layer)
    cube = np.stack(cubes, axis=2)
    return WindowScores(METRIC, tuple(numbers), cube[0], cube[1:], int(weights.sum()), 0.0)


def ceilings(people: list[Recording]) -> np.ndarray | None:
    """Mean correlation [W] of a person's channels with the mean of the others'.

    None for one person, or where channels or words differ between people.
    """
    first = people[0]
    alike = all(
        person.channels == first.channels and np.array_equal(person.valid, first.valid)
        for person in people
    )
    if len(people) < 2 or not alike:
        return None
    correlations = []
    for number in range(len(first.responses)):
        values = np.stack([person.responses[number].values[first.valid] for person in people])
        varies = (np.ptp(values, axis=1) > 0).all(axis=0)
        correlations.append(
            intersubject_correlation(values[:, :, varies]).mean() if varies.any() else np.nan
        )
    return np.array(correlations)


def moved(draw: Draw, token_to_type: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """The token [N] whose response each token takes in a draw.

    Where types exchange their vectors, the tokens of a type take the responses of the type that takes its
    vector, in their order, and begin again where that one has fewer.
    """
    if draw.rows is not None:
        return draw.rows
    places = {
        kind: np.flatnonzero(eligible & (token_to_type == kind))
        for kind in np.unique(token_to_type[eligible])
    }
    rows = np.arange(len(token_to_type))
    taker = np.argsort(draw.types)  # the type that takes the vector of each type
    for kind, own in places.items():
        rows[own] = np.resize(places[int(taker[kind])], len(own))
    return rows


def _folds(stimulus: Stimulus, eligible: np.ndarray, scoring: Scoring) -> list[_Fold]:
    """The folds of the decoding, over tokens."""
    _, groups = stimulus.types(lower=True)
    outer = outer_folds(stimulus, groups, eligible, scoring.protocol, seed=scoring.seed)
    within = inner_folds(stimulus, groups, outer.train, scoring.protocol, seed=scoring.seed)
    most = int(outer.test.sum(axis=1).max())
    most_inner = max(int(folds.test.sum(axis=1).max()) for folds in within)
    folds = []
    for train, test, inner in zip(outer.train, outer.test, within, strict=True):
        asked = [_padded(mask, most_inner) for mask in inner.test]
        of_inner = inner.train, *(np.stack(part) for part in zip(*asked, strict=True))
        folds.append(_Fold(train, *_padded(test, most), of_inner))
    return folds


def _padded(mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.flatnonzero(mask)
    return np.pad(tokens, (0, size - len(tokens))), np.arange(size) < len(tokens)


def _standardised(values: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Channels of windows [W, N, C] at a deviation of one, so that all count alike for the penalty."""
    spread = values[:, eligible].std(axis=1, keepdims=True)
    return values / np.where(spread > 0, spread, 1)


def _spanned(values: np.ndarray) -> np.ndarray:
    """Vectors [T, D] in the axes that they span."""
    if values.shape[1] <= values.shape[0]:
        return values
    return np.asarray(np.linalg.qr(values.T, mode="r")).T


def _penalties(protocol: Protocol) -> tuple[tuple[float, ...], bool]:
    """(penalties, whether they are in units of the kernel's mean diagonal)."""
    return protocol.alphas, protocol.alpha_unit == "kernel"


@functools.partial(compiled, static_argnames=("protocol",))
def _fold_scores(x, y, train, test, asked, inner_train, inner_test, inner_asked, rows, *, protocol):
    """Mean over channels of the correlations [B, W] of a fold, for targets y [N, W, C] of rows [B, N]."""
    loss = jax.lax.map(
        lambda fold: _inner_loss(x, y, fold[0], fold[1], fold[2], protocol),
        (inner_train, inner_test, inner_asked),
    ).sum(axis=0)
    best = loss.argmin(axis=0)  # [W]
    basis, variances, centred = _factor(x, train)
    shrink = 1 / (variances[:, None] + _alphas(variances, train, protocol)[best])  # [E, W]
    asked_rows = linalg.product(centred[test], basis)
    known = train.astype(x.dtype)
    axes = linalg.product(centred * known[:, None], basis)  # [N, E]

    def of_draw(order):
        target = y[order]
        mean = jnp.einsum("n,nwc->wc", known, target) / known.sum()
        target = target - mean
        along = jnp.einsum("ne,nwc->ewc", axes, target, precision="highest") * shrink[:, :, None]
        predicted = jnp.einsum("qe,ewc->qwc", asked_rows, along, precision="highest")
        return _correlations(predicted, target[test], asked).mean(axis=1)

    return jax.lax.map(of_draw, rows)


def _inner_loss(x, y, train, test, asked, protocol) -> jax.Array:
    """Squared errors [A, W] of an inner fold, summed over words and channels."""
    basis, variances, centred = _factor(x, train)
    known = train.astype(x.dtype)
    target = y - jnp.einsum("n,nwc->wc", known, y) / known.sum()
    axes = linalg.product(centred * known[:, None], basis)
    along = jnp.einsum("ne,nwc->ewc", axes, target, precision="highest")
    asked_rows = linalg.product(centred[test], basis)

    def of_alpha(alpha):
        shrunk = along / (variances + alpha)[:, None, None]
        error = jnp.einsum("qe,ewc->qwc", asked_rows, shrunk, precision="highest") - target[test]
        return (jnp.square(error) * asked[:, None, None]).sum(axis=(0, 2))

    return jax.lax.map(of_alpha, _alphas(variances, train, protocol))


def _factor(x, train) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(axes [E, E], variances [E] of the training rows, x [N, E] less their mean)."""
    known = train.astype(x.dtype)
    centred = x - linalg.product(known, x) / known.sum()
    variances, axes = jnp.linalg.eigh(linalg.gram((centred * known[:, None]).T))
    return axes, jnp.maximum(variances, 0), centred


def _alphas(variances, train, protocol) -> jax.Array:
    alphas, of_kernel = protocol
    scale = variances.sum() / train.sum() if of_kernel else 1.0
    return jnp.asarray(alphas, variances.dtype) * scale


def _correlations(predicted, target, asked) -> jax.Array:
    """[W, C] over the words asked for; 0 where a channel or its prediction does not vary."""
    weight = asked.astype(predicted.dtype)[:, None, None]
    predicted, target = (
        (side - (side * weight).sum(axis=0) / weight.sum()) * weight for side in (predicted, target)
    )
    product = (predicted * target).sum(axis=0)
    squares = jnp.square(predicted).sum(axis=0) * jnp.square(target).sum(axis=0)
    return jnp.where(squares > 0, product / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
