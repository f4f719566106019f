import h5py
import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural.simulate.mat_files import replacing, write_mat


def blocks_of(data, size=3):
    return (data[:, first : first + size] for first in range(0, data.shape[1], size))


def nested():
    pair = np.empty((2, 1), object)
    pair[0, 0], pair[1, 0] = "café", np.array([[1.5]])
    cells = np.empty((3, 1), object)
    cells[:, 0] = [pair, "plain", np.arange(6.0).reshape(2, 3)]
    table = np.empty((1, 2), [("text", object), ("start", object)])
    for index in range(2):
        table[0, index] = (pair, np.array([[float(index)]]))
    return {
        "time": np.arange(8.0).reshape(4, 2),
        "cells": cells,
        "table": table,
        "meta": {"number": 3.0, "grid": np.eye(3), "name": "one"},
    }


@pytest.mark.parametrize("compress", [0, 1, 6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_level5_files_are_those_of_scipy(tmp_path, dtype, compress):
    data = np.random.default_rng(0).standard_normal((5, 8)).astype(dtype)
    path = tmp_path / "ours.mat"
    write_mat(path, data.shape, dtype, blocks_of(data), nested(), compress=compress)
    scipy.io.savemat(tmp_path / "theirs.mat", {"data": data, **nested()})
    ours, theirs = scipy.io.loadmat(path), scipy.io.loadmat(tmp_path / "theirs.mat")
    np.testing.assert_array_equal(ours["data"], data)
    assert ours["data"].dtype == dtype
    assert list(ours)[3:] == ["data", "time", "cells", "table", "meta"]
    for name in nested():
        assert repr(ours[name]) == repr(theirs[name])
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_hdf5_files_are_as_matlab_writes_them(tmp_path):
    data = np.random.default_rng(0).standard_normal((5, 8)).astype("float32")
    path = tmp_path / "ours.mat"
    write_mat(path, data.shape, "float32", blocks_of(data), nested(), version="mat73")
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3") and head[124:128] == b"\x00\x02IM"
    assert head[512:] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][:], data.T)
        assert file["data"].attrs["MATLAB_class"] == b"single"
        np.testing.assert_array_equal(file["time"][:], nested()["time"].T)
        assert file["cells"].shape == (1, 3) and file["cells"].attrs["MATLAB_class"] == b"cell"
        pair = file[file["cells"][0, 0]]
        text, number = (file[pair[0, row]] for row in (0, 1))
        assert text.attrs["MATLAB_class"] == b"char"
        assert "".join(map(chr, text[:, 0])) == "café" and number[0, 0] == 1.5
        table = file["table"]
        assert table.attrs["MATLAB_class"] == b"struct" and table["start"].shape == (2, 1)
        fields = [b"".join(letters) for letters in table.attrs["MATLAB_fields"]]
        assert fields == [b"text", b"start"]
        assert file[table["start"][1, 0]][0, 0] == 1.0
        assert file["meta/number"][0, 0] == 3.0 and file["meta/grid"].shape == (3, 3)


@pytest.mark.parametrize("version", ["mat", "mat73"])
def test_equal_content_gives_equal_bytes(tmp_path, version):
    data = np.ones((5, 8))
    for name in "ab":
        write_mat(tmp_path / name, data.shape, "f8", blocks_of(data), nested(), version=version)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(b"old")
    data = np.ones((5, 8))
    with pytest.raises(
        ValueError, match=r"the blocks have 8 columns for a matrix of shape \(5, 9\)"
    ):
        write_mat(path, (5, 9), "f8", blocks_of(data), {})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x.mat"] and path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "mat4"}, "unknown version='mat4'"),
        ({"compress": 10}, "compress is 10"),
        ({"shape": (2**16, 2**13)}, "needs version 'mat73'"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_mat(
            tmp_path / "x.mat",
            **{"shape": (5, 8), "dtype": "f8", "blocks": [], "others": {}, **changes},
        )
