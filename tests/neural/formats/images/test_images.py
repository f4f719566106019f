import numpy as np
import pytest

from brainalign_jax.neural.formats.images.images import ImageSource, Run, plausible_tr, readable
from brainalign_jax.neural.space import VoxelSpace


def source(*trs, lengths=None, fill=None):
    runs = []
    for number, tr in enumerate(trs):
        n = lengths[number] if lengths else 4
        runs.append(Run((f"run{number}.nii",), n, tr, fill or (lambda rows: rows.fill(1.0))))
    return ImageSource(runs, VoxelSpace.volume([[0, 0, 0], [1, 1, 1]], (2, 2, 2)))


def test_times_of_runs_whose_clocks_restart():
    times = source(2.0, 2.0, lengths=(3, 2)).times()
    np.testing.assert_array_equal(times, [0, 2, 4, 0, 2])
    late = source(2.0, 2.0, lengths=(3, 2)).times(slice_time_ref=0.5, first_volume=20)
    np.testing.assert_array_equal(late, [21, 23, 25, 21, 23])
    given = source(None, None, lengths=(3, 2)).times(tr=0.5, first_volume=(0, 100))
    np.testing.assert_array_equal(given, [0, 0.5, 1, 100, 100.5])


@pytest.mark.parametrize(
    ("trs", "options", "message"),
    [
        ((2.0, None), {}, r"run1.nii does not tell its TR.*give tr="),
        ((2.0, 2.5), {}, r"run1.nii has a TR of 2.5 s and run0.nii one of 2 s"),
        ((2.0,), {"tr": 0.0}, "tr is 0.0"),
        ((2.0,), {"tr": 2000.0}, "tr is 2000"),
        ((2.0,), {"tr": float("nan")}, "tr is nan"),
        ((2.0, 2.0), {"first_volume": (1, 2, 3)}, "for 2 runs"),
        ((2.0,), {"first_volume": float("inf")}, "first_volume is inf"),
        ((2.0,), {"slice_time_ref": 1.5}, "0 to 1"),
    ],
)
def test_times_that_nobody_knows(trs, options, message):
    with pytest.raises(ValueError, match=message):
        source(*trs).times(**options)


def test_a_tr_is_seconds():
    assert plausible_tr(np.float32(0.8), "sec") == 0.8
    assert plausible_tr(800, "msec") == 0.8
    assert plausible_tr(-2, "sec") is plausible_tr(31, "sec") is plausible_tr(1, "rads") is None


def test_values_are_read_once():
    calls = []

    def fill(rows):
        calls.append(rows.shape)
        rows[:] = len(calls)

    images = source(1.0, 1.0, lengths=(2, 3), fill=fill)
    assert images.shape == (5, 2) and not calls
    blocks = list(images.blocks(1)) + list(images.blocks(2))
    assert calls == [(2, 2), (3, 2)] and [block.shape for block in blocks] == [
        (5, 1),
        (5, 1),
        (5, 2),
    ]
    np.testing.assert_array_equal(blocks[-1][:, 0], [1, 1, 2, 2, 2])


def test_too_large_for_the_memory():
    vast = source(1.0, lengths=(2**55,))
    with pytest.raises(ValueError, match=r"run0.nii.*GiB.*smaller mask"):
        vast.values()


@pytest.mark.parametrize("error", [EOFError("x"), OSError("x"), KeyError("x"), MemoryError()])
def test_what_parsers_raise_names_the_file(error):
    with pytest.raises(ValueError, match="scan.nii"), readable("scan.nii", "an image"):
        raise error


def test_an_interruption_is_no_damage():
    with pytest.raises(KeyboardInterrupt), readable("scan.nii", "an image"):
        raise KeyboardInterrupt
