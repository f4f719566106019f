"""The spaces of surface recordings: vertices of two meshes, and CIFTI-2 grayordinates."""

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

_HEMISPHERES = (("left", "CortexLeft"), ("right", "CortexRight"))


@dataclass(frozen=True, eq=False)
class SurfaceSpace(VoxelSpace):
    """vertices [V], hemisphere [V] (0 left, 1 right), n_vertices [2]; see `VoxelSpace.surface`."""

    kind: ClassVar[str] = "surface"
    vertices: np.ndarray
    hemisphere: np.ndarray
    n_vertices: np.ndarray

    def __post_init__(self) -> None:
        vertices = whole("vertices", self.vertices, ndim=1)
        hemisphere = whole("hemisphere", self.hemisphere, ndim=1)
        sizes = whole("n_vertices", self.n_vertices, ndim=1)
        if len(sizes) != 2 or len(hemisphere) != len(vertices) or (hemisphere > 1).any():
            raise ValueError(
                f"{len(vertices)} vertices, {len(hemisphere)} hemispheres, {len(sizes)} mesh sizes: "
                "give 0 (left) or 1 (right) for every vertex, and the sizes of the two meshes"
            )
        if not vertices.size:
            raise ValueError("no vertices are given; a space needs at least one column")
        for side, (name, _) in enumerate(_HEMISPHERES):
            of_side = vertices[hemisphere == side]
            inside(f"{name} vertices", of_side, sizes[side], f"a mesh of {sizes[side]} vertices")
            once(f"{name} vertex", of_side, of_side.item)
        freeze(self, vertices=vertices, hemisphere=hemisphere, n_vertices=sizes)

    @classmethod
    def from_sides(cls, left, right, n_left: int, n_right: int) -> SurfaceSpace:
        """See `VoxelSpace.surface`."""
        sides = [
            np.zeros(0, np.int64) if side is None else np.asarray(side) for side in (left, right)
        ]
        for name, side in zip(("left", "right"), sides, strict=True):
            if side.ndim != 1:
                raise ValueError(f"{name} has shape {side.shape}; give a vector of vertex indices")
        hemisphere = np.repeat([0, 1], [len(side) for side in sides])
        return cls(np.concatenate(sides), hemisphere, (n_left, n_right))

    @property
    def n_columns(self) -> int:
        return len(self.vertices)

    @property
    def coordinates(self) -> np.ndarray:
        return np.full((self.n_columns, 3), np.nan)

    def _take(self, index: np.ndarray) -> VoxelSpace:
        return replace(self, vertices=self.vertices[index], hemisphere=self.hemisphere[index])

    def _image(self, values: np.ndarray, fill: np.float32):
        import nibabel as nib

        images: list[nib.GiftiImage | None] = []
        for side, (_, structure) in enumerate(_HEMISPHERES):
            size, on_side = int(self.n_vertices[side]), self.hemisphere == side
            if not size:
                images.append(None)
                continue
            maps = np.full((*values.shape[:-1], size), fill, np.float32)
            maps[..., self.vertices[on_side]] = values[..., on_side]
            meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure})
            arrays = [
                nib.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_NONE", datatype="float32")
                for row in maps.reshape(-1, size)
            ]
            images.append(nib.GiftiImage(darrays=arrays, meta=meta))
        return tuple(images)


