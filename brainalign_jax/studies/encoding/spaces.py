"""Which columns of several recordings are the same places, and which region of an atlas each is in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.neural.formats.arrays import check_memory
from brainalign_jax.neural.formats.images.images import load_image, readable
from brainalign_jax.neural.formats.text.sidecars import read_labels
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.space import VoxelSpace

WHOLE = "whole"  # the region of all columns, where there is no atlas
_MOST_NAMED = 2000  # columns that are regions of their own


class Regions(NamedTuple):
    """names: R regions; of_column: subject -> [V] the region of each column, -1 where it is in none."""

    names: tuple[str, ...]
    of_column: dict[str, np.ndarray]


def common_columns(people: Sequence[TimeCourses]) -> list[np.ndarray] | None:
    """For each person the columns [C] that lie where the others' do, in the same order; None where none do.

    In volumes, surfaces and CIFTI-2 by their places; else by the columns' names.
    """
    if all(person.space is not None for person in people):
        placed = [_places(person.space) for person in people]
        if len({grid for grid, _ in placed}) > 1:
            return None
        columns = np.stack([numbers for _, numbers in placed])
        columns = np.unique(columns[:, (columns > 0).all(axis=0)], axis=1) - 1
        once = all(len(np.unique(own)) == len(own) for own in columns)
        return list(columns) if columns.size and once else None
    names = [person.feature_names for person in people]
    if any(own is None or len(set(own)) < len(own) for own in names):
        return None
    shared = [name for name in names[0] if all(name in own for own in names[1:])]
    return [np.array([own.index(name) for name in shared]) for own in names] if shared else None


def _places(space: VoxelSpace) -> tuple[tuple, np.ndarray]:
    """(what says that two spaces have one grid, [G] number of the column from 1 at each place, else 0)."""
    image = space.to_image(np.arange(1, space.n_columns + 1))
    if isinstance(image, tuple):
        sides = [None if side is None else side.darrays[0].data for side in image]
        sizes = tuple(None if side is None else len(side) for side in sides)
        return (space.kind, sizes), np.concatenate([s for s in sides if s is not None]).astype(int)
    numbers = np.asarray(image.dataobj).astype(int)
    affine = np.round(image.affine, 3) + 0.0 if hasattr(image, "affine") else None
    grid = (space.kind, numbers.shape, None if affine is None else tuple(affine.ravel().tolist()))
    return grid, numbers.ravel()


def own_regions(people: Sequence[TimeCourses]) -> Regions:
    """Each column as a region, where all have names, as what is read by an atlas; else all as one region."""
    names = [person.feature_names for person in people]
    if all(own is not None and len(set(own)) == len(own) <= _MOST_NAMED for own in names):
        known = tuple(dict.fromkeys(name for own in names for name in own))
        place = {name: number for number, name in enumerate(known)}
        with_names = zip(people, names, strict=True)
        return Regions(
            known,
            {person.subject: np.array([place[name] for name in own]) for person, own in with_names},
        )
    return Regions(
        (WHOLE,), {person.subject: np.zeros(person.values.shape[1], int) for person in people}
    )


def atlas_regions(
    people: Sequence[TimeCourses], atlas: Path, labels: Path | None = None
) -> Regions:
    """The regions of a label image on the grid of the recordings.

    atlas: a 3-D image of whole numbers, 0 outside; labels: names, see `read_labels`.

    Raises: ValueError for an image of another grid, recordings that are no volumes, and an atlas without a
    voxel of the recordings; FileNotFoundError.
    """
    image = load_image(atlas, "the atlas")
    if not hasattr(image, "affine"):
        raise ValueError(
            f"{atlas} is a {type(image).__name__}, which has no voxels: give an image of regions (NIfTI) on "
            "the grid of the recordings"
        )
    with readable(atlas, "an atlas"):
        shape, affine = tuple(image.shape), image.affine
        check_memory(16 * int(np.prod(shape)), atlas, f"an atlas of shape {shape}")
        values = np.asarray(image.dataobj, np.float64)
    values = np.where(np.isfinite(values), values, 0)
    numbers = np.round(values).astype(np.int64)
    if (numbers != values).any() or (numbers < 0).any():
        raise ValueError(
            f"{atlas} holds values that are no whole numbers from 0: give region numbers"
        )
    region_numbers = {}
    for person in people:
        space: Any = person.space
        if space is None or space.kind != "volume":
            what = "its columns have no place" if space is None else f"it is a {space.kind}"
            raise ValueError(
                f"{atlas} is an image of voxels, and the recording of {person.subject} has none ({what}): "
                "leave the atlas out"
            )
        remedy = "resample the atlas to the recording, nearest neighbour"
        if shape != tuple(space.shape.tolist()):
            raise ValueError(
                f"{atlas} has another grid (shape {shape}) than the recording of {person.subject} (shape "
                f"{tuple(space.shape.tolist())}): {remedy}"
            )
        if space.affine is not None and not np.allclose(affine, space.affine, atol=0.02):
            row = int(np.argmax(np.abs(affine - space.affine).max(axis=1)))
            raise ValueError(
                f"{atlas} has another grid than the recording of {person.subject}: row {row + 1} of its "
                f"affine is {_row(affine, row)}, of the recording's {_row(space.affine, row)}: {remedy}"
            )
        region_numbers[person.subject] = numbers[tuple(space.indices.T)]
    known = np.unique(np.concatenate(list(region_numbers.values())))
    known = known[known > 0]
    if not known.size:
        raise ValueError(
            f"{atlas} has no region where the recordings have voxels: give another atlas"
        )
    names = [f"region {number}" for number in known] if labels is None else _names(labels, known)
    place = {
        subject: np.where(own > 0, np.searchsorted(known, own), -1)
        for subject, own in region_numbers.items()
    }
    return Regions(tuple(names), place)


def _row(affine: np.ndarray, row: int) -> str:
    return "[" + ", ".join(f"{value:g}" for value in affine[row]) + "]"


def _names(labels: Path, numbers: np.ndarray) -> tuple[str, ...]:
    """Names of the regions of these numbers, each once."""
    names = read_labels(labels, numbers)
    for place, name in enumerate(names):
        if (first := names.index(name)) != place:
            raise ValueError(
                f"{labels} calls region {numbers[first]} and region {numbers[place]} {name!r}: give each "
                "region a name of its own"
            )
    return names


def region_means(values: np.ndarray, region: np.ndarray, n_regions: int) -> np.ndarray:
    """Means [..., R] over the columns [..., V] of each region, of those that are no NaN; NaN of none."""
    values = np.asarray(values)
    means = np.full((*values.shape[:-1], n_regions), np.nan)
    for number in range(n_regions):
        own = values[..., region == number]
        known = np.isfinite(own)
        total = np.where(known, own, 0).sum(axis=-1, dtype=np.float64)
        count = known.sum(axis=-1)
        means[..., number] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means
