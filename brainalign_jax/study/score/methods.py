"""The three methods of comparison, each as `prepare` (once per subject and fold) and `evaluate`.

`prepare(source, fold) -> state` holds all that does not depend on the language model: every layer of
every model shares it. `evaluate(state, source, layer, fold) -> dict` scores one layer and is mapped over
layers from outside. Both are traced, so they work on masks and static shapes.

A word's vector is the same wherever it occurs, so that token rows are summed to word types once, in
`prepare`, and what is done for each layer has T rows instead of N.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple
from typing import Protocol as TypingProtocol

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, procrustes, retrieval, ridge, rsa
from brainalign_jax.align.ridge import filters
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import METHODS
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors, Map
from brainalign_jax.study.score.folds import Split, query_rows, type_means, type_sums


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
    # What matters of the responses: their inner "products", those of rows "centred" over the
    # voxels, or all "values"; see `preparation.prepare_responses`.
    form: str
    uses_inner_folds: bool
    # Whether the model's vectors may be rotated into the axes that they span.
    spans_vectors: bool
    # Whether it asks for inner products of vectors less their own mean over the axes; see `LayerVectors`.
    correlates_vectors: bool

    def prepare(self, source: jax.Array, fold: FoldProblem) -> Any:
        """What all layers of all models share, from responses [N, R]."""

    def evaluate(
        self, state: Any, source: jax.Array, layer: LayerVectors, fold: FoldProblem
    ) -> dict[str, jax.Array]:
        """rank_nn and rank_csls [Q] of the true words, and scalar scores of the predictions.

        With protocol.layer_selection="inner_folds" also layer_loss, a scalar by which layers of all
        models are compared within the training words: the lower, the better. Of methods that pool the
        folds similarity [Q, T] with the candidates in the place of both ranks; see `pools_folds`.
        """


def pools_folds(method: Method) -> bool:
    """Whether the ranks of a fold's words depend on the predictions of the other folds, too."""
    return getattr(method, "pools_folds", False)


def _n_types(fold: FoldProblem) -> int:
    return fold.outer.candidates.shape[-1]


class Nested(NamedTuple):
    """What a method prepared for the outer split, and for the inner ones with a leading axis [I] or None."""

    outer: Any
    inner: Any


class _Nested:
    """A method without parameters of its own to choose: the inner folds serve to choose the layer."""

    protocol: Protocol

    @property
    def uses_inner_folds(self) -> bool:
        return self.protocol.layer_selection == "inner_folds"

    def prepare(self, source: jax.Array, fold: FoldProblem) -> Nested:
        def one(split: Split):
            return self._prepare(source, split, (fold.token_to_type, _n_types(fold)))

        inner = jax.lax.map(one, fold.inner) if self.uses_inner_folds else None
        return Nested(one(fold.outer), inner)

    def evaluate(self, state: Nested, source, layer: LayerVectors, fold: FoldProblem):
        found = self._decode(state.outer, source, layer, fold.outer)
        if not self.uses_inner_folds:
            return found

        def total(inputs):
            one, split = inputs
            ranks = self._decode(one, source, layer, split, csls=False)["rank_nn"]
            return (ranks * split.query_mask.astype(ranks.dtype)).sum()

        count = fold.inner.query_mask.sum().astype(source.dtype)
        loss = jax.lax.map(total, (state.inner, fold.inner)).sum() / count
        return found | {"layer_loss": loss}


class ProcrustesState(NamedTuple):
    """Mean training response of each type [T, R], tokens of each type [T], responses asked about [Q, R]."""

    means: jax.Array
    counts: jax.Array
    queries: jax.Array


