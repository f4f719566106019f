"""How a study computes changes nothing: chunks, batches, threads, devices, processes, precision."""

import json
import os
import subprocess
import sys
from pathlib import Path

import commands
import jax
import numpy as np
import pandas as pd
import pytest
from recordings import planted_study, write_vectors

from brainalign_jax.align import linalg
from brainalign_jax.language.cache import EmbeddingCache
from brainalign_jax.study import computation, processes
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import programs
from brainalign_jax.study.score.sweep import Scoring, score_subjects

REPOSITORY = Path(__file__).resolve().parents[2]
SCORING = Scoring(
    ("procrustes", "ridge", "rsa"), protocol("audited", timed=False, n_folds=4), (10,)
)
PAPER = Scoring(
    ("procrustes", "ridge", "rsa"),
    protocol("paper", timed=False, n_folds=4, csls_k=10, n_inner_folds=4),
    (10,),
)


def score(responses, embeddings, scoring=SCORING, **how):
    return score_subjects("p", responses, embeddings, scoring, computation=Computation(**how))


@pytest.fixture(scope="module")
def reference():
    """The planted study with one layer, one call at a time."""
    responses, embeddings = planted_study()
    return responses, embeddings, score(responses, embeddings, layers=1, threads=1)


@pytest.mark.parametrize(
    "how", [{"layers": 2, "threads": 3}, {"layers": 8, "batch": 2, "threads": 1}]
)
def test_chunks_batches_and_threads_give_the_same_table(reference, how):
    responses, embeddings, expected = reference
    scored = score(responses, embeddings, **how)
    pd.testing.assert_frame_equal(scored, expected, atol=1e-5)


def test_several_models_share_a_subject_and_score_as_alone(reference):
    responses, embeddings, expected = reference
    other = planted_study(n_layers=2, seed=1)[1]
    scored = score(responses, [embeddings, other])
    assert len(scored) > len(expected)
    pd.testing.assert_frame_equal(scored.iloc[: len(expected)], expected, atol=1e-5)


def test_float64_on_request(reference):
    responses, embeddings, expected = reference
    scored = score(responses, embeddings, dtype="float64")
    # A rank may change at a near tie; the agreement of values may not.
    for metric, tolerance in (("pearson", 1e-5), ("rsa", 1e-5), ("rank_accuracy", 5e-3)):
        a, b = (rows.loc[rows["metric"] == metric, "value"] for rows in (scored, expected))
        np.testing.assert_allclose(a, b, atol=tolerance)
    assert jax.numpy.zeros(1).dtype == np.float32  # the setting is left as it was


@pytest.mark.parametrize("scoring", [SCORING, PAPER], ids=["audited", "paper"])
def test_programs_do_not_multiply_with_layers_folds_and_subjects(scoring):
    def count():
        return sum(f.n_programs() for f in (programs.layers, programs.prepare, programs.evaluate))

    def compiled(**sizes):
        before = count()
        score(*planted_study(n_words=64, **sizes), scoring, layers=3)
        return count() - before

    jax.clear_caches()
    # Three methods with two programs each, and layers in two forms; two more where a fold needs
    # more filters than its subject.
    assert compiled(n_layers=3, n_subjects=1) <= 10
    # Other responses; where no axes are chosen before, ridge may need a basis of another size.
    assert compiled(n_layers=9, n_subjects=3) <= (2 if scoring.protocol.pca != "none" else 0)


def test_products_are_exact_unless_asked_otherwise():
    x = jax.numpy.ones((2, 2))

    def precisions():
        jaxpr = jax.make_jaxpr(lambda a: (linalg.matmul(a, a), linalg.product(a, a)))(x)
        return [str(e.params["precision"][0]) for e in jaxpr.eqns if "precision" in e.params]

    assert precisions() == ["HIGHEST", "HIGHEST"]
    with Computation(precision="default").context():
        assert precisions() == ["HIGHEST", "DEFAULT"]


