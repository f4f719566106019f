import warnings

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from brainalign_jax.neural.readout.deconvolution import (
    ALPHAS,
    check_deconvolution,
    deconvolution_kernel,
    run_gram,
    select_alpha,
)
from brainalign_jax.neural.readout.haemodynamics import glover_hrf, spm_hrf

HRFS = {"spm": spm_hrf, "glover": glover_hrf}


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: on a busy machine two threads wait for one another for seconds."""
    with threadpool_limits(1):
        yield


def story(n_runs=3, n_words=60, tr=2.0, step=0.5, lead=12.0, trail=14.0, gap=28.5, jitter=0.0):
    """Onsets, word runs, volume times, volume runs on one clock, with gaps between the runs."""
    rng = np.random.default_rng(5)
    onsets, run, times, volume_run, start = [], [], [], [], 0.0
    for label in range(n_runs):
        n_volumes = round((lead + n_words * step + trail) / tr)
        onsets.append(start + lead + step * np.arange(n_words) + jitter * rng.uniform(size=n_words))
        times.append(start + tr * np.arange(n_volumes))
        run.append(np.full(n_words, label))
        volume_run.append(np.full(n_volumes, label))
        start = times[-1][-1] + gap
    return tuple(np.concatenate(part) for part in (onsets, run, times, volume_run))


def columns(onsets, times, durations=None, hrf="spm"):
    """HRFs of peak one [time, N], written out; a duration is an average over many impulses."""
    durations = np.zeros(len(onsets)) if durations is None else durations
    peak = HRFS[hrf](np.arange(0, 10, 1e-4)).max()
    design = np.zeros((len(times), len(onsets)))
    for word, (onset, length) in enumerate(zip(onsets, durations, strict=True)):
        starts = onset + length * (np.arange(400) + 0.5) / 400
        lag = times[:, None] - starts
        design[:, word] = (HRFS[hrf](lag) * (lag <= 32)).mean(axis=1) / peak
    return design


def quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return deconvolution_kernel(*args, **kwargs)


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_isolated_responses_are_recovered(hrf):
    rng = np.random.default_rng(0)
    onsets, times = np.arange(8.3, 380, 25), np.arange(0.0, 420, 1.5)
    heights = rng.standard_normal((len(onsets), 4))
    bold = 7 + columns(onsets, times, hrf=hrf) @ heights
    kernel = deconvolution_kernel(onsets, times, hrf=hrf, alpha=1e-6)
    np.testing.assert_allclose(kernel @ bold, heights, atol=1e-5)
    # Alone in the run, a word's estimate is its projection, shrunk by the penalty.
    x = columns(onsets[3:4], times, hrf=hrf)[:, 0]
    x -= x.mean()
    word_kernel = deconvolution_kernel(onsets[3:4], times, hrf=hrf, alpha=2.0).toarray()[0]
    np.testing.assert_allclose(word_kernel, x / (x @ x + 2), atol=1e-7)


@pytest.mark.parametrize(
    ("alpha", "hrf", "timed"), [(0.1, "spm", False), (10.0, "spm", True), (1e3, "glover", True)]
)
def test_equals_ridge_regression_per_run(alpha, hrf, timed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    onsets, run, times, volume_run = story(lead=3.0, trail=2.0, jitter=0.3)
    durations = rng.uniform(0, 1.5, len(onsets)) if timed else None
    timing = {"run": run, "volume_run": volume_run, "durations": durations, "hrf": hrf}
    with pytest.warns(UserWarning, match="does not cover"):
        kernel = deconvolution_kernel(onsets, times, alpha=alpha, **timing)
    assert isinstance(kernel, sparse.csr_array)
    assert kernel.dtype == np.float64
    bold = rng.standard_normal((len(times), 5)) + rng.uniform(-50, 50, 5)
    estimates, covered = kernel @ bold, np.diff(kernel.indptr) > 0
    for label in np.unique(run):
        words, volumes = run == label, volume_run == label
        lengths = None if durations is None else durations[words]
        design = columns(onsets[words], times[volumes], lengths, hrf)
        ridge = linear_model.Ridge(alpha=alpha, fit_intercept=True).fit(design, bold[volumes])
        expected = np.where(covered[words, None], ridge.coef_.T, 0.0)
        np.testing.assert_allclose(estimates[words], expected, atol=2e-6 * np.abs(expected).max())
    assert 0 < (~covered).sum() < len(onsets) / 2


def test_words_that_the_run_does_not_cover():
    times = np.r_[0:30:2.0, 60:90:2.0]  # the last volumes before and after the pause: 28 and 88 s
    onsets = np.array([-5.1, -4.9, 10.0, 22.9, 26.2, 40.0, 51.9, 53.1, 82.9, 83.1, 200.0])
    with pytest.warns(UserWarning, match="response to 6 of 11 words"):
        kernel = deconvolution_kernel(onsets, times)
    # The peak is 4.9985 s after the onset; 31.2 s is more than 2.5 s from any volume, 56.9 s too.
    expected = [False, True, True, True, False, False, False, True, True, False, False]
    assert kernel.toarray().any(axis=1).tolist() == expected
    assert (np.diff(kernel.indptr) > 0).tolist() == expected
    assert check_deconvolution(kernel, onsets, times) < 1e-9
    # The words left out are in the design all the same: the others are not blamed for them.
    covered = np.array(expected)
    alone = deconvolution_kernel(onsets[covered], times).toarray()
    assert np.abs(alone - kernel.toarray()[covered]).max() > 1e-3
    with pytest.raises(ValueError, match="covers none of the 2 words.*same clock"):
        deconvolution_kernel([500.0, 501.0], times)


def test_runs_are_apart_and_order_and_clock_do_not_matter():
    onsets, run, times, volume_run = story(jitter=0.4)
    timing = {"run": run, "volume_run": volume_run, "alpha": 3.0}
    kernel = deconvolution_kernel(onsets, times, **timing).toarray()
    assert kernel.any(axis=1).all()
    assert not kernel[run[:, None] != volume_run[None, :]].any()
    np.testing.assert_allclose(kernel.sum(axis=1), 0, atol=1e-12)  # blind to a run's mean
    shifted = deconvolution_kernel(onsets + 500.0, times + 500.0, **timing).toarray()
    np.testing.assert_allclose(shifted, kernel, atol=1e-9)
    run_words, run_volumes = run == 1, volume_run == 1
    alone = deconvolution_kernel(onsets[run_words], times[run_volumes], alpha=3.0).toarray()
    np.testing.assert_allclose(kernel[np.ix_(run_words, run_volumes)], alone, atol=1e-12)
    rng = np.random.default_rng(2)
    order, moved = rng.permutation(len(onsets)), rng.permutation(3)
    # Runs in another order, and the volumes of one run between those of another.
    volumes = np.argsort(moved[volume_run], kind="stable")
    volumes[:40] = volumes[:40].reshape(2, 20).T.ravel()
    volumes[:40] = volumes[:40][np.argsort(times[volumes[:40]], kind="stable")]
    mixed = deconvolution_kernel(
        onsets[order], times[volumes], run=run[order], volume_run=volume_run[volumes], alpha=3.0
    ).toarray()
    np.testing.assert_allclose(mixed, kernel[np.ix_(order, volumes)], atol=1e-12)


def test_restarting_clocks_are_kept_apart_by_run():
    onsets, times = np.tile(np.arange(10.0, 30), 2), np.tile(np.arange(0.0, 60, 2), 2)
    timing = {"run": np.repeat([1, 2], 20), "volume_run": np.repeat([1, 2], 30)}
    kernel = deconvolution_kernel(onsets, times, **timing)
    np.testing.assert_allclose(kernel.toarray()[:20, :30], kernel.toarray()[20:, 30:], atol=1e-14)
    assert check_deconvolution(kernel, onsets, times, **timing) < 1e-9
    swapped = sparse.csr_array(np.roll(kernel.toarray(), 30, axis=1))
    with pytest.raises(ValueError, match="word 0 .*volumes of another run"):
        check_deconvolution(swapped, onsets, times, **timing)


def gcv_loop(onsets, run, times, volume_run, bold, alphas, hrf="spm"):
    """Generalised cross-validation with the hat matrix of the whole GLM, runs' means included."""
    design = np.zeros((len(times), len(onsets)))
    means = np.zeros((len(times), 0))
    for label in np.unique(run):
        words, volumes = run == label, volume_run == label
        design[np.ix_(volumes, words)] = columns(onsets[words], times[volumes], hrf=hrf)
        means = np.c_[means, volumes]
    scores = []
    for alpha in alphas:
        full = np.c_[design, means]
        penalty = np.diag(np.r_[np.full(len(onsets), alpha), np.zeros(means.shape[1])])
        hat = full @ np.linalg.solve(full.T @ full + penalty, full.T)
        left = np.eye(len(times)) - hat
        scores.append(len(times) * np.sum((left @ bold) ** 2) / np.trace(left) ** 2)
    return np.array(scores)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_alpha_minimises_generalised_cross_validation(noise):
    rng = np.random.default_rng(3)
    onsets, run, times, volume_run = story(n_runs=2, n_words=40, step=1.3, jitter=0.5)
    timing = {"run": run, "volume_run": volume_run}
    bold = 20 + noise * rng.standard_normal((len(times), 30))
    for label in (0, 1):
        x = columns(onsets[run == label], times[volume_run == label])
        bold[volume_run == label] += x @ rng.standard_normal((40, 30))
    alphas = np.logspace(-2, 4, 13)
    scores = gcv_loop(onsets, run, times, volume_run, bold, alphas)
    expected = alphas[np.argmin(scores)]
    assert select_alpha(onsets, times, bold=bold, alphas=alphas, **timing) == expected
    gram = bold @ bold.T
    assert select_alpha(onsets, times, gram=gram, alphas=alphas, **timing) == expected
    # The order of the penalties, what is between runs, and constants make no difference.
    gram[volume_run[:, None] != volume_run] = np.nan
    mixed = rng.permutation(alphas)
    assert select_alpha(onsets, times, gram=gram, alphas=mixed, **timing) == expected
    gram = sum(run_gram(bold[:, part] - 9, volume_run) for part in (slice(0, 11), slice(11, 30)))
    assert sparse.issparse(gram)
    assert select_alpha(onsets, times, gram=gram, alphas=alphas, **timing) == expected
    # Two neighbours on the grid alone, so that the comparison is decided by every term.
    for k in range(len(alphas) - 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = select_alpha(onsets, times, bold=bold, alphas=alphas[k : k + 2], **timing)
        assert chosen == alphas[k + np.argmin(scores[k : k + 2])]


def test_the_chosen_alpha_estimates_nearly_best():
    rng = np.random.default_rng(4)
    onsets, run, times, volume_run = story(n_runs=2, n_words=120, step=0.5, jitter=0.2)
    timing = {"run": run, "volume_run": volume_run}
    heights, noise = rng.standard_normal((len(onsets), 200)), 1.0
    bold = noise * rng.standard_normal((len(times), 200))
    for label in (0, 1):
        x = columns(onsets[run == label], times[volume_run == label])
        bold[volume_run == label] += x @ heights[run == label]
    errors = [
        np.mean((deconvolution_kernel(onsets, times, alpha=a, **timing) @ bold - heights) ** 2)
        for a in ALPHAS
    ]
    chosen = select_alpha(onsets, times, bold=bold, **timing)
    assert noise**2 / 4 < chosen < noise**2 * 4  # the noise's variance over the responses'
    assert errors[ALPHAS.index(chosen)] < 1.03 * min(errors)
    assert min(errors) < 0.9  # 1 is what estimating nothing would get


def test_a_recording_without_response_is_reported():
    onsets, run, times, volume_run = story(n_runs=1)
    noise = np.random.default_rng(0).standard_normal((len(times), 400))
    with pytest.warns(UserWarning, match="100000.*no response to the words"):
        assert select_alpha(onsets, times, bold=noise) == 1e5
    with pytest.warns(UserWarning, match="hardly any noise"):
        clean = columns(onsets, times) @ np.random.default_rng(0).standard_normal((60, 5))
        assert select_alpha(onsets, times, bold=clean) == pytest.approx(1e-3)


DESIGNS = [  # TR, seconds between words, penalty, longest duration
    (2.0, 0.5, 1.0, 0.0),
    (2.0, 0.5, 1e-3, 0.5),
    (2.0, 0.5, 1e5, 0.5),
    (2.0, 20.0, 1e-3, 0.0),
    (0.72, 0.3, 30.0, 0.4),
    (0.72, 12.0, 1e-3, 1.0),
    (1.5, 4.0, 1e3, 4.0),
    (3.0, 1.0, 1e-3, 2.0),
]


@pytest.mark.parametrize(("tr", "step", "alpha", "longest"), DESIGNS)
@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_timing_check_passes_kernels_and_refuses_shifted_ones(tr, step, alpha, longest, hrf):
    rng = np.random.default_rng(int(10 * tr + step))
    n_words = max(12, round(60 / step))
    onsets, run, times, volume_run = story(2, n_words, tr, step, trail=3.0, jitter=step / 2)
    durations = rng.uniform(0, longest, len(onsets)) if longest else None
    timing = {"run": run, "volume_run": volume_run, "durations": durations, "hrf": hrf}
    kernel = quiet(onsets, times, alpha=alpha, **timing)
    assert check_deconvolution(kernel, onsets, times, **timing) < 1e-6
    # The same words and volumes, so that only the weights can tell the difference.
    covered = np.diff(kernel.indptr) > 0
    for shift in (-tr, tr, -0.75 * tr, 0.75 * tr):
        both = covered & (np.diff(quiet(onsets + shift, times, **timing).indptr) > 0)
        chosen = {"run": run[both], "volume_run": volume_run, "hrf": hrf}
        chosen["durations"] = None if durations is None else durations[both]
        shifted = deconvolution_kernel(onsets[both] + shift, times, alpha=alpha, **chosen)
        with pytest.raises(ValueError, match="timing check failed for word .*(tuned|solve)"):
            check_deconvolution(shifted, onsets[both], times, **chosen)
        right = deconvolution_kernel(onsets[both], times, alpha=alpha, **chosen)
        assert check_deconvolution(right, onsets[both], times, **chosen) < 1e-6


def test_timing_check_says_by_how_much():
    onsets, run, times, volume_run = story(n_words=80)
    timing = {"run": run, "volume_run": volume_run}
    late = deconvolution_kernel(onsets + 2.0, times, alpha=10.0, **timing)
    with pytest.raises(ValueError, match=r"half a TR \(1 s\).*median .* words is \+2.00 s"):
        check_deconvolution(late, onsets, times, **timing)
    sparse_onsets = np.arange(20.0, 300, 30)
    early = deconvolution_kernel(sparse_onsets - 2.0, np.arange(0.0, 340, 2), alpha=1e4)
    with pytest.raises(ValueError, match=r"tuned to an event about -2.00 s from it"):
        check_deconvolution(early, sparse_onsets, np.arange(0.0, 340, 2))


def test_timing_check_refuses_other_damage():
    onsets, run, times, volume_run = story(lead=3.0, jitter=0.3)
    timing = {"run": run, "volume_run": volume_run}
    with pytest.warns(UserWarning, match="does not cover"):
        onsets_and_one = np.r_[onsets, times[-1]]
        kernel = deconvolution_kernel(
            onsets_and_one, times, run=np.r_[run, 2], volume_run=volume_run, alpha=10.0
        )
    timing = {"run": np.r_[run, 2], "volume_run": volume_run}
    onsets = onsets_and_one
    assert check_deconvolution(kernel, onsets, times, **timing) < 1e-9
    dense = kernel.toarray()

    def refused(match, rows, values, **changed):
        damaged = dense.copy()
        damaged[rows] = values
        with pytest.raises(ValueError, match=match):
            check_deconvolution(damaged, onsets, times, **timing | changed)

    refused("word 7 .*yet it has no weights", 7, 0.0)
    refused("word 180 .*peaks outside", 180, dense[170])
    refused("word 20 .*volumes of another run", 20, dense[100])
    refused("word 10 .*(tuned|solve)", [10, 30], dense[[30, 10]])
    refused("word 5 .*(tuned|solve)", 5, dense[6])
    refused("word 5 .*(tuned|solve)", 5, -dense[5])
    refused("word .*(tuned|solve)", (5, 10), np.nan)
    refused("word 0 .*(tuned|solve)", slice(0, 0), 0.0, hrf="glover")
    refused("word 0 .*(tuned|solve)", slice(0, 0), 0.0, durations=np.full(181, 1.0))
    with pytest.raises(ValueError, match=r"shape \(181, 10\) for 181 words and"):
        check_deconvolution(dense[:, :10], onsets, times, **timing)


def test_an_event_is_attributed_to_the_words_around_it():
    onsets, run, times, volume_run = story(n_runs=1, n_words=200)  # four words a volume
    kernel = deconvolution_kernel(onsets, times, alpha=1.0)
    resolution = kernel @ columns(onsets, times)  # [estimates, events]
    interior = np.arange(20, 180)
    largest = onsets[np.argmax(resolution[:, interior], axis=0)]
    assert np.abs(largest - onsets[interior]).max() <= 1.0  # half a TR
    assert (np.diag(resolution)[interior] < 0.5).all()  # but not to one word alone


def test_harry_potter_in_full_size():
    onsets, run, times, volume_run = story(4, 1294, 2.0, 0.5, lead=20.0, trail=9.0)
    assert (len(onsets), len(times)) == (5176, 1352)
    timing = {"run": run, "volume_run": volume_run}
    kernel = deconvolution_kernel(onsets, times, alpha=10.0, **timing)
    assert kernel.nnz == 5176 * 338  # the volumes of the word's own run
    assert check_deconvolution(kernel, onsets, times, **timing) < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0; give a positive ridge penalty"),
        ({"alpha": None}, "alpha is None.*select_alpha"),
        ({"alpha": np.nan}, "alpha is nan"),
        ({"alpha": 1e-13}, "alpha is 1e-13: run 0 cannot be solved in double precision"),
        ({"hrf": "fir"}, "unknown hrf='fir'; known: spm, glover"),
        ({"durations": [0.1]}, "non-negative number of seconds a word"),
        ({"run": [4, 4, 4]}, "run 4, which has no volumes"),
        ({"onsets": 3.0}, "onsets have shape"),
        ({"volume_times": [0.0, 2, 1]}, "must increase within a run"),
    ],
)
def test_wrong_input_is_explained(arguments, message):
    given = {"onsets": [1.0, 2.0, 3.0], "volume_times": np.arange(0.0, 20, 2)} | arguments
    with pytest.raises(ValueError, match=message):
        deconvolution_kernel(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of gram= .* and bold="),
        ({"gram": np.eye(10), "bold": np.eye(10)}, "give one of gram="),
        ({"gram": np.eye(9)}, r"shape \(9, 9\) for 10 volumes"),
        ({"bold": np.ones(10)}, r"bold has shape \(10,\)"),
        ({"bold": np.ones((9, 2))}, r"Gram matrix of the bold has shape \(9, 9\)"),
        ({"bold": np.ones((10, 2))}, "constant or zero in every run"),
        ({"bold": np.full((10, 2), np.nan)}, "not finite in run 0"),
        ({"bold": np.eye(10), "alphas": []}, "alphas is empty"),
        ({"bold": np.eye(10), "alphas": [1.0, -1.0]}, "alpha is -1.0"),
    ],
)
def test_alpha_needs_a_usable_recording(arguments, message):
    with pytest.raises(ValueError, match=message):
        select_alpha([1.0, 2.0, 3.0], np.arange(0.0, 20, 2), **arguments)
