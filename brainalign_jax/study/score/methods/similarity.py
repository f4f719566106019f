"""Decoding by similarity as a method of a study, beside the RSA score of `measures.rsa`."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg, rsa
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import register_method
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.folds import Split, query_rows, type_means
from brainalign_jax.study.score.methods.base import NestedMethod


class SimilarityProfiles(NamedTuple):
    """Unit vectors [Q, T] of the queries' similarities to the training words; [T] their mask."""

    queries: jax.Array
    training_types: jax.Array


@register_method("rsa")
@dataclass(frozen=True)
class SimilarityDecoding(NestedMethod):
    """Decoding by similarity alone, no map fitted: second-order retrieval.

    A tested word is known by its similarities to the training words, in the brain and in the model;
    its brain profile is compared with the model profile of every candidate. The RSA score itself is
    `measures.rsa`, over all words. Reference: Anderson, Zinszer & Raizada (2016),
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
        return SimilarityProfiles(unit_profiles(profile, training_types), training_types)

    def _decode(self, state: SimilarityProfiles, source, layer, split: Split, *, csls: bool = True):
        vectors = layer.values
        mean = linalg.weighted_mean(vectors, state.training_types) * self.protocol.center
        metric = self.protocol.rdm_metric
        metric = "correlation" if metric in ("euclidean", "crossnobis") else metric
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
        candidates = self._compared(similar, state)
        similarity = linalg.product(state.queries, candidates.T)
        return decoding.ranks(similarity, split, self.protocol, csls=csls)

    def _compared(self, profiles: jax.Array, state: SimilarityProfiles) -> jax.Array:
        """What is compared of the candidates' profiles [T, T], as of the queries' in the state."""
        return unit_profiles(profiles, state.training_types)


def unit_profiles(profiles: jax.Array, training_types: jax.Array) -> jax.Array:
    """Profiles [Q, T] centred over the training types and of unit length, zero elsewhere."""
    mean = linalg.matmul(profiles, linalg.normalized_weights(training_types, profiles.dtype))
    centred = (profiles - mean[:, None]) * training_types[None, :]
    return rsa.unit_rows(centred, metric="cosine")
