"""What the readers of MATLAB 7.3 are tested on is as MATLAB writes it."""

import time

import h5py
import numpy as np

from simulate.matlab73 import nested_variables, write_matlab73


def test_hdf5_files_are_as_matlab_writes_them(tmp_path):
    data = np.random.default_rng(0).standard_normal((5, 8)).astype("float32")
    path = tmp_path / "ours.mat"
    write_matlab73(path, {"data": data, **nested_variables()})
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3") and head[124:128] == b"\x00\x02IM"
    assert head[512:] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][:], data.T)
        assert file["data"].attrs["MATLAB_class"] == b"single"
        np.testing.assert_array_equal(file["time"][:], nested_variables()["time"].T)
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


def test_the_time_of_writing_is_not_in_the_file(tmp_path):
    write_matlab73(tmp_path / "a", nested_variables())
    time.sleep(1.1)  # HDF5 counts whole seconds
    write_matlab73(tmp_path / "b", nested_variables())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
