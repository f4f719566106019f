"""NIfTI time series [x, y, z, time], read volume by volume into the voxels of a mask or atlas."""

from __future__ import annotations

import gzip
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from brainalign_jax.neural.formats.arrays import DEFLATE, check_memory
from brainalign_jax.neural.formats.images.images import (
    ImageSource,
    Run,
    load_image,
    plausible_tr,
    readable,
    recording_dtype,
)
from brainalign_jax.neural.formats.text.sidecars import read_labels
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.space.base import checked_affine

if TYPE_CHECKING:
    import nibabel as nib

AUTOMATIC_MASKS = ("epi", "background", "all")
_SUFFIXES = (".nii", ".nii.gz")
_LARGEST = 2**27  # voxels of a volume: 512 x 512 x 512; a header that says more is damaged


class Series(NamedTuple):
    """What the header of a 4-D image says. tr: seconds or None; the rest is where the values are."""

    path: Path
    shape: tuple[int, int, int]
    n_volumes: int
    affine: np.ndarray
    tr: float | None
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int

    @property
    def result(self) -> np.dtype:
        """The type that holds the scaled values."""
        return recording_dtype(self.dtype, self.slope, self.intercept)

    @property
    def volume_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def open_volumes(
    paths: Sequence[str | Path],
    *,
    mask: str | Path | Sequence[str | Path] | None = None,
    atlas: str | Path | None = None,
    labels: str | Path | None = None,
    resample: bool = False,
) -> ImageSource:
    """The voxels of a mask, or the regions of an atlas, in 4-D NIfTI images, one image a run.

    paths: `.nii` or `.nii.gz`, all of one shape and affine. mask: a 3-D image, voxels that are not
    zero count; of several (one a run) those in all. Or "epi" or "background", computed by nilearn
    from the mean of the first run, or "all"; None is "epi", and "all" with an atlas. Columns follow
    the voxels in C order, as nilearn's NiftiMasker has them.
    atlas: a 3-D image of whole numbers, 0 outside; a column is the mean over the voxels of a region
    within the mask, in the order of the numbers, as nilearn's NiftiLabelsMasker has them. labels:
    names of the regions, see `read_labels`. resample: a mask or atlas of another grid is an error, or
    with True is resampled (nearest neighbour, nilearn).
    Values are scaled by the header's slope and intercept. NaN outside of the mask is no concern.
    Raises FileNotFoundError, or ValueError naming the file.
    """
    series = [read_header(path) for path in paths]
    if not series:
        raise ValueError("no images are given; give one 4-D NIfTI file a run")
    first = series[0]
    for run in series[1:]:
        _same_grid(run.path, run.shape, run.affine, first, "runs must be aligned (preprocessed)")
    # A volume as stored and as float64, its mask, and three indices of a voxel.
    size = first.volume_bytes + 48 * math.prod(first.shape)
    check_memory(size, first.path, f"a volume of shape {first.shape}")
    if labels is not None and atlas is None:
        raise ValueError(f"{labels} names regions, but no atlas is given; give atlas= too")
    inside = _mask(series, mask or ("all" if atlas is not None else "epi"), resample)
    if atlas is None:
        indices = np.argwhere(inside)
        space = VoxelSpace.volume(indices, first.shape, first.affine)
        places = np.ravel_multi_index(tuple(indices.T), first.shape, order="F")
        fills = [partial(_fill_voxels, scan, places) for scan in series]
        names = None
    else:
        space, names, places, codes = _regions(Path(atlas), first, inside, labels, resample)
        fills = [partial(_fill_regions, scan, places, codes) for scan in series]
    runs = [
        # The mean of a region has digits that its voxels have not.
        Run((scan.path,), scan.n_volumes, scan.tr, fill, np.dtype(float) if atlas else scan.result)
        for scan, fill in zip(series, fills, strict=True)
    ]
    return ImageSource(runs, space, names)


