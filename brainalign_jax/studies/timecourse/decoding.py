"""Words decoded in each window, by the methods, folds and null draws of a study of one recording.

Every window is a recording of its own to the sweep: its factors are made once and serve all layers, and all
windows share folds and compiled programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.studies.timecourse.windows import Recording
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep

JUDGED = "rank_accuracy"
PRECISION = "precision_csls"


class WindowScores(NamedTuple):
    """One person, method and model in all windows.

    layers: numbers [L]. values: [W, L] of the judged metric; null: [P, W, L]; tested: [W, L] what the null is
    of, where a person lacks words that others have (`windows.filled`), else None. n_items, chance: of the
    values.
    items: [W, L, I] of each tested word, types: [I] which word types these are; None where the method scores
    no single words. others: more metrics, by name and k, (values [W, L], chance).
    """

    metric: str
    layers: tuple[int, ...]
    values: np.ndarray
    null: np.ndarray
    n_items: int
    chance: float
    items: np.ndarray | None = None
    types: np.ndarray | None = None
    others: dict[tuple[str, int], tuple[np.ndarray, float]] = {}
    tested: np.ndarray | None = None

    @property
    def compared(self) -> np.ndarray:
        """What is compared with the null [W, L]."""
        return self.values if self.tested is None else self.tested


def decode_windows(
    dataset: str,
    recording: Recording,
    models: list[Embeddings],
    scoring: Scoring,
    null: NullPlan | None,
    *,
    computation: Computation,
    cells: Path | None = None,
) -> dict[tuple[str, str], WindowScores]:
    """(method, model) -> scores of one person, of every method of the scoring.

    scoring: its methods decode words; its one k is that of precision@k.
    """
    options = dict(cells=cells, computation=computation)
    scored = sweep.score(dataset, recording.responses, models, scoring, **options)
    drawn = None
    if null is not None:
        drawn = score_nulls(
            dataset,
            recording.responses,
            models,
            scoring,
            null,
            k=scoring.ks[0],
            **options,
        )
    names = [response.subject for response in recording.responses]
    return {
        (method, model.model): _scores(scored, drawn, names, method, model.model, scoring.ks[0])
        for method in scoring.methods
        for model in models
    }


def _scores(scored, drawn, names: list[str], method: str, model: str, k: int) -> WindowScores:
    rows = _of(scored.rows, method, model)
    rows = rows[rows["fold"] == POOLED]
    judged = rows[rows["metric"] == JUDGED]
    layers = tuple(sorted(judged["layer"].unique().tolist()))
    values = _by_window(judged, names, layers)
    precision = rows[(rows["metric"] == PRECISION) & (rows["k"] == k)]
    null = np.zeros((0, *values.shape))
    if drawn is not None:
        draws = _of(drawn, method, model)
        draws = draws[draws["metric"] == JUDGED].sort_values(["draw"], kind="stable")
        cube = draws.set_index(["draw", "subject", "layer"])["value"].unstack(["subject", "layer"])
        columns = pd.MultiIndex.from_product([names, layers])
        null = cube.reindex(columns=columns).to_numpy().reshape(-1, len(names), len(layers))
    ranks = _of(scored.ranks, method, model)
    chance = float(precision["chance"].iloc[0])
    n_candidates = round(k / chance)
    mean = ranks.groupby(["type", "subject", "layer"], sort=True)["rank_nn"].mean()
    cube = mean.unstack(["subject", "layer"])
    cube = cube.reindex(columns=pd.MultiIndex.from_product([names, layers]))
    accuracy = 1 - (cube.to_numpy(np.float64) - 1) / (n_candidates - 1)
    items = np.moveaxis(accuracy.reshape(len(cube), len(names), len(layers)), 0, -1)
    return WindowScores(
        JUDGED,
        layers,
        values,
        null,
        int(judged["n_items"].iloc[0]),
        float(judged["chance"].iloc[0]),
        items,
        cube.index.to_numpy(),
        {(PRECISION, k): (_by_window(precision, names, layers), chance)},
    )


def _of(rows: pd.DataFrame, method: str, model: str) -> pd.DataFrame:
    return rows[(rows["method"] == method) & (rows["model"] == model)]


def _by_window(rows: pd.DataFrame, names: list[str], layers: tuple[int, ...]) -> np.ndarray:
    table = rows.set_index(["subject", "layer"])["value"].unstack("layer")
    return table.reindex(index=names, columns=list(layers)).to_numpy(np.float64)
