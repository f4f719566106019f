import math
import warnings

import numpy as np
import pytest
from nilearn import signal

from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.haemodynamics import glover_hrf
from brainalign_jax.neural.readout.kernels import (
    HRF_CENTRE,
    apply_kernel,
    check_timing,
    covered_words,
)
from brainalign_jax.neural.readout.kernels import word_kernel as sparse_kernel

GAP = 28.5


def word_kernel(*args, **kwargs):
    """Dense, to be compared and indexed."""
    kernel = sparse_kernel(*args, **kwargs)
    np.testing.assert_array_equal(covered_words(kernel), kernel.toarray().any(axis=1))
    return kernel.toarray()


def four_runs(n_words=60, tr=2.0, gap=GAP, word=0.5, lead=20.0, trail=14.0):
    """Onsets, word runs, volume times, volume runs; `gap` seconds between the runs' volumes."""
    onsets, run, times, volume_run, start = [], [], [], [], 0.0
    for label in (1, 2, 3, 4):
        n_volumes = round((lead + n_words * word + trail) / tr)
        onsets += [start + lead + word * i for i in range(n_words)]
        run += [label] * n_words
        times += [start + tr * i for i in range(n_volumes)]
        volume_run += [label] * n_volumes
        start = times[-1] + gap
    return np.array(onsets), np.array(run), np.array(times), np.array(volume_run)


def loop_kernel(onsets, times, run, volume_run, durations, kind, delay=6.0, sigma=1.0):
    """The definition, word by word and volume by volume."""
    kernel = np.zeros((len(onsets), len(times)))
    for word in range(len(onsets)):
        volumes = [j for j in range(len(times)) if volume_run[j] == run[word]]
        first, last = times[volumes[0]], times[volumes[-1]]
        tr = times[volumes[1]] - first
        if kind == "gaussian":
            middle = onsets[word] + delay + durations[word] / 2
        elif kind == "delay":
            middle = onsets[word] + delay
        else:
            middle = onsets[word] + durations[word] / 2 + HRF_CENTRE
        if middle < first or middle > last + tr / 2:
            continue
        for k, j in enumerate(volumes):
            t = times[j]
            if kind == "gaussian":
                begin, end = onsets[word] + delay - 2, onsets[word] + delay + durations[word] + 2
                if begin <= t <= end:
                    kernel[word, j] = math.exp(-((t - middle) ** 2) / (2 * sigma**2))
            elif kind == "delay":
                if k + 1 < len(volumes) and t <= middle < times[volumes[k + 1]]:
                    share = (middle - t) / (times[volumes[k + 1]] - t)
                    kernel[word, j], kernel[word, volumes[k + 1]] = 1 - share, share
                elif k + 1 == len(volumes) and middle >= t:
                    kernel[word, j] = 1.0
            else:
                since = t - onsets[word] - durations[word] / 2
                if since > 0:
                    kernel[word, j] = max(_glover(since), 0.0)
        total = kernel[word].sum()
        if total > 0:
            kernel[word] /= total
        if abs(kernel[word] @ times - middle) > tr / 2:
            kernel[word] = 0
    return kernel


def _glover(t):
    def density(t, peak):
        shape, scale = peak / 0.9, 0.9
        return t ** (shape - 1) * math.exp(-t / scale) / (math.gamma(shape) * scale**shape)

    return density(t, 6) - 0.48 * density(t, 12)


@pytest.mark.parametrize("kind", ["gaussian", "delay", "hrf"])
@pytest.mark.parametrize("tr", [0.8, 1.5, 2.0])
def test_kernel_is_the_loop(kind, tr):
    rng = np.random.default_rng(0)
    onsets, run, times, volume_run = four_runs(n_words=50, tr=tr, trail=4.0)
    onsets = onsets + rng.uniform(0, 0.4, len(onsets))
    durations = rng.uniform(0.05, 1.5, len(onsets))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = word_kernel(
            onsets, times, run=run, volume_run=volume_run, durations=durations, kind=kind
        )
    expected = loop_kernel(onsets, times, run, volume_run, durations, kind)
    np.testing.assert_allclose(kernel, expected, atol=1e-10)
    assert 0 < (~kernel.any(axis=1)).sum() < len(onsets) / 2  # the short rest cuts some words off
    sums = kernel.sum(axis=1)
    np.testing.assert_allclose(sums[kernel.any(axis=1)], 1.0, atol=1e-12)
    assert not kernel[run[:, None] != volume_run[None, :]].any()


def test_default_window_by_hand():
    kernel = word_kernel([10.0], np.arange(0.0, 40, 2), durations=[0.5])
    assert np.flatnonzero(kernel[0]).tolist() == [7, 8, 9]  # 14, 16, 18 s within 14 ... 18.5 s
    weights = np.exp(-0.5 * (np.array([14, 16, 18]) - 16.25) ** 2)
    np.testing.assert_allclose(kernel[0, 7:10], weights / weights.sum(), rtol=1e-12)


