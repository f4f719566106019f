"""The result does not depend on how it is computed: tile, batch, path, algorithm.

That it does not depend on chunks of layers, threads, devices and processes either is tested where
studies are, in tests/study/test_computation.py.
"""

import jax
import numpy as np
import pytest

from brainalign_jax.align import procrustes, retrieval, rsa
from brainalign_jax.align.ridge import ridge_folds
from brainalign_jax.align.rsa import rsa_tiles
from brainalign_jax.estimators import cross_validated_ridge

ALPHAS = np.logspace(-2, 3, 6).astype(np.float32)
N, V, D = 40, 24, 30


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, V)).astype(np.float32)
    y = x @ rng.standard_normal((V, D)) / 3 + rng.standard_normal((N, D))
    return x - x.mean(axis=0), (y - y.mean(axis=0)).astype(np.float32)


def ridge(solver, tile):
    x, y = data()
    fold = np.arange(N) % 4
    rows = ridge_folds.fold_rows(
        np.stack([fold != f for f in range(4)]), np.stack([fold == f for f in range(4)])
    )
    fitted = cross_validated_ridge(x, y, ALPHAS, rows, solver=solver, tile=tile)
    weights = np.asarray(fitted.weights)
    predictions = x @ weights if solver == "primal" else x @ (x.T @ weights)
    return {"predictions": predictions, "alpha": np.asarray(fitted.index)}


def rotation(algorithm):
    x, y = data()
    weights = np.ones(N, np.float32)
    fit = jax.jit(procrustes.fit, static_argnames=("algorithm",))
    return {"predictions": procrustes.apply(fit(x, y, weights, algorithm=algorithm), x)}


def rotation_folds():
    """The last fold's map from the total minus the block left out, against the map of a mask."""
    x, y = data()
    held_out = np.arange(8, dtype=np.int32)[None]
    maps = jax.jit(procrustes.fit_folds)(
        x, y, held_out, np.ones((1, 8), np.float32), np.ones(N, np.float32)
    )
    last = jax.tree.map(lambda leaf: leaf[0], maps)
    return {"predictions": procrustes.apply(last, x)}


def rotation_mask():
    x, y = data()
    weights = (np.arange(N) >= 8).astype(np.float32)
    return {"predictions": procrustes.apply(jax.jit(procrustes.fit)(x, y, weights), x)}


def csls(tile, max_bytes=2**30):
    _, y = data()
    noisy = y + 6 * np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    ranks = jax.jit(retrieval.csls_ranks, static_argnames=("k", "tile", "max_bytes"))
    by_kind = ranks(noisy, y, np.arange(N, dtype=np.int32), k=5, tile=tile, max_bytes=max_bytes)
    return by_kind._asdict()


def geometry(tile):
    x, y = data()
    return {"rsa": rsa_tiles.scores(x[None], y[None], tile=tile)}


CASES = {
    "ridge, dual": (lambda: ridge("dual", 2048), lambda: ridge("primal", 2048)),
    "ridge, tiles of 7": (lambda: ridge("primal", 7), lambda: ridge("primal", 2048)),
    "ridge, dual, tiles of 16": (lambda: ridge("dual", 16), lambda: ridge("primal", 2048)),
    **{
        f"Procrustes, {name}": (lambda name=name: rotation(name), lambda: rotation("svd"))
        for name in ("auto", "gram", "qdwh", "newton_schulz")
    },
    "Procrustes, total minus block": (rotation_folds, rotation_mask),
    "CSLS, tiles of 9": (lambda: csls(9), lambda: csls(None)),
    "CSLS, no room for the scores": (lambda: csls(None, max_bytes=2**12), lambda: csls(None)),
    "RSA, tiles of 16": (lambda: geometry(16), lambda: geometry(None)),
    "RSA, one program": (
        lambda: {"rsa": jax.jit(rsa.scores)(data()[0][None], data()[1][None])},
        lambda: geometry(None),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_way_of_computing_does_not_matter(case):
    actual, expected = (run() for run in CASES[case])
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=2e-5, err_msg=name)
        assert np.ptp(np.asarray(expected[name])) > 0 or np.size(expected[name]) == 1
