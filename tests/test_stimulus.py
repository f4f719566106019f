"""The words that were presented: cleaning, sentences, types, validation."""

from __future__ import annotations

import re

import numpy as np
import pytest

from brainalign_jax.stimulus import Stimulus, clean_word, core_span, split_sentences


@pytest.mark.parametrize(
    ("word", "core"),
    [
        ("don't", "don't"),
        ("don’t", "don’t"),
        ("well-known,", "well-known"),
        ("“Hello,”", "Hello"),
        ("‘quoted’", "quoted"),
        ("@Harry@", "Harry"),
        ('\\"Yes,\\"', "Yes"),
        ("every@thing@", "every"),
        ("_very_", "very"),
        ("(3.5)", "3"),
        ("1,000!", "1"),
        ("Mr.", "Mr."),
        ("An elephant, is large.", "An elephant, is large"),
        ("wash -- ", "wash"),
        ("Dr.,", "Dr."),
        ("p.m.,", "p.m."),
        ("mother-in-law's", "mother-in-law"),
        ("brother's-in-law", "brother's"),
        ("'s", "s"),
        ("it--he", "it"),
        ("11:30", "11"),
        ("at 11:30 --", "at 11:30"),
        ("é", "é"),
        ("cafe\u0301.", "cafe\u0301"),
        ("हिन्दी।", "हिन्दी"),
        ("「名前」。", "名前"),
        ("¿Qué?", "Qué"),
        ("--", ""),
        ("+", ""),
        ("...", ""),
        ("_", ""),
        ("👩‍🚀", ""),
        ("می\u200cخواهم.", "می\u200cخواهم"),  # Persian writes verbs with a zero-width non-joiner
        ("क\u094d\u200dष", "क\u094d\u200dष"),
        ("Donau\u00addampf!", "Donau\u00addampf"),
        ("a\u2060b", "a\u2060b"),
        ("well\u2010known", "well\u2010known"),
        ("well-\u2060known,", "well-\u2060known"),
        ("well\u2011known,", "well\u2011known"),
        ("don´t", "don´t"),
        ("A´", "A"),
        ("col·lecció", "col·lecció"),
        ("列夫·托尔斯泰", "列夫"),  # between ideographs the dot stands between words
        ("צה״ל.", "צה״ל"),
        ('צה"ל', 'צה"ל'),
        ('"שלום"', "שלום"),
        ("ג׳ורג׳", "ג׳ורג׳"),
        ("בית־ספר", "בית־ספר"),
        ("٣٫٥", "٣٫٥"),
        ("\u200fسلام\u200f،", "سلام"),  # marks of direction around a word
        ("ញ៉ាំ\u200bបាយ", "ញ៉ាំ"),  # a zero-width space ends a word
        ("名：前", "名"),
    ],
)
def test_clean_word_strips_what_surrounds_the_word(word, core):
    assert clean_word(word) == core
    assert clean_word(clean_word(word)) == core


def test_core_span_marks_the_core_in_the_presented_word():
    start, end = core_span("“isn't!”")
    assert (start, end) == (1, 6)
    assert core_span("--") == (0, 0)


def test_one_word_is_one_type_however_it_is_encoded():
    stimulus = Stimulus.from_words(
        ["café", "cafe\u0301.", "Donau\u00addampf", "Donaudampf", "J\u030c", "ǰ"]
    )
    assert stimulus.words[1] == "café." and stimulus.words[2] == "Donaudampf"
    assert stimulus.types(lower=True)[0] == ("café", "donaudampf", "ǰ")
    same = Stimulus.from_words(["café", "café.", "Donaudampf", "Donaudampf", "J\u030c", "ǰ"])
    assert stimulus.fingerprint() == same.fingerprint()
    verbs = ["می\u200cخواهم", "می\u200cروم", "می\u200cدانم"]
    assert Stimulus.from_words(verbs).types()[0] == tuple(verbs)


def test_types_follow_the_first_occurrence_and_leave_out_punctuation():
    stimulus = Stimulus.from_words(["The", "dog", "--", "the", "dog.", "+", "The"])
    vocabulary, token_to_type = stimulus.types()
    assert vocabulary == ("The", "dog", "the")
    assert token_to_type.tolist() == [0, 1, -1, 2, 1, -1, 0]
    assert token_to_type.dtype == np.int32
    vocabulary, token_to_type = stimulus.types(lower=True)
    assert vocabulary == ("the", "dog")
    assert token_to_type.tolist() == [0, 1, -1, 0, 1, -1, 0]


