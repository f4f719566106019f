"""Damaged and foreign files of the Harry Potter layouts; see test_harry_potter.py for sound ones."""

import warnings

import numpy as np
import pytest
import scipy.io
from potter_files import LAYOUTS, read_words, release, rewrite

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.stories.harry_potter import open_mat


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95])
def test_truncated_mat(potter, share, compressed):
    path = potter / "subject_1.mat"
    if not compressed:
        rewrite(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"subject_1\.mat.*(truncated|damaged).*get it again"):
        open_dataset("harry_potter", potter)


def test_garbage_and_missing(potter, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"subject_\*\.mat or words_fmri\.npy; .*theo-73"):
        open_dataset("harry_potter", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"words_fmri\.npy; .*brain_language_nlp"):
        open_dataset("harry_potter", potter, layout="numpy")
    with pytest.raises(ValueError, match="unknown layout='csv'; known: mat, numpy"):
        open_dataset("harry_potter", potter, layout="csv")
    with pytest.raises(FileNotFoundError, match=r"subject_8\.mat"):
        open_mat(potter / "subject_8.mat", "8")
    (potter / "subject_1.mat").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(ValueError, match=r"subject_1\.mat.*damaged.*get it again"):
        open_dataset("harry_potter", potter)


def cells(words):
    """The words of the file, with one of them replaced."""
    changed = words.copy()
    changed[0, 3] = words[0, 3].copy()
    return changed


def with_word(field, value):
    def change(words):
        changed = cells(words)
        changed[0, 3][field] = value
        return changed

    return change


def inside(text):
    cell = np.empty((1, 1), object)
    cell[0, 0] = text
    return cell


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "no variable 'data'"),
        ({"words": None}, "no variable 'words'"),
        ({"time": None}, "no variable 'time'"),
        ({"time": np.zeros((5, 3))}, r"time has shape \(5, 3\)"),
        ({"time": np.full((5, 2), np.nan)}, "time holds NaN"),
        ({"time": np.column_stack([np.arange(30) * 2.0, np.full(30, 1.5)])}, "no numbers of runs"),
        (
            {"data": np.zeros((5, 7))},
            r"data has shape \(5, 7\); expected \[volumes, voxels\] with 3",
        ),
        ({"data": "text"}, "data has shape"),
        ({"words": np.zeros((1, 5176))}, r"words has shape \(1, 5176\) and dtype float64"),
        ({"words": {"text": "flat", "start": 1.0, "length": 0.5}}, "word 0 is nested in"),
        ({"words": with_word("text", inside(""))}, "word 3 of 60 is blank"),
        ({"words": with_word("text", inside(np.eye(2)))}, "word 3 .*shape .2, 2.* not one string"),
        ({"words": with_word("start", np.ones((2, 2)))}, "word 3 .*not a 1x1 matrix"),
        ({"words": with_word("start", np.array([[np.nan]]))}, "the onset of word 3 is nan"),
        (
            {"words": with_word("text", inside(np.array(["a", "b"])))},
            r"shape \(2,\).* not one string",
        ),
        ({"words": with_word("length", np.array([[-1.0]]))}, "the duration of word 3 is -1 s"),
        ({"words": with_word("length", np.array([[np.nan]]))}, "the duration of word 3 is nan"),
        ({"words": with_word("start", np.array([[7.5]]))}, "not sorted: word 3 .*7.5 s and word 4"),
        ({"words": with_word("start", np.array([[-3.0]]))}, "not sorted: word 2 "),
    ],
)
def test_other_contents(potter, changes, message):
    path = potter / "subject_1.mat"
    for name, value in changes.items():
        if callable(value):
            changes = {name: value(read_words(path))}
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("harry_potter", potter).load("1")
    assert "subject_1.mat" in str(info.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: np.column_stack([t[:, 0] - 70 * (t[:, 1] == 2), t[:, 1]]),
            "runs overlap.*one cl",
        ),
        (
            lambda t: np.column_stack([t[::-1, 0], t[:, 1]]),
            "do not increase within run 1: volume 0",
        ),
        (lambda t: np.column_stack([t[:, 0], np.arange(len(t)) % 2]), "the runs overlap"),
        (lambda t: np.column_stack([t[:, 0], np.arange(len(t)) == 5]), "run 1 has one volume only"),
        (lambda t: np.column_stack([t[:, 0] + 500, t[:, 1]]), "60 words begin outside every run"),
    ],
)
def test_other_clocks(potter, change, message):
    path = potter / "subject_1.mat"
    rewrite(path, time=change(scipy.io.loadmat(path)["time"]))
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("harry_potter", potter)
    assert "subject_1.mat" in str(info.value)


def test_words_outside_the_runs(potter):
    path = potter / "subject_1.mat"
    words = read_words(path)
    words[0][59][1] = np.array([[9000.0]])
    rewrite(path, words=words)
    with pytest.raises(ValueError, match="1 words begin outside every run, the first is word 59"):
        open_dataset("harry_potter", potter)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bytes_end_in_an_error_or_in_all_words(tmp_path, layout):
    settings = {"n_words": 32, "n_runs": 2, "n_voxels": 5, "n_subjects": 1}
    simulation = release(tmp_path, layout=layout, **settings)
    good = open_dataset("harry_potter", tmp_path).stimulus
    rng = np.random.default_rng(1)
    paths = sorted(path for path in tmp_path.iterdir())
    refused = 0
    for trial in range(20):
        path = paths[trial % len(paths)]
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = open_dataset("harry_potter", tmp_path)
                dataset.load(dataset.subjects[0])
            assert abs(len(dataset.stimulus) - len(good)) <= 1  # a "+" may have become a word
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            names = [path.name for path in (*simulation.paths, *paths)] + ["*_fmri.npy"]
            assert any(name in str(error) for name in names), error
        path.write_bytes(content)
    assert refused > 0
