"""Does what was fitted on words of one condition hold for words of another?

For each person, model, layer and method: trained on words of a condition, tested on held-out words of the
same one and of the others, with equal numbers of training words and of candidates, and candidates that no
cell was trained on. The gap is what is lost from within to across. It is compared with the gaps of draws in
which the words exchange their conditions and everything is fitted and chosen anew. Candidates are the
held-out words of the tested condition, or as many of every condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.names import model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.generalisation import matching, report, scores
from brainalign_jax.studies.generalisation.cells import (
    Cells,
    Sizes,
    common_sizes,
    draw_cells,
    draw_joint_cells,
    exchanged,
    n_sets,
    tested_apart,
)
from brainalign_jax.studies.generalisation.conditions import Items, items_in, split_conditions
from brainalign_jax.studies.generalisation.table import (
    COLUMNS,
    RULE,
    GeneralisationTable,
    gap_slopes,
    of_rule,
    ranks_apart,
    rows_of,
)
from brainalign_jax.studies.options import CONDITION, JOINT, Generalisation
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.manifest import manifest, model_facts
from brainalign_jax.study.options import CELL_KS, Scoring
from brainalign_jax.study.progress import SCORES

_MOST = 2**28  # words of all cells


def run_generalisation(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    conditions: str | Sequence[str],
    output_dir: str | Path | None = None,
    *,
    plan: Generalisation = Generalisation(),
    scoring: Scoring = Scoring(ks=CELL_KS),
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> GeneralisationTable:
    """Score cells within and across conditions; write generalisation.parquet, manifest.json, report.html.

    Args:
      dataset: an opened data set. models: names, or vectors in memory. conditions: two or more, as
        "concreteness<3;concreteness>=4"; see `conditions.condition_mask`.
      output_dir: None writes nothing. plan: folds, matching, draws. scoring: methods, ks,
        layers, lower and seed; its protocol is the audited one of isolated items, with candidates that are
        not scaled and all axes of the vectors, where none is given. cache_dir: of word vectors; below
        output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for conditions that the words do not have, overlap, or have too few words.
    """
    names = split_conditions(conditions)
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    in_memory = vectors_in(models)
    models = model_names(models)
    chosen = scores.chosen_protocol(scoring.protocol)
    scoring = replace(scoring, protocol=chosen)
    items = items_in(dataset.stimulus, names, scores.eligible_tokens(dataset), lower=scoring.lower)
    matchings = _matchings(dataset, items, plan, scoring.lower)
    own_items = [items._replace(sets=matching.sets) for matching in matchings] or [items]
    sizes = common_sizes(own_items, n_folds=plan.n_folds, n_train=plan.n_train)
    fewest = sizes.n_candidates * (1 if CONDITION in plan.candidates else len(names))
    ks = scores.ks_within(scoring.ks, fewest)
    n_cells = (1 + plan.n_nulls) * plan.n_splits * sizes.n_folds * len(names) ** 2
    n_words = len(plan.candidates) * (sizes.n_train + sizes.n_candidates)
    if n_cells * len(own_items) * n_words > _MOST:
        raise ValueError(
            f"{len(names)} conditions, n_splits={plan.n_splits} and n_nulls={plan.n_nulls} make {n_cells:,} "
            f"cells of {sizes.n_train} training words, more than can be held: lower one of them"
        )
    computing.keep_compiled_programs()
    tasks = [
        _task(rule, own_items, sizes, plan, len(dataset.subjects), scoring.seed)
        for rule in plan.candidates
    ]
    study = Study(dataset, models, scoring, computation, embedding, given=in_memory, cache=cache)
    methods = [
        (task, scores.decoding_method(name, chosen, task.sizes))
        for name in scoring.methods
        for task in tasks
    ]
    told, vectors = scores.vectors_of(study, len(methods), show=progress)
    tables, fingerprints = [], {}
    with told.stage(SCORES), computation.context():
        rows = scores.rows_of_people(
            dataset, items, [method for _, method in methods], scoring.lower, fingerprints
        )
        for task, method in methods:
            sources = rows[method.form]
            observed = [draws[0] for draws in task.cells_of]
            ceilings = scores.ceiling_ranks(sources, observed, task.sizes, method, plan.centring)
            for embeddings in vectors:
                layers = scores.item_layers(embeddings, items, scoring.layers, method)
                ranks = scores.ranked(
                    dataset.subjects,
                    sources,
                    layers,
                    task.cells_of,
                    task.sizes,
                    method,
                    plan.centring,
                    computation,
                    told,
                )
                ranks = ranks._replace(ceiling=ceilings)
                cells = observed
                if task.rule == JOINT:
                    ranks = ranks_apart(ranks, len(names))
                    cells = [tested_apart(drawn, len(names)) for drawn in observed]
                method_rows = rows_of(
                    ranks, items, cells, task.sizes, plan, ks=ks, seed=scoring.seed
                )
                tables.append(
                    method_rows.assign(
                        dataset=dataset.name,
                        model=embeddings.model,
                        method=method.name,
                        **{RULE: task.rule},
                    )
                )
    facts = manifest(
        study,
        [model_facts(model) for model in vectors],
        fingerprints,
        command=command,
        simulated=simulated,
        notes=(),
    )
    facts |= {
        "conditions": {
            name: int((items.condition == index).sum()) for index, name in enumerate(names)
        },
        "cells": sizes._asdict(),
        "matching": _matching_facts(matchings, items, plan),
        "plan": asdict(plan),
        "ks": list(ks),
        "stimulus": dataset.stimulus.fingerprint(),
    }
    all_rows = pd.concat(tables, ignore_index=True)[[*COLUMNS, RULE]]
    table = GeneralisationTable(all_rows, facts)
    facts["scaling"] = gap_slopes(of_rule(table), vectors, plan, scoring.seed)
    return table.finished(output, report.write_report)


class _Task(NamedTuple):
    """What is scored by one rule of candidates.

    sizes: with all candidates of a cell. cells_of: of each person, the cells as they are, then each draw's.
    """

    rule: str
    sizes: Sizes
    cells_of: list[list[Cells]]


def _task(
    rule: str, own_items: list[Items], sizes: Sizes, plan: Generalisation, n_people: int, seed: int
) -> _Task:
    """own_items: of all people, or where words are matched by what other people agree on, of each person."""
    draw = draw_joint_cells if rule == JOINT else draw_cells
    drawn = [_draws(items, sizes, plan, seed, draw) for items in own_items]
    n_conditions = len(own_items[0].names) if rule == JOINT else 1
    sizes = sizes._replace(n_candidates=sizes.n_candidates * n_conditions)
    return _Task(rule, sizes, [drawn[index % len(drawn)] for index in range(n_people)])


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
        matching.matched(items, {**variables, matching.RELIABILITY: agreed}, caliper=plan.caliper)
        for agreed in agreement
    ]


def _matching_facts(matchings, items: Items, plan: Generalisation) -> dict | None:
    if not matchings:
        return None
    single = len(np.unique(items.unit)) == len(items.unit)
    return {
        "variables": list(plan.match),
        "caliper": plan.caliper,
        "of": "words" if single else "runs",
        "n_sets": min(n_sets(matching_of.sets) for matching_of in matchings),
        "balance": [row._asdict() for row in matching.mean_balance(matchings)],
    }


def _draws(
    items: Items, sizes: Sizes, plan: Generalisation, seed: int, draw_from: Callable[..., Cells]
) -> list[Cells]:
    """The cells as they are, then those of each draw in which conditions are exchanged."""
    draws = [draw_from(items, sizes, n_splits=plan.n_splits, rng=_rng(seed, 0))]
    for draw in range(1, plan.n_nulls + 1):
        rng = _rng(seed, draw)
        moved = exchanged(items, rng)
        draws.append(draw_from(moved, sizes, n_splits=plan.n_splits, rng=rng))
    return draws


def _rng(seed: int, draw: int) -> np.random.Generator:
    return np.random.default_rng((seed, draw))
