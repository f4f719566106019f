import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
from simulate.bids import simulate_bids

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.images.bids_files import find_runs, parse_name
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel
from brainalign_jax.neural.simulate.bold import story_words

WORDS = story_words()[:100]
VECTORS = np.random.default_rng(0).standard_normal((len(WORDS), 3))
RAW = {"detrend": False, "standardize": False}
OUTPUTS = ("raw", "volume", "surface", "cifti")
SPACE = {
    "volume": "MNI152NLin2009cAsym",
    "surface": "fsaverage5",
    "cifti": "fsLR:den-91k",
}


def simulate(folder, **settings):
    defaults = {"words": WORDS, "vectors": VECTORS, "n_voxels": 40, "n_subjects": 1}
    return simulate_bids(folder, **{**defaults, **settings})


def opened(folder, output="raw", **options):
    if output == "raw":
        # The volume is small: nilearn would find no brain in it.
        return open_dataset("bids", folder, **{"mask": "mask.nii.gz", **options})
    return open_dataset("bids", folder / "derivatives" / "fmriprep", space=SPACE[output], **options)


def add_mask(folder, simulation):
    """A mask beside the raw scans, which have none."""
    mask = simulation["raw"].space.to_image(np.ones(40))
    mask.to_filename(folder / "mask.nii.gz")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """One folder with everything, two subjects and four runs, that no test changes."""
    folder = tmp_path_factory.mktemp("bids")
    simulation = simulate(folder, outputs=OUTPUTS, n_subjects=2, seed=3)
    add_mask(folder, simulation)
    return folder, simulation


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy of it to change."""
    folder = tmp_path / "bids"
    shutil.copytree(simulated[0], folder)
    return folder


@pytest.fixture
def derived(copied):
    return copied / "derivatives" / "fmriprep" / "sub-01" / "func"


@pytest.mark.parametrize("output", OUTPUTS)
def test_words_onsets_and_values_come_back(simulated, output):
    folder, simulation = simulated[0], simulated[1][output]
    dataset, schedule = opened(folder, output), simulation.schedule
    assert dataset.subjects == ("01", "02") and dataset.stimulus.words == WORDS
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    starts = schedule.volume_times[np.searchsorted(schedule.volume_run, schedule.word_run)]
    np.testing.assert_array_equal(dataset.stimulus.onsets, schedule.onsets - starts)
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=dataset.stimulus.durations, **timing
    )
    for index, subject in enumerate(dataset.subjects):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            responses = dataset.load(subject)
        cleaned = clean_runs(simulation.stored(index).astype(float), schedule.volume_run, tr=2.0)
        np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=2e-5)
        assert responses.valid.all() and responses.space.same_as(simulation.space)
        assert responses.meta["tr"] == 2.0 and responses.meta["task"] == "story"


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("reading", ["gaussian", "delay", "hrf"])
def test_volume_times_come_back_as_onset_and_delay(tmp_path, output, reading):
    """Four runs with gaps of 28.5 s; voxel 0 recorded the time on the clock with the gaps."""
    simulation = simulate(tmp_path, outputs=(output,), clock=True, dtype="float32")
    if output == "raw":
        add_mask(tmp_path, simulation)
    schedule = simulation[output].schedule
    responses = opened(tmp_path, output, kind=reading, **RAW).load("01")
    delay = {"gaussian": 6.25, "delay": 6.0, "hrf": 0.25 + 5.2272}[reading]
    error = responses.values[:, 0] - (schedule.onsets + delay)
    assert responses.valid.all() and np.abs(error).max() <= 1.0


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_planted_voxel_comes_back_at_its_place(simulated, output):
    folder, simulation = simulated[0], simulated[1][output]
    scores = np.zeros(40)
    scores[31] = 5.0
    image = opened(folder, output).load("02").to_image(scores)
    source = nib.load(simulation.paths[1][0])
    if output in ("raw", "volume"):
        np.testing.assert_array_equal(image.affine, source.affine)
        assert image.shape == source.shape[:3] and image.get_fdata().sum() == 5
        assert image.get_fdata()[tuple(simulation.space.indices[31])] == 5
    elif output == "surface":
        assert len(image[0].agg_data()) == source.darrays[0].data.size
        right = image[1].agg_data()
        # 20 vertices on the left; on the right, the medial wall (7) comes first.
        assert right.sum() == right[31 - 20 + 7] == 5 and not image[0].agg_data().any()
    else:
        assert image.header.get_axis(1) == source.header.get_axis(1)
        assert image.get_fdata()[0, 31] == image.get_fdata().sum() == 5


def test_several_spaces_must_be_told_apart(simulated):
    folder = simulated[0] / "derivatives" / "fmriprep"
    with pytest.raises(
        ValueError,
        match=r"several spaces; give space=, one of MNI152NLin2009cAsym:res-2:volume, "
        "fsLR:den-91k:cifti, fsaverage5:surface",
    ):
        open_dataset("bids", folder)
    with pytest.raises(ValueError, match=r"no scans in space='T1w'; known: MNI"):
        open_dataset("bids", folder, space="T1w")
    for space in ("volume", "MNI152NLin2009cAsym:res-2", "MNI152NLin2009cAsym:res-2:volume"):
        chosen = open_dataset("bids", folder, space=space)
        assert chosen.meta["space"] == "MNI152NLin2009cAsym:res-2:volume"


def test_a_space_without_resolution_is_that_one(copied, derived):
    for path in derived.glob("*res-2*"):
        shutil.copy(path, derived / path.name.replace("_res-2", ""))
    folder = copied / "derivatives" / "fmriprep"
    plain = open_dataset("bids", folder, space="MNI152NLin2009cAsym", subjects="01")
    assert plain.meta["space"] == "MNI152NLin2009cAsym:volume"
    assert (
        plain.load("01")
        .meta["mask"][0]
        .endswith("run-1_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz")
    )
    finer = open_dataset("bids", folder, space="MNI152NLin2009cAsym:res-2", subjects="01")
    assert "res-2" in finer.load("01").meta["mask"][0]


def test_several_tasks_must_be_told_apart(copied):
    func = copied / "sub-01" / "func"
    for path in sorted(func.glob("*run-1*")):
        shutil.copy(path, func / path.name.replace("task-story", "task-rest"))
    with pytest.raises(ValueError, match="several tasks; give task=, one of rest, story"):
        opened(copied)
    assert opened(copied, task="story").subjects == ("01", "02")
    with pytest.raises(ValueError, match=r"no scan of task 'faces' for task=; known: rest, story"):
        opened(copied, task="faces")
    rest = opened(copied, task="rest")
    assert rest.subjects == ("01",) and len(rest.stimulus) == 25
    # The raw folder's sidecar is of the other task; the image has the TR.
    assert rest.load("01").meta["tr"] == 2.0


def test_runs_and_subjects_may_be_chosen(simulated):
    folder, simulation = simulated[0], simulated[1]["raw"]
    whole = opened(folder).load("02")
    part = opened(folder, runs="2:4", subjects=2)
    assert part.subjects == ("02",) and set(part.stimulus.run) == {2, 4}
    rows = np.isin(simulation.schedule.word_run, (2, 4))
    np.testing.assert_array_equal(part.load("02").values, whole.values[rows])
    # As the command line gives them: numbers.
    assert set(opened(folder, runs=(2.0, 4.0)).stimulus.run) == {2, 4}
    assert set(opened(folder, runs=3.0, subjects=["sub-01"]).stimulus.run) == {3}
    with pytest.raises(ValueError, match=r"no scan of run '7' for runs=; known: 1, 2, 3, 4"):
        opened(folder, runs="7")
    with pytest.raises(ValueError, match="unknown subject '09' of bids; known: 01, 02"):
        opened(folder, subjects="sub-09")


def test_sessions_follow_one_another(tmp_path):
    first = simulate(tmp_path / "a", session="1", outputs=("raw",), n_runs=2, clock=True)
    simulate(tmp_path / "b", session="02", outputs=("raw",), n_runs=2, clock=True, seed=1)
    shutil.copytree(tmp_path / "b" / "sub-01", tmp_path / "a" / "sub-01", dirs_exist_ok=True)
    add_mask(tmp_path / "a", first)
    dataset = opened(tmp_path / "a", kind="delay", **RAW)
    assert dataset.stimulus.words == WORDS * 2 and dataset.stimulus.sentence[-1] > 5
    np.testing.assert_array_equal(np.unique(dataset.stimulus.run), [1, 2, 3, 4])
    onsets = np.tile(first["raw"].schedule.onsets, 2)
    np.testing.assert_allclose(dataset.load("01").values[:, 0], onsets + 6, atol=0.02)
    second = opened(tmp_path / "a", session=2.0)
    assert second.stimulus.words == WORDS and set(second.stimulus.run) == {1, 2}
    with pytest.raises(ValueError, match=r"no scan of session '3' for session=; known: 1, 02"):
        opened(tmp_path / "a", session="3")


def rate(folder, **metadata):
    """The TR of the raw data's sidecar, and whatever else."""
    (folder / "task-story_bold.json").write_text(json.dumps(metadata))


