"""All specifications of word lists at once, from inner products: what they share is computed once.

Ridge is linear in the words' vectors. A training set of the brain's side is a matrix for each penalty, from
vectors to predictions; a draw and a layer are a permuted Gram matrix of vectors. One product of the two gives
a fold's similarities, of which candidates that are scaled or not, CSLS or none, and every metric are read.
What is not shared is the fold, the centring, the responses' scaling and the rule of the penalty.

The scores are those of `run_study` with the same protocol, but for ties that rounding makes or breaks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg, retrieval
from brainalign_jax.align.retrieval import neighbours
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.exchanged_nulls import InnerHats, inner_losses
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.problem import Problem

ERRORS = "error_shared"
_AT_ONCE = 8  # draws in one product of `inner_losses`
_CALL = 24  # draws in one compiled call


class Readout(NamedTuple):
    """What is read of a fold's similarities: candidates scaled or not, neighbours of CSLS (0: by cosine
    alone), and k of precision@k (0: rank accuracy)."""

    spread: bool
    csls_k: int
    k: int


class Sums(NamedTuple):
    """sums: [P, L, F, R] of each draw, layer, fold and readout, over the fold's words; losses: [P, L, F] by
    which inner folds choose among layers, the lower the better."""

    sums: np.ndarray
    losses: np.ndarray


class _FoldWords(NamedTuple):
    """Words asked of each fold: gold [F, Q], mask [F, Q]; train [F, T] and shares [F, T] of each training
    mean, zero where nothing is centred."""

    gold: jax.Array
    mask: jax.Array
    train: jax.Array
    shares: jax.Array


@dataclass(frozen=True, eq=False)
class Fits:
    """A person's maps in every fold: hats [F, A, T, T], from the vectors of the training words to
    predictions for all words, one a penalty.

    inner: of each fold, for penalties that are chosen by retrieval; errors [F, A, T, T] and baselines
    [F, T, T], whose products with a Gram matrix are the squared errors of the inner folds, and those of the
    training mean. Either is None where no rule asks for it.
    """

    hats: jax.Array
    words: _FoldWords
    inner: list[tuple[InnerHats, jax.Array, jax.Array, jax.Array]] | None
    errors: np.ndarray | None
    baselines: np.ndarray | None


def serves(problem: Problem, protocol: Protocol, method: str) -> bool:
    """Whether specifications of a person's words can be scored so: every word once, all of them there."""
    return (
        method == "ridge"
        and len(problem.eligible) == len(problem.counts)
        and bool((problem.counts == 1).all())
        and not protocol.selects_per_target
        and protocol.center == protocol.fit_intercept
        and protocol.csls_queries == "fold"
    )


def fits_of(
    source: np.ndarray,
    problem: Problem,
    protocol: Protocol,
    rules: Sequence[str],
    computation: Computation,
    pool: Executor,
) -> Fits:
    """A person's maps. source: [N, R] responses as prepared, or [F, N, R]; rules: of alpha_selection."""
    dtype = computation.dtype
    outer, inner, token_to_type = problem.folds
    tokens = np.argsort(token_to_type)  # of each type
    centred = protocol.fit_intercept
    train = np.asarray(outer.train)[:, tokens] > 0
    inner_train = np.asarray(inner.train)[..., tokens] > 0

    def of_fold(fold: int):
        with computation.context():
            return in_context(fold)

    def in_context(fold: int):
        rows = np.asarray(source if source.ndim == 2 else source[fold], np.float64)[tokens]
        kernel = rows @ rows.T
        splits = zip(inner_train[fold], inner.gold[fold], inner.query_mask[fold], strict=True)
        hats = _hats(kernel, train[fold], protocol)
        inside = [
            (_hats(kernel, mask, protocol), mask, gold, asked) for mask, gold, asked in splits
        ]
        chosen = _inner_hats(inside, centred, dtype) if "retrieval" in rules else None
        errors = _error_products(inside, centred) if ERRORS in rules else None
        return hats, chosen, errors

    folds = list(pool.map(of_fold, range(len(train))))
    shares = train / train.sum(axis=1, keepdims=True) * centred
    words = _FoldWords(
        jnp.asarray(outer.gold),
        jnp.asarray(outer.query_mask, dtype),
        jnp.asarray(train, dtype),
        jnp.asarray(shares, dtype),
    )
    hats = jnp.asarray(np.stack([fold[0] for fold in folds]), dtype)
    chosen = errors = baselines = None
    if "retrieval" in rules:
        chosen = [
            (fold[1], *map(jnp.asarray, (inner.gold[f], inner.query_mask[f], inner.candidates[f])))
            for f, fold in enumerate(folds)
        ]
    if ERRORS in rules:
        errors, baselines = (np.stack([fold[2][i] for fold in folds]) for i in range(2))
    return Fits(hats, words, chosen, errors, baselines)


