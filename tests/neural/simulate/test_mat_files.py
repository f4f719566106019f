import numpy as np
import pytest
import scipy.io
from simulate.matlab73 import nested_variables

from brainalign_jax.neural.simulate.mat_files import replacing, write_mat


def blocks_of(data, size=3):
    return (data[:, first : first + size] for first in range(0, data.shape[1], size))


@pytest.mark.parametrize("compress", [0, 1, 6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_level5_files_are_those_of_scipy(tmp_path, dtype, compress):
    data = np.random.default_rng(0).standard_normal((5, 8)).astype(dtype)
    path = tmp_path / "ours.mat"
    write_mat(path, data.shape, dtype, blocks_of(data), nested_variables(), compress=compress)
    scipy.io.savemat(tmp_path / "theirs.mat", {"data": data, **nested_variables()})
    ours, theirs = scipy.io.loadmat(path), scipy.io.loadmat(tmp_path / "theirs.mat")
    np.testing.assert_array_equal(ours["data"], data)
    assert ours["data"].dtype == dtype
    assert list(ours)[3:] == ["data", "time", "cells", "table", "meta"]
    for name in nested_variables():
        assert repr(ours[name]) == repr(theirs[name])
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_equal_content_gives_equal_bytes(tmp_path):
    data = np.ones((5, 8))
    for name in "ab":
        write_mat(tmp_path / name, data.shape, "f8", blocks_of(data), nested_variables())
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
        ({"compress": 10}, "compress is 10"),
        ({"shape": (2**16, 2**13)}, "has 2 GB or more"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_mat(
            tmp_path / "x.mat",
            **{"shape": (5, 8), "dtype": "f8", "blocks": [], "others": {}, **changes},
        )