def test_sidecars_are_inherited(tmp_path):
    """From the root, the subject and the file, the nearest wins; over the image's own TR."""
    simulation = simulate(tmp_path, outputs=("raw",), n_runs=1, clock=True, dtype="float32")
    add_mask(tmp_path, simulation)
    onsets = opened(tmp_path).stimulus.onsets
    folder = tmp_path / "sub-01"
    options = {"kind": "delay", "delay": 0.0, **RAW}

    def tr():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            responses = opened(tmp_path, **options).load("01")
        repetition_time = responses.meta["tr"]
        # The clock voxel recorded a volume every 2 s.
        np.testing.assert_allclose(responses.values[:, 0], onsets * 2 / repetition_time, atol=1e-3)
        return repetition_time

    assert tr() == 2.0
    (folder / "sub-01_bold.json").write_text('{"RepetitionTime": 4}')
    assert tr() == 4.0
    (folder / "func" / "sub-01_task-other_bold.json").write_text('{"RepetitionTime": 5}')
    assert tr() == 4.0
    (folder / "func" / "sub-01_task-story_run-1_bold.json").write_text('{"RepetitionTime": 2.5}')
    assert tr() == 2.5
    with pytest.warns(
        UserWarning, match=r"bold.nii.gz has a TR of 2 s and its JSON sidecar .* 2.5 s"
    ):
        opened(tmp_path, **RAW).load("01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path, tr=3.0, **RAW).load("01").meta["tr"] == 3.0
    for path in folder.rglob("*_bold.json"):
        path.unlink()
    rate(tmp_path, TaskName="story")
    assert tr() == 2.0  # the image's


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"RepetitionTime": "2"}', "RepetitionTime = '2'; it must be a number"),
        ('{"RepetitionTime": 2000}', "TR of 2000 s; it must be in seconds"),
        ('{"RepetitionTime": 0}', "TR of 0 s"),
        ('{"RepetitionTime": 2', "not readable as JSON"),
        ("[2]", "holds no JSON object"),
        ("[" * 100_000, "nests lists or objects too deeply"),
        ('{"RepetitionTime": ' + "[" * 900 + "]" * 900 + "}", "must be a number"),
        ('{"VolumeTiming": ' + "[" * 900 + "]" * 900 + "}", r"VolumeTiming .* increasing"),
        ('{"RepetitionTime": 2, "SliceTimingCorrected": "yes"}', "must be true or false"),
        (
            '{"RepetitionTime": 2, "SliceTimingCorrected": true, "SliceTiming": [0, 1900]}',
            "SliceTiming up to 1900 and a TR of 2 s",
        ),
        ('{"RepetitionTime": 2, "StartTime": 5}', "2.5 of a TR late"),
        ('{"VolumeTiming": [0, 1]}', r"VolumeTiming .* must list \d+ increasing"),
        ('{"VolumeTiming": "x"}', r"VolumeTiming .* must list \d+ increasing"),
    ],
)
def test_damaged_sidecars_are_named(copied, content, message):
    (copied / "task-story_bold.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        opened(copied).load("01")
    assert "bold" in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "options", "shift"),
    [
        ({"StartTime": 0.9}, {}, 0.9),
        ({"StartTime": 0.9, "SliceTimingCorrected": True}, {}, 0.9),
        ({"StartTime": 0.9, "SliceTimingCorrected": False}, {}, 0.0),
        ({"SliceTimingRef": 0.5}, {}, 1.0),
        ({"StartTime": 0.9}, {"slice_time_ref": 0.25}, 0.5),
        ({"StartTime": 0.9}, {"slice_time_ref": 0.0}, 0.0),
        ({"SliceTimingCorrected": True}, {"slice_time_ref": 0.0}, 0.0),
        ({"SliceTiming": [0.0, 0.5, 1.0, 1.5]}, {}, 0.0),
        ({}, {}, 0.0),
    ],
)
def test_slice_time_correction_moves_the_volumes(tmp_path, metadata, options, shift):
    simulate(tmp_path, outputs=("volume",), n_runs=2, clock=True, dtype="float32")
    for path in tmp_path.rglob("*desc-preproc_bold.json"):
        path.write_text(json.dumps({"RepetitionTime": 2.0, **metadata}))
    dataset = opened(tmp_path, "volume", kind="delay", delay=4.0, **RAW, **options)
    values = dataset.load("01").values[:, 0]
    run = dataset.stimulus.run
    onsets = dataset.stimulus.onsets + np.where(run == 1, 0, values[run == 2][0] - values[0])
    np.testing.assert_allclose(values, onsets + 4.0 - shift, atol=1e-3)


