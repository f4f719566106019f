"""Tokenizers of RoBERTa, Pythia, Llama and their kin: every word gets its own sub-tokens."""

import json

import numpy as np
import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from brainalign_jax.language.tokens import load_tokenizer
from brainalign_jax.stimulus import clean_word

CORPUS = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
    "nothing to do: once or twice she had peeped into the book her sister was reading, but it "
    "had no pictures or conversations in it. The well-known dog isn't here; it can't be! 12 345."
)
TRICKY = [
    "Alice",
    "isn't",
    "“Don’t,”",
    "well-known",
    "(dog.)",
    "--",
    "3.50",
    "1,000!",
    "naïve",
    "café",
    "名前。",
    "👩\u200d🚀",
    "\\@Harry@",
    "हिन्दी",
    "x",
    "dog...",
    "Strasse/straße",
    "ﬁne",
    "한국어",
    "'tis",
    "A.B.C.",
    "O’Neill’s",
    "½",
    "e-mail…",
    "\u200b!",
    "the",
] + ["New York", "a" * 2000, "end"]


def write(folder, tokenizer, kind, **settings):
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "pad_token_id": None}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def byte_level(special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS] * 3, trainer)
    return tokenizer


def roberta(folder):
    # As on the hub before tokenizer.json: vocab.json and merges.txt.
    byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]).model.save(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 1}))
    return folder


def pythia(folder):
    tokenizer = byte_level(["<|endoftext|>", "<|padding|>"])
    tokenizer.normalizer = normalizers.NFC()
    return write(folder, tokenizer, "gpt_neox", tokenizer_class="GPTNeoXTokenizer")


def qwen(folder):
    tokenizer = byte_level(["<|endoftext|>"])
    tokenizer.normalizer = normalizers.NFC()
    return write(folder, tokenizer, "qwen2", tokenizer_class="Qwen2Tokenizer", add_bos_token=False)


def llama3(folder):
    tokenizer = byte_level(["<|begin_of_text|>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return write(folder, tokenizer, "llama", tokenizer_class="PreTrainedTokenizerFast")


def sentencepiece(*, normalised: bool, template: bool):
    """BPE over characters with bytes for what the vocabulary lacks, as Llama 2 and Mistral have."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS] * 3, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if normalised:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.pre_tokenizer = None
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return tokenizer


def llama2(folder):
    tokenizer = sentencepiece(normalised=True, template=True)
    return write(folder, tokenizer, "llama", tokenizer_class="LlamaTokenizer", bos_token="<s>")


def mistral(folder):
    tokenizer = sentencepiece(normalised=False, template=True)
    return write(folder, tokenizer, "mistral", tokenizer_class="LlamaTokenizer", bos_token="<s>")


SPECIAL = {roberta: (1, 1), pythia: (0, 0), qwen: (0, 0), llama3: (1, 0), llama2: (1, 0)}
SPECIAL |= {mistral: (1, 0)}


@pytest.fixture(params=SPECIAL, ids=lambda build: build.__name__)
def build(request):
    return request.param


def surface(tokenizer, ids) -> str:
    """The text of sub-tokens, from the vocabulary strings and not from the offsets."""
    tokens = [tokenizer.backend.id_to_token(int(i)) for i in ids]
    if tokenizer.unknown_id is None:
        return decoders.ByteLevel().decode(tokens)
    parts = (
        bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.encode()
        for token in tokens
    )
    return b"".join(parts).decode().replace("▁", " ")


def test_every_word_gets_its_own_sub_tokens(build, tmp_path):
    tokenizer = load_tokenizer(build(tmp_path))
    assert (len(tokenizer.prefix), len(tokenizer.suffix)) == SPECIAL[build]
    assert tokenizer.pad_id >= 0
    (encoded,) = tokenizer.encode([TRICKY])
    composed = tokenizer.backend.normalizer if build in (pythia, qwen) else None
    starts_with_space = build in (llama2, mistral)
    for index, word in enumerate(TRICKY):
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
    with pytest.raises(ValueError, match="'<bos>', is not in the vocabulary"):
        load_tokenizer(write(tmp_path, tokenizer, "llama", **settings))


def test_distilbert_has_berts_special_tokens(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n")
    (tmp_path / "config.json").write_text('{"model_type": "distilbert", "pad_token_id": 0}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id) == ((2,), (3,), 1)
