"""Specification curves: the scores are those of studies, the joint test and the parts of the spread."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from recordings import make_responses

from brainalign_jax.commands.specifications import CHOICES as CHOICES_OPTION
from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import Specifications
from brainalign_jax.studies.specifications import (
    CHOICES,
    SpecificationTable,
    joint_test,
    parts_of,
    run_specifications,
)
from brainalign_jax.studies.specifications.choices import levels_of, specifications_of
from brainalign_jax.studies.specifications.scores import by_products, by_studies
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.run import run_study

EXACT = Computation(dtype="float64")
FEW = Specifications(n_nulls=39)
NO_EVIDENCE = EvidencePlan(
    n_nulls=0, n_permutations=0, untrained_seeds=0, controls=(), ceilings=False, n_bootstraps=100
)
SMALL = {"metric": "p5", "csls_k": "5:none", "penalty": "error", "candidate_scaling": "none"}


def model_of(vectors, words):
    meta = {"family": "static"}
    return Embeddings("given", words.types()[0], np.asarray(vectors, np.float32), None, meta)


def noise_of(words, n_people=2, seed=0):
    rng = np.random.default_rng(seed)
    people = {
        f"S{number}": make_responses(
            words, rng.standard_normal((len(words), 20)), subject=f"S{number}"
        )
        for number in range(n_people)
    }
    return Dataset("noise", tuple(people), words, people.__getitem__)


@pytest.fixture(scope="module")
def curve(dataset, planted, tmp_path_factory):
    """(table, folder) of the planted recordings, whose layer is not the one in the middle."""
    vectors, _ = planted
    folder = tmp_path_factory.mktemp("curve")
    table = run_specifications(
        dataset,
        [model_of(vectors[[1, 0, 2]], dataset.stimulus)],
        folder,
        choices=SMALL,
        plan=FEW,
        progress=False,
    )
    return table, folder


def test_a_planted_signal_stands_but_where_a_layer_of_noise_is_fixed(curve):
    table, _ = curve
    rows, facts = table.rows, table.manifest["curves"]["given"]
    assert len(rows) == facts["n_specifications"] == 2 * 2 * 2 * 3
    other = rows["choice_layer"] != "middle"
    assert rows.loc[other, "stands"].all() and facts["n_standing"] >= other.sum()
    assert facts["joint"]["p_mean"] == pytest.approx(1 / 40)
    parts = {name: part["shapley"] for name, part in facts["parts"].items()}
    assert max(parts, key=parts.get) == "layer" and parts["layer"] > 0.5
    assert sum(parts.values()) == pytest.approx(1)
    assert f"in {facts['n_standing']} of 24 specifications" in table.verdict()
    assert "What decides is the rule of the layer" in table.verdict()
    assert "whether a control" in table.verdict()


def test_what_is_written_is_read_again(curve):
    table, folder = curve
    loaded = SpecificationTable.load(folder)
    assert loaded.rows.equals(table.rows) and loaded.draws.equals(table.draws)
    assert len(loaded.draws) == 24 * 39
    own = loaded.draws[loaded.draws["specification"] == 3]["value"]
    assert loaded.line(specification=3)["null_mean"] == pytest.approx(own.mean())
    page = (folder / "report.html").read_text()
    assert "most specifications" in page and "double-dipping" in page
    assert (folder / "figures" / "specification_curve_1.png").stat().st_size > 10_000


def test_noise_does_not_stand(words):
    vectors = np.random.default_rng(5).standard_normal((3, 60, 12))
    table = run_specifications(
        noise_of(words, seed=6), [model_of(vectors, words)], choices=SMALL, plan=FEW, progress=False
    )
    facts = table.manifest["curves"]["given"]
    assert facts["joint"]["p_mean"] > 0.05 and "It does not stand" in table.verdict()
    assert table.rows["z"].abs().max() < 5


def test_scores_are_those_of_studies(dataset, planted):
    """Of every choice, each level with one protocol of the others, and ranks by CSLS as in the study's."""
    vectors, _ = planted
    model = model_of(vectors, dataset.stimulus)
    table = run_specifications(
        dataset,
        [model],
        choices={"csls_k": "7:none", "metric": "p3:rank_accuracy", "scaling": "none:zscore"},
        plan=Specifications(n_nulls=20),
        computation=EXACT,
        progress=False,
    )
    every = specifications_of(
        table.manifest["levels"],
        embedding=Embedding(),
        timed=False,
        grouped=False,
        dataset=dataset.name,
    )
    assert len(every) == len(table.rows) == 384
    studies = {}
    for place in np.random.default_rng(0).permutation(len(every))[:5]:
        specification = every[place]
        protocol = dataclasses.replace(specification.protocol, layer_selection="inner_folds")
        if protocol not in studies:
            studies[protocol] = run_study(
                dataset,
                [model],
                Scoring(("ridge",), protocol, (3,)),
                computation=EXACT,
                report_k=3,
                evidence=NO_EVIDENCE,
                progress=False,
            )
        row = table.rows.iloc[place]
        assert row["value"] == pytest.approx(of_study(studies[protocol], row), abs=1e-6)


