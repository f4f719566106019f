import gzip
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.images import simulate_nifti, write_volumes

WORDS = story_words()[:100]
VECTORS = np.random.default_rng(0).standard_normal((len(WORDS), 3))
RAW = {"detrend": False, "standardize": False}
OPTIONS = {
    "volume": {"image": "sub-{subject}/run-*_bold.nii.gz"},
    "surface": {
        "left": "sub-{subject}/*_hemi-L_bold.func.gii",
        "right": "sub-{subject}/*_hemi-R_bold.func.gii",
        "tr": 2.0,
    },
    "cifti": {"image": "sub-{subject}/run-*_bold.dtseries.nii"},
}
VOLUME = OPTIONS["volume"]


def simulate(folder, **settings):
    return simulate_nifti(folder, words=WORDS, vectors=VECTORS, **{"n_voxels": 40, **settings})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """One simulation that no test changes."""
    folder = tmp_path_factory.mktemp("nifti")
    return folder, simulate(folder, n_subjects=2, seed=3)


def rewrite(folder, change):
    """The words table with its lines changed."""
    path = folder / "words.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


@pytest.mark.parametrize("kind", OPTIONS)
def test_words_onsets_and_values_come_back(tmp_path, kind):
    simulation = simulate(tmp_path, kind=kind, n_subjects=2)
    dataset = open_dataset("nifti", tmp_path, **OPTIONS[kind])
    schedule = simulation.schedule
    assert dataset.subjects == ("1", "2") and dataset.stimulus.words == WORDS
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(dataset.stimulus.durations, np.full(len(WORDS), 0.5))
    starts = schedule.volume_times[np.searchsorted(schedule.volume_run, schedule.word_run)]
    np.testing.assert_array_equal(dataset.stimulus.onsets, schedule.onsets - starts)
    # What is read out on the clock with gaps, from what the files hold.
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=dataset.stimulus.durations, **timing
    )
    for index, subject in enumerate(dataset.subjects):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # every word is covered
            responses = dataset.load(subject)
        cleaned = clean_runs(simulation.stored(index).astype(float), schedule.volume_run, tr=2.0)
        np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=2e-5)
        assert responses.valid.all() and responses.space.same_as(simulation.space)
        assert responses.meta["tr"] == 2.0 and responses.meta["timing_error"] <= 1.0


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("reading", ["gaussian", "delay", "hrf"])
def test_volume_times_come_back_as_onset_and_delay(tmp_path, kind, reading):
    """Four runs with gaps of 28.5 s; voxel 0 recorded the time on the clock with the gaps."""
    simulation = simulate(tmp_path, kind=kind, clock=True, dtype="float32")
    schedule = simulation.schedule
    dataset = open_dataset("nifti", tmp_path, kind=reading, **RAW, **OPTIONS[kind])
    responses = dataset.load("1")
    delay = {"gaussian": 6.25, "delay": 6.0, "hrf": 0.25 + 5.2272}[reading]
    error = responses.values[:, 0] - (schedule.onsets + delay)
    assert responses.valid.all() and np.abs(error).max() <= 1.0
    # An index onset / TR into the joined runs is off by the gaps from the second run on.
    index = np.rint((schedule.onsets + delay) / 2).astype(int)
    joined = schedule.volume_times[index.clip(max=len(schedule.volume_times) - 1)]
    apart = np.abs(joined - (schedule.onsets + delay))
    assert apart[schedule.word_run == 1].max() <= 1 and apart[schedule.word_run == 2].min() > 20


def test_a_planted_voxel_comes_back_at_its_place(simulated, tmp_path):
    folder, simulation = simulated
    dataset = open_dataset("nifti", folder, responses_dir=str(tmp_path / "r"), **VOLUME)
    image = nib.load(simulation.paths[0][0])
    voxel = tuple(simulation.space.indices[17])
    scores = np.zeros(40)
    scores[17] = 5.0
    for responses in (dataset.load("1"), WordResponses.load(tmp_path / "r" / "nifti-1.npz")):
        back = responses.to_image(scores)
        assert back.shape == image.shape[:3] and back.get_fdata()[voxel] == 5.0
        assert back.get_fdata().sum() == 5.0
        np.testing.assert_array_equal(back.affine, image.affine)


