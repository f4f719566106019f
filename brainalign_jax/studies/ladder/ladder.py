"""From the paper's protocol to the audited one, a choice at a time: which choice makes the score?

Every step keeps the choices of the steps before it. Beside each step's score stand the scores of null
draws that went through the same step: where score and null fall together, the choice had made a score
that a recording without the words gets as well.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.files import output_folder, write_parquet
from brainalign_jax.names import check_known
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.ladder import report
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.draws import default_kind
from brainalign_jax.study.evidence.table import METRIC, EvidencePlan
from brainalign_jax.study.outputs import CONTENTS, new_outputs
from brainalign_jax.study.protocol import STEPS, Protocol, protocol
from brainalign_jax.study.registry import DEFAULT, check_decoders
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring

START = "paper"


class Step(NamedTuple):
    """name: START or of STEPS; changed: field -> new value; protocol: of this step."""

    name: str
    changed: dict[str, object]
    protocol: Protocol


class Ladder(NamedTuple):
    """rows: one a step, model and method; sentences: what they say, the first one first; slopes: on model
    size, at each step, with the columns of `evidence.scaling`; no rows where there are no two sizes."""

    rows: pd.DataFrame
    sentences: list[str]
    slopes: pd.DataFrame


def ladder_steps(
    *,
    timed: bool,
    grouped: bool,
    dataset: str = "",
    names: Sequence[str] | None = None,
    **fixed,
) -> list[Step]:
    """The steps of a data set, from the paper's protocol on; those that change nothing are left out.

    names: of STEPS, to walk only these (in the order of STEPS); None for all, which ends at the audited
    protocol. fixed: field=value, of every step alike. timed, grouped, dataset: as in `protocol`.

    Raises: ValueError for an unknown step, or where no step is left.
    """
    for name in names or ():
        check_known("step", name, STEPS)
    how = dict(timed=timed, grouped=grouped, dataset=dataset, **fixed)
    now, end = protocol("paper", **how), protocol("audited", **how)
    steps = [Step(START, {}, now)]
    for name, fields in STEPS.items():
        if names is not None and name not in names:
            continue
        changed = {f: getattr(end, f) for f in fields if getattr(end, f) != getattr(now, f)}
        if changed:
            now = dataclasses.replace(now, name=f"{START} to {name}", **changed)
            steps.append(Step(name, changed, now))
    if len(steps) < 2:
        raise ValueError(
            f"no step is left between the protocols: choose other steps than {', '.join(names or ())}, or "
            "fix fewer fields"
        )
    return steps


def run_ladder(
    dataset: Dataset,
    models: Sequence[str],
    output_dir: str | Path,
    *,
    methods: Sequence[str] = DEFAULT,
    steps: Sequence[str] | None = None,
    fixed: Mapping[str, object] | None = None,
    k: int = 10,
    layers: tuple[int, ...] | None = None,
    lower: bool = False,
    n_nulls: int = 20,
    null: str | None = None,
    n_bootstraps: int = 2000,
    seed: int = 0,
    embedding: Embedding | None = None,
    computation: Computation = Computation(),
    max_memory: int | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> Ladder:
    """Score the models at every step and write ladder.parquet, scaling.parquet, ladder.png and report.html.

    steps, fixed: names and fixed fields of `ladder_steps`. n_nulls, null: draws of each step, and how they
    are made; None for the kind that fits the words. Each step is a study of its own in
    OUT/steps/NUMBER_NAME; embeddings and finished cells are kept in OUT/cache, and a second call computes
    only what is missing. The rest as in `run_study`.

    score: of the layer that the step chooses, mean over subjects, with a bootstrap interval. null_mean,
    null_lower, null_upper: mean and middle 90 % of the draws, in which the layer is the best of each draw
    where the step picks it on the tested words, else the one most often chosen for the real data. p: as in
    `evidence.table.summarise`.

    Raises: ValueError as `ladder_steps` and `run_study`, before anything is scored.
    """
    check_decoders(methods, "the ladder")
    stimulus, output = dataset.stimulus, output_folder(output_dir, "output_dir")
    timed, grouped = stimulus.onsets is not None, stimulus.run is not None
    how = dict(timed=timed, grouped=grouped, dataset=dataset.name, **(fixed or {}))
    walked = ladder_steps(names=steps, **how)
    plan = EvidencePlan(
        n_nulls=n_nulls,
        null=null or default_kind(stimulus),
        n_permutations=0,
        untrained_seeds=0,
        controls=(),
        ceilings=False,
        n_bootstraps=n_bootstraps,
        seed=seed,
    )
    tables, slopes = [], []
    for number, step in enumerate(walked):
        if progress:
            print(f"step {number} of {len(walked) - 1}, {describe(step)}", flush=True)
        study = run_study(
            dataset,
            models,
            Scoring(tuple(methods), step.protocol, (k,), layers, lower, seed),
            output / "steps" / f"{number:02d}_{step.name}",
            embedding=embedding or Embedding(),
            computation=computation,
            max_memory=max_memory,
            report_k=k,
            evidence=plan,
            cache_dir=output / "cache",
            command=command,
            simulated=simulated,
            notes=(f"Step {number} of a walk from the paper's protocol: {describe(step)}.",),
            progress=progress,
        )
        tables.append(step_rows(study, step, number))
        slopes.append(study.extras["scaling"].assign(step=number, name=step.name))
    rows, of_size = (pd.concat(parts, ignore_index=True) for parts in (tables, slopes))
    with new_outputs(output, CONTENTS) as new:
        write_parquet(rows, new / "ladder.parquet")
        write_parquet(of_size, new / "scaling.parquet")
        sentences = report.write(
            rows, new, dataset=dataset, slopes=of_size, command=command, simulated=simulated
        )
    return Ladder(rows, sentences, of_size)


def describe(step: Step) -> str:
    """ "folds: folds=contiguous, n_folds=5"; the start is "the paper's protocol"."""
    if not step.changed:
        return "the paper's protocol"
    return f"{step.name}: " + ", ".join(f"{f}={_text(v)}" for f, v in step.changed.items())


def step_rows(study: ResultTable, step: Step, number: int) -> pd.DataFrame:
    """What `run_ladder` keeps of a step's study: one row a model and method."""
    evidence = study.extras["evidence"]
    columns = [
        "dataset", "model", "family", "n_params", "method", "layer", "selection", "k", "n_subjects",
        "n_items", "score", "lower", "upper", "chance", "null", "n_draws", "p",
    ]  # fmt: skip
    rows = evidence.loc[evidence["role"] == "model", columns].copy()
    spread = [_null(study.extras["nulls"], line) for _, line in rows.iterrows()]
    rows[["null_mean", "null_lower", "null_upper"]] = spread
    fields = study.manifest["protocol"]
    rows = rows.assign(
        step=number,
        name=step.name,
        changed=", ".join(f"{f}={_text(v)}" for f, v in step.changed.items()),
        protocol=fields["name"],
        **{
            f: _text(v) if isinstance(v, (tuple, list)) else v
            for f, v in fields.items()
            if f != "name"
        },
    )
    first = ["step", "name", "changed"]
    return rows[[*first, *(c for c in rows.columns if c not in first)]]


def _null(nulls: pd.DataFrame, line: pd.Series) -> list[float]:
    """Mean and middle 90 % of the draws' group scores at the layer that the step chooses."""
    draws = nulls[(nulls["model"] == line["model"]) & (nulls["method"] == line["method"])]
    draws = draws[draws["metric"] == METRIC]
    if draws.empty:
        return [np.nan] * 3
    of_layers = draws.groupby(["draw", "layer"])["value"].mean().unstack()
    nested = line["selection"] == "inner folds"
    drawn = of_layers[line["layer"]] if nested else of_layers.max(axis=1)
    return [drawn.mean(), drawn.quantile(0.05), drawn.quantile(0.95)]


def _text(value) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(f"{number:g}" for number in value)
    return json.dumps(value) if isinstance(value, bool) else f"{value}"
