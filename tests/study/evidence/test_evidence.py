"""Evidence beside the scores and the verdict that follows, on studies whose answer is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses, write_vectors
from scipy.stats import false_discovery_control

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence import ceilings, nulls, rsa
from brainalign_jax.study.evidence.table import (
    EvidencePlan,
    null_plan,
    role,
    summarise,
    with_controls,
)
from brainalign_jax.study.names import seed_of
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.report import report, verdict
from brainalign_jax.study.report.evidence import numbers
from brainalign_jax.study.results import GROUP, SELECTED, ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring, score_subjects

PLAN = EvidencePlan(n_nulls=39, n_permutations=99, n_bootstraps=300)
SCORING = Scoring(("procrustes", "rsa"), protocol("audited", timed=False, n_folds=5), (5,))


@pytest.fixture(scope="module")
def studies(tmp_path_factory, words, planted):
    """(dataset, table of the planted layer, table of a layer that is not in the brain)."""
    folder = tmp_path_factory.mktemp("evidence")
    vectors, responses = planted
    by_name = {person.subject: person for person in responses}
    shipped = {"other": np.random.default_rng(9).standard_normal((60, 12))}
    dataset = Dataset("planted", tuple(by_name), words, by_name.__getitem__, vectors=shipped)
    tables = [
        run_study(
            dataset,
            [write_vectors(folder / f"{name}.txt", vectors[layer])],
            SCORING,
            folder / name,
            report_k=5,
            evidence=PLAN,
            group_decoding=("summed",),
            progress=False,
        )
        for name, layer in (("in", 1), ("out", 0))
    ]
    return dataset, *tables


def test_what_is_in_the_brain_is_real_and_what_is_not_is_not(studies):
    _, planted, absent = studies
    assert {study_verdict.level for study_verdict in verdict.verdicts(planted)} == {"real"}
    assert verdict.overall(planted).level == "real"
    assert {study_verdict.level for study_verdict in verdict.verdicts(absent)} == {"chance"}
    judged = verdict.decisive(planted)
    line, shown = verdict.evidence_of(planted, judged), numbers(planted)
    assert line["score"] == planted.extras["evidence"].query("role == 'model'")["score"].max()
    columns = ("score", "null_mean", "ceiling")
    assert [value for _, value, _ in shown] == [f"{line[name]:.3f}" for name in columns]
    overall = verdict.overall(absent)
    assert overall.answer == "No" and "no evidence of alignment" in overall.text
    assert verdict.signatures([absent]) == [
        "Low scores everywhere: no score exceeds its null on planted."
    ]
    assert verdict.signatures([planted, absent]) == []


def test_p_counts_draws_whose_best_layer_reaches_the_best_real_one(studies):
    for table in studies[1:]:
        evidence = table.extras["evidence"].set_index(["model", "method"])
        drawn = table.extras["nulls"]
        for (model, method), part in drawn[drawn["metric"] == "precision_csls"].groupby(
            ["model", "method"]
        ):
            real = table.pooled("precision_csls", k=5, model=model, method=method, subject=GROUP)
            null = part.groupby(["draw", "layer"])["value"].mean().groupby("draw").max()
            line = evidence.loc[(model, method)]
            assert len(null) == line["n_draws"] == 39
            assert line["p"] == (1 + (null >= real["value"].max() - 1e-9).sum()) / 40
            assert line["null_mean"] == pytest.approx(part["value"].mean())  # one layer
        tested = evidence[evidence["role"] == "model"]
        np.testing.assert_allclose(tested["p_fdr"], false_discovery_control(tested["p"]))


def test_scores_are_those_of_the_table_and_lie_in_their_intervals(studies):
    _, table, _ = studies
    for _, line in table.extras["evidence"].iterrows():
        rows = table.pooled(
            "precision_csls", k=5, model=line["model"], method=line["method"], layer=SELECTED
        )
        assert line["score"] == rows.set_index("subject").loc[GROUP, "value"]
        assert line["lower"] - 1e-6 <= line["score"] <= line["upper"] + 1e-6
        assert line["upper"] - line["lower"] > 0.02 or line["score"] in (0, 1)


def test_calibration_and_controls(studies):
    _, table, _ = studies
    evidence = table.extras["evidence"]
    for _, line in evidence[evidence["role"] == "model"].iterrows():
        ceiling = table.extras["ceilings"]
        ceiling = ceiling[
            (ceiling["method"] == line["method"]) & (ceiling["metric"] == "precision_csls")
        ]
        assert line["ceiling"] == pytest.approx(ceiling["value"].mean())
        assert line["calibrated"] == pytest.approx(
            (line["score"] - line["null_mean"]) / (line["ceiling"] - line["null_mean"])
        )
        # The model is a table of word vectors itself: there is no other to compare it with.
        assert line["control"] == "nuisance:all" and line["static"] is None
        control = evidence[
            (evidence["model"] == "nuisance:all") & (evidence["method"] == line["method"])
        ]
        assert line["control_score"] == control["score"].item()
        floor = line["null_mean"]  # of the only model: no null is drawn for a control
        assert np.isnan(control["null_mean"].item())
        assert control["calibrated"].item() == pytest.approx(
            (control["score"].item() - floor) / (line["ceiling"] - floor)
        )
        assert line["control_difference"] == pytest.approx(line["score"] - line["control_score"])
        assert line["control_lower"] > 0


def test_levels_follow_the_numbers(studies):
    _, table, _ = studies
    line = table.extras["evidence"].query("role == 'model' and method == 'procrustes'").iloc[0]

    def level(**changes):
        rows = pd.DataFrame([{**line, **changes}])
        return verdict.verdicts(dataclasses.replace(table, extras={"evidence": rows}))[0]

    assert level().level == "real"
    static = dict(static="shipped:other", static_score=0.4, static_difference=0.1, static_upper=0.2)
    assert level(**static, static_lower=-0.01).level == "static"
    assert level(**static, static_lower=0.01).level == "real"
    assert level(control_lower=-0.01, control_score=line["null_high"] + 0.1).level == "explained"
    assert level(control_lower=-0.01, control_score=line["null_mean"]).level == "uncertain"
    assert level(p=0.3, p_fdr=0.3).level == "chance"
    few = level(p=0.1, p_fdr=0.1, n_draws=9)
    assert few.level == "uncertain" and "Draw more" in few.text
    single = level(p=0.03, p_fdr=0.06, n_draws=99)
    assert single.level == "uncertain" and "no evidence" not in single.text
    # The best layer's p says nothing of a chosen layer that scores as a draw does.
    chosen = level(score=line["null_mean"])
    assert chosen.level == "uncertain" and "without the tested words" in chosen.text
    untested = level(p=np.nan, p_fdr=np.nan, null_mean=np.nan)
    assert untested.level == "untested" and "proves nothing" in untested.text
    explained = level(control_lower=-0.01, control_score=0.9).text
    assert "nuisance features alone (word length)" in explained  # all that isolated words have


def test_nothing_is_said_of_what_was_not_scored(studies):
    _, table, _ = studies
    rows = table.extras["evidence"].query("role == 'model'").copy()
    alone = dataclasses.replace(table, extras={"evidence": rows.assign(control_score=np.nan)})
    assert "no control was scored" in verdict.overall(alone).text
    assert "its controls" in verdict.overall(table).text
    untested = rows.assign(p=np.nan, p_fdr=np.nan)
    assert verdict.signatures([dataclasses.replace(table, extras={"evidence": untested})]) == []


def test_what_is_picked_is_calibrated_by_draws_that_pick(studies):
    _, table, _ = studies
    name = table.extras["nulls"]["model"].iloc[0]
    rows = table.rows[(table.rows["layer"] != SELECTED) & (table.rows["method"] == "procrustes")]
    rows = rows[(rows["model"] == name) & (rows["metric"] == "precision_csls")]
    two = pd.concat([rows, rows.assign(layer=1, value=rows["value"] / 2)], ignore_index=True)
    drawn = table.extras["nulls"].query("method == 'procrustes' and metric == 'precision_csls'")
    rng = np.random.default_rng(0)
    drawn = pd.concat([drawn, drawn.assign(layer=1, value=rng.uniform(0, 0.3, len(drawn)))])
    summary = summarise(
        ResultTable(two, table.manifest),
        table.extras["ranks"],
        drawn,
        table.extras["ceilings"],
        PLAN,
        k=5,
    ).iloc[0]
    best = drawn.groupby(["draw", "layer"])["value"].mean().groupby("draw").max()
    assert summary["selection"] != "inner folds" and summary["layer"] == 0
    assert summary["null_mean"] == pytest.approx(best.mean())


def test_the_report_opens_with_the_answer(studies, tmp_path):
    for table, answer in zip(studies[1:], ("Yes", "No"), strict=True):
        page = report.write_report(table, tmp_path, k=5).read_text()
        assert f'<p class="answer">{answer}</p>' in page
        assert (
            page.index('class="answer"') < page.index("<h2>Evidence</h2>") < page.index("Summary")
        )
        assert "data:image/png" in page and "All subjects decoded as one" in page
        assert "Dissimilarities (RSA)" in page


def test_evidence_is_saved_and_read_again(studies, tmp_path):
    _, table, _ = studies
    table.save(tmp_path)
    again = ResultTable.load(tmp_path)
    assert set(again.extras) == set(table.extras) >= {"evidence", "nulls", "ranks", "rsa"}
    saved, read = (
        x.extras["evidence"].astype(object).where(x.extras["evidence"].notna(), None)
        for x in (table, again)
    )
    pd.testing.assert_frame_equal(read, saved)
    ResultTable(table.rows, table.manifest).save(tmp_path)
    assert ResultTable.load(tmp_path).extras == {}


def test_a_ceiling_is_high_where_subjects_share_their_responses(words, planted):
    rng = np.random.default_rng(4)
    shared = rng.standard_normal((60, 10))
    alike = [
        make_responses(words, shared @ rng.standard_normal((10, 20)), subject=f"S{i}")
        for i in range(3)
    ]
    apart = [
        make_responses(words, rng.standard_normal((60, 20)), subject=f"S{i}") for i in range(3)
    ]
    accuracies = []
    for responses in (alike, apart):
        by_name = {person.subject: person for person in responses}
        dataset = Dataset("x", tuple(by_name), words, by_name.__getitem__)
        rows = ceilings.score_ceilings(Study(dataset, (), SCORING, k=5))
        assert set(rows["subject"]) == set(by_name) and set(rows["method"]) == {"procrustes", "rsa"}
        accuracies.append(rows[rows["metric"] == "rank_accuracy"]["value"].mean())
    assert accuracies[0] > 0.95 and 0.35 < accuracies[1] < 0.65


def test_rsa_has_p_values_and_bounds(studies, words, planted):
    dataset, table, absent = studies
    rsa_rows = table.extras["rsa"].set_index("model")
    model_row = rsa_rows[rsa_rows.index.str.startswith("static:")].iloc[0]
    rows = table.pooled("rsa", subject=GROUP, model=model_row.name)
    assert model_row["rsa"] == pytest.approx(rows["value"].max(), abs=1e-5)
    assert model_row["p"] == 0.01 and model_row["p_partial"] == 0.01
    assert model_row["ceiling_lower"] < model_row["ceiling_upper"]
    other = absent.extras["rsa"]
    assert other[other["model"].str.startswith("static:")]["p"].item() > 0.05
    few = Computation(rdm_bytes=1)
    with pytest.warns(UserWarning, match="no evidence on rsa: it takes .* give more memory"):
        none, _ = rsa.rsa_evidence(Study(dataset, (), SCORING, few, evidence=EvidencePlan()))
    assert none.empty


@pytest.mark.parametrize("name", ["audited", "paper"])
def test_rsa_evidence_tests_the_score_of_the_table(words, name):
    """Scaled and reduced as the protocol says, of the layers that were asked for."""
    rng = np.random.default_rng(8)
    vectors = rng.standard_normal((3, 60, 12))
    values = vectors[1] @ rng.standard_normal((12, 40)) + 3 * rng.standard_normal((60, 40))
    values = values * np.geomspace(1, 30, 40)
    recording = make_responses(words, values, subject="S0")
    model = make_embeddings(words, vectors)
    scoring = Scoring(("rsa",), protocol(name, timed=False, csls_k=5), (5,), layers=(0, 1))
    dataset = Dataset("x", ("S0",), words, {"S0": recording}.__getitem__)
    evidence = EvidencePlan(n_permutations=9)
    study = Study(dataset, ("m",), scoring, evidence=evidence, given={"m": model})
    rsa_rows = rsa.rsa_evidence(study)[0].set_index("layer")
    rows = score_subjects("x", [recording], model, scoring)
    rows = rows[rows["metric"] == "rsa"].set_index("layer")
    assert list(rsa_rows.index) == [0, 1]
    np.testing.assert_allclose(rsa_rows["rsa"], rows["value"].sort_index(), atol=1e-5)


def test_twins_of_a_study_have_seeds_of_their_own(studies, tiny_checkpoint):
    names = with_controls(
        [str(tiny_checkpoint)], studies[0], EvidencePlan(untrained_seeds=2), lower=False, seed=1
    )
    assert [seed_of(name) for name in names[1:3]] == [None, 2]  # None is the study's own


def test_twins_and_controls_join_the_models(studies, tiny_checkpoint):
    dataset = studies[0]
    names = with_controls(
        [str(tiny_checkpoint)], dataset, EvidencePlan(untrained_seeds=2), lower=False
    )
    twin = f"untrained:{tiny_checkpoint}"
    assert names == [
        str(tiny_checkpoint),
        twin,
        f"{twin} (seed 1)",
        "nuisance:all",
        "shipped:other",
    ]
    assert [role(name) for name in names] == [
        "model", "untrained", "untrained", "control", "control",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unknown control"):
        with_controls([], dataset, EvidencePlan(controls=("nuisance:luck",)), lower=False)


@pytest.fixture
def tiny_checkpoint(tmp_path):
    """A folder that looks like a checkpoint: nothing of it is read."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("field", ["n_nulls", "untrained_seeds", "n_bootstraps"])
def test_impossible_plans_are_refused(field):
    with pytest.raises(ValueError, match=field):
        EvidencePlan(**{field: -1})
    with pytest.raises(ValueError, match="confidence"):
        EvidencePlan(confidence=1.0)


def test_the_null_fits_the_words(dataset):
    assert null_plan(PLAN, dataset) == nulls.NullPlan("items", 39)
    assert null_plan(EvidencePlan(n_nulls=0), dataset) is None
    assert null_plan(None, dataset) is None
