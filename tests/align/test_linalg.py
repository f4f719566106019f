from __future__ import annotations

import jax
import numpy as np
import oracles
import pytest
from sklearn.decomposition import PCA

from brainalign_jax.align import linalg

N, V = 14, 6

weighted_mean = jax.jit(linalg.weighted_mean)
center_gram = jax.jit(linalg.center_gram)
principal_components = jax.jit(linalg.principal_components, static_argnames="n_components")
transform = jax.jit(linalg.transform)


@pytest.fixture
def mask(rng):
    weights = np.ones(N)
    weights[rng.permutation(N)[:4]] = 0
    return weights


@pytest.mark.parametrize("dtype", [bool, float])
def test_weighted_mean_is_the_mean_of_the_kept_rows(precision, rng, mask, dtype):
    x = rng.normal(size=(N, V)) + 3
    weights = precision.array(mask) if dtype is float else mask.astype(bool)
    mean = weighted_mean(precision.array(x), weights)
    precision.close(mean, oracles.rows(x, mask).mean(0))


def test_weighted_mean_with_fractional_weights(precision, rng):
    x, weights = rng.normal(size=(N, V)), rng.uniform(0.1, 2, size=N)
    mean = weighted_mean(*precision.arrays(x, weights))
    precision.close(mean, oracles.weighted_mean(x, weights))


def test_divided_keeps_what_has_no_positive_size():
    sizes = np.array([2, 0, -1, np.nan], np.float32)
    np.testing.assert_array_equal(linalg.divided(np.float32(3), sizes), [1.5, 3, 3, 3])


def test_a_ratio_is_zero_where_it_is_undefined():
    parts, wholes = np.array([1, np.nan, 3], np.float32), np.array([2, 0, np.nan], np.float32)
    undefined = np.array([False, True, True])
    np.testing.assert_array_equal(linalg.ratio(parts, wholes, undefined), [0.5, 0, 0])


def test_gram(precision, rng):
    x = rng.normal(size=(N, V))
    precision.close(linalg.gram(precision.array(x)), np.einsum("iv,jv->ij", x, x))


@pytest.mark.parametrize("dtype", [bool, float])
def test_center_gram_removes_the_mean_of_the_kept_rows_from_every_row(precision, rng, mask, dtype):
    x = rng.normal(size=(N, V)) + 2
    weights = precision.array(mask) if dtype is float else mask.astype(bool)
    centred = center_gram(precision.array(x @ x.T), weights)
    precision.close(centred, oracles.centred_gram(x, mask), factor=5)
    kept = mask.astype(bool)
    sums = np.asarray(centred)[kept][:, kept].sum(1)
    np.testing.assert_allclose(sums, 0, atol=500 * precision.tolerance)


def test_centering_is_the_same_batched(double, rng, same_when_batched):
    x = rng.normal(size=(N, V))
    masks = np.stack([np.arange(N) % 3 != fold for fold in range(3)])
    same_when_batched(linalg.weighted_mean, *double.arrays(x, masks), in_axes=(None, 0))
    same_when_batched(linalg.center_gram, *double.arrays(x @ x.T, masks), in_axes=(None, 0))
    same_when_batched(linalg.gram, double.array(rng.normal(size=(3, N, V))), in_axes=(0,))


def spread(rng, n, v):
    """Features whose principal variances are well apart, so that single components are defined."""
    basis = np.linalg.qr(rng.normal(size=(v, v)))[0]
    return rng.normal(size=(n, v)) * (2.0 ** -np.arange(v)) @ basis.T + rng.normal(size=v)


@pytest.mark.parametrize("n,v,n_components", [(14, 6, 3), (14, 6, 6), (14, 25, 4)])
def test_principal_components_equal_scikit_learn_on_the_kept_rows(
    precision, rng, mask, n, v, n_components
):
    x = spread(rng, n, v)
    expected = PCA(n_components, svd_solver="full").fit(oracles.rows(x, mask))
    pc = principal_components(*precision.arrays(x, mask), n_components=n_components)
    precision.close(pc.mean, expected.mean_)
    components = np.asarray(pc.components, np.float64)
    assert pc.components.dtype == precision.dtype
    assert components.shape == (v, n_components)
    signs = np.sign(np.sum(components * expected.components_.T, axis=0))
    precision.close(pc.components, expected.components_.T * signs, factor=50)
    # rows that were left out are centred by the training mean and projected like the others
    precision.close(transform(pc, precision.array(x)), expected.transform(x) * signs, factor=50)


def test_principal_components_have_deterministic_signs(precision, rng, mask):
    x = spread(rng, N, V)
    for data in (x, -x):
        pc = principal_components(*precision.arrays(data, mask), n_components=4)
        components = np.asarray(pc.components)
        largest = np.abs(components).argmax(0)
        assert (components[largest, np.arange(4)] > 0).all()


def test_principal_components_span_the_right_plane_where_variances_are_equal(precision, rng):
    left = np.linalg.qr(np.c_[np.ones(N), rng.normal(size=(N, 4))])[0][:, 1:]  # columns sum to zero
    right = np.linalg.qr(rng.normal(size=(V, 4)))[0]
    x = left @ np.diag([3.0, 3.0, 1.0, 0.5]) @ right.T
    pc = principal_components(*precision.arrays(x, np.ones(N)), n_components=2)
    projector = pc.components @ pc.components.T
    precision.close(projector, right[:, :2] @ right[:, :2].T, factor=20)


def test_principal_components_ignore_rows_that_are_left_out(precision, rng, mask):
    x = spread(rng, N, V)
    other = np.where(mask[:, None] > 0, x, 1e3 * rng.normal(size=x.shape))
    first, second = (
        principal_components(*precision.arrays(data, mask), n_components=3) for data in (x, other)
    )
    precision.close(second.mean, first.mean)
    precision.close(second.components, first.components, factor=20)


def test_principal_components_accept_a_boolean_mask(double, rng, mask):
    x = double.array(spread(rng, N, V))
    first = principal_components(x, double.array(mask), n_components=3)
    second = principal_components(x, mask.astype(bool), n_components=3)
    jax.tree.map(lambda a, b: double.close(a, b), second, first)


def test_principal_components_are_the_same_batched(double, rng, same_when_batched):
    x = spread(rng, N, V)
    masks = np.stack([np.arange(N) % 3 != fold for fold in range(3)])

    def scores(x, weights):
        return linalg.transform(linalg.principal_components(x, weights, n_components=3), x)

    same_when_batched(scores, *double.arrays(x, masks), in_axes=(None, 0), factor=50)


def test_float32_stays_float32(keeps_float32, rng, mask):
    x = rng.normal(size=(N, V))
    keeps_float32(linalg.gram, x)
    for weights in (mask, mask.astype(bool)):
        keeps_float32(linalg.weighted_mean, x, weights)
        keeps_float32(linalg.center_gram, x @ x.T, weights)
        keeps_float32(
            lambda x, w: linalg.transform(linalg.principal_components(x, w, n_components=2), x),
            x,
            weights,
        )
