"""BOLD [time, V] and word onsets to word responses, through one explicit matrix K [words, time].

`response = K @ BOLD`. K is sparse: a row holds the weights of the few volumes that make up one word's
response; all of them come from the word's own run. Feeding the volume times as a voxel gives back the
time at which each word was read out, which is how `check_timing` proves the alignment.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from brainalign_jax.names import check_known
from brainalign_jax.neural.readout.haemodynamics import (
    TIME_TOLERANCE,
    check_clock,
    check_durations,
    glover_hrf,
)

KINDS = ("gaussian", "paper", "delay", "hrf")
HRF_CENTRE = 5.2272  # seconds after the event: centre of mass of the positive lobe of glover_hrf
_HRF_LOBE = 9.3486  # seconds: where glover_hrf crosses zero
# Li et al. 2023: nine rows half a second apart, of which the middle one is read `delay` s later.
_PAPER_ROWS = 0.5 * np.arange(-4, 5)
_PAPER_SIGMA = 0.5


def word_kernel(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    kind: str = "gaussian",
    delay: float = 6.0,
    window: tuple[float, float] = (-2.0, 2.0),
    sigma: float = 1.0,
) -> sparse.csr_array:
    """The matrix K that turns BOLD into word responses, `K @ bold`, never across runs.

    onsets: [N] seconds; durations: [N] seconds or None (0); run: [N] or None (one run).
    volume_times: [time] seconds on the clock of the onsets; volume_run: [time] or None (one run).
    kind:
      "gaussian"  volumes with onset+delay+window[0] <= t <= onset+delay+duration+window[1], with
                  Gaussian weights of width `sigma` (seconds) around the window's middle. The
                  default, 1 s, is half the window's half-width: at a TR of 2 s the two volumes
                  nearest to the middle hold nearly all the weight, and the far end (2 s = 2 sigma)
                  0.14 of it, so that a volume that enters the window makes no jump.
      "paper"     the kernel of Li et al. 2023: nine rows 0.5 s apart, from onset+delay-2 to
                  onset+delay+2 (with the default delay: from 4 s after the onset), weighted by a
                  Gaussian of 0.5 s around the middle. A row holds the first volume at or after its
                  time, as in their code, which repeats every volume backwards to the last one.
                  Ignores durations, `window` and `sigma`.
      "delay"     linear interpolation of the time series at onset+delay (the last volume where
                  that is up to half a TR after it). Ignores durations, `window` and `sigma`.
      "hrf"       weights of the positive lobe of the Glover response to an event at the word's
                  middle, onset + duration/2; its centre is `HRF_CENTRE` = 5.23 s later. The
                  undershoot is cut off because weights of both signs have no centre in time.
                  Ignores `delay`, `window` and `sigma`.
    Returns K [N, time] float64, sparse. A row sums to one, or is all zero where the run does not cover the
    word: the middle of its window lies before the first volume or more than half a TR after the
    last, or the run's edge cuts the window so that the weights' centre moves by more than half a
    TR. Such words are counted in a warning; their rows are those of `~covered_words(K)`.
    Raises ValueError for volume times that do not increase within a run, a word's run without
    volumes, an empty window inside a run (TR longer than the window), or if no word is covered.
    """
    sigma = float(sigma)
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; give a positive width in seconds")
    onsets, times, word_run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    low, middle, high = _windows(onsets, durations, kind, delay, window)
    parts = []  # (words, volumes, weights) of the non-zero entries of each run
    for label in np.unique(word_run):
        rows, columns = np.flatnonzero(word_run == label), np.flatnonzero(volume_run == label)
        t = times[columns]
        tr = float(np.median(np.diff(t)))
        centre = middle[rows]
        covered = (centre >= t[0] - TIME_TOLERANCE) & (centre <= t[-1] + tr / 2 + TIME_TOLERANCE)
        rows, centre = rows[covered], centre[covered]
        lag = t - centre[:, None]
        if kind == "delay":
            right = np.searchsorted(t, centre - TIME_TOLERANCE).clip(1, len(t) - 1)
            if (bad := (t[right] - t[right - 1] > 1.5 * tr) & (centre < t[right])).any():
                word = int(rows[np.argmax(bad)])
                raise ValueError(
                    f"volumes are missing where word {word} is read out, at {middle[word]:.3f} s in run "
                    f"{label}: the nearest are at {t[right[bad][0] - 1]:g} and {t[right[bad][0]]:g} s "
                    f"and the TR is {tr:g} s; label the parts as runs of their own"
                )
            weights = _interpolation(centre, t)
        elif kind == "paper":
            weights = _paper_weights(centre, t)
            cut = (low[rows] < t[0] - TIME_TOLERANCE) | (high[rows] > t[-1] + TIME_TOLERANCE)
            weights[cut] = 0.0
        else:
            if kind == "gaussian":
                inside = (t >= low[rows, None] - TIME_TOLERANCE) & (
                    t <= high[rows, None] + TIME_TOLERANCE
                )
                # Relative to the nearest volume, or a sigma far below the TR would underflow to 0/0.
                nearest = np.abs(lag).min(axis=1, keepdims=True, initial=np.inf)
                weights = np.exp(-0.5 * (lag**2 - nearest**2) / sigma**2) * inside
            else:
                weights = np.maximum(glover_hrf(lag + HRF_CENTRE), 0.0)
            total = weights.sum(axis=1)
            cut = (low[rows] < t[0] - TIME_TOLERANCE) | (high[rows] > t[-1] + TIME_TOLERANCE)
            if (bad := (total == 0) & ~cut).any():
                word = int(rows[np.argmax(bad)])
                raise ValueError(
                    f"no volume lies in the window of word {word}, {low[word]:.3f} to "
                    f"{high[word]:.3f} s in run {label}: the TR ({tr:g} s) is longer than the "
                    "window, or volumes are missing; widen window=, or give kind=delay"
                )
            weights = weights / np.where(total > 0, total, 1.0)[:, None]
            moved = np.abs(weights @ t - centre) > tr / 2 + TIME_TOLERANCE
            weights[cut & (moved | (total == 0))] = 0.0
        word, volume = np.nonzero(weights)
        parts.append((rows[word], columns[volume], weights[word, volume]))
    word, volume, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    kernel = sparse.csr_array((weight, (word, volume)), shape=(len(onsets), len(times)))
    uncovered = int((~covered_words(kernel)).sum())
    if uncovered == len(onsets):
        raise ValueError(
            f"the recording covers none of the {len(onsets)} words: onsets run from "
            f"{onsets.min():g} to {onsets.max():g} s and volumes from {times.min():g} to "
            f"{times.max():g} s; both must be on the same clock, in seconds"
        )
    if uncovered:
        warnings.warn(
            f"the recording does not cover the response to {uncovered} of {len(onsets)} words "
            "(too near a run's start or end); their rows are zero and marked as not valid",
            UserWarning,
            stacklevel=2,
        )
    return kernel


def covered_words(kernel: sparse.csr_array) -> np.ndarray:
    """Which words [N] bool have any weight in K [N, time]."""
    return np.diff(sparse.csr_array(kernel).indptr) > 0


def apply_kernel(kernel: sparse.csr_array | np.ndarray, bold: np.ndarray) -> np.ndarray:
    """Word responses [N, V] float32 from the kernel [N, time] and the recording [time, V].

    Sums in float64; works on blocks of voxels, so that no second copy of the recording is made.
    Raises ValueError where the two disagree on the number of volumes.
    """
    kernel, bold = sparse.csr_array(kernel), np.asarray(bold)
    if bold.ndim != 2 or kernel.shape[1] != bold.shape[0]:
        raise ValueError(
            f"the kernel has shape {kernel.shape} and the recording {bold.shape}; they must be "
            "[words, volumes] and [volumes, voxels] with the same number of volumes"
        )
    responses = np.empty((kernel.shape[0], bold.shape[1]), np.float32)
    for start in range(0, bold.shape[1], 2048):
        block = slice(start, start + 2048)
        responses[:, block] = kernel @ np.asarray(bold[:, block], np.float64)
    return responses


def check_timing(
    kernel: sparse.csr_array | np.ndarray,
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    kind: str = "gaussian",
    delay: float = 6.0,
    window: tuple[float, float] = (-2.0, 2.0),
) -> float:
    """Prove a kernel's alignment: the volume times, read out as a voxel, must give the words' times.

    Arguments as for `word_kernel`; `kernel` [N, time] may come from anywhere. For every word with
    weights, the read-out time must equal the middle of its window, onset + delay + half the
    duration (+ the middle of an uneven `window`; onset + delay for "delay" and "paper"; onset +
    half the duration + HRF_CENTRE for "hrf"), to half a TR of its run; to one TR for "paper", which
    takes the next volume for each of its rows. The row must sum to one and stay in
    the word's run; and a word whose window lies wholly inside its run must have weights.
    Returns the largest error in seconds. Raises ValueError naming the word and the error.
    """
    kernel = sparse.csr_array(kernel, copy=True)
    kernel.eliminate_zeros()
    onsets, times, word_run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    if kernel.shape != (len(onsets), len(times)):
        raise ValueError(
            f"the kernel has shape {kernel.shape} for {len(onsets)} words and {len(times)} volumes"
        )
    low, middle, high = _windows(onsets, durations, kind, delay, window)
    readout, total = kernel @ times, kernel.sum(axis=1)
    covered = covered_words(kernel)
    words, volumes = kernel.nonzero()
    crossing = np.zeros(len(onsets), bool)
    crossing[words[word_run[words] != volume_run[volumes]]] = True
    worst = 0.0
    for label in np.unique(word_run):
        rows, columns = np.flatnonzero(word_run == label), volume_run == label
        t = times[columns]
        tr = float(np.median(np.diff(t)))
        allowed, name = (tr, "one TR") if kind == "paper" else (tr / 2, "half a TR")

        def complain(bad: np.ndarray, problem: str, rows=rows, label=label) -> None:
            if bad.any():
                word = int(rows[np.argmax(bad)])
                raise ValueError(
                    f"timing check failed for word {word} (onset {onsets[word]:g} s, run {label}): "
                    + problem.format(
                        at=readout[word],
                        want=middle[word],
                        error=readout[word] - middle[word],
                        total=total[word],
                    )
                    + "; check that onsets, volume times and runs are on the same clock"
                )

        inside = (low[rows] >= t[0]) & (high[rows] <= t[-1])
        complain(inside & ~covered[rows], "its run covers it, yet it has no volume")
        known = covered[rows]
        complain(known & (np.abs(total[rows] - 1) > 1e-6), "its weights sum to {total:.6g}, not 1")
        error = np.where(known, np.abs(readout[rows] - middle[rows]), 0.0)
        complain(
            error > allowed + 2 * TIME_TOLERANCE,
            "read out at {at:.3f} s instead of {want:.3f} s, an error of {error:+.3f} s, "
            f"more than {name} ({allowed:g} s)",
        )
        # Last, as only clocks that restart in every run hide a crossing from the read-out time.
        complain(crossing[rows], "it takes volumes of another run")
        worst = max(worst, float(error.max(initial=0.0)))
    return worst


def _interpolation(targets: np.ndarray, t: np.ndarray) -> np.ndarray:
    targets = np.clip(targets, t[0], t[-1])
    right = np.clip(np.searchsorted(t, targets), 1, len(t) - 1)
    share = (targets - t[right - 1]) / (t[right] - t[right - 1])
    weights = np.zeros((len(targets), len(t)))
    weights[np.arange(len(targets)), right - 1] = 1 - share
    weights[np.arange(len(targets)), right] = share
    return weights


def _paper_weights(centres: np.ndarray, t: np.ndarray) -> np.ndarray:
    weights = np.zeros((len(centres), len(t)))
    words = np.arange(len(centres))
    for lag in _PAPER_ROWS:
        # Times past the last volume take the last one; such words are left out by the caller.
        volume = np.searchsorted(t, centres + lag - TIME_TOLERANCE).clip(max=len(t) - 1)
        weights[words, volume] += np.exp(-0.5 * (lag / _PAPER_SIGMA) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _windows(onsets, durations, kind, delay, window):
    """First, middle and last second [N] of the span from which a word's response is read."""
    check_known("kind=", kind, KINDS)
    durations = check_durations(durations, len(onsets))
    start, end = (float(edge) for edge in window)
    if not start <= end or not np.isfinite([start, end, delay]).all():
        raise ValueError(f"window is {window} and delay {delay}; give finite seconds, start <= end")
    target = onsets + delay
    if kind == "delay":
        return target, target, target
    if kind == "paper":
        return target + _PAPER_ROWS[0], target, target + _PAPER_ROWS[-1]
    if kind == "hrf":
        event = onsets + durations / 2
        return event, event + HRF_CENTRE, event + _HRF_LOBE
    low, high = onsets + delay + start, onsets + delay + durations + end
    return low, (low + high) / 2, high
