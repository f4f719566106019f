"""The three methods of comparison, each as `prepare` (once per subject and fold) and `evaluate`.

`prepare(source, fold) -> state` holds all that does not depend on the language model;
`evaluate(state, target, fold) -> dict` scores one layer and is mapped over layers from outside.
Both are traced, so they work on masks and static shapes.
"""

from dataclasses import dataclass
from typing import NamedTuple
from typing import Protocol as TypingProtocol

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, procrustes, retrieval, ridge, rsa, scoring
from brainalign_jax.study.fold_arrays import Split, query_average, type_average
from brainalign_jax.study.protocol import Protocol


class FoldProblem(NamedTuple):
    """What one fold of one subject asks: outer split, inner splits [I, ...], token -> type [N].

    inner is None for methods that choose nothing.
    """

    outer: Split
    inner: Split | None
    token_to_type: jax.Array


class Method(TypingProtocol):
    """A way to compare one subject's responses with one layer's vectors."""

    name: str
    # True where the responses matter only through their inner products: they may then be rotated
    # into fewer columns (`sources.lossless_reduction`).
    keeps_inner_products_only: bool
    uses_inner_folds: bool

    def targets(self, values: jax.Array) -> jax.Array:
        """What `evaluate` needs of the vectors [T, D] of one layer, once per model."""

    def prepare(self, source: jax.Array, fold: FoldProblem): ...

    def evaluate(self, state, target: jax.Array, fold: FoldProblem) -> dict[str, jax.Array]:
        """rank_nn and rank_csls [Q] of the true words, and scalar scores of the predictions."""


def lossless_scores(x: jax.Array) -> jax.Array:
    """Rows of x [N, D] in the axes they span, [N, min(N, D)]: inner products are unchanged."""
    if x.shape[0] >= x.shape[1]:
        return x
    left, singular, _ = jnp.linalg.svd(x, full_matrices=False)
    return left * singular


def _decode(
    predictions: jax.Array,
    query_average: jax.Array,
    target: jax.Array,
    mean: jax.Array,
    split: Split,
    protocol: Protocol,
) -> dict[str, jax.Array]:
    """Ranks of the true words among the candidates, from predictions [N, D] for all tokens."""
    candidates = target - mean
    queries = linalg.matmul(query_average, predictions) - mean
    similarity = retrieval.cosine(queries, candidates)
    if protocol.candidate_scaling == "spread":
        fitted = retrieval.cosine(predictions - mean, candidates)
        spread = jnp.sqrt(linalg.weighted_mean(fitted**2, split.train))
        similarity = similarity / jnp.where(spread > 0, spread, 1)
    return _ranks(similarity, split, protocol)


def _ranks(similarity: jax.Array, split: Split, protocol: Protocol) -> dict[str, jax.Array]:
    """Ranks [Q] by similarity [Q, T], plain and with CSLS, among the candidates."""
    allowed = split.candidates > 0
    # Far below any similarity, yet finite: CSLS means must not meet infinities.
    similarity = jnp.where(allowed[None, :], similarity, -1e6)
    csls = retrieval.csls_from_cosine(
        similarity, k=protocol.csls_k, source_weights=split.query_mask
    )
    return {
        "rank_nn": retrieval.ranks(jnp.where(allowed, similarity, -jnp.inf), split.gold),
        "rank_csls": retrieval.ranks(jnp.where(allowed, csls, -jnp.inf), split.gold),
    }


def _prediction_scores(
    predictions: jax.Array, average: jax.Array, target: jax.Array, split: Split
) -> dict[str, jax.Array]:
    """Correlation and r2 of predicted and true vectors over the queries, mean over dimensions."""
    predicted, true = linalg.matmul(average, predictions), target[split.gold]
    return {
        "pearson": scoring.pearson(true, predicted, split.query_mask).mean(),
        "r2": scoring.r2(true, predicted, split.query_mask).mean(),
    }


