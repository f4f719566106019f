"""Texts a model reads: in which context each word of a stimulus is embedded, cut to the model's size."""

from __future__ import annotations

import bisect
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.language.text.tokens import EncodedText, WordTokenizer
from brainalign_jax.scripts import NO_LANGUAGE
from brainalign_jax.stimulus import Stimulus, clean_word, may_end_sentence, split_sentences


class Text(NamedTuple):
    """words: the text; targets: (position in words, row of the stimulus) of the words wanted."""

    words: tuple[str, ...]
    targets: tuple[tuple[int, int], ...]


class Sequences(NamedTuple):
    """What the model reads. ids: one int32 vector a sequence, special tokens included; targets: for
    every sequence the wanted words as (rows of the stimulus, indices into ids to pool); split: words
    too long for one sequence, as (rows, ((sequence, indices), ...)); spans: for every target the
    (first, stop) of its word in ids, punctuation and the space before it included."""

    ids: list[np.ndarray]
    targets: list[list[tuple[tuple[int, ...], tuple[int, ...]]]]
    split: list[tuple[tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]]
    spans: Sequence[list[tuple[int, int]]] = ()


def texts_of(
    stimulus: Stimulus,
    wanted: np.ndarray,
    *,
    context: str,
    window: int = 20,
    stride: int = 1,
    lower: bool = False,
) -> list[Text]:
    """The texts in which the words `wanted` (boolean [N]) are embedded; every one exactly once.

    context="sentence": the word's sentence as presented. Where `stimulus.sentence` is None it comes
        from `split_sentences`; where, besides, there are no onsets and no sentence-final
        punctuation, the words are isolated items and each is a text of its own (with a warning).
    context="window": the `window` words before it as presented, within its run, and the word itself.
        With a stride above 1, `stride` words are read together after the `window` words before the
        first of them: each has at least `window` words before it, and what a model of both
        directions reads of a word includes those behind it in its stride.
    context="growing": all of its run, from the start; `encode_texts` starts anew with half a
        context where it exceeds the model's length.
    context="word": the cleaned word alone (as presented if cleaning leaves nothing), in lower case
        if `lower`, which has no effect on the other texts. A causal model reads it with a space before
        it, as in running text: without it "dog" is a piece of a word to byte-level BPE.

    Raises: ValueError for items that are no words.
    """
    rows = np.flatnonzero(wanted)
    words = stimulus.words
    if stimulus.language == NO_LANGUAGE:
        raise ValueError(
            f"the items ({', '.join(words[:2])}, …) are no words: what a language model makes of their names "
            "says nothing of what was shown; give vectors of the items as static:FILE"
        )
    if context == "word":
        texts = []
        for row in rows:
            core = clean_word(words[row]) or words[row]
            texts.append(Text((core.lower() if lower else core,), ((0, int(row)),)))
        return texts
    run = np.zeros(len(words), np.int32) if stimulus.run is None else stimulus.run
    if context == "window":
        return _strides(words, wanted, _starts(run), window, stride)
    if context == "growing":
        return _stretches(words, wanted, run)
    sentence = stimulus.sentence
    if sentence is None:
        sentence = split_sentences(words, stimulus.run)
        untimed = stimulus.onsets is None
        if untimed and len(words) > 1 and not any(map(may_end_sentence, words)):
            warnings.warn(
                f"the {len(words)} words have no onsets, no sentences and no sentence-final "
                "punctuation: each is embedded as an isolated item; pass sentence= for running text",
                stacklevel=3,
            )
            sentence = np.arange(len(words))
    _, key = np.unique(np.stack([run, sentence]), axis=1, return_inverse=True)
    return _stretches(words, wanted, key)


def begins_with_blank(context: str, *, causal: bool) -> bool:
    """Whether a text begins with a space: where a causal model reads a word alone, see `texts_of`."""
    return context == "word" and causal


