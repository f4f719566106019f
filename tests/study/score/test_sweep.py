"""The sweep against plain NumPy loops over the same folds, and its errors."""

import dataclasses

import numpy as np
import oracles
import pytest
from recordings import make_embeddings, make_responses
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import COLUMNS
from brainalign_jax.study.score.folds import inner_folds, outer_folds
from brainalign_jax.study.score.problem import folds_of
from brainalign_jax.study.score.sweep import Scoring, score_subjects


def cell(rows, metric, layer, *, k=0, fold=-1, subject="S0"):
    chosen = rows[
        (rows["metric"] == metric)
        & (rows["layer"] == layer)
        & (rows["k"] == k)
        & (rows["fold"] == fold)
        & (rows["subject"] == subject)
    ]
    assert len(chosen) == 1
    return float(chosen["value"].iloc[0])


def ranks_by_loop(queries, candidates, gold):
    similarity = oracles.cosine(queries, candidates)
    return np.array(
        [1 + (row > row[true]).sum() for row, true in zip(similarity, gold, strict=True)]
    )


def ridge_fit(x, y, alpha):
    """Predictor of plain ridge with an intercept, in float64."""
    mx, my = x.mean(axis=0), y.mean(axis=0)
    weights = np.linalg.solve(
        (x - mx).T @ (x - mx) + alpha * np.eye(x.shape[1]), (x - mx).T @ (y - my)
    )
    return lambda new: (new - mx) @ weights + my


def held_out(words, x, y, chosen):
    """(fold, train, test, responses rotated by the training words' Procrustes map, centred vectors)."""
    folds = outer_folds(words, np.arange(len(y)), np.ones(len(y), bool), chosen, seed=0)
    for fold, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
        mx, my = x[train].mean(axis=0), y[train].mean(axis=0)
        left, _, right = np.linalg.svd((x[train] - mx).T @ (y[train] - my), full_matrices=False)
        yield fold, train, test, (x - mx) @ left @ right, y - my


def share_within(scores, test, k):
    """Share of the tested words whose own score is among the k highest of their row."""
    own = scores[np.arange(test.sum()), np.flatnonzero(test)]
    return np.mean(1 + (scores > own[:, None]).sum(axis=1) <= k)


def kernel_scale(x):
    return ((x - x.mean(axis=0)) ** 2).sum() / len(x)


def expected_ridge_ranks(x, y, tokens, chosen, seed):
    """Ranks of every word's held-out prediction, alpha by the inner folds' mean rank."""
    every = np.ones(len(y), bool)
    outer = outer_folds(tokens, np.arange(len(y)), every, chosen, seed=seed)
    inner = inner_folds(tokens, np.arange(len(y)), outer.train, chosen, seed=seed)
    ranks = np.zeros(len(y))
    for train, test, folds in zip(outer.train, outer.test, inner, strict=True):
        totals = []
        for alpha in chosen.alphas:
            total = 0.0
            for fit, check in zip(folds.train, folds.test, strict=True):
                mean = y[fit].mean(axis=0)
                predict = ridge_fit(x[fit], y[fit], alpha * kernel_scale(x[fit]))
                known = np.flatnonzero(train)
                gold = np.searchsorted(known, np.flatnonzero(check))
                total += ranks_by_loop(predict(x[check]) - mean, y[known] - mean, gold).sum()
            totals.append(total)
        alpha = chosen.alphas[int(np.argmin(totals))]
        mean = y[train].mean(axis=0)
        predict = ridge_fit(x[train], y[train], alpha * kernel_scale(x[train]))
        ranks[test] = ranks_by_loop(predict(x[test]) - mean, y - mean, np.flatnonzero(test))
    return ranks


@pytest.mark.parametrize("layer", [0, 1])
def test_ridge_equals_a_loop_over_folds_and_alphas(words, planted, layer):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=6, candidate_scaling="none")
    rows = score_subjects(
        "planted",
        responses,
        make_embeddings(words, vectors),
        Scoring(("ridge",), chosen, (1, 10), seed=3),
    )
    x = responses[0].values.astype(np.float64)
    ranks = expected_ridge_ranks(x, vectors[layer], words, chosen, 3)
    assert cell(rows, "precision_nn", layer, k=10) == pytest.approx(np.mean(ranks <= 10), abs=0.02)
    expected = np.mean(1 - (ranks - 1) / 59)
    assert cell(rows, "rank_accuracy", layer) == pytest.approx(expected, abs=2e-3)