def test_delay_interpolates_a_ramp_exactly_and_ends_at_the_last_volume():
    times = np.arange(0.0, 20, 2)
    kernel = word_kernel([0.3, 5.1, 12.9], times, kind="delay")
    np.testing.assert_allclose(kernel @ times, [6.3, 11.1, 18.0])


def test_narrow_sigma_picks_the_nearest_volume_without_underflow():
    kernel = word_kernel([10.0], np.arange(0.0, 40, 2), durations=[1.0], sigma=0.01)
    np.testing.assert_allclose(kernel[0, 8], 1.0)


def test_hrf_matches_nilearn_and_its_stated_centre():
    models = pytest.importorskip("nilearn.glm.first_level.hemodynamic_models")
    step = 0.01
    theirs = models.glover_hrf(1.0, oversampling=100, time_length=32.0)
    # nilearn delays by one sample and stretches its grid by one part in 3199.
    seconds = np.linspace(0, 32, 3200) - step
    ours = glover_hrf(seconds)
    np.testing.assert_allclose(theirs, ours / ours.sum(), atol=1e-9)
    t = np.arange(0, 40, 0.001)
    lobe = np.maximum(glover_hrf(t), 0)
    assert abs((t * lobe).sum() / lobe.sum() - HRF_CENTRE) < 1e-3


@pytest.mark.parametrize("kind", ["gaussian", "delay", "hrf"])
def test_timing_check_passes_over_four_runs_with_gaps(kind):
    onsets, run, times, volume_run = four_runs()
    timing = {
        "run": run,
        "volume_run": volume_run,
        "durations": np.full(len(onsets), 0.5),
        "kind": kind,
    }
    kernel = word_kernel(onsets, times, **timing)
    assert check_timing(kernel, onsets, times, **timing) <= 1.0
    extra = {"gaussian": 6.25, "delay": 6.0, "hrf": 0.25 + HRF_CENTRE}[kind]
    np.testing.assert_allclose(kernel @ times, onsets + extra, atol=0.5)


@pytest.mark.parametrize("tr", [1.0, 1.5, 2.0])
def test_paper_kernel_is_its_description(tr):
    """Li et al. 2023 on gap-free timing: the volumes repeated to rows of half a second, each row the
    next volume; of these the nine rows from onset + 4 s on, with Gaussian weights of one row."""
    rng = np.random.default_rng(0)
    times = np.arange(0.0, 120, tr)
    bold = rng.standard_normal((len(times), 5)).astype(np.float32)
    onsets = np.arange(20.0, 100, 0.5)
    each = round(tr / 0.5)
    rows = np.concatenate([bold[:1], np.repeat(bold[1:], each, axis=0)])  # row r is at 0.5 r s
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    weights /= weights.sum()
    expected = [weights @ rows[round((onset + 4) / 0.5) :][:9] for onset in onsets]
    kernel = sparse_kernel(onsets, times, kind="paper", durations=np.full(len(onsets), 0.5))
    np.testing.assert_allclose(apply_kernel(kernel, bold), expected, rtol=0, atol=1e-6)
    assert check_timing(kernel, onsets, times, kind="paper") <= tr


def test_timing_check_refuses_index_from_onset_over_tr():
    onsets, run, times, volume_run = four_runs()
    durations = np.full(len(onsets), 0.5)
    wrong = np.zeros((len(onsets), len(times)))
    for word, onset in enumerate(onsets):  # as if the scanner had never paused
        wrong[word, min(round((onset + 6.25) / 2), len(times) - 1)] = 1
    timing = {"run": run, "volume_run": volume_run, "durations": durations}
    with pytest.raises(ValueError, match=r"timing check failed for word 60 .*run 2"):
        check_timing(wrong, onsets, times, **timing)
    first = run == 1  # the first run, before any gap, is right: it is the gaps that are caught
    run_volumes = volume_run == 1
    assert check_timing(wrong[first][:, run_volumes], onsets[first], times[run_volumes]) <= 1.0


