"""One call from a data set and model names to a saved table, figures and a report."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.models import checkpoint
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import plots, report, sweep
from brainalign_jax.study.display import short_names
from brainalign_jax.study.results import ResultTable, group_rows

_CHUNK_BYTES = 2**30  # word responses held at a time
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
    report_k: int = 10,
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
      report_k: the k of precision@k in the report; must be one of scoring.ks.
      command, simulated, notes: recorded in the manifest and shown in the report.

    Raises: ValueError or FileNotFoundError before anything is written, as the readers, models and
    folds do. The tables and the report are replaced only once everything is computed.
    """
    output = Path(output_dir)
    if report_k not in scoring.ks:
        raise ValueError(f"report_k={report_k} is not among ks={scoring.ks}: add it")
    if not models:
        raise ValueError("name at least one model")
    models = list(dict.fromkeys(models))
    names = short_names(models)
    # Once, for it reads all weights; and first, so that a missing model is told at once.
    files = {name: _embeddings_file(name, dataset, scoring, embedding, output) for name in models}
    tables, subjects, facts = [], {}, {}
    shown = tqdm(
        total=len(models) * len(dataset.subjects) * len(scoring.methods),
        desc="subjects x models x methods",
        unit="cell",
        disable=not progress,
    )
    with shown:
        for chunk in _chunks(dataset):
            subjects |= {one.subject: one.fingerprint() for one in chunk}
            for name in models:
                shown.set_postfix_str(names[name], refresh=True)
                vectors = _embeddings(files[name], name, dataset, scoring, embedding, progress)
                facts[name] = {"name": name, "fingerprint": vectors.fingerprint(), **vectors.meta}
                tables.append(
                    sweep.score_subjects(
                        dataset.name,
                        chunk,
                        vectors,
                        scoring,
                        cells=output / "cells",
                        progress=shown,
                    )
                )
    rows = pd.concat(tables, ignore_index=True)
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
            "subjects": subjects,
            "stimulus": dataset.stimulus.fingerprint(),
            "n_words": len(dataset.stimulus),
            "n_types": len(dataset.stimulus.types(lower=scoring.lower)[0]),
        },
    )
    table.save(output)
    plots.save_figures(table, output / "figures", k=report_k)
    report.write_report(table, output, k=report_k, notes=notes)
    return table


def _chunks(dataset: Dataset) -> Iterator[list[WordResponses]]:
    """The subjects' responses, as many at a time as stay within the memory set aside."""
    chunk: list[WordResponses] = []
    for subject in dataset.subjects:
        one = dataset.load(subject)
        if chunk and sum(x.values.nbytes for x in chunk) + one.values.nbytes > _CHUNK_BYTES:
            yield chunk
            chunk = []
        chunk.append(one)
    if chunk:
        yield chunk


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
    path: Path,
    name: str,
    dataset: Dataset,
    scoring: sweep.Scoring,
    embedding: Embedding,
    progress: bool,
) -> Embeddings:
    """The model's vectors of the data set's words, from the file of an earlier run if there is one."""
    if path.is_file():
        return Embeddings.load(path)
    vectors = embed(
        dataset.stimulus,
        name,
        lower=scoring.lower,
        seed=scoring.seed,
        progress=progress,
        **vars(embedding),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors.save(path)
    return vectors


def _model_fingerprint(name: str) -> str:
    """Digest of the files that decide a model's vectors: weights, configuration and tokenizer."""
    spec = resolve(name)
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
