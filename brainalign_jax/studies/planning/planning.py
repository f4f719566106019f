"""How many people, words and repetitions does a study need? From a pilot, by the package's own tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from brainalign_jax.embedding import Embedding
from brainalign_jax.files import output_folder, user_path
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.checks.power import simulated_study
from brainalign_jax.studies.options import Planning
from brainalign_jax.studies.planning import report
from brainalign_jax.studies.planning.components import learning_curve, noise_growth
from brainalign_jax.studies.planning.pilot import PilotScores, Source, read_pilot
from brainalign_jax.studies.planning.table import (
    PlanTable,
    effect_interval,
    facts_of,
    forecast,
    needed_rows,
    rows_of,
)
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.report.wording import listed
from brainalign_jax.study.results import GROUP, ResultTable
from brainalign_jax.study.run import run_study

_LEAST_WORDS = 20  # of a share of a pilot's words


def run_planning(
    pilots: str | Source | Sequence[str | Source],
    output_dir: str | Path | None = None,
    *,
    plan: Planning = Planning(),
    command: str = "",
) -> PlanTable:
    """Plan a study; write plan.parquet, needed.parquet, manifest.json, figures and report.html.

    Args:
      pilots: folders or tables of `run_study` with evidence (test=score, layers, size), `run_generalisation`
        (gap) or `run_ablation` (ablation). Several are of the same people and test with different numbers of
        words: how the effect grows with words is learnt from them, all else is the largest's.
      output_dir: None writes nothing. plan: the test, what varies, and the effect. command: recorded in the
        manifest.

    Where the pilot does not show the effect nothing is planned, and all powers are NaN, unless plan.effect is
    given.

    Raises: FileNotFoundError or ValueError naming the pilot and what it lacks.
    """
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    notes: list[str] = []
    given = [pilots] if isinstance(pilots, str | Source) else list(pilots)
    if not given:
        raise ValueError("no pilot is given: give a folder of a finished study, or several")
    sources: list[Source] = [
        user_path(source, "pilot", "a folder of a finished study")
        if isinstance(source, str | Path)
        else source
        for source in given
    ]
    for source in sources if output is not None else ():
        if (
            isinstance(source, Path)
            and source.exists()
            and os.path.realpath(source) == os.path.realpath(output)
        ):
            raise ValueError(
                f"output_dir={output} is the pilot's folder, whose files the plan would replace: give another"
            )
    read = sorted(
        (read_pilot(source, plan, notes) for source in sources), key=lambda pilot: pilot.n_words
    )
    _check_alike(read)
    largest = read[-1]
    curve = learning_curve(
        np.array([pilot.n_words for pilot in read]),
        np.stack([pilot.effects for pilot in read]),
        plan.n_bootstraps,
        np.random.default_rng((plan.seed, 2)),
    )
    growth = 0.0
    if plan.test in ("gap", "ablation"):
        growth = noise_growth(curve.sizes, [float(pilot.components.noise) for pilot in read])
    expected = forecast(largest, curve, plan, growth)
    pace = plan.words_per_minute
    rows = rows_of(largest, curve.sizes, expected, plan, pace)
    lower, upper = effect_interval(largest.components, plan.confidence)
    facts = {
        **made_by(command),
        "pilots": [pilot.source for pilot in read],
        "pilot": {
            **facts_of(largest.components),
            "lower": lower,
            "upper": upper,
            "sizes": list(curve.sizes),
            "effects": [float(pilot.effects.mean()) for pilot in read],
            "half_words": curve.half_words,
            "noise_growth": growth,
            "doubt": largest.doubt,
        },
        "limits": {
            str(n): expected.power(np.inf, 1.0, n)
            for n in plan.people
            if expected is not None and curve.half_words <= max(curve.sizes)
        },
        "n_tests": largest.test.n_tests,
        "plan": asdict(plan),
        "notes": list(dict.fromkeys(notes)),
    }
    table = PlanTable(rows, facts, needed_rows(largest, expected, plan, pace))
    return table.finished(output, report.write_report)


def _check_alike(pilots: Sequence[PilotScores]) -> None:
    """Raise ValueError where several pilots are not of the same people with different numbers of words."""
    first = pilots[0]
    for pilot in pilots[1:]:
        if pilot.people != first.people:
            raise ValueError(
                f"{pilot.source} is of {listed(pilot.people)}, {first.source} of "
                f"{listed(first.people)}: give pilots of the same people"
            )
    counts = [pilot.n_words for pilot in pilots]
    for n_words in counts:
        if counts.count(n_words) > 1:
            raise ValueError(
                f"two pilots are of {n_words} words: give pilots of different numbers of words"
            )


def run_pilots(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    plan: Planning = Planning(),
    scoring: Scoring | None = None,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    simulated: bool = False,
    progress: bool = True,
) -> list[ResultTable]:
    """The pilots of `run_planning` for test=score, layers and size: a study of each share of the words.

    Words of a text are its beginning, isolated words drawn at random. scoring: ridge if not given, whose
    layers inner folds choose. output_dir: a folder for each, pilot_WORDS, is written below it. The others as
    of `run_study`.

    Raises: ValueError for another test, or a share of fewer than twenty words.
    """
    if plan.test not in ("score", "layers", "size"):
        raise ValueError(
            f"test={plan.test} is planned from a finished study: give its folder as the pilot (--pilot)"
        )
    scoring = scoring or Scoring(methods=(plan.method or "ridge",), ks=(1,), seed=plan.seed)
    n_nulls = plan.n_nulls if plan.test == "score" else 1
    evidence = EvidencePlan(
        n_nulls=n_nulls, hold_alpha=True, n_permutations=0, untrained_seeds=0, controls=(), ceilings=False,
        n_bootstraps=100, seed=plan.seed,
    )  # fmt: skip
    tables = []
    for share in plan.fractions:
        rows = first_words(dataset, share, plan.seed)
        part = dataset if len(rows) == len(dataset.stimulus) else part_of(dataset, rows)
        folder = None if output_dir is None else Path(output_dir) / f"pilot_{len(rows)}"
        tables.append(
            run_study(
                part,
                [of_words(model, part) for model in models],
                scoring,
                folder,
                embedding=embedding,
                computation=computation,
                report_k=scoring.ks[0],
                evidence=evidence,
                cache_dir=cache_dir,
                simulated=simulated,
                progress=progress,
            )
        )
    return tables


def first_words(dataset: Dataset, share: float, seed: int) -> np.ndarray:
    """Rows of a share of the words: the beginning of a text, isolated words at random."""
    stimulus = dataset.stimulus
    count = round(share * len(stimulus))
    if count < _LEAST_WORDS:
        raise ValueError(
            f"a share of {share:g} of {len(stimulus)} words is {count}: give shares of {_LEAST_WORDS} words "
            "or more (--fractions)"
        )
    if any(x is not None for x in (stimulus.onsets, stimulus.sentence, stimulus.run)):
        return np.arange(count)
    rng = np.random.default_rng((seed, 3))
    return np.sort(rng.permutation(len(stimulus))[:count])


def part_of(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The data set with these words alone."""
    if dataset.spans is not None:
        raise ValueError(
            f"the items of {dataset.name} are spans of words, of which no share can be taken: give finished "
            "studies as pilots (--pilot)"
        )
    stimulus = dataset.stimulus.select(rows)

    def load(subject: str) -> WordResponses:
        whole = dataset.load(subject)
        return WordResponses(
            subject, whole.values[rows], stimulus, whole.valid[rows], whole.meta, whole.space
        )

    return replace(
        dataset, stimulus=stimulus, load=load, vectors={}, time_courses=None, epochs=None
    )


