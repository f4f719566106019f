"""What a novelty ladder says, in words, and its report: the verdict, the ladder as a figure, all levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.studies.generalisation.levels import PERSON
from brainalign_jax.studies.generalisation.novelty import NoveltyTable
from brainalign_jax.studies.generalisation.report import FACTS
from brainalign_jax.studies.generalisation.verdict import (
    CHANCE,
    can_be_shown,
    share_of_ceiling,
    slope_text,
)
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    p_value,
    probability,
    short_names,
)
from brainalign_jax.study.results import GROUP, SELECTED

_HEADER = (
    "model", "method", "new", "rank accuracy", "interval", "null", "middle 95 % of the null", "ceiling", "p",
)  # fmt: skip
_PLURALS = {PERSON: "people", "story": "stories"}
_UNTESTED = "Whether it holds was not tested."
_LEVELS = {"holds": "real", "in part": "explained", "nothing": "chance", "untested": "untested"}


class LadderVerdict(NamedTuple):
    """model, method; answer: "holds", "in part", "nothing" or "untested"; held: levels at which it holds;
    text: the sentences."""

    model: str
    method: str
    answer: str
    held: tuple[str, ...]
    text: str


def verdicts(table: NoveltyTable) -> list[LadderVerdict]:
    """One verdict a model and method, by rank accuracy at the layer that the training words choose.

    A level holds where p < .05 and the interval over people and words is above chance. Levels are tested from
    the finest: after the first that does not hold no coarser one counts, so that no p needs to be adjusted.
    New people are a question of their own, asked where the finest level holds.
    """
    pairs = table.rows[["model", "method"]].drop_duplicates().itertuples(index=False)
    labels = short_names(list(dict.fromkeys(table.rows["model"])))
    return [_verdict(table, model, method, labels[model]) for model, method in pairs]


def headline(judged: Sequence[LadderVerdict]) -> str:
    """The answer of all models and methods in a sentence."""
    texts = {_answer(verdict): f"{verdict.method}, {verdict.model}" for verdict in judged}
    if len(texts) == 1:
        return next(iter(texts))
    return "The methods or models differ: " + " ".join(
        f"{who}: {text}" for text, who in texts.items()
    )


def scaling(table: NoveltyTable) -> list[str]:
    """Whether the score of each level grows with model size; empty for one size."""
    return [
        slope_text(
            line, f"rank accuracy for new {_PLURALS.get(line['level'], line['level'] + 's')}"
        )
        for line in table.manifest.get("scaling", [])
        if line["scope"] in ("across", "within")
    ]


def ladder_rows(table: NoveltyTable, model: str, method: str, subject: str = GROUP) -> pd.DataFrame:
    """Rank accuracy at the chosen layer, a row a level in the ladder's order."""
    rows = rows_with(table.rows, model=model, method=method, subject=subject, layer=SELECTED)
    rows = rows_with(rows, metric="rank_accuracy")
    return rows.set_index("tested_on", drop=False).loc[table.levels]


