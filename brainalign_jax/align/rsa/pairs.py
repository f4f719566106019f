"""Pairs of items in a condensed RDM, in scipy's pdist order."""

import math

import jax.numpy as jnp

from brainalign_jax.align.array_types import Array, Float, Int


def pair_places(n_items: int) -> Int[Array, " P"]:
    """Places [N (N - 1) / 2] of the pairs i < j in a flat [N, N] matrix, in scipy's pdist order.

    Computed, not stored: `triu_indices` would be a constant of the compiled program, larger than
    the RDM, or a search at run time.
    """
    return place_of_pair(jnp.arange(n_items * (n_items - 1) // 2, dtype=jnp.int32), n_items)


def place_of_pair(pair: Int[Array, " *P"], n_items: int) -> Int[Array, " *P"]:
    """Place i N + j of pairs given by their int32 number in scipy's pdist order."""
    # Counted from the end, the row is a triangular root: found in floats, put right in integers.
    from_end = n_items * (n_items - 1) // 2 - 1 - pair
    root = (jnp.sqrt(2 * from_end.astype(jnp.float32) + 0.25) - 0.5).astype(jnp.int32)
    root = jnp.where(root * (root + 1) // 2 > from_end, root - 1, root)
    root = jnp.where((root + 1) * (root + 2) // 2 <= from_end, root + 1, root)
    row = n_items - 2 - root
    return pair + (row + 1) * (row + 2) // 2


def n_items_of(n_pairs: int) -> int:
    """How many items have so many pairs.

    Raises: ValueError for a number of pairs that no number of items has.
    """
    n_items = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n_pairs < 1 or n_items * (n_items - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} distances are no condensed RDM: give N (N - 1) / 2 of N items")
    return n_items


def square_form(rdm: Float[Array, " P"]) -> Float[Array, "N N"]:
    """The RDM [N, N] of a condensed one [N (N - 1) / 2], with a diagonal of zero.

    Raises: as `n_items_of`.
    """
    n_items = n_items_of(len(rdm))
    half = jnp.zeros(n_items**2, rdm.dtype).at[pair_places(n_items)].set(rdm)
    half = half.reshape(n_items, n_items)
    return half + half.T
