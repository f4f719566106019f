"""Word decoding by nearest neighbours: cosine, CSLS, the rank of the true word, precision@k.

`csls_ranks` goes from vectors to ranks, for as many queries and candidates as there are: the matrix of
scores is held whole where it fits, and made tile by tile where it does not. The other functions work on a
matrix of scores that is there.

Reference: Conneau, Lample, Ranzato, Denoyer & Jegou (2018), Word translation without parallel data
(CSLS: cross-domain similarity local scaling).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Bool, Float, Int, Real, Shaped
from brainalign_jax.align.retrieval.neighbours import in_tiles, mean_of_largest, sum_pairs


def cosine(source: Float[Array, "Q D"], target: Float[Array, "C D"]) -> Float[Array, "Q C"]:
    """Cosines [Q, C] between queries [Q, D] and candidates [C, D]; a zero vector has cosine 0."""
    return linalg.matmul(linalg.unit_rows(source), linalg.unit_rows(target).T)


def csls(
    source: Float[Array, "Q D"],
    target: Float[Array, "C D"],
    *,
    k: int = 10,
    source_weights: Shaped[Array, " Q"] | None = None,
) -> Float[Array, "Q C"]:
    """CSLS scores [Q, C]: 2 cos(x, y) - r_T(x) - r_S(y).

    r_T(x) is the mean cosine of query x with its k nearest candidates, r_S(y) that of candidate y
    with its k nearest queries.

    Args:
      source: [Q, D] queries, only those: predictions of training words among them would mark
        the training words as hubs and so give the answer away. target: [C, D] candidates.
      k: number of neighbours, at most Q and C.
      source_weights: [Q] mask of queries; the others are nobody's neighbour. Where fewer than k
        queries have weight, r_S is the mean over those there are.

    Raises: ValueError if k is below 1 or above Q or C.
    """
    return csls_from_cosine(cosine(source, target), k=k, source_weights=source_weights)


def csls_from_cosine(
    cosines: Float[Array, "Q C"],
    *,
    k: int,
    source_weights: Shaped[Array, " Q"] | None = None,
    others: tuple[Float[Array, "M C"], Shaped[Array, " M"]] | None = None,
) -> Float[Array, "Q C"]:
    """`csls` from similarities [Q, C] that are already there. Arguments as there.

    others: similarities [M, C] of what is not asked about, yet a neighbour where its weight [M] is positive.
    """
    _check_neighbours(k, *cosines.shape)
    if source_weights is None:
        by_candidate = cosines.T
    else:
        by_candidate = jnp.where(_has_weight(source_weights, cosines), cosines.T, -jnp.inf)
    if others is not None:
        more = jnp.where(_has_weight(others[1], cosines), others[0].T, -jnp.inf)
        by_candidate = jnp.concatenate([by_candidate, more], axis=1)
    r_target = mean_of_largest(cosines, k)
    r_source = mean_of_largest(by_candidate, k)
    return 2 * cosines - r_target[:, None] - r_source[None, :]


def _check_neighbours(k: int, n_queries: int, n_candidates: int) -> None:
    if not 1 <= k <= min(n_queries, n_candidates):
        raise ValueError(
            f"CSLS with k={k} neighbours needs at least {k} queries and candidates, but there are "
            f"{n_queries} and {n_candidates}: lower csls_k"
        )


def _has_weight(weights: Shaped[Array, " N"], like: Array) -> Bool[Array, " N"]:
    return linalg.training_mask(weights, like.dtype) > 0


class CslsRanks(NamedTuple):
    """Ranks of the true candidates by CSLS and by cosine [Q], and the neighbour means behind them:
    r_source [C] of each candidate among the queries, r_target [Q] of each query among the candidates."""

    rank_csls: Float[Array, " Q"]
    rank_nn: Float[Array, " Q"]
    r_source: Float[Array, " C"]
    r_target: Float[Array, " Q"]


def csls_ranks(
    source: Float[Array, "Q D"],
    target: Float[Array, "C D"],
    gold: Int[Array, "..."],
    *,
    k: int = 10,
    source_weights: Shaped[Array, " Q"] | None = None,
    target_weights: Shaped[Array, " C"] | None = None,
    max_bytes: int = 2**30,
    tile: int | None = None,
) -> CslsRanks:
    """`ranks` of `csls` and of `cosine`, from the vectors, in bounded memory.

    Where the scores of all pairs and their transpose fit into max_bytes they are computed once, 2 Q C D
    operations. Else tiles of scores are made twice, 4 Q C D operations: once by candidates, for r_source,
    and once by queries, for r_target and at once the ranks. The rest is some ten readings of each score
    on either side (`neighbours.search_mean`), on a CPU while in cache, and one for the ranks. A CPU takes
    for the second product what it takes for the transpose where D is near 300.

    Args:
      source: [Q, D] queries; target: [C, D] candidates; of any length.
      gold: [Q] index of the true candidate of each query.
      k: number of neighbours, at most Q and C.
      source_weights: [Q] mask of queries, as for `csls`: the others are ranked, but nobody's neighbour.
      target_weights: [C] mask of candidates: the others are neither neighbours nor ranked.
      max_bytes: memory for scores, beside the vectors and a copy of them.
      tile: rows of scores to make at once, in the place of max_bytes: for tests and measurements.

    Returns: ranks as of `ranks`, ties at half; a query with NaN ranks last, and all do where a candidate
      that is ranked has NaN.

    Raises: ValueError if k is below 1 or above Q or C, if tile is below 1, or if gold is not [Q].
    """
    n_queries, n_candidates = source.shape[0], target.shape[0]
    _check_neighbours(k, n_queries, n_candidates)
    if gold.shape != (n_queries,):
        raise ValueError(
            f"gold has shape {gold.shape}, but there are {n_queries} queries: one each"
        )
    if tile is not None and tile < 1:
        raise ValueError(f"tile={tile} must be at least 1 row")
    source, target = linalg.unit_rows(source), linalg.unit_rows(target)
    asked = None if source_weights is None else _has_weight(source_weights, source)
    ranked = None if target_weights is None else _has_weight(target_weights, target)
    spoilt = jnp.isnan(target.sum(axis=1))  # XLA writes any(isnan) out as [C, D] flags
    last = jnp.isnan(source.sum(axis=1)) | (spoilt if ranked is None else spoilt & ranked).any()
    gold = gold.astype(jnp.int32)

    def rows(x: jax.Array, start: jax.Array, count: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(x, start, count)

    row_bytes = source.dtype.itemsize * max(n_queries, n_candidates)
    if tile is None and 2 * row_bytes * min(n_queries, n_candidates) <= max_bytes:
        scores = linalg.matmul(source, target.T)
        r_source = mean_of_largest(_among(scores.T, asked), k)
        r_target = mean_of_largest(_among(scores, ranked), k)
        rank_csls, rank_nn = rank_both(_among(scores, ranked), gold, r_source, last)
        return CslsRanks(rank_csls, rank_nn, r_source, r_target)

    count = tile or max(1, max_bytes // (2 * row_bytes))

    def candidates(start):
        scores = linalg.matmul(rows(target, start, min(count, n_candidates)), source.T)
        return mean_of_largest(_among(scores, asked), k)

    r_source = in_tiles(candidates, n_candidates, count)

    def queries(start):
        size = min(count, n_queries)
        scores = _among(linalg.matmul(rows(source, start, size), target.T), ranked)
        per_query = rows(gold, start, size), r_source, rows(last, start, size)
        return *rank_both(scores, *per_query), mean_of_largest(scores, k)

    rank_csls, rank_nn, r_target = in_tiles(queries, n_queries, count)
    return CslsRanks(rank_csls, rank_nn, r_source, r_target)


def _among(scores: Float[Array, "R N"], mask: Bool[Array, " N"] | None) -> Float[Array, "R N"]:
    """Scores [R, N] with the columns that are left out at -inf."""
    return scores if mask is None else jnp.where(mask, scores, -jnp.inf)


def rank_both(
    scores: Float[Array, "Q C"],
    gold: Int[Array, " Q"],
    r_source: Float[Array, " C"],
    last: Bool[Array, " Q"] | None = None,
) -> tuple[Float[Array, " Q"], Float[Array, " Q"]]:
    """`ranks` [Q] by CSLS and by cosine, from cosines [Q, C] and each candidate's r_source [C].

    The mean r_target of a query moves no rank. last: [Q] the queries that rank last, by default those
    with NaN.
    """
    if last is None:
        last = jnp.isnan(scores.sum(axis=1))
    # See `ranks`. Twice a number is exact, so that fused multiply-add changes nothing here.
    scores = jax.lax.optimization_barrier(scores)
    gold_scores = jnp.take_along_axis(scores, gold[:, None], axis=1)

    def rank(scores, of_gold):
        above, level = sum_pairs(
            (scores > of_gold).astype(jnp.int32), (scores == of_gold).astype(jnp.int32)
        )
        rank = 1 + above.astype(scores.dtype) + (level - 1).astype(scores.dtype) / 2
        return jnp.where(last, jnp.full_like(rank, scores.shape[1]), rank)

    doubled = 2 * scores - r_source, 2 * gold_scores - r_source[gold][:, None]
    return rank(*doubled), rank(scores, gold_scores)


def ranks(scores: Real[Array, "Q C"], gold: Int[Array, " Q"]) -> Float[Array, " Q"]:
    """Rank [Q] of the gold candidate of each query, 1 is best: a count, no sorting.

    A tie with others costs half of them, so that constant scores rank at chance. NaN anywhere in a
    query's scores ranks last.

    Args:
      scores: [Q, C]; gold: [Q] index of the true candidate.
    """
    # XLA may otherwise compute the gold score a second time with other rounding (fused
    # multiply-add), and the gold candidate would not even tie with itself.
    scores = jax.lax.optimization_barrier(scores)
    of_gold = jnp.take_along_axis(scores, gold[:, None].astype(jnp.int32), axis=1)
    count = jnp.float64 if scores.dtype == jnp.float64 else jnp.float32
    # In one pass, with NaN carried along: `sum_pairs` says why. The gold candidate ties with itself.
    ties = jnp.where(jnp.isnan(scores), jnp.nan, (scores == of_gold).astype(count))
    above, level = sum_pairs((scores > of_gold).astype(count), ties)
    rank = 1 + above + (level - 1) / 2
    rank = jnp.where(jnp.isnan(level), jnp.full_like(rank, scores.shape[1]), rank)
    # Ties are at halves, also of scores that are integers.
    return rank.astype(scores.dtype) if jnp.issubdtype(scores.dtype, jnp.floating) else rank


def precision_at(
    ranks: Float[Array, " Q"], ks: tuple[int, ...], weights: Shaped[Array, " Q"] | None = None
) -> Float[Array, " n_ks"]:
    """Weighted fraction [len(ks)] of ranks [Q] that are at most k, for each k of ks.

    Of candidates that tie at the edge of the first k each has the rank in their middle (see `ranks`), so that
    they count as hits or as misses as a whole: constant scores have precision 0 for a k below half of the
    candidates and 1 above, in the place of k / C.
    """
    if weights is None:
        weights = jnp.ones_like(ranks)
    hits = (ranks[None, :] <= jnp.asarray(ks, ranks.dtype)[:, None]).astype(ranks.dtype)
    hits = jnp.where(jnp.isnan(ranks), jnp.nan, hits)
    return linalg.matmul(hits, linalg.normalized_weights(weights, ranks.dtype))


def rank_accuracy(
    ranks: Float[Array, " *Q"], n_candidates: int | Real[Array, ""]
) -> Float[Array, " *Q"]:
    """1 - (rank - 1) / (C - 1) [..., Q]: one is perfect, one half is chance."""
    return 1 - (ranks - 1) / (n_candidates - 1)
