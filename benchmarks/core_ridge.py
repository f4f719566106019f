"""Ridge, alpha chosen for each target by cross-validation, refit included: against himalaya and others.

    python -m benchmarks.run --suite=core --jobs=ridge

Alphas: those of the paper, 10^-6 to 10^9 in 16 steps, of which five give the filters of all on this
spectrum (independent voxels: eigenvalues within a factor of 4); 10^1 to 10^6, all of them about the
spectrum (six); and voxels that correlate, a spectrum over three decades, where most are needed. Both
sides return the chosen alphas and the weights of the rows (dual) or features (primal).
"""

from typing import NamedTuple

import jax
import numpy as np

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.align.ridge import ridge_folds
from brainalign_jax.estimators import cross_validated_ridge


class Sizes(NamedTuple):
    """Of a job: words, voxels (or features), layers, targets a layer and folds."""

    n: int
    v: int
    layers: int
    width: int
    folds: int


DECODING = Sizes(1000, 10_000, 13, 768, 5)
ENCODING = Sizes(3000, 1000, 1, 30_000, 3)
PAPER = np.logspace(-6, 9, 16)
ABOUT = np.logspace(1, 6, 16)
HIMALAYA = np.logspace(-10, 10, 20)
_SAMPLE = 1000  # targets whose alphas are checked in float64
_PEER_TARGETS = 6000  # of himalaya's benchmark, of which it takes a minute for all


def _inputs(sizes: Sizes, alphas: np.ndarray, *, decay: float = 0.0) -> dict:
    """Targets from signal to noise. decay: decades over which the voxels' components fall off."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sizes.n, sizes.v), np.float32)
    if decay:
        spread = np.logspace(0, -decay / 2, sizes.n).astype(np.float32)
        x = (rng.standard_normal((sizes.n, sizes.n), np.float32) * spread) @ x / 30
    signal = x @ rng.standard_normal((sizes.v, sizes.width), np.float32)
    signal /= signal.std()
    y = np.concatenate(
        [
            strength * signal + rng.standard_normal(signal.shape, np.float32)
            for strength in np.linspace(2, 0.1, sizes.layers)
        ],
        axis=1,
    )
    return {"x": x, "y": y, "alphas": alphas, "folds": _folds(sizes.n, sizes.folds)}


def _folds(n: int, n_folds: int) -> np.ndarray:
    """Test masks [F, n] of blocks in order, as scikit-learn's KFold."""
    blocks = np.array_split(np.arange(n), n_folds)
    return np.stack([np.isin(np.arange(n), block) for block in blocks])


def ours(inputs: dict):
    rows = ridge_folds.fold_rows(~inputs["folds"], inputs["folds"])
    x, y = jax.device_put((inputs["x"], inputs["y"]))
    alphas = inputs["alphas"].astype(np.float32)

    def call() -> peers.RidgeFit:
        fitted = cross_validated_ridge(x, y, alphas, rows, fit_intercept=False)
        return peers.RidgeFit(
            inputs["alphas"][np.asarray(fitted.index)], np.asarray(fitted.weights)
        )

    return call


def himalaya_dual(inputs: dict):
    return peers.himalaya_kernel_ridge(
        inputs["x"], inputs["y"], inputs["alphas"], len(inputs["folds"])
    )


def himalaya_primal(inputs: dict):
    y = np.ascontiguousarray(inputs["y"][:, :_PEER_TARGETS])
    return peers.himalaya_ridge(inputs["x"], y, inputs["alphas"], len(inputs["folds"]))


def numpy_eigh(inputs: dict):
    """One eigen-decomposition a fold, one product a fold and alpha; the refit as ours."""
    x, y, alphas = inputs["x"], inputs["y"], inputs["alphas"].astype(np.float32)

    def call() -> peers.RidgeFit:
        gram = x @ x.T
        errors = np.zeros((len(alphas), y.shape[1]), np.float32)
        for test in inputs["folds"]:
            w, u = np.linalg.eigh(gram[~test][:, ~test])
            scores, train = gram[test][:, ~test] @ u, y[~test]
            for i, alpha in enumerate(alphas):
                operator = (scores / (np.maximum(w, 0) + alpha)) @ u.T
                errors[i] += ((y[test] - operator @ train) ** 2).mean(axis=0)
        best = errors.argmin(axis=0)
        w, u = np.linalg.eigh(gram)
        weights = u @ ((u.T @ y) / (np.maximum(w, 0)[:, None] + alphas[best]))
        return peers.RidgeFit(inputs["alphas"][best], weights)

    return call


