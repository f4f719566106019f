"""Ridge regression: factor once, predict for every target; folds, penalties, groups of features."""

from brainalign_jax.align.ridge.ridge import (
    RidgeFactor,
    factor,
    factor_primal,
    loo_errors,
    predict,
    predict_path,
    select_alpha,
)

__all__ = [
    "RidgeFactor",
    "factor",
    "factor_primal",
    "loo_errors",
    "predict",
    "predict_path",
    "select_alpha",
]
