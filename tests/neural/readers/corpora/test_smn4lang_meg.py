"""The MEG of SMN4Lang: epochs around words, by the triggers beside the recordings."""

import shutil
import sys

import numpy as np
import pytest
import scipy.io
from simulate.smn4lang_meg import simulate_smn4lang_meg, write_events

from brainalign_jax.neural.downloads import release_info
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.corpora import smn4lang_meg

WORDS = tuple(("星星", "很", "美丽", "我们", "看", "它", "今天")[row % 7] for row in range(60))
VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 3))
MEG = "derivatives/preprocessed_data/sub-02/MEG"


def opened(folder, **options):
    return open_dataset("smn4lang_meg", folder, **{"decim": 1, **options})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two people and two stories, that no test changes."""
    pytest.importorskip("mne", reason="needs MNE-Python: pip install 'brainalign_jax[mne]'")
    folder = tmp_path_factory.mktemp("corpus") / "ds004078"
    return folder, simulate_smn4lang_meg(folder, words=WORDS, vectors=VECTORS)


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy to change."""
    return shutil.copytree(simulated[0], tmp_path / "copy")


def clock_error(folder, onsets, subject="02", **options):
    """Seconds by which the clock in the first sensor is off the onset and the time in the epoch."""
    dataset = opened(folder, **options)
    epochs = dataset.epochs(subject)
    told = epochs.values[:, 0]
    due = dataset.stimulus.onsets[:, None] + epochs.times
    kept = epochs.valid
    # The sensors' scale is not the clock's: one factor for all words and times.
    factor = (told[kept] * due[kept]).sum() / np.square(told[kept]).sum()
    np.testing.assert_allclose(dataset.stimulus.onsets, onsets, atol=1e-9)
    return np.abs(factor * told[kept] - due[kept]).max(), epochs


def test_the_clock_in_a_sensor_comes_back_as_onset_and_time_and_a_sound_too_late_does_not(
    simulated, copied
):
    folder, onsets = simulated
    for subject in ("01", "02"):
        error, epochs = clock_error(folder, onsets, subject)
        assert error < 1e-3 and epochs.valid.all()
        assert epochs.channels == ("MEG0111", "MEG0112", "MEG0113", "MEG0121")
        assert np.isclose(epochs.times[[0, -1]], [-0.2, 0.8]).all()
    assert clock_error(folder, onsets, audio_delay=0.1)[0] > 0.03
    events = copied / MEG / "sub-02_task-RDR_run-1_events.tsv"
    write_events(events, 3.0, 15.6)  # half a second late
    assert clock_error(copied, onsets)[0] > 0.1


def test_words_runs_and_attributes_are_those_of_the_release(simulated):
    folder, onsets = simulated
    stimulus = opened(folder.parent, subjects="sub-01").stimulus
    assert stimulus.words[:8] == (*WORDS[:6], "今天。", "星星") and len(stimulus) == 60
    assert stimulus.run.tolist() == [1] * 30 + [2] * 30
    assert stimulus.attribute("story")[30] == "story_2" and stimulus.language == "zh"
    np.testing.assert_allclose(stimulus.durations, 0.3)
    story = opened(folder, stories=2, picks="grad", decim=2, window=(0.3, 0.4))
    assert story.load("01").values.shape == (30, 2)
    assert story.epochs("01").values.shape == (30, 2, 51)
    assert story.meta["decim"] == 2 and story.meta["stories"] == [2]
    np.testing.assert_allclose(story.stimulus.onsets, onsets[30:])


def test_what_is_resampled_is_not_thinned_unless_asked(simulated):
    rates = {}
    for options in ((), ("decim",), ("resample",), ("resample", "decim")):
        given = {name: {"decim": 2, "resample": 50.0}[name] for name in options}
        dataset = open_dataset("smn4lang_meg", simulated[0], stories=1, picks="grad", **given)
        rates[options] = round(1 / np.diff(dataset.epochs("01").times).mean())
    # The simulated release has 100 samples a second, the real one 1,000.
    assert list(rates.values()) == [10, 50, 50, 25]


def test_what_sensors_carry_is_found_at_its_delay(simulated):
    epochs = opened(simulated[0]).epochs("01")
    design = np.c_[VECTORS, np.ones(60)]

    def fit(start):
        values = epochs.mean((start, start + 0.1)).values[:, 1:]
        rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        return 1 - rest.var() / values.var()

    assert fit(0.3) > 0.5 and max(fit(-0.1), fit(0.1), fit(0.5)) < 0.4


