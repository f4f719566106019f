"""Average ranks of many values, as `scipy.stats.rankdata`, fast on CPU and on accelerators.

Floats are compared through integers of the same order, since XLA sorts integers several times faster
than floats on CPU. How the ranks follow from the sort depends on the platform the program is
compiled for; both ways give the same integers:

- CPU: sort the keys alone, then look each value up in the sorted copy by bisection (P log P gathers,
  which run on all cores; a sort with a payload costs 5 x as much there).
- GPU, TPU: sort the keys together with their positions, then scatter the ranks back.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align.array_types import Array, Float, Int, Real

_MOST = 2**30  # twice a rank must fit an int32


def rank(x: Real[Array, "... P"]) -> Float[Array, "... P"]:
    """Ranks along the last axis of x [..., P], from 1, ties given their average rank.

    A row that holds a NaN has no ranks: all of it is NaN. Raises: ValueError for P of 2^30 or more.
    """
    return _from_positions(x, offset=1, scale=2)


def centred_rank(x: Real[Array, "... P"]) -> Float[Array, "... P"]:
    """(rank - (P + 1) / 2) / (P / 2), between -1 and 1, along the last axis of x [..., P].

    Centred in integers, before rounding: float32 ranks of millions of values lose both their last
    digit and the sum of their products. Arguments and errors as `rank`.
    """
    return _from_positions(x, offset=-x.shape[-1], scale=x.shape[-1])


def _from_positions(x: Real[Array, "... P"], *, offset: int, scale: int) -> Float[Array, "... P"]:
    if x.shape[-1] >= _MOST:
        raise ValueError(
            f"cannot rank {x.shape[-1]} values at once, x has shape {x.shape}: rank at most {_MOST - 1}"
        )
    keys = order_key(x).reshape(-1, x.shape[-1])
    sums = jax.lax.platform_dependent(keys, cpu=_by_search, default=_by_payload)
    ranks = (sums.reshape(x.shape) + offset).astype(x.dtype) / scale
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return ranks
    return jnp.where(jnp.isnan(x).any(axis=-1, keepdims=True), jnp.nan, ranks)


def order_key(x: Real[Array, " *P"]) -> Int[Array, " *P"]:
    """Signed integers in the order of the floats x, equal where these are equal; NaN is the largest."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if x.dtype.itemsize < 4:
        x = x.astype(jnp.float32)
    integer = jnp.int64 if x.dtype.itemsize == 8 else jnp.int32
    x = jnp.where(x == 0, jnp.zeros_like(x), x)  # one zero, without a sign
    bits = jax.lax.bitcast_convert_type(x, integer)
    largest = jnp.iinfo(integer).max
    return jnp.where(jnp.isnan(x), largest, jnp.where(bits < 0, bits ^ largest, bits))


def _by_search(keys: Int[Array, "R P"]) -> Int[Array, "R P"]:
    """Number of smaller values plus number of values no larger [R, P] int32, within each row."""
    n_rows, size = keys.shape
    ordered = jax.lax.sort(keys, dimension=1)
    flat = ordered.reshape(-1)
    first = jax.lax.broadcasted_iota(jnp.int32, (n_rows, 1), 0) * size
    n_bits = size.bit_length()

    def halve(i, below):
        probe = below + (jnp.int32(2 ** (n_bits - 1)) >> i)
        smaller = flat[first + jnp.minimum(probe, size) - 1] < keys
        return jnp.where((probe <= size) & smaller, probe, below)

    below = jax.lax.fori_loop(
        jnp.int32(0), jnp.int32(n_bits), halve, jnp.zeros(keys.shape, jnp.int32)
    )
    return 2 * below + _run_lengths(ordered).reshape(-1)[first + below]


def _run_lengths(ordered: Int[Array, "R P"]) -> Int[Array, "R P"]:
    """For each place of the sorted rows [R, P], how many values from there on equal it.

    Time grows with the logarithm of the longest run: none of it is spent where there are no ties.
    """
    size = ordered.shape[1]
    place = jax.lax.broadcasted_iota(jnp.int32, ordered.shape, 1)

    def same(distance):
        ahead = place + distance
        value_ahead = jnp.take_along_axis(ordered, jnp.minimum(ahead, size - 1), axis=1)
        return (ahead < size) & (value_ahead == ordered)

    def longer(width):
        return same(width).any()

    width = jax.lax.while_loop(longer, lambda width: 2 * width, jnp.int32(1))

    def extend(state):
        step, length = state
        return step // 2, jnp.where(same(length + step), length + step, length)

    start = width // 2, jnp.zeros(ordered.shape, jnp.int32)
    return jax.lax.while_loop(lambda state: state[0] > 0, extend, start)[1] + 1


def _by_payload(keys: Int[Array, "R P"]) -> Int[Array, "R P"]:
    """As `_by_search`, from one sort that carries the positions along."""
    n_rows, size = keys.shape
    place = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    ordered, order = jax.lax.sort((keys, place), dimension=1, num_keys=1, is_stable=False)
    edge = ordered[:, 1:] != ordered[:, :-1]
    outer = jnp.ones((n_rows, 1), bool)
    starts = jnp.concatenate([outer, edge], axis=1)
    ends = jnp.concatenate([edge, outer], axis=1)
    below = jax.lax.cummax(jnp.where(starts, place, 0), axis=1)
    upto = jax.lax.cummin(jnp.where(ends, place + 1, size), axis=1, reverse=True)
    row = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 0)
    return jnp.zeros_like(place).at[row, order].set(below + upto, unique_indices=True)
