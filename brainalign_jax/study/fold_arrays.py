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
    size: int | None = None,
) -> Split:
    """Splits stacked along the fold axis [F, ...], as NumPy arrays.

    Args:
      folds: F masks over N tokens. token_to_type: [N].
      queries: "types" or "tokens". candidates: [T] mask.
      least: smallest number of query slots Q; size: that number itself, if it is known.
    """
    asked = [
        np.unique(token_to_type[mask]) if queries == "types" else np.flatnonzero(mask)
        for mask in folds.test
    ]
    slots = size or max(least, max(len(one) for one in asked))
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
        np.broadcast_to(candidates, (len(asked), len(candidates))).astype(np.float32),
    )


def query_average(split: Split, token_to_type: jax.Array, *, queries: str) -> jax.Array:
    """Matrix [Q, N] that averages token rows to queries; rows of padded queries are zero."""
    label = token_to_type if queries == "types" else jnp.arange(token_to_type.shape[0])
    member = (split.queries[:, None] == label[None, :]).astype(split.test.dtype)
    member = member * split.test[None, :] * split.query_mask[:, None]
    return member / jnp.maximum(member.sum(axis=1, keepdims=True), 1)


def type_average(mask: jax.Array, token_to_type: jax.Array, n_types: int) -> jax.Array:
    """Matrix [T, N] that averages the tokens of the mask [N] to types; absent types get zero rows."""
    member = (jnp.arange(n_types)[:, None] == token_to_type[None, :]).astype(mask.dtype)
    member = member * mask[None, :]
    return member / jnp.maximum(member.sum(axis=1, keepdims=True), 1)
