"""Are models alike? Against plain functions; what is planted is found, noise is not; what is refused."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.align import similarity
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.comparison import ComparisonTable, run_comparison, verdicts
from brainalign_jax.studies.comparison.agreement import word_agreement
from brainalign_jax.studies.comparison.table import rows_of
from brainalign_jax.studies.comparison.values import PairValues, Sides
from brainalign_jax.studies.options import Comparison

N = 48
WORDS = Stimulus.from_words([f"word{i}" for i in range(N)])
QUICK = Comparison(measures=("cka", "svcca"), n_permutations=39)


def people_of(rng, signal, noise=1.0, count=3):
    """A data set of people whose responses are the signal [N, D] through maps of their own, and noise."""
    responses = {}
    for person in range(count):
        values = signal @ rng.standard_normal((signal.shape[1], 60 + 5 * person))
        values = values + noise * rng.standard_normal(values.shape) * np.ones((N, 1))
        responses[f"P{person}"] = make_responses(WORDS, values, subject=f"P{person}")
    return Dataset("people", tuple(responses), WORDS, responses.__getitem__)


def models_of(rng, shared, own, names=("first", "second"), known=True):
    """Models of three layers, of which the second has the shared [N, D] in it beside what is its own.

    known: [N] bool, the words of which it has it in it.
    """
    models = []
    for number, name in enumerate(names):
        layers = rng.standard_normal((3, N, 10 + 2 * number))
        common = shared @ rng.standard_normal((shared.shape[1], 10 + 2 * number)) + own * layers[1]
        layers[1] = np.where(np.reshape(known, (-1, 1)), common, common.std() * layers[1])
        models.append(make_embeddings(WORDS, layers, name=name))
    return models


@pytest.fixture(scope="module")
def planted():
    """(table, models, data set): layer 1 of both models and the brains share five dimensions."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N, 5))
    models, dataset = models_of(rng, shared, 0.5), people_of(rng, shared, 3.0)
    return run_comparison(dataset, models, plan=QUICK, progress=False), models, dataset