def draw_ladder_figure(table: NoveltyTable, shown: LadderVerdict) -> Figure:
    """Score ÷ ceiling at each level: above chance both, with the null's band and a dot a person."""
    group = ladder_rows(table, shown.model, shown.method)
    levels = table.levels
    calibrated = bool(share_of_ceiling(group["value"], group["ceiling"]).notna().all())

    def placed(values: pd.Series) -> np.ndarray:
        if calibrated:
            return share_of_ceiling(values, group["ceiling"]).to_numpy()
        return values.to_numpy() - CHANCE

    figure = Figure(figsize=(1.1 * len(levels) + 2.4, 3.6), layout="constrained")
    axis = figure.subplots()
    x = np.arange(len(levels))
    for place in x:
        low, high = (placed(group[name])[place] for name in ("null_lower", "null_upper"))
        axis.fill_between(
            [place - 0.35, place + 0.35], low, high, color=GREY, alpha=0.25, linewidth=0
        )
    for index, subject in enumerate(table.manifest["subjects"]):
        values = ladder_rows(table, shown.model, shown.method, subject)["value"]
        shift = 0.2 * (index / max(len(table.manifest["subjects"]) - 1, 1) - 0.5)
        axis.plot(x + shift, placed(values), ".", color=OKABE_ITO[0], markersize=5, alpha=0.7)
    low, high = (placed(group[name]) for name in ("lower", "upper"))
    middle = placed(group["value"])
    axis.errorbar(
        x, middle, [np.maximum(middle - low, 0), np.maximum(high - middle, 0)], fmt="o", capsize=3,
        color=OKABE_ITO[1], markersize=6,
    )  # fmt: skip
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xticks(x, [f"new {name}" for name in levels])
    axis.set_xlim(-0.6, len(levels) - 0.4)
    axis.set_ylabel("score ÷ ceiling" if calibrated else "rank accuracy above chance")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def write_report(table: NoveltyTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else, and its figures to figures/."""
    manifest, judged = table.manifest, verdicts(table)
    labels = short_names([verdict.model for verdict in judged])
    cells = manifest["cells"]
    answers = {verdict.answer for verdict in judged}
    common = answers.pop() if len(answers) == 1 else "in part"
    figures = page.Figures(folder)
    for number_of_ladder, verdict in enumerate(judged, 1):
        drawn = draw_ladder_figure(table, verdict)
        caption = (
            f"{verdict.method}, {labels[verdict.model]}: a blue dot a person, in orange the mean with its "
            "interval, in grey the middle 95 % of the draws; zero is chance. As a share of the ceiling one "
            "is the score of the other people's mean."
        )
        name = f"ladder {verdict.method} {labels[verdict.model]}"
        figures.add(f"ladder_{number_of_ladder}", name, drawn, caption)
    return page.write(
        folder,
        "novelty",
        title=f"{manifest['dataset']['name']}: how new may words be?",
        lead=f"{counted(len(manifest['subjects']), 'person')} and {manifest['n_items']} words. "
        f"At every level {cells['n_train']} words are trained on, and a word is looked for among "
        f"{cells['n_candidates']} that were not.".replace("persons", "people"),
        answer={
            "level": _LEVELS[common],
            "answer": headline(judged),
            "text": "A level holds where words are told apart that are new at it, with p < .05 and an "
            "interval above chance; levels are tested in order, from the finest.",
        },
        verdicts=[*(verdict.text for verdict in judged), *scaling(table)],
        how=_how(table),
        levels=page.Table(_HEADER, _lines(table, judged, labels), 3),
        absent=page.Table(
            ("level", "not tested"), [[name, why] for name, why in manifest["absent"].items()]
        ),
        figures=figures,
        facts=page.facts_of(manifest, *FACTS),
    )


def _verdict(table: NoveltyTable, model: str, method: str, label: str) -> LadderVerdict:
    rows = ladder_rows(table, model, method)
    holds = (rows["p"] < LEVEL) & (rows["lower"] > CHANCE)
    words = [name for name in table.levels if name != PERSON]
    held = []
    for name in words:
        if not holds[name]:
            break
        held.append(name)
    if held and PERSON in table.levels and holds[PERSON]:
        held.append(PERSON)
    if not can_be_shown(table.manifest["plan"]["n_nulls"]):
        answer = "untested"
    elif not held:
        answer = "nothing"
    else:
        answer = "holds" if len(held) == len(table.levels) else "in part"
    scores = "; ".join(
        f"new {name} {number(row['value'])} {interval(row['lower'], row['upper'])}, "
        f"{probability(row['p'])}"
        for name, row in rows.iterrows()
    )
    text = f"{method}, {label}: rank accuracy (chance {CHANCE}) for {scores}."
    said = _UNTESTED if answer == "untested" else _plain(held, table.levels)
    return LadderVerdict(model, method, answer, tuple(held), f"{text} {said}")


def _plain(held: Sequence[str], levels: Sequence[str]) -> str:
    names = {name: _PLURALS.get(name, f"{name}s") for name in levels}
    lost = [name for name in levels if name not in held]
    if not held:
        return "It is not shown to hold at any level."
    text = f"It holds for new {listed(names[name] for name in held)}"
    if lost:
        text += f"; not shown for new {listed(names[name] for name in lost)}"
    return f"{text}."


def _answer(judged: LadderVerdict) -> str:
    if judged.answer == "untested":
        return "Not tested: fewer than 20 draws in which vectors change places."
    return judged.text[judged.text.rindex("It ") :]


def _lines(table: NoveltyTable, judged: Sequence[LadderVerdict], labels) -> list[list[str]]:
    return [
        [
            labels[verdict.model],
            verdict.method,
            row["tested_on"],
            number(row["value"]),
            interval(row["lower"], row["upper"]),
            number(row["null_mean"]),
            interval(row["null_lower"], row["null_upper"]),
            number(row["ceiling"]),
            p_value(row["p"]),
        ]
        for verdict in judged
        for _, row in ladder_rows(table, verdict.model, verdict.method).iterrows()
    ]


def _how(table: NoveltyTable) -> str:
    plan = table.manifest["plan"]
    return (
        "Rank accuracy: 1 for the first of the candidates, 0 for the last. The same words with the same "
        f"candidates are tested at every level, in {plan['n_folds']} folds drawn {plan['n_splits']} times. "
        "No group that a tested word is in at a level is trained on; of the others the nearest are, those "
        "that share its groups at the next level. New people: the other people are rotated to a common "
        "template, and the person to it by words that are neither trained on nor tested; the map is fitted "
        "on the template, and tested on the person's responses. Layer and penalty are chosen in the training "
        f"words. Intervals: bootstrap over people and words. p: {plan['n_nulls']} draws in which vectors "
        "change places between words, or between runs as a whole, and everything is fitted and chosen anew. "
        "Ceiling: the other people's responses in place of the model's vectors."
    )
