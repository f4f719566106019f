from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align.ridge import filters

ALPHAS = np.r_[0.0, np.logspace(-2, 5, 15)]
filter_basis = jax.jit(filters.filter_basis, static_argnames="size")


def loop_filters(eigenvalues, alphas):
    """1 / (w + alpha) where w is positive, one after the other."""
    return np.array([[1 / (w + a) if w > 0 else 0.0 for w in eigenvalues] for a in alphas])


SPECTRA = {
    "narrow": np.linspace(50.0, 160.0, 40),
    "decaying": np.geomspace(1.0, 1e3, 40),
    "with null directions": np.r_[np.zeros(7), np.geomspace(1.0, 300.0, 30)],
    "one direction": np.array([0.0, 3.0]),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_combinations_are_the_filters(precision, spectrum):
    w = SPECTRA[spectrum]
    size = filters.basis_size(w, ALPHAS, tolerance=1e-6)
    assert size < len(ALPHAS)
    basis = filter_basis(*precision.arrays(w, ALPHAS), size=size)
    assert basis.functions.shape == (size, len(w))
    assert basis.coefficients.shape == (len(ALPHAS), size)
    combined = np.asarray(basis.coefficients, np.float64) @ np.asarray(basis.functions, np.float64)
    shrinkages, expected = w * combined, w * loop_filters(w, ALPHAS)
    # of each alpha relative to its largest: that of a huge alpha is exact as well
    largest = expected.max(axis=1, keepdims=True)
    atol = 3e-6 if jax.default_backend() == "cpu" else 2e-5  # measured on an H200: 9e-6
    np.testing.assert_allclose(shrinkages / largest, expected / largest, atol=atol)
    assert not combined[:, w == 0].any()


def test_one_function_an_alpha_is_exact(precision):
    w = SPECTRA["decaying"]
    basis = filter_basis(*precision.arrays(w, ALPHAS), size=len(ALPHAS))
    # a GPU multiplies in TF32
    combined = np.asarray(basis.coefficients) @ np.asarray(basis.functions)
    precision.close(combined, loop_filters(w, ALPHAS))


def test_the_size_is_the_smallest_that_will_do():
    """Against the errors of every size, found one by one."""
    w = SPECTRA["decaying"]
    kept = w * loop_filters(w, ALPHAS)
    kept /= kept.max(axis=1, keepdims=True)
    for tolerance in (1e-1, 1e-3, 1e-6):
        left, singular, right = np.linalg.svd(kept, full_matrices=False)
        errors = [
            np.abs(kept - left[:, :b] * singular[:b] @ right[:b]).max()
            for b in range(1, len(ALPHAS) + 1)
        ]
        expected = 1 + int(np.argmax(np.array(errors) <= tolerance))
        assert filters.basis_size(w, ALPHAS, tolerance=tolerance) == expected
    assert filters.basis_size(w, ALPHAS, tolerance=1e-1) < expected


def test_the_size_of_special_spectra():
    assert filters.basis_size(np.zeros(5), ALPHAS) == 1
    assert filters.basis_size(np.array([2.0]), ALPHAS) == 1
    assert filters.basis_size(np.ones((3, 4)), ALPHAS) == 1
    assert filters.basis_size(SPECTRA["narrow"], ALPHAS[:1]) == 1
    # thousands of eigenvalues are represented by some of them
    many = np.linspace(50.0, 160.0, 40_000).reshape(4, -1)
    assert filters.basis_size(many, ALPHAS) == filters.basis_size(SPECTRA["narrow"], ALPHAS)
    assert filters.basis_size(many, ALPHAS) <= 6


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("relative", [True, False])
def test_some_alphas_span_all(spectrum, relative):
    w = SPECTRA[spectrum]
    kept = w * loop_filters(w, ALPHAS)
    largest = kept.max(axis=1, keepdims=True) if relative else 1.0
    sizes = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        indices, coefficients = filters.spanning_alphas(
            w, ALPHAS, tolerance=tolerance, relative=relative
        )
        assert len(set(indices.tolist())) == len(indices)
        np.testing.assert_allclose(coefficients[indices], np.eye(len(indices)), atol=1e-12)
        error = np.abs(coefficients @ kept[indices] - kept) / largest
        assert error.max() <= tolerance
        sizes.append(len(indices))
        least = filters.basis_size(w, ALPHAS, tolerance=tolerance)
        assert len(indices) <= least + 3
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(ALPHAS)
    if not relative:  # none that is all but zero stands for another
        assert np.abs(coefficients).max() < 10


def test_shrinkage_below_the_floor(precision):
    """Directions that are rounding are used by the alphas above it only."""
    w, alphas = np.array([0.0, 0.5, 2.0]), np.array([0.0, 0.5, 1.0, 4.0])
    kept = filters.shrinkage(*precision.arrays(w, alphas), 0.9)
    expected = [[0, 0, 1], [0, 0, 2 / 2.5], [0, 1 / 3, 2 / 3], [0, 1 / 9, 1 / 3]]
    precision.close(kept, expected)
    size = filters.basis_size(w, alphas, floor=0.9)
    basis = filter_basis(*precision.arrays(w, alphas), size=size, floor=0.9)
    with np.errstate(invalid="ignore"):
        precision.close(basis.coefficients @ basis.functions, np.nan_to_num(expected / w))


@pytest.mark.parametrize("size", [0, 17])
def test_a_size_out_of_range_is_named(size):
    with pytest.raises(ValueError, match=f"size={size} must lie between 1 and 16"):
        filters.filter_basis(jnp.ones(3), jnp.asarray(ALPHAS), size=size)


def test_batched_over_folds(double, same_when_batched):
    spectra = double.array(np.stack([SPECTRA["narrow"], SPECTRA["decaying"]]))

    def combined(w, alphas):  # signs of the functions are free
        basis = filters.filter_basis(w, alphas, size=8)
        return basis.coefficients @ basis.functions

    same_when_batched(combined, spectra, double.array(ALPHAS), in_axes=(0, None))


def test_float32_stays_float32(keeps_float32):
    def outputs(w, alphas):
        return filters.filter_basis(w, alphas, size=3), filters.shrinkage(w, alphas, 0.1)

    keeps_float32(outputs, SPECTRA["narrow"], ALPHAS)