def test_timing_check_names_error_crossing_sum_and_missing_rows():
    onsets, run, times, volume_run = four_runs()
    timing = {"run": run, "volume_run": volume_run}
    kernel = word_kernel(onsets, times, **timing)
    with pytest.raises(ValueError, match=r"error of \+2\.000 s, more than half a TR"):
        check_timing(np.roll(kernel, 1, axis=1), onsets, times, **timing)
    with pytest.raises(ValueError, match="word 5 .*another run"):  # where every clock starts at 0
        onset, clock = np.arange(10.0, 20), np.tile(np.arange(0.0, 60, 2), 2)
        restarted = {"run": np.repeat([1, 2], 5), "volume_run": np.repeat([1, 2], 30)}
        check_timing(
            word_kernel(onset, clock, run=np.ones(10), volume_run=restarted["volume_run"]),
            onset,
            clock,
            **restarted,
        )
    doubled = kernel.copy()
    doubled[7] *= 2
    with pytest.raises(ValueError, match="word 7 .*sum to 2"):
        check_timing(doubled, onsets, times, **timing)
    missing = kernel.copy()
    missing[9] = 0
    with pytest.raises(ValueError, match="word 9 .*no volume"):
        check_timing(missing, onsets, times, **timing)
    with pytest.raises(ValueError, match="kernel has shape"):
        check_timing(kernel[:, :-1], onsets, times, **timing)


@pytest.mark.parametrize("kind", ["gaussian", "paper", "delay", "hrf"])
@pytest.mark.parametrize("tr", [0.5, 0.72, 1.0, 1.5, 2.0, 3.0, 4.0])
def test_every_kernel_passes_its_own_timing_check(kind, tr):
    rng = np.random.default_rng(int(tr * 100))
    times = np.arange(0, 200, tr)
    onsets = np.sort(rng.uniform(-12, 205, 300))
    durations = rng.uniform(0, 2, 300)
    with pytest.warns(UserWarning, match="does not cover"):
        kernel = word_kernel(onsets, times, durations=durations, kind=kind)
    error = check_timing(kernel, onsets, times, durations=durations, kind=kind)
    assert error <= (tr if kind == "paper" else tr / 2) + 1e-5


def test_uncovered_words_get_zero_rows_and_a_count():
    times = np.arange(0.0, 40, 2)  # the last volume is at 38 s: half a TR later is 39 s
    onsets = np.array([-7.0, -5.0, 10.0, 32.8, 33.2, 36.0])
    with pytest.warns(UserWarning, match="3 of 6 words"):
        kernel = word_kernel(onsets, times)
    assert kernel.any(axis=1).tolist() == [False, True, True, True, False, False]
    with pytest.raises(ValueError, match="covers none of the 2 words.*same clock"):
        word_kernel([500.0, 501.0], times)


def test_empty_window_says_that_the_tr_is_too_long():
    with pytest.raises(ValueError, match=r"TR \(6 s\) is longer than the window"):
        word_kernel(np.arange(5.0, 40), np.arange(0.0, 100, 6))
    with pytest.raises(ValueError, match="volumes are missing"):
        word_kernel([30.0], np.r_[0:30:2.0, 50:80:2.0])
    with pytest.raises(ValueError, match="volumes are missing where word 0 is read out"):
        word_kernel([30.0], np.r_[0:30:2.0, 50:80:2.0], kind="delay")
    covered = word_kernel([10.0, 60.0], np.r_[0:30:2.0, 50:80:2.0], kind="delay")
    assert covered.any(axis=1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"volume_times": [0.0, 2, 2, 4]}, "must increase within a run: in run 0 volume 1"),
        ({"volume_times": [0.0, 4, 2, 6]}, "must increase within a run"),
        ({"volume_times": [0.0, 2, np.nan, 6]}, "volume_times"),
        ({"volume_times": []}, "volume_times"),
        ({"onsets": [np.inf]}, "onsets"),
        ({"run": [3]}, r"run 3, which has no volumes; the volumes' runs are \[0\]"),
        ({"run": [0, 0]}, "one label each"),
        ({"run": [0], "volume_run": [0, 1, 1, 1]}, "run 0 has one volume only"),
        ({"durations": [-1.0]}, "durations"),
        ({"durations": [1.0, 1.0]}, "durations"),
        ({"kind": "box"}, "unknown kind='box'; known: gaussian, paper, delay, hrf"),
        ({"window": (2.0, -2.0)}, "window"),
        ({"delay": np.nan}, "delay"),
        ({"sigma": 0.0}, "sigma"),
    ],
)
def test_bad_arguments(arguments, message):
    good = {"onsets": [0.0], "volume_times": [0.0, 2, 4, 6]}
    with pytest.raises(ValueError, match=message):
        word_kernel(**{**good, **arguments})


def test_clock_may_restart_in_every_run():
    times = np.tile(np.arange(0.0, 40, 2), 2)
    volume_run = np.repeat([0, 1], 20)
    kernel = word_kernel([10.0, 10.0], times, run=[0, 1], volume_run=volume_run)
    np.testing.assert_array_equal(kernel[0, :20], kernel[1, 20:])
    assert not kernel[0, 20:].any() and not kernel[1, :20].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_apply_kernel_is_the_product(dtype):
    rng = np.random.default_rng(1)
    onsets, run, times, volume_run = four_runs(n_words=20)
    kernel = word_kernel(onsets, times, run=run, volume_run=volume_run)
    bold = (rng.standard_normal((len(times), 2500)) + 1000).astype(dtype)
    values = apply_kernel(kernel, bold)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, kernel @ bold.astype(np.float64), rtol=1e-6)
    with pytest.raises(ValueError, match="same number of volumes"):
        apply_kernel(kernel, bold[1:])


