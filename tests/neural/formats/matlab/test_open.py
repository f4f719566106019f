import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from simulate.matlab73 import write_matlab73

from brainalign_jax.neural.formats.matlab import open_matlab

REAL = Path(scipy.io.matlab.__file__).parent / "tests" / "data"


def cells(*values, shape=None):
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array.reshape(shape or (1, len(values)))


def structs(shape, **fields):
    array = np.empty(shape, [(name, object) for name in fields])
    for name, values in fields.items():
        array[name] = cells(*values, shape=shape)
    return array


_RNG = np.random.default_rng(0)
CASES = {
    "scalar": 3.5,
    "whole": 7,
    "truth": True,
    "row": np.arange(5.0),
    "column": np.arange(5.0)[:, None],
    "double": _RNG.normal(size=(4, 7)),
    "single": _RNG.normal(size=(3, 2)).astype("f4"),
    "cube": _RNG.normal(size=(2, 3, 4)),
    "large": _RNG.normal(size=(200, 90)),
    "logical": np.array([[True, False], [False, True], [True, True]]),
    "empty": np.empty((0, 0)),
    "empty_single": np.empty((0, 5), "f4"),
    "empty_int": np.empty((3, 0), "i2"),
    "empty_logical": np.empty((0, 0), bool),
    "text": "héllo wörld",
    "letter": "a",
    "spaces": " a b ",
    "empty_text": "",
    "text_rows": np.array(["ab", "cde"]),
    "text_cube": np.array([["ab", "cd"], ["ef", "ghi"]]),
    "beyond_utf16": "a😀b",
    "cell_row": cells(1.0, "two", np.arange(3)),
    "cell_column": cells("a", "b", shape=(2, 1)),
    "cell_matrix": cells(*"abcdef", shape=(2, 3)),
    "cell_equal_shapes": cells(np.ones((2, 2)), np.zeros((2, 2))),
    "empty_cell": np.empty((0, 0), object),
    "empty_cell_row": np.empty((0, 3), object),
    "cell_of_empties": cells(np.empty((0, 0)), "", np.empty((0, 0), object)),
    "nested_cells": cells(cells(cells("deep", cells(1.0, 2.0)))),
    "struct": {"b": 1.0, "a": "x", "c": {"e": np.eye(3), "d": cells("f")}},
    "struct_row": structs((1, 3), w=["x", "yy", ""], t=[1.0, 2.0, np.arange(3)]),
    "struct_matrix": structs((2, 3), w=list("abcdef"), t=list(range(6))),
    "struct_scalar": structs((1, 1), w=[cells("x")], t=[2.0]),
    "empty_struct": np.empty((0, 0), [("a", object), ("b", object)]),
    "empty_struct_row": np.empty((0, 3), [("a", object)]),
    "struct_of_structs": {"m": structs((1, 2), z=[1.0, "q"]), "n": np.empty((0, 0))},
    "no_fields": {},
    "no_fields_within": {"a": {}},
    # As in the Harry Potter release: text in a cell, start and length in a struct array.
    "words": structs((1, 2), text=[cells("Harry"), cells("had")], start=[20.0, 20.5], length=[0.5, 0.5]),
    **{
        kind: np.arange(6).reshape(2, 3).astype(kind)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    },
}  # fmt: skip


def assert_same(read_value, expected, where="value"):
    assert type(read_value) is type(expected), where
    assert read_value.dtype == expected.dtype and read_value.shape == expected.shape, where
    if expected.dtype.names:
        for name in expected.dtype.names:
            assert_same(read_value[name], expected[name], f"{where}.{name}")
    elif expected.dtype == object:
        for index in np.ndindex(*expected.shape):
            if expected[index] is None:
                assert read_value[index] is None, where
            else:
                assert_same(read_value[index], expected[index], f"{where}{index}")
    else:
        np.testing.assert_array_equal(read_value, expected, err_msg=where)


