from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align import linalg, ridge
from brainalign_jax.align.ridge import banded_descent, banded_ridge, banded_search, filters
from brainalign_jax.align.stats import scoring

WIDTHS, N, T, F = (3, 30, 4), 18, 5, 3
ALPHAS = np.logspace(-2, 4, 6)
GAMMAS = np.array([[1, 1, 1], [8, 1, 1], [1, 10, 1], [0, 0.4, 0.6], [0.9, 0, 0.1]])
GAMMAS = GAMMAS / GAMMAS.sum(1, keepdims=True)
SIZES = dict(n_train=14, n_test=7)
STATIC = ("n_train", "n_test", "fit_intercept", "score", "target_batch")
DESCENT = (*STATIC, "n_steps")
random_search = jax.jit(banded_search.random_search, static_argnames=(*STATIC, "tolerance"))
descend = jax.jit(banded_descent.descend, static_argnames=DESCENT)
descent = jax.jit(banded_descent.descent, static_argnames=DESCENT)
skeleton = jax.jit(filters.filter_skeleton)
predict = jax.jit(banded_ridge.predict)
predict_split = jax.jit(banded_ridge.predict_split)
split_r2 = jax.jit(banded_ridge.split_r2)
simplex_samples = jax.jit(
    banded_search.simplex_samples,
    static_argnames=("n_samples", "n_groups", "concentration", "dtype"),
)


def problem(rng, n=N, widths=WIDTHS):
    """Groups of features far from zero; targets that want different groups; folds of different sizes."""
    groups = [rng.normal(size=(n, d)) + 1 for d in widths]
    signal = [x @ rng.normal(size=(x.shape[1], T)) / np.sqrt(x.shape[1]) for x in groups]
    targets = sum(s * rng.uniform(0, 2, T) for s in signal) + rng.normal(size=(n, T)) + 2
    fold = np.r_[np.zeros(4), np.ones(5), np.full(7, 2), np.full(max(n - 16, 0), -1)][:n]
    test = np.stack([fold == k for k in range(F)]).astype(float)
    train = (fold >= 0) - test  # the last rows are in no fold
    return groups, targets, train, test


def gram(groups, others=None):
    return np.stack([x @ z.T for x, z in zip(groups, others or groups, strict=True)])


def scaled_ridge(groups, targets, new, gamma, alpha, *, fit_intercept=True):
    """Predictions for the new groups by ridge on the concatenated features, scaled: the definition."""
    z, z_new = (
        np.concatenate([x * np.sqrt(g) for x, g in zip(each, gamma, strict=True)], 1)
        for each in (groups, new)
    )
    z_mean, mean = (v.mean(0) if fit_intercept else np.zeros(v.shape[1]) for v in (z, targets))
    z, y = z - z_mean, targets - mean
    if alpha > 0:
        coef = np.linalg.solve(z.T @ z + alpha * np.eye(z.shape[1]), z.T @ y)
    else:
        coef = np.linalg.lstsq(z, y, rcond=1e-10)[0]
    return (z_new - z_mean) @ coef + mean


def oracle_errors(groups, targets, train, test, gamma, alphas, *, score="mse", **options):
    errors = np.zeros((len(alphas), targets.shape[1]))
    for a, alpha in enumerate(alphas):
        for fold_train, fold_test in zip(train > 0, test > 0, strict=True):
            kept, new = ([x[rows] for x in groups] for rows in (fold_train, fold_test))
            y = targets[fold_test]
            predicted = scaled_ridge(kept, targets[fold_train], new, gamma, alpha, **options)
            squared = ((y - predicted) ** 2).mean(0)
            errors[a] += (squared / y.var(0) if score == "r2" else squared) / len(train)
    return errors


def arrays(precision, groups, targets, train, test):
    return precision.arrays(gram(groups), targets, train, test)


