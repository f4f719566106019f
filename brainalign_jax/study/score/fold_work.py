"""One method on one subject: what is done in each fold, for all models that share the responses."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from brainalign_jax.study.computation import Computation
from brainalign_jax.study.score import programs
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.methods import FoldProblem, Method, Ridge, pools_folds
from brainalign_jax.study.score.problem import Problem

Part = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """One method on one subject, with the layers of the models that share its responses.

    source: [N, R], or [F, N, R]. layers: chunks of each part; reduced: the same by fold of `folds`, where
    they are fitted to its training words. counts: layers of each part.
    """

    method: Method
    source: np.ndarray
    problem: Problem
    layers: dict[Part, list[LayerVectors]]
    reduced: dict[Part, list[list[LayerVectors]]]
    counts: dict[Part, int]
    computation: Computation
    mesh: Mesh

    @property
    def folds(self) -> list[int | slice]:
        """What is worked at a time: one fold, or all where the method pools them."""
        if pools_folds(self.method):
            return [slice(None)]
        return list(range(len(self.problem.folds.outer.train)))

    def score(self, index: int | slice) -> list[dict[Part, dict[str, np.ndarray]]]:
        """Scores of each part in a fold, with a leading layer axis; of each fold of a slice."""
        parts = self._score(index)
        if not isinstance(index, slice):
            return [parts]
        return [
            {part: {name: x[:, i] for name, x in scores.items()} for part, scores in parts.items()}
            for i in range(len(self.problem.folds.outer.train[index]))
        ]

    def _score(self, index: int | slice) -> dict[Part, dict[str, np.ndarray]]:
        """Scores of each part with a leading layer axis, then one of the folds of a slice."""
        with self.computation.context():
            source = self.source if self.source.ndim == 2 else self.source[index]
            source, fold = jax.device_put((source, self.problem.fold(index)))
            method, state = self.prepare(source, fold)
            return {
                part: self.evaluate(
                    method, state, source, part, self.fold_layers(part, index), fold
                )
                for part in self.layers
            }

    def fold_layers(self, part: Part, index: int | slice) -> list[LayerVectors]:
        """Chunks of a part's layers in one of `folds`."""
        if part not in self.reduced:
            return self.layers[part]
        return self.reduced[part][0 if isinstance(index, slice) else index]

    def prepare(self, source: jax.Array, fold: FoldProblem) -> tuple[Method, Any]:
        """The method with as many filters as these responses need, and its state."""
        state = programs.prepare(source, fold, method=self.method)
        if isinstance(self.method, Ridge) and not programs.filters_suffice(state):
            method = dataclasses.replace(self.method, n_filters=None)
            return method, programs.prepare(source, fold, method=method)
        return self.method, state

    def factor(self, source: jax.Array, fold: FoldProblem) -> tuple[Method, Any]:
        """Ridge with as many filters as these responses need, and its `factor`."""
        factors = programs.factor(source, fold, method=self.method)
        if not programs.suffices(factors.basis_error):
            method = dataclasses.replace(self.method, n_filters=None)
            return method, programs.factor(source, fold, method=method)
        return self.method, factors

    def evaluate(
        self, method: Method, state, source, part: Part, chunks: list[LayerVectors], fold
    ) -> dict[str, np.ndarray]:
        """Scores with a leading layer axis."""
        options = dict(method=method, mesh=self.mesh, batch=self.computation.at_once())
        scores = [programs.evaluate(state, source, chunk, fold, **options) for chunk in chunks]
        return {
            name: np.concatenate([np.asarray(rows[name]) for rows in scores])[: self.counts[part]]
            for name in scores[0]
        }
