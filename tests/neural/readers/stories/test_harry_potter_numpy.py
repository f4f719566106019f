import numpy as np
import pytest

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.harry_potter import simulate_harry_potter

RAW = {"kind": "delay", "detrend": False, "standardize": False}


def release(folder, n_words=640, **settings):
    vectors = np.random.default_rng(0).standard_normal((n_words, 3))
    settings = {"n_subjects": 2, "n_voxels": 6, "layout": "numpy"} | settings
    return simulate_harry_potter(folder, words=story_words()[:n_words], vectors=vectors, **settings)


def test_trimmed_recordings_keep_their_times(tmp_path):
    simulation = release(tmp_path, trimmed=True, clock=True)
    schedule = simulation.schedule
    dataset = open_dataset("harry_potter", tmp_path, **RAW)
    assert len(dataset.stimulus) == 640  # of the whole text
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    with pytest.warns(UserWarning, match="does not cover the response to"):
        responses = dataset.load("H")
    late = responses.values[responses.valid, 0] - dataset.stimulus.onsets[responses.valid]
    # After the last volume, words are read from it for another half TR.
    assert (np.abs(late - 6.0) < 1e-4).mean() > 0.95 and (np.abs(late - 6.0) <= 1.0 + 1e-4).all()
    # 20 volumes of 2 s are gone at the start of a run, 15 at its end.
    for run in (1, 2, 3, 4):
        times = schedule.volume_times[schedule.volume_run == run]
        read_at = dataset.stimulus.onsets[dataset.stimulus.run == run] + 6.0
        inside = (read_at >= times[20]) & (read_at <= times[-16] + 1.0)
        np.testing.assert_array_equal(responses.valid[dataset.stimulus.run == run], inside)


@pytest.mark.parametrize("place", ["", "fMRI", "data/fMRI", "harry_potter/data/fMRI"])
@pytest.mark.parametrize("name", ["data_subject_F.npy", "data_F.npy"])
def test_places_and_names(tmp_path, place, name):
    simulation = release(tmp_path / place, n_words=60, n_subjects=1)
    simulation.paths[0].rename(simulation.paths[0].with_name(name))
    assert open_dataset("harry_potter", tmp_path).subjects == ("F",)


def test_both_layouts(tmp_path):
    release(tmp_path, n_words=60)
    release(tmp_path, n_words=60, layout="mat")
    assert open_dataset("harry_potter", tmp_path).subjects == ("1", "2")
    assert open_dataset("harry_potter", tmp_path, layout="mat").subjects == ("1", "2")
    numpy = open_dataset("harry_potter", tmp_path, layout="numpy")
    assert numpy.subjects == ("F", "H")
    # The same recordings in both.
    mat = open_dataset("harry_potter", tmp_path, layout="mat")
    np.testing.assert_array_equal(numpy.load("F").values, mat.load("1").values)
    assert numpy.stimulus.fingerprint() == mat.stimulus.fingerprint()
    (tmp_path / "data_F.npy").write_bytes((tmp_path / "data_subject_F.npy").read_bytes())
    with pytest.raises(ValueError, match=r"data_F\.npy and .*data_subject_F\.npy are both of"):
        open_dataset("harry_potter", tmp_path, layout="numpy")


def test_bytes_and_integers_are_fine(tmp_path):
    release(tmp_path, n_words=60)
    words = np.load(tmp_path / "words_fmri.npy")
    np.save(tmp_path / "words_fmri.npy", np.char.encode(words, "utf-8"))
    np.save(tmp_path / "runs_fmri.npy", np.load(tmp_path / "runs_fmri.npy").astype(np.uint8))
    dataset = open_dataset("harry_potter", tmp_path)
    assert dataset.stimulus.words == tuple(words)
    assert dataset.stimulus.run.dtype == np.int32
    assert dataset.load("F").space is None


@pytest.mark.parametrize("name", ["words_fmri", "data_subject_F", "time_fmri"])
def test_pickles_are_refused_with_the_remedy(tmp_path, name):
    release(tmp_path, n_words=60)
    path = tmp_path / f"{name}.npy"
    np.save(path, np.load(path).astype(object), allow_pickle=True)
    message = rf"{name}\.npy holds Python objects .a pickle.*numpy\.save\('{name}\.npy', numpy\.arr"
    with pytest.raises(ValueError, match=message):
        open_dataset("harry_potter", tmp_path)
    # The remedy works.
    np.save(path, np.array(np.load(path, allow_pickle=True).tolist()))
    assert len(open_dataset("harry_potter", tmp_path).stimulus) == 60


