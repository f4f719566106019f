"""The sweep: every model, layer, subject, fold and method of a study, in few compiled programs.

The costly half of a method depends on the subject and the fold only: it is done once for all layers of
all models. Folds are worked at the same time where the machine has cores to spare.
"""

import collections
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.progress import Progress
from brainalign_jax.study.results import about_model, tidy
from brainalign_jax.study.score.cells import Cells
from brainalign_jax.study.score.workbench import Job, Workbench, layer_numbers

__all__ = ["Scores", "Scoring", "score", "score_subjects"]


class Scores(NamedTuple):
    """rows: as in `results.COLUMNS`, without the group's. ranks: of every tested word in every layer, with
    the columns subject, model, method, layer, fold, type, token, rank_csls, rank_nn; see `rows`."""

    rows: pd.DataFrame
    ranks: pd.DataFrame


def score_subjects(*args, **options) -> pd.DataFrame:
    """The rows of `score`."""
    return score(*args, **options).rows


def score(
    dataset: str,
    responses: Sequence[WordResponses],
    embeddings: Embeddings | Sequence[Embeddings],
    scoring: Scoring,
    *,
    cells: Path | None = None,
    progress: Progress | None = None,
    computation: Computation | None = None,
) -> Scores:
    """Score models against subjects.

    embeddings: one model, or several of the same words: they share all that depends on the subject.
    cells: folder where each finished subject x model x method is kept; what is there already is read,
    not computed again. A cell is found by the fingerprint of everything that decides its value.

    Raises: ValueError on words that do not match, too few words for the folds, k or csls_k above
    the number of candidates, a layer that a model does not have, or as `results.about_model`.
    """
    computation = computation or Computation()
    models = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
    scoring = with_common_axes(scoring, [model.values.shape[-1] for model in models])
    abouts = [about_model(model) for model in models]
    for model in models:
        layer_numbers(model, scoring.layers)
    sides = dataset, responses, models, scoring, computation
    kept = Cells(cells, *sides, suffixes=(".cell", ".ranks.cell"))
    if progress is not None:
        progress.skip(kept.n_known)

    def finish(job: Job) -> None:
        for model, rows, ranks in job.tables():
            who = {
                "subject": responses[job.subject].subject,
                "model": models[model].model,
                "method": job.method,
            }
            of_words = ranks.assign(**who)[[*who, *ranks.columns]]
            about = {"dataset": dataset, **who, **abouts[model], "protocol": scoring.protocol.name}
            kept.keep((job.subject, job.method, model), tidy(rows.assign(**about)), of_words)
            if progress is not None:
                progress.update()

    with computation.context(), ThreadPoolExecutor(computation.workers()) as pool:
        bench = Workbench(responses, models, scoring, computation, pool)
        todo = kept.todo()
        bench.measure(todo)
        # While the folds of one subject are worked, the next one's responses are made ready.
        pending: collections.deque[Job] = collections.deque()
        try:
            for (subject, method), wanted in todo.items():
                pending.append(bench.job(subject, method, wanted))
                if len(pending) > 1:
                    finish(pending[0])
                    pending.popleft()
            while pending:
                finish(pending[0])
                pending.popleft()
        finally:
            for job in pending:  # after an error
                job.cancel()
    return Scores(*kept.joined())


def with_common_axes(scoring: Scoring, widths: Sequence[int]) -> Scoring:
    """The scoring with vector_axes=-1 made a number: the smallest width, or 0 where all are equal."""
    if scoring.protocol.vector_axes >= 0:
        return scoring
    axes = min(widths) if len(set(widths)) > 1 else 0
    chosen = dataclasses.replace(scoring.protocol, vector_axes=axes)
    return dataclasses.replace(scoring, protocol=chosen)
