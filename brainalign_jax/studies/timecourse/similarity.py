"""RSA in each window: dissimilarities of word pairs in brain and layer, with permutations of words."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from brainalign_jax.align.rsa import noise_ceiling, partial_rsa
from brainalign_jax.language import Embeddings
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.timecourse.decoding import WindowScores
from brainalign_jax.studies.timecourse.windows import Recording
from brainalign_jax.study.computation import Computation, compiled
from brainalign_jax.study.evidence.confounds import default_order, mantel_permutations
from brainalign_jax.study.evidence.rsa import condensed_rdm, mantel_correlations
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.measures.rsa import CROSSNOBIS
from brainalign_jax.study.score.workbench import layer_numbers

METRIC = "rsa"
_FEWEST = 8  # word types


class BrainRdms(NamedTuple):
    """One person's dissimilarities [W, P] of the word types [T] that have a response."""

    types: np.ndarray
    rdms: np.ndarray


def check_rsa(scoring: Scoring) -> None:
    """Raises: ValueError for a comparison that has no permutations, or distances of presentations."""
    if scoring.protocol.rdm_metric == CROSSNOBIS:
        raise ValueError(
            "rsa over time takes a word's mean response, which crossnobis has not: choose another "
            "--rdm_metric, or leave rsa out of the methods"
        )
    comparison = scoring.protocol.rdm_comparison
    if comparison not in partial_rsa.METHODS:
        raise ValueError(
            f"rsa over time compares RDMs by {' or '.join(partial_rsa.METHODS)}, not {comparison}: choose "
            "one (--rdm_comparison), or leave rsa out of the methods"
        )


def brain_rdms(
    recording: Recording, stimulus: Stimulus, scoring: Scoring, computation: Computation
) -> BrainRdms:
    """The dissimilarities of a person's windows, as the RSA score of a study makes them.

    Those of completed words are in the middle of all others, where they say nothing. By the mean that stands
    for them they would all be alike: of studies of noise in which eight people lacked 8 of 12 words of one
    kind, 15 of 16 had p < .05.

    Raises: ValueError for fewer than 8 word types, or where the RDMs are more than is meant for them.
    """
    protocol = scoring.protocol.of_method(METRIC)
    _, token_to_type = stimulus.types(lower=scoring.lower)
    eligible = recording.valid & (token_to_type >= 0)
    types = np.unique(token_to_type[eligible])
    if recording.completed is not None:
        eligible &= ~recording.completed
    known = np.isin(types, token_to_type[eligible])
    n_pairs = len(types) * (len(types) - 1) // 2
    if len(types) < _FEWEST:
        raise ValueError(
            f"subject {recording.subject}: {len(types)} words are too few for dissimilarities; {_FEWEST} are "
            "needed, or leave rsa out of the methods"
        )
    needed = 8 * n_pairs * (len(recording.responses) + 16)
    if needed > computation.rdm_bytes:
        raise ValueError(
            f"rsa of {len(types):,} words in {len(recording.responses)} windows takes {needed / 2**30:.1f} "
            f"GiB, more than the {computation.rdm_bytes / 2**30:.1f} that are for it: give a larger step, or "
            "leave rsa out of the methods"
        )
    rdms = []
    for response in recording.responses:
        values = np.asarray(response.values)
        if protocol.scaling != "none" or protocol.pca != "none":
            values = preparation.prepare_responses(
                values, eligible, protocol, width=values.shape[1], dtype=computation.dtype
            )
        means = preparation.type_means(values, token_to_type, eligible)[1]
        rdms.append(_completed(condensed_rdm(means, protocol), known, protocol.rdm_comparison))
    return BrainRdms(types, np.stack(rdms))


def _completed(rdm: np.ndarray, known: np.ndarray, comparison: str) -> np.ndarray:
    """Condensed dissimilarities of all words from those of the known [T] bool; the others in their middle."""
    if known.all():
        return rdm
    middle = np.median(rdm) if comparison == "spearman" else rdm.mean(dtype=np.float64)
    first, second = np.triu_indices(len(known), 1)
    every = np.full(len(first), middle, rdm.dtype)
    every[known[first] & known[second]] = rdm
    return every


def compare_windows(
    brain: BrainRdms,
    recording: Recording,
    stimulus: Stimulus,
    model: Embeddings,
    scoring: Scoring,
    *,
    n_nulls: int,
    computation: Computation,
) -> tuple[WindowScores, bool]:
    """(RSA scores of one person and model in all windows with their null, whether draws are shifts in time).

    Where a text is short there are fewer shifts than draws: all of them are taken.
    """
    protocol = scoring.protocol.of_method(METRIC)
    _, token_to_type = stimulus.types(lower=scoring.lower)
    permutations = np.zeros((0, len(brain.types)), np.int32)
    if n_nulls:
        permutations = mantel_permutations(
            stimulus,
            brain.types,
            n_nulls,
            lower=scoring.lower,
            eligible=recording.valid & (token_to_type >= 0),
            random_state=scoring.seed,
        )
    numbers: list[int] = []
    drawn = []
    wanted = layer_numbers(model, scoring.layers)
    for chosen, (known, values) in zip(wanted, model.blocks(), strict=True):
        kept = values[[known.index(layer) for layer in chosen]]
        if not len(kept):
            continue
        ready = preparation.prepare_vectors(
            kept,
            protocol,
            n_features=recording.values.shape[2],
            folds=False,
            dtype=computation.dtype,
        )
        layers = np.stack([condensed_rdm(layer[brain.types], protocol) for layer in ready])
        drawn.append(
            mantel_correlations(
                brain.rdms, layers, layers[:0], permutations, protocol.rdm_comparison
            )
        )
        numbers += chosen
    cube = np.concatenate(drawn, axis=2)
    shifts = default_order(stimulus, len(brain.types)) == "shifts"
    scores = WindowScores(METRIC, tuple(numbers), cube[0], cube[1:], len(brain.types), 0.0)
    return scores, shifts


def ceilings(people: list[BrainRdms], comparison: str) -> np.ndarray | None:
    """Lower bounds of the noise ceiling [W], in the mean over people; None where their words differ."""
    if len(people) < 2 or any(
        not np.array_equal(person.types, people[0].types) for person in people
    ):
        return None
    stacked = np.stack([person.rdms for person in people], axis=1)
    return np.array([float(np.asarray(_lower(rdms, method=comparison))) for rdms in stacked])


def _lower_bound(rdms: jax.Array, *, method: str) -> jax.Array:
    return noise_ceiling.noise_ceiling(rdms, method=method).lower.mean()


_lower = compiled(_lower_bound, static_argnames=("method",))
