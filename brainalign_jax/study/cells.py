"""The cells of a sweep: one subject and method with all models, worked fold by fold.

What several cells need is made once: folds of equal words, prepared responses of a subject, prepared
layers of a model. `Workbench` keeps it, `Job` is the work on one subject and method.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import jax
import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import geometry, programs, score_rows, sources
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.decoding import LayerVectors
from brainalign_jax.study.methods import METHODS, Method, Ridge
from brainalign_jax.study.problem import Problem, Scoring, build_problem


class Job:
    """The folds of one subject and method in the making, for several models."""

    def __init__(self, bench: "Workbench", subject: int, method: str, futures, problem: Problem):
        self.subject, self.method = subject, method
        self._bench, self._futures, self._problem = bench, futures, problem

    def tables(self) -> Iterator[tuple[int, pd.DataFrame]]:
        """(model, rows) once they are computed. Raises what computing them raised."""
        for models, folds in self._futures:
            by_fold = [future.result() for future in folds]
            for model in models:
                parts = []
                for block, layers in enumerate(self._bench.layer_numbers[model]):
                    scores = [fold[model][block] for fold in by_fold]
                    scores = {name: np.stack([one[name] for one in scores]) for name in scores[0]}
                    parts.append(
                        score_rows.decoding_rows(scores, self._problem, self._bench.scoring, layers)
                    )
                if self.method == "rsa":
                    parts += self._bench.geometry_rows(self.subject, model)
                yield model, pd.concat(parts, ignore_index=True)

    def cancel(self) -> None:
        """Folds that have not begun need not."""
        for _, folds in self._futures:
            for future in folds:
                future.cancel()


class Workbench:
    """What the cells of a sweep share: folds, prepared responses, prepared layers."""

    def __init__(
        self,
        responses: Sequence[WordResponses],
        models: Sequence[Embeddings],
        scoring: Scoring,
        computation: Computation,
        pool: Executor,
    ):
        self.scoring = scoring
        self.layer_numbers = [
            [layers for layers, _ in chosen_layers(model, scoring.layers)] for model in models
        ]
        self._responses, self._models = responses, models
        self._computation, self._pool = computation, pool
        self._mesh = programs.layer_mesh()
        self._chunk = programs.chunk_size(
            [len(layers) for blocks in self.layer_numbers for layers in blocks],
            most=computation.layers,
            devices=self._mesh.size,
        )
        self._problems: dict[tuple, Problem] = {}
        self._layers: dict[tuple, list] = {}
        self._sources: tuple[int, dict] = (-1, {})  # of one subject
        self._geometry: dict[tuple[int, int], list[tuple[np.ndarray, int]]] = {}

    def job(self, subject: int, name: str, models: list[int]) -> Job:
        """Begin to score models on one subject."""
        method = METHODS[name](self.scoring.protocol)
        problem = self._problem(subject, inner=method.uses_inner_folds)
        # Responses that are fitted to a model's width or vectors are shared by what is alike in it.
        groups: dict[tuple, list[int]] = {}
        for model in models:
            groups.setdefault(self._fitted_to(model), []).append(model)
        futures = []
        for same in groups.values():
            source = self._source(subject, same[0], method.form, problem, folds=True)
            ready = self._with_filters(method, source, problem)
            prepared = {
                model: self._prepared_layers(model, method.spans_vectors, source.shape[-1])
                for model in same
            }
            folds = [
                self._pool.submit(self._score_fold, ready, source, problem, fold, prepared)
                for fold in range(len(problem.folds.outer.train))
            ]
            futures.append((same, folds))
        return Job(self, subject, name, futures, problem)

    def _score_fold(
        self, method: Method, source: np.ndarray, problem: Problem, index: int, prepared: dict
    ) -> dict[int, list[dict[str, np.ndarray]]]:
        """model -> scores with a leading layer axis, of each of its blocks of layers."""
        with self._computation.context():
            fold = problem.fold(index)
            source = source if source.ndim == 2 else source[index]
            state = programs.prepare(source, fold, method=method)
            if isinstance(method, Ridge) and not programs.filters_suffice(state):
                method = dataclasses.replace(method, n_filters=None)
                state = programs.prepare(source, fold, method=method)
            options = dict(method=method, mesh=self._mesh, batch=self._computation.at_once())
            found = {}
            for model, blocks in prepared.items():
                found[model] = []
                for layers, chunks in zip(self.layer_numbers[model], blocks, strict=True):
                    parts = [
                        programs.evaluate(state, source, chunk, fold, **options) for chunk in chunks
                    ]
                    found[model].append(
                        {
                            name: np.concatenate([np.asarray(part[name]) for part in parts])[
                                : len(layers)
                            ]
                            for name in parts[0]
                        }
                    )
            return found

    def _problem(self, subject: int, *, inner: bool) -> Problem:
        one = self._responses[subject]
        key = (one.stimulus.fingerprint(), one.valid.tobytes(), inner)
        if key not in self._problems:
            self._problems[key] = build_problem(one, self._models[0], self.scoring, inner=inner)
        return self._problems[key]

    def _source(self, subject: int, model: int, form: str, problem: Problem, *, folds: bool):
        """Prepared responses of a subject, [N, R], or [F, N, R] with what is fitted on each fold."""
        protocol, one = self.scoring.protocol, self._responses[subject]
        if self._sources[0] != subject:
            self._sources = (subject, {})
        known, vectors = self._sources[1], self._models[model].values
        own = folds and sources.fits_each_fold(protocol)
        key = (form, own, *self._fitted_to(model))
        if key not in known:
            _, token_to_type = one.stimulus.types(lower=self.scoring.lower)
            known[key] = sources.prepare_responses(
                one.values,
                problem.eligible,
                protocol,
                width=vectors.shape[-1],
                train=problem.folds.outer.train > 0 if folds else None,
                score=sources.voxel_score(
                    one, vectors[0], token_to_type, known.setdefault(("voxels", model), {})
                ),
                form=form,
                dtype=self._computation.dtype,
            )
        return known[key]

    def _fitted_to(self, model: int) -> tuple:
        """What of a model its responses are fitted to: models that are alike in it share them."""
        protocol = self.scoring.protocol
        return (
            self._models[model].values.shape[-1] if protocol.pca != "none" else None,
            model if protocol.n_voxels else None,
        )

    def _with_filters(self, method: Method, source: np.ndarray, problem: Problem) -> Method:
        if not isinstance(method, Ridge):
            return method
        every = source if source.ndim == 2 else source[0]
        size = programs.filter_count(every, problem, self.scoring.protocol)
        return dataclasses.replace(method, n_filters=size)

    def _values(self, model: int, n_features: int) -> Iterator[np.ndarray]:
        """Vectors [l, T, D] of the chosen layers, for each block of layers of equal width."""
        for _, values in chosen_layers(self._models[model], self.scoring.layers):
            yield sources.prepare_vectors(
                values,
                self.scoring.protocol,
                n_features=n_features,
                dtype=self._computation.dtype,
            )

    def _prepared_layers(self, model: int, span: bool, n_features: int) -> list[list[LayerVectors]]:
        """Chunks of prepared layers, for each block of layers of equal width."""
        reduced = n_features if sources.reduces_vectors(self.scoring.protocol) else None
        key = (model, span, reduced)
        if key not in self._layers:
            self._layers[key] = [
                [programs.layers(part, span=span) for part in programs.chunks(values, self._chunk)]
                for values in self._values(model, n_features)
            ]
        return self._layers[key]

    def compare_geometries(self, todo: dict[tuple[int, str], list[int]]) -> None:
        """The RSA scores of all (subject, "rsa") -> models of `todo`: each RDM is made once.

        Nothing is learnt from these responses: they are scaled over all words.
        """
        protocol = self.scoring.protocol
        waiting: dict[tuple, dict[int, np.ndarray]] = {}
        for (subject, method), models in todo.items():
            if method != "rsa":
                continue
            problem = self._problem(subject, inner=False)
            words = problem.folds.token_to_type, problem.eligible
            for model in models:
                source = self._source(subject, model, geometry.form(protocol), problem, folds=False)
                width = source.shape[-1] if sources.reduces_vectors(protocol) else 0
                key = (model, width, problem.eligible.tobytes(), words[0].tobytes())
                waiting.setdefault(key, {})[subject] = self._type_means(model, source, *words)
        rdms: dict[tuple, dict[int, jax.Array]] = {}
        for (model, width, *words), means in waiting.items():
            types = next(iter(means.values()))[0]
            # Where models share the prepared responses, they share the subjects' RDMs.
            known = rdms.setdefault((*self._fitted_to(model), *words, *means), {})
            for values in self._values(model, width):
                found = geometry.scores(
                    [rows for _, rows in means.values()],
                    values[:, types],
                    protocol,
                    self._computation,
                    self._pool,
                    known,
                )
                for subject, row in zip(means, found, strict=True):
                    self._geometry.setdefault((subject, model), []).append((row, len(types)))

    def _type_means(self, model: int, source, token_to_type, eligible):
        """(types that have eligible tokens [T'], the mean responses to them) of the current subject."""
        known = self._sources[1]
        key = ("means", *self._fitted_to(model))
        if key not in known:
            known[key] = sources.type_means(source, token_to_type, eligible)
        return known[key]

    def geometry_rows(self, subject: int, model: int) -> list[pd.DataFrame]:
        """Rows of the RSA score, for each block of layers."""
        blocks = zip(self.layer_numbers[model], self._geometry[subject, model], strict=True)
        return [score_rows.rsa_rows(row, layers, count) for layers, (row, count) in blocks]


def chosen_layers(embeddings: Embeddings, wanted: tuple[int, ...] | None):
    """(layer numbers, values [l, T, D]) of equal width. Raises ValueError for a layer not there."""
    blocks = list(embeddings.blocks())
    known = [layer for layers, _ in blocks for layer in layers]
    strange = [] if wanted is None else [layer for layer in wanted if layer not in known]
    if strange:
        raise ValueError(
            f"{embeddings.model} has no layer {strange[0]}: its layers are {known[0]} to {known[-1]}"
        )
    for layers, values in blocks:
        keep = [i for i, layer in enumerate(layers) if wanted is None or layer in wanted]
        if keep:
            yield tuple(layers[i] for i in keep), values[keep]
