import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from brainalign_jax.align.ridge import residual_ridge
from brainalign_jax.align.ridge.residual_ridge import Factors, NuisanceFit

N, K, T = 48, 3, 7
ALPHAS = (0.3, 3.0, 30.0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def made(n_features, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N, K)) @ rng.standard_normal((K, K)) + 5
    x = rng.standard_normal((N, n_features)) + z @ rng.standard_normal((K, n_features)) * 0.5 + 3
    y = x[:, :1] * rng.random(T) + z[:, :1] + rng.standard_normal((N, T))
    mask = np.ones(N)
    mask[10:21] = 0
    return x, z, y, mask


def predicted(factors, fit, y, alpha, rows):
    added = (factors.basis.T @ y) / (factors.eigenvalues + alpha * factors.size)[:, None]
    return fit.scores[rows] @ (fit.basis.T @ y) + factors.scores @ added


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("n_features", [12, 80])
def test_the_parts_predict_what_the_joint_model_does(n_features, how):
    x, z, y, mask = made(n_features)
    fit = residual_ridge.nuisance_fit(z, mask)
    rows = np.flatnonzero(mask == 0)
    factor = residual_ridge.factor
    factor = jax.jit(factor, static_argnames="dual") if how == "jit" else factor
    factors = factor(x, fit, mask, rows, np.ones(len(rows)), dual=n_features > N)
    # Of rows that are left out nothing is known.
    blank = np.where(mask[:, None] > 0, y, 0)
    for alpha in ALPHAS:
        guess = predicted(factors, fit, blank, alpha, rows)
        for target in range(T):
            want = oracles.beside_nuisances(x, z, y[:, target], mask > 0, alpha)[rows]
            np.testing.assert_allclose(guess[:, target], want, atol=1e-8)


def test_masked_rows_are_dropped_rows():
    x, z, y, mask = made(80)
    kept = mask > 0
    rows = np.flatnonzero(mask == 0)
    fit = residual_ridge.nuisance_fit(z, mask)
    wild = np.where(kept[:, None], y, 1e9)
    with_mask = residual_ridge.factor(x, fit, mask, rows, np.ones(len(rows)), dual=True)
    again = predicted(with_mask, fit, wild * kept[:, None], 1.0, rows)
    order = np.r_[np.flatnonzero(kept), rows]
    short = residual_ridge.nuisance_fit(z[order], mask[order])
    last = np.arange(kept.sum(), N)
    dropped = residual_ridge.factor(
        x[order], short, mask[order], last, np.ones(len(last)), dual=True
    )
    np.testing.assert_allclose(again, predicted(dropped, short, y[order], 1.0, last), atol=1e-8)


def test_what_training_rows_do_not_tell_of_nuisances_is_left_out():
    """Position in the text and in the run, of one of two runs: they differ outside alone."""
    rng = np.random.default_rng(0)
    run, mask = np.repeat([0, 1], 20), np.repeat([1, 0], 20)
    in_run = np.tile(np.arange(20), 2) + 1e-4 * rng.standard_normal(40)
    z = np.column_stack([rng.standard_normal(40), np.arange(40) + 0.0, in_run, 1.0 * run])
    assert residual_ridge.unidentified(z, mask).tolist() == [False, True, True, True]
    assert not residual_ridge.unidentified(z, np.ones(40)).any()
    assert not residual_ridge.unidentified(z[:, [0, 1]], mask).any()
    y = z[:, 1:2] + rng.standard_normal((40, 3))
    fit = residual_ridge.nuisance_fit(z, mask)
    assert np.abs(fit.scores @ (fit.basis.T @ y)).max() < 100
    plain = np.column_stack([np.ones(40), z])[:, :4]
    wild = plain @ np.linalg.lstsq(plain[:20], y[:20], rcond=None)[0]
    assert np.abs(wild).max() > 1000


def test_nuisances_that_repeat_or_stand_still_count_once():
    x, z, y, mask = made(12)
    more = np.column_stack([z, z @ [1.0, 2.0, 3.0], np.full(N, 7.0)])
    fit, wide = (residual_ridge.nuisance_fit(part, mask) for part in (z, more))
    np.testing.assert_allclose(
        wide.scores @ (wide.basis.T @ y), fit.scores @ (fit.basis.T @ y), atol=1e-8
    )
    alone = residual_ridge.nuisance_fit(z[:, :0], mask)
    np.testing.assert_allclose(
        alone.scores @ (alone.basis.T @ y), np.tile(y[mask > 0].mean(axis=0), (N, 1))
    )
    # A feature that nuisances explain adds nothing, not rounding.
    left = residual_ridge.residual_features(
        jnp.asarray(np.column_stack([x, z])), fit, jnp.asarray(mask)
    )
    assert (left[:, 12:] == 0).all() and (np.abs(left[:, :12]).max(axis=0) > 1).all()