def _strides(
    words: Sequence[str], wanted: np.ndarray, run_start: np.ndarray, window: int, stride: int
) -> list[Text]:
    texts = []
    for first in np.unique(run_start):
        end = int(np.searchsorted(run_start, first, side="right"))
        for begin in range(int(first), end, stride):
            stop = min(begin + stride, end)
            start = max(int(first), begin - window)
            targets = tuple((row - start, row) for row in range(begin, stop) if wanted[row])
            if targets:
                texts.append(Text(words[start:stop], targets))
    return texts


def _stretches(words: Sequence[str], wanted: np.ndarray, key: np.ndarray) -> list[Text]:
    """A text for each stretch of equal, adjacent keys in which a word is wanted."""
    start = _starts(key)
    texts = []
    for first in np.unique(start[wanted]):
        stop = int(np.searchsorted(start, first, side="right"))
        targets = tuple((row - int(first), row) for row in range(first, stop) if wanted[row])
        texts.append(Text(words[first:stop], targets))
    return texts


def _starts(key: np.ndarray) -> np.ndarray:
    """For every element the index at which its stretch of equal, adjacent keys starts."""
    change = np.r_[True, key[1:] != key[:-1]]
    return np.maximum.accumulate(np.where(change, np.arange(len(key)), 0))


def encode_texts(
    tokenizer: WordTokenizer,
    texts: Sequence[Text],
    *,
    max_length: int,
    blank: bool = False,
    language: str | None = None,
    announce_cuts: bool = True,
) -> Sequences:
    """Sub-token sequences of the texts, none longer than max_length, equal texts only once.

    A text that is too long is cut between words into windows that start with up to half a window
    of context, each word being a target in one of them (with a warning, if `announce_cuts`). A
    word longer than max_length is split, with a warning, into parts that are read on their own.
    blank: a space before each text, as where a word follows another. language: as of `WordTokenizer.encode`.

    Raises ValueError for a wanted word that gets no sub-token.
    """
    budget = tokenizer.budget(max_length)
    if budget < 1:
        raise ValueError(f"max_length is {max_length}: no room beside the special tokens")
    merged: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for text in texts:
        positions = merged.setdefault(text.words, {})
        for position, row in text.targets:
            positions.setdefault(position, []).append(row)
    all_spans: list[list[tuple[int, int]]] = []
    sequences = Sequences([], [], [], all_spans)
    cut, too_long = 0, []
    items = list(merged.items())

    def add(encoded: EncodedText, begin: int, end: int, targets: list, spans: list) -> int:
        ids = np.r_[tokenizer.prefix, encoded.ids[begin:end], tokenizer.suffix]
        sequences.ids.append(ids.astype(np.int32))
        sequences.targets.append(targets)
        all_spans.append(spans)
        return len(sequences.ids) - 1

    for chunk in range(0, len(items), 1024):
        part = items[chunk : chunk + 1024]
        encodings = tokenizer.encode([words for words, _ in part], blank=blank, language=language)
        for (words, positions), encoded in zip(part, encodings, strict=True):
            _refuse_empty(encoded, words, positions)
            bounds, prefix = encoded.bounds, len(tokenizer.prefix)
            long = {p for p in positions if bounds[p + 1] - bounds[p] > budget}
            cut += len(encoded.ids) > budget and len(words) > 1
            wanted = sorted(set(positions) - long)
            for first, stop, targets in windows(bounds, budget, wanted):
                begin = bounds[first]
                pooled = [
                    (
                        tuple(positions[position]),
                        tuple(int(token + prefix - begin) for token in encoded.pooled[position]),
                    )
                    for position in targets
                ]
                shift = prefix - begin
                spans = [(int(bounds[p] + shift), int(bounds[p + 1] + shift)) for p in targets]
                add(encoded, begin, bounds[stop], pooled, spans)
            for position in sorted(long):
                pieces = []
                for begin in range(bounds[position], bounds[position + 1], budget):
                    end = min(begin + budget, bounds[position + 1])
                    inside = [t for t in encoded.pooled[position] if begin <= t < end]
                    if inside:
                        tokens = tuple(int(token + prefix - begin) for token in inside)
                        pieces.append((add(encoded, begin, end, [], []), tokens))
                sequences.split.append((tuple(positions[position]), tuple(pieces)))
                too_long.append((words[position], positions[position][0]))
    if too_long:
        word, row = too_long[0]
        warnings.warn(
            f"{len(too_long)} words have more sub-tokens than the {budget} that the model reads at "
            f"once (word {row}, {word[:40]!r}, {len(word)} characters): each is split into parts, "
            "read without context and pooled together",
            stacklevel=3,
        )
    if cut and announce_cuts:
        warnings.warn(
            f"{cut} of {len(items)} texts are longer than the model's {max_length} sub-tokens and "
            "were cut into windows; words near a cut have less context",
            stacklevel=3,
        )
    return sequences


