"""Texts a model reads: in which context each word of a stimulus is embedded, cut to the model's size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.language.tokens import EncodedText, WordTokenizer
from brainalign_jax.stimulus import Stimulus, clean_word, split_sentences

CONTEXTS = ("sentence", "window", "word")
POOLINGS = ("mean", "first", "last")
_BUCKETS = tuple(2**power for power in range(3, 20))


class Text(NamedTuple):
    """words: the text; targets: (position in words, row of the stimulus) of the words wanted."""

    words: tuple[str, ...]
    targets: tuple[tuple[int, int], ...]


class Sequences(NamedTuple):
    """What the model reads. ids: one int32 vector a sequence, special tokens included; targets: for
    every sequence the wanted words as (rows of the stimulus, indices into ids to pool)."""

    ids: list[np.ndarray]
    targets: list[list[tuple[tuple[int, ...], tuple[int, ...]]]]


class Batch(NamedTuple):
    """ids, mask: [B, T] int32, right-padded; weights: [B, W, T] float32, one row a word, summing to
    one; sequence, slot, row: [K], word k is weights[sequence[k], slot[k]] and belongs to `row`."""

    ids: np.ndarray
    mask: np.ndarray
    weights: np.ndarray
    sequence: np.ndarray
    slot: np.ndarray
    row: np.ndarray


def texts_of(
    stimulus: Stimulus, wanted: np.ndarray, *, context: str, window: int = 20, lower: bool = False
) -> list[Text]:
    """The texts in which the words `wanted` (boolean [N]) are embedded; every one exactly once.

    context="sentence": the word's sentence as presented. Where `stimulus.sentence` is None it comes
        from `split_sentences`; where, besides, there are no onsets and no sentence-final
        punctuation, the words are isolated items and each is a text of its own (with a warning).
    context="window": the `window` words before it as presented, within its run, and the word itself.
    context="word": the cleaned word alone (as presented if cleaning leaves nothing), in lower case
        if `lower`, which has no effect on the other texts.
    """
    rows = np.flatnonzero(wanted)
    words = stimulus.words
    if context == "word":
        texts = []
        for row in rows:
            core = clean_word(words[row]) or words[row]
            texts.append(Text((core.lower() if lower else core,), ((0, int(row)),)))
        return texts
    run = np.zeros(len(words), np.int32) if stimulus.run is None else stimulus.run
    if context == "window":
        texts = []
        run_start = _starts(run)
        for row in rows:
            start = max(int(run_start[row]), int(row) - window)
            texts.append(Text(words[start : row + 1], ((int(row) - start, int(row)),)))
        return texts
    sentence = stimulus.sentence
    if sentence is None:
        sentence = split_sentences(words, stimulus.run)
        untimed = stimulus.onsets is None
        if untimed and len(words) > 1 and not _has_sentence_end(words):
            warnings.warn(
                f"the {len(words)} words have no onsets, no sentences and no sentence-final "
                "punctuation: each is embedded as an isolated item; pass sentence= for running text",
                stacklevel=3,
            )
            sentence = np.arange(len(words))
    _, key = np.unique(np.stack([run, sentence]), axis=1, return_inverse=True)
    start = _starts(key)
    texts = []
    for first in np.unique(start[rows]):
        members = np.flatnonzero(start == first)
        texts.append(
            Text(
                words[first : members[-1] + 1],
                tuple((int(row - first), int(row)) for row in members if wanted[row]),
            )
        )
    return texts


def _starts(key: np.ndarray) -> np.ndarray:
    """For every element the index at which its stretch of equal, adjacent keys starts."""
    change = np.r_[True, key[1:] != key[:-1]]
    return np.maximum.accumulate(np.where(change, np.arange(len(key)), 0))


def _has_sentence_end(words: Sequence[str]) -> bool:
    return any(word.rstrip("\"'”’)]").endswith((".", "?", "!", "…")) for word in words)


def encode_texts(tokenizer: WordTokenizer, texts: Sequence[Text], *, max_length: int) -> Sequences:
    """Sub-token sequences of the texts, none longer than max_length, equal texts only once.

    A text that is too long is cut, with a warning, between words into windows that start with up to
    half a window of context, each word being a target in one of them.

    Raises ValueError for a wanted word that gets no sub-token, or more than fit.
    """
    budget = tokenizer.budget(max_length)
    if budget < 1:
        raise ValueError(f"max_length is {max_length}: no room beside the special tokens")
    merged: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for text in texts:
        positions = merged.setdefault(text.words, {})
        for position, row in text.targets:
            positions.setdefault(position, []).append(row)
    sequences = Sequences([], [])
    cut = 0
    items = list(merged.items())
    for chunk in range(0, len(items), 1024):
        part = items[chunk : chunk + 1024]
        for (words, positions), encoded in zip(
            part, tokenizer.encode([words for words, _ in part]), strict=True
        ):
            pieces = list(_windows(encoded, budget, words, positions))
            cut += len(encoded.ids) > budget
            for first, stop, targets in pieces:
                begin, end = encoded.bounds[first], encoded.bounds[stop]
                shift = len(tokenizer.prefix) - begin
                ids = np.r_[tokenizer.prefix, encoded.ids[begin:end], tokenizer.suffix]
                sequences.ids.append(ids.astype(np.int32))
                sequences.targets.append(
                    [
                        (
                            tuple(positions[position]),
                            tuple(int(token + shift) for token in encoded.pooled[position]),
                        )
                        for position in targets
                    ]
                )
    if cut:
        warnings.warn(
            f"{cut} of {len(items)} texts are longer than the model's {max_length} sub-tokens and "
            "were cut into windows; words near a cut have less context",
            stacklevel=3,
        )
    return sequences


def _windows(
    encoded: EncodedText, budget: int, words: Sequence[str], positions: dict[int, list[int]]
) -> Iterator[tuple[int, int, list[int]]]:
    """(first word, stop word, positions wanted) of the pieces of one text that fit the budget."""
    bounds = encoded.bounds
    for position in sorted(positions):
        row = positions[position][0]
        if not encoded.pooled[position]:
            raise ValueError(
                f"word {row} ({words[position]!r}) gets no sub-token: the tokenizer deletes its "
                "characters; drop or respell the word"
            )
        length = bounds[position + 1] - bounds[position]
        if length > budget:
            shown = words[position] if len(words[position]) <= 40 else words[position][:40] + "…"
            raise ValueError(
                f"word {row} ({shown!r}, {len(words[position])} characters) has {length} "
                f"sub-tokens, and the model takes {budget}; drop or shorten the word"
            )
    wanted = sorted(positions)
    while wanted:
        target = wanted[0]
        if bounds[-1] <= budget:
            first, stop = 0, len(words)
        else:
            # Up to half a window of what comes before, less if the target alone needs the room; a
            # text whose only target is its last word ("window") keeps all the context that fits.
            room = budget - (bounds[target + 1] - bounds[target])
            left = room if target == len(words) - 1 else min(room, budget // 2)
            first = int(np.searchsorted(bounds, bounds[target] - left, side="left"))
            stop = int(np.searchsorted(bounds, bounds[first] + budget, side="right")) - 1
        yield first, stop, [position for position in wanted if position < stop]
        wanted = [position for position in wanted if position >= stop]


def batches(
    sequences: Sequences, *, max_length: int, batch_size: int, pooling: str, pad_id: int
) -> Iterator[Batch]:
    """Batches of sequences of like length: few static shapes, so few compiled programs.

    A sequence is padded to the next of 8, 16, 32, ... (at most max_length), whatever batch it is in.
    Rows that fill up a batch are one padding token; a bucket with fewer sequences than batch_size
    uses the next power of two, and one of more than 128 sub-tokens proportionally fewer rows, so
    that hidden states do not outgrow the memory. W is one if every sequence of the bucket has one
    target, else T.
    """
    lengths = np.array([len(ids) for ids in sequences.ids], np.int64)
    sizes = [size for size in _BUCKETS if size < max_length] + [max_length]
    bucket = np.searchsorted(sizes, lengths)
    for index in np.unique(bucket):
        time = sizes[index]
        members = np.flatnonzero(bucket == index)
        members = members[np.argsort(lengths[members], kind="stable")]
        rows = min(batch_size, max(1, batch_size * 128 // time))
        rows = min(rows, 2 ** int(np.ceil(np.log2(len(members)))))
        widest = max(len(sequences.targets[member]) for member in members)
        slots = 1 if widest == 1 else max(time, widest)
        for start in range(0, len(members), rows):
            yield _batch(
                sequences, members[start : start + rows], (rows, slots, time), pooling, pad_id
            )


def _batch(sequences, members, shape, pooling, pad_id) -> Batch:
    rows, _, time = shape
    ids = np.full((rows, time), pad_id, np.int32)
    mask = np.zeros((rows, time), np.int32)
    # A row without any valid token would have a softmax over nothing.
    mask[:, 0] = 1
    weights = np.zeros(shape, np.float32)
    where: list[tuple[int, int, int]] = []
    for line, member in enumerate(members):
        length = len(sequences.ids[member])
        ids[line, :length] = sequences.ids[member]
        mask[line, :length] = 1
        for slot, (owners, tokens) in enumerate(sequences.targets[member]):
            chosen = {"mean": tokens, "first": tokens[:1], "last": tokens[-1:]}[pooling]
            weights[line, slot, list(chosen)] = 1 / len(chosen)
            where.extend((line, slot, row) for row in owners)
    sequence, slot, row = np.array(where, np.int64).T
    return Batch(ids, mask, weights, sequence, slot, row)
