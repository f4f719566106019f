"""What a specification curve says in words."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from brainalign_jax.studies.specifications.choices import LABELS
from brainalign_jax.studies.specifications.table import CHOICE, SpecificationTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.report.wording import (
    counted,
    listed,
    percent,
    probability,
    short_names,
)

ANSWERS = {
    "stands": "It stands, whatever is chosen",
    "most": "It stands in most specifications",
    "hangs": "It hangs on the choices",
    "chance": "It does not stand: the curve as a whole is what draws give",
}
LEVELS = {"stands": "real", "most": "real", "hangs": "uncertain", "chance": "chance"}
_CONTROLS = (
    " Nothing here asks whether a control (an untrained twin, word length, static vectors) does as well: "
    "brainalign align does."
)
_ALL, _MOST = 0.95, 0.5  # shares of the specifications
_DECIDES = 0.1  # least share of the spread that is told of
_RAISED = 0.1  # of chance: the least rise of a null that is told of


class SpecificationVerdict(NamedTuple):
    """model; answer: of `ANSWERS`; text: the figures behind it, in sentences."""

    model: str
    answer: str
    text: str


def verdicts(table: SpecificationTable) -> list[SpecificationVerdict]:
    """One a model."""
    labels = short_names(list(table.manifest["curves"]))
    return [_verdict(table, model, labels[model]) for model in table.manifest["curves"]]


def text(table: SpecificationTable) -> str:
    """The answers of all models, a line each."""
    return "\n".join(f"{ANSWERS[own.answer]}. {own.text}" for own in verdicts(table))


def answer(table: SpecificationTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer): the weakest of all models'."""
    weakest = max((own.answer for own in verdicts(table)), key=list(ANSWERS).index)
    return LEVELS[weakest], ANSWERS[weakest]


def _verdict(table: SpecificationTable, model: str, label: str) -> SpecificationVerdict:
    facts = table.manifest["curves"][model]
    joint, count = facts["joint"], facts["n_specifications"]
    share = facts["n_standing"] / count
    if not joint["p_mean"] < LEVEL:
        judged = "chance"
    else:
        judged = "stands" if share >= _ALL else "most" if share >= _MOST else "hangs"
    rows = table.rows[table.rows["model"] == model]
    said = (
        f"{label}: the finding stands in {facts['n_standing']} of {counted(count, 'specification')} (each "
        f"p < {LEVEL:g} against its own null); all of them together have {probability(joint['p_mean'])} "
        f"({counted(facts['n_draws'], 'draw')}). "
    )
    said += _decides(facts) + _raised(rows, table) + (_CONTROLS if judged != "chance" else "")
    return SpecificationVerdict(model, judged, said)


def _decides(facts: dict) -> str:
    """ "What decides is the folds (61 % of the spread) and ..." """
    if not facts["spread_of_z"] > 0:
        return "No choice changes anything."
    order = sorted(facts["parts"].items(), key=lambda item: -item[1]["shapley"])
    told = [item for item in order if item[1]["shapley"] >= _DECIDES][:3] or order[:1]
    shares = listed(f"{LABELS[name]} ({percent(part['shapley'])})" for name, part in told)
    return f"What decides is {shares}, of the spread of z between specifications."


def raised(rows: pd.DataFrame, choice: str, levels: list[str]) -> dict[str, float]:
    """Level -> mean null of precision@k over chance, in units of chance; of rank accuracy where that alone
    is scored."""
    own = rows[rows["k"] > 0] if (rows["k"] > 0).any() else rows
    excess = (own["null_mean"] - own["chance"]) / own["chance"]
    by_level = excess.groupby(own[f"{CHOICE}{choice}"]).mean()
    return {level: float(by_level[level]) for level in levels}


def _raised(rows: pd.DataFrame, table: SpecificationTable) -> str:
    """The choices under which draws themselves score well above chance."""
    said = []
    for choice, levels in table.varied.items():
        if choice == "metric":
            continue
        nulls = raised(rows, choice, levels)
        top = max(nulls, key=lambda level: nulls[level])
        gap = nulls[top] - min(nulls.values())
        if min(gap, nulls[top]) > _RAISED:
            least, most = (f"{1 + excess:.2f}" for excess in (min(nulls.values()), nulls[top]))
            said.append((gap, f"{choice}={top} ({least} to {most} times chance)"))
    if not said:
        return " No choice lifts what draws score above chance by more than a tenth of it."
    named = listed(words for _, words in sorted(said, reverse=True)[:3])
    return f" Draws themselves score more under {named}."
