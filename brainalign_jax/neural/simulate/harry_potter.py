"""The Harry Potter release, simulated: `subject_*.mat`, or NumPy files, with a planted answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.simulate.bold import (
    PlantedBold,
    Schedule,
    Simulation,
    plant,
    schedule_runs,
)
from brainalign_jax.neural.simulate.mat_files import replacing, write_mat

LAYOUTS = ("mat", "numpy")
NUMPY_SUBJECTS = ("F", "H", "I", "J", "K", "L", "M", "N")
_TRIMMED = (20, 15)  # volumes that the published NumPy recordings lack at a run's start and end
# Words a run. With 20 s of rest before and 8.5 s after them, 1,351 volumes follow one another every
# 2 s through all runs, and the words of two runs are 28.5 s apart, as in the release; how its 5,176
# words fall on the runs is not known here.
_RELEASE_WORDS = (1295, 1295, 1291, 1295)


def release_schedule() -> Schedule:
    """The release's own clock: 5,176 words of 0.5 s from 20 s on, the last one at 2,693 s, and 1,351
    volumes every 2 s without a gap; four runs with 28.5 s between the words of two runs."""
    return schedule_runs(_RELEASE_WORDS, tr=2.0, word_duration=0.5, gap=2.0, rest=(20.0, 8.5))


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
    trimmed: bool = False,
) -> Simulation:
    """Write a release in the layout of Wehbe et al. 2014, with a planted answer.

    words: [N]; vectors: [N, D] planted features, one row a word; columns are centred over the
    words, so that the mean response of a block of words does not outweigh their differences.
    n_runs, tr, word_duration, gap, rest: seconds, see `schedule_runs`; schedule: in their place, for
    example `release_schedule()` (word_duration still says how long the words lasted).
    Every subject has its own normal weights [D, V], noise and drift; a share `responsive` of its
    voxels responds, the others hold noise only. snr: standard deviation of the signal over that of
    the noise; snr=0 writes noise only, the null of every analysis. seed: same seed, same files.
    layout: "mat", `subject_1.mat` ... as MATLAB's -v7; "numpy", the files of the repository
    brain_language_nlp, subjects F and H to N.
    dtype: of the recordings; "float64" as in the release, or "float32". compress: level of zlib, 0
    for none. clock: voxel 0 holds the volume times instead, for tests of the timing.
    trimmed: recordings of layout "numpy" lack the first 20 and last 15 volumes of each run, as
    the published ones do. Recordings are made and written 2,048 voxels at a time.
    data_dir is created where it does not exist; files of the same names are replaced.
    Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    check_known("layout=", layout, LAYOUTS)
    if layout == "numpy" and n_subjects > len(NUMPY_SUBJECTS):
        raise ValueError(f"n_subjects is {n_subjects}; layout 'numpy' names 8 subjects")
    if trimmed and layout != "numpy":
        raise ValueError("trimmed recordings are of layout 'numpy' only")
    if schedule is None:
        schedule = schedule_runs(
            len(words), n_runs=n_runs, tr=tr, word_duration=word_duration, gap=gap, rest=rest
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
    if layout == "numpy":
        paths = _write_numpy(folder, words, schedule, planted, trimmed)
    else:
        time = np.stack([schedule.volume_times, schedule.volume_run.astype(np.float64)], axis=1)
        table = _words_table(words, schedule.onsets, word_duration)
        paths = [folder / f"subject_{number}.mat" for number in range(1, n_subjects + 1)]
        for index, path in enumerate(paths):
            write_mat(
                path,
                planted.shape,
                dtype,
                planted.blocks(index),
                {"time": time, "words": table, "meta": _meta(index + 1, planted.shape)},
                compress=compress,
            )
    weights = np.stack([planted.weights(index) for index in range(n_subjects)])
    return Simulation(tuple(paths), schedule, weights, planted)


def _words_table(words: Sequence[str], onsets: np.ndarray, duration: float) -> np.ndarray:
    # As in the release: text is a 1x1 cell that holds a string, start and length are 1x1 matrices.
    table = np.empty((1, len(words)), [("text", object), ("start", object), ("length", object)])
    for index, (word, onset) in enumerate(zip(words, onsets, strict=True)):
        cell = np.empty((1, 1), object)
        cell[0, 0] = word
        table[0, index] = (cell, np.array([[float(onset)]]), np.array([[float(duration)]]))
    return table


def _meta(subject: int, shape: tuple[int, int]) -> dict:
    """The fields of the release in its order, with two regions and a made-up place in MNI space."""
    n_volumes, n_voxels = shape
    side = int(np.ceil(n_voxels ** (1 / 3)))
    places = np.unravel_index(np.arange(n_voxels), (side, side, side))
    column, region = np.zeros((2, side, side, side))
    column[places] = np.arange(n_voxels) + 1
    regions = 1 + (np.arange(n_voxels) >= n_voxels / 2)
    region[places] = regions
    names = np.empty((1, 3), object)
    names[0] = ["Half_L", "Half_R", "Not_labelled"]
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = -1.5 * side
    return {
        "subject": float(subject),
        "nTRs": float(n_volumes),
        "nvoxels": float(n_voxels),
        "dimx": float(side),
        "dimy": float(side),
        "dimz": float(side),
        "colToCoord": np.stack(places, axis=1) + 1.0,
        "coordToCol": column,
        "colToROInum": regions[None, :].astype(np.float64),
        "coordToROInum": region,
        "ROInumToName": names,
        "voxel_size": np.array([[3.0, 3.0, 3.0]]),
        "matrix": matrix,
    }


def _write_numpy(
    folder: Path, words, schedule: Schedule, planted: PlantedBold, trimmed: bool
) -> list[Path]:
    rows = np.arange(planted.shape[0])
    if trimmed:
        first, last = _TRIMMED
        runs = [
            np.flatnonzero(schedule.volume_run == run) for run in np.unique(schedule.volume_run)
        ]
        if min(map(len, runs)) < first + last + 2:
            raise ValueError(
                f"trimmed recordings lack {first + last} volumes of each run and the shortest has "
                f"{min(map(len, runs))}; give more words a run, or trimmed=False"
            )
        rows = np.concatenate([run[first : len(run) - last] for run in runs])
    for name, values in (
        ("words_fmri", np.array(words)),
        ("time_words_fmri", schedule.onsets),
        ("time_fmri", schedule.volume_times),
        ("runs_fmri", schedule.volume_run.astype(np.float64)),
    ):
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    paths = []
    for index, subject in enumerate(NUMPY_SUBJECTS[: planted.n_subjects]):
        path = folder / f"data_subject_{subject}.npy"
        with replacing(path) as temporary:
            array = np.lib.format.open_memmap(
                temporary, "w+", np.dtype(planted.dtype), (len(rows), planted.n_voxels)
            )
            start = 0
            for block in planted.blocks(index):
                array[:, start : start + block.shape[1]] = block[rows]
                start += block.shape[1]
            array.flush()
            del array
        paths.append(path)
    return paths
