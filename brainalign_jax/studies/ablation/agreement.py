"""How well the estimates by gradient go with what switching the parts off does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata

from brainalign_jax.studies.ablation.verdict import judged_lines
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import counted, listed, number, short_names
from brainalign_jax.study.results import SELECTED

if TYPE_CHECKING:
    from brainalign_jax.studies.ablation.table import AblationTable

LEAST = 4  # parts for a correlation
HEADER = (
    "model", "parts", "how", "read", "objective", "n", "Spearman with exact", "with rank accuracy",
)  # fmt: skip
_PLACES = {"chosen": "in the chosen layer", "own": "behind each block"}
_KEY = ["component", "block", "head", "how"]


class Agreement(NamedTuple):
    """Spearman's correlations of the estimates of some parts.

    heads: of the heads, else of sub-layers and blocks. place: "chosen" layer or "own", behind the block. n:
    parts that were switched off. exact: with the exact change of the objective; accuracy: with the change of
    rank accuracy of the first method.
    """

    model: str
    heads: bool
    how: str
    place: str
    objective: str
    n: int
    exact: float
    accuracy: float


def agreements(table: AblationTable) -> Iterator[Agreement]:
    """All of a study, for at least `LEAST` parts; none where nothing was estimated."""
    if table.estimates is None:
        return
    for model, lines in table.estimates.groupby("model", sort=False):
        for place, placed in _placed(table, str(model), lines).items():
            grouped = placed.groupby(
                [placed["component"] == "heads", "how", "objective"], sort=False
            )
            for (heads, how, objective), some in grouped:
                known = some[some["exact"].notna()]
                if len(known) >= LEAST:
                    estimate = known["estimate"].to_numpy()
                    exact, accuracy = (
                        spearman(estimate, known[name].to_numpy()) for name in ("exact", "accuracy")
                    )
                    yield Agreement(
                        str(model), bool(heads), how, place, objective, len(known), exact, accuracy
                    )


def sentences(table: AblationTable) -> list[str]:
    """A sentence a model: the correlations over the heads, or over other parts where there are none."""
    every = list(agreements(table))
    if table.estimates is None:
        return []
    labels = short_names(list(dict.fromkeys(table.rows["model"])))
    kind = table.manifest["plan"]["estimate"]
    name = {"gradient": "by gradient", "integrated": "by integrated gradients"}[kind]
    said = []
    for model, label in labels.items():
        own = [each for each in every if each.model == model]
        heads = any(each.heads for each in own)
        shown = [each for each in own if each.heads == heads]
        place = "chosen" if any(each.place == "chosen" for each in shown) else "own"
        shown = [each for each in shown if each.place == place]
        if not shown:
            said.append(
                f"{label}: fewer than {LEAST} parts have an estimate {name} and an exact change, too few to "
                "be compared."
            )
            continue
        most = max(each.n for each in shown)
        parts = counted(most, "head" if heads else "part")
        if table.manifest["plan"]["exact"] != "all":
            parts = f"the {parts} that were verified"
        by_way = listed(f"{number(x.exact)} ({x.objective}, {x.how})" for x in shown)
        said.append(
            f"{label}: the estimate {name} of {parts} goes with the exact change, read {_PLACES[place]}, by "
            f"a Spearman correlation of {by_way}."
        )
    return said


def lines(table: AblationTable) -> list[list[str]]:
    """The lines of the report's table, under `HEADER`."""
    labels = short_names(list(dict.fromkeys(table.rows["model"])))
    return [
        [
            labels[each.model], "heads" if each.heads else "sub-layers, blocks", each.how,
            _PLACES[each.place], each.objective, str(each.n), number(each.exact), number(each.accuracy),
        ]
        for each in agreements(table)
    ]  # fmt: skip


def draw(table: AblationTable, model: str) -> Figure:
    """The estimate against the exact change, a point a part; rows: where it is read, columns: objectives."""
    lines = table.estimates[table.estimates["model"] == model]
    placed = {
        name: rows
        for name, rows in _placed(table, model, lines).items()
        if rows["exact"].notna().any()
    }
    objectives = list(dict.fromkeys(lines["objective"]))
    size = max(len(placed), 1), max(len(objectives), 1)
    figure = Figure(figsize=(4 * size[1], 3.4 * size[0]), layout="constrained")
    axes = figure.subplots(*size, squeeze=False)
    for row, (place, every) in enumerate(placed.items()):
        for column, objective in enumerate(objectives):
            axis = axes[row, column]
            known = every[(every["objective"] == objective) & every["exact"].notna()]
            kinds = known.groupby(["component", "how"], sort=False)
            for colour, ((component, how), points) in zip(OKABE_ITO, kinds, strict=False):
                marker = "o" if component == "heads" else "s"
                label = f"{component}, {how}"
                axis.plot(
                    points["exact"],
                    points["estimate"],
                    marker,
                    color=colour,
                    label=label,
                    markersize=3.5,
                )
            ends = known["exact"].agg(["min", "max"]).to_numpy()
            axis.plot(ends, ends, color=GREY, linewidth=0.8)
            axis.set_title(f"{objective}, {_PLACES[place]}", fontsize="medium")
            axis.set_xlabel("exact change")
            axis.set_ylabel("estimate" if column == 0 else "")
            axis.spines[["top", "right"]].set_visible(False)
    if axes[0, 0].lines:
        axes[0, 0].legend(frameon=False, fontsize="x-small")
    return figure


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's correlation; NaN where one side does not vary, or is not known."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or min(np.ptp(x), np.ptp(y)) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def _placed(table: AblationTable, model: str, lines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of a model by where they are read, each with the change of rank accuracy there."""
    first = table.manifest["methods"][0]
    read = table.manifest["chosen_layers"][model][first]
    placed = {}
    for place in _PLACES:
        chosen = place == "chosen"
        where = lines["layer"] == (read if chosen else lines["block"] + 1)
        rows = judged_lines(table, model, first, layer=SELECTED if chosen else None)
        known = rows.set_index(_KEY)["change"]
        part = lines[where]
        keys = part[_KEY].itertuples(index=False, name=None)
        placed[place] = part.assign(accuracy=[known.get(key, np.nan) for key in keys])
    return placed
