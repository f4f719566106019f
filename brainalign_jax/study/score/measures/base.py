"""What a measure of similarity is: one number of a subject's responses and a layer's vectors, no map fitted.

Nothing is learnt, so that there are no folds, no tested words and no ranks: all words are compared at once.
Each side is first made into what is compared (`represent`), once for all that it is compared with.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.preparation import type_means
from brainalign_jax.study.score.repeats import repeated_rows


@dataclass(frozen=True)
class Measure:
    """A measure by the choices of a protocol; a subclass says what is compared, and how.

    name: also the metric of its rows. label: what figures call it. form: what matters of the responses, see
    `preparation.prepare_responses`. own_null: whether the value of unrelated vectors depends on how their
    axes vary, so that twins and controls have draws of their own, and are compared by what exceeds these.
    repeats: whether a subject's rows are [T, K, R] of each presentation of a word, see `score.repeats`.
    """

    protocol: Protocol
    name = ""
    label = ""
    own_null = False

    @property
    def repeats(self) -> bool:
        return False

    @property
    def form(self) -> str:
        return "products"

    def rows(self, values: np.ndarray, *words, n_features: int) -> tuple[np.ndarray, np.ndarray]:
        """(types [T] that are compared, a subject's rows of them), of responses [N, R].

        words: token to type [N], eligible tokens [N], runs [N] or None. n_features: of the responses, which
        may be in the axes that they span.
        """
        if self.repeats:
            parts = self.protocol.rdm_parts
            return repeated_rows(values, *words, n_features=n_features, parts=parts)
        return type_means(values, *words[:2])

    def represent(self, rows: jax.Array) -> Any:
        """What is compared of one side, from its vectors [T, R]; traced."""
        raise NotImplementedError

    def compare(self, brain: Any, model: Any) -> jax.Array:
        """The similarity of both sides, a scalar: the higher, the more alike; traced."""
        raise NotImplementedError

    def permuted(self, represented: Any, order: jax.Array) -> Any:
        """What is compared of the words in another order [T]; traced."""
        raise NotImplementedError

    def check(self, n_types: int) -> None:
        """Raises: ValueError where so few words cannot be compared."""
        if n_types < 4:
            raise ValueError(f"{self.name} compares all words at once: {n_types} are too few")

    def says_something(self, rows: np.ndarray) -> bool:
        """Whether the value depends on the other side of rows [T, R], not on their number of axes alone."""
        return True

    def chance(self, n_types: int) -> float:
        """The value of unrelated vectors, in the mean; NaN where it is not known."""
        return 0.0

    def needed_bytes(
        self, n_subjects: int, n_types: int, computation: Computation, n_layers: int = 1
    ) -> int:
        """Bytes of what is compared of all subjects, and of that in the making; at most, for the plan.

        n_layers: of the widest block of a model.
        """
        itemsize = np.dtype(computation.dtype).itemsize
        return itemsize * n_types**2 * (n_subjects + 4 * computation.workers())

    def held_numbers(self, n_types: int, n_layers: int) -> int:
        """How many numbers what is compared of one layer holds, of a model of so many layers; at most."""
        return n_types**2

    def scores(
        self,
        means: Mapping[int, np.ndarray],
        values: np.ndarray,
        computation: Computation,
        pool: Executor,
        known: dict[int, Any],
    ) -> np.ndarray:
        """[S, L] of mean responses with the vectors [L, T, D] of the same T words.

        Args:
          means: [T, R] of each subject, or [T, K, R], in the measure's form.
          known: what is compared of the subjects, kept for the next layers.

        With protocol.center the words' mean is subtracted on both sides.
        """
        n_types = values.shape[1]
        self.check(n_types)
        needed = self.needed_bytes(len(means), n_types, computation, len(values))
        if needed > computation.rdm_bytes and len(means) > 1:
            alone = [{i: rows} for i, rows in means.items()]
            return np.concatenate([self.scores(x, values, computation, pool, {}) for x in alone])
        if needed > computation.rdm_bytes:
            raise ValueError(
                f"{self.name} of {n_types:,} words takes {needed:,} bytes, more than the "
                f"{computation.rdm_bytes:,} that are for it: give more memory (--max_memory_gb), or leave "
                f"{self.name} out"
            )

        def represent(rows: np.ndarray):
            return _represent(self.centred(rows), measure=self)

        def layer_rows(layer: int) -> np.ndarray:
            return self.layer_rows(values, layer)

        compare = partial(_compare, measure=self)
        layers = [partial(layer_rows, layer) for layer in range(len(values))]
        return compared(means, layers, computation, pool, known, represent, compare)

    def layer_rows(self, values: np.ndarray, layer: int) -> np.ndarray:
        """The rows that stand for a layer of the vectors [L, T, D]; the measure is made of these."""
        return values[layer]

    def centred(self, rows: np.ndarray) -> np.ndarray:
        """Rows [T, V] less their mean over the words, where the protocol centres."""
        return word_centred(rows) if self.protocol.center else rows

    def drawn(self, brains: Any, models: Any, orders: jax.Array) -> jax.Array:
        """[B, S, L] of what is compared of S subjects and L layers, the words permuted by orders [B, T]."""

        def of_order(order: jax.Array) -> jax.Array:
            moved = jax.vmap(lambda brain: self.permuted(brain, order))(brains)
            of_subject = jax.vmap(self.compare, in_axes=(None, 0))
            return jax.vmap(of_subject, in_axes=(0, None))(moved, models)

        return jax.lax.map(of_order, orders)


def compared(
    means: Mapping[int, np.ndarray],
    layers: Sequence[Callable[[], np.ndarray]],
    computation: Computation,
    pool: Executor,
    known: dict[int, Any],
    represent: Callable[[np.ndarray], Any],
    compare: Callable[[Any, Any], jax.Array],
) -> np.ndarray:
    """As `Measure.scores`: `represent` makes rows into what is compared, `compare` a number of two.

    layers: each makes the rows of one, when they are needed.
    """

    def represented(rows: np.ndarray):
        with computation.context():
            return jax.block_until_ready(represent(rows))

    def column(layer: Callable[[], np.ndarray]) -> list[float]:
        model = represented(layer())
        with computation.context():
            return [float(compare(known[i], model)) for i in means]

    new = [i for i in means if i not in known]
    known.update(zip(new, pool.map(represented, [means[i] for i in new]), strict=True))
    return np.array(list(pool.map(column, layers))).T


class MatrixMeasure(Measure):
    """A measure that is the summed product of two matrices [T, T], each of one side alone."""

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        return (brain * model).sum()

    def permuted(self, represented: jax.Array, order: jax.Array) -> jax.Array:
        return represented[order][:, order]

    def drawn(self, brains: jax.Array, models: jax.Array, orders: jax.Array) -> jax.Array:
        flat = models.reshape(len(models), -1)

        def of_order(order: jax.Array) -> jax.Array:
            moved = brains[:, order][:, :, order].reshape(len(brains), -1)
            return linalg.matmul(moved, flat.T)

        return jax.lax.map(of_order, orders)


@dataclass(frozen=True)
class FunctionMeasure(Measure):
    """A measure of a user's own, `function(responses, vectors)`; see `registry.register_measure`."""

    function: Callable[[jax.Array, jax.Array], jax.Array]
    name: str
    own_null = True  # nothing is known of it

    @property
    def label(self) -> str:
        return self.name

    def chance(self, n_types: int) -> float:
        return float("nan")

    def represent(self, rows: jax.Array) -> jax.Array:
        return rows

    def compare(self, brain: jax.Array, model: jax.Array) -> jax.Array:
        number = self.function(brain, model)
        if getattr(number, "shape", None) != ():
            shape = getattr(number, "shape", type(number).__name__)
            raise ValueError(
                f"the measure {self.name!r} gives {shape}; its function must return one number, a JAX scalar"
            )
        return number

    def permuted(self, represented: jax.Array, order: jax.Array) -> jax.Array:
        return represented[order]


def with_choices(measure: Measure, **changes) -> Measure:
    """The measure by other choices of its protocol."""
    return replace(measure, protocol=replace(measure.protocol, **changes))


def word_centred(rows: np.ndarray) -> np.ndarray:
    """Rows [T, V] less their mean over the T words, in their type."""
    return (rows - rows.mean(axis=0, dtype=np.float64)).astype(rows.dtype)


@jax.jit(static_argnames=("measure",))
def _represent(rows: jax.Array, *, measure: Measure) -> Any:
    return measure.represent(rows)


@jax.jit(static_argnames=("measure",))
def _compare(brain: Any, model: Any, *, measure: Measure) -> jax.Array:
    return measure.compare(brain, model)
