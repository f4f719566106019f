"""Figures of attention heads as features: a score for each block and head."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainalign_jax.language.hidden_states.head_vectors import HEADS, head_of
from brainalign_jax.study.report.wording import short_names
from brainalign_jax.study.results import GROUP, ResultTable
from brainalign_jax.study.score.measures import label_of

NAME = "score_by_head"


def draw_maps(table: ResultTable) -> dict[str, Figure]:
    """A figure for each model whose layers are heads; none where there is no such model."""
    models = [
        about
        for about in table.manifest.get("models", ())
        if isinstance(about, dict) and about.get("sublayers") == HEADS
    ]
    labels = short_names([about["name"] for about in models])
    figures = {}
    for number, about in enumerate(models, 1):
        figure = score_by_head(table, about["name"], about["n_heads"], labels[about["name"]])
        if figure is not None:
            figures[NAME + f"_{number}" * (len(models) > 1)] = figure
    return figures


def score_by_head(table: ResultTable, model: str, n_heads: int, label: str) -> Figure | None:
    """Maps of blocks and heads, a panel a method: mean rank accuracy over subjects, or a measure's value."""
    panels = []
    for metric in ("rank_accuracy", *table.measures()):
        rows = table.pooled(metric)
        rows = rows[(rows["model"] == model) & (rows["subject"] == GROUP) & (rows["layer"] > 0)]
        for method, part in rows.groupby("method", sort=False):
            panels.append((metric, method, part))
    if not panels:
        return None
    n_blocks = max(head_of(layer, n_heads)[0] for _, _, part in panels for layer in part["layer"])
    size = (len(panels) * (0.34 * n_heads + 2.2), 0.34 * (n_blocks + 1) + 1.7)
    figure = Figure(figsize=(max(size[0], 6.2), size[1]), layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (metric, method, part) in zip(axes, panels, strict=True):
        values = np.full((n_blocks + 1, n_heads), np.nan)
        for layer, value in zip(part["layer"], part["value"], strict=True):
            values[head_of(layer, n_heads)] = value
        _draw(figure, axis, values, float(part["chance"].mean()))
        name = "rank accuracy" if metric == "rank_accuracy" else label_of(metric)
        axis.set_title(f"{label}, {method}: {name}", fontsize=11)
    return figure


def _draw(figure: Figure, axis: Axes, values: np.ndarray, chance: float) -> None:
    """Colours from chance up; below chance is white."""
    top = max(float(np.nanmax(values)), chance + 1e-6)
    colours = colormaps["viridis"].with_extremes(under="white")
    drawn = axis.imshow(values, cmap=colours, vmin=chance, vmax=top, aspect="auto")
    axis.set_xticks(range(values.shape[1]))
    axis.set_yticks(range(values.shape[0]))
    axis.tick_params(labelsize=8)
    axis.set_xlabel("head")
    axis.set_ylabel("block")
    figure.colorbar(drawn, ax=axis, shrink=0.9, extend="min")