@pytest.mark.parametrize("fit_intercept, score", [(True, "mse"), (False, "r2")])
def test_search_finds_what_explicit_scaling_finds(precision, rng, fit_intercept, score):
    groups, targets, train, test = data = problem(rng)
    options = dict(fit_intercept=fit_intercept, score=score)
    fitted = random_search(
        *arrays(precision, *data), *precision.arrays(GAMMAS, ALPHAS), **SIZES, **options
    )
    errors = np.stack([oracle_errors(*data, g, ALPHAS, **options) for g in GAMMAS])
    precision.close(fitted.errors, errors.min((0, 1)), factor=50)
    best = [np.unravel_index(errors[..., t].argmin(), errors.shape[:2]) for t in range(T)]
    assert len(set(best)) > 1
    precision.close(fitted.gammas, GAMMAS[[s for s, _ in best]].T)
    precision.close(fitted.alphas, ALPHAS[[a for _, a in best]])

    new = [rng.normal(size=(4, d)) for d in WIDTHS]
    rows = (train + test).any(0)
    kept = [x[rows] for x in groups]
    expected = np.stack(
        [
            scaled_ridge(
                kept, targets[rows], new, GAMMAS[s], ALPHAS[a], fit_intercept=fit_intercept
            )[:, t]
            for t, (s, a) in enumerate(best)
        ],
        axis=1,
    )
    cross = precision.array(gram(new, groups))
    precision.close(predict(fitted, cross), expected, factor=50)
    split = predict_split(fitted, cross)
    precision.close(split.sum(0) + fitted.means, expected, factor=50)
    assert not np.asarray(fitted.dual_coef)[~rows].any()
    with np.errstate(divide="ignore"):
        deltas = np.log(np.asarray(fitted.gammas) / np.asarray(fitted.alphas))
    np.testing.assert_allclose(fitted.log_deltas, deltas, rtol=1e-5)


@pytest.mark.parametrize("tolerance, target_batch", [(0.0, 2), (1e-7, 9)])
def test_batches_padding_and_tolerance_change_nothing(double, rng, tolerance, target_batch):
    data = (*arrays(double, *problem(rng)), *double.arrays(GAMMAS, ALPHAS))
    expected = random_search(*data, **SIZES)
    other = random_search(*data, tolerance=tolerance, target_batch=target_batch)
    factor = 10 + 200 * tolerance / double.tolerance
    jax.tree.map(lambda o, e: double.close(o, e, factor=factor), other, expected)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_a_few_alphas_stand_for_all(precision, rng, tolerance):
    eigenvalues = np.r_[0, np.logspace(-2, 2, 40)]
    alphas = np.r_[0, np.logspace(-8, 6, 20)]
    order, mixing, rank = skeleton(*precision.arrays(eigenvalues, alphas), tolerance)
    with np.errstate(invalid="ignore"):
        gains = np.nan_to_num(eigenvalues / (eigenvalues + alphas[:, None]))
    assert 1 < int(rank) < 16
    combined = np.asarray(mixing, float) @ gains[np.asarray(order)]
    assert np.abs(combined - gains).max() <= tolerance + 10 * precision.tolerance
    assert not np.asarray(mixing)[:, int(rank) :].any()
    chosen = np.asarray(order)[: int(rank)]
    np.testing.assert_allclose(np.asarray(mixing)[chosen, : int(rank)], np.eye(len(chosen)))


