import builtins
import struct
import zlib

import h5py
import numpy as np
import pytest
from simulate.matlab73 import write_matlab73

from brainalign_jax.neural.formats import arrays
from brainalign_jax.neural.formats.matlab import hdf5, objects, open_matlab, origin

DAMAGED = r"x\.mat is truncated or damaged"


def cell(*values):
    array = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        array[0, index] = value
    return array


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.mat"


def test_the_writer_lays_out_files_as_matlab_does(path):
    words = np.empty((1, 2), [("text", object), ("start", object)])
    words[0, 0], words[0, 1] = ("Harry", 20.0), ("had", 20.5)
    write_matlab73(
        path,
        {
            "data": np.arange(12000.0).reshape(40, 300),
            "words": words,
            "meta": {"z": "ä", "a": np.array([True])},
            "none": np.empty((0, 3)),
        },
    )
    header = path.read_bytes()[:512]
    assert header.startswith(b"MATLAB 7.3 MAT-file, ") and b"HDF5 schema 1.00 ." in header
    assert header[116:128] == bytes(8) + b"\x00\x02IM" and not any(header[128:])
    with h5py.File(path, "r") as file:
        assert file.userblock_size == 512
        data = file["data"]
        assert data.shape == (300, 40) and data.chunks and data.compression_opts == 3
        assert data[3, 1] == 303.0 and data.attrs["MATLAB_class"] == b"double"
        assert file["meta/z"][()].tolist() == [[0xE4]] and file["meta/z"].dtype == np.uint16
        assert file["meta/z"].attrs["MATLAB_int_decode"] == 2
        assert file["meta/a"].attrs["MATLAB_class"] == b"logical"
        fields = [b"".join(name) for name in file["meta"].attrs["MATLAB_fields"]]
        assert fields == [b"z", b"a"] and file["meta"].attrs["MATLAB_class"] == b"struct"
        assert file["none"][()].tolist() == [0, 3] and file["none"].attrs["MATLAB_empty"] == 1
        assert file["words"].attrs["MATLAB_class"] == b"struct"
        text = file["words/text"]
        assert text.shape == (2, 1) and "MATLAB_class" not in text.attrs
        second = file[text[1, 0]]
        assert second.name.startswith("/#refs#/") and second.attrs["H5PATH"].decode() == second.name
        assert second[:, 0].tolist() == list(b"had")
        assert file["#refs#/a"].attrs["MATLAB_class"] == b"canonical empty"


def test_more_references_than_there_are_letters(path):
    values = [float(number) for number in range(200)]
    write_matlab73(path, {"x": cell(*values)})
    with open_matlab(path) as file:
        assert [value.item() for value in file.read("x")[0]] == values


@pytest.mark.parametrize(
    "variables",
    [
        {"x": None},
        {"x": {"y": {1, 2}}},
        {"x": np.float16(1)},
        {"x": 1j},
        {"x": cell(1.0, b"bytes")},
        {"1x": 1.0},
        {"x": {"a b": 1.0}},
        {"x" * 64: 1.0},
    ],
)
def test_the_writer_refuses_what_matlab_has_no_class_for(path, variables):
    with pytest.raises(ValueError, match=r"MATLAB has no class|no name in MATLAB"):
        write_matlab73(path, variables)


@pytest.mark.parametrize("chunks", [None, (7, 40), (50, 8), (300, 1), (300, 40)])
@pytest.mark.parametrize("most", [None, 40 * 8 * 11])
def test_columns_whatever_the_chunks(path, monkeypatch, chunks, most):
    if most:  # slabs that cut through chunks, and blocks that cut through slabs
        monkeypatch.setattr(hdf5, "_SLAB", most)
        monkeypatch.setattr(hdf5, "_MAX_SLAB", most)
    matrix = np.random.default_rng(0).normal(size=(40, 300))
    write_matlab73(path, {"other": 1.0})
    with h5py.File(path, "r+") as file:
        options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        data = file.create_dataset("data", data=matrix.T, **options)
        data.attrs["MATLAB_class"] = np.bytes_("double")
    source = open_matlab(path).columns("data")
    for size in (1, 16, 300):
        blocks = list(source.blocks(size))
        assert blocks[0].shape == (40, size)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), matrix)


