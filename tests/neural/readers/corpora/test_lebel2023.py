import json
import shutil
import warnings

import h5py
import numpy as np
import pytest
from recordings import PEAKED, assert_peaked
from simulate.lebel2023 import STORIES, simulate_lebel2023

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.corpora.lebel2023 import story_times
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel
from brainalign_jax.neural.simulate.bold import story_words

WORDS = tuple(word.lower() for word in story_words()[:180])
VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 3))
RAW = {"detrend": False, "standardize": False}
SOULS = "derivative/preprocessed_data/UTS03/souls.hf5"


def opened(folder, **options):
    return open_dataset("lebel2023", folder, **options)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two people and three stories, that no test changes."""
    folder = tmp_path_factory.mktemp("corpus") / "ds003020"
    return folder, simulate_lebel2023(folder, words=WORDS, vectors=VECTORS, seed=4)


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy to change."""
    return shutil.copytree(simulated[0], tmp_path / "copy")


def rewrite(path, change):
    with h5py.File(path, "r+") as file:
        values = change(file["data"][:])
        del file["data"]
        file["data"] = values


def test_words_onsets_and_values_come_back(simulated):
    folder, simulation = simulated
    dataset, schedule = opened(folder), simulation.schedule
    stimulus = dataset.stimulus
    assert dataset.subjects == ("UTS02", "UTS03") and stimulus.words == WORDS
    np.testing.assert_array_equal(stimulus.run, schedule.word_run)
    stories = [STORIES[run - 1] for run in schedule.word_run]
    assert stimulus.attribute("story").tolist() == stories
    np.testing.assert_array_equal(stimulus.attribute("section"), schedule.word_run)
    assert set(stimulus.attribute("language")) == {"en"}
    first = np.searchsorted(schedule.word_run, schedule.word_run)
    np.testing.assert_allclose(stimulus.onsets[first], 12.0)
    np.testing.assert_allclose(stimulus.durations, 0.4)
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=stimulus.durations, **timing
    )
    recorded = []
    for story in STORIES:
        with h5py.File(folder / f"derivative/preprocessed_data/UTS03/{story}.hf5") as file:
            recorded.append(file["data"][:])
    cleaned = clean_runs(np.concatenate(recorded), schedule.volume_run, tr=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses = dataset.load("UTS03")
    np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=1e-4)
    assert responses.valid.all() and responses.meta["tr"] == 2.0 and responses.space is None
    assert responses.meta["stories"] == list(STORIES)


def test_row_k_of_a_story_is_ten_and_two_k_seconds_into_its_sound():
    np.testing.assert_array_equal(story_times(4), [10, 12, 14, 16])
    np.testing.assert_allclose(story_times(2, 2.0045, 0.5), [11.04725, 13.05175])


def test_volume_times_come_back_as_onset_and_delay_and_another_tr_does_not(tmp_path):
    """Voxel 0 recorded the time: what a word is read out of is its onset and the delay."""
    simulation = simulate_lebel2023(
        tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, clock=True
    )
    onsets = simulation.schedule.onsets

    def error(**options):
        responses = opened(tmp_path, kind="delay", **RAW, **options).load("UTS02")
        return np.abs(responses.values[:, 0] - (onsets + 6.0))[responses.valid]

    assert error().max() < 1e-3
    assert error(slice_time_ref=1.0).min() > 1.9


def test_planted_responses_are_found_at_their_delay(tmp_path):
    simulate_lebel2023(tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, **PEAKED)
    assert_peaked(lambda delay: opened(tmp_path, kind="delay", delay=delay).load("UTS02"), VECTORS)


def test_chronological_textgrids_capitals_and_compressed_responses(tmp_path, simulated):
    folder, _ = simulated
    simulate_lebel2023(
        tmp_path,
        words=[word.upper() for word in WORDS],
        vectors=VECTORS,
        seed=4,
        layout="chronological",
        compression="gzip",
    )
    before, after = opened(folder), opened(tmp_path)
    assert after.stimulus.words == WORDS
    np.testing.assert_array_equal(after.stimulus.onsets, before.stimulus.onsets)
    np.testing.assert_array_equal(after.load("UTS02").values, before.load("UTS02").values)


