import dataclasses

import pandas as pd
import pytest

from brainalign_jax.study.protocol import AUDITED, PAPER
from brainalign_jax.study.report import plots, summary
from brainalign_jax.study.results import ResultTable, group_rows, tidy


def study(models=("tiny", "untrained:tiny"), *, manifest=None, protocol="audited") -> ResultTable:
    """P@10 of three subjects; the best is the first model, ridge, layer 2 (0.40 in the mean)."""
    rows = [
        (subject, model, method, layer, 0.4 - 0.1 * m - 0.03 * i - 0.02 * abs(layer - 2) + spread)
        for m, model in enumerate(models)
        for subject, spread in (("A", -0.05), ("B", 0.0), ("C", 0.05))
        for i, method in enumerate(("ridge", "procrustes"))
        for layer in range(4)
    ]
    table = pd.DataFrame(rows, columns=["subject", "model", "method", "layer", "value"])
    table = tidy(
        table.assign(
            dataset="story", family="bert", n_params=2e6, n_layers=3, protocol=protocol, fold=-1,
            n_items=60, metric="precision_csls", k=10, chance=10 / 60,
        )
    )  # fmt: skip
    return ResultTable(pd.concat([table, group_rows(table)], ignore_index=True), manifest or {})


def test_headline_gives_score_chance_and_twin():
    table = study()
    low, high, _, _ = plots.chance_interval(table.pooled("precision_csls", k=10))
    text = summary.headline(table, k=10)
    assert text.startswith(
        "Best: tiny layer 2 by ridge, P@10 0.400 (mean of 3 subjects); chance 0.167. "
        "The same architecture untrained reaches 0.300 (layer 2)."
    )
    assert f"{low:.3f} to {high:.3f}; the best score is above it" in text
    assert "no test of significance" in text
    rows = table.rows.assign(value=table.rows["chance"])
    assert "is inside it" in summary.headline(ResultTable(rows, {}), k=10)
    untrained = study(("untrained:tiny",))
    assert "That model is untrained" in summary.headline(untrained, k=10)


@pytest.mark.parametrize("folds", ["contiguous", "leave_run_out", "shuffled_types", None])
def test_headline_speaks_of_a_text_only_for_folds_of_a_text(folds):
    manifest = {"protocol": dataclasses.replace(AUDITED, folds=folds).fields()} if folds else {}
    text = summary.headline(study(manifest=manifest), k=10)
    of_text = folds in ("contiguous", "leave_run_out")
    assert ("words of a text are not independent: this is no test" in text) == of_text
    assert ("layers and subjects share the same words: this is no test" in text) != of_text


@pytest.mark.parametrize("simulated", [True, False, None])
@pytest.mark.parametrize("protocol", [AUDITED, PAPER])
@pytest.mark.parametrize("recorded", [True, False])
def test_warnings_appear_exactly_when_they_should(simulated, protocol, recorded):
    manifest = {} if simulated is None else {"simulated": simulated}
    if recorded:
        manifest["protocol"] = protocol.fields()
    table = study(manifest=manifest, protocol=protocol.name)
    shown_warnings = summary.warnings(table)
    assert (summary.SIMULATED_WARNING in shown_warnings) == (simulated is True)
    assert (summary.PAPER_WARNING in shown_warnings) == (protocol is PAPER)
    text = summary.text_summary(table, k=10)
    assert ("SIMULATED" in text) == (simulated is True)


def test_measures_alone_are_not_warned_of_folds():
    table = study(manifest={"protocol": PAPER.fields()}, protocol=PAPER.name)
    measured = table.rows.assign(method="cka", metric="cka", fold=-1, k=0)
    assert summary.PAPER_WARNING not in summary.warnings(ResultTable(measured, table.manifest))
    both = ResultTable(pd.concat([table.rows, measured], ignore_index=True), table.manifest)
    assert summary.PAPER_WARNING in summary.warnings(both)


def test_the_summary_names_the_features_of_a_table():
    said = summary.text_summary(study(manifest={"dataset": {"features": "2 (LATL, RATL)"}}), k=10)
    assert "Features of the table: 2 (LATL, RATL)" in said
    assert "Features" not in summary.text_summary(study(), k=10)
