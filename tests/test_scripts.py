"""Languages: what a script says, what a code must be, and where a stimulus' language goes."""

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_tokenizers import CORPUS, gpt2, mistral, surface

from brainalign_jax.commands.align import open_data
from brainalign_jax.commands.ending import Misuse
from brainalign_jax.language import Embeddings
from brainalign_jax.language.text.contexts import encode_texts, fertility, texts_of
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.language.writing import running_text
from brainalign_jax.neural.readers import Dataset, open_dataset, registry
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.scripts import script_language
from brainalign_jax.stimulus import Stimulus, split_sentences
from brainalign_jax.study.controls import control_names, control_vectors
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.words import language_frequencies


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("小王子 说 2020 OK", "zh"),
        ("吾輩 は 猫 で ある", "ja"),
        ("한국어 에는 띄어쓰기가 iPhone", "ko"),
        ("แมว กิน ปลา", "th"),
        ("שלום עולם", "he"),
        ("το μικρό", "el"),
        ("le petit prince", None),
        ("маленький принц", None),  # Russian, Ukrainian, Bulgarian, ...
        ("الأمير الصغير", None),
        ("the 王子 of the story", None),
        ("123 --", None),
    ],
)
def test_a_script_says_the_language_where_one_language_uses_it(text, language):
    assert script_language(text.split()) == language
    words = Stimulus.from_words(text.split())
    assert words.language is None and words.known_language() == language
    assert replace(words, language="vi").known_language() == "vi"


def test_what_is_no_language_is_refused_in_a_line():
    for code, said in (("eng", "language='eng'"), (3, "language=3"), ("bo", "is not known; leave")):
        with pytest.raises(ValueError, match=said) as error:
            Stimulus(("a",), language=code)
        assert "\n" not in str(error.value)


def test_the_language_is_part_of_a_stimulus_only_where_it_is_given(tmp_path):
    words = Stimulus(("小", "王子", "说"), onsets=[0.0, 1.0, 2.0])
    known = replace(words, language="ZH")
    # As it was before there were languages.
    assert words.fingerprint() == (
        "cfe5a958d5651b1f165489f93e094f77ef265c9788d00836887f42c0e56d305e"
    )
    assert known.language == "zh" and known.fingerprint() != words.fingerprint()
    assert known.select([0, 2]).language == known.with_attributes(a=[1, 2, 3]).language == "zh"
    responses = WordResponses("S", np.eye(3), known)
    read = WordResponses.load(responses.save(tmp_path / "S.npz"))
    assert read.stimulus.language == "zh" and read.fingerprint() == responses.fingerprint()
    assert read.select_columns([1]).stimulus.language == "zh"
    plain = responses.with_language(None)
    assert WordResponses.load(plain.save(tmp_path / "P.npz")).stimulus.language is None


def test_a_data_set_is_opened_in_a_language(tmp_path):
    (tmp_path / "S1.csv").write_text("word,a,b\nle,1,2\npetit,3,1\nprince,2,2\n")
    dataset = open_dataset("table", tmp_path, language="fr")
    assert dataset.stimulus.language == dataset.load("S1").stimulus.language == "fr"
    with pytest.raises(ValueError, match="unknown language='french'"):
        open_dataset("table", tmp_path, language="french")
    spans = (
        "word,span_start,span_end,a\nle petit prince,1,3,1\nla rose rouge,0,2,2\nun renard,0,2,4\n"
    )
    (tmp_path / "S1.csv").write_text(spans)
    dataset = open_dataset("table", tmp_path, language="fr")
    assert dataset.stimulus.language == dataset.spans.stimulus.language == "fr"


def test_a_reader_of_several_languages_is_given_the_one_that_is_asked_for(tmp_path, monkeypatch):
    def read_prince(data_dir, *, subjects=None, language="en"):
        words = Stimulus((f"in {language}",), language=language)
        return Dataset("prince", ("S",), words, lambda name: WordResponses(name, [[1.0]], words))

    monkeypatch.setitem(registry._READERS, "prince", read_prince)
    assert open_dataset("prince", tmp_path).stimulus.words == ("in en",)
    dataset = open_dataset("prince", tmp_path, language="zh")
    assert dataset.stimulus.words == ("in zh",) and dataset.load("S").stimulus.language == "zh"
    values = {"dataset": "prince", "data_dir": tmp_path, "subjects": None}
    values["reader_options"] = {"language": "fr"}
    assert open_data(values).stimulus.words == ("in fr",)
    assert open_data(values | {"language": "fr"}).stimulus.language == "fr"
    with pytest.raises(Misuse, match="--language=zh and --reader_options=language=fr differ"):
        open_data(values | {"language": "zh"})


