"""A user's own scans: NIfTI, GIFTI or CIFTI-2 files and a table of words with their onsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.neural.formats.images.grayordinates import open_cifti, open_surfaces
from brainalign_jax.neural.formats.images.images import ImageSource
from brainalign_jax.neural.formats.images.volumes import AUTOMATIC_MASKS, open_volumes
from brainalign_jax.neural.formats.text.sidecars import (
    WordTable,
    join_confounds,
    read_confounds,
    read_words,
    words_of_runs,
)
from brainalign_jax.neural.readers.images.image_files import (
    check_one_tr,
    check_same_text,
    file_names,
    find_file,
    find_files,
    first_found,
    known_labels,
    respond,
    run_times,
    sidecar_of,
    split_names,
    subject_names,
)
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.neural.recording import assign_runs
from brainalign_jax.stimulus import Stimulus

NAME = "nifti"
# What a folder is searched for where an option is not given.
_IMAGES = ("*bold*.nii.gz", "*bold*.nii")
_HEMISPHERES = {"left": ("*hemi-L*.func.gii",), "right": ("*hemi-R*.func.gii",)}
_WORDS = ("words.tsv", "words.csv", "*events*.tsv")
_MASKS = ("*mask*.nii.gz", "*mask*.nii")


@register(NAME)
def read_nifti(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    image: str | Sequence[str] | None = None,
    left: str | Sequence[str] | None = None,
    right: str | Sequence[str] | None = None,
    mask: str | Sequence[str] | None = None,
    atlas: str | None = None,
    labels: str | None = None,
    resample: bool = False,
    words: str | Sequence[str] | None = None,
    word_column: str | None = None,
    tr: float | None = None,
    first_volume: float | Sequence[float] = 0.0,
    slice_time_ref: float | None = None,
    confounds: str | Sequence[str] | None = None,
    confound_columns: str | Sequence[str] | None = None,
    subject: str | None = None,
) -> Dataset:
    """The word responses of one or more subjects in image files, one file a run.

    data_dir: folder that the files' names start from. Names may hold "*" and "?"; several are
    separated by ":" (or given as a list), and are runs in that order (run 10 after run 9). "{subject}"
    stands for a subject's name; without it there is one subject.
    image: 4-D `.nii`/`.nii.gz`, or CIFTI-2 `.dtseries.nii`; None takes `*bold*.nii.gz` in data_dir.
    left, right: GIFTI `.func.gii` of the two hemispheres, instead of an image.
    mask: image of the voxels to read (several: those in all), or "epi", "background" or "all", see
      `open_volumes`; None takes a file `*mask*.nii.gz` in data_dir, else "epi".
    atlas, labels: image of regions, whose means are read instead of voxels, and their names.
    resample: whether a mask or atlas of another grid is resampled. These four are for NIfTI only.
    words: a `.tsv` or `.csv`, one for all runs, or one a run, see `read_words`. None takes `words.tsv`,
      `words.csv` or `*events*.tsv`. One table for several runs has a column "run" (1 is the first
      image) and a clock that restarts in every run, or else all runs are on one clock and first_volume
      says when each began.
    word_column: column of the words; None takes the first of word, text, token.
    tr: seconds; None takes RepetitionTime of the JSON file that has an image's name, else the image's,
      which GIFTI does not have, and other images only with a unit.
    first_volume: seconds of the first volume on the clock of the onsets, one number or one a run.
    slice_time_ref: part of a TR (0 to 1) that is added to the volume times. 0 where a volume's time is
      that of its first slice, as everywhere here; 0.5 after slice-time correction to the middle. None
      takes what the JSON file says, see `read_bids`, else 0.
    confounds: `.tsv` or `.csv` of what is regressed out, one file a run, see `read_confounds`.
    confound_columns: columns of the confounds' tables; None takes all.
    subject: name of the one subject; None takes the folder's name.
    processing: cleaning and read-out, see `Processing`.
    Subjects may have onsets of their own, but all have the same words.
    `WordResponses.to_image` puts scores back into the images' space.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise FileNotFoundError(
            f"there is no folder {data_dir}; image= and words= name files in it"
        )
    if image is not None and (left is not None or right is not None):
        raise ValueError("give image=, or left= and right=, not both")
    patterns: dict[str, Any] = {"image": image, "left": left, "right": right}
    if all(value is None for value in patterns.values()):
        patterns["image"] = first_found(data_dir, _IMAGES)
        if patterns["image"] is None:
            patterns |= {side: first_found(data_dir, _HEMISPHERES[side]) for side in _HEMISPHERES}
        if all(value is None for value in patterns.values()):
            raise FileNotFoundError(
                f"there is no {' or '.join(_IMAGES)} in {data_dir}; name the files with image=, or "
                "with left= and right="
            )
    words = words if words is not None else first_found(data_dir, _WORDS)
    if words is None:
        raise FileNotFoundError(
            f"there is no {' or '.join(_WORDS)} in {data_dir}; name the table with words="
        )
    given_mask = mask
    if mask is None and atlas is None:
        mask = first_found(data_dir, _MASKS)
    pattern = next((name for value in patterns.values() for name in file_names(value)), None)
    if pattern is None or not file_names(words):
        raise ValueError(f"image= is {image!r} and words= is {words!r}; name files in {data_dir}")
    known = subject_names(
        data_dir,
        pattern,
        str(subject) if subject else data_dir.resolve().name,
    )
    chosen = choose_subjects(NAME, known, known_labels(subjects, known, "sub-"))

    def stimulus_of(name: str) -> tuple[Stimulus, dict[int, Path]]:
        n_runs = max(len(find_files(data_dir, value, name, key)) for key, value in patterns.items())
        paths = find_files(data_dir, words, name, "words")
        tables = [read_words(path, word_column=word_column) for path in paths]
        per_run = paths if len(paths) > 1 else paths * n_runs
        return _stimulus(tables, n_runs, first_volume), dict(enumerate(per_run, 1))

    def source_of(name: str) -> ImageSource:
        paths = {key: find_files(data_dir, value, name, key) for key, value in patterns.items()}
        cifti = paths["image"] and paths["image"][0].name.lower().endswith(".dtseries.nii")
        if cifti or not paths["image"]:
            if any(value is not None for value in (given_mask, atlas, labels)):
                raise ValueError(
                    "mask=, atlas= and labels= are for NIfTI images; surfaces and CIFTI-2 files are "
                    "read as they are"
                )
            return (
                open_cifti(paths["image"])
                if cifti
                else open_surfaces(paths["left"], paths["right"])
            )
        return open_volumes(
            paths["image"],
            mask=mask
            if mask in (None, *AUTOMATIC_MASKS)
            else find_files(data_dir, mask, name, "mask"),
            atlas=find_file(data_dir, atlas, name, "atlas"),
            labels=find_file(data_dir, labels, name, "labels"),
            resample=resample,
        )

    first, first_paths = stimulus_of(chosen[0])
    for other in chosen[1:]:
        check_same_text(*stimulus_of(other), first, first_paths)
    meta = {
        "dataset": NAME,
        "notes": "a recording of the user's own",
        "images": {key: file_names(value) for key, value in patterns.items() if value is not None},
        "mask": file_names(mask),
        "atlas": file_names(atlas),
        "first_volume": np.atleast_1d(np.asarray(first_volume, float)).tolist(),
        "slice_time_ref": None if slice_time_ref is None else float(slice_time_ref),
    }

    one_clock = np.atleast_1d(first_volume).size > 1

    def load(name: str, reading: Reading):
        stimulus, paths = stimulus_of(name)
        source = source_of(name)
        starts, parts = source.starts(first_volume), []
        for run in source.runs:
            metadata = sidecar_of(run.paths[0])
            parts.append(run_times(run, metadata, metadata, tr, slice_time_ref))
        check_one_tr(parts, source.runs)
        times = np.concatenate([start + part for start, part in zip(starts, parts, strict=True)])
        if one_clock:  # where runs that overlap in time would make the words' runs ambiguous
            assign_runs(times, times, source.run, source=source.name)
        tables = find_files(data_dir, confounds, name, "confounds")
        if tables and len(tables) != len(source.runs):
            raise ValueError(
                f"{tables[0]}: {len(tables)} tables of confounds are given for {len(source.runs)} "
                "runs; give one a run, in the order of the images"
            )
        columns = split_names(confound_columns) or None
        return respond(
            name,
            source,
            stimulus,
            processing,
            times=times,
            run=source.run,
            confounds=join_confounds(
                [
                    read_confounds(table, columns, run.n_volumes)
                    for table, run in zip(tables, source.runs, strict=False)
                ]
            ),
            paths=paths,
            meta=meta,
            reading=reading,
        )

    return scans_dataset(NAME, chosen, first, load, meta)


