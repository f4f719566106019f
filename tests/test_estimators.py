"""The estimators: scikit-learn's own checks, equality with its ridge and with SciPy's Procrustes."""

from __future__ import annotations

import io

import jax
import joblib
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainalign_jax.estimators import ProcrustesAligner, RidgeAligner

ALPHAS = tuple(np.logspace(-2, 4, 9).tolist())
# One tall and one wide problem for all tests of ridge: a new shape is a new compilation.
TALL, WIDE = (40, 12), (25, 60)


@parametrize_with_checks([ProcrustesAligner(), RidgeAligner()])
def test_follows_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def regression_data(rng, n_rows, n_features, n_targets=6):
    """Targets from pure signal to pure noise, so that they want different alphas; neither is centred."""
    x = rng.normal(size=(n_rows, n_features)) * rng.uniform(0.5, 2, n_features) + 3
    noise = np.linspace(0.1, 10, n_targets)
    y = (
        x @ rng.normal(size=(n_features, n_targets))
        + noise * rng.normal(size=(n_rows, n_targets)) * 3
    )
    y[:, -1] = rng.normal(size=n_rows)
    return x, y - 5


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_leave_one_out_is_that_of_ridgecv(rng, shape, fit_intercept, solver):
    x, y = regression_data(rng, *shape)
    ours = RidgeAligner(ALPHAS, fit_intercept=fit_intercept, solver=solver).fit(x, y)
    theirs = RidgeCV(ALPHAS, fit_intercept=fit_intercept, alpha_per_target=True).fit(x, y)
    assert len(set(theirs.alpha_)) > 1
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-8)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7, atol=1e-9)
    new = regression_data(rng, 8, shape[1])[0]
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=1e-7, atol=1e-9)


def test_one_alpha_for_all_targets(rng):
    x, y = regression_data(rng, *TALL)
    ours = RidgeAligner(ALPHAS, alpha_per_target=False).fit(x, y)
    theirs = RidgeCV(ALPHAS).fit(x, y)
    assert isinstance(ours.alpha_, float)
    assert ours.alpha_ == theirs.alpha_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_folds_choose_as_grid_search_does(rng, shape):
    x, y = regression_data(rng, *shape)
    cv = KFold(4, shuffle=True, random_state=0)
    ours = RidgeAligner(ALPHAS, cv=cv).fit(x, y)
    for t in range(y.shape[1]):
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=cv, scoring="neg_mean_squared_error")
        search.fit(x, y[:, t])
        assert ours.alpha_[t] == search.best_params_["alpha"]
        assert ours.best_score_[t] == pytest.approx(search.best_score_)
        np.testing.assert_allclose(
            ours.coef_[t], search.best_estimator_.coef_, rtol=1e-6, atol=1e-9
        )


def test_folds_may_be_a_number_or_pairs_of_rows(rng):
    x, y = regression_data(rng, *TALL)
    groups = np.repeat(np.arange(5), 8)
    splits = list(GroupKFold(5).split(x, y, groups))
    as_pairs = RidgeAligner(ALPHAS, cv=splits).fit(x, y)
    as_number = RidgeAligner(ALPHAS, cv=5).fit(x, y)
    np.testing.assert_allclose(as_pairs.best_score_, as_number.best_score_)
    leave_one_out = RidgeAligner(ALPHAS, cv=40).fit(x, y)
    closed_form = RidgeAligner(ALPHAS).fit(x, y)
    np.testing.assert_allclose(leave_one_out.best_score_, closed_form.best_score_)
    assert not np.allclose(as_number.best_score_, closed_form.best_score_)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_alpha_zero_is_least_squares_of_minimum_norm(rng, shape):
    x, y = regression_data(rng, *shape)
    for solver in ("primal", "dual"):
        ours = RidgeAligner(0.0, fit_intercept=False, solver=solver).fit(x, y)
        assert ours.solver_ == solver
        expected = np.linalg.lstsq(x, y, rcond=None)[0].T
        np.testing.assert_allclose(ours.coef_, expected, rtol=1e-6, atol=1e-8)
        assert np.isnan(ours.best_score_).all() == (shape[0] <= shape[1])


