"""One subject's scans as they are stored, and their reading in blocks of voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.voxels import VoxelAudit, check_confounds, report_voxels
from brainalign_jax.threads import read_ahead

_BLOCK_BYTES = 2**24  # of a block of voxels as float64: small enough for the cache of a CPU to help


class ColumnSource(Protocol):
    """A recording [time, V] that is read in blocks of voxels, in order."""

    shape: tuple[int, int]
    dtype: np.dtype

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive [time, <= size] columns, from column 0 again at every call."""
        ...


@dataclass(frozen=True, eq=False)
class BoldRecording:
    """One subject's scans as they are stored.

    bold: [time, V]; an array, a memory map or a `ColumnSource`. times: [time] seconds on the clock of
    the word onsets. run: [time] int. confounds: [time, C] regressors of no interest, or None.
    space, feature_names: of the V columns. source: the file or files, for messages.
    """

    subject: str
    bold: ColumnSource | np.ndarray
    times: np.ndarray
    run: np.ndarray
    confounds: np.ndarray | None = None
    space: VoxelSpace | None = None
    feature_names: tuple[str, ...] | None = None
    source: str = "recording"


def trimmed(recording: BoldRecording, trim: tuple[int, int]):
    """Rows to read (None: all), and times, runs and confounds of these rows, checked."""
    shape, source = recording.bold.shape, recording.source
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{source}: the recording has shape {shape}; expected [volumes, voxels]")
    if np.dtype(recording.bold.dtype).kind not in "fiub":
        raise ValueError(f"{source}: the recording has dtype {recording.bold.dtype}, not numbers")
    times, run = np.asarray(recording.times, np.float64), np.asarray(recording.run)
    confounds = None if recording.confounds is None else np.asarray(recording.confounds)
    for name, value in (("volume times", times), ("run labels", run), ("confounds", confounds)):
        if value is not None and len(value) != shape[0]:
            raise ValueError(
                f"{source}: {len(value)} {name} for {shape[0]} volumes; give one for each volume"
            )
    for name, value in (("space", recording.space), ("feature names", recording.feature_names)):
        count = getattr(value, "n_columns", None) or (0 if value is None else len(value))
        if value is not None and count != shape[1]:
            raise ValueError(f"{source}: the {name} describe {count} of {shape[1]} voxels")
    rows = None
    if any(trim):
        first, last = trim
        keep = np.zeros(len(run), bool)
        for label in np.unique(run):
            of_run = np.flatnonzero(run == label)
            keep[of_run[first : len(of_run) - last]] = True
            if len(of_run) - first - last < 2:
                raise ValueError(
                    f"{source}: trim={trim} leaves {max(0, len(of_run) - first - last)} of "
                    f"the {len(of_run)} volumes of run {label}; trim fewer"
                )
        rows = np.flatnonzero(keep)
        times, run = times[rows], run[rows]
        confounds = None if confounds is None else confounds[rows]
    if confounds is not None:
        check_confounds(confounds, f"{source}, confounds")
    return rows, times, run, confounds


def repetition_times(times: np.ndarray, run: np.ndarray) -> dict:
    """Run label -> TR in seconds, the median step of the run's volume times; 0 for a single volume."""
    return {
        label: float(np.median(np.diff(times[run == label]))) if (run == label).sum() > 1 else 0.0
        for label in np.unique(run)
    }


