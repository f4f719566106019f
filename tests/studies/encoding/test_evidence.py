import itertools

import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis
from scipy import stats

from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.encoding import evidence, sizes, spaces
from brainalign_jax.studies.encoding.scores import FoldShapes

WORDS = Stimulus(("a", "b"), onsets=np.array([1.0, 2.0]))


def person(subject, n_columns, space=None, names=None):
    values = np.zeros((4, n_columns), np.float32)
    return TimeCourses(subject, values, np.arange(4.0), np.zeros(4, int), WORDS, {}, space, names)


def test_p_values_of_shifts_by_hand():
    added = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    added[0, :2] = 9.0, added[:, 0].mean()
    added[5, 5] = np.nan
    tested = evidence.by_shifts(added)
    for voxel in range(5):
        reached = sum(value >= added[0, voxel] for value in added[1:, voxel])
        assert tested.p[voxel] == pytest.approx((1 + reached) / 40)
        largest = sum(value >= added[0, voxel] for value in added[1:, :5].max(axis=1))
        assert tested.p_max[voxel] == pytest.approx((1 + largest) / 40)
    assert np.isnan(tested.p[5]) and np.isnan(tested.p_max[5]) and np.isnan(tested.q[5])
    np.testing.assert_allclose(tested.q[:5], stats.false_discovery_control(tested.p[:5]))


def test_what_differs_by_rounding_alone_is_a_tie():
    tested = evidence.by_shifts(np.array([[1e-7, 0.1], [0.0, 0.0], [0.0, 0.0]], np.float32))
    assert tested.p.tolist() == [1.0, pytest.approx(1 / 3)] == tested.p_max.tolist()


def test_sign_flips_of_few_people_are_all_there_are(monkeypatch):
    monkeypatch.setattr(evidence, "_AT_ONCE", 12)  # several blocks
    values = np.random.default_rng(1).standard_normal((4, 5)) + [1, 0, 0, 2, 0]
    tested = evidence.by_sign_flips(values, 4999, seed=0)
    flips = np.array(list(itertools.product([1, -1], repeat=4)))
    means = flips @ values / 4
    for voxel in range(5):
        observed = values[:, voxel].mean()
        assert tested.p[voxel] == pytest.approx((means[:, voxel] >= observed - 1e-9).mean())
        assert tested.p_max[voxel] == pytest.approx((means.max(axis=1) >= observed - 1e-9).mean())


def test_common_places_in_volumes_whatever_the_order_and_what_is_left_out():
    indices = np.indices((2, 3, 2)).reshape(3, -1).T
    first = VoxelSpace.volume(indices, (2, 3, 2), np.eye(4)).select(np.arange(1, 12))
    order = np.array([11, 3, 0, 7, 5])
    second = VoxelSpace.volume(indices[order], (2, 3, 2), np.eye(4))
    columns = spaces.common_columns([person("A", 11, first), person("B", 5, second)])
    own = [space.indices[rows] for space, rows in zip((first, second), columns, strict=True)]
    np.testing.assert_array_equal(own[0], own[1])
    assert sorted(order[columns[1]]) == [3, 5, 7, 11]
    moved = VoxelSpace.volume(indices[order], (2, 3, 2), 2 * np.eye(4))
    assert spaces.common_columns([person("A", 11, first), person("B", 5, moved)]) is None


def test_common_places_of_surfaces_grayordinates_regions_and_names():
    left = [VoxelSpace.surface(np.array(own), None, n_left=9) for own in ([1, 4, 8], [8, 2, 1])]
    columns = spaces.common_columns([person(n, 3, own) for n, own in zip("AB", left, strict=True)])
    assert [own.tolist() for own in columns] == [[0, 2], [2, 0]]
    axis = BrainModelAxis.from_surface(np.arange(4), 6, "CortexLeft")
    gray = VoxelSpace.cifti(axis)
    columns = spaces.common_columns([person("A", 4, gray), person("B", 3, gray.select([3, 0, 1]))])
    assert [own.tolist() for own in columns] == [[0, 1, 3], [1, 2, 0]]
    labels = np.array([[[1, 1], [2, 3]]])
    atlas = VoxelSpace.atlas(labels, [1, 2, 3])
    columns = spaces.common_columns([person("A", 3, atlas), person("B", 2, atlas.select([2, 0]))])
    assert [own.tolist() for own in columns] == [[0, 2], [1, 0]]
    named = [person("A", 2, None, ("x", "y")), person("B", 2, None, ("y", "z"))]
    assert [own.tolist() for own in spaces.common_columns(named)] == [[1], [0]]
    assert spaces.common_columns([person("A", 2), person("B", 2)]) is None
    assert spaces.common_columns([person("A", 4, gray), person("B", 3, atlas)]) is None


