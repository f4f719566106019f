"""A linear map of a user's own as a method of a study."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax

from brainalign_jax.align import linalg
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors, Map
from brainalign_jax.study.score.folds import Split, query_rows, type_means
from brainalign_jax.study.score.methods.base import FittedMap, FoldProblem, Nested, NestedMethod


class LinearState(NamedTuple):
    """means: [T, R] training response of each type, less mean [R], zero without a token.

    counts: [T] training tokens of each type; queries: [Q, R] responses asked about.
    """

    means: jax.Array
    mean: jax.Array
    counts: jax.Array
    queries: jax.Array


@dataclass(frozen=True)
class LinearDecoding(NestedMethod):
    """Words decoded by the map of `fit(responses, vectors, weights)`; see `registry.register_method`."""

    protocol: Protocol
    fit: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    name: str
    form: str = "products"
    spans_vectors: bool = True
    correlates_vectors: bool = False

    def _prepare(self, source: jax.Array, split: Split, sizes: tuple) -> LinearState:
        asked = query_rows(source, split, *sizes, queries=self.protocol.queries)
        means, counts = type_means(source, split.train, *sizes)
        mean = linalg.weighted_mean(means, counts) * self.protocol.center
        return LinearState(linalg.masked_rows(means - mean, counts > 0), mean, counts, asked)

    def fitted(self, state: Nested, layer: LayerVectors, fold: FoldProblem) -> FittedMap:
        """The map of the outer training words."""
        return self._fitted(state.outer, layer)

    def _decode(self, state: LinearState, source, layer, split: Split, *, csls: bool = True):
        map, mean, queries = self._fitted(state, layer)
        return decoding.decode(
            map, queries, source, layer.values, mean, split, self.protocol, csls=csls
        )

    def _fitted(self, state: LinearState, layer: LayerVectors) -> FittedMap:
        vectors = layer.values
        mean = linalg.weighted_mean(vectors, state.counts) * self.protocol.center
        # Words that are not trained on are zero on both sides, so that no map can learn from them.
        known = linalg.masked_rows(vectors - mean, state.counts > 0)
        weight = self.fit(state.means, known, state.counts)
        expected = (state.means.shape[1], vectors.shape[1])
        if getattr(weight, "shape", None) != expected:
            raise ValueError(
                f"the method {self.name!r} gives {_described(weight)}; its function must return the map from "
                f"responses to vectors, an array of shape {expected}"
            )
        return FittedMap(Map(weight.astype(vectors.dtype), state.mean, mean), mean, state.queries)


def _described(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"an array of shape {shape}"
