"""Whitened comparisons of RDMs against the covariance written out, rsatoolbox and CKA."""

import jax
import numpy as np
import oracles
import pytest
from scipy.spatial.distance import pdist

from brainalign_jax.align import rsa, similarity
from brainalign_jax.align.rsa import noise_ceiling, whitened

compare = jax.jit(whitened.compare, static_argnames=("method",))
N = 9


def written_out(a, b, method, noise):
    """By the covariance [P, P] of all distances."""
    if method == "corr_cov":
        a, b = a - a.mean(), b - b.mean()
    covariance = oracles.covariance_of_distances(noise)
    left, right = np.linalg.solve(covariance, a), np.linalg.solve(covariance, b)
    return a @ right / np.sqrt(a @ left * (b @ right))


@pytest.fixture
def rdms(rng):
    """Two that have something in common; crossnobis distances may be below zero."""
    x, other = rng.standard_normal((2, N, 6))
    return [pdist(rows, "sqeuclidean") - 4 for rows in (x, x + other)]


@pytest.fixture
def covariance(rng):
    root = rng.standard_normal((N, N))
    return root @ root.T + np.eye(N)


@pytest.mark.parametrize("method", whitened.COMPARISONS)
@pytest.mark.parametrize("noise", ["none", "variances", "covariance"])
def test_equal_to_the_covariance_of_all_distances(precision, rdms, covariance, method, noise):
    given = {"none": None, "variances": np.diag(covariance), "covariance": covariance}[noise]
    full = np.eye(N) if given is None else np.diag(given) if given.ndim == 1 else given
    arrays = [precision.array(rdm) for rdm in rdms]
    value = compare(*arrays, method=method, noise=None if given is None else precision.array(given))
    precision.close(value, written_out(*rdms, method, full), factor=20)


@pytest.mark.parametrize("method", whitened.COMPARISONS)
def test_equal_to_rsatoolbox(double, rdms, covariance, method):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    peers = [rsatoolbox.rdm.RDMs(rdm[None]) for rdm in rdms]
    for noise in (None, covariance):
        expected = rsatoolbox.rdm.compare(*peers, method=method, sigma_k=noise).item()
        np.testing.assert_allclose(compare(*rdms, method=method, noise=noise), expected, atol=1e-4)


def test_without_noise_it_is_the_plain_cka(double, rng):
    x, y = rng.standard_normal((2, 12, 5))
    value = compare(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean"))
    np.testing.assert_allclose(value, similarity.linear_cka(x, y, debiased=False), atol=1e-9)


@pytest.mark.parametrize("method", whitened.COMPARISONS)
def test_among_the_other_comparisons(double, rng, method):
    x, y = rng.standard_normal((2, 10, 4)), rng.standard_normal((3, 10, 5))
    value = rsa.scores(x, y, metric="correlation", method=method)
    expected = [[whitened.compare(rsa.rdm(a), rsa.rdm(b), method=method) for b in y] for a in x]
    np.testing.assert_allclose(value, expected, atol=1e-9)
    people = np.stack([pdist(rows) for rows in rng.standard_normal((4, 10, 3))])
    bounds = noise_ceiling.noise_ceiling(people, method=method)
    units = [whitened.unit_matrix(rdm, method=method) for rdm in people]
    others = sum(units[1:]) / np.linalg.norm(sum(units[1:]))
    np.testing.assert_allclose(bounds.lower[0], (units[0] * others).sum(), atol=1e-9)
    every = sum(units) / np.linalg.norm(sum(units))
    np.testing.assert_allclose(bounds.upper[0], (units[0] * every).sum(), atol=1e-9)


def test_it_tells_models_apart_more_often_than_pearson(rng):
    """Noise that items share across pairs is weighed down: of 500 noisy recordings, cross-validated."""
    true = rng.standard_normal((12, 3))
    other = 0.8 * true + 0.6 * rng.standard_normal((12, 3))
    models = np.stack([pdist(x, "sqeuclidean") for x in (true, other)]).astype(np.float32)
    halves = 2.5 * rng.standard_normal((500, 2, 12, 8)) + np.pad(true, ((0, 0), (0, 5)))
    products = np.einsum("dif,djf->dij", halves[:, 0], halves[:, 1])
    products = products + products.transpose(0, 2, 1)
    sizes = np.diagonal(products, axis1=1, axis2=2) / 2
    first, second = np.triu_indices(12, 1)
    rdms = (sizes[:, :, None] + sizes[:, None, :] - products)[:, first, second].astype(np.float32)

    def chosen(method):
        scores = jax.jit(
            jax.vmap(jax.vmap(lambda a, b: rsa.compare(a, b, method=method), (None, 0)), (0, None))
        )
        values = np.asarray(scores(rdms, models))
        return (values[:, 0] > values[:, 1]).sum()

    assert chosen("corr_cov") > chosen("pearson") > 275


def test_nothing_to_compare_and_what_is_refused(rdms):
    a, b = (rdm.astype(np.float32) for rdm in rdms)
    assert float(compare(a, np.zeros_like(a))) == 0
    assert float(compare(a, np.full_like(a, 0.3), method="corr_cov")) == 0
    with pytest.raises(
        ValueError, match="9 items and the noise \\(4,\\): give \\[items\\] variances"
    ):
        whitened.compare(a, b, noise=np.ones(4))
    with pytest.raises(ValueError, match="35 distances are no condensed RDM"):
        whitened.compare(a[1:], b[1:])
    with pytest.raises(ValueError, match="cover different pairs"):
        whitened.compare(a, b[1:])
    with pytest.raises(ValueError, match="choose one of cosine_cov, corr_cov"):
        whitened.compare(a, b, method="cosine")


def test_noise_of_the_items_wherever_rdms_are_compared(double, rng, covariance):
    """Of people and layers, in the ceiling, and refused where no comparison takes it."""
    people, layers = rng.standard_normal((3, N, 6)), rng.standard_normal((2, N, 5))
    options = dict(method="corr_cov", noise=covariance)
    values = rsa.scores(people, layers, metric="euclidean", **options)
    rdms = [np.stack([pdist(rows) for rows in side]) for side in (people, layers)]
    for person, layer in np.ndindex(3, 2):
        pair = rdms[0][person], rdms[1][layer]
        np.testing.assert_allclose(values[person, layer], whitened.compare(*pair, **options))
        np.testing.assert_allclose(values[person, layer], rsa.compare(*pair, **options))
    ceiling = noise_ceiling.noise_ceiling(rdms[0], **options)
    units = np.stack([whitened.unit_matrix(rdm, **options) for rdm in rdms[0]])
    mean = units[1:].mean(axis=0)
    expected = (units[0] * mean).sum() / np.linalg.norm(mean)
    np.testing.assert_allclose(ceiling.lower[0], expected)
    for refused in (
        lambda: rsa.compare(rdms[0][0], rdms[0][1], method="pearson", noise=covariance),
        lambda: rsa.scores(people, layers, noise=covariance),
        lambda: noise_ceiling.noise_ceiling(rdms[0], method="cosine", noise=covariance),
    ):
        with pytest.raises(ValueError, match="takes no noise of the items: compare by cosine_cov"):
            refused()
