"""Shapley values against their definition, and of a model's parts and heads."""

import itertools
import math

import numpy as np
import pytest
from recordings import make_responses
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.language import embed
from brainalign_jax.language.parts.ablation import Ablation as Ablated
from brainalign_jax.language.parts.components import Component
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import AblationTable, ablation, run_ablation
from brainalign_jax.studies.ablation.shapley import (
    Players,
    game_of,
    off_components,
    players_of,
    rows_of,
)
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring

QUICK = dict(
    components=("attention:0",), how=("zero",), controls=False, n_flips=19, n_bootstraps=100
)


def by_orders(worth, n):
    """The mean gain of each player over all orders in which the players come."""
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        there = set()
        for player in order:
            values[player] += worth(there | {player}) - worth(there)
            there.add(player)
    return values / math.factorial(n)


def random_game(n, seed):
    scores = {
        frozenset(chosen): value
        for size in range(n + 1)
        for chosen, value in zip(
            itertools.combinations(range(n), size),
            np.random.default_rng((seed, size)).standard_normal(math.comb(n, size)),
            strict=True,
        )
    }
    return lambda there: scores[frozenset(there)]


def scores_of(game, worth):
    return np.array([worth(set(np.flatnonzero(on))) for on in game.on])


@pytest.mark.parametrize("n", [1, 3, 4])
def test_all_sets_give_the_mean_over_all_orders(n):
    worth = random_game(n, n)
    game = game_of(n, 10, seed=0)
    assert game.orders == 0 and len(game.on) == 2**n
    assert game.on[0].all() and not game.on[-1].any()
    np.testing.assert_allclose(
        game.weights @ scores_of(game, worth), by_orders(worth, n), atol=1e-12
    )


def test_drawn_orders_share_out_all_and_come_near():
    worth = random_game(7, 1)
    game = game_of(7, 400, seed=0)
    assert game.orders == 0  # 128 sets are fewer than 400 orders ask for
    exact = game.weights @ scores_of(game, worth)
    game = game_of(7, 20, seed=3)
    assert game.orders == 20 and game.on[0].all() and not game.on[-1].any()
    assert len(np.unique(game.on, axis=0)) == len(game.on) < 122
    scores = scores_of(game, worth)
    drawn = game.weights @ scores
    np.testing.assert_allclose(drawn.sum(), scores[0] - scores[-1], atol=1e-12)
    assert np.abs(drawn - exact).mean() < 0.5
    # Where each player adds the same whoever is there, one order is enough.
    added = np.arange(7.0)
    scores = (game.on * added).sum(axis=1)
    np.testing.assert_allclose(game.weights @ scores, added, atol=1e-12)
    np.testing.assert_array_equal(game_of(7, 20, seed=3).on, game.on)