@dataclass(frozen=True, eq=False)
class CiftiSpace(VoxelSpace):
    """Columns of a CIFTI-2 file; see `VoxelSpace.cifti`.

    columns [V]: their grayordinates of G. The file's axis: names [M] of the structures, structure
    [G] (which of them), vertices [G] and voxels [G, 3] (-1 where it is the other), n_vertices [M] of
    the meshes (0 for volumes), shape [3] and affine [4, 4] of the volume (None without voxels).
    """

    kind: ClassVar[str] = "cifti"
    columns: np.ndarray
    names: np.ndarray
    structure: np.ndarray
    vertices: np.ndarray
    voxels: np.ndarray
    n_vertices: np.ndarray
    shape: np.ndarray | None = None
    affine: np.ndarray | None = None

    def __post_init__(self) -> None:
        names = np.asarray(self.names, dtype=np.str_)
        structure = whole("structure", self.structure, ndim=1)
        columns = whole("columns", self.columns, ndim=1)
        vertices = whole("vertices", self.vertices, ndim=1, lowest=-1)
        voxels = whole("voxels", self.voxels, ndim=2, width=3, lowest=-1)
        sizes = whole("n_vertices", self.n_vertices, ndim=1)
        n = len(structure)
        if names.ndim != 1 or not len(vertices) == len(voxels) == n or len(sizes) != len(names):
            raise ValueError(
                f"{n} structures, {len(vertices)} vertices and {len(voxels)} voxels; {names.size} "
                f"names and {len(sizes)} mesh sizes: give one each for every grayordinate and name"
            )
        if not columns.size:
            raise ValueError("no columns are given; a space needs at least one column")
        inside("columns", columns, n, f"{n} grayordinates")
        once("column", columns, lambda row: int(columns[row]))
        inside("structure", structure, len(names), f"{len(names)} names")
        surface = sizes[structure] > 0
        inside("vertices", vertices[surface], sizes[structure[surface]], "its mesh")
        shape, affine = self.shape, checked_affine(self.affine)
        if not surface.all():
            if shape is None or affine is None:
                raise ValueError("the grayordinates include voxels; give shape and affine")
            shape = checked_shape(shape)
            inside("voxels", voxels[~surface], shape, f"a volume of {tuple(shape.tolist())}")
        if (vertices[surface] < 0).any() or (voxels[~surface] < 0).any():
            raise ValueError("vertices or voxels are -1 where the structure needs an index from 0")
        freeze(self, columns=columns, names=names, structure=structure, vertices=vertices)
        freeze(self, voxels=voxels, n_vertices=sizes, shape=shape, affine=affine)

    @classmethod
    def from_axis(cls, axis: nib.cifti2.BrainModelAxis) -> CiftiSpace:
        """See `VoxelSpace.cifti`."""
        names = list(dict.fromkeys(str(name) for name in axis.name))
        code = {name: number for number, name in enumerate(names)}
        has_volume = bool(axis.volume_mask.any())
        return cls(
            np.arange(len(axis)),
            names,
            [code[str(name)] for name in axis.name],
            axis.vertex,
            axis.voxel,
            [axis.nvertices.get(name, 0) for name in names],
            axis.volume_shape if has_volume else None,
            axis.affine if has_volume else None,
        )

    @property
    def n_columns(self) -> int:
        return len(self.columns)

    @property
    def coordinates(self) -> np.ndarray:
        place = to_world(self.voxels[self.columns], self.affine)
        place[self.n_vertices[self.structure[self.columns]] > 0] = np.nan
        return place

    def axis(self) -> nib.cifti2.BrainModelAxis:
        """The brain-model axis [G] of the source file."""
        from nibabel.cifti2 import BrainModelAxis

        return BrainModelAxis(
            self.names[self.structure],
            voxel=self.voxels,
            vertex=self.vertices,
            affine=self.affine,
            volume_shape=None if self.shape is None else tuple(self.shape.tolist()),
            nvertices={
                str(name): int(size)
                for name, size in zip(self.names, self.n_vertices, strict=True)
                if size
            },
        )

    def _take(self, index: np.ndarray) -> VoxelSpace:
        return replace(self, columns=self.columns[index])

    def _image(self, values: np.ndarray, fill: np.float32) -> nib.Cifti2Image:
        import nibabel as nib

        values = np.atleast_2d(values)
        data = np.full((len(values), len(self.structure)), fill, np.float32)
        data[:, self.columns] = values
        names = [f"map {number}" for number in range(1, len(values) + 1)]
        scalars = nib.cifti2.ScalarAxis(names)
        image = nib.Cifti2Image(data, header=(scalars, self.axis()))
        image.nifti_header.set_intent("ConnDenseScalar")
        return image
