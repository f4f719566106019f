"""One call from a data set and model names to a saved table, figures and a report."""

import dataclasses
import datetime
import platform
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from brainalign_jax import __version__
from brainalign_jax.files import output_folder
from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.models import checkpoint
from brainalign_jax.machine import package_version
from brainalign_jax.names import check_known
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs, plan, processes, shares
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.chance import chance_rows
from brainalign_jax.study.evidence.controls import control_vectors, is_control
from brainalign_jax.study.evidence.gather import group_tables
from brainalign_jax.study.evidence.nulls import COLUMNS as NULL_COLUMNS
from brainalign_jax.study.evidence.nulls import score_nulls
from brainalign_jax.study.evidence.table import null_plan, role, with_controls
from brainalign_jax.study.names import seed_of, without_seed
from brainalign_jax.study.options import Embedding, EvidencePlan, Scoring
from brainalign_jax.study.progress import (
    CEILINGS,
    NULLS,
    PLAN,
    REPORT,
    SCORES,
    TESTS,
    VECTORS,
    Progress,
    Stage,
)
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import identity_of
from brainalign_jax.study.report import plots, report
from brainalign_jax.study.report.verdict import with_evidence
from brainalign_jax.study.results import ResultTable, group_rows
from brainalign_jax.study.score import sweep
from brainalign_jax.study.score.group import KINDS as GROUP_KINDS
from brainalign_jax.study.score.problem import check_axes, fitting_ks, folds_of
from brainalign_jax.threads import in_turn

# Of a model's facts: where it lies, and its vectors' last bits, may differ between machines.
_MACHINE = ("fingerprint", "source", "geometry")
_PACKAGES = ("jax", "jaxlib", "flax", "transformers", "numpy", "nilearn", "scikit-learn")


