"""Group decoding: the responses of several subjects to the same words as one source.

- `summed`: all subjects' voxels side by side, each subject scaled to unit total variance. Nothing is
  learnt but one number a subject.
- `hyperaligned`: the mean of all subjects in a shared space, learnt from the training rows of each fold.
  Averaging removes private noise, where side by side the decoder has to.

Both give responses for each fold, [F, N, R], in which all that is learnt comes from the fold's training
rows: a source for `programs.prepare` and the methods, one fold at a time.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from scipy.linalg import eigh

from brainalign_jax.align.procrustes import hyperalignment
from brainalign_jax.names import check_known
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.score import group_kernels

GROUP = "group"
KINDS = ("summed", "hyperaligned")
_COMPONENTS = 150  # of each hyperaligned subject, at most


@dataclasses.dataclass(frozen=True, eq=False)
class GroupRecording(WordResponses):
    """All subjects as one recording, whose responses are learnt anew from each fold's training rows.

    members: the subjects; kind: of KINDS. values: those of `summed_responses`.
    """

    members: tuple[WordResponses, ...] = ()
    kind: str = "summed"
    lower: bool = False

    def fold_values(self, train: np.ndarray) -> np.ndarray:
        """Responses [F, N, R] for training masks [F, N]."""
        if self.kind == "summed":
            return summed(self.members, train, lower=self.lower)
        most = min(_COMPONENTS, int(train.sum(axis=1).min()) - 2)
        return hyperaligned(self.members, train, n_components=most, lower=self.lower)


def group_recording(
    responses: Sequence[WordResponses], kind: str, *, lower: bool = False
) -> GroupRecording:
    """The subjects as one recording, of the name of `kind`.

    Raises: ValueError for an unknown kind, fewer than two subjects, or different words.
    """
    check_known("group decoding", kind, KINDS)
    if len(responses) < 2:
        raise ValueError("decoding a group needs at least two subjects")
    whole = summed_responses(responses, lower=lower)
    return GroupRecording(
        kind,
        whole.values,
        whole.stimulus,
        whole.valid,
        whole.meta | {"group": kind},
        members=tuple(responses),
        kind=kind,
        lower=lower,
    )


def shared_rows(responses: Sequence[WordResponses], *, lower: bool = False) -> np.ndarray:
    """Tokens [N] bool that every subject has a response to and that are words.

    Raises: ValueError for different stimuli, or where no token is left.
    """
    group_kernels.check_same_words(responses)
    _, token_to_type = responses[0].stimulus.types(lower=lower)
    eligible = token_to_type >= 0
    for recording in responses:
        eligible = eligible & recording.valid
    if not eligible.any():
        raise ValueError(
            f"no word has a response of all of {', '.join(person.subject for person in responses)}: "
            "leave a subject out"
        )
    return eligible


def summed_responses(responses: Sequence[WordResponses], *, lower: bool = False) -> WordResponses:
    """The group as one recording, for the whole sweep: subject "group", values [N, R], R <= N.

    All subjects' voxels side by side, centred and scaled to unit total variance over all shared rows.
    Those numbers, one a subject, are the only thing that test rows have a part in: `summed` fits them to
    training rows.
    """
    eligible = shared_rows(responses, lower=lower)
    total = np.zeros((len(eligible), len(eligible)))
    for recording in responses:
        kernel = group_kernels.centred_kernel(recording.values, eligible)
        total += kernel / group_kernels.total_variance(kernel, eligible)
    meta = {"group": "summed", "subjects": [person.subject for person in responses]}
    values = group_kernels.spanned_rows(total)
    return WordResponses(GROUP, values, responses[0].stimulus, eligible, meta)


def summed(
    responses: Sequence[WordResponses], train: np.ndarray, *, lower: bool = False
) -> np.ndarray:
    """All subjects' voxels side by side, in the axes they span, for each fold: [F, N, R] float32.

    train: [F, N] masks of training rows. In each fold a subject's responses are centred by the training
    mean and scaled to unit total variance over the training rows. Rows that are not shared are zero.

    Raises: ValueError for masks of another length, or a subject without variance.
    """
    eligible, train = _training(responses, train, lower=lower)
    totals = np.zeros((len(train), len(eligible), len(eligible)))
    for recording in responses:
        kernel = group_kernels.centred_kernel(recording.values, eligible)
        for total, rows in zip(totals, train, strict=True):
            total += _centred(kernel, eligible, rows) / group_kernels.total_variance(kernel, rows)
    return _stacked([group_kernels.spanned_rows(total) for total in totals])


def hyperaligned(
    responses: Sequence[WordResponses],
    train: np.ndarray,
    *,
    n_components: int,
    lower: bool = False,
) -> np.ndarray:
    """The mean of all subjects in a space that they share, for each fold: [F, N, n_components] float32.

    In each fold a subject's responses are reduced to the principal components of the training rows,
    scaled to unit total variance over them, and rotated to the common template of the training rows
    (`hyperalignment.fit`). The same maps move the test rows.

    Args:
      train: [F, N] masks of training rows.
      n_components: of each subject, at most two fewer than the training rows of the smallest fold. On the
        Pereira words (15 subjects, ridge to GloVe, 9 drawn folds) P@10 is .19 with 20 components, .29 with
        40, .38 with 80 and .44 with 150, where single subjects have .21 on average, `summed` .26, and
        permuted words .06.

    Raises: ValueError for masks of another length, too many components, fewer than two subjects.
    """
    eligible, train = _training(responses, train, lower=lower)
    fewest = int(train.sum(axis=1).min())
    if not 1 <= n_components <= fewest - 2:
        raise ValueError(
            f"n_components={n_components} must lie between 1 and {fewest - 2}, two below the training "
            f"rows of the smallest fold: ask for fewer"
        )
    if len(responses) < 2:
        raise ValueError("hyperalignment needs at least two subjects")
    scores = np.zeros((len(train), len(responses), len(eligible), n_components), np.float32)
    for subject, recording in enumerate(responses):
        kernel = group_kernels.centred_kernel(recording.values, eligible)
        for fold, rows in enumerate(train):
            scores[fold, subject] = _components(kernel, eligible, rows, n_components)
    spaces = [
        _shared_space(fold, rows.astype(np.float32))
        for fold, rows in zip(scores, train, strict=True)
    ]
    return np.where(eligible[:, None], np.stack(spaces), 0)


@jax.jit
def _shared_space(sources: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean [N, R] of the subjects [S, N, R] in the space of their training rows."""
    fitted = hyperalignment.fit(sources, weights, tolerance=1e-4, max_iterations=50)
    return hyperalignment.apply(fitted, sources).mean(axis=0)


