"""Untrained twins with some of their sub-layers, against studies of the same vectors; norms in a study."""

import itertools

import numpy as np
import pytest
from recordings import make_responses
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax.language import embed
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import run_ablation
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.run import run_study

OFF = {"attention only": "ffn:all", "ffn only": "attention:all", "both": ""}


def test_no_twin_and_no_drawn_part_is_the_untrained_model_itself(tmp_path):
    words = ["".join(word) for word in itertools.product("abcd", "efgh", "ijk")]
    words = Stimulus(tuple(words), sentence=np.arange(len(words)) // 5)
    model = save_checkpoint("gpt2", tmp_path / "model")
    add_letter_tokenizer(model)
    people = {"A": make_responses(words, embed(words, model).values[1], subject="A")}
    dataset = Dataset("made", tuple(people), words, people.__getitem__)
    plan = Ablation(
        components=("ffn",), how=("reinit",), draws=1, controls=False, readout=("refit",), twins=1,
        n_flips=19, n_bootstraps=100,
    )  # fmt: skip
    scoring = Scoring(methods=("ridge",), ks=(1,))
    name = f"untrained:{model} (seed 1)"
    table = run_ablation(dataset, [name], plan=plan, scoring=scoring, progress=False)
    rows = table.group(metric="rank_accuracy")
    changes = rows[rows["component"].isin(["ffn", "twins"]) & (rows["layer"] > 0)]
    changes = changes[changes["how"].isin(["reinit", "both"])]
    assert len(changes) == 4 and (changes["change"] != 0).all()


def test_twins_have_the_scores_of_a_study_of_their_vectors(tmp_path):
    words = ["".join(word) for word in itertools.product("abcd", "efgh", "ijk")]
    words = Stimulus(tuple(words), sentence=np.arange(len(words)) // 5)
    model = save_checkpoint("gpt2", tmp_path / "model")
    add_letter_tokenizer(model)
    rng = np.random.default_rng(0)
    signal = embed(words, model).values[1]
    people = {
        name: make_responses(words, signal @ rng.standard_normal((16, 12)), subject=name)
        for name in ("A", "B")
    }
    dataset = Dataset("made", tuple(people), words, people.__getitem__)
    scoring = Scoring(methods=("ridge",), ks=(1, 10))
    plan = Ablation(
        components=("norms",),
        how=("zero", "reinit"),
        controls=True,
        twins=2,
        n_flips=19,
        n_bootstraps=100,
    )
    table = run_ablation(
        dataset, [model], tmp_path / "out", plan=plan, scoring=scoring, progress=False
    )
    twins = table.rows[(table.rows["component"] == "twins") & (table.rows["layer"] >= 0)]
    for how, off in OFF.items():
        vectors = [
            embed(words, f"untrained:{model}", seed=seed, interventions=off) for seed in (1, 2)
        ]
        values = []
        for twin in vectors:
            study = run_study(dataset, [twin], scoring, evidence=None, progress=False).rows
            study = study[(study["fold"] == -1) & (study["metric"] == "rank_accuracy")]
            values.append(study.set_index(["subject", "layer"])["value"].drop(-1, level="layer"))
        ours = twins[(twins["how"] == how) & (twins["metric"] == "rank_accuracy")]
        ours = ours.set_index(["subject", "layer"])["value"]
        expected = sum(values) / 2
        np.testing.assert_allclose(ours.loc[expected.index], expected, atol=1e-6)
    text = table.verdict()
    assert "of 2 untrained twins in the chosen layer: attention only" in text
    assert "what the architecture gives by itself" in (tmp_path / "out" / "report.html").read_text()
    # Norms: ones in place of the gains, and neither random shares nor draws.
    rows = table.group(component="norms", metric="rank_accuracy", readout="refit")
    assert set(rows["how"]) == {"zero"} and set(rows["block"]) == {0, 1}
    assert any("Gains of layer norms are one" in note for note in table.manifest["notes"])
    with pytest.raises(ValueError, match="nothing of .* can be switched off in these ways"):
        plan = Ablation(components=("norms",), how=("resample",))
        run_ablation(dataset, [model], plan=plan, scoring=scoring, progress=False)
