"""The report of an ablation study: the verdict first, then maps of layers and heads, and what parts cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.language.parts.components import RANDOM
from brainalign_jax.studies.ablation import agreement, shapley, verdict
from brainalign_jax.studies.ablation.table import INTACT, LEAST_PEOPLE, TWINS, AblationTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.judged import Judged
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    p_value,
    short_names,
    signed,
)
from brainalign_jax.study.results import GROUP, SELECTED

_HEADER = (
    "model", "method", "without", "how", "layer", "change", "interval", "random share", "p",
    "p of the largest", "frozen change", "bits per word",
)  # fmt: skip
_MOST_LINES = 30
_FACTS = (  # of the manifest
    {"dataset": "dataset", "plan": "choice", "protocol": "protocol"},
    ("subjects", "seed", "stimulus", "command", "created", "versions"),
)
_ESTIMATES_CAPTION = (
    "the estimated change of the alignment without a part against the exact one, and the line on which they "
    "are equal. ridge: held-out correlation, folds and penalties as of the intact layer; cka: linear CKA, "
    "debiased."
)
_SUBLAYERS = {"attention": "attention", "ffn": "ffn", "layers": "block", "norms": "norms"}


def write_report(table: AblationTable, folder: str | Path) -> Path:
    """Write `folder`/figures and `folder`/report.html, one file that needs nothing else."""
    manifest = table.manifest
    judged = verdict.verdicts(table)
    labels = short_names([shown.model for shown in judged])
    figures = page.Figures(folder)
    for number_of_pair, shown in enumerate(judged):
        ending = f"_{number_of_pair + 1}" * (len(judged) > 1)
        drawn = [("change_by_part", draw_map(table, shown), _map_caption(shown, labels))]
        if table.group(model=shown.model)["bits_change"].notna().any():
            drawn.append(
                ("change_and_bits", draw_costs(table, shown), _costs_caption(shown, labels))
            )
        for name, figure, caption in drawn:
            title = f"{name} {shown.method} {labels[shown.model]}"
            figures.add(f"{name}{ending}", title, figure, caption)
    _add_shapley_figures(figures, table, labels)
    estimated = set() if table.estimates is None else set(table.estimates["model"])
    for number_of_model, model in enumerate(each for each in labels if each in estimated):
        figure = agreement.draw(table, model)
        ending = f"_{number_of_model + 1}" * (len(labels) > 1)
        caption = f"{labels[model]}: {_ESTIMATES_CAPTION}"
        name = f"estimate_and_exact {labels[model]}"
        figures.add(f"estimate_and_exact{ending}", name, figure, caption)
    compared = agreement.lines(table)
    return page.write(
        folder,
        "ablation",
        title=f"{manifest['dataset']['name']}: parts switched off",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=[*verdict.texts(table), *agreement.sentences(table)],
        how=_how(table),
        notes=manifest["notes"],
        parts_table=page.Table(_HEADER, _lines(table, judged, labels), 5),
        agreement=page.Table(agreement.HEADER, compared, 5) if compared else None,
        figures=figures,
        facts=page.facts_of(manifest, *_FACTS, empty=(None, "", [])),
    )


def _add_shapley_figures(
    figures: page.Figures, table: AblationTable, labels: dict[str, str]
) -> None:
    if table.shapley is None:
        return
    games = table.shapley[["model", "method", "players"]].drop_duplicates()
    for number_of_game, (model, method, players) in enumerate(games.itertuples(index=False), 1):
        figure = shapley.draw_values(table.shapley, model, method, players)
        ending = f"_{number_of_game}" * (len(games) > 1)
        caption = (
            f"{method}, {labels[model]}: what each part is worth to the rank accuracy, averaged over the "
            "orders in which parts can be added (Shapley values); they sum to what all are worth together. "
            "Bars: intervals over people and words."
        )
        name = f"Shapley values {method} {labels[model]}"
        figures.add(f"shapley_values{ending}", name, figure, caption)


def draw_map(table: AblationTable, shown: Judged) -> Figure:
    """The change of rank accuracy by block and head or sub-layer; rows: ways, columns: where it is read."""
    every = [
        verdict.judged_lines(table, shown.model, shown.method, layer=layer)
        for layer in (None, SELECTED)
    ]
    ways = [*table.manifest["plan"]["how"], *[RANDOM] * table.manifest["plan"]["controls"]]
    known = pd.concat(every)
    known = known[known["block"] >= 0]
    columns = [f"{head}" for head in sorted(known.loc[known["head"] >= 0, "head"].unique())]
    columns += [label for kind, label in _SUBLAYERS.items() if (known["component"] == kind).any()]
    blocks = sorted(known["block"].unique())
    size = (2 * (0.36 * len(columns) + 1.4) + 1, len(ways) * (0.36 * len(blocks) + 1.3))
    figure = Figure(figsize=(max(size[0], 7), size[1]), layout="constrained")
    axes = figure.subplots(len(ways), 2, squeeze=False)
    top = float(np.nanmax(known["change"].abs().to_numpy(), initial=1e-3))
    for row, how in enumerate(ways):
        for column, place in enumerate(every):
            lines, axis = place[place["how"] == how], axes[row, column]
            values = np.full((len(blocks), len(columns)), np.nan)
            for _, line in lines[lines["block"] >= 0].iterrows():
                label = str(line["head"]) if line["head"] >= 0 else _SUBLAYERS[line["component"]]
                at = blocks.index(line["block"]), columns.index(label)
                values[at] = line["change"]
                if line["p_max"] < LEVEL and line["upper"] < 0:
                    axis.plot(at[1], at[0], "o", color="black", markersize=4)
            drawn = axis.imshow(values, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
            axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
            axis.set_yticks(range(len(blocks)), blocks, fontsize=8)
            where = "behind the block" if column == 0 else "chosen layer"
            title = "random share" if how == RANDOM else how
            axis.set_title(f"{title}, {where}", fontsize="medium")
            axis.set_ylabel("block" if column == 0 else "")
            axis.set_xlabel("head, sub-layer" if row == len(ways) - 1 else "")
    figure.colorbar(drawn, ax=axes, label="change of rank accuracy", shrink=0.8)
    return figure


def draw_costs(table: AblationTable, shown: Judged) -> Figure:
    """The change of rank accuracy in the chosen layer against that of the bits per word, a point a part."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    lines = verdict.judged_lines(table, shown.model, shown.method)
    lines = lines[(lines["how"] != RANDOM) & lines["bits_change"].notna()]
    kinds = list(dict.fromkeys(lines["component"]))
    for kind, colour in zip(kinds, OKABE_ITO, strict=False):
        points = lines[lines["component"] == kind]
        axis.plot(
            points["bits_change"], points["change"], "o", color=colour, label=kind, markersize=5
        )
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_xscale("symlog", linthresh=0.1)
    axis.set_xlabel("change of bits per word")
    axis.set_ylabel("change of rank accuracy")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    return figure


