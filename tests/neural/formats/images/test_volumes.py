import gzip
import struct
import tracemalloc
import warnings

import h5py
import nibabel as nib
import numpy as np
import pytest
from nilearn import masking
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

from brainalign_jax.neural.formats import arrays
from brainalign_jax.neural.formats.images.volumes import open_volumes, read_header
from brainalign_jax.neural.simulate.images import write_volumes
from brainalign_jax.neural.space import VoxelSpace

SHAPE = (7, 6, 5)
AFFINE = np.array([[-3.0, 0, 0, 78], [0, 3, 0.2, -112], [0, -0.2, 3, -70], [0, 0, 0, 1]])
MASK = np.random.default_rng(1).random(SHAPE) < 0.4
LABELS = np.random.default_rng(2).integers(0, 5, SHAPE).astype(np.int16)
LABELS[LABELS == 2] = 40
LABELS[0, 0, 0] = 40


def write(path, values, affine=AFFINE, *, dtype=None, scaling=None, tr=2.0, unit="sec"):
    """A NIfTI file by nibabel, which does not know how we write or read."""
    image = nib.Nifti1Image(np.asarray(values, dtype), affine)
    if values.ndim == 4:
        image.header.set_xyzt_units("mm", unit)
        image.header["pixdim"][4] = tr
    if scaling:
        image.header.set_slope_inter(*scaling)
    image.to_filename(path)
    return path


def scans(n=6, seed=0):
    return 100 + np.random.default_rng(seed).standard_normal((*SHAPE, n))


@pytest.fixture
def mask(tmp_path):
    return write(tmp_path / "mask.nii.gz", MASK.astype(np.uint8))


@pytest.fixture
def atlas(tmp_path):
    return write(tmp_path / "atlas.nii.gz", LABELS)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64", ">i2", ">f4", "int32"])
def test_values_are_what_nibabel_and_nilearn_read(tmp_path, mask, name, dtype):
    values = np.random.default_rng(0).integers(0, 250, (*SHAPE, 6))
    path = write(tmp_path / name, values, dtype=dtype)
    source = open_volumes([path], mask=mask)
    assert source.shape == (6, MASK.sum())
    assert source.dtype == (np.float64 if dtype in ("float64", "int32") else np.float32)
    np.testing.assert_array_equal(source.values(), values[MASK].T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = NiftiMasker(mask, standardize=None).fit_transform(path)
    np.testing.assert_array_equal(source.values(), expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slope_and_intercept_are_honoured(tmp_path, mask, name):
    raw = np.random.default_rng(0).integers(-3000, 3000, (*SHAPE, 4)).astype(np.int16)
    path = tmp_path / name
    indices = np.argwhere(MASK)
    space = VoxelSpace.volume(indices, SHAPE, AFFINE)
    write_volumes(path, raw[MASK].T, space, 4, tr=0.72, scaling=(0.37, -12.5))
    expected = nib.load(path).get_fdata()[MASK].T
    np.testing.assert_array_equal(open_volumes([path], mask=mask).values(), expected.astype("f4"))
    assert np.abs(expected - (raw[MASK].T * 0.37 - 12.5)).max() < 1e-3
    assert read_header(path).tr == 0.72
    atlas = write(tmp_path / "atlas.nii", np.where(MASK, 5, 0).astype(np.int16))
    means = open_volumes([path], atlas=atlas).values()
    np.testing.assert_allclose(means[:, 0], expected.mean(axis=1), rtol=1e-6)


def test_blocks_are_consecutive_columns_every_time(tmp_path, mask):
    source = open_volumes([write(tmp_path / "a.nii.gz", scans(), dtype="f4")], mask=mask)
    for _ in range(2):
        blocks = list(source.blocks(7))
        assert [block.shape[1] for block in blocks[:-1]] == [7] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), source.values())
    with pytest.raises(ValueError, match="read-only"):
        source.values()[0, 0] = 1


