"""What a walk between the protocols says: in sentences, in a figure, on a page."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.evidence.table import EvidencePlan
from brainalign_jax.study.report import figure_parts, page, summary
from brainalign_jax.study.report.figure_parts import GREY, model_styles, plain_axis
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    p_value,
    percent,
    probability,
    short_names,
    signed,
    span,
)

LABELS = {
    "paper": "the paper's protocol",
    "folds": "+ audited folds",
    "hold_out_types": "+ tested types held out",
    "queries": "+ one query a word type",
    "csls_queries": "+ CSLS within a fold",
    "scaling_order": "+ scaling before PCA, PCA for ridge",
    "vector_scaling": "+ vectors unscaled",
    "fitted_on": "+ fitted on training rows",
    "scaling": "+ no scaling, no PCA",
    "centring": "+ centring, intercept",
    "alpha": "+ ridge penalty by retrieval",
    "csls_k": "+ CSLS neighbours",
    "candidate_scaling": "+ candidates scaled",
    "layer": "+ layer chosen inside",
    "first_token": "+ the model's first token",
    "rdms": "+ audited RDMs",
}


def write(
    rows: pd.DataFrame,
    folder: Path,
    *,
    dataset: Dataset,
    slopes: pd.DataFrame | None = None,
    command: str = "",
    simulated: bool = False,
) -> list[str]:
    """Write ladder.png and report.html to the folder; returns the sentences that the page opens with.

    slopes: on model size at each step, as of `Ladder`.
    """
    said = [*sentences(rows), *size_sentences(slopes)]
    figure = draw(rows)
    figure_parts.save(figure, Path(folder) / "ladder.png")
    k = int(rows["k"].iloc[0])
    names = short_names(rows["model"].unique())
    page.write(
        folder,
        "ladder",
        title=f"{dataset.name}: from the paper's protocol to the audited one",
        lead=f"{counted(int(rows['n_subjects'].max()), 'subject')}, {len(dataset.stimulus)} words. Models: "
        f"{', '.join(names.values())}. Each step keeps the choices of those before it.",
        warning=summary.SIMULATED_WARNING if simulated else "",
        sentences=said,
        figure=page.picture("ladder", figure, _caption(rows, k)),
        steps=_steps_table(rows),
        k=k,
        scores=_scores_table(rows, names, k),
        slopes=_slopes_table(slopes),
        command=command,
    )
    return said


def sentences(rows: pd.DataFrame) -> list[str]:
    """One a method, of the mean over models: the step at which the score above its null falls most.

    A fall smaller than the two scores' own uncertainty is not claimed: then nothing was above the null
    that could fall, and the step is named at which the score falls most, and its null with it.
    """
    return [_sentence(part, method) for method, part in rows.groupby("method", sort=False)]


def size_sentences(slopes: pd.DataFrame | None) -> list[str]:
    """One a method, what the score changes by with model size at the first step and the last; empty for one
    size."""
    if slopes is None:
        return []
    wanted = (slopes["quantity"] == "score") & (slopes["scope"] == "across")
    said = []
    for method, part in slopes[wanted].sort_values("step").groupby("method", sort=False):
        ends = listed(
            f"{signed(line['slope'])} {interval(line['lower'], line['upper'])} "
            f"({probability(line['p'])}) at {_named(line)}"
            for _, line in part.iloc[[0, -1]].iterrows()
        )
        models = counted(int(part["n_models"].max()), "model")
        said.append(f"By {method}, per tenfold parameters ({models}) the score changes by {ends}.")
    return said


def _sentence(part: pd.DataFrame, method: str) -> str:
    n_models, k = part["model"].nunique(), int(part["k"].iloc[0])
    part = part.assign(above=part["score"] - part["null_mean"])
    part = part.assign(spread=(part["upper"] - part["lower"]) / 2)
    steps = part.groupby("step").agg(
        name=("name", "first"), score=("score", "mean"), null=("null_mean", "mean"),
        above=("above", "mean"), spread=("spread", "mean"), chance=("chance", "mean"),
    )  # fmt: skip
    what = f"P@{k}" + f" (mean of {n_models} models)" * (n_models > 1)
    first, last = steps.iloc[0], steps.iloc[-1]
    ends = (
        f"From the first step to the last the score goes from {number(first['score'])} to "
        f"{number(last['score'])}"
    )
    lowest = steps["score"].diff().idxmin()
    before, after = steps.loc[lowest - 1], steps.loc[lowest]
    fall = f"from {number(before['score'])} to {number(after['score'])}"
    if steps["null"].isna().all():
        return (
            f"By {method}, {what} falls most at the step {_named(after)}, {fall}. {ends}. No null was drawn: "
            "whether a recording without the words scores as much is not known."
        )
    last_p = part.loc[part["step"] == part["step"].max(), "p"].dropna()
    ends += (
        f", its null from {number(first['null'])} to {number(last['null'])} (chance "
        f"{number(last['chance'])}); the last step's p is {span(last_p.min(), last_p.max(), p_value)}."
    )
    drop = steps["above"].diff().idxmin()
    here, previous = steps.loc[drop], steps.loc[drop - 1]
    size = previous["above"] - here["above"]
    if size > np.hypot(here["spread"], previous["spread"]):
        return (
            f"By {method}, {what} above its null falls most at the step {_named(here)}: from "
            f"{number(previous['above'])} to {number(here['above'])} (score {number(previous['score'])} to "
            f"{number(here['score'])}). {ends}"
        )
    if after["score"] >= before["score"]:
        return f"By {method}, no step lowers {what}. {ends}"
    if before["score"] - after["score"] <= np.hypot(before["spread"], after["spread"]):
        fall += " (within the scores' uncertainty)"
    shared = before["null"] - after["null"]
    return (
        f"By {method}, no step lowers {what} above its null by more than the scores' uncertainty. The score "
        f"itself falls most at the step {_named(after)}, {fall}, and the null of the same pipeline "
        f"{'falls' if shared > 0 else 'changes'} there from {number(before['null'])} to "
        f"{number(after['null'])}: {_shared(before['score'] - after['score'], shared)} {ends}"
    )


def _named(step: pd.Series) -> str:
    return f'"{LABELS[step["name"]].removeprefix("+ ")}" ({step["name"]})'


def _shared(fall: float, shared: float) -> str:
    if shared >= fall / 2:
        return "most of what is lost there, a recording without the words had scored, too."
    return "the null shares less than half of that fall."


def draw(rows: pd.DataFrame) -> Figure:
    """One panel a method, steps from above: scores with their intervals, and the null of each step."""
    methods, models = list(dict.fromkeys(rows["method"])), list(dict.fromkeys(rows["model"]))
    steps = rows.drop_duplicates("step").sort_values("step")
    styles, names = model_styles(models), short_names(models)
    height = 1.6 + len(steps) * max(0.38, 0.17 * len(models))
    figure = Figure(
        figsize=(2.4 + 3.1 * len(methods), height + 0.4), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(1, len(methods), sharey=True, sharex=True, squeeze=False)[0]
    share = 0.8 / len(models)
    for axis, method in zip(axes, methods, strict=True):
        for index, model in enumerate(models):
            line = rows[(rows["method"] == method) & (rows["model"] == model)].sort_values("step")
            place = line["step"] + share * (index - (len(models) - 1) / 2)
            known = line["null_mean"].notna()
            axis.barh(
                place[known],
                (line["null_upper"] - line["null_lower"])[known],
                left=line["null_lower"][known],
                height=0.8 * share,
                color=GREY,
                alpha=0.35,
                linewidth=0,
            )
            axis.plot(
                line["null_mean"], place, "|", color="#333333", markersize=9 * share + 3, mew=1.6
            )
            style = styles[model]
            axis.plot(line["score"], place, color=style["color"], linewidth=0.8, alpha=0.5)
            axis.errorbar(
                line["score"],
                place,
                xerr=figure_parts.bars(line),
                color=style["color"],
                fmt=style["marker"],
                markersize=5,
                markerfacecolor=style["markerfacecolor"],
                capsize=2.5,
                linewidth=1.4,
                zorder=4,
            )
        axis.axvline(rows["chance"].mean(), color="black", linestyle=":", linewidth=1.1, zorder=1)
        axis.set_title(method, fontsize=11)
        axis.set_xlabel(f"P@{int(rows['k'].iloc[0])}, CSLS", fontsize=11)
        plain_axis(axis, "x")
    axes[0].set_yticks(steps["step"], [LABELS[name] for name in steps["name"]], fontsize=10)
    axes[0].set_ylim(steps["step"].max() + 0.6, -0.6)
    axes[0].set_xlim(left=0)
    entries = [(Line2D([], [], **{**styles[m], "linewidth": 1.4}), names[m]) for m in models]
    entries.append((Line2D([], [], color="black", linestyle=":"), "uniform chance"))
    if rows["null_mean"].notna().any():
        entries.append((Patch(color=GREY, alpha=0.45), "null of the same step: middle 90 %, mean"))
    columns = 3 if len(methods) > 1 else 1
    extra = -(-len(entries) // columns)
    figure.set_figheight(figure.get_figheight() + 0.22 * extra)
    figure_parts.legend_below(figure, entries, columns)
    return figure


def _caption(rows: pd.DataFrame, k: int) -> str:
    level = percent(EvidencePlan.confidence)
    text = (
        f"P@{k} with CSLS at every step, from above; each keeps the choices of those before. Points: mean "
        f"over subjects at the layer that the step chooses, with the {level} bootstrap interval over "
        "subjects and words. Dotted: uniform chance."
    )
    if rows["null_mean"].notna().any():
        text += (
            f" Grey: the middle 90 % of {int(rows['n_draws'].max())} null draws through the same pipeline, "
            "their mean as a bar. Where points lie within the grey, a recording without the words scores as "
            "much."
        )
    return text


def _steps_table(rows: pd.DataFrame) -> page.Table:
    steps = rows.drop_duplicates("step").sort_values("step")
    lines = [
        [str(step), name, LABELS[name].removeprefix("+ "), changed or "–"]
        for step, name, changed in zip(steps["step"], steps["name"], steps["changed"], strict=True)
    ]
    return page.Table(["step", "name", "what it does", "fields it sets"], lines)


def _slopes_table(slopes: pd.DataFrame | None) -> page.Table:
    """The slopes on model size at each step; no rows for one size."""
    header = ["step", "method", "models", "of", "per tenfold parameters", "interval", "p"]
    lines = [
        [
            line["name"], line["method"], line["scope"], line["quantity"], signed(line["slope"]),
            interval(line["lower"], line["upper"]), p_value(line["p"]),
        ]
        for line in ([] if slopes is None else slopes.to_dict("records"))
    ]  # fmt: skip
    return page.Table(header, lines, 4)


def _scores_table(rows: pd.DataFrame, names: dict[str, str], k: int) -> page.Table:
    header = [
        "step", "model", "method", "layer", f"P@{k}", "interval", "null", "null, middle 90 %", "p",
    ]  # fmt: skip
    lines = [
        [
            line["name"], names[line["model"]], line["method"], str(int(line["layer"])),
            number(line["score"]), interval(line["lower"], line["upper"]), number(line["null_mean"]),
            interval(line["null_lower"], line["null_upper"]), p_value(line["p"]),
        ]
        for _, line in rows.sort_values(["method", "model", "step"], kind="stable").iterrows()
    ]  # fmt: skip
    return page.Table(header, lines, 3)
