"""What can a language model do? Measured here, in one table that other studies take as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainalign_jax.files import output_folder
from brainalign_jax.names import expanded, model_names
from brainalign_jax.studies.abilities import report
from brainalign_jax.studies.abilities.choices import Questions, choice_abilities, read_questions
from brainalign_jax.studies.abilities.pairs import MinimalPairs, pair_abilities, read_minimal_pairs
from brainalign_jax.studies.abilities.reading import (
    TASK,
    ReadingTimes,
    fit_abilities,
    read_reading_times,
    reading_abilities,
)
from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.studies.abilities.table import AbilitiesTable, Ability, rows_of
from brainalign_jax.studies.abilities.texts import WrittenText, read_text, text_abilities
from brainalign_jax.studies.options import Abilities
from brainalign_jax.study import computation as computing
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.report.wording import counted

_MODELS = "models"


class _Material(NamedTuple):
    """What is measured on."""

    texts: list[WrittenText]
    pairs: MinimalPairs | None
    times: ReadingTimes | None
    questions: list[Questions]

    def facts(self) -> dict[str, str]:
        """What there is, in words."""
        known = {text.name: f"{len(text.words):,} words" for text in self.texts}
        if self.pairs is not None:
            known["minimal pairs"] = f"{len(self.pairs.good):,}"
        if self.times is not None:
            known["reading times"] = f"{len(self.times.words):,} words"
        return known | {
            asked.name: counted(len(asked.asked), "question") for asked in self.questions
        }


def run_abilities(
    models: Sequence[str],
    output_dir: str | Path | None = None,
    *,
    texts: Sequence[str | Path] = (),
    pairs: str | Path | None = None,
    reading: str | Path | None = None,
    choices: Sequence[str | Path] = (),
    plan: Abilities = Abilities(),
    bos: str = "auto",
    command: str = "",
    progress: bool = True,
) -> AbilitiesTable:
    """Measure models; write abilities.parquet, figures, manifest.json and report.html.

    Args:
      models: names of models with a language-model head. output_dir: None writes nothing.
      texts: text files, for bits per character and word. pairs: minimal pairs, as `read_minimal_pairs` takes
        them. reading: reading times, as `read_reading_times`. choices: files of questions.
      plan: the context, resamples and intervals. bos: as of `surprisal`. command: recorded in the
        manifest. progress: show each stage and the time to the end.

    Raises: ValueError where nothing is to be measured, or for files as of their readers, before a model is
      loaded; and for a model that predicts no words.
    """
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    if not (texts or pairs or reading or choices):
        raise ValueError("nothing is to be measured: give a text, pairs, reading or choices")
    models = model_names(dict.fromkeys(expanded(models)))
    material = _Material(
        [read_text(path) for path in texts],
        None if pairs is None else read_minimal_pairs(pairs),
        None if reading is None else read_reading_times(reading),
        [read_questions(path) for path in choices],
    )
    names = [*(text.name for text in material.texts), *(asked.name for asked in material.questions)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two files are named {name!r}, and so would be their tasks: rename one"
            )
    computing.keep_compiled_programs()
    told = Progress({_MODELS: Stage(len(models), 60.0)}, show=progress)
    tables, facts = [], []
    with told.stage(_MODELS):
        for name in models:
            scorer = Scorer(name, bos=bos, seed=plan.seed)
            tables.append(rows_of(scorer, _measured(scorer, material, plan)))
            facts.append(scorer.facts())
            told.update()
    table = AbilitiesTable(
        pd.concat(tables, ignore_index=True),
        {
            **made_by(command),
            "data": material.facts(),
            "reference": _reference(material.times, plan),
            "plan": asdict(plan),
            "bos": bos,
            "models": facts,
        },
    )
    return table.finished(output, report.write_report)


def _measured(scorer: Scorer, material: _Material, plan: Abilities) -> Iterator[Ability]:
    for text in material.texts:
        context = plan.context if scorer.causal else "sentences"
        yield from text_abilities(scorer, text, context, plan.confidence)
    if material.pairs is not None:
        yield from pair_abilities(scorer, material.pairs, plan.confidence)
    if material.times is not None:
        yield from reading_abilities(scorer, material.times, plan)
    for questions in material.questions:
        yield from choice_abilities(scorer, questions, plan.confidence)


def _reference(times: ReadingTimes | None, plan: Abilities) -> dict[str, float]:
    """What GPT-3's surprisal, which came with the reading times, gains for them."""
    if times is None or times.others is None:
        return {}
    gain = next(fit_abilities(times, times.others, plan))
    return {f"{TASK} of GPT-3": gain.value, "lower": gain.lower, "upper": gain.upper}
