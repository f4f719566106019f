"""Confound RDMs against loops over pairs; permutations in time."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from brainalign_jax.align.rsa import partial_rsa
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence import confounds

WORDS = ["The", "cat", "saw", "the", "dog", ".", "Dogs", "saw", "cats", "The", "end"]
STORY = Stimulus.from_words(
    WORDS,
    onsets=[0, 1, 2, 3, 4, 5, 0.5, 1.5, 2.5, 3.5, 9],
    sentence=[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    run=[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
)


def by_pairs(function, n):
    return [function(i, j) for i, j in itertools.combinations(range(n), 2)]


def test_confounds_equal_loops_over_pairs():
    rdms = confounds.confound_rdms(STORY, lower=True)
    vocabulary, token_to_type = STORY.types(lower=True)
    assert vocabulary == ("the", "cat", "saw", "dog", "dogs", "cats", "end")
    # No two words are 16 s apart: that cap says what the distance says.
    assert rdms.names == tuple(n for n in confounds.NAMES if n != "temporal_distance_to_16s")
    tokens = [np.flatnonzero(token_to_type == i) for i in range(7)]
    counts = [len(rows) for rows in tokens]

    def temporal(i, j):
        gaps = []
        for run in (0, 1):
            a, b = (STORY.onsets[rows[STORY.run[rows] == run]] for rows in (tokens[i], tokens[j]))
            if len(a) and len(b):
                gaps.append(abs(a.mean() - b.mean()))
        return np.mean(gaps) if gaps else None

    time = by_pairs(temporal, 7)
    largest = max(gap for gap in time if gap is not None)
    expected = {
        "temporal_distance": [largest if gap is None else gap for gap in time],
        **{
            f"temporal_distance_to_{cap}s": [min(cap, largest if g is None else g) for g in time]
            for cap in (1, 2, 4, 8)
        },
        "different_sentence": by_pairs(
            lambda i, j: float(
                not any(
                    STORY.sentence[a] == STORY.sentence[b] and STORY.run[a] == STORY.run[b]
                    for a in tokens[i]
                    for b in tokens[j]
                )
            ),
            7,
        ),
        "log_frequency": by_pairs(lambda i, j: abs(np.log((1 + counts[i]) / (1 + counts[j]))), 7),
        "length": by_pairs(lambda i, j: abs(len(vocabulary[i]) - len(vocabulary[j])), 7),
    }
    for name, rdm in zip(rdms.names, rdms.rdms, strict=True):
        np.testing.assert_allclose(rdm, expected[name], rtol=1e-6, err_msg=name)
    assert any(gap is None for gap in time)


def test_only_what_there_is_and_varies():
    isolated = Stimulus.from_words(["ant", "bee", "whale"])
    rdms = confounds.confound_rdms(isolated)
    assert rdms.names == ("length",)
    np.testing.assert_array_equal(squareform(rdms.rdms[0])[2], [2, 2, 0])
    equal = confounds.confound_rdms(Stimulus.from_words(["ant", "bee"]))
    assert equal.names == () and equal.rdms.shape == (0, 1)


def test_only_eligible_tokens_count():
    eligible = np.ones(len(STORY), bool)
    eligible[6:] = False
    rdms = confounds.confound_rdms(STORY, eligible, lower=True)
    assert rdms.types.tolist() == [0, 1, 2, 3]
    time = rdms.rdms[rdms.names.index("temporal_distance")]
    np.testing.assert_allclose(time, [0.5, 0.5, 2.5, 1, 3, 2])
    assert "different_sentence" not in rdms.names  # they all share the only one


def story(n=60, n_runs=2):
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in rng.permutation(n)]
    return Stimulus.from_words(
        words, onsets=np.tile(np.arange(n // n_runs), n_runs) * 0.5, run=np.repeat([7, 3], n // 2)
    )


def test_blocks_move_as_a_whole_and_stay_within_their_run():
    stimulus = story()
    types = np.sort(np.random.default_rng(0).permutation(60)[:48])
    drawn = confounds.mantel_permutations(stimulus, types, 30, kind="blocks", block=6)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(48), (30, 1)))
    # Types are numbered by first occurrence, so that here their order is the order in time.
    follows = np.diff(drawn, axis=1) == 1
    assert follows.sum(axis=1).min() >= 48 - 8 - 1
    last_of_first_run = np.searchsorted(types, 30) - 1
    assert (drawn != drawn[0]).any()
    for permutation in drawn:  # no block reaches over the boundary of the runs
        starts = np.flatnonzero(np.r_[True, np.diff(permutation) != 1])
        assert last_of_first_run + 1 in permutation[starts] or (
            permutation[np.flatnonzero(permutation == last_of_first_run + 1) - 1]
            == last_of_first_run
        )
    again = confounds.mantel_permutations(stimulus, types, 30, kind="blocks", block=6)
    np.testing.assert_array_equal(drawn, again)


def test_permutations_follow_time_not_the_order_of_the_types():
    """The first word comes once more at the very end: its mean onset is late."""
    words = ["late", "a", "b", "c", "d", "e", "f", "g", "late", "late"]
    stimulus = Stimulus.from_words(words, onsets=np.arange(10.0))
    drawn = confounds.mantel_permutations(stimulus, np.arange(8), 99, kind="shifts", block=1)
    assert len(drawn) == 7
    time = np.array([6.0, 1, 2, 3, 4, 5, 6, 7])  # mean onsets; "late" before "f", at a tie
    order = np.lexsort((np.arange(8), time))
    for step, permutation in enumerate(drawn, start=1):
        np.testing.assert_array_equal(permutation[order], np.roll(order, -step))


def test_the_default_depends_on_the_words():
    isolated = Stimulus.from_words([f"w{i}" for i in range(30)])
    drawn = confounds.mantel_permutations(isolated, np.arange(30), 20)
    assert (np.diff(drawn, axis=1) == 1).mean() < 0.1
    long = Stimulus.from_words([f"w{i}" for i in range(240)], onsets=np.arange(240.0))
    every = confounds.mantel_permutations(long, np.arange(240), 1000)
    assert sorted(every[:, 0]) == list(range(1, 240))  # the shortest shifts, too, but not none
    drawn = confounds.mantel_permutations(long, np.arange(240), 50)
    assert len(np.unique(drawn, axis=0)) == 50
    assert ((np.diff(drawn, axis=1) % 240) == 1).all()
    short = confounds.mantel_permutations(story(), np.arange(60), 20, block=10)
    assert 0.8 < (np.diff(short, axis=1) == 1).mean() < 1


def test_distances_in_steps_take_away_what_smoothness_makes():
    """The distance alone leaves a similarity of neighbours that is none of the words'."""
    rng = np.random.default_rng(8)
    story = Stimulus.from_words([f"w{i}" for i in range(96)], onsets=np.arange(96) * 0.5)
    rdms = confounds.confound_rdms(story, names=("temporal_distance", *confounds.NEAR))
    kernel = np.exp(-0.5 * ((np.arange(96)[:, None] - np.arange(96)) / 2.5) ** 2)
    brain, vectors = (
        np.stack([pdist(kernel @ rng.standard_normal((96, 30)), "correlation") for _ in range(20)])
        for _ in range(2)
    )
    left = [
        np.mean(np.asarray(partial_rsa.partial_correlations(*map(np.float32, (brain, vectors, c)))))
        for c in (rdms.rdms[:1], rdms.rdms)
    ]
    assert left[0] > 0.15
    assert abs(left[1]) < 0.05


