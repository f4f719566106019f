"""Whether few words or few dimensions hold the geometry of a model's word vectors, layer by layer.

The first token of a text is an attention sink of a causal model (Xiao et al. 2024): its state is many
times as long as the others'. Where a word takes its place, distances and directions between all words tell
little but which words opened a text. Some models also have a few dimensions of massive values (Timkey and
van Schijndel 2021), which rule cosines in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_TOP = 0.01  # of the words
_NAMED = 5
_N_DIMENSIONS = 3
_FEWEST_WORDS, _FEWEST_DIMENSIONS = 20, 60  # of fewer nothing is said
MOST_HELD = 0.3  # of the variance, by the longest words, beside their own share of the words
LONGEST_FIRST = 3.0
MOST_IN_DIMENSIONS = 0.9


class Geometry(NamedTuple):
    """Of every layer, [L] float64.

    top_share: of the vectors' variance about their mean, what the 1 % of words (at least one) with the
      largest norms hold.
    first_ratio: norm of the words that open a text over that of the others, medians; NaN where there are
      no words of one of the kinds, or neither has a length.
    dimension_share: of the variance, what the 3 dimensions of the largest variance hold; NaN of fewer than
      60 dimensions.
    mean_cosine: of pairs of different words, before anything is subtracted.
    longest: of each layer, the rows of the five words with the largest norms.
    """

    top_share: np.ndarray
    first_ratio: np.ndarray
    dimension_share: np.ndarray
    mean_cosine: np.ndarray
    longest: tuple[tuple[int, ...], ...]


def geometry(blocks: Sequence[np.ndarray], first: np.ndarray | None = None) -> Geometry:
    """How the variance of word vectors lies over words and dimensions.

    Args:
      blocks: layers of equal width, each [l, T, D]; as of `Embeddings.blocks`.
      first: [T] bool, words that open the text that their vector comes from, most of the times.
    """
    lines = [_of_layer(layer, first) for values in blocks for layer in values]
    columns = list(zip(*lines, strict=True))
    numbers = [np.array(column, np.float64) for column in columns[:4]]
    return Geometry._make([*numbers, columns[4]])


def _of_layer(layer: np.ndarray, first: np.ndarray | None) -> tuple:
    layer = layer.astype(np.float64)
    n_words = len(layer)
    norms = np.linalg.norm(layer, axis=1)
    order = np.argsort(-norms, kind="stable")
    centred = layer - layer.mean(axis=0)
    squares = centred**2
    total = squares.sum()
    top = order[: max(1, round(_TOP * n_words))]
    by_dimension = np.sort(squares.sum(axis=0))[::-1]
    ratio = np.nan
    if first is not None and first.any() and not first.all():
        later_norm = np.median(norms[~first])
        first_norm = np.median(norms[first])
        ratio = first_norm / later_norm if later_norm else np.inf if first_norm else np.nan
    unit = layer / np.where(norms > 0, norms, 1)[:, None]
    pairs = n_words * (n_words - 1)
    cosine = (np.square(unit.sum(axis=0)).sum() - (norms > 0).sum()) / pairs if pairs else np.nan
    return (
        squares[top].sum() / total if total else np.nan,
        ratio,
        by_dimension[:_N_DIMENSIONS].sum() / total
        if total and len(by_dimension) >= _FEWEST_DIMENSIONS
        else np.nan,
        cosine,
        tuple(order[:_NAMED].tolist()),
    )


def described(measured: Geometry, words: Sequence[str]) -> dict:
    """The geometry as JSON, with the words of the layer where the fewest hold the most."""

    def numbers(values: np.ndarray) -> list:
        return [None if np.isnan(value) else float(f"{value:.4g}") for value in values]

    worst = int(np.nanargmax(np.r_[measured.top_share, -1]))
    return {
        "top_share": numbers(measured.top_share),
        "first_ratio": numbers(measured.first_ratio),
        "dimension_share": numbers(measured.dimension_share),
        "mean_cosine": numbers(measured.mean_cosine),
        "longest_words": [
            words[row] for row in measured.longest[min(worst, len(measured.longest) - 1)]
        ],
    }


def complaint(about: dict, n_words: int) -> str | None:
    """In words, that few words or dimensions rule the geometry; None where none do.

    about: of `described`; n_words: the number of rows. Bounds: `MOST_HELD`, `LONGEST_FIRST`,
    `MOST_IN_DIMENSIONS`.
    """
    n_top = max(1, round(_TOP * n_words))
    complaints = []
    layers, worst, value = _beyond(about["top_share"], MOST_HELD + n_top / n_words)
    if layers and n_words >= _FEWEST_WORDS:
        words = ", ".join(repr(word) for word in about["longest_words"])
        complaints.append(
            f"{n_top} of {n_words} words hold up to {value:.0%} of the variance in {layers} (layer {worst} "
            f"most; the longest: {words})"
        )
    layers, worst, value = _beyond(about["first_ratio"], LONGEST_FIRST)
    if layers:
        complaints.append(
            f"words that open a text are up to {value:.3g} times as long as the others in {layers} (layer "
            f"{worst} most): what is scored there is mostly whether a word opens a text"
        )
    layers, worst, value = _beyond(about["dimension_share"], MOST_IN_DIMENSIONS)
    if layers:
        complaints.append(
            f"{_N_DIMENSIONS} dimensions hold up to {value:.0%} of the variance in {layers} (layer {worst} "
            "most)"
        )
    return "; ".join(complaints) or None


def _beyond(values: Sequence[float | None], bound: float) -> tuple[str, int, float]:
    """("3 of 7 layers", the worst layer, its value) of the layers beyond the bound; "" for none."""
    known = [value if value is not None else 0.0 for value in values]
    count = sum(value > bound for value in known)
    worst = max(range(len(known)), key=known.__getitem__)
    return f"{count} of {len(known)} layers" * bool(count), worst, known[worst]