def read_header(path: str | Path) -> Series:
    """Shape, affine, TR and scaling of a 4-D NIfTI image; its values are not read.

    Raises FileNotFoundError, or ValueError naming the file for other formats, 3-D images, values
    that are no real numbers, and files that are shorter than their header says.
    """
    path = Path(path)
    if not path.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"{path} is not a NIfTI file; give a 4-D image ending in .nii or .nii.gz")
    image = load_image(path, "a NIfTI image")
    with readable(path, "a NIfTI image"):
        shape, affine, proxy = tuple(image.shape), image.affine, image.dataobj
        dtype, offset = np.dtype(proxy.dtype), int(proxy.offset)
        slope, intercept = float(proxy.slope), float(proxy.inter)
        from nibabel.openers import ImageOpener

        with ImageOpener(str(path)) as file:
            stored = type(image.header).from_fileobj(file, check=False)
        if np.isinf(stored["scl_slope"]):  # which nibabel takes for "no scaling", as it does NaN
            slope = np.inf
        step = float(image.header["pixdim"][4])
        unit = image.header.get_xyzt_units()[1]
    if len(shape) != 4 or min(shape) < 1 or shape[3] < 2:
        raise ValueError(
            f"{path} has shape {shape}; give a time series [x, y, z, time] with two volumes or more "
            "(single volumes can be joined with nilearn.image.concat_imgs)"
        )
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds values of type {dtype}; give real numbers")
    if not np.isfinite([slope, intercept]).all():
        raise ValueError(f"{path} scales by {slope} and {intercept}: its header is damaged")
    try:
        checked_affine(affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; its header is damaged") from None
    needed = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    packed = path.name.lower().endswith(".gz")
    held = path.stat().st_size * (DEFLATE if packed else 1)
    if offset < 0 or held < needed or np.prod(shape[:3], dtype=object) > _LARGEST:
        raise ValueError(
            f"{path} is truncated or its header damaged: {path.stat().st_size} bytes cannot hold "
            f"{shape} values of type {dtype}; get it again"
        )
    tr = plausible_tr(step, unit)
    return Series(path, shape[:3], shape[3], affine, tr, dtype, slope, intercept, offset)


def read_volumes(series: Series) -> Iterator[np.ndarray]:
    """The volumes of an image as stored, unscaled and flat in Fortran order, one after the other.

    The array is used again for the next volume. Raises ValueError naming the file where it ends too
    early or its checksum is wrong.
    """
    packed = series.path.name.lower().endswith(".gz")
    buffer = bytearray(series.volume_bytes)
    volume = np.frombuffer(buffer, series.dtype)
    with gzip.open(series.path) if packed else series.path.open("rb") as file:
        with readable(series.path, "a NIfTI image"):
            file.seek(series.offset)
        for index in range(series.n_volumes):
            with readable(
                series.path, f"a NIfTI image beyond volume {index} of {series.n_volumes}"
            ):
                _read_full(file, buffer)
            yield volume
        with readable(series.path, "a NIfTI image"):
            # gzip compares the checksum only when it meets the end.
            while packed and file.read(2**20):
                pass


def _fill_voxels(series: Series, places: np.ndarray, rows: np.ndarray) -> None:
    scaled = (series.slope, series.intercept) != (1.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as a bad voxel
        for index, volume in enumerate(read_volumes(series)):
            values = volume[places]
            if scaled:
                values = values.astype(np.float64) * series.slope + series.intercept
            rows[index] = values


def _fill_regions(series: Series, places: np.ndarray, codes: np.ndarray, rows: np.ndarray) -> None:
    counts = np.bincount(codes)
    with np.errstate(over="ignore", invalid="ignore"):
        for index, volume in enumerate(read_volumes(series)):
            sums = np.bincount(codes, weights=volume[places].astype(np.float64))
            rows[index] = sums / counts * series.slope + series.intercept


def _read_full(file: Any, buffer: bytearray) -> None:
    view, filled = memoryview(buffer), 0
    while filled < len(view):
        count = file.readinto(view[filled:])
        if not count:
            raise EOFError("the file ends here")
        filled += count


def _mask(series: Sequence[Series], mask, resample: bool) -> np.ndarray:
    """[x, y, z] bool, the voxels to read."""
    first = series[0]
    if mask == "all":
        return np.ones(first.shape, bool)
    if mask in AUTOMATIC_MASKS:
        return _computed_mask(first, mask)
    paths = [mask] if isinstance(mask, str | Path) else list(mask)
    inside = np.ones(first.shape, bool)
    for path in dict.fromkeys(map(Path, paths)):
        values = _on_grid(path, first, resample, "mask")
        inside &= np.isfinite(values) & (values != 0)
        if not inside.any():
            what = "is empty" if len(paths) == 1 else "has no voxel in common with the other masks"
            raise ValueError(f"{path} {what}; give a mask with voxels that are not zero")
    return inside


def _computed_mask(first: Series, strategy: str) -> np.ndarray:
    import nibabel as nib
    from nilearn import masking

    total = np.zeros(int(np.prod(first.shape)))
    for volume in read_volumes(first):
        total += volume
    mean = total / first.n_volumes * first.slope + first.intercept
    mean = np.nan_to_num(mean, nan=0.0, posinf=0.0, neginf=0.0).reshape(first.shape, order="F")
    compute = {"epi": masking.compute_epi_mask, "background": masking.compute_background_mask}
    with (
        warnings.catch_warnings(),
        readable(first.path, f"an image with a brain in it ({strategy})"),
    ):
        warnings.simplefilter("ignore")  # an empty mask is an error below
        image = compute[strategy](nib.Nifti1Image(mean, first.affine))
    inside = np.asarray(image.dataobj) > 0
    if not inside.any() or mean.min() == mean.max():
        raise ValueError(
            f"{first.path}: no brain can be told from the background by mask={strategy}; give "
            "mask= an image, or mask=all"
        )
    return inside


def _regions(path: Path, first: Series, inside: np.ndarray, labels, resample: bool):
    values = _on_grid(path, first, resample, "atlas")
    values = np.where(np.isfinite(values), values, 0)
    numbers = np.round(values).astype(np.int64)
    if (numbers != values).any() or (numbers < 0).any():
        raise ValueError(
            f"{path} holds values that are no whole numbers from 0; give an atlas of region numbers "
            "(the regions of a probabilistic atlas can be told apart by their largest probability)"
        )
    known = np.unique(numbers[numbers > 0])
    numbers = np.where(inside, numbers, 0)
    regions = np.unique(numbers[numbers > 0])
    if not regions.size:
        raise ValueError(f"{path} has no region inside the mask; give another mask or atlas")
    if lost := np.setdiff1d(known, regions).tolist():
        warnings.warn(
            f"{path}: {len(lost)} regions have no voxel inside the mask and are left out, the first "
            f"is region {lost[0]}",
            UserWarning,
            stacklevel=3,
        )
    names = (
        tuple(f"region {region}" for region in regions)
        if labels is None
        else read_labels(labels, regions)
    )
    indices = np.argwhere(numbers > 0)
    codes = np.searchsorted(regions, numbers[tuple(indices.T)])
    places = np.ravel_multi_index(tuple(indices.T), first.shape, order="F")
    return VoxelSpace.atlas(numbers, regions, first.affine), names, places, codes


def _on_grid(path: Path, first: Series, resample: bool, what: str) -> np.ndarray:
    """The values [x, y, z] of a mask or atlas on the grid of the images."""
    image = load_image(path, f"the {what}")
    with readable(path, f"a {what}"):
        shape, dtype, affine = tuple(image.shape), image.get_data_dtype(), image.affine
        if len(shape) == 4 and shape[3] == 1:
            shape = shape[:3]
    if len(shape) != 3 or dtype.kind not in "biuf":
        raise ValueError(f"{path} has shape {shape} and type {dtype}; give a 3-D image of numbers")
    if not resample:
        hint = f"give resample=true (nearest neighbour), or give the {what} on the images' grid"
        _same_grid(path, shape, affine, first, hint)
    # As stored, scaled, and as whole numbers or resampled.
    check_memory(math.prod(shape) * (dtype.itemsize + 24), path, f"a {what} of shape {shape}")
    with readable(path, f"a {what}"):
        values = np.asarray(image.dataobj).reshape(shape)
    if not resample:
        return values
    import nibabel as nib
    from nilearn.image import resample_to_img

    target = nib.Nifti1Image(np.zeros(first.shape, np.int8), first.affine)
    exact = values.astype(np.float64)
    with readable(path, f"a {what} that can be resampled to {first.path}"):
        moved: nib.Nifti1Image = resample_to_img(
            nib.Nifti1Image(exact, affine),
            target,
            interpolation="nearest",
            force_resample=True,
            copy_header=True,
        )
        return np.asarray(moved.dataobj)


def _same_grid(path: Path, shape, affine: np.ndarray, first: Series, hint: str) -> None:
    if tuple(shape) != first.shape:
        raise ValueError(f"{path} has shape {tuple(shape)} and {first.path} {first.shape}; {hint}")
    corners = np.array(np.meshgrid(*([0, size - 1] for size in first.shape))).reshape(3, 8)
    corners = np.concatenate([corners, np.ones((1, 8))])
    with np.errstate(all="ignore"):  # a damaged affine is too far away in any case
        apart = np.linalg.norm(((np.asarray(affine) - first.affine) @ corners)[:3], axis=0).max()
    # Headers store affines in float32 and in quaternions, which agree to about 0.001 voxels.
    if not apart <= 0.01 * np.linalg.norm(first.affine[:3, :3], axis=0).min():
        raise ValueError(
            f"{path} and {first.path} have affines that are up to {apart:.3g} mm apart; {hint}"
        )
