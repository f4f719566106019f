from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.spatial.distance import cdist

from brainalign_jax.align import retrieval

Q, C, D = 13, 17, 6

cosine = jax.jit(retrieval.cosine)
csls = jax.jit(retrieval.csls, static_argnames="k")
ranks = jax.jit(retrieval.ranks)


def vectors(rng):
    source, target = rng.normal(size=(Q, D)), rng.normal(size=(C, D)) + 0.5
    return source * rng.uniform(0.1, 10, size=(Q, 1)), target


def test_cosine_equals_scipy(precision, rng):
    source, target = vectors(rng)
    similarity = cosine(*precision.arrays(source, target))
    precision.close(similarity, 1 - cdist(source, target, "cosine"))
    precision.close(similarity, oracles.cosine(source, target))


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_cosine_does_not_depend_on_length(precision, rng, scale):
    source, target = vectors(rng)
    similarity = cosine(*precision.arrays(scale * source, target))
    precision.close(similarity, oracles.cosine(source, target))


def test_a_zero_vector_is_similar_to_nothing(precision, rng):
    source, target = vectors(rng)
    source[2], target[5] = 0, 0
    similarity = cosine(*precision.arrays(source, target))
    precision.close(similarity, oracles.cosine(source, target))
    assert (np.asarray(similarity)[2] == 0).all() and (np.asarray(similarity)[:, 5] == 0).all()
    scores = csls(*precision.arrays(source, target), k=3)
    precision.close(scores, oracles.csls(source, target, 3))


@pytest.mark.parametrize("k", [1, 4, Q])
def test_csls_equals_a_loop(precision, rng, k):
    source, target = vectors(rng)
    scores = csls(*precision.arrays(source, target), k=k)
    precision.close(scores, oracles.csls(source, target, k))


def test_csls_counts_ten_neighbours_unless_told(precision, rng):
    source, target = vectors(rng)
    precision.close(csls(*precision.arrays(source, target)), oracles.csls(source, target, 10))


def test_csls_with_repeated_targets(precision, rng):
    """The same vector several times among the nearest: each copy counts as a neighbour."""
    source, target = vectors(rng)
    target[[1, 2, 3]] = target[0]
    scores = csls(*precision.arrays(source, target), k=3)
    precision.close(scores, oracles.csls(source, target, 3))


@pytest.mark.parametrize("dtype", [bool, float])
def test_csls_with_rows_that_are_nobodys_neighbour(precision, rng, dtype):
    k = 4
    source, target = vectors(rng)
    weights = np.ones(Q)
    weights[[0, 4, 5, 11]] = 0
    mask = jnp.asarray(weights, bool) if dtype is bool else precision.array(weights)
    scores = csls(*precision.arrays(source, target), k=k, source_weights=mask)
    precision.close(scores, oracles.csls(source, target, k, weights))
    kept = weights > 0
    dropped = csls(*precision.arrays(source[kept], target), k=k)
    precision.close(np.asarray(scores)[kept], dropped)


def test_csls_with_exactly_k_valid_rows_of_negative_similarity(precision, rng):
    """A mask that multiplies similarities by zero would let left-out rows in as neighbours."""
    source, target = -np.abs(rng.normal(size=(Q, D))), np.abs(rng.normal(size=(C, D)))
    weights = np.arange(Q) < 4
    scores = csls(*precision.arrays(source, target), k=4, source_weights=jnp.asarray(weights))
    precision.close(scores, oracles.csls(source, target, 4, weights))


@pytest.mark.parametrize("q,c,k", [(5, 9, 6), (9, 5, 6), (5, 5, 10)])
def test_more_neighbours_than_rows_is_an_error(precision, rng, q, c, k):
    source, target = precision.arrays(rng.normal(size=(q, D)), rng.normal(size=(c, D)))
    with pytest.raises(ValueError, match=str(k)):
        retrieval.csls(source, target, k=k)
    with pytest.raises(ValueError, match=str(k)):
        jax.jit(lambda s, t: retrieval.csls(s, t, k=k))(source, target)


def test_csls_demotes_a_hub(precision, rng):
    """Candidate 0 lies close to every query and wins by cosine; CSLS returns the true neighbours."""
    target = np.eye(D)
    source = target + 0.6
    target = np.vstack([np.ones(D), target])
    gold = jnp.arange(1, D + 1)
    source, target = precision.arrays(source, target)
    by_cosine = ranks(cosine(source, target), gold)
    by_csls = ranks(csls(source, target, k=3), gold)
    assert (np.asarray(by_cosine) > 1).all()
    precision.close(by_csls, np.ones(D))


