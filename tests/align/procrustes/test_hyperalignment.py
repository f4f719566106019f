"""Generalised Procrustes against loops with SciPy, planted rotations, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from brainalign_jax.align.procrustes import hyperalignment

fit = jax.jit(
    hyperalignment.fit, static_argnames=("scale", "tolerance", "max_iterations", "algorithm")
)


def planted(rng, n_subjects=4, n_rows=40, width=5, noise=0.0, scales=None):
    """(shared [N, R], subjects [S, N, R]): rotated, shifted, noisy copies."""
    shared = rng.standard_normal((n_rows, width)) * np.arange(1, width + 1)
    scales = np.ones(n_subjects) if scales is None else scales
    subjects = [
        c * shared @ ortho_group.rvs(width, random_state=rng)
        + rng.standard_normal(width)
        + noise * rng.standard_normal((n_rows, width))
        for c in scales
    ]
    return shared - shared.mean(axis=0), np.stack(subjects)


def by_loop(sources, n_rounds):
    """The same alternation, one orthogonal Procrustes problem after another."""
    centred = sources - sources.mean(axis=1, keepdims=True)
    wide = np.concatenate(list(centred), axis=1)
    left, singular, _ = np.linalg.svd(wide, full_matrices=False)
    template = (left * singular)[:, : sources.shape[2]]
    errors = []
    for _ in range(n_rounds):
        moved = np.stack([x @ orthogonal_procrustes(x, template)[0] for x in centred])
        template = moved.mean(axis=0)
        errors.append(((moved - template) ** 2).sum() / (centred**2).sum())
    return moved, template, errors


@pytest.mark.parametrize("n_rows", [15, 60])  # either way to the first template
def test_it_equals_a_loop_over_procrustes_problems(double, rng, n_rows):
    _, sources = planted(rng, n_rows=n_rows, noise=1.5)
    fitted = fit(
        double.array(sources), double.array(np.ones(n_rows)), tolerance=0.0, max_iterations=6
    )
    moved, template, errors = by_loop(sources, 6)
    assert int(fitted.n_iterations) == 6
    assert float(fitted.error) == pytest.approx(errors[-1])
    assert (np.diff(errors) <= 1e-12).all()
    # up to the signs of the first template's axes
    double.close(fitted.template @ fitted.template.T, template @ template.T, factor=100)
    aligned = np.asarray(hyperalignment.apply(fitted, double.array(sources)))
    double.close(
        jnp.asarray(np.einsum("snr,tmr->stnm", aligned, aligned)),
        np.einsum("snr,tmr->stnm", moved, moved),
        factor=100,
    )


def test_planted_rotations_are_recovered_on_test_rows(precision, rng):
    shared, sources = planted(rng)
    weights = (np.arange(40) % 4 > 0).astype(float)
    fitted = fit(*precision.arrays(sources, weights))
    aligned = np.asarray(hyperalignment.apply(fitted, precision.array(sources)))
    scale = np.abs(aligned).max()
    np.testing.assert_allclose(
        aligned, np.broadcast_to(aligned[0], aligned.shape), atol=200 * precision.tolerance * scale
    )
    assert float(fitted.error) < 1e-6
    assert int(fitted.n_iterations) < 20
    distances = np.linalg.norm(aligned[0][:, None] - aligned[0], axis=2)
    expected = np.linalg.norm(shared[:, None] - shared, axis=2)
    np.testing.assert_allclose(distances, expected, atol=200 * precision.tolerance * scale)


def test_masked_equals_dropped_rows_whatever_they_hold(double, rng):
    _, sources = planted(rng, noise=1.0)
    weights = (np.arange(40) % 3 > 0).astype(float)
    keep = weights > 0
    spoilt = sources.copy()
    spoilt[:, ~keep] = np.nan
    masked = fit(*double.arrays(spoilt, weights))
    dropped = fit(*double.arrays(sources[:, keep], weights[keep]))
    for name in ("mean", "scale", "error"):
        double.close(getattr(masked, name), getattr(dropped, name), factor=10)
    double.close(
        masked.template[keep] @ masked.template[keep].T,
        dropped.template @ dropped.template.T,
        factor=1000,
    )
    assert not np.asarray(masked.template[~keep]).any()
    clean = fit(*double.arrays(sources, weights))
    double.close(masked.rotation, clean.rotation)


def test_weights_are_repeated_rows(double, rng):
    _, sources = planted(rng, n_rows=20, noise=1.0)
    weights = rng.integers(0, 3, 20)
    weighted = fit(*double.arrays(sources, weights), tolerance=1e-12)
    repeated = np.repeat(sources, weights, axis=1)
    expected = fit(*double.arrays(repeated, np.ones(weights.sum())), tolerance=1e-12)
    double.close(weighted.error, expected.error, factor=100)
    double.close(weighted.mean, expected.mean)
    assert not np.isclose(
        float(weighted.error), float(fit(*double.arrays(sources, weights > 0)).error), rtol=1e-4
    )


def test_the_order_of_the_subjects_does_not_matter(double, rng):
    _, sources = planted(rng, noise=2.0)
    weights = double.array(np.ones(40))
    forward = fit(double.array(sources), weights)
    other = fit(double.array(sources[::-1].copy()), weights)
    double.close(
        forward.template @ forward.template.T, other.template @ other.template.T, factor=1000
    )


def test_scales_are_recovered(double, rng):
    factors = np.array([1.0, 2.0, 0.5, 1.5])
    _, sources = planted(rng, scales=factors)
    weights = double.array(np.ones(40))
    fitted = fit(double.array(sources), weights, scale=True)
    double.close(fitted.scale * factors / (fitted.scale[0] * factors[0]), np.ones(4), factor=100)
    moved = np.asarray(hyperalignment.apply(fitted, double.array(sources)))
    centred = sources - sources.mean(axis=1, keepdims=True)
    assert (moved**2).sum() == pytest.approx((centred**2).sum())
    assert float(fitted.error) < 1e-6
    assert float(fit(double.array(sources), weights).error) > 0.05


def test_what_the_training_rows_do_not_span_is_dropped(double, rng):
    """Fewer training rows than axes: nothing is made up, and the same numbers come every time."""
    _, sources = planted(rng, n_rows=12, width=8, noise=0.5)
    weights = (np.arange(12) < 5).astype(float)
    fitted = fit(*double.arrays(sources, weights))
    assert np.isfinite(fitted.rotation).all()
    ranks = [np.linalg.matrix_rank(np.asarray(rotation), tol=1e-6) for rotation in fitted.rotation]
    assert max(ranks) <= 4
    again = fit(*double.arrays(sources, weights))
    np.testing.assert_array_equal(fitted.rotation, again.rotation)


def test_it_is_the_same_batched(double, rng):
    problems = np.stack([planted(rng, noise=1.0)[1] for _ in range(2)])
    weights = double.array(np.stack([np.arange(40) % 4 > i for i in range(2)]))
    batched = jax.jit(jax.vmap(hyperalignment.fit))(double.array(problems), weights)
    for i in range(2):
        alone = fit(double.array(problems[i]), weights[i])
        double.close(batched.error[i], alone.error)
        double.close(batched.rotation[i], alone.rotation, factor=100)


def test_bad_input_is_refused(keeps_float32, rng):
    with pytest.raises(ValueError, match=r"\(1, 4, 2\)"):
        hyperalignment.fit(np.zeros((1, 4, 2)), np.ones(4))
    with pytest.raises(ValueError, match=r"\(5,\)"):
        hyperalignment.fit(np.zeros((2, 4, 2)), np.ones(5))
    keeps_float32(
        lambda x, w: hyperalignment.apply(hyperalignment.fit(x, w, scale=True), x),
        planted(rng)[1],
        np.ones(40),
    )
