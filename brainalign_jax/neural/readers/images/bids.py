"""BIDS folders: raw scans, or fMRIPrep's derivatives, with the words in the events tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.formats.images.grayordinates import open_cifti, open_surfaces
from brainalign_jax.neural.formats.images.volumes import AUTOMATIC_MASKS, open_volumes
from brainalign_jax.neural.formats.text.sidecars import (
    CONFOUND_STRATEGIES,
    join_confounds,
    read_confounds,
    read_words,
    words_of_runs,
)
from brainalign_jax.neural.readers.images.bids_files import (
    FORMATS,
    BidsFile,
    find_runs,
    read_metadata,
    related,
)
from brainalign_jax.neural.readers.images.image_files import (
    check_one_tr,
    check_same_text,
    file_names,
    find_file,
    known_labels,
    respond,
    run_times,
    split_names,
)
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readout import Processing, Reading
from brainalign_jax.stimulus import Stimulus

NAME = "bids"


@register(NAME)
def read_bids(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    task: str | None = None,
    session: str | Sequence[str] | None = None,
    space: str | None = None,
    runs: str | Sequence[str] | None = None,
    desc: str | None = None,
    events_dir: str | Path | None = None,
    word_column: str | None = None,
    confounds: str | Sequence[str] = "none",
    mask: str | None = None,
    atlas: str | None = None,
    labels: str | None = None,
    resample: bool = False,
    tr: float | None = None,
    slice_time_ref: float | None = None,
) -> Dataset:
    """The word responses of the subjects in a BIDS folder, raw or made by fMRIPrep.

    data_dir: the folder with the folders sub-*. Scans are `func/*_bold` as `.nii`, `.nii.gz`,
    `.func.gii` (hemi-L, hemi-R) or `.dtseries.nii`. Subjects are named without "sub-".
    task: label of the task; must be given where there are several.
    session, runs: labels, None for all. The runs of several sessions follow one another.
    space: of the scans; must be given where there are several. It is named as in
      "MNI152NLin2009cAsym:res-2:volume", "fsaverage5:surface", "fsLR:den-91k:cifti" or
      "native:volume", of which parts may be left out.
    desc: label of the scans' desc; None takes "preproc" and scans without one.
    events_dir: the raw folder with the `*_events.tsv`; None looks in data_dir, then in the folder
      around "derivatives", then around data_dir.
    word_column: where the words are; None takes the first of word, text, token, trial_type. Rows with
      "n/a" hold no word. See `read_words`.
    confounds: from fMRIPrep's table: "none", "motion6", "motion24", "acompcor", or names of columns.
      "motion24" has derivatives and squares, "acompcor" motion6, the first six a_comp_cor and the
      cosines; the strategies add the spikes of non-steady-state volumes. Several columns are a list,
      or one string with : or commas. See `read_confounds`.
    mask: a file in data_dir, or "epi", "background" or "all", see `open_volumes`; None takes the runs'
      desc-brain masks (voxels in all of them), and where there are none "epi".
    atlas, labels: files in data_dir: regions and their names, see `open_volumes`.
    resample: whether a mask or atlas of another grid is resampled.
    tr: seconds; None takes RepetitionTime of the JSON sidecars (inherited as in BIDS), else the
      image's. slice_time_ref: part of a TR added to the volume times, see `read_nifti`; None takes
      the sidecar's StartTime (s) or SliceTimingRef, which slice-time correction leaves. Where it says
      SliceTimingCorrected and neither, the middle of the acquisition is assumed with a warning, as
      fMRIPrep corrects to it; else 0.
      Sidecars with VolumeTiming instead of RepetitionTime are read too.
    Times are seconds from a run's first volume: the clock restarts in every run.
    Raises FileNotFoundError naming the file looked for, or ValueError naming the file and remedy.
    Reference: Gorgolewski et al. 2016, Scientific Data 3:160044; Esteban et al. 2019, Nature
    Methods 16:111.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; give a BIDS folder")
    listed, picked = find_runs(root, task=task, session=session, space=space, runs=runs, desc=desc)
    chosen = choose_subjects(NAME, tuple(listed), known_labels(subjects, tuple(listed), "sub-"))
    roots = _event_folders(root)
    if events_dir is not None:
        roots = [user_path(events_dir, "events_dir")]
    columns = _confound_columns(confounds)

    def stimulus_of(subject: str) -> tuple[Stimulus, dict[int, Path]]:
        paths = {run.label: _events_path(run.files[0], roots) for run in listed[subject]}
        tables = [
            read_words(path, word_column=word_column, fallback=("trial_type",))
            for path in paths.values()
        ]
        return words_of_runs(tables, list(paths)), paths

    first, first_paths = stimulus_of(chosen[0])
    for other in chosen[1:]:
        check_same_text(*stimulus_of(other), first, first_paths)
    meta = {
        "dataset": NAME,
        "notes": f"BIDS folder {root.resolve().name}",
        "citation": "see dataset_description.json",
        **picked,
        "confounds": list(columns),
        "atlas": None if atlas is None else str(atlas),
    }

    def load(subject: str, reading: Reading):
        stimulus, paths = stimulus_of(subject)
        subject_runs = listed[subject]
        files = [run.files for run in subject_runs]
        kind = FORMATS[files[0][0].ext]
        masked = None
        if kind == "volume":
            masked = mask
            if mask is None:
                masked = _brain_masks(root, [scan for (scan,) in files])
            elif mask not in AUTOMATIC_MASKS:
                masked = find_file(root, mask, subject, "mask")
            source = open_volumes(
                [scan.path for (scan,) in files],
                mask=masked,
                atlas=find_file(root, atlas, subject, "atlas"),
                labels=find_file(root, labels, subject, "labels"),
                resample=resample,
            )
        elif any(value is not None for value in (mask, atlas, labels)):
            raise ValueError(
                f"mask=, atlas= and labels= are for volumes; {files[0][0].path} is none"
            )
        elif kind == "cifti":
            source = open_cifti([scan.path for (scan,) in files])
        else:
            source = open_surfaces(*(_hemisphere(files, side) for side in "LR"))
        times = [
            run_times(part, *_metadata(scans[0], [*roots, root]), tr, slice_time_ref)
            for scans, part in zip(files, source.runs, strict=True)
        ]
        check_one_tr(times, source.runs)
        run = np.array([one_run.label for one_run in subject_runs], np.int32)[source.run - 1]
        regressors = None
        if columns:
            regressors = join_confounds(
                [
                    read_confounds(_confounds_path(root, scans[0]), columns, part.n_volumes)
                    for scans, part in zip(files, source.runs, strict=True)
                ]
            )
        return respond(
            subject,
            source,
            stimulus,
            processing,
            times=np.concatenate(times),
            run=run,
            confounds=regressors,
            paths=paths,
            meta={**meta, "mask": [Path(name).name for name in file_names(masked)]},
            reading=reading,
        )

    return scans_dataset(NAME, chosen, first, load, meta)


