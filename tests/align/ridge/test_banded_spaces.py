from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from brainalign_jax.align.ridge import banded_search, banded_spaces, residual_ridge

WIDTHS, N, T, F = (3, 24, 4), 22, 6, 3
ALPHAS = np.logspace(-2, 1, 4)
search = jax.jit(banded_spaces.search, static_argnames=("tolerance", "target_batch"))
predictions = jax.jit(banded_spaces.predictions, static_argnames=("target_batch",))


def problem(rng):
    """Targets that want different groups (the last one none), nuisances, and folds of different sizes."""
    groups = [rng.normal(size=(N, width)) for width in WIDTHS]
    nuisances = rng.normal(size=(N, 2)) + 3
    groups[0] += nuisances[:, :1]
    signal = [x @ rng.normal(size=(x.shape[1], T)) / np.sqrt(x.shape[1]) for x in groups]
    targets = rng.normal(size=(N, T)) + nuisances @ rng.normal(size=(2, T)) + 2
    for group, own in zip(signal, ([0, 3], [1, 3], [2, 4]), strict=True):
        targets[:, own] += 3 * group[:, own]
    fold = np.r_[np.zeros(5), np.ones(6), np.full(7, 2), np.full(N - 18, -1)]
    test = np.stack([fold == k for k in range(F)]).astype(float)
    return groups, nuisances, targets, (fold >= 0) - test, test


def slow_split(groups, nuisances, targets, train, gamma, alpha):
    """What each group adds to the fit by intercept and nuisances, [G, N, T], all solved jointly."""
    z = np.column_stack([np.ones(N), nuisances])
    scaled = [x * np.sqrt(g) for x, g in zip(groups, gamma, strict=True)]
    design = np.column_stack([z, *scaled])
    penalty = np.diag([0.0] * z.shape[1] + [alpha] * sum(WIDTHS))
    normal = design[train].T @ design[train] + penalty
    coef = np.linalg.solve(normal, design[train].T @ targets[train])
    left = [x - z @ np.linalg.lstsq(z[train], x[train], rcond=None)[0] for x in scaled]
    edges = np.cumsum([z.shape[1], *WIDTHS])
    return np.stack(
        [x @ coef[a:b] for x, (a, b) in zip(left, itertools.pairwise(edges), strict=True)]
    )


def residual(x, nuisances, train):
    z = np.column_stack([np.ones(N), nuisances])
    return x - z @ np.linalg.lstsq(z[train], x[train], rcond=None)[0]


def test_every_model_is_that_of_its_own_slow_search(double, rng):
    groups, nuisances, targets, train, test = problem(rng)
    models = banded_spaces.submodels(3)
    gammas = banded_spaces.simplex_grid(3, (0.1,))
    grams = np.stack([x @ x.T for x in groups])
    folds = banded_search.fold_rows(*double.arrays(train, test), double.dtype)
    fits = [residual_ridge.nuisance_fit(nuisances, mask) for mask in train > 0]
    stacked = residual_ridge.NuisanceFit(
        *(double.array(np.stack(x)) for x in zip(*fits, strict=True))
    )
    folds = folds._replace(nuisances=stacked)
    chosen = search(
        *double.arrays(grams, targets), folds, *double.arrays(gammas), models.has,
        double.array(ALPHAS), target_batch=4,
    )  # fmt: skip
    errors = np.zeros((len(gammas), len(ALPHAS), T))
    none = np.zeros(T)
    for own, held in zip(train > 0, test > 0, strict=True):
        true = residual(targets, nuisances, own)[held]
        none += (true**2).mean(0) / F
        for (s, gamma), (a, alpha) in itertools.product(enumerate(gammas), enumerate(ALPHAS)):
            fitted = slow_split(groups, nuisances, targets, own, gamma, alpha).sum(0)[held]
            errors[s, a] += ((true - fitted) ** 2).mean(0) / F
    rows = (train + test).any(0)
    kernels = np.stack([(r := residual(x, nuisances, rows)) @ r.T for x in groups])
    split = predictions(
        *double.arrays(kernels, residual(targets, nuisances, rows)), double.array(rows),
        np.arange(N), *double.arrays(gammas, ALPHAS), chosen, target_batch=5,
    )  # fmt: skip
    for j, has in enumerate(models.has):
        allowed = ~(gammas[:, ~has] > 0).any(axis=1)
        least = np.minimum(errors[allowed].min((0, 1)), none)
        np.testing.assert_allclose(chosen.errors[j], least, rtol=1e-6)
        for t in range(T):
            s, a = chosen.gamma_index[j, t], chosen.alpha_index[j, t]
            if s == banded_spaces.NONE:
                assert (
                    none[t] <= errors[allowed][..., t].min()
                    and not np.asarray(split.each[j, :, t]).any()
                )
                continue
            want = slow_split(groups, nuisances, targets, rows, gammas[s], ALPHAS[a])[..., t]
            np.testing.assert_allclose(split.each[j, :, t], want.sum(0), atol=1e-6)
            if j == 0:
                np.testing.assert_allclose(split.joint[..., t], want, atol=1e-6)
    # The joint model has the candidates of all its parts.
    assert (np.asarray(chosen.errors[0]) <= np.asarray(chosen.errors) + 1e-12).all()