def test_procrustes_with_csls_equals_a_loop(words, planted):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=5, candidate_scaling="none", csls_k=5)
    rows = score_subjects(
        "planted",
        responses,
        make_embeddings(words, vectors),
        Scoring(("procrustes",), chosen, (5,)),
    )
    x, y = responses[0].values.astype(np.float64), vectors[1]
    for fold, _, test, predicted, centred in held_out(words, x, y, chosen):
        hits = share_within(oracles.csls(predicted[test], centred, k=5), test, 5)
        assert cell(rows, "precision_csls", 1, k=5, fold=fold) == pytest.approx(hits, abs=1e-6)


def test_spread_divides_by_the_training_words_root_mean_square(words, planted):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=5)
    rows = score_subjects(
        "planted",
        responses,
        make_embeddings(words, vectors),
        Scoring(("procrustes",), chosen, (5,)),
    )
    x, y = responses[0].values.astype(np.float64), vectors[1]
    for fold, train, test, predicted, centred in held_out(words, x, y, chosen):
        cosines = oracles.cosine(predicted, centred)
        scores = cosines[test] / np.sqrt((cosines[train] ** 2).mean(axis=0))
        hits = share_within(scores, test, 5)
        assert cell(rows, "precision_nn", 1, k=5, fold=fold) == pytest.approx(hits, abs=1e-6)


def test_similarity_decoding_equals_a_loop(words, planted):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=5)
    rows = score_subjects(
        "planted", responses, make_embeddings(words, vectors), Scoring(("rsa",), chosen, (5,))
    )
    x, y = responses[0].values.astype(np.float64), vectors[1]
    folds = outer_folds(words, np.arange(60), np.ones(60, bool), chosen, seed=0)
    for fold, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
        brain = np.corrcoef(x - x[train].mean(axis=0))
        model = np.corrcoef(y - y[train].mean(axis=0))
        known = np.flatnonzero(train)
        hits = []
        for word in np.flatnonzero(test):
            profile = brain[word, known]
            scores = []
            for candidate in range(60):
                row = model[candidate, known].copy()
                row[known == candidate] = np.mean(row[known != candidate])
                scores.append(np.corrcoef(profile, row)[0, 1])
            hits.append(1 + np.sum(np.array(scores) > scores[word]) <= 5)
        assert cell(rows, "precision_nn", 1, k=5, fold=fold) == pytest.approx(
            np.mean(hits), abs=1e-6
        )
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = spearmanr(pdist(x, "correlation"), pdist(y, "correlation")).statistic
    assert cell(rows, "rsa", 1) == pytest.approx(expected, abs=1e-5)


def test_planted_layer_wins_by_every_method(words, planted):
    vectors, responses = planted
    rows = score_subjects(
        "planted",
        responses,
        make_embeddings(words, vectors),
        Scoring(("procrustes", "ridge", "rsa"), protocol("audited", timed=False), (10,)),
    )
    assert tuple(rows.columns) == COLUMNS
    for method, metric in (
        ("procrustes", "rank_accuracy"),
        ("ridge", "rank_accuracy"),
        ("rsa", "rsa"),
    ):
        for subject in ("S0", "S1"):
            part = rows[rows["method"] == method]
            scores = [cell(part, metric, layer, subject=subject) for layer in range(3)]
            assert np.argmax(scores) == 1


def test_tokens_of_a_type_are_decoded_by_their_mean_response(planted):
    vectors, responses = planted
    rng = np.random.default_rng(2)
    twice = Stimulus.from_words([f"word{i}" for i in range(60)] * 2)
    noise = rng.standard_normal((60, 20))
    values = responses[0].values
    doubled = make_responses(twice, np.concatenate([values + noise, values - noise]), subject="S0")
    single = make_responses(
        Stimulus.from_words([f"word{i}" for i in range(60)]), values, subject="S0"
    )
    # With alpha in units of the kernel, training rows that double leave ridge as it is only when they
    # are equal: Procrustes is linear in the cross-covariance, so here the two must agree exactly.
    scoring = Scoring(
        ("procrustes",), protocol("audited", timed=False, candidate_scaling="none"), (1, 10)
    )
    a, b = (
        score_subjects("x", [recording], make_embeddings(recording.stimulus, vectors), scoring)
        for recording in (doubled, single)
    )
    # Where words recur there are also the means over tokens.
    a = a[~a["metric"].isin(["precision_csls_tokens", "precision_csls_hapax"])]
    np.testing.assert_allclose(a["value"], b["value"], atol=1e-6)


