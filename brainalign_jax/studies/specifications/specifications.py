"""Every combination of the choices that papers differ in: does the finding hang on them?

Where the protocol ladder walks from the paper's choices to the audited ones, a specification curve takes all
ways at once: sorted scores, each beside its own null, one test of the curve as a whole, and how much of the
spread each choice makes. Reference: Simonsohn, Simmons & Nelson (2020), Nature Human Behaviour 4:1208-1214.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.names import expanded, model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.options import Specifications
from brainalign_jax.studies.specifications import products, report, scores
from brainalign_jax.studies.specifications.choices import (
    OF_VECTORS,
    Specification,
    levels_of,
    specifications_of,
    varied,
)
from brainalign_jax.studies.specifications.table import SpecificationTable, facts_of, rows_of
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.draws import default_kind
from brainalign_jax.study.manifest import manifest, model_facts
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.progress import SCORES, VECTORS, Progress, Stage
from brainalign_jax.study.registry import check_decoders
from brainalign_jax.study.report.wording import counted
from brainalign_jax.study.score.problem import folds_of

_MOST_VALUES = 200_000_000  # of all draws, layers and readouts


def run_specifications(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    choices: Mapping[str, str | Sequence[str]] | None = None,
    plan: Specifications = Specifications(),
    lower: bool = False,
    seed: int = 0,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> SpecificationTable:
    """Score every combination of choices; write specifications.parquet, manifest.json and report.html.

    Args:
      dataset: an opened data set. models: names, or vectors in memory; each has a curve of its own.
      output_dir: None writes nothing. choices: choice -> levels (`choices.CHOICES`), as
        {"folds": "audited:shuffled", "metric": "p10"}; the others vary as they do by default.
      plan: draws and batches. lower: word types without regard to case. seed: of folds, draws and untrained
        weights. cache_dir: of word vectors; below output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for unknown choices and levels, one specification alone or too many, and as
    `run_study`.
    """
    check_decoders((plan.method,), "a specification curve")
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    names, given = model_names(dict.fromkeys(expanded(models))), vectors_in(models)
    stimulus = dataset.stimulus
    how = dict(
        timed=stimulus.onsets is not None, grouped=stimulus.run is not None, dataset=dataset.name
    )
    loaded = _Loader(dataset)
    every = specifications_of(
        {"folds": ("audited", "shuffled")} | _FIRST, embedding=embedding, **how
    )
    first = Scoring(
        (plan.method,), dataclasses.replace(every[0].protocol, csls_k=1), (1,), None, lower, seed
    )
    problems = [folds_of(loaded(subject), first) for subject in dataset.subjects]
    by_products = default_kind(stimulus) == "items" and all(
        products.serves(problem, own.protocol, plan.method) for problem in problems for own in every
    )
    levels = levels_of(
        choices or {},
        embedding=embedding,
        n_words=min(problem.n_candidates for problem in problems),
        recurring=any(problem.counts.max() > 1 for problem in problems),
        products=by_products,
        method=plan.method,
    )
    for name in OF_VECTORS:
        if given and len(levels[name]) > 1:
            raise ValueError(
                f"--choices: {name} is of models by name: leave it out for vectors in memory"
            )
    specifications = specifications_of(levels, embedding=embedding, **how)
    embeddings = list(dict.fromkeys(own.embedding for own in specifications))
    n_values = len(specifications) * len(names) * (1 + plan.n_nulls)
    if n_values > _MOST_VALUES:
        raise ValueError(
            f"{len(specifications):,} specifications and {plan.n_nulls:,} draws make {n_values:,} scores, "
            f"above {_MOST_VALUES:,}: lower --draws, or leave levels of --choices out"
        )
    scoring = Scoring((plan.method,), specifications[0].protocol, (1,), None, lower, seed)
    study = Study(dataset, names, scoring, computation, embedding, given=given, cache=cache)
    computing.keep_compiled_programs()
    told = Progress(
        {VECTORS: Stage(len(names) * len(embeddings), 1.0), SCORES: Stage(len(names), 50.0)},
        show=progress,
    )
    if progress:
        told.note(_planned(specifications, dataset, names, plan, by_products))
    with told.stage(VECTORS):
        vectors: dict[str, dict[object, Embeddings]] = {name: {} for name in names}
        for name in names:
            for own in embeddings:
                vectors[name][own] = dataclasses.replace(study, embedding=own).vectors(name)
                told.update()
    tables, drawn, curves = [], [], {}
    several = varied(levels)
    with told.stage(SCORES):
        for name in names:
            shared = dict(
                n_draws=plan.n_nulls,
                lower=lower,
                seed=seed,
                computation=computation,
                loaded=loaded,
                told=told.update,
            )
            if by_products:
                scored = scores.by_products(dataset, vectors[name], specifications, **shared)
            else:
                scored = scores.by_studies(
                    dataset, vectors[name], specifications, method=plan.method, **shared
                )
            rows, draws = rows_of(
                vectors[name][embeddings[0]],
                specifications,
                scored,
                dataset=dataset.name,
                method=plan.method,
                n_candidates=[problem.n_candidates for problem in problems],
            )
            tables.append(rows)
            drawn.append(draws)
            curves[name] = facts_of(rows, draws, several)
        told.complete(SCORES)
    facts = manifest(
        study,
        [model_facts(own) for of_name in vectors.values() for own in of_name.values()],
        loaded.fingerprints,
        command=command,
        simulated=simulated,
        notes=_notes(specifications),
    )
    facts |= {
        "plan": dataclasses.asdict(plan),
        "levels": {name: list(own) for name, own in levels.items()},
        "varied": {name: list(own) for name, own in several.items()},
        "null": default_kind(stimulus),
        "by_products": by_products,
        "curves": curves,
    }
    table = SpecificationTable(
        pd.concat(tables, ignore_index=True), facts, pd.concat(drawn, ignore_index=True)
    )
    return table.finished(output, report.write_report)


# One level of every choice but the folds: what is asked of the words before there are levels.
_FIRST = {
    "queries": ("types",), "centring": ("training",), "scaling": ("none",), "pca": ("none",),
    "penalty": ("retrieval",), "candidate_scaling": ("spread",), "csls_k": ("none",),
    "layer": ("inner_folds",), "metric": ("p1",), "pooling": ("mean",), "context": ("sentence",),
}  # fmt: skip


class _Loader:
    """People's responses, the first kept as it was looked at; fingerprints: of those that were loaded."""

    def __init__(self, dataset: Dataset):
        self._dataset, self._first = dataset, dataset.load(dataset.subjects[0])
        self.fingerprints = {dataset.subjects[0]: self._first.fingerprint()}

    def __call__(self, subject: str) -> WordResponses:
        if subject == self._dataset.subjects[0]:
            return self._first
        recording = self._dataset.load(subject)
        self.fingerprints[subject] = recording.fingerprint()
        return recording


def _planned(
    specifications: Sequence[Specification],
    dataset: Dataset,
    names: Sequence[str],
    plan: Specifications,
    by_products: bool,
) -> str:
    kept = (
        ("layer", "metric", "candidate_scaling", "csls_k") if by_products else ("layer", "metric")
    )
    fits = {
        tuple(level for name, level in own.levels.items() if name not in kept)
        for own in specifications
    }
    return (
        f"{counted(len(specifications), 'specification')} from {counted(len(fits), 'fit')}, of "
        f"{counted(len(names), 'model')}, {counted(len(dataset.subjects), 'subject')} and "
        f"{1 + plan.n_nulls:,} pairings of words and responses"
    )


def _notes(specifications: Sequence[Specification]) -> list[str]:
    notes = []
    rules = {own.levels["layer"] for own in specifications}
    if "best" in rules:
        notes.append(
            "layer=best takes the layer by the tested words, which is double-dipping; every draw takes its "
            "own best layer, so that its p is fair, but its score is not that of new words."
        )
    if any(own.levels["folds"] == "shuffled" for own in specifications):
        notes.append(
            "folds=shuffled are the paper's: where neighbouring words share their scans they leak, and the "
            "null of the same specification is what tells."
        )
    return notes