def test_one_group_is_ridge(precision, rng):
    groups, targets, train, test = problem(rng, widths=(12,))
    grams, y, *masks = arrays(precision, groups, targets, train, test)
    alphas = precision.array(ALPHAS)
    fitted = random_search(grams, y, *masks, precision.array([[1.0]]), alphas, **SIZES)

    @jax.jit
    def path_errors(fold_train, fold_test):
        path = ridge.predict_path(ridge.factor(grams[0], fold_train), y, alphas)
        return jnp.stack([linalg.weighted_mean((y - p) ** 2, fold_test) for p in path])

    errors = np.mean([path_errors(*fold) for fold in zip(*masks, strict=True)], axis=0)
    chosen = alphas[ridge.select_alpha(jnp.asarray(errors), shared=False)]
    precision.close(fitted.alphas, chosen)
    precision.close(fitted.errors, errors.min(axis=0), factor=50)
    rows = banded_search.fitted_rows(*masks, precision.dtype)
    expected = jax.jit(lambda: ridge.predict(ridge.factor(grams[0], rows), y, chosen))()
    precision.close(predict(fitted, grams), expected, factor=50)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_agrees_with_himalaya(double, rng, fit_intercept):
    """Same gammas, alphas and folds: same scales, scores, predictions and split scores."""
    himalaya = pytest.importorskip("himalaya.kernel_ridge")
    from himalaya.backend import set_backend
    from himalaya.scoring import r2_score_split

    set_backend("numpy")
    groups, targets, _, _ = problem(rng, 15)
    if not fit_intercept:
        groups = [x - x.mean(0) for x in groups]
        targets = targets - targets.mean(0)
    fold = np.arange(15) // 5
    test = np.stack([fold == k for k in range(3)]).astype(float)
    grams = gram(groups)
    # himalaya forbids the alphas that rounding would spoil; positive weights keep its log finite
    gammas = GAMMAS[:3]
    searched = himalaya.solve_multiple_kernel_ridge_random_search(
        grams,
        targets,
        n_iter=gammas,
        alphas=ALPHAS,
        cv=3,
        fit_intercept=fit_intercept,
        return_weights="dual",
        progress_bar=False,
    )
    deltas, dual, scores = searched[:3]
    fitted = random_search(
        *double.arrays(grams, targets, 1 - test, test, gammas, ALPHAS),
        fit_intercept=fit_intercept,
    )
    double.close(fitted.log_deltas, deltas)
    np.testing.assert_allclose(-fitted.errors, scores.max(0), rtol=1e-6)
    cross = gram([rng.normal(size=(6, d)) for d in WIDTHS], groups)
    split = himalaya.predict_weighted_kernel_ridge(cross, dual, deltas, split=True)
    theirs = split.sum(0) + (searched[3] if fit_intercept else 0)
    double.close(predict(fitted, double.array(cross)), theirs, factor=100)
    if not fit_intercept:
        ours = predict_split(fitted, double.array(cross))
        double.close(ours, split, factor=100)
        y = rng.normal(size=(6, T))
        y -= y.mean(0)
        double.close(split_r2(double.array(y), ours), r2_score_split(y, split), factor=100)


def test_shares_of_r2_sum_to_r2(precision, rng):
    y, split = rng.normal(size=(9, T)) + 3, rng.normal(size=(3, 9, T))
    y[:, 1] = 4
    weights = precision.array(np.arange(9) < 7)
    shares = split_r2(*precision.arrays(y, split), weights)
    centred = precision.array(y - y[:7].mean(0))
    expected = scoring.r2(centred, precision.array(split.sum(0)), weights)
    precision.close(shares.sum(0), expected, factor=10)
    assert not np.asarray(shares)[:, 1].any()


def planted(rng, n):
    """Targets from the first of two groups; the second is wide and only noise to them."""
    groups = [rng.normal(size=(n, 8)), rng.normal(size=(n, 60))]
    targets = groups[0] @ np.random.default_rng(1).normal(size=(8, T)) + rng.normal(size=(n, T))
    fold = np.arange(n) % 4
    test = np.stack([fold == k for k in range(4)]).astype(float)
    return groups, targets, 1 - test, test


