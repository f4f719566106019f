"""Cells being worked: one subject and method with all models, fold by fold.

What several cells need is made once: folds of equal words, prepared responses of a subject, prepared
layers of a model. `Workbench` keeps it, `Job` is the work on one subject and method. Layers of a model
that differ in width are parts of their own: (model, block) of `Embeddings.blocks`.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import decoders_of, measures_of
from brainalign_jax.study.score import preparation, programs
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.fold_work import Part, Work
from brainalign_jax.study.score.group import GroupRecording
from brainalign_jax.study.score.measures import Measure, measure_of
from brainalign_jax.study.score.methods import FoldProblem, Method, Ridge, method_of, pools_folds
from brainalign_jax.study.score.problem import Problem, Scoring, check_words, folds_of, reworded
from brainalign_jax.study.score.rows import (
    decoding_rows,
    measure_rows,
    no_ranks,
    rank_rows,
    selected_rows,
)


class Job:
    """The folds of one subject and method in the making, for several models; a mere measure has none."""

    def __init__(
        self, bench: "Workbench", subject: int, method: str, models, problem: Problem | None
    ):
        self.subject, self.method, self._models = subject, method, models
        self._bench, self._problem = bench, problem
        self._folds: list[tuple[list[Part], list]] = []

    def add(self, parts: list[Part], folds: list) -> None:
        """Futures of the folds, each of one or several dicts from the parts to their scores."""
        self._folds.append((parts, folds))

    def tables(self) -> Iterator[tuple[int, pd.DataFrame, pd.DataFrame]]:
        """(model, rows, ranks of the tested words) once they are computed.

        Raises what computing them raised.
        """
        part_scores: dict[Part, dict[str, np.ndarray]] = {}
        for parts, folds in self._folds:
            by_fold = [fold for future in folds for fold in future.result()]
            for part in parts:
                scores = [fold[part] for fold in by_fold]
                part_scores[part] = {
                    name: np.stack([fold[name] for fold in scores]) for name in scores[0]
                }
        bench, problem = self._bench, self._problem
        for model in self._models:
            rows, ranks = [], [no_ranks(bench.dtype)]
            parts = [part for part in sorted(part_scores) if part[0] == model]
            decoded = [(bench.parts[part], part_scores[part]) for part in parts]
            if problem is not None:
                rows = [
                    decoding_rows(scores, problem, bench.scoring, layers)
                    for layers, scores in decoded
                ]
                ranks = [rank_rows(scores, problem, layers) for layers, scores in decoded]
                if "layer_loss" in decoded[0][1]:
                    rows.append(selected_rows(decoded, problem, bench.scoring))
            if measures_of([self.method]):
                rows += bench.measured_rows(self.subject, self.method, model)
            yield model, *(pd.concat(x, ignore_index=True) for x in (rows, ranks))

    def cancel(self) -> None:
        """Folds that have not begun need not."""
        for _, folds in self._folds:
            for future in folds:
                future.cancel()


class SharedProblem:
    """The folds of equal words, and what is made of them once: the words moved by each draw, and the layers
    that each fold's training words scale and reduce, by part."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.moved: tuple[FoldProblem, np.ndarray] | None = None
        self.reduced: dict[tuple, list[list[LayerVectors]]] = {}


class SubjectSources:
    """What is prepared of one subject's responses, by what it is prepared for."""

    def __init__(self, subject: int = -1):
        self.subject = subject
        self.prepared: dict[tuple, np.ndarray] = {}
        self.means: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        self.voxel_scores: dict[int, dict] = {}  # by model