def _hats(kernel: np.ndarray, train: np.ndarray, protocol: Protocol) -> np.ndarray:
    """[A, T, T] of inner products [T, T], for each penalty; columns of words left out are zero."""
    known = np.flatnonzero(train)
    if protocol.fit_intercept:
        mean = kernel[:, known].mean(axis=1)
        kernel = kernel - mean[:, None] - mean + mean[known].mean()
    variances, axes = np.linalg.eigh(kernel[np.ix_(known, known)])
    variances = np.maximum(variances, 0)
    alphas = np.asarray(protocol.alphas)
    if protocol.alpha_unit == "kernel":
        alphas = alphas * variances.sum() / len(known)
    scores = kernel[:, known] @ axes
    hats = np.zeros((len(alphas), *kernel.shape))
    for index, alpha in enumerate(alphas):
        hats[index][:, known] = (scores / (variances + alpha)) @ axes.T
    return hats


def _inner_hats(inside: list, centred: bool, dtype: str) -> InnerHats:
    """The inner folds' maps of one outer fold as `exchanged_nulls` takes them."""
    size = max(int(mask.sum()) for _, mask, _, _ in inside)
    hats, knowns, shares = [], [], []
    for maps, mask, gold, asked in inside:
        known = np.argsort(~mask, kind="stable")[:size]  # the last may be words left out
        hats.append((maps[:, gold] * np.asarray(asked)[:, None])[:, :, known])
        knowns.append(known)
        shares.append(mask[known] / mask.sum() * centred)
    return InnerHats(
        jnp.asarray(np.stack(hats), dtype),
        jnp.asarray(np.stack(knowns), jnp.int32),
        jnp.asarray(np.stack(shares), dtype),
    )


