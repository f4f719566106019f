"""Noise ceiling of RSA: how well any model could do, given how much subjects differ.

A model of the group can at best predict what subjects have in common. The lower bound predicts each
subject's RDM from the mean RDM of the others; the upper bound from the mean of all, the subject
included, which no model that has not seen this subject can beat on average. A model between the two
explains what the data allow to be explained.

RDMs are averaged in the form that the comparison sees, as rsatoolbox does (`pool_rdm`): z-scored for
Pearson, of unit length for cosine (whitened before for cosine_cov and corr_cov), ranked for Spearman and
Kendall's tau-a.

References: Nili et al. (2014), PLoS Comput. Biol. 10:e1003553; rsatoolbox, inference/noise_ceiling.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float
from brainalign_jax.align.retrieval import ranking
from brainalign_jax.align.rsa import rsa, whitened

COMPARISONS = (*rsa.COMPARISONS, "cosine")


class NoiseCeiling(NamedTuple):
    """Similarity of each subject's RDM with the mean of the others (`lower`) and of all (`upper`), [S].

    The means over subjects are the bounds that are usually drawn.
    """

    lower: Float[Array, " S"]
    upper: Float[Array, " S"]


def noise_ceiling(
    rdms: Float[Array, "..."],
    *,
    method: str = "spearman",
    rank_mean: bool = True,
    noise: Float[Array, "..."] | None = None,
) -> NoiseCeiling:
    """Both bounds, subject by subject, from the condensed RDMs [S, P] of the same items.

    Args:
      method: "pearson" (rsatoolbox: "corr"), "spearman", "kendall_tau_a" ("tau-a"; P^2 time), "cosine", or
        one of `whitened.COMPARISONS`.
      rank_mean: for Spearman, rank the mean of the ranks again, as rsatoolbox does: a model's RDM is
        ranked, too. Otherwise a subject's ranks are correlated with the mean of ranks as it is, the
        largest mean correlation that any vector reaches.
      noise: [N] variances or [N, N] covariance of the items' noise, for `whitened.COMPARISONS`.

    A constant RDM counts as 0 in every comparison; where one holds NaN or an infinity all bounds are NaN.

    Raises: ValueError for an unknown comparison or fewer than two subjects.
    """
    if method not in COMPARISONS:
        raise ValueError(f"unknown comparison {method!r}: choose one of {', '.join(COMPARISONS)}")
    if rdms.ndim != 2 or rdms.shape[0] < 2:
        raise ValueError(
            f"RDMs have shape {rdms.shape}; a noise ceiling needs [subjects, pairs] of at least two subjects"
        )
    rsa.check_noise(noise, method=method)
    rdms = jnp.where(jnp.isfinite(rdms).all(axis=1, keepdims=True), rdms, jnp.nan)
    linear = {"pearson": "correlation", "cosine": "cosine"}
    if not rank_mean:
        linear["spearman"] = "spearman"
    if method in linear:
        metric = linear[method]
        return ceiling_of_gram(linalg.gram(rsa.unit_rows(rdms, metric=metric)))
    if method in whitened.COMPARISONS:

        def unit_vector(rdm):
            return rsa.comparison_vector(rdm, method=method, noise=noise)

        unit = jax.lax.map(unit_vector, rdms)
        return ceiling_of_gram(linalg.gram(unit))
    # Ranks, not centred ranks: their sums are exact, so that equal means stay ties.
    ranks = ranking.rank(rdms)
    total = ranks.sum(axis=0)
    pooled = rsa.comparison_vector(total, method=method)

    def bounds(subject) -> NoiseCeiling:
        rdm, rank = subject
        rdm = rsa.comparison_vector(rdm, method=method)
        pooled_others = rsa.comparison_vector(total - rank, method=method)
        lower, upper = (
            rsa.compare_vectors(rdm[None], mean[None], method=method)[0, 0]
            for mean in (pooled_others, pooled)
        )
        return NoiseCeiling(lower, upper)

    return jax.lax.map(bounds, (rdms, ranks))


def ceiling_of_gram(gram: Float[Array, "S S"]) -> NoiseCeiling:
    """Bounds from the similarities [S, S] of the subjects' RDMs, by Pearson or cosine, or
    by Spearman for means that are not ranked again.

    They are inner products of vectors of unit length, so that those with the mean of all and with the
    mean of the others follow from them: `rsa_tiles.scores` of the subjects with one another gives the
    ceiling of RDMs that are too large to hold.
    """
    with_all = gram.sum(axis=1)
    squared = jnp.diagonal(gram)
    all_squared = gram.sum()
    others_squared = all_squared - 2 * with_all + squared

    def ratio(product, square):
        nothing = square <= 8 * jnp.finfo(gram.dtype).eps
        return jnp.where(nothing, 0, product / jnp.sqrt(jnp.where(nothing, 1, square)))

    return NoiseCeiling(ratio(with_all - squared, others_squared), ratio(with_all, all_squared))
