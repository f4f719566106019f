"""Held-out words of both conditions as candidates: a map that only tells conditions apart is seen."""

from dataclasses import replace

import numpy as np
import pytest
from planted_conditions import (
    CONDITIONS,
    QUICK,
    cosine_ranks,
    made,
    plain_alpha,
    plain_ridge,
)
from recordings import make_embeddings, make_responses

from brainalign_jax import cli
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.generalisation import cells as drawing
from brainalign_jax.studies.generalisation import run_generalisation, run_novelty, verdicts
from brainalign_jax.studies.generalisation.conditions import items_in
from brainalign_jax.studies.generalisation.report import write_report
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.options import Scoring

BOTH = replace(QUICK, n_splits=1, n_bootstraps=100, candidates=("condition", "joint"))
RIDGE = Scoring(methods=("ridge",), ks=(1, 3), layers=(1,))
NAMES = CONDITIONS.split(";")
ENDS = ("value", "lower", "upper")


def study(dataset, model, plan=BOTH):
    return run_generalisation(
        dataset, [model], CONDITIONS, plan=plan, scoring=RIDGE, progress=False
    )


def line(table, rule, *, trained=None, tested="all", metric="rank_accuracy"):
    """The group's line of a cell, or of a gap where no training is named."""
    gap = {"trained_on": "", "metric": f"gap_{metric}"}
    cell = {"trained_on": trained, "metric": metric}
    return table.line(
        subject="group", layer=1, candidate_rule=rule, tested_on=tested, k=0,
        **(gap if trained is None else cell),
    )  # fmt: skip


