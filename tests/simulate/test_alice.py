import warnings

import numpy as np
import pytest

from brainalign_jax.neural.formats.text.textgrid import read_textgrid
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.stories import alice_files
from simulate.alice import SUBJECTS, simulate_alice, word_rate

# The smaller releases hold fewer words than the original.
pytestmark = pytest.mark.filterwarnings("ignore:.* words where the release has 2127")
RAW = {"detrend": False, "standardize": False}


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # s33, and the words at the end
        return open_dataset(*args, **options)


def test_full_size_release_comes_back_exactly(tmp_path):
    simulation = simulate_alice(tmp_path)
    with pytest.warns(UserWarning, match="s33 is left out") as caught:
        dataset = open_dataset("alice", tmp_path)
    assert len(caught) == 1
    assert len(SUBJECTS) == 28 == len(simulation.subjects)
    assert dataset.subjects == tuple(name for name in SUBJECTS if name != "s33")
    assert len(dataset.stimulus) == 2127 and dataset.stimulus.words == simulation.words
    np.testing.assert_array_equal(dataset.stimulus.onsets, simulation.schedule.onsets)
    np.testing.assert_array_equal(dataset.stimulus.durations, simulation.durations)
    for row, subject in enumerate(SUBJECTS):
        for radius in ("10mm", "6mm"):
            recorded = alice_files.read_timecourses(tmp_path, subject, radius)
            assert recorded.shape == (362, 6) and recorded.any() == (subject != "s33")
            np.testing.assert_array_equal(recorded, simulation.timecourses[radius][row])
        np.testing.assert_array_equal(
            alice_files.read_motion(tmp_path, subject), simulation.motion[row], strict=True
        )
        for name, planted in (("rate", simulation.rate), ("sndpwr", simulation.sound_power)):
            shipped = alice_files.read_regressor(tmp_path, subject, name)
            np.testing.assert_array_equal(shipped, planted, strict=True)
    predictors = alice_files.read_predictors(tmp_path)
    assert list(predictors) == list(simulation.predictors)
    for name, values in predictors.items():
        np.testing.assert_array_equal(values, simulation.predictors[name])
    # As in the release: the scans end before the response to the last words.
    with pytest.warns(UserWarning, match=r"response to \d\d of 2127 words"):
        responses = dataset.load("s18")
    assert responses.values.shape == (2127, 6) and 2100 < responses.valid.sum() < 2127
    ours = word_rate(dataset.stimulus, simulation.schedule.volume_times)
    np.testing.assert_allclose(simulation.rate, ours * 1.2 / 44100, rtol=1e-4, atol=1e-10)


def test_layout_is_the_original_one(tmp_path):
    simulate_alice(tmp_path, n_subjects=9, n_volumes=30, words=["One"] * 40)
    data = tmp_path / "alice_data_shared"
    names = sorted(path.name for path in data.glob("s22*"))
    assert names == ["s22-rate.txt", "s22-rp_epiRTwm2_scan_0004__003.txt", "s22-sndpwr.txt"]
    for radius in ("10mm", "6mm"):
        lines = (data / radius / "s22-timecourses.txt").read_bytes().split(b"\n")
        assert len(lines) == 31 and lines[-1] == b""
        assert {len(line) for line in lines[:-1]} == {96}  # six numbers as %16.7e
        zeros = (data / radius / "s33-timecourses.txt").read_text()
        assert zeros == "0\t0\t0\t0\t0\t0\n" * 30
    motion = (data / names[1]).read_text().splitlines()
    assert len(motion) == 40 and motion[0] == "   0.0000000e+00" * 6
    assert len((data / "s22-rate.txt").read_text().splitlines()) == 30
    table = data / "sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
    rows = table.read_bytes().split(b"\r\n")
    assert len(rows) == 41 and all(row.count(b"\t") == 11 for row in rows[:-1])
    intervals = read_textgrid(tmp_path / alice_files.TEXTGRID)
    assert intervals[0][2] == intervals[-1][2] == "sp"
    assert all(
        interval[1] == other[0] for interval, other in zip(intervals, intervals[1:], strict=False)
    )
    assert sum(text == "One" for _, _, text in intervals) == 40


@pytest.mark.parametrize("kind", ["gaussian", "delay", "hrf"])
@pytest.mark.parametrize("radius", ["10mm", "6mm"])
def test_volume_times_come_back_as_the_times_of_the_words(tmp_path, kind, radius):
    simulation = simulate_alice(
        tmp_path, n_subjects=2, words=["word"] * 300, clock=True, rest=12.0, seed=4
    )
    dataset = open_dataset("alice", tmp_path, kind=kind, radius=radius, delay=5.0, **RAW)
    for subject in ("s18", "s22"):
        responses = dataset.load(subject)
        assert responses.valid.all() and responses.meta["timing_error"] <= 1.0
        onsets, durations = simulation.schedule.onsets, simulation.durations
        want = {
            "gaussian": onsets + 5.0 + durations / 2,
            "delay": onsets + 5.0,
            "hrf": onsets + durations / 2 + 5.2272,
        }[kind]
        assert np.abs(responses.values[:, 0] - want).max() <= 1.0
        # One volume off would be seen: the middle of the errors is far below half a TR.
        assert abs(np.median(responses.values[:, 0] - want)) < 0.3
        assert np.abs(responses.values[:, 1:]).max() < 200  # the other regions are as planted


def test_planted_features_drive_the_regions_and_noise_does_not(tmp_path):
    words = [f"w{index}" for index in range(400)]
    vectors = np.random.default_rng(1).standard_normal((400, 3))
    values = {}
    for snr in (3.0, 0.0):
        simulation = simulate_alice(
            tmp_path / str(snr), words=words, vectors=vectors, n_subjects=1, snr=snr, rest=12.0
        )
        assert simulation.weights.shape == (1, 3, 12)
        assert simulation.weights.any() == (snr > 0)
        values[snr] = open_dataset("alice", tmp_path / str(snr), kind="hrf").load("s18").values

    def explained(x):
        fit = vectors @ np.linalg.lstsq(vectors, x, rcond=None)[0]
        return np.mean([np.corrcoef(fit[:, region], x[:, region])[0, 1] for region in range(6)])

    assert explained(values[3.0]) > 1.5 * explained(values[0.0])


def test_same_seed_same_files(tmp_path):
    settings = {"n_subjects": 1, "words": ["a", "b"] * 10}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_alice(tmp_path / name, seed=seed, **settings)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        first, second, third = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == second != third


def test_subjects_with_a_recording_only(tmp_path):
    simulate_alice(tmp_path, n_subjects=9, words=["a"] * 30, empty=False)
    assert quiet("alice", tmp_path).subjects == SUBJECTS[:9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_subjects": 29}, "n_subjects is 29; the release has 28"),
        ({"n_subjects": 0}, "n_subjects is 0"),
        ({"n_volumes": 1}, "n_volumes is 1"),
        ({"rest": 60.0}, "the words would end at"),
        ({"words": []}, "words is empty"),
        ({"words": ["a", "sp"]}, "word 1 is 'sp', which stands for silence"),
        ({"words": ["a "] * 4}, "word 0 is 'a '"),
        ({"vectors": np.zeros((3, 2))}, r"shape \(3, 2\) for 4 words"),
        ({"snr": -1.0}, "snr -1.0"),
        ({"autocorrelation": 1.0}, "autocorrelation is 1.0"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        simulate_alice(tmp_path / "x", **{"words": ["a"] * 4, "n_subjects": 1, **changes})
    assert not (tmp_path / "x").exists()
