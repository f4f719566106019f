"""The report of a study over time: the verdict first, then time by layer, curves, time by time and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brainalign_jax.studies.timecourse import verdict
from brainalign_jax.studies.timecourse.table import TimeCourseTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import (
    counted,
    mean_of_subjects,
    number,
    p_value,
    percent,
    recorded,
    short_names,
)
from brainalign_jax.study.results import GROUP

_PEAKS = ("model", "method", "layer", "first found (s)", "last found (s)", "peak (s)", "score", "p")
_FACTS = (  # of the manifest
    {"dataset": "dataset", "plan": "choice"},
    ("n_words", "n_types", "n_windows", "n_channels", "command", "created", "versions"),
)


def write_report(table: TimeCourseTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else, and its figures to figures/."""
    judged = verdict.verdicts(table)
    labels = short_names(list(dict.fromkeys(shown.model for shown in judged)))
    figures = page.Figures(folder)
    for place, shown in enumerate(judged, 1):
        label = f"{labels[shown.model]}, {shown.method}"
        for kind, draw, caption in (
            ("time_by_layer", draw_time_by_layer, _cells_caption),
            ("time_course", draw_time_course, _curve_caption),
        ):
            drawn = draw(table, shown.model, shown.method)
            figures.add(f"{kind}_{place}", f"{kind} {label}", drawn, caption(table, label))
    for place, model in enumerate(dict.fromkeys(table.maps["model"]) if len(table.maps) else (), 1):
        drawn = draw_time_by_time(table, model)
        caption = _map_caption(labels[model])
        figures.add(f"time_by_time_{place}", f"time by time {model}", drawn, caption)
    manifest = table.manifest
    return page.write(
        folder,
        "timecourse",
        title=f"{manifest['dataset']['name']}: over time",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=[shown.text for shown in judged],
        notes=manifest["notes"],
        how=_how(table),
        figures=figures,
        peaks=page.Table(_PEAKS, _peak_lines(table, labels), 2),
        facts=page.facts_of(manifest, *_FACTS),
    )


def draw_time_by_layer(table: TimeCourseTable, model: str, method: str) -> Figure:
    """The group's scores, windows across and layers up; a dot in each cell that is found."""
    rows = verdict.group_rows(table, model, method)
    values = rows.pivot(index="layer", columns="time", values="value")
    is_found = rows.pivot(index="layer", columns="time", values="p_max").to_numpy() < LEVEL
    chance = float(rows["chance"].iloc[0])
    figure, axis, image = _map_about_chance(values, chance, width=6.2)
    times, layers = np.meshgrid(values.columns, values.index)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}  # seen on dark cells, too
    axis.plot(times[is_found], layers[is_found], "o", color="black", markersize=4, **edge)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure_parts.label([axis], "seconds from the word's onset", "layer")
    bar = figure.colorbar(image, ax=axis)
    bar.set_label(verdict.NAMES[rows["metric"].iloc[0]], fontsize=11)
    return figure


def draw_time_course(table: TimeCourseTable, model: str, method: str) -> Figure:
    """The best layer over time with its interval, each person thin, and the ceiling."""
    rows = verdict.group_rows(table, model, method)
    layer = rows.loc[rows["value"].idxmax(), "layer"]
    rows = rows[rows["layer"] == layer]
    figure, (axis,) = figure_parts.panels(1, width=6.2)
    own = rows_with(table.rows, model=model, method=method, layer=layer)
    own = own[(own["metric"] == rows["metric"].iloc[0]) & (own["subject"] != GROUP)]
    for _, person in own.groupby("subject"):
        axis.plot(person["time"], person["value"], color=OKABE_ITO[0], alpha=0.25, linewidth=0.8)
    axis.fill_between(
        rows["time"], rows["lower"], rows["upper"], color=OKABE_ITO[0], alpha=0.2, linewidth=0
    )
    axis.plot(rows["time"], rows["value"], color=OKABE_ITO[0], linewidth=1.8)
    entries = [
        (figure_parts.line(OKABE_ITO[0], linewidth=1.8), f"layer {layer}, mean"),
        (figure_parts.line(OKABE_ITO[0], linewidth=0.8, alpha=0.4), "one person"),
        (figure_parts.line(GREY, linewidth=0.8), "chance"),
    ]
    if rows["ceiling"].notna().any():
        axis.plot(rows["time"], rows["ceiling"], color=GREY, linewidth=1.2, linestyle="--")
        entries.append((figure_parts.line(GREY, linestyle="--"), "other people in its place"))
    found_rows = rows[rows["p_max"] < LEVEL]
    low = axis.get_ylim()[0]
    axis.plot(
        found_rows["time"], np.full(len(found_rows), low), "s", color=OKABE_ITO[2], markersize=4
    )
    if len(found_rows):
        squares = figure_parts.line(OKABE_ITO[2], linestyle="", marker="s", markersize=4)
        entries.append((squares, "found (p < .05)"))
    axis.axhline(rows["chance"].iloc[0], color=GREY, linewidth=0.8)
    axis.axvline(0, color=GREY, linewidth=0.8)
    name = verdict.NAMES[rows["metric"].iloc[0]]
    figure_parts.label([axis], "seconds from the word's onset", name)
    figure_parts.legend(figure, entries)
    return figure


