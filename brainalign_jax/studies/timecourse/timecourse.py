"""When, in the epoch around a word, is which layer there? Every window is a study of its own.

Decoding, RSA and encoding of the mean of each channel in windows of the epochs, by the protocol, folds and
methods of `run_study`, with draws that are the same in all windows, so that the largest of all windows and
layers says what chance gives anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.names import expanded, model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.studies.timecourse import encoding, inference, report, similarity
from brainalign_jax.studies.timecourse.decoding import JUDGED, WindowScores, decode_windows
from brainalign_jax.studies.timecourse.table import (
    COLUMNS,
    MAP_COLUMNS,
    PEAK_COLUMNS,
    TimeCourseTable,
    rows_of,
)
from brainalign_jax.studies.timecourse.transfer import generalise_over_time
from brainalign_jax.studies.timecourse.windows import (
    Recording,
    Recordings,
    check_draws,
    chosen_windows,
    filled,
    read_epochs,
    said_of_lacking,
    scoring_over_time,
)
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.draws import default_kind
from brainalign_jax.study.evidence.nulls import NullPlan
from brainalign_jax.study.manifest import manifest, model_facts
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.progress import SCORES, TESTS, VECTORS, Progress, Stage
from brainalign_jax.study.results import GROUP, about_model
from brainalign_jax.study.score.problem import left_out_words, said_of_left_out
from brainalign_jax.study.score.sweep import with_common_axes
from brainalign_jax.study.score.workbench import layer_numbers


def run_timecourse(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    plan: TimeCourse = TimeCourse(),
    scoring: Scoring | None = None,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> TimeCourseTable:
    """Score windows of epochs; write timecourse.parquet, peaks.parquet, manifest.json and report.html.

    Args:
      dataset: recordings with a time axis (`Dataset.epochs`). models: names, or vectors in memory.
      output_dir: None writes nothing. plan: windows, methods, draws. scoring: protocol, layers, lower and
        seed; its methods and ks are those of the plan. The audited protocol where none is given, with a purge
        gap of an epoch at least.
      cache_dir: of word vectors and finished scores; below output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for vectors of one name, recordings without a time axis, windows that do not fit the
    epoch, epochs of people that differ in time, or too few words.
    """
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    names = model_names(dict.fromkeys(expanded(models)))
    reference = read_epochs(dataset, dataset.subjects[0])
    windows = chosen_windows(reference, plan)
    scoring, notes = scoring_over_time(dataset, scoring, reference)
    recordings = Recordings(dataset, windows, reference)
    valid = recordings.words()
    decoders = tuple(name for name in plan.methods if name in ("ridge", "procrustes"))
    scoring = replace(
        scoring, methods=decoders or ("ridge",), ks=(_fitting_k(dataset, valid, scoring, plan.k),)
    )
    words = valid.any(axis=0)
    if plan.n_nulls:
        notes += said_of_lacking(valid)
        _, token_to_type = dataset.stimulus.types(lower=scoring.lower)
        check_draws(dataset.stimulus, words & (token_to_type >= 0), plan.methods)
    if "rsa" in plan.methods:
        similarity.check_rsa(scoring)
    study = Study(
        dataset,
        names,
        scoring,
        computation,
        embedding,
        given=vectors_in(models),
        cache=cache,
    )
    computing.keep_compiled_programs()
    told = Progress(
        {
            VECTORS: Stage(len(study.models), 5.0),
            SCORES: Stage(len(dataset.subjects) * len(plan.methods), 10.0),
            TESTS: Stage(len(plan.methods) * len(study.models)),
        },
        show=progress,
    )
    vectors = study.all_vectors(told)
    scoring = with_common_axes(scoring, [model.values.shape[-1] for model in vectors])
    study = replace(study, scoring=scoring)
    for model in vectors:
        inference.check_sizes(
            n_windows=len(windows),
            n_layers=sum(map(len, layer_numbers(model, scoring.layers))),
            n_bootstraps=plan.n_bootstraps,
            n_nulls=plan.n_nulls,
            n_people=len(dataset.subjects),
        )
    people: dict[tuple[str, str], dict[str, WindowScores]] = {}
    known = _People(plan, recordings)
    fingerprints = {}
    with told.stage(SCORES):
        for subject in dataset.subjects:
            recording = recordings.of(subject)
            fingerprints[subject] = recording.fingerprint
            if subject == dataset.subjects[0]:
                notes += said_of_left_out(left_out_words(recording.responses[0], scoring))
            scores = _score(study, recording, vectors, plan, words, known, told)
            for key, of_person in scores.items():
                people.setdefault(key, {})[subject] = of_person
    tables, peaks, orders = [], [], {}
    ceilings = known.ceilings(scoring)
    with told.stage(TESTS):
        for (method, name), scores in people.items():
            rows, best, order = rows_of(
                scores,
                windows,
                plan,
                shifts=method == "rsa" and known.shifts,
                ceiling=ceilings.get(method),
                seed=scoring.seed,
            )
            own = {"dataset": dataset.name, "model": name, "method": method}
            about = about_model(next(model for model in vectors if model.model == name))
            tables.append(rows.assign(**own, **about, protocol=scoring.protocol.name))
            peaks.append(best.assign(**own))
            orders[f"{name}, {method}"] = {**order._asdict(), "follows": order.follows}
            told.update()
    all_peaks = pd.concat(peaks, ignore_index=True)[list(PEAK_COLUMNS)]
    all_rows = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    maps = pd.DataFrame(columns=list(MAP_COLUMNS))
    if plan.generalise_time:
        maps = _maps(study, recordings, vectors, windows, decoders[0], all_peaks)
    notes += known.said(ceilings)
    notes += _said_of_clusters(all_rows, plan, len(dataset.subjects))
    models_facts = [model_facts(model) for model in vectors]
    facts = manifest(
        study, models_facts, fingerprints, command=command, simulated=simulated, notes=notes
    )
    facts |= {
        "p_models": _p_models(people, plan, known.shifts),
        "plan": asdict(plan),
        "timed": dataset.stimulus.onsets is not None,
        "epoch": [float(reference.times[0]), float(reference.times[-1])],
        "sampling_step": reference.step,
        "n_windows": len(windows),
        "n_channels": len(reference.channels),
        "null": default_kind(dataset.stimulus),
        "n_draws": {
            method: min(len(score.null) for score in scores.values())
            for (method, _), scores in people.items()
        },
        "order": orders,
    }
    table = TimeCourseTable(all_rows, facts, all_peaks, maps)
    return table.finished(output, report.write_report)


def _p_models(
    people: dict[tuple[str, str], dict[str, WindowScores]], plan: TimeCourse, shifts: bool
) -> dict[str, float]:
    """ "MODEL, METHOD" -> p over windows, layers and models; nothing where there are no draws."""
    p_models = {}
    for method in plan.methods:
        names = [name for known_as, name in people if known_as == method]
        scores = [list(people[method, name].values()) for name in names]
        p = inference.p_over_models(scores, shifts=shifts and method == "rsa")
        p_models |= {f"{name}, {method}": float(own) for name, own in zip(names, p, strict=True)}
    return {key: p for key, p in p_models.items() if not np.isnan(p)}


class _People:
    """What is kept of everybody for the ceilings: dissimilarities, and windows where memory holds them."""

    def __init__(self, plan: TimeCourse, recordings: Recordings):
        self._plan, self._recordings, self.shifts = plan, recordings, False
        self._rdms: list[similarity.BrainRdms] = []

    def add(self, rdms: similarity.BrainRdms) -> None:
        self._rdms.append(rdms)

    def ceilings(self, scoring: Scoring) -> dict[str, np.ndarray]:
        """Method -> ceiling [W], of the methods that have one."""
        comparison = scoring.protocol.of_method("rsa").rdm_comparison
        ceilings = {"rsa": similarity.ceilings(self._rdms, comparison) if self._rdms else None}
        people = self._recordings.every() if "encoding" in self._plan.methods else None
        if people is not None:
            ceilings["encoding"] = encoding.ceilings(people)
        return {method: values for method, values in ceilings.items() if values is not None}

    def said(self, ceilings: dict[str, np.ndarray]) -> list[str]:
        """Of which methods there is no ceiling, and why."""
        said = []
        asked = [method for method in ("rsa", "encoding") if method in self._plan.methods]
        for method in asked:
            if method not in ceilings:
                why = {
                    "rsa": "one person, or words that differ in who has a response to them",
                    "encoding": "one person, or channels or words that differ between people, or more of "
                    "them than are kept",
                }[method]
                said.append(f"{method} has no noise ceiling: {why}.")
        return said


def _score(
    study: Study,
    recording: Recording,
    vectors: list[Embeddings],
    plan: TimeCourse,
    words: np.ndarray,
    known: _People,
    told: Progress,
) -> dict[tuple[str, str], WindowScores]:
    """(method, model) -> one person's scores. words: [N] that anybody has an epoch of, which draws are of."""
    null = None
    if plan.n_nulls:
        kind = default_kind(study.dataset.stimulus)
        null = NullPlan(kind, plan.n_nulls, study.scoring.seed, hold_alpha=plan.hold_alpha)
    scores: dict[tuple[str, str], WindowScores] = {}
    completed = filled(recording, words) if null is not None else recording
    for method in plan.methods:
        if completed is recording:
            scores |= _of_method(study, recording, vectors, method, null, known, first=True)
        else:
            own = _of_method(study, recording, vectors, method, None, known, first=True)
            drawn = _of_method(study, completed, vectors, method, null, known, first=False)
            for key, of_own in own.items():
                scores[key] = of_own._replace(null=drawn[key].null, tested=drawn[key].values)
        told.update()
    return scores


