"""Small tokenizers of the kinds that the families use, as checkpoint folders, and how to read them back."""

from __future__ import annotations

import json
import unicodedata

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
    "nothing to do: once or twice she had peeped into the book her sister was reading, but it "
    "had no pictures or conversations in it. The well-known dog isn't here; it can't be! 12 345."
)
TRICKY = (
    "Alice",
    "isn't",
    "“Don’t,”",
    "well-known",
    "(dog.)",
    "--",
    "3.50",
    "1,000!",
    "naïve",
    "cafe\u0301",
    "名前。",
    "👩\u200d🚀",
    "\\@Harry@",
    "हिन्दी",
    "x",
    "New York",
    "dog...",
    "Strasse/straße",
    "ﬁne",
    "한국어",
    "'tis",
    "A.B.C.",
    "O’Neill’s",
    "½",
    "e-mail…",
    "end",
)
# More of it: apostrophes, dashes, quotes, numbers, emoji of several characters, scripts, marks
# that are characters of their own, lower-casing that changes lengths, markup.
_ODD = """
rock’n’roll 'Tis can’t’ve twenty-one-year-old --well-- — … «Où?» „Hallo“ ‹x› 1,234,567.89 $3.50 50% 3rd ٣٤
２０２４ 👍🏽 ❤️ 👨‍👩‍👧‍👦 🇫🇷 3️⃣ dog🐶 😀😀 日本語 「東京」 ｶﾞ مرحبا שָׁלוֹם ไทย தமிழ் İstanbul ǅ ﬃ C++ C# @user
#tag http://a.b/c?d=e a_b __init__ ##ing <0x41>
"""
ODD = (
    *_ODD.split(),
    unicodedata.normalize("NFD", "한글"),
    "e\u0301te\u0301",
    "a\u0308\u0323",
    "Z\u0351\u036b\u0353A\u0334\u0335",
    "\u00adsoft\u00adhyphen",
    "co\u200bop",
    "\ufeffbom",
    "line\u2028break",
    "tab\tand\n\nlines",
    "last",
)
# Names of characters of scripts that have no spaces between words, as far as the words above have them.
_TIGHT = (
    "CJK ",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "FULLWIDTH",
    "THAI",
    "LAO",
    "IDEOGRAPHIC",
)
_TIGHT_SIGNS = "「」、。"


def as_written(words):
    """The words as one text, by the names of the characters that meet."""

    def tight(character):
        return character in _TIGHT_SIGNS or unicodedata.name(character, "").startswith(_TIGHT)

    text = ""
    for word in words:
        text += " " * bool(text and not (tight(text[-1]) and tight(word[0]))) + word
    return text


# How Llama 3 cuts a text before it merges: digits by threes, the space before a number alone.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def wordpiece(folder, *, lower=True, kind="bert"):
    """WordPiece of single letters and a few words, as vocab.txt."""
    text = CORPUS + " ".join(TRICKY + ODD)
    if lower:
        text = text.lower()
    text += unicodedata.normalize("NFC", text) + unicodedata.normalize("NFD", text)
    # No emoji: to WordPiece they are unknown.
    chars = sorted(
        {c for c in text if not c.isspace() and unicodedata.category(c) not in ("So", "Cf")}
    )
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "alice", "is", "##n"]
    vocab += ([] if lower else ["Alice"]) + chars + ["##" + c for c in chars]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    return folder


def bert(folder):
    return wordpiece(folder)


def bert_cased(folder):
    return wordpiece(folder, lower=False)


def distilbert(folder):
    return wordpiece(folder, kind="distilbert")


def byte_level(special, pattern=None):
    tokenizer = Tokenizer(models.BPE())
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS] * 3, trainer)
    return tokenizer


def _vocabulary_files(folder, kind, special, settings=None):
    byte_level(special).model.save(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def gpt2(folder):
    return _vocabulary_files(folder, "gpt2", ["<|endoftext|>"], {"model_max_length": 1024})


def opt(folder, **settings):
    # As on the hub: no tokenizer.json, the BOS asked for in tokenizer_config.json.
    base = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "pad_token": "<pad>"}
    base |= {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    return _vocabulary_files(folder, "opt", ["<s>", "<pad>", "</s>", "<unk>"], base | settings)


def roberta(folder):
    # As on the hub before tokenizer.json: vocab.json and merges.txt.
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    folder = _vocabulary_files(folder, "roberta", special)
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 1}))
    return folder


def write(folder, tokenizer, kind, **settings):
    """The tokenizer as tokenizer.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "pad_token_id": None}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def pythia(folder):
    tokenizer = byte_level(["<|endoftext|>", "<|padding|>"])
    tokenizer.normalizer = normalizers.NFC()
    return write(folder, tokenizer, "gpt_neox", tokenizer_class="GPTNeoXTokenizer")


def qwen(folder):
    tokenizer = byte_level(["<|endoftext|>"], _LLAMA3.replace("{1,3}", ""))
    tokenizer.normalizer = normalizers.NFC()
    return write(folder, tokenizer, "qwen2", tokenizer_class="Qwen2Tokenizer", add_bos_token=False)


def llama3(folder):
    tokenizer = byte_level(["<|begin_of_text|>"], _LLAMA3)
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


# How many special tokens stand before and after a text.
SPECIAL = {bert: (1, 1), bert_cased: (1, 1), distilbert: (1, 1), gpt2: (0, 0), opt: (1, 0)}
SPECIAL |= {roberta: (1, 1), pythia: (0, 0), qwen: (0, 0), llama3: (1, 0), llama2: (1, 0)}
SPECIAL |= {mistral: (1, 0)}


def surface(tokenizer, ids) -> str:
    """The text of sub-tokens, from the vocabulary strings and not from the offsets."""
    return surface_bytes(tokenizer, ids).decode()


def surface_bytes(tokenizer, ids) -> bytes:
    """`surface` in UTF-8, which the sub-tokens of half a character have too."""
    tokens = [tokenizer.backend.id_to_token(int(i)) for i in ids]
    if isinstance(tokenizer.backend.model, models.WordPiece):
        return "".join(token.removeprefix("##") for token in tokens).encode()
    if tokenizer.unknown_id is None:
        return b"".join(_bytes_of(token) for token in tokens)
    return b"".join(
        bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.encode()
        for token in tokens
    ).replace("▁".encode(), b" ")


# GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and on.
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + number): byte
    for number, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)
}


def _bytes_of(token: str) -> bytes:
    return bytes(_BYTES[sign] for sign in token)


def plain(word: str) -> str:
    """What a lower-casing BERT makes of a word: no accents, no spaces."""
    folded = unicodedata.normalize("NFD", word.lower())
    return "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Cf", "Zs"))


def as_read(tokenizer, word: str) -> str:
    """A word as this tokenizer normalises it, by Python's own unicodedata."""
    if isinstance(tokenizer.backend.model, models.WordPiece):
        normalizer = tokenizer.backend.normalizer
        if normalizer.normalize_str("A") == "a":
            return plain(word)
        return "".join(c for c in word if unicodedata.category(c) not in ("Cf", "Zs"))
    if isinstance(tokenizer.backend.normalizer, normalizers.NFC):
        return unicodedata.normalize("NFC", word)
    return word
