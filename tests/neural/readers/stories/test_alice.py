import json
import warnings

import numpy as np
import pytest
from simulate.alice import word_rate
from simulate.textgrid import write_textgrid

from brainalign_jax.neural import intersubject_correlation
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.stories import alice, alice_files

WORDS = ["Alice", "sp", "was", "not", 'a "rabbit"', "", "she", "said ", "sp"]
# The files that the tests write hold fewer words than the release.
pytestmark = pytest.mark.filterwarnings("ignore:.* has 24 words where the release has 2127")
RELEASED = [f"s{n}" for n in (18, 22, 23, 24, 26, 28, 30, 31, 33, *range(35, 54))]


def entries():
    return [(20.0 + 0.5 * i, 20.5 + 0.5 * i, text) for i, text in enumerate(WORDS * 4)]


def write_alice(folder, n_volumes=40, subjects=("s18", "s22", "s33")):
    rng = np.random.default_rng(0)
    data = folder / "alice_data_shared"
    for radius in ("10mm", "6mm"):
        (data / radius).mkdir(parents=True)
        for subject in subjects:
            table = rng.standard_normal((n_volumes, 6)) + 100
            np.savetxt(data / radius / f"{subject}-timecourses.txt", table * (subject != "s33"))
    for subject in subjects:
        np.savetxt(data / f"{subject}-rp_run1.txt", rng.standard_normal((n_volumes + 10, 6)))
        np.savetxt(data / f"{subject}-rate.txt", rng.random(n_volumes))
        np.savetxt(data / f"{subject}-sndpwr.txt", rng.random(n_volumes))
    np.savetxt(data / "sept18-generic-predictors-x.txt", rng.random((n_volumes + 10, 12)))
    (folder / "alice_stim_shared").mkdir()
    write_textgrid(folder / alice_files.TEXTGRID, entries())
    return folder


def test_reads_words_and_leaves_s33_out(tmp_path):
    write_alice(tmp_path / "alice")
    with pytest.warns(UserWarning, match="s33 is left out: the recording is all zeros"):
        dataset = open_dataset("alice", tmp_path)
    assert dataset.subjects == ("s18", "s22")
    assert dataset.stimulus.words[:6] == ("Alice", "was", "not", 'a "rabbit"', "she", "said")
    np.testing.assert_allclose(dataset.stimulus.onsets[:6], [20, 21, 21.5, 22, 23, 23.5])
    np.testing.assert_allclose(dataset.stimulus.durations, 0.5)
    responses = dataset.load("s22")
    assert responses.values.shape == (24, 6) and responses.valid.all()
    assert responses.meta["feature_names"] == list(alice_files.REGIONS)
    assert responses.meta["tr"] == 2.0 and responses.meta["timing_error"] <= 1.0
    assert "pseudo-sentences" in dataset.meta["notes"] and dataset.meta["confounds"] == []
    with pytest.raises(ValueError, match="subject 's33' of alice cannot be used: .*all zeros"):
        open_dataset("alice", tmp_path, subjects=["s33"])
    with pytest.raises(ValueError, match="unknown subject 's33'"):
        dataset.load("s33")
    with pytest.warns(UserWarning) as caught:
        open_dataset("alice", tmp_path / "alice", subjects=["s18"], radius="6mm")
    assert len(caught) == 1 and "has 24 words where the release has 2127" in str(caught[0].message)


@pytest.mark.parametrize("radius", ["10mm", "6mm"])
def test_responses_are_kernel_times_columns_of_the_radius(tmp_path, radius):
    write_alice(tmp_path)
    options = {"detrend": False, "standardize": False, "kind": "delay", "radius": radius}
    dataset = open_dataset("alice", tmp_path, subjects=["s18"], **options)
    raw = np.loadtxt(tmp_path / "alice_data_shared" / radius / "s18-timecourses.txt")
    np.testing.assert_array_equal(alice_files.read_timecourses(tmp_path, "s18", radius), raw)
    times = 20 + 2 * np.arange(len(raw))
    for region in range(6):
        want = np.interp(dataset.stimulus.onsets + 6, times, raw[:, region])
        np.testing.assert_allclose(dataset.load("s18").values[:, region], want, rtol=1e-6)


