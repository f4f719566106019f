"""The RSA score: similarity of a subject's dissimilarity matrix with that of each layer, over all words."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from brainalign_jax.align import linalg, rsa
from brainalign_jax.study.protocol import Protocol


def form(protocol: Protocol) -> str:
    """What an RDM needs of the responses, see `sources.prepare_responses`."""
    return {"correlation": "centred", "spearman": "values"}.get(protocol.rdm_metric, "products")


@functools.partial(jax.jit, static_argnames=("metric", "method"))
def _rdm(x: jax.Array, *, metric: str, method: str) -> jax.Array:
    distances = rsa.rdm(x, metric=metric)
    if method == "kendall_tau_a":
        return distances
    return rsa.comparison_vector(distances, method=method)


@jax.jit
def _tau(a: jax.Array, b: jax.Array) -> jax.Array:
    return rsa.compare(a, b, method="kendall_tau_a")


def brain_rdm(means: np.ndarray, protocol: Protocol) -> jax.Array:
    """RDM [P] of mean responses [T', R] in the form that `form` says, ready for comparison."""
    # Centred rows have the correlation as their cosine.
    metric = "cosine" if protocol.rdm_metric == "correlation" else protocol.rdm_metric
    return _rdm(means, metric=metric, method=protocol.rdm_comparison)


def scores(
    brains: Sequence[jax.Array], values: Sequence[jax.Array], protocol: Protocol
) -> np.ndarray:
    """RSA [S, L] of brain RDMs with those of the vectors [T', D] of each layer, one layer at a time."""
    method = protocol.rdm_comparison
    columns = []
    for layer in values:
        model = _rdm(layer, metric=protocol.rdm_metric, method=method)
        if method == "kendall_tau_a":
            columns.append([float(_tau(brain, model)) for brain in brains])
        else:
            columns.append([float(_dot(brain, model)) for brain in brains])
    return np.array(columns).T


@jax.jit
def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return linalg.matmul(a, b)
