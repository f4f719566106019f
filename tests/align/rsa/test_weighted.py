"""Weighted sums of RDMs against SciPy's nnls, dropped words and rsatoolbox; no gain by what was fitted."""

import functools

import jax
import numpy as np
import oracles
import pytest
from scipy.optimize import nnls
from scipy.spatial.distance import pdist, squareform

from brainalign_jax.align.rsa import rsa, weighted, whitened

N, C = 12, 4
fit = jax.jit(weighted.fit, static_argnames=("method",))


@pytest.fixture
def rdms(rng):
    """Components [C, P], and a target of two of them and something else, one component turned round."""
    components = np.stack([pdist(rows, "sqeuclidean") for rows in rng.standard_normal((C, N, 5))])
    other = pdist(rng.standard_normal((N, 5)), "sqeuclidean")
    return components, components.T @ [1.0, 0.3, -0.5, 0.0] + other


@pytest.fixture
def covariance(rng):
    root = rng.standard_normal((N, N))
    return root @ root.T + N * np.eye(N)


def written_out(components, target, method, noise):
    """SciPy's nnls of the pairs, whitened by the root of their covariance [P, P]."""
    if method in ("pearson", "spearman", "corr_cov"):
        components, target = (x - x.mean(axis=-1, keepdims=True) for x in (components, target))
    if method.endswith("_cov"):
        root = np.linalg.cholesky(oracles.covariance_of_distances(noise))
        components, target = np.linalg.solve(root, components.T).T, np.linalg.solve(root, target)
    return nnls(components.T, target)[0]


@pytest.mark.parametrize(
    ("method", "noise"),
    [
        ("spearman", "none"),  # fitted as Pearson
        ("cosine", "none"),
        ("cosine_cov", "variances"),
        ("corr_cov", "none"),
        ("corr_cov", "covariance"),
    ],
)
def test_equal_to_scipy(precision, rdms, covariance, method, noise):
    given = {"none": None, "variances": np.diag(covariance), "covariance": covariance}[noise]
    full = np.eye(N) if given is None else np.diag(given) if given.ndim == 1 else given
    expected = written_out(*rdms, method, full)
    assert (expected > 0).sum() >= 2 and (expected == 0).any()
    arrays = [precision.array(rdm) for rdm in rdms]
    weights = fit(*arrays, method=method, noise=None if given is None else precision.array(given))
    np.testing.assert_array_equal(np.asarray(weights) == 0, expected == 0)
    precision.close(weights, expected, factor=100)


@pytest.mark.parametrize("method", ["pearson", "cosine", *whitened.COMPARISONS])
def test_equal_to_rsatoolbox(double, rdms, covariance, method):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    components, target = (rdm / 100 for rdm in rdms)  # its tolerance is absolute: it may not end
    model = rsatoolbox.model.ModelWeighted("layers", rsatoolbox.rdm.RDMs(components))
    data = rsatoolbox.rdm.RDMs(target[None])
    name = {"pearson": "corr"}.get(method, method)
    for noise in (None, covariance) if method.endswith("_cov") else (None,):
        theta = rsatoolbox.model.fitter.fit_regress_nn(model, data, method=name, sigma_k=noise)
        weights = np.asarray(fit(components, target, method=method, noise=noise))
        np.testing.assert_allclose(weights / np.linalg.norm(weights), theta, atol=1e-4)
        best = rsatoolbox.rdm.RDMs(model.predict(theta)[None])
        value = rsatoolbox.rdm.compare(best, data, method=name, sigma_k=noise).item()
        whole = _held_out(components, target, np.ones((1, N)), np.ones((1, N)), method, noise)
        np.testing.assert_allclose(whole.similarity[0], value, atol=1e-4)


def test_conditions_of_kuhn_and_tucker(precision, rng):
    """Of columns of very different lengths that are much alike, and of one that is zero."""
    n_components = 12
    columns = rng.standard_normal((30, 80, n_components)) + 3 * rng.standard_normal((30, 80, 1))
    columns *= 10 ** rng.uniform(-3, 3, (30, 1, n_components))
    columns[0, :, 3] = 0
    target = rng.standard_normal((30, 80)) + columns[:, :, 0] / np.abs(columns[:, :, 0]).max(
        axis=1, keepdims=True
    )
    gram, products = columns.mT @ columns, (columns.mT @ target[..., None])[..., 0]
    solve = jax.jit(jax.vmap(weighted.nonnegative_weights))
    weights = np.asarray(solve(precision.array(gram), precision.array(products)), float)
    assert (weights >= 0).all()
    lengths = np.maximum(np.linalg.norm(columns, axis=1), 1e-12)
    slope = products - (gram @ weights[..., None])[..., 0]
    slope /= lengths * np.linalg.norm(target, axis=1, keepdims=True)
    most = 1e3 * np.finfo(precision.dtype).eps
    assert slope.max() < most and np.abs(slope[weights > 0]).max() < most
    for case, (matrix, row) in enumerate(zip(columns, target, strict=True)):
        left = np.linalg.norm(matrix @ weights[case] - row)
        assert left <= nnls(matrix, row)[1] * (1 + 1e-5)


