"""What a study of languages shows, in plain words: whether a map holds for people of other languages."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainalign_jax.studies.languages.cells import OTHERS
from brainalign_jax.studies.languages.table import ACROSS, ALL, WITHIN, LanguageTable
from brainalign_jax.study.evidence.chance import LEVEL, adjusted_p
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.judged import Judged, by_answer, labelled_pairs
from brainalign_jax.study.report.wording import (
    interval,
    listed,
    number,
    probability,
)
from brainalign_jax.study.results import GROUP, SELECTED

CHANCE = 0.5
# Answer -> level of `page.COLOURS`.
LEVELS = {
    "holds": "real",
    "in part": "explained",
    "ends": "chance",
    "nothing": "chance",
    "untested": "untested",
}
ANSWERS = {
    "holds": "Yes: a map fitted on people of one language decodes people of every other",
    "in part": "In part: it decodes people of some other languages",
    "ends": "No: a map fitted on people of one language is not shown to decode people of another",
    "nothing": "There is nothing to carry over: people of the same language are not decoded",
    "untested": "Not tested: fewer than 20 draws of a null distribution",
}
_ORDER = ("holds", "in part", "ends", "nothing", "untested")


def verdicts(table: LanguageTable) -> list[Judged]:
    """One verdict a model and method, at the layer that the training sections choose, by rank accuracy.

    Pairs of languages count that stand out of the null draws at .05 after adjustment over all pairs
    (Benjamini-Hochberg) and lie above chance. "holds": all pairs; "in part": some, or only their mean;
    "ends": none, but within a language it does; "nothing": neither.
    """
    return [_verdict(table, *pair) for pair in labelled_pairs(table.rows)]


def headline(table: LanguageTable) -> str:
    """The answer of all models and methods in a sentence."""
    judged = verdicts(table)
    text, answers = f"{ANSWERS[_best(judged)]}.", by_answer(judged)
    if len(answers) > 1:
        several = "; ".join(f"{answer}: {listed(who)}" for answer, who in answers.items())
        text += f" That is the best of {len(judged)} models and methods, which differ: {several}."
    return text


def answer(table: LanguageTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer) of the model and method that carries over most."""
    best = _best(verdicts(table))
    return LEVELS[best], ANSWERS[best]


def chosen_lines(
    table: LanguageTable, model: str, method: str, subject: str = GROUP
) -> pd.DataFrame:
    """Rows of rank accuracy at the layer that the training sections choose."""
    rows = rows_with(table.rows, model=model, method=method, subject=subject, layer=SELECTED)
    return rows_with(rows, metric="rank_accuracy")


def _best(judged: list[Judged]) -> str:
    return min((verdict.answer for verdict in judged), key=_ORDER.index)


def _verdict(table: LanguageTable, model: str, method: str, label: str) -> Judged:
    rows = chosen_lines(table, model, method)
    together = rows[rows["tested_on"] == ALL].set_index("trained_on")
    single = rows[(rows["tested_on"] != ALL) & (rows["trained_on"] != OTHERS)]
    same = single["trained_on"] == single["tested_on"]
    pairs = single[~same].copy()
    pairs["adjusted"] = adjusted_p(pairs["p"].to_numpy())
    carried = pairs[(pairs["adjusted"] < LEVEL) & (pairs["value"] > CHANCE)]
    within, across = together.loc[WITHIN], together.loc[ACROSS]

    def shown(line: pd.Series) -> bool:
        return line["p"] < LEVEL and line["value"] > CHANCE

    if not 1 / (1 + table.manifest["plan"]["n_nulls"]) < LEVEL:  # no p can be below it
        conclusion = "untested"
    elif len(carried) == len(pairs):
        conclusion = "holds"
    elif len(carried) or shown(across):
        conclusion = "in part"
    elif shown(within):
        conclusion = "ends"
    else:
        conclusion = "nothing"
    said = [
        f"{method}, {label}: rank accuracy of people of another language {_score(across)}, of other people "
        f"of the same language {_score(within)} (chance {CHANCE})."
    ]
    if OTHERS in together.index:
        said.append(
            f"After training on all other languages together: {_score(together.loc[OTHERS])}."
        )
    if conclusion == "in part" and len(carried):
        names = [f"{line.trained_on} → {line.tested_on}" for line in carried.itertuples()]
        said.append(f"It holds for {listed(names)}, of {len(pairs)} pairs.")
    elif conclusion == "in part":
        said.append("It holds in the mean over pairs; no single pair is shown by itself.")
    if np.isfinite(across["ceiling"]):
        said.append(
            f"By the other people's responses to the very words it is {number(across['ceiling'])}."
        )
    return Judged(model, method, conclusion, " ".join(said))


def _score(line: pd.Series) -> str:
    bounds = interval(line["lower"], line["upper"])
    return f"{number(line['value'])} {bounds}".strip() + f" ({probability(line['p'])})"
