"""The report of a plan: the answer first, then power curves, what is needed, and every setting."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.studies.planning import verdict
from brainalign_jax.studies.planning.table import MOST_PEOPLE, PlanTable
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY
from brainalign_jax.study.report.wording import fraction, interval, known, number, percent

_HEADER = (
    "words", "repetitions", "minutes", "people", "effect", "power", "by the pilot's error", "simulated",
    "its interval",
)  # fmt: skip
_NEEDED = ("words", "repetitions", "minutes", "people", "at least", "at most")
_MARKERS = "osD^vPX"
_FACTS = ({"plan": "choice"}, ("pilots", "command", "created", "versions"))  # of the manifest
_MOST_LINES = 200


def write_report(table: PlanTable, folder: str | Path) -> Path:
    """Write `folder`/figures and `folder`/report.html, one file without scripts or external resources."""
    pictures = page.Figures(folder)
    if table.can_be_planned:
        pictures.add("power", "power", draw_curves(table), _caption(table))
    row = table.rows.iloc[0]
    return page.write(
        folder,
        "planning",
        title="A plan of a study",
        lead=f"{row['dataset']}: {row['what']} ({row['model']}, {row['method']}).",
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=verdict.texts(table),
        how=_how(table),
        figures=pictures,
        needed=page.Table(_NEEDED, _needed_lines(table), 0),
        settings=page.Table(_HEADER, _lines(table), 0, _cut(len(table.rows))),
        facts=page.facts_of(table.manifest, *_FACTS, empty=(None, "", (), [])),
    )


def draw_curves(table: PlanTable) -> Figure:
    """Power over people, a line a number of words, a panel a repetition; a band of the pilot's error."""
    rows, wanted = table.rows, table.manifest["plan"]["power"]
    repetitions = list(rows["repetitions"].unique())
    figure, axes = figure_parts.panels(len(repetitions))
    words = sorted(rows["n_words"].unique())
    colours = figure_parts.colours(words)
    n_pilot = table.manifest["pilot"]["n_words"]
    banded = min(words, key=lambda n_words: abs(n_words - n_pilot))  # whose band is shown
    for axis, times in zip(axes, repetitions, strict=True):
        for place, n_words in enumerate(words):
            part = rows_with(rows, repetitions=times, n_words=n_words)
            style = dict(color=colours[n_words], markersize=4.5)
            marker = _MARKERS[place % len(_MARKERS)]
            axis.plot(part["n_people"], part["power"], linewidth=1.8, **style)
            axis.plot(part["n_people"], part["simulated"], marker, markerfacecolor="white", **style)
            if n_words != banded:
                continue
            axis.fill_between(
                part["n_people"], part["power_low"], part["power_high"], color=colours[n_words],
                alpha=0.15, linewidth=0,
            )  # fmt: skip
        axis.axhline(wanted, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_xscale("log")
        figure_parts.log_sizes(axis.xaxis)
        axis.set_ylim(-0.02, 1.02)
        if len(repetitions) > 1:
            axis.set_title(f"{times:g} times the repetitions", fontsize=10)
    figure_parts.label(axes, "people", "power")
    entries = [
        (
            figure_parts.line(
                colours[n_words], marker=_MARKERS[place % len(_MARKERS)], markerfacecolor="white",
                markersize=4.5, linewidth=1.8,
            ),
            f"{n_words:,} words",
        )
        for place, n_words in enumerate(words)
    ]  # fmt: skip
    figure_parts.legend(
        figure, [*entries, (figure_parts.line(GREY, linestyle="--"), f"{percent(wanted)} power")]
    )
    return figure


def _caption(table: PlanTable) -> str:
    plan = table.manifest["plan"]
    points = f", of {plan['n_simulations']} simulated studies (open)" * bool(plan["n_simulations"])
    return (
        f"Power at .05 over people: in closed form (lines){points}. Band: {percent(plan['confidence'])} by "
        "the pilot's own sampling error, of the words that are nearest to the pilot's."
    )


def _how(table: PlanTable) -> str:
    plan, pilot = table.manifest["plan"], table.manifest["pilot"]
    tested = {
        "sign flips": "flips of signs over people, as the package tests it: noncentral t at the level that "
        "the flips can reach, averaged over what people share of the words",
        "interval": f"the interval over people and words ({percent(plan['confidence'])}) above zero, which "
        "the verdict asks for beside the p of its draws",
        "null draws": "the group's mean in the best layer against the best layer of every null draw: normal, "
        "with the draws' own spread",
    }[table.rows["tested_by"].iloc[0]]
    tests = f" The largest of {table.manifest['n_tests']} parts counts." * (
        table.manifest["n_tests"] > 1
    )
    return (
        f"Power of {tested}, at .05.{tests} The mean over S people and W words varies by between / S + words "
        f"/ W + noise / (S W): {pilot['between']:.3g}, {pilot['words']:.3g} and {pilot['noise']:.3g} in the "
        "pilot. Bands and intervals: the effect drawn from the t distribution about the pilot's, the mean "
        "squares of people and words from their chi-squared distributions."
    )


def _needed_lines(table: PlanTable) -> list[list[str]]:
    return [
        [
            *_place(line),
            *(_count(line[name]) for name in ("n_people", "n_people_low", "n_people_high")),
        ]
        for _, line in table.needed.iterrows()
    ]


def _count(value: float) -> str:
    return f"{value:,.0f}" if known(value) else f"> {MOST_PEOPLE:,}"


def _lines(table: PlanTable) -> list[list[str]]:
    return [
        [
            *_place(line),
            f"{line['n_people']:,}",
            number(line["effect"]),
            fraction(line["power"]),
            interval(line["power_low"], line["power_high"]),
            fraction(line["simulated"]),
            interval(line["simulated_low"], line["simulated_high"]),
        ]
        for _, line in table.rows[:_MOST_LINES].iterrows()
    ]


def _place(line: pd.Series) -> list[str]:
    minutes = f"{line['minutes']:.0f}" if known(line["minutes"]) else "–"
    return [f"{line['n_words']:,.0f}", f"{line['repetitions']:g}", minutes]


def _cut(count: int) -> str:
    return f"The first {_MOST_LINES} of {count}." * (count > _MOST_LINES)
