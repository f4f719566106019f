import re
import warnings

import numpy as np
import pytest
import scipy.io
from potter_files import LAYOUTS, read_words, release, rewrite

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout.kernels import check_timing
from brainalign_jax.neural.simulate.bold import schedule_runs, story_words
from brainalign_jax.stimulus import split_sentences

RAW = {"kind": "delay", "detrend": False, "standardize": False}


def quiet_load(dataset, subject):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every word is covered
        return dataset.load(subject)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planted_words_onsets_and_values_come_back_exactly(tmp_path, layout, dtype):
    simulation = release(tmp_path, layout=layout, dtype=dtype)
    schedule = simulation.schedule
    dataset = open_dataset("harry_potter", tmp_path, fixation="keep", **RAW)
    assert dataset.subjects == (("F", "H") if layout == "numpy" else ("1", "2"))
    assert dataset.meta["layout"] == ("numpy" if layout == "numpy" else "mat")
    stimulus = dataset.stimulus
    words = list(story_words()[:128])
    words[20] = "+"
    assert stimulus.words == tuple(words)
    np.testing.assert_array_equal(stimulus.onsets, schedule.onsets)
    np.testing.assert_array_equal(stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(stimulus.durations, np.full(128, 0.5))
    # Six seconds after every fourth word there is a volume.
    read_at = schedule.onsets + 6.0
    rows = np.searchsorted(schedule.volume_times, read_at)
    exact = np.isin(read_at, schedule.volume_times)
    assert exact.sum() == 32 and len(schedule.volume_times) == 60
    for index, subject in enumerate(dataset.subjects):
        responses = quiet_load(dataset, subject)
        bold = simulation.planted.array(index)
        assert bold.dtype == dtype and responses.values.shape == (128, 50)
        np.testing.assert_array_equal(responses.values[exact], bold[rows[exact]].astype(np.float32))
        for word in np.flatnonzero(~exact):
            before, after = bold[rows[word] - 1], bold[rows[word]]
            share = (read_at[word] - schedule.volume_times[rows[word] - 1]) / 2.0
            want = before + share * (after - before)
            np.testing.assert_allclose(responses.values[word], want, rtol=3e-7)
        assert responses.valid.all() and responses.meta["tr"] == 2.0


@pytest.mark.parametrize("kind", ["gaussian", "paper", "delay", "hrf"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_volume_times_fed_as_a_voxel_give_the_words_times(tmp_path, layout, kind):
    simulation = release(tmp_path, layout=layout, clock=True, n_voxels=3, n_subjects=1)
    schedule = simulation.schedule
    starts = np.flatnonzero(np.diff(schedule.volume_run)) + 1
    assert np.diff(schedule.volume_times)[starts - 1].tolist() == [28.5] * 3
    dataset = open_dataset("harry_potter", tmp_path, fixation="keep", **{**RAW, "kind": kind})
    responses = dataset.load(dataset.subjects[0])
    assert responses.valid.sum() > 100
    centre = {"gaussian": 6.25, "paper": 6.0, "delay": 6.0, "hrf": 0.25 + 5.2272}[kind]
    late = responses.values[:, 0] - (dataset.stimulus.onsets + centre)
    # The paper's rows hold the next volume, up to a TR after their time.
    allowed = 2.0 if kind == "paper" else 1.0
    assert np.abs(late[responses.valid]).max() <= allowed + 1e-4
    assert set(schedule.word_run[responses.valid]) == {1, 2, 3, 4}
    assert responses.meta["timing_error"] <= allowed + 1e-5


def wrong_readout(onsets, volume_times):
    """The words' times as the code of Li et al. 2023 reads them, as a matrix [N, time].

    Rows half a second apart start at the first word and go on through the pauses of the words; each
    holds the first volume at or after its time. But word i is looked up at the time of row i, as if
    the words followed one another without pauses; nine rows from 4 s later on are averaged.
    """
    row_times = np.arange(onsets[0], volume_times[-1] + 0.1, 0.5)
    volumes = np.searchsorted(volume_times, row_times - 1e-6)
    kernel = np.zeros((len(onsets), len(volume_times)))
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2.0)
    for word in range(len(onsets)):
        rows = np.minimum(np.arange(word + 8, word + 17), len(volumes) - 1)
        np.add.at(kernel[word], volumes[rows], weights / weights.sum())
    return kernel


def test_the_original_readout_is_22_50_and_79_seconds_off_and_is_caught(tmp_path):
    # The release's clock in small: volumes go on without a gap, the words of two runs are 28.5 s apart.
    schedule = schedule_runs([79, 83, 87, 79], tr=2.0, gap=2.0, rest=(20.0, 8.5))
    release(tmp_path, n_words=328, schedule=schedule, clock=True, n_voxels=2, n_subjects=1)
    assert np.diff(schedule.volume_times).tolist() == [2.0] * (len(schedule.volume_times) - 1)
    gaps = np.diff(schedule.onsets)[np.diff(schedule.word_run) > 0] - 0.5
    assert gaps.tolist() == [28.5] * 3
    kernel = wrong_readout(schedule.onsets, schedule.volume_times)
    read_at = kernel @ schedule.volume_times - schedule.onsets
    late = [read_at[schedule.word_run == run].mean() for run in (1, 2, 3, 4)]
    # In run 1 it reads 6.75 s after the word; then 22, 50 and 79 s before it.
    np.testing.assert_allclose(late, [6.75, 6.75 - 28.5, 6.75 - 57.0, 6.75 - 85.5], atol=0.1)
    np.testing.assert_allclose(late[1:], [-22, -50, -79], atol=0.5)
    for run, missed in ((1, None), (2, 28.5), (3, 57.0), (4, 85.5)):
        # The last words of a run are left out, as their rows lie in the next one.
        words = np.flatnonzero(schedule.word_run == run)[:-8]
        onsets, timing = schedule.onsets[words], {"run": schedule.word_run[words], "kind": "paper"}
        timing["volume_run"] = schedule.volume_run
        if missed is None:
            assert check_timing(kernel[words], onsets, schedule.volume_times, **timing) <= 1.5
            continue
        message = rf"timing check failed for word 0 .*run {run}\): .*, an error of -(\d+\.\d+) s"
        with pytest.raises(ValueError, match=message) as info:
            check_timing(kernel[words], onsets, schedule.volume_times, **timing)
        error = float(re.search(message, str(info.value)).group(1))
        assert abs(error - (missed - 0.75)) < 1.0  # from onset + 6 s, where it should read
    everything = {"run": schedule.word_run, "volume_run": schedule.volume_run, "kind": "paper"}
    with pytest.raises(ValueError, match="timing check failed"):
        check_timing(kernel, schedule.onsets, schedule.volume_times, **everything)
    # The reader is right in all runs.
    dataset = open_dataset("harry_potter", tmp_path, fixation="keep", **{**RAW, "kind": "paper"})
    with pytest.warns(UserWarning, match="does not cover the response to 8 of 328 words"):
        responses = dataset.load("1")
    for run in (1, 2, 3, 4):
        words = (schedule.word_run == run) & responses.valid
        assert words.sum() >= 77
        assert abs((responses.values[words, 0] - schedule.onsets[words]).mean() - 6.75) < 0.1
    # Where the scanner pauses too, an index onset / TR fails as well.
    paused = schedule_runs(328, tr=2.0, gap=28.5)
    by_index = np.zeros((328, len(paused.volume_times)))
    rows = np.rint((paused.onsets + 6.0) / 2.0).clip(max=len(paused.volume_times) - 1).astype(int)
    by_index[np.arange(328), rows] = 1.0
    with pytest.raises(ValueError, match=r"run 2\): .*an error of \+2[67]\.\d+ s"):
        check_timing(
            by_index,
            paused.onsets,
            paused.volume_times,
            run=paused.word_run,
            volume_run=paused.volume_run,
            kind="delay",
        )


def test_values_are_the_kernel_on_the_cleaned_recording(tmp_path):
    simulation = release(tmp_path, n_words=120, n_voxels=5, n_runs=2, n_subjects=1)
    dataset = open_dataset("harry_potter", tmp_path, fixation="keep")
    bold, schedule = simulation.planted.array(0), simulation.schedule
    values = dataset.load("1").values
    cleaned = np.empty_like(bold)
    for run in (1, 2):
        rows = schedule.volume_run == run
        t = np.arange(rows.sum())
        slope, intercept = np.polyfit(t, bold[rows], 1)
        rest = bold[rows] - slope * t[:, None] - intercept
        cleaned[rows] = rest / rest.std(axis=0, ddof=1)
    for word in range(120):
        middle = dataset.stimulus.onsets[word] + 6.25
        near = np.flatnonzero(
            (np.abs(schedule.volume_times - middle) <= 2.25)
            & (schedule.volume_run == dataset.stimulus.run[word])
        )
        weights = np.exp(-0.5 * (schedule.volume_times[near] - middle) ** 2)
        np.testing.assert_allclose(
            values[word], weights @ cleaned[near] / weights.sum(), rtol=1e-4, atol=1e-5
        )


def test_opening_reads_no_recording(potter):
    path = potter / "subject_1.mat"
    content = bytearray(path.read_bytes())
    content[1500] ^= 0xFF  # within `data`, the first variable
    path.write_bytes(content)
    dataset = open_dataset("harry_potter", potter)
    assert len(dataset.stimulus) == 59
    with pytest.raises(ValueError, match=r"subject_1\.mat.*damaged"):
        dataset.load("1")


def test_fixations_sentences_and_runs(potter):
    dropped = open_dataset("harry_potter", potter)
    kept = open_dataset("harry_potter", potter, fixation="keep")
    assert len(kept.stimulus) == 60 and kept.stimulus.words[20] == "+"
    assert len(dropped.stimulus) == 59 and "+" not in dropped.stimulus.words
    rows = np.arange(60) != 20
    np.testing.assert_array_equal(kept.stimulus.onsets[rows], dropped.stimulus.onsets)
    np.testing.assert_array_equal(kept.load("1").values[rows], dropped.load("1").values)
    assert dropped.meta["notes"].startswith("1 fixation")
    stimulus = dropped.stimulus
    assert np.unique(stimulus.run).tolist() == [1, 2]
    np.testing.assert_array_equal(stimulus.sentence, split_sentences(stimulus.words, stimulus.run))
    with pytest.raises(ValueError, match="unknown fixation='maybe'"):
        open_dataset("harry_potter", potter, fixation="maybe")
    with pytest.raises(ValueError, match="word_duration is -1"):
        open_dataset("harry_potter", potter, word_duration=-1)


@pytest.mark.parametrize("layout", ["mat", "numpy"])
def test_subject_names(tmp_path, layout):
    release(tmp_path, layout=layout, n_voxels=3)
    names = {"mat": ("1", "2"), "numpy": ("F", "H")}[layout]
    for asked in (names[1], f"subject_{names[1]}", [names[1]], 2):
        if layout == "mat" or asked != 2:
            assert open_dataset("harry_potter", tmp_path, subjects=asked).subjects == (names[1],)
    known = f"known: {names[0]}, {names[1]}"
    with pytest.raises(ValueError, match=f"unknown subject '9' of harry_potter; {known}"):
        open_dataset("harry_potter", tmp_path, subjects=[9])
    dataset = open_dataset("harry_potter", tmp_path, subjects=[names[1]])
    with pytest.raises(ValueError, match=f"unknown subject '{names[0]}'"):
        dataset.load(names[0])


def test_bad_voxels_and_the_space_of_the_others(potter):
    path = potter / "subject_1.mat"
    data = scipy.io.loadmat(path)["data"]
    data[3, 5] = np.nan
    data[:, 2] = 4.0
    rewrite(path, data=data)
    with pytest.raises(
        ValueError, match="subject 1.*1 of 7.*column 5 .*1 of 7.*column 2.*bad_voxels=drop"
    ):
        open_dataset("harry_potter", potter).load("1")
    with pytest.warns(UserWarning, match="dropped"):
        responses = open_dataset("harry_potter", potter, bad_voxels="drop").load("1")
    assert responses.values.shape[1] == 5 and responses.meta["dropped_voxels"] == 2
    listed = scipy.io.loadmat(path)["meta"]["colToCoord"][0, 0]
    np.testing.assert_array_equal(responses.space.coordinates, listed[[0, 1, 3, 4, 6]] - 1)


def test_scores_go_back_to_the_grid_that_meta_lists(potter):
    responses = open_dataset("harry_potter", potter).load("1")
    image = responses.space.to_image(np.arange(1.0, 8.0))
    assert image.shape == (2, 2, 2)
    coordinates = scipy.io.loadmat(potter / "subject_1.mat")["meta"]["colToCoord"][0, 0]
    for column, place in enumerate(coordinates.astype(int) - 1):
        assert image.get_fdata()[tuple(place)] == column + 1
    assert image.get_fdata().sum() == 28


@pytest.mark.parametrize(
    "damage",
    [
        lambda meta: None,
        lambda meta: {"nvoxels": 7.0},
        lambda meta: meta | {"colToCoord": meta["colToCoord"][:6]},  # as some of the release
        lambda meta: meta | {"colToCoord": meta["colToCoord"] - 1},  # 0 is outside of MATLAB's grid
        lambda meta: meta | {"dimx": 1.0},
        lambda meta: meta | {"colToCoord": np.ones((7, 3))},  # all in one place
        lambda meta: meta | {"colToCoord": np.full((7, 3), np.nan)},
        lambda meta: "text",
    ],
)
def test_a_list_of_voxels_that_does_not_fit_is_no_space(potter, damage):
    path = potter / "subject_1.mat"
    content = scipy.io.loadmat(path)["meta"]
    meta = {name: content[name][0, 0] for name in content.dtype.names}
    rewrite(path, meta=damage(meta))
    assert open_dataset("harry_potter", potter).load("1").space is None


def test_typography_may_differ_but_words_may_not(potter):
    words = read_words(potter / "subject_2.mat")
    cell = words[0][0][0]
    original = str(cell[0][0][0])
    for text, fine in ((f"{original}…", True), (f"@{original}@", True), ("Zebra", False)):
        changed = np.empty((1, 1), object)
        changed[0, 0] = text
        words[0][0][0] = changed
        rewrite(potter / "subject_2.mat", words=words)
        dataset = open_dataset("harry_potter", potter)
        assert dataset.stimulus.words[0] == original
        if fine:
            assert dataset.load("2").stimulus.words[0] == original
        else:
            with pytest.raises(ValueError, match=r"subject_2\.mat: word 0 is 'Zebra' where"):
                dataset.load("2")


def test_other_length_onsets_or_runs_between_subjects(potter):
    path = potter / "subject_2.mat"
    words = read_words(path)
    rewrite(path, words=words[:, :50])
    with pytest.raises(ValueError, match=r"subject_2\.mat lists 50 words and .*subject_1\.mat 60"):
        open_dataset("harry_potter", potter).load("2")
    words[0][4][1] = np.array([[6.25]])
    rewrite(path, words=words)
    with pytest.raises(ValueError, match="word 4 .*begins at 6.25 s where"):
        open_dataset("harry_potter", potter).load("2")
    words[0][4][1] = np.array([[6.0]])
    time = scipy.io.loadmat(path)["time"]
    rewrite(path, words=words, time=np.column_stack([time[:, 0], time[:, 1] % 2 + 1]))
    with pytest.raises(ValueError, match=r"word 0 .* is in run 2, in .*subject_1\.mat in run 1"):
        open_dataset("harry_potter", potter).load("2")


def test_files_without_meta_and_length(potter):
    path = potter / "subject_1.mat"
    words = read_words(path)
    short = np.empty((1, 60), [("text", object), ("start", object)])
    for i in range(60):
        short[0, i] = (words[0][i][0], words[0][i][1])
    data = scipy.io.loadmat(path)["data"]
    rewrite(path, words=short, meta=None, data=data.astype(np.float32))
    dataset = open_dataset("harry_potter", potter, word_duration=0.4)
    np.testing.assert_allclose(dataset.stimulus.durations, 0.4)
    assert dataset.load("1").space is None
