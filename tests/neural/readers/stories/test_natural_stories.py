import warnings

import numpy as np
import pytest
import scipy.io
from simulate.natural_stories import simulate_natural_stories

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.stories.natural_stories import runs_by_gap
from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.stimulus import split_sentences

LAYOUTS = ["mat", "mat73"]
RAW = {"kind": "delay", "detrend": False, "standardize": False}


def release(folder, *, n_words=100, words=None, **settings):
    words = story_words()[:n_words] if words is None else words
    vectors = np.random.default_rng(0).standard_normal((len(words), 3))
    settings = {"n_subjects": 2, "n_voxels": 50, "tr": 2.0, "rest": (4.0, 10.0)} | settings
    return simulate_natural_stories(folder, words=words, vectors=vectors, **settings)


@pytest.fixture
def listeners(tmp_path):
    release(tmp_path, n_voxels=5, n_runs=2)
    return tmp_path


def rewrite(path, **changes):
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content.update(changes)
    scipy.io.savemat(path, {k: v for k, v in content.items() if v is not None})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planted_words_onsets_and_values_come_back_exactly(tmp_path, layout, dtype):
    # Words of half a second: six seconds after every fourth one there is a volume.
    settings = {"n_words": 128, "word_duration": (0.5, 0.5)}
    simulation = release(tmp_path, layout=layout, dtype=dtype, **settings)
    schedule = simulation.schedule
    assert len(schedule.volume_times) == 60
    dataset = open_dataset("natural_stories", tmp_path, **RAW)
    assert dataset.subjects == ("1", "2")
    assert dataset.stimulus.words == story_words()[:128]
    np.testing.assert_array_equal(dataset.stimulus.onsets, schedule.onsets)
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    read_at = schedule.onsets + 6.0
    exact = np.isin(read_at, schedule.volume_times)
    rows = np.searchsorted(schedule.volume_times, read_at[exact])
    assert exact.sum() == 32
    for index, subject in enumerate(dataset.subjects):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            responses = dataset.load(subject)
        bold = simulation.planted.array(index)
        assert bold.dtype == dtype and responses.values.shape == (128, 50)
        np.testing.assert_array_equal(responses.values[exact], bold[rows].astype(np.float32))
        assert responses.space is None


