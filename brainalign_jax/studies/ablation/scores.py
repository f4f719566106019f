"""Ranks of the tested words where a part of the model is off: by a map fitted anew, and by the intact one.

A setting's vectors are one more layer to the compiled programs of a study: settings of all blocks are stacked
and scored together, and what depends on the person and the fold alone is shared by all.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg, ridge
from brainalign_jax.language import Embeddings
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.parts.components import Setting
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.ablation import held_constant
from brainalign_jax.studies.ablation.held_constant import HeldFeatures, HeldFold
from brainalign_jax.study.computation import Computation, compiled
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.score import decoding, preparation, programs
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.fold_work import Work
from brainalign_jax.study.score.methods import FoldProblem, Method
from brainalign_jax.study.score.methods.base import FittedMap
from brainalign_jax.study.score.problem import Problem
from brainalign_jax.study.score.workbench import Workbench

_PART = (0, 0)  # the only model, whose layers have one width
OWN, CHOSEN = (
    0,
    1,
)  # where it is read: behind the part's block, and in the layer that the intact model chooses
KINDS = ("rank_nn", "rank_csls")


class IntactScores(NamedTuple):
    """One person and method. ranks: [2, L, T] of `KINDS`, 0 for words that are not tested; chosen: [F] layer
    of each fold; selected: [2, T] ranks in it; n_candidates."""

    ranks: np.ndarray
    chosen: np.ndarray
    selected: np.ndarray
    n_candidates: int


class AblatedScores(NamedTuple):
    """One person, method, read-out: ranks and intact, [2, C, 2, T] of `KINDS`, settings, OWN and CHOSEN."""

    ranks: np.ndarray
    intact: np.ndarray


class HeldOut(NamedTuple):
    """One person's held-out predictions by ridge: hats [F, Q, T] of each layer times its vectors [T, D].

    gold: [F, Q] true types of the queries; mask: [F, Q], 0 where padded.
    """

    hats: dict[int, np.ndarray]
    gold: np.ndarray
    mask: np.ndarray


class Stacks:
    """The vectors of the settings, by layer, in chunks of one size as the methods take them.

    vectors: of each setting, layer -> [T, D]; own: [C] the layer behind its block.
    """

    def __init__(self, vectors: Sequence[Mapping[int, np.ndarray]], own: Sequence[int], size: int):
        self.own = np.asarray(own)
        self.members: dict[tuple[int, int], np.ndarray] = {}  # (role, layer) -> settings
        self._values: dict[tuple[int, int], list[np.ndarray]] = {}
        self._layers: dict[tuple, list[LayerVectors]] = {}
        for layer in sorted({layer for each in vectors for layer in each}):
            for role in (OWN, CHOSEN):
                members = [
                    setting
                    for setting, each in enumerate(vectors)
                    if layer in each and (own[setting] == layer) == (role == OWN)
                ]
                if members:
                    self.members[role, layer] = np.array(members)
                    values = np.stack([vectors[setting][layer] for setting in members])
                    self._values[role, layer] = list(programs.chunks(values, size))

    def values(self, place: tuple[int, int]) -> list[np.ndarray]:
        """Chunks [size, T, D] of the settings at a place."""
        return self._values[place]

    def layers(self, place: tuple[int, int], method: Method) -> list[LayerVectors]:
        """The same in the axes that they span, where the method allows it."""
        ways = dict(span=method.spans_vectors, correlate=method.correlates_vectors)
        key = (place, *ways.values())
        if key not in self._layers:
            self._layers[key] = [programs.layers(chunk, **ways) for chunk in self._values[place]]
        return self._layers[key]

    def places(self, chosen: int) -> list[tuple[int, int]]:
        """What a fold needs that chose this layer: all settings behind their blocks, and those before it."""
        return [place for place in self.members if place[0] == OWN or place[1] == chosen]


class PersonScores:
    """The scores of one model for each person and method; `intact` comes first, as it chooses the layers.

    held: features of the word types that are held constant, by methods of `held_constant.HOLDING`.
    """

    def __init__(
        self,
        responses: Sequence[WordResponses],
        embeddings: Embeddings,
        scoring: Scoring,
        computation: Computation,
        pool: Executor,
        held: HeldFeatures | None = None,
    ):
        self._bench = Workbench(responses, [embeddings], scoring, computation, pool)
        self._vectors = np.asarray(embeddings.values, computation.dtype)
        self._n_types = len(embeddings.types)
        self._computation, self._pool, self._held = computation, pool, held
        # What a person and fold have in common for all that is scored, as long as there is room for it.
        self._prepared: dict[tuple[int, str, int], tuple] = {}
        self._room = device_bytes() // 8
        n_layers = len(self._vectors)
        devices = programs.layer_mesh().size
        # That of the intact layers' chunks: one compiled program for all.
        self.size = programs.chunk_size([n_layers], most=computation.layers, devices=devices)

    def intact(self, subject: int, method: str) -> IntactScores:
        """Ranks in every layer of the intact model, and the layer that each fold's training words choose."""
        problem, work = self._work(subject, method)

        def of_fold(fold: int) -> dict[str, np.ndarray]:
            with self._computation.context():
                source, problem_of_fold, made = self._prepare(subject, method, work, fold)
                layers = work.fold_layers(_PART, fold)
                work_method, state = made
                return work.evaluate(work_method, state, source, _PART, layers, problem_of_fold)

        of_folds = list(self._pool.map(of_fold, work.folds))
        n_layers = len(of_folds[0]["layer_loss"])
        ranks = np.zeros((2, n_layers, self._n_types), np.int32)
        selected = np.zeros((2, self._n_types), np.int32)
        chosen = np.array([scores["layer_loss"].argmin() for scores in of_folds])
        for fold, scores in enumerate(of_folds):
            slots, types = _asked(problem.fold(fold))
            for kind, name in enumerate(KINDS):
                ranks[kind][:, types] = scores[name][:, slots]
                selected[kind][types] = scores[name][chosen[fold], slots]
        return IntactScores(ranks, chosen, selected, problem.n_candidates)

    def _work(self, subject: int, name: str) -> tuple[Problem, Work]:
        """The folds of a person, and the work of a method in them, which holds features constant if asked."""
        problem, (work,) = self._bench.works(subject, name, [0])
        if self._held is None:
            return problem, work
        n_trained = min(int((problem.trained_words(fold) > 0).sum()) for fold in work.folds)
        held_constant.check_words(self._held, name, n_trained)
        return problem, replace(work, method=held_constant.holding(work.method))

    def _fold(self, problem: Problem, index: int) -> FoldProblem | HeldFold:
        """A fold, with the features that are held constant, on the device."""
        fold = problem.fold(index)
        if self._held is not None:
            fold = HeldFold(*fold, self._held.values.astype(self._computation.dtype))
        return jax.device_put(fold)

    def _prepare(
        self, subject: int, name: str, work: Work, index: int
    ) -> tuple[Any, Any, tuple[Any, Any]]:
        """(responses, fold, (method, state)): the brain side of a fold, kept where there is room for it."""
        source, fold = jax.device_put(work.source), self._fold(work.problem, index)
        key = subject, name, index
        made = self._prepared.get(key)
        if made is None:
            made = work.prepare(source, fold)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(made[1]))
            if size <= self._room:
                self._room -= size
                self._prepared[key] = made
        return source, fold, made

    def means(self, subject: int, method: str) -> tuple[np.ndarray, np.ndarray]:
        """(word types of a subject's eligible tokens [T'], the mean responses to them [T', V])."""
        problem, _ = self._bench.works(subject, method, [0])
        words = problem.folds.token_to_type, problem.eligible
        return preparation.type_means(self._bench.responses[subject].values, *words)

    def hats(self, subject: int, layers: Sequence[int]) -> HeldOut:
        """Ridge's held-out predictions as linear functions of a layer's vectors, by its own penalties."""
        problem, (work,) = self._bench.works(subject, "ridge", [0])

        def of_fold(fold: int) -> list[np.ndarray]:
            with self._computation.context():
                source, asked = jax.device_put((work.source, work.problem.fold(fold)))
                method, state = work.prepare(source, asked)
                own = [_intact_layer(work, layer) for layer in layers]
                return [np.asarray(_hat(state, layer, asked, method=method)) for layer in own]

        of_folds = list(self._pool.map(of_fold, work.folds))
        outer = problem.folds.outer
        by_layer = {
            layer: np.stack([hats[at] for hats in of_folds]) for at, layer in enumerate(layers)
        }
        return HeldOut(by_layer, np.asarray(outer.gold), np.asarray(outer.query_mask))

    def ablated(
        self, subject: int, name: str, intact: IntactScores, stacks: Stacks, readouts: Sequence[str]
    ) -> dict[str, AblatedScores]:
        """Ranks under every setting, by read-out; a method without a map has no frozen one."""
        problem, work = self._work(subject, name)
        wanted = [each for each in readouts if each == "refit" or hasattr(work.method, "fitted")]
        shape = (2, len(stacks.own), 2, self._n_types)
        by_readout = {each: AblatedScores(*np.zeros((2, *shape), np.int32)) for each in wanted}

        def of_fold(fold: int):
            prepare = functools.partial(self._prepare, subject, name)
            return self._of_fold(prepare, work, fold, int(intact.chosen[fold]), stacks, wanted)

        for fold, scores in enumerate(self._pool.map(of_fold, work.folds)):
            slots, types = _asked(problem.fold(fold))
            chosen = int(intact.chosen[fold])
            for readout, (of_places, of_layers) in scores.items():
                ranks, before = by_readout[readout]
                whole = intact.ranks if readout == "refit" else None
                for kind in range(2):
                    by_layer = {layer: x[kind][slots] for layer, x in of_layers.items()}
                    if whole is not None:
                        by_layer = {layer: x[types] for layer, x in enumerate(whole[kind])}
                    for setting, layer in enumerate(stacks.own):
                        before[kind, setting, OWN, types] = by_layer[layer]
                    before[kind, :, CHOSEN, types] = by_layer[chosen][:, None]
                    # A part behind the chosen layer changes nothing there.
                    ranks[kind, :, CHOSEN, types] = by_layer[chosen][:, None]
                    for (role, layer), x in of_places.items():
                        members = stacks.members[role, layer]
                        if role == OWN:
                            ranks[kind][members[:, None], OWN, types] = x[kind][:, slots]
                        if layer == chosen:
                            ranks[kind][members[:, None], CHOSEN, types] = x[kind][:, slots]
        return by_readout

    def _of_fold(
        self, prepare, work: Work, index: int, chosen: int, stacks: Stacks, readouts
    ) -> dict:
        """By read-out: (ranks [2, S, Q] at each place, ranks [2, Q] of the intact vectors in each layer)."""
        with self._computation.context():
            source, fold, (method, state) = prepare(work, index)
            options = dict(method=method, mesh=work.mesh, batch=self._computation.at_once())
            places = stacks.places(chosen)
            scores: dict[str, tuple] = {}
            if "refit" in readouts:
                by_place = {}
                for place in places:
                    parts = [
                        programs.evaluate(state, source, chunk, fold, **options)
                        for chunk in stacks.layers(place, method)
                    ]
                    by_place[place] = _joined(parts, len(stacks.members[place]))
                scores["refit"] = by_place, {}
            if "frozen" in readouts:
                by_place, by_layer = {}, {}
                for layer in sorted({*(place[1] for place in places), chosen}):
                    fitted = _fitted(state, _intact_layer(work, layer), fold, method=method)
                    how = dict(protocol=method.protocol)
                    (intact,) = programs.chunks(self._vectors[layer : layer + 1], self.size)
                    own = _frozen_ranks(fitted, source, intact, fold, **how)
                    by_layer[layer] = _joined([own], 1)[:, 0]
                    for place in [place for place in places if place[1] == layer]:
                        parts = [
                            _frozen_ranks(fitted, source, chunk, fold, **how)
                            for chunk in stacks.values(place)
                        ]
                        by_place[place] = _joined(parts, len(stacks.members[place]))
                scores["frozen"] = by_place, by_layer
            return scores


