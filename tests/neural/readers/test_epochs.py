"""Tables with a time axis: what they hold, in both forms, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest
from small_releases import WORDS, write_epochs

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout import EpochedResponses, Window
from brainalign_jax.stimulus import Stimulus

TIMES = 0.01 * np.arange(-2, 8)


def expected(number):
    values = np.random.default_rng(number).standard_normal((len(WORDS), 5, len(TIMES)))
    return values.astype(np.float32)


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_both_forms_give_the_epochs_and_their_means(tmp_path, ending):
    write_epochs(tmp_path / "data", ending)
    dataset = open_dataset("epochs", tmp_path / "data", window=(0.0, 0.03))
    assert dataset.subjects == ("P01", "P02") and dataset.stimulus.words == tuple(WORDS)
    epochs = dataset.epochs("P02")
    np.testing.assert_array_equal(epochs.values, expected(2))
    np.testing.assert_allclose(epochs.times, TIMES)
    mean = dataset.load("P02")
    np.testing.assert_allclose(mean.values, expected(2)[:, :, 2:5].mean(axis=2), atol=1e-6)
    assert mean.meta["feature_names"] == list(epochs.channels) and len(epochs.channels) == 5
    whole = open_dataset("epochs", tmp_path / "data", subjects="P01").load("P01")
    np.testing.assert_allclose(whole.values, expected(1).mean(axis=2), atol=1e-6)


def test_one_file_may_hold_several_subjects(tmp_path):
    words = np.array(["sun", "moon", "star"])
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    valid = np.array([[True, True, False], [True, True, True]])
    values[0, 2] = np.nan
    np.savez(
        tmp_path / "all.npz",
        responses=values,
        times=np.arange(5) / 10,
        words=words,
        subjects=np.array(["A", "B"]),
        channels=np.array(list("abcd")),
        valid=valid,
    )
    dataset = open_dataset("epochs", tmp_path / "all.npz")
    first, second = map(dataset.epochs, dataset.subjects)
    assert first.valid.tolist() == [True, True, False] and not first.values[2].any()
    np.testing.assert_allclose(second.values, values[1].astype(np.float32))
    assert second.channels == tuple("abcd") and dataset.stimulus.onsets is None
    table = pd.DataFrame({"epoch": np.repeat([0, 1, 2, 0, 1, 2], 5), "time": np.tile(TIMES[:5], 6)})
    table["word"], table["subject"] = np.tile(np.repeat(words, 5), 2), np.repeat([1, 2], 15)
    table.assign(EEG1=np.arange(30.0)).to_parquet(tmp_path / "all.parquet")
    dataset = open_dataset("epochs", tmp_path / "all.parquet")
    assert dataset.subjects == ("1", "2")
    np.testing.assert_array_equal(dataset.epochs("2").values.ravel(), np.arange(15, 30))


def test_a_table_says_which_epochs_were_rejected(tmp_path):
    table = pd.DataFrame({"epoch": np.repeat([0, 1, 2], 5), "time": np.tile(TIMES[:5], 3)})
    table["word"], table["EEG1"] = np.repeat(["sun", "moon", "star"], 5), np.arange(15.0)
    table["valid"] = np.repeat([True, False, True], 5)
    table.to_parquet(tmp_path / "S1.parquet")
    epochs = open_dataset("epochs", tmp_path).epochs("S1")
    assert epochs.valid.tolist() == [True, False, True] and not epochs.values[1].any()
    assert epochs.channels == ("EEG1",)
    table.assign(valid="no").to_parquet(tmp_path / "S1.parquet")
    with pytest.raises(
        ValueError, match=r"S1\.parquet: the column 'valid' holds object; give true"
    ):
        open_dataset("epochs", tmp_path).epochs("S1")


def test_bad_epochs_may_be_left_out(tmp_path):
    values = np.ones((3, 2, 4))
    values[1, 0, 2] = np.nan
    arrays = {"times": np.arange(4) / 10, "words": np.array(["sun", "moon", "star"])}
    np.savez(tmp_path / "S1.npz", responses=values, **arrays)
    message = r"S1\.npz: .* 1 of 3 epochs hold NaN.* that of word 2 \('moon'\).*bad_epochs=drop"
    with pytest.raises(ValueError, match=message):
        open_dataset("epochs", tmp_path).load("S1")
    dropped = open_dataset("epochs", tmp_path, bad_epochs="drop").epochs("S1")
    assert dropped.valid.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": None}, "has no array 'times'; without times it is a data set `table`"),
        ({"times": np.array([0.0, 0.2, 0.1, 0.3])}, "do not increase: 0.2 s is followed by 0.1 s"),
        ({"times": np.array([0.0, 0.1, 0.2, 0.9])}, "resample the epochs to equal steps"),
        ({"times": np.arange(3.0)}, r"times have shape \(3,\) .* for 4 samples"),
        ({"words": np.array(["sun", "moon"])}, "3 epochs for 2 words; give one epoch a word"),
        ({"channels": np.array(["a"])}, "1 names for 2 channels"),
        ({"responses": np.ones((3, 2))}, r"give numbers \[words, channels, times\]"),
        ({"voxels": np.ones(3)}, "has an array 'voxels'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, changes, message):
    arrays = {
        "responses": np.ones((3, 2, 4)),
        "times": np.arange(4) / 10,
        "words": np.array(["sun", "moon", "star"]),
    }
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(tmp_path / "S1.npz", **arrays)
    with pytest.raises(ValueError, match=rf"S1\.npz.*{message}") as error:
        open_dataset("epochs", tmp_path).load("S1")
    assert "\n" not in str(error.value)


def test_windows_lie_in_the_epoch_as_a_whole():
    words = Stimulus.from_words(["sun", "moon"])
    times = -0.1 + 0.01 * np.arange(60)
    epochs = EpochedResponses("S", np.ones((2, 3, len(times))), times, words, tuple("abc"))
    windows = epochs.windows(0.2, 0.1)
    np.testing.assert_allclose(
        windows, [(-0.1 + 0.1 * place, 0.1 + 0.1 * place) for place in range(5)]
    )
    assert Window(0.0, 0.1).middle == 0.05
    assert np.isclose(epochs.length, 0.6)
    with pytest.raises(ValueError, match=r"0\.7 s is longer than the epoch, which is 0\.6 s"):
        epochs.windows(0.7, 0.1)
    with pytest.raises(ValueError, match="finer than the samples"):
        epochs.windows(0.001, 0.1)
    with pytest.raises(ValueError, match="no sample lies in the window"):
        epochs.mean((2.0, 3.0))
    with pytest.raises(ValueError, match="ends before it starts"):
        open_dataset("epochs", ".", window=(0.2, 0.1))
