"""Time and error of the alignment kernels against SciPy and scikit-learn, in one run.

    python -m benchmarks.bench_align --output=out/bench_align.json

About a minute on 2 cores. Prints a Markdown table: median seconds of both (compilation apart), their
ratio, and the largest error relative to the peer's float64 result. The peers take one layer after the
other, as a user of these libraries would; ours takes all layers in one compiled call.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.spatial.distance
import scipy.stats
import sklearn.linear_model
from absl import app, flags, logging
from threadpoolctl import threadpool_limits

from brainalign_jax.align import procrustes, ridge, rsa

_WORDS = flags.DEFINE_integer("words", 500, "Number of words.")
_FEATURES = flags.DEFINE_integer("features", 300, "Brain features.")
_WIDTH = flags.DEFINE_integer("width", 256, "Width of the model.")
_LAYERS = flags.DEFINE_integer("layers", 13, "Layers.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Interleaved runs; the median is reported.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

ALPHAS = tuple(10.0**power for power in range(8))


def ridge_ours(x, ys):
    factor = ridge.factor_primal(x, jnp.ones(x.shape[0]))

    def one_layer(y):
        alpha = jnp.asarray(ALPHAS)[
            ridge.select_alpha(ridge.loo_errors(factor, y, jnp.asarray(ALPHAS)), shared=False)
        ]
        return ridge.predict(factor, y, alpha)

    return jax.lax.map(one_layer, ys)


def ridge_peer(x, ys):
    model = sklearn.linear_model.RidgeCV(ALPHAS, alpha_per_target=True)
    return np.stack([model.fit(x, y).predict(x) for y in ys])


def procrustes_ours(x, ys):
    weights = jnp.ones(x.shape[0])
    return jax.lax.map(lambda y: procrustes.apply(procrustes.fit(x, y, weights), x), ys)


def procrustes_peer(x, ys):
    """SciPy wants equal widths: the features are cut to the model's."""
    x = x[:, : ys.shape[-1]]
    centred = x - x.mean(axis=0)
    return np.stack(
        [
            centred @ scipy.linalg.orthogonal_procrustes(centred, y - y.mean(axis=0))[0]
            + y.mean(axis=0)
            for y in ys
        ]
    )


def rsa_ours(x, ys):
    def vector(values):
        return rsa.comparison_vector(rsa.rdm(values, metric="spearman"), method="spearman")

    return jax.lax.map(vector, ys) @ vector(x)


def rsa_peer(x, ys):
    def distances(values):
        ranked = np.apply_along_axis(scipy.stats.rankdata, 1, values)
        return scipy.spatial.distance.pdist(ranked, "correlation")

    brain = distances(x)
    return np.array([scipy.stats.spearmanr(brain, distances(y)).statistic for y in ys])


JOBS: dict[str, tuple[Callable, Callable, str]] = {
    "ridge, 8 alphas per target": (ridge_ours, ridge_peer, "scikit-learn RidgeCV"),
    "Procrustes": (procrustes_ours, procrustes_peer, "SciPy orthogonal_procrustes"),
    "RSA, Spearman of Spearman": (rsa_ours, rsa_peer, "SciPy pdist and spearmanr"),
}


def measure(name: str, x: np.ndarray, ys: np.ndarray, repeats: int) -> dict:
    """Seconds of both sides, interleaved, and our error relative to the peer in float64."""
    ours, peer, peer_name = JOBS[name]
    ours = jax.jit(ours)
    if name == "Procrustes":
        x = x[:, : ys.shape[-1]]
    device = jnp.asarray(x, jnp.float32), jnp.asarray(ys, jnp.float32)
    start = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        result = np.asarray(ours(*device), np.float64)
    compile_s = time.perf_counter() - start
    expected = peer(x, ys)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        start = time.perf_counter()
        with threadpool_limits(1, user_api="blas"):
            jax.block_until_ready(ours(*device))
        seconds["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        peer(x, ys)
        seconds["peer"].append(time.perf_counter() - start)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    return {
        "job": name,
        "peer": peer_name,
        "ours_s": medians["ours"],
        "peer_s": medians["peer"],
        "ratio": medians["peer"] / medians["ours"],
        "first_call_s": compile_s,
        "relative_error": float(np.abs(result - expected).max() / np.abs(expected).max()),
    }


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_WORDS.value, _FEATURES.value))
    mixing = rng.standard_normal((_LAYERS.value, _FEATURES.value, _WIDTH.value))
    noise = rng.standard_normal((_LAYERS.value, _WORDS.value, _WIDTH.value))
    ys = x @ mixing / np.sqrt(_FEATURES.value) + 2 * noise
    rows = [measure(name, x, ys, _REPEATS.value) for name in JOBS]
    print("| job | peer | ours s | peer s | ratio | first call s | relative error |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['job']} | {row['peer']} | {row['ours_s']:.3f} | {row['peer_s']:.3f} | "
            f"{row['ratio']:.1f} | {row['first_call_s']:.1f} | {row['relative_error']:.1e} |"
        )
    if _OUTPUT.value:
        machine = {
            "platform": platform.platform(),
            "processor": platform.processor(),
            "cores": os.cpu_count(),
            "devices": [str(device) for device in jax.devices()],
            "jax": jax.__version__,
        }
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes = {flag.name: flag.value for flag in (_WORDS, _FEATURES, _WIDTH, _LAYERS, _REPEATS)}
        path.write_text(json.dumps({"machine": machine, "sizes": sizes, "rows": rows}, indent=2))


if __name__ == "__main__":
    app.run(main)
