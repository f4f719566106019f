"""The haemodynamic response (HRF) in closed form, and its exact sum over the words at the volume times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy  # its parts optimize and stats are slow to import: they are loaded when they are used
from scipy import sparse
from scipy.special import gammainc

from brainalign_jax.names import check_known

HRF_SECONDS = 32.0  # seconds: a response is zero from here on, as in SPM and nilearn
TIME_TOLERANCE = 1e-6  # seconds: rounding of onsets and volume times stored as sums of the TR


def glover_hrf(seconds: np.ndarray) -> np.ndarray:
    """The canonical haemodynamic response at `seconds` after an event (Glover 1999), any shape.

    Difference of two gamma densities: peak 6 s, undershoot 12 s, dispersions 0.9 s, ratio 0.48,
    the parameters of nilearn's `glover_hrf`, in closed form and not normalised.
    """
    peak = scipy.stats.gamma.pdf(seconds, 6.0 / 0.9, scale=0.9)
    return peak - 0.48 * scipy.stats.gamma.pdf(seconds, 12.0 / 0.9, scale=0.9)


def spm_hrf(seconds: np.ndarray) -> np.ndarray:
    """The canonical haemodynamic response of SPM at `seconds` after an event, any shape.

    Difference of two gamma densities: peak 6 s, undershoot 16 s, dispersions 1 s, ratio 1/6
    (`spm_hrf.m` with its defaults; Friston et al. 1998), in closed form and not normalised: its
    integral is 5/6. The "peak" is SPM's name for the mean of the first density: the maximum, 0.175,
    is 5.0 s after the event. nilearn's `spm_hrf` rounds the ratio to 0.167 and starts one of its
    time steps later.
    """
    return scipy.stats.gamma.pdf(seconds, 6.0) - scipy.stats.gamma.pdf(seconds, 16.0) / 6.0


class _Shape(NamedTuple):
    """An HRF: its function, and the two gamma densities (shape, scale) and ratio for its integral."""

    function: Callable
    response: tuple[float, float]
    undershoot: tuple[float, float]
    ratio: float


_SHAPES = {
    "spm": _Shape(spm_hrf, (6.0, 1.0), (16.0, 1.0), 1.0 / 6.0),
    "glover": _Shape(glover_hrf, (6.0 / 0.9, 0.9), (12.0 / 0.9, 0.9), 0.48),
}


def _shape(hrf: str) -> _Shape:
    check_known("hrf=", hrf, _SHAPES)
    return _SHAPES[hrf]


@cache
def hrf_peak(hrf: str = "spm") -> tuple[float, float]:
    """Where the response "spm" or "glover" is largest, in seconds after the event, and how large."""
    function = _shape(hrf).function
    peak = scipy.optimize.minimize_scalar(
        lambda at: -function(at), bounds=(3.0, 8.0), method="bounded", options={"xatol": 1e-9}
    )
    return float(peak.x), float(-peak.fun)


def event_response(
    seconds: np.ndarray, durations: np.ndarray | None = None, hrf: str = "spm"
) -> np.ndarray:
    """Response at `seconds` after the onset of an event: the HRF, averaged over the event's length.

    seconds: any shape. durations: seconds, broadcast against it, or None for impulses; a duration
    of zero is an impulse. The average over a length d is the difference of the HRF's integral (gamma
    distribution functions) at both ends over d. Zero beyond `HRF_SECONDS`. Not normalised.
    """
    shape, seconds = _shape(hrf), np.asarray(seconds, np.float64)
    if durations is None or not np.any(durations):
        return np.where(seconds <= HRF_SECONDS, shape.function(seconds), 0.0)
    seconds, durations = np.broadcast_arrays(seconds, np.asarray(durations, np.float64))

    def integral(until: np.ndarray) -> np.ndarray:
        until = np.clip(until, 0.0, HRF_SECONDS)
        (a, a_scale), (b, b_scale) = shape.response, shape.undershoot
        return gammainc(a, until / a_scale) - shape.ratio * gammainc(b, until / b_scale)

    # Below a millisecond the difference loses digits, and the HRF at the middle is its limit.
    short = durations < 1e-3
    middle = seconds - durations / 2
    impulse = np.where(middle <= HRF_SECONDS, shape.function(middle), 0.0) if short.any() else 0.0
    length = np.where(short, 1.0, durations)
    return np.where(short, impulse, (integral(seconds) - integral(seconds - durations)) / length)


def check_clock(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The words' and volumes' times and runs, checked: onsets, times [float64], run, volume_run.

    onsets: [N] seconds, in any order; volume_times: [time] seconds; run: [N], volume_run: [time],
    labels, or None for one run.
    Raises ValueError for empty or non-finite times, other lengths, volume times that do not
    increase within a run, a run of one volume, or a word's run without volumes.
    """
    onsets = np.asarray(onsets, np.float64)
    times = np.asarray(volume_times, np.float64)
    for name, values in (("onsets", onsets), ("volume_times", times)):
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"{name} have shape {values.shape}; give a non-empty vector of finite seconds"
            )
    run = np.zeros(len(onsets), np.int64) if run is None else np.asarray(run)
    volume_run = np.zeros(len(times), np.int64) if volume_run is None else np.asarray(volume_run)
    if run.shape != onsets.shape or volume_run.shape != times.shape:
        raise ValueError(
            f"run has shape {run.shape} for {len(onsets)} words, volume_run {volume_run.shape} for "
            f"{len(times)} volumes; give one label each"
        )
    missing = np.setdiff1d(run, volume_run)
    if missing.size:
        raise ValueError(
            f"words belong to run {missing[0]}, which has no volumes; the volumes' runs are "
            f"{np.unique(volume_run).tolist()} (pass both run= and volume_run=)"
        )
    for label in np.unique(volume_run):
        rows = np.flatnonzero(volume_run == label)
        if len(rows) < 2:
            raise ValueError(f"run {label} has one volume only; its TR is unknown: leave it out")
        steps = np.diff(times[rows])
        if (steps <= 0).any():
            at = int(np.argmax(steps <= 0))
            raise ValueError(
                f"volume times must increase within a run: in run {label} volume {rows[at]} is at "
                f"{times[rows[at]]:g} s and volume {rows[at + 1]} at {times[rows[at + 1]]:g} s "
                "(where the clock restarts, pass volume_run=)"
            )
    return onsets, times, run, volume_run


