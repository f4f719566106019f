from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from brainalign_jax.align.stats import scoring

N, T = 20, 4

pearson = jax.jit(scoring.pearson)
r2 = jax.jit(scoring.r2)


def columns(rng):
    target = rng.normal(size=(N, T)) + 3
    prediction = target * [1, -1, 0.1, 5] + rng.normal(size=(N, T))
    weights = np.ones(N)
    weights[rng.permutation(N)[:6]] = 0
    return target, prediction, weights


def test_pearson_equals_scipy(precision, rng):
    target, prediction, _ = columns(rng)
    expected = pearsonr(target, prediction, axis=0).statistic
    for weights in (None, precision.array(np.ones(N)), jnp.ones(N, bool)):
        actual = pearson(*precision.arrays(target, prediction), weights)
        precision.close(actual, expected)
    precision.close(pearson(*precision.arrays(target, prediction)), expected)


def test_r2_equals_scikit_learn(precision, rng):
    target, prediction, _ = columns(rng)
    expected = r2_score(target, prediction, multioutput="raw_values")
    for weights in (None, precision.array(np.ones(N)), jnp.ones(N, bool)):
        actual = r2(*precision.arrays(target, prediction), weights)
        precision.close(actual, expected, factor=5)
    precision.close(r2(*precision.arrays(target, prediction)), expected, factor=5)


@pytest.mark.parametrize("dtype", [bool, float])
def test_masked_scores_equal_those_of_the_kept_rows(precision, rng, dtype):
    target, prediction, weights = columns(rng)
    target[weights == 0] = 100
    prediction[weights == 0] = -100
    mask = jnp.asarray(weights, bool) if dtype is bool else precision.array(weights)
    for kernel, oracle in ((pearson, oracles.pearson), (r2, oracles.r2)):
        actual = kernel(*precision.arrays(target, prediction), mask)
        precision.close(actual, oracle(target, prediction, weights), factor=5)
        dropped = precision.arrays(oracles.rows(target, weights), oracles.rows(prediction, weights))
        precision.close(actual, kernel(*dropped), factor=5)


def test_perfect_and_mean_predictions(precision, rng):
    target, _, weights = columns(rng)
    target, mask = precision.arrays(target, weights)
    precision.close(pearson(target, 3 * target + 1, mask), np.ones(T))
    precision.close(pearson(target, -target, mask), -np.ones(T))
    precision.close(r2(target, target, mask), np.ones(T))
    mean = np.broadcast_to(oracles.weighted_mean(target, mask), (N, T))
    precision.close(r2(target, precision.array(mean), mask), np.zeros(T))


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567])
def test_a_constant_column_has_no_correlation(precision, rng, value):
    """The mean of a constant need not equal it in floating point; what is left is not a signal."""
    varying = rng.normal(size=(N, T)) + 2
    constant = np.full((N, T), value)
    for target, prediction in (
        (varying, constant),
        (constant, varying),
        (constant, constant),
        (constant, np.full((N, T), 0.3)),
    ):
        for weights in (None, precision.array(np.arange(N) % 3 > 0)):
            actual = pearson(*precision.arrays(target, prediction), weights)
            precision.close(actual, np.zeros(T))


def test_a_column_that_is_constant_where_it_counts(precision, rng):
    """It varies, but only in rows that are left out."""
    target, prediction, weights = columns(rng)
    prediction[weights > 0, 1] = 0.1
    actual = pearson(*precision.arrays(target, prediction, weights))
    expected = oracles.pearson(target, prediction, weights)
    assert expected[1] == 0
    precision.close(actual, expected, factor=5)


def test_a_small_spread_around_a_large_mean_is_a_signal(precision, rng):
    """BOLD around 1000, or predictions shrunk by a large alpha: small is not constant."""
    target, prediction, weights = columns(rng)
    spread = 1e-7 if precision.double else 1e-3
    prediction = 1 + spread * prediction
    actual = pearson(*precision.arrays(target, prediction, weights))
    expected = oracles.pearson(target, prediction, weights)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e12])  # MEG in tesla is about 1e-13
def test_scores_do_not_depend_on_the_units(precision, rng, scale):
    target, prediction, weights = columns(rng)
    arrays = precision.arrays(scale * target, scale * prediction, weights)
    precision.close(pearson(*arrays), oracles.pearson(target, prediction, weights), factor=5)
    precision.close(r2(*arrays), oracles.r2(target, prediction, weights), factor=5)


def test_scores_are_the_same_batched(double, rng, same_when_batched):
    target, prediction, _ = columns(rng)
    predictions = np.stack([prediction, prediction**2, rng.normal(size=(N, T))])
    masks = np.stack([np.arange(N) % 4 != fold for fold in range(3)])
    arguments = double.arrays(target, predictions, masks)
    for kernel in (scoring.pearson, scoring.r2):
        same_when_batched(kernel, *arguments, in_axes=(None, 0, 0), factor=5)


def test_float32_stays_float32(keeps_float32, rng):
    target, prediction, weights = columns(rng)
    for kernel in (scoring.pearson, scoring.r2):
        keeps_float32(kernel, target, prediction)
        keeps_float32(kernel, target, prediction, weights)
        keeps_float32(kernel, target, prediction, weights.astype(bool))
