"""The tidy table of an encoding: one row a model, region and person, and the group's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from brainalign_jax.studies.encoding import evidence, partition
from brainalign_jax.studies.encoding.scores import NONE, reached_by_nuisances
from brainalign_jax.studies.encoding.spaces import region_means
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence import chance
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.results import GROUP

QUANTITIES = (
    "r", "r2", "r_nuisances", "r2_nuisances", "r_model", "r2_model", "unique_r", "unique_r2", "ceiling",
)  # fmt: skip
MAPS = (*QUANTITIES, "omega", "layer", "p", "p_max", "q")
COLUMNS = (
    "dataset", "model", "region", "subject", *QUANTITIES, "omega", "layer", "low", "high", "null_mean",
    "null_95", "p", "p_max", "q", "n_null", "n_voxels", "n_above", "highest", "n_left_out",
)  # fmt: skip
FILE = "encoding.parquet"
SPACES_FILE = "spaces.parquet"
SPACES_COLUMNS = (
    "dataset", "model", "region", "subject", "space", "r", "r2", "r2_nuisances", "r2_alone", "r2_without",
    "unique_r2", "low", "high", "p", "p_max", "product_r2", "product_r", "r2_shared", "omega", "n_voxels",
)  # fmt: skip
NUISANCES = "nuisances"  # in place of a space
_OF_SPACE = {
    "r2_alone": "alone_r2", "r2_without": "without_r2", "unique_r2": "unique_r2",
    "product_r2": "product_r2", "product_r": "product_r",
}  # fmt: skip


@dataclass(frozen=True)
class EncodingTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about; maps: of this run, not saved with it.

    Means over a region's voxels. r, r2: of held-out time by model and nuisances; r_nuisances, r2_nuisances:
    by nuisances alone; r_model, r2_model: by the model alone; unique_r, unique_r2: both less the nuisances;
    omega: share of the model's r2 that nuisances reach; ceiling: r of the other people's mean, over the
    region's voxels that all people have, NaN without any; layer: chosen by most voxels, -1 for none. p, p_max
    (against the largest region), q (false discovery rate over regions) of unique_r: a person's by n_null
    shifted recordings, with the null's mean and 95th percentile; the group's by sign flips of people, with a
    bootstrap interval (low, high; 95 %). n_above: voxels with p_max below .05 against the largest of all
    voxels; highest: the highest unique_r of a voxel. n_left_out: voxels of the person that are constant or
    not finite.

    spaces: a DataFrame with `SPACES_COLUMNS`, None without spaces beside the model: how the r2 of all feature
    spaces together (r, r2) is divided, a row a model, region, person and space, means over the region's
    voxels. r2_alone, r2_without: of nuisances and the space, and nuisances and the others; unique_r2: what
    the space adds to these (of the group with interval, p and p_max over regions by sign flips of people);
    r2_shared: beyond nuisances, less all that is unique; product_r2, product_r: shares that sum to r2 and r
    with the nuisances', whose row has r2_alone and these; omega: share of the space's r2 that the others
    reach, beyond nuisances.
    """

    file_name = FILE
    kind = "encoding"
    tables = {"spaces": SPACES_FILE}
    optional = {"spaces": lambda manifest: manifest.get("spaces")}
    maps: Mapping = field(default_factory=dict, compare=False)
    spaces: pd.DataFrame | None = None

    def of(self, model: str, subject: str | None = None) -> pd.DataFrame:
        """The rows of a model, of one person, or (None) of all people without the group's."""
        rows = self.rows[self.rows["model"] == model]
        return (
            rows[rows["subject"] != GROUP] if subject is None else rows[rows["subject"] == subject]
        )


def person_rows(
    maps: Mapping[str, np.ndarray],
    added: np.ndarray,
    region: np.ndarray,
    names: Sequence[str],
    n_left_out: int,
) -> pd.DataFrame:
    """A row a region of one person.

    maps: quantity -> [V]; added: [1 + P, V] as of `VoxelScores`; region: [V], -1 for none; names: R.
    """
    count = len(names)
    means = {name: region_means(maps[name], region, count) for name in QUANTITIES}
    null = region_means(added, region, count)
    there = np.isfinite(null).all(axis=0)
    tested = evidence.by_shifts(null)
    layers = np.full(count, NONE)
    above, highest = np.zeros(count, int), np.full(count, np.nan)
    for number in range(count):
        own = region == number
        if own.any():
            values, counts = np.unique(maps["layer"][own], return_counts=True)
            layers[number] = values[counts.argmax()]
            above[number] = (maps["p_max"][own] < LEVEL).sum()
            highest[number] = maps["unique_r"][own].max()
    with np.errstate(invalid="ignore"):
        omega = reached_by_nuisances(means["r2"], means["r2_nuisances"], means["r2_model"])
    return pd.DataFrame(
        {
            "region": names,
            **means,
            "omega": omega,
            "layer": layers,
            "null_mean": np.where(there, null[1:].mean(axis=0), np.nan),
            "null_95": np.where(there, np.quantile(null[1:], 0.95, axis=0), np.nan),
            **tested._asdict(),
            "n_null": len(added) - 1,
            "n_voxels": [(region == number).sum() for number in range(count)],
            "n_above": above,
            "highest": highest,
            "n_left_out": n_left_out,
        }
    )


