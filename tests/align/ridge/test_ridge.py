from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge

from brainalign_jax.align import ridge

N, T = 16, 3
factor_dual = jax.jit(ridge.factor, static_argnames="fit_intercept")
factor_primal = jax.jit(ridge.factor_primal, static_argnames="fit_intercept")
predict = jax.jit(ridge.predict)
predict_path = jax.jit(ridge.predict_path)
loo_errors = jax.jit(ridge.loo_errors)

ALPHAS = np.array([0.1, 1.0, 30.0])
# more voxels than words (the usual case in fMRI) and more words than voxels
WIDTHS = [25, 5]


def problem(rng, v, n=N, offset=2.0):
    """Features and targets with means far from zero, so that a wrong mean shows."""
    features = rng.normal(size=(n, v)) + offset
    targets = features @ rng.normal(size=(v, T)) / np.sqrt(v) + rng.normal(size=(n, T)) - 3
    weights = np.ones(n)
    weights[rng.permutation(n)[:5]] = 0
    return features, targets, weights


def factor_of(form, precision, features, weights, *, fit_intercept=True):
    weights = weights if np.asarray(weights).dtype == bool else precision.array(weights)
    if form == "dual":
        gram = precision.array(features @ features.T)
        return factor_dual(gram, weights, fit_intercept=fit_intercept)
    return factor_primal(precision.array(features), weights, fit_intercept=fit_intercept)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("v", WIDTHS)
def test_predictions_equal_scikit_learn_on_the_kept_rows(precision, rng, form, fit_intercept, v):
    features, targets, weights = problem(rng, v)
    factor = factor_of(form, precision, features, weights, fit_intercept=fit_intercept)
    predicted = predict(factor, *precision.arrays(targets, ALPHAS))
    x, y = oracles.rows(features, weights), oracles.rows(targets, weights)
    for solver in ("cholesky", "svd"):
        reference = Ridge(ALPHAS, fit_intercept=fit_intercept, solver=solver).fit(x, y)
        precision.close(predicted, reference.predict(features), factor=50)
    independent = oracles.ridge(features, targets, weights, ALPHAS, fit_intercept=fit_intercept)
    precision.close(predicted, independent, factor=50)


@pytest.mark.parametrize("v", WIDTHS)
def test_predictions_equal_kernel_ridge(precision, rng, v):
    features, targets, weights = problem(rng, v)
    reference = KernelRidge(alpha=2.0).fit(
        oracles.rows(features, weights), oracles.rows(targets, weights)
    )
    factor = factor_of("dual", precision, features, weights, fit_intercept=False)
    predicted = predict(factor, precision.array(targets), precision.array(2.0))
    precision.close(predicted, reference.predict(features), factor=50)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_one_alpha_for_all_targets(precision, rng, form):
    features, targets, weights = problem(rng, 7)
    factor = factor_of(form, precision, features, weights)
    expected = oracles.ridge(features, targets, weights, 3.0)
    for alpha in (3.0, precision.array([3.0] * T)):
        predicted = predict(factor, precision.array(targets), alpha)
        precision.close(predicted, expected, factor=50)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("v", WIDTHS)
def test_predict_path_is_predict_at_every_alpha(precision, rng, form, v):
    features, targets, weights = problem(rng, v)
    factor = factor_of(form, precision, features, weights)
    path = predict_path(factor, *precision.arrays(targets, ALPHAS))
    expected = [oracles.ridge(features, targets, weights, alpha) for alpha in ALPHAS]
    precision.close(path, expected, factor=50)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("v", WIDTHS)
def test_leave_one_out_errors_equal_refits(precision, rng, form, fit_intercept, v):
    features, targets, weights = problem(rng, v)
    factor = factor_of(form, precision, features, weights, fit_intercept=fit_intercept)
    alphas = np.r_[ALPHAS, 1e4]
    errors = loo_errors(factor, *precision.arrays(targets, alphas))
    refits = oracles.ridge_loo_errors(
        features, targets, weights, alphas, fit_intercept=fit_intercept
    )
    # each residual is divided by one minus the leverage, which is small for alpha = 0.1 and V > N
    precision.close(errors, refits, factor=200)


def test_leave_one_out_errors_of_a_small_alpha_are_numbers(precision, rng):
    """More voxels than words: leverage is 1 - O(alpha), and 1 - leverage must not be left to rounding.
    A NaN here never wins, so that a selection would silently be without its small alphas."""
    features, targets, weights = problem(rng, 40, offset=0.0)
    factor = factor_of("dual", precision, features, weights)
    alphas = [1e-4, 1e-3, 1e-2]
    errors = loo_errors(factor, *precision.arrays(targets, alphas))
    refits = oracles.ridge_loo_errors(features, targets, weights, alphas)
    np.testing.assert_allclose(errors, refits, rtol=1e-6 if precision.double else 0.02)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("v", WIDTHS)
