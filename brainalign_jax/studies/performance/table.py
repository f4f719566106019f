"""The tables of a study of performance: relations, the values behind them, trajectories and ablations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pandas as pd

from brainalign_jax.files import user_path, write_parquet
from brainalign_jax.study import outputs

COLUMNS = (
    "dataset", "task", "metric", "direction", "n_models", "n_families", "n_people", "spearman", "p_spearman",
    "given", "partial_spearman", "lower", "upper", "p", "p_adjusted", "permuted", "within_families",
    "random_intercept", "family_effect", "without_family_lower", "without_family_upper", "reliability",
    "spearman_corrected", "partial_corrected", "needed_models", "detectable",
)  # fmt: skip
POINTS = (
    "dataset", "model", "step", "last", "family", "n_params", "width", "task", "metric", "value", "score",
    "reads",
)  # fmt: skip
TRAJECTORIES = (
    "dataset", "model", "family", "task", "metric", "n_steps", "n_models", "score_step", "task_step", "lag",
    "lower", "upper", "n_people",
)  # fmt: skip
COMPONENTS = (
    "model", "method", "how", "readout", "component", "n_components", "spearman", "lower", "upper", "p",
    "partial_spearman", "n_controlled",
)  # fmt: skip
FILE = "performance.parquet"
EXTRAS = ("models", "trajectories", "ablations", "ablated_parts")
ALL = "all"  # models of a trajectory, components of an ablation


@dataclass(frozen=True)
class PerformanceTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`, a row a data set and task; manifest: how they came about.

    spearman: rank correlation of models' brain scores and what they can do at a task; values of which less is
    better count with their sign turned (direction -1), so that above zero is always "the more alike, the
    better". partial_spearman: given the ranks of what `given` names, n_params and width, with an interval
    over models and people (lower, upper; of the plain correlation where sizes are not known). p_spearman and
    p: by permutation of models, "within families" or "over all" (permuted); p_adjusted: over the tasks of a
    data set (false discovery rate). within_families, random_intercept, family_effect: as `ranks.Families`.
    without_family_lower and _upper: the range of the partial correlation without one family. reliability: of
    the brain scores; spearman_corrected and partial_corrected: what it would be without their error.
    needed_models: that would find a partial correlation of this size (the plain one where there is no partial
    one) with a power of .8 at .05; detectable: what so many models as there are find.

    extras: "models", with `POINTS`, the values behind it of every model and step (`last`: the one of the
    relation); "trajectories", with `TRAJECTORIES`; "ablations", with `COMPONENTS`, and "ablated_parts", the
    changes behind them. lag: log10 of the step at which a task has half of its rise less that of the score;
    above zero alignment leads. Of `model` "all": the mean over models.
    """

    extras: dict[str, pd.DataFrame] = field(default_factory=dict)

    file_name = FILE
    kind = "study of performance"

    def write(self, folder: Path) -> None:
        """Write the files of `save` to a folder of `new_outputs`."""
        for name, rows in self.extras.items():
            write_parquet(rows, folder / f"{name}.parquet")
        super().write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises: FileNotFoundError or ValueError naming the file that is missing, damaged or another study's.
        """
        folder = user_path(folder, "folder")
        content, files = outputs.read_manifest(folder, cls.kind)
        rows = outputs.read_table(folder, cls.file_name, files)
        extras = {
            name: outputs.read_table(folder, f"{name}.parquet", files)
            for name in EXTRAS
            if f"{name}.parquet" in (files or {})
        }
        return cls(rows, content, extras)
