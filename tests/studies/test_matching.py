"""Matched conditions: what frequency alone makes goes, what is planted stays, the balance is as counted."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation import matching, run_generalisation, verdicts
from brainalign_jax.studies.generalisation.cells import draw_cells, equal_sizes, exchanged
from brainalign_jax.studies.generalisation.conditions import items_in
from brainalign_jax.studies.generalisation.matching import (
    item_reliability,
    matched,
    matching_variables,
)
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.options import Scoring

CONDITIONS = ("kind=a", "kind=b")
N = 96
PLAN = dict(n_folds=4, n_splits=2, n_nulls=20, n_bootstraps=400)


def made(by, *, n_subjects=3, seed=0, **attributes):
    """(data set, embeddings): words of "kind" a are frequent, three of four, and those of b rare.

    by: "frequency", a map for frequent words and one for rare ones; "kind", a map a condition.
    """
    rng = np.random.default_rng(seed)
    kind = np.repeat(["a", "b"], N // 2)
    frequent = (np.arange(N) % 4 > 0) == (kind == "a")
    words = Stimulus(
        tuple(f"word{'x' * (i % 5)}{i}" for i in range(N)),
        attributes={
            "kind": kind,
            "frequency": 4.0 * frequent + rng.uniform(0, 1, N),
            "same": np.ones(N),
            "apart": np.where(kind == "a", 0.0, 9.0) + rng.uniform(0, 1, N),
            **attributes,
        },
    )
    vectors = rng.standard_normal((1, N, 10))
    first = frequent if by == "frequency" else kind == "a"
    loaded = {}
    for subject in (f"S{i}" for i in range(n_subjects)):
        maps = rng.standard_normal((2, 10, 24))
        signal = np.where(first[:, None], vectors[0] @ maps[0], vectors[0] @ maps[1])
        loaded[subject] = make_responses(
            words, signal + rng.standard_normal(signal.shape), subject=subject
        )
    dataset = Dataset("made", tuple(loaded), words, loaded.__getitem__)
    return dataset, make_embeddings(words, vectors)


def study(by, **choices):
    dataset, model = made(by)
    return run_generalisation(
        dataset, [model], CONDITIONS, plan=Generalisation(**{**PLAN, **choices}),
        scoring=Scoring(methods=("ridge",), ks=(1,)), progress=False,
    )  # fmt: skip


def gap(table):
    return table.line(
        subject="group", layer=-1, metric="gap_rank_accuracy", tested_on="all", method="ridge"
    )


def test_a_gap_that_frequency_alone_makes_is_gone_once_words_are_matched():
    plain, fair = gap(study("frequency")), study("frequency", match=("frequency",))
    assert plain["p"] == 1 / 21 and plain["lower"] > 0.02
    assert gap(fair)["p"] > 0.05 and gap(fair)["lower"] < 0 and gap(fair)["value"] < 0.05
    (balance,) = fair.manifest["matching"]["balance"]
    assert abs(balance["before"]) > 1 > 0.1 > abs(balance["after"])
    # Three of four a, and one of four b, are frequent: a dozen pairs of each sort.
    assert fair.manifest["matching"]["n_sets"] == 24
    assert "24 matched words of each condition are tested" in fair.verdict()


def test_a_planted_gap_stays_where_words_are_matched():
    table = study("kind", match=("frequency", "length"), caliper=1.0)
    assert gap(table)["p"] == 1 / 21 and gap(table)["lower"] > 0.05
    assert verdicts(table)[0].answer in ("ends", "in part")


def test_each_person_is_tested_on_words_that_the_others_agree_on_alike():
    table = study("kind", match=("reliability",), n_nulls=2, n_splits=1)
    assert [row["variable"] for row in table.manifest["matching"]["balance"]] == ["reliability"]
    assert gap(table)["value"] > 0.05
    dataset, model = made("kind", n_subjects=2)
    with pytest.raises(ValueError, match="and there are 2 people: it needs 3; leave it out"):
        run_generalisation(
            dataset,
            [model],
            CONDITIONS,
            plan=Generalisation(match=("reliability",)),
            progress=False,
        )


def test_reliability_is_of_the_other_people_alone_and_highest_for_what_they_share():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((40, 8))
    similarities = []
    for _ in range(5):
        rows = (
            shared
            + rng.standard_normal(shared.shape) * np.where(np.arange(40) < 20, 0.2, 3)[:, None]
        )
        similarities.append(np.corrcoef(rows))
    similarities = np.stack(similarities)
    agreement = item_reliability(similarities)
    assert agreement.shape == (5, 40)
    assert (agreement[:, :20].mean(axis=1) > agreement[:, 20:].mean(axis=1) + 0.2).all()
    changed = similarities.copy()
    changed[2] = np.corrcoef(rng.standard_normal((40, 8)))
    assert (item_reliability(changed)[2] == agreement[2]).all()
    assert (item_reliability(changed)[1] != agreement[1]).any()


def matched_items(names, caliper=0.5):
    dataset, _ = made("kind")
    items = items_in(dataset.stimulus, CONDITIONS, np.ones(N, bool))
    variables = matching_variables(dataset.stimulus, items, names)
    return items, variables, matched(items, variables, caliper=caliper)


def test_the_balance_is_that_of_a_plain_count_and_partners_are_within_the_caliper():
    items, variables, matched_pairs = matched_items(("frequency", "length"))
    for index, name in enumerate(("frequency", "length")):
        values = variables[name]
        own, other = values[items.condition == 0], values[items.condition == 1]
        deviation = np.sqrt((own.var() + other.var()) / 2)
        pairs = []
        for number in np.unique(matched_pairs.sets[matched_pairs.sets >= 0]):
            (first,) = np.flatnonzero((matched_pairs.sets == number) & (items.condition == 0))
            (second,) = np.flatnonzero((matched_pairs.sets == number) & (items.condition == 1))
            pairs.append(values[first] - values[second])
        assert np.abs(pairs).max() <= 0.5 * deviation + 1e-9
        balance = matched_pairs.balance[index]
        assert balance.variable == name
        np.testing.assert_allclose(balance.means, [own.mean(), other.mean()])
        np.testing.assert_allclose(balance.before, (own.mean() - other.mean()) / deviation)
        np.testing.assert_allclose(balance.after, np.mean(pairs) / deviation)


def test_exchanged_labels_stay_in_their_pair_and_cells_test_whole_pairs():
    items, _, matched_pairs = matched_items(("frequency",))
    items = items._replace(sets=matched_pairs.sets)
    sizes = equal_sizes(items, n_folds=4)
    swapped = []
    for seed in range(5):
        moved = exchanged(items, np.random.default_rng(seed))
        alone = items.sets < 0
        assert (moved.condition[alone] == items.condition[alone]).all()
        for number in np.unique(items.sets[items.sets >= 0]):
            assert sorted(moved.condition[items.sets == number]) == [0, 1]
        swapped.append((moved.condition != items.condition).mean())
        cells = draw_cells(moved, sizes, n_splits=1, rng=np.random.default_rng(seed))
        assert cells.train.shape[1] == sizes.n_train > 30
        for train, test, trained, tested in zip(*cells, strict=True):
            assert not set(train) & set(test) and (items.sets[test] >= 0).all()
            assert set(moved.condition[train]) == {trained}
            assert set(moved.condition[test]) == {tested}
    assert min(swapped) > 0 and max(swapped) <= (items.sets >= 0).mean()
    # A fold tests the same pairs in each condition, as far as it tests all of them.
    tested_sets = [set(items.sets[test]) for test in cells.test]
    assert tested_sets[0] == tested_sets[sizes.n_folds * 2]


def test_the_same_words_are_exchanged_alike_in_the_matchings_of_several_people():
    items, variables, matched_pairs = matched_items(("frequency",))
    rng = np.random.default_rng(0)
    other = matched(items, {"noise": rng.standard_normal(N)}, caliper=0.5)
    moved = [
        exchanged(items._replace(sets=own.sets), np.random.default_rng(1)).condition
        for own in (matched_pairs, other)
    ]
    both = (items.condition == 0) & (matched_pairs.sets >= 0) & (other.sets >= 0)
    assert both.sum() > 15 and (moved[0][both] == moved[1][both]).all()


def test_frequency_is_that_of_wordfreq_where_there_is_no_attribute(monkeypatch):
    dataset, _ = made("kind")
    items = items_in(dataset.stimulus, CONDITIONS, np.ones(N, bool))
    bare = Stimulus(dataset.stimulus.words)
    monkeypatch.setattr(matching.norms, "word_frequencies", lambda words: np.arange(float(N)))
    variables = matching_variables(bare, items, ["frequency"])
    assert (variables["frequency"] == np.arange(N)).all()


def test_runs_are_matched_as_a_whole():
    run = np.repeat(np.arange(16), 6)
    words = Stimulus.from_words([f"w{i}" for i in range(96)], run=run)
    words = words.with_attributes(
        topic=["x" if r < 8 else "y" for r in run], size=(run % 8).astype(float)
    )
    items = items_in(words, ("topic=x", "topic=y"), np.ones(96, bool))
    matched_pairs = matched(items, matching_variables(words, items, ["size"]), caliper=0.1)
    assert matched_pairs.sets.max() == 7
    for number in range(8):
        (own,) = {tuple(np.unique(run[matched_pairs.sets == number] % 8))}
        assert len(own) == 1 and len(np.unique(run[matched_pairs.sets == number])) == 2


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (("colour",), "'colour' is nothing that is known of the words; known: length, position"),
        (("kind",), "'kind' is text; match by attributes of numbers"),
        (("same",), "'same' is unknown or the same for all words of the conditions"),
        (("position",), "these are isolated words, which have no place"),
        (("apart",), "0 of 48 of 'kind=a' and 48 of 'kind=b' have a partner within caliper=0.5"),
    ],
)
def test_words_that_cannot_be_matched_are_one_line(match, message):
    with pytest.raises(ValueError, match=message) as error:
        study("kind", match=match)
    assert "\n" not in str(error.value)