def of_words(model: str | Embeddings, dataset: Dataset) -> str | Embeddings:
    """The model, of vectors in memory those of the data set's words alone."""
    if isinstance(model, str):
        return model
    kept = set(dataset.stimulus.types()[0])
    rows = [place for place, word in enumerate(model.types) if word in kept]
    if len(rows) == len(model.types):
        return model
    return replace(
        model,
        types=tuple(model.types[row] for row in rows),
        values=model.values[:, rows],
        final=None if model.final is None else model.final[rows],
        surprisal=None,
    )


def tested_pace(
    dataset: Dataset, table: ResultTable, *, share: float = 1.0, seed: int = 0
) -> float | None:
    """Tested words of a minute, of a pilot of a share of the words; None where these have no onsets."""
    stimulus = dataset.stimulus.select(first_words(dataset, share, seed))
    if stimulus.onsets is None:
        return None
    runs = np.zeros(len(stimulus)) if stimulus.run is None else np.asarray(stimulus.run)
    seconds = sum(float(np.ptp(stimulus.onsets[runs == run])) for run in np.unique(runs))
    tested = table.pooled("rank_accuracy")["n_items"][table.rows["subject"] != GROUP].max()
    return float(tested) / (seconds / 60) if seconds > 0 else None


def simulated_story(
    strength: float, *, n_people: int = 8, n_words: int = 720, seed: int = 0
) -> tuple[Dataset, Embeddings]:
    """A story of `checks.power` as a data set, and the model whose layer 1 is in the brain."""
    responses, model = simulated_study(
        strength, n_words=n_words, n_types=n_words // 2, n_subjects=n_people, seed=seed
    )
    by_name = {person.subject: person for person in responses}
    stimulus = responses[0].stimulus
    return Dataset("simulation", tuple(by_name), stimulus, by_name.__getitem__), model