def test_numbers_come_in_the_class_of_their_array(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, stored in (("big", ">f4"), ("small", "i2")):
            data = file.create_dataset(name, data=np.arange(6).reshape(3, 2).astype(stored))
            data.attrs["MATLAB_class"] = np.bytes_("double")
    with open_matlab(path) as file:
        for name in ("big", "small"):
            for value in (file.read(name), next(file.columns(name).blocks(9))):
                assert value.dtype == np.dtype("f8") and value.dtype.isnative
                assert value.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_plain_hdf5_without_classes(path):
    with h5py.File(path, "w") as file:
        file["run/tr"] = 2.0
        file["data"] = np.arange(6, dtype="f4").reshape(3, 2)
        file["data"].attrs["MATLAB_class"] = "single"  # of variable length
        file["labels"] = ["a", "b"]
    with open_matlab(path) as file:
        assert file.read("data").shape == (2, 3)
        assert file.read("run")["tr"][0, 0] == 2.0
        with pytest.raises(ValueError, match=r"x\.mat.*without a MATLAB class"):
            file.read("labels")


def test_fields_come_in_the_order_of_matlab(path):
    write_matlab73(path, {"x": {"zoo": 1.0, "ape": 2.0, "b": 3.0}})
    with open_matlab(path) as file:
        assert file.read("x").dtype.names == ("zoo", "ape", "b")
    with h5py.File(path, "r+") as file:
        del file["x"].attrs["MATLAB_fields"]  # as MATLAB does for very many
    with open_matlab(path) as file:
        assert file.read("x").dtype.names == ("ape", "b", "zoo")
    with h5py.File(path, "w", libver="latest") as file:  # headers that MATLAB does not write
        file["x/zoo"], file["x/ape"] = 1.0, 2.0
        names = np.empty(2, object)
        names[0], names[1] = np.array(list("zoo"), "S1"), np.array(list("ape"), "S1")
        file["x"].attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype(np.dtype("S1")))
    with open_matlab(path) as file:
        assert file.read("x").dtype.names == ("zoo", "ape")


# The heap starts with its name, version and size; its first object with index, count and size.
@pytest.mark.parametrize("position", [0, 4, 16, 24])
@pytest.mark.parametrize("value", [0, 2**40 + 3])
def test_a_damaged_heap_of_field_names(path, position, value):
    write_matlab73(path, {"x": {"zoo": 1.0, "ape": 2.0}, "y": 1.0})
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(b"GCOL") + position, value)
    path.write_bytes(content)
    with open_matlab(path) as file:
        with pytest.raises(ValueError, match=DAMAGED):
            file.read("x")
        assert file.read("y") == 1.0


def test_a_cell_that_contains_itself(path):
    write_matlab73(path, {"x": cell(cell(1.0), 2.0)})
    with h5py.File(path, "r+") as file:
        inner = file[file["x"][0, 0]]
        inner[0, 0] = file["x"].ref
    with open_matlab(path) as file, pytest.raises(ValueError, match="contains itself"):
        file.read("x")


def test_cells_that_share_what_they_hold_are_read_once(path):
    value = cell(1.0)
    for _ in range(50):
        value = cell(value, 2.0)
    write_matlab73(path, {"x": value})
    with h5py.File(path, "r+") as file:
        item = file["x"]
        while item.shape == (2, 1):  # 2^50 paths to the innermost
            item[1, 0] = item[0, 0]
            item = file[item[0, 0]]
    with open_matlab(path) as file:
        value = file.read("x")
    assert value[0, 0] is value[0, 1]


