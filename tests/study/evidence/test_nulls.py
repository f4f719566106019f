"""Null draws and null scores: what they keep, what they break, and that they equal a plain rescoring."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence import exchanged_nulls
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.evidence.draws import Draw, draw_nulls, moved_rows
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects
from brainalign_jax.study.score.workbench import Workbench


@pytest.fixture(scope="module")
def story():
    """240 words in 2 runs, a word a second, 90 types."""
    rng = np.random.default_rng(0)
    names = [f"word{i}" for i in rng.integers(0, 90, 240)]
    run = np.repeat([1, 2], 120)
    onsets = np.concatenate([np.arange(120.0), 200 + np.arange(120.0)])
    return Stimulus.from_words(names, onsets=onsets, run=run)


def draws(kind, stimulus, n, valid=None, seed=0):
    valid = np.ones(len(stimulus), bool) if valid is None else valid
    return draw_nulls(kind, stimulus, valid, stimulus.types()[1], n, seed=seed)


def test_shifts_stay_in_their_run_and_take_every_step_of_its_circle(story):
    """The shortest steps and none, too: the study must be one of equals."""
    valid = np.ones(240, bool)
    valid[:5] = False
    taken = {5: set(), 120: set()}
    for draw in draws("shift", story, 120, valid):
        assert (draw.rows[:5] == np.arange(5)).all()
        for first, last in ((5, 120), (120, 240)):
            rows, size = draw.rows[first:last] - first, last - first
            step = rows[0]
            np.testing.assert_array_equal(rows, (np.arange(size) + step) % size)
            taken[first].add(int(step))
    for first, size in ((5, 115), (120, 120)):
        assert taken[first] == set(range(size))


def test_smooth_noise_rejects_no_more_often_than_it_may(story):
    """Scores of all shifts of two smooth series, at the shifts that draws take, over many studies.

    With shifts of 20 words and more alone .075 of these studies have p <= .04; all shifts give .04.
    """
    rng = np.random.default_rng(12)
    n, n_studies = 120, 2000
    one_run = Stimulus.from_words([f"word{i}" for i in range(n)], onsets=np.arange(float(n)))
    steps = np.array([draw.rows[0] for draw in draws("shift", one_run, 99)])
    kernel = np.exp(-0.5 * (np.minimum(np.arange(n), n - np.arange(n)) / 2.5) ** 2)
    series = rng.standard_normal((n_studies, 2, n))
    spectra = np.fft.rfft(series) * np.fft.rfft(kernel)
    scores = np.fft.irfft(spectra[:, 0] * spectra[:, 1].conj(), n)
    p = np.array([permutation_p(study_scores[0], study_scores[steps]) for study_scores in scores])
    assert (p <= 0.04).mean() < 0.055
    assert (p <= 0.2).mean() == pytest.approx(0.2, abs=0.03)


def test_blocks_keep_thirty_seconds_together(story):
    for draw in draws("blocks", story, 5):
        assert sorted(draw.rows) == list(range(240))
        assert (np.diff(draw.rows) == 1).sum() >= 240 - 8
        assert (draw.rows != np.arange(240)).any()


def test_items_exchange_the_vectors_of_the_recorded_types(story):
    valid = np.ones(240, bool)
    _, token_to_type = story.types()
    valid[token_to_type == 3] = False
    for draw in draws("items", story, 20, valid):
        assert sorted(draw.types) == list(range(len(story.types()[0])))
        assert draw.types[3] == 3


@pytest.mark.parametrize("kind", ["items", "shift", "blocks"])
def test_a_draw_depends_on_its_number_and_seed_only(story, kind):
    few, many, other = (
        draws(kind, story, 2),
        draws(kind, story, 5),
        draws(kind, story, 2, seed=1),
    )
    for name in ("types", "rows"):
        if getattr(few[1], name) is not None:
            np.testing.assert_array_equal(getattr(few[1], name), getattr(many[1], name))
            assert (getattr(few[1], name) != getattr(other[1], name)).any()


def test_noise_is_as_smooth_as_the_recording_and_forgets_the_words(story):
    rng = np.random.default_rng(1)
    smooth = np.apply_along_axis(np.convolve, 0, rng.standard_normal((240, 40)), np.ones(8), "same")
    valid = np.ones(240, bool)
    valid[7] = False
    first, second = (moved_rows(smooth, draw, story, valid) for draw in draws("noise", story, 2))
    assert (first[7] == 0).all()
    assert np.abs(first - second).max() > 1
    for rows in (np.arange(8, 120), np.arange(120, 240)):
        lag = [np.mean(x[rows][1:] * x[rows][:-1]) / np.mean(x[rows] ** 2) for x in (smooth, first)]
        assert lag[1] == pytest.approx(lag[0], abs=0.05)
        assert first[rows].std() == pytest.approx(smooth[rows].std(), rel=0.1)
    kept = [np.corrcoef(first[:, i], smooth[:, i])[0, 1] for i in range(40)]
    assert abs(np.mean(kept)) < 0.1


def test_too_short_runs_are_refused():
    short = Stimulus.from_words(list("abc"), onsets=np.arange(3.0))
    with pytest.raises(ValueError, match="nothing to shift"):
        draws("shift", short, 1)
    with pytest.raises(ValueError, match="nothing to exchange"):
        draws("blocks", short, 1)
    with pytest.raises(ValueError, match="unknown null"):
        NullPlan("dice", 3)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("procrustes", {}),
        ("ridge", {}),
        ("rsa", {}),
        ("ridge", {"vector_scaling": "minmax", "csls_queries": "all_words"}),
    ],
)
def test_item_nulls_equal_a_rescoring_of_the_exchanged_vectors(words, planted, method, changes):
    vectors, responses = planted
    scoring = Scoring((method,), protocol("audited", timed=False, **changes), (5,))
    null_rows = score_nulls(
        "x", responses, make_embeddings(words, vectors), scoring, NullPlan("items", 2), k=5
    )
    types = draws("items", words, 2)[1].types
    expected = score_subjects("x", responses, make_embeddings(words, vectors[:, types]), scoring)
    expected = expected[(expected["fold"] == -1) & (expected["layer"] >= 0)]
    check_equal(null_rows[null_rows["draw"] == 1], expected)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "rsa"])
@pytest.mark.parametrize("n_axes", [10, 200])
def test_shift_nulls_equal_a_rescoring_of_the_moved_words(story, method, n_axes):
    """With fewer and with more axes than word types."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((2, len(story.types()[0]), n_axes))
    values = rng.standard_normal((240, 16))
    scoring = Scoring((method,), protocol("audited", csls_k=5, n_folds=3), (5,))
    valid = np.ones(240, bool)
    valid[[3, 130]] = False
    values[~valid] = 0
    person = dataclasses.replace(make_responses(story, values, subject="S0"), valid=valid)
    plan = NullPlan("shift", 12)
    null_rows = score_nulls("x", [person], make_embeddings(story, vectors), scoring, plan, k=5)
    for number in (0, 11):
        words = np.argsort(draws("shift", story, 12, valid)[number].rows)
        moved = Stimulus.from_words(
            [story.words[i] for i in words], onsets=story.onsets, run=story.run
        )
        order = [story.types()[0].index(word) for word in moved.types()[0]]
        expected = score_subjects(
            "x",
            [dataclasses.replace(person, stimulus=moved)],
            make_embeddings(moved, vectors[:, order]),
            scoring,
        )
        expected = expected[(expected["fold"] == -1) & (expected["layer"] >= 0)]
        check_equal(null_rows[null_rows["draw"] == number], expected)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "rsa"])
