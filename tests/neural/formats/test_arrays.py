"""Numbers of any kind as float32, and arrays read within bounds."""

import numpy as np
import pytest

from brainalign_jax.neural import WordResponses
from brainalign_jax.neural.formats import arrays
from brainalign_jax.neural.formats.arrays import as_float32, check_float32, check_size
from brainalign_jax.neural.store import ResponseWriter
from brainalign_jax.stimulus import Stimulus

SMALL = np.random.default_rng(0).integers(-9, 9, (20, 3))


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [
        ("<f8", 2.0**40),
        (">f8", -(2.0**40)),
        ("<i8", 2**60),
        (">i8", -(2**60)),
        ("<u8", 2**63 + 7),
        ("<i4", 2**30),
        ("<u4", 2**32 - 100),
    ],
)
def test_far_from_zero_nothing_is_rounded(dtype, offset):
    shifted = np.zeros(SMALL.shape, dtype)
    shifted[:, 0] = [int(offset) + int(number) for number in SMALL[:, 0]]
    shifted[:, 1:] = SMALL[:, 1:] + 9
    values, centred = as_float32(shifted)
    assert centred and values.dtype == np.float32
    np.testing.assert_allclose(values, SMALL - SMALL.mean(axis=0), atol=2e-6)


def test_near_zero_values_stay_as_they_are():
    for dtype in (np.float64, np.int64, np.int8, np.float16, bool):
        values, centred = as_float32(SMALL.astype(dtype))
        assert not centred and values.dtype == np.float32
        np.testing.assert_array_equal(values, SMALL.astype(dtype).astype(np.float32))
    wide = np.array([[1e9, 1e60], [1e9 + 1, 0], [1e9, np.nan]])
    values, centred = as_float32(wide)
    assert centred and np.isinf(values[0, 1]) and np.isnan(values[2, 1])  # for others to report
    noise = 0.1 + np.array([[0, 1e-16], [1e-17, 0]])
    assert not as_float32(noise)[1]  # a constant, to what computing leaves of it


def test_responses_that_float32_would_round_away_are_centred_whole_and_refused_in_parts(tmp_path):
    words = Stimulus(tuple(f"w{row}" for row in range(20)))
    responses = WordResponses("S", SMALL + np.array([0, 3e7, 0]), words)
    np.testing.assert_allclose(responses.values, SMALL - SMALL.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(WordResponses("S", SMALL + 100.0, words).values, SMALL + 100)
    check_float32(np.full((20, 2), 3e7), "S")
    facts = dict(subject="S", stimulus=words, valid=None, n_columns=6)
    with ResponseWriter(tmp_path / "s.npz", **facts) as writer:
        writer.write(SMALL)
        with pytest.raises(ValueError, match="subject S: column 5 varies by"):
            writer.write(SMALL + np.array([0, 0, 3e7]))
        writer.write(SMALL)


def test_sizes_are_held_against_the_file_and_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(1000))
    check_size(path, 2**20, "a small thing")
    with pytest.raises(ValueError, match=r"a\.npz: it would take 95 MB, 100,000 times the file"):
        check_size(path, 1e8, "it")
    monkeypatch.setattr(arrays, "free_memory", lambda: 150 * 2**20)
    path.write_bytes(bytes(2**20))
    with pytest.raises(ValueError, match=r"a\.npz: it would take 0\.1 GB and 0\.1 GB are free"):
        check_size(path, 1e8, "it")
