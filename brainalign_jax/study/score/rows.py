"""Tidy rows of scores, from the ranks of the tested words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from brainalign_jax.align import retrieval
from brainalign_jax.study.results import POOLED, SELECTED
from brainalign_jax.study.score.problem import Problem, Scoring

_NAMES = ["layer", "fold", "metric", "k", "value", "n_items", "chance"]


def decoding_rows(
    scores: Mapping[str, np.ndarray], problem: Problem, scoring: Scoring, layers: Sequence[int]
) -> pd.DataFrame:
    """Rows of each fold and layer, and pooled over folds by the number of words tested.

    scores: rank_nn and rank_csls [F, L, Q], and scalars [F, L].
    """
    mask = np.asarray(problem.folds.outer.query_mask, np.float64)
    rows: list[tuple] = []

    def add(metric, k, by_fold, weights, chance, least=1):
        """Rows of the folds that have at least `least` queries of positive weight."""
        counts = (weights > 0).sum(axis=1)
        enough = np.flatnonzero(counts >= least)
        if not enough.size:
            return
        pooled = np.average(by_fold[enough], axis=0, weights=weights[enough].sum(axis=1))
        lines = [(POOLED, pooled, counts[enough].sum())]
        for fold, line, count in lines + [(fold, by_fold[fold], counts[fold]) for fold in enough]:
            rows.extend(
                (layer, fold, metric, k, value, count, chance)
                for layer, value in zip(layers, line, strict=True)
            )

    def mean(values, weights):
        total = np.maximum(weights.sum(axis=1), 1e-12)
        return np.einsum("flq,fq,f->fl", values, weights, 1 / total)

    for metric, ranks in (("precision_csls", "rank_csls"), ("precision_nn", "rank_nn")):
        others = _other_weights(problem, scoring) if metric == "precision_csls" else {}
        for k in scoring.ks:
            chance = k / problem.n_candidates
            for name, weights in {metric: mask, **others}.items():
                add(name, k, mean(scores[ranks] <= k, weights), weights, chance)
    accuracy = retrieval.rank_accuracy(scores["rank_nn"], problem.n_candidates)
    add("rank_accuracy", 0, mean(accuracy, mask), mask, 0.5)
    for metric in ("pearson", "r2"):
        if metric in scores:
            # Of one or two words a correlation says nothing.
            add(metric, 0, scores[metric], mask, 0.0, least=3)
    return pd.DataFrame(rows, columns=_NAMES)


def _other_weights(problem: Problem, scoring: Scoring) -> dict[str, np.ndarray]:
    """Other means over the same queries: weights [F, Q] by metric, none where no word recurs.

    Where word types are decoded, "precision_csls_tokens" counts a type as often as it is tested; where
    tokens are, "precision_csls_types" counts every type once. "precision_csls_hapax" is over the words
    that occur once.
    """
    outer, token_to_type = problem.folds.outer, problem.folds.token_to_type
    mask, gold = np.asarray(outer.query_mask), np.asarray(outer.gold)
    if problem.counts.max() < 2:
        return {}
    tested = np.stack(
        [
            np.bincount(token_to_type[test > 0], minlength=len(problem.counts))
            for test in np.asarray(outer.test)
        ]
    )
    tested = np.take_along_axis(tested, gold, axis=1)
    weights = {"precision_csls_hapax": mask * (problem.counts[gold] == 1)}
    if scoring.protocol.queries == "types":
        weights["precision_csls_tokens"] = mask * tested
    else:
        weights["precision_csls_types"] = mask / np.maximum(tested, 1)
    return weights


def selected_rows(
    parts: Sequence[tuple[Sequence[int], Mapping[str, np.ndarray]]],
    problem: Problem,
    scoring: Scoring,
) -> pd.DataFrame:
    """Rows of the layer that the inner folds of each fold chose, as layer SELECTED.

    parts: (layer numbers [L], scores [F, L, ...]) of the blocks of layers of a model; their "layer_loss"
    decides. The metric "selected_layer" is its number, pooled the one chosen most often.
    """
    losses = np.concatenate([scores["layer_loss"] for _, scores in parts], axis=1)
    numbers = np.concatenate([np.asarray(layers) for layers, _ in parts])
    order = np.argsort(numbers, kind="stable")
    numbers, choice = numbers[order], losses[:, order].argmin(axis=1)
    folds = np.arange(len(choice))
    chosen = {
        name: np.concatenate([scores[name] for _, scores in parts], axis=1)[:, order][
            folds, choice
        ][:, None]
        for name in parts[0][1]
        if name != "layer_loss"
    }
    rows = decoding_rows(chosen, problem, scoring, (SELECTED,))
    chosen_layers, counts = np.unique(numbers[choice], return_counts=True)
    of_folds = np.asarray(problem.folds.outer.query_mask).sum(axis=1)
    lines = [(POOLED, chosen_layers[counts.argmax()], of_folds.sum())]
    lines += [(fold, numbers[choice[fold]], of_folds[fold]) for fold in folds]
    layers = [
        (SELECTED, fold, "selected_layer", 0, layer, count, np.nan) for fold, layer, count in lines
    ]
    return pd.concat([rows, pd.DataFrame(layers, columns=_NAMES)], ignore_index=True)


def rank_rows(
    scores: Mapping[str, np.ndarray], problem: Problem, layers: Sequence[int]
) -> pd.DataFrame:
    """One row a layer and tested word: fold, type, token (-1 where types are decoded) and its ranks."""
    outer = problem.folds.outer
    fold, slot = np.nonzero(np.asarray(outer.query_mask) > 0)
    gold = np.asarray(outer.gold)[fold, slot]
    asked = np.asarray(outer.queries)[fold, slot]
    by_type = np.array_equal(np.asarray(outer.gold), np.asarray(outer.queries))
    n_layers = len(layers)
    return pd.DataFrame(
        {
            "layer": np.repeat(np.asarray(layers, np.int32), len(fold)),
            "fold": np.tile(fold.astype(np.int32), n_layers),
            "type": np.tile(gold.astype(np.int32), n_layers),
            "token": np.tile(np.full(len(asked), -1) if by_type else asked, n_layers).astype(
                np.int32
            ),
            **{
                name: np.concatenate([scores[name][fold, i, slot] for i in range(n_layers)])
                for name in ("rank_csls", "rank_nn")
            },
        }
    )


def no_ranks(dtype: str) -> pd.DataFrame:
    """The columns of `rank_rows` without a row; dtype: of the ranks."""
    places = {name: np.empty(0, np.int32) for name in ("layer", "fold", "type", "token")}
    return pd.DataFrame(places | {name: np.empty(0, dtype) for name in ("rank_csls", "rank_nn")})


def measure_rows(
    measure: str, values: np.ndarray, n_items: int, chance: float, layers
) -> pd.DataFrame:
    """Rows of a measure's values [L] of one subject, over n_items words."""
    return pd.DataFrame(
        {
            "layer": layers,
            "fold": POOLED,
            "metric": measure,
            "k": 0,
            "value": values,
            "n_items": n_items,
            "chance": chance,
        }
    )
