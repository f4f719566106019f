"""The compiled programs of a study: three for each method, whatever the number of layers and folds.

`layers` brings the vectors of a chunk of layers into the axes they span, once per model; `prepare` does
what all layers of all models share, once per subject and fold; `evaluate` scores a chunk of layers.
Methods that pool the folds (`methods.pools_folds`) get all of them at once, with a leading axis.
Chunks of vectors of one width have one size in the whole study (`chunk_sizes`), the last one of a
model is filled up. A chunk is
split over the local devices; on each, `batch` layers are worked at once.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from brainalign_jax.align import linalg
from brainalign_jax.align.ridge import filters
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score import decoding
from brainalign_jax.study.score.decoding import LayerVectors, correlated_vectors, spanned_vectors
from brainalign_jax.study.score.methods import FoldProblem, Method, Ridge, RidgeState, pools_folds
from brainalign_jax.study.score.problem import Problem

_AXIS = "layer"
FILTER_ERROR = 1e-5  # of the ridge shrinkages in a basis, relative to the largest of each alpha


@functools.cache
def layer_mesh() -> Mesh:
    """The devices of this process, over which the layers of a chunk are spread."""
    return Mesh(np.asarray(jax.local_devices()), (_AXIS,))


@functools.partial(compiled, static_argnames=("span", "correlate"))
def layers(values: jax.Array, *, span: bool, correlate: bool = False) -> LayerVectors:
    """The layers [C, T, D] as `Method.evaluate` takes them; see `spans_vectors` and `correlates_vectors`."""
    if span:
        return jax.lax.map(spanned_vectors, values)
    return jax.lax.map(correlated_vectors, values) if correlate else LayerVectors(values, None)


@functools.partial(compiled, static_argnames=("scaling", "n_axes"))
def _fold_axes(chunk: LayerVectors, weights: jax.Array, **how) -> LayerVectors:
    return jax.lax.map(lambda layer: decoding.fold_axes(layer, weights, **how), chunk)


def _fitting(protocol: Protocol) -> dict[str, str | int]:
    """How `decoding.fold_axes` fits vectors to the training words."""
    scaling = protocol.vector_scaling if protocol.scales_in_folds else "none"
    return dict(scaling=scaling, n_axes=max(protocol.vector_axes, 0))


def reduced_layers(
    chunks: list[LayerVectors], problem: Problem, index: int | slice, protocol: Protocol
) -> list[LayerVectors]:
    """Chunks of layers as the protocol scales and reduces them by the training words of a fold.

    Of a slice of folds values are [C, F, T, E].
    """
    words = problem.trained_words(index)
    return [_fold_axes(chunk, words, **_fitting(protocol)) for chunk in chunks]


@functools.partial(compiled, static_argnames=("method",))
def prepare(source: jax.Array, fold, *, method: Method):
    """`method.prepare` of one subject's responses [N, R], or [F, N, R], in one fold or in all."""
    return _in_folds(method.prepare, method, source, fold)


def _in_folds(score, method: Method, source: jax.Array, fold: FoldProblem, *states):
    """score(*states, source, fold) in one fold; of a method that pools them, in each of the folds.

    states: with a leading axis F then, as is source where it is [F, N, R].
    """
    if not pools_folds(method):
        return score(*states, source, fold)
    fold_sources = source if source.ndim == 3 else None

    def of_fold(inputs):
        states, fold_source, outer, inner = inputs
        one_fold = FoldProblem(outer, inner, fold.token_to_type)
        return score(*states, source if fold_source is None else fold_source, one_fold)

    return jax.lax.map(of_fold, (states, fold_sources, fold.outer, fold.inner))


def _layer_scores(
    state, source: jax.Array, layer: LayerVectors, fold: FoldProblem, method: Method
) -> dict[str, jax.Array]:
    """`method.evaluate`; of a method that pools the folds with an axis F, its similarities made ranks."""
    if not pools_folds(method):
        return method.evaluate(state, source, layer, fold)
    if layer.values.ndim == 3:  # of each fold

        def score(state, layer, source, fold):
            return method.evaluate(state, source, layer, fold)

        scores = _in_folds(score, method, source, fold, state, layer)
    else:

        def score(state, source, fold):
            return method.evaluate(state, source, layer, fold)

        scores = _in_folds(score, method, source, fold, state)
    similarity = scores.pop("similarity")
    return scores | decoding.pooled_ranks(similarity, fold.outer, method.protocol)