def test_models_and_candidates_of_two_to_four_spaces():
    two = banded_spaces.submodels(2)
    assert two.has.tolist() == [[True, True], [True, False], [False, True]]
    assert two.alone.tolist() == [1, 2] and two.without.tolist() == [2, 1]
    assert len(banded_spaces.submodels(3).has) == 7 and len(banded_spaces.submodels(4).has) == 9
    grid = banded_spaces.simplex_grid(2, (0.1, 0.01))
    assert len(grid) == 7 and grid[:2].tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(grid.sum(axis=1), 1, rtol=1e-6)
    assert sorted(np.round(grid[2:, 0] / grid[2:, 1], 4)) == [0.01, 0.1, 1, 10, 100]
    with pytest.raises(ValueError, match="ratios"):
        banded_spaces.simplex_grid(2, (1.5,))


def test_a_space_far_above_the_others_leaves_them_what_they_say(rng):
    """In float32 the others' eigenvalues are some hundred eps of the largest: more than rounding."""
    n, n_test, alpha = 300, 60, 0.3
    wide, narrow = rng.normal(size=(n, 400)), rng.normal(size=(n, 3))
    wide = wide * np.arange(1, 401) ** -0.4
    grams = np.stack([x @ x.T for x in (wide, narrow)])
    grams /= np.trace(grams, axis1=1, axis2=2)[:, None, None] / n
    signal = wide @ rng.normal(size=(400, 4))
    targets = signal / signal.std(axis=0) + 0.5 * rng.normal(size=(n, 4))
    gammas, alphas = np.array([[0.03, 0.97]]), np.array([alpha])
    train = (np.arange(n) < n - n_test)[None].astype(float)
    arrays = jax.tree.map(lambda x: np.float32(x), (grams, targets))
    folds = banded_search.fold_rows(np.float32(train), np.float32(1 - train), np.float32)
    none = np.zeros((1, n, 1), np.float32)
    folds = folds._replace(nuisances=residual_ridge.NuisanceFit(none, none))
    chosen = search(*arrays, folds, np.float32(gammas), np.ones((1, 2), bool), np.float32(alphas))
    assert not np.asarray(chosen.gamma_index).any()
    split = predictions(
        *arrays, np.float32(train[0]), np.arange(n), np.float32(gammas), np.float32(alphas), chosen
    )
    kernel, own = np.tensordot(gammas[0], grams, 1), train[0] > 0
    coefficients = np.linalg.solve(
        kernel[np.ix_(own, own)] + alpha * np.eye(own.sum()), targets[own]
    )
    want = kernel[:, own] @ coefficients
    np.testing.assert_allclose(split.each[0], want, atol=1e-3 * np.abs(want).max())
    error = ((targets - want)[~own] ** 2).mean(axis=0)
    np.testing.assert_allclose(np.asarray(chosen.errors)[0], error, rtol=1e-3)