def test_a_tiny_alpha_approaches_least_squares(precision, rng, form, v):
    features, targets, weights = problem(rng, v)
    alpha = 1e-6 if precision.double else 1e-3
    factor = factor_of(form, precision, features, weights)
    predicted = predict(factor, *precision.arrays(targets, alpha))
    x, y = oracles.rows(features, weights), oracles.rows(targets, weights)
    least_squares = LinearRegression().fit(x, y).predict(features)  # minimum norm where V > N
    np.testing.assert_allclose(predicted, least_squares, atol=10 * alpha)
    precision.close(predicted, oracles.ridge(features, targets, weights, alpha), factor=200)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_huge_alpha_predicts_the_training_mean(precision, rng, form, fit_intercept):
    features, targets, weights = problem(rng, 7)
    factor = factor_of(form, precision, features, weights, fit_intercept=fit_intercept)
    predicted = predict(factor, *precision.arrays(targets, 1e14))
    mean = oracles.rows(targets, weights).mean(0) if fit_intercept else np.zeros(T)
    precision.close(predicted, np.broadcast_to(mean, (N, T)))


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-2, 10.0])
def test_repeated_words_and_a_dead_voxel(precision, rng, form, fit_intercept, alpha):
    """Repeated rows make the Gram matrix singular, a zero or constant feature the covariance."""
    features, targets, weights = problem(rng, 6)
    features[[3, 9, 11]] = features[2]
    weights[[2, 3, 9]] = 1
    features[:, 1] = 0
    features[:, 4] = 5
    factor = factor_of(form, precision, features, weights, fit_intercept=fit_intercept)
    predicted = predict(factor, *precision.arrays(targets, alpha))
    keywords = {"fit_intercept": fit_intercept}
    expected = oracles.ridge(features, targets, weights, alpha, **keywords)
    precision.close(predicted, expected, factor=200)
    errors = loo_errors(factor, *precision.arrays(targets, [alpha]))
    refits = oracles.ridge_loo_errors(features, targets, weights, [alpha], **keywords)
    precision.close(errors, refits, factor=500)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_features_far_from_zero(precision, rng, form):
    """Raw BOLD has a mean well above its spread; centring has to take place inside."""
    features, targets, weights = problem(rng, 7, offset=20.0)
    factor = factor_of(form, precision, features, weights)
    predicted = predict(factor, *precision.arrays(targets, ALPHAS))
    expected = oracles.ridge(features, targets, weights, ALPHAS)
    precision.close(predicted, expected, factor=500)


def test_float32_keeps_what_the_mean_outshines(rng):
    """Without an intercept, voxels from 0.5 to 0.51: the largest eigenvalue is 1e7 times the least."""
    shared = rng.standard_normal((60, 8))
    voxels = shared @ rng.standard_normal((8, 500)) + 2 * rng.standard_normal((60, 500))
    voxels, targets = 0.5 + 0.01 * oracles.minmax(voxels), oracles.minmax(shared)
    left, singular, _ = np.linalg.svd(voxels, full_matrices=False)
    weights = np.arange(60) < 50
    single = [np.asarray(x, np.float32) for x in (left * singular, weights, targets)]
    factor = factor_primal(*single[:2], fit_intercept=False)
    assert (np.asarray(factor.eigenvalues) > 0).sum() == 50
    expected = oracles.ridge(single[0], targets, weights, 0.01, fit_intercept=False)
    predicted = np.asarray(predict(factor, single[2], np.float32(0.01)))
    np.testing.assert_allclose(predicted, expected, atol=1e-3)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("hidden", [1e4, np.nan])
def test_targets_that_are_left_out_do_not_matter(precision, rng, form, fit_intercept, hidden):
    """NaN too: a word that the text model lacks, or whose answer is to be predicted, has no target."""
    features, targets, weights = problem(rng, 7)
    masked = np.where(weights[:, None] > 0, targets, hidden)
    factor = factor_of(form, precision, features, weights, fit_intercept=fit_intercept)
    for kernel in (predict, predict_path, loo_errors):
        expected = kernel(factor, *precision.arrays(targets, ALPHAS))
        assert np.isfinite(expected).all()
        precision.close(kernel(factor, *precision.arrays(masked, ALPHAS)), expected)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_features_that_are_left_out_do_not_change_the_others(precision, rng, form):
    features, targets, weights = problem(rng, 7)
    kept = weights > 0
    moved = np.where(kept[:, None], features, 50.0)
    first, second = (
        predict(factor_of(form, precision, data, weights), *precision.arrays(targets, ALPHAS))
        for data in (features, moved)
    )
    precision.close(second[kept], first[kept], factor=50)
    assert np.abs(np.asarray(second - first)[~kept]).max() > 1


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_a_boolean_mask_is_a_mask_of_ones_and_zeros(double, rng, form):
    features, targets, weights = problem(rng, 7)
    predicted = [
        predict(factor_of(form, double, features, w), *double.arrays(targets, ALPHAS))
        for w in (weights, weights.astype(bool))
    ]
    double.close(predicted[1], predicted[0], factor=10)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_batched_over_folds_reuses_nothing_by_mistake(double, rng, same_when_batched, form):
    """One factor a fold, reused over layers: the folds differ in size, as types and tokens do."""
    features, targets, _ = problem(rng, N)  # as wide as long: both forms compile the same shapes
    masks = np.stack([np.arange(N) >= 3, np.arange(N) % 4 != 1, np.arange(N) < 9])

    def fold(features, weights, targets, alphas):
        kernel = ridge.factor_primal if form == "primal" else ridge.factor
        factor = kernel(features if form == "primal" else features @ features.T, weights)
        return (
            ridge.predict(factor, targets, alphas),
            ridge.predict_path(factor, targets, alphas),
            ridge.loo_errors(factor, targets, alphas),
        )

    arguments = double.arrays(features, masks, targets, ALPHAS)
    same_when_batched(fold, *arguments, in_axes=(None, 0, None, None), factor=50)


