"""Does what was fitted on words of one condition hold for words of another?

For each person, model, layer and method: trained on words of a condition, tested on held-out words of the
same one and of the others, with equal numbers of training words and of candidates, and candidates that no
cell was trained on. The gap is what is lost from within to across. It is compared with the gaps of draws in
which the words exchange their conditions and everything is fitted and chosen anew.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax import __version__
from brainalign_jax.files import output_folder
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.generalisation import matching, report, scores
from brainalign_jax.studies.generalisation.cells import (
    Cells,
    Sizes,
    common_sizes,
    draw_cells,
    exchanged,
)
from brainalign_jax.studies.generalisation.conditions import Items, items_in, split_conditions
from brainalign_jax.studies.generalisation.table import COLUMNS, GeneralisationTable, Ranks, rows_of
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.options import KS, Embedding, Generalisation, Scoring
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.protocol import Protocol, protocol
from brainalign_jax.study.results import SELECTED

_KS = (1, 3)  # of no more candidates than a fold has
_CEILING_WORDS = 4000
_MOST = 2**28  # words of all cells
_SECONDS = 0.02  # of a cell, as a first guess
_VECTORS, _SCORES = "word vectors", "scores"


def run_generalisation(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    conditions: str | Sequence[str],
    output_dir: str | Path | None = None,
    *,
    plan: Generalisation = Generalisation(),
    scoring: Scoring = Scoring(ks=_KS),
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> GeneralisationTable:
    """Score cells within and across conditions; write generalisation.parquet, manifest.json, report.html.

    Args:
      conditions: two or more, as "concreteness<3;concreteness>=4"; see `conditions.condition_mask`.
      output_dir: None writes nothing. scoring: methods, ks, layers, lower and seed; its protocol is the
        audited one of isolated items, with candidates that are not scaled and all axes of the vectors,
        where none is given. cache_dir: of word vectors; below output_dir if not given.

    Raises: ValueError for conditions that the words do not have, overlap, or have too few words.
    """
    names = split_conditions(conditions)
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    given = {model.model: model for model in models if isinstance(model, Embeddings)}
    models = tuple(model.model if isinstance(model, Embeddings) else model for model in models)
    chosen = cell_protocol() if scoring.protocol is None else _checked(scoring.protocol)
    scoring = replace(scoring, protocol=chosen)
    items = items_in(dataset.stimulus, names, _eligible(dataset), lower=scoring.lower)
    matchings = _matchings(dataset, items, plan, scoring.lower)
    own_items = [items._replace(sets=matching.sets) for matching in matchings] or [items]
    sizes = common_sizes(own_items, n_folds=plan.n_folds, n_train=plan.n_train)
    ks = tuple(k for k in scoring.ks if k < sizes.n_candidates)
    if len(ks) < len(scoring.ks) and scoring.ks not in (KS, _KS):
        raise ValueError(
            f"ks={','.join(map(str, scoring.ks))} must be below the {sizes.n_candidates} candidates of a "
            "fold: leave larger ones out, or give fewer n_folds"
        )
    n_cells = (1 + plan.n_nulls) * plan.n_splits * sizes.n_folds * len(names) ** 2
    if n_cells * len(own_items) * (sizes.n_train + sizes.n_candidates) > _MOST:
        raise ValueError(
            f"{len(names)} conditions, n_splits={plan.n_splits} and n_nulls={plan.n_nulls} make {n_cells:,} "
            f"cells of {sizes.n_train} training words, more than can be held: lower one of them"
        )
    computing.keep_compiled_programs()
    drawn = [_draws(own, sizes, plan, scoring.seed) for own in own_items]
    # Where words are matched by what other people agree on, each person has cells of their own.
    cells_of = [drawn[index % len(drawn)] for index in range(len(dataset.subjects))]
    observed = [cells[0] for cells in cells_of]
    cache = (output and output / "cache") if cache_dir is None else Path(cache_dir)
    study = Study(dataset, models, scoring, computation, embedding, given=given, cache=cache)
    methods = [scores.decoding_method(name, chosen, sizes) for name in scoring.methods]
    told = Progress(
        {
            _VECTORS: Stage(len(models), 1.0),
            _SCORES: Stage(len(models) * len(methods) * len(dataset.subjects), _SECONDS * n_cells),
        },
        show=progress,
    )
    with told.stage(_VECTORS):
        vectors = []
        for name in models:
            vectors.append(study.vectors(name))
            told.update()
    tables, fingerprints = [], {}
    with told.stage(_SCORES), computation.context():
        rows = _people(dataset, items, methods, scoring.lower, fingerprints)
        for method in methods:
            sources = rows[method.form]
            ceilings = _ceilings(sources, observed, sizes, method, plan.centring)
            for embeddings in vectors:
                layers = scores.item_layers(embeddings, items, scoring.layers, method)
                ranks = _ranked(
                    dataset.subjects,
                    sources,
                    layers,
                    cells_of,
                    sizes,
                    method,
                    plan.centring,
                    computation,
                    told,
                )
                ranks = ranks._replace(ceiling=ceilings)
                rows_found = rows_of(ranks, items, observed, sizes, plan, ks=ks, seed=scoring.seed)
                tables.append(
                    rows_found.assign(
                        dataset=dataset.name, model=embeddings.model, method=method.name
                    )
                )
    table = GeneralisationTable(
        pd.concat(tables, ignore_index=True)[list(COLUMNS)],
        {
            "command": command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {"brainalign_jax": __version__, "python": platform.python_version()},
            "dataset": {"name": dataset.name, **dataset.meta},
            "simulated": simulated,
            "conditions": {
                name: int((items.condition == index).sum()) for index, name in enumerate(names)
            },
            "cells": sizes._asdict(),
            "matching": _matching_facts(matchings, items, plan),
            "plan": asdict(plan),
            "protocol": chosen.fields(),
            "methods": list(scoring.methods),
            "ks": list(ks),
            "layers": scoring.layers,
            "lower": scoring.lower,
            "seed": scoring.seed,
            "models": [
                {"name": model.model, "fingerprint": model.fingerprint(), **model.meta}
                for model in vectors
            ],
            "subjects": fingerprints,
            "stimulus": dataset.stimulus.fingerprint(),
        },
    )
    if output is not None:
        with outputs.new_outputs(output) as new:
            table.write(new)
            report.write_report(table, new)
    return table


def cell_protocol(**overrides) -> Protocol:
    """The audited protocol as cells take it: no candidate was trained on, so that none needs scaling.

    Models' vectors keep all their axes. overrides: fields of the protocol.
    """
    own = {"candidate_scaling": "none", "vector_axes": 0, **overrides}
    return protocol("audited", timed=False, **own)


def _checked(given: Protocol) -> Protocol:
    """A protocol as cells can take it. Raises ValueError for choices that they have no place for."""
    for name in ("scaling", "pca", "vector_scaling", "n_voxels"):
        if getattr(given, name) not in ("none", 0):
            raise ValueError(
                f"{name}={getattr(given, name)} has no place in a generalisation study, whose cells share "
                f"the prepared responses: give {'0' if name == 'n_voxels' else 'none'}"
            )
    return replace(given, layer_selection="inner_folds", csls_queries="fold", queries="types")


def _eligible(dataset: Dataset) -> np.ndarray:
    """The tokens [N] to which every subject has a response."""
    eligible = np.ones(len(dataset.stimulus), bool)
    for subject in dataset.subjects:
        eligible &= dataset.load(subject).valid
    return eligible


def _matchings(
    dataset: Dataset, items: Items, plan: Generalisation, lower: bool
) -> list[matching.Matching]:
    """How the tested words are matched: once for all, or for each person; empty where they are not."""
    if not plan.match:
        return []
    stimulus = dataset.stimulus
    variables = matching.matching_variables(stimulus, items, plan.match, lower=lower)
    if set(plan.match) == set(variables):
        return [matching.matched(items, variables, caliper=plan.caliper)]
    n_people = len(dataset.subjects)
    matching.check_people(n_people, len(items.types))
    _, token_to_type = stimulus.types(lower=lower)
    similarities = [
        matching.similarity_of_items(
            scores.item_rows(dataset.load(subject), items, token_to_type, "values")
        )
        for subject in dataset.subjects
    ]
    agreement = matching.item_reliability(np.stack(similarities))
    return [
        matching.matched(items, {**variables, matching.RELIABILITY: own}, caliper=plan.caliper)
        for own in agreement
    ]


def _matching_facts(matchings, items: Items, plan: Generalisation) -> dict | None:
    if not matchings:
        return None
    single = len(np.unique(items.unit)) == len(items.unit)
    return {
        "variables": list(plan.match),
        "caliper": plan.caliper,
        "of": "words" if single else "runs",
        "n_sets": min(int(own.sets.max()) + 1 for own in matchings),
        "balance": [row._asdict() for row in matching.mean_balance(matchings)],
    }


def _draws(items: Items, sizes: Sizes, plan: Generalisation, seed: int) -> list[Cells]:
    """The cells as they are, then those of each draw in which conditions are exchanged."""
    draws = [draw_cells(items, sizes, n_splits=plan.n_splits, rng=_rng(seed, 0))]
    for draw in range(1, plan.n_nulls + 1):
        rng = _rng(seed, draw)
        moved = exchanged(items, rng)
        draws.append(draw_cells(moved, sizes, n_splits=plan.n_splits, rng=rng))
    return draws


def _rng(seed: int, draw: int) -> np.random.Generator:
    return np.random.default_rng((seed, draw))


def _people(dataset: Dataset, items, methods, lower: bool, fingerprints: dict) -> dict:
    """form -> the rows [I, R] of every subject; fingerprints of the recordings on the side."""
    _, token_to_type = dataset.stimulus.types(lower=lower)
    rows_by_form: dict[str, list[np.ndarray]] = {method.form: [] for method in methods}
    for subject in dataset.subjects:
        responses = dataset.load(subject)
        fingerprints[subject] = responses.fingerprint()
        for form, rows in rows_by_form.items():
            rows.append(scores.item_rows(responses, items, token_to_type, form))
    return rows_by_form


def _ceilings(
    sources, cells_of: Sequence[Cells], sizes, method, centring: str
) -> np.ndarray | None:
    """Ranks [S, F, Q] of the tested words by the other people's responses; None for a single person."""
    if len(sources) < 2 or len(sources[0]) > _CEILING_WORDS:
        return None
    ranks_of_subjects = []
    for subject, (source, cells) in enumerate(zip(sources, cells_of, strict=True)):
        others = [rows for index, rows in enumerate(sources) if index != subject]
        layer = scores.others_layer(others)[None]
        ranks = scores.score_cells(source, layer, cells, sizes, method, centring=centring).ranks
        ranks_of_subjects.append(ranks[:, 0])
    return np.stack(ranks_of_subjects)


