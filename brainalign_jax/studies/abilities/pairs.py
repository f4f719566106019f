"""Minimal pairs: is the grammatical sentence of two likelier? In the layout of BLiMP.

A line of a `.jsonl` file is an object with `sentence_good` and `sentence_bad`, and where they are known
`field`, `linguistics_term` and `UID`, by which the accuracy is given, too.

A sentence's score is the log-probability of its words: their sum, or its mean over sub-tokens. A causal model
reads its first token (BOS) before the sentence, unless bos is "never", where the first word has no
probability and is left out of both sentences. The full stop is scored as any other sign, and no end of text
behind it. Of a model of both directions the score is the pseudo-log-likelihood (Salazar et al. 2020), with
the sub-tokens behind the masked one in the same word masked as well (Kauf and Ivanova 2023).

Reference: Warstadt et al. 2020, BLiMP: The Benchmark of Linguistic Minimal Pairs for English (TACL 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.studies.abilities.json_lines import json_lines, text_of
from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.studies.abilities.table import ALL, Ability, accuracy

TASK = "minimal_pairs"
CHANCE = 0.5
_GROUPS = {"field": "field", "linguistics_term": "phenomenon", "UID": "paradigm"}
_MOST_PAIRS = 1_000_000
_LAYOUT = (
    "give a .jsonl file, or a folder of them, with sentence_good and sentence_bad in each line"
)


class MinimalPairs(NamedTuple):
    """good, bad: the P sentences of each kind; groups: of each kind of group, as "phenomenon", the name
    for each pair, "" where it has none."""

    good: tuple[str, ...]
    bad: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]


class PairScores(NamedTuple):
    """Log-probabilities (bits, [P, 2], good first), and numbers of sub-tokens that they are of; NaN where a
    word has none."""

    sums: np.ndarray
    counts: np.ndarray


def read_minimal_pairs(path: str | Path) -> MinimalPairs:
    """The pairs of a `.jsonl` file, or of all those in a folder, in order of name.

    Raises: FileNotFoundError, or ValueError naming the file and line, where a sentence is missing or too
      long.
    """
    place = user_path(path, "pairs", "a file or folder")
    files = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"there are no minimal pairs at {place}; {_LAYOUT}")
    good, bad = [], []
    groups: dict[str, list[str]] = {kind: [] for kind in _GROUPS.values()}
    for file in files:
        for number, content in json_lines(file):
            good.append(text_of(content, "sentence_good", f"{file}:{number}"))
            bad.append(text_of(content, "sentence_bad", f"{file}:{number}"))
            for name, kind in _GROUPS.items():
                groups[kind].append(str(content.get(name) or "")[:100])
            if len(good) > _MOST_PAIRS:
                raise ValueError(
                    f"{place} holds more than {_MOST_PAIRS:,} pairs; give a part of them"
                )
    if not good:
        raise ValueError(f"{place} holds no pair; {_LAYOUT}")
    return MinimalPairs(
        tuple(good), tuple(bad), {kind: tuple(names) for kind, names in groups.items()}
    )


def pair_scores(scorer: Scorer, pairs: MinimalPairs) -> PairScores:
    """The log-probability of every sentence, each distinct one computed once."""
    distinct = list(dict.fromkeys([*pairs.good, *pairs.bad]))
    words = [sentence.split() for sentence in distinct]
    bits, sub_tokens = scorer.text_bits(words), scorer.sub_tokens(words)
    sums, counts = np.empty(len(words)), np.empty(len(words))
    for row, (own, sizes) in enumerate(zip(bits, sub_tokens, strict=True)):
        # Only a first word that nothing stands before may be without: it is so in both sentences.
        first = int(scorer.causal and len(own) > 1 and np.isnan(own[0]))
        sums[row], counts[row] = -own[first:].sum(), sizes[first:].sum()
    place = {sentence: row for row, sentence in enumerate(distinct)}
    rows = np.array(
        [[place[good], place[bad]] for good, bad in zip(pairs.good, pairs.bad, strict=True)]
    )
    return PairScores(sums[rows], counts[rows])


def pair_abilities(scorer: Scorer, pairs: MinimalPairs, confidence: float) -> Iterator[Ability]:
    """Accuracy by the sum of all pairs and of each group, and by the mean of all pairs; a tie is one half."""
    scores = pair_scores(scorer, pairs)
    usable = np.isfinite(scores.sums).all(axis=1)
    if not usable.any():
        raise ValueError(
            f"{scorer.name} knows the words of no minimal pair: its vocabulary is another's"
        )
    by_sum = preferred(scores.sums)
    by_mean = preferred(scores.sums / np.maximum(scores.counts, 1))
    yield accuracy(TASK, ALL, by_sum[usable], CHANCE, confidence)
    yield accuracy(f"{TASK}_mean", ALL, by_mean[usable], CHANCE, confidence)
    for kind, names in pairs.groups.items():
        for name in sorted(set(names) - {""}):
            chosen = usable & _are(names, name)
            if chosen.any():
                group = f"{kind}: {name}"
                yield accuracy(f"{TASK}/{group}", group, by_sum[chosen], CHANCE, confidence)


def preferred(scores: np.ndarray) -> np.ndarray:
    """1 where the good sentence [:, 0] is likelier than the bad one [:, 1], 0 where less, 1/2 for a tie."""
    difference = scores[:, 0] - scores[:, 1]
    return np.where(np.abs(difference) <= 1e-9, CHANCE, difference > 0).astype(float)


def _are(names: Sequence[str], name: str) -> np.ndarray:
    return np.array([own == name for own in names])