def test_similarities_are_the_same_batched(double, rng, same_when_batched):
    source, target = rng.normal(size=(3, Q, D)), rng.normal(size=(3, C, D))
    masks = np.stack([np.arange(Q) % 5 != b for b in range(3)])
    arrays = double.arrays
    same_when_batched(retrieval.cosine, *arrays(source, target), in_axes=(0, 0))

    def masked_csls(source, target, weights):
        return retrieval.csls(source, target, k=4, source_weights=weights)

    same_when_batched(masked_csls, *arrays(source, target), jnp.asarray(masks), in_axes=(0, 0, 0))
    same_when_batched(
        lambda s, t: retrieval.csls(s, t, k=4), *arrays(source, target[0]), in_axes=(0, None)
    )


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_ranks_equal_a_loop(precision, rng, levels):
    scores = rng.integers(-levels, levels, size=(Q, C))
    gold = rng.integers(0, C, size=Q)
    actual = ranks(precision.array(scores), jnp.asarray(gold, jnp.int32))
    precision.close(actual, oracles.ranks(scores, gold), factor=0.01)  # exact


def test_scores_that_are_all_equal_rank_in_the_middle(precision):
    """A model that predicts one vector for all words is at chance, not at rank one."""
    scores = precision.array(np.full((3, 9), 0.1))
    gold = jnp.array([0, 4, 8])
    rank = ranks(scores, gold)
    precision.close(rank, [5.0, 5.0, 5.0])
    precision.close(retrieval.rank_accuracy(rank, 9), [0.5, 0.5, 0.5])


def test_ranks_are_the_same_batched(double, rng, same_when_batched):
    scores = double.array(rng.integers(0, 6, size=(3, Q, C)))
    gold = jnp.asarray(rng.integers(0, C, size=Q), jnp.int32)
    same_when_batched(retrieval.ranks, scores, gold, in_axes=(0, None))


def test_ranks_equal_a_loop_with_ties_infinities_and_nan(double, rng):
    scores = rng.integers(0, 6, size=(Q, C)).astype(float)
    gold = rng.integers(0, C, size=Q)
    scores[0, 1], scores[1, :3], scores[2, 2] = np.nan, -np.inf, np.inf
    scores[3, gold[3]] = -np.inf
    expected = [
        C if np.isnan(row).any() else 1 + (row > row[i]).sum() + ((row == row[i]).sum() - 1) / 2
        for row, i in zip(scores, gold, strict=True)
    ]
    computed = ranks(double.array(scores), jnp.asarray(gold, jnp.int32))
    np.testing.assert_array_equal(computed, expected)


def test_ties_of_integers_cost_half_of_them_too():
    scores = jnp.array([[3, 3, 1], [2, 1, 2]])
    np.testing.assert_array_equal(ranks(scores, jnp.array([0, 2])), [1.5, 1.5])


TILES = [None, 1, 4, 100]


@functools.cache
def csls_ranks(k, tile=None, max_bytes=2**30):
    """Jitted, of source, target, gold and the two masks, which may be None."""

    def kernel(source, target, gold, source_weights=None, target_weights=None):
        return retrieval.csls_ranks(
            source,
            target,
            gold,
            k=k,
            tile=tile,
            max_bytes=max_bytes,
            source_weights=source_weights,
            target_weights=target_weights,
        )

    return jax.jit(kernel)


def expected_csls_ranks(source, target, gold, k, asked=None, ranked=None):
    """From the loops over scores: candidates without weight are dropped for the means, and rank below all."""
    asked = np.ones(len(source), bool) if asked is None else asked
    ranked = np.ones(len(target), bool) if ranked is None else ranked
    cosines = oracles.cosine(source, target)
    r_target = [np.sort(row[ranked])[::-1][:k].mean() for row in cosines]
    r_source = [np.sort(column[asked])[::-1][:k].mean() for column in cosines.T]
    scores = 2 * cosines - np.array(r_target)[:, None] - np.array(r_source)
    return retrieval.CslsRanks(
        oracles.ranks(np.where(ranked, scores, -np.inf), gold),
        oracles.ranks(np.where(ranked, cosines, -np.inf), gold),
        np.array(r_source),
        np.array(r_target),
    )


