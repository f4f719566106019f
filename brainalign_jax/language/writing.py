"""How the words of a running text stand beside one another in the script that they are written in."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from brainalign_jax.scripts import WITHOUT_SPACES

# First and last characters of the blocks of scripts that put nothing between words: Thai, Lao, Burmese,
# Khmer, Tai Le and New Tai Lue with Khmer signs, Tai Tham, Bopomofo, kana and Han, in all their blocks,
# and the wide forms of signs and kana. Tibetan has its own mark between syllables, Korean has spaces.
_WITHOUT_SPACES = (
    ("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u1950", "\u19ff"),
    ("\u1a20", "\u1aaf"), ("\u2e80", "\u312f"), ("\u31a0", "\u31ff"), ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"), ("\ua9e0", "\ua9ff"), ("\uaa60", "\uaa7f"), ("\uf900", "\ufaff"),
    ("\ufe30", "\ufe4f"), ("\uff01", "\uff9f"), ("\U0001b000", "\U0001b16f"), ("\U00020000", "\U0003ffff"),
)  # fmt: skip
# Signs that these scripts share with others: quotation marks, dashes, ellipsis, middle dot.
_SHARED = "\u00b7\u2013\u2014\u2015\u2018\u2019\u201c\u201d\u2026"


class RunningText(NamedTuple):
    """text: as a reader of the language writes it; starts: where each word begins in it."""

    text: str
    starts: tuple[int, ...]


def gap(before: str, after: str, language: str | None = None) -> str:
    """What stands between two neighbouring words: a space, or nothing where neither's script has spaces.

    Quotation marks and dashes go with the script of the other word. language: an ISO 639-1 code, by whose
    rule the words are joined: by spaces always, or, in one that has none, by a space only between two words
    or numbers of scripts that have.

    >>> gap("sun", "moon"), gap("太阳", "月亮"), gap("太阳", "moon"), gap("해", "달")
    (' ', '', ' ', ' ')
    >>> gap("2020", "年"), gap("2020", "年", "zh"), gap("World", "Cup", "zh"), gap("日", "月", "ko")
    (' ', '', ' ', ' ')
    """
    sides = _seen(before)[-1:], _seen(after)[:1]
    if language is not None:
        spaced = language not in WITHOUT_SPACES or all(map(_apart, sides))
        return " " if spaced else ""
    unspaced = [_unspaced(side) for side in sides]
    fitting = [gapless or side in _SHARED for gapless, side in zip(unspaced, sides, strict=True)]
    return "" if any(unspaced) and all(fitting) else " "


def running_text(
    words: Sequence[str], *, blank: bool = False, language: str | None = None
) -> RunningText:
    """The words as one text; whitespace inside a word becomes one space.

    blank: what stands before the first word where it follows another of its script, too. language: as of
    `gap`.
    """
    spaced = blank and not (words and _begins_unspaced(words[0], language))
    parts, starts, length = [" " * spaced], [], int(spaced)
    previous = None
    for word in words:
        word = " ".join(word.split())
        between = "" if previous is None else gap(previous, word, language)
        starts.append(length + len(between))
        parts += [between, word]
        length += len(between) + len(word)
        previous = word
    return RunningText("".join(parts), tuple(starts))


def only_spaces(words: Sequence[str], language: str | None = None) -> bool:
    """Whether a space stands between all neighbouring words, and would before each one."""
    between = (gap(*pair, language) for pair in zip(words, words[1:], strict=False))
    return not any(_begins_unspaced(word, language) for word in words) and all(between)


def _begins_unspaced(word: str, language: str | None) -> bool:
    first = _seen(word.strip())[:1]
    if language is None:
        return _unspaced(first)
    return language in WITHOUT_SPACES and not _apart(first)


def _apart(character: str) -> bool:
    """Whether a character is a letter or digit of a script that has spaces."""
    return character.isalnum() and not _unspaced(character)


def _seen(word: str) -> str:
    """The word without marks and signs of no width, which belong to the character before them."""
    if word.isascii():
        return word
    return "".join(c for c in word if unicodedata.category(c) not in ("Mn", "Me", "Cf")) or word


def _unspaced(character: str) -> bool:
    return not character.isascii() and any(
        first <= character <= last for first, last in _WITHOUT_SPACES
    )