def draw_time_by_time(table: TimeCourseTable, model: str) -> Figure:
    """The group's rank accuracy, fitted in one window and tested in another."""
    rows = rows_with(table.maps, model=model, subject=GROUP)
    rows = rows.assign(
        fitted=(rows["fitted_start"] + rows["fitted_stop"]) / 2,
        tested=(rows["window_start"] + rows["window_stop"]) / 2,
    )
    values = rows.pivot(index="fitted", columns="tested", values="value")
    figure, axis, image = _map_about_chance(values, 0.5, width=5.4)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.axhline(0, color=GREY, linewidth=0.8)
    figure_parts.label([axis], "tested at (s)", "fitted at (s)")
    figure.colorbar(image, ax=axis).set_label("rank accuracy", fontsize=11)
    return figure


def _map_about_chance(
    values: pd.DataFrame, chance: float, *, width: float
) -> tuple[Figure, Axes, QuadMesh]:
    """A cell a value, its columns across and its index up; white is chance."""
    figure, (axis,) = figure_parts.panels(1, width=width)
    axis.grid(False)
    largest = max(float(np.abs(values.to_numpy() - chance).max()), 1e-6)
    image = axis.pcolormesh(
        values.columns,
        values.index,
        values.to_numpy(),
        cmap="RdBu_r",
        vmin=chance - largest,
        vmax=chance + largest,
        shading="nearest",
    )
    return figure, axis, image


def _cells_caption(table: TimeCourseTable, label: str) -> str:
    return (
        f"{label}: {mean_of_subjects(len(table.manifest['subjects']))}, by window and layer (0: the "
        "embeddings). Dots: above what the largest of all windows and layers reaches in the draws, p < .05."
    )


def _curve_caption(table: TimeCourseTable, label: str) -> str:
    return (
        f"{label}: the layer that scores highest anywhere, over time, with {_confidence(table)} intervals "
        "over people. That layer is picked on these scores."
    )


def _map_caption(label: str) -> str:
    return (
        f"{label}: words decoded in one window by the map that was fitted in another, mean over people. On "
        "the diagonal both are the same window; a square away from it is a pattern that lasts."
    )


def _confidence(table: TimeCourseTable) -> str:
    return percent(table.manifest["plan"]["confidence"])


def _peak_lines(table: TimeCourseTable, labels: dict[str, str]) -> list[list[str]]:
    return [
        [
            labels[peak["model"]],
            peak["method"],
            str(peak["layer"]),
            number(peak["found_from"]).replace("-", "−"),
            number(peak["found_to"]).replace("-", "−"),
            verdict.peak_text(peak),
            number(peak["value"]),
            p_value(peak["p_max"]),
        ]
        for _, peak in table.peaks.iterrows()
    ]


def _scope(table: TimeCourseTable) -> str:
    manifest = table.manifest
    start, stop = manifest["epoch"]
    n_people = len(manifest["subjects"])
    people = "One person" if n_people == 1 else f"{n_people} people"
    windows = counted(manifest["n_windows"], "window")
    return (
        f"{people} with {counted(manifest['n_words'], 'word')}: epochs of {manifest['n_channels']} channels "
        f"from {start:g} to {stop:g} s around each, in {windows} of {manifest['plan']['window']:g} s."
    ).replace("-", "−")


def _how(table: TimeCourseTable) -> str:
    manifest = table.manifest
    protocol = manifest["protocol"]
    purge = ""
    if manifest["timed"]:
        purge = (
            f" No word within {protocol['purge']:g} s of a tested one is trained on, an epoch's length or "
            "more: neighbours' epochs overlap."
        )
    held = " Encoding keeps in the draws the penalty that it chose."
    if manifest["plan"]["hold_alpha"] and manifest["null"] == "items":
        held = (
            " Ridge (unless folds fit scalings or axes, as of models that differ in width) and encoding "
            "keep in the draws the penalty that they chose."
        )
    kind = {
        "items": "words exchange their vectors",
        "shift": "responses are shifted in a circle against the words (RSA of fewer than 40 words: blocks of "
        "words change places)",
        "blocks": "blocks of responses change places",
    }[manifest["null"]]
    return (
        "Each window is a study of its own: the mean of each channel over it, under the "
        f"{protocol['name']} protocol, in folds that all windows share.{purge} p: draws in which {kind}, the "
        f"same in all windows, people and layers ({recorded(manifest['n_draws'])}); corrected by the largest "
        f"score of each draw over all windows and layers of a model.{held} "
        "Peak: the middle of the best window of the group's mean; its interval resamples people, or words "
        "where there are fewer than six people."
    )