def _held_out(components, target, train, test, method, noise=None):
    squares = np.stack([squareform(rdm) for rdm in components])
    return _applied(squares, squareform(target), train, test, method=method, noise=noise)


@functools.partial(jax.jit, static_argnames=("method",))
def _applied(squares, target, *words, **options):
    return weighted.apply(weighted.factor(squares, *words, **options), target, *words, **options)


@pytest.mark.parametrize("method", ["pearson", "cosine", *whitened.COMPARISONS])
def test_held_out_words_equal_dropped_words(double, rdms, covariance, method):
    components, target = rdms
    test = np.stack([np.arange(N) % 2 == part for part in range(2)])
    train = ~test & (np.arange(N) != 1)
    noise = covariance if method.endswith("_cov") else None
    held_out = _held_out(components, target, train, test, method, noise)
    for fold in range(2):
        of_train, of_test = (
            [squareform(squareform(rdm)[np.ix_(words, words)]) for rdm in (*components, target)]
            for words in (train[fold], test[fold])
        )
        noises = [None if noise is None else noise[np.ix_(w, w)] for w in (train[fold], test[fold])]
        weights = fit(np.stack(of_train[:-1]), of_train[-1], method=method, noise=noises[0])
        np.testing.assert_allclose(held_out.weights[fold], weights, atol=1e-8)
        predicted = weighted.weighted_sum(np.stack(of_test[:-1]), weights)
        if method == "cosine":
            value = (
                predicted @ of_test[-1] / np.linalg.norm(predicted) / np.linalg.norm(of_test[-1])
            )
        elif noise is not None:
            value = whitened.compare(predicted, of_test[-1], method=method, noise=noises[1])
        else:
            value = rsa.compare(predicted, of_test[-1], method=method)
        np.testing.assert_allclose(held_out.similarity[fold], value, atol=1e-8)


def test_what_was_fitted_is_no_gain(rng):
    """Of unrelated RDMs the fit is above zero, and the words that were held out are not."""
    test = np.stack([np.arange(20) % 4 == part for part in range(4)])
    inside, outside = [], []
    for _ in range(30):
        components = np.stack([pdist(rng.standard_normal((20, 5))) for _ in range(6)])
        target = pdist(rng.standard_normal((20, 5)))
        for values, train in ((inside, test), (outside, ~test)):
            values.append(np.mean(_held_out(components, target, train, test, "pearson").similarity))
    assert np.mean(inside) > 0.3
    assert abs(np.mean(outside)) < 4 * np.std(outside) / np.sqrt(len(outside))


@pytest.mark.parametrize("method", ["pearson", *whitened.COMPARISONS])
def test_layers_that_are_nearly_alike_beside_a_large_mean(rng, method):
    """And one that does not vary: rounding of the means is no direction, and no weight is not a number."""
    n_words, n_pairs = 27, 351
    for _ in range(5):
        layers = 1 + 0.01 * rng.standard_normal(n_pairs)
        layers = layers + 1e-6 * rng.standard_normal((5, n_pairs)).cumsum(axis=0)
        layers[0] = rng.random() + 0.1
        target = layers[1] + 0.02 * rng.standard_normal(n_pairs)
        single = [array.astype(np.float32) for array in (layers, target)]
        weights = np.asarray(fit(*single, method=method), float)
        assert np.isfinite(weights).all()
        if method != "cosine_cov":
            assert weights[0] == 0
        expected = written_out(layers, target, method, np.eye(n_words))
        predicted, best = (
            whitened.compare(w @ layers, target, method=method)
            if method.endswith("_cov")
            else np.corrcoef(w @ layers, target)[0, 1]
            for w in (weights, expected)
        )
        np.testing.assert_allclose(predicted, best, atol=1e-4)


def test_unknown_methods_and_other_pairs_are_refused(rdms):
    components, target = rdms
    with pytest.raises(ValueError, match="not 'kendall_tau_a': choose one of these"):
        weighted.fit(components, target, method="kendall_tau_a")
    with pytest.raises(
        ValueError, match=r"components \(4, 66\) and target \(45,\) cover different"
    ):
        weighted.fit(components, target[:45])
    for shape in ((), (N - 1,), (N, N - 1), (1, N, N)):
        with pytest.raises(ValueError, match="the RDM is of 12 items and the noise"):
            weighted.fit(components, target, method="cosine_cov", noise=np.ones(shape))