def test_runs_follow_one_another(tmp_path, mask):
    runs = [scans(n, seed=n) for n in (5, 3, 4)]
    paths = [
        write(tmp_path / f"{n}.nii{'.gz' * (n % 2)}", run, dtype="f4") for n, run in enumerate(runs)
    ]
    source = open_volumes(paths, mask=mask)
    expected = np.concatenate([run.astype("f4")[MASK].T for run in runs])
    np.testing.assert_array_equal(source.values(), expected)
    np.testing.assert_array_equal(source.run, np.repeat([1, 2, 3], [5, 3, 4]))
    assert source.name == f"{paths[0]} and 2 more"


def test_scores_go_back_to_the_voxel_they_came_from(tmp_path, mask):
    """A voxel that stands out is found at its place in mm, by nibabel alone."""
    values, place = scans(), tuple(np.argwhere(MASK)[11])
    values[place] += 1000
    source = open_volumes([write(tmp_path / "a.nii.gz", values, dtype="f4")], mask=mask)
    scores = source.values().mean(axis=0)
    source.space.to_image(scores).to_filename(tmp_path / "scores.nii.gz")
    image = nib.load(tmp_path / "scores.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert np.unravel_index(image.get_fdata().argmax(), SHAPE) == place
    np.testing.assert_array_equal(image.get_fdata() != 0, MASK)
    np.testing.assert_allclose(
        source.space.coordinates[scores.argmax()], nib.affines.apply_affine(AFFINE, place)
    )


def test_regions_are_means_as_nilearn_has_them(tmp_path, mask, atlas):
    path = write(tmp_path / "a.nii.gz", scans(), dtype="f4")
    source = open_volumes([path], atlas=atlas)
    expected = NiftiLabelsMasker(atlas, standardize=None).fit_transform(path)
    np.testing.assert_allclose(source.values(), expected, rtol=1e-6)
    assert source.feature_names == ("region 1", "region 3", "region 4", "region 40")
    image = source.space.to_image([1.0, 3, 4, 40])
    np.testing.assert_array_equal(image.get_fdata(), LABELS)
    # Within a mask the region's other voxels do not count, and are not painted.
    both = open_volumes([path], atlas=atlas, mask=mask)
    expected = NiftiLabelsMasker(atlas, mask_img=mask, standardize=None).fit_transform(path)
    np.testing.assert_allclose(both.values(), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        both.space.to_image([1.0, 3, 4, 40]).get_fdata(), np.where(MASK, LABELS, 0)
    )


def test_regions_outside_of_the_mask_are_left_out(tmp_path, atlas):
    path = write(tmp_path / "a.nii", scans(), dtype="f4")
    inner = write(tmp_path / "m.nii", (LABELS != 3).astype(np.uint8))
    with pytest.warns(UserWarning, match="1 regions .* region 3"):
        source = open_volumes([path], atlas=atlas, mask=inner)
    assert source.shape == (6, 3)
    names = tmp_path / "names.tsv"
    names.write_text("index\tname\n1\tone\n3\tthree\n4\tfour\n40\tforty\n")
    with pytest.warns(UserWarning, match="left out"):
        named = open_volumes([path], atlas=atlas, mask=inner, labels=names)
    assert named.feature_names == ("one", "four", "forty")


def test_masks_of_several_runs_count_where_they_overlap(tmp_path, mask):
    other = write(tmp_path / "other.nii", (LABELS > 0).astype(np.uint8))
    paths = [write(tmp_path / f"{n}.nii", scans(seed=n), dtype="f4") for n in (0, 1)]
    source = open_volumes(paths, mask=[mask, other])
    np.testing.assert_array_equal(source.space.indices, np.argwhere(MASK & (LABELS > 0)))
    none = write(tmp_path / "none.nii", (~MASK).astype(np.uint8))
    with pytest.raises(ValueError, match="no voxel in common"):
        open_volumes(paths, mask=[mask, none])


def test_nan_outside_of_the_mask_does_not_count(tmp_path, mask):
    values = scans()
    values[~MASK] = np.nan
    path = write(tmp_path / "a.nii.gz", values, dtype="f4")
    assert np.isfinite(open_volumes([path], mask=mask).values()).all()
    everything = open_volumes([path], mask="all").values()
    assert np.isnan(everything).all(axis=0).sum() == (~MASK).sum()
    nan_mask = write(tmp_path / "m.nii", np.where(MASK, 1.0, np.nan), dtype="f4")
    assert open_volumes([path], mask=nan_mask).shape == (6, MASK.sum())


def brain(tmp_path, n=5):
    grid = np.indices((14, 15, 13)).transpose(1, 2, 3, 0) - [6.5, 7, 6]
    inside = (grid**2).sum(axis=-1) < 30
    values = (
        np.random.default_rng(0).standard_normal((*inside.shape, n)) + 500.0 * inside[..., None]
    )
    values[0] = np.nan
    return write(tmp_path / "brain.nii.gz", values, dtype="f4"), inside


@pytest.mark.parametrize("strategy", [None, "epi", "background"])
def test_a_mask_is_computed_where_none_is_given(tmp_path, strategy):
    path, inside = brain(tmp_path)
    computed_mask = np.zeros(inside.shape, bool)
    computed_mask[tuple(open_volumes([path], mask=strategy).space.indices.T)] = True
    if strategy != "background":  # which takes all that smoothing reaches, here nearly everything
        assert 2 * (computed_mask & inside).sum() > 0.85 * (computed_mask.sum() + inside.sum())
    compute = (
        masking.compute_background_mask if strategy == "background" else masking.compute_epi_mask
    )
    expected = compute(nib.Nifti1Image(np.nan_to_num(nib.load(path).get_fdata()), AFFINE))
    np.testing.assert_array_equal(computed_mask, np.asarray(expected.dataobj) > 0)


def test_no_brain_is_an_error(tmp_path):
    path = write(tmp_path / "flat.nii", np.ones((*SHAPE, 3)), dtype="f4")
    with pytest.raises(ValueError, match=r"flat.nii.*mask="):
        open_volumes([path])


def test_another_grid_is_resampled_only_when_asked(tmp_path):
    """The mask of one half in voxels of half the size: nearest neighbours are known exactly."""
    path = write(tmp_path / "a.nii.gz", scans(), np.diag([2.0, 2, 2, 1]), dtype="f4")
    fine = np.zeros((14, 12, 10), np.uint8)
    fine[:6] = 1
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = -0.5
    mask = write(tmp_path / "fine.nii.gz", fine, affine)
    with pytest.raises(ValueError, match=r"fine.nii.gz has shape .*resample=true"):
        open_volumes([path], mask=mask)
    source = open_volumes([path], mask=mask, resample=True)
    np.testing.assert_array_equal(source.space.indices, np.argwhere(np.indices(SHAPE)[0] < 3))
    atlas = write(tmp_path / "atlas.nii", fine.astype(np.int16) * 7, affine)
    regions = open_volumes([path], atlas=atlas, resample=True)
    np.testing.assert_allclose(
        regions.values()[:, 0], scans().astype("f4")[:3].mean(axis=(0, 1, 2)), rtol=1e-6
    )


@pytest.mark.parametrize("shift", [0.001, 0.5])
def test_affines_agree_to_rounding(tmp_path, mask, shift):
    moved = AFFINE.copy()
    moved[0, 3] += shift
    path = write(tmp_path / "a.nii", scans(), moved, dtype="f4")
    if shift < 0.01:
        assert open_volumes([path], mask=mask).shape[1] == MASK.sum()
        return
    with pytest.raises(ValueError, match=r"0.5 mm apart; give resample=true"):
        open_volumes([path], mask=mask)


@pytest.mark.parametrize(
    ("stored", "unit", "expected"),
    [(2.0, "sec", 2.0), (720.0, "msec", 0.72), (1.5e6, "usec", 1.5), (0.8, "unknown", 0.8)]
    + [(0.0, "sec", None), (2000.0, "sec", None), (2.0, "hz", None), (np.nan, "sec", None)]
    + [(1.0, "unknown", None), (1.0, "sec", 1.0), (1.0, "msec", 0.001)],
)
def test_the_unit_of_the_tr(tmp_path, stored, unit, expected):
    path = write(tmp_path / "a.nii", scans(), dtype="f4", tr=stored, unit=unit)
    assert read_header(path).tr == expected


def test_memory_is_that_of_the_masked_values(tmp_path):
    """A compressed file of many volumes needs its result and one volume, not the whole image."""
    shape, n = (40, 40, 40), 250
    space = VoxelSpace.volume(np.argwhere(np.ones((20, 20, 40))), shape, np.eye(4))
    rng = np.random.default_rng(0)
    volumes = (rng.integers(0, 99, space.n_columns).astype(np.int16) for _ in range(n))
    write_volumes(tmp_path / "a.nii.gz", volumes, space, n, tr=1.0, scaling=(2.0, 0.0))
    mask = np.zeros(shape, np.uint8)
    mask[tuple(space.indices.T)] = 1
    source = open_volumes([tmp_path / "a.nii.gz"], mask=write(tmp_path / "m.nii", mask, np.eye(4)))
    tracemalloc.start()
    try:
        values = source.values()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values.nbytes == 4 * n * space.n_columns == 16_000_000
    assert peak < 1.3 * values.nbytes


def damaged(tmp_path, how):
    path = tmp_path / "bad.nii.gz"
    write(path, np.random.default_rng(0).integers(0, 2**15, (*SHAPE, 40)), dtype="i2")
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "without checksum":
        path.write_bytes(data[:-8])
    elif how == "wrong checksum":
        data[-6] ^= 1
        path.write_bytes(data)
    elif how == "flipped":
        data[len(data) // 2] ^= 0x40
        path.write_bytes(data)
    elif how == "not gzip":
        path.write_bytes(b"no gzip" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "shorter inside":
        raw = gzip.decompress(bytes(data))
        path.write_bytes(gzip.compress(raw[: len(raw) // 2]))
    return path


@pytest.mark.parametrize(
    "how",
    ["truncated", "without checksum", "wrong checksum", "flipped", "not gzip", "empty"]
    + ["shorter inside"],
)
def test_damaged_files_are_named(tmp_path, mask, how):
    path = damaged(tmp_path, how)
    with pytest.raises(ValueError, match=r"bad.nii.gz.*(damaged|truncated).*get it again"):
        open_volumes([path], mask=mask).values()


def test_flipped_bits_of_a_header_never_escape(tmp_path, mask):
    """Any byte of the header: a clear error, or the same number of voxels."""
    path = write(tmp_path / "bits.nii", scans(), dtype="f4")
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in rng.choice(128, 60, replace=False):
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert open_volumes([path], mask=mask).values().shape == (6, MASK.sum())
            except ValueError as error:
                assert "bits.nii" in str(error), error
                refused += 1
    assert refused > 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write(p / "x.nii", scans()[..., 0]), r"x.nii has shape \(7, 6, 5\).*time"),
        (lambda p: write(p / "x.nii", scans(1)), "two volumes or more"),
        (lambda p: write(p / "x.nii", scans()[..., None]), r"\(7, 6, 5, 6, 1\)"),
        (lambda p: write(p / "x.nii", scans().astype(complex)), "complex"),
        (lambda p: p / "x.mgz", "not a NIfTI file"),
    ],
)
def test_images_of_another_kind_are_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        open_volumes([make(tmp_path)], mask="all")


def test_an_uncompressed_file_that_is_too_short(tmp_path):
    path = write(tmp_path / "short.nii", scans(), dtype="f4")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"short.nii is truncated"):
        open_volumes([path], mask="all")


def test_other_clear_errors(tmp_path, mask, atlas):
    path = write(tmp_path / "a.nii", scans(), dtype="f4")
    smaller = write(tmp_path / "b.nii", scans()[:-1], dtype="f4")
    empty = write(tmp_path / "empty.nii", np.zeros(SHAPE, np.uint8))
    soft = write(tmp_path / "soft.nii", np.full(SHAPE, 0.5), dtype="f4")
    several = write(tmp_path / "several.nii", scans())
    for options, message in (
        ({"paths": [path, smaller], "mask": mask}, r"b.nii has shape .*aligned"),
        ({"paths": [path], "mask": empty}, "empty.nii is empty"),
        ({"paths": [path], "mask": several}, r"several.nii has shape \(7, 6, 5, 6\)"),
        ({"paths": [path], "atlas": soft}, "soft.nii holds values that are no whole numbers"),
        ({"paths": [path], "atlas": empty}, "empty.nii has no region"),
        ({"paths": [path], "mask": mask, "labels": "x.txt"}, "no atlas is given"),
        ({"paths": []}, "no images"),
    ):
        with pytest.raises(ValueError, match=message):
            open_volumes(options.pop("paths"), **options)
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere.nii"):
        open_volumes([tmp_path / "nowhere.nii"], mask="all")
    with pytest.raises(FileNotFoundError, match=r"no .*nomask.nii"):
        open_volumes([path], mask=tmp_path / "nomask.nii")
    damaged_mask = tmp_path / "m.nii.gz"
    damaged_mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"m.nii.gz cannot be read"):
        open_volumes([path], mask=damaged_mask)


def test_hdf5_is_refused_where_a_mask_may_be_named(tmp_path):
    """MINC 2 is HDF5, whose datasets may lie in any file of the machine."""
    path = write(tmp_path / "a.nii", scans(), dtype="f4")
    for name in ("mask.mnc", "mask.nii"):
        with h5py.File(tmp_path / name, "w") as file:
            file["minc-2.0/image/0/image"] = np.ones(SHAPE)
        with pytest.raises(ValueError, match=rf"{name} is a MINC or other HDF5 file"):
            open_volumes([path], mask=tmp_path / name)


def packed_header(path, *, offset=352, extensions=(), shape=(7, 6, 5, 6), rest=2**24):
    """A `.nii.gz` of some KB with a header and zeros behind it."""
    header = nib.Nifti1Header()
    header.set_data_shape((1, 1, 1, 1))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", offset
    header["dim"][1:5] = shape
    content = header.binaryblock + (b"\1\0\0\0" if extensions else bytes(4))
    content += b"".join(
        struct.pack("<2i", length, 0) + bytes(max(0, length % 512 - 8)) for length in extensions
    )
    path.write_bytes(gzip.compress(content + bytes(rest), 1))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extensions": (32, 96), "offset": 480}, None),
        ({"extensions": (32, 2**30 + 8), "offset": 512}, "an extension of 1073741832 bytes"),
        ({"extensions": (0,), "offset": 512}, "an extension of 0 bytes"),
        ({"offset": 2.0**30}, "its values at byte 1.07374e[+]09"),
        ({"offset": np.nan}, "its values at byte nan"),
        ({"shape": (30000, 30000, 30000, 2)}, "truncated or its header damaged"),
    ],
)
def test_packed_headers_that_declare_too_much(tmp_path, options, message):
    """Nothing is unpacked for them; extensions that are all there are read."""
    path = packed_header(tmp_path / "bomb.nii.gz", **options)
    tracemalloc.start()
    try:
        if message is None:
            assert read_header(path).offset == 480
        else:
            with pytest.raises(ValueError, match=rf"bomb.nii.gz.*{message}"):
                read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["volumes", "mask", "values"])
def test_more_than_the_memory_is_refused_before_it_is_taken(tmp_path, mask, monkeypatch, what):
    shape = (256, 256, 64, 2)
    path = packed_header(tmp_path / "large.nii.gz", shape=shape, rest=2**24)
    small = write(tmp_path / "a.nii", scans(), dtype="f4")
    monkeypatch.setattr(arrays, "free_memory", lambda: 2**24)
    if what == "volumes":
        with pytest.raises(ValueError, match=r"large.nii.gz: a volume of shape .* GiB are free"):
            open_volumes([path], mask="all")
        return
    if what == "mask":
        large = packed_header(tmp_path / "mask3.nii.gz", shape=(512, 512, 64, 1))
        with pytest.raises(ValueError, match=r"mask3.nii.gz: a mask of shape .* GiB are free"):
            open_volumes([small], mask=large, resample=True)
        return
    source = open_volumes([small], mask="all")
    monkeypatch.setattr(source, "shape", (2**16, 2**10))
    with pytest.raises(ValueError, match=r"a.nii: 65536 volumes .*smaller mask"):
        source.values()
