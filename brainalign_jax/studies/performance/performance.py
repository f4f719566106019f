"""Does alignment go with what models can do?

Brain scores of finished studies, or of any table, beside tasks of any table or of lm-evaluation-harness:
over models, beyond their size, within and between families; over training, whether alignment leads or
follows; over ablations, whether the same parts cost both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.files import output_folder, user_path
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance import ablations as ablating
from brainalign_jax.studies.performance import report
from brainalign_jax.studies.performance.matching import matched
from brainalign_jax.studies.performance.relation import points_of, relations
from brainalign_jax.studies.performance.scores import read_scores
from brainalign_jax.studies.performance.table import (
    COMPONENTS,
    POINTS,
    PerformanceTable,
)
from brainalign_jax.studies.performance.tasks import (
    less_is_better,
    named_tasks,
    read_tasks,
    two_kinds_of_reading,
)
from brainalign_jax.studies.performance.trajectories import trajectories
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.results import ResultTable

Source = str | Path | pd.DataFrame


def run_performance(
    scores: Source | ResultTable | Sequence[Source | ResultTable],
    tasks: Source | Sequence[Source],
    output_dir: str | Path | None = None,
    *,
    ablation: str | Path | None = None,
    plan: Performance = Performance(),
    command: str = "",
) -> PerformanceTable:
    """Relate brain scores to tasks; write performance.parquet, the tables behind it, figures and a report.

    Args:
      scores: folders of finished studies, or tables (files or in memory) of model, score and, where known,
        subject, dataset, layer, metric, n_params, width, family, step, reliability.
      tasks: tables of model, task, value and, where known, metric, stderr, family, n_params, width, step;
        results_*.json of lm-evaluation-harness, or a folder of them.
      output_dir: None writes nothing. ablation: a folder of `brainalign ablate`. plan: metric, tasks,
        draws. command: recorded in the manifest.

    Raises: FileNotFoundError or ValueError naming the file and row that is wrong; where fewer than four
      models are on both sides, with the nearest names.
    """
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    notes: list[str] = []
    score_sources, task_sources = _sources(scores, "scores"), _sources(tasks, "tasks")
    score_rows = read_scores(score_sources, plan, notes)
    task_rows = named_tasks(read_tasks(task_sources), plan.task_names)
    score_rows, task_rows = matched(score_rows, task_rows, notes)
    points = points_of(score_rows, task_rows)
    rows = relations(score_rows, points, plan, notes)
    if turned := less_is_better(rows):
        notes.append(turned)
    if mixed := two_kinds_of_reading(points[points["last"]]):
        notes.append(mixed)
    lags = trajectories(score_rows, points, plan, notes)
    components, parts = (
        pd.DataFrame(columns=list(COMPONENTS)),
        pd.DataFrame(columns=list(ablating.PARTS)),
    )
    if ablation is not None:
        components, parts = ablating.ablations(ablating.read_ablation(ablation), plan)
    table = PerformanceTable(
        rows,
        {
            **made_by(command),
            "scores": [_told(source) for source in score_sources],
            "tasks": [_told(source) for source in task_sources],
            "ablation": None if ablation is None else str(ablation),
            "plan": asdict(plan),
            "notes": list(dict.fromkeys(notes)),
        },
        {
            "models": points.assign(step=points["step"].where(np.isfinite(points["step"])))[
                list(POINTS)
            ],
            "trajectories": lags,
            "ablations": components,
            "ablated_parts": parts,
        },
    )
    return table.finished(output, report.write_report)


def _sources(given: object, name: str) -> list:
    """The sources as a list, texts as absolute paths. Raises: ValueError where there is none."""
    several = [given] if isinstance(given, str | Path | pd.DataFrame | ResultTable) else list(given)
    if not several:
        raise ValueError(f"{name} is empty: give a folder or a table")
    return [
        user_path(source, name, "a folder or a table") if isinstance(source, str | Path) else source
        for source in several
    ]


def _told(source: object) -> str:
    return str(source) if isinstance(source, Path) else f"a {type(source).__name__} in memory"
