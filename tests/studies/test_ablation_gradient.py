"""Estimates by gradient: vectors as of embed, derivatives by differences, exact scores as of a study."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from studies.test_ablation import SCORING, N, recorded, written

from brainalign_jax import cli
from brainalign_jax.language import embed
from brainalign_jax.language.parts.ablation import Ablation as Ablated
from brainalign_jax.language.parts.components import Component, Setting, components_of
from brainalign_jax.language.parts.gates import GateGradients, part_of
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import AblationTable, agreement, run_ablation
from brainalign_jax.studies.ablation.ablation import checked_protocol
from brainalign_jax.studies.ablation.gradient import over_all_parts
from brainalign_jax.studies.ablation.objectives import Objectives
from brainalign_jax.studies.ablation.scores import PersonScores
from brainalign_jax.studies.ablation.verdict import judged_lines
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import fitting_scoring
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.run import run_study

PARTS = ("heads", "attention", "ffn", "layers")


@pytest.fixture(scope="module")
def sentences():
    """Sentences of five words of letters; every sixth word is one that came before."""
    rng = np.random.default_rng(0)
    words = list(
        dict.fromkeys("".join(rng.choice(list("abcdefghijklmnop"), 3)) for _ in range(200))
    )[:N]
    words = [words[i - 5] if i % 6 == 5 else word for i, word in enumerate(words)]
    return Stimulus(tuple(words), sentence=np.arange(N) // 5)


def estimates(gates, gradients, deep, of, **options):
    made = (gates.integrated if "steps" in options else gates.first_order)(
        gradients, deep, of, hows=("zero", "mean"), **options
    )
    return {(each.block, each.layer, each.how): each.changes for each in made}


@pytest.mark.parametrize("style", ["gpt2", "llama", "pythia"])
def test_the_vectors_are_those_of_embed(style, folder_of, sentences):
    model = folder_of(style)
    for options in ({}, {"pooling": "last", "context": "word"}, {"last": "raw"}):
        vectors = GateGradients(Ablated(sentences, model, **options)).vectors()
        np.testing.assert_allclose(
            vectors, embed(sentences, model, **options).values, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_the_way_to_nothing_ends_at_the_exact_change(style, folder_of, sentences):
    """The integral over a part's own gate is what switching it off does, which first order is not."""
    ablated = Ablated(sentences, folder_of(style))
    config, gates = ablated.config, GateGradients(ablated)
    intact = gates.vectors()
    weights = np.random.default_rng(1).standard_normal((2, *intact.shape[1:])).astype(np.float32)

    def gradients(layer, vectors):
        return weights * vectors + weights  # of the sum of weights * (v^2 / 2 + v)

    def change(layer, vectors):
        both = [(weights * (x**2 / 2 + x)).sum(axis=(1, 2)) for x in (vectors, intact[layer])]
        return both[0] - both[1]

    components = components_of(config, PARTS, blocks=[0])
    first = estimates(gates, gradients, {2}, [0])
    whole = estimates(gates, gradients, {2}, components, steps=12)
    settings = [Setting(component, how) for component in components for how in ("zero", "mean")]
    of_heads = []
    for setting, layers, _ in ablated.vectors(settings, (2,), bits=False):
        column = part_of(setting.component, config.n_heads)
        for layer, vectors in layers.items():
            place, exact = (0, layer, setting.how), change(layer, vectors)
            is_head, scale = setting.component.kind == "heads", np.abs(whole[place]).max()
            near = (1e-3 if is_head else 0.01) * scale  # whole sub-layers bend more on their way
            np.testing.assert_allclose(whole[place][:, column], exact, rtol=0, atol=near)
            if is_head:
                of_heads.append((first[place][0, column], whole[place][0, column], exact[0]))
    of_heads = np.array(of_heads).T
    rough, close = (agreement.spearman(of_heads[row], of_heads[2]) for row in (0, 1))
    assert 0.5 < rough <= close and close > 0.99
    errors = np.abs(of_heads[:2] - of_heads[2]).max(axis=1)
    assert errors[0] > 20 * errors[1]
    # Of some parts, the others have no estimate, nor have blocks without a part.
    some = estimates(gates, gradients, {2}, components[1:2], steps=1)
    assert set(some) == {(0, layer, how) for layer in (1, 2) for how in ("zero", "mean")}
    for changes in some.values():
        assert np.isfinite(changes).all(axis=0).tolist() == [
            column == 1 for column in range(gates.n_parts)
        ]


