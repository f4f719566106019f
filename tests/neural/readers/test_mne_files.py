"""Epochs and recordings that MNE-Python reads."""

import re
import struct
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brainalign_jax.neural.readers import mne_files, open_dataset

WORDS = [f"word{number}" for number in range(12)]
RATE = 100.0


def test_without_mne_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    (tmp_path / "S1-epo.fif").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'brainalign_jax\[mne\]'"):
        open_dataset("mne", tmp_path)


@pytest.fixture(scope="module")
def mne():
    return pytest.importorskip("mne", reason="needs MNE-Python: pip install 'brainalign_jax[mne]'")


@pytest.fixture(scope="module")
def recording(mne):
    """A recording of 30 s with a word each 2 s, two types of channels."""
    info = mne.create_info(["M1", "M2", "E1"], RATE, ["mag", "mag", "eeg"])
    values = np.random.default_rng(0).standard_normal((3, 3000)) * [[1e-13], [1e-13], [1e-6]]
    return mne.io.RawArray(values, info, verbose="error")


def words_table(path, **columns):
    table = {"onset": 1.0 + 2.0 * np.arange(12), "word": WORDS, **columns}
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)


def epochs_of(mne, recording, dropped=()):
    samples = (RATE * (1.0 + 2.0 * np.arange(12))).astype(int)
    events = np.column_stack([samples, 0 * samples, 0 * samples + 1])
    metadata = pd.DataFrame(
        {"word": WORDS, "onset": samples / RATE, "sentence": ["a"] * 6 + ["b"] * 6}
    )
    options = dict(tmin=-0.1, tmax=0.5, baseline=None, preload=True, verbose="error")
    epochs = mne.Epochs(recording, events, metadata=metadata, **options)
    return epochs.drop(list(dropped), verbose="error")


def scaled(values):
    """Each type of channel at a root mean square of one."""
    for part in (slice(0, 2), slice(2, 3)):
        values[:, part] /= np.sqrt(np.square(values[:, part]).mean())
    return values


def test_epochs_and_recordings_give_the_same(mne, recording, tmp_path):
    epochs = epochs_of(mne, recording)
    epochs.save(tmp_path / "S1-epo.fif", verbose="error", overwrite=True)
    recording.save(tmp_path / "S1_raw.fif", verbose="error", overwrite=True)
    words_table(tmp_path / "words.tsv", sentence=["a"] * 6 + ["b"] * 6)
    saved = open_dataset("mne", tmp_path)
    assert saved.subjects == ("S1",) and saved.stimulus.words == tuple(WORDS)
    assert saved.stimulus.onsets[1] == 3.0 and saved.stimulus.sentence.tolist() == [0] * 6 + [1] * 6
    read = saved.epochs("S1")
    np.testing.assert_allclose(
        read.values, scaled(epochs.get_data(copy=True)), rtol=1e-4, atol=1e-4
    )
    assert read.channels == ("M1", "M2", "E1") and np.isclose(read.times[0], -0.1)
    options = dict(raw="{subject}_raw.fif", words="words.tsv", tmin=-0.1, tmax=0.5)
    cut = open_dataset("mne", tmp_path, **options).epochs("S1")
    np.testing.assert_allclose(cut.values, read.values, rtol=1e-3, atol=1e-3)
    less = dict(picks="mag", tmin=0.0, decim=2, baseline=(0.0, 0.1), window=(0.0, 0.2))
    dataset = open_dataset("mne", tmp_path, **less)
    assert dataset.load("S1").values.shape == (12, 2)
    assert dataset.epochs("S1").values.shape == (12, 2, 26)


def test_samples_left_out_of_what_was_not_filtered_are_warned_of(mne, recording, tmp_path):
    words_table(tmp_path / "words.tsv")
    words = {"words": "words.tsv"}
    message = (
        r"holds up to 50 Hz, and decim=4 leaves 25 samples a second, .* give resample=25 in place"
    )
    for raw in (recording, recording.copy().filter(None, 10, verbose="error")):
        raw.save(tmp_path / "S1_raw.fif", verbose="error", overwrite=True)
        epochs_of(mne, raw).save(tmp_path / "S1-epo.fif", verbose="error", overwrite=True)
        for options in ({"decim": 4}, {"decim": 4, "raw": "{subject}_raw.fif"}):
            dataset = open_dataset("mne", tmp_path, **words, **options)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                dataset.epochs("S1")
            said = [str(w.message) for w in caught if "decim" in str(w.message)]
            assert len(said) == (raw is recording), said
            assert all(re.search(message, text) and "\n" not in text for text in said)
    with pytest.warns(UserWarning, match="holds up to 20 Hz, and decim=2 leaves 20 samples"):
        recording.save(tmp_path / "S1_raw.fif", verbose="error", overwrite=True)
        both = dict(raw="{subject}_raw.fif", decim=2, resample=40.0, **words)
        open_dataset("mne", tmp_path, **both).epochs("S1")


