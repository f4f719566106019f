"""Multiple choice as language models are asked: which answer is the likeliest behind the context?

A line of a `.jsonl` file has `context` (or `query`), `choices`, a list of answers, and `gold`, the index of
the right one. "acc" takes the answer of the highest log-probability, "acc_norm" that of the highest by its
length in characters. A line with `text` and no `choices` asks for its last word, as LAMBADA does:
"last_word_acc" is the share of texts whose last word the model would have said, each of its sub-tokens the
likeliest one, "last_word_bits" the word's surprisal.

Contexts and answers are joined by a blank, and white space becomes single blanks, where the harness keeps
line ends as they are. A causal model reads its first token before the context, unless bos is "never"; the
harness reads it only where the tokenizer puts it there. A context that does not fit into the model's length
with the longest answer loses its first words, the same ones for all answers.

Reference: Gao et al. 2021, A framework for few-shot language model evaluation (lm-evaluation-harness).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        last_word = "text" in content and "choices" not in content
        asked.append(_last_word(content, place) if last_word else _question(content, place))
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
    """Accuracy by log-probability and by that of a character; of last words, accuracy and bits."""
    if questions.last_words:
        yield from _last_word_abilities(scorer, questions, confidence)
        return
    scores = _log_probabilities(scorer, questions.asked)
    right: dict[str, list[float]] = {"acc": [], "acc_norm": []}
    chances = []
    for question, own in zip(questions.asked, scores, strict=True):
        if np.isfinite(own).all():
            chances.append(1 / len(question.choices))
            lengths = np.array([len(choice) for choice in question.choices])
            right["acc"].append(float(own.argmax() == question.gold))
            right["acc_norm"].append(float((own / lengths).argmax() == question.gold))
    if not right["acc"]:
        raise ValueError(f"{scorer.name} knows the answers to no question of {questions.name}")
    chance = float(np.mean(chances))
    for name, marks in right.items():
        yield accuracy(f"{questions.name}/{name}", ALL, np.array(marks), chance, confidence)


def _last_word_abilities(
    scorer: Scorer, questions: Questions, confidence: float
) -> Iterator[Ability]:
    """Whether last words are what the model would have said, and their bits; of those with a probability."""
    texts = _texts(questions.asked, _fitting_contexts(scorer, questions.asked))
    last = [(scores.bits[-1], scores.likeliest[-1]) for scores in scorer.text_scores(texts)]
    bits, likeliest = (np.array(values, float) for values in zip(*last, strict=True))
    known = np.isfinite(bits)
    if not known.any():
        raise ValueError(f"{scorer.name} knows no last word of {questions.name}")
    name, count = questions.name, np.ones(known.sum())
    yield accuracy(f"{name}/last_word_acc", ALL, likeliest[known], np.nan, confidence)
    yield ratio(f"{name}/last_word_bits", ALL, bits[known], count, confidence)


def _log_probabilities(scorer: Scorer, asked: Sequence[Question]) -> list[np.ndarray]:
    """Of each question the log-probabilities of its answers, in bits; NaN where a word has none."""
    contexts = _fitting_contexts(scorer, asked)
    by_text = iter(scorer.text_bits(_texts(asked, contexts)))
    scores = []
    for question, context in zip(asked, contexts, strict=True):
        bits = [next(by_text)[len(context) :] for _ in question.choices]
        # The first word of a text may have no probability, in all answers alike: it is left out of them.
        first = int(
            scorer.causal and not context and all(len(own) > 1 and np.isnan(own[0]) for own in bits)
        )
        scores.append(-np.array([own[first:].sum() for own in bits]))
    return scores


def _fitting_contexts(scorer: Scorer, asked: Sequence[Question]) -> list[list[str]]:
    """The words of each context, without those at its start for which the longest answer leaves no room."""
    contexts = [question.context.split() for question in asked]
    unsure = list(range(len(asked)))
    # A word that comes to stand first may have other sub-tokens than behind a blank: looked at again.
    while unsure:
        texts = _texts([asked[place] for place in unsure], [contexts[place] for place in unsure])
        sizes = iter(scorer.sub_tokens(texts))
        cut = []
        for place in unsure:
            longest = max((next(sizes) for _ in asked[place].choices), key=np.sum)
            excess, n_words = longest.sum() - scorer.room, len(contexts[place])
            if excess > 0 and n_words:
                n_cut = int(np.searchsorted(np.cumsum(longest[:n_words]), excess)) + 1
                contexts[place] = contexts[place][n_cut:]
                cut.append(place)
        unsure = cut
    return contexts


def _texts(asked: Sequence[Question], contexts: Sequence[list[str]]) -> list[list[str]]:
    """The words of each answer behind its context."""
    return [
        context + choice.split()
        for question, context in zip(asked, contexts, strict=True)
        for choice in question.choices
    ]
