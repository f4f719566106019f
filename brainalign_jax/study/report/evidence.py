"""What a report opens with, the verdict, and what it rests on: plain values for the templates."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brainalign_jax.study.report import page, verdict
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO, bars, legend_below, plain_axis
from brainalign_jax.study.report.wording import (
    capitalised,
    interval,
    known,
    number,
    p_value,
    percent,
    probability,
    short_names,
)
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.score.measures import label_of

# What a score is compared with: lines across its place, and marks.
_TICKS = {
    "null_mean": {"color": GREY, "linewidth": 2},
    "chance": {"color": "black", "linewidth": 1, "linestyle": "--"},
    "ceiling": {"color": OKABE_ITO[2], "linewidth": 2.5},
}
_MARKS = {
    "control_score": {"marker": "X", "color": OKABE_ITO[1], "markersize": 7, "linestyle": ""},
    "static_score": {"marker": "D", "color": OKABE_ITO[4], "markersize": 7, "linestyle": ""},
}


def answer(table: ResultTable) -> dict | None:
    """The verdict of the data set and what its numbers need: k, confidence. None without evidence."""
    said = verdict.overall(table)
    if said is None:
        return None
    k = int(verdict.tested(table)["k"].max())
    return {"verdict": said, "k": k, "confidence": percent(confidence(table))}


def numbers(table: ResultTable) -> list[page.Number]:
    """The three numbers that the verdict rests on: the score, its null, and what the other people's
    responses score. Empty without evidence.
    """
    judged = verdict.decisive(table)
    if judged is None:
        return []
    line = verdict.evidence_of(table, judged)
    k, draws = int(line["k"]), line["n_draws"]
    label = f"P@{k}" if k else capitalised(label_of(judged.method))
    name = short_names([judged.model])[judged.model]
    bounds = interval(line["lower"], line["upper"])
    by = f"{name} by {judged.method}" if k else name
    shown = [page.Number(label, number(line["score"]), f"{by}{', ' if bounds else ''}{bounds}")]
    if known(line["null_mean"]):
        said = f"mean of {int(draws)} draws, {probability(line['p'])}"
        shown.append(
            page.Number(
                "Where words and responses do not belong together", number(line["null_mean"]), said
            )
        )
    if known(line["ceiling"]):
        shown.append(
            page.Number(
                "Other people's responses in the model's place",
                number(line["ceiling"]),
                "a lower bound of the noise ceiling",
            )
        )
    if len(shown) < 3 and known(line["chance"]):
        shown.append(
            page.Number(
                "Chance", number(line["chance"]), "uniform guesses" if k else "unrelated vectors"
            )
        )
    return shown


def evidence_values(table: ResultTable) -> dict | None:
    """Figures, tables, single verdicts, model size, signatures and RSA; None without evidence."""
    every = verdict.tested(table)
    if every.empty:
        return None
    parts = []
    for (k, label), lines in every.groupby([every["k"], _labels(every)], sort=False):
        name = "evidence" if k else f"evidence {label}"
        caption = _caption(lines, confidence(table))
        picture = page.picture(name, evidence_figure(lines), caption)
        parts.append({"figure": picture, "scores": _evidence_table(table, lines)})
    decoded = every[every["k"] > 0]
    return {
        "parts": parts,
        "verdicts": verdict.verdicts(table),
        "guesses": _guesses(table, decoded) if len(decoded) else "",
        "sizes": [*verdict.scaling_text(table), *verdict.signatures([table])],
        "rsa": _rsa_table(table),
        "layers": _layers_table(table),
    }


def _labels(lines: pd.DataFrame) -> pd.Series:
    """What each row's score is called: measures have one each, methods that decode share P@k."""
    return lines["method"].where(lines["k"] == 0, "")


