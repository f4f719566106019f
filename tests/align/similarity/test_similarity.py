"""Measures of similarity against loops and peers, and what they must not depend on."""

import doctest
import io
import sys

import jax
import numpy as np
import programs
import pytest
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.spatial.distance import pdist, squareform
from sklearn.cross_decomposition import CCA

from brainalign_jax.align import similarity as kernels
from brainalign_jax.align.similarity import nuclear

similarity = programs.compiled(kernels)
linear_cka, mutual_neighbours = similarity.linear_cka, similarity.mutual_neighbours


def plain_cka(x, y):
    """Kornblith et al. (2019), equation 5, from features."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def unbiased_hsic(k, m):
    """Song et al. (2012), equation 5, term by term."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    cross = sum(k[i, j] * m[j, i] for i in range(n) for j in range(n))
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    rows = (
        2 / (n - 2) * sum(k[i, j] * m[j, q] for i in range(n) for j in range(n) for q in range(n))
    )
    return (cross + sums - rows) / (n * (n - 3))


def nearest(rows, i, k):
    cosines = [
        (-(rows[i] @ rows[j]) / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]), j)
        for j in range(len(rows))
        if j != i
    ]
    return {j for _, j in sorted(cosines)[:k]}


def shared(x, y, i, k):
    return len(nearest(x, i, k) & nearest(y, i, k))


def loop_neighbours(x, y, k):
    return np.mean([shared(x, y, i, k) / k for i in range(len(x))])


def loop_jaccard(x, y, k):
    return np.mean([shared(x, y, i, k) / (2 * k - shared(x, y, i, k)) for i in range(len(x))])


def loop_overlap(x, y, k):
    depths = range(1, k + 1)
    return np.mean([np.mean([shared(x, y, i, d) / d for d in depths]) for i in range(len(x))])


def plain_rbf_cka(x, y, bandwidth):
    """Gaussian kernels, centred by a matrix."""
    middle = np.eye(len(x)) - 1 / len(x)
    kernels = []
    for side in (x, y):
        distances = pdist(side)
        width = bandwidth * np.median(distances)
        kernel = np.exp(-(squareform(distances) ** 2) / (2 * width**2))
        kernels.append(middle @ kernel @ middle)
    k, m = kernels
    return (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m)


def plain_shape(x, y, alpha):
    """Williams et al. (2021): partial whitening by the inverse root of the covariance, then a rotation."""
    sides = []
    for side in (x, y):
        side = side - side.mean(axis=0)
        sizes, axes = np.linalg.eigh(side.T @ side)
        whitened = side @ (alpha * np.eye(len(axes)) + (1 - alpha) * axes / np.sqrt(sizes) @ axes.T)
        sides.append(whitened / np.linalg.norm(whitened))
    x, y = sides
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(side, ((0, 0), (0, width - side.shape[1]))) for side in (x, y))
    rotation, _ = orthogonal_procrustes(x, y)
    return (x @ rotation * y).sum()


@pytest.fixture
def sides(rng):
    x = rng.standard_normal((14, 6))
    return x, x[:, :4] @ rng.standard_normal((4, 9)) + rng.standard_normal((14, 9)) + 3


@pytest.mark.parametrize("name", kernels.__all__)
def test_examples_run_as_they_are_printed(name):
    """Here the kernels are called operation by operation; below they are programs."""
    kernel, said = getattr(kernels, name), io.StringIO()
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(kernel, name, globs=dict(vars(sys.modules[kernel.__module__]))):
        runner.run(example, out=said.write)
    assert said.getvalue() == ""


def test_cka_equals_its_formulas(precision, sides):
    x, y = sides
    cka = linear_cka(precision.array(x), precision.array(y), debiased=False)
    precision.close(cka, plain_cka(x, y), factor=5)
    k, m = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    precision.close(linear_cka(precision.array(x), precision.array(y)), expected, factor=20)


@pytest.mark.parametrize("k", [1, 5, 13])
def test_neighbours_equal_a_loop(precision, sides, k):
    x, y = sides
    overlap = mutual_neighbours(precision.array(x), precision.array(y), k=k)
    precision.close(overlap, loop_neighbours(x, y, k))


@pytest.mark.parametrize("k", [1, 5, 13])
def test_jaccard_and_overlap_equal_a_loop(precision, sides, k):
    x, y = sides
    given = precision.array(x), precision.array(y)
    precision.close(similarity.jaccard_neighbours(*given, k=k), loop_jaccard(x, y, k))
    precision.close(similarity.rank_overlap(*given, k=k), loop_overlap(x, y, k), factor=5)


