"""A whole study into a folder: what is written, what is computed again, what a failure leaves behind."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, write_vectors

from brainalign_jax.embedding import Embedding
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.options import EvidencePlan
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import METRICS
from brainalign_jax.study.results import COLUMNS, ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score import workbench
from brainalign_jax.study.score.sweep import Scoring


@pytest.fixture
def vectors_file(tmp_path, planted):
    """The planted layer as word vectors in text format."""
    write_vectors(tmp_path / "vectors.txt", planted[0][1])
    return tmp_path / "vectors.txt"


SCORING = Scoring(("procrustes", "rsa"), protocol("audited", timed=False, n_folds=5), (1, 10))


def run(dataset, vectors_file, output, scoring=SCORING, **options):
    options = {"evidence": None, "progress": False} | options
    return run_study(dataset, [f"static:{vectors_file}"], scoring, output, **options)


def test_a_study_writes_table_manifest_report_and_figures(dataset, vectors_file, tmp_path):
    table = run(dataset, vectors_file, tmp_path / "out", command="the command")
    rows = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert tuple(rows.columns) == (*COLUMNS, "fertility")
    pd.testing.assert_frame_equal(rows, table.rows, check_dtype=False)
    assert set(rows["metric"]) <= {*METRICS, "rsa"}
    assert set(rows["subject"]) == {"S0", "S1", "group"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["command"] == "the command"
    assert set(manifest["subjects"]) == {"S0", "S1"}
    assert manifest["protocol"]["n_folds"] == 5
    assert manifest["versions"]["jax"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    figures = list((tmp_path / "out" / "figures").glob("*.png"))
    assert figures and all(path.read_bytes()[:4] == b"\x89PNG" for path in figures)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_group_rows_are_the_mean_over_subjects(dataset, vectors_file, tmp_path):
    table = run(dataset, vectors_file, tmp_path)
    pooled = table.pooled("precision_csls", k=10)
    pooled = pooled[pooled["method"] == "procrustes"].set_index("subject")["value"]
    assert pooled["group"] == pytest.approx((pooled["S0"] + pooled["S1"]) / 2)
    summary = table.summary(k=10).set_index("method")
    assert summary.loc["procrustes", "csls_avg"] == pytest.approx(pooled["group"])
    assert summary.loc["procrustes", "csls_max"] == pytest.approx(max(pooled["S0"], pooled["S1"]))


def test_finished_cells_are_read_and_others_computed(dataset, vectors_file, tmp_path, monkeypatch):
    first = run(dataset, vectors_file, tmp_path)
    computed = []
    original = workbench.Workbench.job

    def counted(bench, subject, method, models):
        computed.append((method, subject))
        return original(bench, subject, method, models)

    monkeypatch.setattr(workbench.Workbench, "job", counted)
    again = run(dataset, vectors_file, tmp_path)
    assert computed == []
    pd.testing.assert_frame_equal(first.rows, again.rows)
    next((tmp_path / "cells").glob("*.cell")).unlink()
    run(dataset, vectors_file, tmp_path)
    assert len(computed) == 1
    computed.clear()
    seed = Scoring(SCORING.methods, SCORING.protocol, SCORING.ks, seed=1)
    run(dataset, vectors_file, tmp_path, seed)
    assert sorted(computed) == [
        (method, subject) for method in ("procrustes", "rsa") for subject in (0, 1)
    ]


def test_changed_vectors_are_not_taken_for_the_old_ones(dataset, vectors_file, tmp_path):
    first = run(dataset, vectors_file, tmp_path / "out")
    write_vectors(vectors_file, np.random.default_rng(9).standard_normal((60, 12)))
    second = run(dataset, vectors_file, tmp_path / "out")
    assert not np.allclose(first.rows["value"], second.rows["value"])


def test_a_damaged_cell_is_made_anew_with_a_warning(dataset, vectors_file, tmp_path, monkeypatch):
    first = run(dataset, vectors_file, tmp_path)
    damaged = sorted((tmp_path / "cells").glob("*.cell"))
    assert len(damaged) == 8
    kept = [path.read_bytes() for path in damaged]
    for number, (path, content) in enumerate(zip(damaged, kept, strict=True)):
        changed = bytearray(content)
        changed[number * len(content) // 8] ^= 1 << number
        path.write_bytes(bytes(changed) if number else content[: len(content) // 2])
    # Of another cell: its bytes are sound.
    damaged[5].write_bytes(kept[6])
    left = tmp_path / "cells" / ".x.cell.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = run(dataset, vectors_file, tmp_path)
    told = [str(warning.message) for warning in caught if "is damaged" in str(warning.message)]
    assert told and all("it is made anew" in text for text in told)
    # Scores are looked at before ranks, which are made anew with them.
    scores = {path.name for path in damaged if not path.name.endswith(".ranks.cell")}
    assert {name for name in scores if any(name in text for text in told)} == scores
    pd.testing.assert_frame_equal(first.rows, again.rows, check_exact=True)
    assert not left.exists()
    monkeypatch.setattr(workbench.Workbench, "job", None)  # nothing is left to do
    run(dataset, vectors_file, tmp_path)


def test_figures_of_an_earlier_study_do_not_stay(dataset, vectors_file, tmp_path):
    run(dataset, vectors_file, tmp_path)
    assert (tmp_path / "figures" / "rsa_by_layer.png").is_file()
    only = Scoring(("procrustes",), SCORING.protocol, SCORING.ks)
    run(dataset, vectors_file, tmp_path, only)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert "rsa_by_layer.png" not in written
    assert written == {name[8:] for name in manifest["files"] if name.startswith("figures/")}
    assert {"results.parquet", "report.html"} < set(manifest["files"])


def test_a_choice_that_does_not_exist_is_refused_before_there_is_a_study():
    with pytest.raises(ValueError, match="context='page'; known: sentence, window"):
        Embedding(context="page")


@pytest.mark.parametrize(
    ("models", "scoring", "options", "error"),
    [
        (["no-such-model"], SCORING, {}, ValueError),
        (["static:/nowhere/vectors.txt"], SCORING, {}, FileNotFoundError),
        (["untrained:/nowhere/model"], SCORING, {}, FileNotFoundError),
        ([], SCORING, {}, ValueError),
        (None, Scoring(("rsa",), SCORING.protocol, (1, 61)), {"report_k": 1}, ValueError),
        (None, SCORING, {"report_k": 7}, ValueError),
    ],
)
def test_a_failed_study_leaves_no_results(
    dataset, vectors_file, tmp_path, models, scoring, options, error
):
    output = tmp_path / "out"
    if models is None:
        models = [f"static:{vectors_file}"]
    with pytest.raises(error):
        run_study(dataset, models, scoring, output, evidence=None, progress=False, **options)
    assert not (output / "results.parquet").exists()
    assert not (output / "report.html").exists()


def test_results_are_loaded_as_saved_and_damage_is_named(dataset, vectors_file, tmp_path):
    table = run(dataset, vectors_file, tmp_path)
    loaded = ResultTable.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.rows, table.rows, check_dtype=False)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        ResultTable.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="manifest.json is missing"):
        ResultTable.load(tmp_path / "elsewhere")


def test_vectors_that_are_handed_in_score_as_those_of_a_file(dataset, vectors_file, planted, words):
    options = dict(
        scoring=Scoring(("ridge",), SCORING.protocol, (1, 10)),
        evidence=EvidencePlan(n_nulls=19, controls=(), n_bootstraps=100),
        progress=False,
    )
    of_file = run_study(dataset, [f"static:{vectors_file}"], **options)
    values = np.float32([[f"{x:.9g}" for x in row] for row in planted[0][1]])
    handed = run_study(dataset, make_embeddings(words, values[None], name="mine"), **options)
    assert [model["name"] for model in handed.manifest["models"]] == ["mine"]
    for table in ("rows", "nulls", "evidence"):
        file_rows, handed_rows = (
            (study.rows if table == "rows" else study.extras[table]) for study in (of_file, handed)
        )
        np.testing.assert_array_equal(file_rows["method"], handed_rows["method"])
        for column in {"value", "score", "p", "null_mean"} & set(file_rows):
            np.testing.assert_array_equal(file_rows[column], handed_rows[column], err_msg=column)
    strange = make_embeddings(Stimulus.from_words(["other", "words"]), values[None, :2], name="odd")
    with pytest.raises(ValueError, match="odd"):
        run_study(dataset, [strange], **options)
