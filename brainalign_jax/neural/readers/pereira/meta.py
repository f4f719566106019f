"""What `meta` of a file of Pereira et al. 2018 says: where the voxels are, and in which regions.

No data set of its own: `pereira2018` builds on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from brainalign_jax.names import unknown
from brainalign_jax.neural.space import VoxelSpace

_FIELDS = ("rois", "roiColumns", "roiMultimask")  # in the newer form, one cell an atlas


def texts(cells: np.ndarray, path: Path, name: str) -> tuple[str, ...]:
    """The strings of a MATLAB cell of any shape, column after column, or of a char matrix's rows."""
    strings = []
    for row, cell in enumerate(np.asarray(cells).ravel(order="F")):
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.item()
        if isinstance(cell, np.ndarray) and cell.size == 0:
            cell = ""
        if not isinstance(cell, str):
            raise ValueError(
                f"{path}: entry {row} of {name} is not text; the file is damaged or of another "
                "study, get it again"
            )
        strings.append(cell)
    return tuple(strings)


def read_meta(content: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """The fields of the (1, 1) struct `meta`."""
    if content.dtype.names is None or content.size != 1:
        raise ValueError(
            f"{path}: meta is no struct but has shape {content.shape} and dtype {content.dtype}; "
            "the file is damaged or of another study, get it again"
        )
    record = content.ravel()[0]
    return {name: np.asarray(record[name]) for name in content.dtype.names}


def voxel_space(meta: Mapping[str, np.ndarray], n_voxels: int, path: Path) -> VoxelSpace:
    """The space of the columns of `examples`, from colToCoord [V, 3], which counts from 1.

    Raises ValueError naming the file for missing or contradicting fields.
    """
    try:
        if "dimensions" in meta:
            shape = meta["dimensions"].ravel()
        else:
            shape = [meta[f"dim{axis}"].item() for axis in "xyz"]
        places = meta["colToCoord"]
        if places.shape != (n_voxels, 3):
            raise ValueError(f"colToCoord has shape {places.shape} for {n_voxels} voxels")
        return VoxelSpace.volume(places - 1, shape)
    except KeyError as error:
        raise ValueError(
            f"{path}: meta has no field {error}, only {', '.join(meta)}; get the file again"
        ) from None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: meta contradicts itself ({error}); get the file again"
        ) from error


def region_columns(
    meta: Mapping[str, np.ndarray], roi: str | Iterable[str], n_voxels: int, path: Path
) -> np.ndarray:
    """The columns, from 0 and rising, of all regions that `roi` names; see `read_pereira2018`.

    Raises ValueError naming the file, and the nearest atlases or regions, for a name it lacks; of
    "ATLAS:?" all regions.
    """
    entries = re.split(r"[,+]", roi) if isinstance(roi, str) else [str(name) for name in roi]
    entries = [entry.strip() for entry in entries]
    if not any(entries):
        raise ValueError("roi is empty; name atlases or regions, or leave it out for all voxels")
    tables = _tables(meta, path)
    if not tables:
        raise ValueError(f"{path}: meta has no table of regions; leave roi out")
    chosen = []
    for entry in filter(None, entries):
        atlas, _, pattern = entry.partition(":")
        named = [name for name in tables if name.lower() == atlas.lower()]
        if pattern and not named:
            raise ValueError(unknown("atlas", atlas, tables, of=str(path)))
        if not pattern and not named:
            named, pattern = list(tables), entry
        matching = [
            columns
            for name in named
            for region, columns in tables[name].items()
            if fnmatchcase(region.lower(), pattern.lower() or "*")
        ]
        if not matching:
            raise ValueError(f"{path}: {_no_region(pattern, named, tables)}")
        chosen += matching
    columns = np.unique(np.concatenate([np.asarray(indices).ravel() for indices in chosen]))
    if not len(columns):
        raise ValueError(f"{path}: the regions of roi={roi!r} hold no voxel; choose larger ones")
    if not np.isin(columns, np.arange(1, n_voxels + 1)).all():
        raise ValueError(
            f"{path}: the regions of roi={roi!r} have columns outside 1 to {n_voxels}; "
            "get the file again"
        )
    return columns.astype(np.int64) - 1


def _no_region(pattern: str, named: list[str], tables: Mapping[str, Mapping]) -> str:
    regions = [region for atlas in named for region in tables[atlas]]
    if len(named) > 1:  # what is given alone may be an atlas too
        listing = f"roi=ATLAS:? (of {', '.join(tables)})"
        return unknown("region", pattern, (*tables, *regions), listing=listing)
    if pattern == "?":
        return f"the regions of {named[0]} are {', '.join(regions)}"
    return unknown("region", pattern, regions, of=named[0], listing=f"roi={named[0]}:?")


def _tables(meta: Mapping[str, np.ndarray], path: Path) -> dict[str, dict[str, np.ndarray]]:
    """atlas -> region -> columns from 1, of either form of the tables."""
    if "atlases" in meta:
        atlases = texts(meta["atlases"], path, "meta.atlases")
        parts = {
            atlas: tuple(_part(meta, field, place, path) for field in _FIELDS)
            for place, atlas in enumerate(atlases)
        }
    else:
        parts = {
            name[len("rois") :].lower(): (
                meta[name],
                meta.get(name.replace("rois", "roiColumns")),
                meta.get(name.replace("rois", "roiMultimask")),
            )
            for name in meta
            if name.startswith("rois") and name != "rois"
        }
    return {
        atlas: _regions(part[0], part[1], part[2], path, atlas) for atlas, part in parts.items()
    }


def _part(meta: Mapping[str, np.ndarray], field: str, place: int, path: Path) -> np.ndarray | None:
    if field not in meta:
        return None
    cells = meta[field].ravel()
    if place >= len(cells):
        raise ValueError(
            f"{path}: meta.{field} has {len(cells)} entries, fewer than there are atlases; "
            "get the file again"
        )
    return np.asarray(cells[place])


def _regions(names, columns, mask, path: Path, atlas: str) -> dict[str, np.ndarray]:
    names = () if names is None else texts(names, path, f"the regions of {atlas}")
    if columns is not None and columns.size == len(names):
        lists = [np.asarray(cell).ravel() for cell in columns.ravel()]
    elif mask is not None:
        labels = mask.ravel()
        lists = [np.flatnonzero(labels == label) + 1 for label in range(1, len(names) + 1)]
    else:
        raise ValueError(
            f"{path}: meta has neither columns nor a mask for the {len(names)} regions of {atlas}; "
            "get the file again"
        )
    return dict(zip(names, lists, strict=True))
