"""The report of a comparison of models: the verdict first, then matrices of layers, and pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from brainalign_jax.studies.comparison import verdict
from brainalign_jax.studies.comparison.table import ALL, PEOPLE, ComparisonTable
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import page
from brainalign_jax.study.report.wording import capitalised, counted, number, p_value, short_names
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.score.measures import label_of

_HEADER = (
    "measure", "first", "second", "value", "permuted words", "calibrated", "p", "agreed words", "other words",
    "p of the difference",
)  # fmt: skip
_WORDS = 12  # that people agree on most and least


def write_report(table: ComparisonTable, folder: str | Path) -> Path:
    """Write `folder`/figures and `folder`/report.html, one file that needs nothing else."""
    manifest = table.manifest
    figures = page.Figures(folder)
    for measure in manifest["plan"]["measures"]:
        drawn = draw_matrix(table, measure)
        caption = (
            f"{capitalised(label_of(measure))}: all pairs of layers, and layers with people (mean over "
            "them; among people in the corner). Left: as it is; right: 0 is the mean of permuted words, 1 "
            "the same vectors."
        )
        figures.add(f"{measure}_of_layers", f"{measure} of layers", drawn, caption)
    return page.write(
        folder,
        "comparison",
        title=f"{manifest['dataset']['name']}: models beside one another",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), ""),
        verdicts=[shown.text for shown in verdict.verdicts(table)],
        how=_how(table),
        pairs=page.Table(_HEADER, _lines(table), 3),
        words=page.Table(("agreed on most", "agreement", "least", "agreement"), _words(table)),
        figures=figures,
        facts=page.facts_of(
            table.manifest,
            {"dataset": "dataset", "plan": "choice"},
            ("subjects", "seed", "stimulus", "command", "created", "versions"),
            empty=(None, "", []),
        ),
    )


def draw_matrix(table: ComparisonTable, measure: str) -> Figure:
    """Values of all pairs of layers and people, as they are and calibrated."""
    matrices = [table.matrix(measure, column) for column in ("value", "calibrated")]
    labels = short_names([name for name in matrices[0].index.unique("model") if name != PEOPLE])
    count = len(matrices[0])
    size = float(np.clip(0.16 * count + 2.2, 4.2, 6.6))  # two fit the page
    figure = Figure(figsize=(2 * size, 0.8 * size), layout="constrained")
    axes = figure.subplots(1, 2)
    models = matrices[0].index.get_level_values("model")
    starts = [i for i in range(count) if i == 0 or models[i] != models[i - 1]]
    ends = [*starts[1:], count]
    for axis, matrix, title in zip(axes, matrices, ("as it is", "calibrated"), strict=True):
        values = matrix.to_numpy(float)
        # People are one side only of their pairs.
        values = np.where(np.isnan(values), values.T, values)
        off = values[~np.eye(count, dtype=bool)]
        top = float(np.nanmax(off)) if np.isfinite(off).any() else 1.0
        drawn = axis.imshow(values, cmap="viridis", vmin=min(0.0, float(np.nanmin(off))), vmax=top)
        for start in starts[1:]:
            axis.axhline(start - 0.5, color="white", linewidth=1.2)
            axis.axvline(start - 0.5, color="white", linewidth=1.2)
        middles = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
        names = [labels.get(models[start], PEOPLE) for start in starts]
        axis.set_xticks(middles, names, rotation=30, ha="right", fontsize=9)
        axis.set_yticks(middles, names, fontsize=9)
        axis.set_title(title, fontsize="medium")
        figure.colorbar(drawn, ax=axis, shrink=0.8, label=label_of(measure))
    return figure


def _lines(table: ComparisonTable) -> list[list[str]]:
    rows = rows_with(table.rows, first_layer=SELECTED, second_layer=SELECTED)
    names = [name for name in dict.fromkeys([*rows["first"], *rows["second"]]) if name != PEOPLE]
    labels = short_names(names) | {PEOPLE: PEOPLE}
    lines = []
    for _, row in rows[rows["words"] == ALL].iterrows():
        key = ["measure", "first", "second"]
        same = rows[(rows[key] == row[key]).all(axis=1)].set_index("words")
        halves = [same["value"].get(name) for name in (verdict.AGREED, verdict.OTHERS)]
        lines.append(
            [
                label_of(row["measure"]),
                labels[row["first"]],
                labels[row["second"]],
                number(row["value"]),
                number(row["null_mean"]),
                number(row["calibrated"]),
                p_value(row["p"]),
                *map(number, halves),
                p_value(same["p_difference"].get(verdict.AGREED)),
            ]
        )
    return lines


def _words(table: ComparisonTable) -> list[list[str]]:
    known = [(word, value) for word, value in table.manifest["agreement"] if np.isfinite(value)]
    order = sorted(known, key=lambda pair: -pair[1])
    pairs = zip(order[:_WORDS], order[::-1][:_WORDS], strict=True)
    return [[most[0], number(most[1]), least[0], number(least[1])] for most, least in pairs]


def _scope(table: ComparisonTable) -> str:
    manifest = table.manifest
    return (
        f"{counted(len(manifest['models']), 'model')}, {len(manifest['subjects'])} people, "
        f"{len(manifest['agreement']):,} words. Which models are alike, and in the words that people agree "
        "on?"
    )


def _how(table: ComparisonTable) -> str:
    plan, order = table.manifest["plan"], table.manifest["order"]
    return (
        f"All words at once, less their mean; nothing is fitted. p: {plan['n_permutations']} permutations of "
        f"the words ({order}), the most alike pair of layers against the most alike of every draw (both by "
        "what exceeds a pair's own draws, of measures whose null depends on the vectors). "
        "Calibrated: 0 is the mean of these, 1 the same vectors. A word is agreed on where its likeness to "
        "all other words is the same in a person and in the others; the two halves are compared in the "
        "layers that are most alike in all words, against random halves. Values among people are higher "
        "in the agreed half by construction, those among models are not."
    )