@pytest.mark.parametrize("ambient", [True, False])
@pytest.mark.parametrize(
    "estimator", [ProcrustesAligner(), RidgeAligner(ALPHAS), RidgeAligner(ALPHAS, cv=3)]
)
def test_computes_in_the_type_of_x(rng, estimator, ambient):
    x, y = regression_data(rng, *TALL)
    with jax.enable_x64(ambient):
        # In turn, twice: a program compiled for one type must never serve the other.
        for dtype in (np.float64, np.float32, np.float64, np.float32):
            fitted = clone(estimator).fit(x.astype(dtype), y)
            state = [
                v for k, v in vars(fitted).items() if isinstance(v, np.ndarray) and k != "alpha_"
            ]
            assert state
            assert {v.dtype for v in state} == {np.dtype(dtype)}
            assert fitted.predict(x).dtype == dtype
            assert jax.config.jax_enable_x64 is ambient
        exact = clone(estimator).fit(x, y).predict(x)
        rough = fitted.predict(x)
    error = np.abs(rough - exact).max() / np.abs(exact).max()
    assert 1e-9 < error < 1e-4


def test_a_large_offset_costs_float32_nothing(rng):
    x, y = regression_data(rng, *TALL)
    near = RidgeAligner(ALPHAS).fit(x, y)
    offset = np.float32(4096)
    for solver in ("primal", "dual"):
        far = RidgeAligner(ALPHAS, solver=solver).fit((x + offset).astype(np.float32), y)
        np.testing.assert_array_equal(far.alpha_, near.alpha_)
        np.testing.assert_allclose(far.coef_, near.coef_, atol=1e-3 * np.abs(near.coef_).max())


@pytest.mark.parametrize("estimator", [ProcrustesAligner(), RidgeAligner()])
def test_degenerate_data(rng, estimator):
    x, y = regression_data(rng, 10, 3)
    constant = np.full((10, 2), 0.1)
    np.testing.assert_allclose(clone(estimator).fit(x, constant).predict(x), constant, atol=1e-12)
    flat = clone(estimator).fit(np.full((10, 2), 0.1), y).predict(constant)
    np.testing.assert_allclose(flat, np.tile(y.mean(axis=0), (10, 1)), atol=1e-9)
    assert clone(estimator).fit(x[:, :1], y).predict(x[:, :1]).shape == y.shape
    assert clone(estimator).fit(x[:, :1], y[:, 0]).predict(x[:, :1]).shape == (10,)
    assert clone(estimator).fit(x, y[:, :1]).predict(x).shape == (10, 1)


def test_auto_solves_the_smaller_problem(rng):
    assert RidgeAligner(ALPHAS).fit(*regression_data(rng, *TALL)).solver_ == "primal"
    assert RidgeAligner(ALPHAS).fit(*regression_data(rng, *WIDE)).solver_ == "dual"


def test_one_target_is_the_same_1d_and_2d(rng):
    x, y = regression_data(rng, 10, 3)
    for estimator in (ProcrustesAligner(), RidgeAligner(), RidgeAligner(alpha_per_target=False)):
        flat = clone(estimator).fit(x, y[:, 0])
        column = clone(estimator).fit(x, y[:, :1])
        np.testing.assert_allclose(flat.predict(x), column.predict(x)[:, 0])
    ours, theirs = RidgeAligner().fit(x, y[:, 0]), Ridge().fit(x, y[:, 0])
    assert isinstance(ours.alpha_, float)
    assert ours.coef_.shape == theirs.coef_.shape
    assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)


def test_one_sample():
    x, y = np.ones((1, 3)), np.full((1, 2), 4.0)
    np.testing.assert_array_equal(ProcrustesAligner().fit(x, y).predict(x + 1), y)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        RidgeAligner().fit(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": ()}, "one or more numbers"),
        ({"alphas": (1.0, -1.0)}, "from 0 to 1e\\+30"),
        ({"alphas": (1.0, np.inf)}, "from 0 to 1e\\+30"),
        ({"alphas": (1.0, 1e300)}, "from 0 to 1e\\+30"),
        ({"alphas": (1.0, np.nan)}, "from 0 to 1e\\+30"),
        ({"alphas": ((1.0, 2.0),)}, "one or more numbers"),
        ({"solver": "svd"}, "unknown solver='svd'; known: auto, primal, dual"),
        ({"cv": [([0, 1], [])]}, "2 training and 0 test rows of 6"),
        ({"cv": []}, "no fold"),
        ({"cv": 7}, "n_splits=7"),
    ],
)
def test_bad_options_are_named(options, message):
    x = np.arange(12.0).reshape(6, 2)
    with pytest.raises(ValueError, match=message):
        RidgeAligner(**options).fit(x, x)


