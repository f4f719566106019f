"""Nearest neighbours as measures of a study: shared, their Jaccard index, the overlap of their ranks."""

import jax
import numpy as np

from brainalign_jax.align.similarity import neighbour_ranks, unit_neighbours
from brainalign_jax.align.similarity.nearest import jaccard_of_ranks, overlap_of_ranks
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score.measures.base import MatrixMeasure, Measure

K = 10  # as Huh et al. (2024)


def _check(name: str, n_types: int) -> None:
    if n_types <= K:
        raise ValueError(
            f"{name} looks at {K} neighbours of each word: {n_types} words are too few"
        )


@register_measure("mutual_knn")
class MutualNeighbours(MatrixMeasure):
    """Share of the ten nearest words that brain and model have in common; see `align.similarity`."""

    name = "mutual_knn"
    label = f"mutual neighbours, k = {K}"

    def check(self, n_types: int) -> None:
        _check(self.name, n_types)

    def chance(self, n_types: int) -> float:
        return K / (n_types - 1)

    def represent(self, rows: jax.Array) -> jax.Array:
        return unit_neighbours(rows, k=K)


class _Ranks(Measure):
    """A measure of the ranks of the nearest words."""

    def check(self, n_types: int) -> None:
        _check(self.name, n_types)

    def represent(self, rows: jax.Array) -> jax.Array:
        return neighbour_ranks(rows, k=K)

    def permuted(self, represented: jax.Array, order: jax.Array) -> jax.Array:
        return represented[order][:, order]


@register_measure("jaccard_knn")
class JaccardNeighbours(_Ranks):
    """Jaccard index of the ten nearest words in brain and model; see `align.similarity`."""

    name = "jaccard_knn"
    label = f"Jaccard index of neighbours, k = {K}"

    def chance(self, n_types: int) -> float:
        from scipy.stats import hypergeom  # a quarter of a second that few need

        shared = np.arange(K + 1)
        return float(hypergeom(n_types - 1, K, K).pmf(shared) @ (shared / (2 * K - shared)))

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        return jaccard_of_ranks(brain, model, k=K)


@register_measure("rank_overlap")
class RankOverlap(_Ranks):
    """Overlap of the nearest words in brain and model, the nearest counting most; see `align.similarity`."""

    name = "rank_overlap"
    label = f"overlap of neighbours' ranks, k = {K}"

    def chance(self, n_types: int) -> float:
        return (K + 1) / 2 / (n_types - 1)

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        return overlap_of_ranks(brain, model, k=K)
