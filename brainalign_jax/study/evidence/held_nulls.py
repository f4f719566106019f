"""Item nulls of ridge with the penalty held at what the real data chose: hat matrices serve all draws.

A draw exchanges the words' vectors. With the penalty held, what each fold makes of the brain's side is a
matrix that maps vectors to predictions, and a draw costs one product of it with the Gram matrix of the
vectors (`align.inference.permuted_ranks`). The penalty was chosen for the real pairing, which favours it
a little over the draws; `nulls` chooses anew in each.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.stats import inference
from brainalign_jax.study.evidence.draws import Draw
from brainalign_jax.study.score.fold_work import Part, Work
from brainalign_jax.study.score.methods import FoldProblem, Ridge, RidgeState, pools_folds

_DRAWS = 50  # in one compiled call


def serves(work: Work, draws: list[Draw]) -> bool:
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
    )


def score(work: Work, draws: list[Draw], pool, *, k: int) -> dict[Part, np.ndarray]:
    """Sums over all tested words, [P, 2, L] of each part: hits at k by CSLS, and rank accuracy."""
    outer, protocol = work.problem.folds.outer, work.method.protocol
    n_folds, n_types = len(outer.train), len(work.problem.counts)
    counts = np.stack(
        [
            np.bincount(work.problem.folds.token_to_type[mask > 0], minlength=n_types)
            for mask in outer.train
        ]
    ).astype(work.source.dtype)
    types = np.stack([draw.types for draw in draws]).astype(np.int32)

    def hats(index: int) -> dict[Part, tuple[np.ndarray, np.ndarray]]:
        with work.computation.context():
            source, fold = jax.device_put((work.source, work.problem.fold(index)))
            method, state = work.prepare(source, fold)
            return {
                part: tuple(
                    np.concatenate(x)[: work.counts[part]]
                    for x in zip(
                        *(_hats(state, source, chunk, fold, method=method) for chunk in chunks),
                        strict=True,
                    )
                )
                for part, chunks in work.layers.items()
            }

    def of_layer(job) -> np.ndarray:
        asked, fitted, values = job
        with work.computation.context():
            values = values - values.mean(axis=0)
            parts = [
                _score(
                    asked,
                    counts,
                    values @ values.T,
                    outer.gold,
                    outer.query_mask,
                    np.resize(types[start : start + _DRAWS], (min(_DRAWS, len(types)), n_types)),
                    fitted if protocol.candidate_scaling == "spread" else None,
                    k=k,
                    csls_k=protocol.csls_k,
                )
                for start in range(0, len(types), _DRAWS)
            ]
            return np.concatenate([np.asarray(part) for part in parts])[: len(types)]

    by_fold = list(pool.map(hats, range(n_folds)))
    by_part = {}
    for part, chunks in work.layers.items():
        values = np.concatenate([np.asarray(chunk.values) for chunk in chunks])
        jobs = [
            (*(np.stack([fold[part][i][layer] for fold in by_fold]) for i in (0, 1)), values[layer])
            for layer in range(work.counts[part])
        ]
        by_part[part] = np.stack(list(pool.map(of_layer, jobs)), axis=-1)
    return by_part


@functools.partial(jax.jit, static_argnames=("method",))
def _hats(state: RidgeState, source, layers, fold: FoldProblem, *, method: Ridge):
    """Hat matrices of queries [C, Q, T] and of training tokens [C, N, T], for each layer [C]."""
    tokens = linalg.masked_rows(source - state.source_mean, fold.outer.train)
    asked = (state.queries - state.source_mean) * fold.outer.query_mask.astype(source.dtype)[
        :, None
    ]

    def layer_hats(layer):
        hat = inference.hat_matrix(state.outer, method.choose_alpha(state, layer, fold)[0])
        return linalg.matmul(asked, hat), linalg.matmul(tokens, hat)

    return jax.lax.map(layer_hats, layers)


@functools.partial(jax.jit, static_argnames=("k", "csls_k"))
def _score(asked, train, gram, queries, mask, draws, fitted, *, k: int, csls_k: int) -> jax.Array:
    """[P, 2] of draws [P, T]."""

    def draw_hits(types):
        ranks = inference.permuted_ranks(
            asked, train, gram, queries, mask, types, fitted, csls_k=csls_k
        )
        accuracy = 1 - (ranks.nn - 1) / (gram.shape[0] - 1)
        return jnp.stack([((ranks.csls <= k) * mask).sum(), (accuracy * mask).sum()])

    return jax.lax.map(draw_hits, draws)
