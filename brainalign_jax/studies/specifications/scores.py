"""Scores of specifications, of the data and of draws that all specifications share.

Of isolated words by ridge they are read of shared products (`products`); all else is scored by a study's own
sweep and draws, one for each protocol. Either way a score is the mean over people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.specifications import products
from brainalign_jax.studies.specifications.choices import Specification
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.draws import default_kind, draw_nulls, moved_rows
from brainalign_jax.study.evidence.nulls import NullPlan, recording_draws, score_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.results import POOLED, SELECTED
from brainalign_jax.study.score import preparation, sweep
from brainalign_jax.study.score.problem import Problem, check_words, folds_of
from brainalign_jax.study.score.workbench import layer_numbers


class Scored(NamedTuple):
    """values: [1 + P] scores of a specification, the data's first; layer: that stands for the model in the
    data, -1 where inner folds choose one in each fold; n_items: words tested, mean over people."""

    values: np.ndarray
    layer: int
    n_items: int


class _Base(NamedTuple):
    """Specifications that share maps: the protocol, and the rules of the penalty."""

    protocol: products.Protocol
    rules: tuple[str, ...]


def by_products(
    dataset: Dataset,
    models: dict[object, Embeddings],
    specifications: Sequence[Specification],
    *,
    n_draws: int,
    lower: bool,
    seed: int,
    computation: Computation,
    loaded: Callable[[str], WordResponses],
    told: Callable[[float], None],
) -> list[Scored]:
    """Scores of each specification. models: by `Specification.embedding`; told: of the share that is done."""
    readouts = tuple(dict.fromkeys(map(_readout, specifications)))
    bases = _bases(specifications)
    n_steps = len(bases) * len(dataset.subjects)
    widths = {layers.shape[-1] for model in models.values() for _, layers in model.blocks()}
    if len(widths) > 1 and any(base.protocol.pca != "none" for base in bases):
        raise ValueError(
            "--choices: pca=model_width of layers that differ in width is not one choice: leave it out"
        )
    draws = _draws(dataset, n_draws, lower=lower, seed=seed)
    total: dict[tuple, np.ndarray] = {}
    asked: dict[tuple, int] = {}
    with computation.context(), ThreadPoolExecutor(computation.workers()) as pool:
        for subject in dataset.subjects:
            recording = loaded(subject)
            for model in models.values():
                check_words(recording, model, Scoring(lower=lower))
            sources: dict[object, np.ndarray] = {}
            for base in bases:
                scoring = Scoring(("ridge",), base.protocol, (1,), None, lower, seed)
                problem = folds_of(recording, scoring)
                source = _source(
                    recording, problem, base.protocol, max(widths), sources, computation
                )
                fits = products.fits_of(
                    source, problem, base.protocol, base.rules, computation, pool
                )
                n_asked = int(np.asarray(problem.folds.outer.query_mask).sum())
                for embedding, model in models.items():
                    grams = np.stack(
                        [
                            products.gram_of(layer, centred=base.protocol.fit_intercept)
                            for _, layers in model.blocks()
                            for layer in layers
                        ]
                    )
                    for rule in base.rules:
                        sums = products.sums_of(
                            fits, grams, draws, rule, readouts, computation, pool
                        )
                        of_layers = sums.sums.sum(axis=2) / n_asked
                        choice = sums.losses.argmin(axis=1)[:, None, :, None]
                        picked = np.take_along_axis(sums.sums, choice, axis=1)
                        picked = picked[:, 0].sum(axis=1) / n_asked
                        key = (base, embedding, rule)
                        both = np.concatenate([picked[:, None], of_layers], axis=1)
                        total[key] = total.get(key, 0) + both / len(dataset.subjects)
                        asked[key] = n_asked
                told(1 / n_steps)
    scored = []
    for specification in specifications:
        base = _base_of(specification, bases)
        key = (base, specification.embedding, specification.protocol.alpha_selection)
        values = total[key][:, :, readouts.index(_readout(specification))]
        own, layer = of_layer_rule(values[:, 1:], values[:, 0], specification.levels["layer"])
        scored.append(Scored(own, layer, asked[key]))
    return scored


def of_layer_rule(by_layer: np.ndarray, picked: np.ndarray, rule: str) -> tuple[np.ndarray, int]:
    """(scores [1 + P], place of the layer in the data) of scores [1 + P, L] and of inner folds' [1 + P]."""
    if rule == "inner_folds":
        return picked, SELECTED
    if rule == "middle":
        middle = by_layer.shape[1] // 2
        return by_layer[:, middle], middle
    return by_layer.max(axis=1), int(by_layer[0].argmax())


def _readout(specification: Specification) -> products.Readout:
    spread = specification.protocol.candidate_scaling == "spread"
    return products.Readout(spread, specification.csls_k, specification.k)


def _plain(protocol: products.Protocol) -> products.Protocol:
    """The protocol with what products share the same in all of them."""
    return dataclasses.replace(
        protocol,
        candidate_scaling="spread",
        csls_k=1,
        layer_selection="inner_folds",
        alpha_selection="retrieval",
    )


def _bases(specifications: Sequence[Specification]) -> list[_Base]:
    rules: dict[products.Protocol, dict[str, None]] = {}
    for specification in specifications:
        own = specification.protocol
        rules.setdefault(_plain(own), {})[own.alpha_selection] = None
    return [_Base(protocol, tuple(several)) for protocol, several in rules.items()]


