import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from brainalign_jax.align.ridge import partial_ridge

N, D, K = 40, 60, 3
nuisance_operators = jax.jit(partial_ridge.nuisance_operators)
factor, operators = jax.jit(partial_ridge.factor), jax.jit(partial_ridge.operators)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, K)) @ rng.standard_normal((K, K)) + 5
    x = rng.standard_normal((N, D)) + z @ rng.standard_normal((K, D)) * 0.5 + 3
    y = x[:, :1] + z[:, :1] + rng.standard_normal((N, 2))
    mask = np.ones(N)
    mask[10:19] = 0
    return x, z, y, mask


def by_sklearn(x, z, y, train, lam, alpha):
    """Joint predictions of all rows: ridge of standardised nuisances, and of residual features."""
    n = train.sum()
    zs = (z - z[train].mean(axis=0)) / z[train].std(axis=0)
    first = Ridge(alpha=lam * n).fit(zs[train], y[train])
    prediction = first.predict(zs)
    if np.isinf(alpha):
        return prediction
    left = x - LinearRegression().fit(z[train], x[train]).predict(z)
    left = left / left[train].std(axis=0)
    size = (left[train] ** 2).sum() / n
    second = Ridge(alpha=alpha * size, fit_intercept=False).fit(left[train], y[train])
    return prediction + second.predict(left)


@pytest.mark.parametrize("lam", [0.0, 0.1, 3.0])
def test_predictions_are_those_of_scikit_learn(data, lam):
    x, z, y, mask = data
    alphas = [0.01, 1.0, 100.0, np.inf]
    nuisance = nuisance_operators(jnp.asarray(z), jnp.asarray(mask), jnp.array([lam]))
    fitted = factor(jnp.asarray(x), jnp.asarray(z), jnp.asarray(mask))
    rows = jnp.arange(N)
    predicted = operators(fitted, nuisance, jnp.array(alphas), rows) @ y
    for index, alpha in enumerate(alphas):
        want = by_sklearn(x, z, y, mask > 0, lam, alpha)
        np.testing.assert_allclose(predicted[index], want, atol=1e-8)


def test_it_is_two_penalties_in_one_problem(data):
    """Here the kernels are called operation by operation."""
    x, z, y, mask = data
    train, lam, alpha = mask > 0, 0.3, 2.0
    n = train.sum()
    zs = (z - z[train].mean(axis=0)) / z[train].std(axis=0)
    left = x - LinearRegression().fit(z[train], x[train]).predict(z)
    left = left / left[train].std(axis=0)
    penalty = np.r_[np.full(K, lam * n), np.full(D, alpha * (left[train] ** 2).sum() / n)]
    design = np.concatenate([zs, left], axis=1)
    centre = y[train].mean(axis=0)
    both = np.linalg.solve(
        design[train].T @ design[train] + np.diag(penalty), design[train].T @ (y[train] - centre)
    )
    nuisance = partial_ridge.nuisance_operators(jnp.asarray(z), jnp.asarray(mask), jnp.array([lam]))
    fitted = partial_ridge.factor(jnp.asarray(x), jnp.asarray(z), jnp.asarray(mask))
    predicted = partial_ridge.operators(fitted, nuisance, jnp.array([alpha]), jnp.arange(N))[0] @ y
    np.testing.assert_allclose(predicted, centre + design @ both, atol=1e-8)


def test_rows_left_out_have_no_part(data):
    x, z, y, mask = data
    other = [np.where(mask[:, None] > 0, columns, np.nan) for columns in (x, z)]
    same = [
        factor(jnp.asarray(a), jnp.asarray(b), jnp.asarray(mask)).eigenvalues
        for a, b in ((x, z), (np.nan_to_num(other[0]), np.nan_to_num(other[1])))
    ]
    np.testing.assert_allclose(*same, atol=1e-8)
    nuisance = nuisance_operators(jnp.asarray(z), jnp.asarray(mask), jnp.array([0.1]))
    hats = operators(
        factor(jnp.asarray(x), jnp.asarray(z), jnp.asarray(mask)),
        nuisance,
        jnp.array([1.0]),
        jnp.arange(N),
    )
    assert not np.asarray(hats)[:, :, mask == 0].any()


