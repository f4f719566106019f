"""Tidy results: one row a score, saved as parquet with a JSON manifest."""

import dataclasses
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.files import Damaged, read_parquet, sealed_bytes, user_path, write_parquet
from brainalign_jax.language import Embeddings
from brainalign_jax.language.embeddings import FERTILITY
from brainalign_jax.study import outputs
from brainalign_jax.study.outputs import EXTRAS

COLUMNS = (
    "dataset", "subject", "model", "family", "n_params", "layer", "n_layers", "method", "protocol",
    "fold", "metric", "k", "value", "n_items", "chance",
)  # fmt: skip
POOLED = -1
SELECTED = -1
GROUP = "group"
RESULTS = "results.parquet"


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    `fold` is -1 for the value pooled over folds, `layer` -1 for the layer that each fold's inner folds
    chose (its number is the metric "selected_layer") and `subject` is "group" for the mean over subjects.
    `metric` is one of `registry.METRICS`, or a measure's name as `method` has it. `k` is 0 where the metric
    has none. `n_items` is the number of words scored, `chance` the value that a guess would have (k / number
    of candidates for precision, 0.5 for rank accuracy, else 0). A last column, `fertility`, is the mean
    number of sub-tokens that the model makes of a word, NaN where unknown.

    `study` is a folder that `run_study` wrote:

    >>> import brainalign_jax as ba
    >>> table = ba.ResultTable.load(study)
    >>> table.pooled("precision_csls", k=10)["subject"].tolist()
    ['S1', 'S2', 'group']
    """

    rows: pd.DataFrame
    manifest: dict
    extras: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write results.parquet, manifest.json and NAME.parquet of the extras, all of them or none.

        They replace a study in the folder as one; its report and figures, which would be of other
        results, are removed.
        """
        folder = user_path(folder, "folder")
        with outputs.new_outputs(folder) as new:
            self.write(new)
        return folder / RESULTS

    def write(self, folder: Path) -> None:
        """Write the files of `save` to a folder of `outputs.new_outputs`."""
        for name in EXTRAS:
            if name in self.extras:
                write_parquet(self.extras[name], folder / f"{name}.parquet")
        write_parquet(self.rows, folder / RESULTS)
        outputs.write_json(self.manifest, folder / outputs.MANIFEST)

    @classmethod
    def load(cls, folder: str | Path) -> "ResultTable":
        """Read what `save` wrote.

        Raises: FileNotFoundError or ValueError naming the file that is missing, damaged or another study's.
        """
        folder = user_path(folder, "folder")
        content, files = outputs.read_manifest(folder, "finished study")
        extras = {
            name: outputs.read_table(folder, f"{name}.parquet", files)
            for name in EXTRAS
            if outputs.is_named(folder, f"{name}.parquet", files)
        }
        rows = outputs.read_table(folder, RESULTS, files)
        if FERTILITY not in rows.columns:  # of an earlier version
            rows = rows.assign(**{FERTILITY: np.nan})
        return cls(rows, content, extras)

    def pooled(self, metric: str, *, k: int = 0, **only) -> pd.DataFrame:
        """Rows of one metric pooled over folds, subjects and group, of every layer.

        k: of a precision; 0 for other metrics. only: column=value, to keep the rows of one model, method,
        subject or layer.
        """
        rows = self.rows
        chosen = (rows["metric"] == metric) & (rows["fold"] == POOLED) & (rows["k"] == k)
        chosen &= (rows["layer"] == only.get("layer")) | (rows["layer"] != SELECTED)
        for column, value in only.items():
            chosen &= rows[column] == value
        return rows[chosen]

    def measures(self) -> list[str]:
        """The measures of similarity that were taken, in order: their metric is the method's name."""
        rows = self.rows
        return list(rows.loc[rows["metric"] == rows["method"], "metric"].unique())

    def __str__(self) -> str:
        """Verdict, warnings and the summary as text."""
        from brainalign_jax.study.report import summary

        return summary.text_summary(self, k=self._k())

    def _repr_html_(self) -> str:
        """The report's first screen, for notebooks."""
        from brainalign_jax.study.report import report

        return report.first_screen(self, k=self._k())

    def verdict(self) -> str:
        """Whether the alignment is real, in words: "Yes. On alice ...".

        Raises: ValueError where the study has no evidence.

        `study` is a folder that `run_study` wrote:

        >>> import brainalign_jax as ba
        >>> table = ba.ResultTable.load(study)
        >>> answer, _, reasons = table.verdict().partition(".")
        >>> answer
        'Yes'
        """
        from brainalign_jax.study.report.verdict import overall

        overall_verdict = overall(self)
        if overall_verdict is None:
            raise ValueError(
                "this study has scores but no evidence, so that there is no verdict: run it with "
                "evidence=EvidencePlan() (--evidence=true)"
            )
        return f"{overall_verdict.answer}. {overall_verdict.text}"

    def _k(self) -> int:
        """The k of reports: the manifest's, else 10 or the largest that was scored."""
        known = sorted(self.rows.loc[self.rows["k"] > 0, "k"].unique())
        wanted = self.manifest.get("report_k", 10)
        return int(wanted if wanted in known or not known else known[-1])

    def summary(self, *, k: int | None = None) -> pd.DataFrame:
        """One row a model and method: CSLS-AVG and CSLS-MAX at k, and the RSA score.

        Where inner folds chose the layer, csls_avg is the mean over subjects of the chosen layers' scores,
        csls_max the best subject's, and `layer` the one chosen most often ("selection" is "inner folds").
        Otherwise, as in the paper, `layer` is that of the highest CSLS-AVG and csls_max the best subject's
        best layer: both pick the layer on the scores that they report ("test").

        k: of precision@k; None for that of the report.

        `study` is a folder that `run_study` wrote:

        >>> import brainalign_jax as ba
        >>> table = ba.ResultTable.load(study)
        >>> table.summary(k=10)[["method", "layer", "selection"]].to_dict("records")
        [{'method': 'procrustes', 'layer': 0, 'selection': 'inner folds'}]
        """
        k, lines = self._k() if k is None else k, []
        keys = ["model", "method"]
        pooled = self.rows[self.rows["fold"] == POOLED]
        by_method = {
            key: ResultTable(rows, self.manifest)  # looked through once, not for each number
            for key, rows in pooled.groupby(keys, sort=False)
        }
        for key, part in self.pooled("precision_csls", k=k).groupby(keys, sort=False):
            (model, method), of_method = key, by_method[key]
            group = part[part["subject"] == GROUP]
            chosen = of_method.pooled("precision_csls", k=k, layer=SELECTED)
            nested = len(chosen) > 0
            of_subjects = (chosen if nested else part)[lambda x: x["subject"] != GROUP]
            best = (chosen[chosen["subject"] == GROUP] if nested else group).nlargest(1, "value")
            best = best.iloc[0]
            layer = self.selected_layer(model, method) if nested else int(best["layer"])
            lines.append(
                {
                    "model": model,
                    "method": method,
                    "layer": layer,
                    "csls_avg": best["value"],
                    "csls_max": of_subjects["value"].max(),
                    "mean_over_layers": group["value"].mean(),
                    "chance": best["chance"],
                    "rank_accuracy": of_method._best(
                        "rank_accuracy", layer=SELECTED if nested else layer
                    ),
                    "rsa": of_method._best("rsa"),
                    "selection": "inner folds" if nested else "test",
                }
            )
        return pd.DataFrame(lines)

    def selected_layer(self, model: str, method: str) -> int:
        """The layer of a model that inner folds chose most often for a method, over all subjects and folds.

        Raises: ValueError where none were chosen.
        """
        rows = self.rows[(self.rows["metric"] == "selected_layer") & (self.rows["fold"] != POOLED)]
        rows = rows[(rows["model"] == model) & (rows["method"] == method)]
        if rows.empty:
            raise ValueError(f"no layer of {model} by {method} was chosen in inner folds")
        return int(rows["value"].value_counts().sort_index().idxmax())

    def judged_layer(self, model: str, measure: str) -> int | None:
        """The layer of a model that a measure is judged at (`extras["similarity"]`); None without one."""
        judged = self.extras.get("similarity", pd.DataFrame(columns=["model", "method", "layer"]))
        judged = judged[(judged["model"] == model) & (judged["method"] == measure)]
        return int(judged["layer"].iloc[0]) if len(judged) else None

    def _best(self, metric: str, **only) -> float:
        """Highest group score among the rows asked for; NaN where there are none."""
        return float(self.pooled(metric, subject=GROUP, **only)["value"].max())