def check_durations(durations: np.ndarray | None, n_words: int) -> np.ndarray:
    """Durations [n_words] float64 seconds; zeros for None. ValueError for another shape or negative."""
    durations = np.zeros(n_words) if durations is None else np.asarray(durations, np.float64)
    if durations.shape != (n_words,) or not (durations >= 0).all() or np.isinf(durations).any():
        raise ValueError(
            f"durations have shape {durations.shape} for {n_words} words; give one "
            "non-negative number of seconds a word"
        )
    return durations


def words_near_volumes(
    onsets: np.ndarray,
    times: np.ndarray,
    run: np.ndarray,
    volume_run: np.ndarray,
    first: float | np.ndarray,
    last: float | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs (word, volume) of one run whose lag, the volume's time minus the onset, is in range.

    onsets, times, run, volume_run: as `check_clock` returns them; first, last: seconds, both
    included, one for all words or [N]. Returns word, volume (indices) and lag (seconds), each
    [pairs], in the order of the runs' labels, then of the words, then of the volumes.
    """
    first = np.broadcast_to(np.asarray(first, np.float64), onsets.shape)
    last = np.broadcast_to(np.asarray(last, np.float64), onsets.shape)
    parts = []
    for label in np.unique(run):
        rows, columns = np.flatnonzero(run == label), np.flatnonzero(volume_run == label)
        t = times[columns]
        start = np.searchsorted(t, onsets[rows] + first[rows], side="left")
        stop = np.searchsorted(t, onsets[rows] + last[rows], side="right")
        counts = np.maximum(stop - start, 0)
        word = np.repeat(rows, counts)
        # Counts up within each word, from its first volume.
        within = np.arange(len(word)) - np.repeat(np.cumsum(counts) - counts, counts)
        volume = columns[np.repeat(start, counts) + within]
        parts.append((word, volume, times[volume] - onsets[word]))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def hrf_matrix(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    durations: np.ndarray | None = None,
    hrf: str = "spm",
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
) -> sparse.csr_array:
    """Every word's `event_response` at the volume times of its own run: [time, N] float64, sparse.

    Arguments and errors as for `convolve_hrf`, but durations may be zero: responses are averages
    over the word's length (a boxcar of unit area), so that a word of no length is an impulse.
    """
    onsets, times, run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    lengths = None if durations is None else check_durations(durations, len(onsets))
    last = HRF_SECONDS if lengths is None else HRF_SECONDS + lengths
    word, volume, lag = words_near_volumes(onsets, times, run, volume_run, 0.0, last)
    response = event_response(lag, None if lengths is None else lengths[word], hrf)
    return sparse.csr_array((response, (volume, word)), shape=(len(times), len(onsets)))


def convolve_hrf(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    amplitudes: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    hrf: str = "spm",
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
) -> np.ndarray:
    """The responses to all words, summed at the volume times: exact, without a grid of time steps.

    onsets: [N] seconds, in any order; volume_times: [time] seconds on the same clock.
    amplitudes: [N] or [N, D], or None (ones). durations: None for impulses, whose response is
    amplitude x HRF; or [N] positive seconds for boxcars of height `amplitude`, whose response is the
    integral of the HRF over the boxcar (differences of gamma distribution functions), so that a
    longer word has a larger response. hrf: "spm" or "glover", not normalised, in 1/s.
    run: [N], volume_run: [time], or None (one run). A word responds in its own run only: what it
    would still evoke in a run that begins within 32 s is left out, as scans of two runs are rarely
    on one continuous clock.
    Returns [time] or [time, D] float64. Memory is that of the result and of N x 32 s / TR numbers.
    Raises ValueError for shapes that disagree, non-finite amplitudes, durations that are not
    positive, an unknown HRF, and times or runs that `check_clock` refuses.
    """
    matrix = hrf_matrix(
        onsets, volume_times, durations=durations, hrf=hrf, run=run, volume_run=volume_run
    )
    n_words = matrix.shape[1]
    if amplitudes is None:
        amplitudes = np.ones(n_words)
    amplitudes = np.asarray(amplitudes)
    if amplitudes.ndim not in (1, 2) or len(amplitudes) != n_words:
        raise ValueError(
            f"amplitudes have shape {amplitudes.shape} for {n_words} words; give [N] or [N, D]"
        )
    if not np.isfinite(amplitudes).all():
        word = int(np.argmin(np.isfinite(amplitudes.reshape(n_words, -1)).all(axis=1)))
        raise ValueError(
            f"the amplitudes of word {word} are not finite; drop the word or fill them in"
        )
    if durations is not None:
        durations = np.asarray(durations, np.float64)
        if not durations.all():
            word = int(np.argmin(durations))
            raise ValueError(
                f"word {word} has duration 0 and a boxcar of no length has no response; give "
                "positive durations, or durations=None for impulses"
            )
        matrix = matrix @ sparse.diags_array(durations)  # unit area to unit height
    return matrix @ amplitudes.astype(np.float64, copy=False)
