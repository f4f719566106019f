"""Scans in image files as sources of columns, one or more runs in a row.

`volumes.open_volumes` (NIfTI), `grayordinates.open_surfaces` (GIFTI) and `.open_cifti` make them.
Headers are looked at when a source is opened, values are read in one pass over every file when they
are first asked for. Nothing that nibabel or zlib say about a damaged file comes out as it is: every
error is a ValueError that names the file and what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.neural.space import VoxelSpace

LONGEST_TR = 30.0  # seconds; a header that says more means another unit
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class Run(NamedTuple):
    """One run of scans: its files, its length, what the header says of the TR, and how to read it.

    tr: seconds, or None where the header does not tell. fill(rows): writes the run's values into
    `rows` [n_volumes, V] float32.
    """

    paths: tuple[Path, ...]
    n_volumes: int
    tr: float | None
    fill: Callable[[np.ndarray], None]


class ImageSource:
    """A recording [time, V] float32 made of the runs' images, one after the other.

    shape, dtype: of the recording. runs: see `Run`. space: what the columns are in the images.
    feature_names: names of atlas regions, else None. name: the files, for messages.
    The values are read at the first use of `blocks` or `values`, and are kept with the source: they
    need 4 bytes a value, and a volume or hemisphere besides.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        runs: Sequence[Run],
        space: VoxelSpace,
        feature_names: tuple[str, ...] | None = None,
    ):
        self.runs = tuple(runs)
        self.space = space
        self.feature_names = feature_names
        self.shape = (sum(run.n_volumes for run in self.runs), space.n_columns)
        self._values: np.ndarray | None = None

    @property
    def name(self) -> str:
        first = self.runs[0].paths[0]
        others = sum(len(run.paths) for run in self.runs) - 1
        return str(first) + (f" and {others} more" if others else "")

    @property
    def run(self) -> np.ndarray:
        """[time] int32, the number of each volume's run, from 1."""
        lengths = [run.n_volumes for run in self.runs]
        return np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)

    def values(self) -> np.ndarray:
        """[time, V] float32, read now or earlier. Raises ValueError naming a damaged file."""
        if self._values is None:
            try:
                values = np.empty(self.shape, np.float32)
            except MemoryError as error:
                size = 4 * self.shape[0] * self.shape[1] / 2**30
                raise ValueError(
                    f"{self.name}: {self.shape[0]} volumes of {self.shape[1]} voxels need "
                    f"{size:.1f} GiB of memory, which are not to be had; give a smaller mask"
                ) from error
            start = 0
            for run in self.runs:
                run.fill(values[start : start + run.n_volumes])
                start += run.n_volumes
            values.flags.writeable = False
            self._values = values
        return self._values

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive [time, <= size] columns, from column 0 again at every call."""
        values = self.values()
        for start in range(0, self.shape[1], size):
            yield values[:, start : start + size]

    def times(
        self,
        *,
        tr: float | None = None,
        first_volume: float | Sequence[float] = 0.0,
        slice_time_ref: float = 0.0,
    ) -> np.ndarray:
        """Volume times [time] in seconds: first_volume + (index within the run + slice_time_ref) * TR.

        tr: seconds; None takes the images' own. first_volume: seconds, or one number a run, on the
        clock of the onsets. slice_time_ref: 0 where a volume's time is that of its first slice, 0.5
        where the slices were shifted to the middle of the TR. Raises ValueError for a TR that no
        file tells, or runs of different TRs.
        """
        starts = self.starts(first_volume)
        if not 0 <= slice_time_ref <= 1:
            raise ValueError(f"slice_time_ref is {slice_time_ref}; give a fraction of a TR, 0 to 1")
        tr = self.tr(tr)
        return np.concatenate(
            [
                start + (np.arange(run.n_volumes) + slice_time_ref) * tr
                for start, run in zip(starts, self.runs, strict=True)
            ]
        )

    def starts(self, first_volume: float | Sequence[float]) -> np.ndarray:
        """Seconds [runs] of every run's first volume, from one number or one a run, see `times`."""
        starts = np.atleast_1d(np.asarray(first_volume, np.float64))
        if len(starts) == 1:
            starts = np.repeat(starts, len(self.runs))
        if starts.shape != (len(self.runs),) or not np.isfinite(starts).all():
            raise ValueError(
                f"{self.name}: first_volume is {first_volume} for {len(self.runs)} runs; give "
                "seconds, one number for all runs or one for each"
            )
        return starts

    def tr(self, tr: float | None = None) -> float:
        """The TR in seconds: `tr`, or what all images say. Raises ValueError, see `times`."""
        if tr is not None:
            if not (np.isfinite(tr) and 0 < tr <= LONGEST_TR):
                raise ValueError(f"{self.name}: tr is {tr} s; give the TR in seconds")
            return float(tr)
        for run in self.runs:
            if run.tr is None:
                raise ValueError(
                    f"{run.paths[0]} does not tell its TR in seconds (a step of 1 without a unit is "
                    "what programs write that know none); give tr= (seconds)"
                )
        known = [run.tr for run in self.runs]
        for run in self.runs:
            if abs(run.tr - known[0]) > 1e-4 * known[0]:
                raise ValueError(
                    f"{run.paths[0]} has a TR of {run.tr:g} s and {self.runs[0].paths[0]} one of "
                    f"{known[0]:g} s; read runs of one TR at a time, or give tr= if a header is wrong"
                )
        return float(known[0])


def plausible_tr(step: float, unit: str) -> float | None:
    """A header's time step in seconds, or None where it cannot be a TR: 0, over 30 s, other units.

    A step of 1 without a unit is none: programs that know no TR, such as nibabel, write it.
    """
    if unit not in _SECONDS or not np.isfinite(step) or (unit == "unknown" and step == 1):
        return None
    seconds = float(step) * _SECONDS[unit]
    # Headers store float32: 0.8 comes as 0.800000011920929.
    seconds = round(seconds, 6)
    return seconds if 0 < seconds <= LONGEST_TR else None


@contextlib.contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a parser says of a damaged file into a ValueError that names it."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(f"{path} does not fit into memory, or its header is damaged") from error
    except Exception as error:  # nibabel documents no list of what its parsers raise
        raise ValueError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {error}): it is truncated, "
            "damaged or of another format; get it again"
        ) from error


def load_image(path: str | Path, what: str) -> Any:
    """The nibabel image at `path`, its values not read yet (but those of GIFTI are).

    Raises FileNotFoundError, or ValueError naming the file where nibabel cannot read it.
    """
    import nibabel as nib

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the path of {what}")
    with readable(path, what):
        return nib.load(path)