def test_the_gradient_is_that_of_a_small_turn(folder_of, sentences):
    """Factors of the gates a little below one, through `_read`, against the derivative."""
    gates = GateGradients(Ablated(sentences, folder_of("gpt2")))
    states, on = gates._embedded(), gates._open()
    weights = np.random.default_rng(2).standard_normal((1, *gates.vectors().shape[1:]))

    def gradients(layer, vectors):
        return weights.astype(np.float32)

    known = estimates(gates, gradients, {2}, [0])[0, 2, "zero"][0]
    ends = []
    for name, place in (("heads", (0, 1)), ("attention", 0), ("feed_forward", 0), ("block", 0)):
        values = []
        for factor in (0.99, 1.01):
            turned = on._replace(**{name: getattr(on, name).at[place].set(factor)})
            values.append((weights * gates._read(states, turned, 0, {2})[2]).sum())
        ends.append((values[0] - values[1]) / 0.02)
    np.testing.assert_allclose(known[[1, 4, 5, 6]], ends, rtol=0.01, atol=0.02)


def planted(words, model):
    """What head 0.2 adds to the residual at every word [N, D]."""
    return written(words, model, 0, 2)[words.types()[1]]


def people_of(dataset, model, scoring, pool):
    scoring = fitting_scoring(dataset, scoring)
    scoring = dataclasses.replace(scoring, protocol=checked_protocol(scoring.protocol))
    responses = [dataset.load(subject) for subject in dataset.subjects]
    vectors = embed(dataset.stimulus, model)
    return PersonScores(responses, vectors, scoring, Computation(), pool), vectors, scoring


def test_the_smooth_scores_are_those_of_a_study(folder_of, sentences):
    model = folder_of("gpt2", sharpness=4.0)
    dataset = recorded(sentences, planted(sentences, model), noise=0.5, n_people=2)
    study = run_study(
        dataset,
        [model],
        Scoring(methods=("ridge", "cka"), ks=(1, 10)),
        evidence=None,
        progress=False,
    )
    with ThreadPoolExecutor(1) as pool:
        people, vectors, _ = people_of(dataset, model, SCORING, pool)
        n_types = vectors.values.shape[1]
        alignments = Objectives(people, 2, n_types, ("ridge",), (1, 2), per_target=False)
        assert alignments.names == ["ridge", "cka"]
        for layer in (1, 2):
            rows = study.rows[(study.rows["layer"] == layer) & (study.rows["fold"] == -1)]
            expected = [
                rows.loc[rows["metric"] == metric, "value"].mean() for metric in ("pearson", "cka")
            ]
            values = vectors.values[layer]
            np.testing.assert_allclose(alignments.values(layer, values), expected, atol=2e-5)
            step = 0.01 * np.random.default_rng(3).standard_normal(values.shape).astype(np.float32)
            ends = [alignments.values(layer, values + sign * step) for sign in (1, -1)]
            along = (alignments.gradients(layer, values) * step).sum(axis=(1, 2))
            np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2, rtol=0.03, atol=2e-5)
        dead = values * np.where(np.arange(values.shape[1]) == 3, 1e-13, 1).astype(np.float32)
        assert np.isfinite(alignments.gradients(2, dead)).all()
        with pytest.raises(ValueError, match="one penalty for all dimensions.*alpha_selection"):
            Objectives(people, 2, n_types, ("ridge",), (1,), per_target=True)
        with pytest.raises(ValueError, match="kernels and hat matrices of 10,000,000 words"):
            Objectives(people, 2, 10_000_000, ("ridge",), (1,), per_target=False)


def test_estimates_beside_exact_changes(folder_of, sentences, tmp_path):
    model = folder_of("gpt2", sharpness=4.0)
    dataset = recorded(sentences, planted(sentences, model), noise=0.5)
    plan = Ablation(
        components=("heads", "ffn", "layers", "positions"), how=("zero",), readout=("refit",),
        controls=False, n_flips=99, n_bootstraps=100,
    )  # fmt: skip
    options = dict(scoring=SCORING, progress=False)
    exact = run_ablation(dataset, [model], plan=plan, **options)
    plan = dataclasses.replace(plan, estimate="gradient")
    table = run_ablation(dataset, [model], tmp_path / "all", plan=plan, **options)
    pd.testing.assert_frame_equal(table.rows, exact.rows)  # to the bit
    assert exact.estimates is None and agreement.sentences(exact) == []
    again = AblationTable.load(tmp_path / "all")
    assert again.verdict() == table.verdict() and "by a Spearman correlation of" in again.verdict()
    assert "estimate by gradient of 4 heads" in agreement.sentences(table)[0]
    pd.testing.assert_frame_equal(again.estimates, table.estimates)
    assert table.estimates["exact"].notna().all()
    known = {(each.heads, each.place, each.objective): each for each in agreement.agreements(table)}
    for objective in ("ridge", "cka"):
        assert known[True, "own", objective].exact > 0.7
    html = (tmp_path / "all" / "report.html").read_text()
    assert "Estimates by gradient" in html and "with rank accuracy" in html
    assert (tmp_path / "all" / "figures" / "estimate_and_exact.png").is_file()
    plan = dataclasses.replace(plan, exact="top3")
    some = run_ablation(dataset, [model], tmp_path / "some", plan=plan, **options)
    parts = some.group(metric="rank_accuracy", layer=-1)
    off = parts[parts["component"] != "intact"]
    assert len(off) == 4 and "positions" in set(off["component"])  # which have no gate
    assert some.estimates["exact"].notna().sum() < len(some.estimates)
    everywhere = exact.rows.set_index(
        ["subject", "component", "block", "head", "layer", "metric", "k"]
    )
    for _, line in off.iterrows():
        place = tuple(line[name] for name in everywhere.index.names)
        assert everywhere.loc[place, "change"] == line["change"]
        assert line["p_max"] == min(1, 13 * line["p"])
    manifest = json.loads((tmp_path / "some" / "manifest.json").read_text())
    assert manifest["notes"][0].startswith("Of 13 parts of")
    assert "the 3 strongest by the estimate and the 1 without one were" in manifest["notes"][0]
    assert "Bonferroni" in manifest["notes"][0]
    plan = dataclasses.replace(plan, estimate="integrated", exact="all", steps=2)
    way = run_ablation(dataset, [model], plan=plan, **options)
    assert "by integrated gradients" in way.verdict()
    assert not np.allclose(way.estimates["estimate"], table.estimates["estimate"])


