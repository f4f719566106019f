"""Folds as fixed-size arrays for compiled programs: which words are asked for, which may be answered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.study.score.folds import Folds


class Split(NamedTuple):
    """One training set and the words decoded with it, padded to static shapes.

    train: [N] token mask. test: [N] token mask. queries: [Q] what is decoded, word types or tokens.
    query_mask: [Q], 0 where padded. gold: [Q] true type of each query. candidates: [T] mask of the
    word types that compete.
    """

    train: jax.Array
    test: jax.Array
    queries: jax.Array
    query_mask: jax.Array
    gold: jax.Array
    candidates: jax.Array


def split_arrays(
    folds: Folds,
    token_to_type: np.ndarray,
    *,
    queries: str,
    candidates: np.ndarray,
    least: int = 1,
) -> Split:
    """Splits stacked along the fold axis [F, ...], as NumPy arrays.

    Args:
      folds: F masks over N tokens. token_to_type: [N].
      queries: "types" or "tokens". candidates: [T] mask, or one a fold [F, T].
      least: smallest number of query slots Q.
    """
    asked = [
        np.unique(token_to_type[mask]) if queries == "types" else np.flatnonzero(mask)
        for mask in folds.test
    ]
    slots = max(least, max(len(one) for one in asked))
    ids = np.zeros((len(asked), slots), np.int32)
    mask = np.zeros((len(asked), slots), np.float32)
    for fold, one in enumerate(asked):
        ids[fold, : len(one)] = one
        mask[fold, : len(one)] = 1
    gold = ids if queries == "types" else np.maximum(token_to_type, 0).astype(np.int32)[ids]
    return Split(
        folds.train.astype(np.float32),
        folds.test.astype(np.float32),
        ids,
        mask,
        gold,
        np.broadcast_to(candidates, (len(asked), candidates.shape[-1])).astype(np.float32),
    )


def type_sums(x: jax.Array, mask: jax.Array, token_to_type: jax.Array, n_types: int) -> jax.Array:
    """Sums [T, ...] of the rows of x [N, ...] over the tokens of the mask [N] of each type."""
    chosen = (mask > 0).reshape(-1, *[1] * (x.ndim - 1))
    return jax.ops.segment_sum(jnp.where(chosen, x, 0), token_to_type, num_segments=n_types)


def type_means(
    x: jax.Array, mask: jax.Array, token_to_type: jax.Array, n_types: int
) -> tuple[jax.Array, jax.Array]:
    """(means [T, ...] over the tokens of the mask of each type, counts [T]); absent types are zero."""
    counts = type_sums(mask.astype(x.dtype), mask, token_to_type, n_types)
    total = type_sums(x, mask, token_to_type, n_types)
    return total / jnp.maximum(counts, 1).reshape(-1, *[1] * (x.ndim - 1)), counts


def query_rows(
    x: jax.Array, split: Split, token_to_type: jax.Array, n_types: int, *, queries: str
) -> jax.Array:
    """Rows [Q, ...] of x [N, ...] averaged to queries; those of padded queries are zero."""
    if queries == "types":
        rows = type_means(x, split.test, token_to_type, n_types)[0][split.queries]
    else:
        rows = x[split.queries]
    return rows * split.query_mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
