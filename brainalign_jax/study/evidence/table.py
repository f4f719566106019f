"""What stands behind each score: nulls, chance, ceiling, controls and intervals, one row a model and method.

Everything here is computed from tables: the scores, the ranks of the tested words, the null draws and the
scores of the other subjects' responses in the model's place.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.language import resolve
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.controls import (
    SHIPPED,
    control_names,
    control_vectors,
    is_control,
)
from brainalign_jax.study.evidence import chance
from brainalign_jax.study.evidence.draws import default_kind
from brainalign_jax.study.evidence.nulls import NullPlan
from brainalign_jax.study.names import UNTRAINED, with_seed, without_seed
from brainalign_jax.study.options import EvidencePlan
from brainalign_jax.study.results import GROUP, POOLED, SELECTED, ResultTable

METRIC = "precision_csls"
COLUMNS = (
    "dataset", "model", "family", "n_params", "method", "protocol", "k", "role", "layer", "selection",
    "n_subjects", "n_items", "score", "lower", "upper", "score_tokens", "score_types", "score_hapax",
    "chance", "null", "n_draws", "null_mean", "null_high", "p", "p_fdr", "p_rank_accuracy",
    "ceiling", "calibrated", "calibrated_lower", "calibrated_upper",
    "control", "control_score", "control_difference", "control_lower", "control_upper",
    "static", "static_score", "static_difference", "static_lower", "static_upper",
)  # fmt: skip


def role(name: str) -> str:
    """ "model", "untrained" or "control"."""
    return "untrained" if name.startswith(UNTRAINED) else "control" if is_control(name) else "model"


def summarise(
    table: ResultTable,
    ranks: pd.DataFrame,
    nulls: pd.DataFrame,
    ceilings: pd.DataFrame,
    plan: EvidencePlan,
    *,
    k: int,
) -> pd.DataFrame:
    """One row a model and method, with COLUMNS.

    Args:
      ranks: of `sweep.Scores`. nulls: of `nulls.score_nulls`, empty where there are none.
      ceilings: of `ceilings.score_ceilings`; empty where there are none.

    score: of the layer that the inner folds chose, or of the layer that is best on these scores (see
    `selection`); mean over subjects, with a bootstrap interval over subjects and words. layer: chosen most
    often, or the best. p: (1 + draws whose highest group score over the layers reaches the highest real
    one) / (1 + draws); p_fdr: adjusted over models and methods (Benjamini-Hochberg). null_mean: of this
    layer, or of each draw's best where the real layer is the best; null_high: of the draws' highest scores,
    the quantile at `confidence`. calibrated: (score - null mean) / (ceiling - null mean), twins and controls
    by the null of the models. control: the
    nuisance features, or untrained twin, that score highest by the same method, and the difference to them
    with its interval over subjects and words; static: the same with vectors of words out of context.
    """
    lines = []
    chosen = {}
    keys = ["model", "method"]
    pooled = table.pooled(METRIC, k=k)
    for (model, method), part in pooled.groupby(keys, sort=False):
        layers = _chosen_layers(table, model, method, k)
        hits, weights = _hits(ranks, model, method, layers, k)
        chosen[model, method] = hits, weights
        group = part[part["subject"] == GROUP]
        best = group.loc[group["value"].idxmax()]
        nested = "fold" in layers
        layer = table.selected_layer(model, method) if nested else int(best["layer"])
        interval = _interval(hits, weights, plan)
        line = {
            "dataset": best["dataset"],
            "model": model,
            "family": best["family"],
            "n_params": best["n_params"],
            "method": method,
            "protocol": best["protocol"],
            "k": k,
            "role": role(model),
            "layer": layer,
            "selection": "inner folds" if nested else "best on these scores",
            "n_subjects": len(hits),
            "n_items": int(part.loc[part["subject"] != GROUP, "n_items"].min()),
            "score": _group_score(table, METRIC, k, model, method, nested, layer),
            "lower": interval.lower,
            "upper": interval.upper,
            "chance": best["chance"],
        }
        for name in ("tokens", "types", "hapax"):
            line[f"score_{name}"] = _group_score(
                table, f"{METRIC}_{name}", k, model, method, nested, layer
            )
        of_model = nulls[(nulls["model"] == model) & (nulls["method"] == method)]
        line |= _against_nulls(table, of_model, group, model, method, layer, nested, plan)
        of_others = _of(ceilings, method)
        line["ceiling"] = of_others["value"].mean() if len(of_others) else np.nan
        lines.append(line)
    if not lines:  # nothing decodes words
        return pd.DataFrame(columns=list(COLUMNS))
    summary = pd.DataFrame(lines)
    summary = summary.reindex(columns=list(COLUMNS))
    summary[["null_mean", "ceiling"]] = summary[["null_mean", "ceiling"]].astype(float)
    summary = summary.assign(**calibrated(summary))
    for kind in ("control", "static"):
        summary[kind] = pd.Series([None] * len(summary), dtype=object)
    tested = summary["role"].eq("model") & summary["p"].notna()
    summary.loc[tested, "p_fdr"] = chance.adjusted_p(summary.loc[tested, "p"].to_numpy())
    for index, line in summary[summary["role"] == "model"].iterrows():
        for kind, others in rivals(summary, line).items():
            if others.empty:
                continue
            rival = others.loc[others["score"].idxmax()]
            difference = _difference(
                *chosen[line["model"], line["method"]],
                *chosen[rival["model"], line["method"]],
                plan,
            )
            values = rival["model"], rival["score"], line["score"] - rival["score"]
            for name, value in zip(("", "_score", "_difference"), values, strict=True):
                summary.loc[index, kind + name] = value
            summary.loc[index, f"{kind}_lower"] = difference.lower
            summary.loc[index, f"{kind}_upper"] = difference.upper
    return summary


def _chosen_layers(table: ResultTable, model: str, method: str, k: int) -> pd.DataFrame:
    """subject, fold, layer where inner folds chose it; else subject, layer: the best group layer for all."""
    rows = table.rows[(table.rows["model"] == model) & (table.rows["method"] == method)]
    nested = rows[(rows["metric"] == "selected_layer") & (rows["fold"] != POOLED)]
    if len(nested):
        return nested[["subject", "fold"]].assign(layer=nested["value"].astype(int))
    group = table.pooled(METRIC, k=k, model=model, method=method, subject=GROUP)
    best = group.loc[group["value"].idxmax(), "layer"]
    return pd.DataFrame({"subject": rows.loc[rows["subject"] != GROUP, "subject"].unique()}).assign(
        layer=int(best)
    )


def _hits(
    ranks: pd.DataFrame, model: str, method: str, layers: pd.DataFrame, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Share of hits [S, T] of each subject's types at the chosen layers, and how often each was asked."""
    chosen = ranks[(ranks["model"] == model) & (ranks["method"] == method)]
    chosen = chosen.merge(layers, on=[c for c in ("subject", "fold", "layer") if c in layers])
    hit = chosen.assign(hit=chosen["rank_csls"] <= k)
    by_type = hit.groupby(["subject", "type"], sort=False)["hit"].agg(["mean", "size"])
    subjects = layers["subject"].unique()
    types = np.sort(hit["type"].unique())
    table = by_type.unstack("type").reindex(index=subjects)
    means = table["mean"].reindex(columns=types).to_numpy(float)
    sizes = table["size"].reindex(columns=types).to_numpy(float)
    return np.nan_to_num(means), np.nan_to_num(sizes)


