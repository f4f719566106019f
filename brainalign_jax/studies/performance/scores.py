"""The brain scores of models: finished studies, or any table of model and score, as rows of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.names import check_known
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance.matching import model_name
from brainalign_jax.studies.performance.table_files import numbers, read_table, texts
from brainalign_jax.studies.performance.tasks import check_names
from brainalign_jax.study.evidence.table import role
from brainalign_jax.study.report.wording import counted, first_few, listed
from brainalign_jax.study.results import GROUP, POOLED, SELECTED, ResultTable

COLUMNS = (
    "dataset", "subject", "model", "step", "score", "family", "n_params", "width", "reliability", "name",
    "source",
)  # fmt: skip
_METRIC = "rank_accuracy"
_NO_SCORE = "no model has a score: give a finished study, or a table of model and score"
PICKED_JUDGED = (
    "A model's score is that of the layer that its measure was judged at, the best for the group (by what "
    "exceeds the layer's own null, where the measure has one): picked on the scores that are shown."
)
_KEY = ["dataset", "subject", "model", "step"]


def read_scores(
    sources: Sequence[Path | ResultTable | pd.DataFrame], plan: Performance, notes: list[str]
) -> pd.DataFrame:
    """One score a data set, person, model and step, with COLUMNS; notes: gets what was chosen or left out.

    Of a study: the layer that inner folds chose, else the one that is best for the group. Untrained twins,
    word vectors and controls take no part. The subject "group" does only where there is no other.

    Raises: FileNotFoundError or ValueError naming the file and what is wrong: several methods or metrics
      and none asked for, protocols that differ, a score that is given twice.
    """
    tables = []
    for place, source in enumerate(sources):
        if isinstance(source, ResultTable):
            tables.append(_of_results(source, f"scores[{place}]", plan, notes))
        elif isinstance(source, pd.DataFrame):
            tables.append(_of_table(source, Path(f"scores[{place}]"), plan))
        elif source.is_dir():
            tables.append(_of_results(ResultTable.load(source), str(source), plan, notes))
        else:
            tables.append(_of_table(read_table(source, ("model", "score")), source, plan))
    rows = pd.concat(tables, ignore_index=True)
    for dataset, part in rows.groupby("dataset"):
        protocols = sorted(set(part["protocol"]) - {""})
        if len(protocols) > 1:
            raise ValueError(
                f"the scores of {dataset} are of the protocols {listed(protocols)}, which do not compare: "
                "give studies of one protocol"
            )
    others = [role(name) != "model" for name in rows["name"]]
    if any(others):
        notes.append(
            f"{counted(rows.loc[others, 'name'].nunique(), 'name')} of untrained twins, word vectors or "
            "controls among the scores: they take no part."
        )
        rows = rows[~np.array(others)]
    rows = _one_layer(_with_score(rows, notes), notes)
    check_names(rows, "scores")
    twice = rows.duplicated(_KEY)
    if twice.any():
        second = rows[twice].iloc[0]
        first = rows[(rows[_KEY] == second[_KEY]).all(axis=1)].iloc[0]
        raise ValueError(
            f"{second['name']} has two scores of {second['subject'] or 'one person'} in {second['dataset']}, "
            f"of {first['source']} and of {second['source']}: keep one"
        )
    people = rows["subject"] != GROUP
    alone = rows.groupby("dataset")["subject"].transform(lambda names: (names == GROUP).all())
    return rows.loc[people | alone, list(COLUMNS)].reset_index(drop=True)


def _of_results(
    table: ResultTable, source: str, plan: Performance, notes: list[str]
) -> pd.DataFrame:
    rows = table.rows[table.rows["fold"] == POOLED]
    if rows.empty:
        raise ValueError(f"{source} has no scores over all folds: give a finished study")
    methods = list(rows["method"].unique())
    if plan.method is not None:
        check_known("method=", plan.method, methods, of=source)
    elif len(methods) > 1:
        raise ValueError(f"{source} was scored by {listed(methods)}: give --method={methods[0]}")
    rows = rows[rows["method"] == (plan.method or methods[0])]
    metrics = [name for name in rows["metric"].unique() if name != "selected_layer"]
    rows = rows[rows["metric"] == _metric(metrics, plan, source)]
    ks = sorted(rows["k"].unique())
    if len(ks) > 1 or ks[0] > 0:
        check_known("k=", str(plan.k), map(str, ks), of=source)
        rows = rows[rows["k"] == plan.k]
    rows = _judged_layers(table, rows, notes)
    return _known(
        rows.rename(columns={"value": "score"}).assign(
            source=source, width=np.nan, reliability=np.nan
        )
    )


def _judged_layers(table: ResultTable, rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows; of a model that a measure of similarity judged at a layer, those of that layer."""
    judged = {name: table.judged_layer(name, rows["metric"].iloc[0]) for name in set(rows["model"])}
    layers = rows["model"].map(judged)
    if layers.notna().any():
        notes.append(PICKED_JUDGED)
    return rows[layers.isna() | (rows["layer"] == layers)]


