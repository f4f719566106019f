"""docs/check_figures.py: what pages print is what docs/figures/*.json hold, and docs/measured.md says how."""

import importlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ABOUT = {
    "origin": "transcribed",
    "commands": [],
    "version": "1",
    "machine": "a",
    "date": "2026-01-01",
}
TABLE = "| | score | null |\n|---|---|---|\n| 2 heads | .199 (.154 to .244) | 54 |\n"
SCORES = {"score": 0.19917, "lower": 0.1541, "upper": 0.2441, "null": 53.7}


@pytest.fixture(scope="module")
def check():
    return importlib.import_module("check_figures")


@pytest.fixture(scope="module")
def make():
    return importlib.import_module("make_figures")


@pytest.fixture(autouse=True, scope="module")
def scripts():
    """docs/ among the folders that modules are imported from."""
    sys.path.insert(0, str(REPOSITORY / "docs"))
    yield
    sys.path.remove(str(REPOSITORY / "docs"))


def clone(folder, text, **parts):
    """A repository of one page and a file `study`."""
    (folder / "docs" / "figures").mkdir(parents=True)
    (folder / "README.md").write_text("# A\n")
    (folder / "docs" / "a.md").write_text(text, "utf-8")
    (folder / "docs" / "figures" / "study.json").write_text(json.dumps({**ABOUT, "figures": parts}))
    return folder


def test_the_pages_print_what_the_files_hold(check):
    assert check.faults(REPOSITORY) == []


def test_the_page_of_files_says_what_is_there(make):
    assert make.PAGE.read_text("utf-8") == make.page(), "python docs/make_figures.py measured"


def test_a_table_is_compared_number_by_number(check, tmp_path):
    text = "# A\n\n<!-- figures: study.scores -->\n" + TABLE
    assert check.faults(clone(tmp_path / "same", text, scores=SCORES)) == []
    for name, printed in (("score", ".199"), ("lower", ".154"), ("null", "54")):
        other = {**SCORES, name: SCORES[name] * 1.1}
        (fault,) = check.faults(clone(tmp_path / name, text, scores=other))
        assert fault == f"docs/a.md:4 prints {printed}, where the file has {other[name]} ({name})"
    (fault,) = check.faults(clone(tmp_path / "page", text.replace("| 54", "| 55"), scores=SCORES))
    assert fault == "docs/a.md:4 prints 55, where the file has 53.7 (null)"
    (fault,) = check.faults(clone(tmp_path / "more", text, scores={**SCORES, "p": 0.01}))
    assert fault == "docs/a.md:4 lacks 0.01 (p)"
    (fault,) = check.faults(clone(tmp_path / "less", text, scores={"score": 0.199}))
    assert "prints .154, where the file has nothing" in fault


@pytest.mark.parametrize(
    ("sentence", "values", "is_so"),
    [
        ("of 8 heads 1 has −.008 [-0.015, 1.00], p < .05", [-0.008, -0.015, 0.998], True),
        ("of 8 heads 1 has −.008 [-0.015, 1.00], p < .05", [1, -0.008, -0.015, 0.998], True),
        ("of 8 heads 1 has .008", [2, 0.008], False),
        ("it has .008", [-0.008], False),
        (
            "errors of 2.6e-6 in 1,009.4 s, 10⁻⁶ (version 0.1.0, commit 42cba0a)",
            [2.62e-6, 1009.44],
            True,
        ),
        ("errors of 2.6e-6 in 1,009.4 s", [2.7e-6, 1009.44], False),
        ("errors of `--effect=0.02` and [this](at.md#1.25) in .03", [0.0251], True),
        ("*Yes* with .03", ["Yes", 0.03], True),
        ("*No* with .03", ["Yes", 0.03], False),
        (".20 and .30", [0.30, 0.20], False),
    ],
)
def test_numbers_of_a_sentence_stand_in_the_order_of_the_file(
    check, tmp_path, sentence, values, is_so
):
    text = f"<!-- figures: study.part -->\n{sentence}\n"
    named = {f"value {index}": exact for index, exact in enumerate(values)}
    assert (check.faults(clone(tmp_path / "clone", text, part=named)) == []) == is_so


