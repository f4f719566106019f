"""RDMs that are weighted sums of component RDMs: weights of zero or more, scored on other words.

A model has several RDMs, such as one a layer. Of squared distances their sum with weights w >= 0 is the RDM
of the vectors side by side, each times the root of its weight. The weights are those of least squares in the
form in which two RDMs are compared: distances less their mean for Pearson (and for Spearman, as ranks of a
sum are no sum of ranks), as they are for the cosine, in units of their noise for `whitened.COMPARISONS`.

Fitted and scored are pairs of different words: both in the training set, or both in the test set. A pair of a
training and a test word shares the noise of the former with what was fitted, and is neither.

References: Khaligh-Razavi & Kriegeskorte (2014), PLoS Comput. Biol. 10:e1003915; Lawson & Hanson (1974),
Solving Least Squares Problems; Bro & de Jong (1997), J. Chemometrics 11:393-401; rsatoolbox, model/fitter.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Bool, Float, Shaped
from brainalign_jax.align.rsa import whitened
from brainalign_jax.align.rsa.pairs import square_form

COMPARISONS = ("pearson", "spearman", "cosine", *whitened.COMPARISONS)


def nonnegative_weights(
    gram: Float[Array, "C C"], products: Float[Array, " C"]
) -> Float[Array, " C"]:
    """Weights w >= 0 [C] that minimise w' G w / 2 - w' b, by an active set.

    Args:
      gram: [C, C] inner products of the components, G.
      products: [C] theirs with what is fitted, b.

    Components of no length have weight 0. Where some are alike but for rounding, the fit is determined and
    the weights are not.

    >>> import jax.numpy as jnp
    >>> nonnegative_weights(jnp.eye(3), jnp.array([2.0, -1.0, 0.5])).tolist()
    [2.0, 0.0, 0.5]
    """
    n_components = len(products)
    eps = jnp.finfo(gram.dtype).eps
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0))
    # In units of their lengths: what is small among them is then small in each.
    scaled = linalg.divided(linalg.divided(gram, lengths[:, None]), lengths)
    scaled = scaled + 4 * n_components * eps * jnp.eye(n_components, dtype=gram.dtype)
    target = jnp.where(lengths > 0, linalg.divided(products, lengths), 0)
    least = 16 * n_components * eps * jnp.abs(target).max()

    def solved(passive: Bool[Array, " C"]) -> Float[Array, " C"]:
        both = passive[:, None] & passive
        system = jnp.where(both, scaled, jnp.eye(n_components, dtype=gram.dtype))
        factor = jax.scipy.linalg.cho_factor(system)
        return jax.scipy.linalg.cho_solve(factor, jnp.where(passive, target, 0))

    def unfinished(state) -> Bool[Array, ""]:
        _, _, finished, count = state
        return ~finished & (count < 10 * (n_components + 1))

    def step(state):
        weights, passive, _, count = state
        wanted = solved(passive)
        below = passive & (wanted <= 0)
        inside = ~below.any()
        # As far toward what is wanted as no weight becomes negative; the first that would be leaves.
        share = jnp.where(
            below, linalg.ratio(weights, weights - wanted, weights <= wanted), jnp.inf
        )
        first = share.min()
        moved = weights + jnp.where(inside, 1, jnp.minimum(first, 1)) * (wanted - weights)
        stays = passive & ~(below & (share <= first))
        weights = jnp.where(stays, jnp.maximum(moved, 0), 0)
        slope = jnp.where(stays, -jnp.inf, target - linalg.matmul(scaled, weights))
        finished = inside & (slope.max() <= least)
        enters = inside & ~finished & (jnp.arange(n_components) == slope.argmax())
        return weights, stays | enters, finished, count + 1

    start = jnp.zeros_like(target), jnp.zeros(n_components, bool), jnp.array(False), 0
    weights = jax.lax.while_loop(unfinished, step, start)[0]
    return linalg.divided(weights, lengths)


def projected(
    square: Float[Array, "N N"],
    words: Shaped[Array, " N"],
    *,
    method: str,
    precision: Float[Array, "N N"] | None = None,
) -> Float[Array, "N N"]:
    """Q D [N, N] of dissimilarities D [N, N], whose diagonal is zero.

    The product of RDMs D and E in the form that `method` compares is the sum of D times Q E, entry by entry.

    Args:
      words: [N] mask of the words that count; rows and columns of the others are zero in Q D.
      method: one of COMPARISONS; Spearman is fitted as Pearson.
      precision: `contrast_precision` of the words' noise, for `whitened.COMPARISONS`; None for equal noise.
    """
    mask, pairs = _masks(words, square.dtype)
    if method in ("pearson", "spearman"):
        return _less_mean(square, words)
    if method == "cosine":
        return square * pairs
    inner = _less_mean(square, words) if method == "corr_cov" else square * pairs
    if precision is not None:
        inner = linalg.matmul(linalg.matmul(precision, inner), precision)
    else:
        n_words = jnp.maximum(mask.sum(), 1)
        rows = inner.sum(axis=1) / n_words
        inner = (
            inner
            - rows[:, None] * mask
            - mask[:, None] * rows
            + (rows.sum() / n_words) * mask[:, None] * mask
        )
    return _less_mean(inner, words) if method == "corr_cov" else inner


def _masks(words: Shaped[Array, " N"], dtype) -> tuple[Float[Array, " N"], Float[Array, "N N"]]:
    """Ones for the words [N] that count, and for their pairs [N, N]."""
    mask = (words.astype(dtype) > 0).astype(dtype)
    return mask, mask[:, None] * mask * (1 - jnp.eye(len(mask), dtype=dtype))


def _less_mean(x: Float[Array, "N N"], words: Shaped[Array, " N"]) -> Float[Array, "N N"]:
    """x less the mean of the words' pairs; zero elsewhere, and where they do not vary but for rounding."""
    _, pairs = _masks(words, x.dtype)
    n_pairs = jnp.maximum(pairs.sum(), 1)
    x = x * pairs
    centred = (x - x.sum() / n_pairs) * pairs
    centred = (centred - centred.sum() / n_pairs) * pairs  # what rounding left of the mean
    constant = jnp.abs(centred).max() <= 8 * jnp.finfo(x.dtype).eps * jnp.abs(x).max()
    return jnp.where(constant, 0, centred)


