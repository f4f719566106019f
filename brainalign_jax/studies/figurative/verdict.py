"""What a study of figurative sentences shows, in plain words: what is nearer, and do words alone say it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from brainalign_jax.studies.figurative.pairs import FIGURATIVE, REFERENCE
from brainalign_jax.studies.figurative.scores import CHANCE
from brainalign_jax.studies.figurative.table import (
    ALL,
    BALANCED,
    DIFFERENCE,
    LENGTH,
    OVERLAP,
    SHARE,
    FigurativeTable,
)
from brainalign_jax.studies.figurative.vectors import MODEL, TWIN, WORD_VECTORS
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    probability,
    short_names,
    signed,
)
from brainalign_jax.study.results import SELECTED

MEAN = "mean"  # the centring by which it is judged
RIVALS = {
    TWIN: "the untrained twin",
    WORD_VECTORS: "word vectors",
    OVERLAP: "words in common",
    LENGTH: "likeness in length",
}
# Answer -> level of `page.COLOURS`.
LEVELS = {
    "beyond": "real",
    "in part": "explained",
    "words": "explained",
    "chance": "chance",
    "misled": "chance",
    "untested": "untested",
    "unclear": "uncertain",
}
ANSWERS = {
    "beyond": "Yes: what follows is nearer, beyond what words in common and an untrained twin say",
    "in part": "In part: what follows is nearer over all, but not wherever it was asked",
    "words": "No more than words in common, or an untrained twin, say",
    "chance": "Not shown: what follows is not nearer than chance",
    "misled": "No: what does not follow is nearer",
    "untested": "Not tested: fewer than 20 draws, or no untrained twin to compare with",
    "unclear": "The models differ",
}


class FigurativeVerdict(NamedTuple):
    """model; answer: of ANSWERS; text: the sentences."""

    model: str
    answer: str
    text: str


def verdicts(table: FigurativeTable) -> list[FigurativeVerdict]:
    """One verdict a model, by vectors about their mean, at the layer chosen in other sentences.

    "beyond": the share is above one half by its p-value and interval, and above those of the untrained twin
    and of words in common by the intervals of the paired differences; pairs that are balanced on words in
    common are above one half, too, and no condition is below it. "in part": but for the last two. "words":
    above one half, but not above both rivals.
    """
    rows = table.rows
    models = list(dict.fromkeys(rows.loc[rows["role"] == MODEL, "model"]))
    labels = short_names(models)
    return [_verdict(table, model, labels[model]) for model in models]


def headline(table: FigurativeTable) -> str:
    """The answer of all models in a sentence, with the share of each and that of words in common."""
    judged = verdicts(table)
    shares = []
    labels = short_names([verdict.model for verdict in judged])
    for verdict in judged:
        line = share_of(table, verdict.model)
        sentences = counted(int(line["n_items"]), "sentence")
        shares.append(f"{number(line['value'])} of {sentences} ({labels[verdict.model]})")
    words = number(share_of(table, OVERLAP)["value"])
    if not shares:
        return f"{ANSWERS['untested']}. No model was asked; words in common alone give {words}."
    return (
        f"{ANSWERS[_common(judged)]}. What follows is nearer in {listed(shares)}; words in common alone give "
        f"{words}."
    )


def answer(table: FigurativeTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer) of all models."""
    common = _common(verdicts(table))
    return LEVELS[common], ANSWERS[common]


def share_of(
    table: FigurativeTable, model: str, *, layer: int = SELECTED, **chosen: str
) -> pd.Series | None:
    """A share; None where there is none. Of overlap and length there is one, whatever the centring.

    chosen: as of `shares`.
    """
    lines = shares(table, model, **chosen)
    lines = lines[lines["layer"] == layer]
    return lines.iloc[0] if len(lines) else None


