"""The report of a study of figurative sentences: the verdict first, then figures by layer and tables."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainalign_jax.studies.figurative import verdict
from brainalign_jax.studies.figurative.pairs import FIGURATIVE, REFERENCE
from brainalign_jax.studies.figurative.scores import CHANCE
from brainalign_jax.studies.figurative.table import ALL, BALANCED, LENGTH, OVERLAP, FigurativeTable
from brainalign_jax.studies.figurative.vectors import MODEL, WORD_VECTORS, is_twin_of
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    number,
    p_value,
    percent,
    short_names,
    signed,
)
from brainalign_jax.study.results import SELECTED

_SHARES = ("what", "sentences", "pairs", "model", "share", "interval", "p", "n", "layers")
_RIVALS = ("model", "less", "difference", "interval", "p")
_KINDS = {FIGURATIVE: "figurative", REFERENCE: "literal"}


def write_report(table: FigurativeTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else, and its figures to figures/."""
    manifest = table.manifest
    judged = verdict.verdicts(table)
    figures = page.Figures(folder)
    labels = short_names([shown.model for shown in judged])
    for number_of_model, shown in enumerate(judged, 1):
        drawn = draw_shares(table, shown.model)
        label = labels[shown.model]
        file, name = f"share_by_layer_{number_of_model}", f"share by layer {label}"
        figures.add(file, name, drawn, _caption(table, label))
    return page.write(
        folder,
        "figurative",
        title=f"{manifest['dataset']['name']}: figurative sentences",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=[shown.text for shown in judged],
        how=_how(table),
        figures=figures,
        shares=page.Table(_SHARES, _share_lines(table), 4),
        rivals=page.Table(_RIVALS, _rival_lines(table), 2),
        facts=page.facts_of(
            table.manifest,
            {"dataset": "dataset", "left_out": "left out", "plan": "choice"},
            ("bos", "reference", "command", "created", "versions"),
        ),
    )


def draw_shares(table: FigurativeTable, model: str) -> Figure:
    """Share by layer of a model with its interval, rivals as lines; a panel a condition, and reference."""
    asked = [(FIGURATIVE, condition) for condition in verdict.parts(table)]
    asked += [(REFERENCE, ALL)] * (verdict.share_of(table, model, kind=REFERENCE) is not None)
    figure, axes = figure_parts.panels(len(asked))
    for axis, (kind, condition) in zip(axes, asked, strict=True):
        _draw_panel(axis, table, model, kind, condition)
        n_sentences = verdict.share_of(table, model, kind=kind, condition=condition)["n_items"]
        name = "literal, as reference" if kind == REFERENCE else condition
        axis.set_title(f"{name} ({n_sentences})", fontsize=10)
    figure_parts.label(axes, "layer", "share nearer to what follows")
    entries = [
        (figure_parts.line(OKABE_ITO[0], linewidth=1.8), "model, about the mean"),
        (figure_parts.line(OKABE_ITO[0], linestyle=":"), "model, as it is"),
        (figure_parts.line(OKABE_ITO[1], linestyle="--"), "untrained twin"),
        (figure_parts.line(OKABE_ITO[2]), "words in common"),
        (figure_parts.line(OKABE_ITO[3], linestyle="-."), "likeness in length"),
    ]
    if (table.rows["role"] == WORD_VECTORS).any():
        entries.append((figure_parts.line(OKABE_ITO[4], linestyle="-"), "word vectors"))
    figure_parts.legend(figure, [*entries, (figure_parts.line(GREY, linewidth=0.8), "chance")])
    return figure