@dataclass(frozen=True)
class Procrustes(_Nested):
    """Rotation of the responses onto the model's vectors."""

    protocol: Protocol
    name: str = "procrustes"
    form: str = "products"
    spans_vectors: bool = True
    correlates_vectors: bool = False

    def _prepare(self, source: jax.Array, split: Split, sizes: tuple) -> ProcrustesState:
        asked = query_rows(source, split, *sizes, queries=self.protocol.queries)
        return ProcrustesState(*type_means(source, split.train, *sizes), asked)

    def _decode(self, state: ProcrustesState, source, layer, split: Split, *, csls: bool = True):
        # The mean over a type's tokens, weighted by their number, has the same cross-covariance
        # with the vectors as the tokens themselves.
        fitted = procrustes.fit(
            state.means, layer.values, state.counts, center=self.protocol.center
        )
        map = Map(fitted.rotation, fitted.source_mean, fitted.target_mean)
        mean = map.target_mean
        vectors = layer.values
        others = None
        if csls and self.protocol.csls_queries == "all_words":
            by_type = self.protocol.queries == "types"
            others = (state.means, state.counts) if by_type else (source, split.train)
        return decoding.decode(
            map,
            state.queries,
            source,
            vectors,
            mean,
            split,
            self.protocol,
            csls=csls,
            others=others,
        )


class RidgeFactors(NamedTuple):
    """What ridge makes of the training rows before it is asked which words they are.

    outer: the factor of the outer training set; mean: [R] of its rows; weights: [R, K] from its
    eigenvectors to coefficients. inner: the factors [I, ...] of the inner ones; functions: [I, B, K] of the
    filter basis at their eigenvalues; coefficients: [I, A, B]; basis_error: [I]; see `RidgeState`.
    """

    outer: ridge.RidgeFactor
    mean: jax.Array
    weights: jax.Array
    inner: ridge.RidgeFactor
    functions: jax.Array
    coefficients: jax.Array | None
    basis_error: jax.Array


