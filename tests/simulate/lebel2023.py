"""The release of LeBel et al. 2023 (ds003020), simulated: TextGrids and responses, with a planted answer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers.corpora.lebel2023 import FIRST, LOST, SOUND, TR
from brainalign_jax.neural.simulate.bold import Simulation, plant, schedule_runs
from brainalign_jax.neural.simulate.images import run_starts

STORIES = ("adollshouse", "souls", "wheretheressmoke")
SUBJECTS = ("UTS02", "UTS03")


def simulate_lebel2023(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    n_subjects: int = 2,
    n_voxels: int = 30,
    tr: float = TR,
    word_duration: float = 0.4,
    layout: str = "long",
    compression: str | None = None,
    **settings: Any,
) -> Simulation:
    """Write `derivative/preprocessed_data/UTS02/souls.hf5` ..., TextGrids and respdict.json.

    words: of three stories of nearly N / 3 words, heard from 12 s into the sound. The recordings are
    those of the scans without ten volumes at either end, which are made and cut off. layout: of the
    TextGrids, "long" or "chronological". compression: of the responses, for h5py.
    The schedule returned is that of the volumes that are written. Other arguments: see `plant`.
    """
    half = LOST // 2
    schedule = schedule_runs(
        len(words),
        n_runs=len(STORIES),
        tr=tr,
        word_duration=word_duration,
        rest=(SOUND + 12.0, LOST // 2 * tr + 10.0),
    )
    settings = {"n_subjects": n_subjects, "n_voxels": n_voxels, "baseline": 0.0, **settings}
    words, planted = plant(words, vectors, schedule, **settings)
    folder = user_path(data_dir, "data_dir") / "derivative"
    (folder / "TextGrids").mkdir(parents=True, exist_ok=True)
    starts = run_starts(schedule)
    lengths, kept = {}, np.zeros(len(schedule.volume_run), bool)
    for run, story in enumerate(STORIES, 1):
        volumes = np.flatnonzero(schedule.volume_run == run)
        lengths[story] = len(volumes)
        kept[volumes[FIRST : len(volumes) - half]] = True
        rows = np.flatnonzero(schedule.word_run == run)
        onsets = schedule.onsets[rows] - starts[run - 1] - SOUND
        spoken = [
            (on, on + word_duration, words[row]) for on, row in zip(onsets, rows, strict=True)
        ]
        _write_textgrid(folder / "TextGrids" / f"{story}.TextGrid", spoken, layout)
    (folder / "respdict.json").write_text(json.dumps(lengths))
    paths = []
    for index in range(n_subjects):
        own = folder / "preprocessed_data" / SUBJECTS[index]
        own.mkdir(parents=True, exist_ok=True)
        recorded = planted.array(index)
        for run, story in enumerate(STORIES, 1):
            paths.append(own / f"{story}.hf5")
            with h5py.File(paths[-1], "w") as file:
                rows = recorded[kept & (schedule.volume_run == run)]
                file.create_dataset("data", data=rows, compression=compression)
    weights = np.stack([planted.weights(index) for index in range(n_subjects)])
    schedule = schedule._replace(
        volume_times=schedule.volume_times[kept], volume_run=schedule.volume_run[kept]
    )
    return Simulation(tuple(paths), schedule, weights, planted)


def _write_textgrid(path: Path, spoken: Sequence[tuple[float, float, str]], layout: str) -> None:
    """The tiers phone and word, noises and pauses between the words."""
    spoken = [(start, stop, text.replace('"', '""')) for start, stop, text in spoken]
    begin, end = float(spoken[0][0]), float(spoken[-1][1])
    words = [(0.0, 1.0, "{NS}"), (1.0, begin, "sp"), *spoken, (end, end + 2.0, "{BR}")]
    tiers = {"phone": [(0.0, end + 2.0, "AA1")], "word": words}
    last = repr(end + 2.0)
    if layout == "chronological":
        lines = ['"Praat chronological TextGrid text file"', f"0 {last}   ! Time domain."]
        lines.append("2   ! Number of tiers.")
        lines += [f'"IntervalTier" "{name}" 0 {last}' for name in tiers]
        for number, intervals in enumerate(tiers.values(), 1):
            for start, stop, text in intervals:
                lines += [f"{number} {float(start)!r} {float(stop)!r}", f'"{text}"']
    else:
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
        lines += [f"xmax = {last}", "tiers? <exists>", "size = 2", "item []:"]
        for number, (name, intervals) in enumerate(tiers.items(), 1):
            lines += [f"    item [{number}]:", '        class = "IntervalTier"']
            lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {last}"]
            lines.append(f"        intervals: size = {len(intervals)}")
            for place, (start, stop, text) in enumerate(intervals, 1):
                lines += [f"        intervals [{place}]:", f"            xmin = {float(start)!r}"]
                lines += [f"            xmax = {float(stop)!r}", f'            text = "{text}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