def _interval(hits, weights, plan: EvidencePlan) -> bootstrap.Interval:
    """Interval of the mean over subjects of P@k, over subjects (where there are several) and words."""
    n_subjects, n_items = hits.shape
    over = "both" if n_subjects > 1 else "items"
    drawn = bootstrap.draw_hierarchical(
        n_subjects, n_items, plan.n_bootstraps, over=over, random_state=plan.seed
    )
    ends = _hierarchical(np.float32(hits), np.float32(weights), *drawn, confidence=plan.confidence)
    return bootstrap.Interval(*(float(x) for x in ends))


def _difference(hits, weights, other, other_weights, plan: EvidencePlan) -> bootstrap.Interval:
    """Interval of the difference of two models' scores, words and subjects drawn for both at once."""
    n_subjects, n_items = hits.shape
    if other.shape != hits.shape:
        raise ValueError(
            f"hits {hits.shape} and {other.shape} are not of the same subjects and words"
        )
    over = "both" if n_subjects > 1 else "items"
    subjects, items = bootstrap.draw_hierarchical(
        n_subjects, n_items, plan.n_bootstraps, over=over, random_state=plan.seed
    )
    drawn = [
        np.asarray(_group_means(np.float32(h), np.float32(w), subjects, items))
        for h, w in ((hits, weights), (other, other_weights))
    ]
    ends = _percentile(drawn[0] - drawn[1], np.float32(0), confidence=plan.confidence)
    return bootstrap.Interval(*(float(x) for x in ends))


_hierarchical = compiled(bootstrap.hierarchical, ("confidence",))
_percentile = compiled(bootstrap.percentile, ("confidence",))


@compiled
def _group_means(hits, weights, subjects, items):
    """Group means [B] of hits [S, T] with subjects [B, S] and items [B, T] as often as they were drawn."""
    return bootstrap.group_means(bootstrap.subject_means(hits, weights, items), subjects)


def _group_score(table, metric, k, model, method, nested, layer) -> float:
    layer = SELECTED if nested else layer
    rows = table.pooled(metric, k=k, model=model, method=method, subject=GROUP, layer=layer)
    return float(rows["value"].iloc[0]) if len(rows) else np.nan


