"""Pilots of plans: what was chosen among several, slopes on size, gaps that were run, folders kept."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pilots import ablation_of, ablation_plan
from planted_conditions import CONDITIONS, QUICK, made
from recordings import make_embeddings, make_responses

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies import planning
from brainalign_jax.studies.generalisation import run_generalisation
from brainalign_jax.studies.options import Planning
from brainalign_jax.studies.planning import run_pilots, run_planning
from brainalign_jax.studies.planning.components import Components
from brainalign_jax.studies.planning.pilot import _items, read_pilot
from brainalign_jax.studies.planning.planning import part_of
from brainalign_jax.studies.planning.power import FLIPS, GroupTest, power_of
from brainalign_jax.studies.planning.simulate import simulated_p
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.results import GROUP, POOLED, SELECTED

QUICKLY = dict(n_simulations=0, n_bootstraps=100)


@pytest.fixture(scope="module")
def sizes():
    """(pilots of half and all of 60 words by three sizes of a model and one without, the data set)."""
    rng = np.random.default_rng(0)
    words = Stimulus.from_words([f"word{i}" for i in range(60)])
    vectors = rng.standard_normal((2, 60, 6))
    responses = {}
    for person in (f"S{i}" for i in range(6)):
        values = vectors[1] @ rng.standard_normal((6, 10)) + 3.0 * rng.standard_normal((60, 10))
        responses[person] = make_responses(words, values, subject=person)
    dataset = Dataset("planted", tuple(responses), words, responses.__getitem__)
    models = []
    for name, n_params, noise in (
        ("s", 10**6, 2),
        ("m", 10**7, 1),
        ("l", 10**8, 0),
        ("none", 0, 1),
    ):
        noisy = vectors + noise * rng.standard_normal(vectors.shape)
        model = make_embeddings(words, noisy)
        meta = {**model.meta, "n_params": n_params or None}
        models.append(dataclasses.replace(model, model=name, meta=meta))
    plan = Planning(test="size", **QUICKLY)
    return run_pilots(dataset, models, plan=plan, progress=False), dataset


def test_slopes_on_size_are_those_of_the_table(sizes):
    table = sizes[0][-1]
    rows = table.rows
    rows = rows[(rows["metric"] == "rank_accuracy") & (rows["layer"] == SELECTED)]
    rows = rows[(rows["fold"] == POOLED) & (rows["subject"] != GROUP)]
    scores = rows.pivot(index="subject", columns="model", values="value")[["s", "m", "l"]]
    pilot = read_pilot(table, Planning(test="size"), [])
    np.testing.assert_allclose(pilot.effects, (scores["l"] - scores["s"]) / 2, atol=1e-6)
    assert pilot.model == "3 models" and pilot.people == tuple(scores.index)
    planned = run_planning(sizes[0], plan=Planning(test="size", effect=0.05, **QUICKLY))
    assert planned.can_be_planned and not planned.rows["power"].isna().any()


def test_a_slope_is_not_cut_at_what_a_difference_can_be(sizes):
    plan = Planning(test="size", effect=2.0, words=(60,), **QUICKLY)
    assert (run_planning(sizes[0][-1], plan=plan).rows["effect"] == 2.0).all()
    for test, effect in (("score", 0.7), ("gap", 1.5)):
        with pytest.raises(ValueError, match=f"effect={effect} is more than test={test} can have"):
            Planning(test=test, effect=effect)


def test_an_effect_that_falls_with_words_is_not_said_to_grow(sizes):
    larger, smaller = sizes[0][::-1]
    pilot = read_pilot(larger, Planning(test="size"), [])
    ranks = smaller.extras["ranks"]
    best = ranks.assign(rank_nn=np.where(ranks["model"] == "l", 1, ranks["rank_nn"]))
    smaller = dataclasses.replace(smaller, extras=smaller.extras | {"ranks": best})
    table = run_planning([larger, smaller], plan=Planning(test="size", effect=0.05, **QUICKLY))
    assert table.manifest["pilot"]["effects"][0] > pilot.effects.mean()
    assert "The effect does not grow with words: " in table.verdict()
    assert "at 0 words" not in table.verdict()


@pytest.mark.parametrize("effect", [1.0, 1.5, 2.0])
def test_six_people_must_all_have_the_same_sign(effect):
    test = GroupTest(FLIPS, sides=2, n_flips=4999)
    planted = Components(effect, 1.0, 0.0, 0.0, 6, 100, 0.1, 5.0)
    p = simulated_p(planted, 6, 100, test, 1500, seed=1)
    assert power_of(planted, 6, 100, test) == pytest.approx((p < LEVEL).mean(), abs=0.03)


def test_the_best_of_noise_is_no_effect(sizes):
    """An interval above zero of what was chosen for it, without a p below .05 of all that there was."""
    table = run_pilots(
        sizes[1], [make_embeddings(sizes[1].stimulus, _planted(sizes[1]))],
        plan=Planning(n_nulls=24, fractions=(1.0,)), progress=False,
    )[0]  # fmt: skip
    plan = Planning(people=(6, 12), **QUICKLY)
    assert run_planning(table, plan=plan).can_be_planned
    nulls = table.extras["nulls"]
    # The other layer of the draws is as high as the best one is.
    high = nulls.assign(value=nulls["value"] + 0.5 * (nulls["layer"] == 0))
    table = dataclasses.replace(table, extras=table.extras | {"nulls": high})
    nothing = run_planning(table, plan=plan)
    assert nothing.manifest["pilot"]["lower"] > 0 and not nothing.can_be_planned
    assert ", and against the best layer of each null draw it has p = 1" in nothing.verdict()
    assert run_planning(table, plan=dataclasses.replace(plan, effect=0.1)).can_be_planned


def _planted(dataset):
    """Vectors [2, W, 10] of which layer 1 is in the brain of all."""
    values = [dataset.load(person).values for person in dataset.subjects]
    noise = np.random.default_rng(3).standard_normal(values[0].shape)
    return np.stack([noise, np.mean(values, axis=0)])


def test_the_part_that_falls_most_is_no_effect_where_any_would():
    changes = [-0.03, -0.02, -0.04, -0.03, -0.025, -0.035]
    several = [ablation_of(changes, half=0.005, block=block) for block in (1, 2)]

    def table(p_max):
        rows = pd.concat([part.rows for part in several], ignore_index=True)
        rows.loc[rows["subject"] == GROUP, "p_max"] = p_max
        return dataclasses.replace(several[0], rows=rows)

    assert run_planning(table(0.01), plan=ablation_plan()).can_be_planned
    nothing = run_planning(table(0.3), plan=ablation_plan())
    assert not nothing.can_be_planned
    assert ", and by the largest fall of all 2 parts it has p = 0.3" in nothing.verdict()
    # A part that was named was not chosen for its fall.
    named = run_planning(table(0.3), plan=ablation_plan(component="attention:1"))
    assert named.can_be_planned


def test_a_gap_that_was_run_is_a_pilot(tmp_path):
    dataset, model, _ = made("own", noise=0.5)
    table = run_generalisation(
        dataset, [model], CONDITIONS, tmp_path / "gap", scoring=Scoring(methods=("ridge",), layers=(1,)),
        plan=dataclasses.replace(QUICK, n_splits=1, n_bootstraps=100), progress=False,
    )  # fmt: skip
    kept = {path: path.read_bytes() for path in (tmp_path / "gap").rglob("*") if path.is_file()}
    plan = Planning(test="gap", **QUICKLY)
    pilot = read_pilot(table, plan, [])
    of_people = table.rows[
        (table.rows["metric"] == "gap_rank_accuracy") & (table.rows["tested_on"] == "all")
        & (table.rows["layer"] == SELECTED) & (table.rows["subject"] != GROUP)
    ]  # fmt: skip
    np.testing.assert_allclose(pilot.effects, of_people["value"])
    # Noise within people is known by their own intervals over words; a share that is given comes first.
    assert (of_people["lower"] < of_people["value"]).all()
    assert (of_people["upper"] > of_people["value"]).all()
    assert pilot.components.noise > 0
    given = read_pilot(table, dataclasses.replace(plan, stable_share=1.0), []).components
    assert given.noise == 0 and given.between > pilot.components.between
    planned = run_planning(tmp_path / "gap", tmp_path / "plan", plan=plan)
    assert planned.can_be_planned
    for output in ("gap", "plan/../gap"):
        with pytest.raises(ValueError, match="is the pilot's folder, whose files the plan would"):
            run_planning(tmp_path / "gap", tmp_path / output, plan=plan)
    assert kept == {path: path.read_bytes() for path in kept}
    group = table.rows["subject"] == GROUP
    without = table.rows.assign(lower=table.rows["lower"].where(~group))
    with pytest.raises(ValueError, match="no interval of the group"):
        run_planning(dataclasses.replace(table, rows=without), plan=plan)
    novel = table.rows[~table.rows["metric"].str.startswith("gap_")]
    with pytest.raises(ValueError, match="no gap between conditions: run `brainalign generalise`"):
        run_planning(dataclasses.replace(table, rows=novel), plan=plan)


def test_pilots_that_lack_what_is_read_are_refused(sizes):
    table = sizes[0][-1]
    precise = table.rows["metric"] == "precision_csls"
    bare = dataclasses.replace(table, rows=table.rows[~precise])
    with pytest.raises(ValueError, match="its table has no precision"):
        run_planning(bare, plan=Planning(test="size"))
    parts = ablation_of([-0.1, -0.2], layer=3)
    with pytest.raises(ValueError, match="no part that is switched off in the chosen layer"):
        run_planning(parts, plan=ablation_plan())


def test_the_pace_of_a_share_is_that_of_its_own_words():
    rng = np.random.default_rng(0)
    n = 80
    words = Stimulus(
        words=tuple(f"word{i}" for i in range(n)), onsets=np.arange(n) * 10.0, run=np.zeros(n, int)
    )
    vectors = rng.standard_normal((2, n, 6))
    responses = {
        name: make_responses(words, rng.standard_normal((n, 8)), subject=name) for name in "ab"
    }
    dataset = Dataset("story", ("a", "b"), words, responses.__getitem__)
    plan = Planning(test="layers", layers=(1, 0), fractions=(0.5,))
    (half,) = run_pilots(dataset, [make_embeddings(words, vectors)], plan=plan, progress=False)
    alone = planning.tested_pace(part_of(dataset, np.arange(40)), half)
    assert planning.tested_pace(dataset, half, share=0.5) == pytest.approx(alone)
    assert alone == pytest.approx(
        half.pooled("rank_accuracy", subject="a")["n_items"].max() / (390 / 60)
    )


def test_who_lacks_words_has_fewer_candidates(sizes):
    dataset = sizes[1]

    def load(person):
        whole = dataset.load(person)
        lacking = np.arange(60) % 3 == 0 if person == "S1" else np.zeros(60, bool)
        values = np.where(lacking[:, None], 0, whole.values)
        return dataclasses.replace(whole, values=values, valid=~lacking)

    lacking = dataclasses.replace(dataset, load=load)
    model = make_embeddings(dataset.stimulus, _planted(dataset))
    plan = Planning(test="layers", layers=(1, 0), fractions=(1.0,))
    (table,) = run_pilots(lacking, [model], plan=plan, progress=False)
    ranks = table.extras["ranks"]
    values = _items(ranks[ranks["layer"] == 1], table.rows)
    known = table.pooled("rank_accuracy", layer=1).set_index("subject")["value"]
    assert values.notna().sum(axis=1)["S1"] == 40
    np.testing.assert_allclose(values.mean(axis=1), known[values.index], atol=1e-6)