@in_turn
def run_study(
    dataset: Dataset,
    models: Sequence[str],
    scoring: Scoring | None = None,
    output_dir: str | Path | None = None,
    *,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    max_memory: int | None = None,
    report_k: int = 10,
    evidence: EvidencePlan | None = EvidencePlan(),
    group_decoding: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    notes: Sequence[str] = (),
    progress: bool = True,
) -> ResultTable:
    """Score models against subjects: tidy scores, the evidence beside them, and a verdict.

    Args:
      dataset: an opened data set; its subjects are read a few at a time.
      models: names, ids, folders, "static:FILE" or "untrained:MODEL"; or one of them.
      scoring: methods, protocol, ks, layers, lower, seed; by default all methods under the audited
        protocol that fits the words.
      output_dir: results.parquet, manifest.json, report.html and figures are written there, finished cells
        (subject x model x method) and embeddings are kept below it, and a second call computes only
        what is missing. None: nothing is written.
      computation: precision, and what is done at the same time; lowered to what the memory allows.
      max_memory: bytes that may be used, of the accelerators' memory where there are any, else of this
        process; None for 80 % of what there is.
      report_k: the k of precision@k in the report; must be one of scoring.ks.
      group_decoding: of `group.KINDS`, ways to decode all subjects as one, shown beside their own scores.
      evidence: nulls, controls, ceilings and intervals, and the verdict that follows from them; None
        for scores alone.
      cache_dir: where finished cells and embeddings are kept instead of output_dir; studies of the same
        words under other protocols then share what they have in common.
      command, simulated, notes: recorded in the manifest and shown in the report.
      progress: show each stage and the time to the end.

    Studies in several threads of a process take turns. Where several processes joined (`processes.join`),
    each scores a part of subjects x models, all return the whole table and the first writes it; the output
    folder need not be shared.

    Raises: ValueError or FileNotFoundError before anything is written, as the readers, models and
    folds do, and where processes that joined differ in options, models or recordings; ValueError where
    the study cannot fit into the memory, with the least that it needs. The tables and the report are
    replaced only once everything is computed, all of them or none.

    `recordings` is a folder with a table of words x regions for each subject, `vectors` a text file of
    word vectors:

    >>> import brainalign_jax as ba
    >>> dataset = ba.open_dataset("table", recordings)
    >>> scoring = ba.Scoring(methods=("procrustes",), ks=(1, 10))
    >>> table = ba.run_study(dataset, [f"static:{vectors}"], scoring, evidence=None, progress=False)
    >>> summary = table.summary()
    >>> bool(summary.csls_avg[0] > summary.chance[0])
    True
    """
    if output_dir is None and cache_dir is None:
        with tempfile.TemporaryDirectory(prefix="brainalign-") as scratch:
            return run_study(
                dataset,
                models,
                scoring,
                embedding=embedding,
                computation=computation,
                max_memory=max_memory,
                report_k=report_k,
                evidence=evidence,
                group_decoding=group_decoding,
                cache_dir=scratch,
                command=command,
                simulated=simulated,
                notes=notes,
                progress=progress,
            )
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    cache = output if cache_dir is None else output_folder(cache_dir, "cache_dir")
    processes.agree(
        "their options",
        lambda: {
            "versions": {"brainalign_jax": __version__, "jax": package_version("jax")},
            "dataset": {"name": dataset.name, "subjects": dataset.subjects},
            "words": dataset.stimulus.fingerprint(),
            "models": models,
            "scoring": scoring and dataclasses.asdict(scoring),
            "methods": [identity_of(name) for name in (scoring or Scoring()).methods],
            "embedding": vars(embedding),
            "computation": {name: getattr(computation, name) for name in ("dtype", "precision")},
            "evidence": evidence and dataclasses.asdict(evidence),
            "report_k": report_k,
            "group_decoding": group_decoding,
        },
    )
    scoring = _scoring_for(dataset, scoring)
    models = [models] if isinstance(models, str) else models
    if report_k not in scoring.ks:
        raise ValueError(
            f"report_k={report_k} is not among ks={scoring.ks}: add it (--report_k, --ks)"
        )
    if not models:
        raise ValueError("name at least one model")
    for kind in group_decoding:
        check_known("group decoding", kind, GROUP_KINDS)
    models = list(dict.fromkeys(models))
    if embedding.bos == "auto" and scoring.protocol.first_token == "tokenizer":
        embedding = dataclasses.replace(embedding, bos="never")
    if evidence is not None:
        models = with_controls(models, dataset, evidence, lower=scoring.lower, seed=scoring.seed)
    computing.keep_compiled_programs()
    plan_of_nulls = null_plan(evidence, dataset)
    mine = shares.by_subject(processes.block(len(models) * len(dataset.subjects)), models)
    stages = _stages(dataset, models, scoring, evidence, plan_of_nulls, mine)
    shown = Progress(stages, show=progress)

    def vectors_of(name: str, told: Callable[[float], None] | bool = False) -> Embeddings:
        return _embeddings(name, dataset, scoring, embedding, cache / "embeddings", told)

    with processes.together(), shown.stage(PLAN):
        # First, so that a missing model is told at once.
        shapes = [_embeddings_shapes(name, dataset, scoring, vectors_of) for name in models]
        first = dataset.load(dataset.subjects[0])
        scoring, report_k, left_out = fitting_ks(first, scoring, report_k)
        if left_out:
            warnings.warn(left_out, stacklevel=2)
            notes = [*notes, left_out]
        widths = [
            min(shape[2] for shape in blocks)
            for name, blocks in zip(models, shapes, strict=True)
            if not is_control(name)
        ]
        check_axes(scoring.protocol, widths)
        scoring = sweep.with_common_axes(scoring, widths or [0])
        chosen = plan.fit(
            first,
            shapes,
            scoring,
            computation,
            n_subjects=len(dataset.subjects),
            max_memory=max_memory,
        )
        shown.update()
        shown.note(chosen.text() if shown.live else chosen.text().splitlines()[0])

    with processes.together(), shown.stage(VECTORS):
        for index in processes.every_nth(len(models)):
            before = shown.done(VECTORS)
            vectors_of(models[index], shown.update)
            shown.update(before + 1 - shown.done(VECTORS))  # what was in the cache tells nothing
    tables, ranks, nulls, subjects, facts = [], [], [], {}, {}
    with processes.together():
        for name in models:
            vectors = vectors_of(name)
            facts[name] = {"name": name, "fingerprint": vectors.fingerprint(), **vectors.meta}
    processes.agree(
        "their models or recordings",
        lambda: (
            {
                name: {key: value for key, value in meta.items() if key not in _MACHINE}
                for name, meta in facts.items()
            }
            | {f"recording of {dataset.subjects[0]}": first.fingerprint()}
        ),
    )
    with processes.together():
        for chunk, wanted in shares.chunks(dataset, mine, first, chosen.responses_bytes):
            subjects |= {one.subject: one.fingerprint() for one in chunk}
            for group in shares.groups(wanted, vectors_of, chosen.embeddings_bytes):
                options = dict(
                    cells=cache / "cells", computation=chosen.computation, progress=shown
                )
                with shown.stage(SCORES):
                    found = sweep.score(dataset.name, chunk, group, scoring, **options)
                tables.append(found.rows)
                ranks.append(found.ranks)
                tested = [one for one in group if role(one.model) == "model"]
                if plan_of_nulls and tested:
                    with shown.stage(NULLS):
                        drawn = score_nulls(
                            dataset.name,
                            chunk,
                            tested,
                            scoring,
                            plan_of_nulls,
                            k=report_k,
                            **options,
                        )
                    nulls.append(drawn)
    rows, subjects = shares.gathered(tables, subjects, models, dataset.subjects)
    table = ResultTable(
        pd.concat([rows, group_rows(rows)], ignore_index=True),
        {
            "command": command,
            **({"working_folder": str(Path.cwd())} if command else {}),
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
        progress=shown,
    )
    with shown.stage(REPORT):
        if evidence is not None:
            outer, _, token_to_type = folds_of(first, scoring, inner=False).folds
            extras["chance"] = chance_rows(outer, token_to_type, scoring.ks)
            extras["ranks"] = shares.everything(ranks)
            extras["nulls"] = shares.everything(nulls, NULL_COLUMNS)
            table = with_evidence(table, extras, evidence, k=report_k)
        elif group_decoding:
            table = dataclasses.replace(table, extras={"group_decoding": extras["group_decoding"]})
        with processes.together():
            if processes.index() == 0 and output is not None:
                figures = plots.draw_figures(table, k=report_k)
                with outputs.new_outputs(output) as new:
                    table.write(new)
                    plots.save_figures(figures, new / "figures")
                    report.write_report(table, new, k=report_k, notes=notes, figures=figures)
        shown.update()
    return table


def _scoring_for(dataset: Dataset, scoring: Scoring | None) -> Scoring:
    """The scoring with a protocol: the audited one that fits the words, where none was chosen."""
    words = dataset.stimulus
    fitting = dict(timed=words.onsets is not None, grouped=words.run is not None)
    scoring = scoring or Scoring()
    if scoring.protocol is None:
        scoring = dataclasses.replace(scoring, protocol=protocol("audited", **fitting))
    return scoring


def _stages(
    dataset: Dataset, models: Sequence[str], scoring, evidence, plan_of_nulls, mine
) -> dict[str, Stage]:
    """What is to be done, and how many seconds a piece of it may take on two cores."""
    n_methods, n_cells = len(scoring.methods), sum(map(len, mine.values()))
    tested = sum(role(name) == "model" for names in mine.values() for name in names)
    cell = 0.1 * (len(dataset.stimulus.types(lower=scoring.lower)[0]) / 130) ** 2
    stages = {
        PLAN: Stage(1, 6.0 * n_methods),
        VECTORS: Stage(len(processes.every_nth(len(models))), 2.0, "models"),
        SCORES: Stage(n_cells * n_methods, cell, "scores"),
    }
    if plan_of_nulls and tested:
        draws = tested * n_methods * plan_of_nulls.n_draws
        stages[NULLS] = Stage(draws, 0.15 * cell, "draws")
    if evidence is not None and evidence.ceilings and len(dataset.subjects) > 1:
        stages[CEILINGS] = Stage(len(dataset.subjects), 1 + n_methods * cell, "subjects")
    if evidence is not None and "rsa" in scoring.methods:
        stages[TESTS] = Stage(1, 5 * (1 + cell))
    return stages | {REPORT: Stage(1, 5.0)}


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
    progress: Callable[[float], None] | bool,
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
    # One that is missing is no reason to lose what has been computed.
    versions |= {name: package_version(name) or "not installed" for name in _PACKAGES}
    return versions | {"platform": platform.platform(), "machine": platform.machine()}
