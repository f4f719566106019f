"""Slopes of alignment on model size, and all subjects decoded as one."""

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence import scaling
from brainalign_jax.study.evidence.gather import score_groups
from brainalign_jax.study.evidence.table import EvidencePlan
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.report import verdict
from brainalign_jax.study.results import COLUMNS, GROUP, ResultTable, tidy
from brainalign_jax.study.score.group import group_recording
from brainalign_jax.study.score.sweep import Scoring

PLAN = EvidencePlan(n_bootstraps=300)
SIZES = {"a1": 1e6, "a2": 1e7, "a3": 1e8, "b1": 1e6, "b2": 1e8}


def study(scores, n_subjects=12):
    """(table, evidence) of models whose score for subject s is scores(model) + noise."""
    rng = np.random.default_rng(0)
    rows, lines = [], []
    for model, size in SIZES.items():
        for name in (model, f"untrained:{model}"):
            values = scores(name, np.log10(size)) + 0.005 * rng.standard_normal(n_subjects)
            common = dict(
                dataset="d", model=name, family=model[0], n_params=size, layer=0, n_layers=1,
                method="ridge", protocol="audited", fold=-1, metric="precision_csls", k=10,
                n_items=100, chance=0.1,
            )  # fmt: skip
            rows += [{**common, "subject": f"S{i}", "value": v} for i, v in enumerate(values)]
            rows.append({**common, "subject": GROUP, "value": values.mean()})
            lines.append(
                dict(
                    dataset="d", model=name, family=model[0], n_params=size, method="ridge", layer=0,
                    role="untrained" if "untrained" in name else "model", selection="test",
                    null_mean=0.1, chance=0.1, ceiling=0.5, calibrated=0.5,
                )
            )  # fmt: skip
    rows = tidy(pd.DataFrame(rows)[list(COLUMNS)])
    return ResultTable(rows, {}), pd.DataFrame(lines)


def fitted(scores):
    table, evidence = study(scores)
    return table, scaling.slopes(table, evidence, PLAN, k=10).set_index(["scope", "quantity"])


def test_planted_slopes_are_found_in_every_scope():
    _, slopes = fitted(lambda name, size: 0.1 if "untrained" in name else 0.02 * size)
    for scope in ("across", "within", "a", "b"):
        line = slopes.loc[(scope, "score")]
        assert line["slope"] == pytest.approx(0.02, abs=0.004)
        assert line["lower"] <= line["slope"] <= line["upper"] and line["p"] < 0.01
        calibrated = slopes.loc[(scope, "calibrated")]
        assert calibrated["slope"] == pytest.approx(line["slope"] / 0.4, rel=1e-4)
        assert slopes.loc[(scope, "untrained"), "slope"] == pytest.approx(0, abs=0.004)
    assert slopes.loc[("a", "score"), "n_models"] == 3


def test_growth_that_untrained_twins_share_does_not_survive():
    for own, words in ((0.02, "survives its controls"), (0.0, "growth with size is not shown")):
        table, slopes = fitted(lambda name, size, own=own: own * size * ("untrained" not in name))
        table.extras["scaling"] = slopes.reset_index()
        assert words in verdict.scaling_text(table)[0]
    table, slopes = fitted(lambda name, size: 0.02 * size)
    table.extras["scaling"] = slopes.reset_index()
    assert "does not survive" in verdict.scaling_text(table)[0]


def test_growth_is_not_said_to_survive_what_was_not_tested():
    table, slopes = fitted(lambda name, size: 0.02 * size)
    table.extras["scaling"] = slopes.query("quantity == 'score'").reset_index()
    assert "nothing was there to control it" in verdict.scaling_text(table)[0]
    table.extras["scaling"] = slopes.assign(lower=np.nan, upper=np.nan).reset_index()
    assert "growth with size is not shown" in verdict.scaling_text(table)[0]  # one subject


def test_falling_scores_and_too_few_subjects_are_told():
    table, slopes = fitted(lambda name, size: -0.02 * size)
    table.extras["scaling"] = slopes.reset_index()
    assert verdict.scaling_text(table)[0].endswith("it falls with size.")
    # The interval of two subjects who agree is narrow, which proves nothing.
    table, evidence = study(lambda name, size: 0.1 * size, n_subjects=2)
    slopes = scaling.slopes(table, evidence, PLAN, k=10)
    assert (slopes.loc[slopes["quantity"] == "score", "lower"] > 0).all()
    table.extras.update(scaling=slopes, evidence=evidence.assign(k=10))
    (text,) = verdict.scaling_text(table)
    assert "P@10 changes" in text
    assert "is not shown (with 2 subjects it cannot be: it takes 6)" in text


def test_families_that_disagree_are_named():
    table, slopes = fitted(lambda name, size: (0.02 if "a" in name[-2:] else -0.02) * size)
    table.extras["scaling"] = slopes.reset_index()
    table.extras["evidence"] = pd.DataFrame()
    assert verdict.signatures([table]) == []  # without evidence nothing is said
    table.rows["dataset"] = "d"
    table.extras["evidence"] = pd.DataFrame(
        [
            dict(
                dataset="d", model="a1", method="ridge", role="model", k=10, score=0.1, lower=0.0,
                upper=0.2, chance=0.1, n_draws=0, p=np.nan,
            )
        ]
    )  # fmt: skip
    told = verdict.signatures([table])
    assert any("Families disagree" in text and "in a and fall in b" in text for text in told)
    assert any("fall with size" in text and "b loses" in text for text in told)


def test_one_size_has_no_slope():
    table, evidence = study(lambda name, size: 0.1)
    evidence["n_params"] = 1e6
    assert scaling.slopes(table, evidence, PLAN, k=10).empty


@pytest.mark.parametrize("kind", ["summed", "hyperaligned"])
def test_a_group_is_decoded_better_than_its_noisy_members(words, kind):
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((1, 60, 8))
    members = [
        make_responses(
            words,
            vectors[0] @ rng.standard_normal((8, 12)) + 4 * rng.standard_normal((60, 12)),
            subject=f"S{i}",
        )
        for i in range(6)
    ]
    by_name = {member.subject: member for member in members}
    dataset = Dataset("x", tuple(by_name), words, by_name.__getitem__)
    scoring = Scoring(("ridge",), protocol("audited", timed=False, n_folds=5), (10,))
    model = make_embeddings(words, vectors)
    rows = score_groups(Study(dataset, ("m",), scoring, group_decoding=(kind,), given={"m": model}))
    from brainalign_jax.study.score.sweep import score_subjects

    single = score_subjects("x", members, model, scoring)
    single = single[(single["fold"] == -1) & (single["layer"] == 0)]
    group = rows[rows["layer"] == 0].set_index("metric")["value"]
    mean = single[single["metric"] == "rank_accuracy"]["value"].mean()
    assert set(rows["subject"]) == {kind}
    assert group["rank_accuracy"] > mean + 0.05


def test_unknown_groups_are_refused(words, planted):
    with pytest.raises(ValueError, match="unknown group decoding"):
        group_recording(planted[1], "mixed")
    with pytest.raises(ValueError, match="at least two"):
        group_recording(planted[1][:1], "summed")
