"""How time and memory of the kernels grow with words, voxels, layers and dimension.

    python -m benchmarks.growth --output=out/growth.json

About two minutes on 2 cores with nothing else to do. Prints a Markdown table: each kernel with one size
doubled at a time, its seconds (the least of some calls, compilation apart), the megabytes of its compiled
program (arguments, results and temporary arrays as XLA plans them, without what LAPACK takes inside), and
the exponents of both: slopes of their logarithms against the size's. Expect at most 3 against words (eigen-
decompositions), 2 for RSA's memory, 1 against layers, and 0 against voxels wherever one Gram matrix takes
all of them in. --kernels=csls takes some; --sizes=4 doubles once more.
"""

import functools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from benchmarks.measure import call_times, machine
from brainalign_jax.align import linalg, procrustes, retrieval, ridge, rsa

_KERNELS = flags.DEFINE_string("kernels", "", "Only kernels whose name matches.")
_SIZES = flags.DEFINE_integer("sizes", 3, "Sizes on each axis, each twice the one before.", 2)
_SCALE = flags.DEFINE_float("scale", 1.0, "Multiplies words, voxels and dimension.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_ALPHAS = tuple(10.0**power for power in range(8))
_FOLDS = 5
_NEIGHBOURS = 10


class Sizes(NamedTuple):
    """The sizes that growth is measured from, and the names of the axes."""

    words: int = 300
    voxels: int = 400
    layers: int = 2
    dimension: int = 128


def ridge_cv(x: jax.Array, ys: jax.Array) -> jax.Array:
    """Predictions of all layers with an alpha per target from inner folds."""
    n_words, n_voxels = x.shape
    block = jnp.arange(n_words) * _FOLDS // n_words
    alphas = jnp.asarray(_ALPHAS)
    if n_voxels < n_words:
        factor = functools.partial(ridge.factor_primal, x)
    else:
        factor = functools.partial(ridge.factor, linalg.gram(x))
    masks = jnp.stack([block != fold for fold in range(_FOLDS)]).astype(x.dtype)
    inner, outer = jax.lax.map(factor, masks), factor(jnp.ones(n_words))

    def one_layer(y):
        def errors(fold):
            factor, mask = fold
            squared = (ridge.predict_path(factor, y, alphas) - y) ** 2
            return jnp.einsum("ant,n->at", squared, 1 - mask)

        chosen = ridge.select_alpha(jax.lax.map(errors, (inner, masks)).sum(axis=0), shared=False)
        return ridge.predict(outer, y, alphas[chosen])

    return jax.lax.map(one_layer, ys)


def rotations(x: jax.Array, ys: jax.Array) -> jax.Array:
    weights = jnp.ones(x.shape[0])
    return jax.lax.map(lambda y: procrustes.apply(procrustes.fit(x, y, weights), x), ys)


def similarity(x: jax.Array, ys: jax.Array) -> jax.Array:
    def vector(values):
        return rsa.comparison_vector(rsa.rdm(values, metric="spearman"), method="spearman")

    return linalg.matmul(jax.lax.map(vector, ys), vector(x))


def decoding(x: jax.Array, ys: jax.Array) -> jax.Array:
    """CSLS ranks with each layer as candidates and noisy copies of it as queries; x is not looked at."""
    noise = jnp.cos(jnp.arange(ys[0].size, dtype=ys.dtype)).reshape(ys[0].shape)

    def one_layer(y):
        scores = retrieval.csls(y + noise, y, k=_NEIGHBOURS)
        return retrieval.ranks(scores, jnp.arange(len(y)))

    return jax.lax.map(one_layer, ys)


KERNELS: dict[str, Callable] = {
    "ridge, 5 inner folds, 8 alphas": ridge_cv,
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
    start = time.perf_counter()
    compiled = jax.jit(kernel, keep_unused=True).lower(x, ys).compile()
    compile_s = time.perf_counter() - start
    memory = compiled.memory_analysis()
    jax.block_until_ready(compiled(x, ys))
    times = call_times(lambda: jax.block_until_ready(compiled(x, ys)))
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


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    base = Sizes()
    scaled = {name: round(getattr(base, name) * _SCALE.value) for name in base._fields}
    base = Sizes(**scaled)._replace(layers=base.layers)
    about = machine()
    names = [name for name in KERNELS if re.search(_KERNELS.value, name, re.IGNORECASE)]
    rows = [row for name in names for row in grow(name, base, _SIZES.value)]
    print(f"from {', '.join(f'{value} {name}' for name, value in base._asdict().items())}\n")
    print(markdown(rows))
    if _OUTPUT.value:
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": about, "rows": rows}, indent=2))


if __name__ == "__main__":
    app.run(main)
