"""Do maps trained on a retrieval loss decode better than ridge? The same words, folds and scores for both."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.align import retrieval
from brainalign_jax.files import output_folder, remove_leftovers, user_path
from brainalign_jax.language import Embeddings, embed
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.contrastive.training import (
    Trial,
    Words,
    decode,
    fingerprint,
    first_maps,
    read_words,
    select_alphas,
    train_maps,
)
from brainalign_jax.study.evidence.chance import mean_interval
from brainalign_jax.study.results import (
    GROUP,
    POOLED,
    ResultTable,
    about_model,
    group_rows,
    read_cell,
    tidy,
    with_fertility,
    write_cell,
)
from brainalign_jax.study.score.problem import Scoring
from brainalign_jax.threads import one_blas_thread

_RESAMPLES = 10_000


def score_subject(
    dataset: str,
    responses: WordResponses,
    embeddings: Embeddings,
    scoring: Scoring,
    trials: Mapping[str, Trial],
    *,
    every: int = 50,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Pooled scores of ridge, Procrustes and each trial; rows as in `results.COLUMNS` and a column n_updates.

    n_updates: mean over folds of the updates that the inner folds chose. folder: keeps finished cells and the
    checkpoints of unfinished ones.

    Raises: ValueError as `read_words` and `results.about_model` do.
    """
    about = about_model(embeddings)
    layers, words = read_words(responses, embeddings, scoring)
    path = checkpoints = None
    if folder is not None:
        folder = user_path(folder, "folder")
        chosen = (scoring.protocol, scoring.ks, layers, sorted(trials.items()))
        key = fingerprint(__version__, dataset, embeddings.model, chosen, words)
        path = folder / "cells" / f"{key}.cell"
        checkpoints = folder / "checkpoints" / key
        remove_leftovers(path.parent)
        kept = read_cell(path)
        if kept is not None:
            return kept
    # LAPACK's own threads and XLA's fight over the cores, as in the sweep.
    with one_blas_thread():
        alphas = select_alphas(words, alphas=scoring.protocol.alphas)
        maps = {
            start: (first_maps(words, alphas, start=start), np.zeros(alphas.shape))
            for start in ("ridge", "procrustes")
        }
        for name, trial in trials.items():
            trained = train_maps(words, alphas, trial, every=every, checkpoints=checkpoints)
            maps[name] = (trained.maps, trained.n_updates)
        tables = []
        for name, (weights, n_updates) in maps.items():
            ranks = decode(words, weights, protocol=scoring.protocol)
            rows = _rows(ranks, words, scoring.ks, layers)
            updates = dict(zip(layers, np.asarray(n_updates).mean(axis=1), strict=True))
            tables.append(rows.assign(method=name, n_updates=rows["layer"].map(updates)))
    rows = pd.concat(tables, ignore_index=True).assign(
        dataset=dataset,
        subject=responses.subject,
        model=embeddings.model,
        **about,
        protocol=scoring.protocol.name,
        fold=POOLED,
    )
    rows = tidy(rows).assign(n_updates=rows["n_updates"])
    if path is not None:
        write_cell(rows, path)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return rows


def _rows(ranks: dict, words: Words, ks: tuple[int, ...], layers) -> pd.DataFrame:
    mask = np.asarray(words.query_mask) > 0
    n_words = len(words.source)
    rows = []
    for i, layer in enumerate(layers):
        asked = {name: np.asarray(rank)[i][mask] for name, rank in ranks.items()}
        for metric, name in (("precision_csls", "rank_csls"), ("precision_nn", "rank_nn")):
            rows += [(layer, metric, k, (asked[name] <= k).mean(), k / n_words) for k in ks]
        accuracy = retrieval.rank_accuracy(asked["rank_nn"], n_words).mean()
        rows.append((layer, "rank_accuracy", 0, accuracy, 0.5))
    table = pd.DataFrame(rows, columns=["layer", "metric", "k", "value", "chance"])
    return table.assign(n_items=int(mask.sum()))


# The comparison.


