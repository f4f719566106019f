"""Simulated BOLD: when words and volumes happen, and what voxels with planted weights record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from brainalign_jax.neural.readout.haemodynamics import glover_hrf

_HRF_LENGTH = 32.0  # seconds after which the response is zero to rounding
_BLOCK = 2048  # voxels that are made at a time; part of the definition of what a seed gives


class Schedule(NamedTuple):
    """When what happens, on one clock that runs through gaps. Seconds.

    onsets [N], word_run [N] int, volume_times [time], volume_run [time] int; runs count from 1.
    """

    onsets: np.ndarray
    word_run: np.ndarray
    volume_times: np.ndarray
    volume_run: np.ndarray


class Simulation(NamedTuple):
    """What a simulated release holds.

    paths: the files of the recordings, one a subject; schedule: the timing; weights [S, D, V]: zero
    columns are the voxels that do not respond; planted: what the voxels recorded.
    """

    paths: tuple[Path, ...]
    schedule: Schedule
    weights: np.ndarray
    planted: PlantedBold


def story_words() -> tuple[str, ...]:
    """The words of the demo story that ships with the package, punctuation kept (about 830)."""
    story = resources.files("brainalign_jax") / "data" / "story.txt"
    return tuple(story.read_text(encoding="utf-8").split())


def schedule_runs(
    n_words: int | Sequence[int],
    *,
    n_runs: int = 4,
    tr: float = 2.0,
    word_duration: float | Sequence[float] | np.ndarray = 0.5,
    gap: float = 28.5,
    rest: tuple[float, float] = (20.0, 10.0),
) -> Schedule:
    """Lay out words and volumes: per run rest, words back to back, rest; `gap` s without volumes.

    n_words: in all, spread evenly over n_runs; or one number a run, and n_runs is ignored.
    word_duration: seconds, of every word or of each [N]. rest: seconds before the first and after
    the last word of a run, 20 and 10 as in the Harry Potter release.
    gap: from the last volume of a run to the first of the next. The release's own clock has no
    such gap; here it makes an index onset/TR wrong from the second run on, as in recordings whose
    scanner paused. Raises ValueError for fewer words than runs or times that are not positive.
    """
    if isinstance(n_words, int | np.integer):
        if n_runs < 1 or n_words < n_runs:
            raise ValueError(
                f"{n_words} words cannot fill {n_runs} runs; give at least one word a run"
            )
        parts = np.array_split(np.arange(n_words), n_runs)
    else:
        if not len(n_words) or min(n_words) < 1:
            raise ValueError(f"n_words is {list(n_words)}; give at least one word a run")
        parts = np.split(np.arange(sum(n_words)), np.cumsum(n_words)[:-1])
    total = sum(map(len, parts))
    durations = np.asarray(word_duration, np.float64)
    if durations.shape not in ((), (total,)):
        raise ValueError(
            f"word_duration has shape {durations.shape} for {total} words; give one number, or one a "
            "word"
        )
    if min(tr, durations.min(), gap) <= 0 or min(rest) < 0:
        raise ValueError(
            f"tr {tr}, word_duration {durations.min()} and gap {gap} must be positive, rest {rest} "
            "not negative (seconds)"
        )
    onsets, word_run, times, volume_run = [], [], [], []
    start = 0.0
    for label, rows in enumerate(parts, 1):
        if durations.ndim:
            ends = np.cumsum(durations[rows])
            begins, lasting = np.concatenate([[0.0], ends[:-1]]), ends[-1]
        else:  # products, which do not add up rounding errors
            begins, lasting = durations * np.arange(len(rows)), durations * len(rows)
        length = rest[0] + lasting + rest[1]
        volumes = start + tr * np.arange(max(2, int(np.ceil(length / tr))))
        onsets.append(start + rest[0] + begins)
        times.append(volumes)
        word_run.append(np.full(len(rows), label))
        volume_run.append(np.full(len(volumes), label))
        start = volumes[-1] + gap
    return Schedule(*(np.concatenate(part) for part in (onsets, word_run, times, volume_run)))


def planted_courses(vectors: np.ndarray, schedule: Schedule) -> np.ndarray:
    """Time courses [time, D] of the features: sum over words of vectors[word] * hrf(t - onset).

    vectors: [N, D]. The exact sum at the volume times with the Glover response; what a voxel with
    weights [D] responds is `planted_courses(...) @ weights`. Words of earlier runs count as long
    as their response lasts.
    """
    courses = np.zeros((len(schedule.volume_times), vectors.shape[1]))
    for label in np.unique(schedule.volume_run):
        volumes = schedule.volume_run == label
        times = schedule.volume_times[volumes]
        near = (schedule.onsets < times[-1]) & (schedule.onsets > times[0] - _HRF_LENGTH)
        lag = times[:, None] - schedule.onsets[None, near]
        active = (lag > 0) & (lag < _HRF_LENGTH)
        response = np.zeros_like(lag)
        response[active] = glover_hrf(lag[active])
        courses[volumes] = response @ vectors[near]
    return courses


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

    The signal is the response to the words (see `planted_courses`), scaled so that its standard
    deviation over all volumes is `snr` for responding voxels. Added: AR(1) noise of standard
    deviation 1, a linear and a slow cosine drift per run with amplitudes of about `drift`, and
    `baseline`. vectors: [N, D] centred features; weights: [D, V].
    """
    courses = planted_courses(vectors, schedule) if snr > 0 else None
    settings = {"snr": snr, "autocorrelation": autocorrelation, "drift": drift}
    return baseline + _voxels(courses, weights, schedule.volume_run, rng=rng, **settings)


