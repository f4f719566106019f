"""Confound RDMs of the word types of a stimulus, and permutations of the types for Mantel tests in time.

What makes two words alike in brain and model without any meaning: heard at the same time (shared scans),
in one sentence (shared context), equally often, of equal length. `align.partial_rsa` holds them constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.context import Study
from brainalign_jax.study.score.repeats import presentations
from brainalign_jax.study.words import is_text, token_features

CAPS = (1, 2, 4, 8, 16)  # seconds
NEAR = tuple(f"temporal_distance_to_{cap}s" for cap in CAPS)
NAMES = (
    "temporal_distance",
    *NEAR,
    "different_sentence",
    "log_frequency",
    "length",
)  # fmt: skip
_FEWEST_SHIFTED = 40  # types, so that there are shifts enough for p-values of .025
ORDERS = ("items", "blocks", "shifts")


@dataclass(frozen=True, eq=False)
class Confounds:
    """Condensed dissimilarities of word types.

    names: of NAMES, those that differ between pairs of these words. rdms: [C, P] float32, in scipy's pdist
    order. types: [T'] indices of the types in the stimulus' vocabulary, in its order.
    """

    names: tuple[str, ...]
    rdms: np.ndarray
    types: np.ndarray


def confound_rdms(
    stimulus: Stimulus,
    eligible: np.ndarray | None = None,
    *,
    lower: bool = False,
    names: tuple[str, ...] = NAMES,
) -> Confounds:
    """The confound RDMs of the types that have eligible tokens [N] (None: all words).

    temporal_distance: |t_i - t_j| of the types' mean onsets in seconds, averaged over the runs in which
      both occur; types that share no run have the largest distance there is.
    temporal_distance_to_1s, ..., _16s: the same, no larger than that. What is smooth in time is similar at
      short distances only. The distance alone leaves noise with an autocorrelation over 2.5 words, against
      vectors as smooth, a partial correlation of .20 (96 words of one run), with these .02.
    different_sentence: 0 for types that ever share a sentence, else 1.
    log_frequency: difference of log(1 + count) in the stimulus, whatever the case.
    length: difference in letters.

    lower: word types without regard to case, as everywhere in the study. names: the ones to make; those
    that the stimulus does not have, or that are equal for all pairs, are left out of the result.

    Raises: ValueError for an unknown name, or fewer than two types.
    """
    for name in names:
        check_known("confound", name, NAMES)
    vocabulary, token_to_type = stimulus.types(lower=lower)
    used = token_to_type >= 0
    if eligible is not None:
        used &= np.asarray(eligible, bool)
    types, index = np.unique(token_to_type[used], return_inverse=True)
    if len(types) < 2:
        raise ValueError(f"{len(types)} word type has no RDM: at least two words are needed")
    upper = np.triu_indices(len(types), 1)
    rows = np.flatnonzero(used)
    by_name: dict[str, np.ndarray] = {}
    if stimulus.onsets is not None:
        run = np.zeros(len(stimulus), int) if stimulus.run is None else stimulus.run
        square = _temporal(stimulus.onsets[rows], run[rows], index, len(types))
        by_name["temporal_distance"] = square[upper]
        for name, cap in zip(NEAR, CAPS, strict=True):
            if cap < square[upper].max():
                by_name[name] = np.minimum(square[upper], cap)
    if stimulus.sentence is not None and is_text(stimulus):
        run = np.zeros(len(stimulus), int) if stimulus.run is None else stimulus.run
        labels = np.stack([run[rows], stimulus.sentence[rows]], axis=1)
        by_name["different_sentence"] = 1 - _shared(labels, index, len(types))[upper]
    features = token_features(stimulus)
    by_name["log_frequency"] = _differences(features["log_frequency"][rows], index, upper)
    by_name["length"] = _differences(features["letters"][rows], index, upper)
    kept = tuple(name for name in names if name in by_name and np.ptp(by_name[name]) > 0)
    rdms = [by_name[name] for name in kept]
    stacked = np.stack(rdms) if rdms else np.empty((0, len(upper[0])))
    return Confounds(kept, stacked.astype(np.float32), types)


def _means(values: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """Mean of values [n] over the tokens of each type [T'], NaN where it has none."""
    count = np.bincount(index, minlength=size)
    with np.errstate(invalid="ignore"):
        return np.bincount(index, values, minlength=size) / count


def _differences(values: np.ndarray, index: np.ndarray, upper) -> np.ndarray:
    means = _means(values, index, index.max() + 1)
    return np.abs(means[upper[0]] - means[upper[1]])


def _temporal(onsets, run, index, size: int) -> np.ndarray:
    """Distances [T', T'] in time, the mean over shared runs."""
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for label in np.unique(run):
        here = run == label
        means = _means(onsets[here], index[here], size)
        gap = np.abs(means[:, None] - means)
        known = ~np.isnan(gap)
        total[known] += gap[known]
        count += known
    distance = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.where(count > 0, distance, np.nanmax(distance))


def _shared(labels: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """Whether two types ever have a token of the same label, [T', T'] of 0 and 1."""
    _, group = np.unique(labels, axis=0, return_inverse=True)
    occurs = np.zeros((size, group.max() + 1), np.float32)
    occurs[index, group.ravel()] = 1
    return (occurs @ occurs.T > 0).astype(float)


def default_order(stimulus: Stimulus, n_types: int) -> str:
    """The kind of `mantel_permutations` that fits the words.

    Items for words without onsets or runs, blocks for those in runs, as the sentences of passages are; with
    onsets shifts where there are 40 types or more, else blocks.
    """
    if stimulus.onsets is not None:
        return "shifts" if n_types >= _FEWEST_SHIFTED else "blocks"
    return "items" if stimulus.run is None else "blocks"


def mantel_permutations(
    stimulus: Stimulus,
    types: np.ndarray,
    n_permutations: int,
    *,
    lower: bool = False,
    eligible: np.ndarray | None = None,
    kind: str | None = None,
    block: int | None = None,
    random_state: int = 0,
) -> np.ndarray:
    """Permutations [B, T'] of word types for `partial_rsa.permuted_correlations`, in time where there is one.

    types: [T'] as in `Confounds`; eligible: [N] tokens, as there.
    kind: "items", one by one; "blocks" of types that follow one another by mean onset, within runs;
      "shifts" of all types along that order in a circle, by ever more types. None: `default_order`. Types
      of several runs belong to that of their first token.
    block: types to a block; None for as many as leave a dozen blocks, 20 at most, and for whole runs of
      items without onsets, of which there are four or more.

    There are as many shifts as types: n_permutations of all but none are drawn without repeats, or all of
    them where these are fewer. The shortest are among them (see `draws`).

    Raises: ValueError for an unknown kind, or where there is nothing to permute.
    """
    order, runs = _time_order(stimulus, types, lower=lower, eligible=eligible)
    n_types = len(order)
    kind = default_order(stimulus, n_types) if kind is None else kind
    whole_runs = block is None and stimulus.onsets is None and len(np.unique(runs)) >= 4
    if block is None:
        block = n_types if whole_runs and kind == "blocks" else max(1, min(20, n_types // 12))
    if block < 1:
        raise ValueError(f"block={block} must be at least one word type")
    check_known("kind=", kind, ORDERS)
    rng = np.random.default_rng(random_state)
    if kind == "items":
        drawn = np.stack([rng.permutation(n_types) for _ in range(n_permutations)])
    elif kind == "shifts":
        if n_types < 4:
            raise ValueError(f"{n_types} types leave nothing to shift: choose items")
        steps = np.arange(1, n_types)
        if len(steps) > n_permutations:
            steps = np.sort(rng.choice(steps, n_permutations, replace=False))
        drawn = (np.arange(n_types) + steps[:, None]) % n_types
    else:
        pieces = []
        for run in dict.fromkeys(runs.tolist()):
            places = np.flatnonzero(runs == run)
            pieces += np.array_split(places, max(1, round(len(places) / block)))
        if len(pieces) < 4:
            raise ValueError(
                f"{n_types} types make {len(pieces)} blocks of {block}: lower block, or choose shifts"
            )
        drawn = np.stack(
            [
                np.concatenate([pieces[i] for i in rng.permutation(len(pieces))])
                for _ in range(n_permutations)
            ]
        )
    permutations = np.empty(drawn.shape, np.int32)
    permutations[:, order] = order[drawn]
    return permutations


class CommonWords(NamedTuple):
    """The words that all subjects have responses to: their types [T'], the tokens [N] that count, and the
    permutations [P, T'], none where none are asked for; kind: what these are called."""

    types: np.ndarray
    token_to_type: np.ndarray
    eligible: np.ndarray
    permutations: np.ndarray
    kind: str


def common_words(
    study: Study, loaded: Sequence[WordResponses], *, repeated: bool = False
) -> CommonWords:
    """The words that all of the subjects have responses to, with the permutations that the study asks for.

    repeated: only those that were presented more than once.
    """
    stimulus, lower = study.dataset.stimulus, study.scoring.lower
    _, token_to_type = stimulus.types(lower=lower)
    eligible = token_to_type >= 0
    for responses in loaded:
        eligible &= responses.valid
    if repeated:
        parts = study.scoring.protocol.rdm_parts
        eligible &= presentations(token_to_type, eligible, stimulus.run, parts=parts) >= 0
    types = np.unique(token_to_type[eligible])
    kind = default_order(stimulus, len(types))
    permutations = np.zeros((0, len(types)), np.int32)
    if study.evidence.n_permutations and len(types) >= 4:
        permutations = mantel_permutations(
            stimulus,
            types,
            study.evidence.n_permutations,
            lower=lower,
            eligible=eligible,
            random_state=study.evidence.seed,
        )
    return CommonWords(types, token_to_type, eligible, permutations, kind)


def _time_order(stimulus, types, *, lower, eligible) -> tuple[np.ndarray, np.ndarray]:
    """(places of the types in order of mean onset, run by run [T'], their runs in that order [T'])."""
    _, token_to_type = stimulus.types(lower=lower)
    used = np.isin(token_to_type, types)
    if eligible is not None:
        used &= np.asarray(eligible, bool)
    rows = np.flatnonzero(used)
    index = np.searchsorted(types, token_to_type[rows])
    if len(np.unique(index)) < len(types):
        raise ValueError(
            "some of the types have no eligible token: give the types of `confound_rdms`"
        )
    run = np.zeros(len(stimulus), int) if stimulus.run is None else np.asarray(stimulus.run)
    first = np.unique(index, return_index=True)[1]
    # Runs are numbered by first appearance, whatever their labels.
    place = {label: i for i, label in enumerate(dict.fromkeys(run[rows].tolist()))}
    own_run = np.array([place[run[rows[i]]] for i in first])
    onsets = np.arange(len(stimulus), dtype=float)
    if stimulus.onsets is not None:
        onsets = stimulus.onsets
    here = np.array([place[r] for r in run[rows]]) == own_run[index]
    means = _means(onsets[rows][here], index[here], len(types))
    order = np.lexsort((means, own_run))
    return order, own_run[order]
