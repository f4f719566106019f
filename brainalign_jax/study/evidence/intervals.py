"""Bootstrap intervals of every layer's score, for figures that draw all of them.

`table.summarise` bounds the score of the layer that stands for a model; here each layer has its own.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.evidence.table import METRIC, EvidencePlan
from brainalign_jax.study.results import GROUP, ResultTable

COLUMNS = (
    "dataset", "protocol", "model", "family", "n_params", "n_layers", "method", "layer", "depth", "metric",
    "k", "score", "lower", "upper", "chance",
)  # fmt: skip


def by_layer(table: ResultTable, plan: EvidencePlan, *, k: int) -> pd.DataFrame:
    """One row a model, method and layer, with COLUMNS: P@k (CSLS), and the values of measures of similarity.

    score: mean over subjects. Its interval is over subjects and words for P@k, over subjects for measures
    (one subject has none). depth: layer / number of blocks, 0 is the embedding output. table: with the extra
    "ranks".

    Raises: ValueError without ranks, which a study keeps where it gathers evidence.
    """
    if "ranks" not in table.extras:
        raise ValueError("the table has no ranks of the words: run the study with an EvidencePlan")
    parts = [_of_precision(table, plan, k)] if len(table.extras["ranks"]) else []
    parts += [_of_subjects(table, measure, plan) for measure in table.measures()]
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    rows["depth"] = rows["layer"] / rows["n_layers"].clip(lower=1)
    return rows[list(COLUMNS)]


def _of_precision(table: ResultTable, plan: EvidencePlan, k: int) -> pd.DataFrame:
    group = _group(table, METRIC, k)
    counts: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    bounds = []
    for (model, method), part in table.extras["ranks"].groupby(["model", "method"], sort=False):
        for layer, hits, weights in _hits(part, k):
            if hits.shape not in counts:
                counts[hits.shape] = _drawn(hits.shape[0], hits.shape[1], plan)
            interval = _percentile_of_means(
                hits, weights, *counts[hits.shape], confidence=plan.confidence
            )
            bounds.append((model, method, layer, float(interval.lower), float(interval.upper)))
    names = ["model", "method", "layer", "lower", "upper"]
    return group.merge(pd.DataFrame(bounds, columns=names), on=names[:3], how="left")


@functools.partial(compiled, static_argnames=("confidence",))
def _percentile_of_means(hits, weights, subjects, items, *, confidence: float):
    means = bootstrap.group_means(bootstrap.subject_means(hits, weights, items), subjects)
    return bootstrap.percentile(means, jnp.zeros((), means.dtype), confidence=confidence)


def _hits(ranks: pd.DataFrame, k: int):
    """(layer, share of hits [S, T] of each subject's types, how often each was asked [S, T])."""
    subject, subjects = pd.factorize(ranks["subject"])
    word, words = pd.factorize(ranks["type"])
    layer, layers = pd.factorize(ranks["layer"], sort=True)
    shape = len(layers), len(subjects), len(words)
    cell = np.ravel_multi_index((layer, subject, word), shape)
    size = np.bincount(cell, minlength=np.prod(shape)).reshape(shape)
    hit = np.bincount(cell, ranks["rank_csls"].to_numpy() <= k, np.prod(shape)).reshape(shape)
    share = hit / np.maximum(size, 1)
    for index, number in enumerate(layers):
        yield int(number), np.float32(share[index]), np.float32(size[index])


def _drawn(n_subjects: int, n_words: int, plan: EvidencePlan) -> tuple[np.ndarray, np.ndarray]:
    over = "both" if n_subjects > 1 else "items"
    return bootstrap.draw_hierarchical(
        n_subjects, n_words, plan.n_bootstraps, over=over, random_state=plan.seed
    )


def _of_subjects(table: ResultTable, metric: str, plan: EvidencePlan) -> pd.DataFrame:
    group = _group(table, metric, 0)
    rows = table.pooled(metric)
    rows = rows[rows["subject"] != GROUP]
    keys = ["model", "method", "layer"]
    wide = rows.set_index([*keys, "subject"])["value"].unstack("subject")
    values, bounds = wide.to_numpy(float), np.full((2, len(wide)), np.nan)
    if values.shape[1] > 1:
        counts = bootstrap.draw_counts(values.shape[1], plan.n_bootstraps, random_state=plan.seed)
        total = counts @ np.nan_to_num(values.T)
        drawn = total / np.maximum(counts @ ~np.isnan(values.T), 1)
        tail = (1 - plan.confidence) / 2
        bounds = np.quantile(drawn, [tail, 1 - tail], axis=0)
    index = pd.DataFrame({"lower": bounds[0], "upper": bounds[1]}, index=wide.index).reset_index()
    return group.merge(index, on=keys, how="left")


def _group(table: ResultTable, metric: str, k: int) -> pd.DataFrame:
    rows = table.pooled(metric, k=k, subject=GROUP)
    return rows.rename(columns={"value": "score"}).drop(columns=["subject", "fold", "n_items"])
