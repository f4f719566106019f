"""What float32 holds of arrays, what they take of the memory, and what their headers declare."""

import io
import zipfile

import numpy as np
import pytest

from brainalign_jax.neural.formats import arrays

SIGNAL = np.random.default_rng(0).standard_normal((50, 4))


@pytest.mark.parametrize(
    ("values", "lossy"),
    [
        (SIGNAL + 1000, False),
        (SIGNAL + 3e6, True),
        (SIGNAL + [0, 0, 0, -3e6], True),
        ((SIGNAL + 3e6).astype(np.float32), False),  # is rounded already
        ((1000 * SIGNAL).astype(np.int64) + 3 * 10**9, True),
        ((1000 * SIGNAL).astype(np.int64) + 2**62, True),
        ((1000 * SIGNAL).astype(np.int64).astype(np.uint64) + np.uint64(2**63), True),
        (np.full((50, 4), 2**62), False),
        (np.full((50, 4), 3e6), False),  # no variation to lose
        (np.full((50, 4), 0.1) + 3e6, False),
        (np.where(SIGNAL[3, 1] == SIGNAL, np.nan, SIGNAL + [0, 3e6, 0, 0]), False),
        (np.zeros((50, 0)), False),
    ],
)
def test_offsets_that_cost_digits(values, lossy):
    assert arrays.offsets_cost_digits(values) == lossy
    # What the rule lets pass keeps three digits of a deviation.
    kept = np.isfinite(values).all(axis=0) & (values.std(axis=0) > 1e-6)
    rounded = values.astype(np.float32).astype(np.float64)
    if not lossy and values.dtype != np.float32:
        away = np.abs(rounded - values)[:, kept] / values.std(axis=0)[kept]
        assert (away < 2e-4).all()
    if values.size and values.dtype.kind in "iu":
        values = (values.astype(object) - values[0].astype(object)).astype(np.float64)
        kept = slice(None)
    level = arrays.centred(values)[:, kept]
    np.testing.assert_allclose(
        level, (values - values.mean(axis=0, dtype=float))[:, kept], atol=1e-9
    )


def test_memory_is_that_of_the_machine_and_small_sizes_ask_nobody(monkeypatch):
    assert 2**20 < arrays.free_memory() < 2**50
    monkeypatch.setattr(arrays, "free_memory", lambda: 2**25)
    arrays.check_memory(2**25, "a.mat", "it")
    with pytest.raises(
        ValueError, match=r"a.mat: 'x' needs 0.1 GiB of memory and 0.0 GiB are free"
    ):
        arrays.check_memory(2**26, "a.mat", "'x'")
    monkeypatch.setattr(arrays, "free_memory", None)
    arrays.check_memory(2**24, "a.mat", "it")


def npz(path, header, *, method=zipfile.ZIP_STORED, content=b""):
    sound = io.BytesIO()
    np.save(sound, np.arange(3))
    text = header.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", sound.getvalue())
        archive.writestr(
            "b.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + content
        )
    return path


@pytest.mark.parametrize("descr", ["<U0", "|V0", "<f8"])
def test_archives_that_declare_more_elements_than_bytes(tmp_path, descr):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (10**9,), }}"
    path = npz(tmp_path / "a.npz", header.replace("10**9", "1000000000"))
    arrays.check_archive(path, ["a"])
    with pytest.raises(ValueError, match=r"b.npy declares more elements than it has bytes"):
        arrays.check_archive(path, ["a", "b"])
    with pytest.raises(KeyError):
        arrays.check_archive(path, ["c"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_python_unpacks_in_one_go(tmp_path, method):
    path = npz(
        tmp_path / "a.npz", "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", method=method
    )
    with pytest.raises(ValueError, match="a.npy is packed in a way that np.savez does not know"):
        arrays.check_archive(path, ["a"])
