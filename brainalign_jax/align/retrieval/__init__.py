"""Nearest neighbours: cosine and CSLS, ranks, precision@k; maps trained for them."""

from brainalign_jax.align.retrieval.retrieval import (
    CslsRanks,
    cosine,
    csls,
    csls_from_cosine,
    csls_ranks,
    precision_at,
    rank_accuracy,
    rank_both,
    ranks,
)

__all__ = [
    "CslsRanks",
    "cosine",
    "csls",
    "csls_from_cosine",
    "csls_ranks",
    "precision_at",
    "rank_accuracy",
    "rank_both",
    "ranks",
]
