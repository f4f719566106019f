"""What a comparison of models shows, in plain words: which are alike, and in whose words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.studies.comparison.table import AGREED, ALL, OTHERS, PEOPLE, ComparisonTable
from brainalign_jax.study.evidence.chance import LEVEL, adjusted_p
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.wording import counted, fraction, listed, probability, short_names
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.score.measures import label_of


class PairVerdict(NamedTuple):
    """first, second: models. alike: beyond permuted words, over all pairs of the measure. text: sentences."""

    measure: str
    first: str
    second: str
    alike: bool
    text: str


def verdicts(table: ComparisonTable) -> list[PairVerdict]:
    """One a measure and pair of models.

    Alike: p below .05 by the most alike layers of every draw, with the false discovery rate held over the
    pairs of a measure.
    """
    judged = []
    for measure in table.manifest["plan"]["measures"]:
        rows = _pairs(table, measure)
        if rows.empty:
            continue
        adjusted = adjusted_p(rows["p"].to_numpy(float))
        labels = short_names(list(dict.fromkeys([*rows["first"], *rows["second"]])))
        for (_, row), q in zip(rows.iterrows(), adjusted, strict=True):
            alike = bool(q < LEVEL)
            layers = _most_alike(table, row)
            names = f"{labels[row['first']]} and {labels[row['second']]}"
            text = (
                f"{names} {'are' if alike else 'are not shown to be'} alike by {label_of(measure)}: "
                f"{fraction(row['value'])} between layers {layers[0]} and {layers[1]}, permuted words "
                f"{fraction(row['null_mean'])}, {probability(row['p'])}."
            )
            judged.append(
                PairVerdict(
                    measure,
                    row["first"],
                    row["second"],
                    alike,
                    text + _halves(table, measure, row) + _people(table, measure, row),
                )
            )
    return judged


def answer(table: ComparisonTable) -> tuple[str, str]:
    """(level of `figure_parts.LEVEL_COLOURS`, the answer)."""
    judged = verdicts(table)
    if not judged:
        return "untested", "One model: its layers are compared with one another and with people"
    if table.rows["n_draws"].max() < 1 / LEVEL:
        return "untested", f"Not tested: fewer than {1 / LEVEL:.0f} permutations"
    pairs = list(dict.fromkeys((of_pair.first, of_pair.second) for of_pair in judged))
    alike = [p for p in pairs if all(e.alike for e in judged if (e.first, e.second) == p)]
    any_alike = [p for p in pairs if any(e.alike for e in judged if (e.first, e.second) == p)]
    if len(alike) == len(pairs):
        return "real", f"Alike: {_of(len(pairs), len(pairs))} by every measure"
    if any_alike:
        return "explained", f"In part: {_of(len(alike), len(pairs))} alike by every measure"
    return "chance", "Not shown: no two models are more alike than with permuted words"


def headline(table: ComparisonTable) -> str:
    """The answer, and what each pair comes to."""
    texts = [of_pair.text for of_pair in verdicts(table)]
    return " ".join([f"{answer(table)[1]}.", *texts[:6]])


def _of(count: int, every: int) -> str:
    if every == 1:
        return "both models" if count else "neither model"
    return f"{count} of {counted(every, 'pair')} of models"


def _pairs(table: ComparisonTable, measure: str) -> pd.DataFrame:
    rows = rows_with(
        table.rows, measure=measure, words=ALL, first_layer=SELECTED, second_layer=SELECTED
    )
    return rows[(rows["first"] != PEOPLE) & (rows["second"] != PEOPLE)]


def _most_alike(table: ComparisonTable, pair: pd.Series) -> tuple[int, int]:
    """The layers whose value is that of the row of a pair of models."""
    rows = table.rows
    rows = rows[(rows["words"] == ALL) & (rows["first_layer"] != SELECTED)]
    for column in ("measure", "first", "second"):
        rows = rows[rows[column] == pair[column]]
    chosen = rows.loc[(rows["value"] - pair["value"]).abs().idxmin()]
    return int(chosen["first_layer"]), int(chosen["second_layer"])


def _halves(table: ComparisonTable, measure: str, row: pd.Series) -> str:
    wanted = dict(measure=measure, first=row["first"], second=row["second"], first_layer=SELECTED)
    rows = table.rows
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    agreed, others = rows[rows["words"] == AGREED], rows[rows["words"] == OTHERS]
    if agreed.empty:
        return ""
    agreed, others = agreed.iloc[0], others.iloc[0]
    p = agreed["p_difference"]
    compared = "no more" if not p < LEVEL else "more" if agreed["difference"] > 0 else "less"
    return (
        f" In the half of the words that people agree on most they are {compared} alike than in the other: "
        f"{fraction(agreed['value'])} against {fraction(others['value'])} ({probability(p)})."
    )


def _people(table: ComparisonTable, measure: str, row: pd.Series) -> str:
    rows = rows_with(table.rows, measure=measure, words=ALL, second=PEOPLE, first_layer=SELECTED)
    to_people = rows[rows["first"].isin([row["first"], row["second"]])]
    among = rows[rows["first"] == PEOPLE]
    said = [fraction(value) for value in to_people["value"]]
    text = f" To people they are alike by {listed(said)}" if len(set(said)) > 1 else ""
    text = text or f" To people both are alike by {said[0]}"
    if len(among) and np.isfinite(among["value"].iloc[0]):
        text += f", people to one another by {fraction(among['value'].iloc[0])}"
    return text + "."
