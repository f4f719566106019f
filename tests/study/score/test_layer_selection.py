"""The layer that inner folds choose, axes in common, and the means over tokens and hapaxes."""

import numpy as np
import oracles
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.score.folds import inner_folds, outer_folds
from brainalign_jax.study.score.sweep import Scoring, score, score_subjects

METHODS = ("procrustes", "ridge", "rsa")


def rows_of(rows, metric, *, k=0, fold=None, layer=None):
    chosen = rows[(rows["metric"] == metric) & (rows["k"] == k)]
    if fold is not None:
        chosen = chosen[chosen["fold"] == fold]
    return chosen if layer is None else chosen[chosen["layer"] == layer]


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_layer_is_chosen_and_scored_fold_by_fold(words, planted, method):
    vectors, responses = planted
    scoring = Scoring((method,), protocol("audited", timed=False, n_folds=5), (10,))
    rows = score_subjects("x", responses, make_embeddings(words, vectors), scoring)
    chosen = rows_of(rows, "selected_layer")
    assert (chosen["layer"] == SELECTED).all() and len(chosen) == 2 * 6
    assert (chosen["value"] == 1).mean() > 0.8
    for _, line in chosen[chosen["fold"] >= 0].iterrows():
        same = rows[(rows["subject"] == line["subject"]) & (rows["fold"] == line["fold"])]
        for metric, k in (("precision_csls", 10), ("rank_accuracy", 0)):
            of_layer = rows_of(same, metric, k=k, layer=line["value"])["value"].item()
            assert rows_of(same, metric, k=k, layer=SELECTED)["value"].item() == of_layer


def test_procrustes_chooses_by_the_mean_rank_in_the_inner_folds(words, planted):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=4, candidate_scaling="none")
    scoring = Scoring(("procrustes",), chosen, (10,))
    rows = score_subjects("x", responses[:1], make_embeddings(words, vectors), scoring)
    x, every = responses[0].values.astype(np.float64), np.ones(60, bool)
    outer = outer_folds(words, np.arange(60), every, chosen, seed=0)
    inner = inner_folds(words, np.arange(60), outer.train, chosen, seed=0)
    for fold, folds in enumerate(inner):
        known = np.flatnonzero(outer.train[fold])
        totals = []
        for y in vectors:
            total = 0.0
            for train, test in zip(folds.train, folds.test, strict=True):
                mx, my = x[train].mean(axis=0), y[train].mean(axis=0)
                left, _, right = np.linalg.svd((x[train] - mx).T @ (y[train] - my))
                size = min(left.shape[0], right.shape[0])
                predicted = (x[test] - mx) @ left[:, :size] @ right[:size]
                scores = oracles.cosine(predicted, y[known] - my)
                gold = np.searchsorted(known, np.flatnonzero(test))
                own = scores[np.arange(len(gold)), gold]
                total += (1 + (scores > own[:, None]).sum(axis=1)).sum()
            totals.append(total)
        selected = rows_of(rows, "selected_layer", fold=fold)["value"].item()
        assert selected == np.argmin(totals)


@pytest.mark.parametrize("method", METHODS)
def test_tested_words_have_no_part_in_the_choice(words, planted, method):
    vectors, responses = planted
    chosen = protocol("audited", timed=False, n_folds=5)
    scoring = Scoring((method,), chosen, (10,))
    fold = outer_folds(words, np.arange(60), np.ones(60, bool), chosen, seed=0)
    changed = responses[0].values.copy()
    changed[fold.test[2]] = np.random.default_rng(1).standard_normal((fold.test[2].sum(), 20)) * 9
    # Layers that differ in their tested words only can be chosen by these words only.
    tables = [
        score_subjects(
            "x",
            [make_responses(words, values, subject="S0")],
            make_embeddings(words, vectors),
            scoring,
        )
        for values in (responses[0].values, changed)
    ]
    a, b = (rows_of(rows, "selected_layer", fold=2)["value"].item() for rows in tables)
    assert a == b


