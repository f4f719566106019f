"""Which voxels and confounds an analysis can use: unusable ones found, and refused or dropped."""

from __future__ import annotations

import warnings

import numpy as np

from brainalign_jax.names import check_known


class VoxelAudit:
    """Finds the voxels that no analysis can use, in a recording that is read block by block.

    A voxel is unusable where it holds NaN or infinite values or, with `constant`, where it is
    constant within a run (None: one run), as cleaning divides by the standard deviation of a run.
    Constant is a range below 8 eps of the largest magnitude, or below 1e-12 of the range that 5 % of
    the voxels exceed. stored_as: the type whose eps counts, where blocks were converted from it.
    """

    def __init__(
        self,
        run: np.ndarray | None = None,
        *,
        constant: bool = True,
        stored_as: np.dtype | None = None,
    ):
        self._stored_as = stored_as
        self._within = "" if run is None else " within a run"
        self._runs = [slice(None)]
        if run is not None:
            # Slices where a run's volumes follow one another, as they nearly always do: no copies.
            rows = [np.flatnonzero(run == label) for label in np.unique(run)]
            self._runs = [
                slice(part[0], part[-1] + 1) if len(part) == part[-1] - part[0] + 1 else part
                for part in rows
            ]
        self._constant = constant
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._emptied: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> np.ndarray:
        """Take the next columns [rows, v]; returns which are usable on their own, [v] bool."""
        dtype = block.dtype if self._stored_as is None else self._stored_as
        eps = 8 * np.finfo(dtype if dtype.kind == "f" else np.float64).eps
        finite = np.ones(block.shape[1], bool)
        flat = np.zeros(block.shape[1], bool)
        narrowest = np.full(block.shape[1], np.inf)
        for rows in self._runs:
            part = block[rows]
            # Minimum and maximum carry NaN and infinities along.
            low = part.min(axis=0).astype(np.float64)
            high = part.max(axis=0).astype(np.float64)
            finite &= np.isfinite(low) & np.isfinite(high)
            if self._constant:
                with np.errstate(invalid="ignore", over="ignore"):
                    spread = np.where(finite, high - low, 0.0)
                    flat |= finite & (spread <= eps * np.maximum(np.abs(low), np.abs(high)))
                narrowest = np.minimum(narrowest, spread)
        self._blocks.append((finite, flat, narrowest))
        self._emptied.append(np.zeros_like(finite))
        return finite & ~flat

    def emptied(self, columns: np.ndarray) -> None:
        """Mark columns [v] bool of the last block as unusable: cleaning leaves nothing of them."""
        self._emptied[-1] = columns

    def conclude(self) -> tuple[np.ndarray, str]:
        """Usable voxels [V] bool of all blocks, and what is wrong with the others ("" if none)."""
        finite, flat, narrowest = (
            np.concatenate(parts) for parts in zip(*self._blocks, strict=True)
        )
        if self._constant and (sound := finite & ~flat).any():
            # Not the widest of all: one wild voxel must not make the others look constant.
            usual = np.quantile(narrowest[sound], 0.95, method="lower")
            flat = flat | (finite & (narrowest <= 1e-12 * usual))
        emptied = np.concatenate(self._emptied) & finite & ~flat
        problems = [
            f"{int(bad.sum())} of {len(bad)} voxels (columns) {what}, the first is column "
            f"{int(np.argmax(bad))}"
            for bad, what in (
                (~finite, "hold NaN or infinite values"),
                (flat & finite, f"are constant{self._within}"),
                (emptied, f"are nothing but trend and confounds{self._within}"),
            )
            if bad.any()
        ]
        return finite & ~flat & ~emptied, " and ".join(problems)


def check_voxels(
    values: np.ndarray,
    *,
    subject: str,
    bad_voxels: str = "raise",
    run: np.ndarray | None = None,
    constant: bool = True,
    what: str = "recording",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the voxels that no analysis can use: NaN, infinite, or constant to rounding.

    values: [rows, V]; rows are volumes or words. run, constant: see `VoxelAudit`.
    Returns `values` without the bad columns and kept [V] bool.
    Raises ValueError with the subject, the count and the first column under bad_voxels="raise";
    "drop" warns with the count and goes on, unless no voxel would be left.
    """
    check_known("bad_voxels=", bad_voxels, ("raise", "drop"))
    if constant and len(values) < 2:
        raise ValueError(f"{what} of subject {subject!r} has {len(values)} rows: give two or more")
    audit = VoxelAudit(run, constant=constant)
    audit.add(values)
    kept, problem = audit.conclude()
    if not problem:
        return values, kept
    report_voxels(problem, kept, subject=subject, bad_voxels=bad_voxels, what=what)
    return values[:, kept], kept


def check_confounds(confounds: np.ndarray, what: str) -> None:
    """Raise ValueError for confounds that are not [time, C] numbers, or hold NaN."""
    confounds = np.asarray(confounds)
    if confounds.ndim != 2 or confounds.dtype.kind not in "fiub":
        raise ValueError(
            f"{what} have shape {confounds.shape} and dtype {confounds.dtype}; give numbers [volumes, C]"
        )
    # Their squares must be finite, too.
    finite = (np.abs(confounds) < np.finfo(np.float32).max).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"{what}: column {int(np.argmin(finite))} of {len(finite)} holds NaN, infinite or huge values; "
            "fill them (fMRIPrep's derivatives start with one) or leave the column out"
        )


def report_voxels(
    problem: str, kept: np.ndarray, *, subject: str, bad_voxels: str, what: str
) -> None:
    """Raise for unusable voxels, or warn that they are dropped; see `check_voxels`."""
    message = f"subject {subject}, {what}: {problem}"
    if bad_voxels == "raise":
        remedy = "give the reader bad_voxels=drop to leave them out, or repair the data"
        raise ValueError(f"{message}; {remedy}")
    if not kept.any():
        raise ValueError(f"{message}; no voxel is left: the recording is unusable")
    warnings.warn(f"{message}; dropped", UserWarning, stacklevel=4)
