"""The data sets that are known by name, and how one is opened."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.attributes import joined_attributes
from brainalign_jax.neural.readout import (
    EpochedResponses,
    Processing,
    TimeCourses,
    read_time_courses,
    word_responses,
)
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.scripts import NO_LANGUAGE, check_language
from brainalign_jax.spans import Spans
from brainalign_jax.stimulus import Stimulus


@dataclass(frozen=True, eq=False)
class Dataset:
    """An opened data set; recordings are read one subject at a time, when asked for.

    name: the name it was opened by. subjects: the usable subjects' names.
    stimulus: the words, common to all subjects.
    load: subject name -> WordResponses. Reads the files at each call; keeps nothing.
    meta: citation, licence, notes, and how the words and sentences were made; JSON-serialisable.
    vectors: name -> [N, D] vectors or norms that the release ships, rows follow stimulus.words.
    spans: where the words of the stimulus are spans of sentences, these; models then read the sentences.
    time_courses: subject name -> TimeCourses, the cleaned scans as they are; None where there are none.
    epochs: subject name -> EpochedResponses, the responses over time; None where they have no time axis.

    Of recordings that are in memory:

    >>> import brainalign_jax as ba
    >>> words = ba.Stimulus.from_words(["sun", "moon"])
    >>> recorded = {"S1": [[0.1, 0.7], [0.4, 0.2]], "S2": [[0.3, 0.5], [0.6, 0.1]]}
    >>> load = lambda subject: ba.WordResponses(subject, recorded[subject], words)
    >>> dataset = ba.Dataset("mine", tuple(recorded), words, load)
    >>> dataset.load("S2").values.shape
    (2, 2)
    """

    name: str
    subjects: tuple[str, ...]
    stimulus: Stimulus
    load: Callable[[str], WordResponses]
    meta: dict = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    spans: Spans | None = None
    time_courses: Callable[[str], TimeCourses] | None = None
    epochs: Callable[[str], EpochedResponses] | None = None

    def __repr__(self) -> str:
        """One line: its name, and how many people and words it has."""
        return (
            f"Dataset({self.name!r}, {len(self.subjects)} subjects, {len(self.stimulus):,} words)"
        )


Reader = Callable[..., Dataset]
_READERS: dict[str, Reader] = {}
_PROCESSING = tuple(field.name for field in fields(Processing))


def register(name: str) -> Callable[[Reader], Reader]:
    """Decorator that makes a reader `(data_dir, *, subjects=None, ...) -> Dataset` known.

    A reader of scans takes `processing=Processing()`; `open_dataset` fills it in from its options.

    Raises: ValueError where another function holds the name already; TypeError for a reader
    without `subjects`.

    >>> import brainalign_jax as ba
    >>> @ba.register("two_words")
    ... def read_two_words(data_dir, *, subjects=None):
    ...     words = ba.Stimulus.from_words(["sun", "moon"])
    ...     load = lambda subject: ba.WordResponses(subject, [[0.1], [0.4]], words)
    ...     return ba.Dataset("two_words", ("S1",), words, load)
    >>> ba.open_dataset("two_words", ".").stimulus.words
    ('sun', 'moon')
    """

    def keep(reader: Reader) -> Reader:
        if not str(reader.__module__).startswith(f"{__package__}."):
            list_datasets()  # the package's own readers hold their names
        known, place = _READERS.get(name), (reader.__module__, reader.__qualname__)
        if known is not None and (known.__module__, known.__qualname__) != place:
            raise ValueError(
                f"the data set name {name!r} is taken by {known.__module__}.{known.__qualname__}; "
                "register another name"
            )
        parameters = inspect.signature(reader).parameters.values()
        if not any(p.name == "subjects" or p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(
                f"the reader of {name!r} takes no subjects: write "
                f"def {reader.__name__}(data_dir, *, subjects=None)"
            )
        _READERS[name] = reader
        return reader

    return keep


def scans_dataset(
    name: str, subjects: tuple[str, ...], stimulus: Stimulus, load: Callable, meta: dict
) -> Dataset:
    """The data set of people whose scans are read: as word responses, or as time courses.

    load: (subject name, reading=) -> what `word_responses` or `read_time_courses` makes of the scans.
    """
    return Dataset(
        name,
        subjects,
        stimulus,
        partial(load, reading=word_responses),
        meta,
        time_courses=partial(load, reading=read_time_courses),
    )


def list_datasets() -> tuple[str, ...]:
    """The names of the data sets and formats that `open_dataset` knows, sorted.

    >>> import brainalign_jax as ba
    >>> "table" in ba.list_datasets()
    True
    """
    # Every module in and below this folder registers itself, so that a new reader is one new file.
    for module in pkgutil.walk_packages([str(Path(__file__).parent)], f"{__package__}."):
        importlib.import_module(module.name)
    return tuple(sorted(_READERS))


def open_dataset(
    name: str,
    data_dir: str | os.PathLike,
    *,
    subjects: str | Iterable[str] | None = None,
    attributes: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    language: str | None = None,
    **options,
) -> Dataset:
    """Open a data set by name: its words now, its subjects when `Dataset.load` asks for them.

    data_dir: the release's folder, or the folder that holds it. subjects: names, or None for all
    usable ones. attributes: a table with more of the words, see `join_attributes`, norms by name, see
    `read_norms`, or several; `Dataset.meta` says of which share of the words each is known. language:
    ISO 639-1 code of the words' language, where the reader does not say it; a reader of several languages
    is given it. options: the reader's own keyword arguments, such as `radius`, and where it reads scans the
    choices of `Processing`, such as `kind` or `high_pass`.
    Raises ValueError for an unknown name, subject or option, with the nearest known ones, and
    FileNotFoundError for a missing folder or file, with the place the release comes from.

    `recordings` is a folder with a table of words x regions for each subject:

    >>> import brainalign_jax as ba
    >>> dataset = ba.open_dataset("table", recordings)
    >>> dataset.subjects, len(dataset.stimulus)
    (('S1', 'S2'), 40)
    >>> dataset.load("S1").values.shape
    (40, 8)
    """
    reader, accepted, language = reader_of(name), reader_options(name), check_language(language)
    for option in options:
        check_known("option", option, accepted, of=name, listing=f"`brainalign datasets {name}`")
    parameters = inspect.signature(reader).parameters
    if language is not None and "language" in accepted:
        options["language"] = language
    if "processing" in parameters:
        given = {key: options.pop(key) for key in _PROCESSING if key in options}
        options["processing"] = Processing(**given)
    dataset = reader(user_path(data_dir, "data_dir"), subjects=subjects, **options)
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"the reader of {name!r} returned {type(dataset).__name__}, not a Dataset: return one"
        )
    stimulus, meta, joined = dataset.stimulus, dataset.meta, {}
    if attributes is not None:
        stimulus, known_of = joined_attributes(stimulus, attributes)
        joined = {key: stimulus.attributes[key] for key in known_of["known_of"]}
        meta = {**meta, "attributes": known_of}
    spans = dataset.spans
    if language is not None:
        if stimulus.language == NO_LANGUAGE != language:
            raise ValueError(f"the items of {name} are no words: leave the language out")
        stimulus = replace(stimulus, language=language)
        if spans is not None:
            spans = replace(spans, stimulus=replace(spans.stimulus, language=language))

    def told(read: Callable, subject: str):
        (chosen,) = choose_subjects(name, dataset.subjects, [subject])
        recorded = read(chosen)
        recorded = recorded.with_attributes(**joined) if joined else recorded
        return recorded if language is None else recorded.with_language(language)

    courses, epochs = dataset.time_courses, dataset.epochs
    return replace(
        dataset,
        load=partial(told, dataset.load),
        stimulus=stimulus,
        meta=meta,
        spans=spans,
        time_courses=None if courses is None else partial(told, courses),
        epochs=None if epochs is None else partial(told, epochs),
    )


def reader_of(name: str) -> Reader:
    """The reader of a data set. Raises ValueError for an unknown one, with the nearest known ones."""
    check_known("data set", name, list_datasets(), listing="`brainalign datasets`")
    return _READERS[name]


def reader_options(name: str) -> tuple[str, ...]:
    """The names of the options of a data set's reader, the choices of `Processing` among them."""
    parameters = inspect.signature(reader_of(name)).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    processing = _PROCESSING if "processing" in own else ()
    return (*(option for option in own if option not in ("subjects", "processing")), *processing)


