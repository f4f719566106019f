"""The report of a specification curve: the verdict first, then the curve over its choices, and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.studies.specifications import verdict
from brainalign_jax.studies.specifications.choices import SAID
from brainalign_jax.studies.specifications.table import CHOICE, SpecificationTable
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO, plain_axis
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    mean_of_subjects,
    number,
    p_value,
    percent,
    short_names,
)

_PARTS = ("model", "choice", "share of the spread (Shapley)", "alone", "with interactions")
_LEVELS = ("model", "choice", "level", "stand", "mean z", "mean score", "mean null")
_FACTS = (
    {"dataset": "dataset", "plan": "choice", "levels": "levels"},
    ("n_words", "n_types", "null", "command", "created", "versions"),
)
_SHOWN = 10  # rows of the table of specifications, from either end


def write_report(table: SpecificationTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, without scripts or external resources, and its figures to figures/."""
    judged = verdict.verdicts(table)
    labels = short_names(list(table.manifest["curves"]))
    figures = page.Figures(folder)
    for place, own in enumerate(judged, 1):
        name = f"specification curve {labels[own.model]}"
        drawn, caption = draw_curve(table, own.model), _caption(table, own.model)
        figures.add(f"specification_curve_{place}", name, drawn, caption)
    manifest = table.manifest
    return page.write(
        folder,
        "specifications",
        title=f"{manifest['dataset']['name']}: specification curve",
        lead=_scope(table),
        warning=page_warning(manifest),
        answer=page.opening(verdict.answer(table), " ".join(own.text for own in judged)),
        notes=manifest["notes"],
        figures=figures,
        joint=page.Table(*_joint(table, labels), 1),
        parts_of_spread=page.Table(_PARTS, _part_lines(table, labels), 2),
        by_level=page.Table(_LEVELS, _level_lines(table, labels), 3),
        ends=page.Table(*_ends(table, labels)),
        shown=_SHOWN,
        facts=page.facts_of(manifest, *_FACTS),
    )


def page_warning(manifest: dict) -> str:
    """What stands above a report of simulated recordings."""
    from brainalign_jax.study.report import summary

    return summary.SIMULATED_WARNING if manifest["simulated"] else ""


def draw_curve(table: SpecificationTable, model: str) -> Figure:
    """Sorted z with the middle 90 % of each null above; a dot for each specification's choices below."""
    rows = table.rows[table.rows["model"] == model].sort_values("z", kind="stable")
    lines = [(name, level) for name, levels in table.varied.items() for level in levels]
    figure = Figure(figsize=(8.2, 3.2 + 0.2 * len(lines)), layout="constrained", facecolor="white")
    curve, dashboard = figure.subplots(
        2, 1, sharex=True, height_ratios=[2.8, 0.2 * len(lines) + 0.3]
    )
    place = np.arange(len(rows))
    spread = rows["null_sd"].to_numpy()
    known = np.where(spread > 0, spread, np.inf)
    low, high = (
        (rows[f"null_{end}"] - rows["null_mean"]).to_numpy() / known for end in ("low", "high")
    )
    curve.fill_between(place, low, high, step="mid", color=GREY, alpha=0.35, linewidth=0)
    stands = rows["stands"].to_numpy(bool)
    for chosen, colour in ((stands, OKABE_ITO[2]), (~stands, OKABE_ITO[1])):
        curve.plot(place[chosen], rows["z"].to_numpy()[chosen], ".", color=colour, markersize=4)
    curve.axhline(0, color="black", linewidth=0.8, linestyle=":")
    curve.set_ylabel("score above its null\n(null s.d.)", fontsize=10)
    plain_axis(curve, "y")
    for height, (name, level) in enumerate(lines):
        has = (rows[f"{CHOICE}{name}"] == level).to_numpy()
        for chosen, colour in ((has & stands, OKABE_ITO[2]), (has & ~stands, OKABE_ITO[1])):
            dashboard.plot(
                place[chosen], np.full(chosen.sum(), height), "|", color=colour, markersize=5
            )
    dashboard.set_yticks(
        range(len(lines)),
        [f"{name}: {level}".replace("_", " ") for name, level in lines],
        fontsize=8,
    )
    dashboard.set_ylim(len(lines) - 0.4, -0.6)
    dashboard.set_xlabel("specifications, sorted", fontsize=10)
    plain_axis(dashboard, "x")
    dot = {"linestyle": "", "marker": "."}
    figure_parts.legend_below(
        figure,
        [
            (figure_parts.line(OKABE_ITO[2], **dot), "p < .05 against its own null"),
            (figure_parts.line(OKABE_ITO[1], **dot), "not"),
            (figure_parts.line(GREY, linewidth=6, alpha=0.35), "middle 90 % of its null"),
        ],
        3,
    )
    return figure


