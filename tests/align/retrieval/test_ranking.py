from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import rankdata

from brainalign_jax.align.retrieval import ranking

rank = jax.jit(ranking.rank)
centred_rank = jax.jit(ranking.centred_rank)


@jax.jit
def both_ways(x):
    """The sums of positions by the CPU's way and by the accelerators', whatever this machine has."""
    keys = ranking.order_key(x)
    return ranking._by_search(keys), ranking._by_payload(keys)


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3, 11)])
@pytest.mark.parametrize("ties", [True, False])
def test_rank_equals_scipy(precision, rng, shape, ties):
    x = rng.integers(-3, 3, size=shape) if ties else rng.normal(size=shape)
    ranked = rank(precision.array(x))
    precision.close(ranked, rankdata(x, axis=-1), factor=0.01)  # ranks are exact
    precision.close(
        ranked.reshape(-1, shape[-1])[-1], oracles.average_rank(x.reshape(-1, shape[-1])[-1])
    )


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65])
@pytest.mark.parametrize("distinct", [1, 2, 7, 1000])
def test_both_ways_agree_with_scipy_for_runs_of_every_length(double, rng, size, distinct):
    x = rng.integers(0, distinct, size=(3, size))
    expected = 2 * rankdata(x, axis=-1) - 1
    for sums in both_ways(double.array(x)):
        assert sums.dtype == np.int32
        np.testing.assert_array_equal(sums, expected)


def test_both_ways_agree_on_values_of_every_magnitude(precision, rng):
    x = rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, size=500)
    x[:6] = np.inf, -np.inf, 0.0, -0.0, np.inf, 1.0
    x = precision.array(x)
    for sums in both_ways(x[None]):
        np.testing.assert_array_equal(sums[0], 2 * rankdata(x) - 1)


def test_neighbouring_floats_are_told_apart(precision):
    x = np.array([1.0, 1.0, -1.0, -1.0, 2.0], precision.dtype)
    x[1], x[3] = np.nextafter(x[1], x.dtype.type(2)), np.nextafter(x[3], x.dtype.type(-2))
    precision.close(rank(jnp.asarray(x)), [3, 4, 2, 1, 5])


def test_rank_of_a_constant_and_of_signed_zeros(precision):
    precision.close(rank(precision.array(np.full(5, 0.1))), np.full(5, 3.0))
    precision.close(rank(precision.array([0.0, -0.0, 1.0])), [1.5, 1.5, 3.0])


def test_a_row_with_a_missing_value_has_no_ranks(precision):
    """As scipy's rankdata; the sign bit of a NaN must not matter."""
    x = np.array([[1.0, np.nan, 0.0], [1.0, np.copysign(np.nan, -1), 0.0], [3.0, 1.0, 1.0]])
    np.testing.assert_array_equal(rank(precision.array(x)), rankdata(x, axis=1))


def test_centred_ranks_add_up_to_zero(precision, rng):
    x = rng.integers(0, 5, size=(2, 12))
    centred = centred_rank(precision.array(x))
    precision.close(centred, (rankdata(x, axis=1) - 6.5) / 6, factor=0.01)
    precision.close(centred_rank(precision.array([4.0])), [0.0])


def test_rank_is_the_same_batched(double, rng, same_when_batched):
    x = double.array(rng.integers(0, 6, size=(4, 17)))
    same_when_batched(ranking.rank, x, in_axes=(0,))


def test_half_precision_is_ranked_exactly(rng):
    x = jnp.asarray(rng.normal(size=40), jnp.bfloat16)
    assert rank(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(rank(x).astype(np.float32), rankdata(x.astype(np.float32)))


def test_float32_stays_float32(keeps_float32, rng):
    keeps_float32(ranking.rank, rng.normal(size=(4, 5)))
    keeps_float32(ranking.centred_rank, rng.normal(size=(4, 5)))


def test_more_values_than_an_int32_can_rank_are_refused():
    too_many = jax.ShapeDtypeStruct((2**30,), np.float32)
    with pytest.raises(ValueError, match="at most 1073741823"):
        jax.eval_shape(ranking.rank, too_many)
