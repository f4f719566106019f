"""The paper's grid from the command line, on releases and checkpoints as they are on disk."""

import itertools
import json

import commands
import numpy as np
import pandas as pd
import potter_files
import pytest
import small_tokenizers
from small_models import save_checkpoint

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring

METHODS = ("procrustes", "ridge", "rsa")
FIXED = {"csls_k": 10, "n_folds": 3, "n_inner_folds": 2}
# Two sizes of equal depth and width: what differs is the feed-forward layers' width.
WIDER = {
    "bert": {"intermediate_size": 64},
    "gpt2": {"n_inner": 128},
    "opt": {"ffn_dim": 64},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """family -> folders of a small and a larger model with tokenizers, as of the hub."""
    folders = {}
    for family, wider in WIDER.items():
        for size, more in (("small", {}), ("large", wider)):
            folder = tmp_path_factory.mktemp("models") / f"{family}-{size}"
            folder.mkdir()
            getattr(small_tokenizers, family)(folder)
            vocabulary = folder / ("vocab.txt" if family == "bert" else "vocab.json")
            text = vocabulary.read_text()
            n_tokens = len(text.splitlines() if family == "bert" else json.loads(text))
            save_checkpoint(family, folder, n_layers=1, vocab_size=n_tokens, **more)
            folders.setdefault(family, []).append(str(folder))
    return folders


def replicate_paper(release, output, **given):
    """The finished process of the experiment with these flags."""
    settings = {
        "data_dirs": f"harry_potter={release}",
        "fixed": commands.fixed(FIXED),
        "ks": "10",
        "n_nulls": 2,
        "n_permutations": 9,
        "n_bootstraps": 100,
        "untrained_seeds": 0,
        "controls": "",
        "ceilings": False,
        "output_dir": output,
        "progress": False,
    } | given
    return commands.run_experiment("replicate_paper", settings)


def test_the_papers_grid_from_the_command_line(checkpoints, tmp_path):
    potter_files.release(tmp_path / "release", n_words=110, n_voxels=24)
    models = [model for family in checkpoints.values() for model in family]
    done = replicate_paper(
        tmp_path / "release", tmp_path / "out", preset="all", models=",".join(models)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"

    rows = pd.read_parquet(tmp_path / "out" / "results.parquet")
    pooled = rows[(rows["metric"] == "precision_csls") & (rows["k"] == 10) & (rows["fold"] == -1)]
    pooled = pooled[pooled["subject"] != "group"]
    keys = ["protocol", "model", "layer", "subject", "method"]
    scored = pooled.loc[pooled["layer"] >= 0, keys]
    subjects = open_dataset("harry_potter", tmp_path / "release").subjects
    wanted = set(itertools.product(("paper", "audited"), models, (0, 1), subjects, METHODS))
    assert len(wanted) == 2 * 6 * 2 * 2 * 3
    assert set(scored.itertuples(index=False, name=None)) == wanted and len(scored) == len(wanted)
    sizes = pooled.groupby("family")["n_params"].nunique()
    assert sizes.to_dict() == {"bert": 2, "gpt2": 2, "opt": 2}

    # One model and subject by a study of its own.
    dataset = open_dataset(
        "harry_potter", tmp_path / "release", subjects=subjects[:1], kind="paper"
    )
    chosen = protocol("audited", timed=True, grouped=True, **FIXED)
    alone = run_study(
        dataset, checkpoints["gpt2"][1:], Scoring(("procrustes",), chosen, (10,)), tmp_path / "alone",
        evidence=None, progress=False,
    ).rows  # fmt: skip
    alone = alone[alone["subject"] != "group"]
    same = rows
    for column in ("dataset", "model", "subject", "method", "protocol"):
        same = same[same[column] == alone[column].iloc[0]]
    keys = ["layer", "fold", "metric", "k"]
    both = alone.merge(same, on=keys, suffixes=("", "_of_grid"))
    assert len(both) == len(alone) == len(same) > 0
    np.testing.assert_allclose(both["value_of_grid"], both["value"], atol=1e-6)

    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    drawn = ("by_size", "precision_csls_by_layer", "rsa_by_layer")
    assert figures == {f"harry_potter_{name}" for name in drawn}
    evidence = pd.read_parquet(tmp_path / "out" / "evidence.parquet")
    assert len(evidence) == 2 * len(models) * len(METHODS)
    slopes = pd.read_parquet(tmp_path / "out" / "scaling.parquet")
    assert set(slopes["scope"]) == {"across", "within", "bert", "gpt2", "opt"}
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (
        "Is the alignment real?",
        "On harry_potter ",
        "Highest P@10: ",
        "growth with size is not shown (with 2 subjects it cannot be: it takes 6)",
        "harry_potter/audited/report.html",
    ):
        assert text in page
    assert page.count("<img") == len(figures)
