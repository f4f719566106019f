"""Several processes on one study: each works some of the cells, then all have all rows.

The processes are JAX's own (`jax.distributed`): those of a TPU slice or a cluster job find one another by
themselves, others are told the coordinator's address. Every process computes on its own devices.
"""

import contextlib
import io
from collections.abc import Sequence

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils


def join(
    coordinator: str | None = None, n_processes: int | None = None, index: int | None = None
) -> None:
    """Join the processes of a study; call it once, before anything else touches JAX.

    coordinator: "host:port" of process 0, as seen by all; n_processes and index: how many there are,
    and which this is. None for all three where the cluster says so (TPU slice, SLURM, Open MPI).

    Raises: ValueError where one is given and the others are not.
    """
    given = [value is not None for value in (coordinator, n_processes, index)]
    if any(given) and not all(given):
        raise ValueError(
            "a coordinator, the number of processes and this process's index are given together or not "
            f"at all, not coordinator={coordinator!r}, n_processes={n_processes}, index={index}"
        )
    if all(given) and not 0 <= index < n_processes:
        raise ValueError(f"process {index} is not one of {n_processes}: count from 0")
    jax.distributed.initialize(coordinator, n_processes, index)


def index() -> int:
    """This process; 0 is the one that writes."""
    return jax.process_index()


def every_nth(n_items: int) -> list[int]:
    """Which of so many items this process does, one by one in turn."""
    return list(range(jax.process_index(), n_items, jax.process_count()))


def block(n_items: int) -> list[int]:
    """Which of so many items this process does, neighbours together."""
    return np.array_split(np.arange(n_items), jax.process_count())[jax.process_index()].tolist()


@contextlib.contextmanager
def together():
    """A part of the work that all processes finish, or none goes on: the error of one is told to all.

    Raises: RuntimeError where another process failed in it.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() > 1:
            _gather_bytes(f"{type(error).__name__}: {error}".encode())
        raise
    if jax.process_count() > 1:
        for index, told in enumerate(_gather_bytes(b"")):
            if told:
                raise RuntimeError(f"process {index} of this study failed: {told.decode()}")


def gather(rows: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of all processes, in the order of the processes; None for no rows."""
    if jax.process_count() == 1:
        return rows
    content = io.BytesIO()
    if rows is not None:
        rows.to_parquet(content, index=False)
    parts = [
        pd.read_parquet(io.BytesIO(part)) for part in _gather_bytes(content.getvalue()) if part
    ]
    return pd.concat(parts, ignore_index=True) if parts else None


def _gather_bytes(content: bytes) -> Sequence[bytes]:
    mine = np.frombuffer(content, np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.array([len(mine)], np.int32))).reshape(
        -1
    )
    padded = np.zeros(max(1, sizes.max()), np.uint8)
    padded[: len(mine)] = mine
    found = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes() for row, size in zip(found, sizes, strict=True)]
