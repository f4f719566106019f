"""Plans of studies: planted variances are recovered, power is that of simulated studies, what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy
from pilots import ablation_of, ablation_plan
from recordings import make_embeddings, make_responses

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.align.stats.bootstrap import draw_hierarchical
from brainalign_jax.align.stats.scaling_slope import draw_signs
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import Planning
from brainalign_jax.studies.planning import PlanTable, run_pilots, run_planning
from brainalign_jax.studies.planning.components import (
    Components,
    components_of_effects,
    components_of_items,
    growth,
    learning_curve,
)
from brainalign_jax.studies.planning.pilot import _items, read_pilot
from brainalign_jax.studies.planning.power import (
    DRAWS,
    FLIPS,
    INTERVAL,
    GroupTest,
    attained_level,
    power_of,
)
from brainalign_jax.studies.planning.simulate import simulated_p
from brainalign_jax.studies.planning.table import fewest_people
from brainalign_jax.study.evidence.chance import LEVEL, mean_band

PLANTED = Components(0.03, 0.0009, 0.002, 0.08, 12, 180, 0.01, 10.0)
_HIGHEST = np.random.default_rng(0).standard_normal((999, 3)).max(axis=1)
TESTS = {
    "two-sided": GroupTest(FLIPS, sides=2, n_flips=999),
    "one-sided": GroupTest(FLIPS, words_too=True, n_flips=999),
    "largest of five": GroupTest(FLIPS, words_too=True, n_flips=999, n_tests=5),
    "interval": GroupTest(INTERVAL),
    "draws": GroupTest(
        DRAWS,
        critical=float(np.quantile(_HIGHEST, 0.95)),
        null_words=0.02,
        null_noise=0.08,
        highest=_HIGHEST,
    ),
}


def table_of(rng, n_people, n_words, planted=PLANTED):
    """Values [S, W] in which everything varies as planted."""
    values = planted.effect + rng.standard_normal((n_people, 1)) * np.sqrt(planted.between)
    values = values + rng.standard_normal((1, n_words)) * np.sqrt(planted.words)
    return values + rng.standard_normal((n_people, n_words)) * np.sqrt(planted.noise)


def test_planted_variances_are_recovered():
    rng = np.random.default_rng(1)
    found = [components_of_items(table_of(rng, 30, 120)) for _ in range(60)]
    for name in ("effect", "between", "words", "noise"):
        values = np.array([getattr(components, name) for components in found])
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert values.mean() == pytest.approx(getattr(PLANTED, name), abs=4 * error)
    effects = np.array([components.effect for components in found])
    expected = np.mean([components.standard_error for components in found])
    assert effects.std(ddof=1) == pytest.approx(expected, rel=0.3)


def test_words_that_go_on_like_their_neighbours_are_fewer():
    rng = np.random.default_rng(2)
    means, errors, without = [], [], []
    for _ in range(80):
        shared = np.zeros(300)
        for word in range(1, 300):
            shared[word] = 0.8 * shared[word - 1] + 0.3 * rng.standard_normal()
        values = shared + 0.1 * rng.standard_normal((5, 300))
        means.append(values.mean())
        errors.append(components_of_items(values, in_order=True).standard_error)
        without.append(components_of_items(values).standard_error)
    spread = np.std(means, ddof=1)
    assert np.mean(errors) == pytest.approx(spread, rel=0.3)
    assert np.mean(without) < 0.5 * spread


def test_the_bootstrap_over_people_and_words_gives_the_words_their_share():
    effects = np.array([0.1, 0.2, 0.3, 0.4])
    spread, n = effects.var(ddof=1), 4
    crossed = np.sqrt(spread * (n - 1) / n**2 + 0.001)
    components = components_of_effects(effects, crossed, 50)
    assert (components.between, components.noise) == (pytest.approx(spread), 0.0)
    assert components.words == pytest.approx(0.001 * 50)
    half = components_of_effects(effects, crossed, 50, stable_share=0.5)
    assert half.between + half.noise / 50 == pytest.approx(spread)
    crossed = np.sqrt(spread * (n - 1) / n**2 + 0.001 + 2 * 0.004 / n)
    own = components_of_effects(effects, crossed, 50, own_error=np.sqrt(0.001 + 0.004))
    parts = [own.between, own.words / 50, own.noise / 50]
    np.testing.assert_allclose(parts, [spread - 0.004, 0.001, 0.004], rtol=1e-6)


@pytest.mark.parametrize("n_people", [5, 12])
def test_noise_within_people_is_told_from_people_and_words(n_people):
    """By what tables of gaps and ablations hold: with fewer words their people differ more."""
    rng, n_words = np.random.default_rng(5), 40
    planted = Components(0.06, 0.002, 0.001, 0.16, n_people, n_words, 0.0, 1.0)
    found = []
    for _ in range(200):
        values = table_of(rng, n_people, n_words, planted)
        effects, half = values.mean(axis=1), scipy.stats.norm.isf(0.025)
        own = (mean_band(values, np.ones_like(values)).upper - effects) / half
        counts = draw_hierarchical(n_people, n_words, 200, random_state=1)
        crossed = np.einsum("bs,sw,bw->b", counts[0], values, counts[1]) / values.size
        found.append(
            components_of_effects(
                effects, crossed.std(ddof=1), n_words, own_error=np.sqrt(np.square(own).mean())
            )
        )
    noise = np.mean([each.noise for each in found])
    assert noise == pytest.approx(planted.noise, rel=0.25)
    total = np.mean([each.between + each.noise / n_words for each in found])
    assert total == pytest.approx(planted.between + planted.noise / n_words, rel=0.25)
    for n_words, fewer in ((40, False), (20, True)):
        spreads = np.array([each.between + each.noise / n_words for each in found])
        assert (spreads.mean() > 1.2 * total) == fewer


def test_noise_that_grows_with_fewer_words_is_learnt_from_two_pilots():
    """People differ in truth by as much with half of the words; noise of a word is twice as large there."""
    rng = np.random.default_rng(8)
    people = 0.06 + 0.03 * rng.standard_normal(30)
    tables = []
    for n_words, own in ((50, 0.04), (100, 0.02)):
        effects = people + own * rng.standard_normal(30)
        spread = effects.var(ddof=1)
        crossed = np.sqrt(spread * 29 / 900 + 2 * own**2 / 30)
        tables.append(
            ablation_of(-effects, n_words=n_words, half=1.96 * crossed, own=1.96 * own, p_max=0.001)
        )
    plan = ablation_plan(words=(25, 50, 100, 200), people=(8,))
    both, one = run_planning(tables, plan=plan), run_planning(tables[1:], plan=plan)
    assert both.manifest["pilot"]["noise_growth"] == pytest.approx(1.0, abs=0.05)
    assert one.manifest["pilot"]["noise_growth"] == 0
    powers = [table.rows.set_index("n_words")["power"] for table in (both, one)]
    assert (powers[0][[25, 50]] < powers[1][[25, 50]] - 0.01).all()
    assert "power there is lower than is said" in both.verdict()
    asked = dataclasses.replace(plan, words=(50, 100))
    assert "power there is lower than is said" not in run_planning(tables, plan=asked).verdict()


def test_a_band_of_words_is_that_of_their_mean():
    values = np.array([[0.1, 0.4, np.nan, 0.7], [0.2, np.nan, np.nan, np.nan]])
    low, high = mean_band(values, np.isfinite(values), confidence=0.9)
    own = values[0][[0, 1, 3]]
    half = scipy.stats.norm.isf(0.05) * own.std(ddof=1) / np.sqrt(3)
    np.testing.assert_allclose([low[0], high[0]], [own.mean() - half, own.mean() + half])
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize(("n_units", "sides"), [(4, 1), (5, 1), (6, 1), (5, 2), (6, 2), (7, 2)])
def test_the_level_is_that_of_the_flips_that_there_are(n_units, sides):
    """All p-values that sign flips of so many people can have, of many samples."""
    signs = draw_signs(n_units, 999)
    sums = signs @ np.random.default_rng(0).standard_normal((n_units, 4000))
    values = np.random.default_rng(0).standard_normal((n_units, 4000)).sum(axis=0)
    reached = sums >= values - 1e-9 if sides == 1 else np.abs(sums) >= np.abs(values) - 1e-9
    p = (1 + reached.sum(axis=0)) / (1 + len(signs))
    assert attained_level(n_units, 999, sides) == max(p[p < LEVEL], default=0.0)


@pytest.mark.parametrize("name", TESTS)
def test_power_grows_with_people_and_words_to_a_limit(name):
    test = TESTS[name]
    by_people = [power_of(PLANTED, n, 180, test) for n in (8, 16, 32, 64)]
    by_words = [power_of(PLANTED, 12, n, test) for n in (40, 160, 640, np.inf)]
    assert (np.diff(by_people) > 0).all() and (np.diff(by_words) > 0).all()
    assert by_words[-1] < 1 - 1e-9 or name == "draws"


@pytest.mark.parametrize("name", TESTS)
def test_power_is_that_of_simulated_studies(name):
    n_studies = 200 if name == "largest of five" else 600
    for n_people, n_words in ((4, 100), (8, 60), (16, 240)):
        expected = power_of(PLANTED, n_people, n_words, TESTS[name])
        p = simulated_p(PLANTED, n_people, n_words, TESTS[name], n_studies, seed=3)
        error = np.sqrt(max(expected * (1 - expected), 0.01) / n_studies)
        assert (p < LEVEL).mean() == pytest.approx(expected, abs=0.02 + 3.5 * error)


@pytest.mark.parametrize("sides", [1, 2])
def test_power_of_thousands_of_people_or_words_is_a_number(sides):
    small = PLANTED._replace(effect=0.0005, words=0.0)
    test = GroupTest(FLIPS, sides=sides, words_too=True)
    for n_people, n_words in ((1024, 100), (2000, 100), (4, 5000)):
        assert 0 < power_of(small, n_people, n_words, test) < 1
    # More people than are looked for.
    assert np.isnan(fewest_people(lambda n: power_of(small, n, 100, test), 0.8))


def test_without_an_effect_power_is_at_most_the_level():
    """But for what people share of the words, which is no null of a test over people."""
    nothing = PLANTED._replace(effect=0.0, words=0.0)
    for name, test in TESTS.items():
        if name != "draws":  # whose null has a spread of its own
            assert power_of(nothing, 12, 180, test) <= LEVEL


def test_how_an_effect_grows_with_words_is_learnt():
    rng, sizes = np.random.default_rng(0), np.array([50, 100, 200, 400])
    people = rng.normal(1.0, 0.1, 10)
    effects = sizes[:, None] / (sizes[:, None] + 120) * people
    curve = learning_curve(sizes, effects, 100, rng)
    assert curve.half_words == pytest.approx(120, rel=0.05)
    assert growth(120, 400, 100) == pytest.approx((400 / 520) / (100 / 220))
    assert growth(120, np.inf, 100) == pytest.approx(220 / 100)
    assert learning_curve(sizes[:1], effects[:1], 100, rng).half_words == 0


@pytest.fixture(scope="module")
def pilots():
    """(pilots of half and all of 80 words, the data set): layer 1 of a model is in seven people."""
    rng = np.random.default_rng(0)
    words = Stimulus.from_words([f"word{i}" for i in range(80)])
    vectors = rng.standard_normal((2, 80, 8))
    responses = {}
    for person in (f"S{i}" for i in range(7)):
        values = vectors[1] @ rng.standard_normal((8, 10)) + 5.0 * rng.standard_normal((80, 10))
        responses[person] = make_responses(words, values, subject=person)
    dataset = Dataset("planted", tuple(responses), words, responses.__getitem__)
    plan = Planning(n_nulls=24)
    model = make_embeddings(words, vectors)
    return run_pilots(dataset, [model], plan=plan, progress=False), dataset


def test_values_of_words_are_those_of_the_table(pilots):
    table = pilots[0][-1]
    rows = table.rows
    for layer in (0, 1):
        ranks = table.extras["ranks"]
        values = _items(ranks[ranks["layer"] == layer], rows).mean(axis=1)
        known = table.pooled("rank_accuracy", layer=layer).set_index("subject")["value"]
        np.testing.assert_allclose(values, known[values.index], atol=1e-6)


def test_a_plan_of_pilots_of_two_sizes(pilots, tmp_path):
    plan = Planning(people=(2, 6, 12), words=(40, 80), n_simulations=100, n_bootstraps=100)
    plan = dataclasses.replace(plan, reliability=0.3, repetitions=(1, 2), words_per_minute=10)
    table = run_planning(pilots[0], tmp_path / "out", plan=plan)
    rows = table.rows
    assert len(rows) == 12 and not rows["power"].isna().any()
    assert (rows["power_low"] <= rows["power"] + 1e-9).all()
    np.testing.assert_allclose(rows["power"], rows["simulated"], atol=0.2)
    assert rows.loc[rows["repetitions"] == 1, "minutes"].tolist() == [4.0] * 3 + [8.0] * 3
    effects = rows.drop_duplicates(["n_words", "repetitions"])["effect"].to_numpy()
    assert effects[0] < effects[1] < effects[3]
    assert table.manifest["pilot"]["sizes"] == [40, 80] and not rows["beyond_pilot"].all()
    assert table.verdict().startswith("For 80 % power you need ")
    loaded = PlanTable.load(tmp_path / "out")
    pd.testing.assert_frame_equal(loaded.rows, rows)
    pd.testing.assert_frame_equal(loaded.needed, table.needed)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"report.html", "figures"}
    assert table.needed["n_people"].notna().all()


def test_layers_are_planned_by_people(pilots):
    table = run_planning(
        pilots[0][-1], plan=Planning(test="layers", layers=(1, 0), n_simulations=0, words=(80,))
    )
    rows = table.rows.set_index("n_people")
    assert (
        rows.loc[4, "power"] == 0 and rows.loc[12, "power"] > 0.5
    )  # of four people no p is below .05
    assert rows["simulated"].isna().all()
    swapped = run_planning(pilots[0][-1], plan=Planning(test="layers", layers=(0, 1)))
    assert swapped.verdict().startswith("Nothing can be planned")


def test_a_pilot_of_noise_is_no_plan(tmp_path):
    changes = np.array([0.02, -0.01, -0.03, 0.02, 0.0, -0.01, 0.01])
    table = run_planning(ablation_of(changes), tmp_path / "out", plan=ablation_plan())
    assert not table.can_be_planned and table.needed.empty
    assert table.rows[["power", "power_low", "simulated"]].isna().all(axis=None)
    assert "Nothing can be planned from this pilot: it does not show the effect" in table.verdict()
    assert "Nothing can be planned" in (tmp_path / "out" / "report.html").read_text("utf-8")
    given = run_planning(ablation_of(changes), plan=ablation_plan(effect=0.02))
    assert given.can_be_planned and "planned for a given effect of 0.020" in given.verdict()


def test_with_few_people_no_number_of_words_is_enough():
    changes = [0.0, 0.01, 0.09, 0.06, -0.03, 0.09, 0.08, 0.03, -0.02, 0.04, 0.05, 0.0]
    changes = -np.array(changes)
    table = run_planning(ablation_of(changes, half=0.001), plan=ablation_plan(people=(6, 20)))
    assert "With 6 people no number of words reaches it (power ." in table.verdict()
    assert (table.needed["n_people"] > 6).all()
    powers = table.rows.groupby("n_people")["power"]
    np.testing.assert_allclose(powers.max(), powers.min(), atol=1e-6)  # all of it is between people


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(effect=0.0), "effect=0.0 must be above 0"),
        (dict(effect=-0.1), "effect=-0.1 must be above 0"),
        (dict(power=1.0), "power=1.0 must be"),
        (dict(power=0.0), "power=0.0 must be"),
        (dict(people=(1,)), "must be at least 2"),
        (dict(test="layers"), "two layers"),
        (dict(test="layers", layers=(2, 2)), "two layers"),
        (dict(component="head:0.1"), "is for test=ablation"),
        (dict(repetitions=(2.0,)), "--reliability"),
        (dict(test="sizes"), "size"),
    ],
)
def test_choices_that_are_none(changes, expected):
    with pytest.raises(ValueError, match=expected.replace(".", r"\.")):
        Planning(**changes)


def test_pilots_that_say_nothing_are_refused(pilots, tmp_path):
    tables = pilots[0]
    with pytest.raises(ValueError, match="AblationTable in memory: a pilot of 1 person"):
        run_planning(ablation_of([-0.1]), plan=ablation_plan())
    with pytest.raises(ValueError, match="all people have the same effect"):
        run_planning(ablation_of([-0.1] * 4), plan=ablation_plan())
    without = ablation_of([-0.1, -0.2])
    without = dataclasses.replace(without, rows=without.rows.drop(columns="n_items"))
    with pytest.raises(ValueError, match="no column 'n_items'"):
        run_planning(without, plan=ablation_plan())
    with pytest.raises(ValueError, match="attention 1"):
        run_planning(ablation_of([-0.1, -0.2]), plan=ablation_plan(component="attention:2"))
    with pytest.raises(ValueError, match="no pilot of test=ablation"):
        run_planning(tables[-1], plan=ablation_plan())
    with pytest.raises(FileNotFoundError, match=r"brainalign generalise"):
        run_planning(tmp_path, plan=Planning(test="gap"))
    with pytest.raises(ValueError, match="two pilots are of 80 words"):
        run_planning([tables[-1]] * 2)
    with pytest.raises(ValueError, match="no pilot is given"):
        run_planning([])
    with pytest.raises(ValueError, match="no layer 7"):
        read_pilot(tables[-1], Planning(test="layers", layers=(0, 7)), [])
    bare = dataclasses.replace(tables[-1], extras={})
    with pytest.raises(ValueError, match="--evidence=true"):
        run_planning(bare)
    few = tables[-1].extras["nulls"]
    extras = tables[-1].extras | {"nulls": few[few["draw"] < 5]}
    with pytest.raises(ValueError, match="null draws"):
        run_planning(dataclasses.replace(tables[-1], extras=extras))
    with pytest.raises(ValueError, match="--fractions"):
        run_pilots(pilots[1], ["gpt2"], plan=Planning(fractions=(0.1,)))
    with pytest.raises(ValueError, match="--pilot"):
        run_pilots(pilots[1], ["gpt2"], plan=ablation_plan())


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ((), 2, "give a pilot: --pilot=FOLDER"),
        (("--pilot=p", "--strength=0.2"), 2, "one of these alone"),
        (("--dataset=alice", "--models=gpt2"), 2, "--data_dir is missing"),
        (("--pilot=p", "--power=1"), 2, "--power=1 must be"),
        (("--pilot=p", "--effect=0"), 2, "--effect=0 must be"),
        (("--pilot=p",), 1, "p/results.parquet is missing"),
    ],
)
def test_the_command_refuses_in_a_line(arguments, status, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan-study", "--output_dir=o", *arguments]) == status
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1
    assert "planning" in dir(ba.studies)
