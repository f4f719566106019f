"""The report of a generalisation study: the verdict first, then cells, gaps and people, one HTML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from brainalign_jax.studies.generalisation import verdict
from brainalign_jax.studies.generalisation.table import ALL, GeneralisationTable, of_rule
from brainalign_jax.studies.options import CONDITION, JOINT
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.judged import Judged
from brainalign_jax.study.report.wording import interval, number, p_value, short_names
from brainalign_jax.study.results import GROUP, SELECTED

_HEADER = (
    "model", "method", "candidates", "trained on", "tested on", "rank accuracy", "interval",
    "labels exchanged", "ceiling", "score ÷ ceiling", "p",
)  # fmt: skip
FACTS = (  # of the manifest
    {"dataset": "dataset", "plan": "choice", "protocol": "protocol"},
    ("subjects", "seed", "stimulus", "command", "created", "versions"),
)


def write_report(table: GeneralisationTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else, and its figures to figures/."""
    manifest = table.manifest
    names = list(manifest["conditions"])
    title = f"{manifest['dataset']['name']}: {' and '.join(names)}"
    verdicts = verdict.verdicts(table)
    labels = short_names([shown.model for shown in verdicts])
    lines = [line for shown in verdicts for line in _lines(table, shown, labels[shown.model])]
    figures = page.Figures(folder)
    for place, shown in enumerate(verdicts, 1):
        who = f"{shown.method}, {labels[shown.model]}"
        drawn = {"gap": (draw_gaps(table, shown), f"{who}: {_GAPS}")}
        if table.rows.loc[table.rows["model"] == shown.model, "layer"].nunique() > 2:
            drawn["layers"] = (draw_layers(table, shown), f"{who}: {_LAYERS}")
        for name, (figure, caption) in drawn.items():
            called = f"{name} {shown.method} {labels[shown.model]}"
            figures.add(f"{name}_{place}", called, figure, caption)
    return page.write(
        folder,
        "generalisation",
        title=title,
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.explanation(table)),
        verdicts=[*(shown.text for shown in verdicts), *verdict.scaling(table)],
        how=_how(table),
        cells=page.Table(_HEADER, lines, 5),
        balance=_balance(table),
        figures=figures,
        facts=page.facts_of(table.manifest, *FACTS),
    )