def _stimulus(tables: list[WordTable], n_runs: int, first_volume) -> Stimulus:
    """The words of all runs, which are labelled 1, 2, ... in the order of the images."""
    path = tables[0].path
    if len(tables) == n_runs and n_runs > 1:
        return words_of_runs(tables, range(1, n_runs + 1))
    if len(tables) > 1:
        raise ValueError(
            f"{path}: {len(tables)} tables of words are given for {n_runs} runs; give one for all runs "
            "or one a run"
        )
    (table,) = tables
    starts = np.atleast_1d(np.asarray(first_volume, np.float64))
    if table.run is not None:
        run = table.run + (1 if table.run.min() == 0 else 0)
        if run.min() < 1 or run.max() > n_runs:
            raise ValueError(
                f"{path}: column 'run' holds {np.unique(table.run).tolist()} for {n_runs} images; "
                f"number the runs from 1 to {n_runs}, in the order of the images"
            )
    elif n_runs == 1:
        run = np.ones(len(table.words), np.int32)
    elif len(starts) == n_runs and (np.diff(starts) > 0).all():
        run = np.searchsorted(starts, table.onsets + 1e-6, side="right").clip(min=1)
    else:
        raise ValueError(
            f"{path} has no column 'run' for {n_runs} images; add one (1 is the first image), or say "
            "with first_volume= when each run began on the one clock of the onsets"
        )
    # One table a run, so that a clock may restart.
    present = np.unique(run)
    return words_of_runs([table.rows(run == label) for label in present], present.tolist())