def compare(rows: pd.DataFrame, *, k: int = 10, metric: str = "precision_csls") -> list[dict]:
    """Each method against ridge, subject by subject: one dict a method and layer choice.

    Layer choices: every layer, "mean" over all of them, and "best", the layer at which the group does best
    by each method (chosen on the scores that are compared). interval: of the mean difference, 95 %.
    """
    rows = rows[(rows["metric"] == metric) & (rows["k"] == k) & (rows["subject"] != GROUP)]
    table = rows.pivot_table(index="subject", columns=["method", "layer"], values="value")
    layers = sorted(rows["layer"].unique())

    def scores(method: str, choice) -> pd.Series:
        if choice == "mean":
            return table[method].mean(axis=1)
        return table[method, table[method].mean().idxmax() if choice == "best" else choice]

    comparisons = []
    for method in [name for name in rows["method"].unique() if name != "ridge"]:
        for choice in [*layers, "mean", "best"]:
            base, other = scores("ridge", choice), scores(method, choice)
            difference = (other - base).to_numpy()
            of_layer = rows[(rows["method"] == method) & rows["layer"].isin([choice])]
            comparisons.append(
                {
                    "method": method,
                    "layer": choice if isinstance(choice, str) else int(choice),
                    "ridge": float(base.mean()),
                    "value": float(other.mean()),
                    "difference": float(difference.mean()),
                    "interval": _interval(difference),
                    "subjects_better": int((difference > 0).sum()),
                    "subjects_worse": int((difference < 0).sum()),
                    "n_subjects": len(difference),
                    "mean_updates": float(of_layer["n_updates"].mean()) if len(of_layer) else None,
                }
            )
    return comparisons


def text_comparison(lines: list[dict], *, k: int) -> str:
    """The comparison as lines of text."""
    text = [
        f"P@{k} by CSLS, mean over {lines[0]['n_subjects']} subjects; difference from ridge, 95 %"
    ]
    for line in lines:
        low, high = line["interval"]
        text.append(
            f"{line['method']:>10} layer {line['layer']!s:>4}  {line['value']:.4f}  ridge "
            f"{line['ridge']:.4f}  difference {line['difference']:+.4f} [{low:+.4f}, {high:+.4f}]  "
            f"better {line['subjects_better']}, worse {line['subjects_worse']}"
        )
    return "\n".join(text)


def run_comparison(
    dataset: Dataset,
    model: str,
    scoring: Scoring,
    trials: Mapping[str, Trial],
    output_dir: str | Path,
    *,
    context: str = "word",
    k: int = 10,
    every: int = 50,
    command: str = "",
    progress: bool = True,
) -> ResultTable:
    """Compare trained maps with ridge on all subjects; write results.parquet and manifest.json.

    Finished subjects and the checkpoints of an unfinished one are kept below output_dir; an interrupted call,
    made again, goes on there.

    Args:
      trials: name of the method -> how it is trained. k: of the precision that is compared, one of
        scoring.ks. every: steps between checkpoints. The others as of `run_study`.

    Raises: ValueError for words presented more than once, unknown models, layers and protocols.
    """
    if k not in scoring.ks:
        raise ValueError(f"k={k} is not among ks={scoring.ks}: add it")
    output = output_folder(output_dir, "output_dir")
    vectors = embed(
        dataset.stimulus, model, context=context, lower=scoring.lower, progress=progress
    )
    tables = []
    for subject in tqdm(dataset.subjects, desc="subjects", disable=not progress):
        recording = dataset.load(subject)
        tables.append(
            score_subject(
                dataset.name, recording, vectors, scoring, trials, every=every, folder=output
            )
        )
    rows = pd.concat(tables, ignore_index=True)
    facts = {"name": model, "fingerprint": vectors.fingerprint(), **vectors.meta}
    both = pd.concat([tidy(rows), group_rows(rows)], ignore_index=True)
    table = ResultTable(
        with_fertility(both, [facts]),
        {
            "command": command,
            "version": __version__,
            "seed": scoring.seed,
            "dataset": dataset.name,
            "model": facts,
            "protocol": scoring.protocol.fields(),
            "trials": {name: dataclasses.asdict(trial) for name, trial in trials.items()},
            "k": k,
            "comparison": compare(rows, k=k),
        },
    )
    table.save(output)
    return table


def _interval(difference: np.ndarray) -> list[float]:
    return [float(bound) for bound in mean_interval(difference, n_bootstrap=_RESAMPLES)]