def test_a_study_says_the_language_and_how_finely_words_are_cut(tmp_path):
    rng = np.random.default_rng(0)
    words = Stimulus.from_words([chr(0x4E00 + 7 * i) + chr(0x5200 + i) for i in range(40)])
    vectors = Embeddings(
        "m", words.words, rng.standard_normal((1, 40, 6)), None, {"fertility": 1.5}
    )
    loaded = {name: WordResponses(name, rng.standard_normal((40, 8)), words) for name in "AB"}
    dataset = Dataset("d", tuple(loaded), words, loaded.__getitem__)
    scoring = Scoring(methods=("procrustes",), ks=(1, 5))
    options = dict(evidence=None, report_k=5, progress=False)
    table = run_study(dataset, [vectors], scoring, tmp_path / "out", **options)
    assert table.rows.columns[-1] == "fertility" and (table.rows["fertility"] == 1.5).all()
    assert "Language of the words: zh (known by its script)." in str(table)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "40 words, language zh (known by its script)" in report
    # Vectors that do not say it, and tables of earlier versions, which have no such column.
    bare = replace(vectors, meta={})
    assert bare.fingerprint() == vectors.fingerprint()
    earlier = replace(table, rows=table.rows.drop(columns="fertility"))
    earlier.save(tmp_path / "earlier")
    assert ResultTable.load(tmp_path / "earlier").rows["fertility"].isna().all()
    assert (ResultTable.load(tmp_path / "out").rows["fertility"] == 1.5).all()


@pytest.mark.parametrize(
    ("words", "language", "text"),
    [
        ("2020 年 ， FIFA World Cup 很 贵 !", "zh", "2020年，FIFA World Cup很贵!"),
        ("2020 年", None, "2020 年"),
        ("日 月 에는", "ko", "日 月 에는"),
        ("le 太阳 月亮", "fr", "le 太阳 月亮"),
        ("ราคา 5 บาท", "th", "ราคา5บาท"),
    ],
)
def test_words_are_joined_as_their_language_joins_them(words, language, text):
    assert running_text(words.split(), language=language).text == text


@pytest.mark.parametrize(
    "ender", ["。", "！", "？", "｡", "؟", "۔", "।", "॥", "։", "።", "။", "។", "…"]
)
def test_sentences_end_in_every_script(ender):
    words = ("A", "b" + ender, "A", "a" if ender == "…" else "c")
    assert split_sentences(words).tolist() == [0, 0, 1, 1]
    assert split_sentences(("A", "b", ender, "A")).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("family", [gpt2, mistral])
def test_no_blank_is_added_between_words_of_a_language_without_them(family, tmp_path):
    tokenizer = load_tokenizer(family(tmp_path))
    words = ("2020", "年", "小王子", "很", "贵", "。")
    (encoded,) = tokenizer.encode([words], language="zh")
    (joined,) = tokenizer.encode([("".join(words),)])
    texts = [surface(tokenizer, ids).lstrip() for ids in (encoded.ids, joined.ids)]
    assert texts == ["2020年小王子很贵。"] * 2
    for index, word in enumerate(words):
        own = encoded.ids[encoded.bounds[index] : encoded.bounds[index + 1]]
        assert surface(tokenizer, own).strip() == word


def test_fertility_is_the_mean_number_of_sub_tokens_of_a_word(tmp_path):
    tokenizer = load_tokenizer(gpt2(tmp_path))
    words = Stimulus.from_words([*CORPUS.split()[:12], "the", "the", "well-known" * 8 + "."])
    for context, longest in (("sentence", 512), ("word", 16), ("window", 24)):
        texts = texts_of(words, np.ones(len(words), bool), context=context, window=2)
        with warnings.catch_warnings(action="ignore"):
            sequences = encode_texts(tokenizer, texts, max_length=longest, blank=True)
        counts = []
        for text in texts:
            (encoded,) = tokenizer.encode([text.words], blank=True)
            counts += [len(encoded.pooled[position]) for position, _ in text.targets]
        assert len(counts) == len(words)
        assert fertility(sequences) == pytest.approx(np.mean(counts))


def test_frequencies_are_those_of_the_language(monkeypatch):
    words = Stimulus.from_words(["Le", "prince", "prince", "est", "rare", "--"])
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ImportError, match=r"brainalign_jax\[languages\]"):
        language_frequencies(replace(words, language="fr"))
    with pytest.raises(ValueError, match="give language="):
        language_frequencies(words)
    used = {"le": 0.02, "prince": 1e-5, "est": 0.01, "rare": 1e-6}
    fake = SimpleNamespace(
        available_languages=lambda: {"fr": "", "en": ""},
        word_frequency=lambda word, language: used[word] if language == "fr" else 1.0,
    )
    monkeypatch.setitem(sys.modules, "wordfreq", fake)
    counts = language_frequencies(replace(words, language="fr"))
    assert counts == {word: 1e9 * share for word, share in used.items()}
    with pytest.raises(ValueError, match="unknown language of frequencies 'yo'"):
        language_frequencies(replace(words, language="yo"))
    french = Dataset("d", ("S",), replace(words, language="fr"), None)
    assert "nuisance:language_frequency" in control_names(french)
    vectors = control_vectors("nuisance:language_frequency", french, lower=True)
    assert vectors.meta["frequencies"] == "external table" and vectors.types[0] == "le"
