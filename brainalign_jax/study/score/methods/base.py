"""What a method of comparison is: `prepare` (once per subject and fold) and `evaluate`.

`prepare(source, fold) -> state` holds all that does not depend on the language model: every layer of
every model shares it. `evaluate(state, source, layer, fold) -> dict` scores one layer and is mapped over
layers from outside. Both are traced, so they work on masks and static shapes.

A word's vector is the same wherever it occurs, so that token rows are summed to word types once, in
`prepare`, and what is done for each layer has T rows instead of N.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from typing import Protocol as TypingProtocol

import jax

from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.decoding import LayerVectors, Map
from brainalign_jax.study.score.folds import Split


class FoldProblem(NamedTuple):
    """What one fold of one subject asks: outer split, inner splits [I, ...], token -> type [N].

    inner is None for methods that choose nothing.
    """

    outer: Split
    inner: Split | None
    token_to_type: jax.Array


class FittedMap(NamedTuple):
    """A map fitted on one layer; mean: [E] what its predictions are centred by; queries: [Q, R] responses."""

    map: Map
    mean: jax.Array
    queries: jax.Array


class Method(TypingProtocol):
    """A way to compare one subject's responses with one layer's vectors; hashable, made of a protocol.

    One that has an attribute `pools_folds` which is true is given all folds at once, see `pools_folds`. One
    that decodes by a map may have `fitted(state, layer, fold) -> FittedMap`, so that other vectors than those
    it was fitted on are decoded through it.
    """

    protocol: Protocol
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


def n_types(fold: FoldProblem) -> int:
    """Word types of the stimulus, T."""
    return fold.outer.candidates.shape[-1]


class Nested(NamedTuple):
    """What a method prepared for the outer split, and for the inner ones with a leading axis [I] or None."""

    outer: Any
    inner: Any


class NestedMethod:
    """A method without parameters of its own to choose: the inner folds serve to choose the layer.

    A subclass has `_prepare(source [N, R], split, (token_to_type [N], T)) -> state` of one split, and
    `_decode(state, source, layer, split, csls=True) -> ranks` of its queries as `decoding.ranks` gives them.
    """

    protocol: Protocol
    _prepare: Callable[..., Any]
    _decode: Callable[..., Any]

    @property
    def uses_inner_folds(self) -> bool:
        return self.protocol.layer_selection == "inner_folds"

    def prepare(self, source: jax.Array, fold: FoldProblem) -> Nested:
        def of_split(split: Split):
            return self._prepare(source, split, (fold.token_to_type, n_types(fold)))

        inner = jax.lax.map(of_split, fold.inner) if self.uses_inner_folds else None
        return Nested(of_split(fold.outer), inner)

    def evaluate(self, state: Nested, source, layer: LayerVectors, fold: FoldProblem):
        scores = self._decode(state.outer, source, layer, fold.outer)
        if not self.uses_inner_folds:
            return scores

        def total(inputs):
            state_of_split, split = inputs
            ranks = self._decode(state_of_split, source, layer, split, csls=False)["rank_nn"]
            return (ranks * split.query_mask.astype(ranks.dtype)).sum()

        count = fold.inner.query_mask.sum().astype(source.dtype)
        loss = jax.lax.map(total, (state.inner, fold.inner)).sum() / count
        return scores | {"layer_loss": loss}
