"""The release SMN4Lang (ds004078), simulated: scans and times of Chinese words, with a planted answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers.corpora.smn4lang import SPACES, TR
from brainalign_jax.neural.simulate.bold import schedule_runs
from brainalign_jax.neural.simulate.images import (
    ImageSimulation,
    plant_images,
    run_starts,
    write_mask,
    write_runs,
)

AUDIO = 10.65  # seconds from the start of a scan to that of the audio


def simulate_smn4lang(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    spaces: Sequence[str] = ("cifti",),
    n_subjects: int = 2,
    n_voxels: int = 30,
    n_stories: int = 3,
    tr: float = TR,
    header_tr: float | None = None,
    word_duration: float = 0.4,
    punctuation: bool = True,
    cells: bool = False,
    **settings: Any,
) -> dict[str, ImageSimulation]:
    """Write `derivatives/preprocessed_data/sub-01/CIFTI/..._run-1_bold.dtseries.nii` and the word times.

    words: of n_stories stories, heard back to back from the start of the audio, 10.65 s after that of
    the scan. spaces: "cifti" and "volume" (in MNI, with `mask.nii.gz`, which the release has not); each
    is the same recording. punctuation: rows of signs among the words, a full stop after every seventh
    word; cells: words in a cell, not a char matrix. header_tr: what the images say in place of `tr`.
    Other arguments: see `simulate_nifti`. Returns a simulation for each space.
    """
    schedule = schedule_runs(
        len(words), n_runs=n_stories, tr=tr, word_duration=word_duration, rest=(AUDIO, 10.0)
    )
    folder = user_path(data_dir, "data_dir") / "derivatives"
    result = {}
    for space in spaces:
        words, simulation = plant_images(
            words, vectors, schedule, n_subjects, n_voxels, None, space, "float32", settings
        )
        paths = []
        for index in range(n_subjects):
            name = f"sub-{index + 1:02d}"
            place, ending = SPACES[space]
            own = folder / "preprocessed_data" / name / place
            own.mkdir(parents=True, exist_ok=True)
            pattern = str(own / f"{name}_task-RDR_run-{{run}}_bold{ending}")
            paths.append(
                write_runs(simulation, index, pattern, tr=header_tr or tr, dtype="float32")
            )
        if space == "volume":
            write_mask(folder.parent / "mask.nii.gz", simulation.space)
        result[space] = simulation._replace(paths=tuple(paths))
    times = folder / "annotations" / "time_align" / "word-level"
    times.mkdir(parents=True, exist_ok=True)
    onsets = schedule.onsets - run_starts(schedule)[schedule.word_run - 1]
    for story in range(1, n_stories + 1):
        rows = np.flatnonzero(schedule.word_run == story)
        texts = [words[row] for row in rows]
        starts = onsets[rows].tolist()
        write_times(
            times / f"story_{story}_word_time.mat", texts, starts, word_duration, punctuation, cells
        )
    return result


def write_times(path: Path, texts, starts, duration, punctuation=True, cells=False) -> None:
    """The times of a story's words; signs of punctuation have none of their own."""
    rows = []
    for number, (text, start) in enumerate(zip(texts, starts, strict=True), 1):
        rows.append((text, start, start + duration))
        if punctuation and number % 7 == 0:
            rows.append(("。", 0.0, 0.0))
    words = [text for text, _, _ in rows]
    scipy.io.savemat(
        path,
        {
            "word": np.array(words, object)[:, None] if cells else np.array(words),
            "start": np.array([[start for _, start, _ in rows]]),
            "end": np.array([[end for _, _, end in rows]]),
        },
        do_compression=True,
    )
