"""What a study will hold in memory, stage by stage, before it runs; and the sizes that fit a budget.

What the host holds follows from the shapes. What the compiled programs hold, XLA tells: they are compiled
for these shapes without data, and kept, so that the study need not compile them again (but for ridge,
whose number of filters the data decide: it is counted with one for each alpha, the most there can be).

Flops decide primal or dual: the factor of one fold costs about 9 R^3 (eigen-decomposition of an R x R
matrix) after 2 N R^2 for the Gram matrix of the features, or 2 N^2 R for that of the rows. Responses
are first reduced to the R <= N axes that they span, so that the primal factor is never the larger one.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from brainalign_jax.language.memory import accelerator_bytes
from brainalign_jax.machine import free_memory, resident_bytes
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.computation import Computation, cores
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score import decoding, preparation, programs
from brainalign_jax.study.score.measures import measure_of
from brainalign_jax.study.score.methods import Method, method_of, pools_folds
from brainalign_jax.study.score.problem import Problem, Scoring, folds_of

_SHARE = 0.8  # of the memory there is, where no budget is given
_HELD = 0.25  # of the budget, for responses; as much again for vectors and, at most, for RDMs
_LEAST_RDMS = 2**30  # tiles need about so much
_COMPILER = 2**27  # XLA's own, while it compiles what the plan does not
_BLOCKS = 2**27  # blocks of voxels being scaled, in float64
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
      models: for each model, (layers, types, width) of each block of layers of equal width.
      computation: the upper limits of layers, batch and threads.
      max_memory: bytes; None for 80 % of what the device or, on the CPU, the machine has left.

    Raises: ValueError with the least budget that would do, where none does.
    """
    budget = int(_SHARE * available_bytes()) if max_memory is None else int(max_memory)
    on_cpu = jax.local_devices()[0].platform == "cpu"
    inner = any(method_of(name, scoring.protocol).uses_inner_folds for name in scoring.decoders)
    problem = folds_of(responses, scoring, inner=inner)
    for tried, share in _smaller(computation):
        limit = int(share * budget)
        rdms = max(min(tried.rdm_bytes, int(_HELD * budget)), _LEAST_RDMS)
        tried = dataclasses.replace(tried, rdm_bytes=rdms)
        counted = _Counted(responses, models, scoring, problem, tried, n_subjects, limit, on_cpu)
        stages = counted.stages()
        # Looked at now, for what XLA took to compile stays; the first subject, which is there already,
        # is counted with the stages.
        base = max(0, resident_bytes() - held_bytes(responses)) if on_cpu else 0
        plan = Plan(stages, base, budget, tried, limit, limit)
        if plan.peak <= budget:
            return plan
    largest = max(plan.stages, key=lambda stage: stage.bytes).name
    raise ValueError(
        f"the study needs at least {plan.peak / _GIB:.2f} GiB but may use {budget / _GIB:.2f}: give "
        f"--max_memory_gb={np.ceil(plan.peak / _GIB * 10) / 10:.1f} if there is so much, or score fewer "
        f"layers at a time. Its largest stage is {largest!r}:\n{plan.text()}"
    )


def _smaller(computation: Computation) -> Iterator[tuple[Computation, float]]:
    """Computations with the share of the budget that responses may hold, ever smaller ones.

    Fewer threads, one layer at once, one layer a call, one subject and model at a time.
    """
    yield computation, _HELD
    for threads in range(computation.workers() - 1, 0, -1):
        yield dataclasses.replace(computation, threads=threads), _HELD
    if computation.at_once() > 1:
        yield dataclasses.replace(computation, threads=1, batch=1), _HELD
    least = dataclasses.replace(computation, threads=1, batch=1, layers=1)
    if computation.layers > 1:
        yield least, _HELD
    yield least, 0.0


