"""Words of every script stand side by side as it is written, and keep sub-tokens of their own."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from brainalign_jax.language.text.tokens import WordTokenizer
from brainalign_jax.language.writing import gap, only_spaces, running_text

CHINESE = (
    "小王子", "说", "：", "“", "请", "给", "我", "画", "一只", "绵羊", "。", "”", "iPhone", "很", "贵", "！",
)  # fmt: skip
JAPANESE = ("吾輩", "は", "猫", "で", "ある", "。", "名前", "は", "まだ", "無い", "。")
THAI = ("แมว", "ที่", "บ้าน", "กิน", "ปลา")
ENGLISH = ("The", "little", "prince", "said:", "'Please", "draw", "me", "a", "sheep.'")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (CHINESE, "小王子说：“请给我画一只绵羊。” iPhone 很贵！"),
        (JAPANESE, "吾輩は猫である。名前はまだ無い。"),
        (THAI, "แมวที่บ้านกินปลา"),
        (ENGLISH, " ".join(ENGLISH)),
        (("한국어", "에는", "띄어쓰기가", "있다."), "한국어 에는 띄어쓰기가 있다."),
        (("太阳", "and", "月亮", "月亮"), "太阳 and 月亮月亮"),
        (("ខ្ញុំ", "ស្រឡាញ់", "អ្នក"), "ខ្ញុំស្រឡាញ់អ្នក"),
        (("ｶﾞ", "１２", "𠀀"), "ｶﾞ１２𠀀"),
        (("two\n words", "more"), "two words more"),
        ((), ""),
    ],
)
def test_words_are_joined_as_their_script_joins_them(words, text):
    running = running_text(words)
    assert running.text == text
    for word, start in zip(words, running.starts, strict=True):
        assert running.text.startswith(" ".join(word.split()), start)
    behind = running_text(words, blank=True)
    blank = " " * (not text or text[0].isascii() or "가" <= text[0] <= "힣")
    assert behind.text == blank + text
    assert behind.starts == tuple(start + len(blank) for start in running.starts)
    assert only_spaces(words) == (words in ((), ENGLISH) or words[-1] in ("있다.", "more"))


def test_marks_belong_to_the_character_before_them():
    assert gap("ที่", "บ้าน") == gap("が\u3099", "は") == gap("字\ufe0f", "字") == ""
    assert gap("e\u0301", "\u0301") == " "


def bpe(words, *, metaspace: bool) -> WordTokenizer:
    """Byte-level BPE, or BPE with a blank before each text, that merges whole sentences."""
    backend = Tokenizer(models.BPE(byte_fallback=metaspace))
    alphabet = []
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [f"<0x{byte:02X}>" for byte in range(256)] if metaspace else []
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator([running_text(words).text] * 50 + ["\n"] * 50, trainer)
    return WordTokenizer(backend, "BPE", (), (), 0, None)


@pytest.mark.parametrize("metaspace", [False, True])
@pytest.mark.parametrize("words", [CHINESE, JAPANESE, THAI])
def test_words_without_spaces_keep_sub_tokens_of_their_own(words, metaspace):
    tokenizer = bpe(words, metaspace=metaspace)
    running = running_text(words)
    natural = tokenizer.backend.encode(running.text)
    ends = {start + len(word) for start, word in zip(running.starts, words, strict=True)}
    crossing = [o for o in natural.offsets if any(o[0] < end < o[1] for end in ends)]
    assert crossing, "the tokenizer was made to merge words"
    (encoded,) = tokenizer.encode([words])
    decoded = ""
    for index, word in enumerate(words):
        own = encoded.ids[encoded.bounds[index] : encoded.bounds[index + 1]]
        text = tokenizer.backend.decode(own.tolist(), skip_special_tokens=False)
        assert text.strip() == word
        assert set(encoded.pooled[index]) <= set(range(*encoded.bounds[index : index + 2]))
        decoded += text
    blanks = decoded.lstrip().count(" ")
    assert blanks == (0 if metaspace else running.text.count(" "))  # metaspace drops a first one
    assert encoded.bounds[-1] == len(encoded.ids) == len(encoded.pretokens)
    assert not any("\n" in tokenizer.backend.decode([i]) for i in encoded.ids.tolist())


def test_where_no_sub_token_is_of_two_words_the_text_is_tokenised_whole():
    tokenizer = bpe(CHINESE, metaspace=False)
    letters = tuple(char for word in JAPANESE for char in word)  # nothing it would merge
    (encoded,) = tokenizer.encode([letters])
    assert encoded.ids.tolist() == tokenizer.backend.encode("".join(letters)).ids
    assert len(np.unique(encoded.pretokens)) == len(
        set(tokenizer.backend.encode("".join(letters)).word_ids)
    )
