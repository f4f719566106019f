from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align.ridge import filters, ridge_cv, ridge_folds

N, T = 18, 21
ALPHAS = np.logspace(-1, 3, 7)
factor = jax.jit(ridge_folds.factor, static_argnames="fit_intercept")
factor_primal = jax.jit(ridge_folds.factor_primal, static_argnames="fit_intercept")
factor_folds = jax.jit(ridge_folds.factor_folds, static_argnames="fit_intercept")
factor_folds_primal = jax.jit(ridge_folds.factor_folds_primal)
cross_validate = jax.jit(ridge_cv.cross_validate, static_argnames=("tile", "shared"))


def loop(features, targets, train, test, alphas, *, weights=None, fit_intercept=True):
    """(errors [A, T], coefficients of every alpha [A, V, T], target mean [T]): one fold and alpha after
    the other, rows dropped, in float64. Alpha 0 is the pseudo-inverse."""
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)

    def fit_rows(rows, alpha):
        mx = features[rows].mean(axis=0) * fit_intercept
        my = targets[rows].mean(axis=0) * fit_intercept
        x, y = features[rows] - mx, targets[rows] - my
        if alpha == 0:
            coefficients = np.linalg.pinv(x, rcond=1e-6) @ y
        else:
            stacked = np.vstack([x, np.sqrt(alpha) * np.eye(x.shape[1])])
            padded = np.vstack([y, np.zeros((x.shape[1], y.shape[1]))])
            coefficients = np.linalg.lstsq(stacked, padded, rcond=None)[0]
        return coefficients, mx, my

    errors = np.zeros((len(alphas), targets.shape[1]))
    for a, alpha in enumerate(alphas):
        for inside, outside in zip(train, test, strict=True):
            coefficients, mx, my = fit_rows(np.flatnonzero(inside), alpha)
            for row in np.flatnonzero(outside):
                predicted = my + (features[row] - mx) @ coefficients
                errors[a] += (targets[row] - predicted) ** 2 / outside.sum() / len(train)
    kept = np.flatnonzero(np.ones(len(features)) if weights is None else weights)
    fits = [fit_rows(kept, alpha) for alpha in alphas]
    return errors, np.stack([f[0] for f in fits]), fits[0][2]


def ties(errors, index, *, within=1e-5):
    """Whether the alphas chosen are the best in float64, or as good to 1e-5."""
    best = errors.min(axis=0)
    return errors[index, np.arange(errors.shape[1])] <= best * (1 + within)


def problem(rng, v, n=N, t=T):
    """Targets from signal to noise, so that they want different alphas; means far from zero."""
    features = rng.normal(size=(n, v)) + 2
    noise = np.linspace(0.1, 4, t)
    targets = features @ rng.normal(size=(v, t)) / np.sqrt(v) + noise * rng.normal(size=(n, t)) - 3
    return features, targets


def folds(kind, n=N):
    """Masks of training and test rows [F, n]."""
    test = np.arange(n) % 3 == np.arange(3)[:, None]
    if kind == "unequal":
        test = np.stack([np.arange(n) < 4, np.arange(n) >= n - 7])
    train = ~test
    if kind == "purged":  # a row on either side of each block is in neither set
        block = np.arange(n) * 4 // n
        test = block == np.arange(4)[:, None]
        near = np.abs(np.arange(n)[:, None] - np.arange(n)) <= 1
        train = ~(test @ near)
    return train, test


def fit(precision, path, features, targets, train, test, alphas, **options):
    """path: "primal", "dual" (a factor a fold) or "dual from one factor"."""
    weights = options.pop("weights", np.ones(len(features)))
    intercept = {"fit_intercept": options.pop("fit_intercept", True)}
    tolerance = options.pop("tolerance", 1e-10)
    rows = ridge_folds.fold_rows(train, test, weights)
    if path == "primal":
        full = factor_primal(*precision.arrays(features, weights), **intercept)
        folds = factor_folds_primal(full, rows)
    else:
        gram = precision.array(features @ features.T)
        full = factor(gram, precision.array(weights), **intercept)
        folds = None
        if path == "dual":
            folds = factor_folds(gram, rows, **intercept)
    span = ridge_folds.span_alphas(full, folds, alphas, tolerance=tolerance)
    return cross_validate(full, folds, rows, *precision.arrays(targets, alphas), span, **options)


