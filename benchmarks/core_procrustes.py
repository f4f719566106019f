"""Procrustes grids: layers x subjects x folds, predictions of the held-out words.

Ours keeps one problem in flight for each core, each on one thread: LAPACK's eigenvalue problems gain
little from a second thread, and XLA's threads and those of OpenBLAS hinder one another.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.align import procrustes

_LAYERS, _SUBJECTS, _FOLDS, _WIDTH = 13, 2, 4, 768


def _inputs(words: int) -> dict:
    """Rotations of one set of Gaussian vectors, with as much noise; contiguous folds."""
    rng = np.random.default_rng(4)
    latent = rng.standard_normal((words, _WIDTH))

    def seen() -> np.ndarray:
        rotation = np.linalg.qr(rng.standard_normal((_WIDTH, _WIDTH)))[0]
        noise = rng.standard_normal((words, _WIDTH))
        return (latent @ rotation + noise + rng.standard_normal(_WIDTH)).astype(np.float32)

    held_out = np.arange(words).reshape(_FOLDS, -1)
    train = np.ones((_FOLDS, words), np.float32)
    np.put_along_axis(train, held_out, 0, axis=1)
    return {
        "sources": np.stack([seen() for _ in range(_SUBJECTS)]),
        "targets": np.stack([seen() for _ in range(_LAYERS)]),
        "held_out": held_out,
        "train": train,
    }


def _each(call: Callable, *arguments: list) -> list[np.ndarray]:
    """The call on every item, as many at once as there are cores, as NumPy."""
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        return list(pool.map(lambda *a: jax.tree.map(np.asarray, call(*a)), *arguments))


def _from_totals(inputs: dict) -> Callable[[], np.ndarray]:
    """[L, S, F, B, D]: cross-covariances from the total minus the held-out block, Gram eigenvectors."""
    predict = jax.jit(procrustes.predict_folds)
    held_out = jnp.asarray(inputs["held_out"])
    shared = held_out, jnp.ones(held_out.shape), jnp.ones(inputs["train"].shape[1])
    sources, targets = map(list, jax.device_put((inputs["sources"], inputs["targets"])))
    pairs = [(x, y, *shared) for y in targets for x in sources]

    def call() -> np.ndarray:
        predicted = np.stack(_each(predict, *zip(*pairs, strict=True)))
        return predicted.reshape(_LAYERS, _SUBJECTS, *predicted.shape[1:])

    return call


def _from_spans(inputs: dict) -> Callable[[], np.ndarray]:
    """The same where words are few: one QR for each subject and fold, one for each layer and fold."""
    rows = jnp.asarray(np.stack([np.flatnonzero(mask) for mask in inputs["train"]]))
    held_out = jnp.asarray(inputs["held_out"])
    sources, targets = jax.device_put((inputs["sources"], inputs["targets"]))

    @jax.jit
    def spans(x):
        return jax.lax.map(lambda r: procrustes.span(x, r, jnp.ones(r.shape)), rows)

    @jax.jit
    def predict(x, of_x, of_y):
        def one_fold(fold):
            tested, *both = fold
            return procrustes.apply(procrustes.fit_spans(*both), x[tested])

        return jax.lax.map(one_fold, (held_out, of_x, of_y))

    def call() -> np.ndarray:
        of_sources, of_targets = _each(spans, sources), _each(spans, targets)
        of_sources = jax.device_put(of_sources)
        pairs = [
            (x, of_x, of_y)
            for of_y in of_targets
            for x, of_x in zip(sources, of_sources, strict=True)
        ]
        predicted = np.stack(_each(predict, *zip(*pairs, strict=True)))
        return predicted.reshape(_LAYERS, _SUBJECTS, *predicted.shape[1:])

    return call


def _errors(inputs: dict, ours: np.ndarray, others: dict) -> dict[str, float]:
    """Largest relative error, Frobenius, of a problem's predictions; eight problems in float64."""
    del others  # where the training rank is below D, theirs are arbitrary outside the span
    worst = 0.0
    for layer in (0, _LAYERS - 1):
        for subject in range(_SUBJECTS):
            for fold in (0, _FOLDS - 1):
                problem = inputs["sources"][subject], inputs["targets"][layer]
                x, y = (a.astype(np.float64) for a in problem)
                train, tested = inputs["train"][fold] > 0, inputs["held_out"][fold]
                mean_x, mean_y = x[train].mean(axis=0), y[train].mean(axis=0)
                left, s, right = np.linalg.svd((x[train] - mean_x).T @ (y[train] - mean_y))
                rank = np.count_nonzero(s > s[0] * len(s) * np.finfo(float).eps)
                moved = (x[tested] - mean_x) @ left[:, :rank] @ right[:rank]
                difference = ours[layer, subject, fold] - mean_y - moved
                worst = max(worst, np.linalg.norm(difference) / np.linalg.norm(moved))
    return {"prediction": worst}


def jobs() -> list[Job]:
    grid = _LAYERS * _SUBJECTS * _FOLDS
    against = {
        side: functools.partial(
            lambda make, i: make(i["sources"], i["targets"], i["train"], i["held_out"]), make
        )
        for side, make in (("SciPy", peers.scipy_procrustes), ("torch", peers.torch_procrustes))
    }
    size = f"{_LAYERS} layers x {_SUBJECTS} subjects x {_FOLDS} folds"
    return [
        Job(
            f"Procrustes: {size}, 1,000 words, D {_WIDTH}",
            functools.partial(_inputs, 1000),
            _from_totals,
            against,
            _errors,
            grid * 6.0 * _WIDTH**3,
            {"SciPy": 5.0, "torch": 2.5},
        ),
        Job(
            f"Procrustes: {size}, 160 words, D {_WIDTH}",
            functools.partial(_inputs, 160),
            _from_spans,
            against,
            _errors,
            grid * 2.0 * 120**2 * (120 + _WIDTH),
            {"SciPy": 20.0},
        ),
    ]
