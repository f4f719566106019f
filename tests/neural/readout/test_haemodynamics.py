import math

import numpy as np
import pytest
from scipy.integrate import quad

from brainalign_jax.neural.readout.haemodynamics import (
    HRF_SECONDS,
    check_clock,
    convolve_hrf,
    event_response,
    glover_hrf,
    hrf_matrix,
    hrf_peak,
    spm_hrf,
)

FUNCTIONS = {"spm": spm_hrf, "glover": glover_hrf}


def density(t, shape, scale):
    if t <= 0:
        return 0.0
    return t ** (shape - 1) * math.exp(-t / scale) / (math.gamma(shape) * scale**shape)


def definition(t, hrf):
    """The double gamma with its parameters written out, one number at a time."""
    if not 0 < t <= 32:
        return 0.0
    if hrf == "spm":
        return density(t, 6.0, 1.0) - density(t, 16.0, 1.0) / 6
    return density(t, 6 / 0.9, 0.9) - 0.48 * density(t, 12 / 0.9, 0.9)


def loop(onsets, times, amplitudes, durations, hrf, run, volume_run):
    """The definition, word by word and volume by volume, with numerical integrals."""
    convolved = np.zeros((len(times), amplitudes.shape[1]))
    for j, t in enumerate(times):
        for i, onset in enumerate(onsets):
            if run[i] != volume_run[j] or not 0 <= t - onset <= 40:
                continue
            if durations is None:
                response = definition(t - onset, hrf)
            else:
                # Where the response begins, or is cut off, the integrand is not smooth.
                breaks = [s for s in (t - onset, t - onset - 32) if 0 < s < durations[i]]
                response = quad(
                    lambda s, t=t, onset=onset: definition(t - onset - s, hrf),
                    0,
                    durations[i],
                    points=breaks or None,
                )[0]
            convolved[j] += response * amplitudes[i]
    return convolved


@pytest.mark.parametrize("hrf", ["spm", "glover"])
@pytest.mark.parametrize(("tr", "oversampling"), [(2.0, 50), (0.8, 16), (3.0, 1)])
def test_hrf_is_nilearns(hrf, tr, oversampling):
    models = pytest.importorskip("nilearn.glm.first_level.hemodynamic_models")
    theirs = {"spm": models.spm_hrf, "glover": models.glover_hrf}[hrf](tr, oversampling)
    # Their grid runs from 0 to 32 s and their response begins one step after the event.
    seconds = np.linspace(0, 32, len(theirs)) - tr / oversampling
    response = FUNCTIONS[hrf](seconds)
    # SPM's ratio is 1/6, nilearn's 0.167, which also changes the sum that it divides by.
    allowed = 5e-4 if hrf == "spm" else 1e-12
    np.testing.assert_allclose(response / response.sum(), theirs, atol=allowed * theirs.max())


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_hrf_by_its_formula_at_any_seconds(hrf):
    seconds = np.linspace(-5, 31.5, 74).reshape(2, 37)
    expected = [[definition(t, hrf) for t in row] for row in seconds]
    np.testing.assert_allclose(FUNCTIONS[hrf](seconds), expected, atol=1e-14)
    assert FUNCTIONS[hrf](-1.0) == 0
    at, height = hrf_peak(hrf)
    fine = FUNCTIONS[hrf](np.arange(0, 32, 1e-3))
    assert abs(at - 1e-3 * np.argmax(fine)) <= 1e-3
    assert 0 <= height - fine.max() < 1e-6
    area = quad(lambda t: float(FUNCTIONS[hrf](t)), 0, 100, limit=200)[0]
    assert area == pytest.approx({"spm": 5 / 6, "glover": 0.52}[hrf], abs=1e-8)


def words(n=40, seed=0):
    rng = np.random.default_rng(seed)
    onsets = rng.uniform(-10, 90, n)  # in no order; some before the first and after the last volume
    run = rng.integers(0, 2, n)
    times = np.r_[np.arange(0, 80, 1.7), np.arange(5, 70, 1.7)]  # two clocks that overlap
    volume_run = np.r_[np.zeros(48, int), np.ones(39, int)]
    return rng, onsets, run, times, volume_run


@pytest.mark.parametrize("hrf", ["spm", "glover"])
@pytest.mark.parametrize("boxcars", [False, True])
def test_convolution_is_the_loop(hrf, boxcars):
    rng, onsets, run, times, volume_run = words()
    durations = rng.uniform(0.05, 4, len(onsets)) if boxcars else None
    amplitudes = rng.standard_normal((len(onsets), 3))
    timing = {"durations": durations, "hrf": hrf, "run": run, "volume_run": volume_run}
    convolved = convolve_hrf(onsets, times, amplitudes=amplitudes, **timing)
    expected = loop(onsets, times, amplitudes, durations, hrf, run, volume_run)
    np.testing.assert_allclose(convolved, expected, atol=1e-9)
    single_column = convolve_hrf(onsets, times, amplitudes=amplitudes[:, 1], **timing)
    assert single_column.shape == times.shape
    np.testing.assert_allclose(single_column, convolved[:, 1], atol=1e-12)
    ones = np.ones((len(onsets), 1))
    np.testing.assert_allclose(
        convolve_hrf(onsets, times, **timing),
        loop(onsets, times, ones, durations, hrf, run, volume_run)[:, 0],
        atol=1e-9,
    )


