import numpy as np
import pytest

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.folds import inner_folds, outer_folds
from brainalign_jax.study.score.problem import left_out_words, said_of_left_out


def story(n_words=300, n_runs=3, gap=30.0, n_types=200):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in rng.integers(0, n_types, n_words)]
    run = np.repeat(np.arange(n_runs), n_words // n_runs)
    onsets = np.arange(n_words) * 0.5 + run * gap
    return Stimulus.from_words(words, onsets=onsets, run=run)


STORY = story()
TYPES = STORY.types()[1]
EVERY = np.ones(len(STORY), bool)


def test_contiguous_folds_partition_the_text_in_order():
    chosen = protocol("audited", n_folds=4, hold_out_types=False)
    folds = outer_folds(STORY, TYPES, EVERY, chosen, seed=0)
    assert (folds.test.sum(axis=0) == 1).all()
    for mask in folds.test:
        rows = np.flatnonzero(mask)
        assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))


def test_purge_and_held_out_types_keep_what_a_loop_keeps():
    chosen = protocol("audited", n_folds=6, purge=3.0)
    folds = outer_folds(STORY, TYPES, EVERY, chosen, seed=0)
    blocks = np.array_split(np.arange(len(STORY)), 6)
    for train, test, block in zip(folds.train, folds.test, blocks, strict=True):
        for token in range(len(STORY)):
            near = any(
                STORY.run[token] == STORY.run[other]
                and abs(STORY.onsets[token] - STORY.onsets[other]) <= 3.0
                for other in block
            )
            outside = any(TYPES[token] == TYPES[i] for i in range(len(STORY)) if i not in block)
            assert train[token] == (token not in block and not near)
            assert test[token] == (token in block and not outside)


def test_words_that_take_no_part_are_counted():
    responses = WordResponses("S1", np.zeros((len(STORY), 2), np.float32), STORY)
    chosen = protocol("audited", n_folds=6, purge=3.0)
    scoring = Scoring(methods=("ridge",), protocol=chosen)
    folds = outer_folds(STORY, TYPES, EVERY, chosen, seed=scoring.seed)
    blocks = np.array_split(np.arange(len(STORY)), 6)
    inside = np.array([np.isin(np.arange(len(STORY)), block) for block in blocks])
    left_out = left_out_words(responses, scoring)
    assert left_out["words"] == len(STORY)
    assert left_out["purged"] == (~inside & ~folds.train).sum(axis=1).tolist()
    assert left_out["not_tested"] == (inside & ~folds.test).sum(axis=1).tolist()
    (said,) = said_of_left_out(left_out)
    mean = np.mean(left_out["purged"])
    assert (
        f"Of 300 words of {responses.subject} a fold neither trains on nor tests, in the mean over folds, "
        f"{mean:.0f}" in said
    )
    drawn = Scoring(methods=("ridge",), protocol=protocol("paper", n_folds=5))
    for plain in (drawn, Scoring(methods=("cka",), protocol=chosen)):
        assert left_out_words(responses, plain) == {} and said_of_left_out({}) == []


def test_purge_does_not_reach_into_another_run():
    close = Stimulus.from_words(
        [f"w{i}" for i in range(20)],
        onsets=np.r_[np.arange(10.0), np.arange(10.0)],
        run=np.repeat([0, 1], 10),
    )
    chosen = protocol("audited", folds="leave_run_out", purge=100.0)
    folds = outer_folds(close, close.types()[1], np.ones(20, bool), chosen, seed=0)
    assert np.array_equal(folds.train, ~folds.test)


def test_drawn_types_are_never_split_and_depend_on_the_seed():
    chosen = protocol("paper", n_folds=5)
    folds = outer_folds(STORY, TYPES, EVERY, chosen, seed=0)
    assert (folds.test.sum(axis=0) == 1).all()
    for mask in folds.test:
        assert not set(TYPES[mask]) & set(TYPES[~mask])
    again = outer_folds(STORY, TYPES, EVERY, chosen, seed=0)
    other = outer_folds(STORY, TYPES, EVERY, chosen, seed=1)
    assert np.array_equal(folds.test, again.test)
    assert not np.array_equal(folds.test, other.test)


@pytest.mark.parametrize("name", ["audited", "paper"])
def test_inner_folds_stay_inside_the_training_set(name):
    chosen = protocol(name, n_folds=4, n_inner_folds=3)
    outer = outer_folds(STORY, TYPES, EVERY, chosen, seed=0)
    for train, inner in zip(
        outer.train, inner_folds(STORY, TYPES, outer.train, chosen, seed=0), strict=True
    ):
        assert not (inner.train & ~train).any()
        assert not (inner.test & ~train).any()
        assert not (inner.train & inner.test).any()
        assert inner.test.any(axis=1).all()
        if name == "paper":
            assert np.array_equal(inner.test.any(axis=0), train)


def test_words_that_are_not_eligible_are_in_no_fold():
    eligible = EVERY.copy()
    eligible[::7] = False
    folds = outer_folds(STORY, TYPES, eligible, protocol("audited"), seed=0)
    assert not folds.train[:, ::7].any()
    assert not folds.test[:, ::7].any()


def test_too_few_words_or_runs_are_errors_that_say_so():
    few = Stimulus.from_words(["a", "b", "c"])
    one_run = story(n_runs=1)
    isolated = protocol("audited", timed=False, n_folds=5)
    with pytest.raises(ValueError, match="5 folds need at least as many word types.* 3"):
        outer_folds(few, few.types()[1], np.ones(3, bool), isolated, seed=0)
    with pytest.raises(ValueError, match="two runs"):
        outer_folds(
            few,
            few.types()[1],
            np.ones(3, bool),
            protocol("audited", folds="leave_run_out"),
            seed=0,
        )
    with pytest.raises(
        ValueError, match="lacks two word types to train on.*more folds, or shorten --purge"
    ):
        outer_folds(one_run, one_run.types()[1], EVERY, protocol("audited", purge=500.0), seed=0)
    same = np.arange(len(STORY)) % 5
    with pytest.raises(ValueError, match="occurs in it only.*fewer folds, or use --hold_out_types"):
        outer_folds(STORY, same, EVERY, protocol("audited"), seed=0)


def test_passages_are_drawn_as_a_whole_in_outer_and_inner_folds():
    items = Stimulus([f"sentence number {i}" for i in range(60)], run=np.repeat(range(20), 3))
    types, every = items.types()[1], np.ones(60, bool)
    chosen = protocol("audited", timed=False, grouped=True, n_folds=5, n_inner_folds=4)
    folds = outer_folds(items, types, every, chosen, seed=0)
    inner = inner_folds(items, types, folds.train, chosen, seed=0)
    assert (folds.test.sum(axis=0) == 1).all()
    for train, test in [
        *zip(*folds, strict=True),
        *(pair for inner_split in inner for pair in zip(*inner_split, strict=True)),
    ]:
        assert test.any() and train.any()
        assert not set(items.run[train]) & set(items.run[test])
    drawn = outer_folds(items, types, every, protocol("audited", timed=False, n_folds=5), seed=0)
    assert any(
        set(items.run[train]) & set(items.run[test]) for train, test in zip(*drawn, strict=True)
    )
    with pytest.raises(ValueError, match="shuffled_runs needs words with run labels"):
        outer_folds(Stimulus(items.words), types, every, chosen, seed=0)
    with pytest.raises(ValueError, match="21 folds need .* there are 20"):
        outer_folds(
            items, types, every, protocol("audited", timed=False, grouped=True, n_folds=21), seed=0
        )