def sklearn_one_layer(inputs: dict):
    """RidgeCV of one layer; leave-one-out, the only cross-validation it does from one decomposition."""
    import sklearn.linear_model

    model = sklearn.linear_model.RidgeCV(
        inputs["alphas"], alpha_per_target=True, fit_intercept=False
    )
    y = inputs["y"][:, : DECODING.width]
    return lambda: peers.RidgeFit(model.fit(inputs["x"], y).alpha_, model.coef_)


def errors(inputs: dict, fit: peers.RidgeFit, others: dict) -> dict[str, float]:
    """Predictions and alphas against float64, for a sample of the targets."""
    del others
    sample = np.linspace(0, inputs["y"].shape[1] - 1, _SAMPLE).astype(int)
    x, y = inputs["x"].astype(np.float64), inputs["y"][:, sample].astype(np.float64)
    alphas, chosen, weights = inputs["alphas"], fit.alphas[sample], fit.weights[:, sample]
    dual = len(weights) == len(x)
    gram = x @ x.T if dual else x.T @ x
    cross = y if dual else x.T @ y
    scored = np.zeros((len(alphas), _SAMPLE))
    for test in inputs["folds"]:
        if dual:
            inside, across, source = gram[~test][:, ~test], gram[test][:, ~test], y[~test]
        else:
            inside, across = gram - x[test].T @ x[test], x[test]
            source = cross - x[test].T @ y[test]
        w, u = np.linalg.eigh(inside)
        scores, projected = across @ u, u.T @ source
        for i, alpha in enumerate(alphas):
            predicted = scores @ (projected / (w + alpha)[:, None])
            scored[i] += ((y[test] - predicted) ** 2).mean(axis=0)
    index = np.abs(chosen - alphas[:, None]).argmin(axis=0)
    excess = scored[index, np.arange(_SAMPLE)] / scored.min(axis=0) - 1
    w, u = np.linalg.eigh(gram)
    exact = u @ ((u.T @ cross) / (w[:, None] + chosen))
    source = gram if dual else x
    expected = source @ exact
    wrong = np.abs(source @ weights.astype(np.float64) - expected).max(axis=0)
    return {
        "prediction": float((wrong / np.abs(expected).max(axis=0)).max()),
        "alphas differing, not ties": float((excess > 1e-5).mean()),
        "alphas differing": float((index != scored.argmin(axis=0)).mean()),
    }


def _flops(sizes: Sizes, n_functions: int) -> float:
    """Of the products: Gram, selection and refit."""
    n, v, _, _, folds = sizes
    t = sizes.layers * sizes.width
    if v <= n:
        return 2.0 * t * v * (2 * n + n * n_functions + 2 * v)
    train = n - n // folds
    return 2.0 * n * (n * v * 5 / 8 + t * train * n_functions + 2 * n * t)


def jobs() -> list[Job]:
    """The two jobs of the issue's table, the first on three spectra."""
    common = dict(ours=ours, errors=errors)
    name = "ridge: 1,000 words x 10,000 voxels to 13 x 768, 16 alphas, 5 folds"
    return [
        Job(
            name=name,
            setup=lambda: _inputs(DECODING, PAPER),
            peers={
                "himalaya": himalaya_dual,
                "NumPy eigh": numpy_eigh,
                "scikit-learn RidgeCV a layer": sklearn_one_layer,
            },
            flops=_flops(DECODING, 5),
            targets={"himalaya": 5.0},
            peer_scale={"scikit-learn RidgeCV a layer": DECODING.layers},
            **common,
        ),
        Job(
            name=f"{name}, all about the spectrum",
            setup=lambda: _inputs(DECODING, ABOUT),
            peers={"himalaya": himalaya_dual},
            flops=_flops(DECODING, 6),
            targets={"himalaya": 5.0},
            **common,
        ),
        Job(
            name=f"{name}, voxels that correlate",
            setup=lambda: _inputs(DECODING, ABOUT, decay=3.0),
            peers={"himalaya": himalaya_dual},
            flops=_flops(DECODING, 11),
            targets={"himalaya": 4.0},
            **common,
        ),
        Job(
            name="ridge: 3,000 x 1,000 to 30,000 targets, 20 alphas, 3 folds",
            setup=lambda: _inputs(ENCODING, HIMALAYA),
            peers={"himalaya": himalaya_primal},
            flops=_flops(ENCODING, 5),
            targets={"himalaya": 1.7},
            peer_scale={"himalaya": ENCODING.width / _PEER_TARGETS},
            **common,
        ),
    ]
