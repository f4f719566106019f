"""What the readers of images share: names with patterns, volume times, one text for all subjects.

No data set of its own: `nifti` and `bids` build on it.
"""

from __future__ import annotations

import os
import re
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.neural.formats.images.images import LONGEST_TR, ImageSource, Run
from brainalign_jax.neural.formats.text.sidecars import check_covered, number_of, read_json
from brainalign_jax.neural.readers.options import split_items
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.stimulus import Stimulus

SUBJECT = "{subject}"
_ENDINGS = (".nii.gz", ".dtseries.nii", ".nii", ".func.gii")  # of images that have sidecars


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
    reading: Reading,
):
    """What `reading` makes of one subject's scans, after a check that they reach as far as the words do.

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
    return reading(recording, stimulus, processing, meta=meta)


def run_times(
    run: Run,
    timing: Mapping[str, Any],
    metadata: Mapping[str, Any],
    tr: float | None,
    slice_time_ref: float | None,
) -> np.ndarray:
    """Volume times [n_volumes] of a run in seconds from its start.

    timing: what JSON sidecars say of how the run was acquired; metadata: of how it was processed.
    tr, slice_time_ref: given by the user; None takes those of the sidecars, and the image's TR where
    these tell none. Raises ValueError naming the image for a TR or time that cannot be.
    """
    path = run.paths[0]
    step = float(tr) if tr is not None else number_of(timing, "RepetitionTime", path)
    volumes = None
    if step is None and timing.get("VolumeTiming") is not None:
        volumes = _volume_timing(timing["VolumeTiming"], path, run.n_volumes)
        step = float(np.median(np.diff(volumes)))
    if step is None:
        step = run.tr
    if step is None:
        raise ValueError(
            f"{path} does not tell its TR (a step of 1 without a unit is what programs write that know "
            "none), and no JSON sidecar has RepetitionTime; give tr= (seconds)"
        )
    if not 0 < step <= LONGEST_TR:
        raise ValueError(
            f"{path} has a TR of {step:g} s; it must be in seconds: correct RepetitionTime in the "
            "JSON sidecar, or give tr="
        )
    if tr is None and run.tr is not None and abs(run.tr - step) > 0.01 * step:
        warnings.warn(
            f"{path} has a TR of {run.tr:g} s and its JSON sidecar one of {step:g} s, which is "
            "used; give tr= if it is wrong",
            UserWarning,
            stacklevel=2,
        )
    share = _slice_share(path, timing, metadata, step) if slice_time_ref is None else slice_time_ref
    if not 0 <= share <= 1:
        raise ValueError(
            f"{path}: the volumes' times would be {share:g} of a TR late; StartTime in the "
            "JSON sidecar, or slice_time_ref= (0 to 1), must lie within one TR"
        )
    return share * step + (np.arange(run.n_volumes) * step if volumes is None else volumes)


def _slice_share(
    path: Path, timing: Mapping[str, Any], metadata: Mapping[str, Any], tr: float
) -> float:
    """Part of a TR between the volumes' first slices and the time that slices were shifted to."""
    corrected = metadata.get("SliceTimingCorrected")
    if not isinstance(corrected, bool | None):
        raise ValueError(
            f"{path}: its JSON sidecar has SliceTimingCorrected = {reprlib.repr(corrected)}; it must "
            "be true or false"
        )
    if corrected is False:
        return 0.0
    if (start := number_of(metadata, "StartTime", path)) is not None:
        return start / tr
    if (share := number_of(metadata, "SliceTimingRef", path)) is not None:
        return share
    if not corrected:
        return 0.0
    slices = timing.get("SliceTiming")
    if isinstance(slices, list) and slices and all(map(_is_second, slices)):
        if max(slices) > tr:
            raise ValueError(
                f"{path}: its JSON sidecar has SliceTiming up to {max(slices):g} and a TR of {tr:g} s; "
                "both must be in seconds: correct it, or give slice_time_ref="
            )
        # As fMRIPrep and AFNI's 3dTshift have it: between the first and the last slice's onsets.
        start, known = round((min(slices) + max(slices)) / 2, 3), "between the first and last slice"
    else:
        lasts = number_of(timing, "AcquisitionDuration", path)
        if lasts is None:
            lasts = tr - (number_of(timing, "DelayTime", path) or 0.0)
        start, known = lasts / 2, "half of what a volume takes"
    warnings.warn(
        f"{path}: its JSON sidecar says SliceTimingCorrected and no StartTime; its volumes are taken to "
        f"be {start:g} s later ({known}), the middle that fMRIPrep corrects to: give "
        f"slice_time_ref={start / tr:.3g} if that is right, and 0 if slices were shifted to the first",
        UserWarning,
        stacklevel=3,
    )
    return start / tr