def test_fields_are_converted_copied_and_read_only():
    onsets = np.array([0, 1, 1], np.float32)
    stimulus = Stimulus(("a", "b", "c"), onsets, [0.5, 0, 1], [0, 0, 1], np.array([0.0, 0, 0]))
    assert stimulus.onsets.dtype == stimulus.durations.dtype == np.float64
    assert stimulus.sentence.dtype == stimulus.run.dtype == np.int32
    onsets[0] = 7
    assert stimulus.onsets[0] == 0
    for array in (stimulus.onsets, stimulus.durations, stimulus.sentence, stimulus.run):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert len(stimulus) == 3
    assert isinstance(hash(stimulus), int)


@pytest.mark.parametrize(
    ("words", "fields", "message"),
    [
        ([], {}, "at least one word"),
        ("one string", {}, r"text\.split\(\)"),
        (["a", ""], {}, r"words\[1\] is blank"),
        (["a", " \t"], {}, r"words\[1\] is blank"),
        (["a", None], {}, r"words\[1\] is None of type NoneType"),
        (["a", float("nan")], {}, "of type float"),
        (["a", "b"], {"onsets": [0.0]}, r"onsets has shape \(1,\) for 2 words"),
        (["a", "b"], {"onsets": [[0.0, 1.0]]}, r"shape \(1, 2\)"),
        (["a", "b"], {"onsets": [0.0, np.nan]}, r"onsets\[1\] is nan"),
        (["a", "b"], {"onsets": [0.0, np.inf]}, r"onsets\[1\] is inf"),
        (["a", "b"], {"onsets": ["0", "1"]}, "give numbers"),
        (["a", "b"], {"onsets": [1.0, 0.0]}, r"onsets decrease: 1.0 at word 0 \('a'\)"),
        (["a", "b"], {"onsets": [1, 0], "run": [4, 4]}, "decrease within run 4"),
        (["a", "b"], {"durations": [1.0, -0.5]}, r"durations\[1\] is -0.5"),
        (["a", "b"], {"sentence": [0, 0.5]}, r"sentence\[1\] is 0.5"),
        (["a", "b"], {"sentence": [1, 0]}, "sentence decrease"),
        (["a", "b"], {"run": [0, 2**40]}, r"run\[1\]"),
        (["a", "b"], {"run": [0]}, "run has shape"),
        (["a", "b", "c"], {"onsets": [0, 500, 1000]}, "median is 500 s.*milliseconds by 1000"),
        (list("abcd"), {"onsets": [0, 400, 0, 450], "run": [1, 1, 2, 2]}, "median is 425 s"),
        (["a", "b", "c"], {"onsets": [0, 0.005, 0.01]}, "200 words in a second.*minutes by 60"),
        (["a", "b", "c"], {"durations": [300, 250, 400]}, "durations: the median is 300 s"),
        (list("abc"), {"onsets": [0, 1, 2], "durations": [300, 250, 400]}, "no word lasts"),
    ],
)
def test_bad_input_is_named(words, fields, message):
    with pytest.raises(ValueError, match=message):
        Stimulus.from_words(words, **fields)


def test_the_clock_and_the_sentences_may_restart_with_a_run():
    stimulus = Stimulus(("a", "b", "c", "d"), [5, 6, 0, 1], None, [0, 1, 0, 1], [0, 0, 1, 1])
    assert stimulus.run.tolist() == [0, 0, 1, 1]
    # Interleaved runs: each is checked on its own.
    Stimulus(("a", "b", "c", "d"), [5, 0, 6, 1], None, None, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="run 1"):
        Stimulus(("a", "b", "c", "d"), [5, 2, 6, 1], None, None, [0, 1, 0, 1])


def test_times_that_people_have_are_taken():
    Stimulus(tuple("abc"), [0, 20, 45])  # a slow event-related design
    Stimulus(tuple("abc"), [0, 0.08, 0.15])  # a fast reader
    Stimulus(tuple("abcd"), [0, 0, 0, 200], [200, 200, 200, 90])  # passages shown as a whole
    Stimulus(("a", "b"), [0, 300])  # of two words nothing is known
    Stimulus(tuple("abcd"), [0, 1, 2, 900])  # a break


