"""Linear maps trained to find the right word among the others: RCSLS and symmetric InfoNCE.

Training takes full batches and no random numbers, and can be cut into pieces: `fit` is `init`, `advance`
and `result`, and several calls of `advance` give what one gives.

The losses and their references are in `retrieval_losses`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Shaped
from brainalign_jax.align.retrieval import retrieval, retrieval_losses

CHOICES = {
    "loss": ("rcsls", "infonce"),
    "constraint": ("none", "spectral"),
    "criterion": ("rank", "loss"),
    "optimizer": ("sgd", "adam"),
}


@dataclass(frozen=True)
class Training:
    """How a map is trained; hashable, a static argument of compiled functions.

    loss: "rcsls" or "infonce", see `retrieval_losses`.
    k: neighbours of RCSLS. temperature: of InfoNCE, divides the cosines.
    constraint: "spectral" keeps the singular values of the map at one or below (one SVD a step), the
      convex hull of the isometries in Joulin et al.; "none" is what they found to do better.
    n_steps: updates at most.
    patience: updates without a better criterion after which the training stops.
    criterion: what the map that is kept is best in: "rank", the mean rank of the validation rows' true
      targets by cosine among the targets of training and validation rows, or "loss", the loss over the
      validation rows alone.
    optimizer, learning_rate, momentum: "sgd" (with Nesterov momentum) or "adam" (momentum is its b1). The
      initial map is scaled so that predictions have a root mean square length of one.
    """

    loss: str = "infonce"
    k: int = 10
    temperature: float = 0.1
    constraint: str = "none"
    n_steps: int = 100
    patience: int = 20
    criterion: str = "rank"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(known)}"
                )
        for name in ("k", "n_steps", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("temperature", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum} must be at least 0 and below 1")

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser of optax."""
        if self.optimizer == "adam":
            return optax.adam(self.learning_rate, b1=self.momentum)
        return optax.sgd(self.learning_rate, momentum=self.momentum, nesterov=True)


class LinearMap(NamedTuple):
    """x -> (x - source_mean) @ weight + target_mean: the direction counts, its length means nothing.

    weight: [V, D]; source_mean: [V]; target_mean: [D]; best_step: scalar, updates behind the map;
    history: [n_steps + 1], criterion after so many updates, NaN after the stop or without validation rows.
    """

    weight: Float[Array, "V D"]
    source_mean: Float[Array, " V"]
    target_mean: Float[Array, " D"]
    best_step: Int[Array, ""]
    history: Float[Array, " n_steps+1"]


class TrainingState(NamedTuple):
    """A training that can be continued.

    weight: [V, D] after `step` updates, not yet judged; optimizer: state of optax; stop: updates at most;
    best_weight, best_criterion, best_step: of the best map so far; history: [n_steps + 1].
    """

    weight: Float[Array, "V D"]
    optimizer: optax.OptState
    step: Int[Array, ""]
    stop: Int[Array, ""]
    best_weight: Float[Array, "V D"]
    best_criterion: Float[Array, ""]
    best_step: Int[Array, ""]
    history: Float[Array, " n_steps+1"]


class _Rows(NamedTuple):
    """Centred rows of unit length, source [N, V] and target [N, D], and their masks [N]."""

    source: Float[Array, "N V"]
    target: Float[Array, "N D"]
    train: Float[Array, " N"]
    validation: Float[Array, " N"]


def fit(
    source: Float[Array, "..."],
    target: Float[Array, "..."],
    weights: Shaped[Array, "..."],
    validation: Shaped[Array, "..."],
    initial: Float[Array, "..."],
    *,
    training: Training,
) -> LinearMap:
    """Train a map on the rows that have weight and keep the one that does best on the validation rows.

    Both sides are centred by the means of the training rows and each row is brought to unit length.
    Rows of equal targets compete with one another: give one row a word.

    Args:
      source: [N, V]; target: [N, D]; row i of one belongs to row i of the other.
      weights: [N] training mask. validation: [N] mask of the inner split; its rows are left out of
        the training in any case. Without any validation row the last map is kept. Rows in neither may
        hold anything.
      initial: [V, D] map to start from, such as that of ridge or Procrustes, for centred rows; zero
        will not do for InfoNCE, where the direction of the predictions is all that counts.

    Raises: ValueError if k exceeds N or shapes disagree.
    """
    state = init(source, target, weights, validation, initial, training=training)
    state = advance(
        state,
        source,
        target,
        weights,
        validation,
        training=training,
        n_steps=training.n_steps + 1,
    )
    return result(state, source, target, weights, validation)


def init(
    source: Float[Array, "..."],
    target: Float[Array, "..."],
    weights: Shaped[Array, "..."],
    validation: Shaped[Array, "..."],
    initial: Float[Array, "..."],
    *,
    training: Training,
    stop: Int[Array, ""] | int | None = None,
) -> TrainingState:
    """A training that has not begun. Arguments and errors as in `fit`.

    stop: scalar, updates at most, where fewer than training.n_steps (the default), such as a number
      found by cross-validation; may be traced.
    """
    n, width = source.shape
    if training.loss == "rcsls" and training.k > n:
        raise ValueError(f"RCSLS with k={training.k} neighbours has only {n} rows: lower k")
    if target.shape[0] != n or initial.shape != (width, target.shape[1]):
        raise ValueError(
            f"source {source.shape}, target {target.shape} and initial map {initial.shape} do not fit "
            f"together: they must be [N, V], [N, D] and [V, D]"
        )
    rows = _rows(source, target, weights, validation)
    square = (linalg.matmul(rows.source, initial) ** 2).sum(axis=1)
    size = jnp.sqrt(linalg.weighted_mean(square[:, None], rows.train)[0])
    weight = _constrained(linalg.divided(initial, size), training)
    # No map is better than one whose rows are no numbers, and the initial one would be kept.
    known = jnp.isfinite(rows.source).all() & jnp.isfinite(rows.target).all()
    weight = jnp.where(known, weight, jnp.nan)
    stop = jnp.asarray(training.n_steps if stop is None else stop, jnp.int32)
    zero = jnp.zeros_like(stop)
    return TrainingState(
        weight=weight,
        optimizer=training.transformation().init(weight),
        step=zero,
        stop=jnp.minimum(stop, training.n_steps),
        best_weight=weight,
        best_criterion=jnp.asarray(jnp.inf, source.dtype),
        best_step=zero,
        history=jnp.full(training.n_steps + 1, jnp.nan, source.dtype),
    )


