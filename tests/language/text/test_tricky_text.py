"""Every word is read once, in every kind of context, by its own sub-tokens: checked by decoding them."""

from __future__ import annotations

import json
import warnings
from typing import NamedTuple

import jax
import numpy as np
import pytest
from small_models import write_config
from small_tokenizers import (
    CORPUS,
    ODD,
    SPECIAL,
    TRICKY,
    as_read,
    as_written,
    bert,
    gpt2,
    llama2,
    surface_bytes,
)
from tokenizers import Tokenizer, models

from brainalign_jax.language import embed
from brainalign_jax.language.models.blocks.transformer import hidden_states
from brainalign_jax.language.models.checkpoint import load_model
from brainalign_jax.language.text.contexts import encode_texts, texts_of
from brainalign_jax.language.text.packing import Packing
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus, clean_word

MAX_LENGTH = 64
LONG = ("a" * 2000, "naïve-" * 333 + "ab", "“" + "名前" * 999 + ".”")
WORDS = (*TRICKY, LONG[0], *ODD, LONG[1], *CORPUS.split(), *TRICKY, LONG[2], *ODD)
# Sentences of seven words but one, which the models have to read in parts; two runs.
SENTENCE = np.r_[np.arange(70) // 7, [10] * 60, 11 + np.arange(len(WORDS) - 130) // 7]
STIMULUS = Stimulus(WORDS, None, None, SENTENCE, np.repeat([0, 1], [130, len(WORDS) - 130]))
WORDS = STIMULUS.words  # in the Unicode form that a stimulus gives them
CONTEXTS = {
    "sentence": {},
    "window": dict(window=5),
    "window with stride": dict(window=6, stride=4),
    "growing": {},
    "word": {},
}


@pytest.fixture(scope="module", params=SPECIAL, ids=lambda build: build.__name__)
def tokenizer(request, tmp_path_factory):
    return load_tokenizer(request.param(tmp_path_factory.mktemp("tokenizer")))


class Read(NamedTuple):
    """A word as it was read: the sub-tokens pooled, those before them in the sequences' texts."""

    own: np.ndarray
    before: np.ndarray


def words_read(sequences, tokenizer) -> dict[int, Read]:
    """By row of the stimulus; fails where a row is read twice or special tokens are missing."""
    first = len(tokenizer.prefix)
    for ids in sequences.ids:
        assert len(ids) <= MAX_LENGTH
        assert tuple(ids[:first]) == tokenizer.prefix
        assert tuple(ids[len(ids) - len(tokenizer.suffix) :]) == tokenizer.suffix
    rows_read = []
    for ids, targets in zip(sequences.ids, sequences.targets, strict=True):
        for rows, tokens in targets:
            rows_read += [(row, Read(ids[list(tokens)], ids[first : tokens[0]])) for row in rows]
    for rows, parts in sequences.split:
        pieces = [sequences.ids[member][list(tokens)] for member, tokens in parts]
        rows_read += [(row, Read(np.concatenate(pieces), np.zeros(0, int))) for row in rows]
    assert sorted(row for row, _ in rows_read) == list(range(len(rows_read)))
    return dict(rows_read)


def assert_own(tokenizer, word: str, own: np.ndarray) -> None:
    """`own` are the fewest sub-tokens of the word that hold its core, and of nothing beside it."""
    spaced = " ".join(word.split())
    core = as_read(tokenizer, clean_word(spaced) or spaced).encode()
    if tokenizer.unknown_id in own and isinstance(tokenizer.backend.model, models.WordPiece):
        # What stands between punctuation is unknown as a whole.
        assert (own == tokenizer.unknown_id).any()
        return
    text = surface_bytes(tokenizer, own)
    assert core in text
    assert text.removeprefix(b" ") in as_read(tokenizer, spaced).encode()
    if surface_bytes(tokenizer, own[:1]) == b" ":
        own = own[1:]
    assert core not in surface_bytes(tokenizer, own[1:])
    assert core not in surface_bytes(tokenizer, own[:-1])


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_word_is_read_once_by_its_own_sub_tokens(context, tokenizer):
    texts = texts_of(
        STIMULUS, np.ones(len(WORDS), bool), context=context.split()[0], **CONTEXTS[context]
    )
    with pytest.warns(UserWarning, match=r"[123] words have more sub-tokens .* split into parts"):
        sequences = encode_texts(tokenizer, texts, max_length=MAX_LENGTH, announce_cuts=False)
    read = words_read(sequences, tokenizer)
    assert len(read) == len(WORDS)
    for row, word in enumerate(WORDS):
        assert_own(tokenizer, word, read[row].own)
    unknown = [row for row in read if tokenizer.unknown_id in read[row].own]
    if isinstance(tokenizer.backend.model, models.WordPiece):
        # Emoji, and words of more than 100 characters without punctuation.
        assert 0 < len(unknown) < 0.15 * len(WORDS)
    else:
        assert not unknown
    long = {row for row, word in enumerate(WORDS) if len(word) >= 2000}
    assert {row for rows, _ in sequences.split for row in rows} <= long


@pytest.mark.parametrize("context", ["sentence", "window with stride", "growing"])
def test_before_a_word_stand_the_words_before_it(context, tokenizer):
    texts = texts_of(
        STIMULUS, np.ones(len(WORDS), bool), context=context.split()[0], **CONTEXTS[context]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequences = encode_texts(tokenizer, texts, max_length=MAX_LENGTH)
    between = "" if isinstance(tokenizer.backend.model, models.WordPiece) else " "
    spaced = [as_read(tokenizer, " ".join(word.split())) for word in WORDS]
    checked = 0
    for row, (own, before) in words_read(sequences, tokenizer).items():
        if tokenizer.unknown_id in np.r_[before, own] or not len(before):
            continue
        start = 0 if row < 130 else 130
        # All that was presented up to and with the word, of which its core may be in the middle.
        presented = (as_written(spaced[start : row + 1]) + between).encode()
        if not between:
            presented = "".join(spaced[start : row + 1]).encode()
        seen = surface_bytes(tokenizer, np.r_[before, own]).removeprefix(b" ")
        at = presented.rfind(seen)
        assert at >= 0
        assert at + len(seen) > len(presented) - len((spaced[row] + between).encode())
        whole = at == 0 or presented[at - 1 : at] == b" "
        assert between == "" or whole or not presented[:at].decode()[-1].isascii()
        checked += 1
    assert checked > 0.5 * len(WORDS)


def test_blank_words_and_words_that_a_tokenizer_deletes(tmp_path):
    lines = ["The dog", "", "   ", "runs"]
    with pytest.raises(ValueError, match=r"words\[1\] is blank \(''\); drop the row"):
        Stimulus.from_words(lines)
    for blank in (" ", "\t", "\u00a0", "\u2003", "\u3000"):
        with pytest.raises(ValueError, match=r"words\[1\] is blank"):
            Stimulus.from_words(["dog", blank])
    tokenizer = load_tokenizer(bert(tmp_path))
    for deleted in ("\u200b", "\ufeff", "\x00", "\u0301"):
        texts = texts_of(Stimulus.from_words(["dog", deleted]), np.ones(2, bool), context="growing")
        with pytest.raises(ValueError, match="gets no sub-token: the tokenizer deletes"):
            encode_texts(tokenizer, texts, max_length=MAX_LENGTH)


def test_lines_inside_a_word_are_spaces(tokenizer):
    broken, spaced = tokenizer.encode([("New\n\n York\u2028City", "x"), ("New York City", "x")])
    assert broken.ids.tolist() == spaced.ids.tolist()
    assert broken.pooled == spaced.pooled


def test_a_sub_token_of_two_words_is_refused(tmp_path):
    tokens = ["d", "o", " ", "a", "do", " do", "do do"]
    merges = [("d", "o"), (" ", "do"), ("do", " do")]
    model = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, family="gpt2")
    assert tokenizer.encode([("do", "a")])[0].bounds.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="word 1 .*shares the sub-token 'do do' with a word"):
        tokenizer.encode([("do", "do")])


