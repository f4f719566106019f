"""Responses and vectors made ready for the solvers: scaling, PCA and lossless reduction, on the host."""

import numpy as np

from brainalign_jax.study.protocol import Protocol

_RANK_STEP = 32  # ranks are rounded up to this, so that subjects share compiled programs


def prepare_responses(
    values: np.ndarray, eligible: np.ndarray, protocol: Protocol, *, width: int
) -> np.ndarray:
    """Responses [N, V] as the protocol scales and reduces them before any fold is made.

    The paper's protocol fits both steps on all eligible rows [N], the test rows among them; the
    audited one does neither. width: number of features of the model's vectors.

    Where alphas are in units of the kernel nothing depends on the responses' unit, and they are
    brought to a root mean square of one: responses in tesla would be lost in float32.

    Raises: ValueError if the responses are the same for all words.
    """
    if np.ptp(values[eligible], axis=0).max() == 0:
        raise ValueError(
            f"the {values.shape[1]} features of the responses are the same for all "
            f"{int(eligible.sum())} words: there is nothing to decode"
        )
    if protocol.alpha_unit == "kernel":
        values = values / np.sqrt(np.mean(values[eligible].astype(np.float64) ** 2))
    if protocol.scaling == "minmax":
        low, high = values[eligible].min(axis=0), values[eligible].max(axis=0)
        values = (values - low) / np.where(high > low, high - low, 1)
    if protocol.pca == "all_rows":
        values = _pca(values, eligible, min(int(eligible.sum()), values.shape[1], width))
    return np.where(eligible[:, None], values, 0).astype(np.float32)


def prepare_vectors(values: np.ndarray, protocol: Protocol, *, n_features: int) -> np.ndarray:
    """Model vectors [L, T, D]; the paper's PCA leaves no more axes than the responses have."""
    if protocol.pca == "all_rows" and values.shape[-1] > n_features:
        every = np.ones(values.shape[1], bool)
        values = np.stack([_pca(layer, every, n_features) for layer in values])
    return np.asarray(values, np.float32)


def lossless_reduction(values: np.ndarray) -> np.ndarray:
    """Rows of values [N, V] in the axes they span [N, R], R <= N: all inner products are kept.

    Word responses made from fewer volumes than words have low rank, and then every factorisation
    is small. R is rounded up to a multiple of 32 with zero columns. Worked in float64.
    """
    n_rows, n_features = values.shape
    if n_features <= n_rows // 2:
        return values
    gram = np.zeros((n_rows, n_rows))
    for start in range(0, n_features, 4096):
        part = values[:, start : start + 4096].astype(np.float64)
        gram += part @ part.T
    variances, axes = np.linalg.eigh(gram)
    variances, axes = variances[::-1], axes[:, ::-1]
    rank = int((variances > variances[0] * n_rows * np.finfo(np.float64).eps * 10).sum())
    size = min(n_rows, -(-rank // _RANK_STEP) * _RANK_STEP)
    scores = np.zeros((n_rows, size), np.float32)
    scores[:, :rank] = axes[:, :rank] * np.sqrt(variances[:rank])
    return scores


def type_means(
    values: np.ndarray, token_to_type: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(types that have eligible tokens [T'], their mean rows [T', V])."""
    types, index = np.unique(token_to_type[eligible], return_inverse=True)
    total = np.zeros((len(types), values.shape[1]))
    np.add.at(total, index, values[eligible])
    return types, (total / np.bincount(index)[:, None]).astype(np.float32)


def _pca(values: np.ndarray, rows: np.ndarray, n_components: int) -> np.ndarray:
    mean = values[rows].mean(axis=0)
    _, _, axes = np.linalg.svd(values[rows].astype(np.float64) - mean, full_matrices=False)
    return (values - mean) @ axes[:n_components].T