@pytest.mark.parametrize("bandwidth", [0.3, 1.0])
def test_rbf_cka_equals_its_formula_and_debiased_tends_to_linear(precision, sides, bandwidth):
    x, y = sides
    given = precision.array(x), precision.array(y)
    cka = similarity.rbf_cka(*given, bandwidth=bandwidth, debiased=False)
    precision.close(cka, plain_rbf_cka(x, y, bandwidth), factor=50)
    if given[0].dtype == np.float64:
        wide = similarity.rbf_cka(*given, bandwidth=300)
        np.testing.assert_allclose(wide, linear_cka(*given), atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_shapes_equal_scipy(precision, rng, alpha):
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 5))
    given = precision.array(x), precision.array(y)
    similar = similarity.shape_similarity(*given, alpha=alpha)
    precision.close(similar, plain_shape(x, y, alpha), factor=20)
    precision.close(similarity.shape_distance(*given, alpha=alpha), np.arccos(similar), factor=20)


def test_shape_distance_is_a_metric(rng):
    a, b, c = (rng.standard_normal((12, width)).astype(np.float32) for width in (3, 6, 8))
    for alpha in (0.0, 0.5, 1.0):
        ab, bc, ac = (
            float(similarity.shape_distance(*pair, alpha=alpha))
            for pair in ((a, b), (b, c), (a, c))
        )
        assert ac <= ab + bc + 1e-5 and ab <= ac + bc + 1e-5 and bc <= ab + ac + 1e-5