def group_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over subjects of the pooled rows, as rows of the subject "group"."""
    pooled = rows[(rows["fold"] == POOLED) & (rows["subject"] != GROUP)]
    pooled = pooled[pooled["metric"] != "selected_layer"]  # layer numbers have no mean
    keys = [c for c in COLUMNS if c not in ("subject", "value", "n_items", "chance")]
    grouped = pooled.groupby(keys, sort=False, dropna=False, as_index=False).agg(
        value=("value", "mean"), n_items=("n_items", "sum"), chance=("chance", "mean")
    )
    return tidy(grouped.assign(subject=GROUP))


def about_model(model: Embeddings) -> dict[str, str | float | int | None]:
    """family, n_params and n_layers, from what the vectors' meta says.

    Vectors that somebody made themselves may say nothing: their layers are then counted, without the
    embedding output.

    Raises: ValueError for a family that is no text, or a number that is none.
    """
    facts = {name: model.meta.get(name) for name in ("family", "n_params", "n_layers")}
    if facts["n_layers"] is None:
        facts["n_layers"] = model.n_states - 1
    if not isinstance(facts["family"], str | None):
        raise ValueError(
            f"meta of {model.model}: family={facts['family']!r} must be text, or left out"
        )
    for name, kinds in (("n_params", (int, float)), ("n_layers", int)):
        value = facts[name]
        known = isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
        if value is not None and not known:
            raise ValueError(
                f"meta of {model.model}: {name}={value!r} must be a number that is not negative, or "
                "left out"
            )
    return facts


def with_fertility(rows: pd.DataFrame, models: Iterable[dict]) -> pd.DataFrame:
    """The rows with the column "fertility", from what the facts of each model, by its name, say of it."""
    known = {model["name"]: model.get(FERTILITY) for model in models}
    return rows.assign(**{FERTILITY: rows["model"].map(known).astype(np.float64)})


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the fixed columns, in order and of fixed types."""
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise ValueError(f"result rows lack the columns {', '.join(missing)}")
    rows = rows[list(COLUMNS)].copy()
    for name in ("layer", "n_layers", "fold", "k", "n_items"):
        rows[name] = rows[name].astype(np.int64)
    for name in ("n_params", "value", "chance"):
        rows[name] = rows[name].astype(np.float64)
    return rows


def write_cell(rows: pd.DataFrame, path: Path) -> None:
    """Keep the table of a finished piece of work, whole or not at all, with a checksum."""
    write_parquet(rows, path, sealed=True)


def read_cell(path: Path | None) -> pd.DataFrame | None:
    """What `write_cell` kept; None where there is nothing, or, with a warning, where it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        return read_parquet(sealed_bytes(path))
    except FileNotFoundError:  # removed meanwhile
        return None
    except Damaged as error:
        warnings.warn(f"{path} is damaged ({error}): it is made anew", stacklevel=2)
        return None
