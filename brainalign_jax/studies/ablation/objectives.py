"""Alignments that can be differentiated by a layer's word vectors: linear CKA, and ridge in closed form.

"cka": the debiased linear CKA of a study, mean over people, with the mean of their kernels. "ridge": the
held-out correlation of a study (metric "pearson"), mean over people, with folds and penalties held at the
intact layer's: the predictions are then a linear function of the vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.similarity import unit_kernel
from brainalign_jax.align.stats import scoring
from brainalign_jax.machine import free_memory
from brainalign_jax.studies.ablation.scores import PersonScores

CKA, RIDGE = "cka", "ridge"
_LEAST_QUERIES = 3  # of one or two words a correlation says nothing


class Kernels(NamedTuple):
    """Brain kernels [T', T'] less what does not count, mean over the people who share the word types [T'].

    weight: their share of the people.
    """

    types: np.ndarray
    kernel: np.ndarray
    weight: float


class Folds(NamedTuple):
    """One person's hats [F, Q, T] of a layer, gold and mask [F, Q], and weights [F] of the folds."""

    hats: np.ndarray
    gold: np.ndarray
    mask: np.ndarray
    weights: np.ndarray


class Objectives:
    """The alignments of a model's layers with all people, as functions of the vectors [T, D] of a layer.

    names: "ridge" where it is among the methods, and "cka". layers: that are read, from 1.

    Raises: ValueError for a penalty a dimension, folds of fewer than three words, or too many words.
    """

    def __init__(
        self,
        people: PersonScores,
        n_people: int,
        n_types: int,
        methods: Sequence[str],
        layers: Collection[int],
        *,
        per_target: bool,
    ):
        self.layers = sorted(layers)
        self.names = [RIDGE, CKA] if RIDGE in methods else [CKA]
        if RIDGE in self.names and per_target:
            raise ValueError(
                "the estimate holds one penalty for all dimensions: leave alpha_selection at retrieval "
                "(--alpha_selection), or ridge out of the methods"
            )
        count = 1 + n_people * len(layers) * (RIDGE in self.names)
        needed = 4 * count * n_types**2
        if needed > free_memory() // 4:
            raise ValueError(
                f"the kernels and hat matrices of {n_types:,} words, {n_people} people and {len(layers)} "
                f"layers take {needed:,} bytes, more than a quarter of the free memory: give fewer people, "
                "or leave ridge out of the methods"
            )
        self._kernels = _mean_kernels(people, n_people, methods[0])
        with_map = range(n_people if RIDGE in self.names else 0)
        held_out = [people.hats(subject, self.layers) for subject in with_map]
        self._folds = {
            layer: [_folds(each.hats[layer], each.gold, each.mask) for each in held_out]
            for layer in self.layers
        }

    def values(self, layer: int, vectors: np.ndarray) -> np.ndarray:
        """The alignments [K] of vectors [T, D] of a layer, in the order of the names."""
        values = [float(_cka(jnp.asarray(vectors), self._kernels))]
        if RIDGE in self.names:
            values = [np.mean([float(_held_out(vectors, x)) for x in self._folds[layer]]), *values]
        return np.array(values)

    def gradients(self, layer: int, vectors: np.ndarray) -> np.ndarray:
        """Their gradients [K, T, D]."""
        gradients = [np.asarray(_cka_gradient(jnp.asarray(vectors), self._kernels))]
        if RIDGE in self.names:
            total = np.zeros(vectors.shape)
            for folds in self._folds[layer]:
                total += np.asarray(_held_out_gradient(vectors, folds))
            gradients = [total / len(self._folds[layer]), *gradients]
        return np.stack(gradients).astype(np.float32)


def _mean_kernels(people: PersonScores, n_people: int, method: str) -> list[Kernels]:
    groups: dict[bytes, tuple[np.ndarray, list[np.ndarray]]] = {}
    for subject in range(n_people):
        types, rows = people.means(subject, method)
        rows = (rows - rows.mean(axis=0, dtype=np.float64)).astype(np.float32)
        rows /= max(np.sqrt(np.square(rows, dtype=np.float64).mean()), 1e-30)
        kernel = np.asarray(_kernel(rows))
        groups.setdefault(types.tobytes(), (types, []))[1].append(kernel)
    return [
        Kernels(types, np.mean(kernels, axis=0), len(kernels) / n_people)
        for types, kernels in groups.values()
    ]


def _folds(hats: np.ndarray, gold: np.ndarray, mask: np.ndarray) -> Folds:
    counts = (mask > 0).sum(axis=1)
    weights = np.where(counts >= _LEAST_QUERIES, counts, 0).astype(np.float32)
    if not weights.any():
        raise ValueError(
            f"no fold has {_LEAST_QUERIES} words to correlate: give fewer folds (--n_folds)"
        )
    return Folds(hats, gold, mask, weights / weights.sum())


_kernel = jax.jit(unit_kernel)


@jax.jit
def _cka(vectors: jax.Array, kernels: list[Kernels]) -> jax.Array:
    """Mean over people of the linear CKA with vectors [T, D]."""
    total = jnp.zeros(())
    for types, kernel, weight in kernels:
        total += weight * jnp.vdot(kernel, unit_kernel(vectors[types]))
    return total


@jax.jit
def _held_out(vectors: jax.Array, folds: Folds) -> jax.Array:
    """One person's correlation of the predicted with the true vectors, mean over dimensions and folds."""
    # A correlation does not depend on the unit; in that of a dead dimension its derivative would underflow.
    spread = jax.lax.stop_gradient(
        jnp.sqrt(jnp.square(vectors - vectors.mean(axis=0)).mean(axis=0))
    )
    vectors = linalg.divided(vectors, spread)
    predicted = linalg.matmul(folds.hats.reshape(-1, len(vectors)), vectors)
    predicted = predicted.reshape(*folds.gold.shape, -1)
    by_fold = jax.vmap(scoring.pearson)(vectors[folds.gold], predicted, folds.mask)
    return jnp.vdot(folds.weights, by_fold.mean(axis=1))


_cka_gradient = jax.jit(jax.grad(_cka))
_held_out_gradient = jax.jit(jax.grad(_held_out))
