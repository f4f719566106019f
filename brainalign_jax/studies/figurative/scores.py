"""Which of two rewordings is nearer to its sentence, sentence by sentence and layer by layer, and how surely.

The unit is the sentence: its score is the share of its pairs of rewordings in which the one that follows is
the nearer one, a tie counting one half. Chance is one half whatever the vectors are, as no label of a
rewording enters into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.studies.figurative.pairs import Pairs
from brainalign_jax.studies.options import Figurative
from brainalign_jax.study.evidence.chance import permutation_p

CHANCE = 0.5
_TIE = 1e-9  # of cosines
_BLOCK = 2**24  # signs held at once


class Lines(NamedTuple):
    """Mean scores with their evidence: at the chosen layer, then at each; [1 + L].

    values; lower, upper: interval over sentences; p: sign flips of sentences, one-sided.
    """

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p: np.ndarray


def centred(values: np.ndarray) -> np.ndarray:
    """Vectors [T, D] about their mean over all texts of the study, sentences and rewordings once each."""
    return values - values.mean(axis=0)


def cosines(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine [P] of texts `left` and `right` [P] by vectors [T, D]; 0 with a vector of zeros."""
    lengths = np.linalg.norm(values, axis=1)
    unit = values / np.where(lengths > 0, lengths, 1)[:, None]
    return np.einsum("pd,pd->p", unit[left], unit[right])


def nearer(follows: np.ndarray, does_not: np.ndarray, tie: float = _TIE) -> np.ndarray:
    """1 where the rewording that follows is likelier, 0 where the other one is, one half for a tie."""
    difference = np.asarray(follows, float) - does_not
    return np.where(np.abs(difference) <= tie, CHANCE, difference > 0)


def pair_scores(layer: np.ndarray, pairs: Pairs, *, centring: str) -> np.ndarray:
    """`nearer` [P] by the cosines of vectors [T, D]. centring: "mean" or "none"."""
    values = np.asarray(layer, np.float64)
    values = centred(values) if centring == "mean" else values
    follows = cosines(values, pairs.sentence, pairs.follows)
    return nearer(follows, cosines(values, pairs.sentence, pairs.does_not))


def sentence_scores(scores: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Mean [I, L] over each sentence's pairs of scores [P, L]; sentences in the order of their number."""
    _, place, counts = np.unique(unit, return_inverse=True, return_counts=True)
    totals = np.zeros((len(counts), scores.shape[1]))
    np.add.at(totals, place, scores)
    return totals / counts[:, None]


def drawn_folds(n_sentences: int, n_folds: int, seed: int) -> np.ndarray:
    """[I] which fold each sentence is in, as even as can be."""
    return np.random.default_rng(seed).permutation(np.arange(n_sentences) % n_folds)


def with_chosen(scores: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """(scores [I, 1 + L] of which the first are at the chosen layer, index of the layer of each fold).

    Each fold is scored at the layer with the highest mean score [I, L] in the sentences of the other folds.
    """
    selected = np.empty(len(scores))
    chosen = []
    for fold in range(folds.max() + 1):
        inside = folds == fold
        chosen.append(int(_rounded(scores[~inside].sum(axis=0)).argmax()))
        selected[inside] = scores[inside, chosen[-1]]
    return np.column_stack([selected, scores]), tuple(chosen)


def tested(scores: np.ndarray, folds: np.ndarray, plan: Figurative) -> Lines:
    """Mean scores [I, L] less chance, with p-values for which the layer is chosen anew in every flip.

    A flip exchanges the two kinds of rewording of a sentence, in all layers at once.
    """
    deviations = scores - CHANCE
    several, _ = with_chosen(scores, folds)
    null = np.concatenate(
        [_chosen_means(deviations, folds, signs) for signs in _signs(len(scores), plan)]
    )
    return _lines(several, several.mean(axis=0), null + CHANCE, plan)


def compared(scores: np.ndarray, other: np.ndarray, plan: Figurative) -> Lines:
    """Mean paired difference of scores [I, 1 + L] and another's [I, 1 or 1 + L], with its evidence.

    A flip exchanges a sentence's two scores.
    """
    differences = scores - other
    null = np.concatenate(
        [signs @ differences / len(differences) for signs in _signs(len(differences), plan)]
    )
    return _lines(differences, differences.mean(axis=0), null, plan)


def _lines(scores: np.ndarray, values: np.ndarray, null: np.ndarray, plan: Figurative) -> Lines:
    counts = bootstrap.draw_counts(len(scores), plan.n_bootstraps, random_state=plan.seed)
    drawn = counts @ scores.astype(np.float32) / len(scores)
    interval = bootstrap.percentile(drawn, values.astype(np.float32), confidence=plan.confidence)
    p = permutation_p(values, null) if len(null) else np.full(len(values), np.nan)
    return Lines(values, np.asarray(interval.lower), np.asarray(interval.upper), p)


def _chosen_means(deviations: np.ndarray, folds: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Mean [B, 1 + L] of deviations [I, L] times signs [B, I], the layer chosen anew for each."""
    sums = np.stack(
        [signs[:, folds == fold] @ deviations[folds == fold] for fold in range(folds.max() + 1)]
    )
    total = sums.sum(axis=0)
    chosen = _rounded(total - sums).argmax(axis=2)
    selected = np.take_along_axis(sums, chosen[..., None], axis=2)[..., 0].sum(axis=0)
    return np.column_stack([selected, total]) / len(deviations)


def _rounded(sums: np.ndarray) -> np.ndarray:
    """Sums in which layers that are equal but for rounding tie, so that the first of them is chosen."""
    return np.round(sums, 9)


def _signs(n_sentences: int, plan: Figurative) -> Iterator[np.ndarray]:
    """Blocks [B, I] of signs, all of `plan.n_flips` together."""
    rng = np.random.default_rng((plan.seed, 1))
    size = max(1, _BLOCK // n_sentences)
    for first in range(0, plan.n_flips, size):
        shape = (min(size, plan.n_flips - first), n_sentences)
        yield 2.0 * rng.integers(0, 2, shape, np.int8) - 1
    if not plan.n_flips:
        yield np.empty((0, n_sentences))
