"""Maps from responses to a layer's vectors, and where they rank the words of a section nobody trained on.

All problems are filled up to one size, so that each program is compiled once: rows, words and people that
fill up have no weight. Draws fit nothing anew. Within a language the words are shifted against the recording:
a map's similarities of every word's response with every candidate are computed once, and each draw adds up
others of them. Across languages the tested people's space is turned.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg, procrustes, retrieval, ridge
from brainalign_jax.study.computation import compiled

METHODS = ("ridge", "procrustes")
# Times the mean squared length of a training row.
ALPHAS = tuple(10.0**power for power in range(-3, 5))
_N_INNER = 5


class Training(NamedTuple):
    """source: [N, V] responses; weights: [N]; inner: [I, N], 1 on the training rows of an inner fold, and
    held: [I, N], 1 on those held out of it."""

    source: np.ndarray
    weights: np.ndarray
    inner: np.ndarray
    held: np.ndarray


class Shifted(NamedTuple):
    """The words of a section, which draws shift against the recording.

    responses: [P, n, V]. slot: [m] which candidate each word that is one is a token of, Q where there is
    none. moved: [1 + B, m] at which place its response is: as it was recorded, then in each draw.
    mask: [Q] candidates.
    """

    responses: np.ndarray
    slot: np.ndarray
    moved: np.ndarray
    mask: np.ndarray


class Turned(NamedTuple):
    """The candidates of a section, of whose responses draws turn the space.

    means: [P, Q, V] responses to each candidate. turns: [1 + B, V, V], the identity, then of each draw. mask:
    [Q] candidates.
    """

    means: np.ndarray
    turns: np.ndarray
    mask: np.ndarray


class Factors(NamedTuple):
    """Of ridge regression: the outer factor, [V, K] from its basis to coefficients, the inner factors [I]."""

    outer: ridge.RidgeFactor
    lift: jax.Array
    inner: ridge.RidgeFactor


class Fitted(NamedTuple):
    """map: [V, D]; loss: one less the mean cosine of predictions and vectors in the inner folds."""

    map: jax.Array
    loss: jax.Array


def inner_folds(section: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, rows held out) [I, size] of whole sections [N]; of halves where there is one section.

    There are always as many; those that are too many hold out what another one does.
    """
    labels = np.unique(section)
    if len(labels) < 2:
        parts = np.array_split(np.arange(len(section)), 2)
    else:
        groups = np.array_split(labels, min(_N_INNER, len(labels)))
        parts = [np.flatnonzero(np.isin(section, group)) for group in groups]
    train, held = np.zeros((2, _N_INNER, size), np.float32)
    for fold in range(_N_INNER):
        part = parts[fold % len(parts)]
        held[fold, part] = 1
        train[fold, : len(section)] = 1
        train[fold, part] = 0
    return train, held