def _against_nulls(table, nulls, group, model, method, layer, nested, plan: EvidencePlan) -> dict:
    if not len(nulls):
        return {}
    compared = {"null": nulls["null"].iloc[0], "n_draws": nulls["draw"].nunique()}
    for metric, column in ((METRIC, "p"), ("rank_accuracy", "p_rank_accuracy")):
        drawn = nulls[nulls["metric"] == metric]
        of_layers = drawn.groupby(["draw", "layer"])["value"].mean().unstack()
        real = group["value"]
        if metric != METRIC:
            rows = table.pooled(metric, model=model, method=method, subject=GROUP)
            real = rows["value"]
        highest = of_layers.max(axis=1)
        compared[column] = chance.permutation_p(real.max(), highest.to_numpy())
        if metric == METRIC:
            # What is picked on the scores is compared with draws that pick, too.
            compared["null_mean"] = (of_layers[layer] if nested else highest).mean()
            compared["null_high"] = highest.quantile(plan.confidence)
    return compared


def calibrated(summary: pd.DataFrame) -> dict[str, pd.Series]:
    """Scores and bounds on the scale where 0 is the null's mean and 1 the ceiling.

    Where no null is drawn for twins and controls (but by measures with one of their own), theirs is that of
    the trained model, or the mean over the models scored by the same method; uniform chance only where
    nothing was drawn.
    """
    null_means = summary.set_index(["model", "method"])["null_mean"]
    trained = summary["model"].map(without_seed).str.removeprefix(UNTRAINED)
    of_twins = [null_means.get(key, np.nan) for key in zip(trained, summary["method"], strict=True)]
    floor = summary["null_mean"].fillna(pd.Series(of_twins, index=summary.index, dtype=float))
    floor = floor.fillna(summary.groupby("method")["null_mean"].transform("mean"))
    floor = floor.fillna(summary["chance"])
    names = {"calibrated": "score", "calibrated_lower": "lower", "calibrated_upper": "upper"}
    ceiling = summary["ceiling"]
    return {name: share_of_reach(summary[column], floor, ceiling) for name, column in names.items()}


def share_of_reach(scores: pd.Series, floor: pd.Series, ceiling: pd.Series) -> pd.Series:
    """How far scores are on the way from floor to ceiling; NaN where that leaves nothing to be explained."""
    reach = ceiling - floor
    return (scores - floor) / reach.where(reach > 1e-6)


def _of(ceilings: pd.DataFrame, method: str) -> pd.DataFrame:
    return ceilings[(ceilings["method"] == method) & (ceilings["metric"] == METRIC)]


def rivals(summary: pd.DataFrame, line: pd.Series) -> dict[str, pd.DataFrame]:
    """Rows of the same method to compare a model with: "control" and "static"."""
    same = summary[(summary["method"] == line["method"]) & (summary["model"] != line["model"])]
    twin = (same["model"].map(without_seed) == UNTRAINED + line["model"]).astype(bool)
    static = same["model"].map(is_static).astype(bool)
    rivals = {"control": same[((same["role"] == "control") & ~static) | twin]}
    rivals["static"] = same[static] if not is_static(line["model"]) else same[:0]
    return rivals


def is_static(name: str) -> bool:
    """Whether a model is a table of word vectors, of a file or of the data set's release."""
    return name.startswith(("static:", SHIPPED))


def null_plan(plan: EvidencePlan | None, dataset: Dataset) -> NullPlan | None:
    """The null draws of a data set, or None where none are asked for."""
    if plan is None or not plan.n_nulls:
        return None
    kind = plan.null or default_kind(dataset.stimulus)
    return NullPlan(kind, plan.n_nulls, plan.seed, plan.hold_alpha)


def with_controls(
    models: Sequence[str], dataset: Dataset, plan: EvidencePlan, *, lower: bool, seed: int = 0
) -> list[str]:
    """The models, their untrained twins, and the controls of the data set.

    seed: of the study, which is that of the first twins' weights.

    Without plan.controls: all nuisance features at once, the autocorrelated sequence, and word vectors
    that the release ships, as far as these words have them.

    Raises: ValueError for a control that is named and does not exist.
    """
    twins = [
        with_seed(UNTRAINED + name, seed + i) if i else UNTRAINED + name
        for name in models
        if resolve(name).kind == "checkpoint"
        for i in range(plan.untrained_seeds)
    ]
    names: Sequence[str] | None = plan.controls
    if names is None:
        names = [name for name in control_names(dataset) if _is_default(name)]
        names = [name for name in names if _exists(name, dataset, lower)]
    else:
        for name in names:
            control_vectors(name, dataset, lower=lower)
    return list(dict.fromkeys([*models, *twins, *names]))


def _is_default(name: str) -> bool:
    return name.endswith((":all", ":autocorrelated")) or name.startswith("shipped:")


def _exists(name: str, dataset: Dataset, lower: bool) -> bool:
    """Whether the words have what the control is made of."""
    try:
        values = control_vectors(name, dataset, lower=lower).values
    except ValueError:
        return False
    return values.shape[-1] > 1
