"""Tokenizers of RoBERTa, Pythia, Llama and their kin: every word gets its own sub-tokens."""

import json

import numpy as np
import pytest
from small_tokenizers import (
    CORPUS,
    SPECIAL,
    TRICKY,
    byte_level,
    llama2,
    llama3,
    mistral,
    pythia,
    qwen,
    roberta,
    sentencepiece,
    surface,
    write,
)

from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import clean_word

WORDS = (*TRICKY, "\u200b!", "the", "a" * 2000, "end")


@pytest.fixture(
    params=(roberta, pythia, qwen, llama3, llama2, mistral), ids=lambda build: build.__name__
)
def build(request):
    return request.param


def test_every_word_gets_its_own_sub_tokens(build, tmp_path):
    tokenizer = load_tokenizer(build(tmp_path))
    assert (len(tokenizer.prefix), len(tokenizer.suffix)) == SPECIAL[build]
    assert tokenizer.pad_id >= 0
    (encoded,) = tokenizer.encode([WORDS])
    composed = tokenizer.backend.normalizer if build in (pythia, qwen) else None
    starts_with_space = build in (llama2, mistral)
    for index, word in enumerate(WORDS):
        whole = encoded.ids[encoded.bounds[index] : encoded.bounds[index + 1]]
        pooled = encoded.ids[list(encoded.pooled[index])]
        core = clean_word(word) or word
        if composed is not None:
            word, core = composed.normalize_str(word), composed.normalize_str(core)
        assert surface(tokenizer, whole) == (" " if index or starts_with_space else "") + word
        text = surface(tokenizer, pooled).strip(" ")
        assert core in text.replace("@", "")
        assert text in word
    assert encoded.bounds[0] == 0 and encoded.bounds[-1] == len(encoded.ids)
    assert (np.diff(encoded.bounds) > 0).all()


def test_ids_are_those_of_transformers(build, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = load_tokenizer(build(tmp_path))
    (encoded,) = tokenizer.encode([CORPUS.split()])
    if build is roberta:
        theirs = transformers.RobertaTokenizerFast.from_pretrained(tmp_path)
    else:
        theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert [*tokenizer.prefix, *encoded.ids, *tokenizer.suffix] == theirs(CORPUS)["input_ids"]


@pytest.mark.parametrize(
    "template, settings, prefix",
    [
        (True, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, (1,)),
        (True, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, ()),
        (False, {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"}, (1,)),
        (False, {"tokenizer_class": "LlamaTokenizer", "bos_token": {"content": "<s>"}}, (1,)),
        (False, {"tokenizer_class": "PreTrainedTokenizerFast"}, ()),
        (True, {"tokenizer_class": "PreTrainedTokenizerFast"}, (1,)),
    ],
)
def test_the_first_token_is_what_the_settings_say(template, settings, prefix, tmp_path):
    tokenizer = sentencepiece(normalised=True, template=template)
    assert load_tokenizer(write(tmp_path, tokenizer, "llama", **settings)).prefix == prefix


def test_a_first_token_that_the_vocabulary_lacks(tmp_path):
    tokenizer = sentencepiece(normalised=True, template=False)
    settings = {"add_bos_token": True, "bos_token": "<bos>"}
    with pytest.raises(ValueError, match="the vocabulary lacks '<bos>'"):
        load_tokenizer(write(tmp_path, tokenizer, "llama", **settings))


def test_distilbert_has_berts_special_tokens(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n")
    (tmp_path / "config.json").write_text('{"model_type": "distilbert", "pad_token_id": 0}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id) == ((2,), (3,), 1)


@pytest.mark.parametrize("build", SPECIAL, ids=lambda build: build.__name__)
def test_causal_models_get_a_first_token_and_others_keep_theirs(build, tmp_path):
    tokenizer = load_tokenizer(build(tmp_path))
    causal = tokenizer.suffix == ()
    assert tokenizer.with_bos("never", causal=causal).prefix == tokenizer.prefix
    for bos in ("auto", "always"):
        with_bos = tokenizer.with_bos(bos, causal=causal)
        assert len(with_bos.prefix) == 1
        if SPECIAL[build][0]:
            assert with_bos is tokenizer
        else:
            assert with_bos.first_token() == "<|endoftext|>"
            assert with_bos.budget(10) == tokenizer.budget(10) - 1


def test_a_model_that_names_no_first_token(tmp_path):
    tokenizer = load_tokenizer(
        write(tmp_path, sentencepiece(normalised=True, template=False), "gpt_neox")
    )
    with pytest.warns(UserWarning, match="name no first token .* unlike the others'"):
        assert tokenizer.with_bos("auto", causal=True) is tokenizer
    with pytest.raises(ValueError, match="no first token .* or give bos='never'"):
        tokenizer.with_bos("always", causal=True)
    with pytest.raises(ValueError, match="unknown bos='Auto'; .*auto"):
        tokenizer.with_bos("Auto", causal=True)


def test_the_separator_of_texts_is_preferred_to_a_mark_of_turns(tmp_path):
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>"])
    folder = write(
        tmp_path, tokenizer, "llama", tokenizer_class="GPT2Tokenizer", bos_token="<|im_start|>"
    )
    assert load_tokenizer(folder).with_bos("auto", causal=True).first_token() == "<|endoftext|>"


def test_add_bos_token_is_heeded_in_every_causal_family(tmp_path):
    tokenizer = byte_level(["<|endoftext|>", "<s>"])
    for number, family in enumerate(("qwen2", "gpt2", "gpt_neox", "llama")):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder, tokenizer, family, add_bos_token=True, bos_token="<s>")
        assert load_tokenizer(folder).first_token() == "<s>"


def test_special_tokens_that_share_an_id_with_a_word_are_refused(tmp_path):
    tokenizer = byte_level(["<|endoftext|>"])
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary.pop(
        "<|endoftext|>"
    )  # ids from 1: the library gives the token the id of the last word
    state["added_tokens"][0]["id"] = 0
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="tokenizer.json: '<.endoftext.>' and .* share the id"):
        load_tokenizer(tmp_path)
