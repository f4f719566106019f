"""What the readers of images share: file names with patterns, and one text for all subjects.

No data set of its own: `nifti` and `bids` build on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.images import ImageSource
from brainalign_jax.neural.formats.sidecars import check_covered
from brainalign_jax.neural.processing import Processing, word_responses
from brainalign_jax.neural.readers.options import split_items
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus

SUBJECT = "{subject}"


def respond(
    subject: str,
    source: ImageSource,
    stimulus: Stimulus,
    processing: Processing,
    *,
    times: np.ndarray,
    run: np.ndarray,
    confounds: np.ndarray | None,
    paths: Mapping[int, Path],
    meta: dict,
) -> WordResponses:
    """One subject's word responses, after a check that the scans reach as far as the words do.

    paths: the table of each run's words, for messages.
    """
    check_covered(stimulus, times, run, paths)
    recording = BoldRecording(
        subject,
        source,
        times,
        run,
        confounds=confounds,
        space=source.space,
        feature_names=source.feature_names,
        source=source.name,
    )
    return word_responses(recording, stimulus, processing, meta=meta)


def find_files(data_dir: Path, value, subject: str, what: str) -> list[Path]:
    """The files that an option names, in the order of its names and of the numbers in the files'.

    value: names separated by ":", or a list; "{subject}" is replaced, "*" and "?" stand for any
    characters. None gives none. Raises FileNotFoundError for a name that no file has, ValueError for
    an empty one.
    """
    found: list[Path] = []
    names = file_names(value)
    if value is not None and not all(name.strip() for name in names or [""]):
        raise ValueError(f"{what} is empty ({value!r}): name a file in {data_dir}, or leave it out")
    for name in names:
        name = name.replace(SUBJECT, subject)
        matches = _glob(data_dir, name)
        if not matches:
            raise FileNotFoundError(f"there is no {data_dir / name}; correct {what}=")
        found += matches
    return found


def find_file(data_dir: Path, value, subject: str, what: str) -> Path | None:
    """The one file that an option names, or None for None. Raises ValueError for several."""
    found = find_files(data_dir, value, subject, what)
    if len(found) > 1:
        raise ValueError(f"{what}= names {len(found)} files, {found[0]} the first; name one")
    return found[0] if found else None


def first_found(data_dir: Path, patterns: Iterable[str]) -> str | None:
    """The first of the patterns that a file in the folder has."""
    return next((pattern for pattern in patterns if _glob(data_dir, pattern)), None)


def file_names(value) -> list[str]:
    """The names in an option: names separated by ":", or a list of names; None is none."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [name for name in split_items(value, ":") if name]
    elif isinstance(value, Path):
        value = [value]
    return [os.path.expanduser(name) for name in value]


def split_names(value) -> tuple[str, ...]:
    """The labels in an option: a list, or one string with commas or colons between them."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(name.strip() for name in split_items(value) if name.strip())
    if isinstance(value, int | float):
        value = [value]
    return tuple(f"{item:g}" if isinstance(item, int | float) else str(item) for item in value)


def subject_names(data_dir: Path, pattern: str, default: str) -> tuple[str, ...]:
    """The subjects whose files the pattern finds, by number where they are numbers; else `default`.

    Raises FileNotFoundError where it finds none.
    """
    if SUBJECT not in pattern:
        return (default,)
    parts = [re.escape(part) for part in pattern.split(SUBJECT)]
    expression = "(?P<subject>[^/]+?)".join(parts[:2])
    expression = "(?P=subject)".join([expression, *parts[2:]])
    expression = expression.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    names = set()
    for path in _glob(data_dir, pattern.replace(SUBJECT, "*")):
        shown = path if Path(pattern).is_absolute() else path.relative_to(data_dir)
        if match := re.fullmatch(expression, shown.as_posix()):
            names.add(match.group("subject"))
    if not names:
        raise FileNotFoundError(
            f"there is no {data_dir / pattern} for any subject; correct image= (or left=, right=)"
        )
    return tuple(sorted(names, key=by_number))


def known_labels(asked, known: Sequence[str], prefix: str = "") -> list[str] | None:
    """Labels as the user gave them, as they are in `known`: "sub-01" is "01", and so is 1.

    Unknown labels stay as they are; None stays None.
    """
    if asked is None:
        return None
    labels = []
    for label in split_names(asked):
        label = label.removeprefix(prefix)
        same = [
            one for one in known if one.isdigit() and label.isdigit() and int(one) == int(label)
        ]
        labels.append(same[0] if label not in known and len(same) == 1 else label)
    return labels


def check_same_text(
    stimulus: Stimulus, paths: Mapping[int, Path], first: Stimulus, first_paths: Mapping[int, Path]
) -> None:
    """Raise ValueError where two subjects did not have the same words in the same runs.

    paths: the table of each run's words.
    """
    remedy = "all subjects must have the same words; or open them one by one with subjects="
    labels = [sorted(set(one.run.tolist())) for one in (stimulus, first)]
    if labels[0] != labels[1]:
        raise ValueError(
            f"{next(iter(paths.values()))}: the words of the subject belong to runs {labels[0]} where "
            f"{next(iter(first_paths.values()))} has runs {labels[1]}; {remedy}"
        )
    for label in labels[0]:
        mine, others = (np.array(one.words)[one.run == label] for one in (stimulus, first))
        for row, (word, other) in enumerate(zip(mine, others, strict=False), 1):
            if word != other:
                raise ValueError(
                    f"{paths[label]}: word {row} of run {label} is {str(word)!r} where "
                    f"{first_paths[label]} has {str(other)!r}; {remedy}"
                )
        if len(mine) != len(others):
            raise ValueError(
                f"{paths[label]} has {len(mine)} words of run {label} where {first_paths[label]} has "
                f"{len(others)}; {remedy}"
            )


def _glob(data_dir: Path, name: str) -> list[Path]:
    """Files of that name or pattern, by the numbers in their names: run 10 follows run 9."""
    path = Path(name)
    if not set("*?") & set(name):
        return [data_dir / path] if (data_dir / path).is_file() else []
    base = Path(path.anchor) if path.is_absolute() else data_dir
    pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else name
    # A bracket in a name is a bracket.
    found = [one for one in base.glob(pattern.replace("[", "[[]")) if one.is_file()]
    return sorted(found, key=lambda one: by_number(one.as_posix()))


def by_number(name: str) -> list:
    """Sorting key: numbers in a name count as numbers."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)
    ]
