"""A model that is asked for the surprisal of words: loaded once, for all that is measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.language.models import checkpoint, registry
from brainalign_jax.language.models.heads import load_head
from brainalign_jax.language.surprisal import score_words
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus

_STEP = re.compile(r"@step(\d+)$")
_LONGEST = 4096  # sub-tokens that are read at once, of a model that takes more


class TextScores(NamedTuple):
    """Of the N words of a text: bits [N], their surprisal; likeliest [N], as of `surprisal.WordScores`."""

    bits: np.ndarray
    likeliest: np.ndarray


class Scorer:
    """The surprisal of words, in bits, by a causal model, or one of both directions, with its head.

    Raises: ValueError for word vectors, and for a checkpoint without a language-model head.
    """

    def __init__(self, name: str, *, bos: str = "auto", seed: int = 0):
        spec = registry.resolve(name)
        if spec.kind == "static":
            raise ValueError(
                f"{name} is a table of word vectors, which predicts no words: leave it out."
            )
        self.name = name
        self.model = checkpoint.load_model(spec, seed=seed)
        self._head = load_head(spec, self.model, seed=seed)
        folder = checkpoint.locate(spec.source, weights=spec.kind == "checkpoint")
        tokenizer = load_tokenizer(folder, family=self.model.family)
        self._tokenizer = tokenizer.with_bos(bos, causal=self.causal)

    @property
    def causal(self) -> bool:
        """Whether the model reads from left to right; else surprisal is the pseudo-log-likelihood's."""
        return self.model.config.causal

    @property
    def room(self) -> int:
        """How many sub-tokens of a text the model reads at once, beside the special ones."""
        special = self._tokenizer.prefix + (() if self.causal else self._tokenizer.suffix)
        return min(self.model.max_length, _LONGEST) - len(special)

    @property
    def n_params(self) -> int:
        """Number of parameters, without the head."""
        return int(self.model.n_params)

    @property
    def step(self) -> float:
        """The training step that the name ends with ("@step1000"); NaN where it names none."""
        named = _STEP.search(self.name)
        return float(named[1]) if named else np.nan

    @property
    def reads(self) -> str:
        """In which direction the model reads: a probability by the one kind is none by the other."""
        return "from left to right" if self.causal else "in both directions"

    def facts(self) -> dict[str, object]:
        """What a manifest says of the model."""
        return {
            "name": self.name,
            "family": self.model.family,
            "n_params": self.n_params,
            "first_token": self._tokenizer.first_token(),
            "reads": self.reads,
        }

    def bits(
        self, words: Sequence[str], text: Sequence[int], *, context: str = "sentence"
    ) -> np.ndarray:
        """The surprisal of every word, [N] float64 bits; NaN as of `language.surprisal`.

        text: [N] which text each word is of; texts follow one another. context: "sentence" reads each text
        by itself; "growing" does so, too, however long it is, and "sentences" its sentences one by one.
        """
        return self._scores(words, text, context).bits

    def text_scores(self, texts: Sequence[Sequence[str]]) -> list[TextScores]:
        """The scores of the words of each text, read by itself."""
        lengths = [len(words) for words in texts]
        words = [word for own in texts for word in own]
        flat = self._scores(words, np.repeat(np.arange(len(texts)), lengths), "sentence")
        parts = (np.split(values, np.cumsum(lengths)[:-1]) for values in flat)
        return [TextScores(*own) for own in zip(*parts, strict=True)]

    def text_bits(self, texts: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The surprisal of the words of each text, read by itself."""
        return [scores.bits for scores in self.text_scores(texts)]

    def sub_tokens(self, texts: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """How many sub-tokens each word of each text has."""
        return [np.diff(encoded.bounds) for encoded in self._tokenizer.encode(texts)]

    def _scores(self, words: Sequence[str], text: Sequence[int], context: str) -> TextScores:
        number = np.asarray(text, np.int64)
        if context == "sentence":
            stimulus = Stimulus.from_words(words, sentence=number)
        else:
            stimulus = Stimulus.from_words(words, run=number)
        scores = score_words(
            stimulus,
            self.model,
            self._head,
            self._tokenizer,
            context="growing" if context == "growing" else "sentence",
            max_tokens=_LONGEST,
        )
        return TextScores(scores.nats / np.log(2), scores.likeliest)
