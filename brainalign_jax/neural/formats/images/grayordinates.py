"""Time series on surfaces: GIFTI, one file a hemisphere and run, and CIFTI-2, one file a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.neural.formats.images.images import (
    ImageSource,
    Run,
    load_image,
    plausible_tr,
    readable,
    recording_dtype,
)
from brainalign_jax.neural.space import VoxelSpace

HEMISPHERES = "left", "right"
_CHUNK = 2**26  # bytes of a CIFTI-2 file read at once


def open_surfaces(left: Sequence[str | Path] = (), right: Sequence[str | Path] = ()) -> ImageSource:
    """Vertices of both hemispheres, the left ones first, in GIFTI files (`.func.gii`).

    left, right: the runs' files in order; one hemisphere may be missing in all runs. A file holds
    one data array [vertices] a volume, or a single one [vertices, time]. Vertices that are zero or
    NaN in all volumes of all runs hold no data (the medial wall) and are no columns.
    GIFTI does not tell the TR in a unit that all programs agree on: give it to `times`.
    The files are read now, and kept. Raises FileNotFoundError, or ValueError naming the file, as of one
    that says of itself that it is of the other hemisphere.
    """
    sides = [[Path(path) for path in side] for side in (left, right)]
    given_sides = [side for side in sides if side]
    if not given_sides or len({len(side) for side in given_sides}) > 1:
        raise ValueError(
            f"{len(sides[0])} files of the left and {len(sides[1])} of the right hemisphere are given; "
            "give one of each a run, or one hemisphere only"
        )
    series = [
        [_read_gifti(path, side) for path in paths]
        for paths, side in zip(sides, HEMISPHERES, strict=True)
    ]
    lengths = [len(run) for run in series[0] or series[1]]
    indices, sizes = [], []
    for paths, runs in zip(sides, series, strict=True):
        for path, run, length, partner in zip(paths, runs, lengths, given_sides[0], strict=False):
            if len(run) != length:
                raise ValueError(
                    f"{path} has {len(run)} volumes and {partner} {length}; the hemispheres of a run "
                    "must have the same"
                )
            if run.shape[1] != runs[0].shape[1]:
                raise ValueError(
                    f"{path} has {run.shape[1]} vertices and {paths[0]} {runs[0].shape[1]}; all runs "
                    "must be on the same mesh"
                )
        sizes.append(runs[0].shape[1] if runs else 0)
        recorded = np.zeros(sizes[-1], bool)
        for run in runs:
            recorded |= ((run != 0) & ~np.isnan(run)).any(axis=0)
        indices.append(np.flatnonzero(recorded))
    if not sum(map(len, indices)):
        raise ValueError(f"{given_sides[0][0]} is zero or NaN in all vertices; get it again")
    space = VoxelSpace.surface(*indices, n_left=sizes[0], n_right=sizes[1])
    held = [
        [(runs[number], vertices) for runs, vertices in zip(series, indices, strict=True) if runs]
        for number in range(len(lengths))
    ]
    series.clear()  # what is taken from `held` shall be gone
    runs = [
        Run(paths, length, None, partial(_take, parts), np.result_type(*(raw for raw, _ in parts)))
        for paths, length, parts in zip(zip(*given_sides, strict=True), lengths, held, strict=True)
    ]
    return ImageSource(runs, space)


def open_cifti(paths: Sequence[str | Path]) -> ImageSource:
    """The grayordinates of CIFTI-2 dense time series (`.dtseries.nii`), one file a run.

    All runs must have the same grayordinates. Raises FileNotFoundError, or ValueError naming the
    file.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise ValueError("no images are given; give one .dtseries.nii file a run")
    runs, spaces = [], []
    for path in paths:
        run, space = _cifti_run(path)
        if spaces and not space.same_as(spaces[0]):
            raise ValueError(
                f"{path} and {paths[0]} have other grayordinates; give runs of one subject and space"
            )
        runs.append(run)
        spaces.append(space)
    return ImageSource(runs, spaces[0])


def check_hemisphere(image, side: str, path: Path) -> None:
    """Raise ValueError where a GIFTI image says itself that it is of the other hemisphere than `side`."""
    other = HEMISPHERES[1 - HEMISPHERES.index(side)]
    for meta in (image.meta, *(array.meta for array in image.darrays)):
        named = str((meta or {}).get("AnatomicalStructurePrimary", "")).lower()
        if named.endswith(other):
            raise ValueError(
                f"{path} is of the {other} hemisphere, as it says itself, and stands for the {side} one: "
                "give the left one as left and the right one as right"
            )