@pytest.mark.parametrize("changes", [{}, {"inner_shuffle": True}, {"folds": "shuffled_types"}])
def test_where_words_decide_the_folds_the_responses_move(story, method, changes):
    name = "audited" if changes else "paper"
    if changes == {"inner_shuffle": True} and method != "ridge":
        changes = {"folds": "shuffled_types", "inner_shuffle": True}
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((2, len(story.types()[0]), 10))
    person = make_responses(story, rng.standard_normal((240, 16)), subject="S0")
    scoring = Scoring((method,), protocol(name, csls_k=5, n_folds=3, purge=0.0, **changes), (5,))
    embeddings = make_embeddings(story, vectors)
    null_rows = score_nulls("x", [person], embeddings, scoring, NullPlan("shift", 2), k=5)
    moved = dataclasses.replace(person, values=person.values[draws("shift", story, 2)[0].rows])
    expected = score_subjects("x", [moved], embeddings, scoring)
    expected = expected[(expected["fold"] == -1) & (expected["layer"] >= 0)]
    check_equal(null_rows[null_rows["draw"] == 0], expected)


def test_what_is_fitted_on_training_rows_is_fitted_to_each_draw(story):
    rng = np.random.default_rng(6)
    vectors = rng.standard_normal((1, len(story.types()[0]), 10))
    values = rng.standard_normal((240, 16)) * np.linspace(1, 9, 240)[:, None]
    person = make_responses(story, values, subject="S0")
    chosen = protocol("audited", csls_k=5, n_folds=3, scaling="zscore", n_voxels=8)
    scoring = Scoring(("procrustes",), chosen, (5,))
    embeddings = make_embeddings(story, vectors)
    null_rows = score_nulls("x", [person], embeddings, scoring, NullPlan("shift", 1), k=5)
    moved = dataclasses.replace(person, values=person.values[draws("shift", story, 1)[0].rows])
    expected = score_subjects("x", [moved], embeddings, scoring)
    expected = expected[(expected["fold"] == -1) & (expected["layer"] >= 0)]
    check_equal(null_rows, expected)


