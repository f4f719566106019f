"""The tidy table of a generalisation study: a row a cell, and a row a gap, with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.language import Embeddings
from brainalign_jax.studies.generalisation.cells import Cells, Sizes, words_apart
from brainalign_jax.studies.generalisation.conditions import Items
from brainalign_jax.studies.options import CONDITION, JOINT, Generalisation
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence import scaling
from brainalign_jax.study.evidence.chance import mean_band, permutation_p
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.options import EvidencePlan
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.wording import in_points
from brainalign_jax.study.results import GROUP, SELECTED

COLUMNS = (
    "dataset", "subject", "model", "layer", "method", "trained_on", "tested_on", "candidates", "metric", "k",
    "value", "null_mean", "ceiling", "p", "n_train", "n_items", "lower", "upper",
)  # fmt: skip
RULE = "candidate_rule"  # the column that a table of conditions has beside these
FILE = "generalisation.parquet"
GAP = "gap_"  # before a metric: within less across
ALL = "all"  # conditions together


@dataclass(frozen=True)
class GeneralisationTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS` and `RULE`; manifest: how they came about.

    metric: "rank_accuracy" (chance one half) or "precision" at k (chance k / candidates) of the words of
    `tested_on` among the `candidates` words of their fold, after training on n_train words of
    `trained_on`. candidate_rule: these are of the tested "condition", or "joint", as many of each condition;
    see `of_rule`. "gap_rank_accuracy", "gap_precision": training within the tested condition less across,
    mean over the other conditions; trained_on is then "", and tested_on "all" for the mean over conditions.
    subject "group" is the mean over subjects, with an interval over people and words (lower, upper); of a
    person it is over words, as if these were independent, for `plan-study`.
    null_mean: mean of the draws in which words exchange their conditions; p, of gaps: draws that reach it.
    ceiling: the same cell with the other people's responses in place of the model's vectors. layer -1 is
    chosen in each cell's training words.
    """

    file_name = FILE
    kind = "generalisation study"

    def verdict(self) -> str:
        """What the study says, in words."""
        from brainalign_jax.studies.generalisation import verdict

        said = [judged.text for judged in verdict.verdicts(self)]
        said += [*filter(None, [verdict.matching(self)]), *verdict.scaling(self)]
        return in_points(verdict.headline(self), said)


def verdict_rule(manifest: dict) -> str:
    """The rule of candidates that the verdict is by: the condition's where it was asked for."""
    return CONDITION if CONDITION in manifest["plan"].get("candidates", [CONDITION]) else JOINT


def of_rule(table: GeneralisationTable, rule: str | None = None) -> pd.DataFrame:
    """The rows of a rule of candidates, of the verdict's if none is named."""
    rows = table.rows
    if RULE not in rows:  # written before there were two
        return rows
    return rows[rows[RULE] == (rule or verdict_rule(table.manifest))]


class Ranks(NamedTuple):
    """Ranks of the tested words by one method and model: of the cells as they are, and where labels are
    exchanged.

    subjects: names; layers: [L] numbers. observed: [S, F, L, Q]; ceiling: [S, F, Q] or None;
    null: [B, S, F, L, Q].
    """

    subjects: tuple[str, ...]
    layers: list[int]
    observed: np.ndarray
    ceiling: np.ndarray | None
    null: np.ndarray


def ranks_apart(ranks: Ranks, n_conditions: int) -> Ranks:
    """The ranks of joint cells as those of the cells of `tested_apart`."""
    ceiling = ranks.ceiling
    if ceiling is not None:
        ceiling = words_apart(ceiling[:, :, None], n_conditions)[:, :, 0]
    return ranks._replace(
        observed=words_apart(ranks.observed, n_conditions),
        ceiling=ceiling,
        null=words_apart(ranks.null, n_conditions),
    )