def evidence_figure(lines: pd.DataFrame) -> Figure:
    """One line a model and method: score with its interval, null, chance, controls and ceiling."""
    models = lines[lines["role"] == "model"]
    names = short_names(lines["model"].unique())
    height = 1.5 + 0.52 * len(models)
    figure = Figure(figsize=(5.6, height + 1.3), layout="constrained", facecolor="white")
    axis = figure.subplots()
    places = np.arange(len(models))[::-1]
    for place, (_, line) in zip(places, models.iterrows(), strict=True):
        ends = [place - 0.3, place + 0.3]
        if np.isfinite(line["null_mean"]):
            null = line["null_mean"], line["null_high"]
            axis.fill_between(null, *ends, color=GREY, alpha=0.3, linewidth=0)
        for column, style in _TICKS.items():
            axis.plot([line[column]] * 2, ends, **style)
        for column, style in _MARKS.items():
            axis.plot(line[column], place, zorder=3, **style)
    axis.errorbar(
        models["score"], places, xerr=bars(models), fmt="o", color=OKABE_ITO[0], markersize=8, capsize=3,
        linewidth=1.8, zorder=4,
    )  # fmt: skip
    labels = [
        f"{names[m]}\n{method}" for m, method in zip(models["model"], models["method"], strict=True)
    ]
    axis.set_yticks(places, labels, fontsize=10)
    axis.set_ylim(-0.6, len(models) - 0.4)
    k = int(models["k"].iloc[0])
    if k:
        axis.set_xlim(left=0)
    label = f"P@{k}, CSLS (fraction of words)" if k else label_of(models["method"].iloc[0])
    axis.set_xlabel(label, fontsize=11)
    plain_axis(axis, "x")
    entries = [
        (Line2D([], [], color=OKABE_ITO[0], marker="o", markersize=8), "score and its interval")
    ]
    compared = {
        "chance": (
            Line2D([], [], color="black", linestyle="--"),
            "uniform chance" if k else "unrelated vectors",
        ),
        "null_mean": (Patch(color=GREY, alpha=0.4), "null: its mean to the highest draws"),
        "control_score": (
            Line2D([], [], **_MARKS["control_score"]),
            "strongest nuisance or untrained control",
        ),
        "static_score": (Line2D([], [], **_MARKS["static_score"]), "static word vectors"),
        "ceiling": (Line2D([], [], **_TICKS["ceiling"]), "other subjects' responses"),
    }
    entries += [entry for column, entry in compared.items() if models[column].notna().any()]
    legend_below(figure, entries, 1, size=10.5)
    return figure


def confidence(table: ResultTable) -> float:
    """Of the study's bootstrap intervals, as its evidence was asked for."""
    plan = table.manifest.get("evidence")
    return float(plan["confidence"]) if isinstance(plan, dict) and "confidence" in plan else 0.95


def _caption(lines: pd.DataFrame, level: float) -> str:
    models = lines[lines["role"] == "model"]
    decoding = bool((lines["k"] > 0).any())
    text = (
        ("Every model and method. " if decoding else "Every model. ")
        + f"Blue: score with its {percent(level)} bootstrap interval over subjects"
        + (" and words. " if decoding else ". ")
    )
    if models["chance"].notna().any():
        text += f"Dashed: {'uniform chance' if decoding else 'unrelated vectors'}. "
    if models["null_mean"].notna().any():
        text += (
            f"Grey: mean of {int(models['n_draws'].max())} null draws of the same pipeline, up to the "
            f"level that the highest layer of a draw passes in {percent(1 - level)} of the draws. "
        )
    if models["ceiling"].notna().any():
        text += (
            "Green: what the other subjects' responses score in the model's place, a lower bound of the "
            "noise ceiling."
        )
    return text


def _evidence_table(table: ResultTable, lines: pd.DataFrame) -> page.Table:
    names = short_names(lines["model"].unique())
    k = int(lines["k"].iloc[0])
    label = f"P@{k}" if k else "similarity"
    header = [
        "model", "method", "layer", label, f"{percent(confidence(table))} interval",
    ]  # fmt: skip
    columns = {
        "null_mean": "null", "p": "p", "p_fdr": "p, FDR", "ceiling": "ceiling", "calibrated": "calibrated",
        "score_tokens": "token mean", "score_types": "type mean", "score_hapax": "hapaxes",
    }  # fmt: skip
    always = ("null_mean", "p", "p_fdr")
    columns = {c: columns[c] for c in columns if c in always or lines[c].notna().any()}
    order = {"model": 0, "untrained": 1, "control": 2}
    ordered = lines.sort_values("role", key=lambda roles: roles.map(order), kind="stable")
    rows = [
        [
            names[line["model"]], line["method"], str(int(line["layer"])), number(line["score"]),
            interval(line["lower"], line["upper"]), *(_cell(line, column) for column in columns),
        ]
        for _, line in ordered.iterrows()
    ]  # fmt: skip
    kinds = lines["selection"].unique()
    note = (
        f"Layer and score: chosen in {kinds[0]}."
        if "inner folds" in kinds
        else "Layer and score: the layer that is best on these scores, which is optimistic."
    )
    if not k:
        label = capitalised(label_of(lines["method"].iloc[0]))
        note += (
            f" {label}, of {int(lines['n_items'].iloc[0])} word types that all "
            "subjects have responses to; draws permute these (blocks, or shifts in time). Of a measure whose "
            "null depends on the vectors the best layer is the one that most exceeds its own draws."
        )
    note += (
        " p: one-sided, of the best layer against the best layer of every draw; FDR: over models and "
        "methods. Calibrated: 0 is the null's mean, 1 the ceiling. Untrained twins and controls have "
        "random weights or no model at all; where they have no null of their own they are calibrated by the "
        "models'."
    )
    return page.Table([*header, *columns.values()], rows, 2, note)