def test_canonical_correlations_equal_peers(precision, rng):
    x = rng.standard_normal((60, 3))
    y = x[:, :2] @ rng.standard_normal((2, 4)) + 0.5 * rng.standard_normal((60, 4))
    correlations = similarity.canonical_correlations(precision.array(x), precision.array(y))
    centred = [side - side.mean(axis=0) for side in (x, y)]
    precision.close(correlations, np.sort(np.cos(subspace_angles(*centred)))[::-1], factor=50)
    of_x, of_y = CCA(n_components=3, scale=False, tol=1e-12, max_iter=100_000).fit_transform(x, y)
    peer = [np.corrcoef(of_x[:, i], of_y[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(correlations, peer, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_mean_correlation_equals_scikit_learn_and_a_penalty_numpy(precision, rng, penalty):
    x = rng.standard_normal((60, 3))
    y = x[:, :2] @ rng.standard_normal((2, 4)) + 0.5 * rng.standard_normal((60, 4))
    value = similarity.cca(precision.array(x), precision.array(y), penalty=penalty)
    if not penalty:
        peer = CCA(n_components=3, scale=False, tol=1e-12, max_iter=100_000)
        of_x, of_y = peer.fit_transform(x, y)
        expected = np.mean([np.corrcoef(of_x[:, i], of_y[:, i])[0, 1] for i in range(3)])
        np.testing.assert_allclose(value, expected, atol=1e-4)
    sides = []
    for side in (x, y):  # the root of the inverse penalised covariance, as a matrix
        side = side - side.mean(axis=0)
        covariance = side.T @ side
        variances, axes = np.linalg.eigh(
            covariance + penalty * np.trace(covariance) / 60 * np.eye(len(covariance))
        )
        sides.append(side @ axes / np.sqrt(variances) @ axes.T)
    expected = np.linalg.norm(sides[0].T @ sides[1], "nuc") / 3
    precision.close(value, expected, factor=20)


def test_batches_equal_a_loop_and_one_batch_the_whole(precision, rng):
    x = rng.standard_normal((30, 4))
    y = x @ rng.standard_normal((4, 5)) + rng.standard_normal((30, 5))
    given = precision.array(x), precision.array(y)
    precision.close(similarity.minibatch_cka(*given, size=30), linear_cka(*given), factor=20)
    order = np.resize(np.random.default_rng(0).permutation(30), (4, 8))
    kernels = [[side[places] @ side[places].T for places in order] for side in (x, y)]

    def total(first, second):
        return sum(unbiased_hsic(*pair) for pair in zip(first, second, strict=True))

    k, m = kernels
    expected = total(k, m) / np.sqrt(total(k, k) * total(m, m))
    precision.close(similarity.minibatch_cka(*given, size=8), expected, factor=20)


def test_batches_of_noise_are_zero_in_the_mean_and_of_what_is_shared_near_the_whole(rng):
    x, y = rng.standard_normal((2, 100, 40, 30)).astype(np.float32)
    batches = jax.jit(jax.vmap(lambda x, y: similarity.minibatch_cka(x, y, size=10)))
    noise = np.asarray(batches(x, y))
    assert abs(noise.mean()) < 3 * noise.std() / np.sqrt(len(noise))
    shared = np.asarray(batches(x, x + y))
    assert abs(shared.mean() - float(linear_cka(x[0], x[0] + y[0]))) < 0.15


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_shapes_equal_netrep_and_pass_its_tests(double, rng, alpha):
    """Of netrep's tests/test_metrics.py: what distance does not depend on, triangles, both ways the same."""
    netrep = pytest.importorskip("netrep.metrics", reason="git clone github.com/ahwillia/netrep")
    x, y, z = rng.standard_normal((3, 31, 12))

    def distance(first, second):
        return float(similarity.shape_distance(first, second, alpha=alpha))

    peer = netrep.LinearMetric(alpha=alpha, center_columns=True).fit(x, y)
    np.testing.assert_allclose(distance(x, y), peer.score(x, y), atol=1e-6)
    np.testing.assert_allclose(distance(x, y), distance(y, x), atol=1e-9)
    assert distance(x, y) <= distance(x, z) + distance(z, y)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    for same in (x[:, rng.permutation(12)], x @ turn + 3):
        assert distance(x, same) < 1e-6
        np.testing.assert_allclose(distance(same, y), peer.score(x, y), atol=1e-6)
    mixed = x @ rng.standard_normal((12, 12))
    assert (distance(x, mixed) < 1e-6) == (alpha == 0)
    assert (distance(x, 7 * x) < 1e-6) == (alpha in (0, 1))


def test_svcca_and_pwcca_equal_numpy(precision, rng):
    x = rng.standard_normal((50, 12))
    y = x[:, :6] @ rng.standard_normal((6, 8)) + rng.standard_normal((50, 8))
    given = precision.array(x), precision.array(y)
    (u, s), (v, _) = (
        np.linalg.svd(side - side.mean(axis=0), full_matrices=False)[:2] for side in (x, y)
    )
    left, correlations, _ = np.linalg.svd(u[:, :5].T @ v[:, :5])
    precision.close(similarity.svcca(*given, n_axes=5), correlations.mean(), factor=20)
    directions = u[:, :5] @ left
    weights = np.abs(directions.T @ (u[:, :5] * s[:5])).sum(axis=1)
    expected = (weights * correlations).sum() / weights.sum()
    precision.close(similarity.pwcca(*given, n_axes=5), expected, factor=20)


def test_axes_that_do_not_vary_are_of_no_account(rng):
    x = rng.standard_normal((40, 4)).astype(np.float32)
    wide = np.pad(x, ((0, 0), (0, 8)))
    for measure in (similarity.svcca, similarity.pwcca, similarity.shape_similarity):
        np.testing.assert_allclose(measure(wide, 2 * wide[:, ::-1]), 1, atol=1e-5)
    constant = np.full((40, 12), 3.3, np.float32)
    for measure in (
        similarity.cca,
        similarity.minibatch_cka,
        similarity.svcca,
        similarity.pwcca,
        similarity.rbf_cka,
        similarity.shape_similarity,
    ):
        assert float(measure(wide, constant)) == 0


def test_what_cannot_be_compared_is_refused(rng):
    x = rng.standard_normal((15, 8)).astype(np.float32)
    with pytest.raises(ValueError, match="8 and 8 axes of 15 items .* give n_axes of at most 7"):
        similarity.canonical_correlations(x, x)
    with pytest.raises(ValueError, match="have no 9 axes: n_axes must be 1 to 8"):
        similarity.unit_axes(x, n_axes=9)
    with pytest.raises(ValueError, match="alpha is 2"):
        similarity.shape_similarity(x, x, alpha=2)
    with pytest.raises(ValueError, match="bandwidth is 0"):
        similarity.rbf_cka(x, x, bandwidth=0)
    with pytest.raises(ValueError, match="penalty is -1"):
        similarity.cca(x, x, penalty=-1)
    with pytest.raises(ValueError, match="8 and 8 axes of 15 items"):
        similarity.cca(x, x, penalty=0)
    with pytest.raises(
        ValueError, match="size is 3; a batch of debiased CKA needs at least 4 items"
    ):
        similarity.minibatch_cka(x, x, size=3)


@pytest.mark.parametrize(("n_items", "size"), [(5, 4), (9, 4), (6, 5)])
def test_batches_are_never_of_three_items_whose_debiased_kernel_is_rounding(n_items, size, rng):
    x = rng.standard_normal((n_items, 5)).astype(np.float32)
    np.testing.assert_allclose(similarity.minibatch_cka(x, 2 * x, size=size), 1, rtol=1e-5)


def test_what_is_not_known_is_no_zero(rng):
    x, y = rng.standard_normal((2, 30, 5)).astype(np.float32)
    x[0, 0] = np.nan
    few = dict(n_axes=2)
    assert np.isnan(similarity.cca(x, y)) and np.isnan(similarity.rbf_cka(x, y))
    assert np.isnan(similarity.svcca(x, y, **few)) and np.isnan(similarity.pwcca(y, x, **few))


def test_what_they_do_not_depend_on(precision, sides, rng):
    x, y = sides
    turn = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    both = (linear_cka, similarity.rbf_cka, similarity.shape_similarity)
    near = (mutual_neighbours, similarity.jaccard_neighbours, similarity.rank_overlap)
    pairs = [(m, 5 * y @ turn + 2) for m in both] + [(m, 5 * y @ turn) for m in near]
    for measure, moved in pairs:
        options = {} if measure in both else {"k": 4}
        plain = measure(precision.array(x), precision.array(y), **options)
        other = measure(precision.array(x), precision.array(moved), **options)
        precision.close(other, plain, factor=50)
        precision.close(
            measure(precision.array(y), precision.array(moved), **options), 1, factor=50
        )


def test_width_alone_raises_the_plain_estimate_and_not_the_debiased_one(rng):
    pairs = [(rng.standard_normal((30, 100)), rng.standard_normal((30, 100))) for _ in range(50)]
    plain = np.mean([linear_cka(x, y, debiased=False) for x, y in pairs])
    debiased = np.array([linear_cka(x, y) for x, y in pairs])
    assert plain > 0.7
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(len(pairs))


def test_items_that_do_not_vary_are_alike_to_nothing(sides):
    x, _ = sides
    constant = np.full((14, 3), 7.3, np.float32)
    assert float(linear_cka(x, constant)) == 0
    assert float(linear_cka(x, constant, debiased=False)) == 0


def test_neighbours_that_are_equally_near_share_their_places(rng):
    """One feature has two directions: unrelated items are alike as by chance, not by their order."""
    values = []
    for _ in range(60):
        x, y = rng.standard_normal((2, 40, 1)).astype(np.float32)
        values.append(mutual_neighbours(x, y, k=5))
        rows = similarity.unit_neighbours(x, k=5)
        np.testing.assert_allclose(rows.sum(axis=1), np.sqrt(5 / 40), rtol=1e-5)
    assert abs(np.mean(values) - 5 / 39) < 0.02


def test_too_few_items():
    few = np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match="needs at least 4 items, not 3"):
        similarity.linear_cka(few, few)
    with pytest.raises(ValueError, match="3 items have no 3 neighbours each: k must be 1 to 2"):
        similarity.mutual_neighbours(few, few, k=3)
    with pytest.raises(ValueError, match="k must be 1 to 2"):
        similarity.mutual_neighbours(few, few, k=0)


def graded(rng, n_rows, n_columns, exponent):
    """Matrices [3, R, C] whose singular values fall as powers."""
    rank = min(n_rows, n_columns)
    sides = [np.linalg.qr(rng.standard_normal((3, size, rank)))[0] for size in (n_rows, n_columns)]
    return sides[0] * np.arange(1, rank + 1) ** -exponent @ sides[1].mT


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (40, 40)])
@pytest.mark.parametrize("exponent", [0.0, 0.7, 3.0])
def test_sums_of_singular_values_are_within_their_bound_or_by_svd(rng, shape, exponent):
    x = 1e3 * graded(rng, *shape, exponent).astype(np.float32)
    expected = np.linalg.svd(x.astype(float), compute_uv=False).sum(axis=-1)
    sums, bounds = jax.jit(nuclear._sums_and_errors)(x)
    assert (np.abs(sums - expected) <= bounds).all()
    assert ((bounds <= nuclear.TOLERANCE * sums).all()) == (exponent < 3)
    norms = jax.jit(nuclear.nuclear_norms)(x)
    np.testing.assert_allclose(norms, expected, rtol=nuclear.TOLERANCE / 5)


def test_sums_of_singular_values_of_nothing_and_of_no_number(rng):
    x = rng.standard_normal((3, 40, 50)).astype(np.float32)
    x[1] = 0
    norms = jax.jit(nuclear.nuclear_norms)
    np.testing.assert_allclose(norms(x), np.linalg.norm(x, "nuc", axis=(1, 2)), rtol=1e-4)
    x[1, 3, 4] = np.nan
    assert np.isnan(norms(x)[1])
