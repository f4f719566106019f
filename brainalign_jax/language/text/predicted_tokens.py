"""Which sub-tokens of a text a causal model's head scores, and what they sum to for each word."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import Head, TokenScores
from brainalign_jax.language.text.contexts import Sequences
from brainalign_jax.language.text.tokens import WordTokenizer
from brainalign_jax.stimulus import Stimulus

# A word of a text: (row of the stimulus, first, stop) over the text's ids.
Span = tuple[int, int, int]


class Scored(NamedTuple):
    """Sub-tokens that are scored, [K] each: the state at `place` predicts the id `target`, which is
    a sub-token of the word `row` of the stimulus."""

    place: np.ndarray | jax.Array
    target: np.ndarray | jax.Array
    row: np.ndarray | jax.Array


def predicted(ids: np.ndarray, spans: Sequence[Span]) -> Scored:
    """The sub-tokens of the words of one text, but for a word that nothing stands before."""
    tokens = [(row, t) for row, first, stop in spans if first for t in range(first, stop)]
    row, token = np.array(tokens, np.int64).reshape(-1, 2).T
    return Scored(token - 1, ids[token], row)


def token_scores(
    model: LanguageModel, head: Head, states: jax.Array, place: jax.Array, target: jax.Array
) -> TokenScores:
    """Scores [K] of the ids `target` where `place` counts over the B x T of the last states [B, T, D],
    as `LanguageModel.finish` gives them."""
    return head.token_scores(model, states.reshape(-1, states.shape[-1])[place], target)


def predicted_in(sequences: Sequences) -> list[Scored]:
    """`predicted` for every sequence; a word that occurs several times in equal texts is scored for
    its first occurrence."""
    return [
        predicted(ids, [(rows[0], *span) for (rows, _), span in zip(targets, spans, strict=True)])
        for ids, targets, spans in zip(
            sequences.ids, sequences.targets, sequences.spans, strict=True
        )
    ]


def word_values(
    sums: np.ndarray, sequences: Sequences, tokenizer: WordTokenizer, stimulus: Stimulus
) -> np.ndarray:
    """The surprisal of every word of the stimulus, [N] float32, from the sums [N] over what
    `predicted_in` names; NaN where that is nothing, or has pieces that the vocabulary lacks."""
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise ValueError(
            f"the surprisal of word {row} ({stimulus.words[row][:40]!r}) is {sums[row]}; the checkpoint "
            "is broken, or its numbers overflow in the precision used (load it as float32)"
        )
    values = np.full(len(sums), np.nan, np.float32)
    texts: list[tuple[np.ndarray, list[Span]]] = []
    for ids, targets, spans in zip(sequences.ids, sequences.targets, sequences.spans, strict=True):
        texts.append((ids, []))
        for (rows, _), (first, stop) in zip(targets, spans, strict=True):
            texts[-1][1].extend((row, first, stop) for row in rows)
            if first:
                values[list(rows)] = sums[rows[0]]
    give_up_on_unknown(values, texts, tokenizer, stimulus)
    return values


def give_up_on_unknown(
    values: np.ndarray,
    texts: Iterable[tuple[np.ndarray, Sequence[Span]]],
    tokenizer: WordTokenizer,
    stimulus: Stimulus,
) -> None:
    """values [N] become NaN, with a warning, for words with pieces that the vocabulary lacks."""
    if tokenizer.unknown_id is None:
        return
    rows = sorted(
        {
            row
            for ids, spans in texts
            for row, first, stop in spans
            if (ids[first:stop] == tokenizer.unknown_id).any()
        }
    )
    if rows:
        values[rows] = np.nan
        shown = ", ".join(repr(stimulus.words[row][:40]) for row in rows[:5])
        warnings.warn(
            f"{len(rows)} words ({shown}) have pieces that the vocabulary lacks: their surprisal is "
            "NaN",
            stacklevel=4,
        )
