"""Slopes on model size against least squares with dummy variables, sign flips against all of them."""

import itertools

import jax
import numpy as np
import pytest

from brainalign_jax.align.stats import bootstrap, scaling_slope

slopes = jax.jit(scaling_slope.subject_slopes, static_argnames="n_families")
SIZES = np.log10([11e6, 41e6, 110e6, 340e6, 125e6, 1.3e9, 6.7e9])
FAMILIES = np.array([0, 0, 0, 0, 1, 1, 1])


def least_squares(scores, mask, families):
    fitted_slopes = []
    for y, keep in zip(scores, mask, strict=True):
        dummies = (families[:, None] == np.unique(families)).astype(float)
        design = np.column_stack([SIZES, dummies])[keep]
        fitted_slopes.append(np.linalg.lstsq(design, y[keep], rcond=None)[0][0])
    return fitted_slopes


@pytest.mark.parametrize("families", [FAMILIES, 0 * FAMILIES])
def test_slopes_equal_least_squares_with_dummies(precision, rng, families):
    scores = rng.standard_normal((5, 7)) + FAMILIES
    mask = rng.random((5, 7)) < 0.9
    mask[:, [0, 3]] = True
    fitted_slopes = slopes(
        precision.array(np.where(mask, scores, np.nan)),
        precision.array(SIZES),
        families,
        precision.array(mask),
        n_families=int(families.max()) + 1,
    )
    precision.close(fitted_slopes, least_squares(scores, mask, families), factor=5)


def test_a_difference_between_families_is_no_slope_within(double):
    """Simpson: larger models are of the better family, and within each family size does nothing."""
    scores = double.array(np.tile(FAMILIES.astype(float), (3, 1)))
    sizes = double.array(SIZES)
    double.close(slopes(scores, sizes, FAMILIES, n_families=2), np.zeros(3))
    assert (np.asarray(slopes(scores, sizes, 0 * FAMILIES, n_families=1)) > 0.3).all()


def test_one_size_has_no_slope(precision):
    fitted_slopes = slopes(
        precision.array(np.ones((2, 3))),
        precision.array(np.full(3, 8.1)),
        np.zeros(3, int),
        n_families=1,
    )
    assert np.isnan(fitted_slopes).all()


def test_the_sign_flip_test_is_exact_for_few_subjects(double, rng):
    own = rng.standard_normal(8) + 0.6
    signs = scaling_slope.draw_signs(8, 1000)
    assert len(np.unique(signs, axis=0)) == 255
    counts = double.array(bootstrap.draw_counts(8, 2000))
    tested = jax.jit(scaling_slope.slope_test)(double.array(own), counts, signs)
    sums = np.abs([np.dot(flips, own) for flips in itertools.product((-1, 1), repeat=8)])
    expected = (sums >= abs(own.sum()) - 1e-12).mean()
    assert float(tested.p_sign_flip) == pytest.approx(expected)
    means = np.asarray(counts) @ own / 8
    assert float(tested.p_bootstrap) == pytest.approx(2 * (1 + (means <= 0).sum()) / 2001)
    double.close(tested.interval.estimate, own.mean())
    assert float(tested.interval.lower) == pytest.approx(np.quantile(means, 0.025))


def test_subjects_without_a_slope_do_not_count(double, rng):
    own = rng.standard_normal(6)
    with_gap = np.append(own, np.nan)
    counts = bootstrap.draw_counts(7, 3000, random_state=1)
    tested = scaling_slope.slope_test(
        *double.arrays(with_gap, counts, scaling_slope.draw_signs(7, 200))
    )
    double.close(tested.interval.estimate, own.mean())
    means = [np.dot(c[:6], own) / c[:6].sum() for c in counts]
    assert float(tested.interval.upper) == pytest.approx(np.quantile(means, 0.975))


def test_false_positives_and_power(rng):
    """At level .05, 12 subjects: slopes without effect, and of a size that a t test finds half the time."""
    signs = scaling_slope.draw_signs(12, 999, random_state=1)
    counts = bootstrap.draw_counts(12, 200)
    test = jax.jit(jax.vmap(lambda x: scaling_slope.slope_test(x, counts, signs).p_sign_flip))
    noise = rng.standard_normal((400, 12)).astype(np.float32)
    assert 0.02 <= (np.asarray(test(noise)) <= 0.05).mean() <= 0.08
    assert 0.3 <= (np.asarray(test(noise + 0.6)) <= 0.05).mean() <= 0.7
