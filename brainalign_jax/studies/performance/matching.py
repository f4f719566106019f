"""Names of models made alike, and scores and tasks of the same model at the same step put together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.names import has_near, nearest
from brainalign_jax.study.report.wording import (
    capitalised,
    counted,
    first_few,
    listed,
    split_prefix,
)

FEWEST = 4  # models of which a relation is asked
_FACTS = ("family", "n_params", "width")
FINAL = math.inf  # the step of a name without one: the model as it was released
# Last parts of a path that say nothing of the model; a commit names a hub snapshot.
_GENERIC = re.compile(r"models?|checkpoints?|snapshots?|main|[0-9a-f]{40}")
_STEP = re.compile(r"(?:step[-_]?)?(\d+)")
_STEP_FOLDER = re.compile(r"(?:step|checkpoint)[-_]?(\d+)")
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([kmbt])(?![a-z0-9])")
_CONTEXTS = {2.0**power for power in range(11)}  # thousands of words that a model reads, as of "8k"
_FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


class ModelName(NamedTuple):
    """model: the name that is matched; step: of training, `FINAL` where the name has none."""

    model: str
    step: float


def model_name(text: str) -> ModelName:
    """The name of a model as both sides know it.

    Capitals count for nothing. Of a path or hub id the last part is taken, or the part before where that is
    "model", "checkpoint", "snapshots" or a commit; a hub cache's `models--org--name` is its name. What
    follows "@" is the step, as `step1000` or `1000`; `@main` is dropped, and any other revision stays part of
    the name. A last part `step1000` or `checkpoint-1000` is the step of the part before.

    >>> model_name("EleutherAI/Pythia-70m@step1000")
    ModelName(model='pythia-70m', step=1000.0)
    >>> model_name("runs/gpt2/checkpoint-500"), model_name("gpt2").step
    (ModelName(model='gpt2', step=500.0), inf)
    """
    prefix, path = split_prefix(text.strip())
    path, at, revision = path.replace("\\", "/").rstrip("/").casefold().rpartition("@")
    if not at or "/" in revision:
        path, revision = path + at + revision, ""
    step = FINAL
    if numbered := _STEP.fullmatch(revision):
        step, revision = float(numbered[1]), ""
    parts = [part for part in path.split("/") if part]
    while len(parts) > 1:
        numbered = _STEP_FOLDER.fullmatch(parts[-1]) if step == FINAL else None
        if not numbered and not _GENERIC.fullmatch(parts[-1]):
            break
        step = float(numbered[1]) if numbered else step
        parts.pop()
    name = parts[-1] if parts else path
    if name.startswith("models--"):
        name = name.rpartition("--")[2]
    kept = f"@{revision}" if revision and revision != "main" else ""
    return ModelName(prefix + name + kept, step)


def size_of(model: str) -> float:
    """The number of parameters that a name tells, NaN where it tells none.

    Powers of two with a k, as in "8k", are lengths of the context and no sizes.

    >>> size_of("pythia-1.4b-deduped"), size_of("gpt2"), size_of("phi-3-mini-4k")
    (1400000000.0, nan, nan)
    """
    size_match = _found_size(model)
    return float(size_match[1]) * _FACTORS[size_match[2]] if size_match else math.nan


def family_of(model: str) -> str:
    """The family that a name tells: what stands before its size, or the whole name.

    >>> family_of("pythia-1.4b-deduped"), family_of("gpt2")
    ('pythia', 'gpt2')
    """
    size_match = _found_size(model)
    return model[: size_match.start()].rstrip("-_. ") or model if size_match else model


def _found_size(model: str) -> re.Match[str] | None:
    sizes = _SIZE.finditer(model)
    return next((each for each in sizes if each[2] != "k" or float(each[1]) not in _CONTEXTS), None)


def unmatched(names: Iterable[str], others: Iterable[str], *, side: str, other_side: str) -> str:
    """What is said of names of a side that the other lacks: up to three, those with a near name first."""
    others = sorted(others)
    names = sorted(names, key=lambda name: (not has_near(name, others), name))
    said = "; ".join(f"{name!r} ({nearest(name, others)})" for name in names[:3])
    more = f"; and {len(names) - 3} more" * (len(names) > 3)
    return f"of the {side} these are not among the {other_side}: {said}{more}"


def matched(
    scores: pd.DataFrame, tasks: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, tasks) of the models that both have, their steps made alike and what is known of them shared.

    A model without a step is its last: it is put with the same on the other side, or where the other side has
    steps only, with the last of these. family, n_params and width are those of the scores, else of the tasks;
    else family and n_params are what the name tells. notes: gets what was left out or taken from names.

    Raises: ValueError with the nearest names where fewer than four models are on both sides.
    """
    given = _named(scores, tasks)
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
        notes.append(f"{capitalised(said)}.")
    scores, tasks = (side[side["model"].isin(both)].copy() for side in (scores, tasks))
    scores, tasks = _share_last_steps(scores, tasks, notes)
    pairs = scores[["model", "step"]].drop_duplicates()
    pairs = pairs.merge(tasks[["model", "step"]].drop_duplicates())
    apart = sorted(both - set(pairs["model"]))
    if apart:
        notes.append(f"Scores and tasks have no step in common of {first_few(apart)}.")
    if pairs["model"].nunique() < FEWEST:
        raise ValueError(
            f"{pairs['model'].nunique()} models have scores and tasks at the same step: a relation needs "
            f"{FEWEST} or more; no step in common: {first_few(apart)}"
        )
    scores, tasks = (side.merge(pairs) for side in (scores, tasks))
    for noun, had, kept in zip(("data set", "task"), given, _named(scores, tasks), strict=True):
        lost = [name for name in had if name not in set(kept)]
        if lost:
            notes.append(
                f"No model has scores and tasks at the same step for {counted(len(lost), noun)}: "
                f"{first_few(lost)}."
            )
    about = _facts(scores, tasks, notes)
    for name in _FACTS:
        scores[name] = scores["model"].map(about[name])
        tasks[name] = tasks["model"].map(about[name])
    return scores, tasks