def same_ranks(precision, actual, expected):
    precision.close(actual.rank_csls, expected.rank_csls, factor=0.01)  # exact
    precision.close(actual.rank_nn, expected.rank_nn, factor=0.01)
    precision.close(actual.r_source, expected.r_source)
    precision.close(actual.r_target, expected.r_target)


@pytest.mark.parametrize("tile", TILES)
def test_csls_ranks_equal_a_loop(precision, rng, tile):
    source, target = vectors(rng)
    gold = rng.integers(0, C, size=Q)
    actual = csls_ranks(4, tile)(*precision.arrays(source, target), jnp.asarray(gold, jnp.int32))
    same_ranks(precision, actual, expected_csls_ranks(source, target, gold, 4))


@pytest.mark.parametrize("tile", [None, 5])
def test_csls_ranks_among_those_with_weight(precision, rng, tile):
    source, target = vectors(rng)
    gold = rng.integers(0, C, size=Q)
    asked, ranked = rng.random(Q) < 0.7, rng.random(C) < 0.5  # some true words are left out
    arrays = precision.arrays(source, target)
    masks = jnp.asarray(asked), precision.array(ranked)
    actual = csls_ranks(4, tile)(*arrays, jnp.asarray(gold, jnp.int32), *masks)
    same_ranks(precision, actual, expected_csls_ranks(source, target, gold, 4, asked, ranked))


def test_memory_decides_the_path_and_changes_nothing(double, rng):
    source, target = vectors(rng)
    arrays = (*double.arrays(source, target), jnp.asarray(rng.integers(0, C, size=Q), jnp.int32))
    whole = csls_ranks(4)
    for max_bytes in (0, 1000):
        tiled = csls_ranks(4, None, max_bytes)
        jax.tree.map(double.close, tiled(*arrays), whole(*arrays))

        def largest(compiled):
            return compiled.lower(*arrays).compile().memory_analysis().temp_size_in_bytes

        assert largest(tiled) < largest(whole)


@pytest.mark.parametrize("tile", [None, 70])
def test_csls_ranks_of_many_words(double, rng, tile):
    """Enough of them for the search of `neighbours` in the place of a sort."""
    source, target = rng.normal(size=(110, D)), rng.normal(size=(130, D))
    gold, asked = rng.integers(0, 130, size=110), rng.random(110) < 0.7
    arrays = (*double.arrays(source, target), jnp.asarray(gold), jnp.asarray(asked))
    actual = csls_ranks(9, tile)(*arrays)
    same_ranks(double, actual, expected_csls_ranks(source, target, gold, 9, asked))


@pytest.mark.parametrize("tile", [None, 4])
def test_two_words(double, tile):
    vectors = [[1, 0], [1, 3]], [[1, 1], [0, 3]]
    actual = csls_ranks(1, tile)(*double.arrays(*vectors), jnp.arange(2))
    same_ranks(double, actual, expected_csls_ranks(*vectors, np.arange(2), 1))


@pytest.mark.parametrize("tile", [None, 4])
def test_repeated_candidates_tie(double, rng, tile):
    """Every candidate twice: the copy of the true word costs half a rank, by CSLS too."""
    source, target = vectors(rng)
    twice = np.repeat(target, 2, axis=0)
    gold = np.arange(Q)
    actual = csls_ranks(4, tile)(*double.arrays(source, twice), jnp.asarray(2 * gold + 1))
    once = expected_csls_ranks(source, target, gold, 2)
    double.close(actual.rank_nn, 2 * (once.rank_nn - 1) + 1.5, factor=0.01)
    same_ranks(double, actual, expected_csls_ranks(source, twice, 2 * gold + 1, 4))


@pytest.mark.parametrize("tile", [None, 4])
def test_nan_ranks_last_and_alone(double, rng, tile):
    source, target = vectors(rng)
    gold = np.arange(Q)
    spoilt = source.copy()
    spoilt[3, 1] = np.nan
    kernel = csls_ranks(4, tile)
    actual = kernel(*double.arrays(spoilt, target), jnp.asarray(gold))
    asked = np.arange(Q) != 3
    expected = expected_csls_ranks(np.nan_to_num(spoilt), target, gold, 4, asked)
    double.close(actual.rank_csls[3], C)
    double.close(actual.rank_nn[3], C)
    double.close(actual.rank_csls[asked], expected.rank_csls[asked])
    spoilt = target.copy()
    spoilt[C - 1, 0] = np.nan
    arrays = double.arrays(source, spoilt)
    double.close(kernel(*arrays, jnp.asarray(gold)).rank_csls, np.full(Q, C))
    ranked = np.arange(C) < C - 1
    actual = kernel(*arrays, jnp.asarray(gold), None, jnp.asarray(ranked))
    expected = expected_csls_ranks(source, np.nan_to_num(spoilt), gold, 4, None, ranked)
    double.close(actual.rank_csls, expected.rank_csls)


