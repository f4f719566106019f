"""Representational similarity analysis: distance matrices over items and their comparison.

Reference: Kriegeskorte, Mur & Bandettini (2008), Front. Syst. Neurosci. 2:4; Nili et al. (2014) for
Kendall's tau-a; `rsa.whitened` for the comparisons that know of the distances' noise.
"""

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float
from brainalign_jax.align.retrieval import ranking
from brainalign_jax.align.retrieval.ranking import rank as rank
from brainalign_jax.align.rsa import whitened
from brainalign_jax.align.rsa.pairs import pair_places
from brainalign_jax.align.rsa.pairs import place_of_pair as place_of_pair

METRICS = ("correlation", "cosine", "euclidean", "spearman")
COMPARISONS = ("pearson", "spearman", "kendall_tau_a", *whitened.COMPARISONS)
MOST_ITEMS = 46_340  # of which an int32 can count the pairs, twice over


def rdm(x: Float[Array, "N D"], *, metric: str = "correlation") -> Float[Array, " P"]:
    """Distances between the rows of x [N, D], condensed [N (N - 1) / 2] in scipy's pdist order.

    metric: "correlation" (1 - Pearson), "cosine", "euclidean" or "spearman" (1 - Spearman). A
    constant row (a zero row for cosine) has similarity 0 with every other; one that holds NaN or an
    infinity has none.

    Raises: ValueError for an unknown metric, fewer than two rows or more than MOST_ITEMS.
    """
    check_metric(metric)
    check_items(x.shape[0])
    pairs = pair_places(x.shape[0])
    if metric == "euclidean":
        # From differences: the Gram matrix would lose the distances of near duplicates.
        distances = jax.lax.map(lambda row: jnp.linalg.norm(x - row, axis=1), x)
        return distances.reshape(-1)[pairs]
    if exact_ranks(x, metric=metric):
        rows = doubled_ranks(x)
        squares = (rows**2).sum(axis=1)
        return rank_distances(linalg.gram(rows), squares, squares).reshape(-1)[pairs]
    return 1 - linalg.gram(unit_rows(x, metric=metric)).reshape(-1)[pairs]


def exact_ranks(x: Float[Array, "N D"], *, metric: str) -> bool:
    """Whether `rank_distances` gives the distances of rows x [N, D] from sums of integers without rounding.

    Rank correlations of few features take few values. With rows of unit length each would come out as
    several, and the ties between distances be broken by rounding. Up to 369 features in float32.
    """
    return metric == "spearman" and x.shape[1] ** 3 <= 3 * 2 ** (jnp.finfo(x.dtype).nmant + 1)