def rows_of(
    ranks: Ranks,
    items: Items,
    cells_of: Sequence[Cells],
    sizes: Sizes,
    plan: Generalisation,
    *,
    ks: tuple[int, ...],
    seed: int,
) -> pd.DataFrame:
    """Rows of the cells and gaps of one model and method, for each subject and the group.

    cells_of: of each subject, of the same conditions in the same order; the words may differ. sizes: its
    n_candidates are all candidates of a word.
    """
    cells = cells_of[0]
    n = sizes.n_candidates
    metrics = {("rank_accuracy", 0): lambda ranks: 1 - (ranks - 1) / (n - 1)}
    for k in ks:
        metrics["precision", k] = lambda ranks, k=k: (ranks <= k).astype(np.float64)
    counts = draw_resamples(ranks.observed.shape[0], len(items.types), plan, seed)
    tables = []
    for (metric, k), score in metrics.items():
        scores = score(np.asarray(ranks.observed, np.float64))
        values = _cell_means(scores, cells, len(items.names))
        drawn = np.zeros((0, *values.shape))
        if len(ranks.null):
            drawn = np.stack(
                [
                    _cell_means(score(np.asarray(drawn_ranks, np.float64)), cells, len(items.names))
                    for drawn_ranks in ranks.null
                ]
            )
        ceiling = np.full(values.shape[:-1] + (1,), np.nan)
        if ranks.ceiling is not None:
            ceiling = _cell_means(score(ranks.ceiling[:, :, None]), cells, len(items.names))
        by_item = item_means(scores, cells_of, items)
        tables.append(
            _metric_rows(
                ranks, items, values, drawn, ceiling, by_item, counts, plan.confidence
            ).assign(
                metric=lambda rows, metric=metric: rows["gap"].map({True: GAP, False: ""}) + metric,
                k=k,
            )
        )
    rows = pd.concat(tables, ignore_index=True)
    return rows.assign(candidates=n, n_train=sizes.n_train).drop(columns="gap")


def gap_slopes(
    rows: pd.DataFrame, models: list[Embeddings], plan: Generalisation, seed: int
) -> list[dict]:
    """Slopes of the gap of all conditions (rank accuracy, chosen layer) on model size: `size_slopes`."""
    gaps = rows_with(rows, metric=f"{GAP}rank_accuracy", tested_on=ALL)
    return size_slopes(gaps, models, plan, seed)


def size_slopes(
    rows: pd.DataFrame, models: list[Embeddings], plan: Generalisation, seed: int
) -> list[dict]:
    """Slopes on log10 parameters of what the rows hold of people at the chosen layer, by method.

    rows: one a person, model, layer and method. scope: across all models, within their families, or of one
    family, as in the evidence of a study. p: sign flips of the people's slopes. Models without a size, and
    untrained ones, have no part. Empty where there are no two sizes.
    """
    sized = pd.DataFrame(
        {
            "model": model.model,
            "family": model.meta.get("family"),
            "n_params": model.meta.get("n_params"),
        }
        for model in models
        if model.meta.get("n_params") and not model.model.startswith(UNTRAINED)
    )
    if len(sized) < 2:
        return []
    evidence = EvidencePlan(n_bootstraps=plan.n_bootstraps, confidence=plan.confidence, seed=seed)
    of_people = rows[(rows["layer"] == SELECTED) & (rows["subject"] != GROUP)]
    slopes = []
    for method, part in of_people.groupby("method", sort=False):
        values = part.pivot(index="subject", columns="model", values="value")
        scores = values[sized["model"]].to_numpy(float)
        for scope, chosen, families in scaling.scopes(sized):
            line = scaling.slope_of(
                scores[:, chosen], sized[chosen], np.asarray(families), evidence
            )
            if line is not None:
                slopes.append({"method": method, "scope": scope, **line})
    return slopes


def gaps(values: np.ndarray) -> np.ndarray:
    """Within less the mean across [..., C + 1, L] of each condition tested, then their mean; of values
    [..., C trained, C tested, L]."""
    n = values.shape[-2]
    within = np.moveaxis(np.diagonal(values, axis1=-3, axis2=-2), -1, -2)
    across = (values.sum(axis=-3) - within) / (n - 1)
    differences = within - across
    return np.concatenate([differences, differences.mean(axis=-2, keepdims=True)], axis=-2)


def _cell_means(scores: np.ndarray, cells: Cells, n_conditions: int) -> np.ndarray:
    """Mean scores [S, C trained, C tested, L] of scores [S, F, L, Q]."""
    means = scores.mean(axis=-1)
    values = np.empty((len(scores), n_conditions, n_conditions, scores.shape[2]))
    for trained in range(n_conditions):
        for tested in range(n_conditions):
            chosen = (cells.trained == trained) & (cells.tested == tested)
            values[:, trained, tested] = means[:, chosen].mean(axis=1)
    return values