def _voxels(courses, weights, run, *, snr, rng, autocorrelation, drift) -> np.ndarray:
    """Signal and noise [time, V]; rng draws the noise run by run."""
    n_voxels = weights.shape[1]
    recorded = np.zeros((len(run), n_voxels))
    if snr > 0:
        recorded = courses @ weights
        spread = recorded.std(axis=0)
        recorded *= snr / np.where(spread > 0, spread, 1.0)
    for label in np.unique(run):
        volumes = np.flatnonzero(run == label)
        shocks = rng.standard_normal((len(volumes), n_voxels))
        # Variance one from the first volume on.
        shocks[1:] *= np.sqrt(1 - autocorrelation**2)
        position = np.linspace(-1, 1, len(volumes))[:, None]
        slope, wave, phase = rng.standard_normal((3, n_voxels))
        recorded[volumes] += (
            lfilter([1.0], [1.0, -autocorrelation], shocks, axis=0)
            + drift * slope * position
            + 0.5 * drift * wave * np.cos(np.pi * position / 2 + phase)
        )
    return recorded


@dataclass(frozen=True, eq=False)
class PlantedBold:
    """What the voxels of simulated subjects recorded, made from the seed whenever it is asked for.

    courses: [time, D] of the planted features, see `planted_courses`; run: [time]; times: [time]
    seconds. Every subject has its own normal weights, noise and drift; a share `responsive` of the
    voxels responds. dtype: of the recording. clock: voxel 0 recorded the volume times instead, so
    that reading it out gives the time at which each word was read.

    Raises ValueError for numbers out of range.
    """

    courses: np.ndarray
    times: np.ndarray
    run: np.ndarray
    n_subjects: int
    n_voxels: int
    snr: float = 1.0
    responsive: float = 0.7
    autocorrelation: float = 0.5
    drift: float = 1.0
    baseline: float = 100.0
    seed: int = 0
    dtype: str | np.dtype = "float64"
    clock: bool = False

    def __post_init__(self) -> None:
        if min(self.n_subjects, self.n_voxels) < 1 or self.snr < 0 or not 0 <= self.responsive <= 1:
            raise ValueError(
                f"n_subjects {self.n_subjects} and n_voxels {self.n_voxels} must be positive, snr "
                f"{self.snr} not negative, responsive {self.responsive} between 0 and 1"
            )
        if not 0 <= self.autocorrelation < 1:
            raise ValueError(f"autocorrelation is {self.autocorrelation}; give a value in [0, 1)")
        if np.dtype(self.dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype is {self.dtype}; use 'float32' or 'float64'")

    @property
    def shape(self) -> tuple[int, int]:
        """(time, V) of every subject."""
        return len(self.times), self.n_voxels

    def weights(self, subject: int) -> np.ndarray:
        """The planted weights [D, V] of a subject, counted from 0; zero without a signal."""
        weights, _ = self._draw(subject)
        return weights if self.snr > 0 else np.zeros_like(weights)

    def blocks(self, subject: int) -> Iterator[np.ndarray]:
        """Consecutive columns [time, <= 2048] of a subject's recording."""
        weights, rng = self._draw(subject)
        for start in range(0, self.n_voxels, _BLOCK):
            block = self.baseline + _voxels(
                self.courses,
                weights[:, start : start + _BLOCK],
                self.run,
                snr=self.snr,
                rng=rng,
                autocorrelation=self.autocorrelation,
                drift=self.drift,
            )
            if self.clock and start == 0:
                block[:, 0] = self.times
            yield block.astype(self.dtype, copy=False)

    def array(self, subject: int) -> np.ndarray:
        """A subject's whole recording [time, V]."""
        return np.concatenate(list(self.blocks(subject)), axis=1)

    def _draw(self, subject: int) -> tuple[np.ndarray, np.random.Generator]:
        rng = np.random.default_rng([self.seed, subject + 1])
        weights = rng.standard_normal((self.courses.shape[1], self.n_voxels))
        silent = round(self.responsive * self.n_voxels)
        weights[:, rng.permutation(self.n_voxels)[silent:]] = 0.0
        return weights, rng


def plant(
    words: Sequence[str], vectors: np.ndarray, schedule: Schedule, **settings
) -> tuple[tuple[str, ...], PlantedBold]:
    """The checked words, and the recordings in which `vectors` [N, D] are planted.

    The features are centred over the words, so that the mean response of a block of words does not
    outweigh their differences. settings: the further fields of `PlantedBold`.
    Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    words = tuple(str(word) for word in words)
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) != len(words) or not np.isfinite(vectors).all():
        raise ValueError(
            f"vectors have shape {vectors.shape} for {len(words)} words; give one finite row a word"
        )
    if len(schedule.onsets) != len(words):
        raise ValueError(
            f"the schedule has {len(schedule.onsets)} onsets for {len(words)} words; give one a word"
        )
    for index, word in enumerate(words):
        if not word or word != word.strip():
            raise ValueError(f"word {index} is {word!r}; give words without surrounding spaces")
    courses = planted_courses(vectors - vectors.mean(axis=0), schedule)
    return words, PlantedBold(courses, schedule.volume_times, schedule.volume_run, **settings)
