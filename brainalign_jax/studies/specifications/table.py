"""The tidy table of a specification curve: a row a specification, with its choices and its own null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.studies.specifications.choices import CHOICES, Specification
from brainalign_jax.studies.specifications.curve import joint_test, p_values, parts_of
from brainalign_jax.studies.specifications.scores import Scored, layers_of
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.results import COLUMNS as HOUSE
from brainalign_jax.study.results import GROUP, POOLED, SELECTED, about_model

FILE, DRAWS = "specifications.parquet", "specification_draws.parquet"
CHOICE = "choice_"
OWN = ("null_mean", "null_sd", "null_low", "null_high", "z", "p", "stands")
CHOICE_COLUMNS = tuple(f"{CHOICE}{name}" for name in CHOICES)
COLUMNS = ("specification", *HOUSE, *CHOICE_COLUMNS, *OWN)
DRAW_COLUMNS = ("model", "specification", "draw", "value")


@dataclass(frozen=True)
class SpecificationTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`, one a model and specification; manifest: how they came about.

    value: the mean over people. null_mean, null_sd: of the draws of the same specification; null_low,
    null_high: their middle 90 %. z: value less null_mean in null_sd, 0 where the null does not vary. p: of
    the specification alone; stands: p < .05. choice_NAME: the level of each choice. layer: that stands for
    the model, -1 where inner folds choose one. draws: every draw's value, `DRAW_COLUMNS`.
    """

    draws: pd.DataFrame = field(default_factory=pd.DataFrame)
    file_name = FILE
    kind = "specification curve"
    tables = {"draws": DRAWS}

    @property
    def varied(self) -> dict[str, list[str]]:
        """The levels of each choice that has several."""
        return self.manifest["varied"]

    def verdict(self) -> str:
        """In how many specifications the finding stands, and what decides, in words."""
        from brainalign_jax.studies.specifications import verdict

        return verdict.text(self)


def rows_of(
    model: Embeddings,
    specifications: Sequence[Specification],
    scored: Sequence[Scored],
    *,
    dataset: str,
    method: str,
    n_candidates: Sequence[int],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows, draws) of one model. n_candidates: of each person."""
    numbers = layers_of(model)
    values = np.stack([score.values for score in scored])
    null = values[:, 1:]
    mean, deviation = null.mean(axis=1), null.std(axis=1)
    excess = values[:, 0] - mean
    low, high = np.quantile(null, [0.05, 0.95], axis=1)
    p = p_values(values)
    rows = pd.DataFrame(
        {
            "specification": np.arange(len(scored)),
            "layer": [
                SELECTED if score.layer == SELECTED else numbers[score.layer] for score in scored
            ],
            "metric": [_metric(specification) for specification in specifications],
            "k": [specification.k for specification in specifications],
            "value": values[:, 0],
            "n_items": [score.n_items for score in scored],
            "chance": [
                specification.k * float(np.mean(1 / np.asarray(n_candidates)))
                if specification.k
                else 0.5
                for specification in specifications
            ],
            **{
                f"{CHOICE}{name}": [specification.levels[name] for specification in specifications]
                for name in CHOICES
            },
            "null_mean": mean,
            "null_sd": deviation,
            "null_low": low,
            "null_high": high,
            "z": np.where(deviation > 0, excess / np.where(deviation > 0, deviation, 1), 0),
            "p": p,
            "stands": p < LEVEL,
        }
    )
    about = {"dataset": dataset, "subject": GROUP, "model": model.model, "method": method}
    rows = rows.assign(
        **about, **about_model(model), protocol=specifications[0].protocol.name, fold=POOLED
    )
    index = pd.MultiIndex.from_product(
        [[model.model], range(len(scored)), range(null.shape[1])], names=DRAW_COLUMNS[:3]
    )
    draws = pd.DataFrame({"value": null.ravel()}, index=index).reset_index()
    return rows[list(COLUMNS)], draws[list(DRAW_COLUMNS)]


def _metric(specification: Specification) -> str:
    if not specification.k:
        return "rank_accuracy"
    return "precision_csls" if specification.csls_k else "precision_nn"


def facts_of(rows: pd.DataFrame, draws: pd.DataFrame, varied: Mapping[str, Sequence[str]]) -> dict:
    """What a manifest says of one model's curve: the joint test, and each choice's part in the spread."""
    null = draws.pivot(index="specification", columns="draw", values="value").to_numpy()
    values = np.concatenate([rows["value"].to_numpy()[:, None], null], axis=1)
    parts = parts_of(rows["z"].to_numpy(), [len(levels) for levels in varied.values()])
    return {
        "n_specifications": len(rows),
        "n_standing": int(rows["stands"].sum()),
        "n_draws": int(null.shape[1]),
        "joint": joint_test(values)._asdict(),
        "spread_of_z": float(rows["z"].std(ddof=0)),
        "parts": {name: part._asdict() for name, part in zip(varied, parts, strict=True)},
    }
