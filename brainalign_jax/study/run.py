"""One call from a data set and model names to a saved table, figures and a report."""

import dataclasses
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.files import user_path
from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.models import checkpoint
from brainalign_jax.names import check_known
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import audit, plan, plots, processes, report, shares, sweep
from brainalign_jax.study import computation as computing
from brainalign_jax.study.chance import chance_rows
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.controls import control_vectors, is_control
from brainalign_jax.study.display import seed_of, short_names, without_seed
from brainalign_jax.study.evidence import EvidencePlan, null_plan, role, with_controls
from brainalign_jax.study.group import KINDS as GROUP_KINDS
from brainalign_jax.study.group_evidence import group_tables
from brainalign_jax.study.nulls import COLUMNS as NULL_COLUMNS
from brainalign_jax.study.nulls import score_nulls
from brainalign_jax.study.problem import folds_of
from brainalign_jax.study.results import ResultTable, group_rows

_PACKAGES = ("jax", "jaxlib", "flax", "transformers", "numpy", "nilearn", "scikit-learn")


@dataclass(frozen=True)
class Embedding:
    """How words become vectors: arguments of `language.embed`."""

    context: str = "sentence"
    window: int = 20
    pooling: str = "mean"
    last: str = "hf"
    missing: str = "error"


def run_study(
    dataset: Dataset,
    models: Sequence[str],
    scoring: sweep.Scoring,
    output_dir: str | Path,
    *,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    max_memory: int | None = None,
    report_k: int = 10,
    evidence: EvidencePlan | None = None,
    group_decoding: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    notes: Sequence[str] = (),
    progress: bool = True,
) -> ResultTable:
    """Score models against subjects and write results.parquet, manifest.json, report and figures.

    Args:
      dataset: an opened data set; its subjects are read a few at a time.
      models: names, ids, folders, "static:FILE" or "untrained:MODEL".
      scoring: methods, protocol, ks, layers, lower, seed.
      output_dir: finished cells (subject x model x method) and embeddings are kept below it, and a
        second call computes only what is missing there.
      computation: precision, and what is done at the same time; lowered to what the memory allows.
      max_memory: bytes that may be used, of the accelerators' memory where there are any, else of this
        process; None for 80 % of what there is.
      report_k: the k of precision@k in the report; must be one of scoring.ks.
      group_decoding: of `group.KINDS`, ways to decode all subjects as one, shown beside their own scores.
      evidence: nulls, controls, ceilings and intervals, and the verdict that follows from them.
      cache_dir: where finished cells and embeddings are kept instead of output_dir; studies of the same
        words under other protocols then share what they have in common.
      command, simulated, notes: recorded in the manifest and shown in the report.

    Where several processes joined (`processes.join`), each scores a part of subjects x models, all
    return the whole table and the first writes it; the output folder need not be shared.

    Raises: ValueError or FileNotFoundError before anything is written, as the readers, models and
    folds do; ValueError where the study cannot fit into the memory, with the least that it needs. The
    tables and the report are replaced only once everything is computed.
    """
    output = user_path(output_dir, "output_dir")
    cache = output if cache_dir is None else user_path(cache_dir, "cache_dir")
    if report_k not in scoring.ks:
        raise ValueError(f"report_k={report_k} is not among ks={scoring.ks}: add it")
    if not models:
        raise ValueError("name at least one model")
    for kind in group_decoding:
        check_known("group decoding", kind, GROUP_KINDS)
    models = list(dict.fromkeys(models))
    if evidence is not None:
        models = with_controls(models, dataset, evidence, lower=scoring.lower, seed=scoring.seed)
    names = short_names(models)
    computing.keep_compiled_programs()

    def vectors_of(name: str) -> Embeddings:
        return _embeddings(name, dataset, scoring, embedding, cache / "embeddings", progress)

    with processes.together():
        # First, so that a missing model is told at once.
        shapes = [_embeddings_shapes(name, dataset, scoring, vectors_of) for name in models]
        first = dataset.load(dataset.subjects[0])
        widths = [
            min(shape[2] for shape in blocks)
            for name, blocks in zip(models, shapes, strict=True)
            if not is_control(name)
        ]
        scoring = sweep.with_common_axes(scoring, widths or [0])
        chosen = plan.fit(
            first,
            shapes,
            scoring,
            computation,
            n_subjects=len(dataset.subjects),
            max_memory=max_memory,
        )
        if progress:
            print(chosen.text(), file=sys.stderr)

    with processes.together():
        for index in processes.every_nth(len(models)):
            vectors_of(models[index])
    tables, ranks, nulls, subjects, facts = [], [], [], {}, {}
    plan_of_nulls = null_plan(evidence, dataset)
    mine = shares.by_subject(processes.block(len(models) * len(dataset.subjects)), models)
    with processes.together():
        for name in models:
            vectors = vectors_of(name)
            facts[name] = {"name": name, "fingerprint": vectors.fingerprint(), **vectors.meta}
        shown = tqdm(
            total=sum(map(len, mine.values())) * len(scoring.methods),
            desc="subjects x models x methods",
            unit="cell",
            disable=not progress,
        )
        with shown:
            for chunk, wanted in shares.chunks(dataset, mine, first, chosen.responses_bytes):
                subjects |= {one.subject: one.fingerprint() for one in chunk}
                for group in shares.groups(wanted, vectors_of, chosen.embeddings_bytes):
                    shown.set_postfix_str(
                        ", ".join(names[one.model] for one in group), refresh=True
                    )
                    options = dict(cells=cache / "cells", computation=chosen.computation)
                    found = sweep.score(
                        dataset.name, chunk, group, scoring, progress=shown, **options
                    )
                    tables.append(found.rows)
                    ranks.append(found.ranks)
                    tested = [one for one in group if role(one.model) == "model"]
                    if plan_of_nulls and tested:
                        nulls.append(
                            score_nulls(
                                dataset.name, chunk, tested, scoring, plan_of_nulls,
                                k=report_k, show=progress, **options,
                            )
                        )  # fmt: skip
    rows, subjects = shares.gathered(tables, subjects, models, dataset.subjects)
    table = ResultTable(
        pd.concat([rows, group_rows(rows)], ignore_index=True),
        {
            "command": command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "seed": scoring.seed,
            "dataset": {"name": dataset.name, **dataset.meta},
            "simulated": simulated,
            "notes": list(notes),
            "protocol": scoring.protocol.fields(),
            "methods": list(scoring.methods),
            "ks": list(scoring.ks),
            "report_k": report_k,
            "layers": scoring.layers,
            "lower": scoring.lower,
            "models": list(facts.values()),
            "computation": chosen.fields(),
            "subjects": subjects,
            "stimulus": dataset.stimulus.fingerprint(),
            "n_words": len(dataset.stimulus),
            "n_types": len(dataset.stimulus.types(lower=scoring.lower)[0]),
        },
    )
    extras = group_tables(
        dataset,
        models,
        vectors_of,
        scoring,
        chosen.computation,
        evidence=evidence,
        group_decoding=group_decoding,
        k=report_k,
        progress=progress,
    )
    if evidence is not None:
        outer, _, token_to_type = folds_of(first, scoring, inner=False).folds
        extras["chance"] = chance_rows(outer, token_to_type, scoring.ks)
        extras["ranks"] = shares.everything(ranks)
        extras["nulls"] = shares.everything(nulls, NULL_COLUMNS)
        table = audit.with_evidence(table, extras, evidence, k=report_k)
    elif group_decoding:
        table = dataclasses.replace(table, extras={"group_decoding": extras["group_decoding"]})
    with processes.together():
        if processes.index() == 0:
            table.save(output)
            figures = plots.draw_figures(table, k=report_k)
            plots.save_figures(figures, output / "figures")
            report.write_report(table, output, k=report_k, notes=notes, figures=figures)
    return table