def test_dropped_voxels_leave_the_others_at_their_places(tmp_path):
    simulation = simulate(tmp_path, n_subjects=1, dtype="float32")
    dead = tuple(simulation.space.indices[5])
    path = simulation.paths[0][2]
    image = nib.load(path)
    values = image.get_fdata()
    values[dead] = 7.0
    nib.Nifti1Image(values.astype("f4"), image.affine, image.header).to_filename(path)
    with pytest.raises(ValueError, match=r"run-1_bold.nii.gz.*constant within a run.*column 5"):
        open_dataset("nifti", tmp_path, **VOLUME).load("1")
    with pytest.warns(UserWarning, match="1 of 40 voxels"):
        responses = open_dataset("nifti", tmp_path, bad_voxels="drop", **VOLUME).load("1")
    back = responses.to_image(np.arange(1.0, 40)).get_fdata()
    expected = np.insert(np.arange(1.0, 40), 5, 0)
    np.testing.assert_array_equal(back[tuple(simulation.space.indices.T)], expected)


def test_a_block_of_nan_is_told(tmp_path):
    simulation = simulate(tmp_path, dtype="float32")
    path = simulation.paths[0][1]
    image = nib.load(path)
    values = image.get_fdata()
    values[tuple(simulation.space.indices[10:13].T)] = np.where(
        np.arange(image.shape[3]) > 9, np.nan, 1
    )
    values[tuple(np.argwhere(values[..., 0] == 0).T)] = np.nan  # outside of the mask: no concern
    nib.Nifti1Image(values.astype("f4"), image.affine, image.header).to_filename(path)
    with pytest.raises(ValueError, match=r"run-1_bold.nii.gz and 3 more: 3 of 40 voxels .* NaN"):
        open_dataset("nifti", tmp_path, **VOLUME).load("1")
    with pytest.warns(UserWarning, match="3 of 40 voxels"):
        responses = open_dataset("nifti", tmp_path, bad_voxels="drop", **VOLUME).load("1")
    np.testing.assert_array_equal(
        responses.space.indices, np.delete(simulation.space.indices, slice(10, 13), 0)
    )


def test_a_folder_needs_no_options(tmp_path):
    """image, mask and words are found by their names; the subject is the folder's name."""
    simulation = simulate(tmp_path / "p07", n_runs=2)
    folder = tmp_path / "p07"
    for path in simulation.paths[0]:
        path.rename(folder / path.name)
    dataset = open_dataset("nifti", folder)
    assert dataset.subjects == ("p07",)
    assert dataset.load("p07").values.shape == (100, 40)
    named = open_dataset(
        "nifti", folder, subject="anna", image="run-2_bold.nii.gz:run-1_bold.nii.gz"
    )
    assert named.subjects == ("anna",)
    # The runs in the order of their names: run 1 of the words is the first image, here run 2.
    swapped, plain = named.load("anna").values, dataset.load("p07").values
    assert not np.allclose(swapped, plain)
    back = open_dataset("nifti", folder, image=["run-1_bold.nii.gz", "run-2_bold.nii.gz"])
    np.testing.assert_array_equal(back.load("p07").values, plain)


def test_surfaces_are_found_by_their_names(tmp_path):
    simulation = simulate(tmp_path, kind="surface", n_runs=1)
    for path in simulation.paths[0]:
        path.rename(tmp_path / path.name)
    assert open_dataset("nifti", tmp_path, tr=2.0, subject="x").load("x").values.shape == (100, 40)
    with pytest.raises(ValueError, match=r"hemi-L_bold.func.gii does not tell its TR.*tr="):
        open_dataset("nifti", tmp_path, subject="x").load("x")


def test_ten_runs_are_in_the_order_of_their_numbers(tmp_path):
    simulation = simulate(tmp_path, n_runs=11, clock=True, dtype="float32")
    responses = open_dataset("nifti", tmp_path, kind="delay", **RAW, **VOLUME).load("1")
    np.testing.assert_allclose(responses.values[:, 0], simulation.schedule.onsets + 6, atol=1e-3)