def _draw_panel(axis: Axes, table: FigurativeTable, model: str, kind: str, condition: str) -> None:
    chosen = {"kind": kind, "condition": condition}
    rows = verdict.shares(table, model, **chosen)
    rows = rows[rows["layer"] != SELECTED]
    layers = rows["layer"].to_numpy()
    axis.fill_between(
        layers, rows["lower"], rows["upper"], color=OKABE_ITO[0], alpha=0.2, linewidth=0
    )
    axis.plot(layers, rows["value"], color=OKABE_ITO[0], linewidth=1.8)
    raw = verdict.shares(table, model, centring="none", **chosen)
    raw = raw[raw["layer"] != SELECTED]
    axis.plot(raw["layer"], raw["value"], color=OKABE_ITO[0], linewidth=1.2, linestyle=":")
    names = table.rows[["model", "role"]].drop_duplicates()
    for name in names["model"]:
        if is_twin_of(name, model):
            twin = verdict.shares(table, name, **chosen)
            twin = twin[twin["layer"] != SELECTED]
            axis.plot(
                twin["layer"], twin["value"], color=OKABE_ITO[1], linewidth=1.2, linestyle="--"
            )
    lines = [(OVERLAP, OKABE_ITO[2], "-"), (LENGTH, OKABE_ITO[3], "-.")]
    lines += [
        (name, OKABE_ITO[4], "-") for name in names.loc[names["role"] == WORD_VECTORS, "model"]
    ]
    for name, colour, style in lines:
        value = verdict.share_of(table, name, **chosen)["value"]
        axis.axhline(value, color=colour, linewidth=1.2, linestyle=style)
    axis.axhline(CHANCE, color=GREY, linewidth=0.8)


def _caption(table: FigurativeTable, label: str) -> str:
    return (
        f"{label}: share of sentences whose vector lies nearer to the rewording that follows, by layer (0: "
        f"the embeddings), with {percent(table.manifest['plan']['confidence'])} intervals over sentences; in "
        "brackets their number."
    )


def _share_lines(table: FigurativeTable) -> list[list[str]]:
    rows = table.rows
    names = list(dict.fromkeys(rows["model"]))
    labels = short_names(names)
    lines = []
    for kind in dict.fromkeys(rows["kind"]):
        for condition in verdict.parts(table, kind=kind):
            for pairs in (ALL, BALANCED):
                for name in names:
                    line = verdict.share_of(
                        table, name, kind=kind, condition=condition, pairs=pairs
                    )
                    if line is not None:
                        lines.append(
                            [
                                _KINDS[kind],
                                condition,
                                "all" if pairs == ALL else "balanced on overlap",
                                labels[name],
                                number(line["value"]),
                                interval(line["lower"], line["upper"]),
                                p_value(line["p"]),
                                str(line["n_items"]),
                                ", ".join(dict.fromkeys(line["chosen"].split(","))),
                            ]
                        )
    return lines


def _rival_lines(table: FigurativeTable) -> list[list[str]]:
    rows = table.rows
    models = list(dict.fromkeys(rows.loc[rows["role"] == MODEL, "model"]))
    labels = short_names(models)
    return [
        [
            labels[model],
            verdict.rival_name(rival),
            signed(line["value"]),
            interval(line["lower"], line["upper"]),
            p_value(line["p"]),
        ]
        for model in models
        for rival, line in verdict.differences(table, model).iterrows()
    ]


def _scope(table: FigurativeTable) -> str:
    manifest = table.manifest
    sentences = manifest["sentences"]
    said = (
        f"{counted(sentences[FIGURATIVE], 'sentence')}, each with a rewording that follows from it and one "
        f"that does not, {manifest['dataset']['pairs']} pairs in all."
    )
    if REFERENCE in sentences:
        what = "given" if manifest["reference"] == "given" else "rewordings in the sentence's place"
        said += f" As reference: literal sentences ({what}) for {sentences[REFERENCE]}."
    return said


def _how(table: FigurativeTable) -> str:
    plan = table.manifest["plan"]
    return (
        f"A text's vector is the {plan['pooling']} of its sub-tokens', each text read alone; nearer is a "
        "larger cosine, after the mean over all texts of the study, once each, was taken off (in the table "
        "also without). The unit is the sentence: of several pairs its score is their mean, a tie counts "
        f"one half. The layer is chosen for each of {plan['n_folds']} folds of sentences in the others. p: "
        f"{plan['n_flips']} draws in which the two kinds of rewording are exchanged in half of the sentences "
        "and the layer is chosen anew; of differences, a sentence's two scores. Words in common: Jaccard "
        "share of words, without regard to case. Balanced pairs: each pair whose rewording that follows "
        "shares more words is matched with one in which it shares fewer by as much, to "
        f"{plan['caliper']:g}, so that words in common give one half."
    )
