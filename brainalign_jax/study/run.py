"""One call from a data set and model names to a saved table, figures and a report."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.models import checkpoint
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import audit, plan, plots, processes, report, sweep
from brainalign_jax.study import computation as computing
from brainalign_jax.study.ceiling_scores import COLUMNS as CEILING_COLUMNS
from brainalign_jax.study.ceiling_scores import score_ceilings
from brainalign_jax.study.chance import chance_rows
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.controls import control_vectors, is_control
from brainalign_jax.study.display import seed_of, short_names, without_seed
from brainalign_jax.study.evidence import EvidencePlan, null_plan, role, with_controls
from brainalign_jax.study.nulls import COLUMNS as NULL_COLUMNS
from brainalign_jax.study.nulls import score_nulls
from brainalign_jax.study.problem import folds_of
from brainalign_jax.study.results import ResultTable, group_rows
from brainalign_jax.study.rsa_evidence import COLUMNS as RSA_COLUMNS
from brainalign_jax.study.rsa_evidence import rsa_evidence

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
      evidence: nulls, controls, ceilings and intervals, and the verdict that follows from them.
      command, simulated, notes: recorded in the manifest and shown in the report.

    Where several processes joined (`processes.join`), each scores a part of subjects x models, all
    return the whole table and the first writes it; the output folder need not be shared.

    Raises: ValueError or FileNotFoundError before anything is written, as the readers, models and
    folds do; ValueError where the study cannot fit into the memory, with the least that it needs. The
    tables and the report are replaced only once everything is computed.
    """
    output = Path(output_dir)
    if report_k not in scoring.ks:
        raise ValueError(f"report_k={report_k} is not among ks={scoring.ks}: add it")
    if not models:
        raise ValueError("name at least one model")
    models = list(dict.fromkeys(models))
    if evidence is not None:
        models = with_controls(models, dataset, evidence, lower=scoring.lower)
    names = short_names(models)
    computing.keep_compiled_programs()
    # Once, for it reads all weights; and first, so that a missing model is told at once.
    files = {
        name: _embeddings_file(name, dataset, scoring, embedding, output)
        for name in models
        if not is_control(name)
    }
    with processes.together():
        first = dataset.load(dataset.subjects[0])
        shapes = [
            _embeddings_shapes(files.get(name), name, dataset, scoring, embedding)
            for name in models
        ]
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

    def vectors_of(name: str) -> Embeddings:
        return _embeddings(files.get(name), name, dataset, scoring, embedding, progress)

    with processes.together():
        for index in processes.every_nth(len(models)):
            vectors_of(models[index])
    tables, ranks, nulls, subjects, facts = [], [], [], {}, {}
    plan_of_nulls = null_plan(evidence, dataset)
    mine = _by_subject(processes.block(len(models) * len(dataset.subjects)), models)
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
            for chunk, wanted in _chunks(dataset, mine, first, chosen.responses_bytes):
                subjects |= {one.subject: one.fingerprint() for one in chunk}
                for group in _groups(wanted, vectors_of, chosen.embeddings_bytes):
                    shown.set_postfix_str(
                        ", ".join(names[one.model] for one in group), refresh=True
                    )
                    options = dict(cells=output / "cells", computation=chosen.computation)
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
    rows, subjects = _gathered(tables, subjects, models, dataset.subjects)
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
    with processes.together():
        if evidence is not None:
            ceilings = []
            if evidence.ceilings and processes.index() == 0:
                options = dict(k=report_k, show=progress)
                ceilings = [score_ceilings(dataset, scoring, chosen.computation, **options)]
            ceilings = _all(ceilings, CEILING_COLUMNS)
            outer, _, token_to_type = folds_of(first, scoring, inner=False).folds
            guesses = chance_rows(outer, token_to_type, scoring.ks)
            geometries = []
            if "rsa" in scoring.methods and processes.index() == 0:
                options = dict(n_permutations=evidence.n_permutations, seed=evidence.seed)
                geometries = [
                    rsa_evidence(
                        dataset, models, vectors_of, scoring, chosen.computation, **options
                    )
                ]
            extras = {
                "chance": guesses,
                "ceilings": ceilings,
                "rsa": _all(geometries, RSA_COLUMNS),
                "ranks": _all(ranks),
                "nulls": _all(nulls, NULL_COLUMNS),
            }
            table = audit.with_evidence(table, extras, evidence, k=report_k)
        if processes.index() == 0:
            table.save(output)
            plots.save_figures(table, output / "figures", k=report_k)
            report.write_report(table, output, k=report_k, notes=notes)
    return table


