"""One call from a data set and model names to a saved table, figures and a report."""

import dataclasses
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainalign_jax import __version__
from brainalign_jax.embedding import Embedding
from brainalign_jax.files import output_folder
from brainalign_jax.language import Embeddings
from brainalign_jax.machine import package_version
from brainalign_jax.names import check_known, expanded, model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import computation as computing
from brainalign_jax.study import memory, outputs, processes
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study, fitting_scoring
from brainalign_jax.study.controls import is_control
from brainalign_jax.study.evidence import similarity
from brainalign_jax.study.evidence.chance import chance_rows
from brainalign_jax.study.evidence.gather import group_tables
from brainalign_jax.study.evidence.nulls import COLUMNS as NULL_COLUMNS
from brainalign_jax.study.evidence.nulls import score_nulls
from brainalign_jax.study.evidence.rsa import said_of_untested
from brainalign_jax.study.evidence.table import null_plan, role, with_controls
from brainalign_jax.study.manifest import manifest
from brainalign_jax.study.options import EvidencePlan, Scoring
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
from brainalign_jax.study.report import plots, report
from brainalign_jax.study.report.verdict import with_evidence
from brainalign_jax.study.results import ResultTable, group_rows, with_fertility
from brainalign_jax.study.score import sweep
from brainalign_jax.study.score.group import KINDS as GROUP_KINDS
from brainalign_jax.study.score.problem import (
    check_axes,
    check_words,
    fitting_ks,
    folds_of,
    left_out_words,
    said_of_left_out,
)
from brainalign_jax.threads import in_turn

# Of a model's facts: where it lies, and its vectors' last bits, may differ between machines.
_MACHINE = ("fingerprint", "source", "geometry")


