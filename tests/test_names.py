"""The answer to an unknown name: the nearest known ones, wherever it is asked."""

import doctest
import re
from pathlib import Path

import pytest
from absl import flags

from brainalign_jax import names
from brainalign_jax.commands.align import MODELS
from brainalign_jax.commands.command import define, read
from brainalign_jax.language.models import resolve
from brainalign_jax.names import check_known, expanded, unknown

MANY = [f"subject-{number}" for number in range(40)]


def test_the_examples():
    assert doctest.testmod(names).failed == 0


def test_few_names_are_listed_and_of_many_the_nearest():
    assert unknown("kind", "b", "xyz") == "unknown kind 'b'; known: x, y, z"
    assert unknown("vectors", "b", ()) == "unknown vectors 'b'; known: none"
    assert unknown("kind", "b", MANY[:8]).count("subject-") == 8
    assert unknown("subject", "subject-390", MANY, of="alice") == (
        "unknown subject 'subject-390' of alice; the nearest of 40: subject-39, subject-30, subject-9"
    )
    message = unknown("subject", "subjct-5", MANY, listing="`it`")
    assert re.fullmatch(
        r"unknown .*; the nearest: subject-5(, [^,]+){2}; `it` lists all 40", message
    )
    assert unknown("subject", "?", MANY, listing="`it`") == "unknown subject '?'; `it` lists all 40"
    assert unknown("subject", "?", MANY).count("subject-") == 3


def test_case_and_type_do_not_hide_the_nearest():
    assert "nearest: gpt2," in unknown("model", "GPT2", ["gpt2", *MANY, "gpt2-xl"], listing="x")
    assert "unknown layer 7;" in unknown("layer", 7, range(5))
    assert unknown("option", None, ["a", "a"]) == "unknown option None; known: a"


def test_what_is_known_passes():
    check_known("kind", "x", {"x": 1})
    check_known("kind", "x", iter("xyz"))
    for value in ("b", ["x"], None):
        with pytest.raises(ValueError, match="unknown kind .*; known: x, y, z"):
            check_known("kind", value, "xyz")


def test_no_module_has_a_list_of_its_own():
    package = Path(names.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path != Path(names.__file__) and "align" not in path.relative_to(package).parts:
            text = path.read_text("utf-8")
            assert not re.search(
                r"(use one of|choose (one )?of|known:) \{|get_close_matches", text
            ), path


def test_a_name_with_braces_stands_for_several_models():
    vectors = object()
    assert expanded([vectors, "./a,b", "a/b@{512,1000,8000,143000}", "c@main"]) == [
        vectors,
        "./a,b",
        *(f"a/b@step{step}" for step in (512, 1000, 8000, 143000)),
        "c@main",
    ]
    for name in ("a@{", "a@{}", "a@{1,}", "a@{1}b", "a@{1,{2}}", "@{1,2}"):
        with pytest.raises(ValueError, match=r"write MODEL@\{A,B\}"):
            expanded([name])


def test_the_command_line_and_resolve_know_them():
    values = flags.FlagValues()
    define([MODELS], values)
    values(["x", "--models=gpt2,pythia-410m@{512,1000},bert-base"])
    names = ("gpt2", "pythia-410m@step512", "pythia-410m@step1000", "bert-base")
    assert read([MODELS], values) == {"models": names}
    assert resolve("pythia-410m@{512}").source == "EleutherAI/pythia-410m@step512"
    with pytest.raises(ValueError, match="stands for several models: name one"):
        resolve("pythia-410m@{512,1000}")
