from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align.retrieval import neighbours

WAYS = {"search": neighbours.search_mean, "sort": neighbours.sorted_mean}
R, N = 6, 40


@functools.cache
def jitted(way):
    return jax.jit(WAYS[way], static_argnums=1)


@pytest.fixture(params=list(WAYS))
def mean_of_largest(request):
    return jitted(request.param)


def expected_mean(x, k):
    """Sorts each row in float64. NaN and -inf are left out."""
    result = []
    for row in np.asarray(x, np.float64):
        row = np.sort(row[row > -np.inf])[::-1][:k]
        result.append(row.mean() if len(row) else 0.0)
    return np.array(result)


def close_to_a_sort(precision, mean, x, k):
    """To the resolution of the dtype, a fiftieth of what other tests allow."""
    x = np.asarray(precision.array(x))
    scale = max(1.0, float(np.abs(np.where(np.isfinite(x), x, 0)).max()))
    actual = mean(precision.array(x / scale), k)
    precision.close(actual, expected_mean(np.asarray(precision.array(x / scale)), k), factor=0.02)


KINDS = {
    "normal": lambda rng: rng.normal(size=(R, N)),
    "heavy tails": lambda rng: rng.standard_cauchy(size=(R, N)),
    "few values": lambda rng: rng.integers(0, 4, size=(R, N)) / 10,
    "one value": lambda rng: np.full((R, N), 0.1),
    "zeros": lambda rng: np.zeros((R, N)),
    "two values, one once": lambda rng: np.eye(R, N),
    "all decades": lambda rng: np.exp(rng.uniform(-30, 30, (R, N))) * rng.choice([-1, 1], (R, N)),
    "repeated": lambda rng: np.repeat(rng.normal(size=(R, N // 8)), 8, axis=1),
    "narrow": lambda rng: 1 + 1e-5 * rng.normal(size=(R, N)),
    "two clusters": lambda rng: 0.01 * rng.normal(size=(R, N)) + (rng.random((R, N)) < 0.2),
    "masked": lambda rng: np.where(rng.random((R, N)) < 0.6, -1e6, rng.normal(size=(R, N))),
    "left out": lambda rng: np.where(rng.random((R, N)) < 0.6, -np.inf, rng.normal(size=(R, N))),
    "all left out": lambda rng: np.full((R, N), -np.inf),
    "with NaN": lambda rng: np.where(rng.random((R, N)) < 0.2, np.nan, rng.normal(size=(R, N))),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_equals_a_sort(precision, rng, mean_of_largest, kind):
    x = KINDS[kind](rng)
    for k in (1, 7, N - 1):
        close_to_a_sort(precision, mean_of_largest, x, k)


def test_masked_rows_keep_their_precision(precision, rng, mean_of_largest):
    """Entries of -1e6 that are not among the nearest must not cost the others their digits."""
    x = np.where(np.arange(N) % 3 == 0, rng.normal(size=(R, N)), -1e6)
    actual = mean_of_largest(precision.array(x), 7)
    precision.close(actual, expected_mean(np.asarray(precision.array(x)), 7), factor=0.1)


def test_infinity_is_the_largest(precision, rng, mean_of_largest):
    x = rng.normal(size=(R, N))
    x[2, 3] = np.inf
    actual = np.asarray(mean_of_largest(precision.array(x), 7))
    assert actual[2] == np.inf
    assert np.isfinite(np.delete(actual, 2)).all()


@pytest.mark.parametrize("kind", ["normal", "two clusters", "constant"])
def test_ends_soon_on_rows_of_thousands(rng, monkeypatch, kind):
    """The number of passes that the docstring states."""
    shape = (50, 3000)
    x = {
        "normal": rng.normal(size=shape),
        "two clusters": 0.2 * (rng.random(shape) < 0.05) + 0.05 * rng.normal(size=shape),
        "constant": np.ones(shape),
    }[kind]
    passes, narrow = [], jax.jit(neighbours._narrow)

    def counted(*args):
        passes.append(1)
        return narrow(*args)

    def loop(condition, body, state):
        while condition(state):
            state = body(state)
        return state

    monkeypatch.setattr(neighbours, "_narrow", counted)
    monkeypatch.setattr(neighbours.lax, "while_loop", loop)
    neighbours.search_mean(jnp.asarray(x, jnp.float32), 100)
    assert 0 < len(passes) <= 15


def test_finds_the_number_half_way_between_two(precision):
    numbers = np.array([-np.inf, -3.0, -1e-30, 0.0, 1e-30, 2.0, 2.5, np.inf])
    low, high = (precision.array(x) for x in (numbers[:-1], numbers[1:]))
    middle = np.asarray(neighbours._middle(low, high))
    assert ((np.asarray(low) < middle) & (middle < np.asarray(high))).all()
    next_one = jnp.nextafter(low[1:], high[1:])
    assert (np.asarray(neighbours._middle(low[1:], next_one)) == np.asarray(low[1:])).all()


@pytest.mark.parametrize("rows", [1, 4, 7, 10, 99])
def test_tiles_cover_every_row_once(rows):
    def tile(start):
        index = start + jnp.arange(min(rows, 10))
        return index, jnp.stack([index, index**2], axis=1)

    index, pairs = neighbours.in_tiles(tile, 10, rows)
    assert list(index) == list(range(10))
    assert pairs.tolist() == [[i, i**2] for i in range(10)]


@pytest.mark.parametrize("shape", [(3, 5), (20, 20_000)])
def test_the_way_is_chosen_by_shape(double, rng, shape):
    x = rng.normal(size=shape)
    for k in (1, 3, min(9, shape[1])):
        double.close(neighbours.mean_of_largest(double.array(x), k), expected_mean(x, k))


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_columns_is_an_error(k):
    with pytest.raises(ValueError, match=f"k={k}.*5"):
        neighbours.mean_of_largest(jnp.zeros((2, 5)), k)


@pytest.mark.parametrize("way", list(WAYS))
def test_is_the_same_batched(double, rng, same_when_batched, way):
    x = rng.normal(size=(2, R, N))
    x[1, :, 5:] = -np.inf
    same_when_batched(lambda x: WAYS[way](x, 7), double.array(x), in_axes=(0,))


@pytest.mark.parametrize("way", list(WAYS))
def test_float32_stays_float32(keeps_float32, rng, way):
    keeps_float32(lambda x: WAYS[way](x, 7), rng.normal(size=(R, N)))
