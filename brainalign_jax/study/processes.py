"""Several processes on one study: each works some of the cells, then all have all rows.

The processes are JAX's own (`jax.distributed`): those of a TPU slice or a cluster job find one another by
themselves, others are told the coordinator's address. Every process computes on its own devices.
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils

from brainalign_jax.files import read_parquet


def join(
    coordinator: str | None = None, n_processes: int | None = None, index: int | None = None
) -> None:
    """Join the processes of a study; call it once, before anything else touches JAX.

    coordinator: "host:port" of process 0, as seen by all; n_processes and index: how many there are,
    and which this is. None for all three where the cluster says so (TPU slice, SLURM, Open MPI).

    Raises: ValueError where one is given and the others are not.
    """
    are_given = [value is not None for value in (coordinator, n_processes, index)]
    if any(are_given) and not all(are_given):
        raise ValueError(
            "a coordinator, the number of processes and this process's index are given together or not "
            f"at all, not coordinator={coordinator!r}, n_processes={n_processes}, index={index}"
        )
    if index is not None and n_processes is not None and not 0 <= index < n_processes:
        raise ValueError(f"process {index} is not one of {n_processes}: count from 0")
    jax.distributed.initialize(coordinator, n_processes, index)
    # Devices come when all processes ask for them: here, where none holds what another waits for.
    jax.local_devices()


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


def agree(what: str, facts: Callable[[], Mapping[str, object]]) -> None:
    """See that the processes are of one study, before any of it is computed.

    facts: gives what is compared, JSON-serialisable, by name; dicts are compared field by field.
    what: they are about, for the message.

    Raises: ValueError, in all processes alike, naming what differs and the processes that have it.
    """
    if jax.process_count() == 1:
        return
    content = json.dumps(_flat(facts()), sort_keys=True, default=str)
    told = [json.loads(text) for text in _gather_bytes(content.encode())]
    names = list(dict.fromkeys(name for process_facts in told for name in process_facts))
    differences = []
    for name in names:
        values: dict[str, list[int]] = {}
        for place, of_process in enumerate(told):
            values.setdefault(_short(of_process.get(name)), []).append(place)
        if len({json.dumps(process_facts.get(name)) for process_facts in told}) > 1:
            differences.append(f"{name} is " + ", ".join(_of(*item) for item in values.items()))
    if differences:
        raise ValueError(
            f"the processes of this study differ in {what}: {'; '.join(differences[:5])}"
            f"{'; and more' if len(differences) > 5 else ''}. Start all of them with the same command, data "
            "and versions"
        )


def _flat(facts: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def _of(text: str, places: list[int]) -> str:
    return f"{text} in process{'es' * (len(places) > 1)} {', '.join(map(str, places))}"


def gather(rows: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of all processes, in the order of the processes; None for no rows."""
    if jax.process_count() == 1:
        return rows
    content = b"" if rows is None else rows.to_parquet(index=False)
    parts = [read_parquet(part) for part in _gather_bytes(content) if part]
    return pd.concat(parts, ignore_index=True) if parts else None


def gathered_scores(
    tables: Sequence[pd.DataFrame],
    subjects: Mapping[str, str],
    models: Sequence[str],
    order: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows, and subjects' fingerprints, of all processes in the order of models and subjects.

    Raises: ValueError where processes that shared a subject had other recordings of it.
    """
    rows = gathered(tables)
    told = gather(pd.DataFrame(list(subjects.items()), columns=["subject", "fingerprint"]))
    fingerprints: dict[str, str] = {}
    for subject, fingerprint in zip(told["subject"], told["fingerprint"], strict=True):
        if fingerprints.setdefault(subject, fingerprint) != fingerprint:
            raise ValueError(
                f"two processes of this study have other recordings of {subject}: give all the same data"
            )
    place = [
        rows["model"].map({name: i for i, name in enumerate(models)}),
        rows["subject"].map({name: i for i, name in enumerate(order)}),
    ]
    rows = rows.iloc[np.lexsort(place[::-1])].reset_index(drop=True)
    return rows, {subject: fingerprints[subject] for subject in order}


def gathered(tables: Sequence[pd.DataFrame], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of the tables of all processes, one after the other; none with these columns."""
    rows = gather(pd.concat(tables, ignore_index=True) if len(tables) else None)
    return pd.DataFrame(columns=list(columns)) if rows is None else rows


def _gather_bytes(content: bytes) -> Sequence[bytes]:
    local = np.frombuffer(content, np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.array([len(local)], np.int32))).reshape(
        -1
    )
    padded = np.zeros(max(1, sizes.max()), np.uint8)
    padded[: len(local)] = local
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]
