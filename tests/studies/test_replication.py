"""The paper's grid on small recordings: presets, both protocols, intervals, one page."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from recordings import make_responses, write_vectors

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.replication import report
from brainalign_jax.studies.replication.replication import Grid, grid, replicate
from brainalign_jax.study.evidence import intervals
from brainalign_jax.study.evidence.table import EvidencePlan
from brainalign_jax.study.results import GROUP

PLAN = EvidencePlan(
    n_nulls=4, n_permutations=10, untrained_seeds=0, controls=(), ceilings=False, n_bootstraps=200
)


def test_presets_name_the_papers_grids():
    first = grid("experiment1", ["harry_potter"])
    assert first.methods == ("procrustes",)
    assert (
        first.models[0] == "bert-tiny"
        and first.models[-1] == "bert-large"
        and len(first.models) == 6
    )
    assert grid("experiment2", ["alice"], families=["gpt2"]).models[-1] == "gpt2-xl"
    assert grid("experiment2", ["alice"]).methods == ("rsa",)
    assert grid("experiment3", ["alice", "pereira180"]).models == ("bert-base",)
    small = grid("all", ["alice"], max_params=2e9)
    assert "opt-1.3b" in small.models and "opt-30b" not in small.models


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("experiment1", ["alice"]), "experiment1 is on harry_potter: give --data_dirs"),
        (("experiment3", ["alice"]), "at least 2"),
        (("custom", ["alice"]), "no model is left"),
        (("experiment9", ["alice"]), "unknown preset"),
    ],
)
def test_what_a_preset_cannot_do_is_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        grid(*arguments)


def test_unknown_families_are_told():
    with pytest.raises(ValueError, match="unknown family 'mamba'; .*`brainalign models`"):
        grid("all", ["alice"], families=["mamba"])


@pytest.fixture(scope="module")
def model(tmp_path_factory, planted):
    return write_vectors(tmp_path_factory.mktemp("vectors") / "vectors.txt", planted[0][1])


@pytest.fixture(scope="module")
def written(dataset, model, tmp_path_factory):
    """(folder, tables) of a grid, written by a relative path."""
    folder = tmp_path_factory.mktemp("grid")
    options = dict(fixed={"csls_k": 10, "n_folds": 4}, ks=(1, 10), evidence=PLAN, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, replicate([dataset], Grid((model,), ("procrustes", "rsa")), ".", **options)


def test_both_protocols_stand_side_by_side(written):
    folder, tables = written
    assert list(tables) == [("planted", "paper"), ("planted", "audited")]
    rows = pd.read_parquet(folder / "results.parquet")
    assert set(rows["protocol"]) == {"paper", "audited"}
    layers = pd.read_parquet(folder / "layers.parquet")
    assert set(layers["metric"]) == {"precision_csls", "rsa"}
    assert (layers["lower"] <= layers["score"] + 1e-6).all()
    assert (layers["upper"] >= layers["score"] - 1e-6).all()
    assert layers[["lower", "upper"]].notna().all().all()
    evidence = pd.read_parquet(folder / "evidence.parquet").set_index(["protocol", "method"])
    assert evidence.loc[("audited", "procrustes"), "p"] == pytest.approx(0.2)
    assert np.isnan(evidence.loc[("paper", "procrustes"), "p"])
    page = (folder / "report.html").read_text()
    assert "Is the alignment real?" in page and "planted/audited/report.html" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (folder / "planted" / "paper" / "report.html").is_file()
    assert list((folder / "figures").glob("*by_layer.png"))


@pytest.mark.parametrize("protocols", [("paper", "audited"), ("paper",)])
def test_everything_on_the_page_is_escaped(written, tmp_path, protocols):
    folder, tables = written
    evil = "<script>alert('x')"  # a slash would name a folder

    def renamed(frame):
        return frame.assign(**{c: evil for c in ("dataset", "model", "family") if c in frame})

    tables = {
        (evil, name): dataclasses.replace(
            table,
            rows=renamed(table.rows),
            extras={key: renamed(extra) for key, extra in table.extras.items()},
        )
        for (_, name), table in tables.items()
        if name in protocols
    }
    layers = renamed(pd.read_parquet(folder / "layers.parquet"))
    report.write(tables, layers, tmp_path, k=10, command=evil, simulated=True)
    page = (tmp_path / "report.html").read_text()
    assert "SIMULATED" in page and ("smooth noise" in page) == ("audited" not in protocols)
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") > 10


def test_an_interval_of_a_layer_holds_the_share_of_hits(dataset, model, tmp_path):
    tables = replicate(
        [dataset], Grid((model,), ("procrustes",)), tmp_path, protocols=("audited",),
        ks=(10,), evidence=PLAN, progress=False,
    )  # fmt: skip
    table = tables["planted", "audited"]
    (line,) = intervals.by_layer(table, PLAN, k=10).to_dict("records")
    ranks = table.extras["ranks"]
    by_subject = (ranks["rank_csls"] <= 10).groupby(ranks["subject"]).mean()
    assert line["score"] == pytest.approx(by_subject.mean())
    assert line["lower"] - 1e-6 <= line["score"] <= line["upper"] + 1e-6
    assert line["score"] == pytest.approx(
        table.pooled("precision_csls", k=10, subject=GROUP)["value"].iloc[0]
    )


def test_a_second_data_set_is_checked_before_the_first_is_scored(dataset, model, tmp_path):
    few = Stimulus.from_words([f"word{i}" for i in range(24)])
    responses = make_responses(few, np.random.default_rng(0).standard_normal((24, 5)))
    small = Dataset("small", ("S1",), few, lambda subject: responses)
    what, out = Grid((model,), ("procrustes",)), tmp_path / "out"
    with pytest.raises(ValueError, match="small, paper protocol: csls_k=40 is above the number"):
        replicate([dataset, small], what, out, fixed={"csls_k": 40}, ks=(1, 10), progress=False)
    with pytest.raises(ValueError, match="report_k=10 is not among"):
        replicate([dataset], what, out, ks=(1, 5), progress=False)
    assert not out.exists()


def test_protocols_and_data_sets_are_checked_first(dataset, model, tmp_path):
    what = Grid((model,), ("rsa",))
    with pytest.raises(ValueError, match="unknown protocol"):
        replicate([dataset], what, tmp_path, protocols=("papers",))
    with pytest.raises(ValueError, match="give each once"):
        replicate([dataset, dataset], what, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_figure_by_data_set_leaves_room_for_a_model_that_lacks_one():
    models = pd.DataFrame(
        {"dataset": ["a", "b", "b"], "model": ["small", "small", "large"], "score": [0.2, 0.3, 0.4]}
    ).assign(method="ridge", protocol=["paper", "audited", "audited"], chance=0.1)
    models = models.assign(lower=models["score"] - 0.1, upper=models["score"] + 0.1)
    figure = report.by_dataset(models, 10)
    drawn = [len(bars[0].get_xdata()) for axis in figure.axes for bars in axis.containers]
    assert drawn == [1, 0, 1, 1]