def test_nesting_without_end(path):
    value = cell(1.0)
    for _ in range(100):
        value = cell(value)
    write_matlab73(path, {"x": value})
    with open_matlab(path) as file, pytest.raises(ValueError, match="nests"):
        file.read("x")


def _sparse(file):
    group = file.create_group("x")
    group["data"], group["ir"], group["jc"] = [1.0], [0], [0, 1]
    group.attrs["MATLAB_class"] = np.bytes_("double")
    group.attrs["MATLAB_sparse"] = np.uint64(3)


def _complex(file):
    file["x"] = np.zeros((2, 2), [("real", "f8"), ("imag", "f8")])
    file["x"].attrs["MATLAB_class"] = np.bytes_("double")


def _string(file):
    file["x"] = np.zeros((1, 6), "u4")
    file["x"].attrs["MATLAB_class"] = np.bytes_("string")
    file["x"].attrs["MATLAB_object_decode"] = np.int32(3)


def _function(file):
    file["x"] = np.zeros((1, 6), "u2")
    file["x"].attrs["MATLAB_class"] = np.bytes_("function_handle")


def _link(file):
    file["x"] = h5py.ExternalLink("other.mat", "/x")


def _external(file):
    file.create_dataset("x", (512, 512), "f8", external=[("other.bin", 0, 2**21)])


def _virtual(file):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, 2))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    "make", [_sparse, _complex, _string, _function, _link, _external, _virtual]
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_is_not_read_is_said(path, make, nested):
    with h5py.File(path, "w", userblock_size=512) as file:
        make(file.create_group("s") if nested else file)
    name = "s" if nested else "x"
    with open_matlab(path) as file:
        with pytest.raises(ValueError, match=rf"x\.mat: '{name}' .*plain array"):
            file.read(name)
        if not nested:
            with pytest.raises(ValueError, match=r"x\.mat: 'x'"):
                file.columns(name)


@pytest.mark.parametrize("kind", ["external", "virtual", "attributed", "reference"])
@pytest.mark.parametrize("n", [1, 8, 4096])
def test_small_data_of_other_files_are_not_read(path, kind, n):
    """Of any size, as a variable, in a cell and as the size of an empty array."""
    other = path.with_name("secret")
    with h5py.File(other, "w", userblock_size=512) as file:
        file["x"] = np.arange(n, dtype="u8")
    with h5py.File(path, "w", userblock_size=512) as file:
        places = file.create_group("#refs#") if kind == "reference" else file
        if kind == "virtual":
            layout = h5py.VirtualLayout((n,), "u8")
            layout[:] = h5py.VirtualSource(str(other), "x", (n,))
            file.create_virtual_dataset("x", layout)
        else:
            places.create_dataset("x", (n,), "u8", external=[(str(other), 0, 8 * n)])
        if kind == "attributed":
            file["x"].attrs["MATLAB_empty"] = np.uint8(n == 8)
        if kind == "reference":
            file["x"] = np.array([places["x"].ref], h5py.ref_dtype)
            file["x"].attrs["MATLAB_class"] = np.bytes_("cell")
    other_files = r"x\.mat: 'x' is kept in other files"
    with open_matlab(path) as file, pytest.raises(ValueError, match=other_files):
        file.read("x")


