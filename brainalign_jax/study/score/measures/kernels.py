"""Centred kernel alignment as measures of a study."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align.similarity import unit_batches, unit_kernel, unit_rbf_kernel
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import MatrixMeasure, Measure

BATCH = 256  # words at a time


@register_measure("cka")
class LinearCka(MatrixMeasure):
    """Alignment of the inner products of all words, debiased; see `align.similarity.linear_cka`."""

    name = "cka"
    label = "linear CKA, debiased"

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_kernel(rows)


@register_measure("rbf_cka")
class RbfCka(MatrixMeasure):
    """Alignment of Gaussians of the distances of all words, debiased; see `align.similarity.rbf_cka`."""

    name = "rbf_cka"
    label = "RBF CKA, debiased"

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_rbf_kernel(rows)


@register_measure("rv")
class Rv(MatrixMeasure):
    """The RV coefficient (Robert & Escoufier 1976), which is CKA that is not debiased: see `linear_cka`."""

    name = "rv"
    own_null = True
    label = "RV coefficient"

    def chance(self, n_types: int) -> float:
        return float("nan")

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_kernel(rows, debiased=False)


class Batches(NamedTuple):
    """Vectors [T, R] of one side, and what is compared of them [batches, b, b]."""

    rows: jax.Array
    kernels: jax.Array


@register_measure("minibatch_cka")
class MinibatchCka(Measure):
    """Linear CKA of many words, some at a time; see `align.similarity.minibatch_cka`."""

    name = "minibatch_cka"
    label = f"linear CKA, debiased, {BATCH} words at a time"

    def needed_bytes(
        self, n_subjects: int, n_types: int, computation: Computation, n_layers: int = 1
    ) -> int:
        itemsize = np.dtype(computation.dtype).itemsize
        return (
            itemsize
            * self.held_numbers(n_types, n_layers)
            * (n_subjects + 4 * computation.workers())
        )

    def held_numbers(self, n_types: int, n_layers: int) -> int:
        return n_types * min(n_types, BATCH)

    def represent(self, rows: jax.Array) -> Batches:
        return Batches(rows, unit_batches(rows, size=BATCH))

    def permuted(self, represented: Batches, order: jax.Array) -> Batches:
        return self.represent(represented.rows[order])

    def compare(self, brain: Batches, model: Batches) -> jax.Array:
        return jnp.vdot(brain.kernels, model.kernels, precision="highest")
