import io

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis

from brainalign_jax.neural.space import VoxelSpace

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0.1, -126], [0, -0.1, 3, -72], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)
VOXELS = np.array([[3, 0, 2], [0, 1, 4], [2, 3, 0], [3, 3, 4], [1, 1, 1]])
LABELS = np.zeros((4, 5, 6), np.int16)
LABELS[0, :2, :3], LABELS[2:, 4, 1], LABELS[1, 1, 5] = 30, 7, 12


def volume(affine=AFFINE):
    return VoxelSpace.volume(VOXELS, (4, 5, 6), affine)


def surface():
    return VoxelSpace.surface([0, 9, 4], [7, 2], n_left=10, n_right=8)


def brain_models():
    left = BrainModelAxis.from_surface(np.array([5, 1, 8]), 10, name="CortexLeft")
    right = BrainModelAxis.from_surface(np.array([0, 3]), 12, name="CortexRight")
    mask = np.zeros((4, 5, 6), bool)
    mask[tuple(VOXELS.T)] = True
    return left + right + BrainModelAxis.from_mask(mask, "ThalamusLeft", AFFINE)


def cifti():
    return VoxelSpace.cifti(brain_models())


def atlas():
    return VoxelSpace.atlas(LABELS, [7, 30, 12], AFFINE)


SPACES = {"volume": volume, "surface": surface, "cifti": cifti, "atlas": atlas}


def data(image):
    if isinstance(image, tuple):
        return np.concatenate([np.stack(side.agg_data(), -1).ravel() for side in image])
    return np.asarray(image.dataobj)


def test_a_volume_puts_every_score_at_its_voxel():
    scores = RNG.standard_normal((3, 5))
    image = volume().to_image(scores)
    assert image.shape == (4, 5, 6, 3) and image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, AFFINE)
    expected = np.zeros((4, 5, 6, 3), np.float32)
    for voxel, column in zip(VOXELS, scores.T, strict=True):
        expected[tuple(voxel)] = column
    np.testing.assert_array_equal(data(image), expected)
    single = volume().to_image(scores[1], fill=np.nan)
    assert single.shape == (4, 5, 6) and np.isnan(data(single)).sum() == 4 * 5 * 6 - 5
    np.testing.assert_array_equal(data(single)[tuple(VOXELS.T)], scores[1].astype(np.float32))


def test_coordinates_are_in_mm_or_in_voxels():
    for voxel, place in zip(VOXELS, volume().coordinates, strict=True):
        np.testing.assert_allclose(place, AFFINE[:3] @ [*voxel, 1])
    np.testing.assert_array_equal(volume(None).coordinates, VOXELS)
    np.testing.assert_array_equal(volume(None).to_image(np.ones(5)).affine, np.eye(4))
    assert np.isnan(surface().coordinates).all() and surface().coordinates.shape == (5, 3)
    mixed = cifti().coordinates
    assert np.isnan(mixed[:5]).all()
    voxels = np.array(sorted(map(tuple, VOXELS)))
    np.testing.assert_allclose(mixed[5:], nib.affines.apply_affine(AFFINE, voxels))
    for row, region in enumerate([7, 30, 12]):
        centre = np.argwhere(region == LABELS).mean(axis=0)
        np.testing.assert_allclose(atlas().coordinates[row], AFFINE[:3] @ [*centre, 1])


def test_an_atlas_fills_its_regions():
    scores = np.array([[1.0, 2, 3], [4, 5, np.nan]])
    image = atlas().to_image(scores, fill=-1)
    for row in range(2):
        row_image = data(image)[..., row]
        for region, score in zip((7, 30, 12), scores[row], strict=True):
            assert np.array_equal(
                row_image[region == LABELS], np.full((region == LABELS).sum(), score), True
            )
        assert (row_image[LABELS == 0] == -1).all()
    # A region that is not selected is outside, like the background.
    some = data(atlas().select([2, 0]).to_image([8.0, 9.0]))
    assert (some[LABELS == 12] == 8).all() and (some[LABELS == 7] == 9).all()
    assert not some[(LABELS == 30) | (LABELS == 0)].any()


