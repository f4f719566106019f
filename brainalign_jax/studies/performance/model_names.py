"""Names of models made alike, so that scores and tasks of one model are matched, and what names tell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from brainalign_jax.names import nearest
from brainalign_jax.study.report.wording import split_prefix

FINAL = math.inf  # the step of a name without one: the model as it was released
# Last parts of a path that say nothing of the model; a commit names a hub snapshot.
_GENERIC = re.compile(r"models?|checkpoints?|snapshots?|main|[0-9a-f]{40}")
_STEP = re.compile(r"(?:step[-_]?)?(\d+)")
_STEP_FOLDER = re.compile(r"(?:step|checkpoint)[-_]?(\d+)")
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([kmbt])(?![a-z0-9])")
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

    >>> size_of("pythia-1.4b-deduped"), size_of("gpt2")
    (1400000000.0, nan)
    """
    found = _SIZE.search(model)
    return float(found[1]) * _FACTORS[found[2]] if found else math.nan


def family_of(model: str) -> str:
    """The family that a name tells: what stands before its size, or the whole name.

    >>> family_of("pythia-1.4b-deduped"), family_of("gpt2")
    ('pythia', 'gpt2')
    """
    found = _SIZE.search(model)
    return model[: found.start()].rstrip("-_. ") or model if found else model


def unmatched(names: Iterable[str], others: Iterable[str], *, side: str, other_side: str) -> str:
    """What is said of names of a side that the other lacks: up to three, those with a near name first."""
    others = sorted(others)
    names = sorted(names, key=lambda name: (not get_close_matches(name, others, 1), name))
    said = "; ".join(f"{name!r} ({nearest(name, others)})" for name in names[:3])
    more = f"; and {len(names) - 3} more" * (len(names) > 3)
    return f"of the {side} these are not among the {other_side}: {said}{more}"