def matlab_size(value):
    if value.dtype.kind != "U":
        return value.shape
    return (0, 0) if value.size == 0 else (*value.shape, value.dtype.itemsize // 4)


def write(path, variables, version):
    if version == "7.3":
        write_matlab73(path, variables)
    else:
        scipy.io.savemat(path, variables, do_compression=version == "7")


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
@pytest.mark.parametrize("case", CASES)
def test_every_version_is_nested_as_loadmat_does_it(tmp_path, case, version):
    reference = io.BytesIO()
    scipy.io.savemat(reference, {"x": CASES[case]})
    expected = scipy.io.loadmat(reference, mat_dtype=True)["x"]
    write(tmp_path / "x.mat", {"other": 1.0, "x": CASES[case]}, version)
    with open_matlab(tmp_path / "x.mat") as file:
        assert sorted(file.names) == ["other", "x"]
        assert_same(file.read("x"), expected)
        if case != "beyond_utf16":
            assert file.shape("x") == matlab_size(expected)


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
def test_columns_are_the_matrix_in_blocks_from_the_start_at_every_call(tmp_path, version):
    matrix = np.random.default_rng(1).normal(size=(31, 50)).astype(np.float32)
    write(tmp_path / "x.mat", {"data": matrix, "words": cells("a")}, version)
    with open_matlab(tmp_path / "x.mat") as file:
        source = file.columns("data")
    assert source.shape == (31, 50) and source.dtype == np.float32
    for size in (1, 7, 50, 1000):
        blocks = list(source.blocks(size))
        assert [block.shape[1] for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert all(block.dtype == np.float32 and block.flags.f_contiguous for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), matrix)
    first, again = source.blocks(20), source.blocks(20)
    np.testing.assert_array_equal(next(first), next(again))
    np.testing.assert_array_equal(next(first), matrix[:, 20:40])
    with pytest.raises(ValueError, match="positive"):
        next(source.blocks(0))


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
@pytest.mark.parametrize("case", ["cube", "words", "text", "empty_single", "cell_row"])
def test_only_matrices_of_numbers_have_columns(tmp_path, case, version):
    write(tmp_path / "x.mat", {"x": CASES[case]}, version)
    with open_matlab(tmp_path / "x.mat") as file, pytest.raises(ValueError, match="no matrix"):
        file.columns("x")


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_an_unknown_variable_is_named_with_those_there_are(tmp_path, version):
    path = tmp_path / "x.mat"
    write(path, {"data": np.eye(3), "time": 1.0}, version)
    with open_matlab(path, source="the archive") as file:
        for ask in (file.read, file.shape, file.columns):
            with pytest.raises(ValueError, match=r"x\.mat.*'words'.*data, time.*the archive"):
                ask("words")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a MATLAB file" * 100, bytes(4096), b"MATLAB 5.0 MAT-file".ljust(128)],
)
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.mat.*no MATLAB file.*get it again from here"):
        open_matlab(path, source="here")


def test_version_4_is_refused_with_a_remedy(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.eye(3)}, format="4")
    with pytest.raises(ValueError, match="version 4 with -v7"):
        open_matlab(tmp_path / "x.mat")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.mat.*the archive"):
        open_matlab(tmp_path / "x.mat", source="the archive")
    with pytest.raises(FileNotFoundError):
        open_matlab(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="this SciPy comes without its test files")
def test_files_that_matlab_itself_wrote():
    compared = 0
    for path in sorted(REAL.glob("test*_[67].*.mat")):
        if "hdf5" in path.name:
            with open_matlab(path) as file:
                np.testing.assert_allclose(
                    file.read("testdouble"), np.arange(9)[None] * np.pi / 4, atol=1e-15
                )
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of complex numbers, which are refused below
            expected = scipy.io.loadmat(path, mat_dtype=True)
        with open_matlab(path) as file:
            for name in file.names:
                try:
                    value = file.read(name)
                except ValueError as error:
                    assert any(
                        word in str(error) for word in ("complex", "sparse", "object", "function")
                    ), error
                    continue
                if value.dtype.kind in "fiu":  # big-endian files come in the order of the machine
                    expected[name] = expected[name].astype(value.dtype)
                    if value.ndim == 2:
                        blocks = list(file.columns(name).blocks(2))
                        assert_same(np.concatenate(blocks, axis=1), value)
                assert_same(value, expected[name], path.name)
                compared += 1
    assert compared >= 30


FUZZ = """
import resource, sys, warnings
from pathlib import Path
import numpy as np
from brainalign_jax.neural.formats.matlab import open_matlab

warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
path, n_cuts, n_flips = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
raw, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
damaged = path.with_suffix(".damaged.mat")
cuts = [raw[: int(end)] for end in np.linspace(0, len(raw) - 1, n_cuts)]
for number in range(n_cuts + n_flips):
    content = bytearray(cuts[number] if number < n_cuts else raw)
    for _ in range(0 if number < n_cuts else rng.integers(1, 4)):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    damaged.write_bytes(content)
    try:
        with open_matlab(damaged) as file:
            for name in file.names:
                try:
                    value = file.read(name)
                    if value.ndim == 2 and value.size and value.dtype.kind in "fiub":
                        assert sum(block.shape[1] for block in file.columns(name).blocks(7))
                except ValueError as error:
                    refused += str(damaged) in str(error)
                    assert str(damaged) in str(error), error
    except ValueError as error:
        refused += 1
        assert str(damaged) in str(error), error
print(refused)
"""


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
def test_damage_ends_in_an_error_or_a_value(tmp_path, version):
    # In a process of its own: SciPy and HDF5 can crash on what they should have refused.
    names = ("double", "text", "cell_matrix", "cell_of_empties", "struct", "struct_row", "i2")
    path = tmp_path / "x.mat"
    write(path, {name: CASES[name] for name in names}, version)
    result = subprocess.run(
        [sys.executable, "-c", FUZZ, path, "50", "150"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 75
