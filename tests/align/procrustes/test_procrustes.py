"""Rotations are compared only where they are unique (a full-rank cross-covariance); elsewhere the tests
look at predictions inside the span of the training rows, at residuals, and at the partial isometry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import ortho_group

from brainalign_jax.align import procrustes
from brainalign_jax.align.procrustes import polar

N = 30

fit = jax.jit(procrustes.fit, static_argnames=("center", "algorithm"))
apply = jax.jit(procrustes.apply)


def isometry(rng, v, d):
    """A random [V, D] matrix with orthonormal rows (V <= D) or columns (V >= D)."""
    return ortho_group.rvs(max(v, d), random_state=rng)[:v, :d]


def mask_of(rng, n, left_out):
    weights = np.ones(n)
    weights[rng.permutation(n)[:left_out]] = 0
    return weights


def noisy_problem(rng, n, v, d, noise=0.5):
    source = rng.normal(size=(n, v)) + 2
    target = source @ isometry(rng, v, d) + noise * rng.normal(size=(n, d)) - 1
    return source, target


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("v,d", [(5, 5), (4, 7), (7, 4)])
def test_fit_equals_scipy_on_the_kept_rows(precision, rng, v, d, center):
    source, target = noisy_problem(rng, N, v, d)
    weights = mask_of(rng, N, 8)
    rotation, mx, my = oracles.procrustes(source, target, weights, center=center)
    fitted = fit(*precision.arrays(source, target, weights), center=center)
    precision.close(fitted.source_mean, mx)
    precision.close(fitted.target_mean, my)
    precision.close(fitted.rotation, rotation, factor=20)
    every_row = apply(fitted, precision.array(source))
    precision.close(every_row, (source - mx) @ rotation + my, factor=20)


@pytest.mark.parametrize("v,d", [(5, 5), (4, 7), (7, 4)])
def test_a_planted_rotation_predicts_rows_that_were_left_out(precision, rng, v, d):
    """Where V > D the planted map drops directions; sources inside its D-dimensional range are kept."""
    planted = isometry(rng, v, d)
    source = rng.normal(size=(N, d)) @ planted.T if v > d else rng.normal(size=(N, v))
    source_offset, target_offset = rng.normal(size=v), 5 * rng.normal(size=d)
    target = source @ planted + target_offset
    source = source + source_offset
    weights = mask_of(rng, N, 10)
    held_out = weights == 0
    corrupted = np.where(held_out[:, None], 100.0, target)  # the answer is not available
    fitted = fit(*precision.arrays(source, corrupted, weights), center=True)
    predicted = apply(fitted, precision.array(source))
    precision.close(predicted[held_out], target[held_out], factor=10)


@pytest.mark.parametrize("v,d", [(8, 8), (6, 11), (11, 6), (19, 18)])
def test_too_few_rows_give_the_same_fit_as_scipy_inside_the_span(precision, rng, v, d):
    n, weights = 9, mask_of(rng, 9, 4)  # five training rows: a cross-covariance of rank four
    source, target = noisy_problem(rng, n, v, d)
    rotation, mx, my = oracles.procrustes(source, target, weights)
    fitted = fit(*precision.arrays(source, target, weights))
    training = oracles.rows(source, weights)
    inside = mx + rng.normal(size=(7, len(training))) @ (training - mx)  # not training rows
    for points in (training, inside):
        predicted = apply(fitted, precision.array(points))
        precision.close(predicted, (points - mx) @ rotation + my, factor=50)
    ours, scipys = (
        oracles.procrustes_objective(source, target, weights, np.asarray(r, np.float64), mx, my)
        for r in (fitted.rotation, rotation)
    )
    assert ours == pytest.approx(scipys, rel=50 * precision.tolerance)


@pytest.mark.parametrize("v,d", [(8, 8), (6, 11), (11, 6), (19, 18)])
def test_null_directions_are_not_filled_in(precision, rng, v, d):
    """R is a partial isometry whose rank is that of the cross-covariance, so nothing is arbitrary."""
    weights = mask_of(rng, 9, 4)
    every_source, every_target = noisy_problem(rng, 9, v, d)
    fitted = fit(*precision.arrays(every_source, every_target, weights))
    source, target = oracles.rows(every_source, weights), oracles.rows(every_target, weights)
    rotation = np.asarray(fitted.rotation, np.float64)
    singular = np.linalg.svd(rotation, compute_uv=False)
    expected = np.r_[np.ones(4), np.zeros(min(v, d) - 4)]
    np.testing.assert_allclose(singular, expected, atol=20 * precision.tolerance)
    outside = rng.normal(size=v)
    basis = np.linalg.qr((source - source.mean(0)).T)[0][:, :4]
    outside = outside - basis @ (basis.T @ outside)
    moved = apply(fitted, precision.array(source.mean(0) + outside)[None])
    precision.close(moved, target.mean(0)[None], factor=50)


def test_low_rank_data_with_many_rows(precision, rng):
    """Rank comes from the data, not from the number of rows: repeated words, voxels that copy others."""
    latent = rng.normal(size=(N, 3))
    source = latent @ rng.normal(size=(3, 8))
    target = latent @ rng.normal(size=(3, 6))
    rotation, mx, my = oracles.procrustes(source, target, np.ones(N))
    fitted = fit(*precision.arrays(source, target, np.ones(N)))
    predicted = apply(fitted, precision.array(source))
    precision.close(predicted, (source - mx) @ rotation + my, factor=100)
    singular = np.linalg.svd(np.asarray(fitted.rotation, np.float64), compute_uv=False)
    np.testing.assert_allclose(singular, [1, 1, 1, 0, 0, 0], atol=50 * precision.tolerance)


def test_small_directions_above_numerical_rank_count(precision, rng):
    """A spectrum of 1 ... 1e-6 (1e-3 in float32) is full rank; an iteration must not stop short of it."""
    smallest = 1e-6 if precision.double else 1e-3
    d = 6
    left = np.linalg.qr(np.c_[np.ones(N), rng.normal(size=(N, d))])[0][:, 1:]
    source = left * np.geomspace(1, np.sqrt(smallest), d) @ ortho_group.rvs(d, random_state=rng)
    planted = ortho_group.rvs(d, random_state=rng)
    fitted = fit(*precision.arrays(source, source @ planted, np.ones(N)))
    precision.close(fitted.rotation, planted, factor=50)
    singular = np.linalg.svd(np.asarray(fitted.rotation, np.float64), compute_uv=False)
    np.testing.assert_allclose(singular, np.ones(d), atol=20 * precision.tolerance)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_rotation_does_not_depend_on_the_units(precision, rng, scale):
    source, target = noisy_problem(rng, N, 5, 5)
    first = fit(*precision.arrays(source, target, np.ones(N)))
    second = fit(*precision.arrays(scale * source, target / 7, np.ones(N)))
    precision.close(second.rotation, first.rotation, factor=50)


@pytest.mark.parametrize("v,d", [(5, 5), (4, 7)])
def test_the_objective_is_not_beaten_by_random_isometries(precision, rng, v, d):
    source, target = noisy_problem(rng, N, v, d, noise=2.0)
    weights = mask_of(rng, N, 8)
    fitted = fit(*precision.arrays(source, target, weights))
    mx, my = oracles.weighted_mean(source, weights), oracles.weighted_mean(target, weights)

    def objective(rotation):
        return oracles.procrustes_objective(source, target, weights, rotation, mx, my)

    rotation = np.asarray(fitted.rotation, np.float64)
    best, slack = objective(rotation), 1 + 10 * precision.tolerance
    for _ in range(100):
        assert best <= objective(isometry(rng, v, d)) * slack
        nearby = rotation @ np.linalg.qr(np.eye(d) + 0.01 * rng.normal(size=(d, d)))[0]
        assert best <= objective(nearby) * slack
        nearby = rotation @ ortho_group.rvs(d, random_state=rng)
        assert best <= objective(nearby) * slack


def test_a_wider_source_has_the_best_alignment_of_all_isometries(precision, rng):
    """For V > D, |XR| depends on R and the polar factor maximises tr(R^T X^T Y); equivalently it is the
    best isometric embedding of the target into the source: min |X - Y R^T|."""
    source, target = noisy_problem(rng, N, 7, 4, noise=2.0)
    fitted = fit(*precision.arrays(source, target, np.ones(N)))
    cross = (source - source.mean(0)).T @ (target - target.mean(0))
    best = np.sum(np.asarray(fitted.rotation, np.float64) * cross)
    assert best == pytest.approx(np.linalg.norm(cross, "nuc"), rel=10 * precision.tolerance)
    for _ in range(200):
        assert best >= np.sum(isometry(rng, 7, 4) * cross)


def test_rows_that_are_left_out_do_not_matter(precision, rng):
    source, target = noisy_problem(rng, N, 5, 6)
    weights = mask_of(rng, N, 8)
    left_out = weights[:, None] == 0
    first = fit(*precision.arrays(source, target, weights))
    second = fit(
        *precision.arrays(
            np.where(left_out, 1e3, source), np.where(left_out, -1e3, target), weights
        )
    )
    jax.tree.map(lambda a, b: precision.close(a, b, factor=5), second, first)


def test_a_boolean_mask_is_a_mask_of_ones_and_zeros(double, rng):
    source, target = noisy_problem(rng, N, 5, 5)
    weights = mask_of(rng, N, 8)
    first = fit(*double.arrays(source, target, weights))
    second = fit(*double.arrays(source, target), jnp.asarray(weights, bool))
    jax.tree.map(lambda a, b: double.close(a, b), second, first)


def test_an_integer_weight_is_that_many_copies_of_the_row(precision, rng):
    source, target = noisy_problem(rng, N, 4, 4)
    weights = rng.integers(0, 4, size=N)
    copies = np.repeat(np.arange(N), weights)
    fitted = fit(*precision.arrays(source, target, weights))
    rotation, mx, my = oracles.procrustes(source[copies], target[copies], np.ones(len(copies)))
    precision.close(fitted.source_mean, mx)
    precision.close(fitted.target_mean, my)
    precision.close(fitted.rotation, rotation, factor=20)


@pytest.mark.parametrize("kept", [[4], [2, 7]])
def test_degenerate_training_sets_predict_without_nan(precision, rng, kept):
    """One row carries no direction: every prediction is its target. Two rows carry one direction."""
    source, target = noisy_problem(rng, 9, 4, 5)
    weights = np.isin(np.arange(9), kept)
    fitted = fit(*precision.arrays(source, target, weights))
    predicted = np.asarray(procrustes.apply(fitted, precision.array(source)))
    my = target[kept].mean(0)
    if len(kept) == 1:
        expected = np.broadcast_to(my, predicted.shape)
    else:
        along_x, along_y = (z[kept[0]] - z[kept[1]] for z in (source, target))
        along_x, along_y = along_x / np.linalg.norm(along_x), along_y / np.linalg.norm(along_y)
        expected = np.outer((source - source[kept].mean(0)) @ along_x, along_y) + my
    np.testing.assert_allclose(predicted, expected, atol=100 * precision.tolerance)


def test_a_target_of_zeros_is_predicted_by_zeros(precision, rng):
    source = rng.normal(size=(N, 4))
    target = np.zeros((N, 3))  # no direction, so no rotation
    fitted = fit(*precision.arrays(source, target, np.ones(N)))
    precision.close(apply(fitted, precision.array(source)), target)


def test_batched_over_folds_and_over_layers(double, rng, same_when_batched):
    source, _ = noisy_problem(rng, N, 5, 6)
    targets = rng.normal(size=(3, N, 6))
    masks = np.stack([np.arange(N) % 3 != fold for fold in range(3)])

    def predict(source, target, weights):
        return procrustes.apply(procrustes.fit(source, target, weights), source)

    arrays = double.arrays
    same_when_batched(
        predict, *arrays(source, targets[0], masks), in_axes=(None, None, 0), factor=20
    )
    same_when_batched(
        predict, *arrays(source, targets, masks[0]), in_axes=(None, 0, None), factor=20
    )
    same_when_batched(
        procrustes.fit, *arrays(source, targets, masks), in_axes=(None, 0, 0), factor=20
    )


def test_batched_where_ranks_differ(double, rng, same_when_batched):
    """Folds of different rank in one batch: each keeps its own numerical rank."""
    source, target = noisy_problem(rng, 12, 6, 6)
    masks = np.stack([np.arange(12) < n for n in (3, 5, 12)])

    def predict(source, target, weights):
        return procrustes.apply(procrustes.fit(source, target, weights), source)

    same_when_batched(
        predict, *double.arrays(source, target, masks), in_axes=(None, None, 0), factor=50
    )


# --- rows that are not centred --------------------------------------------------------------------


@pytest.fixture(scope="module")
def unit_interval():
    """(source, target [600, 150], each column 0 to 1; rotation; ranks of the first 120 rows), in float64.

    The largest singular value is 2.6e7 times the least, the second 2.2e4 times.
    """
    rng = np.random.default_rng(2)
    source = rng.standard_normal((600, 150))
    turn = np.linalg.qr(rng.standard_normal((150, 150)))[0]
    target = 0.3 * source @ turn + rng.standard_normal((600, 150))
    source, target = oracles.minmax(source), oracles.minmax(target)
    rotation, _, _ = oracles.procrustes(source, target, np.ones(600), center=False)
    return source, target, rotation, ranks_of(source @ rotation, target)


def ranks_of(predicted, target):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted[:120], target)]
    return oracles.ranks(unit[0] @ unit[1].T, np.arange(120))


@pytest.mark.parametrize("algorithm", polar.ALGORITHMS)
def test_float32_keeps_what_the_mean_outshines(unit_interval, algorithm):
    source, target, rotation, expected = unit_interval
    single = [np.asarray(x, np.float32) for x in (source, target, np.ones(600))]
    fitted = fit(*single, center=False, algorithm=algorithm)
    fitted_rotation = np.asarray(fitted.rotation, np.float64)
    assert (np.linalg.svd(fitted_rotation, compute_uv=False) > 0.99).sum() == 150
    np.testing.assert_allclose(fitted_rotation, rotation, atol=1e-3)
    predicted = np.asarray(single[0] @ np.asarray(fitted.rotation))
    assert (ranks_of(predicted, single[1]) == expected).mean() >= 0.95


def test_folds_and_spans_in_float32_far_from_zero(rng):
    source, target, weights, masks = folds_problem(rng, 12, 14)
    source, target = source + 50, target + 50
    single = [np.asarray(x, np.float32) for x in (source, target)]
    folds = fit_folds(*single, HELD_OUT, IN_USE, np.asarray(weights, np.float32), center=False)
    rows = np.flatnonzero(masks[0])[:10]
    for x in (source, target):
        x[7] = 0
    for fold, mask in enumerate(masks):
        some = source[mask > 0]
        expected, _, _ = oracles.procrustes(source, target, mask, center=False)
        predicted = some @ np.asarray(folds.rotation[fold])
        np.testing.assert_allclose(predicted, some @ expected, atol=1e-3)
    spans = [procrustes.span(x, rows, np.ones(len(rows), np.float32), center=False) for x in single]
    of_spans = jax.jit(procrustes.fit_spans, static_argnames="center")(*spans, center=False)
    left, _, right = np.linalg.svd(source[rows].T @ target[rows], full_matrices=False)
    expected = left[:, : len(rows)] @ right[: len(rows)]
    np.testing.assert_allclose(of_spans.rotation, expected, atol=1e-3)


# --- folds ----------------------------------------------------------------------------------------

fit_folds = jax.jit(procrustes.fit_folds, static_argnames=("center", "algorithm"))
predict_folds = jax.jit(procrustes.predict_folds, static_argnames=("center", "algorithm"))

# Blocks of unequal size, padded with any row, with a row in two folds; row 7 is used by none.
HELD_OUT = np.array([[0, 1, 2, 3, 4], [5, 6, 8, 0, 0], [9, 10, 11, 12, 2]])
IN_USE = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def folds_problem(rng, v, d):
    source, target = noisy_problem(rng, N, v, d)
    weights = np.ones(N)
    weights[7] = 0
    source[7], target[7] = np.nan, np.nan
    masks = np.tile(weights, (len(HELD_OUT), 1))
    for mask, rows, used in zip(masks, HELD_OUT, IN_USE, strict=True):
        mask[rows[used > 0]] = 0
    return source, target, weights, masks


@pytest.mark.parametrize("center", [True, False])
def test_folds_from_the_total_equal_fits_to_masks(double, rng, center):
    source, target, weights, masks = folds_problem(rng, 5, 6)
    held_out = jnp.asarray(HELD_OUT), double.array(IN_USE)
    problem = *double.arrays(source, target), *held_out, double.array(weights)
    maps = fit_folds(*problem, center=center)
    predicted = predict_folds(*problem, center=center)
    for fold, mask in enumerate(masks):
        expected = fit(*double.arrays(source, target, mask), center=center)
        for ours, theirs in zip(maps, expected, strict=True):
            double.close(ours[fold], theirs, factor=20)
        asked = apply(expected, double.array(source[HELD_OUT[fold]]))
        double.close(predicted[fold], asked, factor=20)


def test_folds_of_data_far_from_zero(rng):
    """In float32: nothing cancels, as the overall mean is removed before anything is summed."""
    source, target, weights, masks = folds_problem(rng, 5, 5)
    problem = [jnp.asarray(x + 1e3, jnp.float32) for x in (source, target)]
    predicted = predict_folds(*problem, HELD_OUT, IN_USE, jnp.asarray(weights))
    for fold, mask in enumerate(masks):
        x, y = (np.asarray(z, np.float64) for z in problem)
        rotation, mx, my = oracles.procrustes(x, y, mask)
        expected = (x[HELD_OUT[fold]] - mx) @ rotation + my
        np.testing.assert_allclose(predicted[fold], expected, atol=1e-3)  # eps is 6e-5 there


def test_weights_other_than_one_in_folds(double, rng):
    source, target = noisy_problem(rng, N, 4, 4)
    weights = rng.uniform(0.5, 2, size=N)
    maps = fit_folds(*double.arrays(source, target), HELD_OUT, IN_USE, double.array(weights))
    for fold in range(len(HELD_OUT)):
        mask = weights.copy()
        mask[HELD_OUT[fold][IN_USE[fold] > 0]] = 0
        expected = fit(*double.arrays(source, target, mask))
        jax.tree.map(lambda a, b, f=fold: double.close(a[f], b), maps, expected)


@pytest.mark.parametrize("algorithm", ["svd", "gram", "qdwh", "newton_schulz"])
def test_every_algorithm_predicts_the_same(double, rng, algorithm):
    source, target, weights, masks = folds_problem(rng, 5, 6)
    problem = *double.arrays(source, target), HELD_OUT, IN_USE, double.array(weights)
    predicted = predict_folds(*problem, algorithm=algorithm)
    for fold, mask in enumerate(masks):
        rotation, mx, my = oracles.procrustes(source, target, mask)
        expected = (source[HELD_OUT[fold]] - mx) @ rotation + my
        rows = HELD_OUT[fold] != 7
        double.close(predicted[fold][rows], expected[rows], factor=20)


# --- fewer training rows than dimensions ----------------------------------------------------------


@pytest.mark.parametrize("v,d", [(12, 14), (3, 14)])
def test_spans_fit_as_the_masked_rows_do(precision, rng, v, d):
    source, target, _, masks = folds_problem(rng, v, d)
    rows = np.array([8, 9, 14, 20, 21, 8, 0])
    weights = np.array([1, 1, 1, 2, 1, 0, 0])
    in_all = np.zeros(N)
    np.add.at(in_all, rows, weights)
    spans = [
        jax.jit(procrustes.span)(precision.array(x), rows, precision.array(weights))
        for x in (source, target)
    ]
    of_spans = jax.jit(procrustes.fit_spans)(*spans)
    expected = fit(*precision.arrays(source, target, in_all))
    precision.close(of_spans.rotation, expected.rotation, factor=50)
    precision.close(of_spans.source_mean, expected.source_mean)
    some = precision.array(source[:6])
    precision.close(procrustes.apply(of_spans, some), apply(expected, some), factor=50)


def test_spans_of_copied_rows_and_of_two_rows(double, rng):
    source, target = noisy_problem(rng, N, 9, 8)
    source[3], target[3] = source[2], target[2]
    span, fit_spans = jax.jit(procrustes.span), jax.jit(procrustes.fit_spans)
    for rows, in_use in (([2, 3, 4, 5], 4), ([2, 4, 0, 0], 2), ([6, 6, 0, 0], 2)):
        mask = double.array(np.arange(4) < in_use)
        spans = [span(double.array(x), np.array(rows), mask) for x in (source, target)]
        copies = np.bincount(rows[:in_use], minlength=N)
        expected = fit(*double.arrays(source, target, copies))
        double.close(fit_spans(*spans).rotation, expected.rotation)


def test_float32_stays_float32(keeps_float32, rng):
    source, target = noisy_problem(rng, N, 4, 6)
    for weights in (np.ones(N), np.ones(N, bool)):
        keeps_float32(procrustes.fit, source, target, weights)
        keeps_float32(
            lambda x, y, w: procrustes.apply(procrustes.fit(x, y, w, center=False), x),
            source,
            target,
            weights,
        )
        keeps_float32(procrustes.fit_folds, source, target, HELD_OUT, IN_USE, weights)
        keeps_float32(procrustes.predict_folds, source, target, HELD_OUT, IN_USE, weights)
        keeps_float32(
            lambda x, y, w: procrustes.fit_spans(
                *(procrustes.span(z, np.arange(N), w) for z in (x, y))
            ),
            source,
            target,
            weights,
        )