def group_rows(
    people: Sequence[pd.DataFrame], *, n_flips: int, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """A row a region of the group, of people's rows in the same order of regions; empty for one person."""
    if len(people) < 2:
        return pd.DataFrame()

    def several(name: str) -> np.ndarray:
        return np.stack([rows[name].to_numpy(np.float64) for rows in people])

    means = {name: several(name).mean(axis=0) for name in QUANTITIES}
    added = several("unique_r")
    tested = evidence.by_sign_flips(added, n_flips, seed)
    low, high = chance.mean_interval(added, n_bootstrap=n_bootstrap, seed=seed)
    layers = np.stack([rows["layer"] for rows in people])
    usual = [max(set(own.tolist()), key=own.tolist().count) for own in layers.T]
    with np.errstate(invalid="ignore"):
        omega = reached_by_nuisances(means["r2"], means["r2_nuisances"], means["r2_model"])
    return pd.DataFrame(
        {
            "region": people[0]["region"],
            **means,
            "omega": omega,
            "layer": usual,
            "low": low,
            "high": high,
            **tested._asdict(),
            "n_null": min(n_flips, 2 ** len(people) - 1),
            "n_voxels": several("n_voxels").mean(axis=0).round().astype(int),
            "n_above": 0,
            "highest": np.nan,
            "n_left_out": 0,
        }
    )


def joined(tables: Sequence[pd.DataFrame], dataset: str) -> pd.DataFrame:
    """All rows, with the columns and types of `COLUMNS`."""
    whole = ("layer", "n_null", "n_voxels", "n_above", "n_left_out")
    texts = ("dataset", "model", "region", "subject")
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    rows = rows.assign(dataset=dataset).reindex(columns=COLUMNS)
    types = {
        name: np.int64 if name in whole else np.float64 for name in COLUMNS if name not in texts
    }
    return rows.astype(types)


def space_rows(
    maps: Mapping[str, np.ndarray], spaces: Sequence[str], region: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """A row a region and space of one person, and of the nuisances.

    maps: quantity -> [V], with those of `partition.quantities`.
    """
    names = list(names)

    def mean(quantity: str) -> np.ndarray:
        return region_means(maps[quantity], region, len(names))

    joint = {
        "r": mean("spaces_r"),
        "r2": mean("spaces_r2"),
        "r2_nuisances": mean("spaces_nuisances_r2"),
        "r2_shared": mean("spaces_shared_r2"),
        "n_voxels": [(region == number).sum() for number in range(len(names))],
    }
    of_nuisances = {
        "r2_alone": joint["r2_nuisances"],
        "product_r2": mean("spaces_nuisances_product_r2"),
        "product_r": mean("spaces_nuisances_product_r"),
    }
    tables = []
    for number, space in enumerate(spaces, 1):
        own = {name: mean(f"space-{number}_{quantity}") for name, quantity in _OF_SPACE.items()}
        tables.append(pd.DataFrame({"region": names, "space": space, **joint, **own}))
    tables.append(pd.DataFrame({"region": names, "space": NUISANCES, **joint, **of_nuisances}))
    return _with_omega(pd.concat(tables, ignore_index=True))


def _with_omega(rows: pd.DataFrame) -> pd.DataFrame:
    with np.errstate(invalid="ignore"):
        parts = (rows[name] for name in ("r2", "r2_nuisances", "r2_without", "r2_alone"))
        reached = partition.omega(*(part.to_numpy(np.float64) for part in parts))
    return rows.assign(omega=np.where(rows["space"] == NUISANCES, np.nan, reached))


def group_space_rows(
    people: Sequence[pd.DataFrame], *, n_flips: int, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """The group's rows, of people's in the same order; empty for one person."""
    if len(people) < 2:
        return pd.DataFrame()
    means = {
        name: np.mean([rows[name].to_numpy(np.float64) for rows in people], axis=0)
        for name in people[0].columns.difference(["region", "space", "model", "subject"])
    }
    group = _with_omega(people[0][["region", "space"]].assign(**means))
    unique = np.stack([rows["unique_r2"].to_numpy(np.float64) for rows in people])
    group["low"], group["high"] = chance.mean_interval(unique, n_bootstrap=n_bootstrap, seed=seed)
    for space in group["space"].unique():
        own = (group["space"] == space).to_numpy()
        tested = evidence.by_sign_flips(unique[:, own], n_flips, seed)
        group.loc[own, ["p", "p_max"]] = np.stack([tested.p, tested.p_max], axis=1)
    return group.assign(n_voxels=group["n_voxels"].round().astype(int))


def joined_spaces(tables: Sequence[pd.DataFrame], dataset: str) -> pd.DataFrame:
    """All rows, with the columns and types of `SPACES_COLUMNS`."""
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    rows = rows.assign(dataset=dataset).reindex(columns=SPACES_COLUMNS)
    texts = {"dataset", "model", "region", "subject", "space"}
    types = {name: np.float64 for name in SPACES_COLUMNS if name not in texts}
    return rows.astype(types | {"n_voxels": np.int64})
