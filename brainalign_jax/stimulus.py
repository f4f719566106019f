"""The words a subject read or heard: what was presented, when, in which sentence and run."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int, Shaped

from brainalign_jax.attributes import Attributes
from brainalign_jax.names import check_known
from brainalign_jax.scripts import NO_LANGUAGE, check_language, script_language

# Titles and other abbreviations whose full stop does not end a sentence.
_ABBREVIATION = re.compile(
    r"mrs?|ms|mx|messrs|mme|mlle|dr|prof|rev|hon|st|sr|jr|fr|gen|col|capt|lt|sgt|cmdr|adm|maj|gov"
    r"|sen|rep|pres|mt|vs|etc|e\.g|i\.e|cf|viz|ca|nos?|vol|fig|pp|[ap]\.m|u\.[sk]",
    re.IGNORECASE,
)
_CLOSERS = "\"'”’“‘»›«‹)]}*_@\\」』》〉】〕］）｝｣＂＇"
_OPENERS = "\"'“‘”’„‚«‹»›([{*_@\\「『《〈【〔［（｛｢＂＇¿¡"
_UNAMBIGUOUS_CLOSERS = frozenset("”’»›)]}」』》〉】〕］）｝｣")
# What ends a sentence, by Unicode's Sentence_Terminal: Latin, Armenian, Syriac, Arabic and Urdu, N'Ko,
# Devanagari and its kin, Burmese, Ethiopic, Khmer, Mongolian, Chinese and Japanese. Greek: see below.
_ENDERS = (
    ".?!…‼‽⁇⁈⁉\u0589\u0700\u0701\u0702\u061d\u061e\u061f\u06d4\u07f9\u0964\u0965\u104a\u104b"
    "\u1362\u1367\u1368\u17d4\u17d5\u1803\u1809。｡．？！︒﹒﹖﹗"
)
_GREEK_QUESTION = re.compile("[\u0370-\u03ff\u1f00-\u1fff][\u0300-\u036f]*[;\u037e]$")
# How Li et al. 2023 take the word out of a displayed token: the first match. Their pattern ends in "w+",
# a misprint for "\w+". In it every letter, digit or mark stands for itself, see `_signs`.
_WORD = re.compile(
    r"\b\d{1,2}:\d{2}\s|[ap]\.m\.|Mr\.|Mrs\.|Ms\.|Dr\.|\b\w+(?:'\w+)|\b\w+(?:-\w+)*|\w+"
)
# Beyond ASCII, what is part of a word by UAX #29 (rules WB4, WB6 to WB7c, WB11 and WB12).
_HYPHENS = frozenset("\u2010\u2011\u058a\u05be\ufe63\uff0d")  # of Unicode, Armenian, Hebrew, wide
_APOSTROPHES = frozenset("´‘\u201b＇")  # between letters; ’ is one everywhere
_GERESH = "\u05f3"
_MIDDLE_OF_WORDS = frozenset("·\u0387\u055f\u05f4\u2027")  # middle dots, gershayim
_MIDDLE_OF_NUMBERS = frozenset(
    "\u066b\u066c\u2044"
)  # Arabic decimal and thousands signs, fraction slash
_LONGEST_GAP = 60.0  # seconds from word to word, in the median
_SHORTEST_GAP = 0.01  # in the mean
_ZERO_WIDTH_SPACE = "\u200b"
# What only tells a layout engine where a line may break: nobody reads it.
_UNSEEN = re.compile("[\u00ad\u2060\ufeff]")
_PRESENTED = {"onsets": "<f8", "durations": "<f8", "sentence": "<i4", "run": "<i4"}


def core_span(word: str) -> tuple[int, int]:
    """Character range ``(start, end)`` of the word in a displayed token, by the paper's pattern.

    The first of: an abbreviation with its dot ("Mr.", "p.m."), a word with one inner apostrophe
    ("don't"), a word with inner hyphens ("well-known"), a word. What comes after it is cut off: "3.5"
    is "3", "U.S." is "U". An item of several words, a sentence for example, goes from its first word
    to the end of its last. ``(0, 0)`` where there is no word ("--", "+", "...").

    The pattern knows ASCII. Every other sign is taken as Unicode's word segmentation takes it: letters
    and digits of any script with their combining marks make up a word; joiners and other format
    characters, soft hyphens, middle dots, gershayim and typographic apostrophes within a word do not
    end it, nor do Unicode's hyphens. "_" is no letter.

    References: Li et al. 2023, word cleaning; its misprint ("w+" for "\\w+") is mended. Unicode Annex 29.
    """
    places, signs = _signs(word)
    first_word = _WORD.search(signs)
    if not first_word:
        return 0, 0
    start, end = first_word.span()
    if len(word.split()) > 1:
        end = max(match.end() for match in _WORD.finditer(signs))
    end = start + len(signs[start:end].rstrip())  # the pattern's times end in a blank
    return places[start], places[end - 1] + 1


def _signs(word: str) -> tuple[Sequence[int], str]:
    """The token in signs that the pattern knows, and the place in the token of each of them."""
    if word.isascii():
        return range(len(word)), word.replace("_", " ")  # italics, to regular expressions a letter
    # Format characters belong to what surrounds them, and count for nothing (WB4).
    places = [
        place
        for place, char in enumerate(word)
        if char == _ZERO_WIDTH_SPACE or unicodedata.category(char) != "Cf"
    ]
    signs: list[str] = []
    before = ""  # the last letter, digit or sign, without the marks on it
    for index, place in enumerate(places):
        char = word[place]
        mark = unicodedata.category(char).startswith("M")
        if mark and signs and signs[-1].isalnum():
            signs.append("x")
            continue
        after = word[places[index + 1]] if index + 1 < len(places) else ""
        signs.append(_sign(char, before, after))
        before = char
    return places, "".join(signs)


def _sign(char: str, before: str, after: str) -> str:
    """What a character that is no mark stands for in the pattern, between two others."""
    if char == "’":
        return "'"
    if char in _HYPHENS:
        return "-"
    if char == "_":
        return " "
    if char in _APOSTROPHES and before.isalnum() and after.isalnum():
        return "'"
    if char == _GERESH and _is_hebrew(before):  # it changes the letter
        return "x"
    if char in _MIDDLE_OF_WORDS and _is_letter(before) and _is_letter(after):
        return "x"
    if char == '"' and _is_hebrew(before) and _is_hebrew(after):  # typed for gershayim
        return "x"
    if char in _MIDDLE_OF_NUMBERS and before.isdecimal() and after.isdecimal():
        return "x"
    return char


def _is_letter(char: str) -> bool:
    """Whether a character is a letter of a script that writes words apart (AHLetter of UAX #29)."""
    return char.isalpha() and not (
        "\u2e80" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or char >= "\U00020000"
    )


def _is_hebrew(char: str) -> bool:
    return "\u05d0" <= char <= "\u05f2" or "\ufb1d" <= char <= "\ufb4f"


def clean_word(word: str) -> str:
    """The word without the punctuation, quotes and markup around it; "" if nothing is left.

    See `core_span`. Case and Unicode form stay.
    """
    start, end = core_span(word)
    return word[start:end]


def shown_form(word: str) -> str:
    """The word in Unicode's form NFC, without soft hyphens, word joiners and byte-order marks.

    A word of nothing else stays as it is.
    """
    if word.isascii():
        return str(word)
    return unicodedata.normalize("NFC", _UNSEEN.sub("", word) or word)


@dataclass(frozen=True, eq=False)
class Stimulus:
    """The presented words, in order of presentation. Arrays are copied and made read-only.

    words: the N words as presented, punctuation kept; at least one, none blank. In Unicode's form NFC,
        without soft hyphens, word joiners and byte-order marks, unseen: what looks alike is one word.
    onsets: [N] float64, seconds on the clock of the volume times, not decreasing within a run;
        None for items presented in isolation.
    durations: [N] float64, seconds, not negative; None where unknown.
    sentence: [N] int32, index of the word's sentence, not decreasing within a run; None if unknown.
    run: [N] int32, the scanner run; None means one run. Text never continues across runs.
    attributes: name -> [N], what else is known of the items, see `Attributes`: float64 with NaN, or text
        with "", where unknown. No vector and no score depends on them.
    language: ISO 639-1 code, as "fr", which says how the words are joined to a text; None: by their script.
        "zxx" for items that are no words: language models refuse them.

    Raises ValueError for arrays of another length, non-finite or decreasing times, times that cannot be
    seconds (a median gap above 60 s, more than 100 words in a second), blank words.

    >>> import brainalign_jax as ba
    >>> stimulus = ba.Stimulus(("The", "cat", "sat.", "The", "end."), onsets=[0.0, 0.4, 0.9, 1.6, 1.9])
    >>> stimulus.types(lower=True)
    (('the', 'cat', 'sat', 'end'), array([0, 1, 2, 0, 3], dtype=int32))
    """

    words: tuple[str, ...]
    onsets: Float[np.ndarray, " N"] | None = None
    durations: Float[np.ndarray, " N"] | None = None
    sentence: Int[np.ndarray, " N"] | None = None
    run: Int[np.ndarray, " N"] | None = None
    attributes: Mapping[str, Shaped[np.ndarray, " N"]] | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.words, str):
            raise ValueError(
                "words is one string; give a sequence of words, for example text.split()"
            )
        words = tuple(self.words)
        if not words:
            raise ValueError("words is empty; a stimulus needs at least one word")
        for row, word in enumerate(words):
            if not isinstance(word, str):
                raise ValueError(
                    f"words[{row}] is {word!r} of type {type(word).__name__}; give strings "
                    "(missing values must be dropped with their onsets)"
                )
            if not word.strip():
                raise ValueError(
                    f"words[{row}] is blank ({word!r}); drop the row from all fields, "
                    "or keep the fixation sign that was shown, such as '+'"
                )
        n = len(words)
        fields = {
            "words": tuple(shown_form(word) for word in words),
            "onsets": _times("onsets", self.onsets, n),
            "durations": _times("durations", self.durations, n),
            "sentence": _indices("sentence", self.sentence, n),
            "run": _indices("run", self.run, n),
            "attributes": Attributes(self.attributes, n),
            "language": check_language(self.language),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.durations is not None and (self.durations < 0).any():
            row = int(np.argmax(self.durations < 0))
            raise ValueError(
                f"durations[{row}] is {self.durations[row]} s; durations are not negative"
            )
        for name in ("onsets", "sentence"):
            self._check_order(name, getattr(self, name))
        self._check_pace()

    def _check_order(self, name: str, values: np.ndarray | None) -> None:
        if values is None:
            return
        run = np.zeros(len(self), np.int32) if self.run is None else self.run
        order = np.argsort(run, kind="stable")
        falls = (run[order][1:] == run[order][:-1]) & (values[order][1:] < values[order][:-1])
        if falls.any():
            at = int(np.argmax(falls))
            before, after = int(order[at]), int(order[at + 1])
            where = "" if self.run is None else f" within run {run[after]}"
            hint = (
                "sort the words by onset, or pass run= if the clock restarts"
                if name == "onsets"
                else "number the sentences in order of presentation, or pass run="
            )
            raise ValueError(
                f"{name} decrease{where}: {values[before]} at word {before} "
                f"({self.words[before]!r}), then {values[after]} at word {after} "
                f"({self.words[after]!r}); {hint}"
            )

    def _check_pace(self) -> None:
        """Times in another unit than seconds make folds, windows and purge mean nothing, unseen."""
        gap = None
        if self.onsets is not None:
            run = np.zeros(len(self), np.int32) if self.run is None else self.run
            order = np.argsort(run, kind="stable")
            gaps = np.diff(self.onsets[order])[np.diff(run[order]) == 0]
            if len(gaps) < 2:
                return
            gap, pace = float(np.median(gaps)), float(gaps.mean())
            if gap > _LONGEST_GAP:
                raise ValueError(
                    f"onsets: from word to word the median is {gap:g} s, which no reader or listener has; "
                    "give seconds: divide milliseconds by 1000, samples by their rate"
                )
            if 0 < pace < _SHORTEST_GAP:
                raise ValueError(
                    f"onsets: there are {1 / pace:,.0f} words in a second, which no reader or listener "
                    "has; give seconds: multiply minutes by 60, hours by 3600"
                )
        # Words that are shown together, as those of a passage, may last for as long as it does.
        if self.durations is not None and gap != 0:
            usual = float(np.median(self.durations))
            if usual > _LONGEST_GAP:
                raise ValueError(
                    f"durations: the median is {usual:g} s, which no word lasts; give seconds: divide "
                    "milliseconds by 1000"
                )

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        """One line: how many words, and what is known of them."""
        known = [name for name in _PRESENTED if getattr(self, name) is not None]
        language = [f"language {self.language}"] if self.language else []
        return f"Stimulus({', '.join([f'{len(self):,} words', *known, *self._known(), *language])})"

    def types(self, *, lower: bool = False) -> tuple[tuple[str, ...], np.ndarray]:
        """The distinct cleaned words, and which one each token is.

        Returns the vocabulary sorted by first occurrence, and token_to_type [N] int32, which is -1
        where the token has no letter or digit ("+", "--"). `lower` merges upper and lower case.
        """
        index: dict[str, int] = {}
        token_to_type = np.full(len(self), -1, np.int32)
        for row, word in enumerate(self.words):
            core = clean_word(word)
            if core:
                core = unicodedata.normalize("NFC", core.lower()) if lower else core
                token_to_type[row] = index.setdefault(core, len(index))
        return tuple(index), token_to_type

    def select(self, rows: Sequence[int] | np.ndarray) -> Stimulus:
        """The words of `rows` (indices or a boolean mask [N]), with all their fields.

        Indices must keep the order of presentation where the stimulus has onsets or sentences.
        The words left out are gone from the text too: embed first, then select.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "biu"):
            raise ValueError(
                f"rows has shape {rows.shape} and dtype {rows.dtype}; "
                "give a vector of integer indices or a boolean mask"
            )
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise ValueError(f"the mask has {len(rows)} entries for {len(self)} words")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        outside = (rows < -len(self)) | (rows >= len(self))
        if outside.any():
            raise ValueError(
                f"row {int(rows[np.argmax(outside)])} is outside the {len(self)} words"
            )
        arrays = {
            name: None if (value := getattr(self, name)) is None else value[rows]
            for name in _PRESENTED
        }
        attributes = {name: values[rows] for name, values in self._known().items()}
        words = tuple(self.words[row] for row in rows)
        return Stimulus(words, **arrays, attributes=attributes, language=self.language)

    def attribute(self, name: str) -> np.ndarray:
        """Values [N] of an attribute. Raises ValueError with the known ones for an unknown name."""
        check_known("attribute", name, self._known(), of="the words")
        return self._known()[name]

    def _known(self) -> Attributes:
        """The attributes: what was given has become `Attributes`."""
        return cast(Attributes, self.attributes)

    def with_attributes(self, **arrays) -> Stimulus:
        """The stimulus with these arrays, [N] each, as attributes beside those it has or in their place.

        >>> import brainalign_jax as ba
        >>> words = ba.Stimulus.from_words(["sun", "idea"]).with_attributes(concreteness=[4.8, 1.6])
        >>> words.select([1]).attribute("concreteness")
        array([1.6])
        """
        return replace(self, attributes={**self._known(), **arrays})

    def known_language(self) -> str | None:
        """The language that was given, else the only one that is written in the words' script, else None.

        >>> import brainalign_jax as ba
        >>> ba.Stimulus.from_words(["小王子", "说"]).known_language()
        'zh'
        """
        none = self.language == NO_LANGUAGE
        return None if none else self.language or script_language(self.words)

    def fingerprint(self, *, attributes: bool = True) -> str:
        """SHA-256 (hex) over all fields: equal for equal stimuli, on every machine.

        attributes: whether those that there are count, too; they change no vector and no score.
        """
        digest = hashlib.sha256(b"brainalign_jax.Stimulus.1")
        for word in self.words:
            data = word.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        for name, dtype in _PRESENTED.items():
            value = getattr(self, name)
            digest.update(name.encode() + (b"-" if value is None else b"+"))
            if value is not None:
                # Adding zero turns -0.0 into 0.0.
                digest.update((value + 0).astype(dtype).tobytes())
        if self.language:  # only where it was given, so that the others stay as they were
            digest.update(b"language" + self.language.encode())
        if attributes and self.attributes:
            digest.update(b"attributes" + self._known().digest())
        return digest.hexdigest()

    @classmethod
    def from_words(cls, words: Iterable[str], **fields) -> Stimulus:
        """A stimulus from any iterable of words; `fields` are the other fields."""
        # A string is refused there.
        items: Any = words if isinstance(words, str) else tuple(words)
        return cls(items, **fields)


def split_sentences(
    words: Sequence[str], run: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Sentence index [N] int32 of each word, from 0; a new run always starts a new sentence.

    A sentence ends at a word that ends in . ? ! or an ellipsis, or in what ends one in another script
    (؟ ۔ । ։ ። 。 and the like, in Greek a semicolon), closing quotes and brackets allowed after it. It
    does not end at an abbreviation ("Mr.", "Dr.") or an initial ("J."), nor, where
    the next word starts in lower case, at an ellipsis or at quoted speech ('"Stop!" he said').
    Closing quotes and brackets that are words of their own stay with the sentence they close.
    """
    if isinstance(words, str):
        raise ValueError("words is one string; give a sequence of words, for example text.split()")
    words = tuple(words)
    if run is not None and len(run) != len(words):
        raise ValueError(f"run has {len(run)} entries for {len(words)} words")
    sentence = np.zeros(len(words), np.int32)
    index = 0
    for row in range(1, len(words)):
        new_run = run is not None and run[row] != run[row - 1]
        if new_run:
            ended = True
        elif _closes_only(words[row]):
            ended = False
        else:
            last = row - 1
            while last > 0 and sentence[last - 1] == index and _closes_only(words[last]):
                last -= 1
            ended = _ends_sentence(words[last], words[row], quoted=last < row - 1)
        index += ended
        sentence[row] = index
    return sentence


def may_end_sentence(word: str) -> bool:
    """Whether a word ends in what ends a sentence, abbreviations among them."""
    return bool(_before_closers(word)[0])


def _closes_only(word: str) -> bool:
    return word == "''" or (bool(word) and set(word) <= _UNAMBIGUOUS_CLOSERS)


def _before_closers(word: str) -> tuple[str, bool]:
    """The word up to its end of a sentence, "" where there is none; whether quotes close after it."""
    if not word.isascii():  # such as marks of direction
        word = "".join(char for char in word if unicodedata.category(char) != "Cf")
    body = word.rstrip(_CLOSERS)
    if body and (body[-1] in _ENDERS or _GREEK_QUESTION.search(body)):
        return body, len(body) < len(word)
    return "", False


def _ends_sentence(word: str, following: str, *, quoted: bool) -> bool:
    body, closed = _before_closers(word)
    if not body:
        return False
    quoted = quoted or closed
    ellipsis = body.endswith(("..", "…"))
    if (quoted or ellipsis) and following.lstrip(_OPENERS)[:1].islower():
        return False
    if body[-1] == "." and not ellipsis:
        stem = body[:-1].lstrip(_OPENERS)
        if _ABBREVIATION.fullmatch(stem):
            # "No." and "etc." also close sentences; only what follows can tell.
            if stem.lower() in ("no", "nos", "fig", "vol"):
                return not following[:1].isdigit()
            if stem.lower() in ("etc", "p.m", "a.m", "u.s", "u.k", "jr", "sr"):
                return not following.lstrip(_OPENERS)[:1].islower()
            return False
        # An initial ("J. K. Rowling"), but not the pronoun.
        if len(stem) == 1 and stem.isalpha() and stem.isupper() and stem != "I":
            return False
    return True


def _vector(name: str, value, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape} for {n} words; give one value a word")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has dtype {array.dtype}; give numbers")
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"{name}[{row}] is {array[row]}; drop the word or give a finite value")
    return array


def _times(name: str, value, n: int) -> np.ndarray | None:
    if value is None:
        return None
    array = _vector(name, value, n).astype(np.float64, copy=True)
    array.flags.writeable = False
    return array


def _indices(name: str, value, n: int) -> np.ndarray | None:
    if value is None:
        return None
    array = _vector(name, value, n)
    with np.errstate(invalid="ignore"):  # what does not fit is reported below
        whole = array.astype(np.int32)
    if (whole != array).any():
        row = int(np.argmax(whole != array))
        raise ValueError(f"{name}[{row}] is {array[row]}; give 32-bit integers")
    whole = whole.copy()
    whole.flags.writeable = False
    return whole
