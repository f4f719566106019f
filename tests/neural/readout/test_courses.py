import numpy as np
import pytest

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout import Processing, TimeCourses, read_time_courses
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.neural.simulate import simulate_nifti, story_words
from brainalign_jax.stimulus import Stimulus


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    words = story_words()[:120]
    vectors = np.random.default_rng(0).standard_normal((120, 4))
    return folder, simulate_nifti(folder, words=words, vectors=vectors, n_subjects=2, n_runs=3)


def test_time_courses_are_the_cleaned_scans(scans):
    folder, made = scans
    dataset = open_dataset(
        "nifti", folder, image="sub-{subject}/run-*_bold.nii.gz", high_pass=0.01, language="en"
    )
    courses = dataset.time_courses("2")
    run = made.schedule.volume_run
    want = clean_runs(made.stored(1).astype(float), run, tr=2.0, high_pass=0.01)
    np.testing.assert_allclose(courses.values, want, atol=1e-5)
    assert courses.subject == "2" and courses.stimulus.language == "en"
    assert (courses.run == run).all() and courses.space.same_as(made.space)
    assert len(courses.times) == len(run) and courses.meta["cleaning"]["high_pass"] == 0.01
    # Word responses are still what `load` gives.
    assert dataset.load("2").values.shape == (120, 60)


def test_constant_voxels_are_left_out_and_counted():
    rng = np.random.default_rng(0)
    bold = rng.standard_normal((40, 5))
    bold[:, 1], bold[3, 4] = 7.0, np.nan
    words = Stimulus(("a", "b"), onsets=np.array([3.0, 8.0]))
    recording = BoldRecording(
        "S", bold, 2.0 * np.arange(40), np.zeros(40, int), feature_names=tuple("abcde")
    )
    with pytest.warns(UserWarning, match="are constant.*dropped"):
        courses = read_time_courses(recording, words, Processing(), meta={})
    assert courses.feature_names == ("a", "c", "d") and courses.n_dropped == 2
    assert courses.values.shape == (40, 3)


def test_large_offsets_cost_no_digits():
    rng = np.random.default_rng(0)
    bold = rng.standard_normal((40, 3)) * 1e-3 + 1e6
    words = Stimulus(("a", "b"), onsets=np.array([3.0, 8.0]))
    recording = BoldRecording("S", bold, 2.0 * np.arange(40), np.zeros(40, int))
    plain = Processing(detrend=False, standardize=False)
    courses = read_time_courses(recording, words, plain, meta={})
    np.testing.assert_allclose(courses.values, bold - bold.mean(axis=0), atol=1e-8)


def test_what_cannot_be_is_told():
    words = Stimulus(("a",), onsets=np.zeros(1))
    fields = dict(subject="S", times=np.arange(4.0), run=np.zeros(4, int), stimulus=words)
    with pytest.raises(ValueError, match=r"subject S: times has 4 entries.*need 5"):
        TimeCourses(values=np.zeros((5, 2)), **fields)
    with pytest.raises(ValueError, match="no onsets"):
        TimeCourses(values=np.zeros((4, 2)), **fields | {"stimulus": Stimulus(("a",))})
    big = BoldRecording("S", np.broadcast_to(np.float32(0), (10**7, 10**7)), *[np.arange(2)] * 2)
    with pytest.raises(ValueError, match="read fewer voxels, with a mask or an atlas"):
        read_time_courses(big, words, Processing(), meta={})


def test_a_table_of_word_responses_has_none(tmp_path):
    (tmp_path / "S1.csv").write_text("word,a,b\nsun,1,2\nmoon,3,5\n")
    assert open_dataset("table", tmp_path).time_courses is None