def _embeddings_shapes(
    name: str,
    dataset: Dataset,
    scoring: sweep.Scoring,
    vectors_of: Callable[[str], Embeddings],
) -> list[tuple[int, int, int]]:
    """(layers, types, width) of each block of layers of equal width, before a model is run."""
    spec = None if is_control(name) else resolve(without_seed(name))
    if spec is None or spec.kind == "static":
        return [values.shape for _, values in vectors_of(name).blocks()]
    folder = checkpoint.locate(spec.source, weights=spec.kind == "checkpoint")
    config = checkpoint.read_architecture(folder, family=spec.family)
    if spec.kind == "checkpoint":
        checkpoint.weight_files(folder)
    n_types = len(dataset.stimulus.types(lower=scoring.lower)[0])
    return [(config.n_layers + 1, n_types, config.width)]


def _embeddings(
    name: str,
    dataset: Dataset,
    scoring: sweep.Scoring,
    embedding: Embedding,
    folder: Path,
    progress: bool,
) -> Embeddings:
    """The model's vectors of the data set's words, from the cache in `folder` if they are there."""
    if is_control(name):
        return control_vectors(name, dataset, lower=scoring.lower, seed=scoring.seed)
    seed = seed_of(name)
    vectors = embed(
        dataset.stimulus,
        without_seed(name),
        lower=scoring.lower,
        seed=scoring.seed if seed is None else seed,
        progress=progress,
        cache_dir=folder,
        **vars(embedding),
    )
    return dataclasses.replace(vectors, model=name)


def _versions() -> dict[str, str]:
    versions = {"brainalign_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {"platform": platform.platform(), "machine": platform.machine()}