def test_a_surface_gives_two_hemispheres(tmp_path):
    left, right = surface().to_image(np.array([[1.0, 2, 3, 4, 5], [6, 7, 8, 9, 10]]))
    left.to_filename(tmp_path / "left.shape.gii")
    back = nib.load(tmp_path / "left.shape.gii")
    np.testing.assert_array_equal(back.agg_data()[1], [6, 0, 0, 0, 8, 0, 0, 0, 0, 7])
    np.testing.assert_array_equal(right.agg_data()[0], [0, 0, 5, 0, 0, 0, 0, 4])
    assert back.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    only_right = VoxelSpace.surface(right=[1], n_right=3)
    left_image, right_image = only_right.to_image([2.5])
    assert left_image is None
    np.testing.assert_array_equal(right_image.agg_data(), [0, 2.5, 0])


def test_cifti_scores_are_a_dscalar_over_the_whole_axis(tmp_path):
    space = cifti().select([9, 0, 6])
    scores = np.array([1.0, 2.0, 3.0])
    space.to_image(scores).to_filename(tmp_path / "scores.dscalar.nii")
    back = nib.load(tmp_path / "scores.dscalar.nii")
    maps, models = (back.header.get_axis(index) for index in (0, 1))
    assert models == brain_models() and len(maps) == 1
    expected = np.zeros((1, 10))
    expected[0, [9, 0, 6]] = scores
    np.testing.assert_array_equal(back.get_fdata(), expected)


def test_a_cifti_without_voxels():
    axis = BrainModelAxis.from_surface(np.arange(4), 6, name="CortexLeft")
    space = VoxelSpace.cifti(axis)
    assert space.to_image(np.ones(4)).header.get_axis(1) == axis
    assert space.same_as(VoxelSpace.from_arrays(space.to_arrays()))


@pytest.mark.parametrize("kind", SPACES)
def test_storage_without_pickles(kind):
    space = SPACES[kind]()
    file = io.BytesIO()
    np.savez(file, **space.to_arrays())
    with np.load(io.BytesIO(file.getvalue()), allow_pickle=False) as arrays:
        back = VoxelSpace.from_arrays(dict(arrays))
    assert type(back) is type(space) and back.same_as(space) and back.kind == kind
    assert back.fingerprint() == space.fingerprint()
    scores = RNG.standard_normal((2, space.n_columns))
    np.testing.assert_array_equal(data(back.to_image(scores)), data(space.to_image(scores)))
    for array in (value for value in vars(back).values() if isinstance(value, np.ndarray)):
        assert not array.flags.writeable and array.dtype != object


@pytest.mark.parametrize("kind", SPACES)
def test_selected_columns_keep_their_places(kind):
    space = SPACES[kind]()
    n = space.n_columns
    order = RNG.permutation(n)[: n - 1]
    part = space.select(order)
    assert part.n_columns == n - 1 and not part.same_as(space)
    np.testing.assert_array_equal(part.coordinates, space.coordinates[order])
    scores = RNG.standard_normal(n)
    left_out = np.setdiff1d(np.arange(n), order)
    filled = scores.copy()
    filled[left_out] = 0
    np.testing.assert_array_equal(data(part.to_image(scores[order])), data(space.to_image(filled)))
    mask = np.zeros(n, bool)
    mask[order] = True
    assert space.select(mask).same_as(space.select(np.sort(order)))
    assert space.select([-1]).same_as(space.select([n - 1]))


