"""What an ablation study shows, in plain words: on which parts of the model the alignment rests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainalign_jax.language.parts.components import RANDOM, Component
from brainalign_jax.studies.ablation import shapley, twins
from brainalign_jax.studies.ablation.table import INTACT, TWINS, AblationTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.report.judged import Judged, labelled_pairs
from brainalign_jax.study.report.wording import (
    capitalised,
    counted,
    first_few,
    interval,
    listed,
    number,
    p_value,
    signed,
)
from brainalign_jax.study.results import SELECTED

_PART = ["component", "block", "head"]
CHANCE = 0.5
_SHOWN = 5  # parts that a sentence names
LEVELS = {"rests": "real", "anything": "explained", "spread": "uncertain", "nothing": "chance"}
ANSWERS = {
    "rests": "On parts that can be named",
    "anything": "On no part more than on any other: random shares of the same norm cost as much",
    "spread": "On no single part: none of them is missed beyond doubt",
    "nothing": "There is nothing to lose: the intact model is not decoded above chance",
}
_NOUNS = {
    "heads": "head", "attention": "attention sub-layer", "ffn": "feed-forward sub-layer", "layers": "block",
    "norms": "norm pair",
}  # fmt: skip


def verdicts(table: AblationTable) -> list[Judged]:
    """One verdict a model and method, by rank accuracy in the layer that the intact model chooses, refitted.

    A part carries it where its p by the largest fall of all parts is below .05 and its interval below zero,
    whatever stands in its place.
    The control is the random share of the same norm, where there is one: if it costs as much, any direction
    would.
    """
    return [_verdict(table, *pair) for pair in labelled_pairs(table.rows)]


def texts(table: AblationTable) -> list[str]:
    """The verdicts, then what players are worth, a text for each model and method."""
    orders = table.manifest.get("shapley_orders", {})
    n_twins = table.manifest["plan"].get("twins", 0)
    return [
        *(judged.text for judged in verdicts(table)),
        *shapley.sentences(table.shapley, orders),
        *twins.sentences(table.rows, n_twins),
    ]


def headline(table: AblationTable) -> str:
    """The answer of all models and methods in a sentence."""
    judged = verdicts(table)
    if len(judged) == 1:
        first = judged[0].text.partition(": ")[2].partition(" Intact, ")[0]
        return capitalised(first)
    answers = dict.fromkeys(verdict.answer for verdict in judged)
    if len(answers) == 1:
        return f"{ANSWERS[judged[0].answer]}."
    who = {
        answer: listed(f"{v.method}, {v.model}" for v in judged if v.answer == answer)
        for answer in answers
    }
    return " ".join(f"{ANSWERS[answer]} ({names})." for answer, names in who.items())


def answer(table: AblationTable) -> tuple[str, str]:
    """(level of the page's colours, the answer) of all models and methods."""
    answers = [verdict.answer for verdict in verdicts(table)]
    common = min(answers, key=list(ANSWERS).index)
    return LEVELS[common], ANSWERS[common]


def judged_lines(
    table: AblationTable, model: str, method: str, *, layer: int | None = SELECTED
) -> pd.DataFrame:
    """The group's rows of rank accuracy in the first read-out that the method has.

    layer None: those behind each part's block.
    """
    rows = table.group(model=model, method=method, metric="rank_accuracy")
    rows = rows[~rows["component"].isin([INTACT, TWINS])]
    known = set(rows["readout"])
    readout = next((each for each in table.manifest["plan"]["readout"] if each in known), "refit")
    rows = rows[rows["readout"] == readout]
    return rows[rows["layer"] != SELECTED] if layer is None else rows[rows["layer"] == layer]


def carrying(lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of the parts that are missed whatever stands in their place, of those missed in one way only).

    The largest fall comes first. What falls in one way alone may fall because the model is led astray by what
    stands there.
    """
    lines = lines[lines["how"] != RANDOM]
    missed = lines[(lines["p_max"] < LEVEL) & (lines["upper"] < 0)].sort_values("change")
    ways = lines.groupby(_PART).size()
    every = missed.groupby(_PART).size().reindex(ways.index, fill_value=0) == ways
    always = np.array([every[tuple(line)] for line in missed[_PART].itertuples(index=False)], bool)
    return missed[always], missed[~always]


def named(line) -> str:
    """The part of a row, as "head 2.7"."""
    return str(Component(line["component"], int(line["block"]), int(line["head"])))


def _verdict(table: AblationTable, model: str, method: str, label: str) -> Judged:
    intact = table.group(model=model, method=method, metric="rank_accuracy", layer=SELECTED)
    intact = intact[intact["component"] == INTACT].iloc[0]
    where = table.manifest["chosen_layers"][model][method]
    every = judged_lines(table, model, method)
    lines = every[every["how"] != RANDOM]
    missed, in_one_way = carrying(lines)
    control = every[every["how"] == RANDOM].set_index(_PART)["change"]
    beyond = [
        line["change"] < control.get((line["component"], line["block"], line["head"]), 0.0)
        for _, line in missed.iterrows()
    ]
    if not intact["lower"] > CHANCE:
        conclusion = "nothing"
    elif missed.empty:
        conclusion = "spread"
    else:
        conclusion = "rests" if any(beyond) else "anything"
    features = table.held_constant
    held = f", with {listed(features)} of the words held constant" * bool(features)
    said = [
        f"{method}, {label}: {_sentence(conclusion, where, lines, missed[np.array(beyond, bool)])}",
        f"Intact, rank accuracy is {number(intact['value'])} {interval(intact['lower'], intact['upper'])} "
        f"(chance {CHANCE}){held}.",
    ]
    for _, line in missed.head(_SHOWN).iterrows():
        place = (line["component"], line["block"], line["head"])
        beside = f", a random share of the same norm {signed(control.get(place))}" * (
            place in control
        )
        said.append(
            f"Without {named(line)} ({line['how']}): {signed(line['change'])} "
            f"{interval(line['lower'], line['upper'])}, p by the largest of all "
            f"{p_value(line['p_max'])}{beside}."
        )
    ways = [f"{named(line)} ({line['how']})" for _, line in in_one_way.iterrows()]
    if ways:
        said.append(
            "Missed in one way only, which may be the model led astray by what stands there: "
            f"{first_few(ways)}."
        )
    frozen = _frozen(table, model, method)
    return Judged(model, method, conclusion, " ".join([*said, *frozen]))


def _sentence(conclusion: str, where: int, lines: pd.DataFrame, missed: pd.DataFrame) -> str:
    """As "the alignment of layer 4 rests on attention 3; no single head carries it."."""
    if conclusion == "nothing":
        return "the intact model is not decoded above chance, so that nothing can be lost."
    subject = f"the alignment of layer {where}"
    lines = lines.drop_duplicates(_PART)
    parts = _names(missed[missed["component"] != "heads"])
    heads = _names(missed[missed["component"] == "heads"])
    tested = int((lines["component"] == "heads").sum())
    no_head = f"no single head of {tested} carries it" if tested else ""
    if conclusion == "anything":
        return f"{subject} falls without some parts, but no more than without random shares of the same norm."
    if conclusion == "spread":
        kinds = [
            counted(int((lines["component"] == kind).sum()), noun)
            for kind, noun in _NOUNS.items()
            if (lines["component"] == kind).any()
        ]
        kinds += ["the positions"] * bool((lines["component"] == "positions").any())
        return f"{subject} rests on no single part of those switched off ({listed(kinds)})."
    shown = first_few(heads)
    if parts and heads:
        return f"{subject} rests on {listed(parts)}, and among heads on {shown}."
    if parts:
        return f"{subject} rests on {listed(parts)}" + f"; {no_head}" * bool(no_head) + "."
    return f"{subject} rests on {shown}."


def _frozen(table: AblationTable, model: str, method: str) -> list[str]:
    """What the map of the intact model makes of the ablated vectors, where both were read."""
    rows = table.group(
        model=model,
        method=method,
        metric="rank_accuracy",
        layer=SELECTED,
        readout="frozen",
    )
    refit = judged_lines(table, model, method)
    if rows.empty or table.manifest["plan"]["readout"][0] == "frozen":
        return []
    gone = set(_names(carrying(refit)[0]))
    moved = [name for name in _names(carrying(rows)[0]) if name not in gone]
    if not moved:
        return ["Through the map of the intact model nothing else is missed in every way."]
    return [
        f"Through the map of the intact model there are also missed: {first_few(moved)}. There the code "
        "moves more than the information is lost."
    ]


def _names(lines: pd.DataFrame) -> list[str]:
    """The parts of the rows, each once."""
    return list(dict.fromkeys(named(line) for _, line in lines.iterrows()))