@pytest.fixture(scope="module")
def sentences():
    """Sentences of five words of letters, each word once."""
    letters = itertools.product("abcd", "efgh", "ijk")
    words = ["".join(word) for word in letters]
    return Stimulus(tuple(words), sentence=np.arange(len(words)) // 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_checkpoint("gpt2", tmp_path_factory.mktemp("model"))
    add_letter_tokenizer(folder)
    return folder


def test_sets_of_parts_off_equal_the_whole_model_with_its_factors(model, sentences):
    ablation = Ablated(sentences, model)
    players = players_of("parts", ablation.config, model)
    game = game_of(3, 20, seed=0)
    sets = off_components(players, game)
    assert len(sets) == 7 and len(sets[-1]) == 5
    names = {"attention": "attention:all", "ffn": "ffn:all", "positions": "positions"}
    for components, layers in zip(sets, ablation.without(sets, "zero", range(3)), strict=True):
        off = ",".join(names[kind] for kind in names if any(c.kind == kind for c in components))
        expected = embed(sentences, model, interventions=off).values
        for layer, values in layers.items():
            np.testing.assert_allclose(values, expected[layer], atol=2e-5)
    heads = players_of("heads:1", ablation.config, model)
    assert heads.first_block == 1 and heads.labels == (
        "head 1.0",
        "head 1.1",
        "head 1.2",
        "head 1.3",
    )
    (layers,) = ablation.without(
        [[Component("heads", 1, 0), Component("heads", 1, 3)]], "zero", {2}
    )
    expected = embed(sentences, model, interventions="head:1.0,head:1.3").values
    np.testing.assert_allclose(layers[2], expected[2], atol=2e-5)
    # All heads by their means are the attention by its mean.
    every = [[Component("heads", 1, head) for head in range(4)], [Component("attention", 1)]]
    heads, attention = ablation.without(every, "mean", {2})
    np.testing.assert_allclose(heads[2], attention[2], atol=2e-5)
    with pytest.raises(ValueError, match="unknown block '2' of M; known: 0, 1"):
        players_of("heads:2", ablation.config, "M")


def test_the_values_sum_to_what_all_are_worth(model, sentences, tmp_path):
    vectors, rng = embed(sentences, model).values, np.random.default_rng(0)
    signal = (vectors[1] - vectors[0]) / (vectors[1] - vectors[0]).std()
    people = {
        name: make_responses(sentences, signal @ rng.standard_normal((16, 12)), subject=name)
        for name in ("A", "B")
    }
    dataset = Dataset("made", tuple(people), sentences, people.__getitem__)
    plan = Ablation(shapley=("parts", "heads:0"), **QUICK)
    scoring = Scoring(methods=("ridge",), ks=(1, 10))
    table = run_ablation(
        dataset, [model], tmp_path / "out", plan=plan, scoring=scoring, progress=False
    )
    again = AblationTable.load(tmp_path / "out")
    rows = again.shapley
    assert len(rows) == len(table.shapley) and again.verdict() == table.verdict()
    keys = ["subject", "players", "layer", "metric", "k"]
    apart = rows[rows["player"] != "together"].groupby(keys)["value"].sum()
    together = rows[rows["player"] == "together"].set_index(keys)["value"]
    np.testing.assert_allclose(apart.loc[together.index], together, atol=1e-5)
    # What all are worth: the intact model less the one without, which has its embedding output in each layer.
    group = rows[(rows["subject"] == "group") & (rows["metric"] == "rank_accuracy")]
    assert group[["lower", "upper"]].notna().all(axis=None)
    parts = group[group["players"] == "parts"]
    assert set(parts["layer"]) == {-1, 0, 1, 2} and set(
        group[group["players"] != "parts"]["layer"]
    ) == {-1, 1}
    bare = embed(
        sentences, model, interventions="attention:all,ffn:all,positions", last="raw"
    ).values
    np.testing.assert_allclose(bare[1], bare[0], atol=1e-6)
    of_layers = parts[parts["player"] == "ffn"].set_index("layer")["value"]
    assert abs(of_layers[0]) < 1e-6  # nothing but positions is behind the embedding output
    text = table.verdict()
    assert "attention, ffn and positions together are worth" in text and "over all orders" in text
    assert "the heads of block 0 together are worth" in text
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Shapley values" in html
    assert all((tmp_path / "out" / "figures" / f"shapley_values_{n}.png").is_file() for n in (1, 2))


def test_players_that_add_nothing_are_worth_nothing_in_drawn_orders():
    """Sums of twentieths that cancel leave rounding, which is no worth."""
    players = Players("heads:0", tuple("abcdefg"), ((),) * 7)
    game = game_of(7, 20, seed=3)
    scores = np.full((2, len(game.on), 6), 0.7, np.float32)
    assert np.abs(game.weights @ scores[0]).max() > 0
    plan = Ablation(n_bootstraps=100)
    rows = rows_of({(-1, "rank_accuracy", 0): scores}, players, game, ("A", "B"), plan, seed=0)
    assert (rows["value"] == 0).all()


def test_a_block_that_the_model_lacks_is_refused_before_the_work(model, sentences, monkeypatch):
    monkeypatch.setattr(ablation, "PersonScores", None)  # nothing is scored
    people = {"A": make_responses(sentences, np.eye(len(sentences)), subject="A")}
    dataset = Dataset("made", tuple(people), sentences, people.__getitem__)
    plan = Ablation(shapley=("heads:9",), **QUICK)
    with pytest.raises(ValueError, match="unknown block '9' of .*; known: 0, 1"):
        run_ablation(dataset, [model], plan=plan, progress=False)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shapley='tails'; .*parts, heads:BLOCK"):
        Ablation(shapley=("tails",))
    assert Ablation(shapley=("heads:00", "parts", "heads:0")).shapley == ("heads:0", "parts")
    arguments = [
        "--dataset=pereira180",
        "--data_dir=d",
        "--models=m",
        f"--output_dir={tmp_path / 'o'}",
    ]
    assert cli.main(["ablate", *arguments, "--shapley=heads"]) == 2