def test_stories_and_subjects_are_chosen(simulated, copied):
    folder, simulation = simulated
    everything = opened(folder).load("UTS02")
    some = opened(folder, stories="souls", subjects="sub-UTS02").load("UTS02")
    np.testing.assert_array_equal(some.values, everything.values[simulation.schedule.word_run == 2])
    both = opened(folder.parent, stories=["wheretheressmoke", "adollshouse"])
    assert both.stimulus.attribute("story")[0] == "wheretheressmoke"
    assert set(both.stimulus.run.tolist()) == {1, 2}
    (copied / SOULS).unlink()
    assert set(opened(copied).stimulus.attribute("story")) == set(STORIES) - {"souls"}
    assert set(opened(copied, subjects="UTS02").stimulus.attribute("story")) == set(STORIES)
    with pytest.raises(ValueError, match="there is no 'souls' of UTS03; choose other stories"):
        opened(copied, stories="souls")
    with pytest.raises(ValueError, match="unknown story 'soul' of lebel2023"):
        opened(folder, stories="soul")
    with pytest.raises(
        ValueError, match="unknown subject 'UTS01' of lebel2023; known: UTS02, UTS03"
    ):
        opened(folder, subjects="UTS01")
    with pytest.raises(ValueError, match="name each story once"):
        opened(folder, stories=["souls", "souls"])
    for story in STORIES[::2]:
        (copied / f"derivative/preprocessed_data/UTS02/{story}.hf5").unlink()
    (copied / "derivative/preprocessed_data/UTS03/adollshouse.hf5").unlink()
    with pytest.raises(ValueError, match="no story is there of all of UTS02, UTS03"):
        opened(copied)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda values: values[:-1], r"souls.hf5 has \d+ volumes where .*respdict.json tells of"),
        (lambda values: values[:, :-1], r"souls.hf5 has 29 columns and .*adollshouse.hf5 30"),
        (lambda values: values[0], r"souls.hf5: 'data' \(30\) is no matrix of numbers"),
        (lambda values: values.astype("S4"), r"souls.hf5"),
    ],
)
def test_responses_of_another_shape_are_refused(copied, damage, message):
    rewrite(copied / SOULS, damage)
    with pytest.raises(ValueError, match=message):
        opened(copied).load("UTS03")


def test_files_that_are_missing_damaged_or_elsewhere_are_named(copied):
    path = copied / SOULS
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"souls.hf5 is truncated or damaged"):
        opened(copied).load("UTS03")
    with h5py.File(path, "w") as file:
        file["other"] = np.ones(3)
    with pytest.raises(ValueError, match=r"souls.hf5 has no variable 'data', it holds other"):
        opened(copied).load("UTS03")
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink("adollshouse.hf5", "data")
    with pytest.raises(ValueError, match=r"'data' links to another place"):
        opened(copied).load("UTS03")
    path.unlink()
    path.symlink_to(".git/annex/objects/none")
    with pytest.raises(FileNotFoundError, match="link of git-annex"):
        opened(copied, subjects="UTS03").load("UTS03")
    assert set(opened(copied).stimulus.attribute("story")) == {"adollshouse", "wheretheressmoke"}
    for other in path.parent.glob("*.hf5"):
        other.unlink()
        other.symlink_to(".git/annex/objects/none")
    with pytest.warns(UserWarning, match="lebel2023: 1 of 2 people are left out, .* `datalad get`"):
        assert opened(copied).subjects == ("UTS02",)
    grid = copied / "derivative/TextGrids/souls.TextGrid"
    text = grid.read_text()
    grid.write_text(text.replace('"word"', '"mot"'))
    with pytest.raises(
        ValueError, match=r"no tier 'word' or 'words'; its tiers are \['phone', 'mot'"
    ):
        opened(copied)
    grid.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*souls\.TextGrid; get it from"):
        opened(copied)
    with pytest.raises(FileNotFoundError, match=r"there is no .*derivative; get the release"):
        opened(copied / "derivative" / "TextGrids")
    shutil.rmtree(copied / "derivative" / "preprocessed_data")
    with pytest.raises(FileNotFoundError, match="brainalign fetch lebel2023"):
        opened(copied)


def test_numbers_of_volumes_and_words_after_the_scan(copied):
    path = copied / "derivative" / "respdict.json"
    told = json.loads(path.read_text())
    for wrong in (None, True, "60", 20, 10**9):
        path.write_text(json.dumps(told | {"souls": wrong}))
        with pytest.raises(
            ValueError, match=r"respdict.json gives .* number of volumes of 'souls'"
        ):
            opened(copied)
    path.write_text(json.dumps(told))
    grid = copied / "derivative/TextGrids/souls.TextGrid"
    grid.write_text(grid.read_text().replace("{BR}", "late"))
    assert "late" in opened(copied).stimulus.words
    text = grid.read_text()
    late = '            xmin = 300.0\n            xmax = 301.0\n            text = "late"\n'
    grid.write_text(text[: text.rindex("            xmin = ")] + late)
    with pytest.raises(
        ValueError, match="souls.TextGrid: 1 words of run 2 begin after its last volume"
    ):
        opened(copied).load("UTS02")


@pytest.mark.parametrize(
    ("options", "message"), [({"tr": 0.0}, "tr is 0"), ({"slice_time_ref": 2.0}, "ref is 2")]
)
def test_times_that_cannot_be_are_refused(simulated, options, message):
    with pytest.raises(ValueError, match=message):
        opened(simulated[0], **options)
