"""Threads of one process, and processes that were forked from one with JAX in it."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recordings
import scipy.linalg  # noqa: F401  (its BLAS is there before one is asked for its threads)
from threadpoolctl import threadpool_info

import brainalign_jax as ba
from brainalign_jax import threads
from brainalign_jax.threads import in_turn, one_blas_thread

REPOSITORY = Path(__file__).resolve().parents[1]


def blas_threads():
    return sorted(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


def test_the_last_to_leave_gives_blas_its_threads_back():
    """Two studies that overlap: the one that began second does not leave BLAS at one thread."""
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_libraries_are_looked_for_again_where_modules_came_since(monkeypatch):
    """A library that brings its own BLAS, as PyTorch does, comes as a module."""
    with one_blas_thread():
        pass
    looked = threads._libraries.cache_info().misses
    with one_blas_thread():
        assert threads._libraries.cache_info().misses == looked
    monkeypatch.setitem(sys.modules, "module_with_a_blas", types.ModuleType("module_with_a_blas"))
    with one_blas_thread():
        assert threads._libraries.cache_info().misses == looked + 1


def test_a_blas_that_is_loaded_later_has_one_thread_too():
    """SciPy's, which JAX loads at its first SVD: inside, where a study begins with it."""
    script = """
        from threadpoolctl import threadpool_info
        from brainalign_jax.study.computation import Computation

        with Computation().context():
            import jax.numpy as jnp

            jnp.linalg.svd(jnp.eye(3))
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            assert {pool["num_threads"] for pool in pools} == {1}, pools
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_threads_take_turns_and_one_may_call_itself():
    inside, met, counts = set(), [], []

    @in_turn
    def study(depth: int = 1) -> int:
        """A study."""
        me = threading.get_ident()
        met.extend(inside - {me})
        inside.add(me)
        time.sleep(1e-3)
        count = 1 + (study(depth - 1) if depth else 0)
        inside.discard(me)
        return count

    running = [threading.Thread(target=lambda: counts.append(study())) for _ in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert counts == [2] * 8 and met == []
    assert study.__doc__ == "A study." and study.__name__ == "study"


def test_studies_in_two_threads_score_as_one_after_the_other(tmp_path):
    """Of different options, into folders of their own and into one and the same."""
    responses, _ = recordings.planted_study(n_subjects=2, n_words=40)
    people = {person.subject: person for person in responses}
    dataset = ba.Dataset("planted", tuple(people), responses[0].stimulus, people.__getitem__)
    vectors = tmp_path / "vectors.txt"
    recordings.write_vectors(vectors, np.random.default_rng(0).standard_normal((40, 8)))
    settings = {
        method: ba.Scoring((method,), ba.protocol("audited", timed=False, n_folds=4), (10,))
        for method in ("ridge", "rsa")
    }

    def study(scores, method, folder):
        models = [f"static:{vectors}"]
        table = ba.run_study(
            dataset, models, settings[method], folder, evidence=None, progress=False
        )
        scores[method] = table.rows

    alone = {}
    for method in settings:
        study(alone, method, None)
    for folders in ({m: tmp_path / m for m in settings}, dict.fromkeys(settings, tmp_path / "one")):
        scores = {}
        running = [
            threading.Thread(target=study, args=(scores, method, folder))
            for method, folder in folders.items()
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        for method, expected in alone.items():
            pd.testing.assert_frame_equal(scores[method], expected)
        for folder in set(folders.values()):  # what lies there is one of the two, whole
            table = ba.ResultTable.load(folder)
            (method,) = table.manifest["methods"]
            assert len(table.rows) == len(alone[method])


FORKS = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore")
import brainalign_jax as ba
import jax

def call(which):
    words = ba.Stimulus.from_words(["sun", "moon"])
    try:
        if which == "embed":
            ba.embed(words, "static:nowhere")
        elif which == "study":
            ba.run_study(ba.Dataset("x", ("S",), words, None), ["static:nowhere"])
        else:
            ba.surprisal(words, "nowhere")
    except Exception as error:
        return f"{which}: {type(error).__name__}: {error}"

calls = ["embed", "study", "surprisal"]
pool = multiprocessing.get_context("fork").Pool
with pool(1) as before:
    print(before.map(call, calls[:1]), flush=True)
jax.devices()
with pool(1) as after:
    print(*after.map(call, calls), sep="\\n")
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_pool_forked_after_jax_is_refused_with_the_remedy():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    before, *after = done.stdout.splitlines()
    assert "nowhere" in before and "forked" not in before, done.stderr
    assert len(after) == 3
    for which, line in zip(("embed", "study", "surprisal"), after, strict=True):
        assert line.startswith(f"{which}: RuntimeError: this process was forked")
        assert "multiprocessing.get_context('spawn')" in line


def test_this_process_was_not_forked():
    threads.check_not_forked()


def test_items_are_made_ahead_and_errors_arrive():
    def items():
        yield 1
        yield 2
        raise ValueError("a word without sub-tokens")

    got = []
    with pytest.raises(ValueError, match="without sub-tokens"):
        for item in threads.read_ahead(items()):
            got.append(item)
    assert got == [1, 2]
    stopped = threads.read_ahead(iter(range(10**9)))
    assert next(stopped) == 0
    stopped.close()
