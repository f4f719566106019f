"""The tiled path against SciPy and against the condensed one, whatever the tile and the memory bound."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, rankdata, spearmanr

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import rsa_tiles

N_ITEMS = 37


@pytest.fixture
def stacks(rng):
    """A source and a target [1, 37, 12]: equal rows, a constant one, one far from the others."""
    shared = rng.normal(size=(N_ITEMS, 12))
    source, target = shared + rng.normal(size=(2, N_ITEMS, 12)) + 1
    source[5] = source[20]
    target[9] = 0
    target[3] *= 20
    return source[None].astype(np.float32), target[None].astype(np.float32)


def distances(x, metric):
    x = x.astype(np.float64)
    if metric in ("euclidean", "cosine"):
        pairs = pdist(x, metric)
    else:
        pairs = pdist(rankdata(x, axis=1) if metric == "spearman" else x, "correlation")
    return np.where(np.isnan(pairs), 1, pairs)  # SciPy divides by the zero length of a constant row


def expected_scores(sources, targets, metric, method):
    correlation = {"pearson": pearsonr, "spearman": spearmanr}[method]
    return np.array(
        [
            [correlation(distances(s, metric), distances(t, metric)).statistic for t in targets]
            for s in sources
        ]
    )


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_tiles_give_the_scores_of_scipy(stacks, metric, method):
    expected = expected_scores(*stacks, metric, method)
    tiled = rsa_tiles.scores(*stacks, metric=metric, method=method, tile=16)
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, expected, atol=2e-6)


@pytest.mark.parametrize("tile", [8, 1000])
def test_any_tile_gives_the_same_scores(stacks, tile):
    expected = expected_scores(*stacks, "spearman", "pearson")
    tiled = rsa_tiles.scores(*stacks, metric="spearman", method="pearson", tile=tile)
    np.testing.assert_allclose(tiled, expected, atol=2e-6)


def test_tiles_rank_as_whole_rdms_do(stacks):
    """Rank correlations of 12 values are fractions with many ties, which rounding breaks as it likes."""
    expected = expected_scores(*stacks, "spearman", "spearman")
    for tile in (None, 16):
        actual = rsa_tiles.scores(*stacks, metric="spearman", tile=tile)
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_any_memory_bound_gives_the_same_scores(rng):
    """Two sources, three targets of another width, and room for two RDMs."""
    shared = rng.normal(size=(20, 5))
    sources = (shared + rng.normal(size=(2, 20, 5))).astype(np.float32)
    targets = np.tile(shared + rng.normal(size=(3, 20, 5)), 2).astype(np.float32)
    expected = expected_scores(sources, targets, "euclidean", "pearson")

    def scores(*stacks, memory_bytes):
        return rsa_tiles.scores(
            *stacks, metric="euclidean", method="pearson", tile=8, memory_bytes=memory_bytes
        )

    needed = rsa_tiles.tiled_bytes(sources, targets, method="pearson", tile=8, held=2)
    np.testing.assert_allclose(scores(sources, targets, memory_bytes=needed), expected, atol=2e-6)
    np.testing.assert_allclose(scores(targets, sources, memory_bytes=2**30), expected.T, atol=2e-6)
    with pytest.raises(ValueError, match=f"memory_bytes={needed}"):
        scores(sources, targets, memory_bytes=needed - 1)


@pytest.mark.parametrize("method", ["spearman", "kendall_tau_a"])
def test_whole_rdms_are_the_pure_function(double, rng, method):
    sources, targets = rng.normal(size=(2, 7, 5)), rng.normal(size=(3, 7, 5))
    expected = rsa.scores(*double.arrays(sources, targets), method=method)
    double.close(rsa_tiles.scores(sources, targets, method=method), expected)


def test_doubles_are_compared_as_doubles(double, stacks):
    """By Pearson; by Spearman distances are told apart as float32 does, here all of them."""
    stacks = [x.astype(np.float64) for x in stacks]
    expected = expected_scores(*stacks, "euclidean", "pearson")
    actual = rsa_tiles.scores(*stacks, metric="euclidean", method="pearson", tile=16)
    double.close(actual, expected)


def test_a_known_order_of_distances_far_below_the_largest(double):
    """Points on a line at powers of two: every distance is exact, down to 2^-14 of the largest."""
    x = 2.0 ** np.arange(15)[None, :, None]
    y = np.random.default_rng(0).normal(size=(1, 15, 4))
    expected = expected_scores(x, y, "euclidean", "spearman")
    actual = rsa_tiles.scores(x * 1e-6, y * 1e6, metric="euclidean", tile=4)
    double.close(actual, expected, factor=100)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_constant_rdms_score_zero_and_missing_values_nan(rng, method):
    simplex = np.eye(9, dtype=np.float32) * 0.3
    same, missing = np.ones_like(simplex), rng.normal(size=simplex.shape).astype(np.float32)
    missing[4, 4] = np.nan
    other = rng.normal(size=(1, 9, 5)).astype(np.float32)
    stack = np.stack([simplex, same, missing])
    scores = rsa_tiles.scores(stack, other, metric="euclidean", method=method, tile=9)
    np.testing.assert_array_equal(scores, [[0], [0], [np.nan]])


def test_two_items_are_one_pair_and_no_correlation(rng):
    x = rng.normal(size=(1, 2, 6)).astype(np.float32)
    for tile in (None, 1):
        np.testing.assert_array_equal(rsa_tiles.scores(x, x, tile=tile), [[0]])


def test_keys_keep_the_order_and_every_float32_step(rng):
    """1 - r in float32 is a multiple of 2^-24: no two of them share a key."""
    steps = np.unique(rng.integers(0, 2**25 + 1, size=20_000))
    values = (steps / 2.0**24).astype(np.float32)
    keys = np.asarray(rsa_tiles._distance_keys(jnp.asarray(np.unique(values))))
    assert (np.diff(keys) > 0).all()
    beyond = jnp.asarray([-3e-7, 0, 2, 2.000001], jnp.float32)
    edges = np.asarray(rsa_tiles._distance_keys(beyond))
    assert (np.diff(edges) > 0).all()
    assert edges[0] >= 0
    assert edges[-1] < rsa_tiles._N_KEYS


def test_what_has_no_tiles_is_refused(stacks):
    with pytest.raises(ValueError, match="tau-a"):
        rsa_tiles.scores(*stacks, method="kendall_tau_a", tile=8)
    with pytest.raises(ValueError, match="manhattan"):
        rsa_tiles.scores(*stacks, metric="manhattan")
    with pytest.raises(ValueError, match="tile=0"):
        rsa_tiles.scores(*stacks, tile=0)