def test_passages_move_as_a_whole():
    """Items without times in runs: sentences of a passage share their topic."""
    run = np.repeat([4, 2, 9, 1, 7], [3, 5, 4, 6, 2])
    items = Stimulus.from_words([f"w{i}" for i in range(20)], run=run)
    drawn = confounds.mantel_permutations(items, np.arange(20), 40)
    for permutation in drawn:
        pieces = np.split(permutation, np.flatnonzero(np.diff(run[permutation])) + 1)
        assert sorted(map(len, pieces)) == [2, 3, 4, 5, 6]
        assert all((np.diff(piece) == 1).all() for piece in pieces)
    assert len(np.unique(drawn, axis=0)) > 20


@pytest.mark.parametrize("n_types", [8, 30, 39, 40, 119])
def test_the_default_works_for_any_number_of_timed_words(n_types):
    short = Stimulus.from_words([f"w{i}" for i in range(n_types)], onsets=np.arange(n_types) * 0.5)
    drawn = confounds.mantel_permutations(short, np.arange(n_types), 10)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(n_types), (10, 1)))
    n_blocks = 1 + (np.diff(drawn, axis=1) != 1).sum(axis=1).max()
    if n_types < 40:
        assert min(n_types, 12) * 0.6 <= n_blocks <= 25
    else:
        assert n_blocks == 2 and len(np.unique(drawn, axis=0)) == 10


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="loudness"):
        confounds.confound_rdms(STORY, names=("loudness",))
    with pytest.raises(ValueError, match="1 word type"):
        confounds.confound_rdms(Stimulus.from_words(["one"]))
    with pytest.raises(ValueError, match="spin"):
        confounds.mantel_permutations(STORY, np.arange(4), 5, lower=True, kind="spin")
    with pytest.raises(ValueError, match="blocks of 20"):
        confounds.mantel_permutations(STORY, np.arange(7), 5, lower=True, kind="blocks", block=20)
    with pytest.raises(ValueError, match="3 types leave nothing to shift"):
        confounds.mantel_permutations(STORY, np.arange(3), 5, lower=True, kind="shifts")
    with pytest.raises(ValueError, match="block=0"):
        confounds.mantel_permutations(STORY, np.arange(7), 5, lower=True, block=0)
    with pytest.raises(ValueError, match="no eligible token"):
        confounds.mantel_permutations(STORY, np.arange(9), 5, lower=True, kind="items")
