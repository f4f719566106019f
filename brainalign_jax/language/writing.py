"""How the words of a running text stand beside one another in the script that they are written in."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

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


def gap(before: str, after: str) -> str:
    """What stands between two neighbouring words: a space, or nothing where neither's script has spaces.

    Quotation marks and dashes go with the script of the other word.

    >>> gap("sun", "moon"), gap("太阳", "月亮"), gap("太阳", "moon"), gap("해", "달")
    (' ', '', ' ', ' ')
    """
    sides = _seen(before)[-1:], _seen(after)[:1]
    unspaced = [_unspaced(side) for side in sides]
    fitting = [own or side in _SHARED for own, side in zip(unspaced, sides, strict=True)]
    return "" if any(unspaced) and all(fitting) else " "


def running_text(words: Sequence[str], *, blank: bool = False) -> RunningText:
    """The words as one text; whitespace inside a word becomes one space.

    blank: what stands before the first word where it follows another of its script, too.
    """
    spaced = blank and not (words and _begins_unspaced(words[0]))
    parts, starts, length = [" " * spaced], [], int(spaced)
    previous = None
    for word in words:
        word = " ".join(word.split())
        between = "" if previous is None else gap(previous, word)
        starts.append(length + len(between))
        parts += [between, word]
        length += len(between) + len(word)
        previous = word
    return RunningText("".join(parts), tuple(starts))


def only_spaces(words: Sequence[str]) -> bool:
    """Whether a space stands between all neighbouring words, and would before each one."""
    between = (gap(*pair) for pair in zip(words, words[1:], strict=False))
    return not any(map(_begins_unspaced, words)) and all(between)


def _begins_unspaced(word: str) -> bool:
    return _unspaced(_seen(word.strip())[:1])


def _seen(word: str) -> str:
    """The word without marks and signs of no width, which belong to the character before them."""
    if word.isascii():
        return word
    return "".join(c for c in word if unicodedata.category(c) not in ("Mn", "Me", "Cf")) or word


def _unspaced(character: str) -> bool:
    return not character.isascii() and any(
        first <= character <= last for first, last in _WITHOUT_SPACES
    )