def _is_second(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6


def _volume_timing(value: Any, path: Path, n_volumes: int) -> np.ndarray:
    try:
        volumes = np.asarray(value, np.float64)
    except (TypeError, ValueError, RecursionError, OverflowError):
        volumes = np.zeros(0)
    if volumes.shape != (n_volumes,) or not (np.diff(volumes) > 0).all():
        raise ValueError(
            f"{path}: VolumeTiming in its JSON sidecar must list {n_volumes} increasing seconds, "
            "one a volume; correct it, or give tr="
        )
    return volumes


def check_one_tr(times: Sequence[np.ndarray], runs: Sequence[Run]) -> None:
    """Raise ValueError where the volume times [n_volumes] of two runs differ in their TR."""
    steps = [float(np.median(np.diff(stamps))) for stamps in times]
    for step, run in zip(steps, runs, strict=True):
        if abs(step - steps[0]) > 1e-3 * steps[0]:
            raise ValueError(
                f"{run.paths[0]} has a TR of {step:g} s and {runs[0].paths[0]} one of {steps[0]:g} s; "
                "read runs of one TR at a time, or give tr= if one is wrong"
            )


def sidecar_of(image: Path) -> dict[str, Any]:
    """What the JSON file of an image's name says; empty where there is none."""
    for ending in _ENDINGS:
        if image.name.lower().endswith(ending):
            path = image.with_name(image.name[: -len(ending)] + ".json")
            return read_json(path) if path.is_file() else {}
    return {}


def find_files(data_dir: Path, value, subject: str, what: str) -> list[Path]:
    """The files that an option names, in the order of its names and of the numbers in the files'.

    value: names separated by ":", or a list; "{subject}" is replaced, "*" and "?" stand for any
    characters. None gives none. Raises FileNotFoundError for a name that no file has, ValueError for
    an empty one.
    """
    files: list[Path] = []
    names = file_names(value)
    if value is not None and not all(name.strip() for name in names or [""]):
        raise ValueError(f"{what} is empty ({value!r}): name a file in {data_dir}, or leave it out")
    for name in names:
        name = name.replace(SUBJECT, subject)
        matches = _glob(data_dir, name)
        if not matches:
            raise FileNotFoundError(f"there is no {data_dir / name}; correct {what}=")
        files += matches
    return files


def find_file(data_dir: Path, value, subject: str, what: str) -> Path | None:
    """The one file that an option names, or None for None. Raises ValueError for several."""
    files = find_files(data_dir, value, subject, what)
    if len(files) > 1:
        raise ValueError(f"{what}= names {len(files)} files, {files[0]} the first; name one")
    return files[0] if files else None


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
            sub for sub in known if sub.isdigit() and label.isdigit() and int(sub) == int(label)
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
    labels = [sorted(set(side.run.tolist())) for side in (stimulus, first)]
    if labels[0] != labels[1]:
        raise ValueError(
            f"{next(iter(paths.values()))}: the words of the subject belong to runs {labels[0]} where "
            f"{next(iter(first_paths.values()))} has runs {labels[1]}; {remedy}"
        )
    for label in labels[0]:
        own_words, others = (np.array(side.words)[side.run == label] for side in (stimulus, first))
        for row, (word, other) in enumerate(zip(own_words, others, strict=False), 1):
            if word != other:
                raise ValueError(
                    f"{paths[label]}: word {row} of run {label} is {str(word)!r} where "
                    f"{first_paths[label]} has {str(other)!r}; {remedy}"
                )
        if len(own_words) != len(others):
            raise ValueError(
                f"{paths[label]} has {len(own_words)} words of run {label} where {first_paths[label]} has "
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
    files = [file for file in base.glob(pattern.replace("[", "[[]")) if file.is_file()]
    return sorted(files, key=lambda file: by_number(file.as_posix()))


def by_number(name: str) -> list:
    """Sorting key: numbers in a name count as numbers."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)
    ]