@pytest.mark.parametrize(
    ("metadata", "raw", "shift"),
    [
        ({}, {}, 1.0),
        # (0 + 1.5) / 2: prepare_timing_parameters of fMRIPrep, and 3dTshift's average.
        ({}, {"SliceTiming": [0.0, 1.0, 0.5, 1.5]}, 0.75),
        ({"DelayTime": 0.8}, {}, 0.6),
        ({"SliceTimingRef": 0.25}, {"SliceTiming": [0.0, 1.0]}, 0.5),
    ],
)
def test_corrected_slices_without_a_start_are_at_the_middle(tmp_path, metadata, raw, shift):
    """Half of the acquisition, which a warning says; silent where the sidecar tells the reference."""
    simulate(tmp_path, outputs=("volume",), n_runs=1, clock=True, dtype="float32")
    corrected = {"RepetitionTime": 2.0, "SliceTimingCorrected": True, **metadata}
    for path in tmp_path.rglob("*desc-preproc_bold.json"):
        path.write_text(json.dumps(corrected))
    (tmp_path / "task-story_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, **raw}))
    dataset = opened(tmp_path, "volume", kind="delay", delay=4.0, **RAW)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = dataset.load("01").values[:, 0]
    np.testing.assert_allclose(values, dataset.stimulus.onsets + 4.0 - shift, atol=1e-3)
    said = [
        str(warning.message) for warning in caught if "SliceTimingCorrected" in str(warning.message)
    ]
    assert len(said) == (not metadata.get("SliceTimingRef"))
    assert all(f"taken to be {shift:g} s later" in message for message in said)


def test_times_of_each_volume(tmp_path):
    """Sparse sampling: VolumeTiming instead of RepetitionTime."""
    simulation = simulate(tmp_path, outputs=("raw",), n_runs=1, clock=True, dtype="float32")
    add_mask(tmp_path, simulation)
    n = len(simulation["raw"].schedule.volume_times)
    rate(tmp_path, VolumeTiming=(3.0 + 2 * np.arange(n)).tolist())
    dataset = opened(tmp_path, kind="delay", delay=4.0, **RAW)
    values = dataset.load("01").values[:, 0]
    np.testing.assert_allclose(values, dataset.stimulus.onsets + 4.0 - 3.0, atol=1e-3)


def test_events_are_looked_for_around_the_derivatives(copied, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(copied / "derivatives" / "fmriprep", moved)
    options = {"space": "fsLR"}
    with pytest.raises(
        FileNotFoundError,
        match=r"no .*elsewhere/sub-01/func/sub-01_task-story_run-1_events.tsv .*events_dir=",
    ):
        open_dataset("bids", moved, **options)
    assert open_dataset("bids", moved, events_dir=copied, **options).load("01").valid.all()
    beside = copied / "fmriprep"
    shutil.move(moved, beside)
    assert open_dataset("bids", beside, **options).stimulus.words == WORDS


def test_events_of_the_whole_task(copied):
    """The same words for all subjects and runs, told once at the root."""
    for subject in ("01", "02"):
        for run in (2, 3, 4):
            (copied / f"sub-{subject}/func/sub-{subject}_task-story_run-{run}_events.tsv").unlink()
        source = copied / f"sub-{subject}/func/sub-{subject}_task-story_run-1_events.tsv"
        source.rename(copied / "task-story_events.tsv")
    dataset = opened(copied)
    assert dataset.stimulus.words == WORDS[:25] * 4 and dataset.load("02").valid.all()


def test_missing_and_damaged_events_are_named(copied):
    path = copied / "sub-02/func/sub-02_task-story_run-3_events.tsv"
    text = path.read_text()
    for change, message in (
        (text.replace("onset", "start"), "no column 'onset'"),
        (text.replace("\tword", "\tname"), None),
        (text[: len(text) // 2].rsplit("\t", 1)[0] + "\n", "fields for 4 columns"),
        ("\n".join(text.splitlines()[:10]) + "\n", "run-3_events.tsv has 9 words of run 3 where"),
        (text.replace("\t0.5\t", "\t-0.5\t"), "lasts -0.5 s"),
    ):
        path.write_text(change)
        with pytest.raises(ValueError, match=message) as caught:
            opened(copied)
        assert "sub-02" in str(caught.value)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no .*sub-02/func/sub-02_task-story_run-3_events.tsv"
    ):
        opened(copied)


def test_another_column_of_words(copied):
    for path in copied.rglob("*_events.tsv"):
        path.write_text(path.read_text().replace("\tword\n", "\tstim\n"))
    assert opened(copied, word_column="stim").stimulus.words == WORDS


@pytest.mark.parametrize(
    ("confounds", "count"),
    [("none", 0), ("motion6", 7), ("motion24", 25), ("acompcor", 15)]
    + [("trans_x:cosine*", 3), (["rot_x", "global_signal"], 2), (["motion6"], 7)],
)
def test_confounds_of_fmriprep(simulated, confounds, count):
    """With the spike of the non-steady-state volume, which the first run only has."""
    dataset = opened(simulated[0], "cifti", confounds=confounds)
    if count > 20:  # more than the runs have volumes
        with pytest.raises(ValueError, match=r"bold.dtseries.nii.*take fewer confounds"):
            dataset.load("01")
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*degrees of freedom")
        responses = dataset.load("01")
    assert responses.meta["cleaning"]["confounds"] == count
    plain = opened(simulated[0], "cifti").load("01")
    assert (count == 0) == np.array_equal(plain.values, responses.values)


def test_confounds_that_are_not_there(copied, derived):
    with pytest.raises(ValueError, match=r"timeseries.tsv has no column 'motion'; the nearest of"):
        opened(copied, "volume", confounds="motion").load("01")
    with pytest.raises(
        FileNotFoundError, match=r"sub-01_task-story_run-1_desc-confounds_timeseries.tsv"
    ):
        opened(copied, confounds="motion6").load("01")
    path = derived / "sub-01_task-story_run-2_desc-confounds_timeseries.tsv"
    path.rename(path.with_name(path.name.replace("timeseries", "regressors")))
    assert opened(copied, "volume", confounds="motion6").load("01").valid.all()
    path = path.with_name(path.name.replace("run-2", "run-3"))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(
        ValueError, match=r"run-3_desc-confounds_timeseries.tsv has \d+ rows for \d+"
    ):
        opened(copied, "volume", confounds="motion6").load("01")


def test_brain_masks_of_all_runs_count(copied, derived, simulated):
    (path,) = derived.glob("*run-3*_mask.nii.gz")
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    lost = simulated[1]["volume"].space.indices[:5]
    values[tuple(lost.T)] = 0
    nib.Nifti1Image(values, image.affine).to_filename(path)
    responses = opened(copied, "volume").load("01")
    whole = opened(simulated[0], "volume").load("01")
    np.testing.assert_array_equal(responses.values, whole.values[:, 5:])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no brain mask .*run-3.*other runs have one"):
        opened(copied, "volume").load("01")
    assert (
        opened(copied, "volume", mask=str(copied / "mask.nii.gz")).load("01").values.shape[1] == 40
    )


def test_masks_are_for_volumes(simulated):
    with pytest.raises(ValueError, match="are for volumes"):
        opened(simulated[0], "surface", mask="epi").load("01")


def test_runs_of_other_trs_are_not_joined(copied):
    func = copied / "sub-01" / "func"
    (func / "sub-01_task-story_run-2_bold.json").write_text('{"RepetitionTime": 2.5}')
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"run-2_bold.nii.gz has a TR of 2.5"),
    ):
        opened(copied).load("01")


@pytest.mark.parametrize("entity", ["acq-a", "echo-1", "rec-x"])
def test_scans_that_cannot_be_told_apart(copied, entity):
    func = copied / "sub-01" / "func"
    path = func / "sub-01_task-story_run-2_bold.nii.gz"
    shutil.copy(path, func / path.name.replace("_run", f"_{entity}_run"))
    with pytest.raises(ValueError, match=rf"several scans of one run: .*{entity}"):
        opened(copied)


def test_other_descriptions_are_left_alone(copied, derived):
    for path in derived.glob("*desc-preproc_bold*"):
        shutil.copy(path, derived / path.name.replace("preproc", "smooth"))
    assert opened(copied, "volume").load("01").valid.all()
    assert opened(copied, "volume", desc="smooth").subjects == ("01",)
    with pytest.raises(
        ValueError, match=r"no scan is of the desc asked for; there is .*preproc, smooth"
    ):
        opened(copied, "volume", desc="other")


def test_damaged_scans_are_named(copied, derived):
    for output, pattern in (
        ("volume", "*run-4*preproc_bold.nii.gz"),
        ("surface", "*run-4*hemi-R*.gii"),
        ("cifti", "*run-4*dtseries.nii"),
    ):
        (path,) = derived.glob(pattern)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"{path.name}.*(truncated|damaged)"):
            opened(copied, output).load("01")


