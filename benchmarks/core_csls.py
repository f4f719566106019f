"""CSLS ranks of 5,000 queries among 5,000 candidates, D 768, k 100, against MUSE's way in torch and faiss."""

import functools

import jax
import numpy as np

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.align import retrieval

_WORDS, _DIMENSIONS, _NEIGHBOURS = 5000, 768, 100


def jobs() -> list[Job]:
    return [
        Job(
            name="CSLS ranks: 5,000 x 5,000, D 768, k 100",
            setup=_vectors,
            ours=_ours,
            peers={
                "MUSE in torch": lambda x: peers.torch_csls(x["source"], x["target"], _NEIGHBOURS),
                "MUSE with faiss": lambda x: peers.faiss_csls(
                    x["source"], x["target"], _NEIGHBOURS
                ),
            },
            errors=_errors,
            flops=2.0 * _WORDS**2 * _DIMENSIONS,
            targets={"MUSE in torch": 4.0},
        )
    ]


def _vectors() -> dict:
    """Words in clusters, as embeddings are, and queries that are noisy copies of them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, _DIMENSIONS))
    target = centres[rng.integers(0, 50, _WORDS)] + 2 * rng.normal(size=(_WORDS, _DIMENSIONS))
    source = target + 8 * rng.normal(size=target.shape)
    return {"source": source.astype(np.float32), "target": target.astype(np.float32)}


def _ours(inputs: dict):
    csls_ranks = jax.jit(functools.partial(retrieval.csls_ranks, k=_NEIGHBOURS))
    gold = np.arange(_WORDS, dtype=np.int32)
    source, target, gold = jax.device_put((inputs["source"], inputs["target"], gold))
    return lambda: np.asarray(csls_ranks(source, target, gold).rank_csls)


def _errors(inputs: dict, ours: np.ndarray, others: dict) -> dict[str, float]:
    """Shares of ranks that differ from float64's otherwise than by candidates level with the true one.

    Level: within 4 float32 resolutions of the largest score, 2.
    """
    source, target = (inputs[x].astype(np.float64) for x in ("source", "target"))
    source /= np.linalg.norm(source, axis=1, keepdims=True)
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    scores = source @ target.T
    k = _NEIGHBOURS
    r_target = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
    r_source = np.partition(scores, -k, axis=0)[-k:].mean(axis=0)
    scores = 2 * scores - r_target[:, None] - r_source
    own = np.diagonal(scores)[:, None]
    level = 8 * np.finfo(np.float32).eps
    best, worst = (1 + (scores > own + tie).sum(axis=1) for tie in (level, -level))
    worst -= 1  # the true candidate is level with itself
    results = {"ranks": ours, **{f"ranks of {name}": ranks for name, ranks in others.items()}}
    return {
        f"{name} differing, not ties": float(np.mean((ranks < best) | (ranks > worst)))
        for name, ranks in results.items()
    }