def _caption(table: SpecificationTable, model: str) -> str:
    facts = table.manifest["curves"][model]
    return (
        f"All {counted(facts['n_specifications'], 'specification')} of {short_names([model])[model]}, sorted "
        f"by their score above the mean of their own {counted(facts['n_draws'], 'null draw')}, in standard "
        "deviations of these: scores of different metrics cannot be compared otherwise. Below, the choices "
        "that each is made of (after Simonsohn, Simmons and Nelson 2020)."
    )


def _scope(table: SpecificationTable) -> str:
    manifest = table.manifest
    people = mean_of_subjects(len(manifest["subjects"]))
    choices = ", ".join(table.varied)
    return (
        f"Every combination of {choices}, by {manifest['plan']['method']}; scores are of {people}, "
        f"{manifest['n_words']:,} words. All specifications see the same "
        f"{counted(manifest['plan']['n_nulls'], 'draw')} ({manifest['null']})."
    )


def _joint(table: SpecificationTable, labels: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    header = ["model", "mean z", "p", "median z", "p", "share with p < .05", "p"]
    lines = []
    for model, facts in table.manifest["curves"].items():
        joint = facts["joint"]
        line = [labels[model], number(joint["mean_z"]), p_value(joint["p_mean"])]
        line += [number(joint["median_z"]), p_value(joint["p_median"])]
        lines.append([*line, percent(joint["share"]), p_value(joint["p_share"])])
    return header, lines


def _part_lines(table: SpecificationTable, labels: dict[str, str]) -> list[list[str]]:
    lines = []
    for model, facts in table.manifest["curves"].items():
        order = sorted(facts["parts"].items(), key=lambda item: -item[1]["shapley"])
        lines += [
            [labels[model], name, *(percent(part[key]) for key in ("shapley", "alone", "total"))]
            for name, part in order
        ]
    return lines


def _level_lines(table: SpecificationTable, labels: dict[str, str]) -> list[list[str]]:
    """By the first metric where scores and nulls are meant, by all where z is."""
    lines = []
    for model in table.manifest["curves"]:
        rows = table.rows[table.rows["model"] == model]
        for name, levels in table.varied.items():
            for level in levels:
                own = rows[rows[f"{CHOICE}{name}"] == level]
                first = own if name == "metric" else _first_metric(table, own)
                said = SAID.get((name, level), "")
                lines.append(
                    [
                        labels[model], name, level + f" ({said})" * bool(said),
                        f"{int(own['stands'].sum())} of {len(own)}", number(own["z"].mean()),
                        number(first["value"].mean()), number(first["null_mean"].mean()),
                    ]
                )  # fmt: skip
    return lines


def _first_metric(table: SpecificationTable, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[f"{CHOICE}metric"] == table.manifest["levels"]["metric"][0]]


def _ends(
    table: SpecificationTable, labels: dict[str, str]
) -> tuple[list[str], list[list[str]], int]:
    """The specifications at either end of each curve."""
    header = ["model", *table.varied, "score", "null, middle 90 %", "z", "p"]
    lines = []
    for model in table.manifest["curves"]:
        rows = table.rows[table.rows["model"] == model].sort_values("z", kind="stable")
        ends = rows if len(rows) <= 2 * _SHOWN else pd.concat([rows[:_SHOWN], rows[-_SHOWN:]])
        for _, own in ends.iterrows():
            line = [labels[model], *(own[f"{CHOICE}{name}"] for name in table.varied)]
            line += [number(own["value"]), interval(own["null_low"], own["null_high"])]
            lines.append([*line, number(own["z"]), p_value(own["p"])])
    return header, lines, 1 + len(table.varied)