def check_equal(null_rows, expected):
    """The pooled scores of one draw and of a plain sweep."""
    for metric, k in (("precision_csls", 5), ("rank_accuracy", 0)):
        a = null_rows[null_rows["metric"] == metric].set_index(["subject", "layer"])["value"]
        b = expected[(expected["metric"] == metric) & (expected["k"] == k)]
        b = b.set_index(["subject", "layer"])["value"]
        # One rank may turn on the last bit.
        np.testing.assert_allclose(a.sort_index(), b.sort_index(), atol=0.02 if k else 2e-3)


def test_finished_nulls_are_read_again(words, planted, tmp_path):
    vectors, responses = planted
    scoring = Scoring(("rsa",), protocol("audited", timed=False), (5,))
    options = dict(k=5, cells=tmp_path)
    embeddings = make_embeddings(words, vectors)
    first = score_nulls("x", responses, embeddings, scoring, NullPlan("items", 2), **options)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = score_nulls("x", responses, embeddings, scoring, NullPlan("items", 2), **options)
    assert first.equals(again)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2


@pytest.mark.parametrize("scaling", ["spread", "none"])
def test_held_penalties_equal_the_long_way_where_there_is_one_penalty(words, planted, scaling):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, alphas=(0.1,), candidate_scaling=scaling)
    scoring = Scoring(("ridge",), chosen, (5,))
    embeddings = make_embeddings(words, vectors)
    long, held = (
        score_nulls("x", responses, embeddings, scoring, NullPlan("items", 3, 0, hold), k=5)
        for hold in (False, True)
    )
    assert held[["subject", "layer", "draw", "metric"]].equals(
        long[["subject", "layer", "draw", "metric"]]
    )
    # One rank of 60 may turn on the last bit.
    np.testing.assert_allclose(held["value"], long["value"], atol=0.02)
    assert np.mean(np.abs(held["value"] - long["value"]) > 1e-6) < 0.1


@pytest.mark.parametrize("hold", [False, True])
def test_the_draw_that_exchanges_nothing_gives_the_score_of_the_study(words, planted, hold):
    """With the penalty held, as with one chosen anew."""
    vectors, responses = planted
    scoring = Scoring(("ridge",), protocol("audited", timed=False), (5,))
    embeddings = make_embeddings(words, vectors)
    bench_draws = [Draw(types=np.arange(60))]
    with ThreadPoolExecutor(1) as pool:
        bench = Workbench(responses, [embeddings], scoring, Computation(), pool)
        problem, works = bench.works(0, "ridge", [0])
        assert exchanged_nulls.serves(works[0], bench_draws, hold_alpha=hold)
        sums = exchanged_nulls.score(works[0], bench_draws, pool, k=5, hold_alpha=hold)
        mean_scores = sums[0, 0] / 60
    rows = score_subjects("x", responses[:1], embeddings, scoring)
    rows = rows[(rows["fold"] == -1) & (rows["layer"] >= 0)]
    for i, (metric, k) in enumerate((("precision_csls", 5), ("rank_accuracy", 0))):
        expected = rows[(rows["metric"] == metric) & (rows["k"] == k)].sort_values("layer")["value"]
        np.testing.assert_allclose(mean_scores[0, i], expected, atol=0.02 if k else 1e-3)