def test_rejected_epochs_leave_their_words_out(mne, recording, tmp_path):
    for subject, dropped in (("S1", [3]), ("S2", [])):
        epochs_of(mne, recording, dropped).save(
            tmp_path / f"{subject}_epo.fif", verbose="error", overwrite=True
        )
    with pytest.raises(ValueError, match=r"S2_epo\.fif has 12 words and .*S1_epo\.fif 11"):
        open_dataset("mne", tmp_path)
    words_table(tmp_path / "words.tsv")
    dataset = open_dataset("mne", tmp_path, words="words.tsv")
    assert np.flatnonzero(~dataset.epochs("S1").valid).tolist() == [3]
    assert dataset.epochs("S2").valid.all()
    assert (dataset.epochs("S1").values[4] != 0).any()


class _Epochs(list):
    """Three epochs that MNE kept of events 1, 2 and 4, the first event being no word."""

    selection = np.array([1, 2, 4])
    drop_log = (("IGNORED",), (), (), ("M1",), (), ("M1",))


def test_events_that_are_no_words_do_not_move_the_words_of_rejected_epochs():
    epochs = _Epochs("abc")
    assert mne_files.rows_of_epochs(epochs, 5, "S1").tolist() == [0, 1, 3]
    assert mne_files.rows_of_epochs(epochs, 6, "S1").tolist() == [1, 2, 4]  # a word for every event
    with pytest.raises(ValueError, match="S1 holds 3 epochs for 7 words, of 5 events; give one"):
        mne_files.rows_of_epochs(epochs, 7, "S1")


def tag(kind, content=b"", following=0):
    return struct.pack(">4i", kind, 3, len(content), following) + content


def test_files_cut_between_two_values_are_damaged(tmp_path):
    """MNE reads what is left of them, as of files cut within one."""
    path, opened = tmp_path / "S1_raw.fif", tag(104, b"1234") + tag(300, b"12345678")
    closed = opened + tag(300, b"12345678") + tag(105, b"1234")
    for whole in (closed, closed + tag(108, following=-1)):
        path.write_bytes(whole)
        mne_files.check_whole(path)
    for cut in (b"", opened, closed[:-1], closed + tag(108, following=-1)[:9]):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=r"S1_raw\.fif breaks off"):
            mne_files.check_whole(path)


def test_later_parts_of_recordings_that_were_split_are_looked_at(tmp_path):
    paths = [tmp_path / "S1_raw.fif", tmp_path / "S1_raw-1.fif"]
    paths[0].write_bytes(tag(108, following=-1))
    paths[1].write_bytes(tag(104, b"1234"))
    read = SimpleNamespace(filenames=(*paths, None))
    with pytest.raises(ValueError, match=r"S1_raw-1\.fif breaks off"):
        mne_files._read(lambda path, verbose: read, paths[0], "a recording")


def test_what_is_wrong_is_said_in_a_line(mne, recording, tmp_path):
    (tmp_path / "S1-epo.fif").write_bytes(b"no epochs")
    with pytest.raises(ValueError, match=r"S1-epo\.fif breaks off or is damaged at byte 0"):
        open_dataset("mne", tmp_path)
    epochs = epochs_of(mne, recording)
    epochs.metadata = None
    epochs.save(tmp_path / "S1-epo.fif", verbose="error", overwrite=True)
    with pytest.raises(ValueError, match=r"no metadata: give words=, a table with a row an epoch"):
        open_dataset("mne", tmp_path)
    words_table(tmp_path / "words.tsv")
    short = pd.read_csv(tmp_path / "words.tsv", sep="\t").iloc[:5]
    short.to_csv(tmp_path / "short.tsv", sep="\t", index=False)
    cases = [
        ({"words": "short.tsv"}, "holds 12 epochs for 5 words"),
        ({"picks": "ecog"}, "has no channels 'ecog'"),
        ({"tmin": 3.0}, "cannot be cut to tmin=3.0"),
        (
            {"baseline": (-5.0, 0.0)},
            r"S1-epo\.fif: baseline=-5:0 is no stretch of the epochs, which",
        ),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            open_dataset("mne", tmp_path, **{"words": "words.tsv", **options}).epochs("S1")
        assert "\n" not in str(error.value)
    recording.copy().crop(0, 9).save(tmp_path / "S1_raw.fif", verbose="error", overwrite=True)
    late = open_dataset("mne", tmp_path, raw="{subject}_raw.fif", words="words.tsv")
    with pytest.raises(ValueError, match="the last word begins at 23 s, the recording ends at 9 s"):
        late.epochs("S1")


def test_options_that_contradict_one_another_are_refused(tmp_path):
    for options, message in (
        ({"raw": "a.fif"}, "raw= needs words="),
        ({"raw": "a.fif", "epochs": "b.fif"}, "both given"),
        ({"decim": 0}, "at least 1"),
        ({"resample": 0.0}, "above 0 Hz"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset("mne", tmp_path, **options)
    with pytest.raises(FileNotFoundError, match="name the files with epochs= or raw="):
        open_dataset("mne", tmp_path)
    assert mne_files.SUBJECT == "{subject}"
