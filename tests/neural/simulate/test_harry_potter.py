import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.harry_potter import release_schedule, simulate_harry_potter

WORDS = story_words()


def planted(n=None, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n or len(WORDS), width))


def test_the_release_schedule_is_the_releases():
    schedule = release_schedule()
    assert len(schedule.onsets) == 5176 and len(schedule.volume_times) == 1351
    np.testing.assert_array_equal(schedule.volume_times, 2.0 * np.arange(1351))
    assert (schedule.onsets[0], schedule.onsets[-1]) == (20.0, 2693.0)
    steps = np.diff(schedule.onsets)
    assert sorted(steps)[-3:] == [29.0] * 3 and (steps[steps < 29] == 0.5).all()
    for run in (1, 2, 3, 4):
        run_times = schedule.volume_times[schedule.volume_run == run]
        words = schedule.onsets[schedule.word_run == run]
        assert words[0] == run_times[0] + 20 and words[-1] + 0.5 + 8.5 == run_times[-1] + 2


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
    settings = {"words": WORDS, "n_subjects": 1, "n_voxels": 20, "snr": 0.0}
    first = simulate_harry_potter(tmp_path / "a", vectors=planted(), **settings)
    assert not first.weights.any()
    second = simulate_harry_potter(tmp_path / "b", vectors=planted(seed=9), **settings)
    # The features leave no trace.
    np.testing.assert_array_equal(first.planted.array(0), second.planted.array(0))


@pytest.mark.parametrize("layout", ["mat", "numpy"])
def test_same_seed_same_bytes_other_seed_other_data(tmp_path, layout):
    settings = {"words": WORDS[:50], "vectors": planted(50), "n_subjects": 2, "n_voxels": 4}
    first, second, third = (
        simulate_harry_potter(tmp_path / name, seed=seed, layout=layout, **settings)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    data = [path.read_bytes() for path in first.paths + second.paths + third.paths]
    assert data[0] == data[2] and data[1] == data[3]
    assert len({data[0], data[1], data[4]}) == 3
    names = {
        "numpy": ["data_subject_F.npy", "data_subject_H.npy", "runs_fmri.npy", "time_fmri.npy"]
        + ["time_words_fmri.npy", "words_fmri.npy"]
    }
    file_names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert file_names == names.get(layout, ["subject_1.mat", "subject_2.mat"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mat_layout_is_the_original_one(tmp_path, dtype):
    simulation = simulate_harry_potter(
        tmp_path,
        words=["One", "café,", "+", "two."],
        vectors=planted(4),
        n_subjects=1,
        n_voxels=5,
        dtype=dtype,
    )
    content = scipy.io.loadmat(tmp_path / "subject_1.mat")
    words = content["words"]
    assert words.shape == (1, 4) and words.dtype.names == ("text", "start", "length")
    assert [words[0][i][0][0][0][0] for i in range(4)] == ["One", "café,", "+", "two."]
    assert [float(words[0][i][1][0][0]) for i in range(2)] == [20.0, 77.5 + 1.0]
    assert float(words[0][0][2][0][0]) == 0.5
    assert content["time"].shape[1] == 2 and content["time"].dtype == np.float64
    assert content["data"].dtype == dtype
    np.testing.assert_array_equal(content["data"], simulation.planted.array(0))
    assert sorted(np.unique(content["time"][:, 1])) == [1, 2, 3, 4]
    assert content["meta"]["colToCoord"][0, 0].shape == (5, 3)
    meta = content["meta"]
    assert meta.dtype.names[6:9] == ("colToCoord", "coordToCol", "colToROInum")
    assert meta["dimx"][0, 0].shape == (1, 1) and meta["matrix"][0, 0].shape == (4, 4)
    for column, place in enumerate(meta["colToCoord"][0, 0].astype(int) - 1):
        assert meta["coordToCol"][0, 0][tuple(place)] == column + 1


def test_numpy_layout_is_the_one_of_the_repository(tmp_path):
    words = WORDS[:640]  # 55 volumes a run
    settings = {"words": words, "vectors": planted(640), "n_subjects": 1, "n_voxels": 5}
    whole = simulate_harry_potter(tmp_path / "whole", layout="numpy", **settings)
    short = simulate_harry_potter(tmp_path / "short", layout="numpy", trimmed=True, **settings)
    times = np.load(tmp_path / "short" / "time_fmri.npy")
    runs = np.load(tmp_path / "short" / "runs_fmri.npy")
    assert times.shape == runs.shape == (220,)
    assert np.load(tmp_path / "short" / "words_fmri.npy").tolist() == list(words)
    np.testing.assert_array_equal(
        np.load(tmp_path / "short" / "time_words_fmri.npy"), short.schedule.onsets
    )
    full, cut = np.load(whole.paths[0]), np.load(short.paths[0])
    assert len(full) == len(times) and len(cut) == len(times) - 4 * 35
    np.testing.assert_array_equal(full, whole.planted.array(0))
    kept = np.concatenate([np.flatnonzero(runs == run)[20:-15] for run in (1, 2, 3, 4)])
    np.testing.assert_array_equal(cut, full[kept])
    with pytest.raises(ValueError, match=r"the shortest has \d+; give more words a run"):
        simulate_harry_potter(
            tmp_path / "x",
            layout="numpy",
            trimmed=True,
            **{**settings, "words": words[:40], "vectors": planted(40)},
        )


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
        ({"tr": 0.0}, "tr 0.0"),
        ({"layout": "csv"}, "unknown layout='csv'"),
        ({"layout": "numpy", "n_subjects": 9}, "names 8 subjects"),
        ({"trimmed": True}, "of layout 'numpy' only"),
        ({"schedule": release_schedule()}, "5176 onsets for 10 words"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    good = {"words": WORDS[:10], "vectors": planted(10), "n_subjects": 1, "n_voxels": 3}
    with pytest.raises(ValueError, match=message):
        simulate_harry_potter(tmp_path, **{**good, **changes})
    assert not list(tmp_path.iterdir())