def test_the_relevant_group_gets_the_scale_and_held_out_words_profit(double, rng):
    groups, targets, train, test = planted(rng, 40)
    new, answers, _, _ = planted(rng, 60)
    data = arrays(double, groups, targets, train, test)
    cross = double.array(gram(new, groups))
    key = jax.random.key(0)
    gammas = simplex_samples(key, n_samples=12, n_groups=2, dtype=double.dtype)
    alphas = double.array(ALPHAS)
    banded = random_search(*data, gammas, alphas)
    plain = random_search(*data, gammas[:1], alphas)
    assert (banded.gammas[0] > 10 * banded.gammas[1]).all()
    r2 = [scoring.r2(double.array(answers), predict(m, cross)) for m in (banded, plain)]
    assert (r2[0] > r2[1] + 0.1).all()
    shares = split_r2(double.array(answers), predict_split(banded, cross))
    assert (shares[0] > 0.5).all() and (jnp.abs(shares[1]) < 0.1).all()

    # from equal scales, the descent finds the same without having been shown a candidate
    moved = descent(*data, plain, n_steps=40, learning_rate=0.5)
    assert (moved.errors < plain.errors).all()
    assert (moved.log_deltas[0] > moved.log_deltas[1] + np.log(10)).all()
    better = scoring.r2(double.array(answers), predict(moved, cross))
    assert (better > r2[1] + 0.1).all()


@pytest.mark.parametrize("score", ["mse", "r2"])
def test_descent_reports_the_error_of_its_scales_and_is_never_worse(double, rng, score):
    groups, targets, train, test = data = problem(rng)
    start = random_search(
        *arrays(double, *data), *double.arrays(GAMMAS, ALPHAS), score=score, **SIZES
    )
    moved = descent(
        *arrays(double, *data), start, n_steps=15, learning_rate=0.3, score=score, **SIZES
    )
    assert (moved.errors <= start.errors).all() and (moved.errors < start.errors).any()
    for t in range(T):
        gamma, alpha = np.asarray(moved.gammas)[:, t], float(moved.alphas[t])
        error = oracle_errors(groups, targets, train, test, gamma, [alpha], score=score)[0, t]
        np.testing.assert_allclose(moved.errors[t], error, rtol=1e-8)
    # steps that only do harm leave the start as it was, groups of scale zero included
    wild = descent(
        *arrays(double, *data), start, n_steps=15, learning_rate=1e3, score=score, **SIZES
    )
    kept = np.asarray(wild.errors == start.errors)
    assert kept.any() and np.isneginf(start.log_deltas).any()
    np.testing.assert_array_equal(wild.gammas[:, kept], start.gammas[:, kept])
    double.close(wild.dual_coef[:, kept], start.dual_coef[:, kept], factor=10)


