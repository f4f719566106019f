"""Inner products of a person's word responses: what a study needs of them, without a voxel.

Ridge, Procrustes and RDMs ask of responses [N, V] only how their rows lie to one another, and, for
correlations over voxels, what each row's mean is. Both are kept by any rotation that keeps the vector of
ones. So a person is given away as products of rows, and read as coordinates of them in axes of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from brainalign_jax.neural.fields import column_blocks
from brainalign_jax.neural.responses import WordResponses

MARK = "inner_products"  # the part of meta by which responses are known to be products, or made of them
# What meta says of options by which responses were made, and what else of it is given away: no names of
# files, columns or people.
OF_OPTIONS = (
    "dataset", "experiment", "paradigms", "stories", "radius", "confounds", "tmin", "tmax", "baseline",
    "decim", "resample", "window", "audio_delay",
)  # fmt: skip
_KEPT = (
    *OF_OPTIONS,
    "citation",
    "licence",
    "notes",
    "language",
    "tr",
    "kernel",
    "cleaning",
    "centred",
)
_ROUNDING = 2.0**-23


def products_of(responses: WordResponses) -> WordResponses:
    """The responses as inner products of their rows: values [N, N], and the rest in meta.

    Raises: ValueError for responses that are products or made of them.
    """
    if MARK in responses.meta:
        raise ValueError(
            f"subject {responses.subject}: these are inner products already: copy the files"
        )
    valid = responses.valid
    n_words, n_features = responses.values.shape
    products = np.zeros((int(valid.sum()), int(valid.sum())))
    along_mean, sums = np.zeros(len(products)), np.zeros(len(products))
    mean_square = mean_sum = 0.0
    for _, block in column_blocks(responses.values):
        rows = block[valid].astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        products += rows @ rows.T
        along_mean += rows @ mean
        sums += rows.sum(axis=1)
        mean_square += float(mean @ mean)
        mean_sum += float(mean.sum())
    # Of responses in tesla, say, float32 would hold no squares.
    unit = float(np.sqrt(np.diagonal(products).max(initial=0.0))) or 1.0
    values = np.zeros((n_words, n_words), np.float32)
    values[np.ix_(valid, valid)] = products / unit**2
    about: dict[str, Any] = {
        "n_features": n_features,
        "unit": unit,
        "of_recording": responses.fingerprint(),
        "along_mean": along_mean.tolist(),
        "sums": sums.tolist(),
        "mean_square": mean_square,
        "mean_sum": mean_sum,
    }
    kept = {name: responses.meta[name] for name in _KEPT if name in responses.meta}
    return WordResponses(
        responses.subject, values, responses.stimulus, valid, {**kept, MARK: about}
    )


def of_zero_mean(rows: np.ndarray) -> np.ndarray:
    """Rows [..., R] turned within R + 1 axes, so that each has a mean of zero over them.

    Inner products are kept, and correlations are then cosines.
    """
    rows = np.concatenate([rows, np.zeros((*rows.shape[:-1], 1), rows.dtype)], axis=-1)
    # The reflection that exchanges the new axis, in which all are zero, and the diagonal.
    away = np.full(rows.shape[-1], rows.shape[-1] ** -0.5)
    away[-1] -= 1
    away /= np.linalg.norm(away)
    return (rows - 2 * (rows @ away)[..., None] * away).astype(rows.dtype)


def responses_of(kernel: WordResponses) -> WordResponses:
    """Responses [N, R] with the inner products and row means that `products_of` wrote, in other axes.

    Columns are no voxels. A row's mean over the R columns times sqrt(R) is what it was times sqrt(V) over
    the V features, so that inner products of rows less their means are those of the recording.

    Raises: ValueError for a file of another kind, or products that no responses can have.
    """
    about = kernel.meta.get(MARK)
    valid = kernel.valid
    count = int(valid.sum())
    try:
        n_features, mean_square = int(about["n_features"]), float(about["mean_square"])
        along_mean, sums = (np.asarray(about[name], float) for name in ("along_mean", "sums"))
        mean_sum, unit = float(about["mean_sum"]), float(about["unit"])
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError(
            f"subject {kernel.subject}: these are no inner products: `brainalign kernels export` writes them"
        ) from None
    damaged = ValueError(
        f"subject {kernel.subject}: the inner products are damaged: export them again"
    )
    if kernel.values.shape[0] != kernel.values.shape[1] or not (n_features > 0 and unit > 0):
        raise damaged
    products = kernel.values[np.ix_(valid, valid)] * np.float64(unit) ** 2
    largest = float(np.diagonal(products).max(initial=0.0))
    if not (np.array_equal(products, products.T) and along_mean.shape == sums.shape == (count,)):
        raise damaged
    # Coordinates of the centred rows: one along the vector of ones, the others in axes that they span.
    root = float(n_features) ** 0.5
    along_ones, mean_along_ones = sums / root, mean_sum / root
    variances, axes = np.linalg.eigh(products - along_ones[:, None] * along_ones)
    rounding = _ROUNDING * np.sqrt(count) * largest
    if (variances < -10 * rounding).any():
        raise damaged
    spanned = variances > rounding
    lengths, axes = np.sqrt(variances[spanned]), axes[:, spanned]
    # The mean in the same axes, and in one of its own.
    mean = (along_mean - mean_along_ones * along_ones) @ axes / lengths
    rest = np.sqrt(max(mean_square - mean_along_ones**2 - mean @ mean, 0.0))
    rows = of_zero_mean(
        np.column_stack([axes * lengths, np.zeros(count)]) + np.array([*mean, rest])
    )
    width = rows.shape[1]
    values = np.zeros((len(valid), width), np.float32)  # of float64 the mean would be taken off
    values[valid] = rows + ((along_ones + mean_along_ones) / np.sqrt(width))[:, None]
    facts = {name: about[name] for name in ("n_features", "of_recording") if name in about}
    return WordResponses(
        kernel.subject, values, kernel.stimulus, valid, {**kernel.meta, MARK: facts}
    )
