"""Items that are several words of a sentence, as idioms are: which words, and one vector of theirs.

The sentences are read whole, as `language.embed` reads them, and a span's vector is pooled from the vectors
that its words have there, layer by layer. To all that follows a span is an item like a word: `Spans.items` is
a `Stimulus` with an item a span, whose attributes make conditions; `Dataset.spans` tells a study to read them
in their sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainalign_jax.attributes import Attributes
from brainalign_jax.names import check_known
from brainalign_jax.stimulus import Stimulus, clean_word, split_sentences

POOLINGS = ("mean", "last", "head")
_SHOWN = 5  # rows in a message
# Words that say little by themselves: none of them is taken for a head where another word is there.
_FUNCTION_WORDS = frozenset(
    re.findall(
        "[a-z']+",
        "a an the this that these those some any no every each all both either neither such "
        "i me my mine myself you your yours yourself he him his himself she her hers herself it its itself "
        "we us our ours ourselves they them their theirs themselves one one's who whom whose which what "
        "and or but nor so yet if as than because while although though until unless whether "
        "of in on at by for with to from into onto upon over under up down out off about after before "
        "between through against during without within along across behind beyond around near toward towards "
        "be am is are was were been being do does did done doing have has had having will would shall should "
        "can could may might must not n't there here too very",
    )
)


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans of a stimulus' words, an item each, in any order; they may overlap. Arrays are read-only.

    stimulus: all words of the sentences; where its `sentence` is None, `split_sentences` says which they are.
    start, end: [I] indices of words, end itself left out; both of one sentence.
    pooling: "mean" of the words' vectors, "last" word, or "head".
    head: [I] index of the word that stands for the span where pooling is "head", -1 where it is not known;
        then, or where head is None, it is the last word of the span that is no function word (of English), of
        spans of these alone the last with a letter or digit.
    attributes: name -> [I], as of `Stimulus`.
    apart: whether spans of the same words are items of their own, the later ones called "let go #2", so that
        one use may be in one condition and one in another; else they are one word type.

    Raises: ValueError naming the rows (from 1) of spans that are empty, outside of the words, over two
      sentences, or without a word, of heads outside of their span, and of arrays of unequal length.

    >>> import brainalign_jax as ba
    >>> words = ba.Stimulus.from_words("She spilled the beans. He spilled the soup.".split())
    >>> spans = ba.Spans(words, [1, 5], [4, 8], attributes={"kind": ["idiom", "literal"]})
    >>> spans.items().words, spans.head.tolist()
    (('spilled the beans.', 'spilled the soup.'), [3, 7])
    """

    stimulus: Stimulus
    start: np.ndarray
    end: np.ndarray
    pooling: str = "mean"
    head: np.ndarray | None = None
    attributes: Mapping[str, np.ndarray] | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        check_known("pooling=", self.pooling, POOLINGS)
        start, end = _indices("start", self.start), _indices("end", self.end)
        head = np.full(len(start), -1) if self.head is None else _indices("head", self.head)
        if not len(start) == len(end) == len(head):
            raise ValueError(
                f"there are {len(start)} starts, {len(end)} ends and {len(head)} heads; give one each a span"
            )
        if not len(start):
            raise ValueError("there are no spans; give the start and end of one at least")
        n = len(self.stimulus)
        _refuse(end <= start, start, end, "empty: the end is the word behind the last one")
        _refuse((start < 0) | (end > n), start, end, f"outside of the {n} words")
        sentence = _sentences(self.stimulus)
        _refuse(sentence[start] != sentence[end - 1], start, end, "in two sentences")
        wordy = np.array([bool(clean_word(word)) for word in self.stimulus.words])
        n_words = np.concatenate([[0], np.cumsum(wordy)])
        _refuse(n_words[end] == n_words[start], start, end, "without a word: signs only")
        has_head = head != -1
        _refuse(has_head & ((head < start) | (head >= end)), start, end, "without their head")
        head = np.where(has_head, head, self._content_words(start, end, wordy))
        for name, value in (
            ("start", start),
            ("end", end),
            ("head", head),
            ("attributes", Attributes(self.attributes, len(start))),
        ):
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def _content_words(self, start: np.ndarray, end: np.ndarray, wordy: np.ndarray) -> np.ndarray:
        """[I] index of the word that stands for each span."""
        heads = []
        for first, stop in zip(start, end, strict=True):
            words = [index for index in range(first, stop) if wordy[index]]
            content = [
                index
                for index in words
                if clean_word(self.stimulus.words[index]).lower() not in _FUNCTION_WORDS
            ]
            heads.append((content or words)[-1])
        return np.array(heads)

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of_sentences(
        cls,
        sentences: Sequence[str],
        start: Sequence[int],
        end: Sequence[int],
        *,
        head: Sequence[int] | None = None,
        **fields,
    ) -> Spans:
        """A span of each sentence: start, end and head count the sentence's words, parted by blanks, from 0.

        fields: pooling, attributes and apart.

        >>> spans = Spans.of_sentences(["Spill the beans now .", "He left."], [0, 1], [3, 2])
        >>> spans.items().words
        ('Spill the beans', 'left.')
        """
        words = [sentence.split() for sentence in sentences]
        sizes = np.array([len(part) for part in words])
        starts, ends = _indices("start", start), _indices("end", end)
        heads = None if head is None else _indices("head", head)
        for name, values in (("starts", starts), ("ends", ends), ("heads", heads)):
            if values is not None and len(values) != len(words):
                raise ValueError(
                    f"there are {len(values)} {name} for {len(words)} sentences; give one each"
                )
        _refuse((starts < 0) | (ends > sizes), starts, ends, "outside of their sentence")
        first = np.cumsum(sizes) - sizes
        stimulus = Stimulus(
            tuple(word for part in words for word in part),
            sentence=np.repeat(np.arange(len(words)), sizes),
        )
        if heads is not None:
            heads = np.where(heads == -1, -1, heads + first)
        return cls(stimulus, starts + first, ends + first, head=heads, **fields)

    def items(self, **fields) -> Stimulus:
        """The spans as the items of a stimulus, with their attributes; `fields` are its other fields."""
        words = self.stimulus.words
        texts = tuple(
            " ".join(words[first:stop]) for first, stop in zip(self.start, self.end, strict=True)
        )
        if self.apart:
            times: dict[str, int] = {}
            named = []
            for text in texts:
                key = clean_word(text).lower()
                times[key] = times.get(key, 0) + 1
                named.append(text if times[key] == 1 else f"{text} #{times[key]}")
            texts = tuple(named)
        return Stimulus(texts, attributes=self.attributes, **fields)

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """Vectors [..., I, D] of the spans from the values [..., N, D] of all words; of one word, its own."""
        if values.shape[-2] != len(self.stimulus):
            raise ValueError(
                f"there are vectors of {values.shape[-2]} words for {len(self.stimulus)}; give one a word"
            )
        if self.pooling != "mean":
            rows = self.head if self.pooling == "head" else self.end - 1
            return values[..., rows, :]
        means = np.empty((*values.shape[:-2], len(self), values.shape[-1]), values.dtype)
        for row, (first, stop) in enumerate(zip(self.start, self.end, strict=True)):
            means[..., row, :] = values[..., first:stop, :].mean(axis=-2)
        return means


