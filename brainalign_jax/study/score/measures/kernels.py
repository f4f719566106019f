"""Linear CKA as a measure of a study."""

import jax

from brainalign_jax.align.similarity import unit_kernel
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import MatrixMeasure


@register_measure("cka")
class LinearCka(MatrixMeasure):
    """Alignment of the inner products of all words, debiased; see `align.similarity.linear_cka`."""

    name = "cka"
    label = "linear CKA, debiased"

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_kernel(rows)
