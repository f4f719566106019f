import json
import shutil
import warnings

import numpy as np
import pytest
from recordings import PEAKED, assert_peaked
from simulate.narratives import plain, simulate_narratives

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel
from brainalign_jax.neural.simulate.bold import story_words

WORDS = tuple(word for word in story_words()[:170] if plain(word) in word and plain(word) != "x")[
    :150
]
VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 3))
RAW = {"detrend": False, "standardize": False}
BOTH = {"stories": ["pieman", "black"]}
ALIGNED = "stimuli/gentle/pieman/align.csv"


def opened(folder, **options):
    return open_dataset("narratives", folder, **{**BOTH, **options})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two people and two stories, on the surface and as volumes, that no test changes."""
    folder = tmp_path_factory.mktemp("corpus") / "ds002345"
    settings = {"words": WORDS, "vectors": VECTORS, "seed": 4, "missing": (3, 4, 60)}
    return folder, simulate_narratives(folder, kinds=("surface", "volume"), **settings)


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy to change."""
    return shutil.copytree(simulated[0], tmp_path / "copy")


@pytest.mark.parametrize(
    ("kind", "space"), [("surface", "fsaverage6"), ("volume", "MNI152NLin2009cAsym")]
)
def test_words_onsets_and_values_come_back(simulated, kind, space):
    folder, simulation = simulated[0], simulated[1][kind]
    dataset, schedule = opened(folder, space=space), simulation.schedule
    stimulus = dataset.stimulus
    assert dataset.subjects == ("001", "002")
    assert [plain(word) for word in stimulus.words] == [plain(word) for word in WORDS]
    assert sum(word.endswith((".", "!", "?")) for word in stimulus.words) >= 3
    assert "punctuation; 3 of 150 words were not found" in dataset.meta["notes"]
    np.testing.assert_array_equal(stimulus.run, schedule.word_run)
    assert set(stimulus.attribute("story")[stimulus.run == 2]) == {"black"}
    assert set(stimulus.attribute("language")) == {"en"}
    assert np.flatnonzero(stimulus.attribute("aligned") == 0).tolist() == [3, 4, 60]
    # Pieman's audio begins with the scan, that of black 12 s later; words 15 s after the scan.
    np.testing.assert_allclose(
        stimulus.onsets[np.searchsorted(stimulus.run, [1, 2])], [15.75, 3.75]
    )
    np.testing.assert_allclose(np.diff(stimulus.onsets[:10]), 0.4, atol=1e-3)
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=np.full(len(WORDS), 0.4), **timing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses = dataset.load("002")
    cleaned = clean_runs(simulation.stored(1).astype(float), schedule.volume_run, tr=1.5)
    np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=2e-3)
    assert responses.valid.all() and responses.space.same_as(simulation.space)
    assert responses.meta["tr"] == 1.5 and responses.meta["space"] == space


def test_volume_times_come_back_as_onset_and_delay_and_a_volume_too_late_does_not(tmp_path):
    """Vertex 0 recorded the time: what a word is read out of is its onset and the delay."""
    simulation = simulate_narratives(
        tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, clock=True
    )
    onsets = simulation["surface"].schedule.onsets

    def error(**options):
        responses = opened(tmp_path, kind="delay", **RAW, **options).load("001")
        return np.abs(responses.values[:, 0] - (onsets + 6.0))[responses.valid]

    assert error().max() < 1e-2 and error(slice_time_ref=0.0).min() > 0.7
    events = tmp_path / "sub-001/func/sub-001_task-black_events.tsv"
    events.write_text(events.read_text().replace("12.0", "13.5"))
    moved = error()
    assert moved[:70].max() < 1e-2 and moved[80:].min() > 1.4


def test_planted_responses_are_found_at_their_delay(tmp_path):
    simulate_narratives(tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, **PEAKED)
    assert_peaked(lambda delay: opened(tmp_path, kind="delay", delay=delay).load("001"), VECTORS)


def test_stories_subjects_and_spaces_are_chosen(simulated, copied):
    folder = simulated[0]
    with pytest.raises(
        ValueError, match="there are the stories black, pieman; say which with stories="
    ):
        opened(folder, stories=None)
    with pytest.raises(
        ValueError, match="unknown story 'tunnel' of narratives; known: black, pieman"
    ):
        opened(folder, stories="tunnel")
    with pytest.raises(ValueError, match="name each story once"):
        opened(folder, stories="black:black")
    with pytest.raises(
        ValueError, match=r"unknown subject '9' of narratives \(stories pieman, black\)"
    ):
        opened(folder, subjects=9)
    black = opened(folder.parent, stories="black", subjects="sub-002")
    assert black.subjects == ("002",) and set(black.stimulus.run.tolist()) == {1}
    assert opened(folder).meta["space"] == "fsaverage6"
    assert opened(folder, mask="all").meta["space"] == "MNI152NLin2009cAsym"
    with pytest.raises(
        ValueError, match="mask=, atlas= and labels= are for volumes; give space=MNI"
    ):
        opened(folder, space="fsaverage6", mask="all")
    with pytest.raises(FileNotFoundError, match=r"there is no .*fmriprep/sub-001/func/.*datalad"):
        opened(folder, derivative="fmriprep")
    for scan in (copied / "derivatives").rglob("sub-002_task-black*"):
        scan.unlink()
    assert opened(copied).subjects == ("001",)
    for scan in (copied / "derivatives").rglob("sub-001_task-pieman*"):
        scan.unlink()
    with pytest.raises(ValueError, match="nobody heard all of pieman, black; choose fewer stories"):
        opened(copied)