def _ranked(
    subjects,
    sources,
    layers,
    cells_of: Sequence[list[Cells]],
    sizes,
    method,
    centring: str,
    computation,
    told,
) -> Ranks:
    """Ranks of all subjects in the cells as they are and in those of each null draw."""
    numbers, values = layers
    n_draws, n_cells = len(cells_of[0]), len(cells_of[0][0].train)

    def of_subject(work):
        source, draws = work
        joined = Cells(*(np.concatenate(parts) for parts in zip(*draws, strict=True)))
        with computation.context():
            cell_scores = scores.score_cells(
                source, values, joined, sizes, method, centring=centring
            )
        chosen = cell_scores.loss.argmin(axis=1)
        selected = cell_scores.ranks[np.arange(len(chosen)), chosen]
        return np.concatenate([selected[:, None], cell_scores.ranks], axis=1)

    every = []
    with ThreadPoolExecutor(computation.workers()) as pool:
        for ranks in pool.map(of_subject, zip(sources, cells_of, strict=True)):
            every.append(ranks)
            told.update()
    by_draw = np.stack(every).reshape(len(sources), n_draws, n_cells, *every[0].shape[1:])
    by_draw = by_draw.astype(np.int16).swapaxes(0, 1)
    return Ranks(tuple(subjects), [SELECTED, *numbers], by_draw[0], None, by_draw[1:])
