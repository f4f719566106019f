"""Null distributions of the decoding scores: the whole pipeline on draws that know nothing of the words.

A draw that exchanges the words' vectors leaves the brain's side as it is: each fold is prepared once for
all draws. Draws that move the responses, or replace them by noise, are prepared anew, but for what the
protocol fits on all rows.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.names import check_known
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence import exchanged_nulls
from brainalign_jax.study.evidence.draws import KINDS, Draw, draw_nulls, moved_rows
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.progress import Progress
from brainalign_jax.study.score import preparation, programs
from brainalign_jax.study.score.cells import Cells
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.fold_work import Part, Work
from brainalign_jax.study.score.folds import Split
from brainalign_jax.study.score.methods import FoldProblem, Ridge
from brainalign_jax.study.score.problem import words_leave_rows
from brainalign_jax.study.score.sweep import with_common_axes
from brainalign_jax.study.score.workbench import Workbench

COLUMNS = ("dataset", "subject", "model", "method", "layer", "null", "draw", "metric", "k", "value")
_METRICS = ("precision_csls", "rank_accuracy")
_BATCH = 10  # draws in one compiled call


@dataclasses.dataclass(frozen=True)
class NullPlan:
    """kind: of `null_draws.KINDS`; n_draws: how many; seed.

    hold_alpha: where items are exchanged, ridge keeps the penalty that each fold and layer chose with the
    real data (see `exchanged_nulls`).
    """

    kind: str
    n_draws: int
    seed: int = 0
    hold_alpha: bool = False

    def __post_init__(self):
        check_known("null", self.kind, KINDS)
        if self.n_draws < 1:
            raise ValueError(f"n_draws={self.n_draws} must be at least 1")


def recording_draws(
    plan: NullPlan, stimulus: Stimulus, eligible: np.ndarray, lower: bool, words: np.ndarray
) -> list[Draw]:
    """The draws of a recording, for its eligible tokens [N].

    lower: whether upper and lower case are one word. words: [N] tokens that any subject of the study has a
    response to, which all subjects' draws are of.

    Raises: ValueError as `draws.draw_nulls`.
    """
    _, token_to_type = stimulus.types(lower=lower)
    among = words & (token_to_type >= 0)
    sides = plan.kind, stimulus, eligible, token_to_type, plan.n_draws
    return draw_nulls(*sides, seed=plan.seed, among=among)


def score_nulls(
    dataset: str,
    responses: Sequence[WordResponses],
    embeddings: Embeddings | Sequence[Embeddings],
    scoring: Scoring,
    plan: NullPlan,
    *,
    k: int = 10,
    words: np.ndarray | None = None,
    cells: Path | None = None,
    progress: Progress | None = None,
    computation: Computation | None = None,
) -> pd.DataFrame:
    """P@k and rank accuracy of every draw, layer and subject, pooled over folds; columns as COLUMNS.

    words: [N] tokens that any subject of the study has a response to, which all subjects' draws are of; those
    of the responses if not given. progress: told of every draw. As `sweep.score` otherwise, with which it
    shares folds and methods. The layer need not be chosen in a draw, as every layer has its own null; ridge
    chooses its penalty anew in each.

    Raises: ValueError as `sweep.score` and `draws.draw_nulls`.
    """
    computation = computation or Computation()
    models = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
    scoring = with_common_axes(scoring, [model.values.shape[-1] for model in models])
    protocol = dataclasses.replace(scoring.protocol, layer_selection="test")
    scoring = dataclasses.replace(scoring, protocol=protocol, ks=(k,))
    sides = dataset, responses, models, scoring, computation
    if words is None:
        words = np.any([recording.valid for recording in responses], axis=0)
    drawn_of = {**dataclasses.asdict(plan), "words": hashlib.sha256(words.tobytes()).hexdigest()}
    kept = Cells(cells, *sides, suffixes=(".null.cell",), null=drawn_of)
    if progress is not None:
        progress.skip(kept.n_known * plan.n_draws)
    with computation.context(), ThreadPoolExecutor(computation.workers()) as pool:
        bench = Workbench(responses, models, scoring, computation, pool)
        for (subject, method), wanted in kept.todo().items():
            values = _scores(bench, pool, subject, method, wanted, plan, words, progress)
            for model in wanted:
                parts = sorted(part for part in values if part[0] == model)
                rows = pd.concat(
                    [_rows(values[part], bench.parts[part], plan, k) for part in parts],
                    ignore_index=True,
                )
                name = responses[subject].subject
                who = {"subject": name, "model": models[model].model, "method": method}
                rows = rows.assign(dataset=dataset, **who)[list(COLUMNS)]
                kept.keep((subject, method, model), rows)
    return kept.joined()[0]


def _scores(bench, pool, subject, method, wanted, plan, words, progress) -> dict[Part, np.ndarray]:
    """[P, 2, L] of each part: the metrics of every draw, pooled over folds."""
    problem, works = bench.works(subject, method, wanted)
    stimulus = bench.responses[subject].stimulus
    draws = recording_draws(plan, stimulus, problem.eligible, bench.scoring.lower, words)
    asked = np.asarray(problem.folds.outer.query_mask).sum(dtype=np.float64)
    k = bench.scoring.ks[0]
    by_part: dict[Part, np.ndarray] = {}
    for work in works:
        folds = work.folds
        if exchanged_nulls.serves(work, draws, hold_alpha=plan.hold_alpha):
            of_parts = exchanged_nulls.score(work, draws, pool, k=k, hold_alpha=plan.hold_alpha)
            by_part |= {part: values / asked for part, values in of_parts.items()}
        elif _moves_words(work, draws):
            rows = [draw.rows for draw in draws]
            moved, counts = bench.reworded(subject, work.method, rows)
            futures = [pool.submit(_score_reworded, work, fold, moved, k) for fold in folds]
            by_fold = [future.result() for future in futures]
            for part in work.layers:
                by_part[part] = sum(fold[part] for fold in by_fold) / counts[:, None, None]
        else:
            parts: dict[Part, list[np.ndarray]] = {}
            for start in range(0, len(draws), _BATCH):
                some = draws[start : start + _BATCH]
                moved = [_moved_source(bench, work, subject, method, draw) for draw in some]
                futures = [pool.submit(_score_fold, work, fold, some, moved, k) for fold in folds]
                by_fold = [future.result() for future in futures]
                for part in work.layers:
                    parts.setdefault(part, []).append(sum(fold[part] for fold in by_fold) / asked)
            by_part |= {part: np.concatenate(values) for part, values in parts.items()}
        if progress is not None:
            progress.update(len(draws) * len(wanted) / len(works))
    return by_part


def _moves_words(work: Work, draws: list[Draw]) -> bool:
    """Whether draws of rows may be scored by moving the words, not the responses: what is made of the
    training rows then serves all draws.

    Not where folds, voxels or the vectors' axes are chosen by the words.
    """
    protocol = work.method.protocol
    return (
        draws[0].rows is not None
        and words_leave_rows(protocol)
        and not protocol.n_voxels
        and not work.reduced
    )


def _score_reworded(
    work: Work, index: int | slice, moved: FoldProblem, k: int
) -> dict[Part, np.ndarray]:
    """Sums over the words of a fold, [P, 2, L] of each part, for draws that move the words."""
    with work.computation.context():
        source = work.source if work.source.ndim == 2 else work.source[index]
        source = jax.device_put(source)
        method, factors = work.method, None
        if isinstance(method, Ridge):
            method, factors = work.factor(source, work.problem.fold(index))
        options = dict(method=method, k=k, batch=work.computation.at_once())
        outer, inner, token_to_type = moved
        folds = FoldProblem(
            Split(*(x[:, index] for x in outer)),
            None if inner is None else Split(*(x[:, index] for x in inner)),
            token_to_type,
        )
        n_draws = len(token_to_type)
        by_part = {}
        for parts, layers in _alike(work.layers, work.counts):
            sums = []
            for start in range(0, n_draws, _BATCH):
                # The last batch is filled up, so that all share a program.
                rows = np.minimum(np.arange(start, start + min(_BATCH, n_draws)), n_draws - 1)
                some = jax.tree.map(lambda x, rows=rows: x[rows], folds)
                sums.append(programs.reworded_sums(factors, source, layers, some, **options))
            sums = np.concatenate([np.asarray(x) for x in sums])[:n_draws]
            ends = np.cumsum([work.counts[part] for part in parts])[:-1]
            by_part |= dict(zip(parts, np.split(sums, ends, axis=-1), strict=True))
        return by_part


def _moved_source(bench: Workbench, work: Work, subject: int, method: str, draw: Draw):
    """The responses of a draw, as `Work.source`."""
    if draw.types is not None:
        return work.source
    recording, eligible = bench.responses[subject], work.problem.eligible
    protocol = work.method.protocol
    if not preparation.fits_each_fold(protocol):
        return moved_rows(work.source, draw, recording.stimulus, eligible)
    values = moved_rows(recording.values, draw, recording.stimulus, eligible)
    part, form = next(iter(work.layers)), work.method.form
    return bench.prepared(subject, part, form, protocol, work.problem, values)


def _score_fold(
    work: Work, index: int | slice, draws: list[Draw], moved: list[np.ndarray], k: int
) -> dict[Part, np.ndarray]:
    """Sums over the words of a fold, [P, 2, L] of each part."""
    exchanged = draws[0].types is not None
    with work.computation.context():
        fold = jax.device_put(work.problem.fold(index))
        options = dict(k=k, batch=work.computation.at_once())
        # Of items the axes are fitted once they are exchanged.
        chunks = {
            part: work.layers[part] if exchanged else work.fold_layers(part, index)
            for part in work.layers
        }
        by_part = {}
        for parts, layers in _alike(chunks, work.counts):
            if exchanged:
                source = jax.device_put(moved[0] if moved[0].ndim == 2 else moved[0][index])
                method, state = work.prepare(source, fold)
                types, words = (
                    np.stack([draw.types for draw in draws]),
                    work.problem.trained_words(index),
                )
                sums = programs.exchanged_sums(
                    state, source, layers, types, fold, words, method=method, **options
                )
            else:
                sources = np.stack([x if x.ndim == 2 else x[index] for x in moved])
                sums, error = programs.moved_sums(
                    sources, layers, fold, method=work.method, **options
                )
                if isinstance(work.method, Ridge) and not programs.suffices(error):
                    method = dataclasses.replace(work.method, n_filters=None)
                    sums, _ = programs.moved_sums(sources, layers, fold, method=method, **options)
            ends = np.cumsum([work.counts[part] for part in parts])[:-1]
            by_part |= dict(zip(parts, np.split(np.asarray(sums), ends, axis=-1), strict=True))
        return by_part


def _alike(chunks: dict[Part, list[LayerVectors]], counts: dict[Part, int]):
    """(parts whose layers have one shape, all their layers in one)."""
    groups: dict[tuple, list[Part]] = {}
    for part, several in chunks.items():
        shapes = tuple(None if x is None else x.shape[1:] for x in several[0])
        groups.setdefault(shapes, []).append(part)
    for parts in groups.values():
        fields = [
            None
            if chunks[parts[0]][0][i] is None
            else jnp.concatenate(
                [
                    jnp.concatenate([chunk[i] for chunk in chunks[part]])[: counts[part]]
                    for part in parts
                ]
            )
            for i in range(len(LayerVectors._fields))
        ]
        yield parts, LayerVectors(*fields)


def _rows(values: np.ndarray, layers: Sequence[int], plan: NullPlan, k: int) -> pd.DataFrame:
    """Tidy rows of [P, 2, L]."""
    index = pd.MultiIndex.from_product(
        [range(len(values)), _METRICS, layers], names=["draw", "metric", "layer"]
    )
    rows = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
    rows["k"] = np.where(rows["metric"] == "rank_accuracy", 0, k)
    return rows.assign(null=plan.kind)