def draw_gaps(table: GeneralisationTable, shown: Judged) -> Figure:
    """Rank accuracy of each person within and across conditions, a panel a condition tested."""
    names = list(table.manifest["conditions"])
    figure = Figure(figsize=(2.6 * len(names) + 1.2, 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, tested in zip(axes, names, strict=True):
        for subject in [*table.manifest["subjects"], GROUP]:
            rows = verdict.chosen_lines(table, shown.model, shown.method, subject)
            rows = rows[(rows["tested_on"] == tested) & (rows["trained_on"] != "")]
            same = rows["trained_on"] == tested
            pair = [rows.loc[same, "value"].mean(), rows.loc[~same, "value"].mean()]
            group = subject == GROUP
            colour, width = (OKABE_ITO[6], 2.4) if group else (OKABE_ITO[5], 0.8)
            axis.plot([0, 1], pair, "o-", color=colour, linewidth=width, markersize=4)
        axis.axhline(verdict.CHANCE, color=GREY, linewidth=0.8)
        axis.set_xticks([0, 1], ["within", "across"])
        axis.set_xlim(-0.3, 1.3)
        axis.set_title(f"tested on {tested}", fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("rank accuracy")
    return figure


def draw_layers(table: GeneralisationTable, shown: Judged) -> Figure:
    """Rank accuracy by layer within and across conditions, of each person and the mean, with its interval; a
    panel a condition tested."""
    names = list(table.manifest["conditions"])
    rows = of_rule(table)
    rows = rows_with(rows, model=shown.model, method=shown.method)
    rows = rows[(rows["metric"] == "rank_accuracy") & (rows["layer"] != SELECTED)]
    figure, axes = figure_parts.panels(len(names))
    for axis, tested in zip(axes, names, strict=True):
        for way, colour in _WAYS.items():
            own = rows[rows["tested_on"] == tested]
            own = own[(own["trained_on"] == tested) == (way == "within")]
            by_layer = own.groupby(["subject", "layer"])[["value", "lower", "upper", "ceiling"]]
            means = by_layer.mean()
            for subject in table.manifest["subjects"]:
                axis.plot(means.loc[subject]["value"], color=colour, linewidth=0.6, alpha=0.35)
            group = means.loc[GROUP]
            axis.plot(group["value"], "o-", color=colour, linewidth=2, markersize=4)
            if own["trained_on"].nunique() == 1:
                axis.fill_between(
                    group.index, group["lower"], group["upper"], color=colour, alpha=0.15
                )
            axis.plot(group["ceiling"], color=colour, linewidth=1, linestyle=":")
        axis.axhline(verdict.CHANCE, color=GREY, linewidth=0.8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(f"tested on {tested}", fontsize=10)
    figure_parts.label(axes, "layer", "rank accuracy")
    entries = [(figure_parts.line(colour), way) for way, colour in _WAYS.items()]
    ceiling = figure_parts.line(GREY, linestyle=":")
    figure_parts.legend(figure, [*entries, (ceiling, "the other people's responses")])
    return figure


_WAYS = {"within": OKABE_ITO[0], "across": OKABE_ITO[1]}
_GAPS = (
    "a line a person, the mean in black; the grey line is chance. The same words with the same candidates, "
    "after training on the rest of their condition and on another."
)
_LAYERS = (
    "thin lines are people, thick ones their mean, shaded its interval over people and words (across "
    "conditions where there are two); the grey line is chance."
)


def _lines(table: GeneralisationTable, shown: Judged, label: str) -> list[list[str]]:
    lines = []
    for rule in _rules(table):
        rows = verdict.chosen_lines(table, shown.model, shown.method, rule=rule)
        shares = verdict.share_of_ceiling(rows["value"], rows["ceiling"])
        for row, line in rows.iterrows():
            gap = line["trained_on"] == ""
            tested = "all conditions" if line["tested_on"] == ALL else line["tested_on"]
            lines.append(
                [
                    label,
                    shown.method,
                    f"{line['candidates']} of {'all conditions' if rule == JOINT else 'its condition'}",
                    "gap: within less across" if gap else line["trained_on"],
                    tested,
                    number(line["value"]),
                    interval(line["lower"], line["upper"]),
                    number(line["null_mean"]),
                    number(line["ceiling"]),
                    number(np.nan if gap else shares[row]),
                    p_value(line["p"]),
                ]
            )
    return lines


def _rules(table: GeneralisationTable) -> list[str]:
    return list(table.manifest["plan"].get("candidates", [CONDITION]))


def _scope(table: GeneralisationTable) -> str:
    manifest, cells = table.manifest, table.manifest["cells"]
    words = ", ".join(f"{name} ({count} words)" for name, count in manifest["conditions"].items())
    n = cells["n_candidates"]
    among = {
        CONDITION: f"{n} of its condition",
        JOINT: f"{n * len(manifest['conditions'])}, {n} of each condition,",
    }
    said = " and among ".join(among[rule] for rule in _rules(table))
    return (
        f"{len(manifest['subjects'])} people; {words}. In every cell {cells['n_train']} words are trained "
        f"on, and a word is looked for among {said} that were not."
    )


def _how(table: GeneralisationTable) -> str:
    plan = table.manifest["plan"]
    often = "once" if plan["n_splits"] == 1 else f"{plan['n_splits']} times"
    return (
        "Rank accuracy: 1 for the first of the candidates, 0 for the last. Each condition's words are parted "
        f"into {table.manifest['cells']['n_folds']} folds, {often}; the words of a fold, of their condition "
        "or as many of each, are the only candidates, and are the same whatever was trained on. Layer and "
        "penalty are chosen in the training words. Intervals: bootstrap over people and words. p: "
        f"{plan['n_nulls']} draws in which words exchange their conditions and everything is fitted and "
        "chosen anew; a fold's words are then "
        "of all conditions, and easier to tell apart, so that gaps are compared and not scores. Ceiling: the "
        "other people's responses in place of the model's vectors; a score may be more than its ceiling, as "
        "the others' own noise is in it. Score ÷ ceiling: both above chance; none where the ceiling is less "
        "than .05 above it."
    )


def _balance(table: GeneralisationTable) -> page.Table | None:
    """How far conditions lie apart before and after matching; None where they are not matched."""
    if not table.manifest.get("matching"):
        return None
    matching = table.manifest["matching"]
    lines = [
        [
            row["variable"],
            row["first"],
            row["second"],
            *map(number, [*row["means"], row["before"], row["after"]]),
        ]
        for row in matching["balance"]
    ]
    return page.Table(
        ("variable", "first", "second", "mean of first", "mean of second", "before", "after"),
        lines,
        3,
        "Before and after matching: mean of the first condition less that of the second, in standard "
        f"deviations within conditions. {matching['n_sets']} {matching['of']} of each condition have a "
        f"partner that differs by at most {matching['caliper']:g} in each variable, and are tested; the "
        "others are trained on alone. The draws exchange conditions between partners.",
    )