class RidgeState(NamedTuple):
    """One eigen-decomposition of the outer training set, hat matrices of the inner ones.

    outer: the factor, with rows of types instead of tokens in its basis [T, R] and, as scores, the
    matrix [R, R] that gives coefficients; source_mean: [R]; queries: [Q, R].
    hats: [I, B, Q, K], of each basis function of the filters, times basis [I, K, T]: vectors of the types
    -> predictions of the inner queries. K = R, or basis is None and K = T where there are more features
    than types. coefficients: [I, A, B], that make the filters of all alphas, or None where each has its
    own; counts: [I, T] training tokens of each type; basis_error: largest error [I] of a shrinkage
    w / (w + alpha) in its basis, relative to the largest of the same alpha.
    """

    outer: ridge.RidgeFactor
    source_mean: jax.Array
    queries: jax.Array
    hats: jax.Array
    basis: jax.Array | None
    coefficients: jax.Array | None
    counts: jax.Array
    basis_error: jax.Array


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from the responses to the model's vectors, alpha chosen in inner folds.

    n_filters: size of the filter basis; None takes each alpha's own filter.
    """

    protocol: Protocol
    n_filters: int | None = None
    name: str = "ridge"
    form: str = "products"
    uses_inner_folds: bool = True
    correlates_vectors: bool = False

    @property
    def spans_vectors(self) -> bool:
        """With an alpha per target the targets must be the model's own dimensions."""
        return not self.protocol.selects_per_target

    @property
    def pools_folds(self) -> bool:
        return self.protocol.csls_queries == "all_words"

    def prepare(self, source: jax.Array, fold: FoldProblem) -> RidgeState:
        return self.prepare_words(self.factor(source, fold), source, fold)

    def factor(self, source: jax.Array, fold: FoldProblem) -> RidgeFactors:
        """The costly half of `prepare`: it depends on the training rows, not on the words they are."""
        intercept, train = self.protocol.fit_intercept, fold.outer.train
        factor = ridge.factor_primal(source, train, fit_intercept=intercept)
        mean = linalg.weighted_mean(source, train) * intercept
        centred = linalg.masked_rows(source - mean, train)
        inner = jax.lax.map(lambda train: self._factor_inner(source, train), fold.inner.train)
        return RidgeFactors(factor, mean, linalg.matmul(centred.T, factor.basis), *inner)

    def _factor_inner(self, source: jax.Array, train: jax.Array):
        """The factor of an inner training set, its filters' functions and coefficients, their error."""
        factor = ridge.factor_primal(source, train, fit_intercept=self.protocol.fit_intercept)
        alphas = self._alphas(factor)
        size = len(self.protocol.alphas) if self.n_filters is None else self.n_filters
        found = filters.filter_basis(factor.eigenvalues, alphas, size=size)
        kept = filters.shrinkage(factor.eigenvalues, alphas)
        spanned = linalg.matmul(found.coefficients, found.functions) * factor.eigenvalues
        largest = kept.max(axis=1, keepdims=True)
        error = jnp.abs(spanned - kept) / jnp.where(largest > 0, largest, 1)
        coefficients = None if self.n_filters is None else found.coefficients
        return factor, found.functions, coefficients, error.max()

    def prepare_words(
        self, factors: RidgeFactors, source: jax.Array, fold: FoldProblem
    ) -> RidgeState:
        """The state of `prepare` from the factors of the same training rows, whatever words they are."""
        train, sizes = fold.outer.train, (fold.token_to_type, _n_types(fold))
        by_type = factors.outer._replace(
            basis=type_sums(factors.outer.basis, train, *sizes),
            weights=type_sums(train.astype(source.dtype), train, *sizes),
            scores=factors.weights,
            # `evaluate` subtracts the mean itself.
            fit_intercept=jnp.zeros_like(factors.outer.fit_intercept),
        )
        asked = query_rows(source, fold.outer, *sizes, queries=self.protocol.queries)

        def inner_hats(inputs):
            factor, functions, split = inputs
            scores = query_rows(factor.scores, split, *sizes, queries=self.protocol.queries)
            basis = type_sums(factor.basis, split.train, *sizes)
            counts = type_sums(split.train.astype(source.dtype), split.train, *sizes)
            left = scores[None] * functions[:, None, :]
            if basis.shape[1] < basis.shape[0]:
                return left, basis.T, counts
            return linalg.matmul(left, basis.T), None, counts

        of_inner = factors.inner, factors.functions, fold.inner
        hats, basis, counts = jax.lax.map(inner_hats, of_inner)
        return RidgeState(
            by_type,
            factors.mean,
            asked,
            hats,
            basis,
            factors.coefficients,
            counts,
            factors.basis_error,
        )

    def evaluate(self, state: RidgeState, source, layer: LayerVectors, fold: FoldProblem):
        vectors = layer.values
        alpha, layer_loss = self.choose_alpha(state, layer, fold)
        train_mean = linalg.weighted_mean(vectors, state.outer.weights)
        target_mean = train_mean * self.protocol.fit_intercept
        weight = ridge.predict(state.outer, vectors - target_mean, alpha)
        map = Map(weight, state.source_mean, target_mean)
        mean = train_mean * self.protocol.center
        asked = map, state.queries, source, vectors, mean, fold.outer, self.protocol
        if self.pools_folds:
            ranks = {"similarity": decoding.similarities(*asked)}
        else:
            ranks = decoding.decode(*asked)
        found = ranks | decoding.prediction_scores(map, state.queries, layer, fold.outer)
        if self.protocol.layer_selection == "inner_folds":
            found["layer_loss"] = layer_loss
        return found

    def choose_alpha(
        self, state: RidgeState, layer: LayerVectors, fold: FoldProblem
    ) -> tuple[jax.Array, jax.Array]:
        """(the penalty of a layer [T, E], a scalar or [E]; the layer's loss in the inner folds)."""
        loss, scale = self._inner_loss(state, layer, fold.inner)
        shared = not self.protocol.selects_per_target
        alpha = self._alphas(state.outer)[ridge.select_alpha(loss, shared=shared)]
        least = loss.sum(axis=1).min() if shared else loss.min(axis=0).sum()
        return alpha, least / scale

    def _alphas(self, factor: ridge.RidgeFactor) -> jax.Array:
        """Penalties [A] in the units of this factor's kernel."""
        alphas = jnp.asarray(self.protocol.alphas, factor.eigenvalues.dtype)
        if self.protocol.alpha_unit == "absolute":
            return alphas
        return alphas * factor.eigenvalues.sum() / factor.weights.sum()

    def _inner_loss(
        self, state: RidgeState, layer: LayerVectors, inner: Split
    ) -> tuple[jax.Array, jax.Array]:
        """Loss of each alpha over the inner folds: [A, 1] mean rank, or [A, E] squared errors or 1 - R2.

        And what a layer's loss is to be divided by to compare layers: one, the squared errors of the
        training mean, or the number of folds and dimensions.

        With an intercept hat matrices map constants to zero, so that they give predictions less
        the training mean.
        """
        if self.protocol.alpha_selection != "retrieval":
            return self._inner_errors(state, layer.values, inner)
        vectors = layer.values
        intercept, center = self.protocol.fit_intercept, self.protocol.center
        # Their common mean would cancel in exact arithmetic only.
        shift = linalg.weighted_mean(vectors, state.outer.weights) * intercept
        shifted = vectors - shift

        products = None if layer.products is None else decoding.centred_products(layer, shift)

        def one_fold(inputs):
            hats, basis, coefficients, mean, split = inputs
            # The length of a prediction does not change the order of its candidates.
            if products is None:
                candidates = linalg.unit_rows(vectors - mean * center)
                similarity = linalg.product(_through(hats, basis, shifted), candidates.T)
                offset = linalg.product(candidates, mean * (int(intercept) - int(center)))
            else:
                across, inverse = decoding.candidate_products(products, mean * center, basis)
                similarity = linalg.product(hats, across)
                offset = linalg.product(
                    vectors - mean * center, mean * (int(intercept) - int(center))
                )
                offset = offset * inverse
            similarity = _combine(coefficients, similarity) + offset
            similarity = jnp.where(split.candidates > 0, similarity, -jnp.inf)
            ranks = jax.vmap(retrieval.ranks, (0, None))(similarity, split.gold)
            return (ranks * split.query_mask.astype(ranks.dtype)).sum(axis=1)[:, None]

        means = self._inner_means(state, vectors)
        of_folds = state.hats, state.basis, state.coefficients, means, inner
        losses = jax.lax.map(one_fold, of_folds)
        return losses.sum(axis=0) / inner.query_mask.sum().astype(losses.dtype), jnp.ones(())

    def _inner_errors(
        self, state: RidgeState, vectors: jax.Array, inner: Split
    ) -> tuple[jax.Array, jax.Array]:
        """`_inner_loss` by squared errors, or by 1 - R2 of each fold.

        A dimension that is constant in a fold has no R2 there: 1 - R2 counts as one, whatever the alpha.
        """
        intercept = self.protocol.fit_intercept
        by_variance = self.protocol.alpha_selection == "r2_per_target"
        shifted = vectors - linalg.weighted_mean(vectors, state.outer.weights) * intercept

        def one_fold(inputs):
            hats, basis, coefficients, mean, split = inputs
            mask = split.query_mask
            true = vectors[split.gold] - mean * intercept
            errors = true[None] - _combine(coefficients, _through(hats, basis, shifted))
            weighted = errors**2 * mask.astype(errors.dtype)[:, None]
            baseline = (true**2).sum(axis=1) @ mask.astype(true.dtype)
            if not by_variance:
                return weighted.sum(axis=1), mask.sum(), baseline
            spread = (linalg.center(true, linalg.weighted_mean(true, mask), mask) ** 2).sum(axis=0)
            shares = weighted.sum(axis=1) / jnp.where(spread > 0, spread, 1)
            return (
                jnp.where(spread > 0, shares, 1),
                jnp.ones(()),
                jnp.asarray(spread.size, true.dtype),
            )

        means = self._inner_means(state, vectors)
        of_folds = state.hats, state.basis, state.coefficients, means, inner
        losses, totals, baselines = jax.lax.map(one_fold, of_folds)
        total = totals.sum().astype(losses.dtype)
        return losses.sum(axis=0) / total, baselines.sum() / total

    def _inner_means(self, state: RidgeState, vectors: jax.Array) -> jax.Array:
        """Means [I, E] of the vectors over the inner training sets."""
        return linalg.matmul(state.counts, vectors) / state.counts.sum(axis=1, keepdims=True)


