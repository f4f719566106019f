"""Where the columns of a recording lie in its source images, and how scores go back there.

A space is plain arrays: it needs no image to be kept, travels inside an `.npz` without pickles, and
gives an image back for any scores of its columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from brainalign_jax.names import check_known

if TYPE_CHECKING:
    import nibabel as nib

_KINDS: dict[str, Any] = {}  # kind -> its class, which is kept here when it is defined


@dataclass(frozen=True, eq=False)
class VoxelSpace:
    """What the V columns of a recording are in the source images.

    Made by `VoxelSpace.volume`, `.surface`, `.cifti` or `.atlas`. Arrays are copied and read-only.
    """

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        _KINDS[cls.kind] = cls

    @property
    def n_columns(self) -> int:
        """V, the number of columns."""
        raise NotImplementedError

    @property
    def coordinates(self) -> np.ndarray:
        """[V, 3] float64 world coordinates in mm; voxel indices where no affine is known.

        A region stands for the mean of its voxels. Surface vertices have NaN, as their place
        depends on the mesh that they are shown on.
        """
        raise NotImplementedError

    def select(self, columns: np.ndarray | Sequence[int]) -> VoxelSpace:
        """The space of some columns: a boolean mask [V], or indices in any order, each once."""
        index = np.asarray(columns)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "biu"):
            raise ValueError(
                f"columns has shape {index.shape} and dtype {index.dtype}; give a vector of "
                "integer indices or a boolean mask"
            )
        if index.dtype == bool:
            if len(index) != self.n_columns:
                raise ValueError(f"the mask has {len(index)} entries for {self.n_columns} columns")
            index = np.flatnonzero(index)
        index = index.astype(np.int64)
        outside = (index < -self.n_columns) | (index >= self.n_columns)
        if outside.any():
            raise ValueError(
                f"column {int(index[np.argmax(outside)])} is outside the {self.n_columns} columns"
            )
        if not index.size:
            raise ValueError("no column is selected; a space needs at least one")
        return self._take(index % self.n_columns)

    def to_image(self, scores: np.ndarray, *, fill: float = 0.0) -> Any:
        """Scores of the columns at their places in the source images, everything else `fill`.

        scores: [V], or [K, V] for K maps; real numbers, NaN allowed.
        Returns, float32: a Nifti1Image [x, y, z] or [x, y, z, K] for "volume" and "atlas" (every
        voxel of a region holds its score); for "surface" a pair (left, right) of GiftiImages with K
        data arrays, None for a hemisphere without a mesh; for "cifti" a Cifti2Image [K, G] of
        scalar maps over all grayordinates of the source (`.dscalar.nii`).
        Raises ValueError for another number of scores than columns.
        """
        values = np.asarray(scores)
        if (
            values.ndim not in (1, 2)
            or values.shape[-1] != self.n_columns
            or not values.size
            or values.dtype.kind not in "biuf"
        ):
            raise ValueError(
                f"scores have shape {values.shape} and dtype {values.dtype}; give real numbers "
                f"[{self.n_columns}] or [maps, {self.n_columns}], one for every column of the space"
            )
        return self._image(values.astype(np.float32), np.float32(fill))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The space as numeric and unicode arrays, for an `.npz`; `from_arrays` takes them back."""
        arrays = {"kind": np.array(self.kind)}
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                arrays[field.name] = np.asarray(value)
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> VoxelSpace:
        """The space that `to_arrays` described. Raises ValueError for missing or odd arrays."""
        kind = str(arrays["kind"]) if "kind" in arrays else ""
        check_known("kind", kind, _KINDS, of="space")
        known = {field.name for field in fields(_KINDS[kind])}
        if unknown := sorted(set(arrays) - known - {"kind"}):
            raise ValueError(f"a {kind} space has no array {unknown[0]!r}; it has {sorted(known)}")
        try:
            return _KINDS[kind](**{name: arrays[name] for name in known if name in arrays})
        except TypeError as error:
            raise ValueError(f"the arrays do not describe a {kind} space: {error}") from error

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all arrays: equal for equal spaces, on every machine."""
        digest = hashlib.sha256(b"brainalign_jax.VoxelSpace.1")
        for name, array in sorted(self.to_arrays().items()):
            digest.update(f"{name} {array.shape} ".encode())
            if array.dtype.kind == "U":
                digest.update("\0".join(array.ravel().tolist()).encode())
            else:
                # Adding zero turns -0.0 into 0.0.
                wide = "<f8" if array.dtype.kind == "f" else "<i8"
                digest.update((array + 0).astype(wide).tobytes())
        return digest.hexdigest()

    def same_as(self, other: VoxelSpace) -> bool:
        """Whether both have the same columns in the same images."""
        return isinstance(other, VoxelSpace) and self.fingerprint() == other.fingerprint()

    @staticmethod
    def volume(
        indices: np.ndarray, shape: Sequence[int], affine: np.ndarray | None = None
    ) -> VoxelSpace:
        """Voxels of a volume: indices [V, 3] from 0, shape of the volume, affine [4, 4] to mm.

        Raises ValueError for indices outside the shape or given twice, or an affine that cannot be.
        """
        return _KINDS["volume"](indices, shape, affine)

    @staticmethod
    def surface(
        left: np.ndarray | None = None,
        right: np.ndarray | None = None,
        *,
        n_left: int = 0,
        n_right: int = 0,
    ) -> VoxelSpace:
        """Vertices of two meshes, the left ones first: indices from 0, None without that hemisphere.

        n_left, n_right: vertices of each mesh. Raises ValueError for vertices outside or twice.
        """
        return _KINDS["surface"].from_sides(left, right, n_left, n_right)

    @staticmethod
    def cifti(axis: nib.cifti2.BrainModelAxis) -> VoxelSpace:
        """All grayordinates of a CIFTI-2 brain-model axis, in its order."""
        return _KINDS["cifti"].from_axis(axis)

    @staticmethod
    def atlas(
        labels: np.ndarray, regions: Sequence[int], affine: np.ndarray | None = None
    ) -> VoxelSpace:
        """Regions of a label image: labels [x, y, z] int, 0 outside; regions [V], their labels.

        Raises ValueError for a region that is 0, given twice, or not in the image.
        """
        return _KINDS["atlas"](labels, regions, affine)

    def _take(self, index: np.ndarray) -> VoxelSpace:
        raise NotImplementedError

    def _image(self, values: np.ndarray, fill: np.float32) -> Any:
        raise NotImplementedError


def freeze(space: VoxelSpace, **arrays: np.ndarray | None) -> None:
    """Set the fields of a frozen space to read-only copies."""
    for name, value in arrays.items():
        if value is not None:
            value = np.array(value, order="C")
            value.flags.writeable = False
        object.__setattr__(space, name, value)


def whole(name: str, value, *, ndim: int, width: int | None = None, lowest: int = 0) -> np.ndarray:
    """`value` as int64 of `ndim` axes, not below `lowest`. Raises ValueError."""
    array = np.asarray(value)
    if array.ndim != ndim or (width is not None and array.shape[-1] != width):
        wanted = "a vector" if ndim == 1 else f"{ndim} axes" + (f", [V, {width}]" if width else "")
        raise ValueError(f"{name} has shape {array.shape}; give {wanted}")
    if array.size and array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}; give whole numbers")
    with np.errstate(invalid="ignore"):
        integers = array.astype(np.int64)
    if (integers != array).any() or (integers < lowest).any():
        raise ValueError(
            f"{name} holds numbers that are not whole or below {lowest}; indices count from 0"
        )
    return integers


def inside(name: str, indices: np.ndarray, sizes, what: str) -> None:
    """Raise ValueError unless all indices are below `sizes` (and some are there)."""
    over = indices >= sizes
    if over.any():
        row = int(np.argmax(over.reshape(len(indices), -1).any(axis=1)))
        raise ValueError(
            f"{name}[{row}] is {indices[row].tolist()}, outside {what}; indices count from 0"
        )


def once(name: str, values: np.ndarray, shown) -> None:
    """Raise ValueError where a value comes twice; shown(row) is how it is named."""
    order = np.argsort(values, kind="stable")
    twice = np.flatnonzero(values[order][1:] == values[order][:-1])
    if twice.size:
        raise ValueError(
            f"{name} {shown(int(order[twice[0]]))} comes twice; every column has a place of its own"
        )


def checked_shape(shape) -> np.ndarray:
    """The shape [3] of a volume. Raises ValueError."""
    array = whole("shape", shape, ndim=1, lowest=1)
    if len(array) != 3:
        raise ValueError(f"shape is {tuple(array.tolist())}; give the three sizes of a volume")
    return array


def checked_affine(affine) -> np.ndarray | None:
    """The affine [4, 4] float64, or None. Raises ValueError where it cannot be inverted."""
    if affine is None:
        return None
    array = np.asarray(affine, np.float64)
    if array.shape != (4, 4) or not np.isfinite(array).all() or np.linalg.det(array[:3, :3]) == 0:
        raise ValueError(
            f"affine has shape {array.shape}; give a finite, invertible [4, 4] from voxel indices to mm"
        )
    return array


def to_world(points: np.ndarray, affine: np.ndarray | None) -> np.ndarray:
    """Voxel indices [V, 3] in mm, or themselves without an affine; float64."""
    points = np.asarray(points, np.float64)
    return points if affine is None else points @ affine[:3, :3].T + affine[:3, 3]
