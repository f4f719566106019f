"""Surprisal of the words of a stimulus: how unexpected a language model finds them in context.

A causal model: minus the log-probability of the word's sub-tokens given what stands before them,
summed. A model of both directions: minus the pseudo-log-likelihood (Salazar et al. 2020), each
sub-token masked in turn; "within_word_l2r" also masks the sub-tokens behind it in the same word of
the tokenizer (Kauf and Ivanova 2023). Both as minicons defines them. A word is the word as
presented, its punctuation included; the space before it is the word's.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.embedding import Embedding
from brainalign_jax.language.models import checkpoint, registry
from brainalign_jax.language.models.blocks.blocks import Interventions
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import Head, load_head
from brainalign_jax.language.models.interventions import Specification, gates, parse, reinitialise
from brainalign_jax.language.models.registry import ModelSpec
from brainalign_jax.language.text import contexts, predicted_tokens
from brainalign_jax.language.text.tokens import WordTokenizer, load_tokenizer
from brainalign_jax.names import check_known
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.threads import check_not_forked

UNITS = ("nats", "bits")
METRICS = ("within_word_l2r", "original")
_SHORTEST = 16


class _Piece(NamedTuple):
    """A sequence the model reads. ids: special tokens included; spans: the words scored in it, as
    (row of the stimulus, first, stop) over ids; first may be 0 where nothing stands before it;
    groups: for every id the number of its word in the tokenizer's eyes, -1 for special tokens."""

    ids: np.ndarray
    spans: list[tuple[int, int, int]]
    groups: np.ndarray


def surprisal(
    stimulus: Stimulus,
    model: str | ModelSpec,
    *,
    context: str = "sentence",
    window: int = 20,
    stride: int = 1,
    unit: str = "nats",
    metric: str = "within_word_l2r",
    bos: str = "auto",
    interventions: str | Specification | None = None,
    dtype: Any = jnp.float32,
    batch_tokens: int = 2048,
    max_tokens: int | None = None,
    seed: int = 0,
    revision: str | None = None,
) -> np.ndarray:
    """The surprisal of every word token, [N] float32; NaN where it is not defined.

    model: as for `embed`, with a language-model head.
    context, window, stride: as for `embed`: what the model reads before the word (and behind it, if
        it is one of both directions).
    unit: "nats" or "bits".
    metric: of models of both directions, see above.
    bos: as for `embed`: "auto" puts the first token in front of each text of a causal model whose tokenizer
        puts nothing there (GPT-2, Pythia). With "never" the first word of a text is NaN there.
    interventions: parts of the model switched off or drawn anew; see `interventions.parse`.
    batch_tokens: about how many sub-tokens are computed at once; max_tokens: the longest text.
    dtype: of the computation. seed: of untrained weights and draws. revision: of a checkpoint on the hub.

    NaN, with a warning, also for words that the vocabulary lacks and for words that do not fit into
    the model's length. Raises ValueError for unknown options and a checkpoint without a head.

    `causal_checkpoint` is the folder of a GPT-2; a name as "gpt2" does as well:

    >>> import brainalign_jax as ba
    >>> stimulus = ba.Stimulus.from_words("the cat sat on the mat.".split())
    >>> bits = ba.surprisal(stimulus, causal_checkpoint, unit="bits")
    >>> bits.shape, bool((bits > 0).all())
    ((6,), True)
    """
    check_not_forked()
    check_known("unit=", unit, UNITS)
    check_known("metric=", metric, METRICS)
    Embedding(context=context, bos=bos)  # checks them
    specification = parse(interventions)
    spec = registry.resolve(model) if isinstance(model, str) else model
    loaded = checkpoint.load_model(spec, dtype=dtype, seed=seed, revision=revision)
    head = load_head(spec, loaded, seed=seed, revision=revision)
    loaded = reinitialise(loaded, specification)
    folder = checkpoint.locate(spec.source, revision=revision, weights=spec.kind == "checkpoint")
    tokenizer = load_tokenizer(folder, family=loaded.family)
    tokenizer = tokenizer.with_bos(bos, causal=loaded.config.causal)
    values = score_words(
        stimulus,
        loaded,
        head,
        tokenizer,
        context=context,
        window=window,
        stride=stride,
        metric=metric,
        interventions=gates(specification, loaded.config),
        batch_tokens=batch_tokens,
        max_tokens=max_tokens,
    ).nats
    return (values / np.log(2) if unit == "bits" else values).astype(np.float32)