def advance(
    state: TrainingState,
    source: Float[Array, "N V"],
    target: Float[Array, "N D"],
    weights: Shaped[Array, " N"],
    validation: Shaped[Array, " N"],
    *,
    training: Training,
    n_steps: int | Int[Array, ""],
) -> TrainingState:
    """Judge and update the map n_steps times, or until the training stops. Arguments as in `init`.

    n_steps may be traced. A training takes training.n_steps + 1 judgements at most; a finished one is
    returned as it is.
    """
    rows = _rows(source, target, weights, validation)
    optimizer = training.transformation()
    judged = rows.validation.sum() > 0
    end = state.step + n_steps

    def objective(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = _scores(rows, weight, training)
        return _loss(scores, rows.train, training), _criterion(scores, rows, training)

    def goes_on(state: TrainingState) -> jax.Array:
        patient = state.step - state.best_step <= training.patience
        return (state.step < end) & (state.step <= state.stop) & patient

    def update(state: TrainingState) -> TrainingState:
        gradient, criterion = jax.grad(objective, has_aux=True)(state.weight)
        # optax mixes a Python float and an integer count, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.weight)
        criterion = jnp.where(judged, criterion, jnp.nan)
        better = ~judged | (criterion < state.best_criterion)
        return state._replace(
            weight=_constrained(optax.apply_updates(state.weight, updates), training),
            optimizer=optimizer_state,
            step=state.step + 1,
            best_weight=jnp.where(better, state.weight, state.best_weight),
            best_criterion=jnp.where(better, criterion, state.best_criterion),
            best_step=jnp.where(better, state.step, state.best_step),
            history=state.history.at[state.step].set(criterion),
        )

    return jax.lax.while_loop(goes_on, update, state)


def result(
    state: TrainingState,
    source: Float[Array, "N V"],
    target: Float[Array, "N D"],
    weights: Shaped[Array, " N"],
    validation: Shaped[Array, " N"],
) -> LinearMap:
    """The best map that a training has judged so far. Arguments as in `init`."""
    train, _ = _masks(weights, validation, source.dtype)
    return LinearMap(
        state.best_weight,
        linalg.weighted_mean(source, train),
        linalg.weighted_mean(target, train),
        state.best_step,
        state.history,
    )


def apply(map: LinearMap, source: Float[Array, "M V"]) -> Float[Array, "M D"]:
    """Predicted targets [M, D] for the rows of source [M, V], to be compared by centred cosine."""
    return linalg.matmul(source - map.source_mean, map.weight) + map.target_mean


def _masks(
    weights: Shaped[Array, " N"], validation: Shaped[Array, " N"], dtype
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """(training rows, validation rows) [N]: a row of both is not trained on."""
    validation = linalg.training_mask(validation, dtype)
    return linalg.training_mask(weights, dtype) * (1 - validation), validation


def _rows(source, target, weights, validation) -> _Rows:
    train, validation = _masks(weights, validation, source.dtype)

    def unit(x: jax.Array) -> jax.Array:
        return _unit(linalg.masked_rows(x - linalg.weighted_mean(x, train), train + validation))

    return _Rows(unit(source), unit(target), train, validation)


def _unit(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Rows of unit length; zero rows stay zero, and their gradient is finite."""
    square = (x**2).sum(axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _scores(rows: _Rows, weight: Float[Array, "V D"], training: Training) -> Float[Array, "N N"]:
    """[N, N] scores of predictions and targets, as the loss takes them."""
    predicted = linalg.matmul(rows.source, weight)
    if training.loss == "infonce":
        predicted = _unit(predicted) / training.temperature
    return linalg.matmul(predicted, rows.target.T)


def _loss(
    scores: Float[Array, "N N"], mask: Float[Array, " N"], training: Training
) -> Float[Array, ""]:
    if training.loss == "rcsls":
        return retrieval_losses.rcsls(scores, mask, k=training.k)
    return retrieval_losses.infonce(scores, mask)


def _criterion(scores: Float[Array, "N N"], rows: _Rows, training: Training) -> Float[Array, ""]:
    scores = jax.lax.stop_gradient(scores)
    if training.criterion == "loss":
        return _loss(scores, rows.validation, training)
    # Within a row the order by inner product with unit targets is that by cosine.
    known = (rows.train + rows.validation) > 0
    scores = jnp.where(known[None, :], scores, -jnp.inf)
    ranks = retrieval.ranks(scores, jnp.arange(scores.shape[0], dtype=jnp.int32))
    return retrieval_losses.masked_mean(ranks, rows.validation)


def _constrained(weight: Float[Array, "V D"], training: Training) -> Float[Array, "V D"]:
    """The nearest map within the constraint."""
    if training.constraint == "none":
        return weight
    left, singular, right = jnp.linalg.svd(weight, full_matrices=False)
    return linalg.matmul(left * jnp.minimum(singular, 1), right)
