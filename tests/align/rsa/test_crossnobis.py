"""Crossnobis distances against loops and rsatoolbox; what is planted, and nothing in noise."""

import jax
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from brainalign_jax.align.rsa import crossnobis as kernels

crossnobis = jax.jit(kernels.crossnobis)
shrunk_noise = jax.jit(kernels.shrunk_noise, static_argnames=("n_dof", "n_features"))
N, K, V = 7, 3, 10


def loop(partitions, covariance):
    """Pair by pair, of all ordered pairs of different parts."""
    precision, distances = np.linalg.inv(covariance), []
    for i in range(N):
        for j in range(i + 1, N):
            of_parts = [
                (partitions[i, m] - partitions[j, m])
                @ precision
                @ (partitions[i, n] - partitions[j, n])
                for m in range(K)
                for n in range(K)
                if m != n
            ]
            distances.append(np.mean(of_parts) / V)
    return np.array(distances)


def shrunk_covariance(residuals, n_dof):
    """Ledoit & Wolf's by scikit-learn."""
    fitted = LedoitWolf(assume_centered=True).fit(residuals)
    return fitted.covariance_ * len(residuals) / n_dof


@pytest.mark.parametrize("n_residuals", [6, 40])
def test_equal_to_a_loop_with_the_noise_of_scikit_learn(precision, rng, n_residuals):
    partitions = rng.standard_normal((N, K, V)) + rng.standard_normal((N, 1, V))
    residuals = rng.standard_normal((n_residuals, V)) * np.arange(1, V + 1)
    noise = shrunk_noise(precision.array(residuals), n_dof=n_residuals - 3)
    expected = loop(partitions, shrunk_covariance(residuals, n_residuals - 3))
    precision.close(crossnobis(precision.array(partitions), noise), expected, factor=20)
    precision.close(crossnobis(precision.array(partitions)), loop(partitions, np.eye(V)), factor=20)


def test_of_the_axes_that_responses_span_the_same(double, rng):
    """Wider than all rows together: a rotation to fewer axes, with the number of features."""
    partitions, residuals = rng.standard_normal((N, K, 60)), rng.standard_normal((12, 60))
    rows = np.concatenate([partitions.reshape(-1, 60), residuals])
    axes = np.linalg.svd(rows, full_matrices=False)[2]
    plain = crossnobis(partitions, shrunk_noise(residuals))
    fewer = crossnobis(partitions @ axes.T, shrunk_noise(residuals @ axes.T, n_features=60))
    np.testing.assert_allclose(fewer * len(axes) / 60, plain, atol=1e-9)


def test_equal_to_rsatoolbox(double, rng):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    partitions, residuals = rng.standard_normal((N, K, V)), rng.standard_normal((30, V))
    residuals -= residuals.mean(axis=0)  # as rsatoolbox does
    inverse = rsatoolbox.data.noise.prec_from_residuals(residuals, dof=20, method="shrinkage_eye")
    places = dict(word=np.repeat(np.arange(N), K), part=np.tile(np.arange(K), N))
    data = rsatoolbox.data.Dataset(partitions.reshape(-1, V), obs_descriptors=places)
    expected = rsatoolbox.rdm.calc_rdm_crossnobis(data, "word", inverse, cv_descriptor="part")
    value = crossnobis(partitions, shrunk_noise(residuals, n_dof=20))
    np.testing.assert_allclose(value, expected.dissimilarities[0], atol=1e-9)


def test_of_the_others_noise_products_are_by_their_covariance(double, rng):
    """[K, K] of one item by the inverse of the covariance without its residuals, which may be padded."""
    x, residuals = rng.standard_normal((K, V)), rng.standard_normal((30, V)) * np.arange(1, V + 1)
    own, share = residuals[:4], (20 - 3) / 20
    noise = shrunk_noise(residuals, n_dof=20)
    shrinkage = LedoitWolf(assume_centered=True).fit(residuals).shrinkage_
    equal = shrinkage * np.square(residuals).sum() / 20 / V * np.eye(V)
    covariance = equal + (1 - shrinkage) * residuals[4:].T @ residuals[4:] / (20 * share)
    padded = np.pad(own, ((0, 4), (0, 0)))
    value = np.asarray(kernels.normalised_without_own(x, padded, noise, np.float64(share)))
    np.testing.assert_allclose(value @ value.T, x @ np.linalg.inv(covariance) @ x.T, rtol=1e-6)


def test_noise_is_zero_in_the_mean_and_what_is_planted_is_its_distance(rng):
    covariance = np.diag(np.geomspace(0.2, 5, V))
    truth = rng.standard_normal((N, V))
    draws = rng.standard_normal((400, N, K, V)) @ np.sqrt(covariance)
    residuals = rng.standard_normal((2000, V)) @ np.sqrt(covariance)
    noise = shrunk_noise(residuals)
    of_draws = jax.jit(jax.vmap(lambda x: kernels.crossnobis(x, noise)))
    for planted in (0 * truth, truth):
        values = np.asarray(of_draws(draws + planted[:, None]))
        difference = (planted[:, None] - planted)[np.triu_indices(N, 1)]
        expected = (difference**2 / np.diag(covariance)).mean(axis=1)
        error = values.std(axis=0) / np.sqrt(len(values))
        assert (np.abs(values.mean(axis=0) - expected) < 4 * error + 0.03 * expected).all()


def test_nothing_varies_and_what_is_refused():
    noise = shrunk_noise(np.zeros((4, V), np.float32))
    parts = np.ones((N, 2, V), np.float32)
    assert not crossnobis(parts, noise).any()
    with pytest.raises(ValueError, match="of at least two parts"):
        kernels.crossnobis(parts[:, :1])
    with pytest.raises(ValueError, match="1 residuals with 1 degrees of freedom"):
        kernels.shrunk_noise(parts[0, :1])
