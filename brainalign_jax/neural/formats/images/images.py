"""Scans in image files as sources of columns, one or more runs in a row.

`volumes.open_volumes` (NIfTI), `grayordinates.open_surfaces` (GIFTI) and `.open_cifti` make them.
Headers are looked at when a source is opened, values are read in one pass over every file when they
are first asked for. Nothing that nibabel or zlib say about a damaged file comes out as it is: every
error is a ValueError that names the file and what to do.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.neural.formats.arrays import DEFLATE, check_memory, float32_holds
from brainalign_jax.neural.formats.images.xml_headers import cifti_problem, gifti_problem
from brainalign_jax.neural.space import VoxelSpace

LONGEST_TR = 30.0  # seconds; a header that says more means another unit
_LARGEST_HEADER = 2**26  # bytes of a packed image before its values; CIFTI-2 has some MB
_CIFTI = 32  # code of the extension that holds CIFTI-2's XML
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class Run(NamedTuple):
    """One run of scans: its files, its length, what the header says of the TR, and how to read it.

    tr: seconds, or None where the header does not tell. fill(rows): writes the run's values into
    `rows` [n_volumes, V], whose type is `dtype` or holds it.
    """

    paths: tuple[Path, ...]
    n_volumes: int
    tr: float | None
    fill: Callable[[np.ndarray], None]
    dtype: np.dtype = np.dtype(np.float32)


class ImageSource:
    """A recording [time, V] made of the runs' images, one after the other.

    shape, dtype: of the recording; float32 where that holds what all files store, else float64, so that
    nothing is rounded before cleaning takes the offsets off. runs: see `Run`. space: what the columns
    are in the images. feature_names: names of atlas regions, else None. name: the files, for messages.
    The values are read at the first use of `blocks` or `values`, and are kept with the source: they
    need 4 or 8 bytes a value, and a volume or hemisphere besides.
    """

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
        self.dtype = np.result_type(*(run.dtype for run in self.runs))
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
        """[time, V] of `dtype`, read now or earlier. Raises ValueError naming a damaged file."""
        if self._values is None:
            size = self.dtype.itemsize * self.shape[0] * self.shape[1]
            try:
                check_memory(size, self.name, "it")
                values = np.empty(self.shape, self.dtype)
            except (MemoryError, ValueError) as error:
                raise ValueError(
                    f"{self.name}: {self.shape[0]} volumes of {self.shape[1]} voxels need "
                    f"{size / 2**30:.1f} GiB of memory, which are not to be had; give a smaller mask"
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


def recording_dtype(stored: np.dtype, slope: float = 1.0, intercept: float = 0.0) -> np.dtype:
    """float32 where it holds stored values x slope + intercept (to 1/64 of a step), else float64."""
    single = float32_holds(stored)
    if single and (slope, intercept) != (1.0, 0.0):
        if stored.kind == "f":
            single = intercept == 0
        else:
            largest = 2.0 ** (8 * stored.itemsize) * abs(slope) + abs(intercept)
            single = largest * 2.0**-24 <= abs(slope) / 64
    return np.dtype(np.float32 if single else np.float64)


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

    Raises FileNotFoundError, or ValueError naming the file where nibabel cannot read it, and before
    it does for what may name other files (HDF5, arrays of GIFTI) or take memory that there is not.
    """
    import nibabel as nib

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the path of {what}")
    with readable(path, what):
        problem = _header_problem(path)
    if problem:
        raise ValueError(f"{path} {problem}")
    with readable(path, what):
        return nib.load(path)


def _header_problem(path: Path) -> str:
    """Why nibabel must not see a file; "" if it may."""
    from nibabel.openers import ImageOpener

    name = path.name.lower()
    if name.endswith(".gii") or ".gii." in name:
        return gifti_problem(path)
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == b"\x89HDF\r\n\x1a\n":
        return "is a MINC or other HDF5 file, which may name other files; save it as .nii.gz"
    with ImageOpener(str(path)) as file:
        head = file.read(544)
        for size, form, place, where in ((348, "f", 108, 344), (540, "q", 168, 4)):
            order = next((o for o in "<>" if head[:4] == struct.pack(o + "i", size)), None)
            kind = head[where : where + 2]
            if order is None or len(head) < 544 or kind not in (b"n+", b"ni"):
                continue
            packed = magic[:4] != head[:4]
            if kind == b"ni":
                what = "is a packed header with its values in another file; save it as .nii.gz"
                return what if packed else ""
            offset = struct.unpack_from(order + form, head, place)[0]
            most = _LARGEST_HEADER if packed else path.stat().st_size
            if not size <= offset <= most:  # what is not packed is told from its length later
                what = f"has its values at byte {offset:g}: its header is damaged; get it again"
                return what if packed else ""
            head += file.read(max(0, int(offset) - len(head)))
            return _extension_problem(head, int(offset), order, size, path.stat().st_size, packed)
    return ""


def _extension_problem(
    head: bytes, offset: int, order: str, size: int, file_size: int, packed: bool
) -> str:
    """What is wrong with the extensions between a NIfTI header of `size` bytes and the values."""
    start = size + 4
    while head[size] and start + 8 <= min(offset, len(head)):
        length, code = struct.unpack_from(order + "2i", head, start)
        if length < 8 or start + length > offset:
            what = (
                f"has an extension of {length} bytes in its header, which is damaged; get it again"
            )
            return what if packed else ""
        if code == _CIFTI:
            most = file_size * (DEFLATE if packed else 1)
            if problem := cifti_problem(head[start + 8 : start + length], most):
                return problem
        start += length
    return ""