def held_bytes(n_types: int, width: int) -> int:
    """Bytes of a setting's vectors in a layer: as they are, and in the axes that they span, with products."""
    return 4 * (2 * n_types * width + n_types * min(n_types, width) + n_types**2)


def own_layer(setting: Setting) -> int:
    """The layer behind the block of a setting's part; positions are read behind the first block."""
    return max(setting.component.block, 0) + 1


def _asked(fold: FoldProblem) -> tuple[np.ndarray, np.ndarray]:
    """(slots, word types) that a fold asks for."""
    slots = np.flatnonzero(np.asarray(fold.outer.query_mask) > 0)
    return slots, np.asarray(fold.outer.gold)[slots]


def _joined(parts: Sequence[Mapping], count: int) -> np.ndarray:
    """Ranks [2, count, Q] of chunks, the last of which may be filled up."""
    return np.stack(
        [np.concatenate([np.asarray(part[name]) for part in parts])[:count] for name in KINDS]
    )


def _intact_layer(work: Work, layer: int) -> LayerVectors:
    chunks = work.layers[_PART]
    size = len(chunks[0].values)
    return jax.tree.map(lambda leaf: leaf[layer % size], chunks[layer // size])


@functools.partial(compiled, static_argnames=("method",))
def _fitted(state, layer: LayerVectors, fold: FoldProblem, *, method: Any) -> FittedMap:
    """The map of an intact layer, to the model's own dimensions."""
    fitted = method.fitted(state, layer, fold)
    if layer.rotation is None:
        return fitted
    weight, source_mean, target_mean = fitted.map
    rotated = [linalg.product(x, layer.rotation) for x in (weight, target_mean, fitted.mean)]
    return FittedMap(decoding.Map(rotated[0], source_mean, rotated[1]), rotated[2], fitted.queries)


@functools.partial(compiled, static_argnames=("method",))
def _hat(state, layer: LayerVectors, fold: FoldProblem, *, method: Any) -> jax.Array:
    """[Q, T] that makes the predictions for the queries of the vectors of the types."""
    alpha, _ = method.choose_alpha(state, layer, fold)
    weights, dtype = state.outer.weights, layer.values.dtype
    mean = linalg.normalized_weights(weights, dtype) * method.protocol.fit_intercept
    coefficients = ridge.predict(state.outer, jnp.eye(len(weights), dtype=dtype) - mean, alpha)
    return linalg.product(state.queries - state.source_mean, coefficients) + mean


@functools.partial(compiled, static_argnames=("protocol",))
def _frozen_ranks(fitted: FittedMap, source, vectors: jax.Array, fold, *, protocol):
    """Ranks [C, Q] by a map among the candidates' vectors [C, T, D]."""
    map, mean, queries = fitted
    tokens = held_constant.left_of_responses(source, fold)

    def of_setting(vectors):
        candidates = held_constant.left_of_vectors(vectors, fold)
        return decoding.decode(map, queries, tokens, candidates, mean, fold.outer, protocol)

    return jax.lax.map(of_setting, vectors)
