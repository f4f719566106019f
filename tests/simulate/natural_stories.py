"""The Natural Stories release, simulated: `subject_*.mat` with a planted answer."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.simulate.bold import Schedule, Simulation, plant, schedule_runs
from brainalign_jax.neural.simulate.mat_files import write_mat
from simulate.matlab73 import in_matlab73


def simulate_natural_stories(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    n_subjects: int = 19,
    n_voxels: int = 200,
    n_runs: int = 4,
    tr: float = 0.72,
    word_duration: tuple[float, float] = (0.2, 0.6),
    gap: float = 28.5,
    rest: tuple[float, float] = (10.0, 12.0),
    schedule: Schedule | None = None,
    snr: float = 1.0,
    responsive: float = 0.7,
    autocorrelation: float = 0.5,
    drift: float = 1.0,
    seed: int = 0,
    layout: str = "mat",
    dtype: str = "float64",
    compress: int = 1,
    clock: bool = False,
) -> Simulation:
    """Write `subject_1.mat` ... as 19 people listened to stories, with a planted answer.

    words: [N], heard back to back; their durations are drawn from `word_duration` (shortest and
    longest, seconds; multiples of 0.01 s) and are not written to the files. n_runs stories of one
    run each; tr, gap, rest: seconds, see `schedule_runs`; schedule: in the place of all of these.
    `data` [volumes, voxels], `time` (1, volumes) and `words`, an (N, 1) cell of (2, 1) cells with
    text and onset. vectors, snr, responsive, autocorrelation, drift, seed, dtype, compress and clock:
    as for `simulate_harry_potter`. layout: "mat", MATLAB 5, or "mat73".
    Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    check_known("layout=", layout, ("mat", "mat73"))
    if schedule is None:
        low, high = word_duration
        if not 0 < low <= high:
            raise ValueError(f"word_duration is {word_duration}; give two seconds, 0 < low <= high")
        rng = np.random.default_rng([seed, 0])
        durations = np.maximum(0.01, rng.uniform(low, high, len(words)).round(2))
        schedule = schedule_runs(
            len(words), n_runs=n_runs, tr=tr, word_duration=durations, gap=gap, rest=rest
        )
    words, planted = plant(
        words,
        vectors,
        schedule,
        n_subjects=n_subjects,
        n_voxels=n_voxels,
        snr=snr,
        responsive=responsive,
        autocorrelation=autocorrelation,
        drift=drift,
        seed=seed,
        dtype=dtype,
        clock=clock,
    )
    folder = user_path(data_dir, "data_dir")
    folder.mkdir(parents=True, exist_ok=True)
    others = {
        "time": schedule.volume_times[None, :],
        "words": _words_cell(words, schedule.onsets),
    }
    paths = [folder / f"subject_{number}.mat" for number in range(1, n_subjects + 1)]
    for index, path in enumerate(paths):
        blocks = planted.blocks(index)
        write_mat(path, planted.shape, dtype, blocks, others, compress=compress)
        if layout == "mat73":
            in_matlab73(path, compression=compress or None)
    weights = np.stack([planted.weights(index) for index in range(n_subjects)])
    return Simulation(tuple(paths), schedule, weights, planted)


def _words_cell(words: Sequence[str], onsets: np.ndarray) -> np.ndarray:
    cells = np.empty((len(words), 1), object)
    for index, (word, onset) in enumerate(zip(words, onsets, strict=True)):
        pair = np.empty((2, 1), object)
        pair[0, 0], pair[1, 0] = word, np.array([[float(onset)]])
        cells[index, 0] = pair
    return cells