def test_positions_beside_parts_read_at_the_embedding_output(folder_of, sentences, tmp_path):
    """Positions are switched off, too, but have no estimate, and layer 0 is not one of the objectives'."""
    model = folder_of("gpt2")
    words = embed(sentences, model).values[0][sentences.types()[1]]
    dataset = recorded(sentences, words, noise=0.1, n_people=2)
    plan = Ablation(
        components=("heads", "positions"), how=("zero",), readout=("frozen", "refit"), controls=False,
        estimate="gradient", n_flips=19, n_bootstraps=100,
    )  # fmt: skip
    scoring = Scoring(methods=("rsa", "ridge"), ks=(1,))
    table = run_ablation(dataset, [model], tmp_path, plan=plan, scoring=scoring, progress=False)
    assert 0 in table.manifest["chosen_layers"][model].values()
    assert "positions" not in set(table.estimates["component"])
    # rsa has no map to be frozen: what is judged of it is refitted.
    assert set(judged_lines(table, model, "rsa")["readout"]) == {"refit"}
    assert set(judged_lines(table, model, "ridge")["readout"]) == {"frozen"}
    # A model without estimates has a sentence, and a figure without points.
    bare = dataclasses.replace(table, estimates=table.estimates[:0])
    assert "too few to be compared" in agreement.sentences(bare)[0]
    assert agreement.draw(bare, model).axes
    with pytest.raises(ValueError, match="rsa decodes without a map, and readout=frozen"):
        plan = dataclasses.replace(plan, readout=("frozen",))
        run_ablation(dataset, [model], plan=plan, scoring=scoring, progress=False)


def test_p_values_count_the_parts_that_were_not_switched_off():
    rows = pd.DataFrame(
        {"subject": ["A", *["group"] * 4], "how": ["zero", "zero", "zero", "mean", "intact"],
         "p": [np.nan, 0.01, 0.4, 0.01, np.nan], "p_max": [np.nan, 0.02, 0.5, 0.02, np.nan],
         "p_fdr": [np.nan, 0.02, 0.4, 0.02, np.nan]}
    )  # fmt: skip
    every = [
        Setting(Component("heads", 0, head), how) for head in range(20) for how in ("zero", "mean")
    ]
    positions = [Setting(Component("positions"), "zero")]  # which have no mean
    assert over_all_parts(rows, every, []) is rows
    counted = over_all_parts(rows, every[:4] + positions, every[4:])
    assert counted["p_max"].tolist()[1:3] == [0.21, 1.0]
    np.testing.assert_allclose(counted["p_fdr"].tolist()[1:3], [0.14, 1.0])
    np.testing.assert_allclose(counted.loc[3, ["p_max", "p_fdr"]].astype(float), [0.2, 0.2])
    assert counted["p_max"].isna().tolist() == [True, False, False, False, True]


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="exact='top': give all, or top and a number, as top20"):
        Ablation(estimate="gradient", exact="top")
    with pytest.raises(ValueError, match="exact=top3 needs an estimate"):
        Ablation(exact="top3")
    with pytest.raises(
        ValueError, match="not norms and positions: add one of these to the components"
    ):
        Ablation(components=("norms:0", "positions"), estimate="gradient")
    arguments = ["--dataset=pereira180", "--data_dir=d", "--models=m", f"--output_dir={tmp_path}/o"]
    assert cli.main(["ablate", *arguments, "--exact=top3"]) == 2
    assert cli.main(["ablate", *arguments, "--estimate=guess"]) == 2