def check(precision, path, features, fitted, expected, *, shared=False, factor=200):
    """Errors, choice and refit against the loop's."""
    errors, coefficients, mean = expected
    precision.close(fitted.errors, errors, factor=factor)
    index = np.asarray(fitted.index)
    if shared:
        assert ties(errors.mean(axis=1, keepdims=True), index[None]).all()
        index = np.broadcast_to(index, errors.shape[1])
    else:
        assert ties(errors, index).all()
    refit = coefficients[index, :, np.arange(errors.shape[1])].T
    weights = np.asarray(fitted.weights, np.float64)
    if path != "primal":
        centred = features - features.mean(axis=0)
        np.testing.assert_allclose(
            centred @ (centred.T @ weights), centred @ refit, atol=factor * precision.tolerance
        )
    else:
        np.testing.assert_allclose(weights, refit, atol=factor * precision.tolerance)
    precision.close(fitted.target_mean, mean)


PATHS = ["primal", "dual", "dual from one factor"]
HARD = ["primal", "dual"]  # what a singular Gram matrix and alpha zero ask for


@pytest.mark.parametrize("path", PATHS)
def test_is_a_loop_over_folds_and_alphas(precision, rng, path):
    features, targets = problem(rng, 7)
    train, test = folds("equal")
    fitted = fit(precision, path, features, targets, train, test, ALPHAS, tile=16)
    assert len(np.unique(fitted.index)) > 2
    check(precision, path, features, fitted, loop(features, targets, train, test, ALPHAS))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["unequal", "purged"])
def test_folds_of_any_size_with_rows_in_neither_set(double, rng, path, kind):
    features, targets = problem(rng, 7)
    train, test = folds(kind)
    fitted = fit(double, path, features, targets, train, test, ALPHAS, tile=16)
    check(double, path, features, fitted, loop(features, targets, train, test, ALPHAS))


@pytest.mark.parametrize("path", PATHS)
def test_without_an_intercept(double, rng, path):
    features, targets = problem(rng, 7)
    train, test = folds("equal")
    fitted = fit(double, path, features, targets, train, test, ALPHAS, fit_intercept=False, tile=16)
    errors, coefficients, mean = loop(features, targets, train, test, ALPHAS, fit_intercept=False)
    double.close(fitted.errors, errors, factor=200)
    assert not fitted.target_mean.any()
    refit = coefficients[np.asarray(fitted.index), :, np.arange(T)].T
    weights = np.asarray(fitted.weights)
    double.close(weights if path == "primal" else features.T @ weights, refit, factor=200)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("t", [T, 3], ids=["many targets", "few targets"])
def test_one_alpha_for_all_targets(double, rng, path, t):
    """Few targets: the refit forms no operator."""
    features, targets = problem(rng, 7, t=t)
    train, test = folds("equal")
    fitted = fit(double, path, features, targets, train, test, ALPHAS, shared=True)
    expected = loop(features, targets, train, test, ALPHAS)
    check(double, path, features, fitted, expected, shared=True)


@pytest.mark.parametrize("path", PATHS)
def test_tiles_change_nothing(double, rng, path):
    """More targets than one fold's predictions, so that operators are formed; tiles that overlap."""
    features, targets = problem(rng, 7, t=150)
    train, test = folds("equal")
    alphas = np.array([0.1, 10.0, 1e3])
    whole = fit(double, path, features, targets, train, test, alphas)
    check(double, path, features, whole, loop(features, targets, train, test, alphas))
    tiled = fit(double, path, features, targets, train, test, alphas, tile=64)
    np.testing.assert_array_equal(tiled.index, whole.index)
    double.close(tiled.errors, whole.errors)
    double.close(tiled.weights, whole.weights)


