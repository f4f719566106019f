"""Bits per character and per word of text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.language.writing import running_text
from brainalign_jax.stimulus import split_sentences
from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.studies.abilities.table import Ability, ratio

PER_CHARACTER, PER_WORD = "bits_per_character", "bits_per_word"
_MOST_BYTES = 1 << 26


class WrittenText(NamedTuple):
    """name: of the file; words: between white space; characters: [N] of each word with the blank before it;
    sentence: [N] index of each word's."""

    name: str
    words: tuple[str, ...]
    characters: np.ndarray
    sentence: np.ndarray


def read_text(path: str | Path) -> WrittenText:
    """A text file in UTF-8.

    Raises: FileNotFoundError, or ValueError naming the file where it is no text, too long, or of fewer than
      two words.
    """
    place = user_path(path, "text", "a file")
    if not place.is_file():
        raise FileNotFoundError(f"there is no file {place}; give a text in UTF-8")
    if place.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{place} has {place.stat().st_size / 1e6:.0f} MB, more than the {_MOST_BYTES / 1e6:.0f} MB that "
            "are read at once; give a part of it"
        )
    try:
        words = tuple(place.read_text("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{place} is no text in UTF-8 (byte {error.start}); save it as such"
        ) from None
    if len(words) < 2:
        raise ValueError(f"{place} has {len(words)} words; give a text")
    starts = np.array(running_text(words).starts)
    ends = starts + [len(word) for word in words]
    return WrittenText(place.stem, words, np.diff(ends, prepend=0), split_sentences(words))


def text_abilities(
    scorer: Scorer, text: WrittenText, context: str, confidence: float
) -> Iterator[Ability]:
    """Bits per character and per word, with the standard error over sentences.

    A character is one of the text with single blanks between its words, a blank that of the word behind it.
    """
    bits = scorer.bits(text.words, np.zeros(len(text.words), int), context=context)
    known = np.isfinite(bits)
    if not known.any():
        raise ValueError(f"{scorer.name} knows no word of {text.name}: its vocabulary is another's")
    _, sentence = np.unique(text.sentence[known], return_inverse=True)
    sums = np.bincount(sentence, bits[known])
    for task, sizes in ((PER_CHARACTER, text.characters), (PER_WORD, np.ones(len(text.words)))):
        yield ratio(
            f"{task}/{text.name}", text.name, sums, np.bincount(sentence, sizes[known]), confidence
        )
