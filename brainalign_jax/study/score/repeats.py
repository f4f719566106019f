"""Words that were presented more than once: their responses by run or presentation, in units of their noise.

What crossnobis distances are made of: noise differs between presentations, what a word evokes does not.
"""

import jax
import numpy as np

from brainalign_jax.align.rsa.crossnobis import Noise, normalised_without_own, shrunk_noise
from brainalign_jax.study.score.preparation import type_means

_FEWEST = 4  # words
_NUMBERS = 2**25  # in one compiled call


def presentations(
    token_to_type: np.ndarray, eligible: np.ndarray, run: np.ndarray | None, *, parts: str = "auto"
) -> np.ndarray:
    """[N] 0, 1, ... of the tokens: the part of the data that each belongs to, else -1.

    Parts are runs, or presentations of a word in their order: tokens of a word in one run are one, as they
    share its noise; of stimuli without runs each is its own. No two runs share noise; presentations do where
    the first of a word is in the run of another's second.

    parts: `Protocol.rdm_parts`. -1 where a word is presented once only, or by runs not in each of them.

    Raises: ValueError for parts that are runs where there are none.
    """
    rows = np.flatnonzero(eligible)
    number = np.full(len(token_to_type), -1)
    if parts == "runs" and run is None:
        raise ValueError(
            "crossnobis by runs needs words in two runs or more, and this recording has no runs: take "
            "--rdm_parts=presentations"
        )
    if parts == "runs" and len(np.unique(np.asarray(run)[rows])) < 2:
        raise ValueError(
            "crossnobis by runs needs words in two runs or more, and this recording has one, whose noise "
            "presentations share: take another --rdm_metric"
        )
    label = rows if run is None else np.asarray(run)[rows]
    types, word = np.unique(token_to_type[rows], return_inverse=True)
    labels, first, label = np.unique(label, return_index=True, return_inverse=True)
    # Numbered in the order of appearance, whatever they are called.
    label = np.argsort(np.argsort(first))[label]
    if run is None:
        cells = np.stack([word, label], axis=1)
    else:
        cells = np.unique(np.stack([word, label], axis=1), axis=0)
    counts = np.bincount(cells[:, 0], minlength=len(types))
    repeated = counts > 1
    if run is not None and parts != "presentations":
        runs = np.unique(cells[repeated[cells[:, 0]], 1])
        everywhere = repeated & (counts == len(runs))
        if parts == "runs" or (everywhere == repeated).all():
            kept = everywhere[word] & np.isin(label, runs)
            number[rows[kept]] = np.searchsorted(runs, label[kept])
            return number
    order = np.lexsort((cells[:, 1], cells[:, 0]))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(len(cells), int)
    place[order] = np.arange(len(cells)) - starts[cells[order, 0]]
    of_cell = {(w, r): k for (w, r), k in zip(cells.tolist(), place.tolist(), strict=True)}
    known = [of_cell[cell] for cell in zip(word.tolist(), label.tolist(), strict=True)]
    number[rows] = np.where(repeated[word], known, -1)
    return number


def repeated_rows(
    values: np.ndarray,
    token_to_type: np.ndarray,
    eligible: np.ndarray,
    run: np.ndarray | None,
    *,
    n_features: int,
    parts: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(types that were presented twice or more [T'], their rows [T', K, V] in units of the noise).

    K is the fewest presentations of such a word; those of the others are dealt out to as many parts. The
    noise is what tokens of the other words have beyond the mean of theirs: with a word's own, two
    presentations of pure noise would have a product above zero, which goes by how often words occur.

    Args:
      values: [N, V], in axes that keep the inner products of n_features features.
      parts: as in `presentations`.

    Raises: ValueError for fewer than 4 words that were presented twice.
    """
    number = presentations(token_to_type, eligible, run, parts=parts)
    kept = number >= 0
    types, index = np.unique(token_to_type[kept], return_inverse=True)
    if len(types) < _FEWEST:
        n_words = len(np.unique(token_to_type[eligible]))
        if parts == "runs":
            raise ValueError(
                f"crossnobis by runs compares words that occur in every run that has repeated words: "
                f"{len(types)} of {n_words} do; take --rdm_parts=presentations, or another --rdm_metric"
            )
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
    rows = rows.reshape(len(types), n_parts, -1)
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    return types, _normalised(rows, residuals, index, n_features=n_features)


def _normalised(
    rows: np.ndarray, residuals: np.ndarray, index: np.ndarray, *, n_features: int
) -> np.ndarray:
    """Each word's rows [T, K, V] in units of the noise of the other words' residuals [M, V].

    index: [M] the word that a residual is of. Words with about as many residuals are worked on together.
    """
    n_dof = len(residuals) - len(rows)
    noise = _noise(residuals, n_dof=n_dof, n_features=n_features)
    counts, order = np.bincount(index), np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sizes = 2 ** np.ceil(np.log2(counts)).astype(int)
    shares = (1 - (counts - 1) / n_dof).astype(rows.dtype)
    normalised = np.empty_like(rows)
    for size in np.unique(sizes):
        for words in _pieces(np.flatnonzero(sizes == size), rows.shape[2] * (size + rows.shape[1])):
            own = np.zeros((len(words), size, rows.shape[2]), rows.dtype)
            for place, word in enumerate(words):
                first, count = starts[word], counts[word]
                own[place, :count] = residuals[order[first : first + count]]
            normalised[words] = _without_own(rows[words], own, noise, shares[words])
    return normalised


def _pieces(words: np.ndarray, size: int) -> list[np.ndarray]:
    """Words [n] in pieces of no more than _NUMBERS numbers, of which each word takes so many."""
    return np.array_split(words, -(-len(words) * size // max(_NUMBERS, size)))


_noise = jax.jit(shrunk_noise, static_argnames=("n_dof", "n_features"))


@jax.jit
def _without_own(rows: jax.Array, own: jax.Array, noise: Noise, shares: jax.Array) -> jax.Array:
    """`normalised_without_own` of each word."""

    def of_word(word: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        word_rows, word_residuals, share = word
        return normalised_without_own(word_rows, word_residuals, noise, share)

    return jax.lax.map(of_word, (rows, own, shares))