def test_the_gradient_is_that_of_finite_differences(double, rng):
    groups, targets, train, test = problem(rng)
    grams, y, *masks = arrays(double, groups, targets, train, test)
    folds = banded_search.fold_rows(*masks, double.dtype, **SIZES)

    @jax.jit
    def error(log_delta):
        return banded_descent._cv_error(
            grams, y[:, 0], folds, log_delta, fit_intercept=True, score="mse"
        )

    at, step = double.array([0.5, -1.0, -3.0]), 1e-5
    gradient = jax.jit(jax.grad(error))(at)
    differences = [(error(at + step * e) - error(at - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6)


def test_descent_from_equal_scales_needs_no_error(double, rng):
    grams, y, *masks = arrays(double, *problem(rng))
    deltas, errors = descend(grams, y, *masks, jnp.zeros_like(y[:3]), n_steps=1, **SIZES)
    np.testing.assert_array_equal(deltas, 0)
    expected = random_search(
        grams, y, *masks, *double.arrays([[1 / 3] * 3], [1 / 3]), **SIZES
    ).errors
    double.close(errors, expected)
    assert (descend(grams, y, *masks, deltas, n_steps=9, **SIZES)[1] < errors).any()


def test_alpha_zero_is_least_squares_of_minimum_norm(double, rng):
    groups, targets, train, test = data = problem(rng)
    grams, y, *masks = arrays(double, *data)
    rows = (train + test).any(0)
    fitted = random_search(grams, y, *masks, *double.arrays(GAMMAS[:1], [0.0]), **SIZES)
    kept = [x[rows] for x in groups]
    new = [rng.normal(size=(4, d)) for d in WIDTHS]
    expected = scaled_ridge(kept, targets[rows], new, GAMMAS[0], 0.0)
    predicted = predict(fitted, double.array(gram(new, groups)))
    double.close(predicted, expected, factor=500)
    errors = oracle_errors(*data, GAMMAS[0], [0.0])[0]
    double.close(fitted.errors, errors, factor=500)
    assert np.isposinf(fitted.log_deltas).all()
    moved = descent(grams, y, *masks, fitted, n_steps=15, learning_rate=1.0, score="mse", **SIZES)
    assert (moved.errors <= fitted.errors).all() and np.isfinite(moved.dual_coef).all()


def test_degenerate_data(double, rng):
    """A group of zeros, a group twice, a zero voxel, repeated words and a constant target."""
    groups, targets, train, test = problem(rng)
    groups[2] = np.zeros((N, 4))
    groups[1] = groups[0].copy()
    for x in groups:
        x[5] = x[4]
    groups[0][:, 1] = groups[1][:, 1] = 0
    targets[:, 3] = 7
    data = groups, targets, train, test
    gammas = np.r_[GAMMAS[:4], [[0, 0, 1]]]
    fitted = random_search(*arrays(double, *data), *double.arrays(gammas, ALPHAS), **SIZES)
    errors = np.stack([oracle_errors(*data, g, ALPHAS) for g in gammas]).min((0, 1))
    double.close(fitted.errors, errors, factor=100)
    grams = double.array(gram(groups))
    split = predict_split(fitted, grams)
    assert not np.asarray(split[2]).any()
    predicted = predict(fitted, grams)
    double.close(predicted[:, 3], np.full(N, 7.0), factor=10)
    moved = descent(
        *arrays(double, *data), fitted, n_steps=15, learning_rate=0.3, score="mse", **SIZES
    )
    assert np.isfinite(moved.dual_coef).all() and (moved.errors <= fitted.errors).all()


def test_two_words(precision):
    """Each fold trains on one word: it predicts that word's target, whatever the scales."""
    x, y = np.array([[1.0], [3.0]]), np.array([[1.0], [5.0]])
    grams = precision.array(gram([x, 2 * x]))
    train, test = precision.arrays(np.eye(2), np.eye(2)[::-1])
    fitted = random_search(
        grams, precision.array(y), train, test, *precision.arrays([[0.5, 0.5]], [0.0, 1.0])
    )
    precision.close(fitted.errors, [16.0])
    assert float(fitted.alphas[0]) == 0  # the first at a tie
    precision.close(predict(fitted, grams), y)


def test_rows_in_no_fold_may_hold_anything(double, rng):
    groups, targets, train, test = data = problem(rng)
    hidden = ~(train + test).any(0)
    assert hidden.any()
    spoilt = np.where(hidden[:, None], np.nan, targets)
    options = (*double.arrays(GAMMAS, ALPHAS),)
    expected = random_search(*arrays(double, *data), *options, **SIZES)
    for sizes in (SIZES, {}):
        fitted = random_search(*arrays(double, groups, spoilt, train, test), *options, **sizes)
        jax.tree.map(lambda a, e: double.close(a, e, factor=10), fitted, expected)
    moved = descent(
        *arrays(double, groups, spoilt, train, test),
        expected,
        n_steps=15,
        learning_rate=0.3,
        score="mse",
        **SIZES,
    )
    assert np.isfinite(moved.errors).all() and (moved.errors < expected.errors).any()


def test_batched_over_subjects(double, rng, same_when_batched):
    grams, targets, *masks = (np.stack(x) for x in zip(*(
        (gram(g), y, a, b) for g, y, a, b in (problem(rng) for _ in range(2))
    ), strict=True))  # fmt: skip
    gammas, alphas = double.arrays(GAMMAS[:2], ALPHAS[:3])

    def kernel(grams, targets, train, test):
        options = dict(target_batch=2, tolerance=1e-12, **SIZES)
        fitted = banded_search.random_search(grams, targets, train, test, gammas, alphas, **options)
        deltas = banded_descent.descend(
            grams, targets, train, test, fitted.log_deltas, fitted.errors, n_steps=2, **SIZES
        )
        return fitted, deltas[1]

    data = double.arrays(grams, targets, *masks)
    same_when_batched(kernel, *data, in_axes=(0, 0, 0, 0), factor=20)


def test_float32_stays_float32(keeps_float32, rng):
    groups, targets, train, test = problem(rng)

    def outputs(grams, targets, train, test, gammas, alphas):
        fitted = banded_search.random_search(
            grams, targets, train, test, gammas, alphas, tolerance=1e-6
        )
        moved = banded_descent.descent(grams, targets, train, test, fitted, n_steps=2)
        split = banded_ridge.predict_split(moved, grams)
        samples = banded_search.simplex_samples(jax.random.key(0), n_samples=3, n_groups=2)
        return fitted, moved, split, banded_ridge.split_r2(targets, split), samples

    keeps_float32(outputs, gram(groups), targets, train, test, GAMMAS, ALPHAS)


def test_samples_lie_on_the_simplex_and_repeat(precision):
    options = dict(n_samples=200, n_groups=3, dtype=precision.dtype)
    gammas = simplex_samples(jax.random.key(3), **options)
    precision.close(gammas.sum(1), np.ones(200))
    precision.close(gammas[0], np.full(3, 1 / 3))
    assert (gammas >= 0).all()
    np.testing.assert_array_equal(gammas, simplex_samples(jax.random.key(3), **options))
    # concentrations in turn: 0.1 near the corners, 1 all over
    largest = np.asarray(gammas.max(1))
    assert np.median(largest[2::2]) > 0.9 > np.median(largest[1::2])
    np.testing.assert_allclose(gammas[1::2].mean(0), 1 / 3, atol=0.1)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(grams=np.ones((3, 4, 5))), r"grams \(3, 4, 5\) must be \[groups, 4, 4\]"),
        (dict(test=np.ones((2, 5))), r"train \(2, 4\) and test \(2, 5\)"),
        (dict(gammas=np.ones((2, 2))), r"gammas \(2, 2\) must be \[candidates, 3\]"),
        (dict(score="r"), "score='r'"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, message):
    given = dict(
        grams=np.ones((3, 4, 4)),
        targets=np.ones((4, 1)),
        train=np.ones((2, 4)),
        test=np.ones((2, 4)),
        gammas=np.ones((2, 3)),
        alphas=np.ones(2),
    )
    with pytest.raises(ValueError, match=message):
        banded_search.search(**given | change)


def test_no_step_is_an_error():
    ones = np.ones((2, 4))
    with pytest.raises(ValueError, match="n_steps=0"):
        banded_descent.descend(
            np.ones((3, 4, 4)), np.ones((4, 1)), ones, ones, np.ones((3, 1)), n_steps=0
        )


def test_shares_of_a_correlation_are_himalayas(double, rng):
    """And sum to Pearson's r of the groups' sum."""
    y, split = rng.normal(size=(9, T)) + 3, rng.normal(size=(3, 9, T)) + 1
    shares = banded_ridge.split_correlation(*double.arrays(y, split))
    expected = [np.corrcoef(y[:, t], split.sum(0)[:, t])[0, 1] for t in range(T)]
    double.close(shares.sum(0), expected, factor=10)
    with_weights = banded_ridge.split_correlation(
        *double.arrays(np.vstack([y, y * 9]), np.concatenate([split, split**2], axis=1)),
        double.array(np.arange(18) < 9),
    )
    double.close(with_weights, shares, factor=10)
    constant = banded_ridge.split_correlation(double.array(y * 0 + 4), double.array(split))
    assert not np.asarray(constant).any()
    scoring = pytest.importorskip("himalaya.scoring")
    double.close(shares, scoring.correlation_score_split(y, split), factor=10)