def test_subjects_scored_together_or_apart_agree(words, planted):
    vectors, responses = planted
    embeddings = make_embeddings(words, vectors)
    scoring = Scoring(("ridge", "rsa"), protocol("audited", timed=False), (10,))
    together = score_subjects("planted", responses, embeddings, scoring)
    apart = score_subjects("planted", responses[1:], embeddings, scoring)
    expected = together[together["subject"] == "S1"].reset_index(drop=True)
    # One rank of 60 may turn on the last bit.
    np.testing.assert_allclose(apart["value"], expected["value"], atol=0.02)


def test_a_final_layer_of_another_width_is_scored_as_the_last_layer(words, planted):
    vectors, responses = planted
    whole = score_subjects(
        "p",
        responses,
        make_embeddings(words, vectors),
        Scoring(("ridge",), protocol("audited", timed=False), (10,)),
    )
    final = np.concatenate([vectors[2], np.zeros((60, 4))], axis=1).astype(np.float32)
    split = score_subjects(
        "p",
        responses,
        make_embeddings(words, vectors[:2], final=final),
        Scoring(("ridge",), protocol("audited", timed=False), (10,)),
    )
    assert set(split["layer"]) == {-1, 0, 1, 2}
    assert cell(split, "rank_accuracy", 2) == pytest.approx(
        cell(whole, "rank_accuracy", 2), abs=1e-3
    )


def test_responses_are_reduced_to_the_width_of_each_block_of_layers(words, planted):
    """The paper's PCA: a final layer of another width has responses of its own."""
    vectors, responses = planted
    scoring = Scoring(
        ("procrustes", "ridge", "rsa"),
        protocol("paper", timed=False, csls_k=10, n_inner_folds=4),
        (10,),
    )
    final = vectors[2][:, :8]
    split = score_subjects(
        "p", responses, make_embeddings(words, vectors[:2], final=final), scoring
    )
    alone = score_subjects("p", responses, make_embeddings(words, final[None]), scoring)
    split = split[split["layer"] == 2].reset_index(drop=True)
    np.testing.assert_allclose(split["value"], alone["value"], atol=1e-5)


def test_paper_protocol_runs_on_tokens_and_uses_all_rows(planted):
    rng = np.random.default_rng(0)
    story = Stimulus.from_words(
        [f"word{i}" for i in rng.integers(0, 40, 160)], onsets=np.arange(160) / 2
    )
    types = story.types()[1]
    vectors = rng.standard_normal((2, types.max() + 1, 12))
    responses = make_responses(
        story,
        vectors[1][types] @ rng.standard_normal((12, 30)) + rng.standard_normal((160, 30)),
        subject="S0",
    )
    rows = score_subjects(
        "story",
        [responses],
        make_embeddings(story, vectors),
        Scoring(("procrustes", "ridge", "rsa"), protocol("paper", csls_k=10), (1, 10)),
    )
    pooled = rows[(rows["fold"] == -1) & (rows["metric"] == "precision_csls") & (rows["k"] == 10)]
    assert (pooled["n_items"] == 160).all()
    assert (pooled["chance"] == 10 / (types.max() + 1)).all()
    for method in ("procrustes", "ridge", "rsa"):
        part = pooled[pooled["method"] == method].set_index("layer")["value"]
        assert part[1] > part[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": (1, 61)}, "k=61 is above the number of candidate words, 60"),
        ({"protocol": protocol("audited", timed=False, csls_k=61)}, "csls_k=61 is above"),
        ({"protocol": protocol("audited", timed=False, n_folds=61)}, "61 folds need"),
        ({"layers": (0, 3)}, "no layer 3: its layers are 0 to 2"),
    ],
)
def test_impossible_requests_are_errors(words, planted, change, message):
    vectors, responses = planted
    arguments = {
        "methods": ("procrustes",),
        "protocol": protocol("audited", timed=False),
        "ks": (1,),
    }
    with pytest.raises(ValueError, match=message):
        score_subjects(
            "p", responses, make_embeddings(words, vectors), Scoring(**arguments | change)
        )


@pytest.mark.parametrize(("texts", "n_words"), [(["!!", "..", "—"], 0), (["sun"] * 3, 1)])
def test_too_few_words_are_an_error_that_says_so(texts, n_words):
    values = np.random.default_rng(0).standard_normal((3, 4))
    words = Stimulus.from_words(texts)
    with pytest.raises(ValueError, match=f"'S1' has a response to {n_words} words with"):
        folds_of(WordResponses("S1", values, words), Scoring(("procrustes",), ks=(1,)))