def test_many_datasets_are_counted_together(path, monkeypatch):
    """Each is small and stores nothing: what one declares needs no proof."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("x")
        for index in range(40):
            group.create_dataset(f"f{index}", (2**16,), "f8", chunks=(2**10,))
    asked = []

    def check_memory(n_bytes, path, what):
        asked.append(n_bytes)
        if sum(asked) > 2**25:
            raise ValueError(f"{path}: {what} needs {sum(asked)} bytes")

    monkeypatch.setattr(origin, "check_memory", check_memory)
    with open_matlab(path) as file, pytest.raises(ValueError, match=r"x\.mat: 'x' needs"):
        file.read("x")
    assert 2**25 < sum(asked) < 2**25 + 2**22


def test_what_the_memory_cannot_hold_is_refused(path, monkeypatch):
    """100 KB in the file, 64 MB declared, all of it stored by the rules of deflate."""
    with h5py.File(path, "w", userblock_size=512) as file:
        options = {"chunks": (2**16,), "compression": "gzip", "dtype": "f8"}
        file.create_dataset("x", data=np.zeros(2**23), **options)
    assert path.stat().st_size < 2**18
    with open_matlab(path) as file:
        monkeypatch.setattr(arrays, "free_memory", lambda: 2**26)
        with pytest.raises(ValueError, match=r"x\.mat: 'x' needs 0.1 GiB of memory and 0.1 GiB"):
            file.read("x")


@pytest.mark.parametrize("kind", ["one chunk", "twice", "short chunk"])
def test_chunks_that_inflate_without_end(path, monkeypatch, kind):
    """16 MB in a chunk that declares 8 KB: HDF5 itself would take them all."""
    packed = zlib.compress(bytes(2**24 if kind == "one chunk" else 2**13))
    if kind == "short chunk":
        packed += bytes(2**16)
    with h5py.File(path, "w", userblock_size=512) as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((2**10,))
        for _ in range(2 if kind == "twice" else 1):
            created.set_deflate(1)
        space = h5py.h5s.create_simple((2**10,))
        data = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, space, created)
        data.write_direct_chunk((0,), packed)
    monkeypatch.setattr(objects, "free_memory", lambda: 2**20)
    with open_matlab(path) as file, pytest.raises(ValueError, match=DAMAGED + ".*'x'"):
        file.read("x")


def test_sound_chunks_that_could_fill_the_memory_are_read(path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(2, 2**12))
    with h5py.File(path, "w", userblock_size=512) as file:
        options = {"chunks": (1, 2**12), "compression": "gzip", "shuffle": True}
        file.create_dataset("x", data=values, **options)
    monkeypatch.setattr(objects, "free_memory", lambda: 2**20)
    with open_matlab(path) as file:
        np.testing.assert_array_equal(file.read("x"), values.T)


def test_absurd_sizes_take_no_memory(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", (2**40, 2**10), "f8", chunks=(64, 64), compression="gzip")
        file.create_dataset("y", (2**20, 2**10), "f8")  # never written, so nothing is stored
        file.create_dataset("z", data=np.array([2**30, 2**30], "u8"))
        file["z"].attrs["MATLAB_empty"] = np.uint8(1)
        file["z"].attrs["MATLAB_class"] = np.bytes_("cell")
    with open_matlab(path) as file:
        for name in "xyz":
            with pytest.raises(ValueError, match=DAMAGED):
                file.read(name)
        for name in "xy":
            with pytest.raises(ValueError, match=DAMAGED):
                file.columns(name)


def test_damage_of_compressed_values_is_seen(path):
    matrix = np.random.default_rng(0).normal(size=(50, 400))
    write_matlab73(path, {"data": matrix})
    with h5py.File(path, "r") as file:
        place = file["data"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 3000] ^= 4
    path.write_bytes(content)
    with open_matlab(path, source="the archive") as file:
        with pytest.raises(ValueError, match=DAMAGED + r".*the archive"):
            file.read("data")
        with pytest.raises(ValueError, match=DAMAGED + r".*the archive"):
            list(file.columns("data").blocks(40))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(path, share):
    write_matlab73(path, {"data": np.random.default_rng(0).normal(size=(50, 400))})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=DAMAGED):
        open_matlab(path)


def test_the_file_is_closed(path):
    write_matlab73(path, {"data": np.eye(3)})
    with open_matlab(path) as file:
        source = file.columns("data")
    with pytest.raises(ValueError, match=r"x\.mat: the file was closed"):
        file.read("data")
    np.testing.assert_array_equal(next(source.blocks(3)), np.eye(3))


def test_without_h5py_it_says_what_to_install(path, monkeypatch):
    write_matlab73(path, {"data": np.eye(3)})
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError("no h5py")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install h5py"):
        open_matlab(path)