@pytest.mark.parametrize("width", [(6, 6), (4, 7)], ids=["square", "wider target"])
def test_procrustes_is_that_of_scipy(rng, width):
    x, y = rng.normal(size=(50, width[0])) + 2, rng.normal(size=(50, width[1])) - 1
    new = rng.normal(size=(9, width[0]))
    # SciPy wants equal widths: a source of zeros for the features there are not.
    padded = np.pad(x - x.mean(axis=0), ((0, 0), (0, width[1] - width[0])))
    rotation = orthogonal_procrustes(padded, y - y.mean(axis=0))[0][: width[0]]
    expected = (new - x.mean(axis=0)) @ rotation + y.mean(axis=0)
    np.testing.assert_allclose(ProcrustesAligner().fit(x, y).predict(new), expected, atol=1e-9)


def test_procrustes_recovers_a_planted_rotation(rng):
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    x = rng.normal(size=(30, 5)) + 3
    ours = ProcrustesAligner().fit(x, x @ rotation + 7)
    np.testing.assert_allclose(ours.rotation_, rotation, atol=1e-10)
    new = rng.normal(size=(4, 5))
    np.testing.assert_allclose(ours.predict(new), new @ rotation + 7, atol=1e-9)
    assert ours.score(x, x @ rotation + 7) == pytest.approx(1)
    uncentred = ProcrustesAligner(center=False).fit(x, x @ rotation)
    np.testing.assert_allclose(uncentred.rotation_, rotation, atol=1e-10)
    assert not uncentred.source_mean_.any()
    assert not uncentred.target_mean_.any()


def test_in_a_pipeline_with_cross_validation(rng):
    x, y = regression_data(rng, 60, 5)
    y = StandardScaler().fit_transform(y[:, :4])
    ours = make_pipeline(StandardScaler(), RidgeAligner(ALPHAS))
    theirs = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))
    np.testing.assert_allclose(
        cross_val_score(ours, x, y, cv=3), cross_val_score(theirs, x, y, cv=3)
    )
    rotated = StandardScaler().fit_transform(x) @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    aligned = make_pipeline(StandardScaler(), ProcrustesAligner())
    assert cross_val_score(aligned, x, rotated, cv=3, error_score="raise").min() > 0.9
    shuffled = cross_val_score(aligned, x, rng.permutation(rotated), cv=3, error_score="raise")
    assert shuffled.max() < 0.5
    search = GridSearchCV(ours, {"ridgealigner__fit_intercept": [True, False]}, cv=3).fit(
        x + 1, y + 9
    )
    assert search.best_params_["ridgealigner__fit_intercept"] is True


@pytest.mark.parametrize("estimator", [ProcrustesAligner(center=False), RidgeAligner(ALPHAS, cv=3)])
def test_clones_and_survives_joblib(rng, estimator):
    x, y = regression_data(rng, *TALL)
    fitted = clone(estimator).fit(x, y)
    assert clone(fitted).get_params() == estimator.get_params()
    assert not any(name.endswith("_") for name in vars(clone(fitted)))
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict(x), fitted.predict(x))


def test_ridge_keeps_what_it_knows_beside_a_feature_far_above_the_others(rng):
    """In float32 the others have eigenvalues of some hundred eps of the largest: more than rounding."""
    x = rng.normal(size=(200, 300)).astype(np.float32)
    x[:, 0] *= np.sqrt(1 / (300 * np.finfo(np.float32).eps))
    y = (x[:, 1:] @ rng.normal(size=(299, 4)) / 8 + rng.normal(size=(200, 4))).astype(np.float32)
    predicted = RidgeAligner(alphas=[30.0], cv=4).fit(x, y).predict(x)
    wide = x.astype(float)
    want = Ridge(30.0).fit(wide, y.astype(float)).predict(wide)
    np.testing.assert_allclose(predicted, want, atol=0.03 * np.abs(want).max())
