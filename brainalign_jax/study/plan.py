"""What a study will hold in memory, stage by stage, before it runs; and the sizes that fit a budget.

What the host holds follows from the shapes. What the compiled programs hold, XLA tells: they are compiled
for these shapes without data (and kept, so that the study need not compile them again).

Flops decide primal or dual: the factor of one fold costs about 9 R^3 (eigen-decomposition of an R x R
matrix) after 2 N R^2 for the Gram matrix of the features, or 2 N^2 R for that of the rows. Responses
are first reduced to the R <= N axes that they span, so that the primal factor is never the larger one.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import geometry, programs, sources
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.methods import METHODS
from brainalign_jax.study.problem import Problem, Scoring, folds_of

_SHARE = 0.8  # of the memory there is, where no budget is given
_HELD = 0.25  # of the budget: responses at a time; as much again for vectors
_GIB = 2**30


@dataclass(frozen=True)
class Stage:
    """What is held at one time: bytes by what they are for, besides what the process began with."""

    name: str
    parts: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Plan:
    """Stages of a study with their peak, and the computation that fits the budget.

    base: bytes that the process holds already; only counted where the CPU is the device.
    responses_bytes, embeddings_bytes: of the responses and vectors held at a time, at most.
    """

    stages: tuple[Stage, ...]
    base: int
    budget: int
    computation: Computation
    responses_bytes: int
    embeddings_bytes: int

    @property
    def peak(self) -> int:
        """Bytes at the stage that holds most."""
        return self.base + max(stage.bytes for stage in self.stages)

    def text(self) -> str:
        """The plan as lines to print."""
        how = self.computation
        lines = [
            f"memory plan: peak {self.peak / _GIB:.2f} GiB of {self.budget / _GIB:.2f}; "
            f"{how.layers} layers a call, {how.at_once()} at once, {how.workers()} calls at a time"
        ]
        for stage in self.stages:
            parts = ", ".join(
                f"{what} {size / _GIB:.2f}"
                for what, size in sorted(stage.parts.items(), key=lambda part: -part[1])
                if size > 0.005 * _GIB
            )
            total = (self.base + stage.bytes) / _GIB
            lines.append(f"  {stage.name}: {total:.2f}" + (f" ({parts})" if parts else ""))
        return "\n".join(lines)

    def fields(self) -> dict:
        """The plan as a JSON-serialisable dict."""
        return {
            **dataclasses.asdict(self.computation),
            "batch": self.computation.at_once(),
            "threads": self.computation.workers(),
            "devices": [str(device) for device in jax.local_devices()],
            "peak_bytes": self.peak,
            "budget_bytes": self.budget,
            "stages": {stage.name: stage.parts for stage in self.stages},
        }


def fit(
    responses: WordResponses,
    models: Sequence[Sequence[tuple[int, int, int]]],
    scoring: Scoring,
    computation: Computation = Computation(),
    *,
    n_subjects: int = 1,
    max_memory: int | None = None,
) -> Plan:
    """The plan of largest chunks that stays within the budget.

    Args:
      responses: one subject; the other of n_subjects are taken to be as large.
      models: for each, (layers, types, width) of each block of layers of equal width.
      computation: the upper limits of layers, batch and threads.
      max_memory: bytes; None for 80 % of what the device or, on the CPU, the machine has left.

    Raises: ValueError with the least budget that would do, where none does.
    """
    budget = int(_SHARE * available_bytes()) if max_memory is None else int(max_memory)
    on_cpu = jax.local_devices()[0].platform == "cpu"
    base = resident_bytes() if on_cpu else 0
    inner = any(METHODS[name](scoring.protocol).uses_inner_folds for name in scoring.methods)
    problem = folds_of(responses, scoring, inner=inner)
    smallest = None
    for tried in _smaller(computation):
        stages = _stages(responses, models, scoring, problem, tried, n_subjects, budget, on_cpu)
        found = Plan(stages, base, budget, tried, *_held(budget))
        if found.peak <= budget:
            return found
        smallest = found if smallest is None or found.peak < smallest.peak else smallest
    least = smallest.peak
    raise ValueError(
        f"the study needs at least {least / _GIB:.2f} GiB but may use {budget / _GIB:.2f}: give "
        f"--max_memory_gb={np.ceil(least / _GIB * 10) / 10:.1f} if there is so much, or score fewer "
        f"layers or models at a time. The largest stage is "
        f"'{max(smallest.stages, key=lambda stage: stage.bytes).name}':\n{smallest.text()}"
    )


def _held(budget: int) -> tuple[int, int]:
    return int(_HELD * budget), int(_HELD * budget)


def _smaller(computation: Computation) -> Iterator[Computation]:
    """The computation, then ever smaller ones: fewer threads, one layer at once, one layer a call."""
    yield computation
    for threads in range(computation.workers() - 1, 0, -1):
        yield dataclasses.replace(computation, threads=threads)
    if computation.at_once() > 1:
        yield dataclasses.replace(computation, threads=1, batch=1)
    if computation.layers > 1:
        yield dataclasses.replace(computation, threads=1, batch=1, layers=1)


def _stages(
    responses: WordResponses,
    models,
    scoring: Scoring,
    problem: Problem,
    computation: Computation,
    n_subjects: int,
    budget: int,
    on_cpu: bool,
) -> tuple[Stage, ...]:
    n_rows, n_features = responses.values.shape
    item = np.dtype(computation.dtype).itemsize
    protocol = scoring.protocol
    limit_responses, limit_vectors = _held(budget)
    counts = [block[0] for blocks in models for block in blocks]
    mesh = programs.layer_mesh()
    chunk = programs.chunk_size(counts, most=computation.layers, devices=mesh.size)
    size = responses.values.nbytes
    n_subjects = max(1, min(n_subjects, limit_responses // size))  # at a time
    held = {"responses": n_subjects * size} if on_cpu else {}
    vectors = sum(4 * np.prod(block) for blocks in models for block in blocks)
    largest = max(sum(4 * np.prod(block) for block in blocks) for blocks in models)
    vectors = int(max(largest, min(vectors, limit_vectors)))
    if on_cpu:
        held["vectors"] = vectors
    stages = []
    if on_cpu and "products" in {METHODS[name](protocol).form for name in scoring.methods}:
        stages.append(Stage("reduce the responses", held | _reduction(n_rows, n_features)))
    rank = _rank(responses, problem)
    for name in scoring.methods:
        method = METHODS[name](protocol)
        columns = n_features if method.form == "values" else rank
        if protocol.pca == "model_width":
            columns = min(columns, max(block[2] for blocks in models for block in blocks))
        fits = len(problem.folds.outer.train) if sources.fits_each_fold(protocol) else 1
        source = jax.ShapeDtypeStruct((n_rows, columns), computation.dtype)
        fold = problem.fold(0) if method.uses_inner_folds else problem.fold(0)._replace(inner=None)
        fold = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), fold)
        most = {"prepare": 0, "evaluate": 0, "state": 0}
        for blocks in models:
            for _, n_types, width in blocks:
                with computation.context():
                    found = programs.memory(
                        source,
                        (chunk, n_types, width),
                        fold,
                        method=method,
                        batch=computation.at_once(),
                        dtype=computation.dtype,
                    )
                most = {key: max(value, found[key]) for key, value in most.items()}
        workers = computation.workers()
        kept = {
            "prepared responses": 2 * fits * n_rows * columns * item,
            "prepared vectors": int(vectors * item / 4),
        }
        work = {
            "shared by layers": workers * most["state"],
            "at work": workers * max(most["prepare"], most["evaluate"]),
        }
        stages.append(Stage(name, held | kept | work))
    if "rsa" in scoring.methods:
        n_types = models[0][0][1]
        wanted = geometry.needed_bytes(n_subjects, n_types, item, computation)
        rdms = {"RDMs": min(wanted, geometry.MEMORY_BYTES)}
        stages.append(Stage("compare geometries", held | rdms))
    return tuple(stages)


def _reduction(n_rows: int, n_features: int) -> dict[str, int]:
    """Bytes of `sources.lossless_reduction`: a Gram matrix, its eigenvectors, LAPACK's workspace."""
    if n_features <= n_rows // 2:
        return {"scaled responses": 4 * n_rows * n_features}
    return {"Gram matrix": 8 * n_rows**2, "eigenvectors": 8 * 3 * n_rows**2}


def _rank(responses: WordResponses, problem: Problem) -> int:
    """Number of axes that the responses span, at most."""
    n_rows, n_features = responses.values.shape
    if n_features <= n_rows // 2:
        return n_features
    bound = min(int(problem.eligible.sum()), n_features, responses.meta.get("rank", n_rows))
    return min(n_rows, sources.rounded_rank(bound))


def available_bytes() -> int:
    """Memory of the smallest local accelerator, or what the machine has left for this process."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limits = [(one.memory_stats() or {}).get("bytes_limit", 0) for one in jax.local_devices()]
        if min(limits) > 0:
            return min(limits)
    return resident_bytes() + _left_bytes()


def _left_bytes() -> int:
    """Memory that the machine, or the control group of this process, has left."""
    left = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            left.append(int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass  # no control group of version 2
    return min(left) if left else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