def doubled_ranks(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Twice the ranks within each row of x [N, D], less D + 1: integers; NaN as in `unit_rows`."""
    x = jnp.where(jnp.isfinite(x).all(axis=1, keepdims=True), x, jnp.nan)
    return jnp.round(ranking.centred_rank(x) * x.shape[1])


def rank_distances(
    products: Float[Array, "N M"], first: Float[Array, " N"], second: Float[Array, " M"]
) -> Float[Array, "N M"]:
    """1 - Spearman [N, M] from the inner products of `doubled_ranks` and sums of squares [N] and [M].

    Equal correlations give equal distances: p^2 / (a b) is rounded once where there are at most 23
    features in float32, and a function of p alone where no feature is tied within its row.
    """
    both = first[:, None] * second
    constant = both == 0
    similarity = jnp.sqrt(products**2 / jnp.where(constant, 1, both))
    return 1 - jnp.where(constant, 0, jnp.sign(products) * similarity)


def check_metric(metric: str) -> None:
    """Raises: ValueError for a metric that is none of METRICS."""
    if metric not in METRICS:
        raise ValueError(f"unknown RDM metric {metric!r}: choose one of {', '.join(METRICS)}")


def check_items(n_items: int) -> None:
    """Raises: ValueError for a number of items that no RDM is made of here."""
    if not 2 <= n_items <= MOST_ITEMS:
        raise ValueError(f"an RDM needs at least two rows and at most {MOST_ITEMS}, not {n_items}")


def check_comparison(method: str) -> None:
    """Raises: ValueError for a comparison that is none of COMPARISONS."""
    if method not in COMPARISONS:
        raise ValueError(f"unknown comparison {method!r}: choose one of {', '.join(COMPARISONS)}")


def unit_rows(x: Float[Array, "N D"], *, metric: str) -> Float[Array, "N D"]:
    """Rows of x [N, D] scaled so that their inner products are the similarity of `metric`.

    A row that holds NaN or an infinity is NaN.
    """
    x = jnp.where(jnp.isfinite(x).all(axis=1, keepdims=True), x, jnp.nan)
    if metric == "spearman":
        x = ranking.centred_rank(x)
    elif metric != "cosine":
        mean = x.mean(axis=1, keepdims=True)
        scale = jnp.abs(x).max(axis=1, keepdims=True)
        x = x - mean
        # A constant row leaves rounding behind, which must not be blown up to unit length.
        constant = jnp.abs(x).max(axis=1, keepdims=True) <= 8 * jnp.finfo(x.dtype).eps * scale
        x = jnp.where(constant, 0, x)
    return linalg.unit_rows(x)


def compare(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    *,
    method: str = "spearman",
    noise: Float[Array, "..."] | None = None,
) -> Float[Array, ""]:
    """Similarity of two condensed RDMs [P]: Pearson, Spearman, Kendall's tau-a (ties score 0), or whitened.

    noise: [N] variances or [N, N] covariance of the items' noise (rsatoolbox: sigma_k), for the whitened.

    Tau-a takes P^2 time and P memory. A constant RDM compares as 0, one that holds NaN or an infinity as
    NaN. Raises: ValueError.
    """
    check_comparison(method)
    if a.shape != b.shape:
        raise ValueError(f"the RDMs cover different pairs: {a.shape} and {b.shape}")
    check_noise(noise, method=method)
    if method == "kendall_tau_a":
        return _tau_a(a, b)
    first, second = (comparison_vector(rdm, method=method, noise=noise) for rdm in (a, b))
    return jnp.vdot(first, second)


def check_noise(noise: Float[Array, "..."] | None, *, method: str) -> None:
    """Raises: ValueError for noise of items where a comparison takes none."""
    if noise is not None and method not in whitened.COMPARISONS:
        raise ValueError(
            f"{method} takes no noise of the items: compare by {' or '.join(whitened.COMPARISONS)}, or leave "
            "it out"
        )


def _tau_a(a: Float[Array, " P"], b: Float[Array, " P"]) -> Float[Array, ""]:
    size = a.shape[0]

    def concordance(i):
        return jnp.sum(jnp.sign(a[i] - a) * jnp.sign(b[i] - b))

    total = jax.lax.map(concordance, jnp.arange(size), batch_size=min(size, 64)).sum()
    return total / size / (size - 1)


def comparison_vector(
    rdm: Float[Array, " P"], *, method: str, noise: Float[Array, "..."] | None = None
) -> Float[Array, " Q"]:
    """Vector [P] of an RDM that `compare_vectors` takes: each RDM is centred or ranked once.

    Of unit length for Pearson and Spearman, which are inner products of such vectors, as for those of
    `whitened.COMPARISONS`, where it is a matrix [N N], in units of the items' noise if it is given; the RDM
    itself for tau-a.
    """
    if method in whitened.COMPARISONS:
        return whitened.unit_matrix(rdm, method=method, noise=noise).reshape(-1)
    if method == "kendall_tau_a":
        return rdm
    return unit_rows(rdm[None, :], metric="correlation" if method == "pearson" else "spearman")[0]


def compare_vectors(
    sources: Float[Array, "S P"], targets: Float[Array, "L P"], *, method: str
) -> Float[Array, "S L"]:
    """`compare` [S, L] of each of sources [S, P] with each of targets [L, P], `comparison_vector`s."""
    if method == "kendall_tau_a":
        return jax.lax.map(lambda a: jax.lax.map(lambda b: _tau_a(a, b), targets), sources)
    return linalg.matmul(sources, targets.T)


def scores(
    sources: Float[Array, "..."],
    targets: Float[Array, "..."],
    *,
    metric: str = "correlation",
    method: str = "spearman",
    noise: Float[Array, "..."] | None = None,
) -> Float[Array, "S L"]:
    """RSA [S, L]: the RDM of each of sources [S, N, V] compared with that of each of targets [L, N, D].

    Each RDM is computed and ranked once. All condensed RDMs are in memory: `rsa_tiles.scores` bounds
    that, and keeps more cores busy. noise: as in `compare`. Raises: ValueError.
    """
    check_scores(sources, targets, metric=metric, method=method)
    check_noise(noise, method=method)

    def vector(x):
        return comparison_vector(rdm(x, metric=metric), method=method, noise=noise)

    return compare_vectors(
        jax.lax.map(vector, sources), jax.lax.map(vector, targets), method=method
    )


def check_scores(sources, targets, *, metric: str, method: str) -> None:
    """Raises: ValueError for unknown names, or stacks that do not hold the same two or more items."""
    check_metric(metric)
    check_comparison(method)
    if sources.ndim != 3 or targets.ndim != 3 or sources.shape[1] != targets.shape[1]:
        raise ValueError(
            "RSA compares sources [S, N, V] with targets [L, N, D] over the same N items, not "
            f"{sources.shape} with {targets.shape}"
        )
    check_items(sources.shape[1])
