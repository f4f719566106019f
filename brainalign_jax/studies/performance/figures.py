"""The figures of a study of performance: forest, scatter, curves over training, and what ablations cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainalign_jax.studies.performance import verdict
from brainalign_jax.studies.performance.table import ALL, PerformanceTable
from brainalign_jax.studies.performance.tasks import label_of
from brainalign_jax.studies.performance.trajectories import curve_of, log_steps
from brainalign_jax.study.report import figure_parts
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import short_names

MOST_TASKS = 40  # lines of a forest
_PANELS = 6
_MARKERS = "osD^vPX"
_LABELLED = 10  # models that a panel names


def draw_figures(table: PerformanceTable) -> Iterator[tuple[str, Figure, str]]:
    """(name, figure, caption) of all figures that the tables have rows for."""
    datasets = list(table.rows["dataset"].unique())
    for place, dataset in enumerate(datasets, 1):
        ending = f"_{place}" * (len(datasets) > 1)
        rows = table.rows[table.rows["dataset"] == dataset]
        yield f"forest{ending}", draw_forest(rows), _forest_caption(dataset, rows)
        yield (
            f"scores_and_tasks{ending}",
            draw_scatter(table, dataset),
            f"{dataset}: what models can do against their brain score, a point a model, families by colour "
            f"and mark.{' The tasks with the smallest p.' * (len(rows) > _PANELS)}",
        )
        curves = _curves(table, dataset)
        if curves:
            label = label_of(curves[0])[0]
            yield (
                f"training{ending}",
                draw_training(curves),
                f"{dataset}: brain score and {label} over training (logarithmic; step 0 at one half), each "
                "as its share of its own change from the first to the last step. Grey: half.",
            )
    if len(table.extras["ablated_parts"]):
        yield (
            "ablations",
            draw_ablations(table.extras["ablated_parts"]),
            "What each part that was switched off costs, a point a part: change of rank accuracy, mean over "
            "people, against change of bits per word.",
        )


def draw_forest(rows: pd.DataFrame) -> Figure:
    """Partial correlations with their intervals, the largest first; open: the plain ones."""
    sized = (rows["given"] != "").any()
    value = "partial_spearman" if sized else "spearman"
    rows = rows.assign(score=rows[value])
    rows = rows.sort_values("p" if sized else "p_spearman", kind="stable")[:MOST_TASKS]
    rows = rows.sort_values("score", na_position="first")
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(rows)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    places = np.arange(len(rows))
    clear = verdict.beyond_size(rows).to_numpy()
    axis.hlines(places, rows["lower"], rows["upper"], color=OKABE_ITO[0], linewidth=1.2)
    if sized:
        axis.plot(rows["spearman"], places, "o", markersize=5, color=GREY, markerfacecolor="white")
    for shown, colour in ((~clear, OKABE_ITO[0]), (clear, OKABE_ITO[1])):
        axis.plot(rows["score"][shown], places[shown], "D", markersize=4.5, color=colour)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_yticks(places, label_of(rows), fontsize=8)
    axis.set_xlim(-1.05, 1.05)
    axis.set_ylim(-1, len(rows))
    axis.set_xlabel("Spearman correlation of brain score and task")
    figure_parts.plain_axis(axis, "x")
    entries = [(figure_parts.line(OKABE_ITO[0], marker="D", markersize=4.5), "given size")]
    if sized:
        mark = dict(marker="o", markersize=5, linestyle="", markerfacecolor="white")
        entries.append((figure_parts.line(GREY, **mark), "not given size"))
    if clear.any():
        mark = dict(marker="D", markersize=4.5, linestyle="")
        entries.append((figure_parts.line(OKABE_ITO[1], **mark), "adjusted p < .05"))
    figure_parts.legend(figure, entries if sized else [(entries[0][0], "not given size")])
    return figure


def draw_scatter(table: PerformanceTable, dataset: str) -> Figure:
    """Task values against brain scores, a panel a task, families by colour and mark."""
    rows = table.rows[table.rows["dataset"] == dataset]
    rows = rows.sort_values(["p", "p_spearman"], kind="stable")[:_PANELS]
    points = table.extras["models"]
    points = points[(points["dataset"] == dataset) & points["last"]]
    figure, axes = figure_parts.panels(len(rows), same_y=False)
    families = list(dict.fromkeys(points["family"]))
    colours = figure_parts.colours(families)
    labels = short_names(list(points["model"].unique()), width=24)
    for axis, label, (_, line) in zip(axes, label_of(rows), rows.iterrows(), strict=True):
        part = points[(points["task"] == line["task"]) & (points["metric"] == line["metric"])]
        _draw_models(axis, part, families, colours, labels)
        axis.set_title(label, fontsize=10)
    figure_parts.label(axes, "brain score", "task value")
    entries = [
        (
            figure_parts.line(colours[family], marker=_marker(place), linestyle="", markersize=5),
            family,
        )
        for place, family in enumerate(families[: 3 * len(OKABE_ITO)])
    ]
    figure_parts.legend(figure, entries)
    return figure


def _draw_models(
    axis: Axes, part: pd.DataFrame, families: list[str], colours: dict[str, str], labels
) -> None:
    for place, family in enumerate(families):
        own = part[part["family"] == family]
        axis.plot(own["score"], own["value"], _marker(place), color=colours[family], markersize=5)
    if len(part) <= _LABELLED:
        for _, line in part.iterrows():
            axis.annotate(
                labels[line["model"]].replace("$", r"\$"),
                (line["score"], line["value"]),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=5.5,
                color=GREY,
            )


def draw_training(curves: list[pd.DataFrame]) -> Figure:
    """Both curves of each model over log steps, a panel a model; curves: the points of each."""
    figure, axes = figure_parts.panels(len(curves))
    labels = short_names([part["model"].iloc[0] for part in curves], width=30)
    for axis, part in zip(axes, curves, strict=True):
        task, metric, model = (part[name].iloc[0] for name in ("task", "metric", "model"))
        steps = log_steps(part["step"].to_numpy(float))
        both = (
            (part["score"].to_numpy(float), OKABE_ITO[0], "o"),
            (curve_of(task, metric, part["value"].to_numpy(float)), OKABE_ITO[1], "s"),
        )
        for values, colour, mark in both:
            share = (values - values[0]) / (values[-1] - values[0])
            axis.plot(steps, share, color=colour, marker=mark, markersize=3.5, linewidth=1.5)
        axis.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_title(labels[model].replace("$", r"\$"), fontsize=10)
    figure_parts.label(axes, "log10 of training step", "share of the change")
    mark = dict(markersize=3.5, linewidth=1.5)
    figure_parts.legend(
        figure,
        [
            (figure_parts.line(OKABE_ITO[0], marker="o", **mark), "brain score"),
            (figure_parts.line(OKABE_ITO[1], marker="s", **mark), label_of(curves[0])[0]),
        ],
    )
    return figure


def draw_ablations(parts: pd.DataFrame) -> Figure:
    """Change of rank accuracy against that of bits, a panel a model, method, way and read-out."""
    runs = list(parts.groupby(["model", "method", "how", "readout"], sort=False))[:_PANELS]
    figure, axes = figure_parts.panels(len(runs))
    labels = short_names(list(parts["model"].unique()), width=24)
    kinds = list(dict.fromkeys(parts["component"]))
    colours = figure_parts.colours(kinds)
    for axis, ((model, method, how, readout), part) in zip(axes, runs, strict=True):
        for place, kind in enumerate(kinds):
            own = part[part["component"] == kind]
            axis.plot(
                own["bits_change"], own["change"], _marker(place), color=colours[kind], markersize=4
            )
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_title(f"{labels[model]}, {method}, {how}, {readout}", fontsize=9)
    figure_parts.label(axes, "change of bits per word", "change of rank accuracy")
    entries = [
        (figure_parts.line(colours[kind], marker=_marker(place), linestyle=""), kind)
        for place, kind in enumerate(kinds)
    ]
    figure_parts.legend(figure, entries)
    return figure


def _curves(table: PerformanceTable, dataset: str) -> list[pd.DataFrame]:
    """Points by step of up to six models, by size, of the task that is spoken of, else of the first."""
    rows = table.extras["trajectories"]
    rows = rows[(rows["dataset"] == dataset) & (rows["model"] != ALL)]
    if rows.empty:
        return []
    best = verdict.strongest(table.rows[table.rows["dataset"] == dataset])
    if not ((rows["task"] == best["task"]) & (rows["metric"] == best["metric"])).any():
        best = rows.iloc[0]
    rows = rows[(rows["task"] == best["task"]) & (rows["metric"] == best["metric"])]
    points = table.extras["models"]
    points = points[(points["dataset"] == dataset) & points["step"].notna()]
    points = points[(points["task"] == best["task"]) & (points["metric"] == best["metric"])]
    points = points[points["model"].isin(rows["model"])].sort_values(["n_params", "model", "step"])
    return [part for _, part in points.groupby("model", sort=False)][:_PANELS]


def _forest_caption(dataset: str, rows: pd.DataFrame) -> str:
    cut = f" The {MOST_TASKS} tasks with the smallest p, of {len(rows)}."
    return (
        f"{dataset}: rank correlation of brain score and task over models, given size, with intervals over "
        f"models and people; open circles: not given size.{cut * (len(rows) > MOST_TASKS)}"
    )


def _marker(place: int) -> str:
    return _MARKERS[(place // len(OKABE_ITO) + place) % len(_MARKERS)]
