"""The Alice release, simulated: every folder and file of the original, with planted answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers.stories.alice_files import (
    DATA,
    DISCARDED,
    MOTION,
    PREDICTORS,
    REGIONS,
    SILENCES,
    TEXTGRID,
    TR,
    volume_times,
)
from brainalign_jax.neural.readout.haemodynamics import convolve_hrf
from brainalign_jax.neural.simulate.bold import Schedule, plant, story_words
from brainalign_jax.stimulus import Stimulus, clean_word
from simulate.textgrid import write_textgrid

SUBJECTS = tuple(
    f"s{number}" for number in (18, 22, 23, 24, 26, 28, 30, 31, 33, *range(35, 54))
)  # the release's 28
EMPTY = "s33"  # recorded as zeros in the release
RADII = ("10mm", "6mm")
N_WORDS, N_VOLUMES = 2127, 362
_PREDICTOR_FILE = "sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
_AUDIO_STEP = 1 / 44100  # seconds: the release convolved at the rate of the sound file
_SPEECH_BEGINS = 20.06  # seconds of audio


class AliceSimulation(NamedTuple):
    """What a simulated release holds; numbers are as its files print them.

    subjects: S names; words: N; schedule: onsets and volume times (s); durations: [N] s.
    timecourses: "10mm" and "6mm" -> [S, volumes, 6]; weights [S, D, 12]: of the regions of 10 mm,
    then of 6 mm. motion: [S, volumes, 6], rate and sound_power: [volumes], predictors: name ->
    [volumes], all without the discarded volumes.
    """

    subjects: tuple[str, ...]
    words: tuple[str, ...]
    schedule: Schedule
    durations: np.ndarray
    timecourses: dict[str, np.ndarray]
    weights: np.ndarray
    motion: np.ndarray
    rate: np.ndarray
    sound_power: np.ndarray
    predictors: dict[str, np.ndarray]


def simulate_alice(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str] | None = None,
    vectors: np.ndarray | None = None,
    n_subjects: int = len(SUBJECTS),
    n_volumes: int | None = None,
    rest: float = -1.3,
    snr: float = 1.0,
    autocorrelation: float = 0.5,
    drift: float = 1.0,
    baseline: float = 130.0,
    seed: int = 0,
    clock: bool = False,
    empty: bool = True,
) -> AliceSimulation:
    """Write `alice_data_shared` and `alice_stim_shared` as Brennan et al. 2016 released them.

    words: [N]; by default 2,127 words of the package's story without their punctuation. vectors:
    [N, D] planted features; by default four random ones a word type. Word lengths and pauses are
    drawn at random, much as they are spoken, and fill the time of the scans.
    n_subjects: up to 28, with the release's names; s33 is all zeros as in the release unless
    empty=False. n_volumes: 362 for 2,127 words, by default in proportion (20 at least).
    rest: seconds of scans after the last word; negative, as in the release, where the scans end
    before the last words are heard, and before the response to the 19 last ones.
    snr, autocorrelation, drift, baseline, seed, clock: see `PlantedBold`; snr=0 writes noise only;
    under `clock` region LATL records the volume times, in both radii.
    data_dir is created where it does not exist; files of the same names are replaced.
    Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    if not 1 <= n_subjects <= len(SUBJECTS):
        raise ValueError(f"n_subjects is {n_subjects}; the release has {len(SUBJECTS)}")
    if words is None:
        n_words = N_WORDS if vectors is None else len(vectors)
        cores = [core for word in story_words() if (core := clean_word(word))]
        words = [cores[index % len(cores)] for index in range(n_words)]
    for index, word in enumerate(words):
        if word.lower() in SILENCES:
            raise ValueError(
                f"word {index} is {word!r}, which stands for silence; give another word"
            )
    if not len(words):
        raise ValueError("words is empty; give at least one")
    if n_volumes is None:
        n_volumes = max(20, round(N_VOLUMES * len(words) / N_WORDS))
    elif n_volumes < 2:
        raise ValueError(f"n_volumes is {n_volumes}; give two or more")
    rng = np.random.default_rng([seed, 0])
    if vectors is None:
        _, types = np.unique(list(words), return_inverse=True)
        vectors = rng.standard_normal((types.max() + 1, 4))[types]
    times = volume_times(n_volumes)
    intervals = _spoken(words, rng, until=times[-1] - rest)
    spoken = np.array([(start, end) for start, end, text in intervals if text != "sp"])
    ones = np.ones(len(spoken), int), np.ones(n_volumes, int)
    schedule = Schedule(spoken[:, 0], ones[0], times, ones[1])
    durations = spoken[:, 1] - spoken[:, 0]
    words, planted = plant(
        words,
        vectors,
        schedule,
        n_subjects=n_subjects,
        n_voxels=len(RADII) * len(REGIONS),
        snr=snr,
        responsive=1.0,
        autocorrelation=autocorrelation,
        drift=drift,
        baseline=baseline,
        seed=seed,
    )
    folder, subjects = user_path(data_dir, "data_dir"), SUBJECTS[:n_subjects]
    data = folder / DATA
    for radius in RADII:
        (data / radius).mkdir(parents=True, exist_ok=True)
    (folder / TEXTGRID).parent.mkdir(parents=True, exist_ok=True)
    write_textgrid(folder / TEXTGRID, intervals)

    every = TR * np.arange(DISCARDED + n_volumes)  # from the first volume that was recorded
    rate = convolve_hrf(spoken[:, 1], every) * (1.2 * _AUDIO_STEP)  # 1.2: a response of unit sum
    loud = convolve_hrf(
        schedule.onsets, every, durations=durations, amplitudes=rng.gamma(4.0, 0.002, len(words))
    )
    rate, loud = _printed(rate, ".5g"), _printed(loud, ".5g")
    others = rng.standard_normal((len(words), len(PREDICTORS) - 1)) * _AUDIO_STEP
    table = np.column_stack([rate, convolve_hrf(spoken[:, 1], every, amplitudes=others)])
    table = _printed(table, ".5g")
    np.savetxt(data / _PREDICTOR_FILE, table, fmt="%.5g", delimiter="\t", newline="\r\n")

    timecourses = {radius: np.zeros((n_subjects, n_volumes, len(REGIONS))) for radius in RADII}
    motion = np.empty((n_subjects, len(every), len(MOTION)))
    steps = np.array([0.01, 0.01, 0.02, 3e-4, 2e-4, 1e-4])  # mm and radians a volume
    for row, subject in enumerate(subjects):
        recorded = planted.array(row)
        if clock:
            recorded[:, :: len(REGIONS)] = times[:, None]
        for part, radius in enumerate(RADII):
            path = data / radius / f"{subject}-timecourses.txt"
            if empty and subject == EMPTY:
                np.savetxt(path, np.zeros((n_volumes, len(REGIONS))), fmt="%d", delimiter="\t")
                continue
            columns = slice(part * len(REGIONS), (part + 1) * len(REGIONS))
            timecourses[radius][row] = _printed(recorded[:, columns], ".7e")
            np.savetxt(path, timecourses[radius][row], fmt="%16.7e", delimiter="")
        walk = np.cumsum(steps * rng.standard_normal((len(every), len(MOTION))), axis=0)
        motion[row] = _printed(walk - walk[0], ".7e")
        scan = "epiRTwm2_scan_0004__003" if int(subject[1:]) < 39 else "run05.e02"
        np.savetxt(data / f"{subject}-rp_{scan}.txt", motion[row], fmt="%16.7e", delimiter="")
        for name, values in (("rate", rate), ("sndpwr", loud)):
            np.savetxt(data / f"{subject}-{name}.txt", values[DISCARDED:], fmt="%.5g")
    return AliceSimulation(
        subjects,
        words,
        schedule,
        durations,
        timecourses,
        np.stack([planted.weights(row) for row in range(n_subjects)]),
        motion[:, DISCARDED:],
        rate[DISCARDED:],
        loud[DISCARDED:],
        dict(zip(PREDICTORS, table[DISCARDED:].T, strict=True)),
    )