def _map_caption(shown: Judged, labels: dict[str, str]) -> str:
    return (
        f"{shown.method}, {labels[shown.model]}: change of rank accuracy without a part, mean over people; "
        "red is a fall. Left: read behind the part's block; right: in the layer that the intact model "
        "chooses. A dot: p by the largest fall of all parts is below .05, and the interval below zero."
    )


def _costs_caption(shown: Judged, labels: dict[str, str]) -> str:
    return (
        f"{shown.method}, {labels[shown.model]}: what each part is worth to the alignment (down: it is "
        "missed) and to the model's own task (right: words are less expected)."
    )


def _lines(table: AblationTable, judged, labels: dict[str, str]) -> list[list[str]]:
    lines = []
    for shown in judged:
        every = verdict.judged_lines(table, shown.model, shown.method)
        own = verdict.judged_lines(table, shown.model, shown.method, layer=None)
        both = pd.concat([every, own])
        frozen = table.group(
            model=shown.model, method=shown.method, metric="rank_accuracy", readout="frozen"
        )
        key = ["component", "block", "head", "layer"]
        control = both[both["how"] == RANDOM].set_index(key)["change"]
        frozen = frozen.set_index([*key, "how"])["change"]
        parts = both[both["how"] != RANDOM].sort_values("change").head(_MOST_LINES)
        for _, line in parts.iterrows():
            place = tuple(line[name] for name in key)
            lines.append(
                [
                    labels[shown.model],
                    shown.method,
                    verdict.named(line),
                    line["how"],
                    "chosen" if line["layer"] == SELECTED else str(line["layer"]),
                    signed(line["change"]),
                    interval(line["lower"], line["upper"]),
                    signed(control.get(place)),
                    p_value(line["p"]),
                    p_value(line["p_max"]),
                    signed(frozen.get((*place, line["how"]))),
                    number(line["bits_change"]),
                ]
            )
    return lines


def _scope(table: AblationTable) -> str:
    rows = rows_with(table.rows, subject=GROUP, layer=SELECTED)
    rows = rows[(rows["how"] != RANDOM) & (rows["metric"] == "rank_accuracy")]
    rows = rows[~rows["component"].isin([INTACT, TWINS])]
    count = len(rows[["model", "component", "block", "head"]].drop_duplicates())
    people = len(table.manifest["subjects"])
    return (
        f"{people} people; {counted(count, 'part')} switched off, one at a time. Which are missed when words "
        "are decoded?"
    )


def _how(table: AblationTable) -> str:
    plan, people = table.manifest["plan"], len(table.manifest["subjects"])
    over, n_flips = "words", plan["n_flips"]
    if people >= LEAST_PEOPLE:
        over, n_flips = "people", min(n_flips, 2**people - 1)
    return (
        "Rank accuracy: 1 for the first of the candidates, 0 for the last. Refit: the map from the brain is "
        "fitted on the ablated vectors; frozen: it is the intact layer's, and the ablated vectors are the "
        "candidates. Zero, mean: what stands in the part's place, the mean over all sub-tokens that are "
        "read. Resample: what the part gives at a sub-token of another text, at the same position where "
        "there is one; reinit: the part with weights drawn anew; of both the mean over draws. Random share: "
        "in place of the part, a share in random directions with the same mean squared norm is taken off "
        "what enters its block. Bits per word: what the same costs in surprisal. "
        f"{_held(table)}Intervals: bootstrap over people and words. p: {n_flips} flips of signs "
        f"over {over}, one-sided for a fall; p of the largest: by the largest t of all parts in each draw. "
        "The table has the largest falls."
    )


def _held(table: AblationTable) -> str:
    if not table.held_constant:
        return ""
    return (
        f"Held constant, so that what is linear in it counts for no score or change: "
        f"{listed(table.held_constant)}. "
        "Responses and vectors are taken less their fit by these over each fold's training words; rsa then "
        "compares similarities to the training words less their fit by these and their squares. "
    )
