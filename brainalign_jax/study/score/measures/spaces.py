"""Canonical correlations and shapes as measures of a study."""

import jax

from brainalign_jax.align.similarity import unit_axes, unit_shape
from brainalign_jax.align.similarity.canonical import (
    Axes,
    mean_correlation,
    weighted_correlation,
)
from brainalign_jax.align.similarity.shapes import similarity_of_shapes
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import Measure

AXES = 10  # leading principal axes of each side


class _Canonical(Measure):
    """A measure of the leading principal axes of both sides; of all, where one has fewer features."""

    def check(self, n_types: int) -> None:
        if n_types - 1 < 2 * AXES:
            raise ValueError(
                f"{self.name} compares {AXES} axes of each side: {n_types} words are too few"
            )

    def chance(self, n_types: int) -> float:
        return float("nan")

    def represent(self, rows: jax.Array) -> Axes:
        return unit_axes(rows, n_axes=min(AXES, rows.shape[1]))

    def permuted(self, represented: Axes, order: jax.Array) -> Axes:
        return represented._replace(basis=represented.basis[order])


@register_measure("svcca")
class Svcca(_Canonical):
    """Mean canonical correlation of the ten leading axes of brain and model; see `align.similarity.svcca`."""

    name = "svcca"
    label = f"SVCCA, {AXES} axes"

    def compare(self, brain: Axes, model: Axes) -> jax.Array:
        return mean_correlation(brain, model)


@register_measure("pwcca")
class Pwcca(_Canonical):
    """Canonical correlations of ten leading axes, weighed by the brain's; see `align.similarity.pwcca`."""

    name = "pwcca"
    own_null = True
    label = f"PWCCA, {AXES} axes"

    def compare(self, brain: Axes, model: Axes) -> jax.Array:
        return weighted_correlation(brain, model)


@register_measure("shape")
class Shape(Measure):
    """Cosine of brain and model after the best rotation; see `align.similarity.shape_similarity`."""

    name = "shape"
    own_null = True
    label = "Procrustes shape, cosine"

    def chance(self, n_types: int) -> float:
        return float("nan")

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_shape(rows)

    def permuted(self, represented: jax.Array, order: jax.Array) -> jax.Array:
        return represented[order]

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        return similarity_of_shapes(brain, model)
