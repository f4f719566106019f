"""Words that were presented more than once: their responses by presentation, in units of their noise.

What crossnobis distances are made of: noise differs between presentations, what a word evokes does not.
"""

import jax
import numpy as np

from brainalign_jax.align.rsa.crossnobis import noise_normalised, shrunk_noise
from brainalign_jax.study.score.preparation import type_means

_FEWEST = 4  # words


def presentations(
    token_to_type: np.ndarray, eligible: np.ndarray, run: np.ndarray | None
) -> np.ndarray:
    """[N] 0, 1, ... of the tokens in order: the how-manieth presentation of its word each is, else -1.

    Tokens of a word in one run are one presentation, as they share its noise; of stimuli without runs each is
    its own. -1 where a word is presented once only.
    """
    number = np.full(len(token_to_type), -1)
    for word in np.unique(token_to_type[eligible]):
        rows = np.flatnonzero(eligible & (token_to_type == word))
        labels = np.arange(len(rows)) if run is None else np.asarray(run)[rows]
        first, inverse = np.unique(labels, return_index=True, return_inverse=True)[1:]
        if len(first) > 1:
            number[rows] = np.argsort(np.argsort(first))[inverse]
    return number


def repeated_rows(
    values: np.ndarray,
    token_to_type: np.ndarray,
    eligible: np.ndarray,
    run: np.ndarray | None,
    *,
    n_features: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(types that were presented twice or more [T'], their rows [T', K, V] in units of the noise).

    K is the fewest presentations of such a word; those of the others are dealt out to as many parts. The
    noise is what tokens have beyond the mean of their word.

    Args: values [N, V], in axes that keep the inner products of n_features features.

    Raises: ValueError for fewer than 4 words that were presented twice.
    """
    number = presentations(token_to_type, eligible, run)
    kept = number >= 0
    types, index = np.unique(token_to_type[kept], return_inverse=True)
    if len(types) < _FEWEST:
        n_words = len(np.unique(token_to_type[eligible]))
        raise ValueError(
            f"crossnobis compares presentations of a word, and {len(types)} of {n_words} words have two or "
            f"more{'' if run is None else ' in different runs'}: take recordings with repeats that are not "
            "averaged, or another --rdm_metric"
        )
    most = np.zeros(len(types), int)
    np.maximum.at(most, index, number[kept])
    n_parts = int(most.min()) + 1
    part = np.where(kept, token_to_type * n_parts + number % n_parts, -1)
    _, rows = type_means(values, part, kept)
    _, means = type_means(values, token_to_type, kept)
    residuals = values[kept] - means[index]
    normalised = _normalised(
        rows, residuals, n_dof=int(kept.sum()) - len(types), n_features=n_features
    )
    return types, np.asarray(normalised).reshape(len(types), n_parts, -1)


@jax.jit(static_argnames=("n_dof", "n_features"))
def _normalised(rows: jax.Array, residuals: jax.Array, *, n_dof: int, n_features: int):
    return noise_normalised(rows, shrunk_noise(residuals, n_dof=n_dof, n_features=n_features))
