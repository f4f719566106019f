"""What the readers of corpora share: sections of a text, each with its words on its own clock.

No data set of its own: `little_prince`, `lebel2023`, `narratives` and `smn4lang` build on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.neural.formats.arrays import check_size
from brainalign_jax.neural.formats.images.images import ImageSource
from brainalign_jax.neural.formats.images.volumes import AUTOMATIC_MASKS, open_volumes
from brainalign_jax.neural.formats.text.delimited import MISSING, DelimitedText, is_number
from brainalign_jax.neural.readers.images.image_files import find_file, respond, run_times
from brainalign_jax.neural.readers.stories.story import sentences_by_pause
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.stimulus import Stimulus, split_sentences

LONGEST_OVERLAP = 1.0  # seconds that a word may last beyond the onset of the next one
_WORDS_A_SENTENCE = 100  # more words than this between full stops: the text carries no punctuation
_MOST_ROWS = 500_000  # of an annotation; an hour of speech has some 10,000


class Section(NamedTuple):
    """The words of one section of a text, in the order in which they were spoken.

    label: its number, which is the run's; words: n texts, none blank; onsets, offsets: [n] seconds from
    the section's start; story: its name; path: the annotation; values: name -> n further values.
    """

    label: int
    words: tuple[str, ...]
    onsets: np.ndarray
    offsets: np.ndarray
    story: str
    path: Path
    values: Mapping[str, Sequence] = {}


def checked_section(
    label: int,
    words: Sequence[str],
    onsets: Sequence[float],
    offsets: Sequence[float],
    *,
    story: str,
    path: Path,
    places: Sequence[str],
    values: Mapping[str, Sequence] | None = None,
) -> Section:
    """A section without the rows that hold no word, its times checked.

    places: where each word stands in the file, for messages ("row 7"). A word that ends after the next
    one begins ends there, as aligners round; by more than a second is an error. Rows without a word,
    and those that are equal to the one above them, which are kept, are told by a warning.
    Raises ValueError naming the file and place for times that are no numbers, ends before starts,
    onsets that decrease, words that overlap, and a section without words.
    """
    kept = [row for row, word in enumerate(words) if word.strip()]
    if not kept:
        raise ValueError(f"{path}: section {label} holds no words; get the file again")
    if empty := sorted(set(range(len(words))) - set(kept)):
        warnings.warn(
            f"{path}: section {label} has {len(empty)} rows without a word, which are left out, the first "
            f"is {places[empty[0]]}",
            UserWarning,
            stacklevel=4,
        )
    starts = np.array([onsets[row] for row in kept], np.float64)
    ends = np.array([offsets[row] for row in kept], np.float64)
    texts = tuple(words[row].strip() for row in kept)

    def named(index: int) -> str:
        return f"{path}: {places[kept[index]]} ({texts[index]!r})"

    if (unknown := ~(np.isfinite(starts) & np.isfinite(ends))).any():
        index = int(np.argmax(unknown))
        raise ValueError(
            f"{named(index)} goes from {starts[index]} to {ends[index]} s; both must be numbers: get the "
            "file again"
        )
    if (backwards := ends < starts).any():
        index = int(np.argmax(backwards))
        raise ValueError(
            f"{named(index)} ends at {ends[index]:g} s, before it begins at {starts[index]:g} s; get the "
            "file again"
        )
    if (falls := np.diff(starts) < 0).any():
        index = int(np.argmax(falls)) + 1
        raise ValueError(
            f"{named(index)} begins at {starts[index]:g} s, before the word above it at "
            f"{starts[index - 1]:g} s; the words of a section must be in the order of their onsets: get "
            "the file again"
        )
    if (overlaps := ends[:-1] - starts[1:] > LONGEST_OVERLAP).any():
        index = int(np.argmax(overlaps))
        raise ValueError(
            f"{named(index)} ends at {ends[index]:g} s and the next word begins at "
            f"{starts[index + 1]:g} s; words must not overlap: get the file again"
        )
    for index, (before, word) in enumerate(pairwise(zip(texts, starts, ends, strict=True)), 1):
        if before == word:
            warnings.warn(
                f"{named(index)} says the same as the word above it: it may be there twice",
                UserWarning,
                stacklevel=4,
            )
            break
    ends[:-1] = np.minimum(ends[:-1], starts[1:])
    further = {name: [column[row] for row in kept] for name, column in (values or {}).items()}
    return Section(label, texts, starts, ends, story, path, further)


def stimulus_of(
    sections: Sequence[Section], *, language: str, pause: float, max_sentence: int
) -> tuple[Stimulus, str]:
    """The words of the sections as one stimulus, and how their sentences were made, in words.

    Runs, and the attribute `section`, are the sections' labels. language: of all of them. Sentences end
    with the words' punctuation; where there is next to none (more than 100 words between full stops)
    they are pseudo-sentences, see `sentences_by_pause`. None goes on from one section to the next.
    Attributes: `story`, `section`, `language` and the sections' values.
    Raises ValueError naming the first file for words that make no stimulus.
    """
    words = tuple(word for section in sections for word in section.words)
    sizes = [len(section.words) for section in sections]
    run = np.repeat(np.array([section.label for section in sections], np.int32), sizes)
    sentence, made_by = split_sentences(words, run), "sentences end with the words' punctuation"
    if sentence[-1] + 1 - len(sections) < len(words) / _WORDS_A_SENTENCE:
        made_by = (
            f"sentences are pseudo-sentences: stretches between pauses of {pause:g} s or more, cut at "
            f"their longest pause down to {max_sentence:g} words"
        )
        parts, count = [], 0
        for section in sections:
            parts.append(
                count
                + sentences_by_pause(
                    section.onsets, section.offsets, pause=pause, max_words=max_sentence
                )
            )
            count = int(parts[-1][-1]) + 1
        sentence = np.concatenate(parts)
    attributes = {
        "story": np.repeat(np.array([section.story for section in sections]), sizes),
        "section": run,
    }
    for name in sections[0].values:
        attributes[name] = [value for section in sections for value in section.values[name]]
    onsets = np.concatenate([section.onsets for section in sections])
    try:
        stimulus = Stimulus(
            words,
            onsets=onsets,
            durations=np.concatenate([section.offsets for section in sections]) - onsets,
            sentence=sentence,
            run=run,
            attributes=attributes,
        )
    except ValueError as error:
        raise ValueError(f"{sections[0].path}: {error}") from error
    return in_language(stimulus, language), made_by


def respond_to_sections(
    subject: str,
    source: ImageSource,
    sections: Sequence[Section],
    stimulus: Stimulus,
    processing: Processing,
    *,
    tr: float | None,
    release_tr: float,
    first_volume: float | Sequence[float],
    slice_time_ref: float,
    release: str,
    meta: dict,
    reading: Reading,
):
    """What `reading` makes of one subject's images, one a section, in the order of the sections.

    tr: given by the user, which overrules the images; None is `release_tr`, and an image that says
    another one is refused. first_volume: seconds on a section's clock of its first volume, one number
    or one a section.
    slice_time_ref: part of a TR added to the volume times. release: where it comes from, for messages.
    Raises ValueError naming the file.
    """
    starts = np.broadcast_to(np.asarray(first_volume, np.float64), len(sections))
    if not np.isfinite(starts).all():
        raise ValueError(f"first_volume is {first_volume}; give seconds")
    times = []
    for start, run in zip(starts, source.runs, strict=True):
        if tr is None and run.tr is not None and abs(run.tr - release_tr) > 0.01 * release_tr:
            raise ValueError(
                f"{run.paths[0]} has a TR of {run.tr:g} s where the release has {release_tr:g} s; get it "
                f"again from {release}, or give tr= (seconds), which is then used"
            )
        step = release_tr if tr is None else tr
        times.append(start + run_times(run, {}, {}, step, slice_time_ref))
    labels = np.array([section.label for section in sections], np.int32)
    return respond(
        subject,
        source,
        stimulus,
        processing,
        times=np.concatenate(times),
        run=labels[source.run - 1],
        confounds=None,
        paths={section.label: section.path for section in sections},
        meta=meta,
        reading=reading,
    )


def named_volumes(
    root: Path,
    subject: str,
    scans: Sequence[Path],
    *,
    mask: str | Path | None,
    atlas: str | Path | None,
    labels: str | Path | None,
    resample: bool,
    own_masks: Sequence[Path] | None = None,
) -> ImageSource:
    """`open_volumes` of a subject's scans, with mask, atlas and labels as a user names them in `root`.

    mask: a name, one of `AUTOMATIC_MASKS`, or None, which is the release's own masks, one a scan, where it
    has any.
    """
    named = mask not in (None, *AUTOMATIC_MASKS)
    chosen_mask = find_file(root, mask, subject, "mask") if named else mask
    return open_volumes(
        scans,
        mask=chosen_mask or own_masks,
        atlas=find_file(root, atlas, subject, "atlas"),
        labels=find_file(root, labels, subject, "labels"),
        resample=resample,
    )


def chosen_sections(
    asked: int | Sequence[int] | None, known: Sequence[int], name: str
) -> tuple[int, ...]:
    """Numbers of sections in their order, None for all. name: of the option, for messages.

    Raises ValueError for others than the known ones, or one that is given twice.
    """
    if asked is None:
        return tuple(known)
    numbers = [asked] if isinstance(asked, int | np.integer) else list(asked)
    if not numbers or len(set(numbers)) < len(numbers) or not set(numbers) <= set(known):
        raise ValueError(
            f"{name} is {asked}; give numbers from {known[0]} to {known[-1]}, each once, or none for all"
        )
    return tuple(sorted(int(number) for number in numbers))


def in_language(stimulus: Stimulus, language: str) -> Stimulus:
    """The stimulus, its words said to be of a language ("en", "fr", "zh"): it says how they are joined."""
    told = replace(stimulus, language=language)
    return told.with_attributes(language=[language] * len(stimulus))


def read_annotation(
    path: Path, needed: Sequence[str], source: str, *, header: bool = True
) -> Iterator[dict[str, str]]:
    """The rows of a `.csv` of words as column -> text; columns without a name are left out.

    needed: columns that must be there; without a header, the names of the columns in their order.
    source: where the release comes from, for messages.
    Raises FileNotFoundError, or ValueError naming the file, and the row (1 is the first of words).
    """
    check_present(path, source)
    check_size(path, 4.0 * path.stat().st_size, "its text")
    text = DelimitedText(path, separator=",")
    rows = text.rows()
    names = next(rows, []) if header else list(needed)
    if missing := [name for name in needed if name not in names]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; its columns are {', '.join(filter(None, names))}: "
            f"get it again from {source}"
        )
    for number, row in enumerate(rows, 1):
        if number > _MOST_ROWS:
            raise ValueError(
                f"{path} has more than {_MOST_ROWS:,} rows, which no text of hours has; get it again from "
                f"{source}"
            )
        if len(row) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(row)} fields for {len(names)} columns; the file is cut "
                f"off or damaged: get it again from {source}"
            )
        yield {name: value for name, value in zip(names, row, strict=True) if name}


def number_in(row: Mapping[str, str], name: str, path: Path, place: str) -> float:
    """A number of a row, NaN where it is missing. Raises ValueError naming file, place and column."""
    value = row[name].strip()
    if value in MISSING:
        return np.nan
    if not is_number(value):
        raise ValueError(
            f"{path}: {place}: column {name!r} holds {value[:40]!r}, which is not a number; get the file "
            "again"
        )
    return float(value)


def check_present(path: Path, source: str) -> None:
    """Raise FileNotFoundError for a file that is not there, or that git-annex has only the name of."""
    if path.is_file():
        return
    if path.is_symlink():
        raise FileNotFoundError(
            f"{path} is a link of git-annex to a file that was not got; run `datalad get` on it, or "
            f"`brainalign fetch` the release from {source}"
        )
    raise FileNotFoundError(f"there is no {path}; get it from {source}")


def got_files(
    files: Mapping[str, Mapping[Any, Path | Sequence[Path]]], dataset: str
) -> dict[str, dict[Any, Path | Sequence[Path]]]:
    """Subject -> key -> file or files, without those that git-annex has the names of only.

    A clone by datalad has a link for every file of a release, also for those that were not got. Subjects
    of whom nothing is left are left out, with a warning; where nothing is left at all, all stay as they
    are, so that the files are asked for by name.
    """
    present = {
        subject: {key: paths for key, paths in of_subject.items() if _are_files(paths)}
        for subject, of_subject in files.items()
    }
    present = {subject: of_subject for subject, of_subject in present.items() if of_subject}
    if present and len(present) < len(files):
        warnings.warn(
            f"{dataset}: {len(files) - len(present)} of {len(files)} people are left out, whose scans are "
            "links of git-annex to files that were not got; run `datalad get` on them to have them",
            UserWarning,
            stacklevel=4,
        )
    return present or {subject: dict(of_subject) for subject, of_subject in files.items()}


def _are_files(paths: Path | Sequence[Path]) -> bool:
    return all(path.is_file() for path in ([paths] if isinstance(paths, Path) else paths))