def contrast_precision(
    noise: Float[Array, "..."], words: Shaped[Array, " N"]
) -> Float[Array, "N N"]:
    """Inverse [N, N] of the words' noise within their contrasts; zero for the words [N] that do not count.

    noise: [N] variances or [N, N] covariance. S^-1 - S^-1 1 1' S^-1 / (1' S^-1 1), with S its part of those
    words.
    """
    noise = jnp.diag(noise) if noise.ndim == 1 else noise
    mask = (words.astype(noise.dtype) > 0).astype(noise.dtype)
    both = mask[:, None] * mask
    inverse = jnp.linalg.inv(noise * both + jnp.diag(1 - mask)) * both
    column = inverse.sum(axis=1)
    return inverse - column[:, None] * linalg.divided(column, column.sum())


class Components(NamedTuple):
    """Component RDMs [C, N, N] with their products in the training and test words of each fold [F, C, C]."""

    squares: Float[Array, "C N N"]
    train: Float[Array, "F C C"]
    test: Float[Array, "F C C"]


def factor(
    squares: Float[Array, "C N N"],
    train: Shaped[Array, "F N"],
    test: Shaped[Array, "F N"],
    *,
    method: str,
    noise: Float[Array, "..."] | None = None,
) -> Components:
    """What every target that components [C, N, N] are fitted to shares.

    Args:
      train, test: [F, N] masks of words; no word may be in both of a fold.
      noise: [N] variances or [N, N] covariance of the words' noise, for `whitened.COMPARISONS`.

    Raises: ValueError for an unknown method, or noise of other words.
    """
    check_comparison(method)
    if noise is not None:
        whitened.check_items(noise, squares.shape[-1])

    def products(words: Shaped[Array, " N"]) -> Float[Array, "C C"]:
        precision = None if noise is None else contrast_precision(noise, words)
        # Less their means on both sides: the Gram matrix is then that of vectors but for its own rounding.
        means = method not in ("cosine", "cosine_cov")
        less = (lambda square: _less_mean(square, words)) if means else (lambda square: square)
        flat = jax.lax.map(less, squares).reshape(len(squares), -1)

        def row(square: Float[Array, "N N"]) -> Float[Array, " C"]:
            form = projected(square, words, method=method, precision=precision)
            return linalg.matmul(flat, form.reshape(-1))

        gram = jax.lax.map(row, squares)
        return (gram + gram.T) / 2

    return Components(squares, jax.lax.map(products, train), jax.lax.map(products, test))


