import filecmp
import warnings

import nibabel as nib
import numpy as np
import pytest
from simulate.bids import simulate_bids

from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.images import KINDS, simulate_nifti, write_mask, write_volumes
from brainalign_jax.neural.space import VoxelSpace

WORDS = story_words()[:60]
VECTORS = np.random.default_rng(0).standard_normal((60, 3))


def simulate(folder, **settings):
    return simulate_nifti(
        folder, words=WORDS, vectors=VECTORS, **{"n_voxels": 30, "n_runs": 2, **settings}
    )


def values_in(image, space):
    """[time, V] by nibabel alone."""
    if space.kind == "volume":
        return image.get_fdata()[tuple(space.indices.T)].T
    return image.get_fdata()


@pytest.mark.parametrize("kind", ["volume", "cifti"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_files_hold_what_is_planted(tmp_path, kind, dtype):
    simulation = simulate(tmp_path, kind=kind, dtype=dtype, n_subjects=2)
    assert len(simulation.paths) == 2 and len(simulation.paths[0]) == 2
    for index, paths in enumerate(simulation.paths):
        stored = np.concatenate([values_in(nib.load(path), simulation.space) for path in paths])
        np.testing.assert_array_equal(stored, simulation.stored(index))
        planted = simulation.planted.array(index)
        rounding = 2.0**-7 if simulation.scaling else 0
        assert np.abs(stored - planted).max() <= rounding + 1e-5 and stored.std() > 1
    assert (simulation.scaling is not None) == (dtype == "int16" and kind == "volume")
    assert not np.array_equal(simulation.weights[0], simulation.weights[1])


def test_volumes_have_a_mask_and_a_background(tmp_path):
    simulation = simulate(tmp_path)
    mask, image = nib.load(tmp_path / "mask.nii.gz"), nib.load(simulation.paths[0][0])
    inside = np.asarray(mask.dataobj).astype(bool)
    assert inside.sum() == 30 and mask.shape == image.shape[:3]
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert not image.get_fdata()[~inside].any() and image.get_fdata()[inside].min() > 80
    assert image.header.get_zooms()[3] == 2.0 and image.header.get_xyzt_units() == ("mm", "sec")
    assert image.get_data_dtype() == np.int16


def test_surfaces_have_a_medial_wall(tmp_path):
    simulation = simulate(tmp_path, kind="surface")
    images = [nib.load(path) for path in simulation.paths[0][:2]]
    series = [np.stack([array.data for array in image.darrays]) for image in images]
    np.testing.assert_array_equal((series[0] == 0).all(axis=0), [False] * 15 + [True] * 7)
    np.testing.assert_array_equal((series[1] == 0).all(axis=0), [True] * 7 + [False] * 15)
    n = len(series[0])
    np.testing.assert_array_equal(
        np.concatenate([series[0][:, :15], series[1][:, 7:]], axis=1), simulation.stored(0)[:n]
    )


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, seed=seed)
    names = ["sub-1/run-1_bold.nii.gz", "sub-1/run-2_bold.nii.gz", "words.tsv", "mask.nii.gz"]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "c", names, shallow=False)[0] == names[2:]


def test_a_volume_of_the_asked_shape(tmp_path):
    simulation = simulate(tmp_path, shape=(9, 4, 5))
    assert nib.load(simulation.paths[0][0]).shape[:3] == (9, 4, 5)


def test_volumes_are_written_one_by_one(tmp_path):
    space = VoxelSpace.volume([[0, 0, 0], [1, 2, 1]], (2, 3, 2), np.diag([2.0, 2, 2, 1]))
    rows = iter([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    path = tmp_path / "a.nii.gz"
    write_volumes(path, rows, space, 2, tr=1.5, dtype="float32", unit="msec", outside=np.nan)
    image = nib.load(path)
    assert image.header["pixdim"][4] == 1500 and np.isnan(image.get_fdata()).sum() == 20
    np.testing.assert_array_equal(image.get_fdata()[1, 2, 1], [2, 4])
    write_mask(tmp_path / "m.nii", space)
    np.testing.assert_array_equal(np.argwhere(nib.load(tmp_path / "m.nii").dataobj), space.indices)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mesh"}, "unknown kind='mesh'"),
        ({"dtype": "int8"}, "unknown dtype='int8'"),
        ({"shape": (2, 2, 2)}, "30 voxels do not fit"),
        ({"snr": -1}, "snr -1"),
        ({"n_runs": 61}, "60 words cannot fill 61 runs"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, **settings)


def test_a_bids_folder(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulations = simulate_bids(
            tmp_path,
            words=WORDS,
            vectors=VECTORS,
            outputs=("raw", *KINDS),
            n_runs=2,
            n_voxels=30,
            session="b",
        )
    stem = "sub-02/ses-b/func/sub-02_ses-b_task-story_run-1"
    derived = tmp_path / "derivatives" / "fmriprep"
    for root, ending in (
        (tmp_path, "_bold.nii.gz"),
        (tmp_path, "_events.tsv"),
        (derived, "_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"),
        (derived, "_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz"),
        (derived, "_hemi-R_space-fsaverage5_bold.func.gii"),
        (derived, "_space-fsLR_den-91k_bold.dtseries.nii"),
        (derived, "_desc-confounds_timeseries.tsv"),
    ):
        assert (root / f"{stem}{ending}").is_file(), ending
    # All outputs are one recording.
    first = simulations["raw"].planted.array(1)
    for simulation in simulations.values():
        np.testing.assert_array_equal(simulation.planted.array(1), first)
    with pytest.raises(ValueError, match="unknown output "):
        simulate_bids(tmp_path, words=WORDS, vectors=VECTORS, outputs=("mesh",))