def test_confounds_are_regressed_out(tmp_path):
    write_alice(tmp_path)
    data = tmp_path / "alice_data_shared"
    motion = np.loadtxt(data / "s18-rp_run1.txt")[10:]
    rate, loud = (np.loadtxt(data / f"s18-{name}.txt") for name in ("rate", "sndpwr"))
    np.testing.assert_array_equal(alice_files.read_motion(tmp_path, "s18"), motion)
    np.testing.assert_array_equal(alice_files.read_regressor(tmp_path, "s18", "rate"), rate)
    np.testing.assert_array_equal(alice_files.read_regressor(tmp_path, "s18", "sndpwr"), loud)
    table, ones = alice_files.read_timecourses(tmp_path, "s18"), np.ones(40)
    times = 20 + 2 * np.arange(40)
    options = {"subjects": "s18", "standardize": False, "kind": "delay"}
    for confounds, names, columns in (
        ("motion", ["motion"], motion),
        ("rate", ["rate"], rate[:, None]),
        ("motion, rate", ["motion", "rate"], np.column_stack([motion, rate])),
        (("sound_power", "motion"), ["sound_power", "motion"], np.column_stack([loud, motion])),
    ):
        responses = open_dataset("alice", tmp_path, confounds=confounds, **options).load("s18")
        design = np.column_stack([ones, times, columns])
        rest = table - design @ np.linalg.lstsq(design, table, rcond=None)[0]
        for region in range(6):
            want = np.interp(responses.stimulus.onsets + 6, times, rest[:, region])
            np.testing.assert_allclose(responses.values[:, region], want, atol=1e-5)
        assert responses.meta["confounds"] == names
        assert responses.meta["cleaning"]["confounds"] == columns.shape[1]
    assert open_dataset("alice", tmp_path, confounds="none", **options).meta["confounds"] == []
    with pytest.raises(
        ValueError, match="unknown confound 'moton' of alice; known: motion, .* none alone"
    ):
        open_dataset("alice", tmp_path, confounds="moton,rate", **options)


def test_predictors_by_name_without_the_discarded_volumes(tmp_path):
    write_alice(tmp_path)
    predictors = alice_files.read_predictors(tmp_path)
    table = np.loadtxt(tmp_path / "alice_data_shared" / "sept18-generic-predictors-x.txt")
    assert tuple(predictors) == alice_files.PREDICTORS and len(predictors) == 12
    np.testing.assert_array_equal(predictors["rate_conv"], table[10:, 0])
    np.testing.assert_array_equal(predictors["trigrampos_conv_orth"], table[10:, 11])


def test_marks_words_that_the_recording_does_not_cover(tmp_path):
    write_alice(tmp_path, n_volumes=8)  # the last volume is at 34 s
    with pytest.warns(UserWarning, match=r"does not cover the response to 12 of 24 words"):
        responses = open_dataset("alice", tmp_path, subjects="s18").load("s18")
    late = responses.stimulus.onsets + 6.25 > 35
    assert late.sum() == 12
    np.testing.assert_array_equal(responses.valid, ~late)
    assert not responses.values[late].any()