def test_hemispheres_come_in_pairs(copied, derived):
    (path,) = derived.glob("*run-4*hemi-R*.gii")
    path.unlink()
    with pytest.raises(ValueError, match="4 files of the left and 3 of the right"):
        opened(copied, "surface").load("01")


def test_folders_that_are_no_bids(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_dataset("bids", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no .*sub-\*/func/\*_bold.nii.gz"):
        open_dataset("bids", tmp_path)
    with pytest.raises(ValueError, match="unknown option 'image'"):
        open_dataset("bids", tmp_path, image="x")


def test_names_and_labels_of_runs(tmp_path):
    file = parse_name(tmp_path / "sub-01_ses-a_task-x_run-2_space-fsLR_den-91k_bold.dtseries.nii")
    assert dict(file.entities)["den"] == "91k" and file.suffix == "bold"
    assert file.ext == ".dtseries.nii" and file.space == "fsLR:den-91k:cifti"
    assert parse_name(tmp_path / "README") is None
    func = tmp_path / "sub-3" / "func"
    func.mkdir(parents=True)
    for run in ("10", "9", "02"):
        (func / f"sub-3_task-x_run-{run}_bold.nii").touch()
    runs, chosen = find_runs(tmp_path)
    assert [run.label for run in runs["3"]] == [2, 9, 10]
    assert chosen == {"task": "x", "space": "native:volume"}
    (func / "sub-3_task-x_bold.nii").touch()
    runs, _ = find_runs(tmp_path)
    assert [run.label for run in runs["3"]] == [1, 2, 3, 4]
