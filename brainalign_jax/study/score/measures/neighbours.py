"""Mutual nearest neighbours as a measure of a study."""

import jax

from brainalign_jax.align.similarity import unit_neighbours
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import MatrixMeasure

K = 10  # as Huh et al. (2024)


@register_measure("mutual_knn")
class MutualNeighbours(MatrixMeasure):
    """Share of the ten nearest words that brain and model have in common; see `align.similarity`."""

    name = "mutual_knn"
    label = f"mutual neighbours, k = {K}"

    def check(self, n_types: int) -> None:
        if n_types <= K:
            raise ValueError(
                f"mutual_knn looks at {K} neighbours of each word: {n_types} words are too few"
            )

    def chance(self, n_types: int) -> float:
        return K / (n_types - 1)

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_neighbours(rows, k=K)
