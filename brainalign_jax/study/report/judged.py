"""What a study says of each model and method: an answer and sentences."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from brainalign_jax.study.report.wording import short_names


class Judged(NamedTuple):
    """model, method; answer: of the study's ANSWERS; text: the sentences."""

    model: str
    method: str
    answer: str
    text: str


def labelled_pairs(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(model, method, the model's short name) of each pair that the rows have, in their order."""
    pairs = rows[["model", "method"]].drop_duplicates().itertuples(index=False)
    labels = short_names(list(dict.fromkeys(rows["model"])))
    return [(model, method, labels[model]) for model, method in pairs]


def by_answer(judged: Sequence[Judged]) -> dict[str, list[str]]:
    """Answer -> the methods and models of which it is, as "ridge, gpt2"."""
    labels = short_names(list(dict.fromkeys(verdict.model for verdict in judged)))
    who: dict[str, list[str]] = {}
    for verdict in judged:
        who.setdefault(verdict.answer, []).append(f"{verdict.method}, {labels[verdict.model]}")
    return who