@functools.partial(compiled, static_argnames=("method", "mesh", "batch"))
def evaluate(state, source: jax.Array, chunk, fold, *, method: Method, mesh: Mesh, batch: int):
    """Scores with a leading axis [C], of a chunk of layers spread over the devices of the mesh."""

    def part(state, source, chunk, fold):
        return jax.lax.map(
            lambda layer: _layer_scores(state, source, layer, fold, method), chunk, batch_size=batch
        )

    if mesh.size == 1:
        return part(state, source, chunk, fold)
    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    spread = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split, everywhere),
        out_specs=split,
        check_vma=False,
    )
    return spread(state, source, chunk, fold)


@functools.partial(compiled, static_argnames=("method", "k", "batch"))
def moved_sums(
    sources: jax.Array, layers: LayerVectors, fold, *, method: Method, k: int, batch: int
):
    """Sums over a fold's words for responses [P, N, R]: ([P, 2, C] hits at k and rank accuracy, error [P]).

    error: of ridge's filter basis, zero for other methods; see `filters_suffice`.
    """

    def of_source(source):
        state = _in_folds(method.prepare, method, source, fold)
        error = state.basis_error.max() if isinstance(method, Ridge) else jnp.zeros(())
        return _sums(state, source, layers, fold, method, k, batch), error

    return jax.lax.map(of_source, sources)


@functools.partial(compiled, static_argnames=("method", "k", "batch"))
def exchanged_sums(
    state, source, layers: LayerVectors, types, fold, words, *, method: Method, k: int, batch: int
):
    """The same for word types [P, T] that take one another's vectors: [P, 2, C].

    words: [T] training tokens of each type, or [F, T], which `decoding.fold_axes` fits the vectors to.
    """
    protocol = method.protocol

    def of_types(types):
        products = layers.products
        moved = layers._replace(
            values=layers.values[:, types],
            products=None if products is None else products[:, types][:, :, types],
        )
        if protocol.scales_in_folds or 0 < protocol.vector_axes < moved.values.shape[-1]:
            how = _fitting(protocol)
            moved = jax.lax.map(lambda x: decoding.fold_axes(x, words, **how), moved)
        return _sums(state, source, moved, fold, method, k, batch)

    return jax.lax.map(of_types, types)


@functools.partial(compiled, static_argnames=("method",))
def factor(source: jax.Array, fold, *, method: Ridge):
    """`Ridge.factor` of one subject's responses as `prepare` takes them."""
    return _in_folds(method.factor, method, source, fold)


@functools.partial(compiled, static_argnames=("method", "k", "batch"))
def reworded_sums(factors, source, layers: LayerVectors, folds, *, method: Any, k: int, batch: int):
    """The same for other words at the same rows, in folds with a leading axis [P]: [P, 2, C].

    factors: of `factor` for ridge, None for the methods whose state depends on the words throughout.
    """

    def of_fold(fold):
        if factors is None:
            state = _in_folds(method.prepare, method, source, fold)
        else:
            state = _in_folds(method.prepare_words, method, source, fold, factors)
        return _sums(state, source, layers, fold, method, k, batch)

    return jax.lax.map(of_fold, folds)


def _sums(state, source, layers, fold, method: Method, k: int, batch: int) -> jax.Array:
    scores = jax.lax.map(
        lambda layer: _layer_scores(state, source, layer, fold, method), layers, batch_size=batch
    )
    mask = fold.outer.query_mask.astype(source.dtype).reshape(-1)
    n_candidates = (fold.outer.candidates > 0).sum(axis=-1).astype(source.dtype)[..., None]
    accuracy = 1 - (scores["rank_nn"].astype(source.dtype) - 1) / (n_candidates - 1)
    hits = (scores["rank_csls"] <= k).astype(source.dtype)
    return jnp.stack([linalg.matmul(x.reshape(len(x), -1), mask) for x in (hits, accuracy)])


