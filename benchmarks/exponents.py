"""Time and memory of the kernels as one size grows at a time, and the exponents."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.measure import call_times
from brainalign_jax.align import linalg, procrustes, retrieval, rsa
from brainalign_jax.align.ridge import ridge_cv, ridge_folds

_ALPHAS = tuple(10.0**power for power in range(8))
_FOLDS = 5
_NEIGHBOURS = 10


class Sizes(NamedTuple):
    """The sizes that growth is measured from, and the names of the axes."""

    words: int = 500
    voxels: int = 800
    layers: int = 2
    dimension: int = 256


def ridge_fit(x: jax.Array, ys: jax.Array) -> Callable:
    """The fit to all layers with an alpha per target from inner folds, in one compiled call."""
    n_words, n_voxels = x.shape
    test = np.arange(n_words) * _FOLDS // n_words == np.arange(_FOLDS)[:, None]
    rows = jax.device_put(ridge_folds.fold_rows(~test, test))
    alphas = np.asarray(_ALPHAS, np.float32)

    def factors(x):
        weights = jnp.ones(n_words)
        if n_voxels < n_words:
            full = ridge_folds.factor_primal(x, weights)
            return full, ridge_folds.factor_folds_primal(full, rows)
        gram = ridge_folds.gram(x)
        return ridge_folds.factor(gram, weights), ridge_folds.factor_folds(gram, rows)

    # Which alphas to compute is found on the host, from the spectrum: a study does so between two calls.
    span = ridge_folds.span_alphas(*jax.jit(factors)(x), alphas)

    def fit(x, ys):
        targets = jnp.moveaxis(ys, 0, 1).reshape(n_words, -1)
        return ridge_cv.cross_validate(*factors(x), rows, targets, alphas, span).weights

    return fit


def rotations(x: jax.Array, ys: jax.Array) -> Callable:
    def predict(x, ys):
        weights = jnp.ones(x.shape[0])
        return jax.lax.map(lambda y: procrustes.apply(procrustes.fit(x, y, weights), x), ys)

    return predict


def similarity(x: jax.Array, ys: jax.Array) -> Callable:
    def vector(values):
        return rsa.comparison_vector(rsa.rdm(values, metric="spearman"), method="spearman")

    return lambda x, ys: linalg.matmul(jax.lax.map(vector, ys), vector(x))


def decoding(x: jax.Array, ys: jax.Array) -> Callable:
    """CSLS ranks with each layer as candidates and noisy copies of it as queries; x is not looked at."""
    noise = jnp.cos(jnp.arange(ys[0].size, dtype=ys.dtype)).reshape(ys[0].shape)

    def one_layer(y):
        gold = jnp.arange(len(y))
        return retrieval.csls_ranks(y + noise, y, gold, k=_NEIGHBOURS).rank_csls

    return lambda x, ys: jax.lax.map(one_layer, ys)


# (source [N, V], targets [L, N, D]) -> the function of both to compile and measure
KERNELS: dict[str, Callable] = {
    "ridge, 5 inner folds, 8 alphas": ridge_fit,
    "Procrustes": rotations,
    "RSA, Spearman of Spearman": similarity,
    "CSLS ranks": decoding,
}
_NOT_OF: dict[str, tuple[str, ...]] = {"CSLS ranks": ("voxels",)}  # axes that a kernel has not


def measure(kernel: Callable, sizes: Sizes) -> dict:
    """Seconds and bytes of one kernel at one size."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sizes.words, sizes.voxels), np.float32)
    ys = rng.standard_normal((sizes.layers, sizes.words, sizes.dimension), np.float32)
    x, ys = jax.device_put((x, ys))
    function = kernel(x, ys)
    start = time.perf_counter()
    compiled = jax.jit(function, keep_unused=True).lower(x, ys).compile()
    compile_s = time.perf_counter() - start
    memory = compiled.memory_analysis()
    # LAPACK's own threads and XLA's fight over the cores: the study and the estimators do so too.
    with threadpool_limits(1, user_api="blas"):
        jax.block_until_ready(compiled(x, ys))
        times = [
            t for _ in range(3) for t in call_times(lambda: jax.block_until_ready(compiled(x, ys)))
        ]
    return {
        "sizes": sizes._asdict(),
        "seconds": min(times),
        "compile_s": compile_s,
        "bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes,
    }


def grow(name: str, base: Sizes, steps: int) -> list[dict]:
    """One row for each axis: the measured points and the exponents."""
    rows, first = [], None
    for axis in Sizes._fields:
        if axis in _NOT_OF.get(name, ()):
            continue
        first = first or measure(KERNELS[name], base)
        values = [getattr(base, axis) * 2**step for step in range(steps)]
        later = [measure(KERNELS[name], base._replace(**{axis: value})) for value in values[1:]]
        points = [first, *later]
        rows.append(
            {
                "kernel": name,
                "axis": axis,
                "values": values,
                "points": points,
                "time_exponent": exponent(values, [point["seconds"] for point in points]),
                "memory_exponent": exponent(values, [point["bytes"] for point in points]),
            }
        )
    return rows


def exponent(values: list[int], measured: list[float]) -> float:
    """Least-squares slope of log(measured) against log(values)."""
    return float(np.polyfit(np.log(values), np.log(measured), 1)[0])


def markdown(rows: list[dict]) -> str:
    lines = [
        "| kernel | axis | sizes | seconds | MB | time ~ | memory ~ |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = ", ".join(map(str, row["values"]))
        seconds = ", ".join(f"{point['seconds']:.3g}" for point in row["points"])
        megabytes = ", ".join(f"{point['bytes'] / 1e6:.3g}" for point in row["points"])
        exponents = f"{row['time_exponent']:.1f} | {row['memory_exponent']:.1f}"
        lines.append(
            f"| {row['kernel']} | {row['axis']} | {sizes} | {seconds} | {megabytes} | {exponents} |"
        )
    return "\n".join(lines)
