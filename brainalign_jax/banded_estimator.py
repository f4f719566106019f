"""scikit-learn estimator over `align.banded_ridge`: ridge whose groups of features have scales of their own.

As in `estimators`: float32 stays float32, everything else is float64, and fitted attributes are NumPy.
"""

import jax
import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from brainalign_jax.align.ridge import banded_descent, banded_search
from brainalign_jax.estimators import _checked_alphas, _column_means, _fold_masks, _validated

_STATIC = ("n_train", "n_test", "fit_intercept", "score", "target_batch")
_random_search = jax.jit(banded_search.random_search, static_argnames=(*_STATIC, "tolerance"))
_descent = jax.jit(banded_descent.descent, static_argnames=(*_STATIC, "n_steps"))
# Error allowed in the gain of a ridge filter: at the rounding of float32, none in float64.
_TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 0.0}


class BandedRidgeAligner(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression with a scale for each group of features, chosen for each target by cross-validation.

    Minimises |y - sum_g X_g B_g - b|^2 + sum_g alpha / gamma_g |B_g|^2 with gammas on the simplex.
    Solved through the Gram matrices of the groups: for any number of features, up to some thousand rows.

    Args:
      groups: the group of each feature, [V] labels of any kind; None is one group, which is plain ridge.
      alphas: penalties to choose from, 0 to 1e30.
      n_iter: number of gammas to try, equal weights first; or the gammas themselves, [n_iter, G].
      concentration: of the Dirichlet distributions that the gammas are drawn from, in turn.
      cv: a number of folds, a splitter or an iterable of (train, test) rows.
      scoring: "mse" or "r2"; the mean over folds of either decides.
      fit_intercept: centre X and y by the training means; the intercept is not penalised.
      n_steps: steps of gradient descent on the log scales after the search, 0 for none. Each costs a
        factorisation for every fold and target.
      learning_rate: about the change of a log scale in one of these steps.
      target_batch: targets searched at a time, which bounds the memory.
      random_state: seed of the gammas.

    Attributes:
      groups_: [G] the labels, sorted. gammas_: [G, T] scales on the simplex; deltas_: [G, T],
        log(gamma / alpha). Both are [G] where y was 1-D.
      alpha_: [T] or a float. best_score_: the cross-validated r2, or minus the squared error, likewise.
      coef_: [T, V], or [V] where y was 1-D. intercept_: [T], or a scalar; 0.0 without an intercept.
      n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Reference: Dupré la Tour et al. (2022), NeuroImage 264. Names follow himalaya's.

    >>> import brainalign_jax as ba
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> y = x[:, 2] - 2 * x[:, 3]
    >>> aligner = ba.BandedRidgeAligner(groups=["sound", "sound", "words", "words"], cv=2).fit(x, y)
    >>> sound, words = aligner.gammas_
    >>> bool(words > sound)
    True
    """

    def __init__(
        self,
        groups=None,
        alphas=(0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        n_iter=20,
        concentration=(0.1, 1.0),
        cv=5,
        scoring="mse",
        fit_intercept=True,
        n_steps=0,
        learning_rate=0.3,
        target_batch=1024,
        random_state=0,
    ):
        self.groups = groups
        self.alphas = alphas
        self.n_iter = n_iter
        self.concentration = concentration
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.target_batch = target_batch
        self.random_state = random_state

    def fit(self, X, y):  # noqa: N803
        """Choose the scales and fit to X [N, V] and y [N, T] or [N]. Returns self.

        Raises: ValueError if groups do not match X, gammas are not [n_iter, G] and on the simplex, alphas
          are empty or not from 0 to 1e30, or a fold of cv lacks training or test rows.
        """
        alphas = _checked_alphas(self.alphas)
        x, y = _validated(self, X, y, ensure_min_samples=2)
        labels = np.zeros(x.shape[1], int) if self.groups is None else np.asarray(self.groups)
        if labels.shape != (x.shape[1],):
            raise ValueError(
                f"groups {labels.shape} must hold one label for each of the {x.shape[1]} features"
            )
        self.groups_, member = np.unique(labels, return_inverse=True)
        gammas = self._gammas(len(self.groups_)).astype(x.dtype)
        targets = y.reshape(len(y), -1)
        # The kernels centre as well, but in the type of X: a large offset is best removed before.
        x_mean, y_mean = (_column_means(v, self.fit_intercept) for v in (x, targets))
        x, targets = x - x_mean, targets - y_mean
        masks = _fold_masks(check_cv(self.cv, y).split(x, y), len(x)).astype(x.dtype)
        n_train, n_test = masks.sum(axis=2).max(axis=1).astype(int).tolist()
        options = dict(
            n_train=n_train,
            n_test=n_test,
            fit_intercept=bool(self.fit_intercept),
            score=self.scoring,
        )
        bands = [x[:, member == g] for g in range(len(self.groups_))]
        grams = np.stack([band @ band.T for band in bands])

        with jax.enable_x64(x.dtype == np.float64):
            problem = jax.device_put((grams, targets, *masks))
            fitted = _random_search(
                *problem,
                gammas,
                alphas.astype(x.dtype),
                tolerance=_TOLERANCE[x.dtype],
                target_batch=self.target_batch,
                **options,
            )
            if self.n_steps:
                fitted = _descent(
                    *problem,
                    fitted,
                    n_steps=self.n_steps,
                    learning_rate=self.learning_rate,
                    **options,
                )
            fitted = jax.tree.map(np.array, fitted)

        coef = np.empty((targets.shape[1], x.shape[1]), x.dtype)
        for g, band in enumerate(bands):
            coef[:, member == g] = (fitted.gammas[g] * (band.T @ fitted.dual_coef)).T
        with np.errstate(divide="ignore"):
            deltas = np.log(fitted.gammas) - np.log(fitted.alphas)
        score = 1 - fitted.errors if self.scoring == "r2" else -fitted.errors
        # Rows in no fold take part in the means removed above, not in the fit.
        rows = masks.any(axis=(0, 1))
        centre = x[rows].mean(axis=0) if self.fit_intercept else np.zeros_like(x_mean)
        intercept = y_mean + fitted.means - coef @ (x_mean + centre)
        if y.ndim == 1:
            fitted_gammas, deltas, coef = fitted.gammas[:, 0], deltas[:, 0], coef[0]
            alpha, score, intercept = float(fitted.alphas[0]), float(score[0]), intercept[0]
        else:
            fitted_gammas, alpha = fitted.gammas, fitted.alphas
        self.gammas_, self.deltas_, self.alpha_ = fitted_gammas, deltas, alpha
        self.best_score_, self.coef_ = score, coef
        self.intercept_ = intercept if self.fit_intercept else 0.0
        return self

    def _gammas(self, n_groups: int) -> np.ndarray:
        """Candidates [n_iter, G], float64. Raises: ValueError if those given are not on the simplex."""
        if np.ndim(self.n_iter):
            gammas = np.asarray(self.n_iter, float)
            fits = gammas.ndim == 2 and gammas.shape[1] == n_groups and len(gammas) > 0
            if not fits or (gammas < 0).any() or not np.allclose(gammas.sum(axis=1), 1, atol=1e-4):
                raise ValueError(
                    f"n_iter {gammas.shape} as gammas must be [candidates, {n_groups}], not negative, "
                    "each row of sum one"
                )
            return gammas
        if self.n_iter < 1:
            raise ValueError(f"n_iter={self.n_iter} must be at least 1")
        if n_groups == 1:
            return np.ones((1, 1))
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        return np.array(
            banded_search.simplex_samples(
                jax.random.key(seed),
                n_samples=int(self.n_iter),
                n_groups=n_groups,
                concentration=tuple(np.atleast_1d(self.concentration).tolist()),
            ),
            float,
        )

    def predict(self, X):  # noqa: N803
        """Predicted targets [M, T], or [M] if y was 1-D, for the rows of X [M, V].

        Raises: ValueError if X has another number of features than in `fit`.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=self.coef_.dtype, reset=False)
        return x @ self.coef_.T + self.intercept_
