"""Contrastive maps of one subject: all layers and folds trained together, and decoded as ridge is.

The map of each subject, layer and fold starts at ridge's, with ridge's own alpha, or at that of Procrustes.
The number of updates is chosen by the mean rank of the true words in the inner folds, pooled, as ridge
chooses alpha; the map is then trained on the whole training set for so many updates. No update at all
is among the choices.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax import __version__
from brainalign_jax.align import linalg, procrustes, retrieval, ridge
from brainalign_jax.align.retrieval import contrastive
from brainalign_jax.align.retrieval.contrastive import Training
from brainalign_jax.language import Embeddings
from brainalign_jax.names import check_known
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.contrastive.checkpoints import Checkpoints, train
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.problem import Scoring, build_problem

_BATCH = 18  # maps trained side by side


@dataclasses.dataclass(frozen=True)
class Trial:
    """A training and the map that it starts from: "ridge" or "procrustes"."""

    training: Training
    start: str = "ridge"

    def __post_init__(self):
        check_known("start=", self.start, ("ridge", "procrustes"))


class Words(NamedTuple):
    """One subject's words in the order of their types, and the folds.

    source: [T, R]; targets: [L, T, D]; train: [F, T]; inner_train, inner_test: [F, I, T]; queries: [F, Q]
    tested words; query_mask: [F, Q], 0 where padded.
    """

    source: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    inner_train: np.ndarray
    inner_test: np.ndarray
    queries: np.ndarray
    query_mask: np.ndarray


def read_words(
    responses: WordResponses, embeddings: Embeddings, scoring: Scoring
) -> tuple[tuple[int, ...], Words]:
    """(layer numbers, words and folds), as the sweep makes them.

    Raises: ValueError if a word is presented more than once or without a response: repetitions would
    compete with one another for the same target.
    """
    problem = build_problem(responses, embeddings, scoring)
    token_to_type = problem.folds.token_to_type
    if sorted(token_to_type[problem.eligible]) != list(range(len(responses.values))):
        raise ValueError(
            f"subject {responses.subject!r} has {int(problem.eligible.sum())} responses to "
            f"{len(embeddings.types)} words in {len(responses.values)} rows: contrastive maps need one "
            "response to each word, such as that of isolated words"
        )
    order = np.argsort(token_to_type)
    protocol = scoring.protocol
    width = embeddings.values.shape[-1]
    if (
        preparation.fits_each_fold(protocol)
        or protocol.pca != "none"
        or protocol.queries != "types"
    ):
        raise ValueError(
            "contrastive maps take the responses as they are, one row a word: set n_voxels=0, "
            "scaling=none, pca=none and queries=types"
        )
    if protocol.vector_scaling != "none" or protocol.csls_queries != "fold":
        raise ValueError(
            "contrastive maps take the vectors as they are, and CSLS within a fold: set "
            "vector_scaling=none and csls_queries=fold"
        )
    source = preparation.prepare_responses(
        responses.values, problem.eligible, protocol, width=width, form="products"
    )
    layers = tuple(
        layer
        for layer in range(len(embeddings.values))
        if scoring.layers is None or layer in scoring.layers
    )
    # Cosines of centred vectors are all that counts: axes that the words do not span are left out.
    targets = [
        preparation.lossless_reduction(x - x.mean(axis=0))
        for x in embeddings.values[list(layers)].astype(np.float64)
    ]
    width = max(x.shape[1] for x in targets)
    outer, inner = problem.folds.outer, problem.folds.inner
    words = Words(
        source[order],
        np.stack([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in targets]),
        outer.train[:, order],
        inner.train[:, :, order],
        inner.test[:, :, order],
        outer.queries,
        outer.query_mask,
    )
    return layers, words


# The maps that trainings start from.


def ridge_map(source, target, weights, alpha) -> jax.Array:
    """Ridge's map [V, D] of centred rows; alpha is in units of the mean training kernel diagonal."""
    weights = linalg.training_mask(weights, source.dtype)
    x = linalg.center(source, linalg.weighted_mean(source, weights), weights)
    y = linalg.center(target, linalg.weighted_mean(target, weights), weights)
    covariance = linalg.matmul(x.T, x)
    penalty = alpha * jnp.trace(covariance) / weights.sum()
    penalised = covariance + penalty * jnp.eye(len(covariance), dtype=x.dtype)
    return jax.scipy.linalg.solve(penalised, linalg.matmul(x.T, y), assume_a="pos")


