"""Ridge regression as a method of a study, its penalty chosen in inner folds."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, retrieval, ridge
from brainalign_jax.align.ridge import filters
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import register_method
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors, Map
from brainalign_jax.study.score.folds import Split, query_rows, type_sums
from brainalign_jax.study.score.methods.base import FittedMap, FoldProblem, n_types


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


@register_method("ridge")
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
        alphas = self.alphas(factor)
        size = len(self.protocol.alphas) if self.n_filters is None else self.n_filters
        basis = filters.filter_basis(factor.eigenvalues, alphas, size=size)
        kept = filters.shrinkage(factor.eigenvalues, alphas)
        spanned = linalg.matmul(basis.coefficients, basis.functions) * factor.eigenvalues
        largest = kept.max(axis=1, keepdims=True)
        error = jnp.abs(spanned - kept) / jnp.where(largest > 0, largest, 1)
        coefficients = None if self.n_filters is None else basis.coefficients
        return factor, basis.functions, coefficients, error.max()

    def prepare_words(
        self, factors: RidgeFactors, source: jax.Array, fold: FoldProblem
    ) -> RidgeState:
        """The state of `prepare` from the factors of the same training rows, whatever words they are."""
        train, sizes = fold.outer.train, (fold.token_to_type, n_types(fold))
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
        fitted, layer_loss = self._fitted(state, layer, fold)
        map, mean, queries = fitted
        asked = map, queries, source, layer.values, mean, fold.outer, self.protocol
        if self.pools_folds:
            ranks = {"similarity": decoding.similarities(*asked)}
        else:
            ranks = decoding.decode(*asked)
        scores = ranks | decoding.prediction_scores(map, state.queries, layer, fold.outer)
        if self.protocol.layer_selection == "inner_folds":
            scores["layer_loss"] = layer_loss
        return scores

    def fitted(self, state: RidgeState, layer: LayerVectors, fold: FoldProblem) -> FittedMap:
        """The map of the chosen penalty."""
        return self._fitted(state, layer, fold)[0]

    def _fitted(self, state: RidgeState, layer: LayerVectors, fold) -> tuple[FittedMap, jax.Array]:
        """The map of the chosen penalty, and the layer's loss in the inner folds."""
        vectors = layer.values
        alpha, layer_loss = self.choose_alpha(state, layer, fold)
        train_mean = linalg.weighted_mean(vectors, state.outer.weights)
        target_mean = train_mean * self.protocol.fit_intercept
        weight = ridge.predict(state.outer, vectors - target_mean, alpha)
        map = Map(weight, state.source_mean, target_mean)
        return FittedMap(map, train_mean * self.protocol.center, state.queries), layer_loss

    def choose_alpha(
        self, state: RidgeState, layer: LayerVectors, fold: FoldProblem
    ) -> tuple[jax.Array, jax.Array]:
        """(the penalty of a layer [T, E], a scalar or [E]; the layer's loss in the inner folds)."""
        loss, scale = self._inner_loss(state, layer, fold.inner)
        shared = not self.protocol.selects_per_target
        alpha = self.alphas(state.outer)[ridge.select_alpha(loss, shared=shared)]
        least = loss.sum(axis=1).min() if shared else loss.min(axis=0).sum()
        return alpha, least / scale

    def alphas(self, factor: ridge.RidgeFactor) -> jax.Array:
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
