"""Figures of a study: scores by layer, by k and by model size, and measures of similarity.

Every function returns a `matplotlib.figure.Figure` without touching pyplot, so no display or
backend is needed.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.special import bdtr, bdtrik

from brainalign_jax.names import check_known
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.report import figure_parts, head_maps
from brainalign_jax.study.report.figure_parts import GREY, colours, model_styles
from brainalign_jax.study.report.wording import known, mean_of_subjects, number, short_names
from brainalign_jax.study.results import GROUP, POOLED, SELECTED, ResultTable
from brainalign_jax.study.score.measures import label_of

_MOST_WITH_POINTS = 4  # models beyond which the subjects' points would cover the lines
INTERVALS = "bars: intervals of the mean"
_METRIC_NAMES = {"precision_csls": "CSLS", "precision_nn": "nearest neighbour"}


def precision_by_layer(table: ResultTable, *, k: int, metric: str = "precision_csls") -> Figure:
    """Precision at k by layer: one panel a method, one line a model (mean over subjects).

    The dashed line is chance and the grey band where 99 % of guesses of one subject fall (binomial,
    independent words). metric: "precision_csls" or "precision_nn".

    Raises: ValueError where the table has no such rows, or more than one data set or protocol.
    """
    rows = _precision_rows(table, metric, k)
    figure, axes = figure_parts.panels(len(rows["method"].unique()))
    low, high, chance, n_items = chance_interval(rows)
    for axis in axes:
        axis.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axis.axhline(chance, color=GREY, linestyle="--", linewidth=1.2, zorder=1, label="chance")
    reference = (
        Patch(color=GREY, alpha=0.18, linewidth=0),
        figure_parts.line(GREY, linestyle="--"),
    )
    label = f"chance {number(chance)}, 99 % binomial band of one subject (n = {n_items:,} words)"
    _draw_layers(figure, axes, rows, (reference, label), _bounds(table, metric, k))
    axes[0].set_ylim(bottom=0)
    figure_parts.label(
        axes, "layer (0 = embeddings)", f"P@{k}, {_METRIC_NAMES[metric]} (fraction of words)"
    )
    return figure


def similarity_by_layer(table: ResultTable, measure: str = "rsa") -> Figure:
    """A measure of similarity by layer: one line a model (mean over subjects), and what unrelated ones have.

    Raises: ValueError where the table has no such rows, or more than one data set or protocol.
    """
    check_one_study(table)
    rows = table.pooled(measure)
    if rows.empty:
        raise ValueError(
            f'the table has no rows of the metric "{measure}": add the method "{measure}"'
        )
    figure, axes = figure_parts.panels(len(rows["method"].unique()), width=6.2)
    chance = rows["chance"].mean()
    for axis in axes:
        axis.axhline(chance, color=GREY, linestyle="--", linewidth=1.2, zorder=1, label="zero")
    # Of measures whose value for unrelated vectors is not known there is no line.
    reference = (figure_parts.line(GREY, linestyle="--"), "no similarity") if known(chance) else ()
    _draw_layers(figure, axes, rows, reference, _bounds(table, measure, 0))
    figure_parts.label(axes, "layer (0 = embeddings)", label_of(measure))
    return figure


def precision_by_k(table: ResultTable, *, k: int = 10, metric: str = "precision_csls") -> Figure:
    """Precision at every k, mean over subjects, at the layer that is best at `k`.

    Raises: ValueError where the table has no such rows, or more than one data set or protocol.
    """
    group = _group(_precision_rows(table, metric, k))
    best = group.loc[group.groupby(["model", "method"], sort=False)["value"].idxmax()]
    figure, axes = figure_parts.panels(len(best["method"].unique()))
    styles = model_styles(best["model"].unique())
    pooled = (table.rows["metric"] == metric) & (table.rows["fold"] == POOLED)
    everything = _group(table.rows[pooled & (table.rows["layer"] != SELECTED)])
    for axis, (method, part) in zip(axes, best.groupby("method", sort=False), strict=True):
        for model, layer in zip(part["model"], part["layer"], strict=True):
            chosen = (everything["model"] == model) & (everything["method"] == method)
            line = everything[chosen & (everything["layer"] == layer)].sort_values("k")
            axis.plot(line["k"], line["value"], label=model, zorder=3, **styles[model])
        axis.plot(line["k"], line["chance"], "--", color=GREY, linewidth=1.2, label="chance")
        axis.set_title(method, fontsize=11)
        axis.set_xscale("log")
        axis.set_xticks(line["k"], [f"{value:g}" for value in line["k"]])
        axis.minorticks_off()
    axes[0].set_ylim(bottom=0)
    figure_parts.label(axes, "k (log scale)", f"P@k, {_METRIC_NAMES[metric]} (fraction of words)")
    figure_parts.legend(
        figure, [*_model_entries(styles), (figure_parts.line(GREY, linestyle="--"), "chance")]
    )
    return figure


def precision_by_model_size(table: ResultTable, *, k: int) -> Figure:
    """P@k (CSLS) by number of parameters: best layer and mean over layers, families by colour.

    Raises: ValueError where fewer than two sizes are known, the table has no precision at k, or
    more than one data set or protocol.
    """
    group = _group(_precision_rows(table, "precision_csls", k))
    group = group[np.isfinite(group["n_params"])]
    if group["n_params"].nunique() < 2:
        raise ValueError("fewer than two model sizes are known: there is no trend to draw")
    group = group.assign(
        family=group["family"].fillna("other").astype(str),
        untrained=group["model"].str.startswith(UNTRAINED),
    )
    keys = ["method", "family", "untrained", "n_params", "model"]
    scores = group.groupby(keys, sort=True)["value"].agg(["max", "mean"]).reset_index()
    by_family = colours(dict.fromkeys(group["family"]))
    methods = list(dict.fromkeys(group["method"]))
    figure, axes = figure_parts.panels(len(methods))
    for axis, method in zip(axes, methods, strict=True):
        axis.axhline(
            group["chance"].mean(), color=GREY, linestyle=":", linewidth=1.2, label="chance"
        )
        part = scores[scores["method"] == method]
        for (family, untrained), line in part.groupby(["family", "untrained"], sort=False):
            twin = {"linestyle": "--", "marker": "^"} if untrained else {}
            for column, style in _SIZE_STYLES.items():
                label = f"{UNTRAINED * untrained}{family} {column}"
                style = {**style, **twin, "color": by_family[family]}
                axis.plot(line["n_params"] / 1e6, line[column], label=label, **style)
        axis.set_title(method, fontsize=11)
        axis.set_xscale("log")
        # Half a unit of room on either side: a narrow range of sizes still meets a tick.
        axis.set_xlim(scores["n_params"].min() / 2e6, scores["n_params"].max() * 2e-6)
        figure_parts.log_sizes(axis.xaxis)
    axes[0].set_ylim(bottom=0)
    figure_parts.label(axes, "parameters (millions, log scale)", f"P@{k}, CSLS (fraction of words)")
    entries = [(figure_parts.line(colour), name) for name, colour in by_family.items()]
    if scores["untrained"].any():
        entries.append((figure_parts.line(GREY, linestyle="--", marker="^"), "untrained models"))
    entries += [
        (figure_parts.line(GREY, **_SIZE_STYLES["max"]), "best layer"),
        (figure_parts.line(GREY, **_SIZE_STYLES["mean"]), "mean over layers"),
        (figure_parts.line(GREY, linestyle=":"), "chance"),
    ]
    figure_parts.legend(figure, entries)
    return figure


_SIZE_STYLES = {
    "max": {"marker": "o", "markersize": 6},
    "mean": {"marker": "s", "markersize": 5, "markerfacecolor": "white", "linewidth": 1.0},
}


def draw_figures(table: ResultTable, *, k: int) -> dict[str, Figure]:
    """All figures for which the table has data, by name."""
    figures = {}
    precision = table.pooled("precision_csls", k=k)
    if len(precision):
        figures["precision_by_layer"] = precision_by_layer(table, k=k)
        if table.rows.loc[table.rows["metric"] == "precision_csls", "k"].nunique() > 1:
            figures["precision_by_k"] = precision_by_k(table, k=k)
        if precision["n_params"].dropna().nunique() > 1:
            figures["precision_by_model_size"] = precision_by_model_size(table, k=k)
    for measure in table.measures():
        figures[f"{measure}_by_layer"] = similarity_by_layer(table, measure)
    return figures | head_maps.draw_maps(table)


def save_figures(figures: dict[str, Figure], folder: Path) -> dict[str, Path]:
    """Write figures as <name>.png (150 dpi), each whole or not at all."""
    paths = {}
    for name, figure in figures.items():
        paths[name] = Path(folder) / f"{name}.png"
        figure_parts.save(figure, paths[name])
    return paths


def chance_interval(rows: pd.DataFrame) -> tuple[float, float, float, int]:
    """(low, high, chance, n): where 99 % of the precisions of one guessing subject fall.

    rows: pooled precision rows of one k, subjects included. n is the number of words scored of the
    subject who has fewest, whose interval is the widest. Binomial with independent words: an
    interval of chance only, as the words of a text are not independent.
    """
    subjects = rows[rows["subject"] != GROUP]
    n_items = int((subjects if len(subjects) else rows)["n_items"].min())
    chance = float(rows["chance"].mean())
    low, high = binomial_quantiles(np.array([0.005, 0.995]), n_items, chance) / n_items
    return float(low), float(high), chance, n_items


def binomial_quantiles(shares: np.ndarray, n_items: int, chance: float) -> np.ndarray:
    """The fewest hits of n_items guesses that have at least these probabilities, [S] as `shares`.

    What `scipy.stats.binom.ppf` gives, without scipy.stats, which takes half a second to import.
    """
    hits = np.ceil(bdtrik(shares, n_items, chance))
    fewer = np.maximum(hits - 1, 0)
    return np.where(bdtr(fewer, n_items, chance) >= shares, fewer, hits)


def spread_note(n_models: int, n_subjects: int) -> str:
    """What shows the spread over subjects in a figure of so many models; "" for one subject."""
    if n_subjects < 2:
        return ""
    if n_models <= _MOST_WITH_POINTS:
        return "small dots: single subjects"
    return "shading: mean ± standard error over subjects"


def check_one_study(table: ResultTable) -> None:
    """Raise ValueError unless all rows are of one data set and one protocol."""
    for column in ("dataset", "protocol"):
        values = table.rows[column].unique()
        if len(values) > 1:
            raise ValueError(
                f"the table mixes {column}s {', '.join(map(str, values))}: select the rows of one"
            )


def _precision_rows(table: ResultTable, metric: str, k: int) -> pd.DataFrame:
    check_known("metric=", metric, _METRIC_NAMES)
    check_one_study(table)
    rows = table.pooled(metric, k=k)
    if rows.empty:
        known = sorted(table.rows.loc[table.rows["metric"] == metric, "k"].unique())
        known = ", ".join(map(str, known)) or "none"
        raise ValueError(f"the table has no {metric} at k={k}: its k are {known}")
    return rows


def _group(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["subject"] == GROUP]


def _bounds(table: ResultTable, metric: str, k: int) -> pd.DataFrame | None:
    """Bootstrap intervals of the group scores of every layer, where the table has them."""
    intervals = table.extras.get("intervals")
    if intervals is None:
        return None
    intervals = intervals[(intervals["metric"] == metric) & (intervals["k"] == k)]
    return intervals if len(intervals) else None


def _draw_layers(
    figure: Figure,
    axes: np.ndarray,
    rows: pd.DataFrame,
    reference: tuple,
    bounds: pd.DataFrame | None = None,
) -> None:
    """One panel a method: group means as lines, their intervals, or subjects as points or standard errors."""
    models = list(dict.fromkeys(rows["model"]))
    styles = model_styles(models)
    n_subjects = rows.loc[rows["subject"] != GROUP, "subject"].nunique()
    note = spread_note(len(models), n_subjects)
    if bounds is not None:
        note = INTERVALS
    # Bars stand beside their point, dots of subjects have more room; both near it where layers are few.
    dodge = min(0.14 if bounds is None else 0.05, 0.6 / len(models))
    dodge *= min(1.0, max(rows["layer"].max(), 1) / 6)
    for axis, (method, part) in zip(axes, rows.groupby("method", sort=False), strict=True):
        for index, model in enumerate(models):
            of_model = part[part["model"] == model].sort_values("layer")
            subjects, colour = of_model[of_model["subject"] != GROUP], styles[model]["color"]
            mean = _group(of_model)
            axis.plot(mean["layer"], mean["value"], label=model, zorder=3, **styles[model])
            if bounds is not None:
                of = (bounds["model"] == model) & (bounds["method"] == method)
                line = bounds[of].sort_values("layer")
                x = line["layer"] + dodge * (index - (len(models) - 1) / 2)
                axis.vlines(x, line["lower"], line["upper"], color=colour, linewidth=1.1, alpha=0.7)
            elif note and len(models) <= _MOST_WITH_POINTS:
                x = subjects["layer"] + dodge * (index - (len(models) - 1) / 2)
                face = "none" if model.startswith(UNTRAINED) else colour
                dots = {"s": 6, "facecolors": face, "edgecolors": colour, "linewidths": 0.5}
                axis.scatter(x, subjects["value"], alpha=0.45, zorder=2, **dots)
            elif note:
                spread = subjects.groupby("layer")["value"].agg(["mean", "sem"])
                low, high = spread["mean"] - spread["sem"], spread["mean"] + spread["sem"]
                axis.fill_between(spread.index, low, high, color=colour, alpha=0.2, lw=0, zorder=2)
        axis.set_title(method, fontsize=11)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    sample = (
        figure_parts.line(GREY, linestyle="", marker="|", markersize=9)
        if bounds is not None
        else figure_parts.line(GREY, linestyle="", marker="o", markersize=2.5)
        if len(models) <= _MOST_WITH_POINTS
        else Patch(color=GREY, alpha=0.4, linewidth=0)
    )
    lines = [
        (figure_parts.line(GREY, linewidth=1.8), f"lines: {mean_of_subjects(n_subjects)}"),
        *[(sample, note)] * bool(note),
    ]
    figure_parts.legend(figure, [*_model_entries(styles), *lines, *[reference] * bool(reference)])


def _model_entries(styles: dict[str, dict]) -> list[tuple]:
    names = short_names(list(styles))
    return [(Line2D([], [], **style), names[model]) for model, style in styles.items()]
