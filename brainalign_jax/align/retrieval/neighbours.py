"""Mean of the k largest entries of each row without sorting, by search for the k-th largest.

Reference of the objective: Rockafellar & Uryasev (2000), Optimization of conditional value-at-risk.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from brainalign_jax.align.array_types import Array, Bool, Float, Int

_FEW = 6  # entries in doubt from which on their mean parts them better than a density would
_FEW_NEIGHBOURS, _SMALL = 8, 2**13  # neighbours, entries: see mean_of_largest
_CACHE_BYTES = 2**20  # of one core: a tile of rows that size is read many times at no cost


def mean_of_largest(x: Float[Array, "R N"], k: int) -> Float[Array, " R"]:
    """Mean [R] of the k largest entries of each row of x [R, N].

    NaN and -inf are left out; where fewer than k entries are left, the mean is over those, and 0 where
    there are none. Exact to the resolution of the dtype.

    A few neighbours and small problems are for a partial sort (`lax.top_k`), the others for a search
    (`search_mean`), on a CPU by tiles of rows that stay in the cache of a core. Measured on a CPU, time of
    the sort over that of the search: 18 x 180 with k 100, 1.0; 300 x 1,300 with k 10, 1.4, with k 100, 7;
    5,000 x 5,000 with k 100, 4.7. On a GPU XLA sorts rows in full for k above 16; a search reads them.

    Raises: ValueError if k is not between 1 and N.
    """
    n_rows, n = x.shape
    if not 1 <= k <= n:
        raise ValueError(f"k={k} must lie between 1 and {n}, the columns of x {x.shape}")
    if k == n:
        return _mean_of_all(x)
    if k < _FEW_NEIGHBOURS or x.size < _SMALL:
        return sorted_mean(x, k)
    if jax.default_backend() != "cpu":
        return search_mean(x, k)
    # The fewest rows are worth the dispatch of a pass.
    rows = min(n_rows, max(16, _CACHE_BYTES // (n * x.dtype.itemsize)))
    return in_tiles(
        lambda start: search_mean(lax.dynamic_slice_in_dim(x, start, rows), k), n_rows, rows
    )


def in_tiles(per_tile: Callable, n: int, rows: int):
    """Results [n, ...] of per_tile(start) -> pytree of [rows, ...], of min(rows, n) rows from start on.

    One compiled program, one tile after the other. The last tile is moved up to end at n; what it
    computes a second time is dropped.
    """
    rows = min(rows, n)
    count = -(-n // rows)
    starts = jnp.minimum(jnp.arange(count, dtype=jnp.int32) * rows, n - rows)
    again = count * rows - n

    def join(parts: jax.Array) -> jax.Array:
        return jnp.concatenate([parts[:-1].reshape(-1, *parts.shape[2:]), parts[-1, again:]])

    return jax.tree.map(join, lax.map(per_tile, starts))


def sorted_mean(x: Float[Array, "R N"], k: int) -> Float[Array, " R"]:
    """`mean_of_largest` from a partial sort."""
    return _mean_of_all(lax.top_k(jnp.where(x > -jnp.inf, x, -jnp.inf), k)[0])


def _mean_of_all(x: Float[Array, "R N"]) -> Float[Array, " R"]:
    there = x > -jnp.inf
    count, total = sum_pairs(there.astype(jnp.int32), jnp.where(there, x, jnp.zeros_like(x)))
    return total / jnp.maximum(count, 1).astype(x.dtype)


def search_mean(x: Float[Array, "R N"], k: int) -> Float[Array, " R"]:
    """`mean_of_largest` by search for the k-th largest entry.

    The mean is the minimum over t of f(t) = t + sum(max(x - t, 0)) / k, which is convex, linear between
    the entries, and minimal where k entries lie above t. Each pass over x counts the entries above one
    t and sums their excess, which gives f and its slope there; the search ends where the slope is zero,
    or where the tangents at both ends of the bracket meet at f to the resolution of the dtype (ties).

    Cost: 2 R N operations and one reading of x for each pass, of which a row takes 4 to 10 and the
    slowest of fifty rows 8 to 15, whatever k is. Where guesses fail, halving the bits bounds the passes.
    """
    there = x > -jnp.inf
    n_there, total = sum_pairs(there.astype(jnp.int32), jnp.where(there, x, jnp.zeros_like(x)))
    n_there, size = n_there.astype(x.dtype), jnp.asarray(k, x.dtype)
    mean = total / jnp.maximum(n_there, 1)
    infinite, none = jnp.full_like(mean, jnp.inf), jnp.zeros_like(mean)
    start = _Bracket(
        low=_End(-infinite, n_there, none),
        high=_End(infinite, none, none),
        threshold=mean,
        best=jnp.where(n_there > size, infinite, mean),
        stalled=jnp.zeros(mean.shape, jnp.int32),
        # With +inf in a row its mean is infinite, and so is the answer.
        done=(n_there <= size) | ~jnp.isfinite(mean),
    )
    final = lax.while_loop(
        lambda bracket: ~bracket.done.all(),
        lambda bracket: _narrow(bracket, x, size, mean, n_there),
        start,
    )
    return jnp.where(jnp.isfinite(mean), final.best, mean)


def sum_pairs(a: Array, b: Array) -> tuple[Array, Array]:
    """Sums over the last axis of two arrays [R, N] in one pass: XLA's CPU backend fuses what makes the
    two into one vectorised loop, which it does not do for two reductions, nor for more than a pair."""
    zeros = np.zeros((), a.dtype), np.zeros((), b.dtype)
    return lax.reduce((a, b), zeros, lambda x, y: (x[0] + y[0], x[1] + y[1]), (a.ndim - 1,))


class _End(NamedTuple):
    """One end of a bracket, each [R]: threshold, entries above it, and the sum of their excess over it."""

    at: Float[Array, " R"]
    above: Float[Array, " R"]
    excess: Float[Array, " R"]


class _Bracket(NamedTuple):
    """Ends around the k-th largest, next threshold, least f so far, passes since the last good one."""

    low: _End
    high: _End
    threshold: Float[Array, " R"]
    best: Float[Array, " R"]
    stalled: Int[Array, " R"]
    done: Bool[Array, " R"]


def _narrow(bracket: _Bracket, x: Array, k: Array, mean: Array, n_there: Array) -> _Bracket:
    """One pass: f and its slope at the threshold, the narrower bracket and the next threshold."""
    low, high, t, best, stalled, done = bracket
    over = x - t[:, None]
    above, excess = sum_pairs(
        (over > 0).astype(jnp.int32), jnp.where(over > 0, over, jnp.zeros_like(over))
    )
    above = above.astype(x.dtype)
    here = _End(t, above, excess)
    is_low = above >= k
    before = low.above - high.above
    low = jax.tree.map(lambda new, old: jnp.where(is_low & ~done, new, old), here, low)
    high = jax.tree.map(lambda new, old: jnp.where(is_low | done, old, new), here, high)
    best = jnp.where(done, best, jnp.minimum(best, t + excess / k))
    between = low.above - high.above
    # The mean of the entries in doubt is where the tangents at both ends meet, below f.
    any_above = high.above > 0
    from_low = low.excess - jnp.where(any_above, high.excess + high.above * (high.at - low.at), 0)
    from_high = n_there * (mean - high.at) - high.excess  # where low is still -inf
    unbounded = jnp.isinf(low.at)
    centre = jnp.where(unbounded, high.at, low.at) + jnp.where(
        unbounded, from_high, from_low
    ) / jnp.maximum(between, 1)
    floor = centre + jnp.where(any_above, high.excess + high.above * (high.at - centre), 0) / k
    resolution = 2 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(best), jnp.abs(t))
    next_bits = _middle(low.at, high.at)
    done |= (above == k) | (best - floor <= resolution) | (next_bits == low.at)
    stalled = jnp.where(between > 0.6 * before, stalled + 1, 0)
    t = next_bits
    for proposal, wanted in (
        (centre, stalled < 3),
        (_guess(low, high, k, mean), (stalled < 2) & (between > _FEW)),
    ):
        t = jnp.where(wanted & (low.at < proposal) & (proposal < high.at), proposal, t)
    return _Bracket(low, high, jnp.where(done, bracket.threshold, t), best, stalled, done)


def _guess(low: _End, high: _End, k: Array, mean: Array) -> Array:
    """Threshold [R] with about k entries above it: log(entries above) is near linear in a tail.

    NaN, infinite or out of the bracket where there is nothing to guess from.
    """
    too_many, missing = low.above - k, k - high.above
    # About one standard deviation past k, to the side that makes the far end come near.
    past = jnp.sqrt(too_many * missing / jnp.maximum(too_many + missing, 1))
    aim = jnp.where(too_many < missing, k - past, k + past)
    aim = jnp.clip(aim, high.above + 0.5, low.above - 0.5)
    near_low = jnp.log((low.above + 0.5) / aim)
    near_high = jnp.log(aim / (high.above + 0.5))
    between = low.at + (high.at - low.at) * (near_low / (near_low + near_high))
    # From one end alone: the mean excess over it is the scale of the tail, exponential or, over the
    # mean, half of a normal distribution.
    low_scale = low.excess / jnp.maximum(low.above, 1)
    high_scale = high.excess / jnp.maximum(high.above, 1)
    normal = jnp.sqrt(jnp.pi).astype(k.dtype) * lax.erf_inv(1 - k / jnp.maximum(low.above, 1))
    from_low = low.at + low_scale * jnp.where(low.at == mean, normal, near_low)
    from_high = high.at - high_scale * near_high
    from_one_end = jnp.where(near_low < near_high, from_low, from_high)
    return jnp.where((high.above < 1) | jnp.isinf(low.at), from_one_end, between)


def _middle(low: Array, high: Array) -> Array:
    """The floating-point number half way between two in their order; `low` where they are next."""
    integer = jnp.int64 if low.dtype == jnp.float64 else jnp.int32
    positive = jnp.iinfo(integer).max

    def ordered(bits):  # its own inverse
        return jnp.where(bits < 0, bits ^ positive, bits)

    a, b = (ordered(lax.bitcast_convert_type(x, integer)) for x in (low, high))
    return lax.bitcast_convert_type(ordered((a & b) + ((a ^ b) >> 1)), low.dtype)
