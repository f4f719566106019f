"""scikit-learn estimators over `align`: orthogonal Procrustes and ridge, for pipelines and cross-validation.

They compute in the type of X: float32 stays float32, everything else is float64, whatever JAX's
global setting. Fitted attributes are NumPy arrays, so that a fitted estimator pickles and clones
like any other of scikit-learn's.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted, validate_data

from brainalign_jax.align import linalg, procrustes, ridge
from brainalign_jax.align.ridge import ridge_cv, ridge_folds
from brainalign_jax.names import check_known
from brainalign_jax.threads import one_blas_thread

_MOST_ALPHA = 1e30


class ProcrustesAligner(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """The isometry R that best brings X - mean_X into line with y - mean_y: no scaling, no shear.

    R maximises <(X - mean_X) R, y - mean_y>; with no more features than targets this minimises the
    squared distance. Where the cross-covariance has rank r below min(V, T), R is the minimal partial
    isometry of rank r. As R never rescales, r^2 (`score`) can be low, even negative, where X and y
    differ in scale: scale both, or score by correlation or retrieval.

    Args:
      center: subtract the training means first, and add the mean of y to the predictions.

    Attributes:
      rotation_: R, [V, T], or [V] where y was 1-D.
      source_mean_: [V]. target_mean_: [T], or a scalar. Both are zero without centring.
      n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Reference: Schoenemann (1966), Psychometrika 31:1-10.

    >>> import brainalign_jax as ba
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> y = x[:, [2, 0, 1]] + 5.0
    >>> aligner = ba.ProcrustesAligner().fit(x, y)
    >>> np.allclose(aligner.predict(x), y)
    True
    """

    def __init__(self, center=True):
        self.center = center

    def fit(self, X, y):  # noqa: N803
        """Fit to X [N, V] and y [N, T] or [N]. Returns self."""
        x, y = _validated(self, X, y)
        with jax.enable_x64(x.dtype == np.float64):
            fitted = _fit_procrustes(
                x, y.reshape(len(y), -1), np.ones(len(x), x.dtype), center=bool(self.center)
            )
            rotation, self.source_mean_, target_mean = map(np.array, fitted)
        self.rotation_ = rotation if y.ndim == 2 else rotation[:, 0]
        self.target_mean_ = target_mean if y.ndim == 2 else target_mean[0]
        return self

    def predict(self, X):  # noqa: N803
        """Predicted targets [M, T], or [M] if y was 1-D, for the rows of X [M, V].

        Raises: ValueError if X has another number of features than in `fit`.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=self.rotation_.dtype, reset=False)
        # `procrustes.apply` in NumPy: nothing to compile for every new number of rows.
        return (x - self.source_mean_) @ self.rotation_ + self.target_mean_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # An isometry cannot shrink a prediction, so r^2 may be poor where the fit is optimal.
        tags.regressor_tags.poor_score = True
        return tags