def test_measured_numbers_want_a_file_or_a_reason_and_files_a_page(check, tmp_path):
    said = check.faults(clone(tmp_path / "bare", "# A\n\n" + TABLE, scores=SCORES))
    assert said == [
        "docs/a.md:3 prints measured numbers without <!-- figures: … -->",
        "docs/figures/study.json: no page prints scores",
    ]
    text = "# A\n\n<!-- no figures: of a paper -->\n" + TABLE + "\n```python\nx = 0.125\n```\n"
    assert check.faults(clone(tmp_path / "published", text)) == []
    text = "<!-- figures: study.other -->\n" + TABLE
    assert check.faults(clone(tmp_path / "other", text)) == [
        "docs/a.md:2: docs/figures has no study.other"
    ]
    with pytest.raises(ValueError, match="docs/a.md:2: .* stands above nothing"):
        check.faults(clone(tmp_path / "none", "<!-- no figures: of a paper -->\n\n" + TABLE))


def test_numbers_are_read_off_pages_once_and_again(check, make, tmp_path, monkeypatch):
    folder = clone(tmp_path / "clone", "# A\n\nIt has .125 of 3.\n\n## B 1\n\n" + TABLE)
    monkeypatch.setattr(check, "REPOSITORY", folder)
    monkeypatch.setattr(check, "FOLDER", folder / "docs" / "figures")
    assert make.transcribe() == ["a"] and check.faults(folder) == []
    page = folder / "docs" / "a.md"
    assert page.read_text("utf-8").count("<!-- figures: a.") == 2
    assert "<!-- figures: a.b-1 -->\n| | score" in page.read_text("utf-8")
    page.write_text(page.read_text("utf-8").replace(".125", ".250"), "utf-8")
    assert len(check.faults(folder)) == 1
    make.transcribe()
    assert check.faults(folder) == []
    content = json.loads((folder / "docs" / "figures" / "a.json").read_text())
    assert content["figures"]["a"] == {"It has": 0.25}
    assert list(content["figures"]["b-1"]) == [
        "2 heads, score", "2 heads, score #2", "2 heads, score #3", "2 heads, null",
    ]  # fmt: skip


def test_scores_of_a_study_are_read_by_what_they_are(make, tmp_path):
    """Rows in another order, and of other roles, give the same values."""
    roles = {
        "m": "model",
        "untrained:m": "untrained",
        "nuisance:length": "control",
        "shipped:g": "static",
    }
    rows = [
        {"model": model, "role": role, "method": method, "score": 10 * at + index, "lower": 1.0,
         "upper": 2.0, "null_mean": 3.0, "p": 0.01, "ceiling": 4.0}
        for at, method in enumerate(("rsa", "ridge"))
        for index, (model, role) in enumerate(roles.items())
    ]  # fmt: skip
    rdms = [
        {"model": model, "layer": layer, "group_rdm": value, "p_group_rdm": 0.001, "rsa": value / 2,
         "ceiling_lower": 0.1, "ceiling_upper": 0.2}
        for model, layer, value in (
            ("untrained:m", 0, -0.1), ("m", 3, 0.2), ("m", 4, 0.4), ("untrained:m", 1, -0.2),
            ("shipped:g", 0, 0.3),
        )
    ]  # fmt: skip
    pd.DataFrame(rows[::-1]).to_parquet(tmp_path / "evidence.parquet")
    pd.DataFrame(rdms).to_parquet(tmp_path / "rsa.parquet")
    parts = make._scores(tmp_path)
    ridge = [
        parts["scores"][f"ridge, {key}"] for key in ("score", "untrained", "word length", "GloVe")
    ]
    assert ridge == [10.0, 11.0, 12.0, 13.0]
    assert parts["rdms"]["its layer"] == 4 and parts["rdms"]["mean over people, MiniLM"] == 0.2
    assert parts["rdms"]["group's RDM, untrained, lowest layer"] == -0.2
    pd.DataFrame(rows[1:]).to_parquet(tmp_path / "evidence.parquet")
    with pytest.raises(IndexError):
        make._scores(tmp_path)
