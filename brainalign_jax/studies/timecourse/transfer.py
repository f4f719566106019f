"""Time by time: words of every window decoded by the map that was fitted in every other.

A map learnt in one window decodes another as far as the same channels carry the same in both. The channels
stay as they are in all windows, and the responses of a window are taken about the mean of its training words,
as the mean response to any word moves over time, too.

Reference: King & Dehaene 2014, Trends in Cognitive Sciences 18:203-210.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.language import Embeddings
from brainalign_jax.studies.timecourse.windows import Recording
from brainalign_jax.study.computation import Computation, compiled
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.score import decoding, preparation, programs
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.folds import query_rows
from brainalign_jax.study.score.methods import FoldProblem, method_of
from brainalign_jax.study.score.methods.base import n_types
from brainalign_jax.study.score.problem import folds_of


def generalise_over_time(
    recording: Recording,
    model: Embeddings,
    layer: int,
    method_name: str,
    scoring: Scoring,
    *,
    computation: Computation,
) -> np.ndarray:
    """Rank accuracy [W fitted in, W tested in] of one person at one layer, pooled over folds."""
    method = method_of(method_name, scoring.protocol)
    problem = folds_of(recording.responses[0], scoring, inner=method.uses_inner_folds)
    values = recording.values.astype(np.float64)
    values *= problem.eligible[None, :, None]
    scale = np.sqrt(np.square(values[:, problem.eligible]).mean()) or 1.0
    sources = (values / scale).astype(computation.dtype)
    number, vectors = next(
        (known.index(layer), vectors) for known, vectors in model.blocks() if layer in known
    )
    protocol = method.protocol
    ready = preparation.prepare_vectors(
        vectors[number : number + 1], protocol, n_features=sources.shape[2], dtype=computation.dtype
    )
    total, asked = 0.0, 0.0
    with computation.context():
        chunk = programs.layers(
            ready,
            span=method.spans_vectors and not protocol.scales_in_folds,
            correlate=method.correlates_vectors and not protocol.scales_in_folds,
        )
        for index in range(len(problem.folds.outer.train)):
            reduced = chunk
            if protocol.scales_in_folds or 0 < protocol.vector_axes < ready.shape[-1]:
                (reduced,) = programs.reduced_layers([chunk], problem, index, protocol)
            of_layer = LayerVectors(*(None if part is None else part[0] for part in reduced))
            fold = problem.fold(index)
            total = total + np.asarray(_fold_ranks(sources, of_layer, fold, method=method))
            asked += float(np.asarray(fold.outer.query_mask).sum())
    return 1 - (total / asked - 1) / (problem.n_candidates - 1)


@functools.partial(compiled, static_argnames=("method",))
def _fold_ranks(sources, layer: LayerVectors, fold: FoldProblem, *, method: Any) -> jax.Array:
    """Summed ranks [W fitted in, W tested in] of a fold's words, for sources [W, N, C]."""
    protocol, split = method.protocol, fold.outer

    def fitted_in(source):
        mean = linalg.weighted_mean(source, split.train)
        fit = method.fitted(method.prepare(source, fold), layer, fold)

        def tested_in(other):
            about = other - linalg.weighted_mean(other, split.train) + mean
            queries = query_rows(
                about, split, fold.token_to_type, n_types(fold), queries=protocol.queries
            )
            ranks = decoding.decode(
                fit.map, queries, source, layer.values, fit.mean, split, protocol, csls=False
            )["rank_nn"]
            return (ranks * split.query_mask).sum()

        return jax.lax.map(tested_in, sources)

    return jax.lax.map(fitted_in, sources)