@dataclass(frozen=True)
class Procrustes:
    """Rotation of the responses onto the model's vectors."""

    protocol: Protocol
    name: str = "procrustes"
    keeps_inner_products_only: bool = True
    uses_inner_folds: bool = False

    def targets(self, values: jax.Array) -> jax.Array:
        return lossless_scores(values)

    def prepare(self, source: jax.Array, fold: FoldProblem) -> tuple[jax.Array, jax.Array]:
        average = query_average(fold.outer, fold.token_to_type, queries=self.protocol.queries)
        return source, average

    def evaluate(self, state, target: jax.Array, fold: FoldProblem) -> dict[str, jax.Array]:
        source, average = state
        split = fold.outer
        tokens = target[fold.token_to_type]
        map = procrustes.fit(source, tokens, split.train, center=self.protocol.center)
        predictions = procrustes.apply(map, source)
        return _decode(predictions, average, target, map.target_mean, split, self.protocol)


class RidgeState(NamedTuple):
    """Factors of the outer fold (all tokens) and of the inner folds (their queries only)."""

    outer: ridge.RidgeFactor
    average: jax.Array
    inner: ridge.RidgeFactor


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from the responses to the model's vectors, alpha chosen in inner folds."""

    protocol: Protocol
    name: str = "ridge"
    keeps_inner_products_only: bool = True
    uses_inner_folds: bool = True

    def targets(self, values: jax.Array) -> jax.Array:
        return values

    def prepare(self, source: jax.Array, fold: FoldProblem) -> RidgeState:
        intercept, queries = self.protocol.fit_intercept, self.protocol.queries

        def inner_factor(split: Split) -> ridge.RidgeFactor:
            factor = ridge.factor_primal(source, split.train, fit_intercept=intercept)
            average = query_average(split, fold.token_to_type, queries=queries)
            return factor._replace(scores=linalg.matmul(average, factor.scores))

        return RidgeState(
            ridge.factor_primal(source, fold.outer.train, fit_intercept=intercept),
            query_average(fold.outer, fold.token_to_type, queries=queries),
            jax.lax.map(inner_factor, fold.inner),
        )

    def evaluate(self, state: RidgeState, target: jax.Array, fold: FoldProblem):
        tokens = target[fold.token_to_type]
        losses = jax.lax.map(
            lambda one: self._inner_losses(*one, target, tokens), (state.inner, fold.inner)
        )
        count = fold.inner.query_mask.sum(axis=1)
        loss = (losses * count[:, None, None]).sum(axis=0) / count.sum()
        shared = self.protocol.alpha_selection != "error_per_target"
        alpha = self._alphas(state.outer)[ridge.select_alpha(loss, shared=shared)]
        predictions = ridge.predict(state.outer, tokens, alpha)
        mean = linalg.weighted_mean(tokens, fold.outer.train) * self.protocol.center
        ranks = _decode(predictions, state.average, target, mean, fold.outer, self.protocol)
        return ranks | _prediction_scores(predictions, state.average, target, fold.outer)

    def _alphas(self, factor: ridge.RidgeFactor) -> jax.Array:
        """Penalties [A] in the units of this factor's kernel."""
        alphas = jnp.asarray(self.protocol.alphas, factor.eigenvalues.dtype)
        if self.protocol.alpha_unit == "absolute":
            return alphas
        return alphas * factor.eigenvalues.sum() / factor.weights.sum()

    def _inner_losses(self, factor, split: Split, target, tokens) -> jax.Array:
        """Loss of each alpha on one inner fold: [A, 1] mean rank, or [A, D] squared errors."""
        predictions = ridge.predict_path(factor, tokens, self._alphas(factor))
        if self.protocol.alpha_selection != "retrieval":
            squared = (predictions - target[split.gold]) ** 2
            return jax.vmap(linalg.weighted_mean, (0, None))(squared, split.query_mask)
        mean = linalg.weighted_mean(tokens, split.train) * self.protocol.center

        def mean_rank(predicted: jax.Array) -> jax.Array:
            similarity = retrieval.cosine(predicted - mean, target - mean)
            allowed = jnp.where(split.candidates > 0, similarity, -jnp.inf)
            ranks = retrieval.ranks(allowed, split.gold)
            return (ranks * split.query_mask).sum() / split.query_mask.sum()

        return jax.vmap(mean_rank)(predictions)[:, None]