def test_csls_ranks_are_the_same_batched(double, rng, same_when_batched):
    source, target = rng.normal(size=(3, Q, D)), rng.normal(size=(3, C, D))
    gold = jnp.asarray(rng.integers(0, C, size=Q), jnp.int32)
    same_when_batched(
        lambda s, t, g: retrieval.csls_ranks(s, t, g, k=4, tile=5),
        *double.arrays(source, target),
        gold,
        in_axes=(0, 0, None),
    )


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"k": 0}, "k=0"),
        ({"k": Q + 1}, f"k={Q + 1}.*{Q} and {C}"),
        ({"gold": np.zeros(C, int)}, f"{C}.*{Q} queries"),
        ({"tile": 0}, "tile=0"),
    ],
)
def test_csls_ranks_without_an_answer_are_an_error(rng, changed, message):
    arguments = {"gold": np.zeros(Q, int), "k": 4, "tile": None} | changed
    gold = jnp.asarray(arguments.pop("gold"))
    with pytest.raises(ValueError, match=message):
        retrieval.csls_ranks(*map(jnp.asarray, vectors(rng)), gold, **arguments)


KS = (1, 5, 10)


@pytest.mark.parametrize("weighting", ["none", "bool", "mask", "fractional"])
def test_precision_at_equals_a_loop(precision, rng, weighting):
    rank = rng.integers(2, 30, size=Q) / 2
    weights = {
        "none": None,
        "bool": rng.random(Q) < 0.7,
        "mask": (rng.random(Q) < 0.7).astype(float),
        "fractional": rng.uniform(0, 3, size=Q),
    }[weighting]
    passed = weights if weights is None or weights.dtype == bool else precision.array(weights)
    actual = retrieval.precision_at(precision.array(rank), KS, passed)
    precision.close(actual, oracles.precision_at(rank, KS, weights))


def test_a_tie_that_straddles_k_is_not_found(precision):
    scores = precision.array([[3.0, 2.0, 2.0, 1.0]])  # mid-rank 2.5
    rank = ranks(scores, jnp.array([1]))
    precision.close(retrieval.precision_at(rank, (1, 2, 3)), [0.0, 0.0, 1.0])


def test_precision_is_the_same_batched(double, rng, same_when_batched):
    rank, weights = rng.integers(1, 20, size=(3, Q)), rng.random((3, Q)) < 0.7

    def precision_at(rank, weights):
        return retrieval.precision_at(rank, KS, weights)

    same_when_batched(precision_at, *double.arrays(rank, weights), in_axes=(0, 0))


def test_rank_accuracy_runs_from_one_to_zero(double, same_when_batched):
    rank = double.array([1.0, 2.0, 5.5, 10.0])
    double.close(retrieval.rank_accuracy(rank, 10), [1.0, 8 / 9, 0.5, 0.0])
    same_when_batched(lambda r: retrieval.rank_accuracy(r, 10), rank.reshape(2, 2), in_axes=(0,))


def test_float32_stays_float32(keeps_float32, rng):
    source, target = vectors(rng)
    gold = np.arange(Q, dtype=np.int32)
    keeps_float32(retrieval.cosine, source, target)
    keeps_float32(lambda s, t: retrieval.csls(s, t, k=3), source, target)
    for weights in (np.ones(Q), np.ones(Q, bool)):
        keeps_float32(
            lambda s, t, w: retrieval.csls(s, t, k=3, source_weights=w), source, target, weights
        )
        keeps_float32(lambda r, w: retrieval.precision_at(r, KS, w), source[:, 0], weights)
    for tile in (None, 4):
        keeps_float32(
            lambda s, t, g, tile=tile: retrieval.csls_ranks(s, t, g, k=3, tile=tile),
            source,
            target,
            gold,
        )
    keeps_float32(retrieval.ranks, rng.normal(size=(Q, C)), gold)
    keeps_float32(lambda r: retrieval.precision_at(r, KS), source[:, 0])
    keeps_float32(lambda r: retrieval.rank_accuracy(r, C), source[:, 0])
