"""The banded estimator: scikit-learn's own checks, plain ridge where there is one group, and its options."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainalign_jax.banded_estimator import BandedRidgeAligner
from brainalign_jax.estimators import RidgeAligner

ALPHAS = (0.1, 10.0, 1000.0)
GROUPS = ["syntax"] * 4 + ["audio"] * 20


@parametrize_with_checks([BandedRidgeAligner(cv=2)])
def test_follows_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 24)) + 50
    y = x[:, :4] @ rng.normal(size=(4, 3)) + 0.5 * rng.normal(size=(30, 3))
    return x, y


def test_one_group_is_ridge(data):
    ours = BandedRidgeAligner(alphas=ALPHAS, cv=3).fit(*data)
    plain = RidgeAligner(alphas=ALPHAS, cv=3).fit(*data)
    np.testing.assert_array_equal(ours.alpha_, plain.alpha_)
    for name in ("best_score_", "coef_", "intercept_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(plain, name), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_chosen_scales_are_those_of_the_coefficients(data, fit_intercept):
    """Ridge on the scaled features, target by target; rows that are in no fold have no influence."""
    x, y = data
    x = x - 50 if not fit_intercept else x
    rows = np.arange(27)
    splits = [(np.setdiff1d(rows, rows[k::3]), rows[k::3]) for k in range(3)]
    ours = BandedRidgeAligner(
        GROUPS, ALPHAS, n_iter=6, cv=splits, fit_intercept=fit_intercept, n_steps=3
    ).fit(x, y)
    assert ours.groups_.tolist() == ["audio", "syntax"]
    assert (ours.gammas_[1] > ours.gammas_[0]).all()
    np.testing.assert_allclose(ours.gammas_.sum(0), 1)
    for t in range(3):
        delta = dict(zip(ours.groups_, ours.deltas_[:, t], strict=True))
        scale = np.array([np.exp(delta[g] / 2) for g in GROUPS])
        theirs = Ridge(1.0, fit_intercept=fit_intercept).fit(x[rows] * scale, y[rows, t])
        np.testing.assert_allclose(ours.coef_[t], theirs.coef_ * scale, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(
            ours.predict(x)[:, t], theirs.predict(x * scale), rtol=1e-6, atol=1e-6
        )


def test_groups_predict_better_than_one_scale_for_all(data):
    folds = KFold(3)
    banded = cross_val_score(BandedRidgeAligner(GROUPS, n_iter=6, cv=3), *data, cv=folds)
    plain = cross_val_score(BandedRidgeAligner(n_iter=6, cv=3), *data, cv=folds)
    assert banded.mean() > plain.mean() + 0.1


def test_same_seed_same_fit_and_float32_stays(data):
    x, y = (v.astype(np.float32) for v in data)
    first = BandedRidgeAligner(GROUPS, n_iter=6, cv=3, scoring="r2", random_state=3)
    again = clone(first).fit(x, y[:, 0])
    first.fit(x, y[:, 0])
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert first.coef_.dtype == np.float32 and first.predict(x).dtype == np.float32
    assert first.coef_.shape == (24,) and first.deltas_.shape == (2,)
    assert 0.5 < first.best_score_ <= 1


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(groups=[1, 2]), r"groups \(2,\) must hold one label for each of the 24"),
        (dict(groups=GROUPS, n_iter=np.ones((2, 3)) / 3), r"n_iter \(2, 3\) as gammas"),
        (dict(groups=GROUPS, n_iter=np.ones((2, 2))), "sum one"),
        (dict(n_iter=0), "n_iter=0"),
        (dict(alphas=(-1.0,)), "alphas="),
        (dict(scoring="r"), "score='r'"),
    ],
)
def test_bad_options_are_named(data, options, message):
    with pytest.raises(ValueError, match=message):
        BandedRidgeAligner(**options).fit(*data)