def item_means(
    scores: np.ndarray, cells_of: Sequence[Cells], items: Items
) -> tuple[np.ndarray, np.ndarray]:
    """(mean scores [C, S, I, L] of each item after training on each condition, times tested [S, I])."""
    n_conditions, n_items = len(items.names), len(items.types)
    totals = np.zeros((n_conditions, len(scores), n_items, scores.shape[2]))
    times = np.zeros((len(scores), n_items))
    for trained in range(n_conditions):
        chosen = cells_of[0].trained == trained
        moved = np.moveaxis(scores[:, chosen], 2, 3).reshape(len(scores), -1, scores.shape[2])
        for subject, cells in enumerate(cells_of):
            test = cells.test[chosen].ravel()
            np.add.at(totals[trained, subject], test, moved[subject])
            times[subject] = np.bincount(test, minlength=n_items)
    return totals / np.maximum(times, 1)[:, :, None], times


def draw_resamples(n_subjects: int, n_items: int, plan: Generalisation, seed: int) -> tuple:
    """Counts of people and items in each resample, as `interval_of` takes them."""
    over = "both" if n_subjects > 1 else "items"
    return bootstrap.draw_hierarchical(
        n_subjects, n_items, plan.n_bootstraps, over=over, random_state=seed
    )


interval_of = jax.jit(bootstrap.hierarchical, static_argnames=("confidence", "method"))


def _metric_rows(
    ranks: Ranks,
    items: Items,
    values: np.ndarray,
    drawn: np.ndarray,
    ceiling: np.ndarray,
    by_item: tuple[np.ndarray, np.ndarray],
    counts: tuple,
    confidence: float,
) -> pd.DataFrame:
    """Rows of one metric: cells, then gaps.

    values: [S, C, C, L]; drawn: [B, S, C, C, L]; ceiling: [S, C, C, 1]; by_item: of `_by_item`; counts: of
    the bootstrap.
    """
    n_conditions, names = len(items.names), items.names
    item_scores, times = by_item
    tested_items = times.any(axis=0)
    n_tested = [int(tested_items[items.condition == c].sum()) for c in range(n_conditions)]
    own_gaps, null_gaps = gaps(values), gaps(drawn)
    rows = []

    def bounds(of_items: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        mask = np.broadcast_to(weights, of_items.shape).astype(np.float32)
        interval = interval_of(of_items.astype(np.float32), mask, *counts, confidence=confidence)
        return float(interval.lower), float(interval.upper)

    def add(trained, tested, observed, null, top, of_items, weights, n_items):
        """Rows of a cell or gap: observed [S, L], null [B, S, L], top [S], of_items [S, I, L]."""
        gap = trained == ""
        for place, layer in enumerate(ranks.layers):
            every = np.append(observed[:, place], observed[:, place].mean())
            several = np.concatenate(
                [null[..., place], null[..., place].mean(axis=1, keepdims=True)], 1
            )
            tops = np.append(top, top.mean())
            of_people = mean_band(of_items[..., place], weights, confidence=confidence)
            of_group = bounds(of_items[..., place], weights)
            lower, upper = (np.append(x, y) for x, y in zip(of_people, of_group, strict=True))
            for index, subject in enumerate((*ranks.subjects, GROUP)):
                known = len(several) > 0
                p = permutation_p(every[index], several[:, index]) if gap and known else np.nan
                rows.append(
                    {
                        "subject": subject, "layer": layer, "trained_on": trained, "tested_on": tested,
                        "value": every[index], "ceiling": tops[index], "p": p, "n_items": n_items,
                        "null_mean": several[:, index].mean() if known else np.nan,
                        "lower": lower[index], "upper": upper[index],
                        "gap": gap,
                    }
                )  # fmt: skip

    for trained in range(n_conditions):
        for tested in range(n_conditions):
            add(
                names[trained],
                names[tested],
                values[:, trained, tested],
                drawn[:, :, trained, tested],
                ceiling[:, trained, tested, 0],
                item_scores[trained],
                times * (items.condition == tested),
                n_tested[tested],
            )
    within = item_scores[items.condition, :, np.arange(len(items.types))].transpose(1, 0, 2)
    difference = within - (item_scores.sum(axis=0) - within) / (n_conditions - 1)
    top_gaps = gaps(ceiling)[..., 0]
    for tested in range(n_conditions + 1):
        together = tested == n_conditions
        weights = times if together else times * (items.condition == tested)
        add(
            "",
            ALL if together else names[tested],
            own_gaps[:, tested],
            null_gaps[:, :, tested],
            top_gaps[:, tested],
            difference,
            weights,
            sum(n_tested) if together else n_tested[tested],
        )
    return pd.DataFrame(rows)