class RidgeAligner(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression for many targets, alpha chosen by cross-validation from one factorisation.

    Minimises |y - X B - b|^2 + alpha |B|^2, the squared error summed over rows, as scikit-learn's
    `Ridge`. With the defaults the choice of alpha is that of `RidgeCV(alpha_per_target=True)`.

    Args:
      alphas: penalties to choose from, 0 to 1e30; a single one is used as it is.
      alpha_per_target: choose an alpha for each target; otherwise that of least mean error over targets.
      fit_intercept: centre X and y by the training means; the intercept is not penalised.
      cv: None for the exact leave-one-out error in closed form; otherwise a number of folds, a splitter
        or an iterable of (train, test) rows, and the mean over folds of the squared error decides.
      solver: "primal" (a V x V problem), "dual" (N x N) or "auto", the smaller of the two.

    Attributes:
      alpha_: the chosen alpha: [T] where y is 2-D and alpha_per_target, else a float.
      best_score_: minus the cross-validated squared error at alpha_, of alpha_'s shape; NaN where
        leave-one-out is not defined (alpha 0 and too few rows to leave one out).
      coef_: [T, V], or [V] where y was 1-D. intercept_: [T], or a scalar; 0.0 without an intercept.
      solver_: "primal" or "dual". n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    References: Hoerl & Kennard (1970); Allen (1974) for the leave-one-out error. Names of options and
    attributes follow scikit-learn's and himalaya's.

    >>> import brainalign_jax as ba
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> y = x @ [[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]]
    >>> aligner = ba.RidgeAligner(alphas=[0.1, 10.0]).fit(x, y)
    >>> aligner.alpha_, round(aligner.score(x, y), 2)
    (array([0.1, 0.1]), 1.0)
    """

    def __init__(
        self,
        alphas=(0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        alpha_per_target=True,
        fit_intercept=True,
        cv=None,
        solver="auto",
    ):
        self.alphas = alphas
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.solver = solver

    def fit(self, X, y):  # noqa: N803
        """Choose alpha and fit to X [N, V] and y [N, T] or [N]. Returns self.

        Raises: ValueError if alphas are empty or not from 0 to 1e30, the solver is unknown, a fold of
          cv lacks training or test rows, or there are fewer than two rows (none would be left to
          predict one from).
        """
        alphas = _checked_alphas(self.alphas)
        check_known("solver=", self.solver, ("auto", "primal", "dual"))
        x, y = _validated(self, X, y, ensure_min_samples=2)
        self.solver_ = self.solver
        if self.solver == "auto":
            self.solver_ = "primal" if x.shape[1] <= x.shape[0] else "dual"
        targets = y.reshape(len(y), -1)
        # The kernels centre as well, but in the type of X: a large offset is best removed before.
        x_mean, y_mean = (_column_means(v, self.fit_intercept) for v in (x, targets))
        source, centred, alphas_ = x - x_mean, targets - y_mean, alphas.astype(x.dtype)
        options = dict(solver=self.solver_, fit_intercept=bool(self.fit_intercept))
        shared = not self.alpha_per_target

        with jax.enable_x64(x.dtype == np.float64):
            if self.cv is None:
                fitted = _fit_ridge(source, centred, alphas_, shared=shared, **options)
                coef, index, errors = map(np.array, fitted)
            else:
                masks = _fold_masks(check_cv(self.cv, y).split(x, y), len(x))
                rows = ridge_folds.fold_rows(*masks)
                chosen = cross_validated_ridge(
                    source, centred, alphas_, rows, shared=shared, **options
                )
                coef, index, errors = map(np.array, (chosen.weights, chosen.index, chosen.errors))
                if self.solver_ == "dual":
                    coef = source.T @ coef

        alpha = alphas[index]
        if self.alpha_per_target:
            error = errors[index, np.arange(len(index))]
        else:
            error = errors[index].mean()
        if y.ndim == 1:
            coef, y_mean, alpha, error = coef[:, 0], y_mean[0], alpha.reshape(()), error.reshape(())
        self.alpha_ = alpha if alpha.ndim else float(alpha)
        self.best_score_ = -error if error.ndim else -float(error)
        self.coef_ = np.ascontiguousarray(coef.T)
        self.intercept_ = y_mean - x_mean @ coef if self.fit_intercept else 0.0
        return self

    def predict(self, X):  # noqa: N803
        """Predicted targets [M, T], or [M] if y was 1-D, for the rows of X [M, V].

        Raises: ValueError if X has another number of features than in `fit`.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=self.coef_.dtype, reset=False)
        return x @ self.coef_.T + self.intercept_


def _validated(estimator, x, y, **checks) -> tuple[np.ndarray, np.ndarray]:
    """x [N, V] and y, [N, T] or [N] as given, both of x's floating type."""
    types = (np.float64, np.float32)
    x, y = validate_data(estimator, x, y, dtype=types, multi_output=True, y_numeric=True, **checks)
    return x, y.astype(x.dtype, copy=False)


def _checked_alphas(alphas) -> np.ndarray:
    """Alphas [A] as an array. Raises: ValueError if there is none, or one is not from 0 to 1e30."""
    values = np.atleast_1d(np.asarray(alphas, np.float64))
    # Above, a float32 would soon be infinite, and all predictions the mean.
    if values.ndim != 1 or not values.size or not np.all((values >= 0) & (values <= _MOST_ALPHA)):
        raise ValueError(
            f"alphas={alphas!r} must be one or more numbers from 0 to {_MOST_ALPHA:g}: "
            "for example np.logspace(-1, 5, 7)"
        )
    return values


def _column_means(x: np.ndarray, center: bool) -> np.ndarray:
    """Means [D] of x [N, D], summed in float64 and of x's type; zeros unless centred."""
    if not center:
        return np.zeros(x.shape[1], x.dtype)
    return x.mean(axis=0, dtype=np.float64).astype(x.dtype)


