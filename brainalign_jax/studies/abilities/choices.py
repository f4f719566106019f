"""Multiple choice as language models are asked: which answer is the likeliest behind the context?

A line of a `.jsonl` file has `context` (or `query`), `choices`, a list of answers, and `gold`, the index of
the right one. "acc" takes the answer of the highest log-probability, "acc_norm" that of the highest by its
length in bytes. A line with `text` alone asks for its last word, as LAMBADA does: its bits are given.

Contexts and answers are joined by a blank, and white space becomes single blanks, where the harness keeps
line ends as they are.

Reference: Gao et al. 2021, A framework for few-shot language model evaluation (lm-evaluation-harness).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.studies.abilities.json_lines import json_lines, text_of
from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.studies.abilities.table import ALL, Ability, accuracy, ratio

_MOST_CHOICES = 100
_MOST_ANSWERS = 1_000_000


class Question(NamedTuple):
    """context: may be empty; choices: the answers; gold: index of the right one."""

    context: str
    choices: tuple[str, ...]
    gold: int


class Questions(NamedTuple):
    """name: of the file; asked: its questions, each of one choice where last words are asked for."""

    name: str
    asked: tuple[Question, ...]

    @property
    def last_words(self) -> bool:
        """Whether last words are asked for."""
        return len(self.asked[0].choices) == 1


def read_questions(path: str | Path) -> Questions:
    """The questions of a `.jsonl` file.

    Raises: FileNotFoundError, or ValueError naming the file and line.
    """
    file = user_path(path, "choices", "a file")
    asked: list[Question] = []
    for number, content in json_lines(file):
        place = f"{file}:{number}"
        asked.append(_last_word(content, place) if "text" in content else _question(content, place))
        if (len(asked[-1].choices) == 1) != (len(asked[0].choices) == 1):
            raise ValueError(f"{place} asks otherwise than the lines before: give two files")
        if sum(len(question.choices) for question in asked[-2:]) * len(asked) > 2 * _MOST_ANSWERS:
            raise ValueError(
                f"{file} holds more than {_MOST_ANSWERS:,} answers; give a part of them"
            )
    if not asked:
        raise ValueError(f"{file} holds no question; give context, choices and gold in each line")
    return Questions(file.stem, tuple(asked))


def _question(content: dict, place: str) -> Question:
    name = "query" if "query" in content else "context"
    context = text_of(content, name, place, most=200_000) if content.get(name) else ""
    choices, gold = content.get("choices"), content.get("gold")
    if not isinstance(choices, list) or not 2 <= len(choices) <= _MOST_CHOICES:
        raise ValueError(
            f"{place} has no list `choices` of 2 to {_MOST_CHOICES} answers; correct it"
        )
    answers = tuple(
        text_of(dict(enumerate(choices)), index, f"{place}, choices,")
        for index in range(len(choices))
    )
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(answers):
        raise ValueError(
            f"{place}: gold={gold!r} is no index of its {len(answers)} choices; correct it"
        )
    return Question(context, answers, gold)


def _last_word(content: dict, place: str) -> Question:
    context, _, last = text_of(content, "text", place, most=200_000).rpartition(" ")
    if not context:
        raise ValueError(f"{place} has a text of one word; give what stands before it")
    return Question(context, (last,), 0)


def choice_abilities(scorer: Scorer, questions: Questions, confidence: float) -> Iterator[Ability]:
    """Accuracy by log-probability and by that of a byte; of last words, their bits."""
    texts, first = [], []
    for question in questions.asked:
        before = question.context.split()
        texts += [before + choice.split() for choice in question.choices]
        first += [len(before)] * len(question.choices)
    bits = [own[start:] for own, start in zip(scorer.text_bits(texts), first, strict=True)]
    # Without a context the first word of an answer may have no probability, in all of them.
    scores = -np.array([np.nansum(own) if np.isfinite(own).any() else np.nan for own in bits])
    bounds = np.cumsum([0, *(len(question.choices) for question in questions.asked)])
    if questions.last_words:
        known = -scores[np.isfinite(scores)]
        if not len(known):
            raise ValueError(f"{scorer.name} knows no last word of {questions.name}")
        yield ratio(f"{questions.name}/last_word_bits", ALL, known, np.ones(len(known)), confidence)
        return
    right: dict[str, list[float]] = {"acc": [], "acc_norm": []}
    for question, begin, end in zip(questions.asked, bounds, bounds[1:], strict=False):
        own = scores[begin:end]
        if np.isfinite(own).all():
            lengths = np.array([len(choice.encode()) for choice in question.choices])
            right["acc"].append(float(own.argmax() == question.gold))
            right["acc_norm"].append(float((own / lengths).argmax() == question.gold))
    if not right["acc"]:
        raise ValueError(f"{scorer.name} knows the answers to no question of {questions.name}")
    chance = float(np.mean([1 / len(question.choices) for question in questions.asked]))
    for name, marks in right.items():
        yield accuracy(f"{questions.name}/{name}", ALL, np.array(marks), chance, confidence)
