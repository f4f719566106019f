"""Sums of kernels over subjects: many recordings of the same words as one, whatever their voxels.

The inner products of concatenated responses are the sums of the subjects' inner products. So the voxels
of all subjects side by side, millions perhaps, are T axes at most, and nothing is lost. Subjects are
scaled to equal total variance first, or those with more voxels would count for more.
"""

from collections.abc import Sequence

import numpy as np

from brainalign_jax.neural.fields import column_blocks
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.score import preparation


def check_same_words(responses: Sequence[WordResponses]) -> None:
    """Raises: ValueError unless there are recordings, all of the same stimulus."""
    if not responses:
        raise ValueError("no responses were given: name at least one subject")
    first = responses[0]
    words = first.stimulus.fingerprint(attributes=False)
    for recording in responses[1:]:
        if recording.stimulus.fingerprint(attributes=False) != words:
            raise ValueError(
                f"subjects {first.subject!r} and {recording.subject!r} did not see the same words at the "
                "same times: a group needs one stimulus"
            )


def type_kernel(responses: WordResponses, *, lower: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(inner products [T, T] of a subject's mean response to each word type, types it has [T] bool).

    Less the mean over those types; the rows of types without a valid token are zero.
    """
    vocabulary, token_to_type = responses.stimulus.types(lower=lower)
    eligible = responses.valid & (token_to_type >= 0)
    present = np.isin(np.arange(len(vocabulary)), token_to_type[eligible])
    types, index = np.unique(token_to_type[eligible], return_inverse=True)
    count = np.bincount(index)[:, None]
    kernel = np.zeros((len(vocabulary), len(vocabulary)))
    small = np.zeros((len(types), len(types)))
    for _, block in column_blocks(responses.values):
        total = np.zeros((len(types), block.shape[1]))
        np.add.at(total, index, block[eligible])
        small += centred_kernel(total / count, np.ones(len(types), bool))
    kernel[np.ix_(types, types)] = small
    return kernel, present


def centred_kernel(values: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Inner products [N, N] of values [N, V] less their mean over the eligible rows [N].

    The rows and columns of the others are zero. float64, in blocks of voxels.
    """
    kernel = np.zeros((len(values), len(values)))
    for _, block in column_blocks(values):
        rows = np.where(eligible[:, None], block, 0).astype(np.float64)
        size = np.abs(rows).max(axis=0)
        rows = np.where(eligible[:, None], rows - rows[eligible].mean(axis=0), 0)
        deviation = rows[eligible].std(axis=0)
        varies = deviation > 8 * np.finfo(np.float32).eps * size
        rows = rows * varies
        kernel += rows @ rows.T
    return kernel


def total_variance(kernel: np.ndarray, rows: np.ndarray) -> float:
    """Summed variance over all features of the rows [N] bool, from inner products [N, N].

    About the mean of these rows. Raises: ValueError where there is none.
    """
    part = kernel[np.ix_(rows, rows)]
    variance = float(np.trace(part) / len(part) - part.mean())
    if not variance > 1e-12 * np.trace(part) / len(part):
        raise ValueError(
            f"the responses do not vary over the {len(part)} rows that they are scaled by"
        )
    return variance


def spanned_rows(kernel: np.ndarray, *, dtype: str = "float32") -> np.ndarray:
    """Rows [N, R] with the inner products of the kernel [N, N], R <= N its rank, zero columns added.

    R is rounded up as in `preparation.lossless_reduction`. Worked in float64; the largest axis comes first,
    its largest entry is positive.
    """
    variances, axes = np.linalg.eigh(kernel)
    variances, axes = variances[::-1], axes[:, ::-1]
    rank = int((variances > variances[0] * len(kernel) * np.finfo(np.float64).eps * 10).sum())
    rows = np.zeros((len(kernel), min(len(kernel), preparation.rounded_rank(rank))))
    axes = axes[:, :rank]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(rank)]
    rows[:, :rank] = axes * np.where(largest < 0, -1, 1) * np.sqrt(variances[:rank])
    rows[np.diagonal(kernel) <= 0] = 0
    return rows.astype(dtype)