def test_clean_runs_detrends_and_scales_every_run():
    rng = np.random.default_rng(2)
    run = np.repeat([1, 2], 50)
    noise = rng.standard_normal((100, 3))
    bold = (
        noise * [1, 5, 20] + np.arange(100)[:, None] * 0.7 + np.where(run == 1, 100, -40)[:, None]
    )
    cleaned = clean_runs(bold, run, tr=2.0)
    for label in (1, 2):
        part, t = cleaned[run == label], np.arange(50)
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(part.std(axis=0, ddof=1), 1, atol=1e-10)
        slope, intercept = np.polyfit(t, bold[run == label], 1)
        residual = bold[run == label] - slope * t[:, None] - intercept
        np.testing.assert_allclose(part, residual / residual.std(axis=0, ddof=1), atol=1e-8)
    np.testing.assert_array_equal(
        clean_runs(bold, run, tr=2.0, detrend=False, standardize=False), bold
    )
    assert clean_runs(bold.astype(np.float32), None, tr=2.0).dtype == np.float32


def test_clean_runs_filters_and_regresses():
    t = np.arange(200) * 2.0
    slow, fast = np.sin(2 * np.pi * t / 200), np.sin(2 * np.pi * t / 20)
    rng = np.random.default_rng(3)
    motion = rng.standard_normal((200, 2))
    bold = (slow * 5 + fast)[:, None] + motion @ [[3.0], [-4.0]]
    cleaned = clean_runs(bold, None, tr=2.0, high_pass=0.02, confounds=motion)
    assert np.corrcoef(cleaned[:, 0], fast)[0, 1] > 0.95
    assert abs(np.corrcoef(cleaned[:, 0], motion[:, 0])[0, 1]) < 0.05


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("high_pass", [None, 0.02])
@pytest.mark.parametrize("n_confounds", [0, 3])
def test_clean_runs_is_nilearn_run_by_run(dtype, detrend, high_pass, n_confounds):
    rng = np.random.default_rng(6)
    run = np.repeat([1, 2], [70, 50])
    bold = (1e4 + 30 * rng.standard_normal((120, 5)).cumsum(axis=0)).astype(dtype)
    confounds = 5 + rng.standard_normal((120, n_confounds)) if n_confounds else None
    options = {"detrend": detrend, "high_pass": high_pass}
    cleaned = clean_runs(bold, run, tr=2.0, standardize=False, confounds=confounds, **options)
    assert cleaned.dtype == dtype
    options["filter"] = "butterworth" if high_pass else False
    for label in (1, 2):
        own = None if confounds is None else confounds[run == label]
        part = bold[run == label].astype(np.float64)
        expected = signal.clean(part, confounds=own, t_r=2.0, standardize=None, **options)
        scale = np.abs(expected).max() * (1e-11 if dtype == "float64" else 1e-3)
        np.testing.assert_allclose(cleaned[run == label], expected, rtol=0, atol=scale)


def test_clean_runs_errors():
    rng = np.random.default_rng(4)
    bold = rng.standard_normal((40, 4))
    with pytest.raises(ValueError, match="run has 39 rows for 40 volumes"):
        clean_runs(bold, np.zeros(39), tr=2.0)
    with pytest.raises(ValueError, match="confounds has 3 rows"):
        clean_runs(bold, None, tr=2.0, confounds=bold[:3])
    with pytest.raises(ValueError, match="repetition time"):
        clean_runs(bold, None, tr=0.0)
    with pytest.raises(ValueError, match="volumes, voxels"):
        clean_runs(bold[:, 0], None, tr=2.0)
    broken = bold.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"subject s1.*1 of 4 voxels.*column 2"):
        clean_runs(broken, None, tr=2.0, subject="s1")
    flat = bold.copy()
    flat[:20, 1] = 7.0
    with pytest.raises(ValueError, match="constant within a run"):
        clean_runs(flat, np.repeat([0, 1], 20), tr=2.0)
    with pytest.raises(ValueError, match="confounds.*NaN"):
        clean_runs(bold, None, tr=2.0, confounds=np.full((40, 1), np.nan))
    with pytest.raises(ValueError, match="run 1 .4 volumes.*cannot be cleaned"):
        clean_runs(bold, np.r_[np.zeros(36), np.ones(4)].astype(int), tr=2.0, high_pass=0.01)