def _spoken(
    words: Sequence[str], rng: np.random.Generator, *, until: float
) -> list[tuple[float, float, str]]:
    """Adjoining intervals of words and pauses ("sp"), the last word ending at `until` seconds."""
    n_words, length = len(words), until - _SPEECH_BEGINS
    if length <= 0:
        raise ValueError(
            f"the words would end at {until:g} s of audio; give more volumes or less rest"
        )
    lasting = np.clip(rng.lognormal(np.log(0.24), 0.55, n_words), 0.04, 1.0)
    pauses = rng.gamma(1.2, 0.4, n_words) * (rng.random(n_words) < 0.136)
    pauses[-1] = 0.0
    bounds = np.cumsum(np.stack([lasting, pauses], axis=1).ravel())
    bounds = _SPEECH_BEGINS + np.concatenate([[0.0], bounds]) * (length / bounds[-1])
    intervals = [(12.07, _SPEECH_BEGINS, "sp")]
    for index, word in enumerate(words):
        start, end, after = bounds[2 * index : 2 * index + 3].tolist()
        intervals.append((start, end, word))
        if after > end:
            intervals.append((end, after, "sp"))
    return [*intervals, (intervals[-1][1], intervals[-1][1] + 0.3, "sp")]


def _printed(values: np.ndarray, form: str) -> np.ndarray:
    """The numbers as a file with so many digits holds them."""
    return np.array([float(format(value, form)) for value in values.ravel()]).reshape(values.shape)


def word_rate(stimulus: Stimulus, times: np.ndarray) -> np.ndarray:
    """The word rate [time] under the haemodynamic response: an impulse at every word's offset.

    times: [time] seconds. SPM's canonical double gamma, see `convolve_hrf`, in words a second x 5/6.
    With the release's volume times it correlates with every subject's shipped regressor at r = .990,
    and at .94 where the volumes are taken to be one second off; the shipped one is 1.2 / 44,100 of
    it in size, as it was convolved in steps of an audio sample with a response of unit sum.
    """
    return convolve_hrf(stimulus.onsets + stimulus.durations, times, hrf="spm")