def of_study(study, row):
    """The value of a specification in a study with its protocol."""
    if row["choice_metric"] == "rank_accuracy" and row["choice_csls_k"] != "none":
        ranks = study.extras["ranks"].astype({"layer": float})
        by_layer = 1 - (ranks.groupby("layer")["rank_csls"].mean() - 1) / 59
        if row["choice_layer"] == "inner_folds":
            chosen = study.rows[study.rows["metric"] == "selected_layer"]
            chosen = chosen[(chosen["fold"] >= 0) & (chosen["subject"] != "group")]
            chosen = chosen[["subject", "fold", "value"]].rename(columns={"value": "layer"})
            picked = ranks.merge(chosen, on=["subject", "fold", "layer"])
            return 1 - (picked["rank_csls"].mean() - 1) / 59
    else:
        rows = study.rows
        rows = rows[(rows["subject"] == "group") & (rows["metric"] == row["metric"])]
        rows = rows[(rows["fold"] == -1) & (rows["k"] == row["k"])]
        by_layer = rows.set_index("layer")["value"]
        if row["choice_layer"] == "inner_folds":
            return by_layer[-1]
    by_layer = by_layer[by_layer.index >= 0]
    return by_layer.iloc[1] if row["choice_layer"] == "middle" else by_layer.max()


def test_draws_are_those_of_studies(dataset, planted):
    vectors, _ = planted
    model = model_of(vectors, dataset.stimulus)
    asked = {
        "csls_k": "10",
        "metric": "p5",
        "candidate_scaling": "spread",
        "layer": "inner_folds:middle:best",
        "folds": "audited",
    }
    levels = levels_of(asked, embedding=Embedding(), n_words=60, recurring=False, products=True)
    how = dict(timed=False, grouped=False, dataset="")
    specifications = specifications_of(levels, embedding=Embedding(), **how)
    shared = dict(n_draws=9, lower=False, seed=3, computation=EXACT, loaded=dataset.load)
    models = {Embedding(): model}
    fast = by_products(dataset, models, specifications, told=lambda share: None, **shared)
    slow = by_studies(
        dataset, models, specifications, method="ridge", told=lambda share: None, **shared
    )
    for own, other in zip(fast, slow, strict=True):
        assert own.values == pytest.approx(other.values, abs=1e-6)
        assert (own.layer, own.n_items) == (other.layer, other.n_items)
    assert len({own.values.tobytes() for own in fast}) > len(fast) / 2


def test_people_who_lack_words_have_chances_of_their_own():
    """The levels fit the person with the fewest words, whoever is first; chance is the mean over people."""
    words = Stimulus.from_words([f"word{i}" for i in range(104)])
    people = {person.subject: person for person in map(noise_of(words).load, ("S0", "S1"))}
    valid, own = np.arange(104) < 96, people["S1"]
    people["S1"] = dataclasses.replace(own, valid=valid, values=own.values * valid[:, None])
    dataset = Dataset("lacking", ("S0", "S1"), words, people.__getitem__)
    vectors = np.random.default_rng(0).standard_normal((2, 104, 4))
    one = {
        "folds": "audited",
        "centring": "training",
        "penalty": "fixed",
        "candidate_scaling": "spread",
    }
    table = run_specifications(
        dataset,
        [model_of(vectors, words)],
        choices=one | {"layer": "middle:best"},
        plan=Specifications(n_nulls=20),
        progress=False,
    )
    assert table.manifest["levels"]["csls_k"] == ["10"] and not table.manifest["by_products"]
    np.testing.assert_allclose(table.rows["chance"], (10 / 104 + 10 / 96) / 2)


