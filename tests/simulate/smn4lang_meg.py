"""The release SMN4Lang (ds004078), its MEG simulated: recordings with triggers, times of Chinese words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.files import user_path
from simulate.smn4lang import AUDIO, write_times

STORY_SECONDS = 0.4  # from word to word


def simulate_smn4lang_meg(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    n_subjects: int = 2,
    n_stories: int = 2,
    rate: float = 100.0,
    delay: float = 0.3,
    noise: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Write `derivatives/preprocessed_data/sub-01/MEG/sub-01_task-RDR_run-1_meg.fif`, events and word times.

    words: of n_stories stories. vectors: [N, D] what the sensors carry, `delay` seconds after a word's
    onset for a tenth of a second. The first sensor, MEG0111, is a clock instead: picotesla are seconds from
    the start of the story's sound. Recordings begin one to three seconds before the sound, and their first
    sample is not 0. Returns the onsets [N] in seconds from the start of each story's sound.
    """
    import mne

    rng = np.random.default_rng(seed)
    folder = user_path(data_dir, "data_dir") / "derivatives"
    times = folder / "annotations" / "time_align" / "word-level"
    times.mkdir(parents=True, exist_ok=True)
    parts = np.array_split(np.arange(len(words)), n_stories)
    onsets = np.concatenate([0.05 + STORY_SECONDS * np.arange(len(rows)) for rows in parts])
    for story, rows in enumerate(parts, 1):
        write_times(
            times / f"story_{story}_word_time.mat",
            [words[row] for row in rows],
            (AUDIO + onsets[rows]).tolist(),
            0.3,
        )
    names = ["MEG0111", "MEG0112", "MEG0113", "MEG0121", "STI101"]
    info = mne.create_info(names, rate, ["mag", "grad", "grad", "mag", "stim"])
    maps = rng.standard_normal((n_subjects, vectors.shape[1], 3))
    for index in range(n_subjects):
        subject = f"sub-{index + 1:02d}"
        own = folder / "preprocessed_data" / subject / "MEG"
        own.mkdir(parents=True, exist_ok=True)
        for story, rows in enumerate(parts, 1):
            begin = 1.0 + index + 0.5 * story
            length = STORY_SECONDS * len(rows) + 0.1
            seconds = np.arange(int((begin + length + 1.5) * rate)) / rate
            values = noise * rng.standard_normal((5, len(seconds)))
            for row in rows:
                first = round((begin + onsets[row] + delay) * rate)
                values[1:4, first : first + round(0.1 * rate)] += (vectors[row] @ maps[index])[
                    :, None
                ]
            values[:4] *= np.array([1e-12, 1e-11, 1e-11, 1e-12])[:, None]
            values[0] = 1e-12 * (seconds - begin)
            values[4] = 0
            raw = mne.io.RawArray(values, info, first_samp=600, verbose="error")
            name = f"{subject}_task-RDR_run-{story}"
            raw.save(own / f"{name}_meg.fif", overwrite=True, verbose="error")
            write_events(own / f"{name}_events.tsv", begin, begin + length, rate)
    return onsets


def write_events(path: Path, begin: float, end: float, rate: float = 100.0) -> None:
    """The triggers of a recording, with the mark of byte order that the release has."""
    lines = ["onset\tduration\ttrial_type\tvalue\tsample"]
    for value, (kind, onset) in enumerate((("Beg", begin), ("End", end)), 1):
        lines.append(f"{onset:g}\t0.0\t{kind}\t{value}\t{round(onset * rate)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
