"""RSA with nuisance dissimilarities held constant, and its permutation test.

Two RDMs may agree because both follow a third: words close in time share scans and sentences, frequent
words resemble one another in brain and model. The partial correlation compares what the confound RDMs
leave of each. Distances are ranked first for Spearman; then all is linear, and every subject with every
layer is one matrix product.

The p-value permutes items, not pairs, since the pairs of an RDM are not independent (Mantel's test):
rows and columns of the subjects' RDMs together, for all layers and subjects the same. The model's RDMs
and the confounds stay, so that they are residualised once, and a permutation is one gather of the
subjects' condensed RDMs and one product with layers and confounds. The length of what a permuted RDM has
beyond the confounds differs from permutation to permutation and is taken from the same product.

Words in time need shifts, all of them, and the temporal distance in several steps. In simulated noise that
is smooth over 2.5 words, against vectors as smooth (120 words, 200 studies), p <= .04 in .05 with the whole
circle of shifts, in .11 where the shortest are left out, and in .23 with blocks of 10; with distances capped
at 1 to 16 s held constant (`study.confounds`) in .05, .09 and .10: benchmarks/null_p_values.py. Smooth over 5
words, where 120 words are as good as seven, shifts are too liberal as well: take p-values near .05 with
caution in short stories.

References: Mantel (1967), Cancer Res. 27:209-220; Smouse, Long & Sokal (1986), Syst. Zool. 35:627-632;
Legendre (2000), J. Stat. Comput. Simul. 67:37-73, who compares what to permute.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int
from brainalign_jax.align.rsa import rsa
from brainalign_jax.align.stats import inference

METHODS = ("pearson", "spearman")
PERMUTED = ("raw", "residuals")
_TILE = 2**15  # pairs gathered at a time


def unit_vectors(rdms: Float[Array, "..."], *, method: str = "spearman") -> Float[Array, "K P"]:
    """Centred (and for Spearman ranked) RDMs [K, P] of unit length; a constant RDM is zero.

    Raises: ValueError for an unknown method, or an array that is not [K, P].
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if rdms.ndim != 2:
        raise ValueError(f"RDMs have shape {rdms.shape}; give condensed ones, [RDMs, pairs]")
    metric = "correlation" if method == "pearson" else "spearman"
    return jax.lax.map(lambda rdm: rsa.unit_rows(rdm[None], metric=metric)[0], rdms)


def confound_basis(
    confounds: Float[Array, "C P"], *, method: str = "spearman"
) -> Float[Array, "C P"]:
    """Orthonormal rows [C, P] that span the confound RDMs [C, P] after ranking and centring.

    A confound that is constant, or that the ones before it explain, gives a row of zeros.
    """
    vectors = unit_vectors(confounds, method=method)
    rows: list[jax.Array] = []
    for vector in vectors:
        left = vector
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for row in rows:
                left = left - jnp.vdot(row, left, precision="highest") * row
        rows.append(_unit(left))
    return jnp.stack(rows) if rows else vectors


def residuals(vectors: Float[Array, "K P"], basis: Float[Array, "C P"]) -> Float[Array, "K P"]:
    """What unit vectors [K, P] have beyond the confounds' basis [C, P], of unit length again.

    Zero where the confounds explain a vector.
    """
    for _ in range(2):
        vectors = vectors - linalg.matmul(linalg.matmul(vectors, basis.T), basis)
    return jax.vmap(_unit)(vectors)


def _unit(residual: Float[Array, " P"]) -> Float[Array, " P"]:
    """Of unit length, or zero where no more than rounding is left of a vector that had it."""
    norm = jnp.linalg.norm(residual)
    rounding = norm <= 64 * jnp.finfo(residual.dtype).eps
    return linalg.ratio(residual, norm, rounding)


def partial_correlations(
    brain: Float[Array, "..."],
    model: Float[Array, "..."],
    confounds: Float[Array, "..."],
    *,
    method: str = "spearman",
) -> Float[Array, "S L"]:
    """Partial correlation [S, L] of each of the RDMs brain [S, P] with each of model [L, P].

    confounds: [C, P] dissimilarities of the same items that are held constant; C may be 0.
    method: "spearman" or "pearson". 0 where the confounds explain one of the two.

    Raises: ValueError for RDMs over other pairs, or an unknown method.
    """
    if not brain.shape[-1] == model.shape[-1] == confounds.shape[-1]:
        raise ValueError(
            f"the RDMs cover different pairs: brain {brain.shape}, model {model.shape}, confounds "
            f"{confounds.shape}"
        )
    basis = confound_basis(confounds, method=method)
    left, right = (residuals(unit_vectors(x, method=method), basis) for x in (brain, model))
    return linalg.matmul(left, right.T)


def partial_from_correlations(
    brain_model: Float[Array, "S L"],
    brain_confounds: Float[Array, "S C"],
    model_confounds: Float[Array, "L C"],
    confounds: Float[Array, "C C"],
) -> Float[Array, "S L"]:
    """`partial_correlations` [S, L] where only correlations are known, of RDMs too large to hold.

    Args: correlations of all pairs of RDMs, [S, L], [S, C], [L, C] and [C, C].
    """
    values, vectors = jnp.linalg.eigh(confounds)
    drop = values <= confounds.shape[0] * 64 * jnp.finfo(values.dtype).eps
    scale = jnp.where(drop, 0, 1 / jnp.sqrt(jnp.where(drop, 1, values)))
    # Correlations with orthonormal combinations of the confounds.
    brain, model = (linalg.matmul(x, vectors) * scale for x in (brain_confounds, model_confounds))
    shared = linalg.matmul(brain, model.T)
    left, right = (1 - (x**2).sum(axis=1) for x in (brain, model))
    size = jnp.outer(left, right)
    rounding = size <= (64 * jnp.finfo(values.dtype).eps) ** 2
    partial = (brain_model - shared) / jnp.sqrt(jnp.where(rounding, 1, size))
    known = jnp.isfinite(size) & jnp.isfinite(brain_model) & jnp.isfinite(values).all()
    return jnp.where(known, jnp.where(rounding, 0, partial), jnp.nan)


