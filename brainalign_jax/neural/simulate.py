"""Planted ground truth, written in the original format of the Harry Potter release.

A simulated study goes through the same reader, kernel and tests as a real one. The planted answer
is known: which features drive the voxels, with which weights, and which voxels respond at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from scipy.signal import lfilter

from brainalign_jax.neural.timeseries import glover_hrf

_HRF_LENGTH = 32.0  # seconds after which the response is zero to rounding


class Schedule(NamedTuple):
    """When what happens, on one clock that runs through gaps. Seconds.

    onsets [N], word_run [N] int, volume_times [time], volume_run [time] int; runs count from 1.
    """

    onsets: np.ndarray
    word_run: np.ndarray
    volume_times: np.ndarray
    volume_run: np.ndarray


class Simulation(NamedTuple):
    """paths: the files, one a subject; schedule: the timing; weights [S, D, V]: zero columns are
    the voxels that do not respond."""

    paths: tuple[Path, ...]
    schedule: Schedule
    weights: np.ndarray


def story_words() -> tuple[str, ...]:
    """The words of the demo story that ships with the package, punctuation kept (about 830)."""
    story = resources.files("brainalign_jax") / "data" / "story.txt"
    return tuple(story.read_text(encoding="utf-8").split())


def schedule_runs(
    n_words: int,
    *,
    n_runs: int = 4,
    tr: float = 2.0,
    word_duration: float = 0.5,
    gap: float = 28.5,
    rest: tuple[float, float] = (20.0, 10.0),
) -> Schedule:
    """Lay out words and volumes: per run rest, words back to back, rest; `gap` s without volumes.

    rest: seconds before the first and after the last word of a run, 20 and 10 as in the release.
    gap: from the last volume of a run to the first of the next. The release's own clock has no
    such gap; here it makes an index onset/TR wrong from the second run on, as in recordings whose
    scanner paused. Raises ValueError for fewer words than runs or times that are not positive.
    """
    if n_runs < 1 or n_words < n_runs:
        raise ValueError(f"{n_words} words cannot fill {n_runs} runs; give at least one word a run")
    if min(tr, word_duration, gap) <= 0 or min(rest) < 0:
        raise ValueError(
            f"tr {tr}, word_duration {word_duration} and gap {gap} must be positive, rest {rest} "
            "not negative (seconds)"
        )
    onsets, word_run, times, volume_run = [], [], [], []
    start = 0.0
    for label, rows in enumerate(np.array_split(np.arange(n_words), n_runs), 1):
        length = rest[0] + len(rows) * word_duration + rest[1]
        volumes = start + tr * np.arange(max(2, int(np.ceil(length / tr))))
        onsets.append(start + rest[0] + word_duration * np.arange(len(rows)))
        times.append(volumes)
        word_run.append(np.full(len(rows), label))
        volume_run.append(np.full(len(volumes), label))
        start = volumes[-1] + gap
    return Schedule(*(np.concatenate(part) for part in (onsets, word_run, times, volume_run)))


def simulate_bold(
    vectors: np.ndarray,
    weights: np.ndarray,
    schedule: Schedule,
    *,
    snr: float,
    rng: np.random.Generator,
    autocorrelation: float = 0.5,
    drift: float = 1.0,
    baseline: float = 100.0,
) -> np.ndarray:
    """BOLD [time, V] float64 of one subject.

    signal(t, v) = sum over words of (vectors @ weights)[word, v] * hrf(t - onset), the exact sum at
    the volume times with the Glover response, scaled so that its standard deviation over all
    volumes is `snr` for responding voxels. Added: AR(1) noise of standard deviation 1, a linear
    and a slow cosine drift per run with amplitudes of about `drift`, and `baseline`.
    vectors: [N, D] centred features; weights: [D, V].
    """
    n_volumes, n_voxels = len(schedule.volume_times), weights.shape[1]
    signal = np.zeros((n_volumes, n_voxels))
    if snr > 0:
        drive = vectors @ weights
        for label in np.unique(schedule.volume_run):
            volumes = schedule.volume_run == label
            # Words of earlier runs count as long as their response lasts.
            lag = schedule.volume_times[volumes][:, None] - schedule.onsets[None, :]
            response = np.where((lag > 0) & (lag < _HRF_LENGTH), glover_hrf(lag), 0.0)
            signal[volumes] = response @ drive
        spread = signal.std(axis=0)
        signal *= snr / np.where(spread > 0, spread, 1.0)
    noise = np.empty_like(signal)
    for label in np.unique(schedule.volume_run):
        volumes = np.flatnonzero(schedule.volume_run == label)
        shocks = rng.standard_normal((len(volumes), n_voxels))
        # Variance one from the first volume on.
        shocks[1:] *= np.sqrt(1 - autocorrelation**2)
        position = np.linspace(-1, 1, len(volumes))[:, None]
        slope, wave, phase = rng.standard_normal((3, n_voxels))
        noise[volumes] = (
            lfilter([1.0], [1.0, -autocorrelation], shocks, axis=0)
            + drift * slope * position
            + 0.5 * drift * wave * np.cos(np.pi * position / 2 + phase)
        )
    return baseline + signal + noise


def simulate_harry_potter(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    n_subjects: int = 8,
    n_voxels: int = 200,
    n_runs: int = 4,
    tr: float = 2.0,
    word_duration: float = 0.5,
    gap: float = 28.5,
    rest: tuple[float, float] = (20.0, 10.0),
    snr: float = 1.0,
    responsive: float = 0.7,
    autocorrelation: float = 0.5,
    drift: float = 1.0,
    seed: int = 0,
) -> Simulation:
    """Write `subject_1.mat` ... in the layout of Wehbe et al. 2014, with a planted answer.

    words: [N]; vectors: [N, D] planted features, one row a word; columns are centred over the
    words, so that the mean response of a block of words does not outweigh their differences.
    Every subject has its own normal weights [D, V], noise and drift; a share `responsive` of its
    voxels responds, the others hold noise only. snr: standard deviation of the signal over that of
    the noise; snr=0 writes noise only, the null of every analysis. seed: same seed, same files.
    data_dir is created where it does not exist; files of the same names are replaced.
    Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    words = tuple(str(word) for word in words)
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) != len(words) or not np.isfinite(vectors).all():
        raise ValueError(
            f"vectors have shape {vectors.shape} for {len(words)} words; give one finite row a word"
        )
    for index, word in enumerate(words):
        if not word or word != word.strip():
            raise ValueError(f"word {index} is {word!r}; give words without surrounding spaces")
    if min(n_subjects, n_voxels) < 1 or snr < 0 or not 0 <= responsive <= 1:
        raise ValueError(
            f"n_subjects {n_subjects} and n_voxels {n_voxels} must be positive, snr {snr} not "
            f"negative, responsive {responsive} between 0 and 1"
        )
    if not 0 <= autocorrelation < 1:
        raise ValueError(f"autocorrelation is {autocorrelation}; give a value in [0, 1)")
    schedule = schedule_runs(
        len(words), n_runs=n_runs, tr=tr, word_duration=word_duration, gap=gap, rest=rest
    )
    centred = vectors - vectors.mean(axis=0)
    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    table = _words_table(words, schedule.onsets, word_duration)
    paths, all_weights = [], []
    for subject in range(1, n_subjects + 1):
        rng = np.random.default_rng([seed, subject])
        weights = rng.standard_normal((vectors.shape[1], n_voxels))
        weights[:, rng.permutation(n_voxels)[round(responsive * n_voxels) :]] = 0.0
        bold = simulate_bold(
            centred,
            weights,
            schedule,
            snr=snr,
            rng=rng,
            autocorrelation=autocorrelation,
            drift=drift,
        )
        path = folder / f"subject_{subject}.mat"
        _write_subject(path, subject, bold, schedule, table)
        paths.append(path)
        all_weights.append(weights if snr > 0 else np.zeros_like(weights))
    return Simulation(tuple(paths), schedule, np.stack(all_weights))