def _refuse_empty(
    encoded: EncodedText, words: Sequence[str], positions: dict[int, list[int]]
) -> None:
    for position, rows in positions.items():
        if not encoded.pooled[position]:
            raise ValueError(
                f"word {rows[0]} ({words[position]!r}) gets no sub-token: the tokenizer deletes its "
                "characters; drop or respell the word"
            )


def windows(
    bounds: np.ndarray, budget: int, wanted: Sequence[int]
) -> Iterator[tuple[int, int, Sequence[int]]]:
    """What is read at once of one text: (first word, stop word, words wanted of them), each within
    the budget of sub-tokens. bounds: as `EncodedText.bounds`; wanted: in order, each of which fits."""
    n_words, done = len(bounds) - 1, 0
    while done < len(wanted):
        target = wanted[done]
        if bounds[-1] <= budget:
            first, stop = 0, n_words
        else:
            # Up to half a window of what comes before, less if the target alone needs the room; a
            # text whose only target is its last word ("window") keeps all the context that fits.
            room = budget - (bounds[target + 1] - bounds[target])
            left = room if target == n_words - 1 else min(room, budget // 2)
            first = int(np.searchsorted(bounds, bounds[target] - left, side="left"))
            stop = int(np.searchsorted(bounds, bounds[first] + budget, side="right")) - 1
        begin, done = done, bisect.bisect_left(wanted, stop, done)
        yield first, stop, wanted[begin:done]


def fertility(sequences: Sequences) -> float:
    """Mean number of sub-tokens that make a word's vector, over the word tokens: how finely they are cut."""
    counts = [(len(rows), len(tokens)) for targets in sequences.targets for rows, tokens in targets]
    counts += [
        (len(rows), sum(len(tokens) for _, tokens in parts)) for rows, parts in sequences.split
    ]
    n_words = sum(n_rows for n_rows, _ in counts)
    return sum(n_rows * n_tokens for n_rows, n_tokens in counts) / n_words


def count_unknown(stimulus: Stimulus, sequences: Sequences, tokenizer: WordTokenizer) -> int:
    """How many word tokens have a piece that the vocabulary lacks; warns if there are any."""
    if tokenizer.unknown_id is None:
        return 0
    pieces = [
        (rows, ids[list(tokens)])
        for ids, targets in zip(sequences.ids, sequences.targets, strict=True)
        for rows, tokens in targets
    ]
    pieces += [
        (rows, np.concatenate([sequences.ids[member][list(tokens)] for member, tokens in parts]))
        for rows, parts in sequences.split
    ]
    unknown = [row for rows, ids in pieces if (ids == tokenizer.unknown_id).any() for row in rows]
    if unknown:
        words = list(dict.fromkeys(stimulus.words[row] for row in unknown))
        shown = ", ".join(repr(word[:40]) for word in words[:5])
        warnings.warn(
            f"{len(unknown)} word tokens ({shown}{', ...' if len(words) > 5 else ''}) are not in "
            "the tokenizer's vocabulary: they share the vector of its unknown token",
            stacklevel=4,
        )
    return len(unknown)