def test_primal_is_dual(double, rng):
    features, targets = problem(rng, 7)
    train, test = folds("purged")
    by_path = [fit(double, path, features, targets, train, test, ALPHAS, tile=16) for path in PATHS]
    coefficients = [by_path[0].weights] + [
        (features - features.mean(axis=0)).T @ np.asarray(dual.weights) for dual in by_path[1:]
    ]
    for other, weights in zip(by_path[1:], coefficients[1:], strict=True):
        np.testing.assert_array_equal(other.index, by_path[0].index)
        double.close(other.errors, by_path[0].errors, factor=10)
        double.close(weights, coefficients[0], factor=10)


@pytest.mark.parametrize("path", PATHS)
def test_rows_that_are_left_out_do_not_matter(double, rng, path):
    """The rows of an outer test set: in no list of the inner folds, whatever targets they hold."""
    features, targets = problem(rng, 7)
    train, test = folds("equal")
    weights = np.ones(N)
    weights[[0, 7, 11, 17]] = 0
    kept = weights > 0
    masked = np.where(kept[:, None], targets, np.nan)
    fitted = fit(double, path, features, masked, train, test, ALPHAS, weights=weights, tile=16)
    rows = (features[kept], targets[kept], train[:, kept], test[:, kept])
    expected = loop(*rows, ALPHAS)
    double.close(fitted.errors, expected[0], factor=200)
    double.close(fitted.target_mean, expected[2])
    refit = expected[1][np.asarray(fitted.index), :, np.arange(T)].T
    coefficients = np.asarray(fitted.weights)
    if path != "primal":
        assert not coefficients[~kept].any()
        coefficients = (features[kept] - features[kept].mean(axis=0)).T @ coefficients[kept]
    double.close(coefficients, refit, factor=200)


@pytest.mark.parametrize("path", HARD)
def test_repeated_words_a_dead_voxel_and_alpha_zero(precision, rng, path):
    """A singular Gram matrix, of every fold and of all rows: alpha 0 is the solution of minimum norm."""
    features, targets = problem(rng, 6)
    features[[3, 9, 11]] = features[2]
    features[:, 1] = 0
    features[:, 4] = 5
    targets[:, :5] = features @ rng.normal(size=(6, 5))
    train, test = folds("equal")
    alphas = np.array([0.0, 1e-2, 1.0, 1e2])
    fitted = fit(precision, path, features, targets, train, test, alphas, tile=16)
    check(precision, path, features, fitted, loop(features, targets, train, test, alphas))
    assert not np.asarray(fitted.index)[:5].any()
    # four features vary: what is left out of the other directions is told
    np.testing.assert_array_equal(fitted.rank, 4)
    assert (np.asarray(fitted.floor) > 0).all()


def test_more_voxels_than_words(precision, rng):
    """Alpha 0 then fits all training rows; their Gram matrix is regular, so that one factor will do."""
    features, targets = problem(rng, 60)
    train, test = folds("equal")
    alphas = np.r_[0.0, ALPHAS]
    full = factor(*precision.arrays(features @ features.T, np.ones(N)))
    assert ridge_folds.folds_follow(full, alphas)
    fitted = fit(precision, PATHS[2], features, targets, train, test, alphas, tile=16)
    check(precision, PATHS[2], features, fitted, loop(features, targets, train, test, alphas))
    np.testing.assert_array_equal(fitted.rank, N - 1)


def test_when_one_factor_will_not_do(precision, rng):
    features, _ = problem(rng, 7)
    ones = precision.array(np.ones(N))
    full = factor(precision.array(features @ features.T), ones)
    assert not ridge_folds.folds_follow(full, np.array([0.0, 1.0]))
    assert ridge_folds.folds_follow(full, np.array([1.0, 2.0]))
    primal = factor_primal(precision.array(features), ones)
    assert not ridge_folds.folds_follow(primal, np.array([1.0, 2.0]))