class WordScores(NamedTuple):
    """Of N words: nats [N] float64, their surprisal, as `surprisal` has it; likeliest [N], whether the model
    would have said the word: each of its sub-tokens is the likeliest where it is predicted."""

    nats: np.ndarray
    likeliest: np.ndarray


def score_words(
    stimulus: Stimulus,
    model: LanguageModel,
    head: Head,
    tokenizer: WordTokenizer,
    *,
    context: str,
    window: int = 20,
    stride: int = 1,
    metric: str = "within_word_l2r",
    interventions: Interventions | None = None,
    batch_tokens: int = 2048,
    max_tokens: int | None = None,
) -> WordScores:
    """Surprisal of all words by a loaded model, and whether they are the likeliest ones."""
    causal = model.config.causal
    prefix = tokenizer.prefix
    suffix = () if causal else tokenizer.suffix
    length = min(model.max_length, max_tokens or 4096)
    every = np.ones(len(stimulus), bool)
    texts = contexts.texts_of(stimulus, every, context=context, window=window, stride=stride)
    blank = contexts.begins_with_blank(context, causal=causal)
    encode = functools.partial(tokenizer.encode, language=stimulus.language)
    pieces, lost = _pieces(encode, texts, prefix, suffix, length, blank)
    values = np.full(len(stimulus), np.nan)
    values[[row for piece in pieces for row, first, _ in piece.spans if first or not causal]] = 0
    mask_id = None if causal else _mask_id(tokenizer)
    work = _causal_work(pieces) if causal else _masked_work(pieces, metric, mask_id)
    jobs = sorted(work, key=lambda job: len(job[0]))
    highest = max((int(ids.max()) for ids, _, _, _ in jobs), default=0)
    if highest >= model.config.vocab_size:
        raise ValueError(
            f"token id {highest} is outside the vocabulary of {model.config.vocab_size} entries; "
            "use the tokenizer that belongs to this checkpoint."
        )
    likeliest = ~np.isnan(values)
    graph, state = nnx.split((model, head))
    for batch in _batches(jobs, length, batch_tokens, tokenizer.pad_id):
        scores = _run_compiled(
            graph, state, batch.ids, batch.mask, batch.place, batch.target, interventions
        )
        real = slice(len(batch.row))
        np.subtract.at(values, batch.row, np.asarray(scores.log_probability, np.float64)[real])
        likeliest[batch.row[~np.asarray(scores.likeliest)[real]]] = False
    texts_read = [(piece.ids, piece.spans) for piece in pieces]
    predicted_tokens.give_up_on_unknown(values, texts_read, tokenizer, stimulus)
    if lost:
        shown = ", ".join(repr(stimulus.words[row][:40]) for row in lost[:5])
        warnings.warn(
            f"{len(lost)} words ({shown}) have no sub-token, or more than the {length} the model "
            "reads at once: their surprisal is NaN",
            stacklevel=3,
        )
    return WordScores(values, likeliest & ~np.isnan(values))


def _pieces(encode, texts, prefix, suffix, length, blank) -> tuple[list[_Piece], list[int]]:
    """The sequences in which every word of the texts that fits is scored once."""
    budget = length - len(prefix) - len(suffix)
    pieces, lost = [], []
    for start in range(0, len(texts), 1024):
        part = texts[start : start + 1024]
        words = [text.words for text in part]
        for text, encoded in zip(part, encode(words, blank=blank), strict=True):
            bounds, owner = encoded.bounds, encoded.pretokens
            row_of = dict(text.targets)
            fits = [p for p in sorted(row_of) if 0 < bounds[p + 1] - bounds[p] <= budget]
            lost += [row_of[p] for p in set(row_of) - set(fits)]
            for first, stop, targets in contexts.windows(bounds, budget, fits):
                inside = slice(bounds[first], bounds[stop])
                shift = len(prefix) - bounds[first]
                ids = np.r_[prefix, encoded.ids[inside], suffix].astype(np.int32)
                around = [np.full(len(special), -1) for special in (prefix, suffix)]
                spans = [
                    (row_of[p], int(bounds[p] + shift), int(bounds[p + 1] + shift)) for p in targets
                ]
                owners = np.r_[around[0], owner[inside], around[1]]
                pieces.append(_Piece(ids, spans, owners))
    return pieces, sorted(lost)


