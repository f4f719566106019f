"""Scans in image files, simulated: NIfTI, GIFTI and CIFTI-2, and a table of the words."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.simulate.bold import PlantedBold, Schedule, plant, schedule_runs
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.space.surfaces import CiftiSpace
from brainalign_jax.neural.space.volumes import VolumeSpace

KINDS = ("volume", "surface", "cifti")
# Radiological (x runs from right to left), off centre, as scanners have it.
AFFINE = np.array([[-3.0, 0, 0, 78], [0, 3, 0, -112], [0, 0, 3, -70], [0, 0, 0, 1]])
_BASELINE = 100.0
_MEDIAL_WALL = 7  # vertices a hemisphere that hold zeros


class ImageSimulation(NamedTuple):
    """What simulated images hold.

    paths: a tuple of image files for each subject, run by run (left before right); schedule: the
    timing on one clock with gaps (the files' clocks restart in every run); weights [S, D, V];
    planted: what the voxels recorded, which the files hold to the rounding of `scaling` (slope and
    intercept of the integers, or None); space: of the V columns.
    """

    paths: tuple[tuple[Path, ...], ...]
    schedule: Schedule
    weights: np.ndarray
    planted: PlantedBold
    scaling: tuple[float, float] | None
    space: VoxelSpace

    def stored(self, subject: int) -> np.ndarray:
        """[time, V] float32, exactly what a reader finds in the files of a subject, from 0."""
        recorded = np.empty(self.planted.shape, np.float32)
        start = 0
        for block in self.planted.blocks(subject):
            part = slice(start, start + block.shape[1])
            if self.scaling is None:
                recorded[:, part] = block
            else:
                slope, intercept = self.scaling
                recorded[:, part] = _integers(block, self.scaling) * slope + intercept
            start = part.stop
        return recorded


def simulate_nifti(
    data_dir: str | os.PathLike,
    *,
    words: Sequence[str],
    vectors: np.ndarray,
    kind: str = "volume",
    n_subjects: int = 1,
    n_voxels: int = 60,
    shape: tuple[int, int, int] | None = None,
    n_runs: int = 4,
    tr: float = 2.0,
    word_duration: float = 0.5,
    gap: float = 28.5,
    rest: tuple[float, float] = (20.0, 10.0),
    dtype: str = "int16",
    compressed: bool = True,
    unit: str = "sec",
    **settings: Any,
) -> ImageSimulation:
    """Write `sub-1/run-1_bold.nii.gz` ..., `mask.nii.gz` and `words.tsv`, with a planted answer.

    kind: "volume"; "surface" writes `run-1_hemi-L_bold.func.gii` and `hemi-R`, "cifti"
    `run-1_bold.dtseries.nii`. words [N], vectors [N, D], n_subjects, n_runs, tr, word_duration, gap
    and rest: see `simulate_harry_potter`; settings: the further fields of `PlantedBold` (snr, seed,
    clock, ...). n_voxels: those of the mask, a ball in a volume of `shape` (None: twice as large).
    dtype: "int16" with a slope and an intercept, or "float32", for volumes; unit: of their TR, "sec",
    "msec" or "usec"; compressed: `.nii.gz` or `.nii`. words.tsv has a clock that restarts in every
    run. Raises ValueError for shapes that disagree, an empty word, or settings out of range.
    """
    check_known("kind=", kind, KINDS)
    schedule = schedule_runs(
        len(words), n_runs=n_runs, tr=tr, word_duration=word_duration, gap=gap, rest=rest
    )
    words, simulation = plant_images(
        words, vectors, schedule, n_subjects, n_voxels, shape, kind, dtype, settings
    )
    folder = user_path(data_dir, "data_dir")
    folder.mkdir(parents=True, exist_ok=True)
    onsets = schedule.onsets - run_starts(schedule)[schedule.word_run - 1]
    write_table(
        folder / "words.tsv",
        {
            "onset": onsets,
            "duration": [word_duration] * len(words),
            "run": schedule.word_run,
            "word": words,
        },
    )
    ending = ".nii.gz" if compressed else ".nii"
    if kind == "volume":
        write_mask(folder / f"mask{ending}", simulation.space)
    paths = []
    for index in range(n_subjects):
        subject_folder = folder / f"sub-{index + 1}"
        subject_folder.mkdir(exist_ok=True)
        name = str(subject_folder / "run-{run}_{hemi}bold") + file_ending(kind, ending)
        paths.append(write_runs(simulation, index, name, tr=tr, dtype=dtype, unit=unit))
    return simulation._replace(paths=tuple(paths))


def write_volumes(
    path: str | os.PathLike,
    volumes: Iterable[np.ndarray],
    space: VolumeSpace,
    n_volumes: int,
    *,
    tr: float,
    dtype: str = "int16",
    scaling: tuple[float, float] | None = None,
    unit: str = "sec",
    outside: float = 0.0,
) -> None:
    """Write a 4-D NIfTI file volume by volume, so that it may be larger than the memory.

    volumes: n_volumes arrays [V] of a volume's columns, in the order of `space`, already integers
    where `scaling` (slope, intercept) says how they are to be scaled. outside: the value elsewhere.
    """
    import nibabel as nib

    header = nib.Nifti1Header()
    shape = tuple(space.shape.tolist())
    header.set_data_shape((*shape, n_volumes))
    header.set_data_dtype(dtype)
    header.set_sform(space.affine, code=1)
    header.set_qform(space.affine, code=1)
    header.set_xyzt_units("mm", unit)
    header["pixdim"][4] = tr * {"sec": 1, "msec": 1e3, "usec": 1e6}[unit]
    header["magic"], header["vox_offset"] = b"n+1", 352
    if scaling is not None:
        header["scl_slope"], header["scl_inter"] = scaling
    places = np.ravel_multi_index(tuple(space.indices.T), shape, order="F")
    if scaling is not None:
        outside = round((outside - scaling[1]) / scaling[0])
    volume = np.full(int(np.prod(shape)), outside, dtype)
    path = Path(path)
    packed = path.name.endswith(".gz")
    # No time of day in the file: equal seeds shall give equal bytes.
    with gzip.GzipFile(path, "wb", 1, mtime=0) if packed else path.open("wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for columns in volumes:
            volume[places] = columns
            file.write(volume.data)


def write_mask(path: str | os.PathLike, space: VolumeSpace) -> None:
    """Write the voxels of a volume's space as a 3-D mask (uint8)."""
    import nibabel as nib

    inside = np.zeros(space.shape, np.uint8)
    inside[tuple(space.indices.T)] = 1
    nib.Nifti1Image(inside, space.affine).to_filename(path)


def plant_images(words, vectors, schedule, n_subjects, n_voxels, shape, kind, dtype, settings):
    """The words, and a simulation without files."""
    check_known("dtype=", dtype, ("int16", "float32"))
    words, planted = plant(
        words,
        vectors,
        schedule,
        n_subjects=n_subjects,
        n_voxels=n_voxels,
        baseline=_BASELINE,
        **{"dtype": "float32", **settings},
    )
    scaling = None
    if dtype == "int16" and kind == "volume":
        # A power of two: integer times slope plus intercept is exact in float32.
        widest = max(256.0, schedule.volume_times[-1]) if planted.clock else 256.0
        scaling = (2.0 ** np.ceil(np.log2(widest / 32000)), _BASELINE)
    weights = np.stack([planted.weights(index) for index in range(n_subjects)])
    space = _space(kind, n_voxels, shape)
    return words, ImageSimulation((), schedule, weights, planted, scaling, space)


def _space(kind: str, n_voxels: int, shape: tuple[int, int, int] | None) -> VoxelSpace:
    """Where n_voxels columns are: a ball in a volume, vertices beside a medial wall, or both."""
    if kind == "surface":
        left = n_voxels // 2
        sizes = left + _MEDIAL_WALL, n_voxels - left + _MEDIAL_WALL
        # The wall is at the end on the left and at the start on the right.
        right = np.arange(_MEDIAL_WALL, sizes[1])
        return VoxelSpace.surface(np.arange(left), right, n_left=sizes[0], n_right=sizes[1])
    if kind == "cifti":
        from nibabel.cifti2 import BrainModelAxis

        part = n_voxels // 3
        vertices = 2 * np.arange(part)
        volume: Any = _space("volume", n_voxels - 2 * part, shape)
        inside = np.zeros(volume.shape, bool)
        inside[tuple(volume.indices.T)] = True
        axis = BrainModelAxis.from_mask(inside, "ThalamusLeft", volume.affine)
        if part:
            left = BrainModelAxis.from_surface(vertices, 2 * part + 3, "CortexLeft")
            right = BrainModelAxis.from_surface(vertices + 1, 2 * part + 3, "CortexRight")
            axis = left + right + axis
        return VoxelSpace.cifti(axis)
    if shape is None:
        side = int(np.ceil((2 * n_voxels) ** (1 / 3))) + 1
        shape = (side + 1, side, side - 1)
    if n_voxels > np.prod(shape):
        raise ValueError(f"{n_voxels} voxels do not fit into a volume of {tuple(shape)}")
    places = np.indices(shape).reshape(3, -1)
    centre = (np.array(shape)[:, None] - 1) / 2
    nearest = np.argsort(((places - centre) ** 2).sum(axis=0), kind="stable")[:n_voxels]
    return VoxelSpace.volume(places[:, np.sort(nearest)].T, shape, AFFINE)


def write_runs(
    simulation: ImageSimulation, index: int, name: str, *, tr: float, dtype: str, unit: str = "sec"
) -> tuple[Path, ...]:
    """Write the images of a subject; `name` is a path with {run} and {hemi} in it. Returns the paths."""

    def path_of(run: int, hemi: str) -> Path:
        return Path(name.replace("{run}", str(run)).replace("{hemi}", hemi))

    paths: list[Path] = []
    recorded = simulation.stored(index)
    for run in np.unique(simulation.schedule.volume_run).tolist():
        rows = recorded[simulation.schedule.volume_run == run]
        if simulation.space.kind == "volume":
            if simulation.scaling is not None:
                rows = _integers(rows, simulation.scaling)
            options = {"tr": tr, "dtype": dtype, "scaling": simulation.scaling, "unit": unit}
            paths.append(path_of(run, ""))
            write_volumes(paths[-1], rows, simulation.space, len(rows), **options)
        elif simulation.space.kind == "cifti":
            paths.append(path_of(run, ""))
            _write_cifti(paths[-1], rows, simulation.space, tr)
        else:
            for side, image in zip("LR", simulation.space.to_image(rows), strict=True):
                for array in image.darrays:
                    array.intent = 2001  # NIFTI_INTENT_TIME_SERIES
                paths.append(path_of(run, f"hemi-{side}_"))
                image.to_filename(paths[-1])
    return tuple(paths)


def _write_cifti(path: Path, rows: np.ndarray, space: CiftiSpace, tr: float) -> None:
    import nibabel as nib

    series = nib.cifti2.SeriesAxis(0.0, tr, len(rows))
    image = nib.Cifti2Image(rows, header=(series, space.axis()))
    image.nifti_header.set_intent("ConnDenseSeries")
    image.to_filename(path)


def _integers(values: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    slope, intercept = scaling
    return (
        np.round((values.astype(np.float64) - intercept) / slope)
        .clip(-32768, 32767)
        .astype(np.int16)
    )


def file_ending(kind: str, volume: str) -> str:
    """How the names of a kind's files end; `volume`: those of volumes."""
    return {"volume": volume, "surface": ".func.gii", "cifti": ".dtseries.nii"}[kind]


def run_starts(schedule: Schedule) -> np.ndarray:
    """Time of the first volume of each run, in seconds."""
    labels = np.unique(schedule.volume_run)
    return np.array([schedule.volume_times[schedule.volume_run == run][0] for run in labels])


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """A table with tabs, as BIDS has it: nothing quoted, n/a for what is missing."""

    def text(value) -> str:
        if isinstance(value, float | np.floating):
            return "n/a" if np.isnan(value) else repr(float(value))
        return str(value)

    lines = ["\t".join(columns)]
    lines += ["\t".join(map(text, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