def test_without_nuisances_it_is_ridge_of_standardised_features(data):
    x, _, y, mask = data
    train = mask > 0
    none = jnp.zeros((N, 0))
    nuisance = nuisance_operators(none, jnp.asarray(mask), jnp.zeros(1))
    fitted = factor(jnp.asarray(x), none, jnp.asarray(mask))
    predicted = operators(fitted, nuisance, jnp.array([0.5]), jnp.arange(N))[0] @ y
    xs = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    want = Ridge(alpha=0.5 * D).fit(xs[train], y[train]).predict(xs)
    np.testing.assert_allclose(predicted, want, atol=1e-8)


def test_features_that_the_nuisances_hold_add_nothing(data):
    _, z, y, mask = data
    x = np.concatenate([z, z @ np.ones((K, 1)) + 4], axis=1)
    fitted = factor(jnp.asarray(x), jnp.asarray(z), jnp.asarray(mask))
    assert not np.asarray(fitted.eigenvalues).any()
    nuisance = nuisance_operators(jnp.asarray(z), jnp.asarray(mask), jnp.zeros(1))
    joint = operators(fitted, nuisance, jnp.array([0.0, 1.0]), jnp.arange(N))
    np.testing.assert_allclose(joint, np.tile(nuisance, (2, 1, 1)), atol=1e-12)


def test_nuisances_that_repeat_one_another_count_once(data):
    _, z, y, mask = data
    twice = jnp.asarray(np.concatenate([z, z[:, :1] * 2 - 1], axis=1))
    predicted = nuisance_operators(twice, jnp.asarray(mask), jnp.zeros(1))[0] @ y
    want = LinearRegression().fit(z[mask > 0], y[mask > 0]).predict(z)
    np.testing.assert_allclose(predicted, want, atol=1e-7)


@pytest.mark.parametrize("alone", [False, True])
def test_error_forms_give_the_error_of_cross_validation(data, alone):
    x, z, y, _ = data
    folds = np.array_split(np.arange(N), 3)
    train = np.stack([~np.isin(np.arange(N), fold) for fold in folds])
    train[0, 14:16] = False  # a purge
    rows = np.stack([np.r_[fold, fold[-1:]][:14] for fold in folds])
    weights = np.stack([np.arange(14) < len(fold) for fold in folds])
    lambdas, alphas = [0.1, 1.0], [0.5, 50.0, np.inf]
    forms = jax.jit(partial_ridge.error_forms)(
        None if alone else jnp.asarray(x),
        jnp.asarray(z),
        jnp.asarray(train, jnp.float64),
        jnp.asarray(rows),
        jnp.asarray(weights, jnp.float64),
        jnp.array(lambdas),
        jnp.array(alphas),
    )
    errors = np.einsum("nt,cnm,mt->ct", y, forms, y)
    want = [
        sum(
            ((by_sklearn(x, z, y, mask, lam, alpha) - y)[fold] ** 2).sum(axis=0)
            for mask, fold in zip(train, folds, strict=True)
        )
        for lam in lambdas
        for alpha in ([np.inf] if alone else alphas)
    ]
    np.testing.assert_allclose(errors, want, rtol=1e-7)


def test_float32_is_close(data):
    x, z, y, mask = data
    predictions = []
    for dtype in (jnp.float32, jnp.float64):
        x_, z_, mask_ = (jnp.asarray(part, dtype) for part in (x, z, mask))
        nuisance = nuisance_operators(z_, mask_, jnp.array([0.1], dtype))
        fitted = factor(x_, z_, mask_)
        hats = operators(fitted, nuisance, jnp.array([0.1], dtype), jnp.arange(N))
        assert hats.dtype == dtype
        predictions.append(np.asarray(hats)[0] @ y)
    np.testing.assert_allclose(*predictions, atol=2e-4)


def test_what_nuisances_leave_is_that_of_least_squares(data):
    """With weights of rows, a doubled column, and rows left out that hold anything."""
    x, z, _, mask = data
    z = np.hstack([z, 2 * z[:, :1]])
    weights = mask * np.random.default_rng(1).integers(1, 4, N)
    x[15] = np.nan
    fit = LinearRegression().fit(z[mask > 0], x[mask > 0], sample_weight=weights[mask > 0])
    mean = np.average(x[mask > 0], axis=0, weights=weights[mask > 0])
    expected = x - fit.predict(z) + mean
    for function in (partial_ridge.without_nuisances, jax.jit(partial_ridge.without_nuisances)):
        np.testing.assert_allclose(function(x, z, jnp.asarray(weights)), expected, atol=1e-9)
