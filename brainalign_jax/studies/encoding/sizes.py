"""What scoring voxels will hold in memory, before anything is made, and how much is worked at once."""

from collections.abc import Sequence
from typing import NamedTuple

from brainalign_jax.machine import resident_bytes
from brainalign_jax.studies.encoding.scores import Chunks, FoldShapes
from brainalign_jax.study.memory import available_bytes

_SHARE = 0.8  # of the memory there is, where no budget is given
_CHUNK_BYTES, _MOST_COLUMNS = 2**28, 4096
_GIB = 2**30


class Sizes(NamedTuple):
    """chunks: columns at once; parts: bytes by what they are for; base: those held already; budget."""

    chunks: Chunks
    parts: dict[str, int]
    base: int
    budget: int

    @property
    def peak(self) -> int:
        """Bytes at most."""
        return self.base + sum(self.parts.values())

    def text(self) -> str:
        """The plan as a line to print."""
        parts = ", ".join(
            f"{what} {size / _GIB:.2f}" for what, size in self.parts.items() if size > 0.005 * _GIB
        )
        voxels, shifts = self.chunks[:2]
        return (
            f"memory plan: peak {self.peak / _GIB:.2f} GiB of {self.budget / _GIB:.2f} ({parts}); "
            f"{voxels:,} voxels x {shifts} recordings at once"
        )


def planned(
    shapes: FoldShapes,
    widths: Sequence[int],
    n_volumes: int,
    n_voxels: Sequence[int],
    n_shifts: int,
    *,
    space_widths: Sequence[int] = (),
    max_memory: int | None = None,
) -> Sizes:
    """The plan for people on one clock.

    Args:
      widths: D of each layer; n_voxels: V of each person; space_widths: D of each feature space whose
      variance is divided, the model's layers side by side among them. max_memory: bytes, or 80 % of what
      there is.

    Raises: ValueError where it does not fit, with what to lower.
    """
    ranks = [min(shapes.rows, width) for width in widths]
    whole = [min(n_volumes, width) for width in widths]
    rank, whole_rank, n_layers = max(ranks), max(whole), len(widths)
    inner_numbers = rank * (shapes.rows + shapes.inner_tested + 1)
    outer_numbers = whole_rank * (n_volumes + shapes.tested + 1)
    factors = n_layers * (shapes.inner * inner_numbers + outer_numbers)
    side = max(min(n_volumes, max(widths)), 1)
    per_column = 4 * (
        5 * n_volumes
        + 2 * shapes.rows
        + shapes.inner * (2 * rank + 4 * shapes.inner_tested)
        + 2 * whole_rank
        + 8 * shapes.tested
    )
    n_spaces = len(space_widths)
    columns = min(max(_CHUNK_BYTES // per_column, 1), _MOST_COLUMNS)
    voxels = min(columns, 8 * -(-max(n_voxels) // 8))
    # Recordings, predictions and weights of the joint model, each space and all but one.
    per_divided = 8 * n_volumes * (3 + 2 * n_spaces)
    divided = min(max(_CHUNK_BYTES // per_divided, 8), 8 * -(-sum(n_voxels) // 8))
    chunks = Chunks(voxels, min(1 + n_shifts, max(1, columns // voxels)), divided * bool(n_spaces))
    # Kernels, their sums and a decomposition; and the filters of the tested rows.
    kernels = 4 * ((2 * n_spaces + 4) * n_volumes**2 + 16 * shapes.inner_tested * shapes.rows)
    parts = {
        # The variance of spaces is divided for all people side by side, in a copy.
        "recordings": (1 + bool(n_spaces and n_voxels[1:])) * 4 * n_volumes * sum(n_voxels),
        "features": 12 * n_volumes * sum(widths),
        # The widest is standardised on the device, by each fold anew.
        "features of spaces": n_volumes
        * (12 * sum(space_widths) + 16 * max(space_widths, default=0)),
        # Those of one layer exist twice while they are stacked.
        "factors": 8 * factors + 4 * 4 * side**2,
        "null scores": 8 * (1 + n_shifts) * sum(n_voxels),
        "kernels of spaces": bool(n_spaces) * (kernels + 2 * per_divided * divided),
        "chunks": per_column * chunks.voxels * chunks.shifts + 2**27,
    }
    budget = int(_SHARE * available_bytes()) if max_memory is None else int(max_memory)
    plan = Sizes(chunks, parts, resident_bytes(), budget)
    if plan.peak > budget:
        largest = max(parts, key=lambda part: parts[part])
        raise ValueError(
            f"the study needs {plan.peak / _GIB:.2f} GiB but may use {budget / _GIB:.2f}, most of it for "
            f"{largest} ({parts[largest] / _GIB:.2f}): read fewer voxels (a mask or atlas), or give fewer "
            "--subjects, --layers, --spaces, --delays or --n_shifts"
        )
    return plan
