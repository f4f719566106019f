"""Trainings that can be interrupted: pieces of a fixed number of steps, with a checkpoint after each."""

import hashlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from brainalign_jax.files import Damaged, user_path


class Checkpoints:
    """The newest state of one training in a folder, written by orbax, whole or not at all.

    key: decides the training (data, settings): a state of another one is never taken up. Nor is one whose
    SHA-256 is not what was saved beside it: the training starts anew, with a warning.
    """

    def __init__(self, folder: str | Path, key: str):
        self._folder = user_path(folder, "folder") / key

    def save(self, step: int, state) -> None:
        """Keep the state (a pytree of arrays) after `step` steps; earlier ones are removed."""
        numbered = _numbered(state)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(numbered),
            seal=ocp.args.JsonSave({"sha256": _digest(step, numbered)}),
        )
        with self._manager() as manager:
            manager.save(step, args=args)

    def restore(self, like):
        """(step, state) of the newest checkpoint, shaped as `like`, or None where there is none."""
        if not self._folder.is_dir():
            return None
        try:
            state = self._restore(like)
        except Exception as error:  # orbax and tensorstore raise many kinds on damaged files
            warnings.warn(f"{self._folder} is damaged ({error}): starting anew", stacklevel=3)
            shutil.rmtree(self._folder)
            return None
        return state

    def _restore(self, like):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _numbered(like))
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), seal=ocp.args.JsonRestore()
        )
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                return None
            kept = manager.restore(step, args=args)
        leaves = kept["state"]
        if kept["seal"] != {"sha256": _digest(step, leaves)}:
            raise Damaged("its bytes were changed")
        numbered = [leaves[name] for name in sorted(leaves, key=int)]
        return step, jax.tree.unflatten(jax.tree.structure(like), numbered)

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1, create=True, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self._folder, options=options)


def _numbered(state) -> dict[str, jax.Array]:
    """The leaves by number: a state of optax has empty nodes, which files have not."""
    return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _digest(step: int, numbered: dict[str, jax.Array]) -> str:
    digest = hashlib.sha256(str(step).encode())
    for name in sorted(numbered, key=int):
        leaf = np.asarray(numbered[name])
        digest.update(f"{name} {leaf.dtype.str} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def train(
    start: Callable[[], object],
    advance: Callable[[object, int], object],
    *,
    n_steps: int,
    every: int,
    checkpoints: Checkpoints | None = None,
):
    """The state after n_steps, in pieces of `every` steps with a checkpoint after each.

    An interrupted training goes on from its newest checkpoint and gives what it would have given.

    Args:
      start: makes the state before the first step. advance: (state, number of steps) -> state.

    Raises: ValueError if every is below 1.
    """
    if every < 1:
        raise ValueError(f"every={every} steps between checkpoints must be at least 1")
    state, done = start(), 0
    if checkpoints is not None:
        done, state = checkpoints.restore(state) or (0, state)
    while done < n_steps:
        size = min(every, n_steps - done)
        state, done = advance(state, size), done + size
        if checkpoints is not None:
            checkpoints.save(done, state)
    return state