def test_leaking_folds_raise_their_own_null_of_smooth_noise():
    rng = np.random.default_rng(2)
    stimulus = Stimulus([f"word{i}" for i in range(100)], onsets=1.5 * np.arange(100.0))

    def smooth(width):
        noise = rng.standard_normal((100, width))
        for place in range(1, 100):
            noise[place] = 0.95 * noise[place - 1] + 0.3 * noise[place]
        return noise

    person = make_responses(stimulus, smooth(8), subject="S1")
    dataset = Dataset("smooth", ("S1",), stimulus, {"S1": person}.__getitem__)
    choices = {"csls_k": "5", "penalty": "fixed", "layer": "best", "centring": "training"}
    table = run_specifications(
        dataset,
        [model_of(smooth(8)[None], stimulus)],
        choices=choices | {"candidate_scaling": "none", "queries": "types"},
        plan=Specifications(n_nulls=30),
        progress=False,
    )
    assert table.manifest["null"] == "shift" and not table.manifest["by_products"]
    nulls = table.rows.set_index("choice_folds")["null_mean"]
    assert nulls["shuffled"] > nulls["audited"] + 0.1
    assert "folds=shuffled" in table.verdict() and not table.rows["stands"].all()


def shapley_by_orders(grid):
    """The mean, over all orders, of what a choice adds to the variance of the conditional mean."""
    n = grid.ndim
    parts = np.zeros(n)
    for order in itertools.permutations(range(n)):
        before = 0.0
        for count in range(1, n + 1):
            others = tuple(set(range(n)) - set(order[:count]))
            after = grid.mean(axis=others).var() if others else grid.var()
            parts[order[count - 1]] += after - before
            before = after
    return parts / math.factorial(n) / grid.var()


def test_parts_of_the_spread_are_shapley_values():
    grid = np.random.default_rng(0).standard_normal((2, 3, 2, 4)) + np.arange(4.0)
    parts = parts_of(grid.ravel(), grid.shape)
    shapley = [part.shapley for part in parts]
    assert shapley == pytest.approx(shapley_by_orders(grid).tolist())
    assert sum(shapley) == pytest.approx(1)
    for part in parts:
        assert part.alone - 1e-12 <= part.shapley <= part.total + 1e-12


def test_an_interaction_is_shared_by_its_choices():
    grid = np.multiply.outer([-1.0, 1.0], [-1.0, 1.0])
    first, second = parts_of(grid.ravel(), (2, 2))
    assert (first.shapley, first.alone, first.total) == pytest.approx((0.5, 0, 1))
    assert second.shapley == pytest.approx(0.5)
    assert parts_of(np.ones(4), (2, 2))[0].shapley == 0


def test_parts_need_all_combinations():
    with pytest.raises(ValueError, match="5 values are not those of levels"):
        parts_of(np.arange(5.0), (2, 3))


def test_the_joint_test_treats_the_data_as_one_of_the_draws():
    """Whichever column is the data, its p is its rank among all: uniform over the columns."""
    values = np.random.default_rng(1).standard_normal((6, 20))
    values += np.random.default_rng(2).standard_normal(20)  # specifications go together
    columns = [np.roll(values, -place, axis=1) for place in range(20)]
    p = sorted(joint_test(moved).p_mean for moved in columns)
    assert p == pytest.approx(((1 + np.arange(20)) / 20).tolist())


def test_ties_count_against_the_data():
    joint = joint_test(np.ones((3, 10)))
    assert (joint.mean_z, joint.share, joint.p_mean, joint.p_share) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"fold": "audited"}, "unknown choice 'fold' of --choices; the nearest of 12: folds"),
        (
            {"folds": "audited:shufled"},
            "unknown --choices: folds='shufled'; known: audited, shuffled",
        ),
        ({"metric": "p0"}, "unknown --choices: metric='p0'; known: p10, rank_accuracy"),
        ({"metric": "p10:p10"}, "metric has a level twice"),
        ({"csls_k": "61"}, "csls_k=61: neighbours of more than the 60 words"),
        ({name: next(iter(levels)) for name, levels in CHOICES.items()}, "leave one specification"),
        ({"context": "word:sentence"}, "context is of models by name"),
    ],
)
def test_choices_that_cannot_be(choices, said, dataset, planted):
    model = model_of(planted[0], dataset.stimulus)
    with pytest.raises(ValueError, match=f"{said}"):
        run_specifications(dataset, [model], choices=choices, progress=False)


def test_the_option_names_every_choice():
    for name in CHOICES:
        assert name in CHOICES_OPTION.help