def test_select_by_mask_and_by_index():
    stimulus = Stimulus(("a", "b", "c"), [0, 1, 2], None, [0, 0, 1], None)
    for rows in ([True, False, True], [0, 2], np.array([0, -1])):
        part = stimulus.select(rows)
        assert part.words == ("a", "c")
        assert part.onsets.tolist() == [0, 2]
        assert part.sentence.tolist() == [0, 1]
        assert part.durations is None
        assert part.run is None
    for rows, message in (
        ([True], "mask has 1"),
        ([3], "row 3 is outside"),
        ([-4], "row -4 is outside"),
        ([0.0], "dtype float64"),
        ([[0]], r"shape \(1, 1\)"),
        ([2, 0], "onsets decrease"),
        ([], "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            stimulus.select(rows)


def test_fingerprint_depends_on_every_field_and_nothing_else():
    words = ("a", "bc")
    base = {"onsets": [0.0, 1.0], "durations": [1, 1], "sentence": [0, 0], "run": [0, 0]}
    same = Stimulus(words, **base).fingerprint()
    assert same == Stimulus(list(words), **{k: np.array(v) for k, v in base.items()}).fingerprint()
    assert same == Stimulus(words, **base | {"onsets": [-0.0, 1.0]}).fingerprint()
    others = [Stimulus(("ab", "c"), **base), Stimulus(("a", "bd"), **base)]
    others += [Stimulus(words, **base | {name: None}) for name in base]
    others += [
        Stimulus(words, **base | {"onsets": [0.0, 1.5]}),
        Stimulus(words, **base | {"durations": [1, 2]}),
        Stimulus(words, **base | {"sentence": [0, 1]}),
        Stimulus(words, **base | {"run": [0, 1]}),
    ]
    prints = [stimulus.fingerprint() for stimulus in others] + [same]
    assert len(set(prints)) == len(prints)
    assert len(same) == 64


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("The cat sat. The dog ran!", [2, 5]),
        ("Mr. Smith met Dr. Jones. They spoke", [4, 6]),
        ("“Why?” asked Ron. “No idea.” They left.", [2, 4, 6]),
        ('"Stop!" he said. He ran', [2, 4]),
        ("J. K. Rowling wrote it. So did I. Then", [4, 7, 8]),
        ("well ... maybe later. Wait… No.", [3, 4, 5]),
        ("it was 5 p.m. and dark. At 6 p.m. We left", [5, 8, 10]),
        ("He said no. Then No. 5 came.", [2, 6]),
        ("it ended. the rest is lower case", [1, 6]),
        ("the cat sat . ” Then it ( really ? ) left .", [4, 12]),
        ("+ Once upon a time", [4]),
        ("هل تسمع؟ نعم أسمع.", [1, 3]),
        ("یہ گھر ہے۔ وہ بھی\u200f۔\u200f اور", [2, 4, 5]),
        ("यह घर है। वह ? राम ॥ और", [2, 4, 6, 7]),
        ("「行く。」 「来る？」 『そう』 終わり｡ 次", [0, 1, 3, 4]),
        ("Τι κάνεις; Καλά; ναι", [1, 2, 3]),
        ("Er sagte; sie ging", [3]),
        ("„Nein.“ Dann »Ja.« Ende", [0, 2, 3]),
    ],
)
def test_split_sentences(text, ends):
    words = text.split()
    sentence = split_sentences(words)
    last = np.flatnonzero(np.r_[np.diff(sentence) > 0, True])
    assert last.tolist() == ends
    assert sentence.dtype == np.int32
    assert set(np.diff(sentence).tolist()) <= {0, 1}


def test_split_sentences_never_crosses_a_run():
    assert split_sentences(["a", "b", "c."], [0, 1, 1]).tolist() == [0, 1, 1]
    assert split_sentences([]).tolist() == []
    with pytest.raises(ValueError, match="run has 1"):
        split_sentences(["a", "b"], [0])
    with pytest.raises(ValueError, match="one string"):
        split_sentences("a b")


def test_clean_word_is_the_pattern_of_the_paper():
    pattern = r"\b\d{1,2}:\d{2}\s|[ap]\.m\.|Mr\.|Mrs\.|Ms\.|Dr\.|\b\w+(?:\'\w+)|\b\w+(?:-\w+)*|\w+"
    rng = np.random.default_rng(0)
    signs = list("abMrsDpm0159'-.,:;!? @+\\\"()éß") + ["Mr.", "Mrs.", "Dr.", "a.m.", "--", "n't"]
    for _ in range(3000):
        word = "".join(rng.choice(signs, rng.integers(1, 9)))
        if len(word.split()) > 1:  # an item of several words
            continue
        matches = re.findall(pattern, word)
        assert clean_word(word) == (matches[0].rstrip() if matches else "")