def _of_method(
    study: Study,
    recording: Recording,
    vectors: list[Embeddings],
    method: str,
    null: NullPlan | None,
    known: _People,
    *,
    first: bool,
) -> dict[tuple[str, str], WindowScores]:
    """(method, model) -> scores. first: the recording is as it was read, and serves the ceilings."""
    scoring, stimulus, computation = study.scoring, study.dataset.stimulus, study.computation
    if method == "rsa":
        rdms = similarity.brain_rdms(recording, stimulus, scoring, computation)
        if first:
            known.add(rdms)
        scores = {}
        for model in vectors:
            scores[method, model.model], known.shifts = similarity.compare_windows(
                rdms,
                recording,
                stimulus,
                model,
                scoring,
                n_nulls=0 if null is None else null.n_draws,
                computation=computation,
            )
        return scores
    if method == "encoding":
        return {
            (method, model.model): encoding.encode_windows(
                recording, stimulus, model, scoring, null, computation=computation
            )
            for model in vectors
        }
    return decode_windows(
        study.dataset.name,
        recording,
        vectors,
        replace(scoring, methods=(method,)),
        null,
        computation=computation,
        cells=study.cells,
    )


def _fitting_k(dataset: Dataset, valid: np.ndarray, scoring: Scoring, k: int) -> int:
    """k, or the fewest words that a person of valid [S, N] has where these are fewer."""
    _, token_to_type = dataset.stimulus.types(lower=scoring.lower)
    counts = [len(np.unique(token_to_type[own & (token_to_type >= 0)])) for own in valid]
    return max(1, min(k, *counts))


