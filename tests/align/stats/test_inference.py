"""Permuted decoding against refitting for every permutation, p-values, permutations."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from brainalign_jax.align import ridge
from brainalign_jax.align.stats import inference


def study(rng, n=24, v=40, d=7, n_folds=4, fit_intercept=True):
    """Responses, vectors, folds and their hat matrices for all queries, in float64."""
    x, y = rng.standard_normal((n, v)), rng.standard_normal((n, d))
    y -= y.mean(axis=0)
    blocks = np.array_split(rng.permutation(n), n_folds)
    train = np.ones((n_folds, n))
    queries = np.zeros((n_folds, max(map(len, blocks)) + 1), int)
    mask = np.zeros(queries.shape)
    hats = []
    for fold, block in enumerate(blocks):
        train[fold, block] = 0
        queries[fold, : len(block)] = block
        mask[fold, : len(block)] = 1
        factor = ridge.factor_primal(
            jnp.asarray(x), jnp.asarray(train[fold]), fit_intercept=fit_intercept
        )
        hats.append(np.asarray(inference.hat_matrix(factor, 3.0))[queries[fold]])
    return x, y, train, queries, mask, np.stack(hats)


def refitted(x, y, train, queries, mask, permutation, k):
    """Ranks (cosine, CSLS) of one permutation, by fitting every fold again."""
    paired = y[permutation]
    nn, csls = np.full(queries.shape, float(len(y))), np.full(queries.shape, float(len(y)))
    for fold, keep in enumerate(train > 0):
        mx, my = x[keep].mean(axis=0), paired[keep].mean(axis=0)
        xc = x[keep] - mx
        weights = np.linalg.solve(xc.T @ xc + 3.0 * np.eye(x.shape[1]), xc.T @ (paired[keep] - my))
        asked = queries[fold][mask[fold] > 0]
        cosine = oracles.cosine((x[asked] - mx) @ weights, y - my)
        near_t = np.sort(cosine, axis=1)[:, -k:].mean(axis=1)
        near_s = np.sort(cosine, axis=0)[-min(k, len(asked)) :].mean(axis=0)
        scores = 2 * cosine - near_t[:, None] - near_s
        for row, item in enumerate(asked):
            gold = permutation[item]
            nn[fold, row] = 1 + (cosine[row] > cosine[row, gold]).sum()
            csls[fold, row] = 1 + (scores[row] > scores[row, gold]).sum()
    return nn, csls


def test_permuted_ranks_equal_refitting(double, rng):
    x, y, train, queries, mask, hats = study(rng)
    permutations = inference.draw_permutations(24, 3, random_state=1)
    permutations[0] = np.arange(24)
    arrays = [jnp.asarray(a) for a in (hats, train, y @ y.T, queries, mask)]
    ranks = jax.jit(jax.vmap(lambda p: inference.permuted_ranks(*arrays, p, csls_k=5)))(
        permutations
    )
    for i, permutation in enumerate(permutations):
        nn, csls = refitted(x, y, train, queries, mask, permutation, 5)
        np.testing.assert_array_equal(ranks.nn[i], nn)
        np.testing.assert_array_equal(ranks.csls[i], csls)


def test_candidates_are_divided_by_their_spread_over_the_fitted_words(double, rng):
    x, y, train, queries, mask, hats = study(rng)
    permutation = rng.permutation(len(y))
    paired, fitted = y[permutation], []
    expected = np.full(queries.shape, float(len(y)))
    for fold, keep in enumerate(train > 0):
        factor = ridge.factor_primal(jnp.asarray(x), jnp.asarray(train[fold]), fit_intercept=True)
        hat = np.asarray(inference.hat_matrix(factor, 3.0))
        fitted.append(hat * keep[:, None])
        centred = paired - paired[keep].mean(axis=0)
        candidates = y - paired[keep].mean(axis=0)
        trained = oracles.cosine(hat[keep] @ centred, candidates)
        spread = np.sqrt((trained**2).mean(axis=0))
        asked = queries[fold][mask[fold] > 0]
        scores = oracles.cosine(hat[asked] @ centred, candidates) / spread
        own = scores[np.arange(len(asked)), permutation[asked]]
        expected[fold, : len(asked)] = 1 + (scores > own[:, None]).sum(axis=1)
    ranks = jax.jit(inference.permuted_ranks, static_argnames="csls_k")(
        *map(jnp.asarray, (hats, train, y @ y.T, queries, mask, permutation, np.stack(fitted)))
    )
    np.testing.assert_array_equal(ranks.nn, expected)


def scores_of(x, vectors, keep, asked, scaled):
    """Cosines [Q, N] of a fold's predictions with vectors in the order of the responses; 0 of the mean."""
    mx, my = x[keep].mean(axis=0), vectors[keep].mean(axis=0)
    xc, candidates = x - mx, vectors - my
    dual = np.linalg.solve(xc[keep] @ xc[keep].T + 3.0 * np.eye(keep.sum()), candidates[keep])
    predicted = xc @ xc[keep].T @ dual
    candidates[np.linalg.norm(candidates, axis=1) < 1e-9] = 0
    cosine = oracles.cosine(predicted, candidates)
    spread = np.sqrt((cosine[keep] ** 2).mean(axis=0))
    return cosine[asked] / np.where(spread > 0, spread, 1) if scaled else cosine[asked]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("k", [1, 6, 100])
