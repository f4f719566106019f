"""Folds as fixed-size arrays for compiled programs: which words are asked for, which may be answered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.study.folds import Folds


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


def query_average(split: Split, token_to_type: jax.Array, *, queries: str) -> jax.Array:
    """Matrix [Q, N] that averages token rows to queries; rows of padded queries are zero."""
    label = token_to_type if queries == "types" else jnp.arange(token_to_type.shape[0])
    return _average(split.queries, label, split.test) * split.query_mask[:, None]


def type_average(mask: jax.Array, token_to_type: jax.Array, n_types: int) -> jax.Array:
    """Matrix [T, N] that averages the tokens of the mask [N] to types; absent types get zero rows."""
    return _average(jnp.arange(n_types), token_to_type, mask)


def _average(wanted: jax.Array, label: jax.Array, mask: jax.Array) -> jax.Array:
    """Matrix [W, N] that averages, for each label wanted [W], the tokens of the mask [N] with it."""
    member = (wanted[:, None] == label[None, :]).astype(mask.dtype) * mask[None, :]
    return member / jnp.maximum(member.sum(axis=1, keepdims=True), 1)