def test_values_equal_the_functions_on_two_sides(planted):
    table, models, dataset = planted
    for measure, function in (("cka", similarity.linear_cka), ("svcca", similarity.svcca)):
        for first, second in ((1, 1), (2, 0)):
            sides = [
                np.asarray(m.values[layer])
                for m, layer in zip(models, (first, second), strict=True)
            ]
            row = table.line(
                words="all", measure=measure, first="first", first_layer=first, second="second",
                second_layer=second,
            )  # fmt: skip
            np.testing.assert_allclose(row["value"], function(*sides), atol=1e-5)
            expected = (row["value"] - row["null_mean"]) / (1 - row["null_mean"])
            np.testing.assert_allclose(row["calibrated"], expected)
        row = table.line(
            words="all",
            measure=measure,
            first="first",
            first_layer=1,
            second="people",
            second_layer=-1,
        )
        people = [np.asarray(dataset.load(name).values) for name in dataset.subjects]
        expected = np.mean([function(np.asarray(models[0].values[1]), rows) for rows in people])
        np.testing.assert_allclose(row["value"], expected, atol=1e-5)
        row = table.line(measure=measure, first="people", second="people")
        pairs = [function(people[a], people[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        np.testing.assert_allclose(row["value"], np.mean(pairs), atol=1e-5)


def test_a_draw_is_the_value_of_permuted_words(planted):
    _, models, _ = planted
    from brainalign_jax.studies.comparison.values import pair_values, stacked
    from brainalign_jax.study.score.measures import measure_of

    rng = np.random.default_rng(3)
    sides = [np.asarray(models[0].values[1]), np.asarray(models[1].values[1])]
    orders = np.stack([rng.permutation(N) for _ in range(3)])
    for name in ("cka", "rank_overlap", "pwcca"):
        measure = measure_of(name, ba.protocol("audited", timed=False))
        values = pair_values(measure, Sides((), stacked(sides, np.float32), ()), orders)
        moved, still = (
            np.asarray(x - x.mean(axis=0), np.float32) for x in (sides[0][orders[2]], sides[1])
        )
        expected = measure.compare(measure.represent(moved), measure.represent(still))
        np.testing.assert_allclose(values.drawn[2, 0, 1], expected, atol=2e-5, err_msg=name)


def test_layers_that_share_are_found_and_people_who_share(planted):
    table, _, _ = planted
    judged = verdicts(table)
    assert [each.measure for each in judged] == ["cka", "svcca"] and all(e.alike for e in judged)
    assert "between layers 1 and 1, permuted words" in judged[0].text
    assert "people to one another by" in judged[0].text
    assert table.verdict().startswith("Alike: both models by every measure.")
    to_people = table.rows[(table.rows["second"] == "people") & (table.rows["measure"] == "cka")]
    to_people = to_people[to_people["first_layer"] >= 0].set_index(["first", "first_layer"])["p"]
    assert to_people["first", 1] == to_people["second", 1] == 1 / 40
    matrix = table.matrix("cka")
    assert matrix.shape == (7, 7) and matrix.index[-1] == ("people", -1)
    np.testing.assert_allclose(np.diag(matrix)[:-1], 1, atol=1e-5)


def test_the_most_alike_layers_are_those_most_beyond_a_null_of_their_own():
    rng = np.random.default_rng(2)
    labels = (("first", 0), ("first", 1), ("second", 0))
    floor = np.full((4, 4), 0.2)
    floor[0, 2] = 0.7
    observed = floor.copy()
    observed[1, 2] = 0.5
    drawn = floor + 0.01 * rng.standard_normal((39, 4, 4))
    sides, values = Sides(labels, np.zeros((4, N, 2)), ("P0",)), PairValues(observed, drawn)
    for own_null, value in ((True, 0.5), (False, 0.7)):
        rows = rows_of("shape", sides, values, None, N, shifts=False, own_null=own_null)
        pair = rows[(rows["first_layer"] == -1) & (rows["second"] == "second")].iloc[0]
        assert pair["value"] == value and (pair["p"] == 1 / 40) == own_null


def test_words_that_people_agree_on():
    rng = np.random.default_rng(1)
    known = np.arange(N) < N // 2
    shared = rng.standard_normal((N, 6)) * np.where(known, 1.0, 0.05)[:, None]
    people = [
        shared @ rng.standard_normal((6, 40)) + rng.standard_normal((N, 40)) for _ in range(4)
    ]
    agreement = word_agreement(people)
    assert agreement[known].min() > np.median(agreement[~known])
    assert np.isnan(word_agreement(people[:1])).all()


def test_models_that_share_only_what_people_agree_on_are_more_alike_there():
    rng = np.random.default_rng(2)
    known = np.arange(N) < N // 2
    shared = rng.standard_normal((N, 6))
    brains = np.where(known[:, None], shared, 0.05 * shared)
    models = models_of(rng, shared, 0.3, known=known)
    plan = Comparison(measures=("cka",), n_permutations=99)
    table = run_comparison(people_of(rng, brains, 2.0), models, plan=plan, progress=False)
    row = table.line(words="agreed", first="first")
    assert row["difference"] > 0.3 and row["p_difference"] <= 0.02 and row["n_items"] == N // 2
    assert "they are more alike than in the other" in verdicts(table)[0].text


def test_noise_is_alike_to_nothing():
    """p-values of 40 pairs of unrelated models, and of the halves' differences."""
    plan = Comparison(measures=("cka",), n_permutations=19)
    p, differences = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        none = np.zeros((N, 2))
        models = models_of(rng, none, 1.0)
        rows = run_comparison(people_of(rng, none), models, plan=plan, progress=False).rows
        rows = rows[(rows["first"] == "first") & (rows["second"] == "second")]
        rows = rows[rows["first_layer"] == -1].set_index("words")
        p.append(rows.loc["all", "p"])
        differences.append(rows.loc["agreed", "p_difference"])
    assert np.mean(np.array(p) <= 0.05) <= 0.15 and np.mean(np.array(differences) <= 0.05) <= 0.15
    assert 0.35 <= np.mean(p) <= 0.65 and 0.35 <= np.mean(differences) <= 0.65


def test_what_is_written(planted, tmp_path):
    _, models, dataset = planted
    out = tmp_path / "out"
    table = run_comparison(dataset, models[:1], out, plan=QUICK, progress=False)
    again = ComparisonTable.load(out)
    assert again.verdict() == table.verdict() and "One model" in table.verdict()
    assert len(again.rows) == len(table.rows)
    report = (out / "report.html").read_text("utf-8")
    assert "Are the models alike?" in report and "SVCCA, 10 axes" in report
    assert (out / "figures" / "cka_of_layers.png").is_file()
    untested = run_comparison(
        dataset, models, plan=Comparison(measures=("cka",), n_permutations=0), progress=False
    )
    assert untested.verdict().startswith("Not tested") and untested.rows["p"].isna().all()


def test_one_person_agrees_with_nobody(planted):
    _, models, dataset = planted
    alone = Dataset("alone", dataset.subjects[:1], WORDS, dataset.load)
    table = run_comparison(alone, models, plan=QUICK, progress=False)
    assert set(table.rows["words"]) == {"all"}
    assert table.rows[table.rows["first"] == "people"].empty
    assert "agree" not in table.verdict()


def test_what_is_refused(planted, capsys):
    _, models, dataset = planted
    with pytest.raises(ValueError, match="unknown measure 'ridge' of a comparison of models"):
        Comparison(measures=("ridge",))
    with pytest.raises(ValueError, match="measures is empty"):
        Comparison(measures=())
    with pytest.raises(ValueError, match="unknown layer '7' of first; known: 0, 1, 2"):
        run_comparison(dataset, models, plan=Comparison(layers=(1, 7)), progress=False)
    with pytest.raises(ValueError, match="models are given twice"):
        run_comparison(dataset, [models[0], models[0]], progress=False)
    few = WORDS.select(np.arange(8))
    small = Dataset("few", ("P0",), few, lambda name: make_responses(few, np.eye(8)))
    with pytest.raises(ValueError, match="few has 8 words .* needs 12"):
        run_comparison(small, models, progress=False)
    arguments = ["--dataset=alice", "--data_dir=x", "--models=gpt2", "--output_dir=y"]
    assert cli.main(["compare", *arguments, "--measures=cks"]) == 2
    assert "unknown measure 'cks'" in capsys.readouterr().err
