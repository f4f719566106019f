"""Word features at the volumes, for the encoding direction (features -> BOLD): [N, D] to [time, D].

Words come faster than volumes. Two ways from one to the other: low-pass filtering and sampling
(`lanczos_downsample`), with copies delayed by some volumes (`fir_delays`) from which the regression
learns each voxel's haemodynamic response; or convolution with the canonical one (`convolve_hrf`).
Nothing here is fitted to data: standardise the columns on training volumes before a ridge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from brainalign_jax.names import check_known
from brainalign_jax.neural.readout.haemodynamics import (
    check_clock,
    check_durations,
    convolve_hrf,
    words_near_volumes,
)

METHODS = ("lanczos", "hrf")
FIR_SECONDS = (2.0, 4.0, 6.0, 8.0)  # Huth et al. 2016: 1 to 4 volumes of 2 s


def lanczos_downsample(
    features: np.ndarray,
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    window: int = 3,
    cutoff_hz: float | None = None,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
) -> np.ndarray:
    """Low-pass filter the features of words and sample them at the volumes (Huth et al. 2016).

    Every word is an impulse of the height of its feature. It adds at volume time t

        feature * sinc(2 f (t - onset)) * sinc(2 f (t - onset) / window),   sinc(x) = sin(pi x) / (pi x)

    where |2 f (t - onset)| <= window, else nothing; f is the cutoff in Hz. One at the word's time
    and not normalised: the sum of the features of the words around a volume, about words per TR
    times their mean, not their average.
    features: [N, D] or [N]; onsets: [N] seconds, in any order (Huth et al. take the words' middles,
    onset + duration / 2); volume_times: [time] seconds on the same clock.
    window: lobes of the sinc on either side, more for a sharper cutoff. cutoff_hz: None for the
    Nyquist frequency of each run's TR, 1 / (2 TR), as theirs: the first zero is one TR from the word.
    run: [N], volume_run: [time], or None (one run); a word adds to the volumes of its own run only.
    Returns [time, D] or [time], in the features' float dtype (float64 for integers).
    Raises ValueError for shapes that disagree, non-finite features, a window or cutoff that is not
    positive, and times or runs that `check_clock` refuses.
    Reference: Huth et al. 2016, Nature 532:453; LeBel et al. 2023, Scientific Data 10:555.
    """
    onsets, times, run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    features = _features(features, len(onsets))
    if not (window > 0 and window == int(window)):
        raise ValueError(f"window is {window}; give a positive whole number of lobes")
    if cutoff_hz is not None and not (cutoff_hz > 0 and np.isfinite(cutoff_hz)):
        raise ValueError(f"cutoff_hz is {cutoff_hz}; give a positive frequency, or None")
    zeros = np.empty(len(onsets))  # seconds between the zeros of the sinc, 1 / (2 f), of each word
    for label in np.unique(run):
        tr = np.median(np.diff(times[volume_run == label]))
        zeros[run == label] = tr if cutoff_hz is None else 1 / (2 * cutoff_hz)
    reach = window * zeros
    word, volume, lag = words_near_volumes(onsets, times, run, volume_run, -reach, reach)
    lag = lag / zeros[word]
    weights = np.sinc(lag) * np.sinc(lag / window)
    matrix = sparse.csr_array((weights, (volume, word)), shape=(len(times), len(onsets)))
    return _apply(matrix, features)


def fir_delays(
    features: np.ndarray, delays: Sequence[int], *, run: np.ndarray | None = None
) -> np.ndarray:
    """Copies of the volumes' features, delayed by whole volumes, side by side.

    features: [time, D], the volumes of a run in order; run: [time], or None (one run).
    delays: volumes, in any order, none of them twice; a delay of 2 puts the features of volume 3
    into row 5, a negative one those of a later volume. A run's first rows, before the delay has
    passed, are zero (its last rows, for a negative delay), never the features of another run.
    Returns [time, D * len(delays)], delay-major: all features at delays[0], then all at delays[1].
    Raises ValueError for other shapes, and delays that are empty, repeated or no whole numbers.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise ValueError(f"features have shape {features.shape}; give [time, D]")
    lags = np.asarray(delays)
    numbers = lags.ndim == 1 and lags.size and lags.dtype.kind in "iuf"
    if (
        not (numbers and np.isfinite(lags).all())
        or (lags != np.round(lags)).any()
        or len(np.unique(lags)) < len(lags)
    ):
        raise ValueError(
            f"delays are {lags.tolist()}; give different whole numbers of volumes, for example "
            "(1, 2, 3, 4); seconds divided by the TR, rounded"
        )
    n_volumes, width = features.shape
    run = np.zeros(n_volumes, np.int64) if run is None else np.asarray(run)
    if run.shape != (n_volumes,):
        raise ValueError(f"run has shape {run.shape} for {n_volumes} volumes; give one label each")
    delayed = np.zeros((n_volumes, width * len(lags)), features.dtype)
    for label in np.unique(run):
        rows = np.flatnonzero(run == label)
        for place, delay in enumerate(lags.astype(np.int64)):
            to, source = (rows[delay:], rows[: max(len(rows) - delay, 0)])
            if delay < 0:
                to, source = (rows[: max(len(rows) + delay, 0)], rows[-delay:])
            delayed[to, place * width : (place + 1) * width] = features[source]
    return delayed


