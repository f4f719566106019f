"""Shares of a study: what this process does, as much at a time as memory holds, and all put together."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import plan, processes


def by_subject(items: Sequence[int], models: Sequence[str]) -> dict[int, list[str]]:
    """subject -> models, of items that count the models of the first subject, then the next's."""
    found: dict[int, list[str]] = {}
    for item in items:
        found.setdefault(item // len(models), []).append(models[item % len(models)])
    return found


def chunks(
    dataset: Dataset, mine: dict[int, list[str]], first: WordResponses, limit: int
) -> Iterator[tuple[list[WordResponses], list[str]]]:
    """Responses of subjects with the same models, as many at a time as stay within `limit` bytes."""
    chunk: list[WordResponses] = []
    models: list[str] = []
    for subject, wanted in mine.items():
        one = first if subject == 0 else dataset.load(dataset.subjects[subject])
        held = sum(map(plan.held_bytes, [*chunk, one]))
        if chunk and (held > limit or wanted != models):
            yield chunk, models
            chunk = []
        chunk, models = [*chunk, one], wanted
    if chunk:
        yield chunk, models


def groups(
    names: Sequence[str], vectors_of: Callable[[str], Embeddings], limit: int
) -> Iterator[list[Embeddings]]:
    """Vectors of the models, as many at a time as stay within `limit` bytes."""
    group: list[Embeddings] = []
    for name in names:
        one = vectors_of(name)
        if group and sum(x.values.nbytes for x in group) + one.values.nbytes > limit:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def gathered(
    tables: list[pd.DataFrame],
    subjects: dict[str, str],
    models: Sequence[str],
    order: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows and subjects' fingerprints of all processes, in the order of models and subjects.

    Raises: ValueError where processes that shared a subject had other recordings of it.
    """
    mine = pd.concat(tables, ignore_index=True) if tables else None
    rows = processes.gather(mine)
    found = processes.gather(pd.DataFrame(list(subjects.items()), columns=["subject", "mark"]))
    marks: dict[str, str] = {}
    for subject, mark in zip(found["subject"], found["mark"], strict=True):
        if marks.setdefault(subject, mark) != mark:
            raise ValueError(
                f"two processes of this study have other recordings of {subject}: give all the same data"
            )
    place = [
        rows["model"].map({name: i for i, name in enumerate(models)}),
        rows["subject"].map({name: i for i, name in enumerate(order)}),
    ]
    rows = rows.iloc[np.lexsort(place[::-1])].reset_index(drop=True)
    return rows, {subject: marks[subject] for subject in order}


def everything(tables: list[pd.DataFrame], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of all processes."""
    mine = pd.concat(tables, ignore_index=True) if tables else None
    found = processes.gather(mine)
    return pd.DataFrame(columns=list(columns)) if found is None else found
