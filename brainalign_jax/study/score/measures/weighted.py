"""Weighted RSA: how well a sum of the layers' dissimilarities, each with a weight, predicts a subject's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import weighted
from brainalign_jax.align.rsa.pairs import square_form
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.registry import register_measure
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.measures.base import MatrixMeasure, with_choices
from brainalign_jax.study.score.measures.rsa import RsaScore, word_rdm

FOLDS = 5  # of word types, drawn once
_FEWEST = 4  # words of a fold


class Folds(NamedTuple):
    """Masks of words [F, T], and the pairs of each fold's test words, two index arrays."""

    train: np.ndarray
    test: np.ndarray
    pairs: tuple[tuple[np.ndarray, np.ndarray], ...]


def word_folds(n_types: int) -> Folds:
    """Folds of words drawn at random, the same for all subjects, layers and draws."""
    n_folds = min(FOLDS, n_types // _FEWEST)
    order = np.random.default_rng(0).permutation(n_types)
    parts = [np.sort(part) for part in np.array_split(order, n_folds)]
    test = np.stack([np.isin(np.arange(n_types), part) for part in parts])
    pairs = [tuple(part[rows] for rows in np.triu_indices(len(part), 1)) for part in parts]
    return Folds(~test, test, tuple(pairs))


@register_measure("rsa_weighted")
class WeightedRsa(MatrixMeasure):
    """RSA of the layers up to one, weighted in each fold's training words; see `align.rsa.weighted`.

    The value of a layer is that of all layers up to it together: the mean over folds of the similarity in
    words that no weight was fitted on. Draws fit their weights anew.
    """

    name = "rsa_weighted"
    label = "weighted RSA of layers up to this"
    form = RsaScore.form
    repeats = RsaScore.repeats
    own_null = RsaScore.own_null
    chance = RsaScore.chance

    def check(self, n_types: int) -> None:
        comparison = self.protocol.rdm_comparison
        if comparison not in weighted.COMPARISONS:
            raise ValueError(
                f"{self.name} fits weights by least squares, which {comparison} has not: take another "
                f"--rdm_comparison, or leave {self.name} out"
            )
        if n_types < 2 * _FEWEST:
            raise ValueError(
                f"{self.name} holds out {_FEWEST} words or more at a time: {n_types} are too few"
            )

    def needed_bytes(
        self, n_subjects: int, n_types: int, computation: Computation, n_layers: int = 1
    ) -> int:
        itemsize = np.dtype(computation.dtype).itemsize
        return itemsize * n_types**2 * (n_subjects + (2 * n_layers + 9) * computation.workers())

    def held_numbers(self, n_types: int, n_layers: int) -> int:
        return n_types**2 * n_layers

    def layer_rows(self, values: np.ndarray, layer: int) -> np.ndarray:
        """[T, L, 1, D] of the vectors [L, T, D] up to a layer; zeros for those after it."""
        rows = np.moveaxis(values, 0, 1)[:, :, None].copy()
        rows[:, layer + 1 :] = 0
        return rows

    def scores(self, means, values: np.ndarray, *shared) -> np.ndarray:
        if self.protocol.rdm_metric != "correlation":
            return super().scores(means, values, *shared)
        # Rows less their mean, as the responses already are: the cosine is then the correlation.
        measure = with_choices(self, rdm_metric="cosine")
        return measure.scores(means, preparation.row_centred(values), *shared)

    def represent(self, rows: jax.Array) -> weighted.Components:
        """Of vectors [T, R], of presentations [T, K, R], or of layers [T, L, 1, D]."""

        def square(layer: jax.Array) -> jax.Array:
            rdm = word_rdm(layer, metric=self.protocol.rdm_metric)
            return jnp.where((layer == 0).all(), 0, square_form(rdm))

        layers = jnp.moveaxis(rows[:, :, 0], 1, 0) if rows.ndim == 4 else rows[None]
        squares, folds = jax.lax.map(square, layers), word_folds(len(rows))
        words = (jnp.asarray(mask) for mask in (folds.train, folds.test))
        return weighted.factor(squares, *words, method=self.protocol.rdm_comparison)

    def permuted(self, represented: weighted.Components, order: jax.Array) -> weighted.Components:
        """Of a side that is fitted to, whose own products are not looked at."""
        return represented._replace(squares=represented.squares[:, order][:, :, order])

    def compare(self, brain: weighted.Components, model: weighted.Components) -> jax.Array:
        square, method = brain.squares[0], self.protocol.rdm_comparison
        folds = word_folds(len(square))
        words = (jnp.asarray(mask) for mask in (folds.train, folds.test))
        fit = weighted.apply(model, square, *words, method=method)
        if method != "spearman":
            return fit.similarity.mean()
        of_folds = [
            rsa.compare(
                weighted.weighted_sum(model.squares[:, first, second], weights),
                square[first, second],
            )
            for weights, (first, second) in zip(fit.weights, folds.pairs, strict=True)
        ]
        return jnp.stack(of_folds).mean()

    def drawn(self, brains, models, orders: jax.Array) -> jax.Array:
        return super(MatrixMeasure, self).drawn(brains, models, orders)