@pytest.mark.parametrize("selection", ["error_shared", "error_per_target"])
def test_ridge_with_squared_errors_chooses_by_them(words, planted, selection):
    vectors, responses = planted
    scaled = vectors * np.array([0.01, 1.0, 100.0])[:, None, None]  # of no account to r2
    chosen = protocol("audited", timed=False, n_folds=5, alpha_selection=selection)
    rows = score_subjects(
        "x", responses, make_embeddings(words, scaled), Scoring(("ridge",), chosen, (10,))
    )
    assert (rows_of(rows, "selected_layer")["value"] == 1).all()


def test_the_paper_chooses_no_layer(words, planted):
    vectors, responses = planted
    chosen = protocol("paper", csls_k=5)
    rows = score_subjects(
        "x", responses, make_embeddings(words, vectors), Scoring(METHODS, chosen, (10,))
    )
    assert set(rows["layer"]) == {0, 1, 2}


def test_models_of_different_width_are_compared_on_common_axes(words, planted):
    """Six dimensions more that hold nothing leave the axes of the training words as they are."""
    vectors, responses = planted
    wide = np.concatenate([vectors, np.zeros((3, 60, 6))], axis=2)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((18, 18)))[0]
    models = [
        make_embeddings(words, vectors, name="narrow"),
        make_embeddings(words, wide @ rotation, name="wide"),
    ]
    # The correlation over dimensions is not that over other axes: RSA by cosine.
    chosen = protocol("audited", timed=False, n_folds=5, rdm_metric="cosine")
    for method in METHODS:
        rows = score_subjects("x", responses, models, Scoring((method,), chosen, (10,)))
        rows = rows_of(rows, "rank_accuracy", fold=-1).set_index(["subject", "layer"])
        narrow, wide_rows = (rows.loc[rows["model"] == m, "value"] for m in ("narrow", "wide"))
        np.testing.assert_allclose(narrow, wide_rows, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_axes_are_those_of_the_training_words(words, method):
    rng = np.random.default_rng(3)
    chosen = dict(timed=False, n_folds=5, rdm_metric="cosine")
    fold = outer_folds(
        words, np.arange(60), np.ones(60, bool), protocol("audited", **chosen), seed=0
    )
    values = rng.standard_normal((60, 8)) * np.arange(9, 1, -1)
    values[fold.test[0], 7] += 1e3  # words that are tested in fold 0 only
    train = values[fold.train[0]]
    axes = np.linalg.svd(train - train.mean(axis=0))[2][:4]
    responses = make_responses(words, values[:, :4] @ rng.standard_normal((4, 20)))
    accuracies = [
        rows_of(
            score_subjects(
                "x",
                [responses],
                make_embeddings(words, x[None]),
                Scoring((method,), protocol("audited", **chosen, vector_axes=n_axes), (10,)),
            ),
            "rank_accuracy",
            fold=0,
            layer=0,
        )["value"].item()
        for x, n_axes in ((values, 4), (values @ axes.T, 0))
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=5e-3)


def test_means_over_tokens_and_hapaxes(planted):
    vectors, responses = planted
    names = [f"word{i}" for i in range(60)] + [f"word{i}" for i in range(0, 60, 3)] * 2
    story = Stimulus.from_words(names)
    _, token_to_type = story.types()
    recording = make_responses(story, responses[0].values[token_to_type])
    for queries, other in (("types", "tokens"), ("tokens", "types")):
        chosen = protocol("audited", timed=False, n_folds=5, queries=queries)
        scoring = Scoring(("procrustes",), chosen, (3,))
        rows, ranks = score("x", [recording], make_embeddings(story, vectors[1:2]), scoring)
        hit = ranks.assign(hit=ranks["rank_csls"] <= 3)
        counts = np.bincount(token_to_type)
        by_type = hit.groupby("type")["hit"].mean()
        by_token = (by_type * counts).sum() / counts.sum()
        values = {
            "precision_csls": by_type.mean() if queries == "types" else by_token,
            f"precision_csls_{other}": by_token if queries == "types" else by_type.mean(),
            "precision_csls_hapax": hit.loc[counts[hit["type"]] == 1, "hit"].mean(),
        }
        for metric, value in values.items():
            line = rows_of(rows, metric, k=3, fold=-1, layer=0)
            assert line["value"].item() == pytest.approx(value)
        assert rows_of(rows, "precision_csls_hapax", k=3, fold=-1, layer=0)["n_items"].item() == 40
        assert set(ranks["token"] == -1) == {queries == "types"}
