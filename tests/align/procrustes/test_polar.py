"""Every algorithm against a float64 SVD whose rank is known by construction."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align.procrustes import polar

ALGORITHMS = ("svd", "gram", "qdwh", "newton_schulz")
N = 24

isometry = jax.jit(polar.isometry, static_argnames=("algorithm", "rank_bound"))


def orthonormal(rng, n, k):
    return np.linalg.qr(rng.normal(size=(n, k)))[0]


def planted(rng, v, d, singular):
    """A matrix [v, d] of these singular values, and its isometry."""
    left, right = orthonormal(rng, v, len(singular)), orthonormal(rng, d, len(singular))
    return (left * singular) @ right.T, left @ right.T


def graded(n, smallest):
    """Most singular values between 1 and 1/3, and the two last down to `smallest`."""
    return np.r_[np.linspace(1, 0.3, n - 2), np.sqrt(smallest), smallest]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("square", [True, False])
def test_isometry_is_that_of_a_float64_svd(precision, rng, square, algorithm):
    v, d = (N, N) if square else (N // 2, N) if precision.double else (N, N // 2)
    n = min(v, d)
    eps = float(np.finfo(precision.dtype).eps)
    cases = {
        "well-conditioned": (graded(n, 0.1), 10),
        "ill-conditioned": (graded(n, 1e-5 if precision.double else 1e-4), 1e5),
        "rank-deficient": (graded(n - 3, 0.1), 10),
        "of low rank": (np.array([1.0, 0.5]), 10),
        "of rank one": (np.array([1.0]), 10),
        "nothing": (np.array([0.0]), 10),
    }
    for name, (singular, condition) in cases.items():
        for scale in (1.0, 1e-12, 1e12):
            cross, expected = planted(rng, v, d, singular)
            rotation = isometry(precision.array(cross * scale), algorithm=algorithm)
            assert rotation.dtype == precision.dtype
            error = np.linalg.norm(np.asarray(rotation, np.float64) - expected * singular.any())
            assert error < 30 * eps * condition, (name, scale, error)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rows_and_columns_of_zeros_and_copies(precision, rng, algorithm):
    """A zero voxel, one that copies another, a model dimension that never varies."""
    source, target = rng.normal(size=(60, N)), rng.normal(size=(60, N))
    source[:, 3], source[:, 5], target[:, 7] = 0, source[:, 4], 0
    cross = precision.array(source.T @ target)
    rotation = np.asarray(isometry(cross, algorithm=algorithm), np.float64)
    left, _, right = np.linalg.svd(np.asarray(cross, np.float64))
    expected = left[:, : N - 2] @ right[: N - 2]
    np.testing.assert_allclose(rotation, expected, atol=50 * precision.tolerance)
    np.testing.assert_allclose(rotation[3], 0, atol=precision.tolerance)
    np.testing.assert_allclose(rotation[:, 7], 0, atol=precision.tolerance)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_smallest_matrices(double, rng, algorithm):
    cross, expected = planted(rng, 2, 2, np.array([2.0, 0.3]))
    double.close(isometry(double.array(cross), algorithm=algorithm), expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_batches_of_several_ranks_and_rotated_rows(double, rng, algorithm):
    """`rotate` of a batch is the rows times the isometry of each matrix, whichever path is taken."""
    v, d = N // 2, N
    ranks = (v, v - 2, 3, 1)
    crosses, expected = zip(
        *(planted(rng, v, d, np.linspace(1, 0.2, r)) for r in ranks), strict=True
    )
    crosses = double.array(np.stack([*crosses, np.zeros((v, d))]))
    expected = np.stack([*expected, np.zeros((v, d))])
    rows = rng.normal(size=(v, v))

    def rotate(rows, cross):
        return polar.rotate(rows, cross, algorithm=algorithm)

    few = jax.jit(jax.vmap(rotate, (None, 0)))(double.array(rows[:3]), crosses)
    double.close(few, rows[:3] @ expected)
    if algorithm == "gram":
        double.close(jax.vmap(rotate, (None, 0))(double.array(rows), crosses), rows @ expected)


def test_a_mean_beside_the_matrix_is_part_of_it(double, rng):
    """Whether it rules, drowns or is nothing, and whichever side is longer."""
    rotate = jax.jit(
        lambda rows, cross, mean: polar.rotate(rows, cross, mean=mean, algorithm="svd")
    )
    tall, wide, rows = (rng.normal(size=shape) for shape in ((9, 6), (6, 9), (3, 6)))
    for size in (0.0, 1.0, 1e4):
        for cross in (tall, wide):
            pair = size * rng.normal(size=len(cross)), rng.normal(size=cross.shape[1])
            left, _, right = np.linalg.svd(cross + np.outer(*pair), full_matrices=False)
            mean = polar.Mean(*double.arrays(*pair))
            rotation = isometry(double.array(cross), mean=mean, algorithm="svd")
            double.close(rotation, left @ right, factor=50)
        turned = rotate(*double.arrays(rows, wide), mean)
        double.close(turned, rows @ left @ right, factor=50)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float32_stays_float32(keeps_float32, rng, algorithm):
    cross, rows = rng.normal(size=(8, 6)), rng.normal(size=(3, 8))
    keeps_float32(functools.partial(polar.isometry, algorithm=algorithm), cross)
    keeps_float32(functools.partial(polar.rotate, algorithm=algorithm), rows, cross)


@pytest.mark.parametrize("wide", [False, True])
def test_gram_leaves_to_the_svd_only_what_it_cannot_do(monkeypatch, double, rng, wide):
    """The fallback is replaced by NaN, so that it is seen whether it was taken."""

    def absent(rows, cross):
        del rows
        return jnp.full_like(cross, jnp.nan)

    monkeypatch.setattr(polar, "_svd", absent)
    fitted = jax.jit(functools.partial(polar.isometry, algorithm="gram", rank_bound=N - 2))
    spectra = {
        "four small of 24": (np.r_[graded(N - 2, 1e-3), 1e-4, 1e-5], True),
        "a null space of two": (graded(N, 0.1)[:-2], True),
        "a null space of eight": (graded(N - 8, 0.1), False),
        "all decay": (np.logspace(0, -5, N), False),
        "one rules": (np.r_[1.0, np.full(N - 1, 1e-3)], False),
        "nothing": (np.array([0.0]), False),
    }
    for name, (singular, able) in spectra.items():
        cross, expected = planted(rng, N, N + 3, singular)
        if not wide:
            cross, expected = cross.T, expected.T
        rotation = fitted(double.array(cross))
        if able:
            np.testing.assert_allclose(rotation, expected, atol=1e-9, err_msg=name)
        else:
            assert np.isnan(rotation).all(), name


def test_large_blocks_of_the_gram_matrix(rng):
    """Above 128 columns the upper right block is neither computed nor read."""
    cross, expected = planted(rng, 150, 140, graded(140, 1e-3))
    rotation = isometry(jnp.asarray(cross, jnp.float32), algorithm="gram")
    np.testing.assert_allclose(rotation, expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["qdwh", "newton_schulz"])
@pytest.mark.parametrize("tolerance", [3e-6, 4e-15, 1e-2])
def test_schedules_take_the_interval_to_one_and_part_it_from_zero(algorithm, tolerance):
    def after(s):
        for a, b, c in polar._schedule(algorithm, tolerance):
            if algorithm == "qdwh":
                s = s * (a + b * s**2) / (1 + c * s**2)
            else:
                s = s * (a + b * s**2 + c * s**4)
        for _ in range(polar._N_SEPARATING):
            s = s**3 * (5 - 3 * s**2) / 2
        return s

    np.testing.assert_allclose(after(np.geomspace(2 * tolerance, 1, 500)), 1, atol=1e-3)
    np.testing.assert_allclose(
        after(np.geomspace(tolerance * 1e-3, tolerance / 3, 50)), 0, atol=0.01
    )


def test_choice_of_algorithm():
    assert polar.choose((768, 768), 750, "cpu") == "gram"
    assert polar.choose((768, 1024), None, "cpu") == "gram"
    assert polar.choose((768, 768), 300, "cpu") == "svd"  # mostly null space
    assert polar.choose((64, 768), None, "cpu") == "svd"
    assert polar.choose((768, 768), None, "gpu") == "newton_schulz"
    assert polar.choose((768, 128), None, "tpu") == "qdwh"
    assert polar.choose((16, 16), None, "gpu") == "svd"


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="'lanczos' is not one of 'auto', 'svd'"):
        polar.isometry(jnp.eye(3), algorithm="lanczos")