def conditions_alone(seed):
    """What is in brain and vectors alike differs between conditions, and hardly within them."""
    rng = np.random.default_rng(seed)
    dataset, model, values = made("noise", noise=3 / np.sqrt(10), seed=seed)
    n = len(dataset.stimulus)
    shared = np.where(np.arange(n) < n // 2, -8, 8) + 0.7 * rng.standard_normal(n)
    vectors = np.array(model.values, float)
    axis = rng.standard_normal(vectors.shape[2])
    vectors[1] += shared[:, None] * axis / np.linalg.norm(axis)
    responses = {
        name: make_responses(
            dataset.stimulus,
            noise + shared[:, None] * rng.standard_normal(noise.shape[1]),
            subject=name,
        )
        for name, noise in zip(dataset.subjects, values, strict=True)
    }
    dataset = Dataset("made", dataset.subjects, dataset.stimulus, responses.__getitem__)
    return dataset, make_embeddings(dataset.stimulus, vectors)


def test_no_cell_was_trained_on_a_candidate_of_either_condition():
    dataset, _, _ = made("noise", n=50)
    items = items_in(dataset.stimulus, ("concreteness<3", "kind=b"), np.ones(50, bool))
    sizes = drawing.equal_sizes(items, n_folds=4)
    cells = drawing.draw_joint_cells(items, sizes, n_splits=3, rng=np.random.default_rng(0))
    assert cells.train.shape == (3 * 4 * 2, 18) and cells.test.shape == (3 * 4 * 2, 12)
    for train, test, trained, _ in zip(*cells, strict=True):
        assert not set(train) & set(test)
        assert len(set(train)) == 18 and len(set(test)) == 12
        assert set(items.condition[train]) == {trained}
        assert items.condition[test].tolist() == [0] * 6 + [1] * 6
    # The same words with the same candidates, after training on either condition.
    np.testing.assert_array_equal(cells.test[0::2], cells.test[1::2])
    apart = drawing.tested_apart(cells, 2)
    assert (items.condition[apart.test] == apart.tested[:, None]).all()
    ranks = np.arange(24 * 2 * 12).reshape(24, 2, 12)
    np.testing.assert_array_equal(drawing.words_apart(ranks, 2)[5], ranks[2][:, 6:])


def test_runs_and_matched_words_are_held_out_of_both_conditions():
    run = np.repeat(np.arange(8), 8)
    dataset, _, _ = made("noise")
    words = replace(dataset.stimulus, run=run)
    items = items_in(words, NAMES, np.ones(64, bool))
    sizes = drawing.equal_sizes(items, n_folds=4)
    cells = drawing.draw_joint_cells(items, sizes, n_splits=2, rng=np.random.default_rng(0))
    for train, test in zip(cells.train, cells.test, strict=True):
        assert not set(run[train]) & set(run[test])
    alone = items_in(dataset.stimulus, NAMES, np.ones(64, bool))
    sets = np.where(np.arange(64) % 32 < 12, np.arange(64) % 32, -1)
    paired = alone._replace(sets=sets)
    cells = drawing.draw_joint_cells(
        paired, drawing.equal_sizes(paired, n_folds=4), n_splits=2, rng=np.random.default_rng(0)
    )
    for train, test in zip(cells.train, cells.test, strict=True):
        assert (sets[test] >= 0).all() and not set(sets[train]) & set(sets[test])


def test_ridge_agrees_with_plain_numpy():
    dataset, model, values = made("shifted", noise=0.8, n_subjects=2)
    plan = Generalisation(n_folds=4, n_splits=1, n_nulls=0, n_bootstraps=100, candidates=("joint",))
    table = study(dataset, model, plan)
    items = items_in(dataset.stimulus, NAMES, np.ones(64, bool))
    sizes = drawing.equal_sizes(items, n_folds=4)
    cells = drawing.draw_joint_cells(items, sizes, n_splits=1, rng=np.random.default_rng((0, 0)))
    vectors = np.asarray(model.values[1], np.float64)[items.types]
    accuracy, hits = np.zeros((2, 2)), np.zeros((2, 2))
    for responses in np.asarray(values, np.float64):
        for train, test, trained, _ in zip(*cells, strict=True):
            source, target = responses.copy(), vectors.copy()
            alpha = plain_alpha(source, target, train)
            for rows in (source, target):
                rows[test] += rows[train].mean(axis=0) - rows[test].mean(axis=0)
            predicted = plain_ridge(source, target, train, test, alpha)
            ranks = cosine_ranks(predicted, target, train, test, test)
            for tested in range(2):
                own = ranks[items.condition[test] == tested]
                accuracy[trained, tested] += (1 - (own - 1) / 15).mean() / 8
                hits[trained, tested] += (own <= 3).mean() / 8
    for trained in range(2):
        for tested in range(2):
            where = dict(trained=NAMES[trained], tested=NAMES[tested])
            cell = line(table, "joint", **where)
            assert abs(cell["value"] - accuracy[trained, tested]) < 0.01
            assert cell["candidates"] == 16 and cell["n_train"] == 24
            precision = table.line(
                subject="group", layer=1, metric="precision", k=3,
                trained_on=NAMES[trained], tested_on=NAMES[tested],
            )  # fmt: skip
            assert abs(precision["value"] - hits[trained, tested]) < 0.02


def test_a_map_that_only_tells_conditions_apart_is_seen_among_words_of_both(tmp_path):
    table = study(*conditions_alone(0))
    within = {
        rule: [line(table, rule, trained=name, tested=name) for name in NAMES]
        for rule in ("condition", "joint")
    }
    # Of 16 candidates 8 are of the other condition: to tell these apart alone makes .767 at best.
    assert all(cell["value"] > 0.58 and cell["lower"] > 0.5 for cell in within["joint"])
    assert all(cell["lower"] < 0.5 for cell in within["condition"])
    assert line(table, "joint")["p"] > 0.05 and abs(line(table, "joint")["value"]) < 0.03
    (judged,) = verdicts(table)
    assert judged.answer == "nothing" and "the map may tell conditions apart" in judged.text
    write_report(table, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "16 of all conditions" in page and "8 of its condition" in page
    assert "among 8 of its condition and among 16, 8 of each condition, that were not" in page
    # Asked for alone, the joint rule says what it cannot tell.
    rows = table.rows[table.rows["candidate_rule"] == "joint"]
    plan = {**table.manifest["plan"], "candidates": ["joint"]}
    alone = replace(table, rows=rows, manifest={**table.manifest, "plan": plan})
    assert "tells conditions apart, and no words, reaches 0.767:" in alone.verdict()
    # Told apart beyond doubt they are no Yes; above what that reaches, words must be told apart.
    for gain, answer, said in (
        (0.06, "Not shown of words: what holds may be", "reaches 0.767: --candidates=condition"),
        (
            0.30,
            "Yes: as far as can be told, it holds",
            "reaches 0.767, and every cell is above it.",
        ),
    ):
        bounds = {end: rows[end] + gain * rows["metric"].eq("rank_accuracy") for end in ENDS}
        gained = replace(alone, rows=rows.assign(**bounds))
        assert gained.verdict().startswith(answer) and said in gained.verdict()


def test_a_gap_is_found_and_one_map_for_all_words_has_none():
    with_gap = study(*made("own", noise=0.5)[:2])
    assert line(with_gap, "joint")["p"] == 1 / 21 and line(with_gap, "joint")["lower"] > 0.1
    assert np.isfinite(line(with_gap, "joint")["ceiling"])
    assert abs(line(with_gap, "joint")["null_mean"]) < 0.1
    assert "among 16 held-out words, as many of each condition: rank" in with_gap.verdict().lower()
    # Conditions that differ in the mean as well: that is in every cell, and no gap.
    shifted = study(*made("shifted", noise=1.0, seed=1)[:2])
    gap = line(shifted, "joint")
    assert gap["lower"] < 0 < gap["upper"] and gap["p"] > 0.05
    assert verdicts(shifted)[0].text.endswith("That says the same.")


def test_noise_is_silent_and_the_condition_rule_is_what_it_was():
    dataset, model, _ = made("noise", n_subjects=2)
    both = study(dataset, model)
    cells = both.rows[(both.rows["metric"] == "rank_accuracy") & (both.rows["subject"] == "group")]
    assert (abs(cells["value"] - 0.5) < 0.1).all() and len(cells) == 2 * 2 * 4
    assert verdicts(both)[0].answer == "nothing" and "says the same" in both.verdict()
    alone = study(dataset, model, replace(BOTH, candidates=("condition",)))
    assert "candidates are" not in alone.verdict()
    own = both.rows[both.rows["candidate_rule"] == "condition"].reset_index(drop=True)
    assert alone.rows.equals(own)


def test_what_is_no_rule_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="unknown candidates='all'; known: condition, joint"):
        Generalisation(candidates=("all",))
    with pytest.raises(
        ValueError, match="candidates is empty: give one or more of condition, joint"
    ):
        Generalisation(candidates=())
    dataset, model, _ = made("noise")
    with pytest.raises(ValueError, match="candidates=condition,joint is for conditions"):
        run_novelty(dataset, [model], plan=BOTH)
    arguments = ["generalise", "--dataset=table", f"--data_dir={tmp_path}", "--models=bert-base"]
    assert cli.main([*arguments, "--novelty", "--candidates=joint", "--output_dir=out"]) == 2
    assert "--candidates is for --conditions: leave it out" in capsys.readouterr().err