def _through(hats: jax.Array, basis: jax.Array | None, vectors: jax.Array) -> jax.Array:
    """Predictions [B, Q, E] of the hats [B, Q, K] and basis [K, T] from vectors [T, E]."""
    return linalg.product(hats, vectors if basis is None else linalg.product(basis, vectors))


def _combine(coefficients: jax.Array | None, x: jax.Array) -> jax.Array:
    """[A, ...] from coefficients [A, B] and x [B, ...]. Exact: the terms cancel in part."""
    if coefficients is None:
        return x
    return jnp.tensordot(coefficients, x, 1, precision="highest")


class SimilarityProfiles(NamedTuple):
    """Unit vectors [Q, T] of the queries' similarities to the training words; [T] their mask."""

    queries: jax.Array
    training_types: jax.Array


@dataclass(frozen=True)
class SimilarityDecoding(_Nested):
    """Decoding by similarity alone, no map fitted: second-order retrieval.

    A tested word is known by its similarities to the training words, in the brain and in the model;
    its brain profile is compared with the model profile of every candidate. The RSA score itself is
    `geometry.scores`, over all words. Reference: Anderson, Zinszer & Raizada (2016),
    NeuroImage 128:44-53.
    """

    protocol: Protocol
    name: str = "rsa"
    spans_vectors: bool = False

    @property
    def form(self) -> str:
        return {"spearman": "values", "cosine": "products"}.get(self.protocol.rdm_metric, "centred")

    @property
    def correlates_vectors(self) -> bool:
        return self.form == "centred"

    def _prepare(self, source: jax.Array, split: Split, sizes: tuple) -> SimilarityProfiles:
        means, counts = type_means(source, split.train, *sizes)
        training_types = (counts > 0).astype(source.dtype)
        mean = linalg.weighted_mean(source, split.train) * self.protocol.center
        asked = query_rows(source, split, *sizes, queries=self.protocol.queries)
        # Centred rows have the correlation as their cosine.
        metric = "spearman" if self.form == "values" else "cosine"
        known = rsa.unit_rows(means - mean, metric=metric)
        profile = linalg.matmul(rsa.unit_rows(asked - mean, metric=metric), known.T)
        return SimilarityProfiles(_unit_profiles(profile, training_types), training_types)

    def _decode(self, state: SimilarityProfiles, source, layer, split: Split, *, csls: bool = True):
        vectors = layer.values
        mean = linalg.weighted_mean(vectors, state.training_types) * self.protocol.center
        metric = self.protocol.rdm_metric
        metric = "correlation" if metric == "euclidean" else metric
        if layer.products is not None:
            similar = decoding.cosines(layer, mean)
        else:
            similar = linalg.gram(rsa.unit_rows(vectors - mean, metric=metric))
        # A training word's similarity with itself has no counterpart in a tested word's profile:
        # it is replaced by the mean of its row, which says nothing.
        itself = jnp.eye(similar.shape[0], dtype=bool)
        others = jnp.where(itself, 0, state.training_types[None, :])
        row_mean = (similar * others).sum(axis=1) / jnp.maximum(others.sum(axis=1), 1)
        similar = jnp.where(itself, row_mean[:, None], similar)
        candidates = _unit_profiles(similar, state.training_types)
        similarity = linalg.product(state.queries, candidates.T)
        return decoding.ranks(similarity, split, self.protocol, csls=csls)


def _unit_profiles(profiles: jax.Array, training_types: jax.Array) -> jax.Array:
    """Profiles [Q, T] centred over the training types and of unit length, zero elsewhere."""
    mean = linalg.matmul(profiles, linalg.normalized_weights(training_types, profiles.dtype))
    centred = (profiles - mean[:, None]) * training_types[None, :]
    return rsa.unit_rows(centred, metric="cosine")


METHODS.update({"procrustes": Procrustes, "ridge": Ridge, "rsa": SimilarityDecoding})
