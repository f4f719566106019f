"""The tidy table of a region encoding: one row a region, subject and score, with its evidence."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign_jax.studies.regions.recordings import RegionRecordings
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence import chance
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.results import GROUP

COLUMNS = (
    "dataset", "part", "region", "subject", "model", "nuisances", "metric", "value", "low", "high",
    "null_mean", "null_95", "p", "p_max", "q", "n_null", "chosen",
)  # fmt: skip
METRICS = ("ceiling", "r", "r2", "unique_r", "unique_r2", "unique_r_over_untrained")
FILE = "region_encoding.parquet"
# Rounding of a float32 correlation, and of the difference of two: a model that no fold uses adds exactly
# nothing in the recording and in a shifted one alike, and two fits must not tell them apart.
_TIE = 1e-5


@dataclass(frozen=True)
class RegionTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    metric: "r", mean over folds of Pearson's r within the test blocks; "r2" about the blocks' means;
    "unique_r", "unique_r2": what the model adds to the nuisances; "unique_r_over_untrained": more than
    its untrained twin adds; "ceiling": the other subjects' mean as prediction. model is "" for nuisances
    alone, nuisances "" for a model alone. subject "group" is the mean over subjects, and has an interval
    (low, high: bootstrap over subjects, 95 %) and, where there is a null, its mean and 95th percentile,
    p, p_max against the largest of the part's regions, q (false discovery rate over these regions).
    chosen: the layer of each outer fold.
    """

    file_name = FILE
    kind = "region encoding"

    def group(self, metric: str, *, model: str = "", nuisances: str = "") -> pd.DataFrame:
        """Group rows of one score, one a region and part, indexed by (part, region)."""
        rows = rows_with(self.rows, metric=metric, subject=GROUP, model=model, nuisances=nuisances)
        return rows.set_index(["part", "region"])


def effect_rows(
    recordings: RegionRecordings,
    what: dict[str, str],
    values: np.ndarray,
    null: np.ndarray | None = None,
    *,
    chosen: list[str] | None = None,
    n_bootstrap: int = 5000,
    random_state: int = 0,
) -> pd.DataFrame:
    """Rows of one score: subjects [S, R] as they are, and the group with its evidence.

    what: model, nuisances, metric. null: [P, S, R] of the shifted recordings, tested one-sided. chosen:
    [R] layers of the group.
    """
    values = np.asarray(values, np.float64)
    mean = values.mean(axis=0)
    low, high = chance.mean_interval(values, n_bootstrap=n_bootstrap, seed=random_state)
    parts, regions = np.array(recordings.parts), np.array(recordings.regions)
    frame = {"dataset": recordings.dataset, "part": parts, "region": regions, **what}
    group = pd.DataFrame(
        {**frame, "subject": GROUP, "value": mean, "low": low, "high": high, "chosen": chosen}
    )
    if null is not None and len(null):
        means = np.asarray(null, np.float64).mean(axis=1)  # [P, R]
        group["null_mean"], group["null_95"] = means.mean(axis=0), np.quantile(means, 0.95, axis=0)
        group["p"] = chance.permutation_p(mean, means, tie=_TIE)
        group["n_null"] = len(means)
        for part in dict.fromkeys(recordings.parts):
            of_part = parts == part
            largest = means[:, of_part].max(axis=1)
            group.loc[of_part, "p_max"] = chance.permutation_p(mean[of_part], largest, tie=_TIE)
            group.loc[of_part, "q"] = chance.adjusted_p(group.loc[of_part, "p"].to_numpy())
    by_subject = [
        pd.DataFrame({**frame, "subject": subject, "value": values[row]})
        for row, subject in enumerate(recordings.subjects)
    ]
    rows = pd.concat([group, *by_subject], ignore_index=True).reindex(columns=COLUMNS)
    for name in ("value", "low", "high", "null_mean", "null_95", "p", "p_max", "q"):
        rows[name] = rows[name].astype(np.float64)
    rows["n_null"] = rows["n_null"].fillna(0).astype(np.int64)
    rows["chosen"] = rows["chosen"].fillna("").astype(str)
    return rows