def folds_of(n_folds, n_inner):
    """Masks of contiguous folds and of inner folds, as `oracles.encoded` takes them."""
    for test in np.array_split(np.arange(N), n_folds):
        train = np.ones(N, bool)
        train[test] = False
        inner = []
        for held in np.array_split(np.flatnonzero(train), n_inner):
            own = train.copy()
            own[held] = False
            inner.append((own, held))
        yield train, test, inner


@functools.partial(jax.jit, static_argnames="dual")
def factors_of_folds(x, fits, masks, held, weights, *, dual):
    """`residual_ridge.factor` of all inner folds, in one program where operations alone would be hundreds."""
    factor = functools.partial(residual_ridge.factor, x, dual=dual)
    return jax.vmap(factor)(fits, masks, held, weights)


@pytest.mark.parametrize(
    ("dtype", "how"), [("float64", "eager"), ("float64", "jit"), ("float32", "jit")]
)
def test_best_predictions_are_those_of_a_slow_loop(dtype, how):
    _, z, y, _ = made(12)
    layers = [made(12, seed=1)[0], made(80, seed=2)[0], made(12, seed=3)[0]]
    y[:, :3] += layers[1] @ np.random.default_rng(9).standard_normal((80, 3)) * 0.2
    y[:, 3:5] += layers[2] @ np.random.default_rng(8).standard_normal((12, 2))
    folds = list(folds_of(3, 4))
    best, factor = residual_ridge.best_predictions, residual_ridge.factor
    if how == "jit":
        best, factor = jax.jit(best), jax.jit(factor, static_argnames="dual")
    for fold, (train, test, inner) in enumerate(folds):
        columns = np.flatnonzero(train)
        masks = np.stack([own[columns] for own, _ in inner]).astype(float)
        held = np.stack([np.searchsorted(columns, rows) for _, rows in inner])
        weights = np.ones(held.shape)
        fits = [residual_ridge.nuisance_fit(z[columns], mask) for mask in masks]
        fits = NuisanceFit(*(np.stack(part).astype(dtype) for part in zip(*fits, strict=True)))
        whole = NuisanceFit(*(part.astype(dtype) for part in residual_ridge.nuisance_fit(z, train)))
        inner_factors, outer = [], []
        for layer in layers:
            x = jnp.asarray(layer, dtype)
            dual = x.shape[1] > N
            inner_factors.append(
                factors_of_folds(x[columns], fits, masks, held, weights, dual=dual)
            )
            outer.append(factor(x, whole, train * 1.0, test, np.ones(len(test)), dual=dual))
        chosen = best(
            residual_ridge.stacked(inner_factors),
            fits,
            (held, weights.astype(dtype)),
            residual_ridge.stacked(outer),
            whole,
            test,
            columns,
            jnp.asarray(ALPHAS, dtype),
            jnp.asarray(y, dtype),
        )
        for target in range(T):
            want = oracles.encoded(layers, z, y[:, target], folds, ALPHAS)[fold]
            tolerance = 1e-8 if dtype == "float64" else 2e-4
            np.testing.assert_allclose(chosen.predicted[:, target], want[0], atol=tolerance)
            np.testing.assert_allclose(chosen.nuisances[:, target], want[1], atol=tolerance)
            assert chosen.layer[target] == want[2]
            if want[2] >= 0:
                assert ALPHAS[chosen.alpha[target]] == want[3]


def test_padding_changes_nothing():
    x, z, y, mask = made(12)
    rows = np.flatnonzero(mask == 0)
    fit = residual_ridge.nuisance_fit(z, mask)
    weights = np.r_[np.ones(len(rows)), 0, 0]
    padded = residual_ridge.factor(
        x, fit, mask, np.r_[rows, rows[:1], rows[:1]], weights, dual=False
    )
    plain = residual_ridge.factor(x, fit, mask, rows, np.ones(len(rows)), dual=False)
    np.testing.assert_array_equal(padded.scores[:-2], plain.scores)
    assert (padded.scores[-2:] == 0).all()
    narrow = Factors(*(part[..., :0] for part in plain[:3]), plain.size)
    wide = residual_ridge.stacked([plain, narrow])
    assert wide.basis.shape == (2, N, 12) and (wide.basis[1] == 0).all()