@functools.partial(jax.jit, static_argnames="alphas")
def select_alphas(words: Words, *, alphas: tuple[float, ...]) -> jax.Array:
    """[L, F] alpha of the least mean rank of the true words over the inner folds, as `methods.Ridge`."""
    grid = jnp.asarray(alphas, words.source.dtype)

    def ranks_of(target, weights, test, factor):
        scaled = grid * factor.eigenvalues.sum() / factor.weights.sum()
        mean = linalg.weighted_mean(target, weights)

        def of_alpha(predicted):
            scores = retrieval.cosine(predicted - mean, target - mean)
            scores = jnp.where((weights + test)[None, :] > 0, scores, -jnp.inf)
            ranks = retrieval.ranks(scores, jnp.arange(len(target), dtype=jnp.int32))
            return (ranks * test).sum()

        return jax.vmap(of_alpha)(ridge.predict_path(factor, target, scaled))

    def of_fold(fold):
        inner_train, inner_test = fold
        factors = jax.lax.map(lambda w: ridge.factor_primal(words.source, w), inner_train)

        def of_layer(target):
            ranks = jax.lax.map(
                lambda inner: ranks_of(target, *inner), (inner_train, inner_test, factors)
            )
            return grid[ridge.select_alpha(ranks.sum(axis=0)[:, None], shared=True)]

        return jax.lax.map(of_layer, words.targets)

    return jax.lax.map(of_fold, (words.inner_train, words.inner_test)).T


# Training over layers and folds.


def _mapped(function, targets, *arguments):
    """function(target, ...) over layers [L] and, of each, over the maps [L, P, ...], a few at a time."""

    def of_layer(layer):
        target, *others = layer
        return jax.lax.map(lambda parts: function(target, *parts), tuple(others), batch_size=_BATCH)

    return jax.lax.map(of_layer, (targets, *arguments))


def _first_map(source, target, weights, alpha, start: str) -> jax.Array:
    if start == "procrustes":
        return procrustes.fit(source, target, weights).rotation
    return ridge_map(source, target, weights, alpha)


@functools.partial(jax.jit, static_argnames="start")
def first_maps(words: Words, alphas: jax.Array, *, start: str) -> jax.Array:
    """The maps [L, F, V, D] of ridge or Procrustes on the whole training sets; alphas [L, F]."""
    train = jnp.broadcast_to(words.train, (len(words.targets), *words.train.shape))
    return _mapped(
        lambda targets, mask, alpha: _first_map(words.source, targets, mask, alpha, start),
        words.targets,
        train,
        alphas,
    )


@functools.partial(jax.jit, static_argnames="trial")
def _start(words: Words, weights, validation, alphas, stops, *, trial: Trial):
    """States [L, P] of trainings that have not begun. All but the words [L, P, ...]."""

    def start_map(target, weights, validation, alpha, stop):
        return contrastive.init(
            words.source,
            target,
            weights,
            validation,
            _first_map(words.source, target, weights, alpha, trial.start),
            training=trial.training,
            stop=stop,
        )

    return _mapped(start_map, words.targets, weights, validation, alphas, stops)


@functools.partial(jax.jit, static_argnames="training")
def _advance(state, words: Words, weights, validation, *, training: Training, n_steps: int):
    def advance_map(target, weights, validation, state):
        return contrastive.advance(
            state, words.source, target, weights, validation, training=training, n_steps=n_steps
        )

    return _mapped(advance_map, words.targets, weights, validation, state)