class Workbench:
    """What the cells of a sweep share: folds, prepared responses, prepared layers.

    parts: the layer numbers of each (model, block of layers of equal width).

    What is kept, and when it goes: problems and values of measures stay as long as the bench. Prepared
    responses are of one subject, and go when the next one's are asked for. Prepared layers stay until
    responses of another width ask for them, and then take their place.
    """

    def __init__(
        self,
        responses: Sequence[WordResponses],
        models: Sequence[Embeddings],
        scoring: Scoring,
        computation: Computation,
        pool: Executor,
    ):
        self.scoring = scoring
        self.parts = {
            (model, block): numbers
            for model, embeddings in enumerate(models)
            for block, numbers in enumerate(layer_numbers(embeddings, scoring.layers))
            if numbers
        }
        self.responses, self._models = responses, models
        self._computation, self._pool = computation, pool
        self.dtype = computation.dtype
        self._mesh = programs.layer_mesh()
        self._chunks = programs.chunk_sizes(
            [(len(numbers), self._width(part)) for part, numbers in self.parts.items()],
            most=computation.layers,
            devices=self._mesh.size,
        )
        self._problems: dict[tuple, SharedProblem] = {}
        # By part and how it is prepared: the features it is reduced to, and its chunks.
        self._layers: dict[tuple, tuple[int | None, list[LayerVectors]]] = {}
        self._sources = SubjectSources()
        # By subject, measure and part: its values [l], of how many words, and what chance gives.
        self._measured: dict[tuple[int, str, Part], tuple[np.ndarray, int, float]] = {}

    def job(self, subject: int, name: str, models: list[int]) -> Job:
        """Begin to score models on one subject."""
        if not decoders_of([name]):
            return Job(self, subject, name, models, None)
        problem, works = self.works(subject, name, models)
        job = Job(self, subject, name, models, problem)
        for work in works:
            futures = [self._pool.submit(work.score, fold) for fold in work.folds]
            job.add(list(work.layers), futures)
        return job

    def works(self, subject: int, name: str, models: list[int]) -> tuple[Problem, list[Work]]:
        """The folds of a subject, and what is to be done in each: once for all models that share sources."""
        method = method_of(name, self.scoring.protocol)
        protocol = method.protocol
        shared = self._problem(subject, inner=method.uses_inner_folds)
        problem = shared.problem
        groups: dict[tuple, list[Part]] = {}
        for part in self.parts:
            if part[0] in models:
                groups.setdefault(self._fitted_to(part, protocol), []).append(part)
        works = []
        for parts in groups.values():
            source = self._source(subject, parts[0], method.form, protocol, problem, folds=True)
            layers = {part: self._prepared_layers(part, method, source.shape[-1]) for part in parts}
            n_axes = protocol.vector_axes
            reduced = {
                part: self._fold_layers(part, chunks, method, shared)
                for part, chunks in layers.items()
                if protocol.scales_in_folds or 0 < n_axes < chunks[0].values.shape[-1]
            }
            ready = self._with_filters(method, source, problem)
            counts = {part: len(self.parts[part]) for part in parts}
            works.append(
                Work(ready, source, problem, layers, reduced, counts, self._computation, self._mesh)
            )
        return problem, works

    def _problem(self, subject: int, *, inner: bool) -> SharedProblem:
        recording = self.responses[subject]
        key = (recording.stimulus.fingerprint(attributes=False), recording.valid.tobytes(), inner)
        if key not in self._problems:
            for model in self._models:
                check_words(recording, model, self.scoring)
            self._problems[key] = SharedProblem(folds_of(recording, self.scoring, inner=inner))
        return self._problems[key]

    def reworded(
        self, subject: int, method: Method, draws: Sequence[np.ndarray]
    ) -> tuple[FoldProblem, np.ndarray]:
        """A subject's folds with the words moved by each draw, and the words [P] that each asks for.

        draws: each the token [N] whose response each token takes, the same in all calls.
        Subjects and methods of the same problem share them.
        """
        shared = self._problem(subject, inner=method.uses_inner_folds)
        if shared.moved is None:
            # The token that takes the response of token i has its word at i.
            words = np.stack([np.argsort(rows) for rows in draws])
            moved = reworded(self.responses[subject], shared.problem, self.scoring, words)
            shared.moved = moved, moved.outer.query_mask.sum(axis=(1, 2), dtype=np.float64)
        return shared.moved

    def _of_subject(self, subject: int) -> SubjectSources:
        """What is prepared of a subject; that of the one before goes."""
        if self._sources.subject != subject:
            self._sources = SubjectSources(subject)
        return self._sources

    def _source(
        self,
        subject: int,
        part: Part,
        form: str,
        protocol: Protocol,
        problem: Problem,
        *,
        folds: bool,
    ):
        """Prepared responses of a subject, [N, R], or [F, N, R] with what is fitted on each fold."""
        prepared = self._of_subject(subject).prepared
        key = (
            form,
            folds and preparation.fits_each_fold(protocol),
            *self._fitted_to(part, protocol),
        )
        if key not in prepared:
            values = self.responses[subject].values
            prepared[key] = self.prepared(
                subject, part, form, protocol, problem, values, folds=folds
            )
        return prepared[key]

    def prepared(
        self,
        subject: int,
        part: Part,
        form: str,
        protocol: Protocol,
        problem: Problem,
        values,
        *,
        folds: bool = True,
    ) -> np.ndarray:
        """Responses [N, V] of a subject prepared for a part: [N, R], or [F, N, R]."""
        recording, model = self.responses[subject], part[0]
        if folds and isinstance(recording, GroupRecording):
            train = problem.folds.outer.train > 0
            return recording.fold_values(train).astype(self._computation.dtype)
        _, token_to_type = recording.stimulus.types(lower=self.scoring.lower)
        unchanged = values is recording.values
        known = self._of_subject(subject).voxel_scores.setdefault(model, {}) if unchanged else {}
        return preparation.prepare_responses(
            values,
            problem.eligible,
            protocol,
            width=self._width(part),
            train=problem.folds.outer.train > 0 if folds else None,
            score=preparation.voxel_score(
                recording, self._models[model].values[0], token_to_type, known, values=values
            ),
            form=form,
            dtype=self._computation.dtype,
        )

    def _fitted_to(self, part: Part, protocol: Protocol) -> tuple:
        """What of a part its responses are fitted to: parts that are alike in it share them."""
        return (
            self._width(part) if protocol.pca != "none" else None,
            part[0] if protocol.n_voxels else None,
        )

    def _with_filters(self, method: Method, source: np.ndarray, problem: Problem) -> Method:
        if not isinstance(method, Ridge):
            return method
        every = source if source.ndim == 2 else source[0]
        size = programs.filter_count(every, problem, method.protocol)
        return dataclasses.replace(method, n_filters=size)

    def _vectors(self, part: Part) -> np.ndarray:
        """All vectors [l, T, D] of the block of layers that the part is chosen from."""
        model, block = part
        return list(self._models[model].blocks())[block][1]

    def _width(self, part: Part) -> int:
        return self._vectors(part).shape[-1]

    def _values(
        self, part: Part, protocol: Protocol, n_features: int, *, folds: bool = True
    ) -> np.ndarray:
        """Vectors [l, T, D] of the chosen layers."""
        model, block = part
        numbers, values = list(self._models[model].blocks())[block]
        wanted = self.parts[part]
        if wanted != numbers:
            values = values[[numbers.index(layer) for layer in wanted]]
        options = dict(n_features=n_features, folds=folds, dtype=self._computation.dtype)
        return preparation.prepare_vectors(values, protocol, **options)

    def _prepared_layers(self, part: Part, method: Method, n_features: int) -> list[LayerVectors]:
        """The part's layers in chunks, as the methods take them."""
        protocol = method.protocol
        reduced = n_features if preparation.reduces_vectors(protocol) else None
        # Vectors on fewer axes are correlated over these, and dimensions that are yet to be scaled are
        # kept as they are.
        fewer = 0 < protocol.vector_axes < self._width(part)
        correlate = method.correlates_vectors and not fewer and not protocol.scales_in_folds
        ways = dict(span=method.spans_vectors and not protocol.scales_in_folds, correlate=correlate)
        key = (part, *ways.values(), protocol.vector_scaling)
        if key not in self._layers or self._layers[key][0] != reduced:
            values = self._values(part, protocol, n_features)
            size = self._chunks[self._width(part)]
            chunks = [programs.layers(chunk, **ways) for chunk in programs.chunks(values, size)]
            self._layers[key] = reduced, chunks
        return self._layers[key][1]

    def _fold_layers(
        self, part: Part, chunks: list[LayerVectors], method: Method, shared: SharedProblem
    ) -> list[list[LayerVectors]]:
        """The part's chunks as each fold's training words scale and reduce them, by `Work.folds`."""
        protocol, pooled = method.protocol, pools_folds(method)
        ways = method.spans_vectors, protocol.vector_scaling, pooled
        key = (part, ways, chunks[0].values.shape)
        if key not in shared.reduced:
            folds = [slice(None)] if pooled else range(len(shared.problem.folds.outer.train))
            shared.reduced[key] = [
                programs.reduced_layers(chunks, shared.problem, fold, protocol) for fold in folds
            ]
        return shared.reduced[key]

    def measure(self, todo: dict[tuple[int, str], list[int]]) -> None:
        """The values of all (subject, measure) -> models of `todo`: each side is represented once.

        Nothing is learnt here: responses and vectors are scaled over all words.
        """
        for name in measures_of(dict.fromkeys(method for _, method in todo)):
            wanted = {
                subject: models for (subject, method), models in todo.items() if method == name
            }
            self._measure(measure_of(name, self.scoring.protocol), wanted)

    def _measure(self, measure: Measure, wanted: dict[int, list[int]]) -> None:
        protocol = measure.protocol
        # Parts that share the prepared responses share what is made of the subjects'.
        groups: dict[tuple, dict[tuple, dict[int, tuple]]] = {}
        for subject, models in wanted.items():
            problem = self._problem(subject, inner=False).problem
            words = problem.folds.token_to_type, problem.eligible
            for part in self.parts:
                if part[0] not in models:
                    continue
                source = self._source(subject, part, measure.form, protocol, problem, folds=False)
                width = source.shape[-1] if preparation.reduces_vectors(protocol) else 0
                alike = (*self._fitted_to(part, protocol), *(x.tobytes() for x in words))
                group = groups.setdefault(alike, {})
                group.setdefault((part, width), {})[subject] = self._means(
                    subject, part, measure, source, *words
                )
        for group in groups.values():
            known: dict[int, Any] = {}
            for (part, width), means in group.items():
                types = next(iter(means.values()))[0]
                values = measure.scores(
                    {subject: rows for subject, (_, rows) in means.items()},
                    self._values(part, protocol, width, folds=False)[:, types],
                    self._computation,
                    self._pool,
                    known,
                )
                for subject, row in zip(means, values, strict=True):
                    value = row, len(types), measure.chance(len(types))
                    self._measured[subject, measure.name, part] = value

    def _means(self, subject: int, part: Part, measure: Measure, source, *words):
        """`Measure.rows` of a subject."""
        means = self._of_subject(subject).means
        key = (measure.form, measure.repeats, *self._fitted_to(part, measure.protocol))
        if key not in means:
            recording, pca = self.responses[subject], measure.protocol.pca
            width = source.shape[1] if pca != "none" else recording.values.shape[1]
            means[key] = measure.rows(source, *words, recording.stimulus.run, n_features=width)
        return means[key]

    def measured_rows(self, subject: int, measure: str, model: int) -> list[pd.DataFrame]:
        """Rows of a measure, of each part of a model."""
        return [
            measure_rows(measure, *self._measured[subject, measure, part], self.parts[part])
            for part in sorted(self.parts)
            if part[0] == model
        ]


def layer_numbers(embeddings: Embeddings, wanted: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """Numbers of the wanted layers (None: all) in each block of layers of equal width.

    A model of one layer, such as a control or static vectors, keeps it whatever is wanted of the others.

    Raises: ValueError for a layer that is not there.
    """
    blocks = [numbers for numbers, _ in embeddings.blocks()]
    known = [layer for numbers in blocks for layer in numbers]
    if len(known) == 1:
        wanted = None
    strange = [] if wanted is None else [layer for layer in wanted if layer not in known]
    if strange:
        raise ValueError(
            f"{embeddings.model} has no layer {strange[0]}: its layers are {known[0]} to {known[-1]}"
        )
    return [tuple(n for n in numbers if wanted is None or n in wanted) for numbers in blocks]