@pytest.mark.parametrize("path", PATHS)
def test_two_words(double, path):
    """Each word predicted from the mean of the other: all alphas alike, the first is taken."""
    features, targets = np.array([[1.0, 2.0, 0.0], [3.0, -1.0, 0.0]]), np.array([[2.0], [-1.0]])
    train = np.eye(2)
    fitted = fit(double, path, features, targets, train, 1 - train, np.array([1.0, 10.0]))
    double.close(fitted.errors, [[9.0], [9.0]])
    np.testing.assert_array_equal(fitted.index, [0])
    refit = loop(features, targets, train, 1 - train, np.array([1.0]))[1][0]
    weights = np.asarray(fitted.weights)
    centred = features - features.mean(axis=0)
    double.close(weights if path == "primal" else centred.T @ weights, refit, factor=10)


@pytest.mark.parametrize("n", [N, 515])
def test_the_gram_matrix_is_made_of_its_lower_half(precision, rng, n):
    features = rng.normal(size=(n, 3))
    gram = jax.jit(ridge_folds.gram)(precision.array(features))
    precision.close(gram, features @ features.T)
    np.testing.assert_array_equal(gram, np.asarray(gram).T)


def test_lists_are_of_the_rows_of_the_masks():
    train, test = folds("unequal")
    weights = np.ones(N)
    weights[5] = 0
    rows = ridge_folds.fold_rows(train, test, weights)
    assert rows.train.shape == (2, 13)
    for fold in range(2):
        for got, mask, expected in (
            (rows.train, rows.train_mask, train[fold]),
            (rows.test, rows.test_mask, test[fold]),
            (rows.left_out, rows.left_out_mask, ~train[fold]),
        ):
            kept = np.flatnonzero(expected & (weights > 0))
            np.testing.assert_array_equal(got[fold][mask[fold] > 0], kept)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.ones((2, 5)), np.ones((2, 4)), r"\(2, 5\) and test rows \(2, 4\) differ"),
        (np.array([[1, 1, 0], [0, 0, 0]]), np.eye(3)[:2], "fold 1 has 0 training and 1 test"),
        (np.eye(3)[:1], np.zeros((1, 3)), "fold 0 has 1 training and 0 test rows of 3"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no fold"),
    ],
)
def test_bad_folds_are_named(train, test, message):
    with pytest.raises(ValueError, match=message):
        ridge_folds.fold_rows(train, test)


def test_float32_stays_float32(keeps_float32, rng):
    features, targets = problem(rng, 7)
    rows = ridge_folds.fold_rows(*folds("equal"))
    span = ([0, 4, 6], rng.normal(size=(7, 3)))

    def outputs(features, targets, weights, alphas):
        gram = features @ features.T
        full, primal = (
            ridge_folds.factor(gram, weights),
            ridge_folds.factor_primal(features, weights),
        )
        for of_all, folds in (
            (full, None),
            (full, ridge_folds.factor_folds(gram, rows)),
            (primal, ridge_folds.factor_folds_primal(primal, rows)),
        ):
            spanning = filters.SpanningAlphas(jnp.asarray(span[0], jnp.int32), span[1])
            yield ridge_cv.cross_validate(of_all, folds, rows, targets, alphas, spanning)

    keeps_float32(lambda *args: tuple(outputs(*args)), features, targets, np.ones(N), ALPHAS)


def test_batched_over_layers(double, rng):
    features, _ = problem(rng, 7)
    layers = double.array(rng.normal(size=(2, N, 3)))
    rows = ridge_folds.fold_rows(*folds("equal"))
    full = factor(double.array(features @ features.T), double.array(np.ones(N)))
    alphas = np.array([1.0, 10.0, 100.0])
    span = ridge_folds.span_alphas(full, None, alphas)
    one_by_one = [cross_validate(full, None, rows, layer, alphas, span) for layer in layers]
    batched = jax.jit(
        jax.vmap(lambda y: ridge_cv.cross_validate(full, None, rows, y, alphas, span))
    )(layers)
    for field in ("index", "errors", "weights"):
        expected = np.stack([getattr(fitted, field) for fitted in one_by_one])
        np.testing.assert_allclose(getattr(batched, field), expected, atol=1e-10)
