import re

import numpy as np
import pytest

from brainalign_jax.neural.readout.haemodynamics import glover_hrf
from brainalign_jax.neural.simulate.bold import (
    PlantedBold,
    plant,
    planted_courses,
    schedule_runs,
    simulate_bold,
    story_words,
)
from brainalign_jax.stimulus import Stimulus, split_sentences

WORDS = story_words()


def features(n, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width))


def test_the_story_is_a_story():
    assert 780 <= len(WORDS) <= 850
    assert 45 <= split_sentences(WORDS)[-1] + 1 <= 65
    types, token_to_type = Stimulus(WORDS).types(lower=True)
    counts = np.bincount(token_to_type[token_to_type >= 0])
    assert len(types) > 200 and (counts >= 2).sum() > 100
    assert all(re.fullmatch(r"[\x21-\x7e]+", word) for word in WORDS)


def test_schedule_covers_every_word_and_leaves_gaps():
    schedule = schedule_runs(100, n_runs=4, tr=2.0, gap=28.5)
    starts = [schedule.volume_times[schedule.volume_run == run][0] for run in (1, 2, 3, 4)]
    ends = [schedule.volume_times[schedule.volume_run == run][-1] for run in (1, 2, 3, 4)]
    np.testing.assert_allclose(np.array(starts[1:]) - ends[:-1], 28.5)
    for run in range(4):
        run_onsets = schedule.onsets[schedule.word_run == run + 1]
        assert len(run_onsets) == 25
        assert run_onsets[0] == starts[run] + 20 and run_onsets[-1] + 6.25 <= ends[run]
        np.testing.assert_allclose(np.diff(run_onsets), 0.5)


def test_schedule_of_uneven_runs_and_words():
    durations = np.array([0.2, 0.3, 0.5, 0.4, 1.0, 0.6])
    schedule = schedule_runs([4, 2], tr=0.5, word_duration=durations, gap=5.0, rest=(2.0, 3.0))
    np.testing.assert_array_equal(schedule.word_run, [1, 1, 1, 1, 2, 2])
    np.testing.assert_allclose(schedule.onsets[:4], [2.0, 2.2, 2.5, 3.0])
    second = schedule.volume_times[schedule.volume_run == 2][0]
    np.testing.assert_allclose(schedule.onsets[4:], second + np.array([2.0, 3.0]))
    assert schedule.volume_times[schedule.volume_run == 1][-1] + 5.0 == second
    with pytest.raises(ValueError, match=r"word_duration has shape \(2,\) for 6 words"):
        schedule_runs(6, word_duration=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"n_words is \[3, 0\]"):
        schedule_runs([3, 0])


def test_signal_is_the_sum_of_responses_in_continuous_time():
    schedule = schedule_runs(40, n_runs=2, tr=1.7, word_duration=0.43)
    vectors, weights = features(40), np.random.default_rng(5).standard_normal((3, 4))

    class Silence:  # noise-free
        def standard_normal(self, shape):
            return np.zeros(shape)

    bold = simulate_bold(vectors, weights, schedule, snr=2.0, rng=Silence(), baseline=0.0)
    want = np.zeros_like(bold)
    for row, time in enumerate(schedule.volume_times):
        for word, onset in enumerate(schedule.onsets):
            if 0 < time - onset < 32:
                want[row] += vectors[word] @ weights * glover_hrf(np.array(time - onset))
    want *= 2.0 / want.std(axis=0)
    np.testing.assert_allclose(bold, want, atol=1e-10)


def test_noise_is_ar1_of_unit_variance():
    schedule = schedule_runs(4000, n_runs=1, tr=0.5)
    noise = simulate_bold(
        np.zeros((4000, 1)),
        np.zeros((1, 8)),
        schedule,
        snr=0.0,
        rng=np.random.default_rng(0),
        drift=0.0,
        baseline=0.0,
    )
    assert abs(noise.std() - 1) < 0.03
    lag_one = np.mean(noise[1:] * noise[:-1])
    assert abs(lag_one - 0.5) < 0.03


def test_planted_recordings_are_those_of_simulate_bold_and_repeat():
    schedule = schedule_runs(40, n_runs=2)
    vectors = features(40)
    _, planted = plant(WORDS[:40], vectors, schedule, n_subjects=2, n_voxels=9, seed=4, snr=1.5)
    centred = vectors - vectors.mean(axis=0)
    for subject in (0, 1):
        rng = np.random.default_rng([4, subject + 1])
        weights = rng.standard_normal((3, 9))
        weights[:, rng.permutation(9)[6:]] = 0
        np.testing.assert_array_equal(planted.weights(subject), weights)
        bold = simulate_bold(centred, weights, schedule, snr=1.5, rng=rng)
        np.testing.assert_array_equal(planted.array(subject), bold)
        np.testing.assert_array_equal(planted.array(subject), bold)  # again, from the seed
    assert planted.shape == bold.shape


def test_wide_recordings_come_in_blocks_with_their_own_noise():
    schedule = schedule_runs(12, n_runs=1, tr=4.0)
    courses = planted_courses(features(12, 2), schedule)
    planted = PlantedBold(
        courses, schedule.volume_times, schedule.volume_run, 1, 5000, dtype="float32", clock=True
    )
    blocks = list(planted.blocks(0))
    assert [block.shape[1] for block in blocks] == [2048, 2048, 904]
    assert all(block.dtype == np.float32 for block in blocks)
    whole = planted.array(0)
    np.testing.assert_array_equal(whole[:, 0], schedule.volume_times)
    assert len(np.unique(whole, axis=1).T) == 5000  # no two voxels alike
    responding = planted.weights(0).any(axis=0)
    assert responding.sum() == 3500
    signal = courses @ planted.weights(0)[:, responding]
    r = [
        np.corrcoef(signal[:, v], whole[:, responding][:, v])[0, 1]
        for v in range(1, signal.shape[1])
    ]
    assert np.mean(r) > 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_subjects": 0}, "n_subjects 0"),
        ({"snr": -1.0}, "snr -1.0"),
        ({"responsive": 1.5}, "responsive 1.5"),
        ({"autocorrelation": 1.0}, "autocorrelation is 1.0"),
        ({"dtype": "int16"}, "dtype is int16"),
    ],
)
def test_bad_settings(changes, message):
    schedule = schedule_runs(8, n_runs=1)
    with pytest.raises(ValueError, match=message):
        plant(WORDS[:8], features(8), schedule, **{"n_subjects": 1, "n_voxels": 2, **changes})
    with pytest.raises(ValueError, match="8 onsets for 9 words"):
        plant(WORDS[:9], features(9), schedule, n_subjects=1, n_voxels=2)