def test_bare_pickles_archives_and_damage(tmp_path):
    import pickle

    release(tmp_path, n_words=60)
    path = tmp_path / "words_fmri.npy"
    good = path.read_bytes()
    path.write_bytes(pickle.dumps(["a", "b"]))
    with pytest.raises(ValueError, match=r"words_fmri\.npy holds Python objects"):
        open_dataset("harry_potter", tmp_path)
    with path.open("wb") as file:
        np.savez(file, words=np.array(["a"]))
    with pytest.raises(ValueError, match="is an archive of arrays"):
        open_dataset("harry_potter", tmp_path)
    for share in (0.0, 0.02, 0.5, 0.99):
        path.write_bytes(good[: int(share * len(good))])
        with pytest.raises(ValueError, match=r"words_fmri\.npy cannot be read as a NumPy array"):
            open_dataset("harry_potter", tmp_path)
    path.write_bytes(good)
    data = tmp_path / "data_subject_F.npy"
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"data_subject_F\.npy cannot .*truncated.*get it again"):
        open_dataset("harry_potter", tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("words_fmri", lambda a: a[:50], r"time_words_fmri\.npy has 60 times for the 50 words"),
        (
            "words_fmri",
            lambda a: np.arange(60.0),
            r"words_fmri\.npy has shape \(60,\) and dtype float",
        ),
        ("words_fmri", lambda a: np.where(np.arange(60) == 4, " ", a), "word 4 of 60 is blank"),
        ("words_fmri", lambda a: a.reshape(2, 30), r"shape \(2, 30\).*vector of strings"),
        ("words_fmri", lambda a: np.full(60, b"\xff"), "words that are no text"),
        ("words_fmri", lambda a: a.astype("U12").view("<u4") | 0x04000000, r"shape \(720,\)"),
        (
            "words_fmri",
            lambda a: (a.view("<u4") | 0x04000000).view(a.dtype),
            "no text .code points",
        ),
        ("words_fmri", lambda a: (a.view("<u4") | 0xD800).view(a.dtype), "no text .code points"),
        ("words_fmri", lambda a: a.astype(">U12"), None),
        ("time_words_fmri", lambda a: a[::-1], "the onsets are not sorted: word 0"),
        ("time_words_fmri", lambda a: a * np.nan, r"time_words_fmri\.npy: entry 0 is not finite"),
        ("time_words_fmri", lambda a: a[:, None], r"shape \(60, 1\).*vector of numbers"),
        ("time_fmri", lambda a: a[:-1], r"runs_fmri\.npy must have one whole run number for each"),
        ("runs_fmri", lambda a: a + 0.5, "one whole run number"),
        ("runs_fmri", lambda a: np.roll(a, 5), "the runs overlap|do not increase"),
        (
            "data_subject_F",
            lambda a: a[:-3],
            r"data_subject_F\.npy: data has shape \(73, 6\).*with 76",
        ),
        ("data_subject_F", lambda a: a.astype(str), "not numbers"),
        ("data_subject_F", lambda a: a[0], "data has shape"),
    ],
)
def test_other_contents(tmp_path, name, change, message):
    release(tmp_path, n_words=60)
    path = tmp_path / f"{name}.npy"
    np.save(path, change(np.load(path)))
    if message is None:
        assert open_dataset("harry_potter", tmp_path).stimulus.words == story_words()[:60]
        return
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("harry_potter", tmp_path)
    assert ".npy" in str(info.value)


def test_a_wrong_number_of_volumes_names_both_numbers(tmp_path):
    release(tmp_path, trimmed=True)
    path = tmp_path / "data_subject_F.npy"
    np.save(path, np.load(path)[1:])
    with pytest.raises(ValueError, match=r"shape \(79, 6\); .* with 220 or 80 volumes"):
        open_dataset("harry_potter", tmp_path)


def test_missing_files(tmp_path):
    release(tmp_path, n_words=60)
    for path in tmp_path.glob("data_*.npy"):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(FileNotFoundError, match=r"data_subject_\*\.npy beside words_fmri\.npy"):
        open_dataset("harry_potter", tmp_path)
    release(tmp_path, n_words=60)
    (tmp_path / "runs_fmri.npy").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"runs_fmri\.npy; get it from .*brain_language_nlp"
    ):
        open_dataset("harry_potter", tmp_path)