def _sentences(stimulus: Stimulus) -> np.ndarray:
    """[N] which sentence each word is in, no two runs' the same."""
    if stimulus.sentence is None:
        return split_sentences(stimulus.words, stimulus.run)
    run = np.zeros(len(stimulus), np.int32) if stimulus.run is None else stimulus.run
    pairs = np.stack([run, stimulus.sentence])
    return np.unique(pairs, axis=1, return_inverse=True)[1].ravel()


def _indices(name: str, values: object) -> np.ndarray:
    """[I] int64 of what is given. Raises ValueError for what are no whole numbers, with the row."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise ValueError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; give a whole number a span"
        )
    with np.errstate(invalid="ignore"):  # what does not fit is reported below
        whole = array.astype(np.int64)
    if (whole != array).any():
        row = int(np.argmax(whole != array))
        raise ValueError(f"{name} is {array[row]} in row {row + 1}; give the index of a word")
    return whole


def _refuse(wrong: np.ndarray, start: np.ndarray, end: np.ndarray, how: str) -> None:
    if wrong.any():
        rows = np.flatnonzero(wrong)
        listed = ", ".join(f"row {row + 1} ({start[row]} to {end[row]})" for row in rows[:_SHOWN])
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        raise ValueError(f"spans {how}: {listed}{more}; correct them")