def _of_table(rows: pd.DataFrame, path: Path, plan: Performance) -> pd.DataFrame:
    missing = [name for name in ("model", "score") if name not in rows.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: give model and score")
    if rows.empty:
        raise ValueError(f"{path} has no rows: give model and score of each")
    metrics = texts(rows, "metric", path)
    if len(set(metrics)) > 1:
        rows = rows[np.array(metrics) == _metric(list(dict.fromkeys(metrics)), plan, str(path))]
    names = texts(rows, "model", path)
    if "" in names:
        raise ValueError(f"{path} has no model in row {names.index('') + 1}: fill it in")
    reliability = numbers(rows, "reliability", path)
    for row, value in enumerate(reliability, 1):
        if value == value and not 0 < value <= 1:
            raise ValueError(f"{path}: reliability is {value:g} in row {row}: give 0 < r <= 1")
    layers = numbers(rows, "layer", path)
    frame = pd.DataFrame(
        {
            "dataset": texts(rows, "dataset", path, path.name.partition(".")[0]),
            "subject": texts(rows, "subject", path, GROUP),
            "model": names,
            "given_step": numbers(rows, "step", path),
            "score": numbers(rows, "score", path),
            "layer": [SELECTED if layer != layer else int(layer) for layer in layers],
            "family": texts(rows, "family", path),
            "n_params": numbers(rows, "n_params", path),
            "width": numbers(rows, "width", path),
            "reliability": reliability,
            "protocol": texts(rows, "protocol", path),
            "source": str(path),
        }
    )
    return _known(frame)


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the names that are matched, and the step of a column where a name tells none."""
    known = {name: model_name(name) for name in rows["model"].unique()}
    steps = np.array([known[name].step for name in rows["model"]])
    if "given_step" in rows:
        given = rows["given_step"].to_numpy(float)
        steps = np.where(np.isnan(given), steps, given)
    rows = rows.assign(
        name=rows["model"],
        step=steps,
        model=[known[name].model for name in rows["model"]],
        family=rows["family"].fillna("").astype(str),
    )
    return rows[[*COLUMNS, "layer", "protocol"]]


def _metric(metrics: Sequence[str], plan: Performance, source: str) -> str:
    if plan.metric is not None:
        check_known("metric=", plan.metric, metrics, of=source)
        return plan.metric
    if _METRIC in metrics or len(metrics) == 1:
        return _METRIC if _METRIC in metrics else metrics[0]
    raise ValueError(f"{source} has the metrics {listed(metrics)}: give --metric={metrics[0]}")


def _with_score(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows that have a score; notes: gets the models that have none. Raises: ValueError for no score."""
    scored = rows[rows["score"].notna()]
    if scored.empty:
        raise ValueError(_NO_SCORE)
    lost = [name for name in rows["name"].unique() if name not in set(scored["name"])]
    if lost:
        notes.append(f"No score is given of {first_few(lost)}: left out.")
    return scored


def _one_layer(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows of each model's chosen layer, else of the one that is highest in the mean over people."""
    kept = []
    dropped: dict[tuple[str, str], list[str]] = {}
    key = ["dataset", "model", "step", "name", "source"]
    for (_, _, _, name, _), part in rows.groupby(key, sort=False):
        layers = part["layer"].unique()
        chosen = SELECTED
        if SELECTED not in layers:
            chosen = part.groupby("layer")["score"].mean().idxmax()
            if len(layers) > 1:
                notes.append(
                    "Where no layer was chosen in inner folds, a model's score is that of the layer which "
                    "is best for the group: picked on the scores that are shown."
                )
        kept.append(part[part["layer"] == chosen])
        lacking = sorted(set(part["subject"]) - set(kept[-1]["subject"]) - {GROUP})
        if lacking:
            which = "layer that was chosen" if chosen == SELECTED else f"layer {chosen}"
            dropped.setdefault((which, first_few(lacking)), []).append(name)
    notes += [
        f"Of {first_few(names)} these have no score of the {which} and are left out: {people}."
        for (which, people), names in dropped.items()
    ]
    return pd.concat(kept, ignore_index=True)