def _by_subject(items: Sequence[int], models: Sequence[str]) -> dict[int, list[str]]:
    """subject -> models, of items that count the models of the first subject, then the next's."""
    found: dict[int, list[str]] = {}
    for item in items:
        found.setdefault(item // len(models), []).append(models[item % len(models)])
    return found


def _chunks(
    dataset: Dataset, mine: dict[int, list[str]], first: WordResponses, limit: int
) -> Iterator[tuple[list[WordResponses], list[str]]]:
    """Responses of subjects with the same models, as many at a time as stay within `limit` bytes."""
    chunk: list[WordResponses] = []
    models: list[str] = []
    for subject, wanted in mine.items():
        one = first if subject == 0 else dataset.load(dataset.subjects[subject])
        held = sum(map(plan.held_bytes, [*chunk, one]))
        if chunk and (held > limit or wanted != models):
            yield chunk, models
            chunk = []
        chunk, models = [*chunk, one], wanted
    if chunk:
        yield chunk, models


def _groups(
    names: Sequence[str], vectors_of: Callable[[str], Embeddings], limit: int
) -> Iterator[list[Embeddings]]:
    """Vectors of the models, as many at a time as stay within `limit` bytes."""
    group: list[Embeddings] = []
    for name in names:
        one = vectors_of(name)
        if group and sum(x.values.nbytes for x in group) + one.values.nbytes > limit:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _gathered(
    tables: list[pd.DataFrame],
    subjects: dict[str, str],
    models: Sequence[str],
    order: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows and subjects' fingerprints of all processes, in the order of models and subjects."""
    mine = pd.concat(tables, ignore_index=True) if tables else None
    rows = processes.gather(mine)
    found = processes.gather(pd.DataFrame(list(subjects.items()), columns=["subject", "mark"]))
    marks = dict(zip(found["subject"], found["mark"], strict=True))
    place = [
        rows["model"].map({name: i for i, name in enumerate(models)}),
        rows["subject"].map({name: i for i, name in enumerate(order)}),
    ]
    rows = rows.iloc[np.lexsort(place[::-1])].reset_index(drop=True)
    return rows, {subject: marks[subject] for subject in order}


def _all(tables: list[pd.DataFrame], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of all processes."""
    mine = pd.concat(tables, ignore_index=True) if tables else None
    found = processes.gather(mine)
    return pd.DataFrame(columns=list(columns)) if found is None else found


def _embeddings_shapes(
    path: Path | None, name: str, dataset: Dataset, scoring: sweep.Scoring, embedding: Embedding
) -> list[tuple[int, int, int]]:
    """(layers, types, width) of each block of layers of equal width, before anything is embedded."""
    spec = None if path is None else resolve(without_seed(name))
    if spec is None or path.is_file() or spec.kind == "static":
        vectors = _embeddings(path, name, dataset, scoring, embedding, False)
        return [values.shape for _, values in vectors.blocks()]
    folder = checkpoint.locate(spec.source, weights=spec.kind == "checkpoint")
    config = checkpoint.read_architecture(folder, family=spec.family)
    n_types = len(dataset.stimulus.types(lower=scoring.lower)[0])
    return [(config.n_layers + 1, n_types, config.width)]


def _embeddings_file(
    name: str, dataset: Dataset, scoring: sweep.Scoring, embedding: Embedding, output: Path
) -> Path:
    """Where the model's vectors of the data set's words are kept, named by all that decides them."""
    parts = {
        "version": __version__,
        "model": name,
        "weights": _model_fingerprint(name),
        "stimulus": dataset.stimulus.fingerprint(),
        "embedding": vars(embedding),
        "lower": scoring.lower,
        "seed": scoring.seed,
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return output / "embeddings" / f"{key}.npz"


def _embeddings(
    path: Path | None,
    name: str,
    dataset: Dataset,
    scoring: sweep.Scoring,
    embedding: Embedding,
    progress: bool,
) -> Embeddings:
    """The model's vectors of the data set's words, from the file of an earlier run if there is one."""
    if path is None:
        return control_vectors(name, dataset, lower=scoring.lower, seed=scoring.seed)
    if path.is_file():
        return Embeddings.load(path)
    seed = seed_of(name)
    vectors = embed(
        dataset.stimulus,
        without_seed(name),
        lower=scoring.lower,
        seed=scoring.seed if seed is None else seed,
        progress=progress,
        **vars(embedding),
    )
    vectors = dataclasses.replace(vectors, model=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors.save(path)
    return vectors


def _model_fingerprint(name: str) -> str:
    """Digest of the files that decide a model's vectors: weights, configuration and tokenizer."""
    spec = resolve(without_seed(name))
    digest = hashlib.sha256()
    if spec.kind == "static":
        files = [Path(spec.source).expanduser()]
    else:
        trained = spec.kind == "checkpoint"
        folder = checkpoint.locate(spec.source, weights=trained)
        checkpoint.read_architecture(folder, family=spec.family)
        if trained:
            digest.update(checkpoint.fingerprint(folder).encode())
        files = [
            path
            for pattern in ("config.json", "*token*.json", "vocab.*", "merges.txt")
            for path in sorted(folder.glob(pattern))
        ]
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path}, the file of model {name!r}, is missing")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = {"brainalign_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {"platform": platform.platform(), "machine": platform.machine()}
