"""Cells: trained on whom, tested on whom, and the problems of one tested section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from brainalign_jax.studies.languages import maps
from brainalign_jax.studies.languages.sections import Text, centred_by_section

OTHERS = "others"  # trained on all languages but the one that is tested
_MOST_GROUPS = 4  # of the people of a language, each tested after training on the others


class People(NamedTuple):
    """Some people of a language, by their indices."""

    language: int
    people: np.ndarray


class Cell(NamedTuple):
    """trained_on: its name; trained: whose responses are averaged; tested: who is tested with the map."""

    trained_on: str
    trained: tuple[People, ...]
    tested: tuple[People, ...]


class Sizes(NamedTuple):
    """What problems are filled up to: rows [N] of one language and of all but one, people tested, words and
    candidates of a section, and words that are candidates."""

    rows: int
    other_rows: int
    people: int
    group: int
    words: int
    candidates: int
    tokens: int


class Problem(NamedTuple):
    """A training set. members: (language, types [N_l], sections [N_l]) of the rows, in their order."""

    training: maps.Training
    members: list[tuple[int, np.ndarray, np.ndarray]]
    n_train: int


@dataclass
class Scores:
    """Scores [1 + B, P, 1 + L, M] of a cell's tested people, weighted sums over sections; the chosen layer's
    first. n_items: words tested; sections: how many; n_train: rows trained on, over all sections."""

    sums: np.ndarray
    n_items: np.ndarray
    sections: int = 0
    n_train: int = 0
    ceilings: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, people: np.ndarray, scores: np.ndarray, count: int) -> None:
        """The scores [1 + B, P', 1 + L, M] of some people in a section of so many candidates."""
        self.sums[:, people] += count * scores
        self.n_items[people] += count

    def values(self) -> np.ndarray:
        """[1 + B, P, 1 + L, M]."""
        return self.sums / self.n_items[None, :, None, None]


def cells_of(texts: Sequence[Text]) -> list[Cell]:
    """Every language on every other, on itself (its other people), and all others together on each."""
    everybody = [
        People(index, np.arange(len(text.dataset.subjects))) for index, text in enumerate(texts)
    ]
    cells = []
    for index, own in enumerate(everybody):
        across = tuple(other for other in everybody if other.language != index)
        cells.append(Cell(texts[index].language, (own,), across))
        n_people = len(own.people)
        for group in np.array_split(own.people, min(_MOST_GROUPS, n_people)):
            others = np.setdiff1d(own.people, group) if n_people > 1 else own.people
            tested = (People(index, group),)
            cells.append(Cell(texts[index].language, (People(index, others),), tested))
        if len(texts) > 2:
            cells.append(Cell(OTHERS, across, (own,)))
    return cells


def sizes_of(texts: Sequence[Text], cells: Sequence[Cell], purge: float) -> Sizes:
    """The largest problem of each kind. Raises: ValueError for a language with too little to train on."""
    n_sections = int(texts[0].section.max()) + 1
    rows = np.array(
        [[len(text.training_rows(s, purge).type) for s in range(n_sections)] for text in texts]
    )
    if rows.min() < 10:
        language, section = np.argwhere(rows == rows.min())[0]
        raise ValueError(
            f"{texts[language].dataset.name} ({texts[language].language}): {rows.min()} words are left to "
            f"train on where section {section + 1} is tested, and 10 are needed: shorten the purge "
            "(--purge), or give longer sections"
        )
    candidates = [[text.candidates(s) for s in range(n_sections)] for text in texts]
    tokens = [
        int((np.isin(text.type, own[s]) & (text.section == s)).sum())
        for text, own in zip(texts, candidates, strict=True)
        for s in range(n_sections)
    ]
    within = [cell for cell in cells if is_within(cell)]
    return Sizes(
        int(rows.max()),
        int((rows.sum(axis=0) - rows).max()),
        max(len(text.dataset.subjects) for text in texts),
        max(len(cell.tested[0].people) for cell in within),
        max(int(np.bincount(text.section).max()) for text in texts),
        max(len(types) for own in candidates for types in own),
        max(tokens),
    )


def is_within(cell: Cell) -> bool:
    """Whether people are tested after training on people of their own language."""
    return any(person.language == cell.tested[0].language for person in cell.trained)


def problem_of(
    texts: Sequence[Text],
    rows: Sequence[np.ndarray],
    cell: Cell,
    section: int,
    sizes: Sizes,
    *,
    purge: float,
) -> Problem:
    """The training set of a cell where a section is tested; rows: of the space, [P, n, V] a language."""
    sources, members, sections = [], [], []
    for language, people in cell.trained:
        trained = texts[language].training_rows(section, purge)
        mean = rows[language][people].mean(axis=0, dtype=np.float64)[trained.words]
        sums = np.zeros((len(trained.type), mean.shape[1]))
        np.add.at(sums, trained.place, mean)
        sums /= np.bincount(trained.place)[:, None]
        sources.append(centred_by_section(sums, trained.section))
        members.append((language, trained.type, trained.section))
        sections.append(trained.section)
    source, labels = np.concatenate(sources), np.concatenate(sections)
    size = sizes.other_rows if cell.trained_on == OTHERS else sizes.rows
    weights = maps.filled(np.ones(len(source), np.float32), size)
    inner, held = maps.inner_folds(labels, size)
    source = maps.filled(source.astype(np.float32), size)
    return Problem(maps.Training(source, weights, inner, held), members, len(labels))


def target_of(problem: Problem, layers: Sequence[np.ndarray]) -> np.ndarray:
    """The vectors [N, D] of a problem's rows, about their sections' means; layers: [T, D] a language."""
    targets = [
        centred_by_section(layers[language][types], section)
        for language, types, section in problem.members
    ]
    target = np.concatenate(targets).astype(np.float32)
    return maps.filled(target, len(problem.training.weights))


class Words(NamedTuple):
    """What is tested of a language in a section: the words' places [n] among all, types [Q] of the
    candidates, slot [m] of each token of one and its place [m] in the section, moved [1 + B, m]."""

    words: np.ndarray
    types: np.ndarray
    slot: np.ndarray
    places: np.ndarray
    moved: np.ndarray


def words_of(text: Text, section: int, n_nulls: int, rng: np.random.Generator) -> Words:
    """The tested words of a section and, in each draw, whose responses they are given."""
    words = np.flatnonzero(text.section == section)
    types = text.candidates(section)
    places = np.flatnonzero(np.isin(text.type[words], types))
    slot = np.searchsorted(types, text.type[words[places]])
    shifts = np.append(0, rng.integers(1, len(words), n_nulls))
    return Words(words, types, slot, places, (places + shifts[:, None]) % len(words))


def tested_of(
    words: Words,
    rows: np.ndarray,
    people: np.ndarray,
    sizes: Sizes,
    turns: np.ndarray | None,
) -> maps.Shifted | maps.Turned:
    """The tested words of some people, filled up.

    rows: [P, n, V] of their language. turns: [1 + B, V, V] of their space, for people of another language
    than was trained on; None where the words are shifted.
    """
    responses = rows[people][:, words.words]
    mask = maps.filled(np.ones(len(words.types), np.float32), sizes.candidates)
    if turns is not None:
        means = maps.token_means(responses, words.slot, words.places).astype(np.float32)
        means = maps.filled(maps.filled(means, sizes.candidates, axis=1), sizes.people)
        return maps.Turned(means, turns, mask)
    responses = maps.filled(maps.filled(responses, sizes.words, axis=1), sizes.group)
    slot = np.full(sizes.tokens, sizes.candidates, np.int32)
    slot[: len(words.slot)] = words.slot
    moved = maps.filled(words.moved.astype(np.int32), sizes.tokens, axis=1)
    return maps.Shifted(responses.astype(np.float32), slot, moved, mask)


def candidates_of(words: Words, layer: np.ndarray, sizes: Sizes) -> np.ndarray:
    """The candidates' vectors [Q, D] about their mean."""
    vectors = np.asarray(layer[words.types], np.float64)
    vectors = (vectors - vectors.mean(axis=0)).astype(np.float32)
    return maps.filled(vectors, sizes.candidates)