def test_one_factor_serves_all_layers(double, rng, same_when_batched):
    features, _, weights = problem(rng, 7)
    layers = double.array(rng.normal(size=(3, N, T)))
    factor = factor_of("dual", double, features, weights)
    alpha = double.array(2.0)
    same_when_batched(
        lambda targets: ridge.predict(factor, targets, alpha), layers, in_axes=(0,), factor=20
    )


ERRORS = np.array([[3.0, 1.0, 5.0], [2.0, 4.0, 1.0], [9.0, 2.0, 2.0]])


def test_select_alpha_takes_the_smallest_error(double):
    errors = double.array(ERRORS)
    np.testing.assert_array_equal(ridge.select_alpha(errors, shared=False), [1, 0, 1])
    shared = ridge.select_alpha(errors, shared=True)
    assert np.shape(shared) == () and int(shared) == 1
    assert jnp.issubdtype(shared.dtype, jnp.integer)


def test_select_alpha_is_never_a_nan(double):
    errors = ERRORS.copy()
    errors[1] = np.nan
    np.testing.assert_array_equal(ridge.select_alpha(double.array(errors), shared=False), [0, 0, 2])
    assert int(ridge.select_alpha(double.array(errors), shared=True)) == 0
    errors = ERRORS.copy()
    errors[0, 1] = np.nan
    np.testing.assert_array_equal(ridge.select_alpha(double.array(errors), shared=False), [1, 2, 1])


@pytest.mark.parametrize("shared", [True, False])
def test_select_alpha_is_the_same_batched(double, rng, shared):
    errors = double.array(rng.normal(size=(4, 5, 3)))

    def select(errors):
        return ridge.select_alpha(errors, shared=shared)

    expected = np.stack([select(e) for e in errors])
    np.testing.assert_array_equal(jax.jit(jax.vmap(select))(errors), expected)


def test_the_chosen_alpha_is_the_one_with_the_best_refits(precision, rng):
    """From factor to index: the whole path of a nested selection, for targets that differ in noise."""
    features, targets, weights = problem(rng, 25)
    targets[:, 1] = 10 * rng.normal(size=N)
    factor = factor_of("dual", precision, features, weights)
    errors = loo_errors(factor, *precision.arrays(targets, ALPHAS))
    refits = oracles.ridge_loo_errors(features, targets, weights, ALPHAS)
    np.testing.assert_array_equal(ridge.select_alpha(errors, shared=False), refits.argmin(0))
    assert int(ridge.select_alpha(errors, shared=True)) == refits.mean(1).argmin()


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_float32_stays_float32(keeps_float32, rng, fit_intercept):
    features, targets, weights = problem(rng, 7)

    def outputs(features, weights, targets, alphas):
        for factor in (
            ridge.factor(features @ features.T, weights, fit_intercept=fit_intercept),
            ridge.factor_primal(features, weights, fit_intercept=fit_intercept),
        ):
            yield factor
            yield ridge.predict(factor, targets, alphas)
            yield ridge.predict(factor, targets, 2.0)
            yield ridge.predict_path(factor, targets, alphas)
            yield ridge.loo_errors(factor, targets, alphas)

    for mask in (weights, weights.astype(bool)):
        keeps_float32(lambda *args: tuple(outputs(*args)), features, mask, targets, ALPHAS)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_a_direction_far_above_the_others_leaves_them_what_they_say(rng, form):
    """Eigenvalues of 200 eps of the largest are known to a few per cent in float32: they are no rounding."""
    n, v = 600, 40
    features = rng.normal(size=(n, v))
    features[:, 0] *= np.sqrt(1 / (200 * np.finfo(np.float32).eps))
    targets = features[:, 1:] @ rng.normal(size=(v - 1, T)) + rng.normal(size=(n, T))
    features, alpha = np.float32(features), 30.0
    if form == "dual":
        factor = factor_dual(features @ features.T, np.ones(n, np.float32))
    else:
        factor = factor_primal(features, np.ones(n, np.float32))
    predicted = predict(factor, np.float32(targets), np.float32(alpha))
    want = Ridge(alpha).fit(features.astype(float), targets).predict(features.astype(float))
    np.testing.assert_allclose(predicted, want, atol=0.05 * np.abs(want).max())
