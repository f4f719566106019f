"""Methods that hold constant what is known of words without a model, as their length and frequency.

What a part is worth is then worth beyond these. In each fold responses and vectors are taken less their
least-squares fit by the features over the training words: ridge with the features as nuisances without a
penalty beside the responses (see `align.ridge.partial_ridge`). By RSA what is left is compared by partial
correlation: the profile of a word, its similarities to the training words, less its fit by the features of
the training words and their squares. These span, for every word, its squared difference to the training words
in any of the features and the product of both values, with one set of confounds for all words, so that no
profile says anything of its own word's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg, ridge
from brainalign_jax.align.ridge import partial_ridge
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.controls import nuisance_vectors
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.folds import Split, type_sums
from brainalign_jax.study.score.methods import FoldProblem, Method, Ridge, SimilarityDecoding
from brainalign_jax.study.score.methods.base import FittedMap, n_types
from brainalign_jax.study.score.methods.similarity import SimilarityProfiles, unit_profiles
from brainalign_jax.study.words import UNTIMED_NOTE

HOLDING = ("ridge", "rsa")  # methods that can hold features constant


class HeldFeatures(NamedTuple):
    """What is held constant. names: of the features; values: [T, K] of the word types, standardised; notes:
    what was asked for and is left out."""

    names: tuple[str, ...]
    values: np.ndarray
    notes: tuple[str, ...]


class HeldFold(NamedTuple):
    """A `FoldProblem` with the features [T, K] of the word types that are held constant in it."""

    outer: Split
    inner: Split | None
    token_to_type: jax.Array
    features: jax.Array


def held_features(stimulus: Stimulus, groups: Sequence[str], *, lower: bool) -> HeldFeatures:
    """The features of groups of `study.words.GROUPS`, the mean over each type's tokens.

    Raises: ValueError where none of them is known for these words, or differs between them.
    """
    try:
        vectors = nuisance_vectors(stimulus, lower=lower, features=tuple(groups), tuning=0)
    except ValueError as error:
        raise ValueError(
            f"nothing is left to be held constant: {error}; name other features (--hold_constant), or none"
        ) from None
    names, notes = tuple(vectors.meta["features"]), vectors.meta["notes"]
    left_out = [note for note in notes if note != UNTIMED_NOTE]
    return HeldFeatures(
        names, np.asarray(vectors.values[0]), tuple(f"Not held constant: {x}." for x in left_out)
    )


def check_methods(methods: Sequence[str]) -> None:
    """Raises: ValueError for a method that can hold nothing constant."""
    for name in methods:
        if name not in HOLDING:
            raise ValueError(
                f"{name} has no way to hold features of words constant: leave it out of the methods "
                f"(--methods={','.join(HOLDING)}), or leave out hold_constant (--hold_constant)"
            )


def check_words(features: HeldFeatures, method: str, n_trained: int) -> None:
    """Raises: ValueError where the features leave next to nothing of so many training words."""
    n_columns = len(features.names) * (1 + (method == "rsa"))
    if n_columns + 2 > n_trained // 2:
        raise ValueError(
            f"{len(features.names)} features ({', '.join(features.names)}) take {n_columns} of the "
            f"{n_trained} training words' dimensions by {method}: hold fewer constant (--hold_constant)"
        )


def holding(method: Method) -> Method:
    """The same method, holding constant the features of its folds."""
    made = {Ridge: PartialRidge, SimilarityDecoding: PartialSimilarity}[type(method)]
    return made(**vars(method))


def left_of_responses(source: jax.Array, fold: FoldProblem | HeldFold) -> jax.Array:
    """Responses [N, R] less what the features explain; as they are where nothing is held constant."""
    if not isinstance(fold, HeldFold):
        return source
    features = fold.features[fold.token_to_type]
    return partial_ridge.without_nuisances(source, features, fold.outer.train)


def left_of_vectors(vectors: jax.Array, fold: FoldProblem | HeldFold) -> jax.Array:
    """Vectors [T, D] less what the features explain, a type counting by its training tokens."""
    if not isinstance(fold, HeldFold):
        return vectors
    train = fold.outer.train.astype(vectors.dtype)
    counts = type_sums(train, train, fold.token_to_type, n_types(fold))
    return partial_ridge.without_nuisances(vectors, fold.features, counts)


def _left_of_layer(layer: LayerVectors, fold: HeldFold) -> LayerVectors:
    values = left_of_vectors(layer.values, fold)
    products = None if layer.products is None else decoding.centred_gram(values)
    return LayerVectors(values, layer.rotation, products)


@dataclass(frozen=True)
class PartialRidge(Ridge):
    """Ridge on what the features of the fold's words leave of responses and vectors."""

    def prepare(self, source: jax.Array, fold: HeldFold):
        return super().prepare(left_of_responses(source, fold), fold)

    def evaluate(self, state, source: jax.Array, layer: LayerVectors, fold: HeldFold):
        left = left_of_responses(source, fold), _left_of_layer(layer, fold)
        return super().evaluate(state, *left, fold)

    def fitted(self, state, layer: LayerVectors, fold: HeldFold) -> FittedMap:
        """The map of the chosen penalty, from what is left of the responses to what is left of the layer."""
        return super().fitted(state, _left_of_layer(layer, fold), fold)


class PartialProfiles(NamedTuple):
    """`SimilarityProfiles` with what is held constant: held [T, K'], orthonormal over the training types."""

    queries: jax.Array
    training_types: jax.Array
    held: jax.Array


@dataclass(frozen=True)
class PartialSimilarity(SimilarityDecoding):
    """Decoding by similarities to the training words of what the features leave of responses and vectors,
    less their fit by the training words' features."""

    def prepare(self, source: jax.Array, fold: HeldFold):
        made = super().prepare(left_of_responses(source, fold), fold)
        inner = made.inner and jax.lax.map(lambda x: self._held(x, fold.features), made.inner)
        return made._replace(outer=self._held(made.outer, fold.features), inner=inner)

    def evaluate(self, state, source: jax.Array, layer: LayerVectors, fold: HeldFold):
        return super().evaluate(state, source, _left_of_layer(layer, fold), fold)

    def _held(self, profiles: SimilarityProfiles, features: jax.Array) -> PartialProfiles:
        weights = profiles.training_types
        used = features - linalg.weighted_mean(features, weights)
        columns = jnp.concatenate([used, used**2], axis=1)
        held = ridge.factor_primal(columns, weights).basis
        return PartialProfiles(_beyond(profiles.queries, held), weights, held)

    def _compared(self, profiles: jax.Array, state: PartialProfiles) -> jax.Array:
        return _beyond(unit_profiles(profiles, state.training_types), state.held)


def _beyond(profiles: jax.Array, held: jax.Array) -> jax.Array:
    """Profiles [Q, T] less their fit by the columns held [T, K'], of unit length."""
    return linalg.unit_rows(profiles - linalg.matmul(linalg.matmul(profiles, held), held.T))