class MantelProblem(NamedTuple):
    """What all permutations share.

    brain: [P, S], pair by pair, so that one gather serves all subjects; columns of unit length.
    model: [L, P], residuals beyond the confounds, of unit length. basis: [C, P] of the confounds.
    """

    brain: Float[Array, "P S"]
    model: Float[Array, "L P"]
    basis: Float[Array, "C P"]


def mantel_problem(
    brain: Float[Array, "S P"],
    model: Float[Array, "L P"],
    confounds: Float[Array, "C P"],
    *,
    method: str = "spearman",
    permuted: str = "raw",
) -> MantelProblem:
    """Prepare `permuted_correlations`. Arguments as in `partial_correlations`.

    permuted: the subjects' RDMs as they are ("raw", Smouse et al.), or what the confounds leave of them
      ("residuals", of the null model). Without permutation both give the partial correlation.

    Raises: ValueError for unknown names.
    """
    if permuted not in PERMUTED:
        raise ValueError(f"permuted={permuted!r} is unknown: choose {' or '.join(PERMUTED)}")
    basis = confound_basis(confounds, method=method)
    vectors = unit_vectors(brain, method=method)
    if permuted == "residuals":
        vectors = residuals(vectors, basis)
    return MantelProblem(vectors.T, residuals(unit_vectors(model, method=method), basis), basis)


def permuted_correlations(
    problem: MantelProblem, permutation: Int[Array, " N"]
) -> Float[Array, "S L"]:
    """Partial correlations [S, L] with item permutation[i] of the brain in the place of item i [N].

    The identity gives those that were observed. No more than a tile of pairs is gathered at a time.
    """
    n_items, (n_pairs, _) = permutation.shape[0], problem.brain.shape
    rows = jnp.concatenate([problem.model, problem.basis])
    tile = min(_TILE, n_pairs)
    n_tiles = -(-n_pairs // tile)
    permutation = jnp.asarray(permutation, jnp.int32)
    padded = jnp.pad(rows, ((0, 0), (0, n_tiles * tile - n_pairs)))

    def add(total, start):
        pair = jnp.minimum(start + jnp.arange(tile, dtype=jnp.int32), n_pairs - 1)
        place = rsa.place_of_pair(pair, n_items)
        first, second = permutation[place // n_items], permutation[place % n_items]
        taken = problem.brain[_number_of_pair(first, second, n_items)]
        part = jax.lax.dynamic_slice_in_dim(padded, start, tile, axis=1)
        return total + linalg.matmul(part, taken), None

    zero = jnp.zeros((rows.shape[0], problem.brain.shape[1]), rows.dtype)
    starts = tile * jnp.arange(n_tiles, dtype=jnp.int32)
    products, _ = jax.lax.scan(add, zero, starts)
    n_layers = problem.model.shape[0]
    brain_squared = (problem.brain**2).sum(axis=0)  # one, or zero for a constant RDM
    left = brain_squared - (products[n_layers:] ** 2).sum(axis=0)
    rounding = left <= (64 * jnp.finfo(rows.dtype).eps) ** 2
    scale = jnp.where(rounding, 0, 1 / jnp.sqrt(jnp.where(rounding, 1, left)))
    return products[:n_layers].T * scale[:, None]


def _number_of_pair(i: Int[Array, "..."], j: Int[Array, "..."], n_items: int) -> Int[Array, "..."]:
    """Number of the pair of items i and j, in any order, in scipy's pdist order; int32."""
    low, high = jnp.minimum(i, j), jnp.maximum(i, j)
    return low * (2 * n_items - low - 1) // 2 + high - low - 1


class MantelTest(NamedTuple):
    """One-sided p-values of RSA: the more similar the RDMs, the smaller.

    observed: [S, L] partial correlations; p: [S, L] of each alone; p_max: [S, L] corrected over the
    subject's layers by the maximum over layers of each permutation. group, group_p, group_p_max: [L],
    the same for the mean over subjects.
    """

    observed: Float[Array, "S L"]
    p: Float[Array, "S L"]
    p_max: Float[Array, "S L"]
    group: Float[Array, " L"]
    group_p: Float[Array, " L"]
    group_p_max: Float[Array, " L"]


def mantel_test(observed: Float[Array, "S L"], null: Float[Array, "B S L"]) -> MantelTest:
    """p-values from observed [S, L] and null [B, S, L] partial correlations of the same permutations."""
    group, group_null = observed.mean(axis=0), null.mean(axis=1)
    return MantelTest(
        observed,
        inference.p_value(observed, null),
        max_statistic_p(observed, null),
        group,
        inference.p_value(group, group_null),
        max_statistic_p(group, group_null),
    )


def max_statistic_p(
    observed: Float[Array, "... L"], null: Float[Array, "B ... L"]
) -> Float[Array, "... L"]:
    """p-values [..., L] that hold for all layers at once, from null [B, ..., L].

    Each score is compared with the largest over the layers of each null draw: the chance that any layer
    scores so high is at most the p-value (Westfall & Young 1993). Layers must be on one scale.
    """
    return inference.p_value(observed, null.max(axis=-1, keepdims=True))