# A job: ids, and over the sub-tokens scored in them: the place whose state predicts, the target
# id, the row of the stimulus.
_Job = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _causal_work(pieces: list[_Piece]) -> Iterator[_Job]:
    for piece in pieces:
        scored = predicted_tokens.predicted(piece.ids, piece.spans)
        if len(scored.row):
            # The last sub-token predicts nothing that is scored.
            yield piece.ids[: scored.place.max() + 2], *scored


def _masked_work(pieces: list[_Piece], metric: str, mask_id: int) -> Iterator[_Job]:
    for piece in pieces:
        for row, first, stop in piece.spans:
            for token in range(first, stop):
                ids = piece.ids.copy()
                ids[token] = mask_id
                if metric == "within_word_l2r":
                    behind = np.arange(len(ids)) > token
                    ids[behind & (piece.groups == piece.groups[token])] = mask_id
                yield ids, np.array([token]), piece.ids[token : token + 1], np.array([row])


class _Batch(NamedTuple):
    """ids, mask: [B, T] int32; place: [K] into B × T, target: [K] ids, padded; row: as many as are
    real."""

    ids: np.ndarray
    mask: np.ndarray
    place: np.ndarray
    target: np.ndarray
    row: np.ndarray


def _batches(jobs: list[_Job], length: int, batch_tokens: int, pad_id: int) -> Iterator[_Batch]:
    """Jobs of like length together: one shape for each power of two, K = B × T or B.

    jobs: by length, the shortest first. Fewer jobs than would fill a batch share a smaller one.
    """
    single = all(len(place) == 1 for _, place, _, _ in jobs)

    def padded_length(job: _Job) -> int:
        return min(max(_SHORTEST, _power_of_two(len(job[0]))), length)

    for time, group in itertools.groupby(jobs, padded_length):
        alike = list(group)
        rows = min(max(1, batch_tokens // time), _power_of_two(len(alike)))
        for start in range(0, len(alike), rows):
            yield _batch(alike[start : start + rows], rows, time, pad_id, single=single)


def _batch(jobs: list[_Job], rows: int, time: int, pad_id: int, *, single: bool) -> _Batch:
    ids = np.full((rows, time), pad_id, np.int32)
    mask = np.zeros((rows, time), np.int32)
    mask[:, 0] = 1  # a row without any token would have a softmax over nothing
    places, targets, owners = [], [], []
    for line, (tokens, place, target, row) in enumerate(jobs):
        ids[line, : len(tokens)], mask[line, : len(tokens)] = tokens, 1
        places.append(line * time + place)
        targets.append(target)
        owners.append(row)
    padded = np.zeros((2, rows if single else rows * time), np.int32)
    joined = np.concatenate(places), np.concatenate(targets)
    padded[:, : len(joined[0])] = joined
    return _Batch(ids, mask, padded[0], padded[1], np.concatenate(owners))


def _power_of_two(number: int) -> int:
    """The smallest that is not below number."""
    return 1 << (number - 1).bit_length()


def _run(graph, state, ids, mask, place, target, interventions):
    model, head = nnx.merge(graph, state)
    states = model.last_state(ids, mask, interventions=interventions)
    return predicted_tokens.token_scores(model, head, states, place, target)


_run_compiled = jax.jit(_run, static_argnums=0)


def _mask_id(tokenizer: WordTokenizer) -> int:
    for token in ("[MASK]", "<mask>"):
        number = tokenizer.backend.token_to_id(token)
        if number is not None:
            return number
    raise ValueError("the tokenizer has no [MASK] or <mask>, which pseudo-surprisal needs")