def _read_gifti(path: Path, side: str) -> np.ndarray:
    """[time, vertices], float32 where that holds what the file stores, else float64."""
    import nibabel as nib

    image = load_image(path, "a GIFTI time series")
    if not isinstance(image, nib.GiftiImage):
        raise ValueError(f"{path} is not a GIFTI file; give a time series (.func.gii)")
    check_hemisphere(image, side, path)
    arrays = image.darrays
    with readable(path, "a GIFTI time series"):
        meshes = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")
        codes = [nib.nifti1.intent_codes.niistring[array.intent] for array in arrays]
        shapes = {None if array.data is None else array.data.shape for array in arrays}
        numeric = all(array.data is not None and array.data.dtype.kind in "iuf" for array in arrays)
        stored = [recording_dtype(array.data.dtype) for array in arrays if numeric]
        dtype = np.result_type(np.float32, *stored)
    if set(codes) & set(meshes):
        raise ValueError(f"{path} holds a mesh; give a time series (.func.gii)")
    if numeric and len(arrays) == 1 and arrays[0].data.ndim == 2 and arrays[0].data.shape[1] > 1:
        return np.ascontiguousarray(arrays[0].data.T, dtype)
    if not numeric or len(arrays) < 2 or len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{path} holds {len(arrays)} data arrays of shapes {sorted(map(str, shapes))[:3]}; a time "
            "series has one array of numbers [vertices] a volume, all of one length"
        )
    values = np.empty((len(arrays), len(arrays[0].data)), dtype)
    for row, array in zip(values, arrays, strict=True):
        row[:] = array.data
        array.data = None  # no second copy of the whole file
    return values


def _take(parts: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> None:
    """Move a run's hemispheres into `rows`; they are gone from `parts` then, to save memory."""
    start = 0
    while parts:
        values, vertices = parts.pop(0)
        # Without a copy where the types agree, as they do but for runs of several.
        part = rows[:, start : start + len(vertices)]
        if values.dtype == rows.dtype:
            np.take(values, vertices, axis=1, out=part)
        else:
            part[:] = values[:, vertices]
        start += len(vertices)


def _cifti_run(path: Path) -> tuple[Run, VoxelSpace]:
    import nibabel as nib
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis

    image: Any = load_image(path, "a CIFTI-2 time series")
    if not isinstance(image, nib.Cifti2Image):
        raise ValueError(f"{path} is not a CIFTI-2 file; give a dense time series (.dtseries.nii)")
    with readable(path, "a CIFTI-2 time series"):
        shape = tuple(image.shape)
        axes = [image.header.get_axis(index) for index in range(len(shape))]
        proxy: Any = image.dataobj
        kind = proxy.dtype.kind
        needed = proxy.offset + math.prod(shape) * proxy.dtype.itemsize
    if [type(axis) for axis in axes] != [SeriesAxis, BrainModelAxis] or kind not in "iuf":
        names = ", ".join(type(axis).__name__.removesuffix("Axis") for axis in axes)
        raise ValueError(
            f"{path} has the axes {names}; give a dense time series (Series, BrainModel: "
            ".dtseries.nii)"
        )
    if shape != (len(axes[0]), len(axes[1])) or shape[0] < 2:
        raise ValueError(
            f"{path} has shape {shape} for {len(axes[0])} volumes and {len(axes[1])} grayordinates; "
            "give a time series of two volumes or more"
        )
    if path.stat().st_size < needed:
        raise ValueError(
            f"{path} is truncated: {path.stat().st_size} bytes where its header needs {needed}; get "
            "it again"
        )
    with readable(path, "a CIFTI-2 time series"):
        unit = {"SECOND": "sec"}.get(str(axes[0].unit).upper(), "none")
        tr = plausible_tr(float(axes[0].step), unit)
    try:
        space = VoxelSpace.cifti(axes[1])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}; its header is damaged, get it again") from error
    with readable(path, "a CIFTI-2 time series"):
        dtype = recording_dtype(proxy.dtype, float(proxy.slope), float(proxy.inter))
    return Run((path,), shape[0], tr, partial(_fill_cifti, path, proxy), dtype), space


def _fill_cifti(path: Path, proxy: Any, rows: np.ndarray) -> None:
    # The file holds grayordinate after grayordinate, each with all its volumes.
    size = max(1, _CHUNK // (8 * len(rows)))
    with readable(path, "a CIFTI-2 time series"), np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows.shape[1], size):
            part = slice(start, start + size)
            rows[:, part] = np.asarray(proxy[:, part])
