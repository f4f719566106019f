import numpy as np
import pytest

from brainalign_jax.neural.readers.stories.story import (
    Story,
    asked_names,
    check_scans,
    number_of,
    sentences_by_pause,
    subject_files,
    text_of,
)


def test_subjects_are_sorted_as_numbers_and_come_from_one_folder(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in (
        "inner/subject_10.mat",
        "inner/subject_2.mat",
        "inner/subject_b.mat",
        "inner/x.mat",
    ):
        (tmp_path / name).touch()
    files = subject_files(tmp_path, ("", "inner", "other"), r"subject_(\w+)\.mat")
    assert list(files) == ["2", "10", "b"]
    assert files["10"] == tmp_path / "inner" / "subject_10.mat"
    assert subject_files(tmp_path / "nowhere", ("",), r"(.*)") == {}
    with pytest.raises(ValueError, match="are both of subject mat; move one away"):
        subject_files(tmp_path, ("inner",), r".*\.(mat)")


def test_names_of_subjects():
    assert asked_names(None) is None
    for subject in (3, "3", "subject_3", np.int64(3), [3], ("subject_3",)):
        assert asked_names(subject) == ["3"]


def test_text_and_numbers_as_scipy_nests_them():
    assert text_of(np.array(["word "])) == "word"
    assert text_of(np.array([], "U1")) == ""
    assert number_of(np.array([[7]], np.uint8)) == 7.0
    for cell in ("word", np.array(["a", "b"]), np.array([["a"]]), np.array([1.0]), None):
        with pytest.raises(ValueError, match="not one string"):
            text_of(cell)
    for cell in (1.0, np.array([1.0]), np.ones((1, 2)), np.array([["1"]]), np.array([[True]])):
        with pytest.raises(ValueError, match="not a 1x1 matrix"):
            number_of(cell)


def story(**changes):
    fields = {
        "words": ("a", "b", "c"),
        "onsets": np.array([1.0, 2.0, 5.0]),
        "durations": None,
        "times": np.array([0.0, 2.0, 4.0, 6.0]),
        "run": np.array([1, 1, 2, 2]),
        "path": "x.mat",
    }
    return Story(**{**fields, **changes})


def test_words_are_in_the_run_in_which_they_begin():
    np.testing.assert_array_equal(story().word_runs(), [1, 1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": ("a", " ", "c")}, "word 1 of 3 is blank"),
        ({"words": ("a", "b")}, r"2 words with onsets of shape \(3,\)"),
        ({"run": np.ones(3)}, "4 volume times with 3 run labels"),
        ({"onsets": np.array([1.0, np.inf, 5.0])}, "the onset of word 1 is inf"),
        (
            {"onsets": np.array([1.0, 5.0, 2.0])},
            "not sorted: word 1 .'b'. begins at 5 s and word 2",
        ),
        ({"durations": np.array([0.5, 0.5, np.nan])}, "the duration of word 2 is nan"),
        ({"durations": np.array([0.5, -0.5, 0.5])}, "the duration of word 1 is -0.5 s"),
        ({"times": np.array([0.0, np.nan, 4.0, 6.0])}, "the time of volume 1 is nan"),
        (
            {"times": np.array([0.0, 2.0, 6.0, 6.0])},
            "do not increase within run 2: volume 2 is at 6",
        ),
        ({"run": np.array([1, 1, 1, 2])}, "run 2 has one volume only"),
    ],
)
def test_contradictions_name_the_file(changes, message):
    with pytest.raises(ValueError, match=message) as info:
        story(**changes)
    assert str(info.value).startswith("x.mat: ")


def test_shape_of_the_scans():
    check_scans((8, 3), [8, 6], "x.npy")
    check_scans((6, 3), [8, 6], "x.npy")
    for shape in ((7, 3), (8,), (8, 0), (8, 3, 1)):
        with pytest.raises(ValueError, match=r"x\.npy: data has shape .* with 8 or 6 volumes"):
            check_scans(shape, [8, 6], "x.npy")


def test_sentences_by_pause():
    onsets = np.arange(10.0)
    offsets = onsets + 0.9
    offsets[3], offsets[6] = 3.3, 6.6  # pauses of 0.7 and 0.4 s
    assert sentences_by_pause(onsets, offsets).tolist() == [0] * 4 + [1] * 6
    # Six words with a cap of five are cut at their longest pause, the one after word 6.
    capped = sentences_by_pause(onsets, offsets, max_words=5)
    assert capped.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    even = sentences_by_pause(np.arange(8.0), np.arange(8.0) + 1, max_words=4)
    assert even.tolist() == [0] * 4 + [1] * 4
    single = sentences_by_pause(onsets, offsets, max_words=1)
    assert single.tolist() == list(range(10))
    with pytest.raises(ValueError, match="must be positive"):
        sentences_by_pause(onsets, offsets, pause=0.0)
