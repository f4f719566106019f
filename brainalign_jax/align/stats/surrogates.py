"""Smooth noise in the likeness of a recording: its spectrum, its spatial covariance, and none of its signal.

`phase_randomised` keeps every feature's power spectrum and all covariances exactly, one recording to a
set of phases. `autocorrelated_noise` is Gaussian noise that has them on average, of any length, under an
autocorrelation of one's choice. Both work on one run: what lies between two runs is no signal.

References: Prichard & Theiler (1994), Phys. Rev. Lett. 73:951-954; Dietrich & Newsam (1997), SIAM J. Sci.
Comput. 18:1088-1107 (circulant embedding).
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, PRNGKeyArray


def phase_randomised(key: PRNGKeyArray, x: Float[Array, "T V"]) -> Float[Array, "T V"]:
    """x [T, V] with new phases of its Fourier components over time, the same ones for all features.

    Means, power spectra (so circular autocorrelations) and covariances between features, at every lag,
    stay as they are.
    """
    n_times = x.shape[0]
    mean = x.mean(axis=0)
    spectrum = jnp.fft.rfft(x - mean, axis=0)
    angle = jax.random.uniform(key, (spectrum.shape[0],), x.dtype, 0, 2 * jnp.pi)
    turn = jnp.exp(jax.lax.complex(jnp.zeros_like(angle), angle))
    if n_times % 2 == 0:  # the highest frequency has no phase but a sign
        turn = turn.at[-1].set(jnp.where(turn[-1].real < 0, -1, 1).astype(turn.dtype))
    return jnp.fft.irfft(spectrum * turn[:, None], n_times, axis=0).astype(x.dtype) + mean


def autocorrelation(
    x: Float[Array, "T V"], *, n_lags: int | None = None
) -> Float[Array, " n_lags"]:
    """Autocorrelation [n_lags] of x [T, V] at lags 0, 1, ..., pooled over the features by variance.

    About each feature's mean, sums over T - lag products divided by those over T (biased towards zero,
    so that no noise of this autocorrelation is impossible). n_lags: T unless given.

    Raises: ValueError if n_lags is not between 1 and T.
    """
    n_times = x.shape[0]
    n_lags = n_times if n_lags is None else n_lags
    if not 1 <= n_lags <= n_times:
        raise ValueError(f"n_lags={n_lags} must lie between 1 and {n_times}, the number of times")
    padded = jnp.fft.rfft(x - x.mean(axis=0), 2 * n_times, axis=0)
    power = (padded.real**2 + padded.imag**2).sum(axis=1)
    products = jnp.fft.irfft(power, 2 * n_times)[:n_lags]
    return linalg.divided(products, products[0])


def ar1_autocorrelation(x: Float[Array, "T V"]) -> Float[Array, " T"]:
    """Autocorrelation [T] of the first-order autoregression fitted to x [T, V], one coefficient for all.

    rho^lag with rho the autocorrelation at lag one: of the empirical autocorrelation only its decay is
    kept, which a short run determines much better.
    """
    lags = jnp.arange(x.shape[0], dtype=jnp.int32)
    rho = autocorrelation(x, n_lags=2)[1]
    # Powers of a negative number by its size and sign.
    sign = jnp.where((rho < 0) & (lags % 2 == 1), -1, 1).astype(x.dtype)
    return sign * jnp.abs(rho) ** lags.astype(x.dtype)


def stationary_noise(
    key: PRNGKeyArray, correlation: Float[Array, " T"], n_series: int
) -> Float[Array, "T n_series"]:
    """Independent Gaussian series [T, n_series] of unit variance.

    correlation: [T] their autocorrelation at lags 0 to T - 1.

    By circulant embedding, in T log T: exact where the embedding is positive, as for what
    `autocorrelation` and `ar1_autocorrelation` return; negative power is otherwise set to zero.
    """
    n_times = correlation.shape[0]
    circle = jnp.concatenate([correlation, jnp.zeros(1, correlation.dtype), correlation[:0:-1]])
    power = jnp.maximum(jnp.fft.rfft(circle).real, 0).astype(correlation.dtype)
    white = jax.random.normal(key, (2 * n_times, n_series), correlation.dtype)
    spectrum = jnp.fft.rfft(white, axis=0)
    smooth = spectrum * jnp.sqrt(power)[:, None].astype(spectrum.dtype)
    return jnp.fft.irfft(smooth, 2 * n_times, axis=0)[:n_times].astype(correlation.dtype)


def autocorrelated_noise(
    key: PRNGKeyArray, x: Float[Array, "T V"], correlation: Float[Array, " T_new"] | None = None
) -> Float[Array, "T_new V"]:
    """Gaussian noise [T', V] with the spatial covariance and means of x [T, V], smooth in time.

    correlation: [T'] autocorrelation at lags 0 to T' - 1, of `ar1_autocorrelation` for instance; that of
    x unless given.

    Mixed from T independent series by x itself: its covariance without a factorisation, however many
    features. Give the reduced responses [T, R] where V is large.
    """
    if correlation is None:
        correlation = autocorrelation(x)
    mean = x.mean(axis=0)
    series = stationary_noise(key, correlation, x.shape[0])
    root = jnp.sqrt(jnp.asarray(x.shape[0], x.dtype))
    return linalg.matmul(series, (x - mean) / root) + mean