@dataclass(frozen=True)
class _Counted:
    """What the stages of a study are counted from; limit: bytes of responses, and of vectors, at a time."""

    responses: WordResponses
    models: Sequence[Sequence[tuple[int, int, int]]]
    scoring: Scoring
    problem: Problem
    computation: Computation
    n_subjects: int
    limit: int
    on_cpu: bool

    def stages(self) -> tuple[Stage, ...]:
        protocol, item = self.scoring.protocol, np.dtype(self.computation.dtype).itemsize
        methods: list[Any] = [method_of(name, protocol) for name in self.scoring.decoders]
        measures: list[Any] = [measure_of(name, protocol) for name in self.scoring.measures]
        blocks = [block for model in self.models for block in model]
        size = held_bytes(self.responses)
        n_held = self.n_subjects if not size else min(self.n_subjects, self.limit // size)
        n_held = max(1, n_held)
        sizes = [sum(4 * math.prod(block) for block in model) for model in self.models]
        vectors = max(max(sizes), min(sum(sizes), self.limit))
        held = {"responses": n_held * size, "vectors": vectors} if self.on_cpu else {}
        forms = {method.form for method in (*methods, *measures)}
        n_rows, n_features = self.responses.values.shape
        stages = []
        if self.on_cpu and forms - {"values"}:
            stages.append(Stage("reduce the responses", held | _reduction(n_rows, n_features)))
        fits = len(self.problem.folds.outer.train) if preparation.fits_each_fold(protocol) else 1
        columns = {method.name: self._columns(method.form, method.protocol) for method in methods}
        ways = {(method.spans_vectors, method.correlates_vectors) for method in methods}
        prepared = {(m.form, m.protocol.pca): columns[m.name] for m in methods}
        compared = {m.form: self._columns(m.form, m.protocol) for m in measures}
        prepared |= {(m.form, m.protocol.pca): compared[m.form] for m in measures}
        share = vectors / sum(sizes)
        kept = {
            "prepared responses": 2 * fits * n_rows * sum(prepared.values()) * item,
            "prepared vectors": int(
                share * sum(_layer_numbers(block, *way) for block in blocks for way in ways) * item
            ),
        }
        n_types = blocks[0][1]
        if measures:
            kept["mean responses"] = n_types * sum(compared.values()) * item
        workers = self.computation.workers()
        with ThreadPoolExecutor(cores()) as pool:
            programs_of = [
                pool.submit(self._program, method, columns[method.name], block)
                for method in methods
                for block in dict.fromkeys((0, *block[1:]) for block in blocks)
            ]
            held_by: dict[str, dict[str, int]] = {}
            for name, program_bytes in (future.result() for future in programs_of):
                most = held_by.setdefault(name, dict.fromkeys(program_bytes, 0))
                held_by[name] = {key: max(value, program_bytes[key]) for key, value in most.items()}
        for method in methods:
            most = held_by[method.name]
            work = {
                "shared by layers": workers * most["state"],
                "at work": workers * max(most["prepare"], most["evaluate"]),
                "compiler": _COMPILER * self.on_cpu,
            }
            stages.append(Stage(method.name, held | kept | work))
        if measures:
            n_layers = max(block[0] for block in blocks)
            sizes_of = n_held, n_types, self.computation, n_layers
            wanted = [measure.needed_bytes(*sizes_of) for measure in measures]
            means = n_held * n_types * sum(compared.values()) * item
            rdms = {"RDMs": min(max(wanted), self.computation.rdm_bytes), "mean responses": means}
            stages.append(Stage("compare geometries", held | rdms))
        return tuple(stages)

    def _columns(self, form: str, protocol: Protocol) -> int:
        """Columns of prepared responses of a form, at most."""
        n_rows, n_features = self.responses.values.shape
        if protocol.pca == "model_width":
            widest = max(block[2] for model in self.models for block in model)
            return min(n_rows, n_features, widest)
        if form == "values" or n_features <= n_rows // 2:
            return n_features
        bound = min(int(self.problem.eligible.sum()), n_features)
        return min(n_rows, preparation.rounded_rank(bound))

    def _program(
        self, method: Method, columns: int, block: tuple[int, int, int]
    ) -> tuple[str, dict[str, int]]:
        """The method's name; what its `prepare` and `evaluate` hold for vectors of a block, and the state."""
        sizes = programs.chunk_sizes(
            [(block[0], block[2]) for model in self.models for block in model],
            most=self.computation.layers,
            devices=programs.layer_mesh().size,
        )
        dtype = self.computation.dtype
        source = jax.ShapeDtypeStruct((len(self.responses.values), columns), dtype)
        fold = self.problem.fold(slice(None) if pools_folds(method) else 0)
        if not method.uses_inner_folds:
            fold = fold._replace(inner=None)
        fold = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), fold)
        _, n_types, width = block
        with self.computation.context():
            program_bytes = programs.memory(
                source,
                (sizes[width], n_types, width),
                fold,
                method=method,
                batch=self.computation.at_once(),
                dtype=dtype,
            )
        return method.name, program_bytes


def _layer_numbers(block: tuple[int, int, int], span: bool, correlate: bool) -> int:
    """Numbers of a block of prepared layers."""
    n_layers, n_types, width = block
    if correlate and n_types <= decoding.MOST_TYPES * width:
        return n_layers * (n_types**2 + n_types * width)
    if span and n_types < width:
        return n_layers * (2 * n_types**2 + n_types * width)
    return n_layers * n_types * width


def held_bytes(responses: WordResponses) -> int:
    """Memory of the responses; none where they are mapped from a file."""
    array = responses.values
    while array is not None:
        if isinstance(array, np.memmap):
            return 0
        array = getattr(array, "base", None)
    return responses.values.nbytes


def _reduction(n_rows: int, n_features: int) -> dict[str, int]:
    """Bytes of `preparation.lossless_reduction`: a Gram matrix, its eigenvectors, LAPACK's workspace."""
    blocks = min(_BLOCKS, 32 * n_rows * n_features)
    if n_features <= n_rows // 2:
        return {"scaled responses": 4 * n_rows * n_features, "blocks": blocks}
    return {"blocks": blocks, "Gram matrix": 8 * n_rows**2, "eigenvectors": 8 * 3 * n_rows**2}


def available_bytes() -> int:
    """Memory of the smallest local accelerator, or what the machine has left for this process."""
    return accelerator_bytes() or resident_bytes() + free_memory()