def _words_table(words: Sequence[str], onsets: np.ndarray, duration: float) -> np.ndarray:
    # As in the release: text is a 1x1 cell that holds a string, start and length are 1x1 matrices.
    table = np.empty((1, len(words)), [("text", object), ("start", object), ("length", object)])
    for index, (word, onset) in enumerate(zip(words, onsets, strict=True)):
        cell = np.empty((1, 1), object)
        cell[0, 0] = word
        table[0, index] = (cell, np.array([[float(onset)]]), np.array([[float(duration)]]))
    return table


def _write_subject(
    path: Path, subject: int, bold: np.ndarray, schedule: Schedule, table: np.ndarray
) -> None:
    n_volumes, n_voxels = bold.shape
    side = int(np.ceil(n_voxels ** (1 / 3)))
    coordinates = np.stack(np.unravel_index(np.arange(n_voxels), (side, side, side)), axis=1) + 1
    meta = {
        "subject": float(subject),
        "nTRs": float(n_volumes),
        "nvoxels": float(n_voxels),
        "dimx": float(side),
        "dimy": float(side),
        "dimz": float(side),
        "colToCoord": coordinates.astype(np.float64),
    }
    time = np.stack([schedule.volume_times, schedule.volume_run.astype(np.float64)], axis=1)
    content = {"data": bold, "time": time, "words": table, "meta": meta}
    temporary = path.with_suffix(".mat.partial")
    try:
        with temporary.open("wb") as file:
            scipy.io.savemat(file, content, do_compression=True)
            # SciPy writes the time of day here; equal seeds shall give equal bytes.
            file.seek(0)
            file.write(b"MATLAB 5.0 MAT-file, simulated by brainalign_jax".ljust(116))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
