import sys
import time
import types

import numpy as np
import pytest

from benchmarks import measure, suite


def _absent(inputs):
    raise ImportError("no module named 'absent'")


def _slow(inputs):
    def call():
        time.sleep(0.02)
        return inputs["x"].sum()

    return call


JOB = measure.Job(
    name="sum of numbers",
    setup=lambda: {"x": np.arange(4, dtype=np.float32)},
    ours=lambda inputs: lambda: inputs["x"].sum() + 1,
    peers={"slow": _slow, "sampled": _slow, "absent": _absent},
    errors=lambda inputs, ours, peers: {"sum": abs(ours - peers["slow"]), "peers": len(peers)},
    flops=4.0,
    targets={"slow": 1e9},
    peer_scale={"sampled": 10.0},
)


@pytest.fixture(scope="module")
def row():
    return measure.measure_job(JOB, 3, rate=8.0)


def test_medians_ratio_and_share_follow_from_the_timings(row):
    assert row["ours_s"] == np.median(row["all_s"]["ours"])
    slow, sampled = row["peers"]["slow"], row["peers"]["sampled"]
    assert slow["seconds"] == np.median(row["all_s"]["slow"]) >= 0.02
    assert sampled["seconds"] == 10 * np.median(row["all_s"]["sampled"])
    assert slow["ratio"] == slow["seconds"] / row["ours_s"]
    assert row["share_of_rate"] == 0.5 / row["ours_s"]
    assert min(len(times) for times in row["all_s"].values()) >= 3


def test_errors_see_the_results_of_the_peers_that_ran(row):
    assert row["errors"] == {"sum": 1.0, "peers": 2.0}
    assert row["peers"]["absent"].startswith("not installed")


def test_table_has_a_line_for_each_peer(row):
    lines = measure.markdown([row, {"job": "other", "failed": "ValueError: no"}]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 3 + 1
    assert "sum of numbers" in lines[2] and "1e+09" in lines[2] and "sum 1" in lines[2]
    assert "extrapolated" in lines[3] and "extrapolated" not in lines[2]
    assert "not installed" in lines[4]
    assert measure.shortfalls([row])[0].startswith("sum of numbers: ")


def test_rates_and_machine_are_of_this_run():
    rates = measure.matmul_rates(size=64, repeats=1)
    assert {"jax", "numpy"} <= set(rates) and min(rates.values()) > 0
    assert measure.machine()["versions"]["numpy"] == np.__version__


def test_suite_collects_jobs_by_name_and_survives_one_that_fails(monkeypatch):
    broken = JOB._replace(name="broken", setup=lambda: {"y": 1})
    module = types.ModuleType("benchmarks.tiny_numbers")
    module.jobs = lambda: [JOB, broken]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    modules = [types.SimpleNamespace(name="tiny_numbers"), types.SimpleNamespace(name="measure")]
    monkeypatch.setattr(suite.pkgutil, "iter_modules", lambda path: modules)
    monkeypatch.setattr(suite, "matmul_rates", lambda: {"numpy": 1.0})
    for several in ("tiny", "other,tiny"):
        assert [job.name for job in suite.collect(several, "SUM")] == ["sum of numbers"]
    with pytest.raises(ValueError, match="'sum of numbers', 'broken'"):
        suite.collect("tiny", "product")
    kept = []
    rows, _ = suite.run(
        suite.collect("tiny", "broken|sum"), 1, keep=lambda rows, rates: kept.append(len(rows))
    )
    assert "ours_s" in rows[0] and "KeyError" in rows[1]["failed"]
    assert kept == [1, 2]
