"""Similarity of two sets of vectors of the same items, without a map: kernel alignment, shared neighbours."""

from brainalign_jax.align.similarity.cka import linear_cka, unit_kernel
from brainalign_jax.align.similarity.nearest import mutual_neighbours, unit_neighbours

__all__ = ["linear_cka", "mutual_neighbours", "unit_kernel", "unit_neighbours"]
