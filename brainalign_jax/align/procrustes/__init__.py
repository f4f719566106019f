"""Orthogonal Procrustes maps and what they are made of: polar factors, spans, shared spaces."""

from brainalign_jax.align.procrustes.procrustes import (
    LowRankMap,
    Moments,
    ProcrustesMap,
    Span,
    Totals,
    apply,
    fit,
    fit_folds,
    fit_moments,
    fit_spans,
    predict_folds,
    span,
    totals,
    without,
)

__all__ = [
    "LowRankMap",
    "Moments",
    "ProcrustesMap",
    "Span",
    "Totals",
    "apply",
    "fit",
    "fit_folds",
    "fit_moments",
    "fit_spans",
    "predict_folds",
    "span",
    "totals",
    "without",
]
