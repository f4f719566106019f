"""Canonical correlations and shapes as measures of a study."""

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.similarity import shrunk_axes, unit_axes, unit_shape
from brainalign_jax.align.similarity.canonical import (
    Axes,
    mean_correlation,
    weighted_correlation,
)
from brainalign_jax.align.similarity.nuclear import nuclear_norms
from brainalign_jax.align.similarity.shapes import similarity_of_shapes
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import Measure

AXES = 10  # leading principal axes of each side
PENALTY = 1.0  # of cca, times a word's mean square


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


@register_measure("cca")
class Cca(Svcca):
    """Mean canonical correlation of all axes, with a ridge penalty; see `align.similarity.cca`."""

    name = "cca"
    own_null = True
    label = f"CCA, ridge penalty {PENALTY:g}"

    def check(self, n_types: int) -> None:
        Measure.check(self, n_types)

    def represent(self, rows: jax.Array) -> Axes:
        return shrunk_axes(rows, penalty=PENALTY)

    def drawn(self, brains: Axes, models: Axes, orders: jax.Array) -> jax.Array:
        in_brains, in_models = ((side.sizes > 0).sum(axis=-1) for side in (brains, models))
        n_axes = jnp.maximum(jnp.minimum(in_brains[:, None], in_models), 1)
        return _drawn_norms(brains.basis, models.basis, orders) / n_axes


@register_measure("shape")
class Shape(Measure):
    """Cosine of brain and model after the best rotation; see `align.similarity.shape_similarity`.

    alpha: 1 rotates alone, 0 whitens. A side's unit is that in which a word's mean square is 1.
    """

    name = "shape"
    own_null = True
    label = "Procrustes shape, cosine"
    alpha = 1.0

    def chance(self, n_types: int) -> float:
        return float("nan")

    def represent(self, rows: jax.Array) -> jax.Array:
        if 0 < self.alpha < 1:
            square = jnp.square(rows - rows.mean(axis=0)).sum() / len(rows)
            rows = linalg.divided(rows, jnp.sqrt(square))
        return unit_shape(rows, alpha=self.alpha)

    def permuted(self, represented: jax.Array, order: jax.Array) -> jax.Array:
        return represented[order]

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        return similarity_of_shapes(brain, model)

    def drawn(self, brains: jax.Array, models: jax.Array, orders: jax.Array) -> jax.Array:
        return _drawn_norms(brains, models, orders)


@register_measure("shape_half")
class HalfWhitenedShape(Shape):
    """As shape, of axes that are half whitened before."""

    name = "shape_half"
    label = "shape, half whitened, cosine"
    alpha = 0.5


@register_measure("shape_cca")
class WhitenedShape(Shape):
    """As shape, of axes that are whitened before: all canonical correlations, by no penalty."""

    name = "shape_cca"
    label = "shape, whitened, cosine"
    alpha = 0.0

    def says_something(self, rows: np.ndarray) -> bool:
        """Not where a side varies in as many axes as there can be: any other is then as far from it."""
        most = len(rows) - 1
        if rows.shape[1] < most:
            return True
        return int(np.linalg.matrix_rank(rows - rows.mean(axis=0, dtype=np.float64))) < most

    def scores(self, means, values, *args) -> np.ndarray:
        """Raises: ValueError where one side varies in as many axes as there can be."""
        for place, sides in (("brain", means.values()), ("model", values)):
            if not all(self.says_something(self.centred(rows)) for rows in sides):
                raise ValueError(
                    f"{self.name} depends on the number of axes alone where {values.shape[1]} words have "
                    f"{values.shape[1] - 1} in the {place}: take cca, which has a penalty, shape_half or "
                    "shape"
                )
        return super().scores(means, values, *args)


def _drawn_norms(brains: jax.Array, models: jax.Array, orders: jax.Array) -> jax.Array:
    """[B, S, L] sums of singular values of products of bases [S, T, k] and [L, T, l]; as `Measure.drawn`."""

    turned = jnp.swapaxes(models, 1, 2)  # once: products are then one, and lie as they are taken

    def of_brain(brain: jax.Array) -> jax.Array:
        return nuclear_norms(linalg.matmul(turned, brain))

    return jax.lax.map(lambda order: jax.lax.map(of_brain, brains[:, order]), orders)
