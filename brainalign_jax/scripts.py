"""Languages by their ISO 639-1 code: which there are, which put nothing between words, what a script says."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from brainalign_jax.names import check_known

_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz "
    "ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii "
    "ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi "
    "mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw "
    "sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk "
    "ur uz ve vi vo wa wo xh yi yo za zh zu"
)
# ISO 639-2's code for what is no language: names of pictures or sounds, which say nothing of them.
NO_LANGUAGE = "zxx"
# Languages that put nothing between words.
WITHOUT_SPACES = ("ja", "km", "lo", "my", "th", "zh")
# Languages whose scripts mark syllables, or words in several ways: no rule says how theirs are joined.
_WITHOUT_RULE = ("bo", "dz", "ii")
# What a script says of the language, by the first word of its characters' names in Unicode: those scripts
# that one language of today is written in. Latin, Cyrillic, Arabic, Devanagari and others have many.
_OF_SCRIPT = {
    "ARMENIAN": "hy", "CJK": "zh", "GEORGIAN": "ka", "GREEK": "el", "GUJARATI": "gu", "GURMUKHI": "pa",
    "HANGUL": "ko", "HEBREW": "he", "HIRAGANA": "ja", "KANNADA": "kn", "KATAKANA": "ja", "KHMER": "km",
    "LAO": "lo", "MALAYALAM": "ml", "MYANMAR": "my", "ORIYA": "or", "SINHALA": "si", "TAMIL": "ta",
    "TELUGU": "te", "THAANA": "dv", "THAI": "th",
}  # fmt: skip
_SHARE = 0.5  # of the letters, above which a script is that of the words
_KANA = 0.05  # of kana among Han and kana, from which a text is Japanese


def check_language(code: object) -> str | None:
    """A language's code in lower case, or `NO_LANGUAGE`; None stays.

    Raises: ValueError for what is no ISO 639-1 code, with the nearest, or a language whose words are joined
    by no known rule.

    >>> check_language("ZH"), check_language(None)
    ('zh', None)
    """
    if code is None:
        return None
    name: Any = code.strip().lower() if isinstance(code, str) else code
    if name == NO_LANGUAGE:
        return name
    check_known("language=", name, _CODES.split())
    if name in _WITHOUT_RULE:
        raise ValueError(
            f"language={name!r}: how its words are joined is not known; leave the language out, and they are "
            "joined by spaces"
        )
    return name


def script_language(words: Iterable[str]) -> str | None:
    """The language whose script most letters of the words are of; None where several languages use it.

    >>> script_language(["小王子", "说"]), script_language(["星", "の", "王子さま"])
    ('zh', 'ja')
    >>> script_language(["moon"]) is None
    True
    """
    counts: dict[str, int] = {}
    total = 0
    for word in words:
        for character in word:
            if character.isalpha():
                total += 1
                if not character.isascii():
                    language = _OF_SCRIPT.get(_script(character))
                    if language:
                        counts[language] = counts.get(language, 0) + 1
    han, kana = counts.get("zh", 0), counts.get("ja", 0)
    if kana and kana >= _KANA * (han + kana):
        counts["ja"], counts["zh"] = han + kana, 0
    largest = max(counts, key=counts.__getitem__, default=None)
    return largest if largest and counts[largest] > _SHARE * total else None


def _script(character: str) -> str:
    """The first word of a character's name, of wide and narrow forms the one that names the script."""
    name = unicodedata.name(character, "").removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ")
    return name.partition(" ")[0]
