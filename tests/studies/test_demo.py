import json

import pytest

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.studies.demo import WORD_DURATION, run_demo


def test_the_planted_layer_is_found_and_the_twin_stays_behind(minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_demo(
        str(minilm),
        ".",
        layer=2,
        n_subjects=2,
        n_nulls=2,
        n_voxels=200,
        snr=5.0,
        progress=False,
    )
    assert result.best_layers["procrustes"] == result.planted == 2
    best = result.table.pooled("precision_csls", k=10).groupby("model")["value"].max()
    assert best[str(minilm)] > 2 * best[f"untrained:{minilm}"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["simulated"] is True
    assert "SIMULATED" in (tmp_path / "report.html").read_text()
    dataset = open_dataset("harry_potter", tmp_path / "recordings", word_duration=WORD_DURATION)
    assert len(dataset.subjects) == 2


def test_a_layer_that_is_not_there_is_an_error(minilm, tmp_path):
    with pytest.raises(ValueError, match="no layer 7: layers 0 to 6"):
        run_demo(str(minilm), tmp_path, layer=7, progress=False)
    assert not list(tmp_path.iterdir())
