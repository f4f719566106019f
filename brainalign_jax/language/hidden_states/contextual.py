"""The word vectors of a loaded model, and the surprisal of the words out of the same pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.embedding import EmbedOptions
from brainalign_jax.language.hidden_states import extraction, streaming
from brainalign_jax.language.hidden_states.head_vectors import written_by_heads
from brainalign_jax.language.hidden_states.streaming import Layers
from brainalign_jax.language.models.blocks.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.heads import Head
from brainalign_jax.language.text import contexts, predicted_tokens
from brainalign_jax.language.text.packing import Packing
from brainalign_jax.language.text.tokens import WordTokenizer
from brainalign_jax.stimulus import Stimulus

LONGEST = 4096  # sub-tokens of a text, unless the caller says otherwise


class ContextualVectors(NamedTuple):
    """values: [L, rows, D] float32; final: [rows, D_final] or None; n_unknown: how many tokens have
    a piece that the vocabulary lacks; first: [rows] bool, rows most of whose words open their text;
    fertility: mean sub-tokens of a word token; surprisal: [N] float32, or None."""

    values: np.ndarray
    final: np.ndarray | None
    n_unknown: int
    first: np.ndarray
    fertility: float
    surprisal: np.ndarray | None = None


def contextual_vectors(
    stimulus: Stimulus,
    model: LanguageModel | Layers,
    tokenizer: WordTokenizer,
    options: EmbedOptions,
    *,
    token_to_row: np.ndarray,
    pack: bool = True,
    interventions: Any = None,
    read_head: Callable[[LanguageModel], Head] | None = None,
    saver: extraction.Saver | None = None,
    progress: str | Callable[[float], None] | None = None,
) -> ContextualVectors:
    """`embed` for a loaded model. Row r is the mean over the tokens with token_to_row [N] == r;
    tokens at -1 are left out. pack: several texts share a row of a batch. interventions: what is switched
    off in the model. read_head: gives a causal model's language-model head, for surprisal. progress: the
    label of a progress bar, or what is told of the shares of the work."""
    texts, sequences, packing = packed_words(
        stimulus,
        model.config,
        tokenizer,
        options,
        token_to_row=token_to_row,
        pack=pack,
        score=read_head is not None,
    )
    last = options.sublayers or options.last
    n_unknown = contexts.count_unknown(stimulus, sequences, tokenizer)
    whole = isinstance(model, LanguageModel)
    n_steps = 1 if whole else model.config.n_layers + 1
    with _progress_bar(progress, packing.n_words * n_steps, whole) as bar:
        sums = (extraction if whole else streaming).extract(
            model,
            packing,
            int(token_to_row.max()) + 1,
            last=last,
            interventions=interventions,
            read_head=read_head,
            saver=saver,
            on_words=bar.update,
        )
    surprisal = sums.surprisal
    if surprisal is not None:
        surprisal = predicted_tokens.word_values(surprisal, sequences, tokenizer, stimulus)
    first = _openers(texts, token_to_row)
    fertility = contexts.fertility(sequences)
    states = sums.states
    if last == "heads":
        states = written_by_heads(model, states)
    return ContextualVectors(states, sums.final, n_unknown, first, fertility, surprisal)


def packed_words(
    stimulus: Stimulus,
    config: TransformerConfig,
    tokenizer: WordTokenizer,
    options: EmbedOptions,
    *,
    token_to_row: np.ndarray,
    pack: bool = True,
    score: bool = False,
) -> tuple[list[contexts.Text], contexts.Sequences, Packing]:
    """(texts, their sub-tokens, batches of these) in which a model reads the words."""
    context = options.context
    _warn_of_later_words(config, context, options.stride)
    texts = contexts.texts_of(
        stimulus,
        token_to_row >= 0,
        context=context,
        window=int(options.window),
        stride=int(options.stride),
        lower=options.lower,
    )
    sequences = contexts.encode_texts(
        tokenizer,
        texts,
        max_length=min(config.max_length, options.max_tokens or LONGEST),
        blank=contexts.begins_with_blank(context, causal=config.causal),
        language=stimulus.language,
        announce_cuts=context != "growing",
    )
    packing = Packing(
        sequences,
        token_to_row,
        pooling=options.pooling,
        batch_tokens=options.batch_tokens or extraction.default_batch_tokens(),
        width=config.width,
        pad_id=tokenizer.pad_id,
        pack=pack,
        score=score,
    )
    return texts, sequences, packing


def _openers(texts: list[contexts.Text], token_to_row: np.ndarray) -> np.ndarray:
    """[rows] bool: rows most of whose words are the first of their text."""
    n_rows = int(token_to_row.max()) + 1
    words, openers = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    for text in texts:
        for position, token in text.targets:
            words[token_to_row[token]] += 1
            openers[token_to_row[token]] += position == 0
    return 2 * openers > words


def _progress_bar(shown: str | Callable[[float], None] | None, total: int, whole: bool):
    from tqdm.auto import tqdm

    if callable(shown):
        return _Told(shown, total)
    unit = "word" if whole else "word x layer"
    # None: no bar where the output is no terminal.
    return tqdm(total=total, desc=shown, unit=unit, disable=True if shown is None else None)


class _Told:
    """A progress bar's part that tells a function the shares of the work."""

    def __init__(self, tell: Callable[[float], None], total: int):
        self._tell, self._total = tell, max(total, 1)

    def update(self, n: float) -> None:
        self._tell(n / self._total)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _warn_of_later_words(config: TransformerConfig, context: str, stride: int) -> None:
    if config.causal or not (context == "growing" or (context == "window" and stride > 1)):
        return
    behind = "up to the end of its text" if context == "growing" else f"up to {stride - 1}"
    warnings.warn(
        f"a {config.family} model reads in both directions: with context={context!r} a word's vector "
        f"depends on the words behind it, {behind}",
        stacklevel=5,
    )
