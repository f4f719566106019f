"""Surrogate recordings for noise checks: what the whole pipeline scores where there is no stimulus at all."""

import jax
import numpy as np

from brainalign_jax.align.stats import surrogates
from brainalign_jax.names import check_known

KINDS = ("phase", "noise", "ar1")


def surrogate_values(
    values: np.ndarray,
    run: np.ndarray | None,
    valid: np.ndarray,
    *,
    kind: str = "phase",
    random_state: int = 0,
) -> np.ndarray:
    """Noise [N, V] in the likeness of the valid rows of values [N, V], run by run [N]; float32.

    kind: "phase", new phases (spectra and covariances kept exactly); "noise", Gaussian noise with the
      recording's autocorrelation and spatial covariance; "ar1", with that of a first-order
      autoregression fitted to it.
    random_state: subjects who should share the noise get the same number and must have the same words.

    Each run is made of itself alone, over its valid words in order; nothing crosses its ends. Words that
    the recording does not cover stay zero. One word's response to the next is one step, whatever the time
    between them.

    Raises: ValueError for an unknown kind, or a run of fewer than four words.
    """
    check_known("surrogate", kind, KINDS)
    labels = np.zeros(len(values), int) if run is None else np.asarray(run)
    noise = np.zeros(values.shape, np.float32)
    key = jax.random.key(random_state)
    for index, label in enumerate(dict.fromkeys(labels[valid].tolist())):
        rows = np.flatnonzero((labels == label) & valid)
        if len(rows) < 4:
            raise ValueError(
                f"run {label} has {len(rows)} words with a response: noise in its likeness needs at least 4"
            )
        noise[rows] = _one_run(
            jax.random.fold_in(key, index), np.asarray(values[rows], np.float32), kind=kind
        )
    return noise


@jax.jit(static_argnames=("kind",))
def _one_run(key: jax.Array, x: jax.Array, *, kind: str) -> jax.Array:
    if kind == "phase":
        return surrogates.phase_randomised(key, x)
    correlation = surrogates.ar1_autocorrelation(x) if kind == "ar1" else None
    return surrogates.autocorrelated_noise(key, x, correlation)
