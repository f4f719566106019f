"""Centred kernel alignment as measures of a study."""

import jax

from brainalign_jax.align.similarity import unit_kernel, unit_rbf_kernel
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import MatrixMeasure


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
