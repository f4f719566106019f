"""What the studies of a replication say together: verdicts, scaling, signatures, figures, one page."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainalign_jax.study.evidence.table import METRIC
from brainalign_jax.study.report import figure_parts, page, summary, verdict
from brainalign_jax.study.report.evidence import answer, confidence
from brainalign_jax.study.report.figure_parts import GREY, colours, plain_axis
from brainalign_jax.study.report.wording import interval, number, p_value, percent, short_names
from brainalign_jax.study.results import ResultTable

_CHANCE = (Line2D([], [], color="black", linestyle=":", linewidth=1.2), "chance")
_CHOSEN = {
    "inner folds": "chosen in inner folds",
    "best on these scores": "best on these very scores",
}
Tables = Mapping[tuple[str, str], ResultTable]


def write(
    tables: Tables,
    layers: pd.DataFrame,
    folder: Path,
    *,
    k: int,
    command: str = "",
    simulated: bool = False,
) -> None:
    """Write figures/*.png and report.html. layers: of `intervals.by_layer`."""
    figures = draw(tables, layers, k=k)
    for name, (figure, _) in figures.items():
        figure_parts.save(figure, Path(folder) / "figures" / f"{name}.png")
    page.write(
        folder,
        "replication",
        title="Replication of Li et al. 2023",
        warning=summary.SIMULATED_WARNING if simulated else "",
        datasets=[_dataset(tables, name, k) for name in dict.fromkeys(name for name, _ in tables)],
        sizes=_sizes(tables),
        figures=[page.picture(name, *drawn) for name, drawn in figures.items()],
        k=k,
        scores=_csls_table(tables, k),
        confidence=percent(confidence(next(iter(tables.values())))),
        command=command,
    )


def _dataset(tables: Tables, name: str, k: int) -> dict:
    """What is said of one data set: the answer of the audited protocol, or a warning; the best scores."""
    audited = tables.get((name, "audited"))
    return {
        "name": name,
        "warning": summary.PAPER_WARNING if audited is None else "",
        "answer": answer(audited) if audited is not None else None,
        "highest": _highest(tables, name, k),
        "protocols": [protocol for of, protocol in tables if of == name],
    }


def _highest(tables: Tables, dataset: str, k: int) -> str:
    """The best score of every protocol beside chance, and beside its null where there is one."""
    texts = []
    for (of, name), table in tables.items():
        if of != dataset:
            continue
        evidence = table.extras["evidence"]
        names = short_names(evidence["model"].unique())
        evidence = evidence[evidence["role"] == "model"]
        best = evidence.loc[evidence["score"].idxmax()]
        null = f", null {number(best['null_mean'])}" * bool(np.isfinite(best["null_mean"]))
        texts.append(
            f"{number(best['score'])} under the {name} protocol ({names[best['model']]} by {best['method']}, "
            f"layer {int(best['layer'])}, {_CHOSEN[best['selection']]}{null})"
        )
    return f"Highest P@{k}: {', '.join(texts)}; chance {number(best['chance'])}."


def _sizes(tables: Tables) -> list[str]:
    """What is said of growth with size."""
    texts = [
        f"{dataset}, {name} protocol. {text}"
        for (dataset, name), table in tables.items()
        for text in verdict.scaling_text(table)
    ]
    audited = [table for (_, name), table in tables.items() if name == "audited"]
    return texts + verdict.signatures(audited)


def _csls_table(tables: Tables, k: int) -> page.Table:
    header = [
        "data set", "protocol", "model", "method", "layer", "CSLS-AVG", "interval", "CSLS-MAX", "chance",
        "null", "p",
    ]  # fmt: skip
    lines = []
    for (dataset, name), table in tables.items():
        names = short_names(table.rows["model"].unique())
        evidence = table.extras["evidence"].set_index(["model", "method"])
        for _, line in table.summary(k=k).iterrows():
            tested = evidence.loc[(line["model"], line["method"])]
            lines.append(
                [
                    dataset, name, names[line["model"]], line["method"], str(line["layer"]),
                    number(line["csls_avg"]), interval(tested["lower"], tested["upper"]),
                    number(line["csls_max"]), number(line["chance"]), number(tested["null_mean"]),
                    p_value(tested["p"]),
                ]
            )  # fmt: skip
    return page.Table(header, lines, 4)


def draw(tables: Tables, layers: pd.DataFrame, *, k: int) -> dict[str, tuple[Figure, str]]:
    """name -> (figure, caption): by size and by layer for every data set, and by data set."""
    figures = {}
    level = percent(confidence(next(iter(tables.values()))))
    evidence = pd.concat([t.extras["evidence"] for t in tables.values()], ignore_index=True)
    models = evidence[evidence["role"] == "model"]
    depths = layers[layers["model"].isin(models["model"])]
    for dataset, part in models.groupby("dataset", sort=False):
        if part["n_params"].dropna().nunique() > 1:
            figures[f"{dataset}_by_size"] = (
                by_size(part, k),
                f"{dataset}: P@{k} by number of parameters, one line a family, one row a protocol. Bars: "
                f"{level} bootstrap interval over subjects and words. Grey ticks: mean of the null, of the "
                "audited protocol only. Dotted: chance.",
            )
        for metric, label in ((METRIC, f"P@{k}, CSLS"), ("rsa", "RSA score")):
            rows = depths[(depths["dataset"] == dataset) & (depths["metric"] == metric)]
            if len(rows):
                figures[f"{dataset}_{metric}_by_layer"] = (
                    by_depth(rows, label),
                    f"{dataset}: {label} by relative depth (0 is the embedding output, 1 the last layer), "
                    f"colours from the smallest model to the largest. Bars: {level} bootstrap interval over "
                    "subjects"
                    + (" and words. Dotted: chance." if metric == METRIC else ". Dotted: zero."),
                )
    if models["dataset"].nunique() > 1:
        figures["by_dataset"] = (
            by_dataset(models, k),
            f"P@{k} on every data set, with {level} bootstrap intervals over subjects and words. Dotted: "
            "chance.",
        )
    return figures


def by_size(models: pd.DataFrame, k: int) -> Figure:
    """Rows: protocols; columns: methods; lines: families."""
    by_family = colours(dict.fromkeys(models["family"].fillna("other")))
    figure, panels = _panels(models)
    for axis, part in panels:
        for family, line in part.groupby(part["family"].fillna("other"), sort=False):
            line = line[line["n_params"] > 0].sort_values("n_params")
            sizes = line["n_params"] / 1e6
            _points(axis, sizes, line, by_family[family])
            axis.plot(sizes, line["null_mean"], "_", color=GREY, markersize=11, mew=2)
        axis.axhline(part["chance"].mean(), color="black", linestyle=":", linewidth=1.1)
        axis.set_xscale("log")
        figure_parts.log_sizes(axis.xaxis)
    _label(panels, "parameters (millions, log scale)", f"P@{k}, CSLS")
    axis.set_ylim(bottom=0)
    entries = [(Line2D([], [], color=c, marker="o"), family) for family, c in by_family.items()]
    if models["null_mean"].notna().any():
        tick = Line2D([], [], linestyle="", marker="_", color=GREY, markersize=11, mew=2)
        entries.append((tick, "mean of the null"))
    figure_parts.legend(figure, [*entries, _CHANCE])
    return figure


def by_depth(rows: pd.DataFrame, label: str) -> Figure:
    """Rows: protocols; columns: methods; lines: models."""
    order = rows.drop_duplicates("model").sort_values("n_params", na_position="last")["model"]
    names = short_names(list(order))
    shades = colormaps["viridis"](np.linspace(0, 0.88, len(order)))
    by_model = dict(zip(order, shades, strict=True))
    figure, panels = _panels(rows)
    for axis, part in panels:
        for index, model in enumerate(order):
            line = part[part["model"] == model].sort_values("layer")
            dodge = 0.012 * (index - (len(order) - 1) / 2)
            _points(axis, line["depth"] + dodge, line, by_model[model])
        axis.axhline(part["chance"].mean(), color="black", linestyle=":", linewidth=1.1)
    _label(panels, "relative depth", label)
    is_rsa = (rows["metric"] == "rsa").all()
    if not is_rsa:
        axis.set_ylim(bottom=0)
    entries = [(Line2D([], [], color=by_model[m], marker="o"), names[m]) for m in order]
    figure_parts.legend(figure, [*entries, (_CHANCE[0], "zero" if is_rsa else _CHANCE[1])])
    return figure


def by_dataset(models: pd.DataFrame, k: int) -> Figure:
    """Rows: protocols; columns: methods; places: data sets; colours: models."""
    datasets = list(dict.fromkeys(models["dataset"]))
    order = list(dict.fromkeys(models["model"]))
    names = short_names(order)
    by_model = colours(order)
    figure, panels = _panels(models)
    for axis, part in panels:
        for index, model in enumerate(order):
            line = part[part["model"] == model]
            # As numbers, also where a data set has no score of this model and method.
            place = line["dataset"].map(datasets.index).astype(float)
            place += 0.6 * (index + 0.5) / len(order) - 0.3
            _points(axis, place, line, by_model[model], line="")
        for place, dataset in enumerate(datasets):
            chance = part.loc[part["dataset"] == dataset, "chance"].mean()
            axis.plot([place - 0.4, place + 0.4], [chance] * 2, ":", color="black", linewidth=1.3)
        axis.set_xticks(range(len(datasets)), datasets)
        axis.set_xlim(-0.6, len(datasets) - 0.4)
    _label(panels, "", f"P@{k}, CSLS")
    axis.set_ylim(bottom=0)
    entries = [
        (Line2D([], [], color=by_model[m], marker="o", linestyle=""), names[m]) for m in order
    ]
    figure_parts.legend(figure, [*entries, _CHANCE])
    return figure


def _panels(rows: pd.DataFrame) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure, and its panels with the rows of their protocol and method."""
    protocols, methods = (list(dict.fromkeys(rows[c])) for c in ("protocol", "method"))
    size = (max(3.6 * len(methods), 6.4) + 0.6, 2.9 * len(protocols) + 0.6)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(protocols), len(methods), sharex=True, sharey=True, squeeze=False)
    panels = []
    for row, name in zip(grid, protocols, strict=True):
        for axis, method in zip(row, methods, strict=True):
            axis.set_title(f"{method}, {name} protocol", fontsize=11)
            plain_axis(axis, "y")
            part = rows[(rows["protocol"] == name) & (rows["method"] == method)]
            panels.append((axis, part))
    return figure, panels


def _points(axis, places, rows: pd.DataFrame, colour, line: str = "-") -> None:
    """Scores with their intervals; a bar is missing where there is no interval."""
    axis.errorbar(
        places, rows["score"], yerr=figure_parts.bars(rows), color=colour, fmt="o" + line, markersize=4,
        linewidth=1.3, elinewidth=1.0, capsize=2,
    )  # fmt: skip


def _label(panels: list[tuple[Axes, pd.DataFrame]], x: str, y: str) -> None:
    for axis, _ in panels:
        spec = axis.get_subplotspec()
        if spec.is_last_row():
            axis.set_xlabel(x, fontsize=11)
        if spec.is_first_col():
            axis.set_ylabel(y, fontsize=11)