@functools.cache
def memory(source, layer_shape, fold, *, method: Method, batch: int, dtype: str) -> dict[str, int]:
    """Bytes that the programs of a method hold, from shapes alone.

    Args: source, shape and type of the responses [N, R]; layer_shape, (C, T, D) of a chunk of layers; fold,
    shapes and types of a fold.
    Returns: "prepare" and "evaluate", what each holds besides its arguments; "state", what the first
    hands to the second.
    """
    chunk = jax.eval_shape(
        functools.partial(layers, span=method.spans_vectors, correlate=method.correlates_vectors),
        jax.ShapeDtypeStruct(layer_shape, dtype),
    )
    state = jax.eval_shape(functools.partial(prepare, method=method), source, fold)
    prepared = prepare.lower(source, fold, method=method)
    options = dict(method=method, mesh=layer_mesh(), batch=batch)
    evaluated = evaluate.lower(state, source, chunk, fold, **options)
    sizes = {"state": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))}
    for name, lowered in (("prepare", prepared), ("evaluate", evaluated)):
        held = lowered.compile().memory_analysis()
        sizes[name] = held.temp_size_in_bytes + held.output_size_in_bytes
    sizes["prepare"] -= sizes["state"]  # counted apart
    return sizes


def chunk_sizes(blocks: list[tuple[int, int]], *, most: int, devices: int = 1) -> dict[int, int]:
    """width -> `chunk_size`: blocks of another width have programs of their own in any case.

    blocks: (layers, width) of each model.
    """
    counts: dict[int, list[int]] = {}
    for n_layers, width in blocks:
        counts.setdefault(width, []).append(n_layers)
    return {
        width: chunk_size(depths, most=most, devices=devices) for width, depths in counts.items()
    }


def chunk_size(counts: list[int], *, most: int, devices: int = 1) -> int:
    """Layers to a chunk: the multiple of `devices` between most / 2 and most that leaves the fewest
    slots empty, the largest of equals.

    counts: layers of equal width of each model.
    """
    top = max(devices, min(most, math.ceil(max(counts) / devices) * devices) // devices * devices)
    bottom = math.ceil(top / 2 / devices) * devices
    sizes = range(bottom, top + 1, devices)
    return min(sizes, key=lambda size: (sum(math.ceil(n / size) * size for n in counts), -size))


def chunks(values: np.ndarray, size: int):
    """Parts [size, T, D] of the layers [L, T, D], the last filled up with copies of its last layer."""
    for start in range(0, len(values), size):
        part = values[start : start + size]
        missing = size - len(part)
        yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def filter_count(source: np.ndarray, problem: Problem, protocol: Protocol) -> int | None:
    """Size of the basis of the ridge filters that serves every fold of the responses [N, R].

    Eigenvalues of a fold are no larger than those of all words; the lowest may be lower, for which there
    is a margin. `filters_suffice` tells whether the basis did. None where nothing is saved.
    """
    rows = source[problem.eligible].astype(np.float64)
    if protocol.fit_intercept:
        rows = rows - rows.mean(axis=0)
    smaller = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    eigenvalues = np.linalg.eigvalsh(smaller)
    # Without an intercept the largest is that of the mean, which `ridge.factor_primal` sets apart.
    ruling = eigenvalues[-1] if protocol.fit_intercept else eigenvalues[-2:][0]
    eigenvalues = eigenvalues[
        eigenvalues > ruling * linalg.rounding_share(smaller.shape, np.float32)
    ]
    alphas = np.asarray(protocol.alphas)
    if protocol.alpha_unit == "kernel":
        alphas = alphas * eigenvalues.sum() / len(rows)
    between = np.geomspace(eigenvalues[0] / 10, eigenvalues[-1], 200)
    size = filters.basis_size(between, alphas, tolerance=FILTER_ERROR)
    size += size % 2  # subjects share compiled programs
    return size if size < len(alphas) else None


def filters_suffice(state: RidgeState) -> bool:
    """Whether every inner fold's filters are combinations of its basis, nearly to `FILTER_ERROR`."""
    return suffices(state.basis_error)


def suffices(error: jax.Array) -> bool:
    """Whether errors of a filter basis are all small enough."""
    return float(error.max()) <= 10 * FILTER_ERROR
