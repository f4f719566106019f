"""The fields of word responses: their checks, and their values in blocks that need little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.voxels import report_voxels

FLOAT = np.dtype("<f4")  # how values are stored and hashed
_BLOCK_BYTES = 2**24  # of values that are worked on at a time


def column_blocks(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(columns, view [N, v] of them) of consecutive columns of values [N, V], some 16 MB each."""
    width = max(1, _BLOCK_BYTES // (values.itemsize * max(1, len(values))))
    for start in range(0, values.shape[1], width):
        part = slice(start, min(start + width, values.shape[1]))
        yield part, values[:, part]


def as_columns(block: np.ndarray) -> np.ndarray:
    """The block [N, v] as columns, [v, N] little-endian float32 in C order: itself or a copy."""
    flipped = block.T
    if flipped.dtype == FLOAT and flipped.flags.c_contiguous:
        return flipped
    columns = np.empty(flipped.shape, FLOAT)
    with np.errstate(over="ignore"):  # `check_values` reports infinite values with their place
        # Strips of rows that fit a CPU's cache: three times as fast as all rows at once.
        for row in range(0, len(block), 256):
            columns[:, row : row + 256] = flipped[:, row : row + 256]
    return columns


def check_values(
    values: np.ndarray, valid: np.ndarray, words: Sequence[str], *, subject: str, first: int = 0
) -> None:
    """Raise ValueError for values [N, V] that are not finite, or not zero where a word is not valid.

    valid: [N] bool. first: the number of the first column, for messages. Needs memory for a part.
    """
    finite, filled = np.ones(values.shape[1], bool), np.zeros(len(values), bool)
    for rows, columns in _parts(values):
        part = values[rows, columns]
        finite[columns] &= np.isfinite(part).all(axis=0)
        uncovered = np.flatnonzero(~valid[rows])
        filled[rows][uncovered] |= part[uncovered].any(axis=1)
    if not finite.all():
        problem = (
            f"{int((~finite).sum())} of {len(finite)} voxels (columns) hold NaN or infinite values, "
            f"the first is column {first + int(np.argmin(finite))}"
        )
        report_voxels(problem, finite, subject=subject, bad_voxels="raise", what="word responses")
    if filled.any():
        row = int(np.argmax(filled))
        raise ValueError(
            f"subject {subject}: row {row} ({words[row]!r}) is marked as not covered but holds a "
            "response; set the row to zero or valid to True"
        )


def _parts(values: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of parts of some 16 MB that lie together in memory, or in the mapped file."""
    by_rows = abs(values.strides[0]) > abs(values.strides[1])
    along, across = values.shape if by_rows else values.shape[::-1]
    size = max(1, _BLOCK_BYTES // (values.itemsize * max(1, across)))
    for start in range(0, along, size):
        part = slice(start, start + size)
        yield (part, slice(None)) if by_rows else (slice(None), part)


def checked_valid(valid: np.ndarray | None, n: int, subject: str) -> np.ndarray:
    """valid [N] bool, all True for None. Raises ValueError."""
    array = np.ones(n, bool) if valid is None else np.asarray(valid)
    if array.shape != (n,) or array.dtype != bool:
        raise ValueError(
            f"subject {subject}: valid has shape {array.shape} and dtype {array.dtype}; "
            f"give a boolean for each of the {n} words"
        )
    return array


def check_space(space: VoxelSpace | None, n_columns: int, subject: str) -> None:
    """Raise ValueError where a space is of another number of columns."""
    if space is not None and space.n_columns != n_columns:
        raise ValueError(
            f"subject {subject}: the space describes {space.n_columns} of {n_columns} columns; "
            "reduce both alike"
        )


def checked_meta(meta: dict, subject: str) -> dict:
    """meta as JSON gives it back. Raises ValueError for what JSON cannot hold."""
    try:
        return json.loads(json.dumps(meta, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"subject {subject}: meta cannot be written as JSON ({error}); "
            "use strings, finite numbers, lists and dicts"
        ) from None