def test_one_clock_for_all_runs(tmp_path):
    """Onsets on the clock with gaps, and first_volume= tells when each run began."""
    simulation = simulate(tmp_path, clock=True, dtype="float32")
    schedule = simulation.schedule
    starts = schedule.volume_times[np.unique(schedule.volume_run, return_index=True)[1]]
    per_run = open_dataset("nifti", tmp_path, **RAW, **VOLUME).load("1")
    lines = ["word\tonset\tduration"]
    lines += [f"{word}\t{onset}\t0.5" for word, onset in zip(WORDS, schedule.onsets, strict=True)]
    (tmp_path / "words.tsv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset("nifti", tmp_path, first_volume=tuple(starts), **RAW, **VOLUME)
    np.testing.assert_array_equal(dataset.stimulus.onsets, schedule.onsets)
    np.testing.assert_array_equal(dataset.stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(dataset.load("1").values, per_run.values)
    with pytest.raises(
        ValueError, match=r"words.tsv has no column 'run' for 4 images.*first_volume"
    ):
        open_dataset("nifti", tmp_path, **VOLUME)


def test_times_of_the_volumes(tmp_path):
    """What the clock voxel reads out moves by what the volumes' times are moved."""
    simulate(tmp_path, n_runs=1, clock=True, dtype="float32")
    options = {"kind": "delay", "delay": 0.0, **RAW, **VOLUME}
    dataset = open_dataset("nifti", tmp_path, **options)
    onsets, plain = dataset.stimulus.onsets, dataset.load("1").values[:, 0]
    np.testing.assert_allclose(plain, onsets, atol=1e-4)
    later = open_dataset("nifti", tmp_path, slice_time_ref=0.5, **options).load("1")
    np.testing.assert_allclose(later.values[:, 0], onsets - 1.0, atol=1e-4)
    shifted = open_dataset("nifti", tmp_path, first_volume=-4.0, **options).load("1")
    np.testing.assert_allclose(shifted.values[:, 0], onsets + 4.0, atol=1e-4)
    slower = open_dataset("nifti", tmp_path, tr=4.0, **options).load("1")
    np.testing.assert_allclose(slower.values[:, 0], onsets / 2, atol=1e-4)


@pytest.mark.parametrize("unit", ["sec", "msec", "usec"])
@pytest.mark.parametrize("compressed", [True, False])
def test_the_unit_of_the_tr_and_plain_files(tmp_path, unit, compressed):
    simulate(tmp_path, n_runs=2, tr=0.72, unit=unit, compressed=compressed)
    responses = open_dataset("nifti", tmp_path, image="sub-{subject}/run-*_bold.nii*").load("1")
    assert responses.meta["tr"] == pytest.approx(0.72) and responses.valid.all()


def test_a_tr_that_nobody_knows(tmp_path):
    simulate(tmp_path, n_runs=1)
    path = tmp_path / "sub-1" / "run-1_bold.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[92:96] = np.float32(0).tobytes()  # pixdim[4]
    path.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(ValueError, match=r"run-1_bold.nii.gz does not tell its TR.*give tr="):
        open_dataset("nifti", tmp_path, **VOLUME).load("1")
    assert open_dataset("nifti", tmp_path, tr=2.0, **VOLUME).load("1").meta["tr"] == 2.0


def without_unit(path, step):
    """Write the header as nibabel does for an image that was made of an array."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[92:96] = np.float32(step).tobytes()  # pixdim[4]
    data[123] &= 7  # xyzt_units without its unit of time
    path.write_bytes(gzip.compress(bytes(data)))


def test_a_step_of_one_without_a_unit_is_no_tr(tmp_path):
    """The planted clock comes back with the sidecar's TR, and nothing does without one."""
    simulate(tmp_path, n_runs=1, tr=0.72, clock=True, dtype="float32")
    path = tmp_path / "sub-1" / "run-1_bold.nii.gz"
    without_unit(path, 1.0)
    options = {"kind": "delay", "delay": 0.0, **RAW, **VOLUME}
    with pytest.raises(ValueError, match=r"run-1_bold.nii.gz does not tell its TR.*give tr="):
        open_dataset("nifti", tmp_path, **options).load("1")
    sidecar = path.with_name("run-1_bold.json")
    sidecar.write_text('{"RepetitionTime": 0.72}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses = open_dataset("nifti", tmp_path, **options).load("1")
    assert responses.meta["tr"] == pytest.approx(0.72)
    np.testing.assert_allclose(responses.values[:, 0], responses.stimulus.onsets, atol=1e-4)
    without_unit(path, 0.8)  # measured by whoever wrote it; the sidecar comes first all the same
    with pytest.warns(UserWarning, match=r"TR of 0.8 s and its JSON sidecar one of 0.72 s"):
        assert open_dataset("nifti", tmp_path, **options).load("1").meta["tr"] == pytest.approx(
            0.72
        )
    sidecar.write_text('{"RepetitionTime": 0.72, "SliceTimingCorrected": true}')
    with pytest.warns(UserWarning, match=r"taken to be 0.36 s later"):
        later = open_dataset("nifti", tmp_path, **options, tr=0.72).load("1")
    np.testing.assert_allclose(later.values[:, 0], later.stimulus.onsets - 0.36, atol=1e-4)


def test_a_tr_of_one_second_that_a_header_tells_stays_silent(tmp_path):
    simulate(tmp_path, n_runs=1, tr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_dataset("nifti", tmp_path, **VOLUME).load("1").meta["tr"] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["float64", "scaled", "atlas"])
def test_an_offset_in_the_files_changes_no_response(tmp_path, kind):
    """Of 3e7, at which the steps of float32 are as large as the signal."""
    simulation = simulate(tmp_path, n_runs=1, dtype="float32", n_voxels=20)
    options = dict(VOLUME)
    if kind == "atlas":
        labels = np.zeros(simulation.space.shape, np.int16)
        labels[tuple(simulation.space.indices.T)] = np.arange(1, 21)
        nib.Nifti1Image(labels, simulation.space.affine).to_filename(tmp_path / "atlas.nii.gz")
        options["atlas"] = "atlas.nii.gz"
    path = tmp_path / "sub-1" / "run-1_bold.nii.gz"
    image = nib.load(path)
    header, values = image.header.copy(), np.asarray(image.dataobj, np.float64)
    values = np.round(values * (1000 / np.abs(values).max()))
    header.set_data_dtype(np.int16 if kind == "scaled" else np.float64)

    def responses(offset):
        stored = values.astype(np.int16) if kind == "scaled" else values + offset
        nib.Nifti1Image(stored, image.affine, header).to_filename(path)
        if kind == "scaled":
            data = bytearray(gzip.decompress(path.read_bytes()))
            data[112:120] = np.array([1.0, offset], "<f4").tobytes()  # scl_slope, scl_inter
            path.write_bytes(gzip.compress(bytes(data), 1))
        return open_dataset("nifti", tmp_path, **options).load("1").values

    np.testing.assert_allclose(responses(3e7), responses(0.0), atol=1e-5)


def test_regions_of_an_atlas_have_names(simulated, tmp_path):
    folder, simulation = simulated
    indices = simulation.space.indices
    labels = np.zeros(simulation.space.shape, np.int16)
    labels[tuple(indices.T)] = np.where(indices[:, 0] > 2, 12, 3)
    nib.Nifti1Image(labels, simulation.space.affine).to_filename(tmp_path / "atlas.nii.gz")
    (tmp_path / "names.txt").write_text("3 Front\n12 Back\n")
    dataset = open_dataset(
        "nifti",
        folder,
        atlas=str(tmp_path / "atlas.nii.gz"),
        labels=str(tmp_path / "names.txt"),
        kind="delay",
        **RAW,
        **VOLUME,
    )
    responses = dataset.load("2")
    assert responses.meta["feature_names"] == ["Front", "Back"]
    voxels = open_dataset("nifti", folder, kind="delay", **RAW, **VOLUME).load("2").values
    expected = [voxels[:, labels[tuple(indices.T)] == region].mean(axis=1) for region in (3, 12)]
    np.testing.assert_allclose(responses.values, np.stack(expected, 1), rtol=1e-5)
    painted = responses.to_image([1.0, 2.0]).get_fdata()
    np.testing.assert_array_equal(painted, np.where(labels == 3, 1.0, np.where(labels, 2.0, 0)))


def test_confounds_are_regressed_out_run_by_run(tmp_path):
    """Voxels that recorded nothing but a confound are nothing without it."""
    simulation = simulate(tmp_path, n_runs=2, dtype="float32")
    rng = np.random.default_rng(5)
    for path in simulation.paths[0]:
        n = nib.load(path).shape[3]
        course = rng.standard_normal((n, 2))
        volumes = 100 + course @ rng.standard_normal((2, 40)) + 1e-4 * rng.standard_normal((n, 40))
        write_volumes(path, volumes, simulation.space, n, tr=2.0, dtype="float32")
        lines = ["a\tb\tother"] + [f"{a!r}\t{b!r}\tx" for a, b in course.tolist()]
        name = path.name.replace("_bold.nii.gz", "_confounds.tsv")
        (path.parent / name).write_text("\n".join(lines) + "\n")
    options = {**VOLUME, "standardize": False, "confounds": "sub-{subject}/*_confounds.tsv"}
    without = open_dataset("nifti", tmp_path, standardize=False, **VOLUME).load("1")
    responses = open_dataset("nifti", tmp_path, confound_columns="a:b", **options).load("1")
    assert responses.meta["cleaning"]["confounds"] == 2
    assert np.abs(responses.values).max() < 1e-3 < 0.1 < np.abs(without.values).max()
    with pytest.raises(ValueError, match=r"confounds.tsv: column 'other' holds 'x' in row 1"):
        open_dataset("nifti", tmp_path, **options).load("1")
    options["confounds"] = "sub-{subject}/run-1_confounds.tsv"
    with pytest.raises(ValueError, match="1 tables of confounds are given for 2 runs"):
        open_dataset("nifti", tmp_path, **options).load("1")


def test_subjects_may_have_onsets_of_their_own(tmp_path):
    simulate(tmp_path, n_subjects=2)
    text = (tmp_path / "words.tsv").read_text()
    lines = [line.split("\t") for line in text.splitlines()]
    (tmp_path / "sub-1" / "words.tsv").write_text(text)
    later = [lines[0]] + [[repr(float(line[0]) + 0.5), *line[1:]] for line in lines[1:]]
    (tmp_path / "sub-2" / "words.tsv").write_text("\n".join(map("\t".join, later)) + "\n")
    dataset = open_dataset("nifti", tmp_path, words="sub-{subject}/words.tsv", **VOLUME)
    first, second = (dataset.load(subject) for subject in dataset.subjects)
    np.testing.assert_array_equal(first.stimulus.onsets + 0.5, second.stimulus.onsets)
    later[50][3] = "another"
    (tmp_path / "sub-2" / "words.tsv").write_text("\n".join(map("\t".join, later)) + "\n")
    with pytest.raises(
        ValueError, match=r"sub-2/words.tsv: word 25 of run 2 is 'another' where .*sub-1"
    ):
        open_dataset("nifti", tmp_path, words="sub-{subject}/words.tsv", **VOLUME)
    alone = open_dataset("nifti", tmp_path, subjects="2", words="sub-{subject}/words.tsv", **VOLUME)
    assert alone.stimulus.words[49] == "another"


def test_subjects_by_name_and_number(simulated):
    folder, _ = simulated
    for asked in (2, "2", "sub-2", ["2"], [2]):
        assert open_dataset("nifti", folder, subjects=asked, **VOLUME).subjects == ("2",)
    with pytest.raises(ValueError, match=r"unknown subject '3' of nifti; known: 1, 2"):
        open_dataset("nifti", folder, subjects="3", **VOLUME)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, FileNotFoundError, r"no \*bold\*.nii.gz .*image="),
        ({"image": "sub-{subject}/nothing*"}, FileNotFoundError, "no .*for any subject"),
        (
            {"image": "sub-1/run-1_bold.nii.gz:x.nii"},
            FileNotFoundError,
            "no .*x.nii; correct image=",
        ),
        ({"words": "none.tsv", **VOLUME}, FileNotFoundError, r"no .*none.tsv; correct words="),
        ({"words": "", **VOLUME}, ValueError, "words= is ''"),
        ({"image": "a.nii", "left": "b.gii"}, ValueError, "not both"),
        ({"word_column": "token", **VOLUME}, ValueError, "no column 'token'; known: "),
        ({"words": "words.tsv:words.tsv", **VOLUME}, ValueError, "2 tables of words .* 4 runs"),
        ({"image": "sub-{subject}/run-1*"}, ValueError, r"'run' holds \[1, 2, 3, 4\] for 1 images"),
        ({"radius": 3, **VOLUME}, ValueError, "unknown option 'radius'"),
    ],
)
def test_what_cannot_be_opened(simulated, options, error, message):
    with pytest.raises(error, match=message):
        open_dataset("nifti", simulated[0], **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": "no.nii"}, FileNotFoundError, "no .*no.nii; correct mask="),
        ({"atlas": "no.nii"}, FileNotFoundError, "no .*no.nii; correct atlas="),
        ({"labels": "words.tsv"}, ValueError, "no atlas is given"),
        ({"confounds": "no.tsv"}, FileNotFoundError, "no .*no.tsv; correct confounds="),
        ({"tr": 0.5}, ValueError, r"words.tsv.*words of run 1 begin after its last volume"),
        ({"first_volume": (0.0, 1.0)}, ValueError, "for 4 runs"),
        ({"slice_time_ref": 2.0}, ValueError, "0 to 1"),
    ],
)
def test_what_cannot_be_loaded(simulated, options, error, message):
    with pytest.raises(error, match=message):
        open_dataset("nifti", simulated[0], **VOLUME, **options).load("1")


