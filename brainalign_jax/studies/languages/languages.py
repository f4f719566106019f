"""Does what was fitted on the people of one language hold for the people of another?

The sections of a story are held out in turn. In the other sections a map is fitted from the responses of the
people of a language, in a space that all people share, to a model's vectors of their words; in the held-out
section people of another language are decoded with it, among candidates of their own. Vectors and responses
are taken about the mean of their section, so that where a language's vectors lie is of no account.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.names import check_known, model_names
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.languages import cells as problems
from brainalign_jax.studies.languages import maps, report
from brainalign_jax.studies.languages.cells import Cell, Scores, Words
from brainalign_jax.studies.languages.matched import matched_effects, mean_log_frequency
from brainalign_jax.studies.languages.sections import Text, texts_of
from brainalign_jax.studies.languages.spaces import shared_space
from brainalign_jax.studies.languages.table import COLUMNS, Drawn, LanguageTable, rows_of
from brainalign_jax.studies.options import Languages
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.options import KS, EvidencePlan, Scoring
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.protocol import Protocol, protocol
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.workbench import layer_numbers

_KS = (1, 3)
_VECTORS, _SCORES, _AUDITED = "word vectors", "scores", "languages by themselves"
Model = str | Mapping[str, Embeddings]
Layers = dict[int, np.ndarray]  # number -> [T, D]


def run_languages(
    datasets: Sequence[Dataset],
    models: Sequence[Model],
    output_dir: str | Path | None = None,
    *,
    plan: Languages = Languages(),
    scoring: Scoring = Scoring(methods=maps.METHODS, ks=_KS),
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    model_languages: Mapping[str, str] | None = None,
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> LanguageTable:
    """Score within and across languages; write languages.parquet, manifest.json, report.html.

    Args:
      datasets: one a language, each of words whose language is known, with shared sections.
      models: names of multilingual models, or `Embeddings` of one by the language of their words.
      output_dir: None writes nothing. plan: sections, purge, draws. scoring: methods (ridge, procrustes), ks,
        layers, lower and seed.
      model_languages: model -> its language, where there are several models: their scores are then compared
        by whether they are of the people's language.
      cache_dir: of word vectors; below output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for languages without people, shared sections, or a space that their people share.
    """
    names = [_name(model) for model in models]
    check_choices(names, scoring.methods, model_languages or {})
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    texts, sections = texts_of(datasets, plan.section, lower=scoring.lower)
    cells = problems.cells_of(texts)
    sizes = problems.sizes_of(texts, cells, plan.purge)
    least = min(len(text.candidates(s)) for text in texts for s in range(len(sections)))
    ks = tuple(k for k in scoring.ks if k < least)
    if len(ks) < len(scoring.ks) and scoring.ks not in (KS, _KS):
        raise ValueError(
            f"ks={','.join(map(str, scoring.ks))} must be below the {least} candidates of the smallest "
            "section: leave larger ones out, or give longer sections"
        )
    computing.keep_compiled_programs()
    n_steps = len(sections) * len(cells) * len(models) * len(scoring.methods)
    told = Progress(
        {
            _VECTORS: Stage(len(models) * len(texts), 1.0),
            _SCORES: Stage(n_steps, 0.3),
            _AUDITED: Stage(len(texts) if plan.audited else 0, 30.0),
        },
        show=progress,
    )
    studies = []
    for text in texts:
        given = [model[text.language] for model in models if not isinstance(model, str)]
        by_name = {vectors.model: vectors for vectors in given}
        study = Study(text.dataset, tuple(names), scoring, computation, embedding, given=by_name)
        studies.append(replace(study, cache=cache))
    vectors: dict[str, list[Embeddings]] = {name: [] for name in names}
    with told.stage(_VECTORS):
        for name in names:
            for study, text in zip(studies, texts, strict=True):
                vectors[name].append(_checked(study.vectors(name), text))
                told.update()
    layers = {name: [_layers(own, scoring.layers) for own in vectors[name]] for name in names}
    for name in names:
        if len({tuple(own) for own in layers[name]}) > 1:
            raise ValueError(
                f"{name} has other layers in one language than in another: embed them alike"
            )
    space = shared_space(texts, plan.space, n_bins=plan.n_bins, n_axes=plan.n_axes)
    with told.stage(_SCORES), computation.context():
        scores = _scores(
            texts,
            space,
            cells,
            sizes,
            layers,
            plan,
            scoring.methods,
            ks,
            scoring.seed,
            len(sections),
            told,
        )
    people = {text.language: text.dataset.subjects for text in texts}
    drawn = Drawn(people, plan, scoring.seed)
    tables = []
    for (name, method), own in scores.items():
        fertility = {
            text.language: float(embedded.meta.get("fertility") or np.nan)
            for text, embedded in zip(texts, vectors[name], strict=True)
        }
        titles = {text.language: text.dataset.name for text in texts}
        numbers = [SELECTED, *layers[name][0]]
        rows = rows_of(own, people, titles, numbers, ks, fertility, drawn)
        tables.append(rows.assign(model=name, method=method))
    rows = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    frequency = {text.language: mean_log_frequency(text) for text in texts}
    effects = matched_effects(
        rows,
        model_languages or {},
        people,
        {language: value for language, (value, _) in frequency.items()},
        drawn,
        plan.confidence,
    )
    within = {}
    if plan.audited:
        options = {"embedding": embedding, "computation": computation, "cache_dir": cache}
        within = _audited(studies, models, scoring, output, options, told)
    table = LanguageTable(
        rows,
        {
            **made_by(command),
            "simulated": simulated,
            "languages": {
                text.language: {
                    "dataset": {"name": text.dataset.name, **text.dataset.meta},
                    "stimulus": text.dataset.stimulus.fingerprint(),
                    "people": list(text.dataset.subjects),
                    "n_words": len(text.rows),
                    "log_frequency": frequency[text.language][0],
                    "frequency_of": frequency[text.language][1],
                    "audited": within.get(text.language),
                }
                for text in texts
            },
            "sections": sections,
            "space": space.kind,
            "plan": asdict(plan),
            "methods": list(scoring.methods),
            "ks": list(ks),
            "layers": scoring.layers,
            "lower": scoring.lower,
            "seed": scoring.seed,
            "model_languages": dict(model_languages or {}),
            "matched": effects,
            "models": {
                name: {
                    text.language: {"fingerprint": own.fingerprint(), **own.meta}
                    for text, own in zip(texts, vectors[name], strict=True)
                }
                for name in names
            },
        },
    )
    return table.finished(output, report.write_report)


def check_choices(
    models: Sequence[str], methods: Sequence[str], model_languages: Mapping[str, str]
) -> None:
    """Raises: ValueError for an unknown method, no model or one given twice, or a language of a model that is
    not among them."""
    for name in methods:
        check_known("method of a study of languages", name, maps.METHODS)
    model_names(models)
    for model in model_languages:
        check_known("model of model_languages", model, models)


def _name(model: Model) -> str:
    if isinstance(model, str):
        return model
    names = {vectors.model for vectors in model.values()}
    if len(names) != 1:
        raise ValueError(f"vectors of one model are of {sorted(names)}: give them one name")
    return names.pop()


def _checked(vectors: Embeddings, text: Text) -> Embeddings:
    if vectors.types != text.types:
        raise ValueError(
            f"the {len(vectors.types)} word types of {vectors.model} are not the {len(text.types)} of "
            f"{text.dataset.name} ({text.language}): embed the same stimulus with the same `lower`"
        )
    return vectors


def _layers(vectors: Embeddings, wanted: Sequence[int] | None) -> Layers:
    chosen = layer_numbers(vectors, None if wanted is None else tuple(wanted))
    return {
        number: values[known.index(number)]
        for numbers, (known, values) in zip(chosen, vectors.blocks(), strict=True)
        for number in numbers
    }


def _scores(
    texts, space, cells, sizes, layers, plan, methods, ks, seed, n_sections: int, told
) -> dict[tuple[str, str], dict[tuple[str, str], Scores]]:
    """(model, method) -> (trained on, tested on) -> scores."""
    scores = {(name, method): {} for name in layers for method in methods}
    for section in range(n_sections):
        rows, turns = space.placed(section, plan.n_nulls, seed)
        words = [
            problems.words_of(
                text, section, plan.n_nulls, np.random.default_rng((seed, place, section))
            )
            for place, text in enumerate(texts)
        ]
        ceilings = [
            maps.others_accuracy(own[:, spoken.words], spoken.slot, spoken.places)
            for own, spoken in zip(rows, words, strict=True)
        ]
        for cell in cells:
            problem = problems.problem_of(texts, rows, cell, section, sizes, purge=plan.purge)
            within = problems.is_within(cell)
            tested = [
                problems.tested_of(
                    words[place], rows[place], people, sizes, None if within else turns[place]
                )
                for place, people in cell.tested
            ]
            factors = maps.factor(problem.training) if "ridge" in methods else None
            for name, by_language in layers.items():
                for method in methods:
                    ranked = _ranked(
                        method, factors, problem, by_language, cell, tested, words, sizes, ks
                    )
                    for (place, people), own in zip(cell.tested, ranked, strict=True):
                        pair = cell.trained_on, texts[place].language
                        kept = scores[name, method].setdefault(
                            pair, _empty(own, len(texts[place].dataset.subjects))
                        )
                        count = len(words[place].types)
                        kept.add(people, own[:, : len(people)], count)
                        kept.ceilings[people] += count * ceilings[place][people]
                        kept.n_train += problem.n_train * len(people)
                        kept.sections += len(people)
                    told.update()
    for by_pair in scores.values():
        for kept in by_pair.values():
            n_people = len(kept.n_items)
            kept.ceilings /= kept.n_items
            kept.sections, kept.n_train = kept.sections // n_people, kept.n_train / n_people
    return scores


def _empty(scores: np.ndarray, n_people: int) -> Scores:
    shape = (len(scores), n_people, *scores.shape[2:])
    return Scores(np.zeros(shape), np.zeros(n_people), ceilings=np.zeros(n_people))


def _ranked(
    method: str,
    factors: maps.Factors | None,
    problem: problems.Problem,
    layers: Sequence[Layers],
    cell: Cell,
    tested: Sequence[maps.Shifted | maps.Turned],
    words: Sequence[Words],
    sizes: problems.Sizes,
    ks: tuple[int, ...],
) -> list[np.ndarray]:
    """Scores [1 + B, P, 1 + L, M] of each of the cell's tested people, those of the chosen layer first."""
    losses, by_layer = [], []
    for number in layers[0]:
        of_languages = [own[number] for own in layers]
        target = problems.target_of(problem, of_languages)
        fitted = maps.fit(method, factors, problem.training, target)
        losses.append(fitted.loss)
        by_layer.append(
            [
                maps.rank(
                    own,
                    fitted.map,
                    problems.candidates_of(words[place], of_languages[place], sizes),
                    ks=ks,
                )
                for own, (place, _) in zip(tested, cell.tested, strict=True)
            ]
        )
    chosen = int(np.argmin(np.asarray(losses)))
    order = [chosen, *range(len(losses))]
    return [
        np.stack([np.asarray(by_layer[layer][index], np.float64) for layer in order], axis=2)
        for index in range(len(tested))
    ]


