"""What models can do, in plain words."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from brainalign_jax.studies.abilities import pairs, reading, texts
from brainalign_jax.studies.abilities.table import ALL, AbilitiesTable
from brainalign_jax.study.report.wording import (
    interval,
    known,
    listed,
    number,
    percent,
    short_names,
)

# Answer -> level of `page.COLOURS`.
LEVELS = {"all": "real", "some": "uncertain", "none": "chance", "untested": "untested"}
ANSWERS = {
    "all": "Every model does better than chance in all that was tested",
    "some": "Not every model does better than chance in all that was tested",
    "none": "No model does better than chance in anything that was tested",
    "untested": "Bits were measured, for which there is no chance level",
}


class AbilityVerdict(NamedTuple):
    """model; above, tested: how many of its tasks are above chance by their intervals; text: sentences."""

    model: str
    above: int
    tested: int
    text: str


def verdicts(table: AbilitiesTable) -> list[AbilityVerdict]:
    """One verdict a model; of the tasks over all items."""
    labels = short_names(list(dict.fromkeys(table.rows["model"])))
    return [
        _verdict(rows, model, labels[model])
        for model, rows in table.rows.groupby("model", sort=False)
    ]


def answer(table: AbilitiesTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer) of all models."""
    judged = verdicts(table)
    above = sum(verdict.above for verdict in judged)
    tested = sum(verdict.tested for verdict in judged)
    common = "untested" if not tested else "all" if above == tested else "some" if above else "none"
    return LEVELS[common], ANSWERS[common]


def headline(table: AbilitiesTable) -> str:
    """The answer of all models in a sentence."""
    below = [said.model for said in verdicts(table) if said.above < said.tested]
    labels = short_names(list(dict.fromkeys(table.rows["model"])))
    text = f"{answer(table)[1]}."
    if below and len(below) < len(labels):
        text += f" Those that do not: {listed(labels[model] for model in below)}."
    return text


def main_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of tasks over all items, and of whole texts."""
    bits = rows["task"].str.startswith((texts.PER_CHARACTER, texts.PER_WORD))
    return rows[(rows["item_group"] == ALL) | bits]


def judged_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are held against chance: with an interval, and over all items."""
    judged = rows[(rows["item_group"] == ALL) & rows["chance"].notna() & rows["lower"].notna()]
    return judged[judged["task"] != reading.CORRELATION]


def _verdict(rows: pd.DataFrame, model: str, label: str) -> AbilityVerdict:
    judged = judged_rows(rows)
    above = int((judged["lower"] > judged["chance"]).sum())
    by_task = rows.set_index("task")
    said = [_worded(task, line) for task, line in main_rows(rows).set_index("task").iterrows()]
    if reading.SLOPE in by_task.index:
        slope = by_task.loc[reading.SLOPE, "value"]
        said = [text for text in said if text]
        said.append(f"{number(slope)} ms longer per bit")
    return AbilityVerdict(model, above, len(judged), f"{label}: {'; '.join(filter(None, said))}.")


def _worded(task: str, line: pd.Series) -> str:
    value, reach = number(line["value"]), interval(line["lower"], line["upper"])
    count = f"{int(line['n_items']):,}"
    if task == pairs.TASK:
        return f"{percent(line['value'])} of {count} minimal pairs right {reach}"
    if task == f"{pairs.TASK}_mean":
        return f"{percent(line['value'])} by the mean over sub-tokens"
    if task == reading.TASK:
        return f"reading times gain {value} nats a word {reach} by its surprisal over {count} words"
    if task == reading.CORRELATION:
        return f"r = {value} with GPT-3's surprisal"
    if task == reading.SLOPE:
        return ""
    name, _, what = task.partition("/")
    if name == texts.PER_CHARACTER:
        return f"{value} bits per character of {what} {reach}"
    if name == texts.PER_WORD:
        return f"{value} bits per word of {what} {reach}"
    said = f"{task} {value} {reach}"
    return said + (f", chance {number(line['chance'])}" if known(line["chance"]) else "")