def _maps(
    study: Study, recordings: Recordings, vectors, windows, method: str, peaks: pd.DataFrame
) -> pd.DataFrame:
    """Every window decoded by the map of every other, at each model's best layer."""
    bounds = np.array(windows)
    n_windows = len(bounds)
    places = np.repeat(np.arange(n_windows), n_windows), np.tile(np.arange(n_windows), n_windows)
    tables = []
    for model in vectors:
        own = rows_with(peaks, model=model.model, method=method)
        layer = int(own.loc[own["value"].idxmax(), "layer"])
        maps = {}
        for subject in study.dataset.subjects:
            maps[subject] = generalise_over_time(
                recordings.of(subject),
                model,
                layer,
                method,
                study.scoring,
                computation=study.computation,
            )
        maps[GROUP] = np.mean(list(maps.values()), axis=0)
        for subject, values in maps.items():
            rows = pd.DataFrame({"value": values.ravel()}).assign(
                subject=subject, model=model.model, layer=layer, method=method, metric=JUDGED
            )
            rows[["fitted_start", "fitted_stop"]] = bounds[places[0]]
            rows[["window_start", "window_stop"]] = bounds[places[1]]
            tables.append(rows.assign(dataset=study.dataset.name, chance=0.5))
    return pd.concat(tables, ignore_index=True)[list(MAP_COLUMNS)]


def _said_of_clusters(rows: pd.DataFrame, plan: TimeCourse, n_people: int) -> list[str]:
    if not plan.n_flips:
        return []
    if n_people < inference.FEWEST_PEOPLE:
        return [inference.few_people(n_people)]
    return [inference.NO_MNE] * bool(rows["p_cluster"].isna().all())