def test_errors_of_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"alice_data_shared.*cnllab"):
        open_dataset("alice", tmp_path)
    write_alice(tmp_path)
    with pytest.raises(ValueError, match="unknown subject 's99' of alice; known: s18, s22, s33"):
        open_dataset("alice", tmp_path, subjects=["s99"])
    with pytest.raises(ValueError, match="unknown radius='8mm'; known: 10mm, 6mm"):
        open_dataset("alice", tmp_path, radius="8mm")
    path = tmp_path / "alice_data_shared" / "10mm" / "s18-timecourses.txt"
    text = path.read_text()
    path.write_text(text[: len(text) // 2 - 60])
    with pytest.raises(ValueError, match=r"s18-timecourses\.txt is not a complete table"):
        open_dataset("alice", tmp_path, subjects=["s18"])
    path.write_text("\n".join(text.splitlines()[:20]))
    with pytest.raises(ValueError, match=r"s18-timecourses\.txt has 20 volumes where s22 has 40"):
        open_dataset("alice", tmp_path, subjects=["s22", "s18"]).load("s18")
    with pytest.raises(ValueError, match=r"has 20 volumes where s18-rate\.txt has 40"):
        open_dataset("alice", tmp_path, subjects=["s18"]).load("s18")
    for content in ("1 2 3\n4 5 6\n", "", "1 2 3 4 5 6\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"s18-timecourses\.txt has shape \(\d, \d\)"):
            alice_files.read_timecourses(tmp_path, "s18")
    path.write_bytes(b"\xff\xfe\x00 2")
    with pytest.raises(ValueError, match=r"s18-timecourses\.txt is not a complete table"):
        alice_files.read_timecourses(tmp_path, "s18")
    table = np.loadtxt(text.splitlines())
    table[:, 2] = 5
    np.savetxt(path, table)
    with pytest.raises(
        ValueError, match=r"s18-timecourses\.txt: 1 of 6 voxels.*constant.*column 2"
    ):
        open_dataset("alice", tmp_path, subjects=["s18"]).load("s18")
    dataset = open_dataset("alice", tmp_path, subjects=["s18"], bad_voxels="drop")
    with pytest.warns(UserWarning, match="1 of 6"):
        responses = dataset.load("s18")
    assert responses.meta["feature_names"] == ["LATL", "RATL", "LIPL", "LPreM", "LIFG"]
    for subject in ("s18", "s22"):
        np.savetxt(path.with_name(f"{subject}-timecourses.txt"), np.zeros((40, 6)))
    with pytest.raises(ValueError, match="10mm: every recording is all zeros"):
        open_dataset("alice", tmp_path)
    path.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="10mm"):
        open_dataset("alice", tmp_path)


def test_errors_of_words(tmp_path):
    write_alice(tmp_path)
    path = tmp_path / alice_files.TEXTGRID
    text = path.read_text()
    path.write_text(text.replace("xmax = 21.0", "xmax = 20.9"))
    with pytest.raises(ValueError, match=r"TextGrid: interval 2 ends at 20.9 s.*must adjoin"):
        open_dataset("alice", tmp_path, subjects=["s22"])
    write_textgrid(path, [(20, 21, "sp"), (21, 22, "SIL")])
    with pytest.raises(ValueError, match="silences only"):
        open_dataset("alice", tmp_path, subjects=["s22"])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"exp120_pad_1\.TextGrid.*cnllab"):
        open_dataset("alice", tmp_path, subjects=["s22"])


def test_errors_of_regressors(tmp_path):
    write_alice(tmp_path)
    data = tmp_path / "alice_data_shared"
    with pytest.raises(ValueError, match="unknown regressor 'speed'; known: rate, sndpwr"):
        alice_files.read_regressor(tmp_path, "s18", "speed")
    with pytest.raises(FileNotFoundError, match=r"s99-rate\.txt.*cnllab"):
        alice_files.read_regressor(tmp_path, "s99", "rate")
    with pytest.raises(FileNotFoundError, match=r"s99-rp_\*\.txt.*cnllab"):
        alice_files.read_motion(tmp_path, "s99")
    (data / "s18-sndpwr.txt").write_bytes((data / "s18-rate.txt").read_bytes())
    with pytest.warns(UserWarning, match=r"s18-sndpwr\.txt is a copy of the rate file"):
        alice_files.read_regressor(tmp_path, "s18", "sndpwr")
    options = {"subjects": "s18", "confounds": "motion"}
    motion = (data / "s18-rp_run1.txt").read_text()
    (data / "s18-rp_run1.txt").write_text("\n".join(motion.splitlines()[:-5]))
    with pytest.raises(ValueError, match="has 40 volumes and the motion file of s18 35"):
        open_dataset("alice", tmp_path, **options).load("s18")
    (data / "s18-rp_run1.txt").write_text(motion.replace(motion.split()[30], "nan", 1))
    with pytest.raises(ValueError, match=r"s18-rp_run1\.txt holds NaN or infinite values in row 6"):
        open_dataset("alice", tmp_path, **options).load("s18")
    (data / "s18-rp_run2.txt").write_text(motion)
    with pytest.raises(ValueError, match=r"rp_run1\.txt and .*rp_run2\.txt are both of s18"):
        open_dataset("alice", tmp_path, **options).load("s18")
    (data / "sept18-generic-predictors-x.txt").unlink()
    with pytest.raises(FileNotFoundError, match="generic-predictors"):
        alice_files.read_predictors(tmp_path)


def test_fuzzed_files_end_in_an_error_or_a_warning(tmp_path):
    write_alice(tmp_path)
    rng = np.random.default_rng(5)
    data = tmp_path / "alice_data_shared"
    files = [
        tmp_path / alice_files.TEXTGRID,
        data / "10mm" / "s18-timecourses.txt",
        data / "s18-rp_run1.txt",
        data / "s18-rate.txt",
    ]
    refused = 0
    for round_ in range(60):
        path = files[round_ % len(files)]
        whole = path.read_bytes()
        broken = bytearray(whole)
        if round_ % 3 == 0:
            del broken[int(rng.integers(len(whole))) :]
        else:
            for at in rng.integers(len(whole), size=3):
                broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = open_dataset("alice", tmp_path, subjects="s18", confounds="motion,rate")
                responses = dataset.load("s18")
            assert len(dataset.stimulus) == 24 and responses.values.shape == (24, 6)
            assert np.isfinite(responses.values).all()
        except ValueError as error:
            refused += 1
            assert str(tmp_path) in str(error)
        path.write_bytes(whole)
    assert refused > 30


def test_real_release(shared_data):
    with pytest.warns(UserWarning, match="s33 is left out") as caught:
        dataset = open_dataset("alice", shared_data)
    assert len(caught) == 1
    assert len(dataset.subjects) == 27 and "s33" not in dataset.subjects
    stimulus = dataset.stimulus
    assert len(stimulus) == 2127
    assert stimulus.words[:6] == ("Alice", "was", "beginning", "to", "get", "very")
    assert stimulus.words[-2:] == ("eats", "cake")
    lengths = np.bincount(stimulus.sentence)
    assert lengths.max() <= 30 and lengths.min() >= 1 and 70 < len(lengths) < 250
    with pytest.warns(UserWarning, match="response to 19 of 2127 words"):
        responses = dataset.load("s18")
    assert responses.values.shape == (2127, 6) and responses.meta["timing_error"] <= 1.0
    np.testing.assert_array_equal(
        responses.valid, stimulus.onsets + 6 + stimulus.durations / 2 <= 20 + 2 * 361 + 1
    )
    json.dumps(dataset.meta)


def test_real_confounds_of_every_subject(shared_data):
    for subject in RELEASED:
        assert alice_files.read_motion(shared_data, subject).shape == (362, 6)
        assert alice_files.read_regressor(shared_data, subject, "rate").shape == (362,)
    with pytest.warns(UserWarning, match=r"s33-sndpwr\.txt is a copy"):
        alice_files.read_regressor(shared_data, "s33", "sndpwr")
    predictors = alice_files.read_predictors(shared_data)
    rate = alice_files.read_regressor(shared_data, "s18", "rate")
    # The first ten rows cut, the two agree; with ten others cut they would not.
    assert np.corrcoef(predictors["rate_conv"], rate)[0, 1] > 0.97
    assert np.corrcoef(predictors["rate_conv"][:-10], rate[10:])[0, 1] < 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"subjects": ["s18"], "radius": "6mm"}
        plain = open_dataset("alice", shared_data, **options).load("s18")
        cleaned = open_dataset("alice", shared_data, confounds="motion,rate", **options).load("s18")
    assert cleaned.meta["cleaning"]["confounds"] == 7
    assert np.abs(cleaned.values - plain.values).max() > 0.1


