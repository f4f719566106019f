import base64
import gzip
import struct
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ParcelsAxis, ScalarAxis, SeriesAxis

from brainalign_jax.neural.formats.images.grayordinates import open_cifti, open_surfaces
from brainalign_jax.neural.formats.images.volumes import open_volumes

RNG = np.random.default_rng(0)


def write_gifti(path, values, intent="NIFTI_INTENT_TIME_SERIES", structure=None):
    """values: [time, vertices], or a list of arrays. structure: what the file says that it is of."""
    arrays = [
        nib.gifti.GiftiDataArray(np.asarray(array, "f4"), intent=intent, datatype="float32")
        for array in values
    ]
    image = nib.GiftiImage(darrays=arrays)
    if structure:
        image.meta["AnatomicalStructurePrimary"] = structure
    image.to_filename(path)
    return path


def hemispheres(tmp_path, n=5, name="run", wall=0.0):
    left, right = RNG.standard_normal((n, 9)), RNG.standard_normal((n, 7))
    left[:, 2], right[:, [0, 6]] = wall, wall
    return (
        write_gifti(tmp_path / f"{name}_L.func.gii", left),
        write_gifti(tmp_path / f"{name}_R.func.gii", right),
        np.concatenate([np.delete(left, 2, 1), right[:, 1:6]], axis=1).astype("f4"),
    )


def cifti_axis():
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 2, 3:] = True
    left = BrainModelAxis.from_surface(np.array([0, 2, 5]), 7, "CortexLeft")
    return left + BrainModelAxis.from_mask(mask, "AccumbensLeft", np.diag([2.0, 2, 2, 1]))


def write_cifti(path, values, *, series=None, axis=None, dtype="f4"):
    series = series or SeriesAxis(0, 0.72, len(values))
    image = nib.Cifti2Image(values.astype(dtype), header=(series, axis or cifti_axis()))
    image.to_filename(path)
    return path


