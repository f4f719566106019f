"""Scores and tasks of the same model at the same step, put together."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from brainalign_jax.studies.performance.model_names import FINAL, family_of, size_of, unmatched
from brainalign_jax.study.report.wording import counted, listed

FEWEST = 4  # models of which a relation is asked
_SHOWN = 5  # models that a note names
_FACTS = ("family", "n_params", "width")


def matched(
    scores: pd.DataFrame, tasks: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, tasks) of the models that both have, their steps made alike and what is known of them shared.

    A model without a step is its last: it is put with the same on the other side, or where the other side has
    steps only, with the last of these. family, n_params and width are those of the scores, else of the tasks;
    else family and n_params are what the name tells. notes: gets what was left out or taken from names.

    Raises: ValueError with the nearest names where fewer than four models are on both sides.
    """
    score_names, task_names = set(scores["model"]), set(tasks["model"])
    both = score_names & task_names
    lonely = score_names - both
    if len(both) < FEWEST:
        said = unmatched(lonely, task_names, side="scores", other_side="tasks") if lonely else ""
        names = f" ({listed(sorted(both))})" * bool(both)
        raise ValueError(
            f"{len(both)} models are on both sides{names}, of {len(score_names)} with scores and "
            f"{len(task_names)} with tasks: a relation needs {FEWEST} or more"
            + f"; {said}"
            * bool(said)
        )
    if lonely:
        said = unmatched(lonely, task_names, side="scores", other_side="tasks")
        notes.append(f"{said[:1].upper()}{said[1:]}.")
    scores, tasks = (side[side["model"].isin(both)].copy() for side in (scores, tasks))
    _share_last_steps(scores, tasks, notes)
    pairs = scores[["model", "step"]].drop_duplicates()
    pairs = pairs.merge(tasks[["model", "step"]].drop_duplicates())
    apart = sorted(both - set(pairs["model"]))
    if apart:
        notes.append(f"Scores and tasks have no step in common of {_few(apart)}.")
    if pairs["model"].nunique() < FEWEST:
        raise ValueError(
            f"{pairs['model'].nunique()} models have scores and tasks at the same step: a relation needs "
            f"{FEWEST} or more; no step in common: {_few(apart)}"
        )
    scores, tasks = (side.merge(pairs) for side in (scores, tasks))
    about = _facts(scores, tasks, notes)
    for name in _FACTS:
        scores[name] = scores["model"].map(about[name])
        tasks[name] = tasks["model"].map(about[name])
    return scores, tasks


def last_steps(rows: pd.DataFrame) -> dict[str, float]:
    """model -> the last step that the rows have of it."""
    return rows.groupby("model", sort=False)["step"].max().to_dict()


def _share_last_steps(scores: pd.DataFrame, tasks: pd.DataFrame, notes: list[str]) -> None:
    """Where one side has a model without a step and the other with steps only, it is the last of these."""
    taken = []
    for own, other in ((scores, tasks), (tasks, scores)):
        steps = {model: set(part) for model, part in other.groupby("model")["step"]}
        for model, part in own.groupby("model")["step"]:
            last = max(steps[model])
            if FINAL in set(part) and last != FINAL and last not in set(part):
                own.loc[(own["model"] == model) & (own["step"] == FINAL), "step"] = last
                taken.append(f"{model} (step {last:.0f})")
    if taken:
        notes.append(f"Without a step a model is taken for its last one: {_few(taken)}.")


def _facts(
    scores: pd.DataFrame, tasks: pd.DataFrame, notes: list[str]
) -> dict[str, dict[str, object]]:
    """family, n_params and width -> what each model has."""
    about: dict[str, dict[str, object]] = {name: {} for name in _FACTS}
    guessed: dict[str, list[str]] = {"family": [], "n_params": []}
    for model in scores["model"].unique():
        for name in _FACTS:
            given = [side.loc[side["model"] == model, name] for side in (scores, tasks)]
            known = [value for column in given for value in column if _is_known(value)]
            if known:
                about[name][model] = known[0]
                continue
            told = {"family": family_of, "n_params": size_of}.get(name, lambda _: math.nan)(model)
            about[name][model] = told
            if name in guessed and _is_known(told):
                guessed[name].append(model)
    for name, models in guessed.items():
        if models:
            what = {"family": "The family", "n_params": "The number of parameters"}[name]
            notes.append(f"{what} is what the name tells of {_few(models)}.")
    sizeless = [model for model, size in about["n_params"].items() if not _is_known(size)]
    if sizeless:
        notes.append(
            f"The number of parameters is not known of {_few(sizeless)}: give n_params, or nothing can be "
            "said beyond size where they take part."
        )
    return about


def _is_known(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    return value is not None and np.isfinite(value) and value > 0


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return listed(names[:_SHOWN]) + f" and {counted(more, 'model')} more" * (more > 0)