def test_held_penalties_ask_for_the_types_of_tokens():
    """Where tokens are decoded, a query is a token and its answer a type."""
    rng = np.random.default_rng(3)
    names = [f"word{i}" for i in range(40)]
    stimulus = Stimulus.from_words(names + [names[i] for i in rng.integers(0, 40, 20)])
    vectors = rng.standard_normal((1, 40, 12))
    values = vectors[0][stimulus.types()[1]] @ rng.standard_normal((12, 30))
    person = make_responses(stimulus, values + rng.standard_normal((60, 30)))
    chosen = protocol("audited", timed=False, queries="tokens", csls_k=5, n_folds=4, alphas=(1.0,))
    scoring = Scoring(("ridge",), chosen, (5,))
    long, held = (
        score_nulls(
            "x",
            [person],
            make_embeddings(stimulus, vectors),
            scoring,
            NullPlan("items", 6, 0, hold),
            k=5,
        )["value"]
        for hold in (False, True)
    )
    np.testing.assert_allclose(held, long, atol=0.02)
    assert np.mean(np.abs(held - long) > 1e-6) < 0.2


def test_subjects_who_lack_words_share_the_rest_of_a_draw(story):
    lacking = np.ones(240, bool)
    lacking[np.isin(story.types()[1], (3, 8))] = False
    for whole, part in zip(
        draws("items", story, 10), draws("items", story, 10, lacking), strict=True
    ):
        used = np.setdiff1d(np.arange(len(whole.types)), (3, 8))
        assert sorted(part.types[used]) == used.tolist()
        assert (part.types[[3, 8]] == [3, 8]).all()
        assert (part.types[used] != whole.types[used]).sum() <= 2


@pytest.mark.parametrize(
    ("queries", "n_features", "changes"),
    [
        ("types", 60, {}),
        ("types", 12, {"candidate_scaling": "none"}),
        ("tokens", 30, {"alpha_unit": "absolute"}),
        ("types", 60, {"alphas": tuple(10.0 ** (i / 3) for i in range(-9, 10))}),
    ],
)
def test_penalties_are_chosen_in_each_draw_as_the_long_way_chooses(
    monkeypatch, queries, n_features, changes
):
    """Draw by draw, with more and with fewer features than types, and where filters share a basis."""
    rng = np.random.default_rng(4)
    names = [f"word{i}" for i in range(40)]
    repeated = [names[i] for i in rng.integers(0, 40, 20)] if queries == "tokens" else []
    stimulus = Stimulus.from_words(names + repeated)
    vectors = rng.standard_normal((2, 40, 12)) + 1
    planted = vectors[0][stimulus.types()[1]] @ rng.standard_normal((12, n_features))
    values = planted + 6 * rng.standard_normal(planted.shape)
    person = make_responses(stimulus, values)
    chosen = protocol("audited", timed=False, queries=queries, csls_k=5, n_folds=4, **changes)
    scoring, plan = Scoring(("ridge",), chosen, (5,)), NullPlan("items", 11)
    embeddings = make_embeddings(stimulus, vectors)
    rows = []
    served = exchanged_nulls.serves
    for fast in (True, False):
        took = []

        def serves(*args, fast=fast, took=took, **options):
            took.append(served(*args, **options))
            return fast and took[-1]

        monkeypatch.setattr(exchanged_nulls, "serves", serves)
        rows.append(score_nulls("x", [person], embeddings, scoring, plan, k=5))
        assert took == [True]
    short, long = rows
    columns = ["layer", "draw", "metric"]
    assert short[columns].equals(long[columns])
    # One rank may turn on the last bit, and with it, seldom, the penalty of a fold.
    differs = np.abs(short["value"] - long["value"])
    assert (differs > 1e-5).mean() < 0.1
    assert differs.max() < 0.05
    assert long.groupby("draw")["value"].mean().nunique() > 5


def test_hat_matrices_too_large_to_keep_are_left_to_the_long_way(words, planted, monkeypatch):
    vectors, responses = planted
    scoring = Scoring(("ridge",), protocol("audited", timed=False), (5,))
    one_draw = [Draw(types=np.arange(60))]
    with ThreadPoolExecutor(1) as pool:
        embeddings = [make_embeddings(words, vectors)]
        bench = Workbench(responses, embeddings, scoring, Computation(), pool)
        work = bench.works(0, "ridge", [0])[1][0]
    assert exchanged_nulls.serves(work, one_draw, hold_alpha=False)
    monkeypatch.setattr(exchanged_nulls, "_MOST_BYTES", 2**16)
    assert not exchanged_nulls.serves(work, one_draw, hold_alpha=False)
    assert exchanged_nulls.serves(work, one_draw, hold_alpha=True)
