"""Narratives (ds002345 and its derivatives), simulated: scans, events, alignments, with a planted answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers.corpora.narratives import SURFACE, TR, VOLUME
from brainalign_jax.neural.simulate.bold import schedule_runs
from brainalign_jax.neural.simulate.images import (
    ImageSimulation,
    plant_images,
    run_starts,
    write_mask,
    write_runs,
    write_table,
)

# Story -> its task, and seconds of the scan to the start of the audio and to that of the story.
STORIES = {"pieman": ("pieman", 0.0, 15.0), "black": ("black", 12.0, 12.0)}
KINDS = {"volume": VOLUME, "surface": SURFACE}


def simulate_narratives(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    kinds: Sequence[str] = ("surface",),
    derivative: str = "afni-nosmooth",
    n_subjects: int = 2,
    n_voxels: int = 30,
    tr: float = TR,
    header_tr: float | None = None,
    word_duration: float = 0.4,
    missing: Sequence[int] = (),
    transcript: bool = True,
    **settings: Any,
) -> dict[str, ImageSimulation]:
    """Write `derivatives/afni-nosmooth/sub-001/func/...`, events and `stimuli/gentle/pieman/align.csv`.

    words: of the two stories, punctuation kept, which goes to the transcripts alone; heard back to back,
    "pieman" after 15 s of music. kinds: "volume" and "surface", the same recording. missing: rows of the
    words that have no times. Subject 001's scan of pieman is named as the
    first of two. Volumes lie at the middle of their TR. Other arguments: see `simulate_nifti`.
    """
    schedule = schedule_runs(
        len(words), n_runs=len(STORIES), tr=tr, word_duration=word_duration, rest=(15.0, 12.0)
    )
    folder = user_path(data_dir, "data_dir")
    starts, result = run_starts(schedule), {}
    for kind in kinds:
        words, simulation = plant_images(
            words, vectors, schedule, n_subjects, n_voxels, None, kind, "float32", settings
        )
        paths = []
        for index in range(n_subjects):
            name = f"sub-{index + 1:03d}"
            own = folder / "derivatives" / derivative / name / "func"
            own.mkdir(parents=True, exist_ok=True)
            ending = ".nii.gz" if kind == "volume" else ".func.gii"
            written = write_runs(
                simulation,
                index,
                str(own / "{run}{hemi}x") + ending,
                tr=header_tr or tr,
                dtype="float32",
            )
            renamed = []
            for path in written:
                task = list(STORIES.values())[int(path.name[0]) - 1][0]
                label = _scan_label(task, index)
                hemi = "_hemi-L" if "hemi-L" in path.name else "_hemi-R"
                middle = "_res-native" if kind == "volume" else hemi
                clean = "_desc-clean" + "_bold" * (kind == "volume")
                if derivative == "fmriprep":
                    clean = "_desc-preproc_bold" if kind == "volume" else ""
                renamed.append(own / f"{name}_{label}_space-{KINDS[kind]}{middle}{clean}{ending}")
                path.rename(renamed[-1])
            paths.append(tuple(renamed))
        if kind == "volume":
            _write_masks(folder / "derivatives" / derivative, simulation, paths, derivative)
        result[kind] = simulation._replace(paths=tuple(paths))
    for index in range(n_subjects):
        for story, (task, audio, onset) in STORIES.items():
            own = folder / f"sub-{index + 1:03d}" / "func"
            own.mkdir(parents=True, exist_ok=True)
            rows = [(audio, onset - 2.0, "music"), (onset, 300.0, "story")][audio == onset :]
            columns = dict(
                zip(("onset", "duration", "trial_type"), zip(*rows, strict=True), strict=True)
            )
            columns["stim_file"] = [f"{story}_audio.wav"] * len(rows)
            write_table(own / f"sub-{index + 1:03d}_{_scan_label(task, index)}_events.tsv", columns)
    for run, (story, (_, audio, _)) in enumerate(STORIES.items(), 1):
        rows = np.flatnonzero(schedule.word_run == run)
        # A scan begins 15 s before its first word: that is where the story is, whatever its audio's clock.
        times = schedule.onsets[rows] - starts[run - 1] + tr / 2 - audio
        own = folder / "stimuli" / "gentle" / story
        own.mkdir(parents=True, exist_ok=True)
        lines = []
        for row, start in zip(rows, times, strict=True):
            word = plain(words[row])
            timed = f"{word.lower()},{start:.4f},{start + word_duration:.4f}"
            lines.append(f"{word},{',,' if row in missing else timed}\n")
        (own / "align.csv").write_text("".join(lines), encoding="utf-8")
        if transcript:
            text = " ".join(words[row] for row in rows)
            (own / "transcript.txt").write_text(text + "\n", encoding="utf-8")
    return result


def plain(word: str) -> str:
    """The word as Gentle has it."""
    return word.strip('.,;:!?"“”‘’-—()') or "x"


def _scan_label(task: str, index: int) -> str:
    return f"task-{task}" + "_run-1" * (task == "pieman" and index == 0)


def _write_masks(folder: Path, simulation: ImageSimulation, paths, derivative: str) -> None:
    if derivative == "fmriprep":
        for path in (path for own in paths for path in own):
            name = path.name.replace("_desc-preproc_bold", "_desc-brain_mask")
            write_mask(path.with_name(name), simulation.space)
        return
    template = folder / f"tpl-{VOLUME}"
    template.mkdir(exist_ok=True)
    for task, *_ in STORIES.values():
        name = f"tpl-{VOLUME}_res-{task}_desc-brain_mask.nii.gz"
        write_mask(template / name, simulation.space)
