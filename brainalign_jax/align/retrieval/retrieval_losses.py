"""Losses that are small where each row finds its own counterpart among the others: RCSLS and InfoNCE.

Row i of a score matrix [N, N] is a prediction, column j a target, and the true pairs lie on the diagonal.

References: Joulin, Bojanowski, Mikolov, Jegou & Grave (2018), Loss in translation: learning bilingual
word mapping with a retrieval criterion (RCSLS); van den Oord, Li & Vinyals (2018), Representation
learning with contrastive predictive coding (InfoNCE); Radford et al. (2021), Learning transferable
visual models from natural language supervision (both directions).
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align.array_types import Array, Float, Shaped


def rcsls(scores: Float[Array, "N N"], mask: Shaped[Array, " N"], *, k: int) -> Float[Array, ""]:
    """Mean over rows i of -2 s_ii + r_T(i) + r_S(i): minus the CSLS of the true pairs, relaxed.

    r_T(i) is the mean of the k largest s_ij over j, r_S(i) that of the k largest s_ji. In the map this
    is convex, and linear wherever the neighbours stay the same.

    Args:
      scores: [N, N] inner products of predictions (rows) and targets of unit length (columns).
      mask: [N]; the others are nobody's neighbour. Where fewer than k rows are left, all of them are
        neighbours.
    """
    of_pairs = jnp.diagonal(scores)
    losses = _nearest_mean(scores, mask, k) + _nearest_mean(scores.T, mask, k) - 2 * of_pairs
    return masked_mean(losses, mask)


def infonce(scores: Float[Array, "N N"], mask: Shaped[Array, " N"]) -> Float[Array, ""]:
    """Cross-entropy of finding the target of a prediction and the prediction of a target, their mean.

    Args:
      scores: [N, N] cosines of predictions and targets over the temperature. mask: [N] rows that count.
    """
    of_pairs = jnp.diagonal(scores)
    valid = mask > 0
    across = jax.nn.logsumexp(scores, axis=1, where=valid[None, :])
    down = jax.nn.logsumexp(scores, axis=0, where=valid[:, None])
    return masked_mean((across + down) / 2 - of_pairs, mask)


def _nearest_mean(
    scores: Float[Array, "N N"], mask: Shaped[Array, " N"], k: int
) -> Float[Array, " N"]:
    """Mean [N] of the k largest scores of each row among the columns of the mask."""
    fixed = jax.lax.stop_gradient(jnp.where(mask[None, :] > 0, scores, -jnp.inf))
    kth = _kth_largest(fixed, k)
    # Which ones they are is constant under the gradient: a product of matrices then does what the
    # gradient of top_k does one element at a time. Equal scores at the border share the places left.
    above, level = fixed > kth, (fixed == kth) & jnp.isfinite(fixed)
    left = (k - above.sum(axis=1, keepdims=True)).astype(scores.dtype)
    share = left / jnp.maximum(level.sum(axis=1, keepdims=True), 1).astype(scores.dtype)
    neighbours = jnp.where(above, 1, jnp.where(level, share, 0))
    count = jnp.maximum(neighbours.sum(axis=1), 1)
    return (neighbours * scores).sum(axis=1) / count


def _kth_largest(scores: Float[Array, "N N"], k: int) -> Float[Array, "N 1"]:
    """[N, 1] k-th largest score of each row, by k maxima: for few neighbours much faster than a sort."""

    def next_lower(_, level: jax.Array) -> jax.Array:
        enough = (scores >= level).sum(axis=1, keepdims=True) >= k
        lower = jnp.where(scores < level, scores, -jnp.inf).max(axis=1, keepdims=True)
        return jnp.where(enough, level, lower)

    return jax.lax.fori_loop(1, k, next_lower, scores.max(axis=1, keepdims=True))


def masked_mean(values: Float[Array, " N"], mask: Shaped[Array, " N"]) -> Float[Array, ""]:
    """Mean of the values [N] of the mask [N]; zero where it is empty."""
    return jnp.where(mask > 0, values, 0).sum() / jnp.maximum(mask.sum(), 1)