def _share_last_steps(
    scores: pd.DataFrame, tasks: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, tasks): where one side has a model without a step, it is the last of the other side's steps.

    That is so for each data set and each task by itself. The rows without a step stay beside, for what the
    other side has without a step.
    """
    keys = ["model", "dataset"], ["model", "task", "metric"]
    taken: list[str] = []
    sides = []
    for (own, own_key), (other, other_key) in (
        ((scores, keys[0]), (tasks, keys[1])),
        ((tasks, keys[1]), (scores, keys[0])),
    ):
        lasts = other.groupby(other_key, as_index=False)["step"].max()
        lasts = lasts[lasts["step"] != FINAL].groupby("model")["step"].max()
        last = own["model"].map(lasts)
        there = (own["step"] == last).groupby([own[name] for name in own_key]).transform("any")
        chosen = (own["step"] == FINAL) & last.notna() & ~there
        copies = own[chosen].assign(step=last[chosen])
        pairs = copies[["model", "step"]].drop_duplicates()
        taken += [f"{model} (step {step:.0f})" for model, step in pairs.itertuples(index=False)]
        sides.append(pd.concat([own, copies], ignore_index=True))
    if taken:
        named = list(dict.fromkeys(taken))
        notes.append(f"Without a step a model is taken for its last one: {first_few(named)}.")
    return sides[0], sides[1]


def _named(scores: pd.DataFrame, tasks: pd.DataFrame) -> tuple[list[str], list[str]]:
    """(data sets, tasks as "task:metric")."""
    pairs = tasks[["task", "metric"]].drop_duplicates().itertuples(index=False)
    labels = [f"{task}:{metric}" if metric else str(task) for task, metric in pairs]
    return list(map(str, scores["dataset"].unique())), labels


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
            notes.append(f"{what} is what the name tells of {first_few(models)}.")
    sizeless = [model for model, size in about["n_params"].items() if not _is_known(size)]
    if sizeless:
        notes.append(
            f"The number of parameters is not known of {first_few(sizeless)}: give n_params, or nothing "
            "can be said beyond size where they take part."
        )
    return about


def _is_known(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    return value is not None and np.isfinite(value) and value > 0
