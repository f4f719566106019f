"""Time and memory of RSA over more items than condensed RDMs are good for.

    python -m benchmarks.large_rsa --items=20000

One subject with one layer, Spearman RDMs compared by Spearman: 200 million pairs each. Expect about
32 s of processor time and a peak of 1.2 GB for the whole process, JAX and the inputs included.
--memory_gb bounds a grid of more RDMs (--subjects, --layers): they are then held a few at a time.
Prints one line of JSON. --check compares with SciPy in float64 afterwards; at 20,000 items that takes
minutes and 10 GB.
"""

import json
import resource
import time

import numpy as np
import scipy.stats
from absl import app, flags

from brainalign_jax.align.rsa import rsa_tiles

_ITEMS = flags.DEFINE_integer("items", 20_000, "Items, the rows of every RDM.", 2)
_SUBJECTS = flags.DEFINE_integer("subjects", 1, "Source RDMs.", 1)
_LAYERS = flags.DEFINE_integer("layers", 1, "Target RDMs.", 1)
_WIDTH = flags.DEFINE_integer("width", 768, "Columns of both sides.", 2)
_METRIC = flags.DEFINE_string("metric", "spearman", "Metric of the RDMs.")
_METHOD = flags.DEFINE_string("method", "spearman", "How RDMs are compared.")
_TILE = flags.DEFINE_integer("tile", None, "Items on a side of a tile; chosen if not given.")
_MEMORY_GB = flags.DEFINE_float("memory_gb", 2.0, "Bound on everything but JAX and the inputs.")
_CHECK = flags.DEFINE_boolean("check", False, "Compare the first score with SciPy's.")


def reference(source: np.ndarray, target: np.ndarray) -> float:
    """Spearman of Spearman RDMs in float64, every pair in memory."""

    def ranks(x):
        x = scipy.stats.rankdata(x, axis=1) - (x.shape[1] + 1) / 2
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        distances = scipy.stats.rankdata(
            np.concatenate([-(x[i + 1 :] @ x[i]) for i in range(len(x))])
        )
        distances -= distances.mean()
        return distances / np.linalg.norm(distances)

    return float(ranks(source) @ ranks(target))


def main(argv: list[str]) -> None:
    del argv
    rng = np.random.default_rng(0)
    shape = _ITEMS.value, _WIDTH.value
    shared = rng.standard_normal(shape, np.float32)

    def noisy(count):
        copies = np.empty((count, *shape), np.float32)
        for values in copies:
            rng.standard_normal(out=values, dtype=np.float32)
            values *= 2
            values += shared
        return copies

    sources, targets = noisy(_SUBJECTS.value), noisy(_LAYERS.value)
    start, own = time.perf_counter(), time.process_time()
    scores = rsa_tiles.scores(
        sources,
        targets,
        metric=_METRIC.value,
        method=_METHOD.value,
        memory_bytes=int(_MEMORY_GB.value * 2**30),
        tile=_TILE.value,
    )
    told = {
        "items": _ITEMS.value,
        "rdms": len(sources) + len(targets),
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - own,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "inputs_gb": (sources.nbytes + targets.nbytes) / 1e9,
        "first_score": float(scores[0, 0]),
    }
    if _CHECK.value and _METRIC.value == _METHOD.value == "spearman":
        told["error"] = abs(told["first_score"] - reference(sources[0], targets[0]))
    print(json.dumps(told))


if __name__ == "__main__":
    app.run(main)