def assign_runs(
    onsets: np.ndarray, times: np.ndarray, run: np.ndarray, *, source: str
) -> np.ndarray:
    """Run [N] int32 of every onset: the run between whose first and last volume it begins.

    onsets: [N] seconds; times: [time] seconds on the same clock; run: [time] labels. A TR after the
    last volume still counts. Raises ValueError naming `source` where runs overlap in time or words
    lie outside of every run.
    """
    onsets, times, run = np.asarray(onsets), np.asarray(times), np.asarray(run)
    labels = np.unique(run)
    first = np.array([times[run == label].min() for label in labels])
    last = np.array([times[run == label].max() for label in labels])
    trs = repetition_times(times, run)
    tr = np.array([trs[label] for label in labels])
    order = np.argsort(first)
    labels, first, last, tr = labels[order], first[order], last[order], tr[order]
    if (clash := first[1:] <= last[:-1]).any():
        at = int(np.argmax(clash))
        raise ValueError(
            f"{source}: the runs overlap in time (run {labels[at]} ends at {last[at]:g} s, run "
            f"{labels[at + 1]} starts at {first[at + 1]:g} s); the volume times must be on one clock"
        )
    index = np.searchsorted(first, onsets + 1e-6, side="right") - 1
    outside = (index < 0) | (onsets > (last + tr)[np.maximum(index, 0)])
    if outside.any():
        word = int(np.argmax(outside))
        spans = ", ".join(f"{a:g} to {b:g}" for a, b in zip(first, last, strict=True))
        raise ValueError(
            f"{source}: {int(outside.sum())} words begin outside every run, the first is word {word} "
            f"at {onsets[word]:g} s; the runs span {spans} s"
        )
    return labels[index].astype(np.int32)


class Scan:
    """Readings of a recording block by block, with the audit of its voxels.

    emptied: usable columns [time, v] -> which of them [v] bool cleaning leaves nothing of; None where
    cleaning reports them itself.
    """

    def __init__(
        self,
        recording: BoldRecording,
        rows,
        run,
        *,
        constant: bool,
        emptied: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self._recording, self._rows, self._run, self._constant = recording, rows, run, constant
        self._emptied = emptied
        self._audit = VoxelAudit(run, constant=constant)
        self._rest: Iterator[np.ndarray] = iter(())

    def read(
        self, *, check: bool, known: np.ndarray | None = None, progress: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(usable [v] bool, the usable columns [time, <= v] float64 in C order) of each block.

        check: audit the voxels; else `known` [V] says which ones to take.
        """
        if check:
            dtype = np.dtype(self._recording.bold.dtype)
            self._audit = VoxelAudit(self._run, constant=self._constant, stored_as=dtype)
        n_volumes, n_voxels = self._recording.bold.shape
        size = max(64, _BLOCK_BYTES // (8 * n_volumes))
        shown = tqdm(
            total=n_voxels,
            desc=f"subject {self._recording.subject}",
            unit="voxel",
            delay=5,
            disable=None if progress else True,
            leave=False,
        )
        # Reading and conversion in one thread, audit and all that follows in the caller's.
        self._rest = read_ahead(self._converted(size))
        start = 0
        with closing(self._rest), shown:
            for block in self._rest:
                part = slice(start, start := start + block.shape[1])
                good = known[part] if known is not None else np.ones(block.shape[1], bool)
                if check:
                    good = self._audit.add(block)
                    if self._emptied is not None:
                        empty = np.zeros(len(good), bool)
                        empty[good] = self._emptied(block[:, good])
                        self._audit.emptied(empty)
                        good = good & ~empty
                # Of no columns where none of the block is usable.
                yield good, block if good.all() else block[:, good]
                shown.update(len(good))
        if start != n_voxels:
            raise ValueError(
                f"{self._recording.source}: {start} of {n_voxels} voxels could be read; the file has "
                "changed or is damaged: get it again"
            )

    def _converted(self, size: int) -> Iterator[np.ndarray]:
        for block in _blocks(self._recording.bold, size):
            chosen = block if self._rows is None else block[self._rows]
            with np.errstate(invalid="ignore"):  # signalling NaN; the audit reports them
                converted = np.ascontiguousarray(chosen, np.float64)
            yield converted

    def exhaust(self, **reporting) -> None:
        """Check what is left of the reading under way, and report."""
        for block in self._rest:
            self._audit.add(block)
        self.conclude(**reporting)

    def conclude(self, *, subject: str, bad_voxels: str) -> np.ndarray:
        kept, problem = self._audit.conclude()
        if problem:
            what = self._recording.source
            report_voxels(problem, kept, subject=subject, bad_voxels=bad_voxels, what=what)
        return kept


def _blocks(bold, size: int) -> Iterator[np.ndarray]:
    if hasattr(bold, "blocks"):
        yield from bold.blocks(size)
        return
    for start in range(0, bold.shape[1], size):
        yield np.asarray(bold[:, start : start + size])