def test_fingerprints_tell_spaces_apart():
    spaces = [
        *(make() for make in SPACES.values()),
        volume(None),
        VoxelSpace.volume(VOXELS, (4, 5, 7), AFFINE),
        VoxelSpace.surface([0, 9, 4], [7, 2], n_left=10, n_right=9),
    ]
    assert len({space.fingerprint() for space in spaces}) == len(spaces)
    assert (
        volume().fingerprint()
        == VoxelSpace.volume(VOXELS.astype(np.float32), [4, 5, 6], AFFINE.tolist()).fingerprint()
    )
    assert not volume().same_as("volume")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VoxelSpace.volume([[0, 0, 6]], (4, 5, 6)), r"indices\[0\].*outside"),
        (lambda: VoxelSpace.volume([[0, -1, 0]], (4, 5, 6)), "below 0"),
        (lambda: VoxelSpace.volume([[0, 0.5, 0]], (4, 5, 6)), "not whole"),
        (lambda: VoxelSpace.volume([[np.nan, 0, 0]], (4, 5, 6)), "not whole"),
        (lambda: VoxelSpace.volume([[1, 1, 1], [1, 1, 1]], (4, 5, 6)), r"\(1, 1, 1\) comes twice"),
        (lambda: VoxelSpace.volume([[1, 1]], (4, 5, 6)), r"shape \(1, 2\)"),
        (lambda: VoxelSpace.volume(np.zeros((0, 3)), (4, 5, 6)), "no voxels"),
        (lambda: VoxelSpace.volume(VOXELS, (4, 5)), "three sizes"),
        (lambda: VoxelSpace.volume(VOXELS, (4, 5, 6), np.zeros((4, 4))), "invertible"),
        (lambda: VoxelSpace.volume(VOXELS, (4, 5, 6), np.eye(3)), r"\(3, 3\)"),
        (lambda: VoxelSpace.surface([10], n_left=10), "outside a mesh of 10"),
        (lambda: VoxelSpace.surface([1, 1], n_left=10), "left vertex 1 comes twice"),
        (lambda: VoxelSpace.surface(), "no vertices"),
        (lambda: VoxelSpace.surface([[1]], n_left=2), "vector of vertex indices"),
        (lambda: VoxelSpace.atlas(LABELS, [7, 8], AFFINE), r"\[8\] are not in"),
        (lambda: VoxelSpace.atlas(LABELS, [0], AFFINE), "below 1"),
        (lambda: VoxelSpace.atlas(LABELS, [7, 7], AFFINE), "region 7 comes twice"),
        (lambda: VoxelSpace.atlas(LABELS[0], [7], AFFINE), "3 axes"),
        (lambda: volume().select([5]), "column 5 is outside"),
        (lambda: volume().select(np.ones(4, bool)), "4 entries for 5"),
        (lambda: volume().select([]), "no column"),
        (lambda: volume().select([1, 1]), "comes twice"),
        (lambda: volume().select([0.0]), "integer indices"),
        (lambda: volume().to_image(np.ones(6)), r"\(6,\)"),
        (lambda: volume().to_image(np.ones((0, 5))), r"\(0, 5\)"),
        (lambda: volume().to_image(np.ones(5, complex)), "complex"),
        (lambda: VoxelSpace.from_arrays({}), "kind ''"),
        (lambda: VoxelSpace.from_arrays({"kind": np.array("volume")}), "do not describe a volume"),
        (
            lambda: VoxelSpace.from_arrays({**volume().to_arrays(), "labels": LABELS}),
            "no array 'labels'",
        ),
    ],
)
def test_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": np.array([10])}, "outside 10 grayordinates"),
        ({"columns": np.zeros(0, int)}, "no columns"),
        ({"structure": np.full(10, 3)}, "outside 3 names"),
        ({"vertices": np.full(10, -1)}, "-1 where"),
        ({"voxels": np.full((10, 3), 9)}, "outside a volume"),
        ({"vertices": np.arange(9)}, "9 vertices"),
        ({"affine": None}, "give shape and affine"),
    ],
)
def test_clear_errors_of_a_damaged_cifti_space(change, message):
    arrays = cifti().to_arrays() | change
    arrays = {name: value for name, value in arrays.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        VoxelSpace.from_arrays(arrays)
