"""Item nulls of ridge, in which words exchange their vectors: hat matrices serve all draws.

What a fold makes of the brain's side is, for each penalty, a matrix that maps the vectors of the training
words to predictions. A draw costs products of these with the Gram matrix of the vectors: of the inner
folds, for each penalty, to choose one (`_chosen`), and of the outer folds to score
(`align.inference.permuted_ranks`). No draw fits anything, and the width of the model is of no account.

With the penalty held, the one that was chosen for the real pairing serves all draws: several times faster,
a little in favour of the real pairing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.retrieval import neighbours
from brainalign_jax.align.stats import inference
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.evidence.draws import Draw
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.fold_work import Part, Work
from brainalign_jax.study.score.methods import FoldProblem, Ridge, RidgeState, pools_folds

_DRAWS = 48  # in one compiled call, at most
_AT_ONCE = 8  # in one product: what it gives stays in the cache of a core
_MOST_BYTES = 2**28  # of the hat matrices of all folds


class InnerHats(NamedTuple):
    """Hat matrices [I, A, Q, n] of the queries of inner folds, for each penalty.

    known: [I, n] the word types that their columns are of; shares: [I, n] of these in the training mean.
    """

    hats: jax.Array
    known: jax.Array
    shares: jax.Array


class OuterHats(NamedTuple):
    """Hat matrices of a fold for each penalty: asked [A, Q, T] of its queries, fitted [A, N, T] of its
    training tokens, None where candidates are not scaled.
    """

    asked: jax.Array
    fitted: jax.Array | None


def serves(work: Work, draws: list[Draw], *, hold_alpha: bool) -> bool:
    """Whether the draws of this work can be scored so; else `nulls` scores them the long way."""
    protocol, method = work.method.protocol, work.method
    return (
        isinstance(method, Ridge)
        and all(draw.types is not None for draw in draws)
        and protocol.center
        and protocol.fit_intercept
        and not protocol.selects_per_target
        and not pools_folds(method)
        and work.problem.n_candidates == len(work.problem.counts)
        and work.source.ndim == 2
        and not work.reduced
        and (hold_alpha or (protocol.alpha_selection == "retrieval" and _fits(work)))
    )


def _fits(work: Work) -> bool:
    """Whether the hat matrices of all penalties are small enough to be kept."""
    outer, inner, _ = work.problem.folds
    rows = outer.gold.size + inner.gold.size
    if work.method.protocol.candidate_scaling == "spread":
        rows += outer.train.size
    columns = len(work.method.protocol.alphas) * len(work.problem.counts)
    return rows * columns * work.source.dtype.itemsize <= _MOST_BYTES


def score(
    work: Work, draws: list[Draw], pool, *, k: int, hold_alpha: bool
) -> dict[Part, np.ndarray]:
    """Sums over all tested words, [P, 2, L] of each part: hits at k by CSLS, and rank accuracy."""
    (outer, inner, token_to_type), protocol = work.problem.folds, work.method.protocol
    n_types = len(work.problem.counts)
    counts = np.stack([work.problem.trained_words(index) for index in work.folds])
    counts = counts.astype(work.source.dtype)
    types = np.stack([draw.types for draw in draws]).astype(np.int32)
    # Calls of one size share a program, for which the last one is filled up.
    n_calls = -(-len(types) // _DRAWS)
    size = -(-len(types) // (n_calls * _AT_ONCE)) * _AT_ONCE
    starts = range(0, len(types), size)
    spread = protocol.candidate_scaling == "spread"
    rows = inner.train.reshape(-1, inner.train.shape[-1]) > 0
    known = max(len(np.unique(token_to_type[row])) for row in rows)

    def filled(per_draw: np.ndarray, start: int) -> np.ndarray:
        some = per_draw[start : start + size]
        return np.resize(some, (size, *some.shape[1:]))

    def of_fold(index: int) -> dict[Part, list[tuple[OuterHats, np.ndarray]]]:
        """Of each layer its hat matrices, and which of them each draw takes [P]."""
        with work.computation.context():
            source, fold = jax.device_put((work.source, work.problem.fold(index)))
            method, state = work.prepare(source, fold)
            inside = outside = None
            if not hold_alpha:
                inside = _inner_hats(state, fold, size=known)
                penalties = _penalties(state, method=method)
                outside = _outer_hats(state, source, fold, penalties, spread=spread)

            def of_layer(layer) -> tuple[OuterHats, np.ndarray]:
                if outside is None:
                    alphas = _held(state, layer, fold, method=method)[None]
                    held = _outer_hats(state, source, fold, alphas, spread=spread)
                    return held, np.zeros(len(types), np.int32)
                gram = _gram(layer.values)
                chosen = [
                    _chosen(inside, gram, filled(types, start).reshape(-1, _AT_ONCE, n_types), fold)
                    for start in starts
                ]
                return outside, np.concatenate([np.asarray(x) for x in chosen])[: len(types)]

            return {
                part: [of_layer(layer) for layer in _layers(chunks, work.counts[part])]
                for part, chunks in work.layers.items()
            }

    by_fold = list(pool.map(of_fold, work.folds))

    def stacked(by_fold) -> OuterHats:
        return jax.tree.map(lambda *x: jnp.stack(x), *(hats for hats, _ in by_fold))

    # All layers share the hat matrices of all penalties: they are stacked once.
    every = None if hold_alpha else stacked([fold[next(iter(fold))][0] for fold in by_fold])

    def of_layer(job) -> np.ndarray:
        by_fold, layer = job
        with work.computation.context():
            hats = stacked(by_fold) if every is None else every
            chosen = np.stack([chosen for _, chosen in by_fold], axis=1)
            gram = _gram(layer.values)
            parts = [
                _score(
                    hats,
                    counts,
                    gram,
                    outer.gold,
                    outer.query_mask,
                    filled(types, start),
                    filled(chosen, start),
                    k=k,
                    csls_k=protocol.csls_k,
                )
                for start in starts
            ]
            return np.concatenate([np.asarray(part) for part in parts])[: len(types)]

    by_part = {}
    for part, chunks in work.layers.items():
        layers = _layers(chunks, work.counts[part])
        jobs = [([fold[part][i] for fold in by_fold], layer) for i, layer in enumerate(layers)]
        by_part[part] = np.stack(list(pool.map(of_layer, jobs)), axis=-1)
    return by_part


def _layers(chunks: list[LayerVectors], count: int) -> list[LayerVectors]:
    """The layers of a part one by one; its last chunk may be filled up."""
    every = [
        jax.tree.map(lambda x, number=number: x[number], chunk)
        for chunk in chunks
        for number in range(len(chunk.values))
    ]
    return every[:count]


@compiled
def _gram(vectors: jax.Array) -> jax.Array:
    """Inner products [T, T] of vectors [T, E] less their mean, beside which float32 would lose them."""
    return linalg.gram(vectors - vectors.mean(axis=0))


@functools.partial(compiled, static_argnames=("method",))
def _penalties(state: RidgeState, *, method: Ridge) -> jax.Array:
    """All penalties [A] of the outer training set."""
    return method.alphas(state.outer)


@functools.partial(compiled, static_argnames=("method",))
def _held(state: RidgeState, layer: LayerVectors, fold: FoldProblem, *, method: Ridge) -> jax.Array:
    """The penalty of a layer for the real pairing."""
    return method.choose_alpha(state, layer, fold)[0]


@functools.partial(compiled, static_argnames=("spread",))
def _outer_hats(state: RidgeState, source, fold: FoldProblem, alphas, *, spread: bool) -> OuterHats:
    """Of penalties [A]."""
    asked = linalg.masked_rows(state.queries - state.source_mean, fold.outer.query_mask)
    tokens = linalg.masked_rows(source - state.source_mean, fold.outer.train)

    def of_alpha(alpha):
        hat = inference.hat_matrix(state.outer, alpha)
        return OuterHats(linalg.matmul(asked, hat), linalg.matmul(tokens, hat) if spread else None)

    return jax.lax.map(of_alpha, alphas)


@functools.partial(compiled, static_argnames=("size",))
def _inner_hats(state: RidgeState, fold: FoldProblem, *, size: int) -> InnerHats:
    def of_inner(inputs):
        hats, basis, coefficients, counts, mask = inputs
        if coefficients is not None:
            hats = jnp.tensordot(coefficients, hats, 1, precision="highest")
        if basis is not None:
            hats = linalg.matmul(hats, basis)
        # The types that have training tokens; the last ones may have none.
        known = jnp.argsort(-counts, stable=True)[:size]
        shares = linalg.normalized_weights(counts, counts.dtype)[known]
        return InnerHats((hats * mask.astype(hats.dtype)[:, None])[..., known], known, shares)

    inputs = state.hats, state.basis, state.coefficients, state.counts, fold.inner.query_mask
    return jax.lax.map(of_inner, inputs)


@compiled
def _chosen(inside: InnerHats, gram, draws, fold: FoldProblem) -> jax.Array:
    """Index [P] of the penalty of least mean rank in the inner folds, for draws [P / D, D, T], D at once.

    Candidates stay in the order of the vectors, so that a draw permutes rows, which are copied as a whole.
    """
    return jax.lax.map(lambda types: _chosen_at_once(inside, gram, types, fold), draws).reshape(-1)


def _chosen_at_once(inside: InnerHats, gram, types, fold: FoldProblem) -> jax.Array:
    """`_chosen` of draws [D, T]."""
    inner = fold.inner
    losses = inner_losses(inside, gram, types, inner.gold, inner.query_mask, inner.candidates)
    return losses.argmin(axis=0)


def inner_losses(inside: InnerHats, gram, types, gold, query_mask, candidates) -> jax.Array:
    """Sums [A, D] over the queries of all inner folds of each penalty's doubled ranks, but for a constant.

    types: [D, T] draws; gold, query_mask: [I, Q]; candidates: [I, T], of all inner folds alike.
    """
    n_draws, n_types = types.shape
    _, n_alphas, n_queries, n_known = inside.hats.shape
    # Of all inner folds: words of the outer training set.
    allowed = candidates[0][jnp.argsort(types, axis=1)] > 0

    def of_inner(inputs):
        hats, known, shares, gold_types, mask = inputs
        centred = _unit_products(gram, types, known, shares).reshape(n_known, -1)
        similarity = linalg.product(hats.reshape(-1, n_known), centred)
        similarity = similarity.reshape(n_alphas, n_queries, n_draws, n_types)
        # As of `retrieval.ranks`: the gold word must tie with itself.
        similarity = jax.lax.optimization_barrier(similarity)
        drawn = types[:, gold_types].T
        of_gold = jnp.take_along_axis(similarity, drawn[None, :, :, None], axis=-1)
        above, level = neighbours.sum_pairs(
            ((similarity > of_gold) & allowed).astype(jnp.int32),
            ((similarity == of_gold) & allowed).astype(jnp.int32),
        )
        doubled = 2 * above + level  # the rank, but for a constant
        return (doubled * (mask > 0)[:, None]).sum(axis=1)

    return jax.lax.map(of_inner, (*inside, gold, query_mask)).sum(axis=0)


def _unit_products(gram, types, known, shares) -> jax.Array:
    """Products [n, D, T] of the vectors of known types [n], which have shares [n] in the training mean, with
    the candidates less that mean and of unit length, in draws [D, T].

    Hat matrices map constants to zero, so that the vectors themselves need not be centred.
    """
    taken = types[:, known]  # [D, n]
    rows = gram[taken.T]
    with_mean = jnp.einsum("n,ndt->dt", shares, rows, precision="highest")
    own = jnp.take_along_axis(with_mean, taken, axis=1)
    inverse = _inverse_lengths(gram, with_mean, linalg.matmul(own, shares)[:, None])
    return (rows - own.T[:, :, None]) * inverse


def _inverse_lengths(gram, with_mean, mean_squared) -> jax.Array:
    """1 / |vector - mean| [D, T], zero for one at the mean.

    with_mean: [D, T] products of the vectors with the mean; mean_squared: [D, 1] of the mean with itself.
    """
    squares = jnp.diagonal(gram) - 2 * with_mean + mean_squared
    floor = 8 * jnp.finfo(gram.dtype).eps * (jnp.diagonal(gram) + mean_squared)
    return jnp.where(squares > floor, 1 / jnp.sqrt(jnp.where(squares > floor, squares, 1)), 0)


@functools.partial(jax.jit, static_argnames=("k", "csls_k"))
def _score(
    hats: OuterHats, train, gram, queries, mask, draws, chosen, *, k: int, csls_k: int
) -> jax.Array:
    """[P, 2] of draws [P, T], each with the hat matrices chosen [P, F] of each fold; hats: [F, A, ...]."""
    folds = jnp.arange(len(queries))

    def draw_hits(inputs):
        types, chosen = inputs
        asked, fitted = jax.tree.map(lambda x: x[folds, chosen], hats)
        ranks = inference.permuted_ranks(
            asked, train, gram, queries, mask, types, fitted, csls_k=csls_k
        )
        accuracy = 1 - (ranks.nn - 1) / (gram.shape[0] - 1)
        return jnp.stack([((ranks.csls <= k) * mask).sum(), (accuracy * mask).sum()])

    return jax.lax.map(draw_hits, (draws, chosen))