@pytest.mark.parametrize("wall", [0.0, np.nan])
def test_both_hemispheres_without_the_medial_wall(tmp_path, wall):
    runs = [hemispheres(tmp_path, n, f"run{n}", wall) for n in (5, 4)]
    source = open_surfaces([run[0] for run in runs], [run[1] for run in runs])
    assert source.shape == (9, 13)
    np.testing.assert_array_equal(source.values(), np.concatenate([run[2] for run in runs]))
    np.testing.assert_array_equal(source.values(), np.concatenate(list(source.blocks(4)), axis=1))
    left, right = source.space.to_image(np.arange(1.0, 14))
    np.testing.assert_array_equal(left.agg_data(), [1, 2, 0, 3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(right.agg_data(), [0, 9, 10, 11, 12, 13, 0])
    np.testing.assert_array_equal(source.run, [1] * 5 + [2] * 4)


def test_a_vertex_with_data_in_one_run_is_a_column(tmp_path):
    first, second = np.ones((3, 4)), np.ones((3, 4))
    first[:, 1] = second[:, 2] = 0
    first[:, 3] = second[:, 3] = np.nan
    paths = [write_gifti(tmp_path / f"{n}.func.gii", run) for n, run in enumerate((first, second))]
    source = open_surfaces(paths)
    np.testing.assert_array_equal(source.space.vertices, [0, 1, 2])
    np.testing.assert_array_equal(source.values()[:, 1], [0, 0, 0, 1, 1, 1])


def test_one_hemisphere_and_one_array_of_all_volumes(tmp_path):
    values = RNG.standard_normal((5, 9)).astype("f4")
    path = write_gifti(tmp_path / "r.func.gii", [values.T])
    source = open_surfaces(right=[path])
    np.testing.assert_array_equal(source.values(), values)
    none, right = source.space.to_image(np.arange(9))
    assert none is None and len(right.agg_data()) == 9


def test_surfaces_have_no_tr_of_their_own(tmp_path):
    left, right, _ = hemispheres(tmp_path)
    source = open_surfaces([left], [right])
    with pytest.raises(ValueError, match=r"run_L.func.gii does not tell its TR.*tr="):
        source.times()
    np.testing.assert_array_equal(source.times(tr=2.0), [0, 2, 4, 6, 8])


def test_hemispheres_that_were_swapped_are_refused(tmp_path):
    values = RNG.standard_normal((5, 9))
    left = write_gifti(tmp_path / "l.func.gii", values, structure="CortexLeft")
    right = write_gifti(tmp_path / "r.func.gii", values, structure="CortexRight")
    assert open_surfaces([left], [right]).shape == (5, 18)
    message = r"r.func.gii is of the right hemisphere, as it says itself, .* the left one"
    with pytest.raises(ValueError, match=message):
        open_surfaces([right], [left])


def test_surface_errors_name_the_file(tmp_path):
    left, right, _ = hemispheres(tmp_path)
    longer = write_gifti(tmp_path / "longer.gii", RNG.standard_normal((6, 7)))
    wider = write_gifti(tmp_path / "wider.gii", RNG.standard_normal((5, 8)))
    mesh = write_gifti(tmp_path / "mesh.gii", [np.ones((9, 3))], "NIFTI_INTENT_POINTSET")
    single = write_gifti(tmp_path / "single.gii", RNG.standard_normal((1, 9)))
    ragged = write_gifti(tmp_path / "ragged.gii", [np.ones(3), np.ones(4)])
    zero = write_gifti(tmp_path / "zero.gii", np.zeros((5, 9)))
    empty = write_gifti(tmp_path / "none.gii", [])
    volume = tmp_path / "v.nii"
    nib.Nifti1Image(np.ones((2, 2, 2, 3)), np.eye(4)).to_filename(volume)
    for sides, message in (
        (([left], [longer]), r"longer.gii has 6 volumes and .*run_L.* 5"),
        (([left, wider], [right, right]), r"wider.gii has 8 vertices and .*run_L.func.gii 9"),
        (([mesh], [right]), "mesh.gii holds a mesh"),
        (([single],), r"single.gii holds 1 data arrays"),
        (([ragged],), r"ragged.gii holds 2 data arrays"),
        (([empty],), r"none.gii holds 0 data arrays"),
        (([zero],), "zero.gii is zero or NaN"),
        (([volume],), "v.nii is not a GIFTI file"),
        (([left, left], [right]), "2 files of the left and 1 of the right"),
        ((), "0 files of the left"),
    ):
        with pytest.raises(ValueError, match=message):
            open_surfaces(*sides)
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere.gii"):
        open_surfaces([tmp_path / "nowhere.gii"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.97])
def test_truncated_surfaces_are_named(tmp_path, share):
    left, right, _ = hemispheres(tmp_path, n=40)
    data = left.read_bytes()
    left.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"run_L.func.gii cannot be read.*get it again"):
        open_surfaces([left], [right])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_cifti_values_and_places(tmp_path, dtype):
    runs = [RNG.integers(-99, 99, (n, 9)) for n in (6, 4)]
    paths = [write_cifti(tmp_path / f"{len(r)}.dtseries.nii", r, dtype=dtype) for r in runs]
    source = open_cifti(paths)
    np.testing.assert_array_equal(source.values(), np.concatenate(runs))
    np.testing.assert_array_equal(source.times()[4:8], np.array([4, 5, 0, 1]) * 0.72)
    image = source.space.select([1, 8]).to_image([2.0, 3.0])
    image.to_filename(tmp_path / "scores.dscalar.nii")
    back = nib.load(tmp_path / "scores.dscalar.nii")
    assert back.header.get_axis(1) == cifti_axis()
    assert back.nifti_header.get_intent()[0] == "ConnDenseScalar"
    np.testing.assert_array_equal(back.get_fdata(), [[0, 2, 0, 0, 0, 0, 0, 0, 3]])
    assert np.isnan(source.space.coordinates[:3]).all()
    np.testing.assert_array_equal(source.space.coordinates[-1], [4, 4, 10])


def test_cifti_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("brainalign_jax.neural.formats.images.grayordinates._CHUNK", 100)
    values = RNG.standard_normal((6, 9)).astype("f4")
    path = write_cifti(tmp_path / "a.dtseries.nii", values)
    np.testing.assert_array_equal(open_cifti([path]).values(), values)


@pytest.mark.parametrize(
    ("series", "tr"),
    [
        (SeriesAxis(0, 2.0, 4), 2.0),
        (SeriesAxis(0, 0.0, 4), None),
        (SeriesAxis(0, 2.0, 4, unit="HERTZ"), None),
    ],
)
def test_the_tr_of_cifti(tmp_path, series, tr):
    path = write_cifti(tmp_path / "a.dtseries.nii", np.ones((4, 9)), series=series)
    assert open_cifti([path]).runs[0].tr == tr


def test_cifti_errors_name_the_file(tmp_path):
    good = write_cifti(tmp_path / "good.dtseries.nii", np.ones((4, 9)))
    other_axis = BrainModelAxis.from_surface(np.arange(9), 12, "CortexRight")
    other = write_cifti(tmp_path / "other.dtseries.nii", np.ones((4, 9)), axis=other_axis)
    maps = write_cifti(tmp_path / "m.dscalar.nii", np.ones((2, 9)), series=ScalarAxis(["a", "b"]))
    parcels = ParcelsAxis.from_brain_models([("all", cifti_axis())])
    parcelled = write_cifti(tmp_path / "p.ptseries.nii", np.ones((4, 1)), axis=parcels)
    single = write_cifti(tmp_path / "one.dtseries.nii", np.ones((1, 9)))
    short = tmp_path / "short.dtseries.nii"
    short.write_bytes(good.read_bytes()[:-9])
    header = tmp_path / "header.dtseries.nii"
    header.write_bytes(good.read_bytes()[:900])
    volume = tmp_path / "v.nii"
    nib.Nifti1Image(np.ones((2, 2, 2, 3)), np.eye(4)).to_filename(volume)
    for paths, message in (
        ([good, other], r"other.dtseries.nii and .*good.dtseries.nii have other grayordinates"),
        ([maps], r"m.dscalar.nii has the axes Scalar, BrainModel"),
        ([parcelled], r"p.ptseries.nii has the axes Series, Parcels"),
        ([single], r"one.dtseries.nii has shape \(1, 9\)"),
        ([short], r"short.dtseries.nii is truncated"),
        ([header], r"header.dtseries.nii cannot be read"),
        ([volume], "v.nii is not a CIFTI-2 file"),
        ([], "no images"),
    ):
        with pytest.raises(ValueError, match=message):
            open_cifti(paths)


def test_offsets_are_kept_in_the_files_precision(tmp_path):
    """A signal of size 1 on 3e7, where float32 counts in steps of two."""
    signal = np.round(RNG.standard_normal((5, 9)), 6)
    arrays = [
        nib.gifti.GiftiDataArray(volume, intent="NIFTI_INTENT_TIME_SERIES", datatype="float64")
        for volume in signal + 3e7
    ]
    surface, grey = tmp_path / "a.func.gii", tmp_path / "a.dtseries.nii"
    nib.GiftiImage(darrays=arrays).to_filename(surface, mode="force")
    write_cifti(grey, signal + 3e7, dtype="f8")
    for source in (open_surfaces([surface]), open_cifti([grey])):
        assert source.dtype == np.float64
        np.testing.assert_allclose(source.values() - 3e7, signal, atol=1e-7)


EXTERNAL = """<?xml version="1.0" encoding="UTF-8"?>
<GIFTI Version="1.0" NumberOfDataArrays="2">
{arrays}
</GIFTI>"""
ARRAY = """<DataArray Intent="NIFTI_INTENT_TIME_SERIES" DataType="NIFTI_TYPE_FLOAT32"
 ArrayIndexingOrder="RowMajorOrder" Dimensionality="{axes}" Dim0="{size}" Encoding="{encoding}"
 Endian="LittleEndian" ExternalFileName="{name}" ExternalFileOffset="0">
<Data>{data}</Data></DataArray>"""


def gifti_text(**fields):
    given = {"axes": 1, "size": 4, "encoding": "Base64Binary", "name": "", "data": ""} | fields
    return EXTERNAL.format(arrays=ARRAY.format(**given) * 2)


def packed(n_bytes):
    return base64.b64encode(zlib.compress(bytes(n_bytes))).decode()


@pytest.mark.parametrize("encoding", ["ExternalFileBinary", "External", "GIFTI_ENCODING_EXTBIN"])
@pytest.mark.parametrize("suffix", [".func.gii", ".GII", ".gii.gz"])
def test_arrays_in_other_files_are_refused(tmp_path, encoding, suffix):
    """By the reader of surfaces, and where a mask or atlas is named."""
    (tmp_path / "secret").write_bytes(np.arange(4, dtype="<f4").tobytes())
    path, text = tmp_path / f"a{suffix}", gifti_text(encoding=encoding, name="secret").encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    scans = tmp_path / "scans.nii"
    nib.Nifti1Image(np.ones((2, 2, 1, 3), "f4"), np.eye(4)).to_filename(scans)
    for read in (
        lambda: open_surfaces([path]),
        lambda: open_volumes([scans], mask=path),
        lambda: open_volumes([scans], mask="all", atlas=path),
    ):
        with pytest.raises(ValueError, match=rf"a{suffix}.*(in another file|ExternalFileBinary)"):
            read()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "GZipBase64Binary", "data": packed(2**24)}, "holds more than the 16 bytes"),
        ({"size": 2**50}, "GiB of memory that are free"),
        ({"size": -4}, "shape"),
        ({"axes": 10**9}, "1000000000 axes"),
        ({"encoding": "GZipBase64Binary", "data": "AAAA"}, "cannot be read as a GIFTI"),
    ],
)
def test_what_gifti_declares_is_looked_at_first(tmp_path, fields, message):
    path = tmp_path / "a.func.gii"
    path.write_text(gifti_text(**fields))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"a.func.gii.*{message}"):
            open_surfaces([path])
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_entities_are_refused(tmp_path):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x"}">' for n in range(9))
    text = gifti_text().replace("<GIFTI", f"<!DOCTYPE GIFTI [{entities}]><GIFTI", 1)
    (tmp_path / "a.func.gii").write_text(text)
    with pytest.raises(ValueError, match=r"a.func.gii declares entities"):
        open_surfaces([tmp_path / "a.func.gii"])


def test_grayordinates_that_no_file_holds_take_no_memory(tmp_path):
    path = write_cifti(tmp_path / "a.dtseries.nii", RNG.standard_normal((3, 9)))
    data = path.read_bytes()
    old, new = b'IndexCount="3"', b'IndexCount="%d"' % 2**40
    length, code = struct.unpack_from("<2i", data, 544)  # of the extension behind a NIfTI-2 header
    xml = data[552 : 544 + length].replace(old, new, 1).ljust(length + 24, b"\0")
    offset = struct.pack("<q", 544 + length + 32)
    start = data[:168] + offset + data[176:544] + struct.pack("<2i", length + 32, code)
    path.write_bytes(start + xml + data[544 + length :])
    with pytest.raises(ValueError, match=r"a.dtseries.nii declares 1099511627782 grayordinates"):
        open_cifti([path])
