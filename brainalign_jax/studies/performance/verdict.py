"""What a study of performance shows, in words: does alignment go with what models can do, beyond size?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.studies.performance.relation import WITHIN
from brainalign_jax.studies.performance.table import ALL, PerformanceTable
from brainalign_jax.studies.performance.tasks import label_of
from brainalign_jax.study.evidence.chance import LEVEL, adjusted_p
from brainalign_jax.study.report.wording import (
    counted,
    first_few,
    fraction,
    interval,
    known,
    listed,
    percent,
    probability,
    short_names,
    signed,
)

FEWEST_DRAWS = 20  # of which the smallest p is below .05
_SHOWN = 4  # tasks that a sentence names
_GIVEN = {"n_params": "number of parameters", "width": "width"}
LEVELS = {
    "beyond": "real",
    "unsized": "uncertain",
    "size": "explained",
    "opposite": "chance",
    "none": "chance",
    "untested": "untested",
}
ANSWERS = {
    "beyond": "Yes, beyond size: models that are more alike to brains do better than others of their size",
    "unsized": "Together, but whether beyond size is not known: the models' sizes are not",
    "size": "Only with size: larger models are more alike to brains and do better, and no more is shown",
    "opposite": "The other way round: given their size, models that are more alike to brains do worse",
    "none": "Not shown: alignment and what models can do do not go together beyond doubt",
    "untested": "Not tested: fewer than 20 permutations",
}


class RelationVerdict(NamedTuple):
    """subject: what it is about; answer: of ANSWERS, "" beside the relation itself; text: the sentences."""

    subject: str
    answer: str
    text: str


def verdicts(table: PerformanceTable) -> list[RelationVerdict]:
    """One verdict a data set, then what training and ablations say.

    "beyond": a task has an adjusted p below .05 and an interval above zero, given size; "opposite": below
    zero, and none above. "size": only the correlation that is not given size has such a p. "unsized": it has,
    and sizes are not known.
    """
    said = [
        _of_dataset(table, dataset, rows)
        for dataset, rows in table.rows.groupby("dataset", sort=False)
    ]
    said += [
        RelationVerdict(dataset, "", _of_training(table, dataset, rows))
        for dataset, rows in table.extras["trajectories"].groupby("dataset", sort=False)
    ]
    return said + _of_ablations(table)


def headline(table: PerformanceTable) -> str:
    """The answer of all data sets in a sentence, with the models that it would need."""
    judged = [verdict for verdict in verdicts(table) if verdict.answer]
    answers = dict.fromkeys(verdict.answer for verdict in judged)
    if len(answers) == 1:
        said = f"{ANSWERS[judged[0].answer]}."
    else:
        said = " ".join(
            f"{ANSWERS[answer]} ({listed(v.subject for v in judged if v.answer == answer)})."
            for answer in answers
        )
    return f"{said} {_needed(strongest(table.rows))}"


def answer(table: PerformanceTable) -> tuple[str, str]:
    """(level of the page's colours, the answer) of all data sets: the one with most to say."""
    answers = [verdict.answer for verdict in verdicts(table) if verdict.answer]
    common = min(answers, key=list(ANSWERS).index)
    return LEVELS[common], ANSWERS[common]


def strongest(rows: pd.DataFrame) -> pd.Series:
    """The row that is spoken of: where tasks go with alignment beyond size, that with the smallest p.

    Else, where some go with it as size does, the largest plain correlation; else the smallest p.
    """
    sized = rows["given"] != ""
    shown = pd.DataFrame(
        {
            "p": rows["p"].where(sized, rows["p_spearman"]),
            "value": -rows["partial_spearman"].where(sized, rows["spearman"]).abs(),
            "plain": -rows["spearman"],
        }
    )
    for clear in (beyond_size(rows), below_size(rows)):
        if clear.any():
            return rows.loc[shown[clear].sort_values(["p", "value"], kind="stable").index[0]]
    together = with_size(rows)
    if together.any():
        return rows.loc[shown[together].sort_values("plain", kind="stable").index[0]]
    return rows.loc[shown.sort_values(["p", "value"], kind="stable").index[0]]


def beyond_size(rows: pd.DataFrame) -> pd.Series:
    """Which rows show more than size does: adjusted p below .05 and an interval above zero."""
    return (rows["given"] != "") & (rows["p_adjusted"] < LEVEL) & (rows["lower"] > 0)


def below_size(rows: pd.DataFrame) -> pd.Series:
    """Which rows show the opposite, given size: adjusted p below .05 and an interval below zero."""
    return (rows["given"] != "") & (rows["p_adjusted"] < LEVEL) & (rows["upper"] < 0)


def with_size(rows: pd.DataFrame) -> np.ndarray:
    """Which rows' plain correlation is above zero by its p, adjusted over the tasks of its data set."""
    adjusted = np.full(len(rows), np.nan)
    for part in rows.groupby("dataset", sort=False).indices.values():
        adjusted[part] = adjusted_p(rows["p_spearman"].to_numpy(float)[part])
    return (adjusted < LEVEL) & (rows["spearman"].to_numpy() > 0)


def _of_dataset(table: PerformanceTable, dataset: str, rows: pd.DataFrame) -> RelationVerdict:
    beyond, below, together = beyond_size(rows), below_size(rows), with_size(rows)
    if table.manifest["plan"]["n_permutations"] < FEWEST_DRAWS:
        conclusion = "untested"
    elif beyond.any():
        conclusion = "beyond"
    elif below.any():
        conclusion = "opposite"
    elif together.any():
        conclusion = "size" if (rows["given"] != "").any() else "unsized"
    else:
        conclusion = "none"
    line = strongest(rows)
    task = label_of(rows.loc[[line.name]])[0]
    said = [f"{dataset}: {_scope(line)}. With {task} alignment goes at {signed(line['spearman'])}"]
    if known(line["partial_spearman"]):
        said[0] += (
            f", and given the {listed(_GIVEN[name] for name in line['given'].split(', '))} at "
            f"{_with_interval(line, 'partial_spearman')}, {probability(line['p'])}, adjusted over "
            f"{counted(len(rows), 'task')} {probability(line['p_adjusted'])}."
        )
    elif line["given"]:
        said[0] += (
            f", {probability(line['p_spearman'])}; the order of scores or tasks is that of size, and nothing "
            "is left to relate."
        )
    else:
        said[0] += (
            f", {probability(line['p_spearman'])}; the models' sizes are not known, so that size may be all "
            "of it."
        )
    for which, words in (
        (beyond, "Beyond size"),
        (below, "The other way round, given size"),
        (together & ~beyond & (rows["given"] != ""), "With size only"),
    ):
        if which.any():
            said.append(f"{words}: {first_few(label_of(rows[which]), _SHOWN)}.")
    said.append(_permuted(line))
    if known(line["family_effect"]):
        share = percent(round(line["family_effect"], 2))
        text = f"Of what size leaves of the scores, {share} lies between families"
        if known(line["without_family_lower"]):
            low, high = line["without_family_lower"], line["without_family_upper"]
            text += f"; without one family the correlation is {signed(low)} to {signed(high)}"
        said.append(f"{text}.")
    if known(line["reliability"]):
        text = f"The reliability of the scores is {fraction(line['reliability'])}"
        if known(line["partial_corrected"]):
            text += f"; without their error the correlation would be {signed(line['partial_corrected'])}"
        said.append(f"{text}.")
    said.append(_needed(line))
    return RelationVerdict(dataset, conclusion, " ".join(said))


def _with_interval(line: pd.Series, name: str) -> str:
    """A correlation and, where there is one, its interval."""
    return f"{signed(line[name])} {interval(line['lower'], line['upper'])}".rstrip()


def _scope(line: pd.Series) -> str:
    said = f"{line['n_models']} models of {line['n_families']} families"
    if line["n_families"] == 1:
        said = f"{line['n_models']} models of one family"
    people = int(line["n_people"])
    return said + (f", {people} people" if people > 1 else ", one person" * people)


def _permuted(line: pd.Series) -> str:
    if line["permuted"] == WITHIN:
        return "Models were permuted within their families."
    if line["n_families"] == 1:
        return "There is one family only: models were permuted over all; of others nothing is said."
    return (
        "Families are too small to permute models within them: models were permuted over all, as if they "
        "were independent."
    )


def _needed(line: pd.Series) -> str:
    """How many models a claim of this size would need."""
    if not known(line["needed_models"]):
        return "There is no correlation of which to say how many models it needs."
    partial = known(line["partial_spearman"])
    value = line["partial_spearman"] if partial else line["spearman"]
    said = (
        f"To be found with a power of .8, a correlation of {signed(value)} needs "
        f"{line['needed_models']:,.0f} models; there are {line['n_models']}"
    )
    if known(line["detectable"]) and partial == bool(line["given"]):
        said += f", which find {fraction(line['detectable'])} or more"
    return f"{said}."


def _of_training(table: PerformanceTable, dataset: str, rows: pd.DataFrame) -> str:
    means = rows[rows["model"] == ALL]
    shown = means if len(means) else rows
    best = strongest(table.rows[table.rows["dataset"] == dataset])
    same = shown[(shown["task"] == best["task"]) & (shown["metric"] == best["metric"])]
    shown = pd.concat([same, shown.drop(same.index)]).head(_SHOWN)
    said = []
    for label, (_, line) in zip(label_of(shown), shown.iterrows(), strict=True):
        who = (
            counted(int(line["n_models"]), "model") if line["model"] == ALL else f"{line['model']}"
        )
        said.append(f"{label} ({who}): {lag_words(line)}")
    return (
        f"{dataset}, over training: " + "; ".join(said) + ". Steps are those of half of each rise."
    )


def lag_words(line: pd.Series) -> str:
    """Which of the two has half of its rise first, and by which factor of steps."""
    factor = 10 ** abs(line["lag"])
    if line["lower"] > 0 or line["upper"] < 0:
        low, high = sorted(10 ** abs(line[name]) for name in ("lower", "upper"))
        order = "leads: its half takes" if line["lag"] > 0 else "follows: the task's half takes"
        return f"alignment {order} {factor:.3g} [{low:.3g}, {high:.3g}] times fewer steps"
    times = f"{factor:.3g}"
    order = f"{times} times {'earlier' if line['lag'] >= 0 else 'later'}"
    order = "there at the same step" if times == "1" else order
    if known(line["lower"]):
        return f"neither leads beyond doubt (alignment is {order})"
    return f"alignment is {order}, without an interval"


def _of_ablations(table: PerformanceTable) -> list[RelationVerdict]:
    rows = table.extras["ablations"]
    if rows.empty:
        return []
    labels = short_names(list(rows["model"].unique()))
    said = []
    for (model, method), part in rows.groupby(["model", "method"], sort=False):
        texts = []
        for _, line in part.drop_duplicates(["how", "readout"]).iterrows():
            both = line["p"] < LEVEL and line["lower"] > 0
            words = "the same cost both" if both else "it is not shown that the same cost both"
            texts.append(
                f"{line['how']}, {line['readout']}, {line['n_components']} parts: {words} "
                f"({_with_interval(line, 'spearman')}, {probability(line['p'])})"
            )
        said.append(
            RelationVerdict(model, "", f"{method}, {labels[model]}, ablations: {'; '.join(texts)}.")
        )
    return said