def test_masks_are_for_volumes_only(tmp_path):
    simulate(tmp_path, kind="cifti", n_runs=1)
    dataset = open_dataset("nifti", tmp_path, mask="epi", **OPTIONS["cifti"])
    with pytest.raises(ValueError, match="are for NIfTI images"):
        dataset.load("1")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_dataset("nifti", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-3] + [t[-2], t[-3], t[-1]], r"row \d+ .* begins before the row above"),
        (lambda t: [t[0], *reversed(t[1:])], "begins before the row above"),
        (lambda t: t[:5] + ["-".join(t[5].split("\t")[:2])] + t[6:], "fields for 4 columns"),
        (lambda t: t[:5] + [t[5].replace("0.5", "-0.5", 1)] + t[6:], "lasts -0.5 s|begins before"),
        (lambda t: t[:5] + ["\t".join([*t[5].split("\t")[:3], ""])] + t[6:], "row 5 has no word"),
        (lambda t: t[:5] + ["nan\t0.5\t1\tx"] + t[6:], "row 5 .* has onset nan"),
        (lambda t: t[:1], "holds no words"),
        (lambda t: [t[0].replace("onset", "start"), *t[1:]], "no column 'onset'"),
    ],
)
def test_damaged_words_are_named(tmp_path, change, message):
    simulate(tmp_path, n_runs=1)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset("nifti", tmp_path, **VOLUME)
    assert "words.tsv" in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1000, r"words\.tsv: onsets: .* the median is 500 s.*divide milliseconds by 1000"),
        (100, r"words\.tsv: 100 words of run 1 begin after its last volume"),
    ],
)
def test_onsets_in_another_unit_are_told(tmp_path, factor, message):
    simulate(tmp_path, n_runs=1)

    def manifold(lines):
        rows = [line.split("\t") for line in lines[1:]]
        return [lines[0]] + ["\t".join([repr(factor * float(r[0])), *r[1:]]) for r in rows]

    rewrite(tmp_path, manifold)
    with pytest.raises(ValueError, match=message):
        open_dataset("nifti", tmp_path, **VOLUME).load("1")