def test_recordings_that_begin_late_leave_words_out_and_lost_starts_are_told_by_the_end(
    simulated, copied, monkeypatch
):
    import mne

    path = copied / MEG / "sub-02_task-RDR_run-1_meg.fif"
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error").crop(2.4)
    raw.save(path, overwrite=True, verbose="error")
    write_events(path.with_name("sub-02_task-RDR_run-1_events.tsv"), 0.1, 12.2)
    error, epochs = clock_error(copied, simulated[1])
    assert error < 1e-3 and np.flatnonzero(~epochs.valid).tolist() == [0]
    # The trigger of the start is lost, and the table has a wrong one.
    write_events(path.with_name("sub-02_task-RDR_run-1_events.tsv"), 6.1, 12.2)
    with pytest.raises(
        ValueError, match=r"run-1_events.tsv: from Beg to End are 6.1 s, and the words"
    ):
        opened(copied).epochs("02")
    monkeypatch.setattr(smn4lang_meg, "_LOST_STARTS", {("02", 1): 12.1})
    assert clock_error(copied, simulated[1])[0] < 1e-3


def test_what_is_wrong_is_said_in_a_line(simulated, copied):
    assert opened(copied).subjects == ("01", "02")
    events = copied / MEG / "sub-02_task-RDR_run-2_events.tsv"
    events.write_text("onset\ttrial_type\n1.0\tEnd\n")
    with pytest.raises(ValueError, match=r"run-2_events.tsv has 0 rows with trial_type 'Beg'"):
        opened(copied).epochs("02")
    events.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*run-2_events\.tsv; get it from"):
        opened(copied).epochs("02")
    recording = copied / MEG / "sub-02_task-RDR_run-1_meg.fif"
    recording.write_bytes(b"no recording")
    write_events(events, 3.0, 15.6)
    with pytest.raises(ValueError, match=r"run-1_meg\.fif breaks off or is damaged") as error:
        opened(copied).epochs("02")
    assert "\n" not in str(error.value)
    for options, message in (
        ({"decim": 0}, "at least 1"),
        ({"subjects": 13}, "unknown subject '13' of smn4lang_meg; known: 01, 02"),
        ({"stories": 61}, "stories is 61; give numbers from 1 to 60"),
        ({"audio_delay": np.inf}, "audio_delay=inf must be seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(copied, **options)
    with pytest.raises(ValueError, match="has no channels 'eeg'"):
        opened(copied, picks="eeg").epochs("01")
    times = copied / "derivatives/annotations/time_align/word-level/story_1_word_time.mat"
    scipy.io.savemat(times, {"word": np.array(["a"]), "start": [[1.0]], "end": [[2.0]]})
    with pytest.raises(ValueError, match="first word begins at 1 s, before the sound"):
        opened(copied)
    shutil.rmtree(copied / "derivatives/preprocessed_data/sub-01/MEG")
    shutil.rmtree(copied / MEG)
    with pytest.raises(FileNotFoundError, match="`brainalign fetch smn4lang_meg`"):
        opened(copied)


def test_what_is_fetched_is_what_is_read(simulated):
    release = {file.path for file in release_info("smn4lang_meg").files}
    written = {
        path.relative_to(simulated[0]).as_posix()
        for path in simulated[0].rglob("*")
        if path.is_file()
    }
    assert written < release and len(release) == 60 + 2 * 720


def test_without_mne_the_message_names_the_extra(tmp_path, monkeypatch):
    from simulate.smn4lang import write_times

    place = tmp_path / "derivatives/annotations/time_align/word-level"
    place.mkdir(parents=True)
    write_times(place / "story_1_word_time.mat", ["好", "看"], [11.0, 12.0], 0.5)
    own = tmp_path / "derivatives/preprocessed_data/sub-01/MEG"
    own.mkdir(parents=True)
    (own / "sub-01_task-RDR_run-1_meg.fif").write_bytes(b"")
    write_events(own / "sub-01_task-RDR_run-1_events.tsv", 1.0, 5.0)
    monkeypatch.setitem(sys.modules, "mne", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'brainalign_jax\[mne\]'"):
        opened(tmp_path).epochs("01")