def _metadata(scan: BidsFile, roots: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the sidecars say of a scan's timing and of its processing. roots: the scan's own last."""
    # Derivatives made by older programs leave the TR to the raw data's sidecars; what slice-time
    # correction did is told by the derivatives only.
    *others, last = roots
    timing = read_metadata([*(root for root in others if root != last), last], scan)
    return timing, read_metadata([last], scan)


def _event_folders(root: Path) -> list[Path]:
    """Where the events may be: in the folder, in the one around "derivatives", or around the folder."""
    resolved = root.resolve()
    around = [path.parent for path in (resolved, *resolved.parents) if path.name == "derivatives"]
    return [root, *around[:1], resolved.parent]


def _raw_name(scan: BidsFile, ending: str) -> str:
    derived = ("space", "res", "den", "hemi", "desc", "part", "echo")
    parts = [f"{key}-{value}" for key, value in scan.entities.items() if key not in derived]
    return "_".join([*parts, ending])


def _events_path(scan: BidsFile, roots: Sequence[Path]) -> Path:
    for root in roots:
        if events := related([root], scan, "events", ".tsv"):
            return events[-1].path
    parts = scan.path.parent.parts[scan.path.parent.parts.index(f"sub-{scan.entities['sub']}") :]
    looked = " or ".join(
        str(root.joinpath(*parts, _raw_name(scan, "events.tsv"))) for root in roots
    )
    raise FileNotFoundError(
        f"there is no {looked}; the words of {scan.path.name} are in it: say with events_dir= where the "
        "raw data are"
    )


def _brain_masks(root: Path, scans: Sequence[BidsFile]) -> list[Path] | None:
    """The brain masks of the scans, one a scan; None where no scan has one."""
    masks = []
    for scan in scans:
        candidates = [
            file.path
            for ext in (".nii.gz", ".nii")
            for file in related([root], scan, "mask", ext, desc="brain")
            if all(file.entities.get(key) == scan.entities.get(key) for key in ("space", "res"))
        ]
        masks.append(candidates[-1] if candidates else None)
    if not any(masks):
        return None
    if None in masks:
        raise FileNotFoundError(
            f"there is no brain mask (desc-brain_mask) of {scans[masks.index(None)].path} while other "
            "runs have one; get it again, or give mask="
        )
    return masks


def _confound_columns(confounds) -> tuple[str, ...]:
    names = split_names(confounds)
    if len(names) == 1 and names[0] in CONFOUND_STRATEGIES:
        columns = CONFOUND_STRATEGIES[names[0]]
        return (*columns, "non_steady_state*") if columns else ()
    return names


def _confounds_path(root: Path, scan: BidsFile) -> Path:
    for suffix in ("timeseries", "regressors"):  # "regressors" up to fMRIPrep 20.1
        if tables := related([root], scan, suffix, ".tsv", desc="confounds"):
            return tables[-1].path
    looked = scan.path.parent / _raw_name(scan, "desc-confounds_timeseries.tsv")
    raise FileNotFoundError(f"there is no {looked}; get it, or give confounds=none")


def _hemisphere(files: Sequence[Sequence[BidsFile]], side: str) -> list[Path]:
    return [scan.path for scans in files for scan in scans if scan.entities["hemi"] == side]
