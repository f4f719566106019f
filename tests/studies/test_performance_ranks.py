"""Rank correlations of few models against slow oracles, SciPy, invariants, and what names of models tell."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.false_positives import LEVEL
from benchmarks.performance_false_positives import KINDS, found_share, p_value, simulated
from brainalign_jax.studies.performance import ranks
from brainalign_jax.studies.performance.matching import FINAL, family_of, model_name, size_of
from brainalign_jax.studies.performance.trajectories import curve_of, half_step


def drawn(n=12, seed=0, rows=4):
    return np.random.default_rng(seed).standard_normal((rows, n))


def slow_partial(left, right, given):
    """Residuals of ranks by least squares with a constant, correlated."""
    design = np.column_stack([np.ones(len(left)), *(stats.rankdata(z) for z in given)])
    own, other = (
        stats.rankdata(x) - design @ np.linalg.lstsq(design, stats.rankdata(x), rcond=None)[0]
        for x in (left, right)
    )
    return np.corrcoef(own, other)[0, 1]


def test_partial_spearman_is_that_of_least_squares_also_with_ties():
    x, y, z, w = np.round(drawn(20), 1)
    assert ranks.partial_spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    for given in ([z], [z, w], [z, z]):
        expected = slow_partial(x, y, given)
        assert ranks.partial_spearman(x, y, given) == pytest.approx(expected)
    assert np.isnan(ranks.partial_spearman(z, y, [z])) and np.isnan(
        ranks.partial_spearman(0 * x, y)
    )


def test_ranks_alone_count():
    x, y, z, _ = drawn()
    expected = ranks.partial_spearman(x, y, [z])
    assert ranks.partial_spearman(np.exp(x), y**3, [np.arctan(z)]) == pytest.approx(expected)
    assert ranks.partial_spearman(-x, y, [z]) == pytest.approx(-expected)


def test_orders_within_families_stay_within():
    families = np.array([0, 1, 0, 2, 1, 0, 1])
    orders = ranks.orders(families, 200, 7, seed=0)
    assert (families[orders] == families).all() and (np.sort(orders, axis=1) == np.arange(7)).all()
    assert ranks.distinct_orders(families) == pytest.approx(36)
    assert len(np.unique(orders, axis=0)) == 36


def test_p_is_the_share_of_all_orders():
    x, y, _, _ = drawn(5)
    orders = np.array(list(itertools.permutations(range(5))))
    (p,) = ranks.permutation_test(x, y[None], [], orders)
    null = [stats.spearmanr(x[list(order)], y)[0] for order in orders]
    observed = stats.spearmanr(x, y)[0]
    reached = np.sum(np.abs(null) >= abs(observed) - 1e-9)
    assert p == pytest.approx((1 + reached) / 121, abs=0.02)


def test_resamples_are_those_of_a_loop():
    scores, tasks = drawn(20, rows=3), drawn(20, seed=1, rows=2)
    size = drawn(20, seed=2)[0]
    draws = ranks.resamples(20, 3, 20, seed=0)
    correlations = ranks.drawn_correlations(scores, tasks, [size], draws)
    for place, (models, people) in enumerate(zip(*draws, strict=True)):
        own = (people @ scores)[models]
        for task in range(2):
            expected = slow_partial(own, tasks[task][models], [size[models]])
            assert correlations[place, task] == pytest.approx(expected)


def test_a_draw_of_too_few_different_models_has_no_correlation():
    draws = ranks.Resamples(np.array([[0, 1, 2, 3, 3, 3]]), np.ones((1, 1)))
    scores, tasks, size = drawn(6, rows=3)[:, None]
    assert np.isnan(ranks.drawn_correlations(scores, tasks, [size[0]], draws)).all()
    assert np.isfinite(ranks.drawn_correlations(scores, tasks, [], draws)).all()


def test_an_interval_needs_half_of_its_draws():
    values = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 1.0]])
    lower, upper = ranks.interval(values, 0.9)
    assert 1 <= lower[0] < upper[0] <= 3 and np.isnan([lower[1], upper[1]]).all()


def test_a_random_intercept_lies_between_pooled_and_within():
    families = np.repeat(np.arange(4), 6)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(24) + 3 * families
    y = rng.standard_normal(24) + 3 * np.array([0, 2, 1, 3])[families]
    parts = ranks.family_parts(x, y, [], families)
    assert parts.within < parts.random_intercept < ranks.partial_spearman(x, y)
    assert parts.effect > 0.8 and abs(parts.within) < 0.4
    alone = ranks.family_parts(x, y, [], np.zeros(24, int))
    assert np.isnan([alone.random_intercept, alone.effect]).all()
    assert alone.within == pytest.approx(ranks.partial_spearman(x, y))


def test_the_intraclass_share_is_that_of_the_variances():
    rng = np.random.default_rng(1)
    families = np.repeat(np.arange(300), 5)
    x = rng.standard_normal(300)[families] + rng.standard_normal(1500)
    effect = ranks.family_parts(x, rng.standard_normal(1500), [], families).effect
    assert effect == pytest.approx(0.5, abs=0.08)


def test_reliability_is_that_of_all_halves():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(30) + rng.standard_normal((4, 30))
    covariances = np.cov(scores)
    alpha = 4 / 3 * (1 - np.trace(covariances) / covariances.sum())
    assert ranks.reliability(scores) == pytest.approx(alpha)
    # Of what size leaves of scores: all of the error, less of the rest.
    size = scores.mean(axis=0)
    assert ranks.reliability(scores, [size]) < alpha
    assert np.isnan(ranks.reliability(scores[:1])) and np.isnan(ranks.corrected(0.5, -0.1))
    assert ranks.corrected(0.5, 0.64) == pytest.approx(0.625) and ranks.corrected(0.9, 0.25) == 1


def test_a_reliability_of_a_column_is_less_given_size():
    x, _, z, _ = drawn(30)
    kept = 1 - stats.spearmanr(x, z)[0] ** 2
    expected = 1 - 0.2 / kept
    assert ranks.partial_reliability(0.8, x, [z]) == pytest.approx(expected)


def test_needed_models_and_what_is_detectable_agree():
    for value in (0.3, 0.5, 0.8):
        for n_given in (0, 1, 2):
            needed = ranks.needed_models(value, n_given)
            assert ranks.detectable(int(needed), n_given) <= value
            assert ranks.detectable(int(needed) - 1, n_given) > value or needed == 4 + n_given
    assert math.isnan(ranks.needed_models(0.0, 1)) and math.isnan(ranks.detectable(4, 1))


@pytest.mark.parametrize("correlation", [0.5, 0.7])
def test_as_many_models_as_needed_find_it_in_four_of_five_studies(correlation):
    _, share = found_share(correlation, 200)
    assert 0.7 < share < 0.9  # .8, three standard errors either side


@pytest.mark.parametrize("kind", KINDS)
def test_few_studies_without_an_effect_have_a_small_p(kind):
    # 19 draws: p is .05 in one of twenty. Of twelve studies four or more would be so in .0003.
    p = np.array([p_value(kind, seed, n_permutations=19) for seed in range(12)])
    assert (p <= LEVEL + 1e-9).sum() <= 3 and np.nanmean(p) > 0.25
    scores, _ = simulated(kind, 3)
    assert scores.equals(simulated(kind, 3)[0])


@pytest.mark.parametrize("n_models", [5, 6, 16])
def test_p_is_below_five_percent_in_five_percent_of_draws_of_noise(n_models):
    rng = np.random.default_rng(n_models)
    p = []
    for draw in range(1000):
        x, y, z = rng.standard_normal((3, n_models))
        orders = ranks.orders(None, 199, n_models, seed=draw)
        p.append(ranks.permutation_test(x, y[None], [z], orders)[0])
    assert 0.03 < np.mean(np.array(p) < LEVEL) < 0.07  # .05, three standard errors either side


@pytest.mark.parametrize(
    ("text", "model", "step"),
    [
        ("EleutherAI/Pythia-70m@step1000", "pythia-70m", 1000),
        ("pythia-70m@1000", "pythia-70m", 1000),
        ("/data/runs/pythia-70m/checkpoint-50/", "pythia-70m", 50),
        ("runs/pythia-70m/step50", "pythia-70m", 50),
        ("hub/models--org--name/snapshots/" + "a" * 40, "name", FINAL),
        (r"C:\models\GPT2\model", "gpt2", FINAL),
        ("gpt2@main", "gpt2", FINAL),
        ("gpt2@v1.1", "gpt2@v1.1", FINAL),
        ("folder@home/gpt2", "gpt2", FINAL),
        ("untrained:org/gpt2", "untrained:gpt2", FINAL),
        ("model", "model", FINAL),
    ],
)
def test_names_are_made_alike(text, model, step):
    assert model_name(text) == (model, step)


def test_half_of_a_rise_is_between_steps_and_falls_count():
    steps = np.array([0, 1, 10, 100, 1000])
    assert half_step(steps, np.array([0, 0, 1, 1, 1.0])) == pytest.approx(0.5)
    assert half_step(steps, np.array([5, 5, 1, 1, 1.0])) == pytest.approx(0.5)
    assert half_step(steps, np.array([0, 1, 1, 1, 1.0])) == pytest.approx(np.log10(0.5) / 2)
    assert np.isnan(half_step(steps, np.ones(5)))
    assert np.isnan(half_step(steps, np.array([0, 0.4, -0.4, 0.4, 0.1])))


@pytest.mark.parametrize(
    ("name", "size", "family"),
    [
        ("phi-3-mini-4k-instruct", math.nan, "phi-3-mini-4k-instruct"),
        ("yarn-128k-llama-7b", 7e9, "yarn-128k-llama"),
        ("stories-33k", 33e3, "stories"),
    ],
)
def test_lengths_of_the_context_are_no_sizes(name, size, family):
    assert size_of(name) == pytest.approx(size, nan_ok=True) and family_of(name) == family


def test_perplexities_are_known_in_capitals_too():
    assert curve_of("Wikitext_PPL", "", np.array([10.0, 100.0])) == pytest.approx([1, 2])