def test_a_word_before_the_first_volume_is_not_valid(tmp_path):
    """The first volumes may have been discarded: onsets before them are no error."""
    simulate(tmp_path, n_runs=1)
    dataset = open_dataset("nifti", tmp_path, first_volume=30.0, **VOLUME)
    with pytest.warns(UserWarning, match="does not cover the response"):
        responses = dataset.load("1")
    np.testing.assert_array_equal(responses.valid, dataset.stimulus.onsets + 6.25 >= 30)


def test_damaged_images_never_escape(simulated, tmp_path):
    """Bytes flipped or cut anywhere in a compressed run: a clear error, or the same result."""
    folder, _ = simulated
    shutil.copytree(folder, tmp_path / "x")
    path = tmp_path / "x" / "sub-1" / "run-3_bold.nii.gz"
    whole = path.read_bytes()
    expected = open_dataset("nifti", folder, **VOLUME).load("1").values
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(30):
        data = bytearray(whole)
        if trial % 3:
            for position in rng.integers(0, len(data), 1 + trial % 4):
                data[position] ^= 1 << int(rng.integers(8))
        else:
            data = data[: int(rng.integers(0, len(data)))]
        path.write_bytes(data)
        try:
            values = open_dataset("nifti", tmp_path / "x", **VOLUME).load("1").values
            np.testing.assert_array_equal(values, expected)
        except ValueError as error:
            assert "run-3_bold.nii.gz" in str(error), error
            refused += 1
    assert refused > 20