def shares(
    table: FigurativeTable,
    model: str,
    *,
    kind: str = FIGURATIVE,
    condition: str = ALL,
    pairs: str = ALL,
    centring: str = MEAN,
) -> pd.DataFrame:
    """The shares of all layers, the chosen one's first."""
    rows = rows_with(
        table.rows, model=model, metric=SHARE, kind=kind, condition=condition, pairs=pairs
    )
    return rows[(rows["centring"] == centring) | (rows["role"] == "text")]


def differences(table: FigurativeTable, model: str, *, kind: str = FIGURATIVE) -> pd.DataFrame:
    """The differences of a model from its rivals at the chosen layer, a row a rival, over all sentences."""
    rows = rows_with(table.rows, model=model, metric=DIFFERENCE, kind=kind, layer=SELECTED)
    return rows_with(rows, condition=ALL, pairs=ALL, centring=MEAN).set_index("against")


def rival_name(against: str) -> str:
    """What a difference is from, in words."""
    if against in RIVALS:
        return RIVALS[against]
    return f"{RIVALS[WORD_VECTORS]} ({short_names([against])[against]})"


def parts(table: FigurativeTable, *, kind: str = FIGURATIVE) -> list[str]:
    """The conditions of a kind, "all" first."""
    rows = table.rows
    return list(dict.fromkeys(rows.loc[rows["kind"] == kind, "condition"]))


def _common(judged: Sequence[FigurativeVerdict]) -> str:
    answers = {verdict.answer for verdict in judged}
    if not answers:
        return "untested"
    return answers.pop() if len(answers) == 1 else "unclear"


def _verdict(table: FigurativeTable, model: str, label: str) -> FigurativeVerdict:
    line, against = share_of(table, model), differences(table, model)
    balanced = share_of(table, model, pairs=BALANCED)
    below = [
        condition
        for condition in parts(table)
        if share_of(table, model, condition=condition)["upper"] < CHANCE
    ]
    above = line["lower"] > CHANCE and line["p"] < LEVEL
    if line["upper"] < CHANCE:
        conclusion = "misled"
    elif TWIN not in against.index or not 1 / (1 + table.manifest["plan"]["n_flips"]) < LEVEL:
        conclusion = "untested"
    elif not above:
        conclusion = "chance"
    elif (against.loc[[TWIN, OVERLAP], "lower"] <= 0).any():
        conclusion = "words"
    elif below or (balanced is not None and balanced["lower"] <= CHANCE):
        conclusion = "in part"
    else:
        conclusion = "beyond"
    said = [
        f"{label}: what follows is nearer in {_worded(line)} of {counted(int(line['n_items']), 'sentence')}, "
        f"{probability(line['p'])}, at layers chosen in other sentences ({_layers(line['chosen'])})."
    ]
    for rival, difference in against.iterrows():
        said.append(
            f"Less {rival_name(rival)}: {signed(difference['value'])} "
            f"{interval(difference['lower'], difference['upper'])}."
        )
    if balanced is not None:
        said.append(
            f"Where words in common do not decide (balanced pairs of "
            f"{counted(int(balanced['n_items']), 'sentence')}): {_worded(balanced)}."
        )
    for condition in below:
        part = share_of(table, model, condition=condition)
        words = share_of(table, OVERLAP, condition=condition)
        said.append(
            f"In {condition} what does not follow is nearer: {_worded(part)}, by words in common "
            f"{number(words['value'])}."
        )
    literal = share_of(table, model, kind=REFERENCE)
    if literal is not None:
        words = share_of(table, OVERLAP, kind=REFERENCE)
        said.append(
            f"Of literal sentences, as reference ({int(literal['n_items'])}): {_worded(literal)}, by words "
            f"in common {number(words['value'])}."
        )
    return FigurativeVerdict(model, conclusion, " ".join(said))


def _worded(line: pd.Series) -> str:
    """A share with its interval."""
    return f"{number(line['value'])} {interval(line['lower'], line['upper'])}"


def _layers(chosen: str) -> str:
    layers = sorted({int(layer) for layer in chosen.split(",")})
    return listed(map(str, layers))
