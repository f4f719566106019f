"""The voxels with the highest scores as a transformer of scikit-learn, fitted in each fold of a pipeline.

Apart from `selection`, which studies use: scikit-learn takes a second to import.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainalign_jax.neural.selection import informativeness, select


class VoxelSelector(TransformerMixin, BaseEstimator):
    """Keeps the voxels with the highest scores, learnt in `fit` from training rows only.

    Args:
      score: function of (values [n, V], targets [n, D]) that returns [V]; None takes `informativeness`
        without neighbours. With them: `functools.partial(informativeness, neighbours=...)`.
      n_voxels: how many voxels to keep; the original study kept 5,000.

    Attributes: scores_ [V]; columns_ [n_voxels], in rising order; n_features_in_.
    """

    def __init__(
        self,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        n_voxels: int = 5000,
    ):
        self.score = score
        self.n_voxels = n_voxels

    def fit(self, values: np.ndarray, targets: np.ndarray) -> VoxelSelector:
        """Score the voxels on training rows. Returns self.

        Raises ValueError as the score and `select` do, or for another number of scores than voxels.
        """
        values = np.asarray(values)
        scores = np.asarray((self.score or informativeness)(values, targets), np.float64)
        if scores.shape != values.shape[1:]:
            raise ValueError(
                f"the score has shape {scores.shape} for values of shape {values.shape}; "
                "it must return one number a voxel"
            )
        self.columns_ = select(scores, self.n_voxels)
        self.scores_, self.n_features_in_ = scores, values.shape[1]
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """The chosen columns of values [N, V]. Raises ValueError for another V than in `fit`."""
        check_is_fitted(self)
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"values have shape {values.shape}; the selector was fitted to "
                f"{self.n_features_in_} voxels"
            )
        return values[:, self.columns_]
