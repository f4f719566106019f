from __future__ import annotations

import jax
import numpy as np
import oracles
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import rsa_tiles

METRICS = ["correlation", "cosine", "euclidean", "spearman"]
rdm = jax.jit(rsa.rdm, static_argnames="metric")
compare = jax.jit(rsa.compare, static_argnames="method")

METHODS = ["pearson", "spearman", "kendall_tau_a"]


def reference(a, b, method):
    if method == "kendall_tau_a":
        return oracles.kendall_tau_a(a, b)
    return {"pearson": pearsonr, "spearman": spearmanr}[method](a, b).statistic


@pytest.mark.parametrize("metric", METRICS)
def test_rdm_equals_a_loop_over_pairs(precision, rng, metric):
    x = rng.normal(size=(9, 12)) + rng.normal(size=12)
    precision.close(rdm(precision.array(x), metric=metric), oracles.rdm(x, metric), factor=5)


@pytest.mark.parametrize("metric", ["euclidean", "spearman"])
def test_rdm_has_the_pair_order_of_scipy(double, rng, metric):
    """An odd size that is no multiple of any tile."""
    x = rng.normal(size=(131, 10)) + 1
    if metric == "spearman":
        expected = pdist(rankdata(x, axis=1), "correlation")
    else:
        expected = pdist(x, metric)
    double.close(rdm(double.array(x), metric=metric), expected, factor=5)


def test_the_default_rdm_is_the_correlation_distance(double, rng):
    x = rng.normal(size=(9, 12))
    double.close(rdm(double.array(x)), pdist(x, "correlation"), factor=5)


def test_spearman_rdm_with_ties(precision, rng):
    x = rng.integers(0, 4, size=(9, 12))
    actual = rdm(precision.array(x), metric="spearman")
    precision.close(actual, 1 - spearmanr(x, axis=1).statistic[np.triu_indices(9, 1)], factor=5)


@pytest.mark.parametrize("metric", METRICS)
def test_the_distance_between_equal_rows_is_zero(precision, rng, metric):
    x = rng.normal(size=(9, 12))
    x[4] = x[1]
    distance = np.asarray(rdm(precision.array(x), metric=metric))
    assert np.isfinite(distance).all()
    # a difference of two equal squared norms may leave rounding error under the root
    atol = np.sqrt(precision.tolerance) if metric == "euclidean" else 5 * precision.tolerance
    pair = list(zip(*np.triu_indices(9, 1), strict=True)).index((1, 4))
    assert abs(distance[pair]) <= atol


@pytest.mark.parametrize("metric", ["euclidean", "spearman"])  # correlation is part of the latter
def test_rdm_is_the_same_batched(double, rng, same_when_batched, metric):
    x = double.array(rng.normal(size=(3, 7, 9)))
    same_when_batched(lambda x: rsa.rdm(x, metric=metric), x, in_axes=(0,), factor=5)


def test_rdm_of_two_rows(precision, rng):
    x = rng.normal(size=(2, 5))
    precision.close(rdm(precision.array(x), metric="euclidean"), pdist(x), factor=5)


@pytest.mark.parametrize("method", METHODS)
def test_compare_equals_scipy(precision, rng, method):
    a = rng.normal(size=66)
    b = a + rng.normal(size=66) + 4
    actual = compare(*precision.arrays(a, b), method=method)
    precision.close(actual, reference(a, b, method), factor=2)


@pytest.mark.parametrize("method", METHODS)
def test_compare_with_ties(precision, rng, method):
    a = rng.integers(0, 5, size=66)
    b = a + rng.integers(0, 4, size=66)
    actual = compare(*precision.arrays(a, b), method=method)
    precision.close(actual, reference(a, b, method), factor=2)


def test_tau_a_is_tau_b_without_ties_and_smaller_with_them(precision, rng):
    a, b = rng.normal(size=(2, 66))
    actual = compare(*precision.arrays(a, b), method="kendall_tau_a")
    precision.close(actual, kendalltau(a, b).statistic)
    tied = np.round(a)
    assert float(compare(*precision.arrays(tied, tied), method="kendall_tau_a")) < 0.9
    precision.close(compare(*precision.arrays(a, a), method="kendall_tau_a"), 1.0)
    precision.close(compare(*precision.arrays(a, -a), method="kendall_tau_a"), -1.0)


def test_tau_a_over_more_values_than_one_tile(double, rng):
    a = rng.integers(0, 40, size=1225)  # an RDM of 50 words
    b = a + rng.integers(0, 40, size=1225)
    expected = np.sum(np.sign(a[:, None] - a) * np.sign(b[:, None] - b)) / (1225 * 1224)
    actual = compare(*double.arrays(a, b), method="kendall_tau_a")
    double.close(actual, expected)


@pytest.mark.parametrize("method", ["spearman", "kendall_tau_a"])
def test_rank_methods_ignore_a_monotone_change_of_scale(precision, rng, method):
    a, b = rng.normal(size=(2, 66))
    plain = compare(*precision.arrays(a, b), method=method)
    warped = compare(*precision.arrays(np.exp(a), b**3), method=method)
    precision.close(warped, plain)


def test_pearson_of_values_far_from_zero(precision, rng):
    """RDM entries share a large mean."""
    a = rng.normal(size=66)
    b = a + rng.normal(size=66)
    actual = compare(*precision.arrays(a + 100, b + 100), method="pearson")
    precision.close(actual, pearsonr(a, b).statistic, factor=10)