def test_columns_with_names_are_regions_and_others_one():
    named = [person("A", 2, None, ("x", "y")), person("B", 2, None, ("y", "z"))]
    regions = spaces.own_regions(named)
    assert regions.names == ("x", "y", "z")
    assert [own.tolist() for own in regions.of_column.values()] == [[0, 1], [1, 2]]
    whole = spaces.own_regions([named[0], person("B", 3)])
    assert whole.names == ("whole",) and whole.of_column["B"].tolist() == [0, 0, 0]


def test_means_of_regions_leave_out_what_is_not_known():
    values = np.array([[1.0, 3.0, np.nan, 7.0], [2.0, 2.0, 2.0, 2.0]])
    means = spaces.region_means(values, np.array([0, 0, 0, -1]), 2)
    np.testing.assert_array_equal(means, [[2.0, np.nan], [2.0, np.nan]])


def test_an_atlas_is_of_volumes(tmp_path):
    import nibabel as nib

    path = tmp_path / "atlas.nii"
    nib.Nifti1Image(np.full((2, 2, 2), 0.5), np.eye(4)).to_filename(path)
    volume = VoxelSpace.volume(np.indices((2, 2, 2)).reshape(3, -1).T, (2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="no whole numbers"):
        spaces.atlas_regions([person("A", 8, volume)], path)
    nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_filename(path)
    with pytest.raises(ValueError, match="no region where the recordings have voxels"):
        spaces.atlas_regions([person("A", 8, volume)], path)
    nib.Nifti1Image(np.arange(1, 9, dtype=np.int16).reshape(2, 2, 2), np.eye(4)).to_filename(path)
    names = tmp_path / "names.tsv"
    names.write_text("index\tname\n" + "".join(f"{n}\tarea {n % 7}\n" for n in range(1, 9)))
    with pytest.raises(ValueError, match="names.tsv calls region 1 and region 8 'area 1'.*its own"):
        spaces.atlas_regions([person("A", 8, volume)], path, names)
    moved = VoxelSpace.volume(volume.indices, (2, 2, 2), np.diag([1.0, 2.0, 1.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"another grid.*row 2 of its affine is \[0, 1, 0, 0\].*\[0, 2, "
    ):
        spaces.atlas_regions([person("A", 8, moved)], path)
    surface = tmp_path / "atlas.gii"
    nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.ones(8, "f4"))]).to_filename(surface)
    with pytest.raises(ValueError, match="is a GiftiImage, which has no voxels"):
        spaces.atlas_regions([person("A", 8, volume)], surface)
    with pytest.raises(ValueError, match="is an image of voxels, and the recording of A has none"):
        spaces.atlas_regions([person("A", 8)], path)


def test_the_largest_study_that_is_asked_for_fits_24_gib():
    """9,000 volumes of 95,000 voxels, a layer of 768 features with four delays, three layers."""
    shapes = FoldShapes(folds=6, inner=5, rows=7500, tested=1500, inner_tested=1500)
    plan = sizes.planned(shapes, [3072] * 3, 9000, [95_000], 100, max_memory=24 * 2**30)
    assert plan.peak < 24 * 2**30 and plan.chunks.voxels >= 64
    assert "memory plan: peak" in plan.text() and "recordings at once" in plan.text()
    divided = sizes.planned(
        shapes, [3072] * 3, 9000, [95_000], 100, space_widths=[9216, 4, 8], max_memory=24 * 2**30
    )
    assert plan.peak < divided.peak < 24 * 2**30 and divided.chunks.divided >= 64
    with pytest.raises(ValueError, match="most of it for factors.*--layers"):
        sizes.planned(shapes, [3072] * 30, 9000, [1000], 10, max_memory=8 * 2**30)
    with pytest.raises(ValueError, match="most of it for features of spaces.*--spaces"):
        wide = [768, 100_000]
        sizes.planned(shapes, [768], 9000, [1000], 10, space_widths=wide, max_memory=8 * 2**30)
