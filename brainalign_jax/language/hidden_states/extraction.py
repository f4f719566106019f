"""All batches of a text through a model that lies on the devices, and where to go on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from flax import nnx

from brainalign_jax.language.hidden_states import pooled_states
from brainalign_jax.language.hidden_states.pooled_states import Sums
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import Head
from brainalign_jax.language.text.packing import Batch, Packing
from brainalign_jax.threads import read_ahead


class Saved(NamedTuple):
    """A state to go on from: `done` units (batches, layers) are in `arrays`."""

    done: int
    arrays: dict[str, np.ndarray]


class Saver(Protocol):
    """Keeps the state of an extraction; see `cache.Partial`."""

    def load(self, plan: str) -> Saved | None:
        """What was saved last by the same plan, or None."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def save(self, plan: str, done: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep it, completely or not at all."""


def extract(
    model: LanguageModel,
    packing: Packing,
    n_rows: int,
    *,
    last: str = "hf",
    interventions: Any = None,
    read_head: Callable[[LanguageModel], Head] | None = None,
    saver: Saver | None = None,
    on_words: Callable[[int], Any] = lambda n: None,
) -> Sums:
    """The sums [S, n_rows, D] over all batches, as NumPy arrays.

    They stay on the device and come to the host once; where they would take more than a quarter of
    its memory, each batch's own rows come to the host and are added there. read_head: gives the
    model's language-model head, for the surprisal of the words; the packing then names what is
    scored. on_words: told how many words each finished batch held.
    """
    check_ids(model, packing)
    graph, state = nnx.split(model)
    sharding = pooled_states.copied_to_all(state)
    if read_head is not None:
        parts = nnx.split(read_head(model))
        head = nnx.merge(parts[0], jax.device_put(parts[1], sharding))
        graph, state = nnx.split((model, head))
    width = pooled_states.pooled_width(model.config, last)
    size = 4 * (model.n_layers + 1) * n_rows * width
    make = _OnDevice if size <= device_bytes() // 4 else _OnHost
    n_words = None if read_head is None else packing.n_presented
    running = make(model, n_rows, last, n_words)
    start, plan = 0, f"batches of {packing.digest()}{' and surprisal' if read_head else ''}"
    if saver is not None and (saved := saver.load(plan)) is not None:
        start = saved.done
        running.restore(saved.arrays)
        on_words(sum(batch.n_words for batch in packing.batches(0, start)))

    def step(batch: Batch, sums: Sums, rows: np.ndarray | None) -> tuple[Sums, jax.Array]:
        batch = batch if rows is None else batch._replace(row=rows)
        return pooled_states.add_batch(
            graph,
            sums if sharding is None else jax.device_put(sums, sharding),
            state,
            pooled_states.device_batch(batch, sharding),
            interventions,
            last=last,
            shared=batch.shared,
            sharding=sharding,
        )

    waiting: tuple[jax.Array, int] | None = None
    for number, batch in enumerate(read_ahead(packing.batches(start), 2), start):
        token = running.add(step, batch)
        # One batch waits on the device while another is computed.
        if waiting is not None:
            waiting[0].block_until_ready()
            on_words(waiting[1])
        waiting = token, batch.n_words
        if saver is not None and number + 1 < len(packing) and saver.due():
            saver.save(plan, number + 1, running.arrays())
    sums = running.result()
    if waiting is not None:
        on_words(waiting[1])
    return sums


def default_batch_tokens() -> int:
    """About how many sub-tokens are computed at once, by the kind of device."""
    return 2048 if jax.default_backend() == "cpu" else 16384


def check_ids(model: LanguageModel, packing: Packing) -> None:
    """Raise ValueError if a token id is outside the model's vocabulary."""
    highest = max(int(ids.max()) for ids in packing.sequences.ids)
    if highest >= model.config.vocab_size:
        raise ValueError(
            f"token id {highest} is outside the vocabulary of {model.config.vocab_size} entries; "
            "use the tokenizer that belongs to this checkpoint."
        )


class _OnDevice:
    """Sums over all rows, on the device."""

    def __init__(self, model: LanguageModel, n_rows: int, last: str, n_words: int | None):
        self.sums = pooled_states.empty_sums(model, n_rows, last=last, n_words=n_words)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.sums = jax.tree.map(
            lambda empty, saved: jax.device_put(saved, empty.sharding),
            self.sums,
            _sums(arrays),
        )

    def add(self, step, batch: Batch) -> jax.Array:
        self.sums, token = step(batch, self.sums, None)
        return token

    def arrays(self) -> dict[str, np.ndarray]:
        return _named(jax.device_get(self.sums))

    def result(self) -> Sums:
        return jax.device_get(self.sums)


class _OnHost:
    """Sums over all rows on the host; a batch's own rows on the device, and the surprisal."""

    def __init__(self, model: LanguageModel, n_rows: int, last: str, n_words: int | None):
        self.model, self.last = model, last
        shapes = jax.eval_shape(
            lambda: pooled_states.empty_sums(model, n_rows, last=last, n_words=n_words)
        )
        self.sums = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.sums = _sums(arrays)

    def add(self, step, batch: Batch) -> jax.Array:
        rows, local = np.unique(batch.row, return_inverse=True)
        # As many rows as sub-tokens: one program for all batches of a shape.
        empty = pooled_states.empty_sums(self.model, batch.ids.size, last=self.last)
        empty = empty._replace(surprisal=self.sums.surprisal)
        sums, token = step(batch, empty, local.astype(np.int32))
        self.sums = self.sums._replace(surprisal=sums.surprisal)
        self.sums.states[:, rows] += np.asarray(sums.states)[:, : len(rows)]
        if sums.final is not None:
            self.sums.final[rows] += np.asarray(sums.final)[: len(rows)]
        return token

    def arrays(self) -> dict[str, np.ndarray]:
        return _named(jax.device_get(self.sums))

    def result(self) -> Sums:
        return jax.device_get(self.sums)


def _named(sums: Sums) -> dict[str, np.ndarray]:
    return {name: value for name, value in sums._asdict().items() if value is not None}


def _sums(arrays: dict[str, np.ndarray]) -> Sums:
    return Sums(arrays["states"], arrays.get("final"), arrays.get("surprisal"))
