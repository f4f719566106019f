import re
import warnings

import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.harry_potter import read_recording
from brainalign_jax.neural.simulate import (
    schedule_runs,
    simulate_bold,
    simulate_harry_potter,
    story_words,
)
from brainalign_jax.neural.timeseries import glover_hrf
from brainalign_jax.stimulus import Stimulus, split_sentences

WORDS = story_words()


def planted(n=None, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n or len(WORDS), width))


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
        mine = schedule.onsets[schedule.word_run == run + 1]
        assert len(mine) == 25
        assert mine[0] == starts[run] + 20 and mine[-1] + 6.25 <= ends[run]
        np.testing.assert_allclose(np.diff(mine), 0.5)


def test_round_trip_gives_words_onsets_and_values(tmp_path):
    vectors = planted()
    simulation = simulate_harry_potter(
        tmp_path, words=WORDS, vectors=vectors, n_subjects=2, n_voxels=30, seed=3
    )
    schedule = simulation.schedule
    dataset = open_dataset("harry_potter", tmp_path)
    assert dataset.subjects == ("1", "2")
    assert dataset.stimulus.words == WORDS
    np.testing.assert_array_equal(dataset.stimulus.onsets, schedule.onsets)
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(dataset.stimulus.durations, np.full(len(WORDS), 0.5))
    for subject, path in zip((1, 2), simulation.paths, strict=True):
        # The same draws, without the file: the recording must come back bit for bit.
        rng = np.random.default_rng([3, subject])
        weights = rng.standard_normal((6, 30))
        weights[:, rng.permutation(30)[21:]] = 0
        bold = simulate_bold(vectors - vectors.mean(axis=0), weights, schedule, snr=1.0, rng=rng)
        recording = read_recording(path)
        np.testing.assert_array_equal(recording.bold, bold)
        np.testing.assert_array_equal(recording.times, schedule.volume_times)
        np.testing.assert_array_equal(recording.volume_run, schedule.volume_run)
        np.testing.assert_array_equal(simulation.weights[subject - 1], weights)
        assert recording.coordinates.shape == (30, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every word is covered
        responses = dataset.load("2")
    assert responses.valid.all() and responses.values.shape == (len(WORDS), 30)
    assert responses.meta["tr"] == 2.0 and responses.meta["timing_error"] <= 1.0


def test_values_are_the_kernel_on_the_cleaned_recording(tmp_path):
    words = WORDS[:120]
    simulate_harry_potter(
        tmp_path, words=words, vectors=planted(120), n_subjects=1, n_voxels=5, n_runs=2
    )
    dataset = open_dataset("harry_potter", tmp_path)
    recording = read_recording(tmp_path / "subject_1.mat")
    values = dataset.load("1").values
    cleaned = np.empty_like(recording.bold)
    for run in (1, 2):
        rows = recording.volume_run == run
        t = np.arange(rows.sum())
        slope, intercept = np.polyfit(t, recording.bold[rows], 1)
        rest = recording.bold[rows] - slope * t[:, None] - intercept
        cleaned[rows] = rest / rest.std(axis=0, ddof=1)
    for word in range(120):
        middle = dataset.stimulus.onsets[word] + 6.25
        near = np.flatnonzero(
            (np.abs(recording.times - middle) <= 2.25)
            & (recording.volume_run == dataset.stimulus.run[word])
        )
        weights = np.exp(-0.5 * (recording.times[near] - middle) ** 2)
        np.testing.assert_allclose(
            values[word], weights @ cleaned[near] / weights.sum(), rtol=1e-4, atol=1e-5
        )


def test_signal_is_the_sum_of_responses_in_continuous_time():
    schedule = schedule_runs(40, n_runs=2, tr=1.7, word_duration=0.43)
    vectors, weights = planted(40, 3), np.random.default_rng(5).standard_normal((3, 4))

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


def test_planted_features_explain_responding_voxels_only(tmp_path):
    vectors = planted()
    simulation = simulate_harry_potter(
        tmp_path, words=WORDS, vectors=vectors, n_subjects=1, n_voxels=60, snr=3.0, responsive=0.5
    )
    values = open_dataset("harry_potter", tmp_path).load("1").values
    responds = simulation.weights[0].any(axis=0)
    assert responds.sum() == 30
    prediction = vectors @ np.linalg.lstsq(vectors, values, rcond=None)[0]
    r = np.array([np.corrcoef(prediction[:, v], values[:, v])[0, 1] for v in range(60)])
    assert r[responds].mean() > 2 * r[~responds].mean()
    pattern = vectors.T @ values  # recovers the planted weights up to scale
    weights = simulation.weights[0]
    match = [np.corrcoef(pattern[:, v], weights[:, v])[0, 1] for v in np.flatnonzero(responds)]
    assert np.mean(match) > 0.7


def test_noise_only_has_no_planted_answer(tmp_path):
    vectors = planted()
    settings = {"words": WORDS, "vectors": vectors, "n_subjects": 1, "n_voxels": 20, "snr": 0.0}
    simulation = simulate_harry_potter(tmp_path / "a", **settings)
    assert not simulation.weights.any()
    settings["vectors"] = planted(seed=9)
    simulate_harry_potter(tmp_path / "b", **settings)
    first, second = (read_recording(tmp_path / name / "subject_1.mat").bold for name in "ab")
    np.testing.assert_array_equal(first, second)  # the features leave no trace


def test_same_seed_same_bytes_other_seed_other_data(tmp_path):
    settings = {"words": WORDS[:50], "vectors": planted(50), "n_subjects": 2, "n_voxels": 4}
    first = simulate_harry_potter(tmp_path / "a", seed=1, **settings)
    second = simulate_harry_potter(tmp_path / "b", seed=1, **settings)
    third = simulate_harry_potter(tmp_path / "c", seed=2, **settings)
    data = [path.read_bytes() for path in first.paths + second.paths + third.paths]
    assert data[0] == data[2] and data[1] == data[3]
    assert len({data[0], data[1], data[4]}) == 3
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["subject_1.mat", "subject_2.mat"]


def test_layout_is_the_original_one(tmp_path):
    simulate_harry_potter(
        tmp_path, words=["One", "café,", "+", "two."], vectors=planted(4), n_subjects=1, n_voxels=5
    )
    content = scipy.io.loadmat(tmp_path / "subject_1.mat")
    words = content["words"]
    assert words.shape == (1, 4) and words.dtype.names == ("text", "start", "length")
    assert [words[0][i][0][0][0][0] for i in range(4)] == ["One", "café,", "+", "two."]
    assert [float(words[0][i][1][0][0]) for i in range(2)] == [20.0, 77.5 + 1.0]
    assert float(words[0][0][2][0][0]) == 0.5
    assert content["time"].shape[1] == 2 and content["time"].dtype == np.float64
    assert content["data"].shape == (len(content["time"]), 5)
    assert content["data"].dtype == np.float64
    assert sorted(np.unique(content["time"][:, 1])) == [1, 2, 3, 4]
    assert content["meta"]["colToCoord"][0, 0].shape == (5, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.zeros((3, 2))}, r"shape \(3, 2\) for 10 words"),
        ({"vectors": np.full((10, 2), np.nan)}, "finite row"),
        ({"words": ["a "] * 10}, "surrounding spaces"),
        ({"words": [""] * 10}, "word 0 is ''"),
        ({"n_runs": 11}, "10 words cannot fill 11 runs"),
        ({"n_subjects": 0}, "n_subjects 0"),
        ({"snr": -1.0}, "snr -1.0"),
        ({"responsive": 1.5}, "responsive 1.5"),
        ({"autocorrelation": 1.0}, "autocorrelation"),
        ({"tr": 0.0}, "tr 0.0"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    good = {"words": WORDS[:10], "vectors": planted(10), "n_subjects": 1, "n_voxels": 3}
    with pytest.raises(ValueError, match=message):
        simulate_harry_potter(tmp_path, **{**good, **changes})