class SimilarityProfiles(NamedTuple):
    """Unit vectors [Q, T] of the queries' similarities to the training words; [T] their mask."""

    queries: jax.Array
    training_types: jax.Array


@dataclass(frozen=True)
class SimilarityDecoding:
    """Decoding by similarity alone, no map fitted: second-order retrieval.

    A tested word is known by its similarities to the training words, in the brain and in the model;
    its brain profile is compared with the model profile of every candidate. The RSA score itself is
    `rsa_scores`, over all words. Reference: Anderson, Zinszer & Raizada (2016), NeuroImage 128:44-53.
    """

    protocol: Protocol
    name: str = "rsa"
    keeps_inner_products_only: bool = False
    uses_inner_folds: bool = False

    def targets(self, values: jax.Array) -> jax.Array:
        return values

    def prepare(self, source: jax.Array, fold: FoldProblem) -> SimilarityProfiles:
        split, n_types = fold.outer, fold.outer.candidates.shape[0]
        average = type_average(split.train, fold.token_to_type, n_types)
        training_types = (average.sum(axis=1) > 0).astype(source.dtype)
        mean = linalg.weighted_mean(source, split.train) * self.protocol.center
        asked = query_average(split, fold.token_to_type, queries=self.protocol.queries)
        known = self._unit(linalg.matmul(average, source) - mean)
        profile = linalg.matmul(self._unit(linalg.matmul(asked, source) - mean), known.T)
        return SimilarityProfiles(_unit_profiles(profile, training_types), training_types)

    def evaluate(self, state: SimilarityProfiles, target: jax.Array, fold: FoldProblem):
        mean = linalg.weighted_mean(target, state.training_types) * self.protocol.center
        similar = linalg.gram(self._unit(target - mean))
        # A training word's similarity with itself has no counterpart in a tested word's profile:
        # it is replaced by the mean of its row, which says nothing.
        others = state.training_types[None, :] * (1 - jnp.eye(similar.shape[0]))
        row_mean = (similar * others).sum(axis=1) / jnp.maximum(others.sum(axis=1), 1)
        similar = jnp.where(jnp.eye(similar.shape[0]) > 0, row_mean[:, None], similar)
        candidates = _unit_profiles(similar, state.training_types)
        return _ranks(linalg.matmul(state.queries, candidates.T), fold.outer, self.protocol)

    def _unit(self, x: jax.Array) -> jax.Array:
        metric = self.protocol.rdm_metric
        return rsa.unit_rows(x, metric="correlation" if metric == "euclidean" else metric)


def _unit_profiles(profiles: jax.Array, training_types: jax.Array) -> jax.Array:
    """Profiles [Q, T] centred over the training types and of unit length, zero elsewhere."""
    mean = linalg.matmul(profiles, linalg.normalized_weights(training_types, profiles.dtype))
    centred = (profiles - mean[:, None]) * training_types[None, :]
    return rsa.unit_rows(centred, metric="cosine")


def rsa_scores(sources: jax.Array, targets: jax.Array, protocol: Protocol) -> jax.Array:
    """RSA [S, L]: similarity of each subject's RDM with each layer's, over all words.

    Args: sources [S, T, V], mean response of each word type; targets [L, T, D].
    """
    brain = jax.lax.map(lambda x: rsa.rdm(x, metric=protocol.rdm_metric), sources)
    model = jax.lax.map(lambda x: rsa.rdm(x, metric=protocol.rdm_metric), targets)
    method = protocol.rdm_comparison
    if method == "kendall_tau_a":
        return jax.lax.map(
            lambda a: jax.lax.map(lambda b: rsa.compare(a, b, method=method), model), brain
        )
    brain = jax.lax.map(lambda x: rsa.comparison_vector(x, method=method), brain)
    model = jax.lax.map(lambda x: rsa.comparison_vector(x, method=method), model)
    return linalg.matmul(brain, model.T)


METHODS = {"procrustes": Procrustes, "ridge": Ridge, "rsa": SimilarityDecoding}
