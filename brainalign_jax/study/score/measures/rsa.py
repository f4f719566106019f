"""The RSA score: similarity of a subject's dissimilarity matrix with that of each layer, over all words."""

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import partial_rsa, rsa_tiles, whitened
from brainalign_jax.align.rsa.crossnobis import crossnobis
from brainalign_jax.align.rsa.pairs import square_form
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.measures.base import (
    MatrixMeasure,
    Measure,
    compared,
    word_centred,
)

CROSSNOBIS = "crossnobis"


@register_measure("rsa")
class RsaScore(Measure):
    """Correlation of a subject's dissimilarities of word pairs with those of a layer; see `align.rsa`."""

    name = "rsa"
    label = "RSA score (correlation of RDMs)"

    @property
    def repeats(self) -> bool:
        return self.protocol.rdm_metric == CROSSNOBIS

    @property
    def own_null(self) -> bool:
        """All distances are above zero: their cosine is, too, the more so the fewer axes vary."""
        return self.protocol.rdm_comparison == "cosine_cov"

    def chance(self, n_types: int) -> float:
        return float("nan") if self.own_null else 0.0

    @property
    def form(self) -> str:
        """Rows less their mean have the correlation as their cosine: it survives a rotation of the axes."""
        return {"correlation": "centred", "spearman": "values"}.get(
            self.protocol.rdm_metric, "products"
        )

    def needed_bytes(
        self, n_subjects: int, n_types: int, computation: Computation, n_layers: int = 1
    ) -> int:
        n_pairs = n_types * (n_types - 1) // 2
        itemsize = np.dtype(computation.dtype).itemsize
        held = 2 if is_whitened(self.protocol) else 1  # a matrix, where others are condensed
        return itemsize * n_pairs * (held * n_subjects + 9 * computation.workers())

    def scores(
        self,
        means: Mapping[int, np.ndarray],
        values: np.ndarray,
        computation: Computation,
        pool: Executor,
        known: dict[int, jax.Array],
    ) -> np.ndarray:
        """As `Measure.scores`; known: the subjects' RDMs.

        Beyond computation.rdm_bytes, whole RDMs of all subjects give way to tiles.
        """
        protocol = self.protocol
        metric = "cosine" if protocol.rdm_metric == "correlation" else protocol.rdm_metric
        means = {i: self.centred(rows) for i, rows in means.items()}
        if protocol.center:
            values = np.stack([word_centred(layer) for layer in values])
        if protocol.rdm_metric == "correlation":
            values = preparation.row_centred(values)
        method = protocol.rdm_comparison
        needed = self.needed_bytes(len(means), values.shape[1], computation)
        if needed > computation.rdm_bytes and self.repeats:
            raise ValueError(
                f"crossnobis distances of {values.shape[1]:,} words take {needed:,} bytes, more than the "
                f"{computation.rdm_bytes:,} that are for them: give more memory (--max_memory_gb), or "
                "take another --rdm_metric"
            )
        if needed > computation.rdm_bytes:
            tiled = [
                rsa_tiles.scores(
                    rows[None],
                    values,
                    metric=metric,
                    method=method,
                    memory_bytes=computation.rdm_bytes,
                )
                for rows in means.values()
            ]
            return np.concatenate(tiled)

        represent = partial(_vector, metric=metric, method=method)
        compare = partial(_compare, method=method)
        layers = [partial(values.__getitem__, layer) for layer in range(len(values))]
        return compared(means, layers, computation, pool, known, represent, compare)


class RdmMeasure(MatrixMeasure):
    """The RSA score as a product of matrices: dissimilarities (or their ranks) centred, of length one."""

    name = RsaScore.name
    label = RsaScore.label
    form = RsaScore.form
    repeats = RsaScore.repeats
    own_null = RsaScore.own_null
    chance = RsaScore.chance

    def represent(self, rows: jax.Array) -> jax.Array:
        rdm = word_rdm(rows, metric=self.protocol.rdm_metric)
        if self.protocol.rdm_comparison in whitened.COMPARISONS:
            return whitened.unit_matrix(rdm, method=self.protocol.rdm_comparison)
        (vector,) = partial_rsa.unit_vectors(rdm[None], method=self.protocol.rdm_comparison)
        return square_form(vector) / jnp.sqrt(2).astype(vector.dtype)


def word_rdm(rows: jax.Array, *, metric: str) -> jax.Array:
    """Condensed dissimilarities of rows [T, R]; crossnobis of [T, K, R], and of [T, R] squared distances."""
    if metric != CROSSNOBIS:
        return rsa.rdm(rows, metric=metric)
    return crossnobis(rows) if rows.ndim == 3 else jnp.square(rsa.rdm(rows, metric="euclidean"))


def in_matrices(protocol: Protocol) -> bool:
    """Whether a protocol's RSA score is such a product: a comparison of RDMs that is a correlation."""
    comparison = protocol.of_method("rsa").rdm_comparison
    return comparison in (*partial_rsa.METHODS, *whitened.COMPARISONS)


def is_whitened(protocol: Protocol) -> bool:
    """Whether a protocol's RSA score compares RDMs in units of their noise."""
    return protocol.of_method("rsa").rdm_comparison in whitened.COMPARISONS


@jax.jit(static_argnames=("metric", "method"))
def _vector(x: jax.Array, *, metric: str, method: str) -> jax.Array:
    return rsa.comparison_vector(word_rdm(x, metric=metric), method=method)


@jax.jit(static_argnames=("method",))
def _compare(a: jax.Array, b: jax.Array, *, method: str) -> jax.Array:
    return rsa.compare_vectors(a[None], b[None], method=method)[0, 0]
