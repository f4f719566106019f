"""The tidy table of a study of figurative sentences: a row a share, and a row a difference, with evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.studies.figurative import scores
from brainalign_jax.studies.figurative.pairs import Pairs, balanced_on_overlap
from brainalign_jax.studies.figurative.scores import CHANCE, Lines
from brainalign_jax.studies.figurative.vectors import (
    LENGTH,
    MODEL,
    OVERLAP,
    TEXT,
    TWIN,
    WORD_VECTORS,
    Scorer,
    is_twin_of,
)
from brainalign_jax.studies.options import Figurative
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import adjusted_p
from brainalign_jax.study.results import SELECTED

COLUMNS = (
    "dataset", "model", "role", "kind", "condition", "pairs", "centring", "layer", "chosen", "metric",
    "against", "value", "lower", "upper", "p", "p_adjusted", "n_items", "chance",
)  # fmt: skip
FILE = "figurative.parquet"
ALL, BALANCED = "all", "balanced"
SHARE, DIFFERENCE = "share", "difference"
FEWEST = 20  # sentences of a condition


@dataclass(frozen=True)
class FigurativeTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    metric "share": of the sentences, those whose vector lies nearer to the rewording that follows than to the
    one that does not, chance one half; "difference": that share less the one of `against`, sentence by
    sentence: "untrained", "static" (of several files of word vectors each one's name), "overlap" or "length".
    role: "model", "untrained", "static", or "text" of overlap and length themselves. kind: "figurative"
    sentences, or "reference" of literal ones. condition: "all", a group, or "group: file"; pairs: "all", or
    those "balanced" on overlap. centring: vectors about their mean over all texts ("mean"), or as they are
    ("none"). layer -1 is chosen, for each fold, in the others' sentences (chosen: the layers, by fold). p:
    sign flips of sentences, one-sided; p_adjusted: over layers (false discovery rate).
    """

    file_name = FILE
    kind = "study of figurative sentences"


class _Scored(NamedTuple):
    """A scorer's sentences in one condition. several: scores [I, 1 + L], at the chosen layer first."""

    scorer: Scorer
    centring: str
    several: np.ndarray
    chosen: tuple[int, ...]


def conditions(pairs: Pairs, plan: Figurative) -> Iterator[tuple[str, str, np.ndarray]]:
    """(condition, "all" or "balanced", which pairs [P]) of all conditions with enough sentences."""
    named = [(ALL, np.ones(len(pairs.unit), bool))]
    groups = np.unique(pairs.group)
    for group in groups:
        inside = pairs.group == group
        if len(groups) > 1:
            named.append((str(group), inside))
        sources = np.unique(pairs.source[inside])
        if len(sources) > 1:
            named += [
                (f"{group}: {source}", inside & (pairs.source == source)) for source in sources
            ]
    fewest = max(FEWEST, 2 * plan.n_folds)
    for name, mask in named:
        rows = np.flatnonzero(mask)
        part = pairs._replace(
            **{
                column: getattr(pairs, column)[rows]
                for column in ("sentence", "follows", "does_not")
            }
        )
        balanced = np.zeros(len(mask), bool)
        balanced[rows] = balanced_on_overlap(part, caliper=plan.caliper)
        for which, chosen in ((ALL, mask), (BALANCED, balanced)):
            if len(np.unique(pairs.unit[chosen])) >= fewest:
                yield name, which, chosen


def rows_of(scorers: Sequence[Scorer], pairs: Pairs, plan: Figurative) -> pd.DataFrame:
    """The rows of one set of pairs: all scorers, conditions, centrings and layers."""
    tables = []
    for condition, which, mask in conditions(pairs, plan):
        unit = pairs.unit[mask]
        n_sentences = len(np.unique(unit))
        folds = scores.drawn_folds(n_sentences, plan.n_folds, plan.seed)
        scored = []
        for scorer in scorers:
            for centring, of_pairs in scorer.pairs.items():
                of_sentences = scores.sentence_scores(of_pairs[mask], unit)
                several, chosen = scores.with_chosen(of_sentences, folds)
                known = _Scored(scorer, centring, several, chosen)
                scored.append(known)
                lines = scores.tested(of_sentences, folds, plan)
                tables.append(_table(known, lines, SHARE, "").assign(chance=CHANCE))
                tables[-1] = tables[-1].assign(
                    condition=condition, pairs=which, n_items=n_sentences
                )
        for known in scored:
            if known.scorer.role == MODEL:
                for table in _differences(known, scored, plan):
                    tables.append(
                        table.assign(
                            condition=condition, pairs=which, n_items=n_sentences, chance=0.0
                        )
                    )
    return pd.concat(tables, ignore_index=True)


def _differences(
    known: _Scored, scored: Sequence[_Scored], plan: Figurative
) -> Iterator[pd.DataFrame]:
    """The rows of a model less each of its rivals, in one go over all rivals."""
    alike = [rival for rival in scored if rival.centring == known.centring]
    twins = [r.several for r in alike if is_twin_of(r.scorer.name, known.scorer.name)]
    rivals = {TWIN: np.mean(twins, axis=0)} if twins else {}
    if twins and rivals[TWIN].shape != known.several.shape:  # of given vectors: at its chosen layer
        rivals[TWIN] = rivals[TWIN][:, :1]
    word_vectors = [rival for rival in alike if rival.scorer.role == WORD_VECTORS]
    for rival in word_vectors:
        name = WORD_VECTORS if len(word_vectors) == 1 else rival.scorer.name
        rivals[name] = rival.several[:, :1]
    for rival in scored:
        if rival.scorer.role == TEXT:
            rivals[rival.scorer.name] = rival.several[:, :1]
    shape = known.several.shape
    repeated = np.concatenate([known.several] * len(rivals), axis=1)
    other = np.concatenate([np.broadcast_to(rival, shape) for rival in rivals.values()], axis=1)
    lines = scores.compared(repeated, other, plan)
    for place, against in enumerate(rivals):
        part = slice(place * shape[1], (place + 1) * shape[1])
        yield _table(known, Lines(*(values[part] for values in lines)), DIFFERENCE, against)


def _table(known: _Scored, lines: Lines, metric: str, against: str) -> pd.DataFrame:
    """A row a layer, the chosen one first."""
    layers = [SELECTED, *range(len(lines.values) - 1)]
    chosen = ",".join(map(str, known.chosen))
    return pd.DataFrame(
        {
            "model": known.scorer.name,
            "role": known.scorer.role,
            "centring": known.centring,
            "layer": layers,
            "chosen": [chosen] + [""] * (len(layers) - 1),
            "metric": metric,
            "against": against,
            "value": lines.values,
            "lower": lines.lower,
            "upper": lines.upper,
            "p": lines.p,
            "p_adjusted": np.concatenate([lines.p[:1], adjusted_p(lines.p[1:])]),
        }
    )


__all__ = [
    "ALL", "BALANCED", "COLUMNS", "DIFFERENCE", "FILE", "LENGTH", "OVERLAP", "SHARE", "FigurativeTable",
    "conditions", "rows_of",
]  # fmt: skip
