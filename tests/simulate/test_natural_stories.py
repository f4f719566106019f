import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural.simulate.bold import story_words
from simulate.natural_stories import simulate_natural_stories

WORDS = story_words()


def features(n):
    return np.random.default_rng(0).standard_normal((n, 3))


def test_layout_is_the_original_one(tmp_path):
    simulation = simulate_natural_stories(
        tmp_path, words=WORDS[:40], vectors=features(40), n_subjects=2, n_voxels=5, dtype="float32"
    )
    schedule = simulation.schedule
    assert [path.name for path in simulation.paths] == ["subject_1.mat", "subject_2.mat"]
    data = scipy.io.loadmat(tmp_path / "subject_2.mat")
    assert data["data"].dtype == np.float32
    np.testing.assert_array_equal(data["data"], simulation.planted.array(1))
    np.testing.assert_array_equal(data["time"][0], schedule.volume_times)
    assert data["time"].shape[0] == 1 and data["words"].shape == (40, 1)
    # As the original code indexes it.
    words = [word[0][0][0][0] for word in data["words"]]
    onsets = [word[0][1][0][0][0] for word in data["words"]]
    assert words == list(WORDS[:40])
    np.testing.assert_array_equal(onsets, schedule.onsets)


def test_words_last_as_long_as_asked_for(tmp_path):
    simulation = simulate_natural_stories(
        tmp_path,
        words=WORDS[:300],
        vectors=features(300),
        n_subjects=1,
        n_voxels=2,
        word_duration=(0.2, 0.6),
    )
    schedule = simulation.schedule
    lasting = np.diff(schedule.onsets)[np.diff(schedule.word_run) == 0]
    assert 0.199 < lasting.min() < 0.22 and 0.58 < lasting.max() < 0.601
    starts = np.flatnonzero(np.diff(schedule.volume_run)) + 1
    steps = np.diff(schedule.volume_times)
    np.testing.assert_allclose(steps[starts - 1], 28.5)
    np.testing.assert_allclose(np.delete(steps, starts - 1), 0.72)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "numpy"}, "unknown layout='numpy'"),
        ({"word_duration": (0.0, 0.5)}, "0 < low <= high"),
        ({"vectors": np.zeros((3, 2))}, r"shape \(3, 2\) for 10 words"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    good = {"words": WORDS[:10], "vectors": features(10), "n_subjects": 1, "n_voxels": 3}
    with pytest.raises(ValueError, match=message):
        simulate_natural_stories(tmp_path, **{**good, **changes})