def test_scans_that_the_authors_exclude_are_left_out(copied):
    (copied / "code").mkdir()
    listed = {
        "black": {"sub-001": ["sub-001_task-black"]},
        "pieman": {"sub-002": ["sub-002_task-pie"]},
    }
    path = copied / "code" / "scan_exclude.json"
    path.write_text(json.dumps(listed))
    assert opened(copied).subjects == ("002",)
    assert opened(copied, excluded=True).subjects == ("001", "002")
    path.write_text(json.dumps({"black": ["sub-001"]}))
    with pytest.raises(ValueError, match="scan_exclude.json lists no people for a task"):
        opened(copied)


def test_fmriprep_volumes_have_masks_of_their_own(tmp_path):
    settings = {"words": WORDS, "vectors": VECTORS, "n_subjects": 1, "transcript": False}
    simulation = simulate_narratives(tmp_path, kinds=("volume",), derivative="fmriprep", **settings)
    dataset = opened(tmp_path, derivative="fmriprep")
    assert dataset.load("001").space.same_as(simulation["volume"].space)
    assert "pseudo-sentences" in dataset.meta["notes"]
    for path in (tmp_path / "derivatives").rglob("*brain_mask*"):
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*desc-brain_mask.nii.gz.* or give mask="
    ):
        opened(tmp_path, derivative="fmriprep").load("001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:5], "a,b,9", *lines[5:]], "row 6 has 3 fields for 4 columns"),
        (lambda lines: [*lines[:5], "a,b,x,9", *lines[5:]], "row 6: column 'onset' holds 'x'"),
        (lambda lines: [*lines[:5], lines[20], *lines[5:]], r"row 7 \('.*'\) begins at .* before"),
        (lambda lines: [line.split(",")[0] + ",,," for line in lines], "0 of 75 words have times"),
        (
            lambda lines: [*lines, "late,late,900,901"],
            "align.csv: 1 words of run 1 begin after its last",
        ),
    ],
)
def test_damaged_alignments_are_named_with_their_row(copied, change, message):
    path = copied / ALIGNED
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(ValueError, match=message):
        opened(copied).load("001")


def test_a_transcript_of_another_text_is_not_used(copied):
    (copied / "stimuli/gentle/pieman/transcript.txt").write_text("something else.\n")
    dataset = opened(copied)
    assert dataset.stimulus.words[:20] == tuple(plain(word) for word in WORDS[:20])


def test_what_is_missing_is_named(copied):
    events = copied / "sub-001/func/sub-001_task-black_events.tsv"
    text = events.read_text()
    events.write_text(text.replace("12.0", "n/a"))
    with pytest.raises(ValueError, match=r"row 1 says that black_audio.wav begins at nan s"):
        opened(copied)
    events.write_text(text.replace("stim_file", "file"))
    with pytest.raises(ValueError, match="black_events.tsv has no column 'stim_file'"):
        opened(copied)
    events.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*black_events\.tsv; get it from datalad"
    ):
        opened(copied)
    events.write_text(text)
    (copied / ALIGNED).unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*align\.csv; get it from datalad"):
        opened(copied)
    assert opened(copied, stories="black").stimulus.words
    left = next((copied / "derivatives").rglob("sub-001_task-black*hemi-L*"))
    left.unlink()
    left.symlink_to(".git/annex/objects/none")
    assert opened(copied, stories="black").subjects == ("002",)
    with pytest.raises(FileNotFoundError, match="link of git-annex"):
        opened(copied, stories="black", subjects="001").load("001")
    right = next((copied / "derivatives").rglob("sub-002_task-black*hemi-R*"))
    right.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*hemi-R_desc-clean\.func\.gii"):
        opened(copied, stories="black", subjects=2).load("002")


def test_a_wrong_tr_is_refused(tmp_path):
    simulate_narratives(
        tmp_path, words=WORDS, vectors=VECTORS, n_subjects=1, kinds=("volume",), header_tr=2.0
    )
    with pytest.raises(ValueError, match=r"has a TR of 2 s where the release has 1.5 s"):
        opened(tmp_path).load("001")
    assert opened(tmp_path, tr=1.5).load("001").meta["tr"] == 1.5
