import shutil
import warnings

import numpy as np
import pytest
import scipy.io
from recordings import PEAKED, assert_peaked
from simulate.smn4lang import simulate_smn4lang, write_times

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel

WORDS = tuple(
    ("星星", "很", "美丽", "我们", "看", "它", "今天", "去", "说话")[row % 9] for row in range(150)
)
VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 3))
STOPPED = tuple(
    word + "。" * (row % 50 % 7 == 6) for row, word in enumerate(WORDS)
)  # as signs end the words before them
RAW = {"detrend": False, "standardize": False}
TIMES = "derivatives/annotations/time_align/word-level/story_2_word_time.mat"
SCAN = "derivatives/preprocessed_data/sub-02/CIFTI/sub-02_task-RDR_run-2_bold.dtseries.nii"


def opened(folder, **options):
    return open_dataset("smn4lang", folder, **options)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two people and three stories in both spaces, that no test changes."""
    folder = tmp_path_factory.mktemp("corpus") / "ds004078"
    settings = {"words": WORDS, "vectors": VECTORS, "seed": 4}
    return folder, simulate_smn4lang(folder, spaces=("cifti", "volume"), **settings)


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy to change."""
    return shutil.copytree(simulated[0], tmp_path / "copy")


@pytest.mark.parametrize("space", ["cifti", "volume"])
def test_words_onsets_and_values_come_back(simulated, space):
    folder, simulation = simulated[0], simulated[1][space]
    options = {"mask": "mask.nii.gz"} if space == "volume" else {}
    dataset, schedule = opened(folder, **options), simulation.schedule
    stimulus = dataset.stimulus
    assert dataset.subjects == ("01", "02") and stimulus.words == STOPPED
    np.testing.assert_array_equal(stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(stimulus.attribute("section"), schedule.word_run)
    assert stimulus.attribute("story")[60] == "story_2"
    assert set(stimulus.attribute("language")) == {"zh"}
    assert np.bincount(stimulus.sentence)[:3].tolist() == [7, 7, 7]
    assert dataset.meta["notes"] == "sentences end with the words' punctuation"
    first = np.searchsorted(schedule.word_run, schedule.word_run)
    np.testing.assert_allclose(stimulus.onsets[first], 10.65)
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=stimulus.durations, **timing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses = dataset.load("02")
    cleaned = clean_runs(simulation.stored(1).astype(float), schedule.volume_run, tr=0.71)
    np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=1e-4)
    assert responses.valid.all() and responses.space.same_as(simulation.space)
    assert responses.meta["tr"] == pytest.approx(0.71) and responses.meta["space"] == space


def test_volume_times_come_back_as_onset_and_delay_and_a_volume_too_late_does_not(tmp_path):
    """Column 0 recorded the time: what a word is read out of is its onset and the delay."""
    simulation = simulate_smn4lang(tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, clock=True)
    onsets = simulation["cifti"].schedule.onsets

    def error(**options):
        responses = opened(tmp_path, kind="delay", **RAW, **options).load("01")
        return np.abs(responses.values[:, 0] - (onsets + 6.0))[responses.valid]

    assert error().max() < 1e-3
    assert error(first_volume=0.71).min() > 0.7 and error(slice_time_ref=1.0).min() > 0.7


def test_planted_responses_are_found_at_their_delay(tmp_path):
    simulate_smn4lang(tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, **PEAKED)
    assert_peaked(lambda delay: opened(tmp_path, kind="delay", delay=delay).load("01"), VECTORS)