def test_vectors_of_other_words_are_an_error(words, planted):
    vectors, responses = planted
    other = Stimulus.from_words([f"other{i}" for i in range(60)])
    scoring = Scoring(("procrustes",), protocol("audited", timed=False), (1,))
    turned = Stimulus.from_words(words.words[::-1])  # as many words, and the same, in another order
    for models in (
        make_embeddings(other, vectors),
        [make_embeddings(words, vectors), make_embeddings(turned, vectors)],
    ):
        with pytest.raises(ValueError, match="are not the 60 of subject 'S0'"):
            score_subjects("p", responses, models, scoring)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("kcca",)}, "unknown method 'kcca'; the nearest of .*: cca"),
        ({"methods": ()}, "no method is given: name one or more of procrustes"),
        ({"methods": ("rsa",), "ks": (0,)}, "ks="),
    ],
)
def test_scoring_refuses_what_it_does_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scoring(**{"protocol": protocol("audited")} | arguments)


def test_case_variants_of_a_word_are_held_out_together():
    """An uncased model gives "Word" and "word" one vector: trained on one, it would know the other."""
    rng = np.random.default_rng(0)
    stimulus = Stimulus.from_words([w for i in range(40) for w in (f"Word{i}", f"word{i}")])
    codes = np.repeat(rng.standard_normal((40, 30)), 2, axis=0)
    vectors = np.repeat(rng.standard_normal((40, 12)), 2, axis=0)
    rows = score_subjects(
        "twins",
        [make_responses(stimulus, codes, subject="S0")],
        make_embeddings(stimulus, vectors[None]),
        Scoring(("ridge", "rsa"), protocol("audited", timed=False), (10,)),
    )
    # The codes have nothing to do with the vectors: only twins across folds could be found.
    accuracy = rows[(rows["metric"] == "rank_accuracy") & (rows["fold"] == -1)]["value"]
    assert (abs(accuracy - 0.5) < 0.12).all()


@pytest.mark.parametrize("scale", [1e-13, 1e6])
def test_the_unit_of_the_responses_does_not_matter(words, planted, scale):
    vectors, responses = planted
    scoring = Scoring(("procrustes", "ridge"), protocol("audited", timed=False, n_folds=5), (10,))
    embeddings = make_embeddings(words, vectors[1:2])
    whole, scaled = (
        score_subjects("p", [make_responses(words, x, subject="S0")], embeddings, scoring)
        for x in (responses[0].values, responses[0].values * np.float32(scale))
    )
    whole, scaled = (
        table[table["metric"] == "rank_accuracy"]["value"] for table in (whole, scaled)
    )
    np.testing.assert_allclose(whole, scaled, atol=5e-3)


def test_responses_without_variation_are_an_error(words, planted):
    vectors, _ = planted
    for values in (np.zeros((60, 40)), np.ones((60, 3))):
        with pytest.raises(ValueError, match="the same for all 60 words"):
            score_subjects(
                "p",
                [make_responses(words, values)],
                make_embeddings(words, vectors),
                Scoring(("procrustes",), protocol("audited", timed=False), (10,)),
            )


def test_vectors_made_by_hand_need_no_description(words, planted):
    vectors, responses = planted
    scoring = Scoring(("procrustes",), protocol("audited", timed=False), (10,))
    described = make_embeddings(words, vectors)
    rows = {}
    for name, meta in (("full", described.meta), ("none", {}), ("bad", {"n_layers": "three"})):
        model = dataclasses.replace(described, meta=meta)
        if name == "bad":
            with pytest.raises(
                ValueError, match="meta of model: n_layers='three' must be a number"
            ):
                score_subjects("p", responses[:1], model, scoring)
        else:
            rows[name] = score_subjects("p", responses[:1], model, scoring)
    assert (rows["none"]["n_layers"] == 2).all()
    assert rows["none"]["n_params"].isna().all() and rows["none"]["family"].isna().all()
    others = [c for c in rows["full"] if c not in ("family", "n_params")]
    assert rows["none"][others].equals(rows["full"][others])


def test_correlations_of_one_word_a_fold_are_not_reported(words, planted):
    vectors, responses = planted
    rows = score_subjects(
        "p",
        responses[:1],
        make_embeddings(words, vectors[:1]),
        Scoring(("ridge",), protocol("audited", timed=False, n_folds=60), (10, 10)),
    )
    expected = {"precision_csls", "precision_nn", "rank_accuracy", "selected_layer"}
    assert set(rows["metric"]) == expected
    assert not rows.duplicated(["layer", "fold", "metric", "k"]).any()