def design_matrix(
    stimulus_onsets: np.ndarray,
    features: np.ndarray,
    volume_times: np.ndarray,
    *,
    method: str = "lanczos",
    durations: np.ndarray | None = None,
    delays: Sequence[int] | None = None,
    window: int = 3,
    cutoff_hz: float | None = None,
    hrf: str = "spm",
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
) -> np.ndarray:
    """The features of words as regressors for the volumes' BOLD, ready for a ridge.

    stimulus_onsets: [N] seconds; features: [N, D]; volume_times: [time] seconds on the same clock;
    durations: [N] seconds, or None (0).
    method:
      "lanczos"  `lanczos_downsample` (window, cutoff_hz) of words at their middles, onset +
                 duration / 2, then `fir_delays`. delays: volumes; None for those nearest to 2, 4, 6
                 and 8 s, of Huth et al. 2016 (1 to 4 volumes of 2 s); (0,) for none.
      "hrf"      `convolve_hrf` (hrf) of impulses at the words' middles. delays: None for none.
    run: [N], volume_run: [time], or None (one run): nothing crosses from one run to another.
    Returns [time, D * len(delays)], delay-major, in the features' float dtype. The columns are not
    standardised: do that on training volumes. Volumes far from any word have rows of zeros.
    Raises ValueError for an unknown method and as the functions it calls.
    """
    onsets, times, run, volume_run = check_clock(stimulus_onsets, volume_times, run, volume_run)
    check_known("method=", method, METHODS)
    features = _features(features, len(onsets))
    features = features[:, None] if features.ndim == 1 else features
    middles = onsets + check_durations(durations, len(onsets)) / 2
    timing = {"run": run, "volume_run": volume_run}
    if method == "lanczos":
        sampled = lanczos_downsample(
            features, middles, times, window=window, cutoff_hz=cutoff_hz, **timing
        )
        delays = _default_delays(times, volume_run) if delays is None else delays
    else:
        sampled = convolve_hrf(middles, times, amplitudes=features, hrf=hrf, **timing)
        sampled = sampled.astype(features.dtype, copy=False)
    return sampled if delays is None else fir_delays(sampled, delays, run=volume_run)


def _default_delays(times: np.ndarray, volume_run: np.ndarray) -> list[int]:
    steps = np.concatenate([np.diff(times[volume_run == label]) for label in np.unique(volume_run)])
    delays = np.round(np.array(FIR_SECONDS) / np.median(steps)).astype(int)
    return sorted(set(delays.tolist()) - {0}) or [1]


def _features(features: np.ndarray, n_words: int) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim not in (1, 2) or len(features) != n_words:
        raise ValueError(
            f"features have shape {features.shape} for {n_words} words; give one row a word, [N, D]"
        )
    if features.dtype.kind not in "biuf":
        raise ValueError(f"features have dtype {features.dtype}; give real numbers")
    finite = np.isfinite(features.reshape(n_words, -1)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"the features of word {int(np.argmin(finite))} are not finite ({int((~finite).sum())} "
            f"of {n_words} words); drop these words or fill them in, for example with zeros"
        )
    return features if features.dtype.kind == "f" else features.astype(np.float64)


def _apply(matrix: sparse.csr_array, features: np.ndarray) -> np.ndarray:
    """matrix [time, N] @ features, summed in float64 in blocks of columns, in the features' dtype."""
    if features.ndim == 1:
        return _apply(matrix, features[:, None])[:, 0]
    product = np.empty((matrix.shape[0], features.shape[1]), features.dtype)
    for start in range(0, features.shape[1], 512):
        block = slice(start, start + 512)
        product[:, block] = matrix @ features[:, block].astype(np.float64)
    return product
