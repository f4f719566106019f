"""Hyperalignment: rotate every subject's responses into one shared space (generalised Procrustes analysis).

Subjects' voxels, or principal axes, have nothing to do with one another; their responses to the same
words may still have the same geometry. Rotations that bring all subjects to a common template, which is
the mean of the rotated subjects, are learnt from training rows and move test rows as well.

With as many axes as training rows any subjects can be brought together perfectly: the error on training
rows then says nothing, and only test rows tell whether there is anything in common.

References: Gower (1975), Psychometrika 40:33-51; ten Berge (1977), Psychometrika 42:267-276 (scale);
Haxby et al. (2011), Neuron 72:404-416.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int, Shaped
from brainalign_jax.align.procrustes import polar


class Hyperalignment(NamedTuple):
    """Maps x -> scale (x - mean) @ rotation of each subject into the shared space.

    rotation: [S, R, R]; mean: [S, R]; scale: [S], ones unless asked for.
    template: [N, R] mean of the mapped training rows, zero on the others.
    error: sum of squared distances to the template, as a share of the responses' sum of squares.
    n_iterations: rounds until the error changed by no more than the tolerance.
    """

    rotation: Float[Array, "S R R"]
    mean: Float[Array, "S R"]
    scale: Float[Array, " S"]
    template: Float[Array, "N R"]
    error: Float[Array, ""]
    n_iterations: Int[Array, ""]


def fit(
    sources: Float[Array, "..."],
    weights: Shaped[Array, "..."],
    *,
    scale: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
    algorithm: str = "auto",
) -> Hyperalignment:
    """Minimise sum_s sum_i w_i |c_s (x_si - mean_s) R_s - g_i|^2 over rotations R_s and template g.

    Rotations and template are optimised in turn; the error never grows. The first template are the
    principal axes of all subjects side by side, so that the order of the subjects does not matter.
    Where the training rows leave a rotation open it is the minimal partial isometry, as in
    `procrustes.fit`: a test row's part outside of what the training rows span is dropped.

    Args:
      sources: [S, N, R], subjects of equal width: fill up with zero columns.
      weights: [N] training mask or weights; other rows have no influence, whatever they hold.
      scale: also a factor for each subject, the sum of squares over all subjects kept.
      tolerance: change of `error` at which to stop. max_iterations: at most so many rounds.
      algorithm: of the polar decomposition, see `polar.isometry`.

    Raises: ValueError for other shapes or fewer than two subjects.
    """
    if sources.ndim != 3 or sources.shape[0] < 2 or weights.shape != sources.shape[1:2]:
        raise ValueError(
            f"sources {sources.shape} and weights {weights.shape} must be [S, N, R] of at least two "
            "subjects, and [N]"
        )
    dtype = sources.dtype
    n_subjects = sources.shape[0]
    mean = jax.vmap(linalg.weighted_mean, (0, None))(sources, weights)
    centred = jax.vmap(linalg.center, (0, 0, None))(sources, mean, weights)
    # Rows times the root of their weight: all that follows is unweighted.
    root = jnp.sqrt(weights.astype(dtype))[:, None]
    rows = centred * root
    squares = (rows**2).sum(axis=(1, 2))
    total = squares.sum()
    total = jnp.where(total > 0, total, 1)

    def rotate(template):
        def rotate_subject(x):
            return polar.isometry(linalg.matmul(x.T, template), algorithm=algorithm)

        return jax.lax.map(rotate_subject, rows)

    def factors(moved):
        if not scale:
            return jnp.ones(n_subjects, dtype)
        # The leading eigenvector of the subjects' correlations after rotation.
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1))
        flat = moved.reshape(n_subjects, -1) / norm[:, None]
        leading = jnp.abs(jnp.linalg.eigh(linalg.gram(flat))[1][:, -1])
        return leading * jnp.sqrt(total) / norm

    def improve(state):
        template, _, _, error, _, count = state
        rotation = rotate(template)
        moved = linalg.matmul(rows, rotation)
        scales = factors(moved)
        moved = moved * scales[:, None, None]
        template = moved.mean(axis=0)
        new_error = ((moved - template) ** 2).sum() / total
        return template, rotation, scales, new_error, jnp.abs(error - new_error), count + 1

    def going_on(state):
        return (state[4] > tolerance) & (state[5] < max_iterations)

    template = _principal_template(rows)
    infinite = jnp.asarray(jnp.inf, dtype)
    start = improve((template, None, None, jnp.asarray(2, dtype), infinite, jnp.int32(0)))
    _, rotation, scales, error, _, count = jax.lax.while_loop(going_on, improve, start)
    moved = linalg.matmul(centred, rotation) * scales[:, None, None]
    return Hyperalignment(rotation, mean, scales, moved.mean(axis=0), error, count)


def _principal_template(rows: Float[Array, "S N R"]) -> Float[Array, "N R"]:
    """Scores [N, R] of all subjects' rows [S, N, R] side by side on their largest R axes."""
    n_subjects, n_rows, width = rows.shape
    if n_rows <= n_subjects * width:
        gram = jnp.einsum("snr,smr->nm", rows, rows, precision="highest")
        variances, axes = jnp.linalg.eigh(gram)
        scores = axes * jnp.sqrt(jnp.maximum(variances, 0))
    else:
        wide = jnp.moveaxis(rows, 0, 1).reshape(n_rows, -1)
        scores = linalg.matmul(wide, jnp.linalg.eigh(linalg.matmul(wide.T, wide))[1])
    scores = scores[:, ::-1][:, :width]
    return jnp.pad(scores, ((0, 0), (0, width - scores.shape[1])))


def apply(map: Hyperalignment, sources: Float[Array, "S M R"]) -> Float[Array, "S M R"]:
    """Rows [S, M, R] of every subject in the shared space, training rows or not.

    Less the subject's training mean, which is nothing that subjects share.
    """
    moved = linalg.matmul(sources - map.mean[:, None, :], map.rotation)
    return moved * map.scale[:, None, None]
