"""The walk between the protocols from the command line, on a release as it is on disk."""

import commands
import numpy as np
import pandas as pd
import potter_files
import pytest

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.studies.ladder.ladder import STEPS
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring

FIXED = {"csls_k": 10, "n_folds": 3, "n_inner_folds": 2}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """(folder of a simulated release, static vectors of its words)."""
    folder = tmp_path_factory.mktemp("release")
    potter_files.release(folder / "potter", n_words=110, n_voxels=24)
    types, _ = open_dataset("harry_potter", folder / "potter").stimulus.types()
    rows = np.random.default_rng(1).standard_normal((len(types), 8))
    lines = [
        f"{w} " + " ".join(f"{x:.4f}" for x in row) for w, row in zip(types, rows, strict=True)
    ]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    return folder / "potter", f"static:{folder / 'vectors.txt'}"


def protocol_ladder(release, output, **given):
    """The finished process of the experiment with these flags."""
    settings = {
        "dataset": "harry_potter",
        "data_dir": release[0],
        "models": release[1],
        "fixed": commands.fixed(FIXED),
        "n_nulls": 2,
        "output_dir": output,
        "progress": False,
    } | given
    return commands.run_experiment("protocol_ladder", settings)


def test_the_walk_from_the_command_line(release, tmp_path):
    out, steps = tmp_path / "out", ("folds", "queries")
    done = protocol_ladder(release, out, methods="procrustes", steps=",".join(steps))
    assert done.returncode == 0, done.stderr
    told, last = done.stdout.splitlines()
    assert told.startswith("By procrustes, ") and last == f"report: {out / 'report.html'}"

    rows = pd.read_parquet(out / "ladder.parquet")
    assert list(rows["name"]) == ["paper", *steps] and set(steps) < set(STEPS)
    assert (rows["n_draws"] == 2).all() and (rows["n_subjects"] == 2).all()
    dataset = open_dataset("harry_potter", release[0])
    alone = run_study(
        dataset, [release[1]], Scoring(("procrustes",), protocol("paper", **FIXED), (10,)),
        tmp_path / "alone", evidence=None, progress=False,
    )  # fmt: skip
    assert rows["score"].iloc[0] == pytest.approx(alone.summary(k=10)["csls_avg"].item(), abs=1e-6)

    page = (out / "report.html").read_text()
    assert "Which choice makes the score?" in page and "From the first step to the last" in page
    assert page.count("<img") == 1 and (out / "ladder.png").stat().st_size > 1000
    for number, name in enumerate(rows["name"]):
        assert (out / "steps" / f"{number:02d}_{name}" / "report.html").is_file()
