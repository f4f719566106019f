"""Values of a measure for all pairs of layers and people: words as they are, permuted, and in halves."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.study.computation import compiled
from brainalign_jax.study.score import group_kernels
from brainalign_jax.study.score.measures import Measure

_BLOCK = 50  # permutations or halves in one compiled call


class Sides(NamedTuple):
    """What is compared: layers of models, then people.

    labels: (model, layer) of each layer. rows: [R, T, W] of each layer and person, in the axes that they
    span, narrower ones with zero columns. people: their names.
    """

    labels: tuple[tuple[str, int], ...]
    rows: np.ndarray
    people: Sequence[str]


class PairValues(NamedTuple):
    """observed: [R, R], rows the first side. drawn: [P, R, R] with the words of the first side permuted."""

    observed: np.ndarray
    drawn: np.ndarray


class HalfValues(NamedTuple):
    """agreed, others: [R, R] in the words that people agree on more, and in the others. drawn: [P, R, R]
    differences of random halves."""

    agreed: np.ndarray
    others: np.ndarray
    drawn: np.ndarray


def pair_values(measure: Measure, sides: Sides, permutations: np.ndarray) -> PairValues:
    """permutations: [P, T]."""
    represented = _represented(jnp.asarray(sides.rows), measure=measure)
    identity = np.arange(permutations.shape[1], dtype=np.int32)[None]
    orders = np.concatenate([identity, permutations.astype(np.int32)])
    values = _in_blocks(lambda some: _permuted(represented, some, measure=measure), orders)
    return PairValues(values[0], values[1:])


def half_values(
    measure: Measure, sides: Sides, agreed: np.ndarray, n_draws: int, seed: int
) -> HalfValues | None:
    """agreed: [T] bool, half of the words. None where fewer than two people say what is agreed on."""
    if len(sides.people) < 2:
        return None
    size = int(agreed.sum())
    rng = np.random.default_rng((seed, 1))
    n_types = len(agreed)
    parts = [np.flatnonzero(agreed), np.flatnonzero(~agreed)[:size]]
    for _ in range(n_draws):
        order = rng.permutation(n_types)
        parts += [np.sort(order[:size]), np.sort(order[size : 2 * size])]
    rows = jnp.asarray(sides.rows)
    values = _in_blocks(
        lambda some: _of_words(rows, some, measure=measure), np.array(parts, np.int32)
    )
    first, second = values[0::2], values[1::2]
    return HalfValues(first[0], second[0], first[1:] - second[1:])


def stacked(sides: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """[R, T, W] of sides [T, D] less their mean over the words, as `Sides` has them."""
    rows = []
    for side in sides:
        wide = np.asarray(side, np.float64)
        wide = wide - wide.mean(axis=0)
        if wide.shape[1] > len(wide):
            wide = group_kernels.spanned_rows(wide @ wide.T, dtype=np.float64)
        rows.append(wide.astype(dtype))
    widest = max(side.shape[1] for side in rows)
    return np.stack([np.pad(side, ((0, 0), (0, widest - side.shape[1]))) for side in rows])


def _in_blocks(compute, orders: np.ndarray) -> np.ndarray:
    """compute of [B, T] in blocks of one size, the last filled up."""
    size = min(_BLOCK, len(orders))
    values = []
    for start in range(0, len(orders), size):
        some = orders[start : start + size]
        values.append(np.asarray(compute(np.resize(some, (size, some.shape[1]))))[: len(some)])
    return np.concatenate(values)


@functools.partial(compiled, static_argnames=("measure",))
def _represented(rows, *, measure: Measure):
    return jax.vmap(measure.represent)(rows)


@functools.partial(compiled, static_argnames=("measure",))
def _permuted(represented, orders, *, measure: Measure):
    return measure.drawn(represented, represented, orders)


@functools.partial(compiled, static_argnames=("measure",))
def _of_words(rows, words, *, measure: Measure):
    """[B, R, R] of the words [B, T'] alone, less their own mean."""
    identity = jnp.arange(words.shape[1], dtype=jnp.int32)[None]

    def of_part(part):
        chosen = rows[:, part]
        represented = jax.vmap(measure.represent)(chosen - chosen.mean(axis=1, keepdims=True))
        return measure.drawn(represented, represented, identity)[0]

    return jax.lax.map(of_part, words)
