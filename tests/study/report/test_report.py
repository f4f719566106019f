import dataclasses
import re
from html import unescape

import pandas as pd
import pytest

from brainalign_jax.study.protocol import AUDITED, Protocol
from brainalign_jax.study.report import report, summary
from brainalign_jax.study.results import GROUP, ResultTable, group_rows, tidy

MODELS = ("tiny", "untrained:tiny")
METHODS = ("ridge", "procrustes", "rsa")
N_WORDS = 60


def study(models=MODELS, *, manifest=None, protocol="audited", methods=METHODS) -> ResultTable:
    """Scores that follow a formula: the best is tiny, ridge, layer 2 (0.40 + subject)."""
    rows = []
    for m, model in enumerate(models):
        for s, subject in enumerate("ABC"):
            for i, method in enumerate(methods):
                for layer in range(4):
                    value = 0.4 - 0.1 * m - 0.03 * i - 0.017 * abs(layer - 2) + 0.05 * (s - 1)
                    head = (subject, model, method, layer)
                    rows += [
                        (*head, "precision_csls", k, value * k / 10, k / N_WORDS) for k in (5, 10)
                    ]
                    rows.append((*head, "rank_accuracy", 0, 0.5 + value / 4, 0.5))
                    if method == "rsa":
                        rows.append((*head, "rsa", 0, value / 7, 0.0))
    table = pd.DataFrame(
        rows, columns=["subject", "model", "method", "layer", "metric", "k", "value", "chance"]
    )
    table = table.assign(
        dataset="story", family="bert", n_params=2e6, n_layers=3, protocol=protocol, fold=-1,
        n_items=N_WORDS,
    )  # fmt: skip
    table = tidy(table)
    return ResultTable(pd.concat([table, group_rows(table)], ignore_index=True), manifest or {})


def page(table, folder, **options) -> str:
    return report.write_report(table, folder, **options).read_text(encoding="utf-8")


