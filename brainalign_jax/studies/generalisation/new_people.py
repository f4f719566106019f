"""Maps of other people: responses of a person brought into the space that the others share.

In each cell, words that are neither tested nor trained on say how the person is rotated to the other people's
template. The map is fitted on the template's responses to the words trained on. Were the person rotated by
these same words, the map would have met the person's own responses to them by way of the words, and maps that
people do not share would seem to hold for new people.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.procrustes import hyperalignment, polar
from brainalign_jax.studies.generalisation.cells import Cells

LEAST_PEOPLE = 3
_AXES = 60  # of each person, at most
_ROUNDS = 15


def shared_rows(rows: Sequence[np.ndarray], cells: Cells, aligning: np.ndarray) -> np.ndarray:
    """Rows [S, F, M, R] of each person in each cell: the others' template of the training words, then the
    person's own responses to the tested words, in the others' space.

    The others are rotated by the words trained on and the aligning ones, the person by the latter alone.

    rows: [I, R] responses of each person, inner products kept. cells: M = n_train + n_candidates words each.
    aligning: [F, A] words of each cell.
    """
    wide = [np.asarray(of_person, np.float64) for of_person in rows]
    kernels = [of_person @ of_person.T for of_person in wide]
    n_align, n_train = aligning.shape[1], cells.train.shape[1]
    n_axes = max(1, min(_AXES, n_align // 2))
    shared = []
    for align, train, test in zip(aligning, cells.train, cells.test, strict=True):
        words = np.concatenate([align, train, test])
        people = np.stack(
            [
                _components(kernel[np.ix_(words, words)], n_align + n_train, n_axes)
                for kernel in kernels
            ]
        )
        components = np.stack(
            [_components(kernel[np.ix_(words, words)], n_align, n_axes) for kernel in kernels]
        )
        shared.append(
            [
                np.asarray(
                    _in_others_space(
                        np.delete(people, person, axis=0),
                        components[person],
                        n_align=n_align,
                        n_train=n_train,
                    )
                )
                for person in range(len(rows))
            ]
        )
    return np.stack(shared, axis=1)


def _components(kernel: np.ndarray, n_rows: int, n_axes: int) -> np.ndarray:
    """Scores [M, n_axes] on the principal axes of the first n_rows rows, of unit total variance there."""
    centred = kernel - kernel[:, :n_rows].mean(axis=1, keepdims=True)
    centred = centred - centred[:n_rows].mean(axis=0)
    among = centred[:n_rows, :n_rows]
    variances, axes = np.linalg.eigh(among)
    variances, axes = variances[::-1][:n_axes], axes[:, ::-1][:, :n_axes]
    real = variances > variances[0] * n_rows * np.finfo(np.float64).eps * 10
    inverse = np.where(real, 1 / np.sqrt(np.where(real, variances, 1)), 0)
    total = np.sqrt(max(np.trace(among), np.finfo(np.float64).tiny))
    return (centred[:, :n_rows] @ axes * inverse / total).astype(np.float32)


@jax.jit(static_argnames=("n_align", "n_train"))
def _in_others_space(
    others: jax.Array, person: jax.Array, *, n_align: int, n_train: int
) -> jax.Array:
    """Rows [n_train + n_candidates, R] of `shared_rows`, for the scores [S - 1, M, R] of the others and those
    of the person [M, R]: the aligning words first, then those trained on, then those tested."""
    n_fitted = n_align + n_train
    space = hyperalignment.fit(
        others[:, :n_fitted],
        jnp.ones(n_fitted, others.dtype),
        tolerance=1e-4,
        max_iterations=_ROUNDS,
    )
    template = space.template - space.template[:n_align].mean(axis=0)
    rotation = polar.isometry(linalg.matmul(person[:n_align].T, template[:n_align]))
    return jnp.concatenate([template[n_align:], linalg.matmul(person[n_fitted:], rotation)])
