"""Tidy rows of scores, from the ranks of the tested words."""

import numpy as np
import pandas as pd

from brainalign_jax.align import retrieval
from brainalign_jax.study.problem import Problem, Scoring
from brainalign_jax.study.results import POOLED


def decoding_rows(scores, problem: Problem, scoring: Scoring, layers) -> pd.DataFrame:
    """Rows of each fold and layer, and pooled over folds by the number of words tested."""
    mask = np.asarray(problem.folds.outer.query_mask)
    counts = mask.sum(axis=1)
    rows = []

    def add(metric, k, by_fold, chance, least=1):
        """Rows of the folds that have at least `least` queries."""
        enough = np.flatnonzero(counts >= least)
        if not enough.size:
            return
        pooled = np.average(by_fold[enough], axis=0, weights=counts[enough])
        lines = [(POOLED, pooled, counts[enough].sum())]
        for fold, line, count in lines + [(fold, by_fold[fold], counts[fold]) for fold in enough]:
            rows.extend(
                (layer, fold, metric, k, value, count, chance)
                for layer, value in zip(layers, line, strict=True)
            )

    for metric, ranks in (("precision_csls", "rank_csls"), ("precision_nn", "rank_nn")):
        for k in scoring.ks:
            hits = np.einsum("flq,fq,f->fl", scores[ranks] <= k, mask, 1 / counts)
            add(metric, k, hits, k / problem.n_candidates)
    accuracy = retrieval.rank_accuracy(scores["rank_nn"], problem.n_candidates)
    add("rank_accuracy", 0, np.einsum("flq,fq,f->fl", accuracy, mask, 1 / counts), 0.5)
    for metric in ("pearson", "r2"):
        if metric in scores:
            # Of one or two words a correlation says nothing.
            add(metric, 0, scores[metric], 0.0, least=3)
    names = ["layer", "fold", "metric", "k", "value", "n_items", "chance"]
    return pd.DataFrame(rows, columns=names)


def rsa_rows(scores: np.ndarray, layers, n_items: int) -> pd.DataFrame:
    """Rows of the RSA scores [L] of one subject, over n_items words."""
    return pd.DataFrame(
        {
            "layer": layers,
            "fold": POOLED,
            "metric": "rsa",
            "k": 0,
            "value": scores,
            "n_items": n_items,
            "chance": 0.0,
        }
    )
