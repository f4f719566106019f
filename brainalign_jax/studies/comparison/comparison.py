"""Which models are alike, which of their layers, and are they so in the words that brains agree on?

Every layer of every model is compared with every other, and with people, by measures of similarity that fit
no map. Beside each value is what permuted words give. The words are cut in two halves by how well people
agree on them, and what the models have in common is asked of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.machine import free_memory
from brainalign_jax.names import check_known, model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.comparison import report
from brainalign_jax.studies.comparison.agreement import word_agreement
from brainalign_jax.studies.comparison.table import COLUMNS, ComparisonTable, rows_of
from brainalign_jax.studies.comparison.values import Sides, half_values, pair_values, stacked
from brainalign_jax.studies.options import Comparison
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.confounds import common_words
from brainalign_jax.study.manifest import made_by, model_facts
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import check_measures
from brainalign_jax.study.score.measures import measure_of
from brainalign_jax.study.score.preparation import type_means

_VECTORS, _PAIRS = "vectors", "pairs of layers"
FEWEST = 12  # words


def run_comparison(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    plan: Comparison = Comparison(),
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    lower: bool = False,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> ComparisonTable:
    """Compare models with one another and with people; write comparison.parquet, manifest, figures, report.

    Args:
      dataset: an opened data set. models: names as of `embed`, or vectors in memory. output_dir: None writes
        nothing. plan: the measures, and what is drawn. lower: word types without regard to case. seed: of
        every draw and of untrained weights. cache_dir: of the vectors; below output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for a method that is no measure, fewer than 12 words that all people have responses to,
      or more than the memory holds.
    """
    check_measures(plan.measures, "a comparison of models")
    names = model_names(models)
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    computing.keep_compiled_programs()
    in_memory = vectors_in(models)
    choices = protocol("audited", timed=False, grouped=False)
    scoring = Scoring(methods=plan.measures, protocol=choices, lower=lower, seed=seed)
    evidence = EvidencePlan(n_permutations=plan.n_permutations, seed=seed)
    study = Study(
        dataset, names, scoring, computation, embedding, evidence, given=in_memory, cache=cache
    )
    told = Progress(
        {_VECTORS: Stage(len(names), 20.0), _PAIRS: Stage(len(plan.measures), 20.0)}, show=progress
    )
    loaded = [dataset.load(subject) for subject in dataset.subjects]
    words = common_words(study, loaded)
    types = words.types
    if len(types) < FEWEST:
        raise ValueError(
            f"{dataset.name} has {len(types)} words that all people have responses to; a comparison needs "
            f"{FEWEST}: leave people out (--subjects)"
        )
    people = [
        type_means(np.asarray(responses.values), words.token_to_type, words.eligible)[1]
        for responses in loaded
    ]
    with told.stage(_VECTORS):
        sides, about = _sides(study, plan, types, people, told)
    agreement = word_agreement(people)
    first_half = np.zeros(len(types), bool)
    first_half[np.argsort(-agreement, kind="stable")[: len(types) // 2]] = True
    tables = []
    with told.stage(_PAIRS), computation.context():
        for name in plan.measures:
            measure = measure_of(name, choices)
            measure.check(len(types) // 2)
            values = pair_values(measure, sides, words.permutations)
            halves = half_values(measure, sides, first_half, plan.n_permutations, seed)
            kinds = dict(shifts=words.kind == "shifts", own_null=measure.own_null)
            tables.append(rows_of(name, sides, values, halves, len(types), **kinds))
            told.update()
    vocabulary = dataset.stimulus.types(lower=lower)[0]
    table = ComparisonTable(
        pd.concat(tables, ignore_index=True).assign(dataset=dataset.name)[list(COLUMNS)],
        {
            **made_by(command),
            "dataset": {"name": dataset.name, **dataset.meta},
            "simulated": simulated,
            "plan": asdict(plan),
            "embedding": vars(embedding),
            "lower": lower,
            "seed": seed,
            "models": about,
            "subjects": {responses.subject: responses.fingerprint() for responses in loaded},
            "stimulus": dataset.stimulus.fingerprint(attributes=False),
            "order": words.kind,
            "agreement": [
                [vocabulary[kind], round(float(value), 6)]
                for kind, value in zip(types, agreement, strict=True)
            ],
        },
    )
    return table.finished(output, report.write_report)


def _sides(study: Study, plan: Comparison, types, people, told: Progress) -> tuple[Sides, list]:
    rows, labels, about = [], [], []
    for name in study.models:
        vectors = study.vectors(name)
        known = []
        for numbers, values in vectors.blocks():
            known += map(int, numbers)
            for number, layer in zip(numbers, values, strict=True):
                if plan.layers is None or number in plan.layers:
                    rows.append(np.asarray(layer)[types])
                    labels.append((name, int(number)))
        for number in plan.layers or ():
            check_known("layer", str(number), map(str, known), of=name)
        about.append(model_facts(vectors))
        told.update()
    dtype = np.dtype(study.computation.dtype)
    count = len(rows) + len(people)
    held = 5 * dtype.itemsize * count * len(types) ** 2
    if held > free_memory() // 2:
        raise ValueError(
            f"{len(rows)} layers and {len(people)} people of {len(types):,} words take {held:,} bytes, more "
            "than half of the free memory: name fewer --layers or --models"
        )
    return Sides(tuple(labels), stacked([*rows, *people], dtype), study.dataset.subjects), about