def cross_validated_ridge(
    x,
    targets,
    alphas,
    rows: ridge_folds.FoldRows,
    *,
    solver: str = "auto",
    fit_intercept: bool = True,
    shared: bool = False,
    tile: int = 2048,
) -> ridge_cv.CrossValidated:
    """The alphas of least cross-validated error and the fit with them: three or four compiled calls.

    In float32, centre x and targets before where their means are large. What `RidgeAligner` computes,
    without coefficients of the features where the solver is dual: `weights` are then those of the rows.

    Args:
      x: [N, V]; targets: [N, T]; alphas: [A], not negative; all of one floating type.
      rows: the folds, of `ridge_folds.fold_rows`.
      solver, fit_intercept: as for `RidgeAligner`. shared, tile: as for `ridge_cv.cross_validate`.
    """
    if solver == "auto":
        solver = "primal" if x.shape[1] <= x.shape[0] else "dual"
    x, targets, rows = jax.device_put((x, targets, rows))
    ones = np.ones(x.shape[0], x.dtype)
    if solver == "primal":
        full = _factor_primal(x, ones, fit_intercept=fit_intercept)
    else:
        gram = _gram(x)
        full = _factor_dual(gram, ones, fit_intercept=fit_intercept)
    # LAPACK's own threads and XLA's fight over the cores in the many small decompositions of folds.
    jax.block_until_ready(full)
    with one_blas_thread():
        if solver == "primal":
            folds = _factor_folds_primal(full, rows)
        elif ridge_folds.folds_follow(full, alphas):
            folds = None
        else:
            folds = _factor_folds(gram, rows, fit_intercept=fit_intercept)
        tolerance = 1e-5 if x.dtype == np.float32 else 1e-10
        span = ridge_folds.span_alphas(full, folds, alphas, tolerance=tolerance)
        chosen = _cross_validate(full, folds, rows, targets, alphas, span, tile=tile, shared=shared)
        return jax.block_until_ready(chosen)


def _fold_masks(splits, n: int) -> np.ndarray:
    """Masks [2, F, N] from (train, test) rows. Raises: ValueError if there are none, or one lacks rows."""
    masks: list[np.ndarray] = []
    for fold in splits:
        masks.append(np.zeros((2, n), bool))
        for mask, chosen in zip(masks[-1], fold, strict=True):
            mask[chosen] = True
    if not masks:
        raise ValueError("cv gives no fold: pass a number of folds, or None for leave-one-out")
    counts = np.stack(masks).sum(axis=2)
    if not counts.all():
        train, test = counts[counts.min(axis=1) == 0][0]
        raise ValueError(
            f"cv gives a fold with {train} training and {test} test rows of {n}: both need at least one"
        )
    return np.stack(masks, axis=1)


_fit_procrustes = partial(jax.jit, static_argnames=("center",))(procrustes.fit)
_gram = jax.jit(ridge_folds.gram)
_factor_dual = partial(jax.jit, static_argnames=("fit_intercept",))(ridge_folds.factor)
_factor_primal = partial(jax.jit, static_argnames=("fit_intercept",))(ridge_folds.factor_primal)
_factor_folds = partial(jax.jit, static_argnames=("fit_intercept",))(ridge_folds.factor_folds)
_factor_folds_primal = jax.jit(ridge_folds.factor_folds_primal)
_cross_validate = partial(jax.jit, static_argnames=("tile", "shared"))(ridge_cv.cross_validate)


def _factor(source, weights, *, solver: str, fit_intercept: bool) -> ridge.RidgeFactor:
    """Factor of source [N, V] on the rows with weight."""
    if solver == "primal":
        return ridge.factor_primal(source, weights, fit_intercept=fit_intercept)
    return ridge.factor(linalg.gram(source), weights, fit_intercept=fit_intercept)


@partial(jax.jit, static_argnames=("shared", "solver", "fit_intercept"))
def _fit_ridge(source, targets, alphas, *, shared: bool, solver: str, fit_intercept: bool):
    """(coefficients [V, T], index of alpha, errors [A, T]) from centred source and targets.

    The leave-one-out errors are those of one alpha at a time: all at once would hold A x N x T numbers.
    """
    ones = jnp.ones(source.shape[0], source.dtype)
    factor = _factor(source, ones, solver=solver, fit_intercept=fit_intercept)
    errors = jax.lax.map(lambda a: ridge.loo_errors(factor, targets, a[None])[0], alphas)
    index = ridge.select_alpha(errors, shared=shared)
    # A factor's training scores are (source source') basis: source' basis turns what it projects the
    # targets onto into weights of features, whichever the solver.
    total = factor.eigenvalues[:, None] + jnp.atleast_1d(alphas[index])[None, :]
    shrunk = linalg.matmul(factor.basis.T, targets) / jnp.where(total > 0, total, 1)
    return linalg.matmul(source.T, linalg.matmul(factor.basis, shrunk)), index, errors
