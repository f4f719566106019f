"""Chance levels against enumeration and simulation."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from recordings import make_responses
from scipy import signal
from scipy.stats import binom, binomtest

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence import chance
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.folds import Folds, Split, split_arrays
from brainalign_jax.study.score.problem import Scoring, folds_of


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_score_intervals_equal_those_of_scipy():
    hits, n = np.array([0, 1, 17, 49, 50]), 50
    intervals = chance.score_interval(hits, n, confidence=0.9)
    for i, h in enumerate(hits):
        low, high = binomtest(int(h), n).proportion_ci(0.9, "exact")
        assert intervals.lower[i] == pytest.approx(low)
        assert intervals.upper[i] == pytest.approx(high)
    with pytest.raises(ValueError, match="whole numbers"):
        chance.score_interval(0.3, 50)
    with pytest.raises(ValueError, match="between 0"):
        chance.score_interval(51, 50)


def test_the_band_of_a_guess_holds_what_it_says():
    low, high = chance.guess_band(120, np.array([1, 10, 40]), 60, confidence=0.95)
    for k, a, b in zip((1, 10, 40), low, high, strict=True):
        inside = binom.cdf(round(b * 120), 120, k / 60) - binom.cdf(round(a * 120) - 1, 120, k / 60)
        assert inside >= 0.95
        narrower = binom.cdf(round(b * 120) - 1, 120, k / 60) - binom.cdf(
            round(a * 120), 120, k / 60
        )
        assert narrower < 0.95
    with pytest.raises(ValueError, match="k=61"):
        chance.guess_band(10, 61, 60)


def test_the_band_of_a_constant_guess_equals_enumeration():
    """Folds of 3 and 2 tested types among 6 candidates, all pairs of answers of 2 words."""
    hits = [
        len(set(a) & {0, 1, 2}) + len(set(b) & {3, 4})
        for a in itertools.combinations(range(6), 2)
        for b in itertools.combinations(range(6), 2)
    ]
    shares = np.bincount(hits, minlength=6) / len(hits)
    for confidence in (0.5, 0.9, 0.99):
        band = chance.constant_guess_band((3, 2), 2, 6, confidence=confidence)
        cumulative = np.cumsum(shares)
        tail = (1 - confidence) / 2
        assert band.lower * 5 == pytest.approx(np.argmax(cumulative >= tail - 1e-12))
        assert band.upper * 5 == pytest.approx(np.argmax(cumulative >= 1 - tail - 1e-12))
    every = chance.constant_guess_band((3, 2), 6, 6)
    assert every.lower == every.upper == 1


def folds(rng, n_types=12, n_tokens=80):
    token_to_type = np.minimum(rng.geometric(0.25, n_tokens) - 1, n_types - 1)
    test = np.zeros((2, n_tokens), bool)
    test[0, :25] = test[1, 25:50] = True
    arrays = split_arrays(
        Folds(~test, test),
        token_to_type,
        queries="tokens",
        candidates=np.isin(np.arange(n_types), token_to_type),
    )
    return arrays, token_to_type


def simulated(split: Split, token_to_type, ks, counts_of, rng, n=3000):
    """Hit rates over tokens and types of rankings by frequency with ties broken at random."""
    tokens, types = [], []
    for fold in range(len(split.train)):
        candidates = np.flatnonzero(split.candidates[fold])
        counts = counts_of(fold)[candidates]
        tested = token_to_type[split.test[fold] > 0]
        hit = np.zeros((len(ks), split.candidates.shape[1]))
        for _ in range(n):
            order = candidates[np.lexsort((rng.random(len(candidates)), -counts))]
            for row, k in enumerate(ks):
                hit[row, order[:k]] += 1 / n
        tokens.append(hit[:, tested])
        types.append(hit[:, np.unique(tested)])
    return (np.concatenate(x, axis=1).mean(axis=1) for x in (tokens, types))


@pytest.mark.parametrize("known", ["training", "stimulus"])
def test_the_frequency_guess_equals_rankings_with_random_ties(rng, known):
    split, token_to_type = folds(rng)
    ks = (1, 3, 8)

    def counts_of(fold):
        kept = split.train[fold] > 0 if known == "training" else slice(None)
        return np.bincount(token_to_type[kept], minlength=12)

    guess = chance.frequency_guess(split, token_to_type, ks, known=known)
    tokens, types = simulated(split, token_to_type, ks, counts_of, rng)
    np.testing.assert_allclose(guess.tokens, tokens, atol=0.02)
    np.testing.assert_allclose(guess.types, types, atol=0.02)
    assert guess.tokens[1] > guess.types[1] > 3 / 12  # frequent words are tested often


def test_unknown_counts_are_refused(rng):
    split, token_to_type = folds(rng)
    with pytest.raises(ValueError, match="corpus"):
        chance.frequency_guess(split, token_to_type, (3,), known="corpus")


def test_rows_of_a_study_on_a_story():
    """Held-out types never occur in the training, so that only the stimulus gives them away."""
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, 400), 150)
    story = Stimulus.from_words([f"word{i}" for i in tokens], onsets=np.arange(400) * 0.5)
    responses = make_responses(story, rng.standard_normal((400, 4)))
    scoring = Scoring(("procrustes",), protocol("audited", n_folds=3), (1, 10))
    problem = folds_of(responses, scoring, inner=False)
    table = chance.chance_rows(problem.folds.outer, problem.folds.token_to_type, scoring.ks)
    assert table["k"].tolist() == [1, 10]
    assert (table["lower"] <= table["uniform"]).all() and (table["uniform"] <= table["upper"]).all()
    assert table["training_types"].tolist() == [0, 0]
    np.testing.assert_allclose(
        table["uniform"], [1 / problem.n_candidates, 10 / problem.n_candidates]
    )


def test_adjusted_p_values_by_hand():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(chance.adjusted_p(p), [[0.03, np.nan], [0.04, 0.04]])
    assert np.isnan(chance.adjusted_p([np.nan])).all()


def test_draws_that_equal_the_score_but_for_rounding_reach_it():
    hits = np.arange(181)
    tied = (hits.astype(np.float32) / np.float32(180))[None]
    for share, draw in zip(hits / 180, tied[0], strict=True):
        assert chance.permutation_p(share, np.array([draw], np.float32)) == 1
        assert chance.permutation_p(share, np.array([draw - 1 / 180], np.float32)) == 0.5
    p_values = chance.permutation_p(np.array([0.5, 0.2]), np.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(p_values, [0.25, 0.75])


def test_a_score_that_is_no_number_has_no_p_value():
    null = np.array([0.1, 0.2])
    p_values = chance.permutation_p(np.array([np.nan, 0.3, np.inf]), null)
    np.testing.assert_array_equal(p_values, [np.nan, 1 / 3, np.nan])
    assert np.isnan(chance.permutation_p(0.3, np.array([0.1, np.nan])))
    each = chance.permutation_p(np.array([0.3, 0.3]), np.array([[0.1, 0.2], [np.nan, 0.4]]))
    np.testing.assert_array_equal(each, [np.nan, 2 / 3])


@pytest.mark.parametrize(("memory", "share"), [(0.0, 1.0), (0.5, 1 / 3), (0.9, 1 / 19)])
def test_scores_with_a_memory_are_worth_fewer_draws(memory, share):
    # A process x[t] = memory x[t - 1] + noise has (1 - memory) / (1 + memory) as many independent values.
    shocks = np.random.default_rng(7).standard_normal(20_000)
    series = signal.lfilter([1.0], [1.0, -memory], shocks)
    assert chance.independent_draws(series) == pytest.approx(share * len(series), rel=0.1)
    assert 1 <= chance.independent_draws(series[:3]) <= 3
    assert chance.independent_draws(np.full(9, 0.3)) == 1


def test_p_of_shifts_is_no_smaller_than_independent_shifts_allow():
    scores = np.convolve(np.random.default_rng(3).standard_normal(140), np.ones(21), "valid") / 21
    best = scores.max() + 1
    assert chance.permutation_p(best, scores) == pytest.approx(1 / 121)
    allowed = 1 / chance.independent_draws(scores)
    assert 1 / 40 < allowed == chance.permutation_p(best, scores, shifts=True)
    # A p that is larger anyway stays.
    assert chance.permutation_p(scores.min(), scores, shifts=True) == 1
    assert np.isnan(chance.permutation_p(np.nan, scores, shifts=True))


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.3, 2.0, size=(400, 2)) + [0, 5]
    interval = chance.mean_interval(values, n_bootstrap=10_000)
    half = 1.96 * values.std(axis=0) / 20
    np.testing.assert_allclose(interval.lower, values.mean(axis=0) - half, atol=0.02)
    np.testing.assert_allclose(interval.upper, values.mean(axis=0) + half, atol=0.02)
    narrow = chance.mean_interval(values[:, 0], n_bootstrap=10_000, confidence=0.5)
    assert interval.lower[0] < narrow.lower < narrow.upper < interval.upper[0]
    assert chance.mean_interval(np.full(5, 0.25), n_bootstrap=100) == (0.25, 0.25)


def test_the_best_place_goes_by_what_exceeds_its_own_null_and_finds_nothing_in_noise(rng):
    floor = np.array([0.5, 0.0, 0.2])
    drawn = floor + 0.02 * rng.standard_normal((99, 3))
    planted = floor + [0.0, 0.1, 0.0]
    assert chance.best_place(planted, drawn, own_null=False)[0] == 0
    place, highest = chance.best_place(planted, drawn, own_null=True)
    assert place == 1 and chance.permutation_p(planted[1], highest) == 0.01
    p, places = [], []
    for _ in range(400):
        values, drawn = np.split(floor + 0.02 * rng.standard_normal((40, 3)), [1])
        place, highest = chance.best_place(values[0], drawn, own_null=True)
        p.append(chance.permutation_p(values[0, place], highest))
        places.append(place)
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.08
    assert np.bincount(places).min() > 100
    place, highest = chance.best_place(planted, drawn[:0], own_null=True)
    assert place == 0 and len(highest) == 0


def test_the_level_of_p_values_stands_in_one_place():
    package = Path(chance.__file__).parents[2]
    places = [
        path.name
        for path in package.rglob("*.py")
        if re.search(r"^(LEVEL|ALPHA)\b.*= .*0\.05", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert places == ["chance.py"]