@in_turn
def run_study(
    dataset: Dataset,
    models: Sequence[str | Embeddings] | str | Embeddings,
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
      models: names, ids, folders, "static:FILE" or "untrained:MODEL", or `Embeddings` of the data set's words
        from anywhere; or one of them.
      scoring: methods, protocol, ks, layers, lower, seed; by default all methods under the audited
        protocol that fits the words.
      output_dir: results.parquet, manifest.json, report.html and figures are written there, finished cells
        (subject x model x method) and embeddings are kept below it, and a second call computes only
        what is missing. None: nothing is written.
      embedding: context, pooling, first token and the model's precision, of models given by name.
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
    with tempfile.TemporaryDirectory(prefix="brainalign-") as scratch:
        output = None if output_dir is None else output_folder(output_dir, "output_dir")
        cache = Path(scratch) if output is None else output
        if cache_dir is not None:
            cache = output_folder(cache_dir, "cache_dir")
        several = expanded(models)
        # A name counts once; vectors of the same name would hide one another.
        several = [
            model
            for place, model in enumerate(several)
            if not (isinstance(model, str) and model in several[:place])
        ]
        study = Study(
            dataset,
            model_names(several),
            fitting_scoring(dataset, scoring),
            computation,
            embedding,
            evidence,
            tuple(group_decoding),
            report_k,
            vectors_in(several),
            cache,
        )
        study, left_out = prepare(study, max_memory=max_memory, progress=progress)
        words = left_out_words(study.first, study.scoring)
        notes = [*notes, *left_out, *said_of_left_out(words)]
        scores = score(study)
        extra = {"command": command, "simulated": simulated, "notes": notes}
        facts = manifest(study, scores.models, scores.subjects, **extra)
        table = judge(study, scores, facts | ({"left_out_words": words} if words else {}))
        write(study, table, output, notes)
        return table


def check_group_decoding(kinds: Sequence[str], scoring: Scoring) -> None:
    """Raises: ValueError for an unknown kind of group decoding, or where no method decodes words."""
    for kind in kinds:
        check_known("group decoding", kind, GROUP_KINDS)
    if kinds and not scoring.decoders:
        raise ValueError(
            f"{', '.join(scoring.methods)} decode no words: add a method for group decoding, or leave it out"
        )


def prepare(study: Study, *, max_memory: int | None, progress: bool) -> tuple[Study, list[str]]:
    """The study with controls, memory plan and word vectors, and what is noted of it.

    Raises: ValueError or FileNotFoundError as `run_study`, before anything is written.
    """
    processes.agree("their options", lambda: _asked(study))
    dataset, scoring, names = study.dataset, study.scoring, study.models
    if study.k not in scoring.ks:
        raise ValueError(
            f"report_k={study.k} is not among ks={scoring.ks}: add it (--report_k, --ks)"
        )
    check_group_decoding(study.group_decoding, scoring)
    if study.embedding.bos == "auto" and scoring.protocol.first_token == "tokenizer":
        embedding = dataclasses.replace(study.embedding, bos="never")
        study = dataclasses.replace(study, embedding=embedding)
    if study.evidence is not None:
        named = [name for name in names if name not in study.given]
        options = dict(lower=scoring.lower, seed=scoring.seed)
        others = with_controls(named, dataset, study.evidence, **options)
        study = dataclasses.replace(study, models=tuple(dict.fromkeys([*names, *others])))
    computing.keep_compiled_programs()
    shown = Progress(_stages(study), show=progress)
    study = dataclasses.replace(study, progress=shown)
    notes: list[str] = []
    with processes.together(), shown.stage(PLAN):
        # First, so that a missing model is told at once.
        shapes = {name: study.shapes(name) for name in study.models}
        first = dataset.load(dataset.subjects[0])
        for vectors in study.given.values():
            check_words(first, vectors, scoring)
        scoring, k, left_out = fitting_ks(first, scoring, study.k)
        untested = said_of_untested(scoring) if study.evidence is not None else ""
        for said in filter(None, (left_out, untested)):
            warnings.warn(said, stacklevel=4)
            notes.append(said)
        widths = [
            min(shape[2] for shape in blocks)
            for name, blocks in shapes.items()
            if not is_control(name)
        ]
        check_axes(scoring.protocol, widths)
        scoring = sweep.with_common_axes(scoring, widths or [0])
        planned = memory.fit(
            first,
            list(shapes.values()),
            scoring,
            study.computation,
            n_subjects=len(dataset.subjects),
            max_memory=max_memory,
        )
        shown.update()
        shown.note(planned.text() if shown.live else planned.text().splitlines()[0])
    study = dataclasses.replace(
        study,
        scoring=scoring,
        k=k,
        first=first,
        planned=planned,
        computation=planned.computation,
    )
    with processes.together(), shown.stage(VECTORS):
        for index in processes.every_nth(len(study.models)):
            before = shown.done(VECTORS)
            study.vectors(study.models[index], shown.update)
            shown.skip(before + 1 - shown.done(VECTORS))  # what was in the cache
    return study, notes


class StudyScores(NamedTuple):
    """rows: of all subjects, without the group's; ranks, nulls: of this process's share; models: the facts of
    each; subjects: the fingerprint of each one's recording."""

    rows: pd.DataFrame
    ranks: list[pd.DataFrame]
    nulls: list[pd.DataFrame]
    models: list[dict]
    subjects: dict[str, str]


def score(study: Study) -> StudyScores:
    """The scores and null draws of a study that is prepared."""
    facts = {}
    with processes.together():
        for name in study.models:
            vectors = study.vectors(name)
            facts[name] = {"name": name, "fingerprint": vectors.fingerprint(), **vectors.meta}
    processes.agree("their models or recordings", lambda: _read(study, facts))
    nulls_wanted = null_plan(study.evidence, study.dataset)
    options = dict(cells=study.cells, computation=study.computation, progress=study.progress)
    tables, ranks, nulls, subjects = [], [], [], {}
    with processes.together():
        for chunk, names in study.subject_chunks():
            subjects |= {responses.subject: responses.fingerprint() for responses in chunk}
            for group in study.model_groups(names):
                common = study.dataset.name, chunk
                with study.progress.stage(SCORES):
                    scores = sweep.score(*common, group, study.scoring, **options)
                tables.append(scores.rows)
                ranks.append(scores.ranks)
                tested = [vectors for vectors in group if role(vectors.model) == "model"]
                if nulls_wanted and tested and study.scoring.decoders:
                    with study.progress.stage(NULLS):
                        decoding = dataclasses.replace(
                            study.scoring, methods=study.scoring.decoders
                        )
                        drawn = score_nulls(
                            *common, tested, decoding, nulls_wanted, k=study.k, **options
                        )
                    nulls.append(drawn)
    rows, subjects = processes.gathered_scores(
        tables, subjects, study.models, study.dataset.subjects
    )
    return StudyScores(rows, ranks, nulls, list(facts.values()), subjects)


def judge(study: Study, scores: StudyScores, facts: dict) -> ResultTable:
    """The table of the scores, with the evidence beside them; facts: its manifest."""
    rows = pd.concat([scores.rows, group_rows(scores.rows)], ignore_index=True)
    table = ResultTable(with_fertility(rows, scores.models), facts)
    extras = group_tables(study)
    left_out = processes.gathered([pd.DataFrame({"said": study.left_out})])["said"].tolist()
    if left_out:
        table = dataclasses.replace(table, manifest=facts | {"left_out_evidence": left_out})
    with study.progress.stage(REPORT):
        if study.evidence is not None:
            if study.scoring.decoders:
                outer, _, token_to_type = folds_of(study.first, study.scoring, inner=False).folds
                extras["chance"] = chance_rows(outer, token_to_type, study.scoring.ks)
            extras["ranks"] = processes.gathered(scores.ranks)
            extras["nulls"] = processes.gathered(scores.nulls, NULL_COLUMNS)
            return with_evidence(table, extras, study.evidence, k=study.k)
    if study.group_decoding:
        extras = {"group_decoding": extras["group_decoding"]}
        return dataclasses.replace(table, extras=extras)
    return table


def write(study: Study, table: ResultTable, output: Path | None, notes: Sequence[str]) -> None:
    """Table, figures and report into the folder, by the first process; None writes nothing."""
    with study.progress.stage(REPORT):
        with processes.together():
            if processes.index() == 0 and output is not None:
                figures = plots.draw_figures(table, k=study.k)
                with outputs.new_outputs(output) as new:
                    table.write(new)
                    plots.save_figures(figures, new / "figures")
                    report.write_report(table, new, k=study.k, notes=notes, figures=figures)
        study.progress.update()


def _asked(study: Study) -> dict:
    versions = {"brainalign_jax": __version__, "jax": package_version("jax")}
    return {"versions": versions, **study.asked()}


def _read(study: Study, facts: dict[str, dict]) -> dict:
    """What processes that share a study must have read alike."""
    portable = {
        name: {key: value for key, value in meta.items() if key not in _MACHINE}
        for name, meta in facts.items()
    }
    recording = f"recording of {study.dataset.subjects[0]}"
    return portable | {recording: study.first.fingerprint()}


def _stages(study: Study) -> dict[str, Stage]:
    """What is to be done, and how many seconds a piece of it may take on two cores."""
    share, evidence, scoring = study.share(), study.evidence, study.scoring
    n_methods, n_cells = len(scoring.methods), sum(map(len, share.values()))
    n_decoders = len(scoring.decoders)
    tested = sum(role(name) == "model" for names in share.values() for name in names)
    cell = 0.1 * (len(study.dataset.stimulus.types(lower=scoring.lower)[0]) / 130) ** 2
    stages = {
        PLAN: Stage(1, 6.0 * n_methods),
        VECTORS: Stage(len(processes.every_nth(len(study.models))), 2.0, "models"),
        SCORES: Stage(n_cells * n_methods, cell, "scores"),
    }
    nulls_wanted = null_plan(evidence, study.dataset)
    if nulls_wanted and tested and n_decoders:
        draws = tested * n_decoders * nulls_wanted.n_draws
        # Of Procrustes a draw costs nearly a score, of ridge its draws share the folds' factors.
        by_method = [0.8 if name == "procrustes" else 0.06 for name in scoring.decoders]
        stages[NULLS] = Stage(draws, cell * sum(by_method) / n_decoders, "draws")
    several = len(study.dataset.subjects) > 1
    if evidence is not None and evidence.ceilings and several and n_decoders:
        stages[CEILINGS] = Stage(len(study.dataset.subjects), 1 + n_decoders * cell, "subjects")
    if evidence is not None and scoring.measures:
        pieces = len(study.models) * similarity.pieces(scoring.measures)
        stages[TESTS] = Stage(pieces, 1 + 0.04 * cell * evidence.n_permutations)
    return stages | {REPORT: Stage(1, 5.0)}
