"""CSLS ranks of more words than their scores fit in memory: seconds and peak memory.

    python -m benchmarks.large_csls                    # 50,000 x 50,000, D 300, k 10
    python -m benchmarks.large_csls --words=200000     # wants an accelerator

Expect a peak below 4 GB: the vectors twice, and tiles of scores of 1 GiB in all (--max_bytes), whatever
the number of words. The scores of all pairs would be 10 GB, and 160 GB. Random vectors; a sample of
the words is computed again in float64.
"""

import functools
import json
import resource
import time

import jax
import numpy as np
from absl import app, flags

from brainalign_jax.align import retrieval

_WORDS = flags.DEFINE_integer("words", 50_000, "Queries and candidates.", 2)
_DIMENSIONS = flags.DEFINE_integer("dimensions", 300, "Length of the vectors.", 1)
_NEIGHBOURS = flags.DEFINE_integer("neighbours", 10, "k of CSLS.", 1)
_MAX_BYTES = flags.DEFINE_integer("max_bytes", 2**30, "Memory for scores.", 1)
_SAMPLE = flags.DEFINE_integer("sample", 20, "Words to compute again in float64.", 0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    words, k = _WORDS.value, _NEIGHBOURS.value
    rng = np.random.default_rng(0)
    target = rng.standard_normal((words, _DIMENSIONS.value), np.float32)
    source = target + 4 * rng.standard_normal(target.shape, np.float32)
    before = _peak_bytes()
    csls_ranks = jax.jit(functools.partial(retrieval.csls_ranks, k=k, max_bytes=_MAX_BYTES.value))
    gold = np.arange(words, dtype=np.int32)
    compiled = csls_ranks.lower(source, target, gold).compile()
    start = time.perf_counter()
    result = jax.tree.map(np.asarray, compiled(source, target, gold))
    seconds = time.perf_counter() - start
    peak = _peak_bytes()
    different = [
        word
        for word in rng.choice(words, min(_SAMPLE.value, words), replace=False)
        if not _agrees(result, source, target, word, k)
    ]
    figures = {
        "device": jax.devices()[0].device_kind,
        "words": words,
        "dimensions": _DIMENSIONS.value,
        "neighbours": k,
        "seconds": round(seconds, 2),
        "peak_gb": round(peak / 1e9, 3),
        "peak_before_gb": round(before / 1e9, 3),
        "scores_gb": round(4e-9 * words**2, 1),
        "precision_at_1": float((result.rank_csls <= 1).mean()),
        "words_that_differ_from_float64": len(different),
    }
    print(json.dumps(figures, indent=2))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _agrees(result, source: np.ndarray, target: np.ndarray, word: int, k: int) -> bool:
    """Whether the means and ranks of one word are those of float64, but for level candidates."""
    by_query, by_candidate = _cosines(source[word], target), _cosines(target[word], source)
    agrees = [
        abs(np.sort(by_query)[-k:].mean() - result.r_target[word]) < 1e-6,
        abs(np.sort(by_candidate)[-k:].mean() - result.r_source[word]) < 1e-6,
    ]
    for scores, rank in (
        (by_query, result.rank_nn[word]),
        (2 * by_query - result.r_source, result.rank_csls[word]),
    ):
        level = 8 * np.finfo(np.float32).eps
        best = 1 + (scores > scores[word] + level).sum()
        agrees.append(best <= rank <= (scores > scores[word] - level).sum())
    return all(agrees)


def _cosines(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("nd,nd->n", others, others, dtype=np.float64))
    vector = vector.astype(np.float64)
    return (others @ vector) / (lengths * np.linalg.norm(vector))


if __name__ == "__main__":
    app.run(main)