def tables(html) -> list[list[list[str]]]:
    return [
        [
            [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", block, re.S)
        ]
        for block in re.findall(r"<table.*?</table>", html, re.S)
    ]


def test_report_stands_alone(tmp_path):
    html = page(study(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    sources = re.findall(r'\b(?:src|href|srcset|action|data)\s*=\s*"([^"]{0,30})', html)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert html.count("<script") == 1 and "<link" not in html
    assert "@import" not in html and "url(" not in html


def test_numbers_equal_the_table(tmp_path):
    table = study()
    scores = table.summary(k=10)
    shown = tables(page(table, tmp_path))[0]
    assert shown[0] == [
        "model", "method", "layer", "CSLS-AVG", "CSLS-MAX", "mean over layers", "chance",
        "rank accuracy", "RSA",
    ]  # fmt: skip
    assert len(shown) == 1 + len(scores)
    for line, (_, row) in zip(shown[1:], scores.iterrows(), strict=True):
        assert line[:3] == [row["model"], row["method"], str(row["layer"])]
        for text, value in zip(line[3:], row.drop("selection").iloc[3:], strict=True):
            assert text == ("–" if pd.isna(value) else f"{value:.3f}")
    assert shown[1][3:5] == ["0.400", "0.450"]


def test_text_summary_has_the_same_numbers_aligned(tmp_path):
    table = study()
    text = summary.text_summary(table, k=10)
    block = next(part for part in text.split("\n\n") if part.startswith("model"))
    header, _, *lines = block.splitlines()
    shown = tables(page(table, tmp_path))[0]
    assert [line.split() for line in lines] == shown[1:]
    assert {len(line) for line in lines} == {len(header)}
    assert summary.headline(table, k=10) in text


def test_warnings_and_notes_are_on_the_page(tmp_path):
    table = study(manifest={"simulated": True}, protocol="paper")
    html = page(table, tmp_path / "a", notes=("A <note>.",))
    assert "The subjects are SIMULATED" in html and "smooth noise scores" in html
    assert "A &lt;note&gt;." in html
    plain = page(study(), tmp_path / "b")
    assert "SIMULATED" not in plain and "smooth noise" not in plain
    assert 'class="warning"' not in plain


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    manifest = {
        "command": evil, "dataset": {"name": evil, "citation": evil}, "versions": {evil: evil},
        "protocol": {"name": evil, evil: evil}, "models": [{"name": evil, evil: evil}],
        "subjects": {evil: evil}, evil: evil,
    }  # fmt: skip
    html = page(study((evil,), manifest=manifest), tmp_path)
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;") > 10


def test_missing_parts_are_skipped(tmp_path):
    html = page(study(methods=("ridge",)), tmp_path)
    assert "rsa by layer" not in html
    assert "RSA" not in tables(html)[0][0]
    decoding = study()
    only_rsa = ResultTable(decoding.rows[decoding.rows["metric"] == "rsa"], {})
    html = page(only_rsa, tmp_path)
    assert html.count("<img") == 1 and "No word retrieval was scored" in html
    assert "No word retrieval" in summary.text_summary(only_rsa)


def test_facts_hold_full_names_and_changed_choices(tmp_path):
    folder = "/data/home/someone/checkpoints/run/model"
    fields = dataclasses.replace(AUDITED, purge=4.0).fields()
    manifest = {
        "seed": 12345, "protocol": fields, "n_types": 1234567, "ks": [5, 10],
        "models": [{"name": folder, "n_params": 22713216, "context": "word"}],
        "subjects": {"A": "f" * 64}, "excluded_subjects": ["D"],
        "versions": {"jax": "1.2.3"}, "dataset": {"name": "story", "licence": "CC0"},
    }  # fmt: skip
    html = page(study((folder,), manifest=manifest), tmp_path)
    scores, protocol, facts, made, model, subjects = tables(html)
    assert {row[0] for row in scores[1:]} == {"run"}
    assert ["name", folder] in model and ["n_params", "22,713,216"] in model
    choices = {row[0]: row[1:] for row in protocol[1:]}
    assert list(choices) == list(fields)
    assert choices["purge"] == ["4 *", report.MEANINGS["purge"]]
    assert [name for name, (value, _) in choices.items() if "*" in value] == ["purge"]
    for fact in (
        ["seed", "12345"], ["n_types", "1,234,567"], ["excluded_subjects", "D"],
        ["number of subjects", "3"], ["dataset: licence", "CC0"],
    ):  # fmt: skip
        assert fact in facts
    assert made == [["fact", "value"], ["versions", "jax: 1.2.3"]]
    assert subjects[1:] == [["A", "f" * 64]]


def test_every_protocol_choice_has_a_meaning():
    assert set(report.MEANINGS) == {field.name for field in dataclasses.fields(Protocol)}


def test_the_command_is_folded_away_as_it_was_typed(tmp_path):
    manifest = {"command": "brainalign align --models='a b'", "working_folder": "/home/someone"}
    html = page(study(manifest=manifest), tmp_path)
    fold = html[html.index('<details class="computed">') :]
    fold = fold[: fold.index("</details>")]
    assert "<pre>brainalign align --models=&#39;a b&#39;</pre>" in fold and "/home/someone" in fold
    assert "command" not in [row[0] for row in tables(html)[2]]
    assert "From Python" in page(study(), tmp_path)


def test_a_page_without_evidence_opens_with_headline_numbers_and_picture(tmp_path):
    table = study()
    html = page(table, tmp_path)
    best = table.summary(k=10)["csls_avg"].max()
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)[0] == ("P@10", f"{best:.3f}")
    places = [html.index(part) for part in ("headline", "<dl", "<img", "<table")]
    assert places == sorted(places)


def test_failing_write_leaves_the_old_report(tmp_path, monkeypatch):
    old = page(study(), tmp_path)

    def full(handle):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        report.write_report(study(("other",)), tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_bad_input_is_named(tmp_path):
    table = study()
    with pytest.raises(ValueError, match="k=7.*5, 10"):
        report.write_report(table, tmp_path, k=7)
    with pytest.raises(ValueError, match="no rows"):
        summary.text_summary(ResultTable(table.rows[:0], {}))
    mixed = pd.concat([table.rows, table.rows.assign(dataset="other")])
    with pytest.raises(ValueError, match="story, other"):
        report.write_report(ResultTable(mixed, {}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_group_is_no_subject(tmp_path):
    table = study()
    assert GROUP in set(table.rows["subject"])
    assert "3 subjects" in page(table, tmp_path)


def test_caption_calls_words_a_text_only_where_they_are_one(tmp_path):
    text = page(study(manifest={"protocol": AUDITED.fields()}), tmp_path)
    assert text.count("words of a text are not independent") == 2
    fields = dataclasses.replace(AUDITED, folds="shuffled_types").fields()
    isolated = page(study(manifest={"protocol": fields}), tmp_path)
    assert "words of a text are not" not in isolated
    assert isolated.count("layers and subjects share the same words") == 2
