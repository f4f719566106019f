"""Permutation tests of word decoding by ridge regression: every factor is reused.

A permutation gives the words other responses. Ridge regression is linear in the words' vectors, so that
the hat matrix of each fold serves all permutations, and similarities need no vectors, only their Gram
matrix: one product of Q x N by N x N for each permutation, 2 Q N^2 flops over all folds together,
whatever the width of the model.

References: Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39, for the p-value.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg, retrieval, ridge
from brainalign_jax.align.array_types import Array, Float, Int, Real, Shaped
from brainalign_jax.align.retrieval import neighbours


class PermutedRanks(NamedTuple):
    """Ranks of the true words, 1 is best: by cosine `nn` and by CSLS `csls`, both [F, Q]."""

    nn: Float[Array, "F Q"]
    csls: Float[Array, "F Q"]


def hat_matrix(factor: ridge.RidgeFactor, alpha: Real[Array, ""] | float) -> Float[Array, "M N"]:
    """[N, N] from targets to predictions for all rows, with an intercept less their training mean.

    alpha: scalar. Columns of rows left out are zero. With an intercept constants are mapped to zero.
    """
    total = factor.eigenvalues + jnp.asarray(alpha, factor.eigenvalues.dtype)
    gains = linalg.ratio(1, total, total <= 0)
    return linalg.matmul(factor.scores * gains, factor.basis.T)


def permuted_ranks(
    hats: Float[Array, "F Q N"],
    train: Shaped[Array, "F N"],
    gram: Float[Array, "N N"],
    queries: Int[Array, "F Q"],
    query_mask: Shaped[Array, "F Q"],
    permutation: Int[Array, " N"],
    fitted: Float[Array, "F M N"] | None = None,
    *,
    csls_k: int = 10,
) -> PermutedRanks:
    """Decode each fold's words with the words' vectors permuted; the identity gives the true scores.

    The response of item i is paired with the vector of item permutation[i]. Both sides are centred by
    the mean vector of the fold's training items; all N items are candidates.

    Args:
      hats: [F, Q, N], rows of each fold's `hat_matrix` for its queries, of a factor with an intercept.
      train: [F, N] training masks.
      gram: [N, N] inner products of the items' vectors. Centre the vectors by their overall mean before
        in float32, where their mean is large.
      queries: [F, Q] the items asked for; query_mask: [F, Q], 0 where padded.
      permutation: [N].
      fitted: [F, M, N], rows of each fold's hat matrix for its training items, all zero where padded:
        the similarities of a candidate are then divided by its spread, the root mean square of its
        cosines with them. It costs M / Q as much again as the rest.
      csls_k: neighbours of CSLS; all there are where Q or N is smaller.

    Returns: ranks; those of padded queries are N.
    """
    weights = jax.vmap(linalg.normalized_weights, (0, None))(train, gram.dtype)
    # All in the order of the responses: candidate i is the vector paired with response i.
    paired = gram[permutation][:, permutation]
    products = linalg.product(hats, paired)  # [F, Q, N]
    # Inner products with the training mean: of candidates [F, N], of itself [F], of predictions [F, Q].
    with_mean = linalg.matmul(weights, paired)
    mean_squared = (with_mean * weights).sum(axis=1)
    predicted = jnp.einsum("fqn,fn->fq", products, weights, precision="highest")
    squares = jnp.diagonal(paired)[None, :] - 2 * with_mean + mean_squared[:, None]
    floor = 8 * jnp.finfo(gram.dtype).eps * (jnp.diagonal(paired)[None, :] + mean_squared[:, None])
    scale = jnp.where(squares > floor, 1 / jnp.sqrt(jnp.where(squares > floor, squares, 1)), 0)
    if fitted is not None:
        scale = scale / jax.vmap(_spread, (0, None, 0, 0))(fitted, paired, weights, scale)
    # A prediction's own length, for CSLS alone: |h Y|^2 = h G h'.
    squares = (products * hats).sum(axis=2)
    lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    cosines = (products - predicted[:, :, None]) * scale[:, None, :] / lengths[:, :, None]

    def ranks(cosines, gold, mask):
        near = jnp.where(mask > 0, cosines.T, -jnp.inf)
        r_source = neighbours.mean_of_largest(near, min(csls_k, *cosines.shape))
        return PermutedRanks(*reversed(retrieval.rank_both(cosines, gold, r_source)))

    fold_ranks = jax.vmap(ranks)(cosines, queries, query_mask)
    outside = jnp.asarray(gram.shape[0], fold_ranks.nn.dtype)
    return PermutedRanks(*(jnp.where(query_mask > 0, x, outside) for x in fold_ranks))


def _spread(hats, gram, weights, scale) -> Float[Array, " N"]:
    """Root mean square [N] of each candidate's cosines with the fitted predictions, 1 where it is zero."""
    products = linalg.product(hats, gram)  # [M, N] inner products of predictions and candidates
    squares = (products * hats).sum(axis=1)
    used = squares > 0
    share = used.astype(gram.dtype)
    share = share / jnp.where(used, squares, 1) / jnp.maximum(share.sum(), 1)
    centred = products - (products @ weights)[:, None]
    spread = jnp.sqrt(share @ centred**2) * scale
    return jnp.where(spread > 0, spread, 1)


def draw_permutations(
    n_items: int, n_permutations: int, *, random_state: int = 0, block: int = 1
) -> Int[np.ndarray, "P N"]:
    """[P, N] permutations, int32; blocks of `block` neighbours stay together and in order.

    Raises: ValueError if there are fewer than two blocks.
    """
    if block < 1 or n_items < 2 * block:
        raise ValueError(
            f"{n_items} items in blocks of {block} leave nothing to permute: shorten the blocks"
        )
    rng = np.random.default_rng(random_state)
    blocks = np.array_split(np.arange(n_items, dtype=np.int32), n_items // block)
    drawn = [
        np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
        for _ in range(n_permutations)
    ]
    return np.stack(drawn) if drawn else np.empty((0, n_items), np.int32)


def p_value(observed: Float[Array, " *#S"], null: Float[Array, " P *#S"]) -> Float[Array, "..."]:
    """(1 + number of null scores [P, ...] at least as high) / (1 + P), never zero.

    NaN where the observed score, or one of its null scores, is no finite number.
    """
    exceed = (null >= observed).sum(axis=0)
    known = jnp.isfinite(observed) & jnp.isfinite(null).all(axis=0)
    return jnp.where(known, (1 + exceed).astype(null.dtype) / (1 + null.shape[0]), jnp.nan)
