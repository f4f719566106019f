"""CKA and mutual neighbours against loops, and what they must not depend on."""

import jax
import numpy as np
import pytest

from brainalign_jax.align import similarity

linear_cka = jax.jit(similarity.linear_cka, static_argnames=("debiased",))
mutual_neighbours = jax.jit(similarity.mutual_neighbours, static_argnames=("k",))


def plain_cka(x, y):
    """Kornblith et al. (2019), equation 5, from features."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def unbiased_hsic(k, m):
    """Song et al. (2012), equation 5, term by term."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    cross = sum(k[i, j] * m[j, i] for i in range(n) for j in range(n))
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    rows = (
        2 / (n - 2) * sum(k[i, j] * m[j, q] for i in range(n) for j in range(n) for q in range(n))
    )
    return (cross + sums - rows) / (n * (n - 3))


def loop_neighbours(x, y, k):
    def nearest(rows, i):
        cosines = [
            (-(rows[i] @ rows[j]) / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]), j)
            for j in range(len(rows))
            if j != i
        ]
        return {j for _, j in sorted(cosines)[:k]}

    return np.mean([len(nearest(x, i) & nearest(y, i)) / k for i in range(len(x))])


@pytest.fixture
def sides(rng):
    x = rng.standard_normal((14, 6))
    return x, x[:, :4] @ rng.standard_normal((4, 9)) + rng.standard_normal((14, 9)) + 3


def test_cka_equals_its_formulas(precision, sides):
    x, y = sides
    found = linear_cka(precision.array(x), precision.array(y), debiased=False)
    precision.close(found, plain_cka(x, y), factor=5)
    k, m = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    precision.close(linear_cka(precision.array(x), precision.array(y)), expected, factor=20)


@pytest.mark.parametrize("k", [1, 5, 13])
def test_neighbours_equal_a_loop(precision, sides, k):
    x, y = sides
    found = mutual_neighbours(precision.array(x), precision.array(y), k=k)
    precision.close(found, loop_neighbours(x, y, k))


def test_what_they_do_not_depend_on(precision, sides, rng):
    x, y = sides
    turn = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    for measure, moved in ((linear_cka, 5 * y @ turn + 2), (mutual_neighbours, 5 * y @ turn)):
        options = {} if measure is linear_cka else {"k": 4}
        plain = measure(precision.array(x), precision.array(y), **options)
        other = measure(precision.array(x), precision.array(moved), **options)
        precision.close(other, plain, factor=50)
        precision.close(
            measure(precision.array(y), precision.array(moved), **options), 1, factor=50
        )


def test_width_alone_raises_the_plain_estimate_and_not_the_debiased_one(rng):
    pairs = [(rng.standard_normal((30, 100)), rng.standard_normal((30, 100))) for _ in range(50)]
    plain = np.mean([linear_cka(x, y, debiased=False) for x, y in pairs])
    debiased = np.array([linear_cka(x, y) for x, y in pairs])
    assert plain > 0.7
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(len(pairs))


def test_items_that_do_not_vary_are_alike_to_nothing(sides):
    x, _ = sides
    constant = np.full((14, 3), 7.3, np.float32)
    assert float(linear_cka(x, constant)) == 0
    assert float(linear_cka(x, constant, debiased=False)) == 0


def test_too_few_items():
    few = np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match="needs at least 4 items, not 3"):
        similarity.linear_cka(few, few)
    with pytest.raises(ValueError, match="3 items have no 3 neighbours each: k must be 1 to 2"):
        similarity.mutual_neighbours(few, few, k=3)
    with pytest.raises(ValueError, match="k must be 1 to 2"):
        similarity.mutual_neighbours(few, few, k=0)
