import h5py
import numpy as np
import pytest

from brainalign_jax.neural.formats.matlab import stacked
from brainalign_jax.neural.formats.matlab.stacked import StackedRows


@pytest.fixture
def written(tmp_path):
    """Two files of 7 and 5 rows of 23 columns, and their rows."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((7, 23)), rng.standard_normal((5, 23)).astype(np.float32)]
    for name, part in zip("ab", parts, strict=True):
        with h5py.File(tmp_path / f"{name}.hf5", "w") as file:
            file.create_dataset("data", data=part, chunks=(2, 4), compression="gzip")
    return [tmp_path / "a.hf5", tmp_path / "b.hf5"], np.concatenate(parts)


@pytest.mark.parametrize("size", [1, 5, 23, 100])
@pytest.mark.parametrize("slab", [1, 12 * 8 * 10, 2**27])
def test_blocks_are_the_columns_of_all_files(written, size, slab, monkeypatch):
    paths, rows = written
    monkeypatch.setattr(stacked, "_SLAB", slab)
    source = StackedRows(paths, "data")
    assert source.shape == (12, 23) and source.lengths == (7, 5) and source.dtype == np.float64
    for _ in range(2):
        blocks = list(source.blocks(size))
        assert all(block.shape[1] <= size for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), rows)


def test_what_is_no_recording_is_refused(written, tmp_path):
    paths, _ = written
    with pytest.raises(ValueError, match="blocks of 0 columns"):
        next(StackedRows(paths, "data").blocks(0))
    with pytest.raises(FileNotFoundError, match=r"there is no .*c\.hf5; get it from here"):
        StackedRows([*paths, tmp_path / "c.hf5"], "data", source="here")
    source = StackedRows(paths, "data", source="here")
    with h5py.File(paths[1], "w") as file:
        file["data"] = np.ones((5, 20))
    with pytest.raises(
        ValueError, match=r"b\.hf5 is truncated or damaged .* get it again from here"
    ):
        list(source.blocks(10))
    with pytest.raises(ValueError, match=r"b\.hf5 has 20 columns and .*a\.hf5 23"):
        StackedRows(paths, "data")
    with h5py.File(paths[1], "w") as file:
        file.create_dataset("data", (10**6, 23), "f8", chunks=(10**6, 23))
    with pytest.raises(ValueError, match=r"b\.hf5 .* declares \d+ bytes where"):
        StackedRows(paths, "data")
