"""Surrogates keep what they should (spectra, covariances) and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.signal import lfilter

from brainalign_jax.align.stats import surrogates

phase_randomised = jax.jit(surrogates.phase_randomised)


def recording(rng, n_times=64, n_features=3, rho=0.8):
    """Smooth series that share some of their noise, with means."""
    innovations = rng.standard_normal((n_times + 50, n_features)) @ [
        [1, 0.5, 0],
        [0, 1, -0.7],
        [0, 0, 2],
    ]
    return lfilter([1], [1, -rho], innovations, axis=0)[50:] + [1.0, -3.0, 10.0]


@pytest.mark.parametrize("n_times", [63, 64])
def test_new_phases_keep_spectra_and_covariances(precision, rng, n_times):
    x = recording(rng, n_times)
    # a GPU would multiply in TF32 here
    surrogate = np.asarray(phase_randomised(jax.random.key(1), precision.array(x)))
    precision.close(surrogate.mean(axis=0), x.mean(axis=0), factor=10)
    precision.close(np.cov(surrogate.T), np.cov(x.T), factor=10)
    power = np.abs(np.fft.rfft(x - x.mean(axis=0), axis=0))
    precision.close(
        np.abs(np.fft.rfft(surrogate - surrogate.mean(axis=0), axis=0)), power, factor=10
    )
    shifted = np.roll(x, 3, axis=0)  # circular covariances between features at a lag, too
    lagged = np.einsum("tv,tw->vw", x - x.mean(axis=0), shifted - x.mean(axis=0))
    centred = surrogate - surrogate.mean(axis=0)
    precision.close(centred.T @ np.roll(centred, 3, axis=0), lagged, factor=10)


def test_new_phases_keep_nothing_of_the_signal(rng):
    x = recording(rng, 128)
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = np.asarray(jax.jit(jax.vmap(surrogates.phase_randomised, (0, None)))(keys, x))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    correlations = np.einsum("btv,tv->bv", (drawn - x.mean(axis=0)) / x.std(axis=0), z) / 128
    assert np.abs(correlations.mean(axis=0)).max() < 0.06
    np.testing.assert_allclose(drawn.mean(axis=0) - x.mean(axis=0), 0, atol=0.8)
    assert not np.allclose(drawn[0], drawn[1])


def test_autocorrelation_equals_sums_of_products(precision, rng):
    x = recording(rng)
    centred = x - x.mean(axis=0)
    products = [(centred[: 64 - lag] * centred[lag:]).sum() for lag in range(64)]
    by_lag = jax.jit(surrogates.autocorrelation)(precision.array(x))
    precision.close(by_lag, np.array(products) / products[0], factor=5)
    few = surrogates.autocorrelation(precision.array(x), n_lags=4)
    precision.close(few, np.array(products[:4]) / products[0], factor=5)
    with pytest.raises(ValueError, match="n_lags=65"):
        surrogates.autocorrelation(precision.array(x), n_lags=65)


@pytest.mark.parametrize("rho", [0.7, -0.4])
def test_the_autoregression_is_recovered(double, rng, rho):
    x = recording(rng, 4000, rho=rho)
    by_lag = np.asarray(surrogates.ar1_autocorrelation(double.array(x)))
    np.testing.assert_allclose(by_lag[:4], rho ** np.arange(4), atol=0.05)
    double.close(by_lag[2], by_lag[1] ** 2)


@pytest.mark.parametrize("kind", ["empirical", "ar1", "white"])
def test_noise_has_the_autocorrelation_it_is_given(rng, kind):
    x = recording(rng, 40)
    correlation = {
        "empirical": surrogates.autocorrelation(x),
        "ar1": 0.7 ** jnp.arange(40.0),
        "white": jnp.zeros(40).at[0].set(1.0),
    }[kind]
    noise = surrogates.stationary_noise(jax.random.key(2), correlation, 40_000)
    covariance = np.asarray(noise @ noise.T) / 40_000
    np.testing.assert_allclose(covariance, toeplitz(np.asarray(correlation)), atol=0.03)


def test_noise_has_the_covariance_and_the_means_of_the_recording(rng):
    x = recording(rng, 48).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 3000)
    drawn = jax.jit(jax.vmap(surrogates.autocorrelated_noise, (0, None)))(keys, x)
    drawn = np.asarray(drawn) - x.mean(axis=0)
    scale = x.std(axis=0)
    covariance = np.einsum("btv,btw->vw", drawn, drawn) / (3000 * 48)
    expected = np.cov(x.T, bias=True)
    np.testing.assert_allclose(
        covariance / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.05
    )
    lag_one = np.einsum("btv,btv->", drawn[:, 1:], drawn[:, :-1]) / (3000 * 47)
    rho = float(surrogates.autocorrelation(jnp.asarray(x))[1])
    assert lag_one / np.trace(covariance) == pytest.approx(rho, abs=0.03)
    z = (x - x.mean(axis=0)) / scale
    assert np.abs(np.einsum("btv,tv->bv", drawn / scale, z).mean(axis=0) / 48).max() < 0.03


def test_noise_of_another_length(rng):
    x, correlation = recording(rng, 20).astype(np.float32), 0.5 ** jnp.arange(100.0)
    assert surrogates.autocorrelated_noise(jax.random.key(0), x, correlation).shape == (100, 3)


def test_float32_stays_float32(keeps_float32, rng):
    x, key = recording(rng), jax.random.key(0)
    keeps_float32(lambda x: surrogates.phase_randomised(key, x), x)
    keeps_float32(lambda x: surrogates.autocorrelated_noise(key, x), x)
    keeps_float32(
        lambda x: surrogates.autocorrelated_noise(key, x, surrogates.ar1_autocorrelation(x)), x
    )
