"""The report of what models can do: the verdict first, then figures by group and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.studies.abilities import pairs, reading, verdict
from brainalign_jax.studies.abilities.table import AbilitiesTable
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY
from brainalign_jax.study.report.wording import capitalised, interval, number, short_names

_HEADER = ("model", "task", "value", "interval", "standard error", "n")
_MOST_GROUPS = 80  # lines of a figure
# Prefix of the tasks of a figure -> file, what is on its axis.
_FIGURES = {
    f"{pairs.TASK}/field": ("pairs_by_field", "share of pairs right"),
    f"{pairs.TASK}/phenomenon": ("pairs_by_phenomenon", "share of pairs right"),
    f"{reading.TASK}/": ("reading_by_story", "gain in log-likelihood (nats a word)"),
}


def write_report(table: AbilitiesTable, folder: Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else, and its figures to figures/."""
    figures = page.Figures(folder)
    for prefix, (name, axis) in _FIGURES.items():
        rows = table.rows[table.rows["task"].str.startswith(prefix)]
        if len(rows):
            drawn = draw_groups(rows, axis)
            caption = f"{capitalised(axis)}, with intervals; the line is chance."
            figures.add(name, name, drawn, caption)
    groups = table.rows.drop(verdict.main_rows(table.rows).index)
    return page.write(
        folder,
        "abilities",
        title="What the models can do",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=[said.text for said in verdict.verdicts(table)],
        how=_HOW,
        figures=figures,
        tasks=page.Table(_HEADER, _lines(verdict.main_rows(table.rows)), 2),
        groups=page.Table(_HEADER, _lines(groups), 2) if len(groups) else None,
        facts=_facts(table),
    )


def draw_groups(rows: pd.DataFrame, axis_label: str) -> Figure:
    """A line a group, in the order of the first model's values, and a point with its interval a model."""
    models = list(dict.fromkeys(rows["model"]))
    values = rows.pivot_table(index="item_group", columns="model", values="value", sort=False)[
        models
    ]
    order = values.sort_values(models[0]).index[-_MOST_GROUPS:]
    figure = Figure(
        figsize=(6.4, 1.3 + 0.24 * len(order) * max(1, len(models) / 3)),
        layout="constrained",
        facecolor="white",
    )
    axis = figure.subplots()
    figure_parts.plain_axis(axis, "x")
    colours, labels = figure_parts.colours(models), short_names(models)
    height = np.arange(len(order))
    for place, model in enumerate(models):
        own = rows[rows["model"] == model].set_index("item_group").reindex(order)
        shift = (place - (len(models) - 1) / 2) * 0.8 / len(models)
        reach = [own["value"] - own["lower"], own["upper"] - own["value"]]
        axis.errorbar(
            own["value"],
            height + shift,
            xerr=np.abs(reach),
            fmt="o",
            color=colours[model],
            markersize=4,
        )
    axis.axvline(rows["chance"].iloc[0], color=GREY, linewidth=0.8)
    axis.set_yticks(height, [name.partition(": ")[2] or name for name in order], fontsize=9)
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.set_xlabel(axis_label, fontsize=11)
    entries = [
        (figure_parts.line(colours[model], linewidth=1.8), labels[model]) for model in models
    ]
    figure_parts.legend(figure, entries)
    return figure


def _lines(rows: pd.DataFrame) -> list[list[str]]:
    labels = short_names(list(dict.fromkeys(rows["model"])))
    return [
        [
            labels[line.model],
            line.task,
            number(line.value),
            interval(line.lower, line.upper),
            number(line.stderr),
            f"{line.n_items:,}",
        ]
        for line in rows.itertuples()
    ]


def _scope(table: AbilitiesTable) -> str:
    measured = [f"{name}: {about}" for name, about in table.manifest["data"].items()]
    return f"Measured on {'; '.join(measured)}."


_HOW = (
    "Bits: surprisal of words, those of a causal model given what stands before them, of a model of both "
    "directions by its pseudo-log-likelihood, sentence by sentence. Minimal pairs: the sentence of the "
    "higher summed log-probability is taken (a tie is one half), the full stop counts as any sign, and a "
    "causal model reads its first token before each sentence. Reading times: the gain in held-out "
    "log-likelihood where surprisal of the word and of those before it joins their length and log frequency "
    "in a regression on the other stories; its interval is over stories and the words in them, the others' "
    "are over items. Multiple choice: the likeliest answer behind its context (acc), or the likeliest by its "
    "length in characters (acc_norm). Last words: the share that the model would have said, each "
    "sub-token of the word the likeliest one (last_word_acc), and their bits."
)


def _facts(table: AbilitiesTable) -> page.Table:
    manifest = table.manifest
    known = [(f"choice: {key}", value) for key, value in manifest["plan"].items()]
    known += [(f"reference: {key}", value) for key, value in manifest["reference"].items()]
    for model in manifest["models"]:
        known += [
            (f"{model['name']}: {key}", value) for key, value in model.items() if key != "name"
        ]
    known += [(key, manifest[key]) for key in ("bos", "command", "created", "versions")]
    return page.facts((key, value) for key, value in known if value not in (None, ""))
