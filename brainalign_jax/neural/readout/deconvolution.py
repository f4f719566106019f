"""Single-word estimates by ridge deconvolution: a GLM with one regressor a word, as one matrix K.

Within a run, Y = X B + e: column i of X [time, N] is the HRF of word i, scaled to a peak of one, and
row i of B [N, V] the word's response. With a run's mean taken from Y and X (an intercept),

    B = (X'X + alpha I)^-1 X'Y = X' (X X' + alpha I)^-1 Y = K Y

so that the estimates of all voxels are one product, `K @ bold`, as with the kernels of
`kernels`. K is block-diagonal over the runs. Its rows have weights of both signs, which sum to zero.

Words follow one another faster than volumes, so that X has more columns than rows: the penalty
decides how the response is divided among neighbours, whose estimates stay correlated. The estimate
of a word is the best linear one where words respond independently of one another, with the noise's
variance over alpha. Mumford et al. 2012, NeuroImage 59:2636 compares it with other estimates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

from brainalign_jax.neural.readout.haemodynamics import (
    HRF_SECONDS,
    TIME_TOLERANCE,
    check_clock,
    check_durations,
    event_response,
    hrf_matrix,
    hrf_peak,
)

ALPHAS = tuple(np.logspace(-3, 5, 17).tolist())
# seconds: half the width of the HRF at half its peak; a word of which no volume lies there is lost
_HALF_WIDTH = 2.5
_MISFIT = 1e-3  # relative: a kernel shifted by half a TR of 0.5 s misses its equations by more
_SINGULAR = 1e-11  # alpha over the Gram matrix's trace: below it the solution has no digits left


class _Design(NamedTuple):
    label: object  # of the run
    words: np.ndarray  # [n] indices
    volumes: np.ndarray  # [t] indices
    matrix: np.ndarray  # X [t, n], centred
    covered: np.ndarray  # [n] bool


def deconvolution_kernel(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    hrf: str = "spm",
    alpha: float = 1.0,
) -> sparse.csr_array:
    """The matrix K of single-word estimates by ridge deconvolution, `K @ bold`, never across runs.

    onsets: [N] seconds, in any order; volume_times: [time] seconds on the clock of the onsets.
    run: [N], volume_run: [time], or None (one run). A word responds in its own run only.
    durations: [N] seconds or None (0); the HRF is averaged over them, so that an estimate is the
    height of the HRF and not larger for longer words. hrf: "spm" or "glover".
    alpha: positive ridge penalty, in units of the summed squares of the regressors (a word alone
    in a run with a TR of 2 s has about 2) if voxels have unit variance: bold should be z-scored
    per run. See `select_alpha`. Constants of the bold do not matter: the rows of K sum to zero.
    Returns K [N, time] float64, sparse: the volumes of the word's run. All words of a run are in
    the design, but a row is all zero where the run does not cover the word: the peak of its HRF lies
    before the first volume, after the last, or in a gap more than 2.5 s from any volume. Such words
    are counted in a warning; their rows are those of `~covered_words(K)`.
    Raises ValueError for times or runs that `check_clock` refuses, wrong durations, an unknown HRF,
    a penalty that is not positive or below double precision, or if no word is covered.
    """
    alpha = _penalty(alpha)
    n_words, n_volumes = np.size(onsets), np.size(volume_times)
    blocks = []
    for design in _designs(onsets, volume_times, run, volume_run, durations, hrf):
        gram = design.matrix @ design.matrix.T
        if alpha < _SINGULAR * np.trace(gram):
            raise ValueError(
                f"alpha is {alpha:g}: run {design.label} cannot be solved in double precision "
                f"with less than {_SINGULAR * np.trace(gram):.2g}; give a larger penalty"
            )
        gram[np.diag_indices_from(gram)] += alpha
        if design.covered.any():
            solved = linalg.solve(gram, design.matrix[:, design.covered], assume_a="pos")
            blocks.append((design.words[design.covered], design.volumes, solved.T))
    covered = sum(len(words) for words, _, _ in blocks)
    if not covered:
        raise ValueError(
            f"the recording covers none of the {n_words} words: onsets run from "
            f"{np.min(onsets):g} to {np.max(onsets):g} s and volumes from {np.min(volume_times):g} "
            f"to {np.max(volume_times):g} s; both must be on the same clock, in seconds"
        )
    if covered < n_words:
        warnings.warn(
            f"the recording does not cover the response to {n_words - covered} of {n_words} words "
            "(too near a run's start or end); their rows are zero and marked as not valid",
            UserWarning,
            stacklevel=2,
        )
    return _block_rows(blocks, (n_words, n_volumes))


def run_gram(bold: np.ndarray, volume_run: np.ndarray | None = None) -> sparse.csr_array:
    """Gram matrix [time, time] of the bold [time, V] within runs, sparse; zero between runs.

    Add up those of blocks of voxels for `select_alpha`: for 9,000 volumes in 20 runs it has 4
    million entries and takes a twentieth of the products of the full matrix.
    Raises ValueError for another number of volumes.
    """
    bold = np.asarray(bold)
    runs = np.zeros(len(bold), np.int64) if volume_run is None else np.asarray(volume_run)
    if bold.ndim != 2 or runs.shape != bold.shape[:1]:
        raise ValueError(
            f"bold has shape {bold.shape} and volume_run {runs.shape}; give [time, V] and [time]"
        )
    blocks = []
    for label in np.unique(runs):
        rows = np.flatnonzero(runs == label)
        part = bold[rows].astype(np.float64)
        blocks.append((rows, rows, part @ part.T))
    return _block_rows(blocks, (len(bold), len(bold)))


def select_alpha(
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    gram: np.ndarray | sparse.sparray | None = None,
    bold: np.ndarray | None = None,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    hrf: str = "spm",
    alphas: np.ndarray | tuple[float, ...] = ALPHAS,
) -> float:
    """The ridge penalty of `deconvolution_kernel` with the least generalised cross-validation error.

    Minimises GCV(alpha) = n ||Y - H Y||^2 / trace(I - H)^2, where H = X X' (X X' + alpha I)^-1 plus
    an intercept a run, over all n volumes of the runs with words, and all voxels; one penalty for
    all (Golub, Heath & Wahba 1979, Technometrics 21:215). It needs one eigendecomposition of X X' a
    run, and of the bold only its inner products between the volumes of a run:
    gram: [time, time], dense or sparse, bold @ bold.T of the cleaned bold, which can be added up
    over blocks of voxels (see `run_gram`; entries between runs are not used); or bold: [time, V]
    itself. Others: as for `deconvolution_kernel`; alphas: positive penalties to choose from.
    GCV takes the noise to be white. BOLD noise is slow, like the responses: some of it passes as
    response and the penalty comes out somewhat small; clean with a high-pass filter, or set alpha. A
    choice at either end of `alphas` is reported in a UserWarning. Returns the penalty. Raises
    ValueError as `deconvolution_kernel`, and for a Gram matrix of another shape, with NaN, or zero.
    """
    alphas = np.array([_penalty(alpha) for alpha in np.ravel(alphas)])
    if not alphas.size:
        raise ValueError("alphas is empty; give penalties to choose from")
    if (gram is None) == (bold is None):
        raise ValueError("give one of gram= (bold @ bold.T, [time, time]) and bold= ([time, V])")
    gram = run_gram(bold, volume_run) if gram is None else gram
    gram = sparse.csr_array(gram) if sparse.issparse(gram) else np.asarray(gram)
    n_volumes = np.size(volume_times)
    if gram.shape != (n_volumes, n_volumes):
        raise ValueError(
            f"the Gram matrix of the bold has shape {gram.shape} for {n_volumes} volumes; "
            "give bold @ bold.T, [time, time]"
        )
    n, total = 0, 0.0
    squares, traces = np.zeros(len(alphas)), np.zeros(len(alphas))
    for design in _designs(onsets, volume_times, run, volume_run, durations, hrf):
        part = gram[design.volumes][:, design.volumes]
        part = np.array(part.toarray() if sparse.issparse(part) else part, np.float64)
        if not np.isfinite(part).all():
            raise ValueError(
                f"the Gram matrix of the bold is not finite in run {design.label}; leave out the "
                "voxels with NaN or infinite values (check_voxels)"
            )
        part -= part.mean(axis=0)
        part -= part.mean(axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(design.matrix @ design.matrix.T)
        energy = np.einsum("ij,ij->j", vectors, part @ vectors)
        left = alphas[:, None] / (np.maximum(values, 0.0) + alphas[:, None])  # of each direction
        squares += left**2 @ energy
        traces += left.sum(axis=1) - 1  # the intercept's direction leaves no residual
        n, total = n + len(values), total + np.trace(part)
    if not total > 0:
        raise ValueError("the bold is constant or zero in every run; there is nothing to choose by")
    best = int(np.argmin(n * squares / traces**2))
    alpha = float(alphas[best])
    if len(alphas) > 1 and alpha in (alphas.min(), alphas.max()):
        meaning = "no response to the words" if alpha == alphas.max() else "hardly any noise"
        warnings.warn(
            f"the best penalty, {alpha:g}, is the last of those tried: the recording shows "
            f"{meaning}, or the best lies beyond: give it as alpha=, or alphas= that reach further",
            UserWarning,
            stacklevel=2,
        )
    return alpha


def check_deconvolution(
    kernel: sparse.csr_array | np.ndarray,
    onsets: np.ndarray,
    volume_times: np.ndarray,
    *,
    run: np.ndarray | None = None,
    volume_run: np.ndarray | None = None,
    durations: np.ndarray | None = None,
    hrf: str = "spm",
) -> float:
    """Prove a deconvolution kernel's alignment: every row is tuned to the HRF at its word's onset.

    Arguments as for `deconvolution_kernel`; `kernel` [N, time] float64, of any penalty. A read-out
    centre, as in `check_timing`, means nothing for weights of both signs; and a row of K is no HRF:
    where words are denser than volumes it is sharpened against its neighbours, lopsidedly so at
    the edges of a run or a silence. The ridge equations, K (X X' + alpha I) = X', undo this exactly,
    with X computed here from the arguments and alpha from K by least squares. Then, row by row,
    1. the HRF of an event s seconds after the onset that correlates best with the row, over s
       from -2 to 2 TR in quarters of a TR, must lie within half a TR;
    2. the row must be the word's HRF to one part in a thousand. This refuses what 1. lets through:
       with a penalty near zero the equations map any row onto the HRFs at the given onsets.
    A word whose HRF peaks within its run must have weights, another word none, and none may lie in
    another run. Returns the largest |s| in seconds, to first order where the best s is 0: rounding
    for a correct kernel. Raises ValueError naming the word and the error.
    """
    kernel = sparse.csr_array(kernel)
    n_words = np.size(onsets)
    if kernel.shape != (n_words, np.size(volume_times)):
        raise ValueError(
            f"the kernel has shape {kernel.shape} for {n_words} words and "
            f"{np.size(volume_times)} volumes"
        )
    onsets, times, run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    durations = check_durations(durations, n_words)

    def complain(rows: np.ndarray, bad: np.ndarray, problem: str) -> None:
        if bad.any():
            word = rows[np.argmax(bad)]
            raise ValueError(
                f"timing check failed for word {word} (onset {onsets[word]:g} s, run {run[word]}): "
                + problem.format(error=error[word], misfit=misfit[word])
                + "; check that onsets, volume times, durations and runs are those of the kernel"
            )

    words, volumes = kernel.nonzero()
    crossing = np.zeros(n_words, bool)
    crossing[words[run[words] != volume_run[volumes]]] = True
    error, misfit = np.zeros(n_words), np.zeros(n_words)
    complain(np.arange(n_words), crossing, "it takes volumes of another run")
    for label in np.unique(run):
        rows, columns = np.flatnonzero(run == label), np.flatnonzero(volume_run == label)
        t = times[columns]
        tr = float(np.median(np.diff(t)))
        block = kernel[rows][:, columns].toarray()
        filled, covered = block.any(axis=1), _covered(onsets[rows], durations[rows], t, hrf)
        complain(rows, covered & ~filled, "its run covers it, yet it has no weights")
        complain(rows, filled & ~covered, "its HRF peaks outside its run, yet it has weights")
        if not covered.any():
            continue
        responses = _responses(t, onsets[rows], durations[rows], hrf)
        gram = responses.T @ responses
        rows, block, responses = rows[covered], block[covered], responses[covered]
        spread = block @ gram
        alpha = max(float(np.vdot(responses - spread, block) / np.vdot(block, block)), 0.0)
        tuned = spread + alpha * block
        error[rows] = _shift(tuned, responses, t, onsets[rows], durations[rows], tr, hrf)
        misfit[rows] = np.linalg.norm(tuned - responses, axis=1) / np.linalg.norm(responses, axis=1)
        complain(
            rows,
            ~(np.abs(error[rows]) <= tr / 2 + TIME_TOLERANCE),  # NaN too
            "its estimate is tuned to an event about {error:+.2f} s from it, more than half a TR "
            f"({tr / 2:g} s); the median over the run's words is {np.median(error[rows]):+.2f} s",
        )
        complain(
            rows,
            ~(misfit[rows] <= _MISFIT),
            "its weights solve the ridge equations only to {misfit:.2g} of the word's HRF",
        )
    return float(np.abs(error).max())


def _responses(t, onsets, durations, hrf) -> np.ndarray:
    """Centred HRFs [n, t] of peak one at the volumes: the definition, apart from `hrf_matrix`."""
    lag = t - onsets[:, None]
    length = np.broadcast_to(durations[:, None], lag.shape)
    near = (lag > 0) & (lag <= HRF_SECONDS + length)
    response = np.zeros(lag.shape)
    response[near] = event_response(lag[near], length[near], hrf)
    return (response - response.mean(axis=1, keepdims=True)) / hrf_peak(hrf)[1]


def _shift(tuned, responses, t, onsets, durations, tr, hrf) -> np.ndarray:
    """Seconds [n] from each onset to the event whose HRF correlates best with the row of `tuned`."""
    shifts = tr / 4 * np.array(sorted(range(-8, 9), key=abs))  # of equals, the nearest wins
    fits = np.empty((len(shifts), len(onsets)))
    for fit, shift in zip(fits, shifts, strict=True):
        shifted = _responses(t, onsets + shift, durations, hrf)
        size = np.linalg.norm(shifted, axis=1)
        fit[:] = np.where(size > 0, np.vecdot(tuned, shifted) / np.maximum(size, 1e-300), -np.inf)
    best = shifts[np.argmax(fits, axis=0)]
    step = tr / 200
    slope = _responses(t, onsets + step, durations, hrf)
    slope = (slope - _responses(t, onsets - step, durations, hrf)) / (2 * step)
    small = np.vecdot(tuned - responses, slope) / np.vecdot(slope, slope)
    return np.where(best == 0, np.clip(small, -tr / 8, tr / 8), best)


def _penalty(alpha: float) -> float:
    if alpha is None or not np.isfinite(alpha) or not alpha > 0:
        raise ValueError(
            f"alpha is {alpha}; give a positive ridge penalty (select_alpha finds one for a recording)"
        )
    return float(alpha)


def _covered(onsets, durations, t, hrf) -> np.ndarray:
    """Which words' HRFs peak within the volumes at t, and not in a gap between them."""
    peak = onsets + durations / 2 + hrf_peak(hrf)[0]
    after = np.clip(np.searchsorted(t, peak), 1, len(t) - 1)
    nearest = np.minimum(np.abs(peak - t[after - 1]), np.abs(peak - t[after]))
    inside = (peak >= t[0] - TIME_TOLERANCE) & (peak <= t[-1] + TIME_TOLERANCE)
    return inside & (nearest <= _HALF_WIDTH + durations / 2)


def _designs(onsets, volume_times, run, volume_run, durations, hrf) -> Iterator[_Design]:
    onsets, times, run, volume_run = check_clock(onsets, volume_times, run, volume_run)
    lengths = check_durations(durations, len(onsets))
    timing = {"run": run, "volume_run": volume_run}
    matrix = hrf_matrix(onsets, times, durations=lengths, hrf=hrf, **timing)
    for label in np.unique(run):
        words, volumes = np.flatnonzero(run == label), np.flatnonzero(volume_run == label)
        part = matrix[volumes][:, words].toarray() / hrf_peak(hrf)[1]
        part -= part.mean(axis=0)
        covered = _covered(onsets[words], lengths[words], times[volumes], hrf)
        yield _Design(label, words, volumes, part, covered)


def _block_rows(blocks, shape: tuple[int, int]) -> sparse.csr_array:
    """A csr_array from dense blocks (rows, columns, values), without the coordinates of each entry."""
    counts = np.zeros(shape[0], np.int64)
    for rows, columns, _ in blocks:
        counts[rows] = len(columns)
    starts = np.concatenate([[0], np.cumsum(counts)])
    index = np.int32 if starts[-1] < 2**31 else np.int64
    data, indices = np.empty(starts[-1]), np.empty(starts[-1], index)
    for rows, columns, values in blocks:
        at = starts[rows, None] + np.arange(len(columns))
        data[at], indices[at] = values, columns
    return sparse.csr_array((data, indices, starts.astype(index)), shape=shape)