def choose_subjects(
    dataset: str,
    known: Sequence[str],
    asked: str | Iterable[str] | None,
    *,
    unusable: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """`asked` as a tuple of names, None for all of `known`, each once and known.

    unusable: name -> reason, for subjects of the release that cannot be analysed.
    Raises ValueError with the nearest known subjects, or giving the reason.
    """
    if asked is None:
        return tuple(known)
    chosen = [str(name) for name in ([asked] if isinstance(asked, str | int) else asked)]
    for name in chosen:
        if unusable and name in unusable:
            raise ValueError(
                f"subject {name!r} of {dataset} cannot be used: {unusable[name]}; "
                "choose another, or None for all usable ones"
            )
        check_known("subject", name, known, of=dataset)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"subjects is {chosen}; give each subject of {dataset} once, or None for all"
        )
    return tuple(chosen)


def find_folder(data_dir: Path, candidates: Iterable[str], holds: str, source: str) -> Path:
    """The first of data_dir / candidate that holds the file or folder `holds`.

    Raises FileNotFoundError with the path looked for and `source`, where the release comes from.
    """
    candidates = tuple(candidates)
    for candidate in candidates:
        if (folder := Path(data_dir) / candidate / holds).exists():
            return folder.parent
    looked = " or ".join(str(Path(data_dir) / candidate / holds) for candidate in candidates)
    raise FileNotFoundError(f"there is no {looked}; get the release from {source}")
