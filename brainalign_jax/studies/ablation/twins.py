"""What of the alignment the architecture gives by itself: untrained twins with some of their sub-layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainalign_jax.language.parts.components import Component
from brainalign_jax.studies.ablation.scores import IntactScores, PersonScores
from brainalign_jax.studies.ablation.shapley import check_room, scores_of, stacks_of
from brainalign_jax.studies.ablation.table import TWINS, change_intervals
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    short_names,
    signed,
)
from brainalign_jax.study.results import GROUP, SELECTED

# What a twin has: the sub-layers that are off in it.
KINDS = {"attention only": ("ffn",), "ffn only": ("attention",), "both": ()}


def rows_of_twins(
    make: Callable[[int], Any],
    seeds: Sequence[int],
    people: PersonScores,
    intact: Mapping[tuple[str, int], IntactScores],
    subjects: Sequence[str],
    plan: Ablation,
    scoring: Scoring,
) -> list[pd.DataFrame]:
    """Rows of each method: the mean over twins, by what they have, in every layer and the chosen one.

    make: gives the `language.ablation.Ablation` of the untrained model with a seed; one is held at a time.
    The chosen layer is the trained model's; change: less the trained model's score.

    Raises: ValueError where the vectors would not fit into the memory.
    """
    vectors: list[dict[int, np.ndarray]] = []
    for seed in seeds:
        twin = make(seed)
        last = twin.config.n_layers
        sets = [[Component(kind, b) for kind in off for b in range(last)] for off in KINDS.values()]
        check_room(len(sets) * len(seeds), last + 1, twin)
        vectors += twin.without(sets, "zero", range(last + 1))
    stacks, read_at = stacks_of(vectors, last, people.size, every=True)
    tables = []
    for method in scoring.methods:
        known = [intact[method, subject] for subject in range(len(subjects))]
        scores = scores_of(people, method, known, stacks, read_at, scoring.ks)
        for (layer, metric, k), of_sets in scores.items():
            trained = of_sets[:, :1]
            means = of_sets[:, 1:].reshape(len(subjects), len(seeds), len(sets), -1).mean(axis=1)
            change = means - trained
            lower, upper = change_intervals(change, plan, scoring.seed)
            every = [_with_group(np.nanmean(x, axis=-1)) for x in (means, change)]
            unknown = np.full(len(subjects) * len(sets), np.nan)
            table = pd.DataFrame(
                {
                    "subject": np.repeat([*subjects, GROUP], len(sets)),
                    "how": [*KINDS] * (len(subjects) + 1),
                    "value": every[0],
                    "change": every[1],
                    "lower": np.concatenate([unknown, lower]),
                    "upper": np.concatenate([unknown, upper]),
                }
            )
            n_items = int(np.isfinite(change).any(axis=(0, 1)).sum())
            tables.append(
                table.assign(layer=layer, metric=metric, k=k, method=method, n_items=n_items)
            )
    unknown = dict.fromkeys(("bits_change", "p", "p_max", "p_fdr"), np.nan)
    place = dict(component=TWINS, block=-1, head=-1, readout="refit")
    return [table.assign(**place, **unknown) for table in tables]


def sentences(rows: pd.DataFrame, n_twins: int) -> list[str]:
    """What the twins say, for each model and method: of rank accuracy in the chosen layer."""
    lines = rows[(rows["component"] == TWINS) & (rows["subject"] == GROUP)]
    lines = lines[(lines["layer"] == SELECTED) & (lines["metric"] == "rank_accuracy")]
    labels = short_names(list(dict.fromkeys(rows["model"])))
    texts = []
    for (model, method), part in lines.groupby(["model", "method"], sort=False):
        said = [
            f"{line['how']} {number(line['value'])} ({signed(line['change'])} "
            f"{interval(line['lower'], line['upper'])} to the trained one)"
            for _, line in part.iterrows()
        ]
        texts.append(
            f"{method}, {labels[model]}: what the architecture gives by itself, as the mean rank accuracy of "
            f"{counted(n_twins, 'untrained twin')} in the chosen layer: {listed(said)}."
        )
    return texts


def _with_group(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, values.mean(axis=0, keepdims=True)]).ravel()
