"""A BIDS folder with fMRIPrep's derivatives, simulated."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.simulate.bold import schedule_runs
from brainalign_jax.neural.simulate.images import (
    KINDS,
    ImageSimulation,
    file_ending,
    plant_images,
    run_starts,
    write_mask,
    write_runs,
    write_table,
)

TASK = "story"
SPACES = {
    "volume": "space-MNI152NLin2009cAsym_res-2_desc-preproc",
    "surface": "space-fsaverage5",
    "cifti": "space-fsLR_den-91k",
}


def simulate_bids(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    outputs: Sequence[str] = ("raw", "volume"),
    n_subjects: int = 2,
    n_voxels: int = 60,
    shape: tuple[int, int, int] | None = None,
    n_runs: int = 4,
    tr: float = 2.0,
    word_duration: float = 0.5,
    gap: float = 28.5,
    rest: tuple[float, float] = (20.0, 10.0),
    dtype: str = "int16",
    session: str | None = None,
    **settings: Any,
) -> dict[str, ImageSimulation]:
    """Write a BIDS folder with events, and fMRIPrep's derivatives in `derivatives/fmriprep`.

    outputs: what is written: "raw", the scans (NIfTI, in the raw folder), and the derivatives
    "volume" (MNI152NLin2009cAsym, with brain masks), "surface" (fsaverage5) and "cifti" (fsLR, 91k);
    each is the same recording in other columns' places. session: a folder ses-* for all files.
    Derivatives have confounds of fMRIPrep's names, with n/a in the derivatives' first rows and a
    non-steady-state volume in the first run. The TR stands in the JSON sidecars, in the raw folder
    once for the task (inherited). Other arguments: see `simulate_nifti`.
    Returns a simulation for each output. Raises ValueError, see `simulate_nifti`.
    """
    for output in outputs or [None]:
        check_known("output", output, ("raw", *KINDS))
    schedule = schedule_runs(
        len(words), n_runs=n_runs, tr=tr, word_duration=word_duration, gap=gap, rest=rest
    )
    folder = user_path(data_dir, "data_dir")
    derived = folder / "derivatives" / "fmriprep"
    names = [f"sub-{index + 1:02d}" for index in range(n_subjects)]
    inner = ([f"ses-{session}"] if session else []) + ["func"]

    def stem(root: Path, name: str, run: int | str) -> str:
        entities = [name, *inner[:-1], f"task-{TASK}", f"run-{run}"]
        return str(root.joinpath(name, *inner, "_".join(entities)))

    result = {}
    for output in outputs:
        kind = "volume" if output == "raw" else output
        words, simulation = plant_images(
            words, vectors, schedule, n_subjects, n_voxels, shape, kind, dtype, settings
        )
        root = folder if output == "raw" else derived
        middle = "" if output == "raw" else SPACES[kind] + "_"
        paths = []
        for index, name in enumerate(names):
            root.joinpath(name, *inner).mkdir(parents=True, exist_ok=True)
            pattern = stem(root, name, "{run}") + "_{hemi}" + middle + "bold"
            images = pattern + file_ending(kind, ".nii.gz")
            paths.append(write_runs(simulation, index, images, tr=tr, dtype=dtype))
            for run in range(1, n_runs + 1):
                if output == "volume":
                    masked = SPACES["volume"].replace("desc-preproc", "desc-brain_mask")
                    write_mask(f"{stem(root, name, run)}_{masked}.nii.gz", simulation.space)
                for hemi in ("hemi-L_", "hemi-R_") if kind == "surface" else ("",):
                    if output != "raw":
                        sidecar = Path(
                            pattern.replace("{run}", str(run)).replace("{hemi}", hemi) + ".json"
                        )
                        _write_json(sidecar, {"RepetitionTime": tr, "SliceTimingCorrected": False})
        result[output] = simulation._replace(paths=tuple(paths))
    _write_json(folder / "dataset_description.json", {"Name": "simulated", "BIDSVersion": "1.9.0"})
    _write_json(folder / f"task-{TASK}_bold.json", {"TaskName": TASK, "RepetitionTime": tr})
    onsets = schedule.onsets - run_starts(schedule)[schedule.word_run - 1]
    rng = np.random.default_rng(0)
    for name in names:
        folder.joinpath(name, *inner).mkdir(parents=True, exist_ok=True)
        for run in range(1, n_runs + 1):
            rows_of_run = np.flatnonzero(schedule.word_run == run)
            table = {"onset": onsets[rows_of_run], "duration": [word_duration] * len(rows_of_run)}
            table |= {
                "trial_type": ["word"] * len(rows_of_run),
                "word": [words[row] for row in rows_of_run],
            }
            write_table(Path(f"{stem(folder, name, run)}_events.tsv"), table)
            if set(outputs) & set(KINDS):
                count = int((schedule.volume_run == run).sum())
                path = Path(f"{stem(derived, name, run)}_desc-confounds_timeseries.tsv")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_table(path, _confounds(rng, count, outlier=run == 1))
    return result


def _confounds(rng: np.random.Generator, n_volumes: int, *, outlier: bool) -> dict:
    columns: dict[str, Any] = {"global_signal": 500 + rng.standard_normal(n_volumes)}
    for name in [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]:
        motion = 0.01 * rng.standard_normal(n_volumes).cumsum()
        change = np.diff(motion, prepend=np.nan)
        columns[name] = motion
        columns |= {f"{name}_derivative1": change, f"{name}_power2": motion**2}
        columns[f"{name}_derivative1_power2"] = change**2
    columns |= {f"a_comp_cor_{number:02d}": rng.standard_normal(n_volumes) for number in range(8)}
    phase = np.pi * (np.arange(n_volumes) + 0.5) / n_volumes
    columns |= {f"cosine{number:02d}": np.cos(phase * (number + 1)) for number in range(2)}
    if outlier:
        columns["non_steady_state_outlier00"] = np.eye(1, n_volumes, dtype=int)[0]
    return columns


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