def _base_of(specification: Specification, bases: Sequence[_Base]) -> _Base:
    plain = _plain(specification.protocol)
    return next(base for base in bases if base.protocol == plain)


def _draws(dataset: Dataset, n_draws: int, *, lower: bool, seed: int) -> np.ndarray:
    """[1 + P, T] the word whose vector each takes, the data's own first."""
    _, token_to_type = dataset.stimulus.types(lower=lower)
    every = np.ones(len(dataset.stimulus), bool)
    drawn = draw_nulls("items", dataset.stimulus, every, token_to_type, n_draws, seed=seed)
    return np.stack([np.arange(int(token_to_type.max()) + 1), *(draw.types for draw in drawn)])


def _source(
    recording: WordResponses,
    problem: Problem,
    protocol: products.Protocol,
    width: int,
    known: dict[object, np.ndarray],
    computation: Computation,
) -> np.ndarray:
    """Responses as the protocol scales and reduces them; known: what is prepared already."""
    fitted = preparation.fits_each_fold(protocol)
    key = (
        protocol.scaling,
        protocol.pca,
        protocol.alpha_unit,
        (protocol.folds, protocol.n_folds) if fitted else None,
    )
    if key not in known:
        known[key] = preparation.prepare_responses(
            recording.values,
            problem.eligible,
            protocol,
            width=width,
            train=np.asarray(problem.folds.outer.train) > 0 if fitted else None,
            form="products",
            dtype=computation.dtype,
        )
    return known[key]


def by_studies(
    dataset: Dataset,
    models: dict[object, Embeddings],
    specifications: Sequence[Specification],
    *,
    method: str,
    n_draws: int,
    lower: bool,
    seed: int,
    computation: Computation,
    loaded: Callable[[str], WordResponses],
    told: Callable[[float], None],
) -> list[Scored]:
    """The same by a study's own sweep and draws; where inner folds choose a layer, they do so in each draw,
    which is a sweep of its own."""
    responses = [loaded(subject) for subject in dataset.subjects]
    plan = NullPlan(default_kind(dataset.stimulus), n_draws, seed)
    scored: dict[tuple, tuple[pd.DataFrame, pd.DataFrame]] = {}
    groups = dict.fromkeys(map(_study_key, specifications))
    chooses = any(own.levels["layer"] == "inner_folds" for own in specifications)
    for embedding, protocol, k in groups:
        scoring = Scoring((method,), protocol, (k,), None, lower, seed)
        sides = dataset.name, responses, models[embedding], scoring
        rows = sweep.score(*sides, computation=computation).rows
        if chooses:
            nulls = _swept_nulls(*sides, plan, computation)
        else:
            nulls = score_nulls(*sides, plan, k=k, computation=computation)
        scored[embedding, protocol, k] = rows[rows["fold"] == POOLED], nulls
        told(1 / len(groups))
    return [
        _of_study(*scored[_study_key(specification)], specification.levels["layer"])
        for specification in specifications
    ]


def _swept_nulls(
    name: str,
    responses: Sequence[WordResponses],
    model: Embeddings,
    scoring: Scoring,
    plan: NullPlan,
    computation: Computation,
) -> pd.DataFrame:
    """Scores of every draw, as `score_nulls`, and of the layer that its inner folds choose: a layer that was
    chosen by the data has no fair null of its own, as the luck of a pairing is that of all folds."""
    words = np.any([recording.valid for recording in responses], axis=0)
    parts = []
    for recording in responses:
        eligible = folds_of(recording, scoring, inner=False).eligible
        draws = recording_draws(plan, recording.stimulus, eligible, scoring.lower, words)
        for place, draw in enumerate(draws):
            moved, vectors = recording, model
            if draw.types is None:
                values = moved_rows(recording.values, draw, recording.stimulus, eligible)
                moved = dataclasses.replace(recording, values=values)
            else:
                vectors = dataclasses.replace(
                    model,
                    values=model.values[:, draw.types],
                    final=None if model.final is None else model.final[draw.types],
                )
            rows = sweep.score(name, [moved], vectors, scoring, computation=computation).rows
            parts.append(rows[rows["fold"] == POOLED].assign(draw=place))
    return pd.concat(parts, ignore_index=True)


def _study_key(specification: Specification) -> tuple:
    # Inner folds choose a layer beside the scores of all layers.
    protocol = dataclasses.replace(specification.protocol, layer_selection="inner_folds")
    return specification.embedding, protocol, specification.k


def _of_study(rows: pd.DataFrame, nulls: pd.DataFrame, rule: str) -> Scored:
    hits = rows[rows["metric"] == "precision_csls"]
    by_layer = hits.groupby("layer")["value"].mean()
    drawn = nulls[nulls["metric"] == "precision_csls"]
    drawn = drawn.groupby(["draw", "layer"])["value"].mean().unstack()
    layers = by_layer.index[by_layer.index != SELECTED]
    values = np.concatenate([by_layer[layers].to_numpy()[None], drawn[layers].to_numpy()])
    inner = values[:, 0]
    if rule == "inner_folds":
        inner = np.concatenate([by_layer[[SELECTED]].to_numpy(), drawn[SELECTED].to_numpy()])
    own, layer = of_layer_rule(values, inner, rule)
    return Scored(own, layer, int(hits["n_items"].mean()))


def layers_of(model: Embeddings) -> list[int]:
    """The numbers of a model's layers, in the order of scores."""
    return [number for block in layer_numbers(model, None) for number in block]