@pytest.mark.parametrize("kind", ["gaussian", "delay", "hrf"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_volume_times_fed_as_a_voxel_give_the_words_times(tmp_path, layout, kind):
    simulation = release(
        tmp_path, layout=layout, clock=True, n_voxels=3, n_subjects=1, tr=0.72, n_words=300
    )
    schedule = simulation.schedule
    starts = np.flatnonzero(np.diff(schedule.volume_run)) + 1
    np.testing.assert_allclose(np.diff(schedule.volume_times)[starts - 1], [28.5] * 3)
    dataset = open_dataset("natural_stories", tmp_path, **{**RAW, "kind": kind})
    responses = dataset.load("1")
    half = dataset.stimulus.durations / 2
    middle = {"gaussian": 6.0 + half, "delay": 6.0, "hrf": half + 5.2272}[kind]
    late = (responses.values[:, 0] - (dataset.stimulus.onsets + middle))[responses.valid]
    assert responses.valid.sum() > 250 and np.abs(late).max() <= 0.36 + 1e-3
    assert set(schedule.word_run[responses.valid]) == {1, 2, 3, 4}


def test_runs_start_at_gaps_and_steps_back():
    times = np.concatenate(
        [np.arange(5) * 2.0, 11.5 + np.arange(3) * 2.0, 3.0 + np.arange(4) * 2.0]
    )
    run = runs_by_gap(times, source="x")
    np.testing.assert_array_equal(run, [1] * 5 + [2] * 3 + [3] * 4)
    assert run.dtype == np.int32
    np.testing.assert_array_equal(runs_by_gap(np.array([0.0, 2.0, 5.0, 7.0]), source="x"), [1] * 4)
    with pytest.raises(ValueError, match="x: volumes 1 and 2 have the same time, 2 s"):
        runs_by_gap(np.array([0.0, 2.0, 2.0, 4.0]), source="x")


def test_durations(listeners):
    dataset = open_dataset("natural_stories", listeners)
    onsets, run = dataset.stimulus.onsets, dataset.stimulus.run
    for label in (1, 2):
        in_run = run == label
        steps = np.diff(onsets[in_run])
        lasting = dataset.stimulus.durations[in_run]
        np.testing.assert_array_equal(lasting[:-1], np.minimum(steps, 1.0))
        assert lasting[-1] == np.median(lasting[:-1])
    fixed = open_dataset("natural_stories", listeners, word_duration=0.25).stimulus.durations
    np.testing.assert_array_equal(fixed, np.full(100, 0.25))
    with pytest.raises(ValueError, match="word_duration is nan"):
        open_dataset("natural_stories", listeners, word_duration=np.nan)


def test_long_steps_are_pauses_not_durations(tmp_path):
    words = ["".join(c for c in word if c.isalpha()) or "x" for word in story_words()[:150]]
    release(tmp_path, words=words, n_voxels=2, n_subjects=1)
    bare = open_dataset("natural_stories", tmp_path)
    assert "pauses of 0.6 s" in bare.meta["notes"]
    path = tmp_path / "subject_1.mat"
    cells = scipy.io.loadmat(path)["words"]
    for index in range(10, 38):  # the rest of the first run
        cells[index, 0][1, 0] = cells[index, 0][1, 0] + 1.7
    rewrite(path, words=cells)
    dataset = open_dataset("natural_stories", tmp_path)
    stimulus = dataset.stimulus
    assert stimulus.durations[9] == 1.0
    assert stimulus.durations.max() == 1.0
    # The pause starts a sentence, a run starts one, and 38 words without a pause are cut.
    starts = np.flatnonzero(np.diff(stimulus.sentence)) + 1
    assert 10 in starts and set(np.flatnonzero(np.diff(stimulus.run)) + 1) <= set(starts)
    assert np.bincount(stimulus.sentence).max() <= 30
    assert len(np.unique(stimulus.sentence)) == stimulus.sentence[-1] + 1
    few = open_dataset("natural_stories", tmp_path, max_sentence=5).stimulus.sentence
    assert np.bincount(few).max() == 5


def test_sentences_by_punctuation(listeners):
    dataset = open_dataset("natural_stories", listeners)
    stimulus = dataset.stimulus
    np.testing.assert_array_equal(stimulus.sentence, split_sentences(stimulus.words, stimulus.run))
    assert "punctuation" in dataset.meta["notes"] and stimulus.sentence[-1] >= 3


def test_a_clock_that_restarts_is_an_error(listeners):
    path = listeners / "subject_1.mat"
    time = scipy.io.loadmat(path)["time"][0]
    second = int(np.argmax(np.diff(time) > 3)) + 1
    restarted = np.concatenate([time[:second], time[second:] - time[second]])
    rewrite(path, time=restarted[None, :])
    with pytest.raises(ValueError, match=r"subject_1\.mat: the runs overlap in time.*one clock"):
        open_dataset("natural_stories", listeners)


def test_all_subjects_heard_the_same(listeners):
    path = listeners / "subject_2.mat"
    words = scipy.io.loadmat(path)["words"]
    rewrite(path, words=words[:90])
    with pytest.raises(ValueError, match=r"subject_2\.mat lists 90 words and .*subject_1\.mat 100"):
        open_dataset("natural_stories", listeners).load("2")
    words[3, 0][0, 0] = "Zebra"
    rewrite(path, words=words)
    with pytest.raises(ValueError, match=r"subject_2\.mat: word 3 is 'Zebra' where"):
        open_dataset("natural_stories", listeners).load("2")


def test_subjects_and_folders(listeners, tmp_path):
    for asked in (2, "2", "subject_2"):
        assert open_dataset("natural_stories", listeners, subjects=asked).subjects == ("2",)
    with pytest.raises(ValueError, match="unknown subject '20' of natural_stories; known: 1, 2"):
        open_dataset("natural_stories", listeners, subjects=20)
    with pytest.raises(
        FileNotFoundError, match=r"subject_\*\.mat; get it from https://osf\.io/eq2ba"
    ):
        open_dataset("natural_stories", tmp_path / "empty")
    release(tmp_path / "all" / "natural_stories", n_subjects=11, n_voxels=1)
    names = open_dataset("natural_stories", tmp_path / "all").subjects
    assert names == tuple(map(str, range(1, 12)))


def changed_word(part, value):
    def change(words):
        words[3, 0][part, 0] = value
        return words

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "no variable 'data'"),
        ({"words": None}, "no variable 'words'"),
        ({"time": None}, "no variable 'time'"),
        ({"time": np.arange(40.0)[:, None]}, r"time has shape \(40, 1\).*one row of seconds"),
        ({"time": np.full((1, 40), np.inf)}, "time holds NaN or infinite"),
        ({"data": np.zeros((5, 7))}, r"data has shape \(5, 7\); expected"),
        ({"words": np.zeros((9, 1))}, r"words has shape \(9, 1\) and dtype float64; expected an"),
        ({"words": lambda words: words.T}, r"words has shape \(1, 100\)"),
        (
            {"words": changed_word(0, np.eye(2))},
            "word 3 is nested in another way .its text is an a",
        ),
        ({"words": changed_word(0, "")}, "word 3 of 100 is blank"),
        (
            {"words": changed_word(1, "late")},
            "word 3 is nested in another way .its time is an array",
        ),
        ({"words": changed_word(1, np.array([[np.nan]]))}, "the onset of word 3 is nan"),
        ({"words": changed_word(1, np.array([[0.5]]))}, "the onsets are not sorted: word 2"),
        ({"words": lambda words: words[:, 0].repeat(2).reshape(100, 2)}, r"shape \(100, 2\)"),
        ({"words": lambda words: np.array([[np.ones(2)]] * 9, object)}, "words has shape|nested"),
    ],
)
def test_other_contents(listeners, changes, message):
    path = listeners / "subject_1.mat"
    for name, value in changes.items():
        if callable(value):
            changes = {name: value(scipy.io.loadmat(path)["words"])}
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("natural_stories", listeners)
    assert "subject_1.mat" in str(info.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated(tmp_path, layout):
    release(tmp_path, layout=layout, n_voxels=5, n_subjects=1)
    path = tmp_path / "subject_1.mat"
    content = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"subject_1\.mat.*(truncated|damaged)"):
            open_dataset("natural_stories", tmp_path).load("1")