def filled(values: np.ndarray, size: int, axis: int = 0) -> np.ndarray:
    """Values with zeros behind them along an axis, up to a size."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, size - values.shape[axis])
    return np.pad(values, widths)


def _factor(training: Training) -> Factors:
    training = Training(*map(jnp.asarray, training))
    outer = ridge.factor_primal(training.source, training.weights)
    train = linalg.masked_rows(training.source, training.weights)
    inner = jax.lax.map(lambda mask: ridge.factor_primal(training.source, mask), training.inner)
    return Factors(outer, linalg.matmul(train.T, outer.basis), inner)


def _loss(predicted: jax.Array, target: jax.Array, train: jax.Array, held: jax.Array) -> jax.Array:
    """One less the mean cosine [...] over held rows of predictions [..., N, D], about the training mean."""
    target = target - linalg.weighted_mean(target, train)
    cosines = (linalg.unit_rows(predicted) * linalg.unit_rows(target)).sum(axis=-1)
    return 1 - (cosines * held).sum(axis=-1) / held.sum()


def _fit_ridge(factors: Factors, training: Training, target: jax.Array) -> Fitted:
    """Ridge regression, the penalty of least loss in the inner folds."""
    alphas = jnp.asarray(ALPHAS, target.dtype)

    def unit(factor):
        return alphas * factor.eigenvalues.sum() / factor.weights.sum()

    def of_fold(fold):
        factor, train, held = fold
        predicted = ridge.predict_path(factor, target, unit(factor))
        return _loss(predicted - linalg.weighted_mean(target, train), target, train, held)

    losses = jax.lax.map(of_fold, (factors.inner, training.inner, training.held)).mean(axis=0)
    chosen = losses.argmin()
    total = factors.outer.eigenvalues + unit(factors.outer)[chosen]
    gains = linalg.ratio(1, total, total <= 0)
    centred = linalg.masked_rows(
        target - linalg.weighted_mean(target, training.weights), training.weights
    )
    projected = linalg.matmul(factors.outer.basis.T, centred)
    return Fitted(linalg.matmul(factors.lift, gains[:, None] * projected), losses[chosen])


def _fit_procrustes(factors: None, training: Training, target: jax.Array) -> Fitted:
    """The isometry of the training rows."""
    source = jnp.asarray(training.source)

    def of_fold(fold):
        train, held = fold
        fitted = procrustes.fit(source, target, train)
        predicted = procrustes.apply(fitted, source) - fitted.target_mean
        return _loss(predicted, target, train, held)

    losses = jax.lax.map(of_fold, (jnp.asarray(training.inner), jnp.asarray(training.held)))
    whole = procrustes.fit(source, target, jnp.asarray(training.weights))
    return Fitted(whole.rotation, losses.mean())


def _scores(similar: jax.Array, mask: jax.Array, ks: tuple[int, ...]) -> jax.Array:
    """Mean rank accuracy and precision at ks [1 + K] of similarities [Q, Q] with the true ones at (q, q)."""
    count = mask.sum()
    ranks = retrieval.ranks(jnp.where(mask > 0, similar, -jnp.inf), jnp.arange(len(mask)))
    hits = [ranks <= k for k in ks]
    scores = jnp.stack([retrieval.rank_accuracy(ranks, count), *hits])
    return (scores * mask).sum(axis=1) / count


def _rank_shifted(
    tested: Shifted, weights: jax.Array, candidates: jax.Array, *, ks: tuple[int, ...]
):
    """Scores [1 + B, P, 1 + K] of a map [V, D]: mean rank accuracy of the candidates [Q, D], precision at ks.

    The candidates are about their own mean, and those that fill up are zero.
    """
    n_slots = len(tested.mask)
    mask = jnp.asarray(tested.mask)
    similar = linalg.matmul(
        tested.responses, linalg.matmul(weights, linalg.unit_rows(candidates).T)
    )

    def of_draw(moved):
        def of_person(similarities):
            sums = jax.ops.segment_sum(similarities[moved], tested.slot, num_segments=n_slots + 1)
            return _scores(sums[:-1], mask, ks)

        return jax.vmap(of_person)(similar)

    return jax.lax.map(of_draw, jnp.asarray(tested.moved))


def _rank_turned(tested: Turned, weights: jax.Array, candidates: jax.Array, *, ks: tuple[int, ...]):
    """As `_rank_shifted`, of words in turned spaces."""
    mask = jnp.asarray(tested.mask)
    reading = linalg.matmul(weights, linalg.unit_rows(candidates).T)  # [V, Q]

    def of_draw(turn):
        similar = linalg.matmul(tested.means, linalg.matmul(turn, reading))
        return jax.vmap(lambda similarities: _scores(similarities, mask, ks))(similar)

    return jax.lax.map(of_draw, jnp.asarray(tested.turns))


factor = compiled(_factor)
fit_ridge = compiled(_fit_ridge)
fit_procrustes = compiled(_fit_procrustes)
rank_shifted = compiled(_rank_shifted, static_argnames=("ks",))
rank_turned = compiled(_rank_turned, static_argnames=("ks",))


def fit(method: str, factors: Factors | None, training: Training, target: np.ndarray) -> Fitted:
    """The map by a method of METHODS; factors: of `factor`, for ridge."""
    return (fit_ridge if method == "ridge" else fit_procrustes)(factors, training, target)


def rank(
    tested: Shifted | Turned, weights: jax.Array, candidates: np.ndarray, *, ks: tuple[int, ...]
) -> jax.Array:
    """Scores [1 + B, P, 1 + K] of a map, as it is and in each draw."""
    ranked = rank_turned if isinstance(tested, Turned) else rank_shifted
    return ranked(tested, weights, candidates, ks=ks)


def token_means(responses: np.ndarray, slot: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Means [P, Q, V] over the tokens of each candidate; slot: [m] of the words at these places [m]."""
    average = np.zeros((int(slot.max()) + 1, responses.shape[1]))
    np.add.at(average, (slot, places), 1.0)
    average /= average.sum(axis=1, keepdims=True)
    return np.stack([average @ person for person in responses])


def others_accuracy(responses: np.ndarray, slot: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rank accuracy [P] of each person's candidates among the others' mean responses to them, NaN for one.

    responses: [P, n, V]; slot: [m] of the words at these places [m], all of them candidates.
    """
    n_people, n_slots = len(responses), int(slot.max()) + 1
    if n_people < 2:
        return np.full(n_people, np.nan)
    means = token_means(responses, slot, places)
    means -= means.mean(axis=1, keepdims=True)
    accuracy = np.empty(n_people)
    for person in range(n_people):
        others = np.delete(means, person, axis=0).mean(axis=0)
        length = np.linalg.norm(others, axis=1, keepdims=True)
        similar = means[person] @ (others / np.where(length > 0, length, 1)).T
        own = np.diagonal(similar)[:, None]
        above = (similar > own).sum(axis=1) + ((similar == own).sum(axis=1) - 1) / 2
        accuracy[person] = 1 - above.mean() / (n_slots - 1)
    return accuracy