def test_real_word_rate_is_the_shipped_regressor(shared_data):
    # Criterion 4: the clock of words and volumes is right, for each of the 28 subjects.
    stimulus, times = alice.read_stimulus(shared_data), alice_files.volume_times(362)
    ours = word_rate(stimulus, times)
    early, late = (word_rate(stimulus, times + shift) for shift in (-1.0, 1.0))
    for subject in RELEASED:
        shipped = alice_files.read_regressor(shared_data, subject, "rate")
        assert round(np.corrcoef(ours, shipped)[0, 1], 3) == 0.990
        assert np.corrcoef(early, shipped)[0, 1] < 0.95 > np.corrcoef(late, shipped)[0, 1]
        # Of the same size too: the release convolved at 44,100 Hz with a response of unit sum.
        slope = np.polyfit(ours * 1.2 / 44100, shipped, 1)[0]
        assert slope == pytest.approx(1, abs=0.01)
    own = np.corrcoef(ours, early)[0, 1], np.corrcoef(ours, late)[0, 1]
    assert [round(float(r), 2) for r in own] == [0.95, 0.95]


def test_real_scores_of_the_word_rate_by_region(shared_data):
    scores = np.array(
        [
            np.corrcoef(
                alice_files.read_regressor(shared_data, subject, "rate"),
                alice_files.read_timecourses(shared_data, subject, "10mm"),
                rowvar=False,
            )[0, 1:]
            for subject in RELEASED
            if subject != "s33"  # recorded as zeros
        ]
    )
    assert scores.shape == (27, 6)
    got = dict(zip(alice_files.REGIONS, scores.mean(axis=0), strict=True))
    expected = {
        "LATL": 0.100,
        "RATL": 0.086,
        "LPTL": 0.131,
        "LIPL": 0.114,
        "LPreM": 0.107,
        "LIFG": 0.075,
    }
    assert {name: round(float(value), 3) for name, value in got.items()} == expected


def test_real_intersubject_correlation_is_the_published_release(shared_data):
    # On the volumes as released: z-scored by subject, neither detrended nor filtered.
    names = [name for name in RELEASED if name != "s33"]
    data = np.stack([alice_files.read_timecourses(shared_data, name, "10mm") for name in names])
    assert data.shape == (27, 362, 6)
    got = dict(zip(alice_files.REGIONS, intersubject_correlation(data).mean(axis=0), strict=True))
    expected = {
        "LPTL": 0.385,
        "LATL": 0.281,
        "LIPL": 0.268,
        "LPreM": 0.186,
        "RATL": 0.137,
        "LIFG": 0.120,
    }
    assert {name: round(float(value), 3) for name, value in got.items()} == expected