def _protocol(dataset: Dataset) -> Protocol:
    """The audited protocol that fits the words, with no more folds than runs there are to draw."""
    words = dataset.stimulus
    timed, grouped = words.onsets is not None, words.run is not None
    chosen = protocol("audited", timed=timed, grouped=grouped)
    if chosen.folds != "shuffled_runs":
        return chosen
    n_runs = len(np.unique(words.run))
    if n_runs < 3:  # one to test, one for an inner fold, and one to train on
        return replace(chosen, folds="contiguous")
    n_folds = min(chosen.n_folds, n_runs)
    left = n_runs - -(-n_runs // n_folds)
    return replace(chosen, n_folds=n_folds, n_inner_folds=min(chosen.n_inner_folds, left))


def _audited(studies, models, scoring: Scoring, output: Path | None, options: dict, told) -> dict:
    """The verdict of the audited study of each language by itself: language -> in words."""
    said = {}
    with told.stage(_AUDITED):
        for study in studies:
            language = study.dataset.stimulus.known_language()
            given = [study.given.get(name, name) for name in study.models]
            try:
                table = run_study(
                    study.dataset,
                    given,
                    replace(scoring, ks=KS, protocol=_protocol(study.dataset)),
                    output and output / "within" / language,
                    evidence=EvidencePlan(seed=scoring.seed),
                    progress=False,
                    **options,
                )
                said[language] = table.verdict()
            except ValueError as error:  # what was scored across languages stands without it
                said[language] = f"Not judged: {error}"
                warnings.warn(f"{study.dataset.name} ({language}) by itself: {error}", stacklevel=3)
            told.update()
    return said
