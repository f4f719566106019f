import math

import numpy as np
import pytest

from brainalign_jax.neural.readout.encoding import (
    design_matrix,
    fir_delays,
    lanczos_downsample,
)
from brainalign_jax.neural.readout.haemodynamics import convolve_hrf
from brainalign_jax.neural.readout.kernels import word_kernel


def sinc(x):
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def lanczos_loop(features, onsets, times, window, cutoff, run, volume_run):
    """The definition, volume by volume and word by word."""
    downsampled = np.zeros((len(times), features.shape[1]))
    for j, t in enumerate(times):
        run_times = [
            other for other, label in zip(times, volume_run, strict=True) if label == volume_run[j]
        ]
        frequency = cutoff or 1 / (2 * (run_times[1] - run_times[0]))
        for i, onset in enumerate(onsets):
            x = 2 * frequency * (t - onset)
            if run[i] == volume_run[j] and abs(x) <= window:
                downsampled[j] += features[i] * sinc(x) * sinc(x / window)
    return downsampled


def words(n=50, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    onsets = rng.uniform(-8, 80, n)  # in no order, some beyond the volumes
    run = rng.integers(0, 2, n)
    times = np.r_[np.arange(0, 70, 2.0), np.arange(3, 60, 1.5)]  # overlapping clocks, two TRs
    volume_run = np.r_[np.zeros(35, int), np.ones(38, int)]
    return rng.standard_normal((n, dim)), onsets, run, times, volume_run


@pytest.mark.parametrize(("window", "cutoff"), [(3, None), (1, None), (5, 0.1), (2, 0.4)])
def test_lanczos_is_the_loop(window, cutoff):
    features, onsets, run, times, volume_run = words()
    timing = {"run": run, "volume_run": volume_run}
    sampled = lanczos_downsample(features, onsets, times, window=window, cutoff_hz=cutoff, **timing)
    expected = lanczos_loop(features, onsets, times, window, cutoff, run, volume_run)
    np.testing.assert_allclose(sampled, expected, atol=1e-12)
    assert np.abs(expected).max() > 0.5
    single_feature = lanczos_downsample(
        features[:, 2], onsets, times, window=window, cutoff_hz=cutoff, **timing
    )
    np.testing.assert_allclose(single_feature, sampled[:, 2], atol=1e-14)


def test_lanczos_by_hand():
    times = np.arange(0.0, 40, 2)
    # A word at a volume is in that volume only: the zeros of the sinc are at the other volumes.
    at_volume = lanczos_downsample(np.array([3.0]), [20.0], times)
    np.testing.assert_allclose(at_volume, np.where(times == 20, 3.0, 0.0), atol=1e-15)
    between = lanczos_downsample(np.array([1.0]), [21.0], times)
    lobes = [sinc(x) * sinc(x / 3) for x in (0.5, 1.5, 2.5)]
    np.testing.assert_allclose(between[10:14], [lobes[0], lobes[0], lobes[1], lobes[2]], atol=1e-12)
    assert between[10] == pytest.approx(between[11]) == pytest.approx(0.6079, abs=1e-4)
    assert np.flatnonzero(between).tolist() == [8, 9, 10, 11, 12, 13]


def test_lanczos_keeps_slow_features_and_removes_fast_ones():
    onsets, times = np.arange(0.0, 400, 0.25), np.arange(40.0, 360, 2)
    for frequency, kept in ((0.01, 1.0), (0.05, 1.0), (0.25, 0.5), (0.45, 0.0), (1.0, 0.0)):
        wave = np.cos(2 * np.pi * frequency * onsets)
        sampled = lanczos_downsample(wave, onsets, times) / 8  # eight words a TR
        expected = kept * np.cos(2 * np.pi * frequency * times)
        np.testing.assert_allclose(sampled, expected, atol=0.03)


def test_float_types_are_kept_and_wide_features_are_done_in_blocks():
    features, onsets, run, times, volume_run = words(dim=1100)
    timing = {"run": run, "volume_run": volume_run}
    whole = lanczos_downsample(features, onsets, times, **timing)
    halves = [
        lanczos_downsample(features[:, s], onsets, times, **timing)
        for s in (slice(0, 700), slice(700, None))
    ]
    np.testing.assert_array_equal(whole, np.hstack(halves))
    for method in ("lanczos", "hrf"):
        single = design_matrix(
            onsets, features[:, :3].astype(np.float32), times, method=method, **timing
        )
        assert single.dtype == np.float32
        double = design_matrix(onsets, features[:, :3], times, method=method, **timing)
        assert double.dtype == np.float64
        np.testing.assert_allclose(single, double, atol=1e-6)
    counts = np.arange(50)
    assert lanczos_downsample(counts, onsets, times, **timing).dtype == np.float64


def test_nothing_crosses_between_runs():
    features, onsets, run, times, volume_run = words()
    timing = {"run": run, "volume_run": volume_run}
    for method in ("lanczos", "hrf"):
        whole = design_matrix(onsets, features, times, method=method, delays=(0, 2, 5), **timing)
        for label in (0, 1):
            rows, run_words = volume_run == label, run == label
            alone = design_matrix(
                onsets[run_words], features[run_words], times[rows], method=method, delays=(0, 2, 5)
            )
            np.testing.assert_allclose(whole[rows], alone, atol=1e-12)
        loud = features.copy()
        loud[run == 0] *= 1e6
        other = design_matrix(onsets, loud, times, method=method, delays=(0, 2, 5), **timing)
        np.testing.assert_array_equal(other[volume_run == 1], whole[volume_run == 1])


def test_fir_is_the_loop():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((23, 3))
    run = np.repeat([5, 2, 9], [9, 4, 10])
    delays = (3, 0, -2, 1, 6)  # a delay longer than the second run leaves zeros there
    expected = np.zeros((23, 15))
    for row in range(23):
        for place, delay in enumerate(delays):
            source = row - delay
            if 0 <= source < 23 and run[source] == run[row]:
                expected[row, 3 * place : 3 * place + 3] = features[source]
    np.testing.assert_array_equal(fir_delays(features, delays, run=run), expected)
    assert not expected[9:13, 12:].any()
    assert fir_delays(features.astype(np.float32), [1]).dtype == np.float32
    np.testing.assert_array_equal(fir_delays(features, [2.0])[2:], features[:-2])
    # The volumes of two runs may alternate.
    mixed = np.argsort(np.arange(23) % 2, kind="stable")
    np.testing.assert_array_equal(
        fir_delays(features[mixed], delays, run=(np.arange(23) % 2)[mixed])[np.argsort(mixed)],
        fir_delays(features, delays, run=np.arange(23) % 2),
    )


def test_design_is_its_parts():
    features, onsets, run, times, volume_run = words()
    durations = np.random.default_rng(2).uniform(0, 3, len(onsets))
    timing = {"run": run, "volume_run": volume_run}
    middles = onsets + durations / 2
    design = design_matrix(
        onsets, features, times, durations=durations, window=2, cutoff_hz=0.2, **timing
    )
    sampled = lanczos_downsample(features, middles, times, window=2, cutoff_hz=0.2, **timing)
    # 2, 4, 6 and 8 s at the median TR of 1.5 s.
    np.testing.assert_array_equal(design, fir_delays(sampled, (1, 3, 4, 5), run=volume_run))
    design = design_matrix(
        onsets, features, times, method="hrf", hrf="glover", durations=durations, **timing
    )
    convolved = convolve_hrf(middles, times, amplitudes=features, hrf="glover", **timing)
    np.testing.assert_array_equal(design, convolved)
    assert design_matrix(onsets[:1], [[1.0]], [0.0, 2, 4, 6]).shape == (4, 4)


def test_default_delays_are_two_to_eight_seconds():
    for tr, delays in ((2.0, 4), (0.5, 4), (1.5, 4), (3.0, 3), (6.0, 1), (20.0, 1)):
        times = np.arange(0.0, 40 * tr, tr)
        design = design_matrix([10 * tr], np.ones((1, 1)), times)
        assert design.shape == (40, delays)
        lags = times[np.argmax(design, axis=0)] - 10 * tr
        expected = np.unique(np.maximum(np.round(np.array([2, 4, 6, 8.0]) / tr), tr >= 6)) * tr
        np.testing.assert_allclose(lags, expected)


def test_encoding_delays_and_decoding_delays_agree():
    """A planted response some seconds late is where both directions look for it."""
    rng = np.random.default_rng(3)
    tr, delay = 2.0, 3
    times = np.r_[np.arange(0.0, 120, tr), np.arange(150.0, 260, tr)]
    volume_run = np.r_[np.zeros(60, int), np.ones(55, int)]
    spoken = np.r_[10:50, 65:105]  # one word at each of these volumes
    onsets, run = times[spoken], volume_run[spoken]
    features, weights = rng.standard_normal((80, 5)), rng.standard_normal((5, 7))
    timing = {"run": run, "volume_run": volume_run}
    design = design_matrix(onsets, features, times, delays=(0, delay), **timing)
    bold = design[:, 5:] @ weights
    for seconds, planted in ((delay * tr, True), ((delay - 1) * tr, False)):
        kernel = word_kernel(onsets, times, kind="delay", delay=seconds, **timing)
        close = np.allclose(kernel @ bold, features @ weights, atol=1e-9)
        assert close is planted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": np.ones((2, 4))}, r"features have shape \(2, 4\) for 3 words"),
        ({"features": np.ones((3, 4, 1))}, r"features have shape \(3, 4, 1\)"),
        ({"features": np.array([[1.0], [np.nan], [np.inf]])}, r"word 1 are not finite \(2 of 3"),
        ({"features": np.array([["a"], ["b"], ["c"]])}, "give real numbers"),
        ({"method": "spline"}, "unknown method='spline'; known: lanczos, hrf"),
        ({"method": "hrf", "hrf": "fir"}, "unknown hrf='fir'; known: spm, glover"),
        ({"window": 0}, "window is 0; give a positive whole number"),
        ({"window": 2.5}, "window is 2.5"),
        ({"cutoff_hz": 0.0}, "cutoff_hz is 0.0; give a positive frequency"),
        ({"cutoff_hz": np.inf}, "cutoff_hz is inf"),
        ({"durations": [0.1, 0.1]}, "non-negative number of seconds a word"),
        ({"delays": ()}, "give different whole numbers of volumes"),
        ({"delays": (1, 1)}, "give different whole numbers of volumes"),
        ({"delays": (1.5,)}, "give different whole numbers of volumes"),
        ({"delays": (np.inf,)}, "give different whole numbers of volumes"),
        ({"delays": 2}, "give different whole numbers of volumes"),
        ({"run": [0, 0, 8]}, "run 8, which has no volumes"),
        ({"stimulus_onsets": [0.0, np.nan, 1.0]}, "onsets have shape"),
        ({"volume_times": [0.0, 4.0, 2.0]}, "must increase within a run"),
    ],
)
def test_wrong_input_is_explained(arguments, message):
    given = {
        "stimulus_onsets": [1.0, 2.0, 3.0],
        "features": np.ones((3, 4)),
        "volume_times": np.arange(0.0, 20, 2),
    } | arguments
    with pytest.raises(ValueError, match=message):
        design_matrix(**given)


def test_wrong_volume_features_are_explained():
    with pytest.raises(ValueError, match=r"features have shape \(5,\); give \[time, D\]"):
        fir_delays(np.ones(5), [1])
    with pytest.raises(ValueError, match=r"run has shape \(4,\) for 5 volumes"):
        fir_delays(np.ones((5, 1)), [1], run=np.zeros(4))