def test_stories_subjects_and_spaces_are_chosen(simulated, copied):
    folder, simulation = simulated
    everything = opened(folder).load("01")
    some = opened(folder.parent, stories=2, subjects=1).load("01")
    rows = simulation["cifti"].schedule.word_run == 2
    np.testing.assert_array_equal(some.values, everything.values[rows])
    assert set(some.stimulus.run.tolist()) == {2}
    assert opened(folder, space="volume", subjects="sub-02").subjects == ("02",)
    assert opened(folder, atlas="mask.nii.gz").load("01").meta["feature_names"] == ["region 1"]
    (copied / SCAN).unlink()
    assert set(opened(copied).stimulus.run.tolist()) == {1, 3}
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*sub-02_task-RDR_run-2.* other stories"
    ):
        opened(copied, stories=[1, 2]).load("02")
    (copied / SCAN).symlink_to("../../.git/annex/objects/none")
    with pytest.raises(FileNotFoundError, match="link of git-annex"):
        opened(copied, subjects=2).load("02")
    assert set(opened(copied).stimulus.run.tolist()) == {1, 3}
    for wrong in (0, 61, [1, 1], []):
        with pytest.raises(ValueError, match="stories is .*; give numbers from 1 to 60, each once"):
            opened(folder, stories=wrong)
    with pytest.raises(ValueError, match="unknown space 'fsLR' of smn4lang; known: cifti, volume"):
        opened(folder, space="fsLR")
    with pytest.raises(ValueError, match="mask=, atlas= and labels= are for volumes"):
        opened(folder, space="cifti", mask="all")
    with pytest.raises(ValueError, match="unknown subject '13' of smn4lang; known: 01, 02"):
        opened(folder, subjects=13)
    for part in ("sub-01/CIFTI", "sub-02/CIFTI"):
        shutil.rmtree(copied / "derivatives" / "preprocessed_data" / part)
    assert opened(copied).meta["space"] == "volume"
    with pytest.raises(FileNotFoundError, match="brainalign fetch smn4lang"):
        opened(copied, space="cifti")
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*preprocessed_data; get the release"
    ):
        opened(copied / "derivatives" / "annotations")


def test_texts_without_punctuation_are_cut_at_pauses_and_cells_are_read(tmp_path):
    settings = {"words": WORDS, "vectors": VECTORS, "n_subjects": 1}
    simulate_smn4lang(tmp_path, punctuation=False, cells=True, **settings)
    dataset = opened(tmp_path, max_sentence=10)
    assert dataset.stimulus.words == WORDS and "pseudo-sentences" in dataset.meta["notes"]
    assert np.bincount(dataset.stimulus.sentence).max() <= 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"start": np.ones((1, 4))},
            r"story_2_word_time.mat: start has shape \(1, 4\) .* for 2 words",
        ),
        ({"end": np.array([["a", "b"]])}, "end has shape"),
        (
            {"word": np.ones((1, 2))},
            r"word has shape \(1, 2\) and type float64; texts are expected",
        ),
        ({"word": np.array([["a"], [np.ones(2)]], object)}, "a word is no text"),
        (
            {"start": np.array([[1.5, 1.0]])},
            r"word 2 \('b'\) begins at 1 s, before the word above it",
        ),
        ({"start": np.array([[1.0, np.nan]])}, r"word 2 \('b'\) goes from nan to 3.0 s"),
        (
            {"end": np.array([[9.0, 9.5]])},
            r"word 1 \('a'\) ends at 9 s and the next word begins at 2 s",
        ),
        (
            {"start": np.array([[1.0, 500.0]]), "end": np.array([[1.5, 501.0]])},
            "begin after its last",
        ),
    ],
)
def test_damaged_times_are_named(copied, change, message):
    sound = {"word": np.array(["a", "b"]), "start": [[1.0, 2.0]], "end": [[2.0, 3.0]]}
    scipy.io.savemat(copied / TIMES, sound | change)
    with pytest.raises(ValueError, match=message):
        opened(copied).load("02")


def test_files_of_times_that_are_missing_or_lack_a_variable(copied):
    scipy.io.savemat(copied / TIMES, {"word": np.array(["a"]), "start": [[1.0]]})
    with pytest.raises(ValueError, match="no variable 'end', it holds word, start"):
        opened(copied)
    write_times(copied / TIMES, ["。", "好"], [1.0, 2.0], 0.5)
    assert opened(copied, stories=2).stimulus.words == ("。", "好")
    (copied / TIMES).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*story_2_word_time\.mat; get it from"
    ):
        opened(copied)


def test_a_wrong_tr_is_refused(tmp_path):
    simulate_smn4lang(tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, header_tr=2.0)
    with pytest.raises(
        ValueError, match=r"run-1_bold.* has a TR of 2 s where the release has 0.71 s"
    ):
        opened(tmp_path).load("01")
    assert opened(tmp_path, tr=0.71).load("01").meta["tr"] == pytest.approx(0.71)
