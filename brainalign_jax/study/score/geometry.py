"""The RSA score: similarity of a subject's dissimilarity matrix with that of each layer, over all words."""

from collections.abc import Mapping
from concurrent.futures import Executor

import jax
import numpy as np

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import rsa_tiles
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score import preparation


def form(protocol: Protocol) -> str:
    """What an RDM needs of the responses, see `preparation.prepare_responses`.

    Rows less their mean have the correlation as their cosine: it survives a rotation of the axes.
    """
    return {"correlation": "centred", "spearman": "values"}.get(protocol.rdm_metric, "products")


def scores(
    means: Mapping[int, np.ndarray],
    values: np.ndarray,
    protocol: Protocol,
    computation: Computation,
    pool: Executor,
    known: dict[int, jax.Array],
) -> np.ndarray:
    """RSA [S, L] of mean responses with the vectors [L, T, D] of the same T words.

    Args:
      means: [T, R] of each subject, in the form that `form` says.
      known: the subjects' RDMs, kept for the next layers.

    With protocol.center the words' mean is subtracted on both sides. Beyond computation.rdm_bytes, whole
    RDMs of all subjects give way to tiles.
    """
    metric = "cosine" if protocol.rdm_metric == "correlation" else protocol.rdm_metric
    if protocol.center:
        means = {i: word_centred(one) for i, one in means.items()}
        values = np.stack([word_centred(layer) for layer in values])
    if protocol.rdm_metric == "correlation":
        values = preparation.row_centred(values)
    method = protocol.rdm_comparison
    if needed_bytes(len(means), values.shape[1], values.itemsize, computation) > (
        computation.rdm_bytes
    ):
        tiled = [
            rsa_tiles.scores(
                one[None],
                values,
                metric=metric,
                method=method,
                memory_bytes=computation.rdm_bytes,
            )
            for one in means.values()
        ]
        return np.concatenate(tiled)

    def vector(x: np.ndarray) -> jax.Array:
        with computation.context():
            return jax.block_until_ready(_vector(x, metric=metric, method=method))

    def column(layer: np.ndarray) -> list[float]:
        model = vector(layer)
        with computation.context():
            return [float(_compare(known[i], model, method=method)) for i in means]

    new = [i for i in means if i not in known]
    known.update(zip(new, pool.map(vector, [means[i] for i in new]), strict=True))
    return np.array(list(pool.map(column, values))).T


def word_centred(rows: np.ndarray) -> np.ndarray:
    """Rows [T, V] less their mean over the T words, in their type."""
    return (rows - rows.mean(axis=0, dtype=np.float64)).astype(rows.dtype)


def needed_bytes(n_subjects: int, n_types: int, itemsize: int, computation: Computation) -> int:
    """Bytes of the RDMs of all subjects, and of those in the making."""
    n_pairs = n_types * (n_types - 1) // 2
    return itemsize * n_pairs * (n_subjects + 9 * computation.workers())


@jax.jit(static_argnames=("metric", "method"))
def _vector(x: jax.Array, *, metric: str, method: str) -> jax.Array:
    return rsa.comparison_vector(rsa.rdm(x, metric=metric), method=method)


@jax.jit(static_argnames=("method",))
def _compare(a: jax.Array, b: jax.Array, *, method: str) -> jax.Array:
    return rsa.compare_vectors(a[None], b[None], method=method)[0, 0]
