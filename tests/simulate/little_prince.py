"""The release of Le Petit Prince (ds003643), simulated: scans and annotation, with a planted answer."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers.corpora.little_prince import LANGUAGES, N_SECTIONS, TR
from brainalign_jax.neural.simulate.bold import schedule_runs
from brainalign_jax.neural.simulate.images import (
    ImageSimulation,
    plant_images,
    run_starts,
    write_mask,
    write_runs,
)

FIRST_SUBJECT = {"en": 57, "fr": 1, "zh": 1}
FIRST_RUN = {
    "en": (15, 8),
    "fr": (1, 1),
    "zh": (4, 4),
}  # of the first two people, as in the release


def simulate_little_prince(
    data_dir: str | os.PathLike,
    *,
    texts: Mapping[str, tuple[Sequence[str], np.ndarray]],
    n_subjects: int = 2,
    n_voxels: int = 30,
    tr: float = TR,
    header_tr: float | None = None,
    word_duration: float = 0.4,
    rest: tuple[float, float] = (4.0, 10.0),
    dtype: str = "int16",
    **settings: Any,
) -> dict[str, ImageSimulation]:
    """Write `derivatives/sub-EN057/func/..._bold.nii.gz` and `annotation/EN/lppEN_word_information.csv`.

    texts: language ("en", "fr", "zh") -> words [N] and vectors [N, D], told in nine sections of nearly N / 9
    words, heard back to back. n_subjects: one or two a language. The volumes' slices are at the middle
    of their TR. `mask.nii.gz`, which the release has not, holds the voxels. header_tr: what the images
    say in place of `tr`. Other arguments: see `simulate_nifti`. Returns a simulation for each language.
    """
    folder = user_path(data_dir, "data_dir")
    result = {}
    for language, (words, vectors) in texts.items():
        code = LANGUAGES[language]
        schedule = schedule_runs(
            len(words), n_runs=N_SECTIONS, tr=tr, word_duration=word_duration, rest=rest
        )
        words, simulation = plant_images(
            words, vectors, schedule, n_subjects, n_voxels, None, "volume", dtype, settings
        )
        paths = []
        for index in range(n_subjects):
            name = f"sub-{code}{FIRST_SUBJECT[language] + index:03d}"
            own = folder / "derivatives" / name / "func"
            own.mkdir(parents=True, exist_ok=True)
            written = write_runs(
                simulation, index, str(own / "{run}.nii.gz"), tr=header_tr or tr, dtype=dtype
            )
            ending = "space-MNIColin27_desc-preproc_bold.nii.gz"
            renamed = []
            for number, path in enumerate(written, FIRST_RUN[language][index]):
                renamed.append(own / f"{name}_task-lpp{code}_run-{number:02d}_{ending}")
                path.rename(renamed[-1])
            paths.append(tuple(renamed))
        onsets = schedule.onsets - run_starts(schedule)[schedule.word_run - 1] + tr / 2
        write_word_information(
            folder / "annotation" / code / f"lpp{code}_word_information.csv",
            words,
            onsets,
            onsets + word_duration,
            schedule.word_run,
        )
        write_mask(folder / "mask.nii.gz", simulation.space)
        result[language] = simulation._replace(paths=tuple(paths))
    return result


def write_word_information(path: Path, words, onsets, offsets, section) -> None:
    """The annotation of a language's words, its first column an index without a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", "word", "lemma", "onset", "offset", "logfreq", "pos", "section"])
        for row, word in enumerate(words):
            times = [round(float(onsets[row]), 4), round(float(offsets[row]), 4)]
            values = [word, word.lower(), *times, round(row % 7 / 2, 2), "NOUN", int(section[row])]
            writer.writerow([row, *values])
