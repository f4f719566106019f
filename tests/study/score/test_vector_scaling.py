"""Scaling of the model's vectors by a fold's training words: against NumPy, planted and on noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.decoding import LayerVectors, fold_axes

RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(40, 120)) * RNG.uniform(0.1, 30, 120) + 3).astype(np.float32)
TRAIN = RNG.permutation(np.arange(40) < 30)


def all_but_the_top(train, every):
    """Mu and Viswanath 2018, by another route: scikit-learn's PCA."""
    mean = train.mean(axis=0)
    axes = PCA(1).fit(train.astype(np.float64)).components_  # 120 dimensions: one axis
    return (every - mean) - (every - mean) @ axes.T @ axes


def by_sklearn(scaler):
    return lambda train, every: scaler().fit(train.astype(np.float64)).transform(every)


ORACLES = {
    "minmax": by_sklearn(MinMaxScaler),
    "zscore": by_sklearn(StandardScaler),
    "abtt": all_but_the_top,
}


@pytest.mark.parametrize("scaling", ORACLES)
def test_the_training_words_of_a_fold_decide(scaling):
    expected = ORACLES[scaling](VECTORS[TRAIN], VECTORS)
    layer = LayerVectors(jnp.asarray(VECTORS), None)
    folds = np.stack([TRAIN, ~TRAIN]).astype(np.float32) * 3  # counts of tokens
    first_fold = fold_axes(layer, folds[0], scaling=scaling, n_axes=0).values
    np.testing.assert_allclose(first_fold, expected, atol=3e-4 * np.abs(expected).max())
    both = jax.jit(lambda x, w: fold_axes(x, w, scaling=scaling, n_axes=0).values)(layer, folds)
    np.testing.assert_allclose(both[0], first_fold, atol=1e-4 * np.abs(expected).max())
    other = ORACLES[scaling](VECTORS[~TRAIN], VECTORS)
    np.testing.assert_allclose(both[1], other, atol=3e-4 * np.abs(other).max())


@pytest.mark.parametrize("scaling", ORACLES)
def test_where_no_fold_scales_all_words_decide(scaling):
    choices = protocol("audited", vector_scaling=scaling)
    for folds, fitted_on in ((False, "training"), (True, "all_rows")):
        own = protocol("audited", vector_scaling=scaling, fitted_on=fitted_on)
        scaled = preparation.prepare_vectors(VECTORS[None], own, n_features=300, folds=folds)
        expected = ORACLES[scaling](VECTORS, VECTORS)
        np.testing.assert_allclose(scaled[0], expected, atol=1e-4 * np.abs(expected).max())
    kept = preparation.prepare_vectors(VECTORS[None], choices, n_features=300, folds=True)
    np.testing.assert_array_equal(kept[0], VECTORS)


def test_constant_dimensions_and_one_dimension_stay_finite():
    flat = LayerVectors(jnp.ones((6, 4)), None)
    for scaling in ORACLES:
        values = fold_axes(flat, jnp.ones(6), scaling=scaling, n_axes=0).values
        np.testing.assert_array_equal(values, 0)