def test_ranks_where_vectors_are_alike_folds_uneven_and_neighbours_few(k, scaled, double, rng):
    """Equal vectors tie at half, a vector at the training mean is near nothing; rows outside of training
    and test; folds of two queries, k of more than there are."""
    x, y, train, queries, mask, hats = study(rng)
    permutation = rng.permutation(len(y))
    train[1, queries[0, :2]] = 0
    mask[2, 2:] = 0
    used = permutation[train[3] > 0]
    y[used] -= y[used].mean(axis=0)
    alike, other, vanishing = permutation[queries[3, :3]]
    y[alike], y[vanishing] = y[other], 0
    fitted = []
    for fold, keep in enumerate(train > 0):
        factor = ridge.factor_primal(jnp.asarray(x), jnp.asarray(train[fold]), fit_intercept=True)
        hat = np.asarray(inference.hat_matrix(factor, 3.0))
        hats[fold], more = hat[queries[fold]], hat * keep[:, None]
        fitted.append(more)
    arrays = map(jnp.asarray, (hats, train, y @ y.T, queries, mask, permutation))
    more = jnp.asarray(np.stack(fitted)) if scaled else None
    permuted = jax.jit(inference.permuted_ranks, static_argnames="csls_k")(*arrays, more, csls_k=k)
    for fold, keep in enumerate(train > 0):
        asked = queries[fold][mask[fold] > 0]
        cosine = scores_of(x, y[permutation], keep, asked, scaled)
        near = np.sort(cosine, axis=0)[-min(k, len(asked)) :].mean(axis=0)
        for ranks, scores in ((permuted.nn, cosine), (permuted.csls, 2 * cosine - near)):
            over = scores - scores[np.arange(len(asked)), asked][:, None]
            over[np.abs(over) < 1e-9] = 0
            expected = 0.5 + (over > 0).sum(axis=1) + (over == 0).sum(axis=1) / 2
            np.testing.assert_array_equal(ranks[fold, : len(asked)], expected)
        assert (np.asarray(permuted.nn)[fold, mask[fold] == 0] == len(y)).all()


def test_float32_ranks_as_float64(rng):
    x, y, train, queries, mask, hats = study(rng)
    single = [jnp.asarray(a, jnp.float32) for a in (hats, train, y @ y.T)]
    ranks = inference.permuted_ranks(
        *single, jnp.asarray(queries), jnp.asarray(mask), jnp.arange(24), csls_k=5
    )
    assert ranks.nn.dtype == np.float32
    nn, csls = refitted(x, y, train, queries, mask, np.arange(24), 5)
    assert np.abs(np.asarray(ranks.nn) - nn).max() <= 1  # at a near tie
    assert np.abs(np.asarray(ranks.csls) - csls).max() <= 1


def test_a_hat_matrix_predicts_as_the_factor_does(double, rng):
    x, y = rng.standard_normal((12, 5)), rng.standard_normal((12, 3))
    mask = jnp.asarray(np.arange(12) % 3 > 0, float)
    for intercept in (True, False):
        factor = ridge.factor_primal(jnp.asarray(x), mask, fit_intercept=intercept)
        hat = inference.hat_matrix(factor, jnp.asarray(2.0))
        mean = y[np.asarray(mask) > 0].mean(axis=0) * intercept
        double.close(hat @ y + mean, ridge.predict(factor, jnp.asarray(y), 2.0))
        assert np.abs(np.asarray(hat)[:, np.asarray(mask) == 0]).max() == 0


def test_p_values_are_never_zero():
    null = jnp.asarray([[0.1], [0.2], [0.3]])
    assert float(inference.p_value(jnp.asarray([0.9]), null)[0]) == pytest.approx(1 / 4)
    assert float(inference.p_value(jnp.asarray([0.2]), null)[0]) == pytest.approx(3 / 4)


def test_permutations_are_seeded_and_keep_blocks_together():
    drawn = inference.draw_permutations(10, 50, random_state=3, block=2)
    assert drawn.shape == (50, 10) and drawn.dtype == np.int32
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(10), (50, 1)))
    np.testing.assert_array_equal(drawn[:, 1::2], drawn[:, ::2] + 1)
    np.testing.assert_array_equal(
        drawn, inference.draw_permutations(10, 50, random_state=3, block=2)
    )
    assert len(np.unique(drawn, axis=0)) > 30
    with pytest.raises(ValueError, match="nothing to permute"):
        inference.draw_permutations(3, 5, block=2)