@pytest.mark.parametrize(
    ("counts", "most", "devices", "expected"),
    [([7], 8, 1, 7), ([13, 25], 8, 1, 5), ([13], 4, 4, 4), ([1], 8, 1, 1), ([2], 1, 4, 4)],
)
def test_chunks_leave_few_slots_empty(counts, most, devices, expected):
    assert programs.chunk_size(counts, most=most, devices=devices) == expected
    values = np.arange(counts[0])[:, None, None]
    parts = list(programs.chunks(values, expected))
    assert {len(part) for part in parts} == {expected}
    np.testing.assert_array_equal(np.concatenate(parts)[: counts[0]], values)


def test_impossible_computations_are_errors():
    for arguments, message in (
        ({"dtype": "float16"}, "unknown dtype='float16'; known: float32"),
        ({"precision": "sloppy"}, "unknown precision='sloppy'; known"),
        ({"layers": 0}, "layers=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Computation(**arguments)
    with pytest.raises(ValueError, match="together or not"):
        processes.join("localhost:1", None, 0)
    with pytest.raises(ValueError, match="process 2 is not one of 2"):
        processes.join("localhost:1", 2, 2)


def test_compiled_programs_are_kept_where_the_user_says(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("BRAINALIGN_COMPILATION_CACHE", "")
        assert computation.keep_compiled_programs() is None
        monkeypatch.setenv("BRAINALIGN_COMPILATION_CACHE", str(tmp_path / "mine"))
        assert computation.keep_compiled_programs() == tmp_path / "mine"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
        monkeypatch.delenv("BRAINALIGN_COMPILATION_CACHE")
        assert computation.keep_compiled_programs() == tmp_path / "mine"  # what is set stays
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# Scores the planted study in a process of its own and writes the table.
STUDY = """
import sys
sys.path[:0] = [{tests!r}, {repository!r}]
import recordings
from brainalign_jax.study import processes
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects
import jax, pandas as pd
{code}
"""


def run(code, **environment):
    script = STUDY.format(tests=str(REPOSITORY / "tests"), repository=str(REPOSITORY), code=code)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def test_four_devices_score_as_one(reference, tmp_path):
    responses, embeddings, expected = reference
    code = f"""
assert jax.local_device_count() == 4
responses, embeddings = recordings.planted_study()
scoring = Scoring(("procrustes", "ridge", "rsa"), protocol("audited", timed=False, n_folds=4), (10,))
scored = score_subjects("p", responses, embeddings, scoring, computation=Computation(layers=8))
scored.to_parquet({str(tmp_path / "four.parquet")!r})
"""
    finish(run(code, **commands.with_devices(4)))
    scored = pd.read_parquet(tmp_path / "four.parquet")
    pd.testing.assert_frame_equal(scored, expected, atol=1e-5, check_dtype=False)


def test_two_processes_share_a_study(tmp_path):
    """Subjects x models are split, every process returns all rows, and they are those of one.

    Before that: vectors that neither has do not make them wait for one another, and processes of other
    options, models or recordings make no study at all.
    """
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rng = np.random.default_rng(0)
    vectors = {}
    for name in ("a", "b"):
        vectors[name] = tmp_path / f"{name}.txt"
        write_vectors(vectors[name], rng.standard_normal((60, 12)))
    models = [f"static:{path}" for path in vectors.values()]
    code = """
join, output, shared = {join!r}, {output!r}, {shared!r}
from brainalign_jax.language import embed
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.run import run_study
me = join[2] if join else 0
if join and me == 0:
    jax.distributed.initialize(*join)  # as users of JAX do: its devices are asked for later
elif join:
    processes.join(*join)
responses, _ = recordings.planted_study(n_subjects=3)
by_name = {{person.subject: person for person in responses}}
dataset = Dataset("planted", tuple(by_name), responses[0].stimulus, by_name.__getitem__)
scoring = Scoring(("procrustes", "rsa"), protocol("audited", timed=False, n_folds=4), (10,))
for model in {models!r} if join else ():
    embed(dataset.stimulus, model, cache_dir=shared)

def refused(dataset, models, scoring, folder):
    try:
        run_study(dataset, models, scoring, folder, evidence=None, progress=False)
    except ValueError as error:
        print("refused:", error)

if join:
    folds = protocol("audited", timed=False, n_folds=4 + me)
    refused(dataset, {models!r}, Scoring(("rsa",), folds, (10,), seed=me), output + "/no")
    refused(dataset, [{models!r}, {models!r}[:1]][me], scoring, output + "/no")
    import os, pathlib
    os.chdir(output)
    text = pathlib.Path({models!r}[0].removeprefix("static:")).read_text()
    pathlib.Path("here.txt").write_text(text.replace(" 0.", " 1.") if me else text)
    refused(dataset, ["static:here.txt"], scoring, output + "/no")
    other, _ = recordings.planted_study(n_subjects=3, seed=me)
    load = {{person.subject: person for person in other}}.__getitem__
    changed = Dataset("planted", dataset.subjects, dataset.stimulus, load)
    refused(changed, {models!r}, scoring, output + "/no")
    assert not list(pathlib.Path(output, "no").glob("cells/*"))
table = run_study(dataset, {models!r}, scoring, output, evidence=None, progress=False)
table.rows.to_parquet(output + "/seen.parquet")
import json, pathlib
cells = len(list(pathlib.Path(output, "cells").glob("*.cell")))
print(json.dumps([cells, pathlib.Path(output, "report.html").exists()]))
"""
    started = []
    for index, join in enumerate([None, (f"127.0.0.1:{port}", 2, 0), (f"127.0.0.1:{port}", 2, 1)]):
        output = tmp_path / str(index)
        output.mkdir()
        places = dict(output=str(output), shared=str(tmp_path / "shared"))
        started.append(run(code.format(join=join, models=models, **places)))
    printed = [finish(process).splitlines() for process in started]
    told = [json.loads(lines[-1]) for lines in printed]
    refusals = [[line for line in lines if line.startswith("refused: ")] for lines in printed]
    assert refusals[0] == [] and refusals[1] == refusals[2]
    options, names, vectors, recorded = refusals[1]
    assert "differ in their options: " in options
    assert "scoring.protocol.n_folds is 4 in process 0, 5 in process 1" in options
    assert "scoring.seed is 0 in process 0, 1 in process 1" in options
    assert "models is " in names and "seed" not in names
    assert "differ in their models or recordings: static:here.txt.weights is " in vectors
    assert "recordings: recording of S0 is " in recorded and "static" not in recorded
    alone, *together = (pd.read_parquet(tmp_path / str(i) / "seen.parquet") for i in range(3))
    for table in together:
        pd.testing.assert_frame_equal(table, alone, atol=1e-5)
    # 3 subjects x 2 models x 2 methods: all cells alone, half of them in each process; two files a cell.
    assert told == [[24, True], [12, True], [12, False]]
    caches = [EmbeddingCache(tmp_path / str(i) / "embeddings") for i in range(3)]
    assert [cache.faults() for cache in caches] == [{}, {}, {}]
    # Each keeps all vectors that it used, for the next time: the folder need not be shared.
    kept = [[entry for entry in cache.entries() if entry.kind == "entry"] for cache in caches]
    assert [len(entries) for entries in kept] == [2, 2, 2]


_PLANNED = """
import sys
sys.path[:0] = ["tests", "."]
import jax
from recordings import planted_study
from brainalign_jax.study import computation, memory
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects

responses, embeddings = planted_study()
scoring = Scoring(("procrustes",), protocol("audited", timed=False, n_folds=4), (10,))
sides = responses[0], [[embeddings.values.shape]], scoring
memory.fit(*sides)
score_subjects("p", responses[:1], embeddings, scoring)
assert jax.default_backend() != "cpu" or computation._compiler_options(), "compiled slowly"
"""


def test_programs_compile_quickly_whatever_is_asked_for_first():
    """A program that is only looked at takes no compiler options: asked within it, there were none."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    done = subprocess.run(
        [sys.executable, "-c", _PLANNED],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_program_within_another_takes_no_options(monkeypatch):
    options = {"xla_backend_optimization_level": 1}
    monkeypatch.setattr(computation, "_compiler_options", lambda: options)
    double = computation.compiled(lambda x: 2 * x)
    assert float(double(3.0)) == 6.0
    assert float(jax.jit(lambda x: double(x) + 1)(3.0)) == 7.0
    assert jax.eval_shape(double, jax.ShapeDtypeStruct((4,), "float32")).shape == (4,)
