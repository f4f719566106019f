"""Pages from templates: what is put in is escaped, and what is missing is an error."""

import jinja2
import pytest
from matplotlib.figure import Figure

from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.verdict import LEVELS

EVIL = "<script>alert('x')</script>\"'"


def ladder(**changes) -> dict:
    """The values of the shortest page."""
    table = page.Table(["a", "b"], [["1", "2"]])
    drawn = page.picture("a_figure", Figure(figsize=(2, 2)), "A caption.")
    values = dict(title="Title", lead="", warning="", sentences=[], figure=drawn, steps=table, k=10)
    none = page.Table(["a"], [])
    return {**values, "scores": table, "slopes": none, "command": "", **changes}


def test_a_page_stands_alone():
    html = page.render("ladder", **ladder())
    assert html.startswith("<!DOCTYPE html>") and html.rstrip().endswith("</html>")
    assert "<title>Title</title>" in html and 'alt="a figure"' in html
    assert 'class="warning"' not in html and 'class="small"' not in html
    assert "{{" not in html and "{%" not in html


@pytest.mark.parametrize("name", ["title", "lead", "warning", "command"])
def test_text_is_escaped(name):
    html = page.render("ladder", **ladder(**{name: EVIL}))
    assert html.count("<script") == 1 and "&lt;script&gt;" in html and "&#34;" in html


def test_tables_and_figures_are_escaped():
    table = page.Table([EVIL, EVIL], [[EVIL, EVIL]], 1, EVIL)
    drawn = page.picture(EVIL, Figure(figsize=(2, 2)), EVIL)
    html = page.render("ladder", **ladder(steps=table, figure=drawn, sentences=[EVIL]))
    assert html.count("<script") == 1 and html.count("&lt;script&gt;") == 8
    assert html.count('class="number"') == 2


def test_a_value_that_is_missing_is_an_error(tmp_path):
    values = ladder()
    del values["command"]
    with pytest.raises(jinja2.UndefinedError, match="command"):
        page.write(tmp_path, "ladder", **values)
    assert not list(tmp_path.iterdir())


def test_figures_are_in_the_page_and_in_a_folder(tmp_path):
    figures = page.Figures(tmp_path)
    assert not list(tmp_path.iterdir())
    figures.add("by_layer_1", "by_layer model", Figure(figsize=(2, 2)), "A caption.")
    assert [(shown.alt, shown.caption) for shown in figures] == [("by layer model", "A caption.")]
    assert (tmp_path / "figures" / "by_layer_1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["Yes. It does.", "Yes: It does.", "It does."])
def test_an_opening_does_not_say_its_answer_twice(text):
    said = page.opening(("real", "Yes"), text)
    assert said == {"level": "real", "answer": "Yes", "text": "It does."}


def test_every_level_has_a_colour():
    assert set(figure_parts.LEVEL_COLOURS) == set(LEVELS)


def test_facts_leave_out_what_is_missing_and_set_thousands_apart():
    known = {
        "n_words": 1234, "n_params": 2e6, "n_odd": 1.5, "n_huge": float("inf"), "seed": 12345, "none": None,
        "nan": float("nan"), "both": [1, None], "flag": True,
    }  # fmt: skip
    assert page.facts(known.items()).rows == [
        ["n_words", "1,234"], ["n_params", "2,000,000"], ["n_odd", "1.5"], ["n_huge", "inf"],
        ["seed", "12345"], ["both", "1, None"], ["flag", "yes"],
    ]  # fmt: skip
