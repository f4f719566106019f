"""Procrustes as a method of a study."""

from dataclasses import dataclass
from typing import NamedTuple

import jax

from brainalign_jax.align import procrustes
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import register_method
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors, Map
from brainalign_jax.study.score.folds import Split, query_rows, type_means
from brainalign_jax.study.score.methods.base import FittedMap, FoldProblem, Nested, NestedMethod


class ProcrustesState(NamedTuple):
    """Mean training response of each type [T, R], tokens of each type [T], responses asked about [Q, R]."""

    means: jax.Array
    counts: jax.Array
    queries: jax.Array


@register_method("procrustes")
@dataclass(frozen=True)
class Procrustes(NestedMethod):
    """Rotation of the responses onto the model's vectors."""

    protocol: Protocol
    name: str = "procrustes"
    form: str = "products"
    spans_vectors: bool = True
    correlates_vectors: bool = False

    def _prepare(self, source: jax.Array, split: Split, sizes: tuple) -> ProcrustesState:
        asked = query_rows(source, split, *sizes, queries=self.protocol.queries)
        return ProcrustesState(*type_means(source, split.train, *sizes), asked)

    def fitted(self, state: Nested, layer: LayerVectors, fold: FoldProblem) -> FittedMap:
        """The rotation of the outer training words."""
        return self._fitted(state.outer, layer)

    def _fitted(self, state: ProcrustesState, layer: LayerVectors) -> FittedMap:
        # The mean over a type's tokens, weighted by their number, has the same cross-covariance
        # with the vectors as the tokens themselves.
        fitted = procrustes.fit(
            state.means, layer.values, state.counts, center=self.protocol.center
        )
        map = Map(fitted.rotation, fitted.source_mean, fitted.target_mean)
        return FittedMap(map, map.target_mean, state.queries)

    def _decode(self, state: ProcrustesState, source, layer, split: Split, *, csls: bool = True):
        map, mean, _ = self._fitted(state, layer)
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