def _error_products(inside: list, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """([A, T, T], [T, T]) of one outer fold; see `Fits`."""
    n_alphas, n_types = inside[0][0].shape[:2]
    errors, baseline = np.zeros((n_alphas, n_types, n_types)), np.zeros((n_types, n_types))
    for maps, mask, gold, asked in inside:
        words = np.asarray(gold)[np.asarray(asked) > 0]
        true = np.eye(n_types)[words] - mask / mask.sum() * centred
        baseline += true.T @ true
        for index, hat in enumerate(maps):
            missed = true - hat[words]
            errors[index] += missed.T @ missed
    return errors, baseline


def gram_of(vectors: np.ndarray, *, centred: bool) -> np.ndarray:
    """Inner products [T, T] of vectors [T, D], less their mean where maps are centred in any case."""
    vectors = np.asarray(vectors, np.float64)
    vectors = vectors - vectors.mean(axis=0) * centred
    return vectors @ vectors.T


def sums_of(
    fits: Fits,
    grams: np.ndarray,
    draws: np.ndarray,
    rule: str,
    readouts: Sequence[Readout],
    computation: Computation,
    pool: Executor,
) -> Sums:
    """What every draw and layer gives. grams: [L, T, T]; draws: [P, T] the word whose vector each takes."""
    n_types = draws.shape[1]

    def of_layer(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with computation.context():
            return in_context(gram, jnp.asarray(gram, computation.dtype))

    def in_context(gram: np.ndarray, single: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        if rule == ERRORS:
            chosen, losses = _by_errors(fits, gram, draws)
        else:
            chosen, losses = _by_retrieval(fits, single, draws)
        filled = -(-len(draws) // _CALL) * _CALL
        types = np.resize(draws, (filled, n_types)).astype(np.int32)
        which = np.resize(chosen, (filled, chosen.shape[1])).astype(np.int32)
        parts = [
            _read(
                fits.hats,
                fits.words,
                single,
                types[start : start + _CALL],
                which[start : start + _CALL],
                readouts=tuple(readouts),
            )
            for start in range(0, filled, _CALL)
        ]
        sums = np.concatenate([np.asarray(part, np.float64) for part in parts])[: len(draws)]
        return sums, losses

    layers = list(pool.map(of_layer, grams))
    sums, losses = (np.stack(parts, axis=1) for parts in zip(*layers, strict=True))
    return Sums(sums, losses)


def _by_errors(fits: Fits, gram: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(penalty [P, F] of the least squared error in the inner folds, that error's share of the mean's)."""
    n_folds, n_alphas = fits.errors.shape[:2]
    flat = fits.errors.reshape(n_folds * n_alphas, -1), fits.baselines.reshape(n_folds, -1)
    products = np.concatenate(flat)
    totals = np.empty((len(draws), len(products)))
    for start in range(0, len(draws), _CALL):
        some = draws[start : start + _CALL]
        moved = gram[some[:, :, None], some[:, None, :]].reshape(len(some), -1)
        totals[start : start + _CALL] = moved @ products.T
    errors = totals[:, : n_folds * n_alphas].reshape(-1, n_folds, n_alphas)
    return errors.argmin(axis=2), errors.min(axis=2) / totals[:, n_folds * n_alphas :]


def _by_retrieval(fits: Fits, gram: jax.Array, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(penalty [P, F] of the least mean rank in the inner folds, and that rank but for a constant)."""
    filled = -(-len(draws) // _AT_ONCE) * _AT_ONCE
    types = np.resize(draws, (filled, draws.shape[1])).astype(np.int32)
    types = types.reshape(-1, _AT_ONCE, draws.shape[1])
    chosen, losses = [], []
    for inside, gold, mask, candidates in fits.inner:
        by_alpha = np.asarray(_inner_ranks(inside, gram, types, gold, mask, candidates))
        by_alpha = np.concatenate(by_alpha, axis=-1)[:, : len(draws)]
        chosen.append(by_alpha.argmin(axis=0))
        losses.append(by_alpha.min(axis=0))
    return np.stack(chosen, axis=1), np.stack(losses, axis=1).astype(np.float64)


@jax.jit
def _inner_ranks(inside: InnerHats, gram, draws, gold, mask, candidates) -> jax.Array:
    """[P / D, A, D] losses of draws [P / D, D, T]."""
    return jax.lax.map(
        lambda types: inner_losses(inside, gram, types, gold, mask, candidates), draws
    )


@functools.partial(jax.jit, static_argnames=("readouts",))
def _read(hats, words: _FoldWords, gram, draws, chosen, *, readouts: tuple[Readout, ...]):
    """[P, F, R] sums over the words of each fold, for draws [P, T] with penalties [P, F]."""
    folds = jnp.arange(len(words.gold))

    def of_draw(inputs):
        types, chosen = inputs
        paired = gram[types][:, types]
        cosines, spread = _cosines(hats[folds, chosen], paired, words)
        return jnp.stack(_read_of(cosines, spread, words, readouts), axis=-1)

    return jax.lax.map(of_draw, (draws, chosen))


def _cosines(maps, paired, words: _FoldWords) -> tuple[jax.Array, jax.Array]:
    """(cosines [F, Q, T] of predictions with candidates, root mean square [F, T] of each candidate's over
    the training words), of maps [F, T, T] and permuted products [T, T]."""
    products = linalg.product(maps, paired)
    squares = (products * maps).sum(axis=2)
    lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    along = jnp.einsum("ftc,fc->ft", products, words.shares, precision="highest")
    with_mean = linalg.matmul(words.shares, paired)
    of_mean = (with_mean * words.shares).sum(axis=1)
    own = jnp.diagonal(paired)
    away = own - 2 * with_mean + of_mean[:, None]
    floor = 8 * jnp.finfo(paired.dtype).eps * (own + of_mean[:, None])
    scale = jnp.where(away > floor, 1 / jnp.sqrt(jnp.where(away > floor, away, 1)), 0)
    used = words.train * (squares > 0)
    used = used / jnp.where(squares > 0, squares, 1) / used.sum(axis=1, keepdims=True)
    centred = products - along[:, :, None]
    spread = jnp.sqrt(jnp.einsum("ft,ftc->fc", used, centred**2)) * scale
    rows = jnp.take_along_axis(centred, words.gold[:, :, None], axis=1)
    lengths = jnp.take_along_axis(lengths, words.gold, axis=1)
    return rows * scale[:, None, :] / lengths[:, :, None], jnp.where(spread > 0, spread, 1)


def _read_of(cosines, spread, words: _FoldWords, readouts) -> list[jax.Array]:
    """Sums [F] of each readout."""
    ranks = {}
    for scaled in dict.fromkeys(readout.spread for readout in readouts):
        of_rule = cosines / spread[:, None, :] if scaled else cosines
        of_rule = jax.lax.optimization_barrier(of_rule)
        sizes = dict.fromkeys(readout.csls_k for readout in readouts)
        for k in sizes:
            near = jnp.zeros(of_rule.shape[::2], of_rule.dtype)
            if k:
                asked = jnp.where(words.mask[:, :, None] > 0, of_rule, -jnp.inf)
                by_candidate = jnp.swapaxes(asked, 1, 2).reshape(-1, of_rule.shape[1])
                size = min(k, of_rule.shape[1])
                near = neighbours.mean_of_largest(by_candidate, size).reshape(near.shape)
            twice = 2 * of_rule - near[:, None, :]
            ranks[scaled, k] = jax.vmap(retrieval.ranks)(twice, words.gold)
    n_types = cosines.shape[2]
    sums = []
    for scaled, csls_k, k in readouts:
        rank = ranks[scaled, csls_k]
        value = (rank <= k).astype(rank.dtype) if k else 1 - (rank - 1) / (n_types - 1)
        sums.append((value * words.mask).sum(axis=1))
    return sums