def _guesses(table: ResultTable, lines: pd.DataFrame) -> str:
    guesses = table.extras.get("chance")
    if guesses is None or guesses.empty:
        return ""
    k = int(lines["k"].iloc[0])
    line = guesses[guesses["k"] == k].iloc[0]
    return (
        f"Guesses at k = {k}: uniform {number(line['uniform'])}, one subject within "
        f"{interval(line['lower'], line['upper'])} (binomial, 95 %); one ranking for all words "
        f"of a fold {interval(line['constant_lower'], line['constant_upper'])} "
        "(hypergeometric); the most frequent words first, as counted in the training words "
        f"{number(line['training_types'])} ({number(line['training_tokens'])} over tokens), in the whole "
        f"stimulus {number(line['stimulus_types'])} ({number(line['stimulus_tokens'])} over tokens)."
    )


def _cell(line: pd.Series, column: str) -> str:
    """A number of a row, printed as what its column holds."""
    return (p_value if column == "p" or column.startswith("p_") else number)(line[column])


def _layers_table(table: ResultTable) -> page.Table | None:
    """Each measure in each layer of the models, raw and calibrated; None where no measure was taken."""
    similarity = table.extras.get("similarity_layers")
    similarity = None if similarity is None else similarity[similarity["role"] == "model"]
    if similarity is None or similarity.empty:
        return None
    names = short_names(similarity["model"].unique())
    measures = list(similarity["method"].unique())
    rows = []
    for (model, layer), part in similarity.groupby(["model", "layer"], sort=False):
        of = part.set_index("method")
        cells = [
            number(of.at[measure, column]) if measure in of.index else ""
            for measure in measures
            for column in ("score", "calibrated")
        ]
        rows.append([names[model], str(int(layer)), *cells])
    header = [name for measure in measures for name in (measure, "calibrated")]
    note = (
        "Each measure layer by layer, raw and calibrated: 0 is the mean of that layer's own draws, 1 others' "
        "responses in the model's place. Raw values of two measures cannot be compared."
    )
    return page.Table(["model", "layer", *header], rows, 1, note)


def _rsa_table(table: ResultTable) -> page.Table | None:
    rsa_lines = table.extras.get("rsa")
    if rsa_lines is None or rsa_lines.empty:
        return None
    names = short_names(rsa_lines["model"].unique())
    columns = ["rsa", "p", "partial", "p_partial", "group_rdm", "p_group_rdm"]
    rows = []
    for name, part in rsa_lines.groupby("model", sort=False):
        line = part.loc[part["rsa"].idxmax()]
        rows.append(
            [names[name], str(int(line["layer"])), *(_cell(line, column) for column in columns)]
        )
    header = ["model", "best layer", "RSA", "p", "partial", "p", "group RDM", "p"]
    line = rsa_lines.iloc[0]
    note = (
        f"RSA over {int(line['n_items'])} word types: mean over subjects; with confounds held constant "
        f"({line['confounds'] or 'none known'}); of the mean RDM of the subjects. p: "
        f"{int(line['n_permutations'])} permutations of words (blocks or shifts in time), corrected over "
        f"layers; of shifts, no smaller than 1 / the number of independent ones. Noise ceiling: "
        f"{number(line['ceiling_lower'])} (each subject by the others) to {number(line['ceiling_upper'])}."
    )
    return page.Table(header, rows, 1, note)