@pytest.mark.parametrize("method", METHODS)
def test_compare_is_the_same_batched(double, rng, same_when_batched, method):
    a, b = rng.integers(0, 9, size=(3, 28)), rng.normal(size=(3, 28))

    def kernel(a, b):
        return rsa.compare(a, b, method=method)

    same_when_batched(kernel, *double.arrays(a, b[0]), in_axes=(0, None), factor=2)


@pytest.mark.parametrize("n_items", [2, 3, 4, 61])
def test_pair_places_are_the_upper_triangle(double, n_items):
    places = jax.jit(rsa.pair_places, static_argnums=0)(n_items)
    rows, columns = np.triu_indices(n_items, 1)
    np.testing.assert_array_equal(places, rows * n_items + columns)


@pytest.mark.parametrize("n_items", [20_001, 46_340])
def test_pair_places_of_more_pairs_than_float32_can_count(n_items):
    """The formula at the ends of rows, where it would go wrong, without all the pairs."""
    rows = np.unique(np.r_[:50, n_items - 52 : n_items - 1, np.arange(0, n_items - 1, 97)])
    rows = rows.astype(np.int64)
    last = (rows + 1) * n_items - (rows + 1) * (rows + 2) // 2 - 1
    first = last - (n_items - 2 - rows)
    pair = np.r_[first, last].astype(np.int32)
    expected = np.r_[rows * n_items + rows + 1, rows * n_items + n_items - 1]
    np.testing.assert_array_equal(rsa.place_of_pair(jax.numpy.asarray(pair), n_items), expected)


@pytest.mark.parametrize("method", METHODS)
def test_scores_compare_every_rdm_with_every_other(precision, rng, method):
    sources, targets = rng.normal(size=(2, 7, 5)), rng.normal(size=(3, 7, 9))
    targets[0, :, :5] += 2 * sources[1]
    expected = [
        [reference(oracles.rdm(s, "cosine"), oracles.rdm(t, "cosine"), method) for t in targets]
        for s in sources
    ]
    scores = jax.jit(rsa.scores, static_argnames=("metric", "method"))
    actual = scores(*precision.arrays(sources, targets), metric="cosine", method=method)
    precision.close(actual, expected, factor=5)


@pytest.mark.parametrize("kind", ["continuous", "ratings"])
def test_rank_correlations_of_few_features_keep_their_ties(precision, rng, kind):
    """20 rows of 6 features that differ have 33 distances, whatever the arithmetic."""
    x, y = rng.normal(size=(2, 20, 6)) if kind == "continuous" else rng.integers(0, 4, (2, 20, 6))
    exact = [oracles.exact_spearman(rows) for rows in (x, y)]
    computed = [np.asarray(rdm(precision.array(rows), metric="spearman")) for rows in (x, y)]
    for distances, similarities in zip(computed, exact, strict=True):
        order = sorted(set(similarities), reverse=True)
        same = rankdata([order.index(value) for value in similarities])
        np.testing.assert_array_equal(rankdata(distances), same)
    ranks = [rankdata(distances) for distances in computed]
    both = (rows[None].astype(precision.dtype) for rows in (x, y))
    scores = rsa_tiles.scores(*both, metric="spearman", tile=16)
    assert scores[0, 0] == pytest.approx(pearsonr(*ranks).statistic, abs=1e-6)


def test_a_missing_value_is_never_a_score(precision, rng):
    x, y = rng.normal(size=(2, 5, 6))
    x[2, 3] = np.nan
    a, b = (rdm(precision.array(v), metric="spearman") for v in (x, y))
    assert np.isnan(a).sum() == 4
    assert np.isnan(compare(a, b, method="spearman"))


def test_stacks_over_other_items_are_refused(rng):
    with pytest.raises(ValueError, match=r"\(2, 4, 3\) with \(2, 5, 3\)"):
        rsa.scores(np.zeros((2, 4, 3)), np.zeros((2, 5, 3)))
    with pytest.raises(ValueError, match="two rows"):
        rsa.scores(np.zeros((2, 1, 3)), np.zeros((2, 1, 3)))
    with pytest.raises(ValueError, match="46340, not 46341"):
        jax.eval_shape(rsa.rdm, jax.ShapeDtypeStruct((46_341, 3), np.float32))


def test_unknown_names_are_refused(precision, rng):
    x = precision.array(rng.normal(size=(4, 5)))
    with pytest.raises(ValueError, match="manhattan"):
        rsa.rdm(x, metric="manhattan")
    with pytest.raises(ValueError, match="kendall"):
        rsa.compare(x[0], x[1], method="kendall")


def test_float32_stays_float32(keeps_float32, rng):
    x = rng.normal(size=(4, 5))
    for metric in METRICS:
        keeps_float32(lambda x, metric=metric: rsa.rdm(x, metric=metric), x)
    for method in METHODS:
        keeps_float32(lambda a, b, method=method: rsa.compare(a, b, method=method), x[0], x[1])
    keeps_float32(rsa.scores, x[None], x[None])


def test_tau_a_of_more_pairs_than_an_int32_can_count():
    a = np.arange(47_000, dtype=np.float32)
    assert float(
        rsa.compare(jax.numpy.asarray(a), jax.numpy.asarray(a), method="kendall_tau_a")
    ) == pytest.approx(1)
