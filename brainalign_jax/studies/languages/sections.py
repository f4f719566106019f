"""What languages have in common: the sections of a story, and in each section the words that are tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.attributes import is_text, known
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.report.wording import counted
from brainalign_jax.study.score.folds import near

LEAST_CANDIDATES = 3
_MOST_LANGUAGES, _MOST_SECTIONS = 20, 200


class Text(NamedTuple):
    """The words of one language.

    language: its code; types: word types. rows: [n] words that take part, heard by all its people; type,
    section: [n] of each; run: [n] or None; onsets: [n] or None.
    """

    language: str
    dataset: Dataset
    types: tuple[str, ...]
    rows: np.ndarray
    type: np.ndarray
    section: np.ndarray
    run: np.ndarray | None
    onsets: np.ndarray | None

    def training(self, section: int, purge: float) -> np.ndarray:
        """The words [n] that may be trained on where this section is tested."""
        tested = self.section == section
        if self.onsets is None or not purge:
            return ~tested
        return ~tested & ~near(self.onsets, self.run, tested, purge)

    def training_rows(self, section: int, purge: float) -> TrainingRows:
        """Words that are trained on as word types of a section, in its order."""
        words = np.flatnonzero(self.training(section, purge))
        keys = self.section[words].astype(np.int64) * len(self.types) + self.type[words]
        rows, place = np.unique(keys, return_inverse=True)
        return TrainingRows(words, place, rows % len(self.types), rows // len(self.types))

    def candidates(self, section: int) -> np.ndarray:
        """Types that occur in this section and, whatever their case, in no other."""
        folded = np.unique([word.lower() for word in self.types], return_inverse=True)[1]
        outside = np.unique(folded[self.type[self.section != section]])
        here = np.unique(self.type[self.section == section])
        return here[~np.isin(folded[here], outside)]


class TrainingRows(NamedTuple):
    """words: [m] places among the words that take part; place: [m] the row of each; type, section: [N] of
    each row."""

    words: np.ndarray
    place: np.ndarray
    type: np.ndarray
    section: np.ndarray


def texts_of(
    datasets: Sequence[Dataset], attribute: str, *, lower: bool
) -> tuple[list[Text], list[str]]:
    """(a text for each data set, names of the sections that all of them have).

    attribute: that says a word's section, or "run".

    Raises: ValueError naming the data set for a language that is unknown, given twice or without people, for
    sections that are not shared, and for one with too few words that occur in it alone.
    """
    if not 2 <= len(datasets) <= _MOST_LANGUAGES:
        raise ValueError(
            f"{counted(len(datasets), 'data set')} cannot be compared: give 2 to {_MOST_LANGUAGES}, one a "
            "language"
        )
    languages = [_language(dataset) for dataset in datasets]
    for place, language in enumerate(languages):
        first = languages.index(language)
        if first < place:
            raise ValueError(
                f"{datasets[first].name} and {datasets[place].name} are both in {language!r}: give one data "
                "set a language"
            )
    labels = [_labels(dataset, attribute) for dataset in datasets]
    names = [list(dict.fromkeys(label for label in own if label)) for own in labels]
    shared = [name for name in names[0] if all(name in others for others in names[1:])]
    if not shared:
        raise ValueError(
            f"no section is in all data sets: by {attribute!r}, {languages[0]!r} has {_some(names[0])}, "
            f"{languages[1]!r} {_some(names[1])}; name another attribute (--section), or --attributes"
        )
    if len(shared) < 2 or len(shared) > _MOST_SECTIONS:
        raise ValueError(
            f"{counted(len(shared), 'section')} of {attribute!r} {'is' if len(shared) == 1 else 'are'} in "
            f"all data sets ({_some(shared)}): one is tested while the others are trained on, so that 2 to "
            f"{_MOST_SECTIONS} are needed"
        )
    texts = [
        _text(language, dataset, own, shared, lower=lower)
        for language, dataset, own in zip(languages, datasets, labels, strict=True)
    ]
    for text in texts:
        for section, name in enumerate(shared):
            count = len(text.candidates(section))
            if count < LEAST_CANDIDATES:
                raise ValueError(
                    f"{text.dataset.name} ({text.language}): section {name!r} has {count} recorded words "
                    f"that occur in no other section, and {LEAST_CANDIDATES} are needed: give fewer, "
                    "longer sections (--section)"
                )
    return texts, shared


def centred_by_section(values: np.ndarray, section: np.ndarray) -> np.ndarray:
    """Rows [N, D] less the mean of their section [N]."""
    centred = np.array(values, np.float64)
    for label in np.unique(section):
        here = section == label
        centred[here] -= centred[here].mean(axis=0)
    return centred


def _language(dataset: Dataset) -> str:
    language = dataset.stimulus.known_language()
    if language is None:
        raise ValueError(
            f"{dataset.name}: the language of its words is not known, and their script is that of several: "
            "open it with language= (--data_dirs=en=FOLDER)"
        )
    if not dataset.subjects:
        raise ValueError(
            f"{dataset.name} ({language}) has no people: give a data set that has some"
        )
    return language


def _labels(dataset: Dataset, attribute: str) -> list[str]:
    """The section of each word as text, "" where it is unknown."""
    stimulus = dataset.stimulus
    if attribute == "run" and "run" not in stimulus.attributes:
        if stimulus.run is None:
            raise ValueError(
                f"{dataset.name}: its words have no runs; name an attribute (--section)"
            )
        return [str(run) for run in stimulus.run]
    try:
        values = stimulus.attribute(attribute)
    except ValueError as error:
        raise ValueError(
            f"{dataset.name}: {error}; name another (--section), run for its runs"
        ) from None
    if is_text(values):
        return [str(value) for value in values]
    there = known(values)
    return [f"{value:g}" if is_known else "" for value, is_known in zip(values, there, strict=True)]


def _text(
    language: str, dataset: Dataset, labels: list[str], shared: list[str], *, lower: bool
) -> Text:
    stimulus: Stimulus = dataset.stimulus
    types, token_to_type = stimulus.types(lower=lower)
    section_of = {name: index for index, name in enumerate(shared)}
    section = np.array([section_of.get(label, -1) for label in labels])
    eligible = (section >= 0) & (token_to_type >= 0)
    for subject in dataset.subjects:
        eligible &= dataset.load(subject).valid
    rows = np.flatnonzero(eligible)
    run = None if stimulus.run is None else stimulus.run[rows]
    onsets = None if stimulus.onsets is None else stimulus.onsets[rows]
    return Text(language, dataset, types, rows, token_to_type[rows], section[rows], run, onsets)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5) or "none"
