"""The spaces of volumes: single voxels, and the regions of a label image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from brainalign_jax.neural.space.base import (
    VoxelSpace,
    checked_affine,
    checked_shape,
    freeze,
    inside,
    once,
    to_world,
    whole,
)

if TYPE_CHECKING:
    import nibabel as nib


@dataclass(frozen=True, eq=False)
class VolumeSpace(VoxelSpace):
    """indices [V, 3], shape [3], affine [4, 4] or None; see `VoxelSpace.volume`."""

    kind: ClassVar[str] = "volume"
    indices: np.ndarray
    shape: np.ndarray
    affine: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = checked_shape(self.shape)
        indices = whole("indices", self.indices, ndim=2, width=3)
        if not indices.size:
            raise ValueError("no voxels are given; a space needs at least one column")
        inside("indices", indices, shape, f"a volume of shape {tuple(shape.tolist())}")
        flat = np.ravel_multi_index(tuple(indices.T), shape)
        once("voxel", flat, lambda row: tuple(indices[row].tolist()))
        freeze(self, indices=indices, shape=shape, affine=checked_affine(self.affine))

    @property
    def n_columns(self) -> int:
        return len(self.indices)

    @property
    def coordinates(self) -> np.ndarray:
        return to_world(self.indices, self.affine)

    def _take(self, index: np.ndarray) -> VoxelSpace:
        return replace(self, indices=self.indices[index])

    def _image(self, values: np.ndarray, fill: np.float32) -> nib.Nifti1Image:
        data = np.full((*self.shape, *values.shape[:-1]), fill, np.float32)
        data[tuple(self.indices.T)] = values.T
        return nifti(data, self.affine)


@dataclass(frozen=True, eq=False)
class AtlasSpace(VoxelSpace):
    """labels [x, y, z] int, regions [V], affine [4, 4] or None; see `VoxelSpace.atlas`."""

    kind: ClassVar[str] = "atlas"
    labels: np.ndarray
    regions: np.ndarray
    affine: np.ndarray | None = None

    def __post_init__(self) -> None:
        labels = whole("labels", self.labels, ndim=3)
        regions = whole("regions", self.regions, ndim=1, lowest=1)
        once("region", regions, lambda row: int(regions[row]))
        missing = np.setdiff1d(regions, labels)
        if missing.size or not regions.size:
            raise ValueError(
                f"regions {missing[:5].tolist()} are not in the label image; leave them out"
            )
        freeze(self, labels=labels.astype(np.int32), regions=regions)
        freeze(self, affine=checked_affine(self.affine))

    @property
    def n_columns(self) -> int:
        return len(self.regions)

    @property
    def coordinates(self) -> np.ndarray:
        voxels = np.argwhere(self.labels > 0)
        column = self._columns()[tuple(voxels.T)]
        voxels, column = voxels[column >= 0], column[column >= 0]
        counts = np.bincount(column, minlength=self.n_columns)
        sums = [np.bincount(column, weights=axis, minlength=self.n_columns) for axis in voxels.T]
        return to_world(np.stack(sums, axis=1) / counts[:, None], self.affine)

    def _columns(self) -> np.ndarray:
        """[x, y, z] the column of every voxel, -1 outside the regions."""
        order = np.argsort(self.regions)
        at = np.searchsorted(self.regions, self.labels, sorter=order).clip(max=self.n_columns - 1)
        return np.where(self.regions[order[at]] == self.labels, order[at], -1)

    def _take(self, index: np.ndarray) -> VoxelSpace:
        return replace(self, regions=self.regions[index])

    def _image(self, values: np.ndarray, fill: np.float32) -> nib.Nifti1Image:
        column = self._columns()
        # Column -1 takes the value that is appended last.
        padded = np.concatenate([values.T, np.full((1, *values.shape[:-1]), fill, np.float32)])
        return nifti(padded[column], self.affine)


def nifti(data: np.ndarray, affine: np.ndarray | None) -> nib.Nifti1Image:
    """A NIfTI image of maps [x, y, z(, K)]; without an affine, mm are voxel indices."""
    import nibabel as nib

    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    return image