@pytest.mark.parametrize("style, build", [("bert", bert), ("gpt2", gpt2), ("llama", llama2)])
def test_the_vector_of_a_word_of_2000_characters(style, build, tmp_path):
    """The mean over the states of its parts, each read alone."""
    build(tmp_path)
    pad = json.loads((tmp_path / "config.json").read_text()).get("pad_token_id")
    size = {"n_positions": 64} if style == "gpt2" else {"max_position_embeddings": 64}
    write_config(style, tmp_path, n_layers=1, vocab_size=600, pad_token_id=pad, **size)
    stimulus = Stimulus.from_words(["The", LONG[1], "dog."], sentence=[0, 0, 0])
    with pytest.warns(UserWarning, match=r"1 words .*word 1, 'naïve-.*2000 characters\): each is"):
        result = embed(stimulus, f"untrained:{tmp_path}", level="token", seed=1)
    assert np.isfinite(result.values).all()

    model = load_model(f"untrained:{tmp_path}", seed=1)
    tokenizer = load_tokenizer(tmp_path).with_bos("auto", causal=style != "bert")
    ids = tokenizer.backend.encode("The " + LONG[1], add_special_tokens=False).ids
    ids = ids[len(tokenizer.backend.encode("The", add_special_tokens=False).ids) :]
    room = 64 - len(tokenizer.prefix) - len(tokenizer.suffix)
    parts = [ids[begin : begin + room] for begin in range(0, len(ids), room)]
    lines = np.zeros((len(parts), 64), np.int32)
    mask = np.zeros((len(parts), 64), np.int32)
    for line, part in enumerate(parts):
        whole = [*tokenizer.prefix, *part, *tokenizer.suffix]
        lines[line, : len(whole)], mask[line, : len(whole)] = whole, 1
    states = np.asarray(jax.jit(hidden_states)(model, lines, mask).states)
    first = len(tokenizer.prefix)
    own = [states[:, line, first : first + len(part)] for line, part in enumerate(parts)]
    np.testing.assert_allclose(
        result.values[:, 1], np.concatenate(own, 1).mean(1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "build, context",
    [(bert, "sentence"), (gpt2, "window with stride"), (llama2, "growing")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_text_of_100000_words(build, context, tmp_path):
    tokenizer = load_tokenizer(build(tmp_path))
    choice = Stimulus.from_words((*TRICKY, *CORPUS.split())).words
    drawn = np.random.default_rng(0).integers(0, len(choice), 100_000)
    stimulus = Stimulus.from_words(
        [choice[number] for number in drawn], sentence=np.arange(len(drawn)) // 14
    )
    options = dict(window=12, stride=12) if context.startswith("window") else {}
    rows = np.arange(len(drawn))
    texts = texts_of(stimulus, rows >= 0, context=context.split()[0], **options)
    sequences = encode_texts(tokenizer, texts, max_length=MAX_LENGTH, announce_cuts=False)
    packing = Packing(sequences, rows, pooling="mean", batch_tokens=2048)
    weight, forms = np.zeros(len(drawn)), set()
    for batch in packing.batches():
        assert batch.ids.size <= 2048
        weight += np.bincount(batch.row, batch.weight, minlength=len(drawn))
        real = batch.weight > 0
        row, ids = batch.row[real], batch.ids.ravel()[batch.token[real]]
        change = np.flatnonzero(np.diff(row)) + 1
        members = drawn[row[np.r_[0, change]]].tolist()
        forms |= set(zip(members, map(tuple, np.split(ids, change)), strict=True))
    np.testing.assert_allclose(weight, 1, atol=1e-5)
    assert packing.n_words == len(drawn)
    assert {number for number, _ in forms} == set(range(len(choice)))
    for number, own in forms:
        assert_own(tokenizer, choice[number], np.array(own))