def _training(responses, train, *, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """(shared rows [N], training rows among them [F, N])."""
    eligible = shared_rows(responses, lower=lower)
    train = np.asarray(train) > 0
    if train.ndim != 2 or train.shape[1] != len(eligible):
        raise ValueError(
            f"train has shape {train.shape} for {len(eligible)} words; give masks [folds, words]"
        )
    return eligible, train & eligible


def _centred(kernel: np.ndarray, eligible: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products [N, N] of the eligible responses less the mean over rows [N] bool."""
    weights = rows / rows.sum()
    column = kernel @ weights
    centred = kernel - column[:, None] - column + weights @ column
    return centred * eligible[:, None] * eligible


def _components(kernel, eligible, rows, n_components: int) -> np.ndarray:
    """Scores [N, n] of all rows on the principal axes of the training rows, of unit total variance there.

    The scale is that of the whole responses, not of the components.
    """
    centred = _centred(kernel, eligible, rows)
    n_rows = int(rows.sum())
    among = centred[np.ix_(rows, rows)]
    variances, axes = eigh(among, subset_by_index=(n_rows - n_components, n_rows - 1))
    variances, axes = variances[::-1], axes[:, ::-1]
    real = variances > variances[0] * n_rows * np.finfo(np.float64).eps * 10
    inverse = np.where(real, 1 / np.sqrt(np.where(real, variances, 1)), 0)
    scores = centred[:, rows] @ axes * inverse
    return scores / np.sqrt(group_kernels.total_variance(kernel, rows))


def _stacked(folds: list[np.ndarray]) -> np.ndarray:
    """[F, N, R] from [N, R] of different ranks."""
    width = max(rows.shape[1] for rows in folds)
    return np.stack([np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in folds])
