"""Every word gets its own sub-tokens: checked by decoding them, on tricky text."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from small_tokenizers import CORPUS, TRICKY, gpt2, opt, plain, surface, wordpiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from brainalign_jax.language.text.contexts import encode_texts, texts_of
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus, clean_word


@pytest.fixture(params=["bert", "gpt2", "opt", "minilm"])
def tokenizer(request, tmp_path):
    if request.param == "minilm":
        return load_tokenizer(request.getfixturevalue("minilm"))
    return load_tokenizer({"bert": wordpiece, "gpt2": gpt2, "opt": opt}[request.param](tmp_path))


def test_every_word_gets_its_own_sub_tokens(tokenizer):
    (encoded,) = tokenizer.encode([TRICKY])
    for index, word in enumerate(TRICKY):
        whole = encoded.ids[encoded.bounds[index] : encoded.bounds[index + 1]]
        pooled = encoded.ids[list(encoded.pooled[index])]
        core = clean_word(word) or word
        if tokenizer.unknown_id is None:
            assert surface(tokenizer, whole) == (" " if index else "") + word
            # GPT-2 may merge a core with its punctuation; nothing else may be in it.
            text = surface(tokenizer, pooled).strip()
            assert core in text.replace("@", "")
            assert text in word
        elif tokenizer.unknown_id in pooled:
            assert set(pooled) == {tokenizer.unknown_id}
        else:
            assert surface(tokenizer, whole) == plain(word)
            assert surface(tokenizer, pooled) == plain(core)


def test_sub_tokens_of_the_words_partition_the_text(tokenizer):
    (encoded,) = tokenizer.encode([TRICKY])
    assert encoded.bounds[0] == 0
    assert encoded.bounds[-1] == len(encoded.ids)
    assert (np.diff(encoded.bounds) > 0).all()
    for index, tokens in enumerate(encoded.pooled):
        assert tokens
        assert encoded.bounds[index] <= tokens[0] <= tokens[-1] < encoded.bounds[index + 1]


def test_ids_are_those_of_the_running_text(tokenizer):
    (encoded,) = tokenizer.encode([TRICKY])
    assert (
        encoded.ids.tolist()
        == tokenizer.backend.encode(" ".join(TRICKY), add_special_tokens=False).ids
    )


def test_ids_with_special_tokens_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    for build, special in ((wordpiece, (1, 1)), (gpt2, (0, 0)), (opt, (1, 0))):
        folder = tmp_path / build.__name__
        folder.mkdir()
        tokenizer = load_tokenizer(build(folder))
        assert (len(tokenizer.prefix), len(tokenizer.suffix)) == special
        (encoded,) = tokenizer.encode([CORPUS.split()])
        expected = transformers.AutoTokenizer.from_pretrained(folder)(CORPUS)["input_ids"]
        assert [*tokenizer.prefix, *encoded.ids, *tokenizer.suffix] == expected


def test_opt_starts_with_its_bos_even_if_no_file_says_so(tmp_path):
    folder = opt(tmp_path)
    assert load_tokenizer(folder).prefix == (2,)
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder).prefix == (2,)
    assert load_tokenizer(folder).suffix == ()
    # A tokenizer.json as transformers 4 wrote it, which dropped the BOS.
    backend = Tokenizer(
        models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.prefix == (2,)
    # With trimmed offsets a lone space has no width; it is the following word's all the same.
    (encoded,) = tokenizer.encode([TRICKY])
    for index, word in enumerate(TRICKY):
        whole = encoded.ids[encoded.bounds[index] : encoded.bounds[index + 1]]
        assert surface(tokenizer, whole).strip() == word


def test_a_lone_space_belongs_to_the_following_word(tmp_path):
    tokenizer = load_tokenizer(gpt2(tmp_path))
    (encoded,) = tokenizer.encode([("dog", "x", "👩")])
    tokens = [tokenizer.backend.id_to_token(int(i)) for i in encoded.ids]
    assert tokens.count("Ġ") == 2
    assert [tokens[i] for i in encoded.pooled[1]] == ["Ġ", "x"]
    assert encoded.pooled[2][0] == tokens.index("Ġ", tokens.index("x"))
    assert len(encoded.pooled[2]) == 5


def test_punctuation_is_not_pooled(tmp_path):
    tokenizer = load_tokenizer(wordpiece(tmp_path))
    bare, dressed = tokenizer.encode([("dog",), ("“dog.”",)])
    assert len(bare.ids) == 1
    assert len(dressed.ids) == 4
    assert dressed.pooled == ((1,),)
    (isnt,) = tokenizer.encode([("isn't!",)])
    assert surface(tokenizer, isnt.ids[list(isnt.pooled[0])]) == "isn't"


def test_tokenizer_json_is_read_as_it_is(tmp_path):
    # transformers 5 lower-cases this cased tokenizer when tokenizer_config.json is absent.
    folder = wordpiece(tmp_path, lower=False)
    cased = load_tokenizer(folder)
    backend = Tokenizer.from_str(cased.backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").unlink()
    again = load_tokenizer(folder)
    (encoded,) = again.encode([("Alice", "is", "alice", "x", "x", "x")])
    ids = [again.backend.token_to_id(token) for token in ("Alice", "is", "alice", "x", "x", "x")]
    assert encoded.ids.tolist() == ids


def test_a_checkpoint_without_model_type_or_settings(tmp_path):
    # As google/bert_uncased_L-2_H-128_A-2: vocab.txt and a config.json without model_type.
    folder = wordpiece(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text("{}")
    tokenizer = load_tokenizer(folder, family="bert")
    assert (tokenizer.prefix, tokenizer.suffix) == ((2,), (3,))
    (encoded,) = tokenizer.encode([("dog",)])
    assert encoded.ids.tolist() == [5]


def test_a_cased_vocabulary_that_is_lower_cased_warns(tmp_path):
    folder = wordpiece(tmp_path, lower=False)
    (folder / "tokenizer_config.json").unlink()
    with pytest.warns(UserWarning, match="do_lower_case"):
        load_tokenizer(folder)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(ValueError, match=r"config\.json is truncated or corrupt"):
        load_tokenizer(tmp_path)


def all_words(stimulus, **options):
    return texts_of(stimulus, np.ones(len(stimulus), bool), **options)


def test_sentences_windows_and_words():
    words = ("The", "dog", "ran.", "It", "barked", "The", "end.")
    stimulus = Stimulus(words, range(7), None, [0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1])
    sentences = all_words(stimulus, context="sentence")
    assert [text.words for text in sentences] == [words[:3], words[3:5], words[5:]]
    assert sentences[1].targets == ((0, 3), (1, 4))
    windows = all_words(stimulus, context="window", window=2)
    assert [" ".join(text.words) for text in windows] == [
        "The",
        "The dog",
        "The dog ran.",
        "dog ran. It",
        "ran. It barked",
        "The",
        "The end.",
    ]
    assert [text.targets for text in windows][3:6] == [((2, 3),), ((2, 4),), ((0, 5),)]
    alone = all_words(stimulus, context="word", lower=True)
    assert [text.words[0] for text in alone] == ["the", "dog", "ran", "it", "barked", "the", "end"]
    wanted = np.array([0, 1, 0, 0, 0, 0, 0], bool)
    assert texts_of(stimulus, wanted, context="sentence") == [(words[:3], ((1, 1),))]


def test_windows_with_a_stride_score_each_word_once():
    words = tuple(f"w{i}" for i in range(23))
    stimulus = Stimulus(words, range(23), None, None, [0] * 13 + [1] * 10)
    texts = all_words(stimulus, context="window", window=4, stride=3)
    scored = [(row, position, text.words) for text in texts for position, row in text.targets]
    assert [row for row, *_ in scored] == list(range(23))
    for row, position, text in scored:
        start = 0 if row < 13 else 13
        assert text[position] == words[row]
        assert min(4, row - start) <= position < 4 + 3
        assert text[0] == words[max(start, row - position)]
    assert len(texts) == 5 + 4
    every_word = all_words(stimulus, context="window", window=4, stride=1)
    assert every_word == all_words(stimulus, context="window", window=4)
    some = texts_of(stimulus, np.arange(23) == 20, context="window", window=4, stride=3)
    assert [text.targets for text in some] == [((5, 20),)]


def test_a_growing_context_starts_anew_with_an_overlap(tmp_path):
    tokenizer = load_tokenizer(wordpiece(tmp_path))
    words = ["dog", "alice", "is"] * 10
    stimulus = Stimulus(words, range(30), None, None, [0] * 20 + [1] * 10)
    texts = all_words(stimulus, context="growing")
    assert [text.words for text in texts] == [tuple(words[:20]), tuple(words[20:])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sequences = encode_texts(tokenizer, texts, max_length=10, announce_cuts=False)
    before = {}
    for targets in sequences.targets:
        for rows, tokens in targets:
            before[rows[0]] = tokens[0] - 1
    assert sorted(before) == list(range(30))
    # Up to 8 words beside [CLS] and [SEP]; then the last 4 are read again as context.
    assert [before[row] for row in range(20)] == [*range(8), *[4, 5, 6, 7] * 3]
    assert [before[row] for row in range(20, 30)] == [*range(8), 4, 5]


def test_sentences_that_are_not_given():
    timed = Stimulus(("The", "dog.", "It", "ran"), [0, 1, 2, 3])
    assert [text.words for text in all_words(timed, context="sentence")] == [
        ("The", "dog."),
        ("It", "ran"),
    ]
    running = Stimulus.from_words(("The", "dog.", "It", "ran"))
    assert len(all_words(running, context="sentence")) == 2
    hindi = Stimulus.from_words(("यह", "घर", "है।", "वह", "आया"))
    assert [len(text.words) for text in all_words(hindi, context="sentence")] == [3, 2]
    items = Stimulus.from_words(("apple", "bear", "--"))
    with pytest.warns(UserWarning, match="isolated item"):
        texts = all_words(items, context="sentence")
    assert [text.words for text in texts] == [("apple",), ("bear",), ("--",)]
    sentence = Stimulus.from_words(("apple", "bear"), sentence=[0, 0])
    assert len(all_words(sentence, context="sentence")) == 1


def test_a_long_sentence_is_cut_between_words(tokenizer):
    words = CORPUS.replace(".", "").split()
    stimulus = Stimulus(words, np.arange(len(words)), None, np.zeros(len(words)))
    max_length = 24
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than the model's 24"):
        sequences = encode_texts(
            tokenizer, all_words(stimulus, context="sentence"), max_length=max_length
        )
    assert len(sequences.ids) > 1
    seen = []
    for piece, (ids, targets) in enumerate(zip(sequences.ids, sequences.targets, strict=True)):
        assert len(ids) <= max_length
        assert tuple(ids[: len(tokenizer.prefix)]) == tokenizer.prefix
        assert tuple(ids[len(ids) - len(tokenizer.suffix) :]) == tokenizer.suffix
        for rows, tokens in targets:
            seen.extend(rows)
            core = clean_word(words[rows[0]])
            text = surface(tokenizer, ids[list(tokens)]).strip()
            assert text == (core if tokenizer.unknown_id is None else plain(core))
        if piece:
            assert targets[0][1][0] > len(tokenizer.prefix), "a window starts with context"
    assert seen == list(range(len(words)))


def test_a_long_window_keeps_the_nearest_words(tmp_path):
    tokenizer = load_tokenizer(wordpiece(tmp_path))
    stimulus = Stimulus.from_words(["dog"] * 29 + ["alice"])
    texts = texts_of(stimulus, np.arange(30) == 29, context="window", window=29)
    with pytest.warns(UserWarning, match="cut into windows"):
        sequences = encode_texts(tokenizer, texts, max_length=10)
    assert sequences.ids[0].tolist() == [2] + [5] * 7 + [6, 3]
    assert sequences.targets[0] == [((29,), (8,))]


def test_equal_texts_are_read_once(tmp_path):
    tokenizer = load_tokenizer(wordpiece(tmp_path))
    stimulus = Stimulus.from_words(["dog", "Alice", "dog."])
    sequences = encode_texts(tokenizer, all_words(stimulus, context="word"), max_length=16)
    assert len(sequences.ids) == 2
    assert sequences.targets[0] == [((0, 2), (1,))]


def test_words_without_or_with_too_many_sub_tokens(tmp_path):
    tokenizer = load_tokenizer(wordpiece(tmp_path))
    deleted = Stimulus.from_words(["dog", "\u200b"], sentence=[0, 0])
    with pytest.raises(ValueError, match=r"word 1 \('\\u200b'\) gets no sub-token"):
        encode_texts(tokenizer, all_words(deleted, context="sentence"), max_length=16)
    # Not wanted, it does no harm.
    texts = texts_of(deleted, np.array([True, False]), context="sentence")
    assert encode_texts(tokenizer, texts, max_length=16).targets == [[((0,), (1,))]]
    (tmp_path / "bpe").mkdir()
    bpe = load_tokenizer(gpt2(tmp_path / "bpe"))
    long = Stimulus.from_words(["dog", "qz" * 1000], sentence=[0, 0])
    with pytest.warns(UserWarning, match=r"1 words have more sub-tokens than the 128 .*word 1"):
        parts = encode_texts(
            bpe, all_words(long, context="sentence"), max_length=128, announce_cuts=False
        )
    # "dog" is read without it; the parts of the long word are read one by one, and hold all of it.
    assert surface(bpe, parts.ids[0]) == "dog"
    assert parts.targets[0] == [((0,), tuple(range(len(parts.ids[0]))))]
    ((rows, pieces),) = parts.split
    assert rows == (1,)
    assert [member for member, _ in pieces] == list(range(1, len(parts.ids)))
    assert all(len(ids) <= 128 for ids in parts.ids)
    joined = "".join(surface(bpe, parts.ids[member][list(tokens)]) for member, tokens in pieces)
    assert joined == " " + "qz" * 1000
    # WordPiece makes one unknown token of it; `embed` warns.
    sequences = encode_texts(tokenizer, all_words(long, context="sentence"), max_length=128)
    assert sequences.ids[0].tolist() == [2, 5, tokenizer.unknown_id, 3]


def test_whitespace_inside_a_word_becomes_one_space(tokenizer):
    spaced, single = tokenizer.encode([(" New \t York ", "dog"), ("New York", "dog")])
    assert spaced.ids.tolist() == single.ids.tolist()
    assert spaced.pooled == single.pooled


def test_a_normaliser_that_changes_lengths(tmp_path):
    # NFKC: one character of the word becomes several, several become one.
    folder = wordpiece(tmp_path)
    tokenizer = load_tokenizer(folder)
    tokenizer.backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase()]
    )
    (encoded,) = tokenizer.encode([("ﬁne", "cafe\u0301", "dog")])
    texts = [surface(tokenizer, encoded.ids[list(tokens)]) for tokens in encoded.pooled]
    assert texts == ["fine", "café", "dog"]