class Fit(NamedTuple):
    """weights: [F, C] of each fold; similarity: [F] of their sum with the target in the test words."""

    weights: Float[Array, "F C"]
    similarity: Float[Array, " F"]


def apply(
    components: Components,
    target: Float[Array, "N N"],
    train: Shaped[Array, "F N"],
    test: Shaped[Array, "F N"],
    *,
    method: str,
    noise: Float[Array, "..."] | None = None,
) -> Fit:
    """Weights by the training words of each fold, and how alike their sum is to the target in the test words.

    Args:
      target: [N, N] dissimilarities, with a diagonal of zeros.
      train, test, method, noise: as in `factor`. Spearman's similarity is here that of Pearson: its ranks are
        taken of `weighted_sum`.

    Where no weight is above zero, or one side does not vary, the similarity is 0.
    """
    flat = components.squares.reshape(len(components.squares), -1)

    def product(words: Shaped[Array, " N"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        precision = None if noise is None else contrast_precision(noise, words)
        form = projected(target, words, method=method, precision=precision)
        return linalg.matmul(flat, form.reshape(-1)), (target * form).sum()

    def of_fold(fold) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        train_words, test_words, train_gram, test_gram = fold
        weights = nonnegative_weights(train_gram, product(train_words)[0])
        products, square = product(test_words)
        length = linalg.matmul(linalg.matmul(weights, test_gram), weights)
        size = jnp.sqrt(jnp.maximum(length, 0)) * jnp.sqrt(jnp.maximum(square, 0))
        return weights, linalg.ratio(linalg.matmul(weights, products), size, size <= 0)

    folds = train, test, components.train, components.test
    return Fit(*jax.lax.map(of_fold, folds))


def fit(
    components: Float[Array, "..."],
    target: Float[Array, "..."],
    *,
    method: str = "pearson",
    noise: Float[Array, "..."] | None = None,
) -> Float[Array, " C"]:
    """Weights [C] of components [C, P] of which the sum is nearest to the target [P], all condensed RDMs.

    Args:
      method: one of COMPARISONS (rsatoolbox: "corr" for "pearson", which Spearman is fitted as).
      noise: [N] variances or [N, N] covariance of the words' noise, for `whitened.COMPARISONS`.

    Raises: ValueError for an unknown method, a target of other pairs, or noise of other words.

    >>> import jax
    >>> rdms = jax.random.uniform(jax.random.key(0), (3, 45))
    >>> fit(rdms, 2 * rdms[0] + rdms[2]).round(2).tolist()
    [2.0, 0.0, 1.0]
    """
    if components.ndim != 2 or components.shape[1:] != target.shape:
        raise ValueError(
            f"components {components.shape} and target {target.shape} cover different pairs: give "
            "[components, pairs] and [pairs]"
        )
    squares, square = jax.vmap(square_form)(components), square_form(target)
    words = jnp.ones((1, len(square)), square.dtype)
    known = factor(squares, words, words, method=method, noise=noise)
    return apply(known, square, words, words, method=method, noise=noise).weights[0]


def weighted_sum(
    components: Float[Array, "C ..."], weights: Float[Array, " C"]
) -> Float[Array, "..."]:
    """The RDM of the weights [C] and components [C, ...]."""
    return jnp.tensordot(weights, components, axes=1, precision="highest")


def check_comparison(method: str) -> None:
    """Raises: ValueError for a comparison that no weights are fitted for."""
    if method not in COMPARISONS:
        raise ValueError(
            f"weights of RDMs are fitted for {', '.join(COMPARISONS)}, not {method!r}: choose one of these"
        )
