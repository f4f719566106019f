"""Similarity of two sets of vectors of the same items, without a map.

Kernel alignment, shared neighbours, canonical correlations and shapes.
"""

from brainalign_jax.align.similarity.canonical import (
    canonical_correlations,
    cca,
    pwcca,
    shrunk_axes,
    svcca,
    unit_axes,
)
from brainalign_jax.align.similarity.cka import (
    linear_cka,
    minibatch_cka,
    rbf_cka,
    unit_batches,
    unit_kernel,
    unit_rbf_kernel,
)
from brainalign_jax.align.similarity.nearest import (
    jaccard_neighbours,
    mutual_neighbours,
    neighbour_ranks,
    rank_overlap,
    unit_neighbours,
)
from brainalign_jax.align.similarity.shapes import shape_distance, shape_similarity, unit_shape

__all__ = [
    "canonical_correlations", "cca", "jaccard_neighbours", "linear_cka", "minibatch_cka", "mutual_neighbours",
    "neighbour_ranks", "pwcca", "rank_overlap", "rbf_cka", "shape_distance", "shape_similarity", "svcca",
    "shrunk_axes", "unit_axes", "unit_batches", "unit_kernel", "unit_neighbours", "unit_rbf_kernel",
    "unit_shape",
]  # fmt: skip
