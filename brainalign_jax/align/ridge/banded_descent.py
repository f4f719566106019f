"""Banded ridge by gradient descent on the log scales of the groups, for each target on its own.

It refines what `banded_search.search` found, or starts from equal scales. A gradient costs one Cholesky
factorisation a fold and target, since every target has a kernel of its own: a few hundred targets of
a thousand words are minutes on a CPU, where the random search is seconds for ten thousand.

Reference: Dupré la Tour et al. (2022), NeuroImage 264, for the hyper-gradient of the same objective.
"""

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import cho_factor, cho_solve

from brainalign_jax.align.array_types import Array, Float, Shaped
from brainalign_jax.align.ridge import banded_ridge, banded_search
from brainalign_jax.align.ridge.banded_ridge import BandedRidge

_LOWEST = -9.0  # log of the smallest scale to start from, relative to the largest


def descend(
    grams: Float[Array, "..."],
    targets: Float[Array, "N T"],
    train: Shaped[Array, "..."],
    test: Shaped[Array, "..."],
    log_deltas: Float[Array, "G T"],
    errors: Float[Array, " T"] | None = None,
    *,
    n_steps: int = 50,
    learning_rate: float | Float[Array, ""] = 0.3,
    n_train: int | None = None,
    n_test: int | None = None,
    fit_intercept: bool = True,
    score: str = "mse",
    target_batch: int = 1,
) -> tuple[Float[Array, "G T"], Float[Array, " T"]]:
    """Minimise the cross-validated error over log(gamma / alpha) by Adam; the best iterate of each target.

    Args:
      grams, targets, train, test, n_train, n_test, fit_intercept, score: as in `banded_search.search`.
      log_deltas: [G, T] to start from. -inf (a group without weight) and +inf (alpha zero) have no
        gradient: the descent starts from a small scale and a small alpha instead.
      errors: [T] cross-validated errors known of log_deltas. The start is returned unchanged where no
        iterate is better, so the result is never worse. None: the first iterate's error is computed.
      n_steps: evaluations of error and gradient, the first at the start.
      learning_rate: about the change of a log scale in a step.
      target_batch: targets at a time; each holds a few n_train x n_train matrices.

    Returns: log_deltas [G, T] and errors [T].

    Raises: ValueError on shapes that do not fit, an unknown score or less than one step.
    """
    dtype = targets.dtype
    banded_search.check_shapes(grams, targets, train, test, log_deltas.T, score)
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps} must be at least 1")
    folds = banded_search.fold_rows(train, test, dtype, n_train=n_train, n_test=n_test)
    if errors is None:
        errors = jnp.full(targets.shape[1], jnp.inf, dtype)
    # 1 / delta no smaller than the rounding of the group's own kernel
    trace = jnp.trace(grams, axis1=1, axis2=2)
    smallest = jnp.finfo(dtype).eps * jnp.where(trace > 0, trace, 1)
    highest = -jnp.log(smallest)
    optimiser = optax.adam(learning_rate)
    rows = banded_search.fitted_rows(train, test, dtype)

    def descend_target(problem):
        target, known, start = problem

        def objective(log_delta):
            return _cv_error(
                grams, target, folds, log_delta, fit_intercept=fit_intercept, score=score
            )

        first = jnp.minimum(start, highest)
        first = jnp.maximum(first, first.max() + _LOWEST)
        # Adam is blind to the unit of the error but for its epsilon, which a gradient must not sink below.
        unit = jnp.maximum((target**2).mean(where=rows > 0), jnp.finfo(dtype).tiny)
        unit = unit if score == "mse" else jnp.ones_like(unit)

        def step(state, _):
            log_delta, moments, best, best_error = state
            error, gradient = jax.value_and_grad(objective)(log_delta)
            better = error < best_error  # never where a factorisation failed: the error is NaN
            best = jnp.where(better, log_delta, best)
            best_error = jnp.where(better, error, best_error)
            gradient = jnp.where(jnp.isfinite(gradient), gradient / unit, 0)
            with jax.numpy_dtype_promotion(
                "standard"
            ):  # optax raises a float to an integer's power
                update, moments = optimiser.update(gradient, moments)
            log_delta = jnp.minimum(optax.apply_updates(log_delta, update), highest)
            return (log_delta, moments, best, best_error), None

        state = (first, optimiser.init(first), start, known)
        (_, _, best, best_error), _ = jax.lax.scan(step, state, None, length=n_steps)
        return best, best_error

    problems = targets.T, errors.astype(dtype), log_deltas.T.astype(dtype)
    best, errors = jax.lax.map(descend_target, problems, batch_size=target_batch)
    return best.T, errors


def _cv_error(grams, target, folds, log_delta, *, fit_intercept: bool, score: str) -> Array:
    """Cross-validated error of one target [N] at log_delta [G], with the gradient by implicit functions."""
    scales = jnp.exp(log_delta)
    alpha = 1 / scales.sum()
    kernel = jnp.tensordot(scales * alpha, grams, 1, precision="highest")
    options = dict(fit_intercept=fit_intercept)

    def fold_error(fold):
        block, across = banded_search.fold_blocks(kernel, fold, **options)
        y, held_out, scale = banded_search.fold_targets(
            target[:, None], fold, **options, score=score
        )
        system = block + alpha * jnp.eye(len(block), dtype=block.dtype)
        factor, _ = cho_factor(jax.lax.stop_gradient(system), lower=True)
        dual = jax.lax.custom_linear_solve(
            lambda x: jnp.matmul(system, x, precision="highest"),
            y,
            lambda _, b: cho_solve((factor, True), b),
            symmetric=True,
        )
        predicted = jnp.matmul(across, dual, precision="highest")
        squared = ((held_out - predicted) ** 2).sum(axis=0)
        return banded_search.scaled_error(squared, scale)[0]

    return jax.lax.map(fold_error, folds).mean()


def descent(
    grams: Float[Array, "G N N"],
    targets: Float[Array, "N T"],
    train: Shaped[Array, "F N"],
    test: Shaped[Array, "F N"],
    start: BandedRidge,
    *,
    fit_intercept: bool = True,
    **options,
) -> BandedRidge:
    """`descend` from a fit, and a refit of the targets that it improved. Arguments as in `descend`."""
    options = dict(options, fit_intercept=fit_intercept)
    log_deltas, errors = descend(
        grams, targets, train, test, start.log_deltas, start.errors, **options
    )
    improved = errors < start.errors
    gammas = jnp.where(improved, jax.nn.softmax(log_deltas, axis=0), start.gammas)
    alphas = jnp.where(improved, jnp.exp(-jax.nn.logsumexp(log_deltas, axis=0)), start.alphas)
    return banded_ridge.refit(
        grams,
        targets,
        banded_search.fitted_rows(train, test, targets.dtype),
        gammas.T,
        jnp.arange(targets.shape[1]),
        alphas,
        errors,
        fit_intercept=fit_intercept,
        target_batch=1,
    )