class Trained(NamedTuple):
    """maps: [L, F, V, D]; n_updates: [L, F], chosen in the inner folds; curve: [L, F, n_steps + 1], mean rank
    of the inner folds' words after so many updates."""

    maps: np.ndarray
    n_updates: np.ndarray
    curve: np.ndarray


def train_maps(
    words: Words,
    alphas: jax.Array,
    trial: Trial,
    *,
    every: int,
    checkpoints: Path | None = None,
) -> Trained:
    """Train the maps of all layers and folds of one subject.

    Args:
      alphas: [L, F], of ridge, where its map is the first one. every: steps between checkpoints.
      checkpoints: folder; an interrupted call goes on from the newest there.
    """
    n_layers, (n_folds, n_inner, n_words) = len(words.targets), words.inner_test.shape
    # Folds are compared over all numbers of updates, so none may stop before the others.
    training = dataclasses.replace(trial.training, patience=trial.training.n_steps + 1)
    trial = dataclasses.replace(trial, training=training)

    def run(stage, weights, validation, alphas, stops):
        masks = [
            np.broadcast_to(m, (n_layers, *m.shape)).astype(np.float32)
            for m in (weights, validation)
        ]
        key = fingerprint(stage, trial, __version__, words, alphas, stops)
        return train(
            lambda: _start(words, *masks, alphas, stops, trial=trial),
            lambda state, n: _advance(state, words, *masks, training=training, n_steps=n),
            n_steps=int(np.max(stops)) + 1,
            every=every,
            checkpoints=checkpoints and Checkpoints(checkpoints, key),
        )

    flat = (n_folds * n_inner, n_words)
    inner = run(
        "inner",
        words.inner_train.reshape(flat),
        words.inner_test.reshape(flat),
        np.repeat(alphas, n_inner, axis=1),
        np.full((n_layers, flat[0]), training.n_steps, np.int32),
    )
    history = np.asarray(inner.history).reshape(n_layers, n_folds, n_inner, -1)
    counts = words.inner_test.sum(axis=2)
    curve = np.einsum("lfis,fi->lfs", history, counts / counts.sum(axis=1, keepdims=True))
    n_updates = curve.argmin(axis=2).astype(np.int32)
    outer = run("outer", words.train, np.zeros_like(words.train), np.asarray(alphas), n_updates)
    return Trained(np.asarray(outer.best_weight), n_updates, curve)


def fingerprint(*parts) -> str:
    """SHA-256 (hex) of arrays, tuples of arrays and whatever has a faithful repr."""
    digest = hashlib.sha256()
    for part in jax.tree.leaves(parts, is_leaf=lambda x: isinstance(x, Trial)):
        if hasattr(part, "shape"):
            part = np.asarray(part)
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


# Scores.


@functools.partial(jax.jit, static_argnames="protocol")
def decode(words: Words, maps: jax.Array, *, protocol: Protocol) -> dict[str, jax.Array]:
    """rank_nn and rank_csls [L, F, Q] of the tested words among all words, by maps [L, F, V, D].

    Scored as the sweep scores ridge: see `methods` and protocol.candidate_scaling.
    """

    def decode_map(target, map, weights, queries, query_mask):
        predicted = linalg.matmul(words.source - linalg.weighted_mean(words.source, weights), map)
        cosines = retrieval.cosine(predicted, target - linalg.weighted_mean(target, weights))
        similarity = cosines[queries]
        if protocol.candidate_scaling == "spread":
            spread = jnp.sqrt(linalg.weighted_mean(cosines**2, weights))
            similarity = similarity / jnp.where(spread > 0, spread, 1)
        csls = retrieval.csls_from_cosine(similarity, k=protocol.csls_k, source_weights=query_mask)
        return {
            "rank_nn": retrieval.ranks(similarity, queries),
            "rank_csls": retrieval.ranks(csls, queries),
        }

    folds = tuple(
        jnp.broadcast_to(x, (len(words.targets), *x.shape))
        for x in (words.train, words.queries, words.query_mask)
    )
    return _mapped(decode_map, words.targets, maps, *folds)