def test_nilearn_makes_the_same_regressor():
    models = pytest.importorskip("nilearn.glm.first_level")
    rng = np.random.default_rng(1)
    times = np.arange(0.0, 300, 2)
    onsets, amplitudes = np.sort(rng.uniform(0, 280, 150)), rng.standard_normal(150)
    durations = rng.uniform(0.2, 2, 150)
    theirs, _ = models.compute_regressor(
        (onsets, durations, amplitudes), "glover", times, oversampling=200, min_onset=0
    )
    # One of their steps, 0.01 s, later: see test_hrf_is_nilearns.
    regressor = convolve_hrf(
        onsets + 0.01, times, amplitudes=amplitudes, durations=durations, hrf="glover"
    )
    scale = 0.52  # they divide the response by its sum
    np.testing.assert_allclose(regressor / scale, theirs[:, 0], atol=0.005 * np.abs(theirs).max())


def test_events_by_hand_and_at_their_limits():
    times = np.arange(0.0, 60, 1)
    regressor = convolve_hrf([10.0], times, amplitudes=[2.0])
    np.testing.assert_allclose(regressor[10:43], 2 * spm_hrf(np.arange(33.0)), atol=1e-15)
    assert not regressor[:11].any()
    assert not regressor[43:].any()  # zero from 32 s on
    assert event_response(HRF_SECONDS + 0.1) == 0
    # A short event is an impulse of its area; the average of no length is the impulse itself.
    np.testing.assert_allclose(
        convolve_hrf([10.0], times, durations=[0.01]), 0.01 * regressor / 2, atol=2e-5
    )
    for length in (0.0, 1e-5, 8e-4, 2e-3):
        np.testing.assert_allclose(
            event_response(times, np.full(60, length)),
            event_response(times - length / 2),
            atol=1e-6,
        )
    # The average over a long event is the mean of impulses spread over it.
    spread = np.mean([event_response(times - s) for s in np.arange(0.005, 6, 0.01)], axis=0)
    np.testing.assert_allclose(event_response(times, np.array(6.0)), spread, atol=1e-6)


def test_words_do_not_respond_in_another_run():
    times = np.r_[np.arange(0.0, 40, 2), np.arange(40.0, 80, 2)]
    volume_run = np.repeat([7, 3], 20)
    regressor = convolve_hrf([38.0], times, run=[7], volume_run=volume_run)
    assert not regressor.any()  # its response would begin in the other run's first volumes
    joined = convolve_hrf([38.0], times)
    np.testing.assert_allclose(
        joined[20:], spm_hrf(times[20:] - 38) * (times[20:] <= 70), atol=1e-15
    )


def test_order_and_clock_do_not_matter():
    rng, onsets, run, times, volume_run = words()
    timing = {"run": run, "volume_run": volume_run}
    matrix = hrf_matrix(onsets, times, **timing).toarray()
    assert matrix.shape == (len(times), len(onsets))
    shifted = hrf_matrix(onsets + 1000.0, times + 1000.0, **timing).toarray()
    np.testing.assert_allclose(shifted, matrix, atol=1e-12)
    order = rng.permutation(len(onsets))
    mixed = hrf_matrix(onsets[order], times, run=run[order], volume_run=volume_run).toarray()
    np.testing.assert_array_equal(mixed, matrix[:, order])
    assert not matrix[volume_run[:, None] != run[None, :]].any()
    assert matrix.any(axis=0).sum() > 30


def test_a_long_recording_needs_no_matrix_of_words_by_volumes():
    rng = np.random.default_rng(0)
    onsets, times = np.sort(rng.uniform(0, 18_000, 50_000)), 2.0 * np.arange(9_000)
    matrix = hrf_matrix(onsets, times)
    assert matrix.nnz <= 50_000 * 17
    regressor = convolve_hrf(onsets, times)
    for volume in (0, 4321, 8999):
        expected = event_response(times[volume] - onsets).sum()
        assert regressor[volume] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hrf": "boxcar"}, "unknown hrf='boxcar'; known: spm, glover"),
        ({"amplitudes": [1.0, 2.0]}, r"amplitudes have shape \(2,\) for 3 words"),
        ({"amplitudes": np.ones((3, 2, 1))}, r"amplitudes have shape \(3, 2, 1\)"),
        ({"amplitudes": [1.0, np.nan, 2.0]}, "amplitudes of word 1 are not finite"),
        ({"durations": [1.0, 0.0, 1.0]}, "word 1 has duration 0 .*durations=None"),
        ({"durations": [1.0, -1.0, 1.0]}, "non-negative number of seconds a word"),
        ({"durations": [1.0, np.inf, 1.0]}, "non-negative number of seconds a word"),
        ({"durations": [1.0]}, r"durations have shape \(1,\) for 3 words"),
        ({"onsets": [1.0, np.nan, 3.0]}, "onsets have shape"),
        ({"onsets": []}, "onsets have shape"),
        ({"volume_times": [[0.0, 2.0]]}, "volume_times have shape"),
        ({"volume_times": [0.0, 2, 2]}, "must increase within a run: in run 0 volume 1"),
        ({"volume_times": [0.0, 4, 2]}, "pass volume_run="),
        ({"run": [0, 0, 5]}, r"run 5, which has no volumes; the volumes' runs are \[0\]"),
        ({"run": [0, 0]}, "give one label each"),
        ({"volume_times": [3.0]}, "one volume only"),
    ],
)
def test_wrong_input_is_explained(arguments, message):
    given = {"onsets": [1.0, 2.0, 3.0], "volume_times": np.arange(0.0, 20, 2)} | arguments
    with pytest.raises(ValueError, match=message):
        convolve_hrf(**given)


def test_clock_is_returned_as_arrays():
    onsets, times, run, volume_run = check_clock([3, 1], [0, 2, 4])
    assert onsets.dtype == times.dtype == np.float64
    assert run.tolist() == [0, 0]
    assert volume_run.tolist() == [0, 0, 0]
