"""The words a subject read or heard: what was presented, when, in which sentence and run."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Titles and other abbreviations whose full stop does not end a sentence.
_ABBREVIATION = re.compile(
    r"mrs?|ms|mx|messrs|mme|mlle|dr|prof|rev|hon|st|sr|jr|fr|gen|col|capt|lt|sgt|cmdr|adm|maj|gov"
    r"|sen|rep|pres|mt|vs|etc|e\.g|i\.e|cf|viz|ca|nos?|vol|fig|pp|[ap]\.m|u\.[sk]",
    re.IGNORECASE,
)
_CLOSERS = "\"'”’»›)]}*_@\\"
_OPENERS = "\"'“‘«‹([{*_@\\"
_UNAMBIGUOUS_CLOSERS = frozenset("”’»›)]}")
_ENDERS = ".?!…。？！"
# How Li et al. 2023 take the word out of a displayed token: the first match. Their pattern ends in "w+",
# a misprint for "\w+". In it every letter, digit or mark stands for itself, see `_plain`.
_WORD = re.compile(
    r"\b\d{1,2}:\d{2}\s|[ap]\.m\.|Mr\.|Mrs\.|Ms\.|Dr\.|\b\w+(?:'\w+)|\b\w+(?:-\w+)*|\w+"
)


def core_span(word: str) -> tuple[int, int]:
    """Character range ``(start, end)`` of the word in a displayed token, by the paper's pattern.

    The first of: an abbreviation with its dot ("Mr.", "p.m."), a word with one inner apostrophe
    ("don't"), a word with inner hyphens ("well-known"), a word. What comes after it is cut off: "3.5"
    is "3", "U.S." is "U". Beyond the pattern, letters and digits of any script with their combining
    marks (accents, vowel signs) make up a word, a typographic apostrophe is one, and "_" is none.
    An item of several words, a sentence for example, goes from its first word to the end of its last.
    ``(0, 0)`` where there is no word ("--", "+", "...").

    Reference: Li et al. 2023, word cleaning; its misprint ("w+" for "\\w+" at the end) is mended.
    """
    plain = _plain(word)
    found = _WORD.search(plain)
    if not found:
        return 0, 0
    start, end = found.span()
    if len(word.split()) > 1:
        end = max(match.end() for match in _WORD.finditer(plain))
    return start, start + len(word[start:end].rstrip())  # the pattern's times end in a blank


def _plain(word: str) -> str:
    """The token, as long as before, in signs that the pattern knows."""
    signs = []
    for char in word:
        if char == "’":
            char = "'"
        elif char == "_":  # markup of italics, which regular expressions count as a letter
            char = " "
        elif unicodedata.category(char).startswith("M") and signs and signs[-1].isalnum():
            char = "x"
        signs.append(char)
    return "".join(signs)


def clean_word(word: str) -> str:
    """The word without the punctuation, quotes and markup around it; "" if nothing is left.

    See `core_span`. Case and Unicode form stay.
    """
    start, end = core_span(word)
    return word[start:end]


@dataclass(frozen=True, eq=False)
class Stimulus:
    """The presented words, in order of presentation. Arrays are copied and made read-only.

    words: the N words as presented, punctuation kept; at least one, none of them blank.
    onsets: [N] float64, seconds on the clock of the volume times, not decreasing within a run;
        None for items presented in isolation.
    durations: [N] float64, seconds, not negative; None where unknown.
    sentence: [N] int32, index of the word's sentence, not decreasing within a run; None if unknown.
    run: [N] int32, the scanner run; None means one run. Text never continues across runs.

    Raises ValueError for arrays of another length, non-finite or decreasing times, blank words.

    >>> import brainalign_jax as ba
    >>> stimulus = ba.Stimulus(("The", "cat", "sat.", "The", "end."), onsets=[0.0, 0.4, 0.9, 1.6, 1.9])
    >>> stimulus.types(lower=True)
    (('the', 'cat', 'sat', 'end'), array([0, 1, 2, 0, 3], dtype=int32))
    """

    words: tuple[str, ...]
    onsets: np.ndarray | None = None
    durations: np.ndarray | None = None
    sentence: np.ndarray | None = None
    run: np.ndarray | None = None

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
            "words": tuple(str(word) for word in words),
            "onsets": _times("onsets", self.onsets, n),
            "durations": _times("durations", self.durations, n),
            "sentence": _indices("sentence", self.sentence, n),
            "run": _indices("run", self.run, n),
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

    def __len__(self) -> int:
        return len(self.words)

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
                core = core.lower() if lower else core
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
            for name in ("onsets", "durations", "sentence", "run")
        }
        return Stimulus(tuple(self.words[row] for row in rows), **arrays)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields: equal for equal stimuli, on every machine."""
        digest = hashlib.sha256(b"brainalign_jax.Stimulus.1")
        for word in self.words:
            data = word.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        for name, dtype in (
            ("onsets", "<f8"),
            ("durations", "<f8"),
            ("sentence", "<i4"),
            ("run", "<i4"),
        ):
            value = getattr(self, name)
            digest.update(name.encode() + (b"-" if value is None else b"+"))
            if value is not None:
                # Adding zero turns -0.0 into 0.0.
                digest.update((value + 0).astype(dtype).tobytes())
        return digest.hexdigest()

    @classmethod
    def from_words(cls, words: Iterable[str], **fields) -> Stimulus:
        """A stimulus from any iterable of words; `fields` are onsets, durations, sentence, run."""
        return cls(words if isinstance(words, str) else tuple(words), **fields)


def split_sentences(
    words: Sequence[str], run: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Sentence index [N] int32 of each word, from 0; a new run always starts a new sentence.

    A sentence ends at a word that ends in . ? ! or an ellipsis, closing quotes and brackets allowed
    after it. It does not end at an abbreviation ("Mr.", "Dr.") or an initial ("J."), nor, where
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


def _closes_only(word: str) -> bool:
    return word == "''" or (bool(word) and set(word) <= _UNAMBIGUOUS_CLOSERS)


def _ends_sentence(word: str, following: str, *, quoted: bool) -> bool:
    body = word.rstrip(_CLOSERS)
    if not body or body[-1] not in _ENDERS:
        return False
    quoted = quoted or len(body) < len(word)
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
