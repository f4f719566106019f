"""A continuous recording as it is, cleaned: the time courses of its voxels, beside the words."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from brainalign_jax.machine import free_memory
from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.neural.readout.process import cleaner_of, cleaning_facts, warn_of_gaps
from brainalign_jax.neural.recording import BoldRecording, Scan, repetition_times, trimmed
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus


@dataclass(frozen=True, eq=False)
class TimeCourses:
    """One subject's cleaned scans.

    values: [time, V] float32, of the usable voxels; times: [time] seconds on the clock of the word onsets;
    run: [time] labels. space, feature_names: of the V columns, None where they are not known.
    n_dropped: voxels that are constant or hold NaN, which are left out.
    """

    subject: str
    values: np.ndarray
    times: np.ndarray
    run: np.ndarray
    stimulus: Stimulus
    meta: dict = field(default_factory=dict)
    space: VoxelSpace | None = None
    feature_names: tuple[str, ...] | None = None
    n_dropped: int = 0

    def __post_init__(self) -> None:
        n_volumes, n_voxels = np.shape(self.values)
        sizes = {
            "times": (len(self.times), n_volumes),
            "run": (len(self.run), n_volumes),
            "space": (self.space.n_columns if self.space else n_voxels, n_voxels),
            "feature_names": (len(self.feature_names or ()) or n_voxels, n_voxels),
        }
        for name, (length, wanted) in sizes.items():
            if length != wanted:
                raise ValueError(
                    f"subject {self.subject}: {name} has {length} entries; time courses of shape "
                    f"{np.shape(self.values)} need {wanted}"
                )
        if self.stimulus.onsets is None:
            raise ValueError(
                f"subject {self.subject}: the words have no onsets; encoding of time courses needs them"
            )

    def with_attributes(self, **arrays) -> TimeCourses:
        """The time courses with these attributes of the words, see `Stimulus.with_attributes`."""
        return replace(self, stimulus=self.stimulus.with_attributes(**arrays))

    def with_language(self, language: str | None) -> TimeCourses:
        """The time courses beside words of this language, see `Stimulus`."""
        return replace(self, stimulus=replace(self.stimulus, language=language))


class Reading(Protocol):
    """What scans are read as: `word_responses`, or `read_time_courses`."""

    def __call__(
        self, recording: BoldRecording, stimulus: Stimulus, processing: Processing, *, meta: dict
    ):
        """A subject's word responses, or time courses."""
        ...


def read_time_courses(
    recording: BoldRecording, stimulus: Stimulus, processing: Processing, *, meta: dict
) -> TimeCourses:
    """One subject's scans, cleaned as `word_responses` cleans them, in blocks of voxels.

    Of `processing` the cleaning counts. Voxels that are constant or hold NaN are left out, with a warning.

    Raises ValueError naming the recording's source for shapes that disagree, no usable voxel, a run too
    short to clean, and more voxels than memory holds.
    """
    n_volumes, n_voxels = recording.bold.shape
    needed, free = 4 * n_volumes * n_voxels, free_memory()
    if needed > free:
        raise ValueError(
            f"{recording.source}: {n_volumes:,} volumes of {n_voxels:,} voxels need "
            f"{needed / 2**30:.1f} GiB and {free / 2**30:.1f} are free: read fewer voxels, with a mask or an "
            "atlas"
        )
    rows, times, run, confounds = trimmed(recording, processing.trim)
    warn_of_gaps(stimulus, times, run, recording.source)
    trs = repetition_times(times, run)
    cleaner = cleaner_of(recording, run, trs, confounds, processing)
    scan = Scan(recording, rows, run, constant=True, emptied=cleaner.emptied)
    values, filled, usable = np.empty((len(times), n_voxels), np.float32), 0, []
    with closing(scan.read(check=True)) as blocks:
        for good, block in blocks:
            try:
                cleaned = cleaner(block)
            except ValueError as error:
                raise ValueError(f"{recording.source}: {error}") from error
            # Offsets that float32 cannot hold say nothing here.
            cleaned = cleaned - cleaned.mean(axis=0)
            values[:, filled : filled + cleaned.shape[1]] = cleaned
            filled += cleaned.shape[1]
            usable.append(good)
    kept = scan.conclude(subject=recording.subject, bad_voxels="drop")
    read_columns = np.concatenate(usable)
    values = values[:, :filled]
    if (late := read_columns & ~kept).any():  # found unusable by a later block's range
        values = values[:, ~late[read_columns]]
    names = recording.feature_names
    return TimeCourses(
        recording.subject,
        values,
        times,
        run,
        stimulus,
        {
            **meta,
            "tr": float(np.median(list(trs.values()))),
            "cleaning": cleaning_facts(processing, confounds),
        },
        None if recording.space is None else recording.space.select(kept),
        None if names is None else tuple(np.array(names, object)[kept]),
        int((~kept).sum()),
    )
