"""What stands behind an RSA score: confounds held constant, permutation tests, noise ceiling.

RDMs are of the word types that every subject has responses to. The permutations are of words, not of
pairs, with whole blocks or shifts in time where words have onsets (`confounds.mantel_permutations`).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from brainalign_jax.align.rsa import noise_ceiling, partial_rsa
from brainalign_jax.language import Embeddings
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.evidence.confounds import common_words, confound_rdms
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.measures import measure_of
from brainalign_jax.study.score.measures.base import word_centred
from brainalign_jax.study.score.measures.rsa import in_matrices, word_rdm
from brainalign_jax.study.score.problem import Scoring
from brainalign_jax.study.score.workbench import layer_numbers

COLUMNS = (
    "dataset", "model", "layer", "n_items", "rsa", "p", "partial", "p_partial", "group_rdm", "p_group_rdm",
    "ceiling_lower", "ceiling_upper", "confounds", "n_permutations",
)  # fmt: skip
_BLOCK = 50  # permutations in one compiled call
_LAYERS = 16  # of all models, in one compiled call


class LayerValues(NamedTuple):
    """A measure of one model: the numbers of the layers [L], each person's values [S, L], and the mean over
    people of every permutation [P, L]."""

    layers: np.ndarray
    observed: np.ndarray
    drawn: np.ndarray


def rsa_evidence(study: Study) -> tuple[pd.DataFrame, dict[str, LayerValues]]:
    """(one row a model and layer, with COLUMNS; the RSA scores that these are of, by model).

    Nothing of either where the RDMs do not fit into computation.rdm_bytes.

    rsa: mean over subjects of the correlation of RDMs; partial: with the confounds held constant;
    group_rdm: correlation with the mean of the subjects' RDMs. p: one-sided, each corrected over the
    model's layers by the largest of every permutation, and of shifts in time no smaller than 1 / the number
    of independent ones; NaN without permutations. ceiling_lower and ceiling_upper: mean over subjects, as
    rsatoolbox bounds it.
    """
    dataset, scoring, computation = study.dataset, study.scoring, study.computation
    protocol, empty = scoring.protocol.of_method("rsa"), (pd.DataFrame(columns=list(COLUMNS)), {})
    loaded = [dataset.load(subject) for subject in dataset.subjects]
    measure = measure_of("rsa", scoring.protocol)
    words = common_words(study, loaded, repeated=measure.repeats)
    types, token_to_type, eligible, permutations, order = words
    n_pairs = len(types) * (len(types) - 1) // 2
    if protocol.rdm_comparison not in partial_rsa.METHODS or len(types) < 8:
        return empty
    needed = 8 * n_pairs * (len(loaded) + 16)
    if needed > computation.rdm_bytes:
        study.leave_out("evidence on rsa", needed)
        return empty
    method = protocol.rdm_comparison
    held_constant = confound_rdms(dataset.stimulus, eligible, lower=scoring.lower)
    confounds = held_constant.rdms.reshape(-1, n_pairs).astype(computation.dtype)
    groups: dict[int, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for name in study.models:
        for numbers, values in _wanted_layers(study.vectors(name), scoring):
            width = values.shape[-1] if protocol.pca != "none" else 0
            groups.setdefault(width, []).append((name, numbers, values))
    with computation.context():
        tables = []
        for width, blocks in groups.items():
            dtype = computation.dtype
            known = _brain(loaded, token_to_type, eligible, measure, width, dtype)
            brain, group, bounds, n_features = known

            def rdms(blocks=blocks, n_features=n_features):
                for _, _, values in blocks:
                    options = dict(n_features=n_features, folds=False, dtype=computation.dtype)
                    ready = preparation.prepare_vectors(values, protocol, **options)
                    for layer in ready:
                        yield condensed_rdm(layer[types], protocol)

            scores = _tested(brain, group, rdms(), confounds, permutations, method)
            place = pd.DataFrame(
                {
                    "model": np.repeat(
                        [name for name, _, _ in blocks], [len(numbers) for _, numbers, _ in blocks]
                    ),
                    "layer": np.concatenate([numbers for _, numbers, _ in blocks]),
                }
            )
            tables.append(
                (
                    place.assign(
                        dataset=dataset.name,
                        n_items=len(types),
                        ceiling_lower=bounds[0],
                        ceiling_upper=bounds[1],
                        confounds=", ".join(held_constant.names),
                        n_permutations=len(permutations),
                    ),
                    scores,
                )
            )
    return _rows(tables, study.models, order == "shifts"), _by_model(tables, study.models)


class _Scores(NamedTuple):
    """Of "rsa", "partial" and "group_rdm": group correlations [L], and of the permutations [B, L].

    people: each one's of "rsa" [S, L].
    """

    observed: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    people: np.ndarray


def _by_model(
    tables: list[tuple[pd.DataFrame, _Scores]], names: Sequence[str]
) -> dict[str, LayerValues]:
    values = {}
    for name in names:
        parts = [((rows["model"] == name).to_numpy(), rows, scores) for rows, scores in tables]
        values[name] = LayerValues(
            np.concatenate([rows.loc[own, "layer"] for own, rows, _ in parts]),
            np.concatenate([scores.people[:, own] for own, _, scores in parts], axis=1),
            np.concatenate([scores.drawn["rsa"][:, own] for own, _, scores in parts], axis=1),
        )
    return values


def _rows(
    tables: list[tuple[pd.DataFrame, _Scores]], names: Sequence[str], shifts: bool
) -> pd.DataFrame:
    """Rows with COLUMNS in the order of the models, each of whose layers are one family of tests."""
    place = pd.concat([rows for rows, _ in tables], ignore_index=True)
    for column in tables[0][1].observed:
        observed = np.concatenate([scores.observed[column] for _, scores in tables])
        drawn = np.concatenate([scores.drawn[column] for _, scores in tables], axis=1)
        p = "p" if column == "rsa" else f"p_{column}"
        place[column], place[p] = observed, np.nan
        for name in names if len(drawn) else ():
            of_model = (place["model"] == name).to_numpy()
            largest = drawn[:, of_model].max(axis=1)
            place.loc[of_model, p] = permutation_p(observed[of_model], largest, shifts=shifts)
    order = place["model"].map({name: i for i, name in enumerate(names)})
    place = place.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    return place[list(COLUMNS)]


def _wanted_layers(model: Embeddings, scoring: Scoring):
    """(numbers, values [l, T, D]) of each block, of the layers that are scored."""
    wanted = layer_numbers(model, scoring.layers)
    for chosen, (numbers, values) in zip(wanted, model.blocks(), strict=True):
        kept = [numbers.index(number) for number in chosen]
        if kept:
            yield np.asarray(chosen), values[kept]


def _brain(loaded, token_to_type, eligible, measure, width: int, dtype: str) -> tuple:
    """(RDMs [S, P], their mean [1, P], the ceiling's bounds, fewest features of a subject).

    Responses are scaled and reduced as for the score itself, over all of a subject's words.
    """
    rdms, n_features, protocol = [], [], measure.protocol
    for recording in loaded:
        values = np.asarray(recording.values)
        if protocol.scaling != "none" or protocol.pca != "none":
            kept = recording.valid & (token_to_type >= 0)
            values = preparation.prepare_responses(values, kept, protocol, width=width, dtype=dtype)
        n_features.append(values.shape[1])
        words = token_to_type, eligible, recording.stimulus.run
        means = measure.rows(values, *words, n_features=values.shape[1])[1]
        rdms.append(condensed_rdm(means, protocol))
    brain = np.stack(rdms)
    bounds = [np.nan, np.nan]
    if len(brain) > 1:
        bounds = [float(x.mean()) for x in _ceiling(brain, method=protocol.rdm_comparison)]
    group = np.asarray(brain.mean(axis=0, keepdims=True), brain.dtype)
    return brain, group, bounds, min(n_features)


def condensed_rdm(rows: np.ndarray, protocol) -> np.ndarray:
    """Condensed dissimilarities of the words [T, V], or of their presentations [T, K, V]."""
    rows = word_centred(rows) if protocol.center else rows
    return np.asarray(_compiled_rdm(rows, metric=protocol.rdm_metric))


def said_of_untested(scoring: Scoring) -> str:
    """Why the RSA score of a study is given without tests, or some of them; empty where it has all."""
    comparison = scoring.protocol.of_method("rsa").rdm_comparison
    if "rsa" not in scoring.measures or comparison in partial_rsa.METHODS:
        return ""
    if in_matrices(scoring.protocol):
        return (
            f"The RSA score by {comparison} has its permutations, ceiling and calibrated values in "
            "similarity.parquet, and none with confounds held constant: compare RDMs by "
            f"{' or '.join(partial_rsa.METHODS)} for these (--rdm_comparison)."
        )
    return (
        f"The RSA score by {comparison} has no permutations, ceiling or calibrated values: compare RDMs by "
        f"{' or '.join(partial_rsa.METHODS)} for these (--rdm_comparison)."
    )


def _tested(brain, group, rdms, confounds, permutations, method) -> _Scores:
    """Group correlations of the RDMs brain [S, P] and group [1, P] with those of all layers.

    rdms: yields [P] of each layer. Partial correlations are NaN where nothing is held constant.
    """
    parts, people = [], []
    while chunk := list(itertools.islice(rdms, _LAYERS)):
        # The last ones are filled up, so that all models share a program.
        filled = np.stack(chunk + chunk[-1:] * (_LAYERS - len(chunk)))
        scores = {}
        plain = mantel_correlations(
            np.concatenate([brain, group]), filled, confounds[:0], permutations, method
        )
        scores["rsa"], scores["group_rdm"] = plain[:, :-1].mean(axis=1), plain[:, -1]
        people.append(plain[0, :-1, : len(chunk)])
        scores["partial"] = np.full_like(scores["rsa"], np.nan)
        if len(confounds):
            held = mantel_correlations(brain, filled, confounds, permutations, method)
            scores["partial"] = held.mean(axis=1)
        parts.append({name: values[:, : len(chunk)] for name, values in scores.items()})
    every = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return _Scores(
        {name: values[0] for name, values in every.items()},
        {name: values[1:] for name, values in every.items()},
        np.concatenate(people, axis=1),
    )


def mantel_correlations(brain, model, confounds, permutations, method) -> np.ndarray:
    """[1 + B, S, L]: of the words as they are, and of each permutation [T]."""
    problem = _problem(brain, model, confounds, method=method)
    identity = np.arange(_n_items(brain.shape[-1]), dtype=np.int32)[None]
    orders = np.concatenate([identity, permutations])
    size = min(_BLOCK, len(orders))
    drawn = []
    for start in range(0, len(orders), size):
        some = orders[start : start + size]
        filled = np.resize(some, (size, some.shape[1]))
        drawn.append(np.asarray(_permuted(problem, filled))[: len(some)])
    return np.concatenate(drawn)


def _n_items(n_pairs: int) -> int:
    return int(round((1 + np.sqrt(1 + 8 * n_pairs)) / 2))


_compiled_rdm = compiled(word_rdm, static_argnames=("metric",))
_problem = compiled(partial_rsa.mantel_problem, static_argnames=("method",))
_ceiling = compiled(noise_ceiling.noise_ceiling, static_argnames=("method", "rank_mean"))


@compiled
def _permuted(problem: partial_rsa.MantelProblem, permutations: jax.Array) -> jax.Array:
    """[B, S, L] for permutations [B, T]."""
    return jax.lax.map(lambda draw: partial_rsa.permuted_correlations(problem, draw), permutations)
