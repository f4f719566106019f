"""Narratives (Nastase et al. 2021): 345 people heard stories in English (ds002345 and its derivatives)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.arrays import check_size
from brainalign_jax.neural.formats.images.grayordinates import open_surfaces
from brainalign_jax.neural.formats.text.sidecars import read_json, read_table
from brainalign_jax.neural.readers.corpora.sections import (
    Section,
    check_present,
    checked_section,
    got_files,
    named_volumes,
    number_in,
    read_annotation,
    respond_to_sections,
    stimulus_of,
)
from brainalign_jax.neural.readers.images.bids_files import BidsFile, parse_name
from brainalign_jax.neural.readers.images.image_files import known_labels
from brainalign_jax.neural.readers.options import split_items
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    find_folder,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readout import Processing, Reading

NAME = "narratives"
SOURCE = (
    "datalad (`datalad install ///labs/hasson/narratives`), https://openneuro.org/datasets/ds002345"
)
TR = 1.5
VOLUME, SURFACE = "MNI152NLin2009cAsym", "fsaverage6"
DERIVATIVES = ("afni-nosmooth", "afni-smooth", "fmriprep")
_AUDIO = "_audio.wav"
_LONGEST_WORD = 1.0  # seconds, of words that have no times


class Telling(NamedTuple):
    """One scan in which a story was heard. start: seconds from its first volume to that of the audio;
    scans: the image, or those of the left and right hemisphere; task: the label in their names."""

    start: float
    scans: tuple[Path, ...]
    task: str


@register(NAME)
def read_narratives(
    data_dir: str | Path,
    *,
    subjects: str | int | Iterable[str | int] | None = None,
    processing: Processing = Processing(),
    stories: str | Sequence[str] | None = None,
    derivative: str = "afni-nosmooth",
    space: str | None = None,
    mask: str | None = None,
    atlas: str | None = None,
    labels: str | None = None,
    resample: bool = False,
    excluded: bool = False,
    tr: float | None = None,
    slice_time_ref: float = 0.5,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The word responses of the people who heard one or more stories, each a run.

    data_dir: the folder with `stimuli`, `derivatives` and the folders sub-* with the events, or its parent
    if that one is named "narratives" or "ds002345". Subjects are named "001" to "345" (1 and "sub-001"
    are understood); without `subjects` all who heard all of the stories.
    stories: names of the audio files, such as "pieman", "milkywayvodka" or "slumlordreach"; must be
    given where there are several. Numbered from 1 as they are given: `section` of the words.
    derivative: "afni-nosmooth" or "afni-smooth", confounds regressed out by the authors, or "fmriprep".
    space: "fsaverage6", the surface of both hemispheres, or "MNI152NLin2009cAsym", volumes; None takes
    the volumes with a mask or atlas, else the one that is there, of both the surface.
    mask: an image in data_dir, or "epi", "background" or "all", see `open_volumes`; None takes the
    task's brain mask in the derivative's folder tpl-MNI152NLin2009cAsym, or fMRIPrep's of the scan.
    atlas, labels: files in data_dir: regions and their names, see `open_volumes`.
    resample: whether a mask or atlas of another grid is resampled.
    excluded: whether to keep the scans that the authors exclude, by code/scan_exclude.json.
    tr: seconds, whatever the images say; None takes 1.5, and an image that says another TR is refused.
    slice_time_ref: part of a TR added to the volume times; 0.5 is the middle, to which fMRIPrep shifts.
    pause (s), max_sentence (words): how texts without a transcript become sentences, see
    `sentences_by_pause`.

    Words and times are Gentle's (`stimuli/gentle/STORY/align.csv`), in seconds from the start of the
    audio, which may begin with music: the first row of a scan's events that names it says when. Words that
    Gentle did not find in the audio have no times: they stay, as the text needs them, at times between
    those of their neighbours, for a second at most, and their attribute `aligned` is 0. Further
    attributes: `story`, `section`, `language`. Punctuation, and with it sentences, comes from
    `transcript.txt` beside the words, where it is there. Of a story that a person heard in two scans the
    first is read.

    What is known and from where: the events are in the release (version 1.1.4), and the lengths of its
    audio files agree with the rule for their starts; names of the derivatives' files, exclusions and
    Gentle's cases are in the authors' code (snastase/narratives), the columns of align.csv in published
    analyses that read it.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: Nastase et al. 2021, Scientific Data 8:250.
    """
    root = find_folder(Path(data_dir), ("", NAME, "ds002345"), "derivatives", SOURCE)
    check_known("derivative", derivative, DERIVATIVES, of=NAME)
    if space is not None:
        check_known("space", space, (SURFACE, VOLUME), of=NAME)
    pictured = any(value is not None for value in (mask, atlas, labels))
    if pictured and space == SURFACE:
        raise ValueError(f"mask=, atlas= and labels= are for volumes; give space={VOLUME}")
    wanted = (space,) if space else ((VOLUME,) if pictured else (SURFACE, VOLUME))
    scans, chosen_space = find_scans(root, derivative, wanted)
    left_out = {} if excluded else _excluded(root / "code" / "scan_exclude.json")
    tellings = find_tellings(root, scans, left_out)
    if subjects is None:
        files = {
            name: {story: telling.scans for story, telling in heard.items()}
            for name, heard in tellings.items()
        }
        there = got_files(files, NAME)
        tellings = {
            name: {key: tellings[name][key] for key in kept} for name, kept in there.items()
        }
    names = _chosen_stories(tellings, stories)
    known = tuple(
        subject for subject in sorted(tellings) if all(name in tellings[subject] for name in names)
    )
    if not known:
        raise ValueError(f"{NAME}: nobody heard all of {', '.join(names)}; choose fewer stories")
    chosen = choose_subjects(
        f"{NAME} (stories {', '.join(names)})", known, known_labels(subjects, known, "sub-")
    )
    sections = [
        read_story(root / "stimuli" / "gentle" / name / "align.csv", name, number)
        for number, name in enumerate(names, 1)
    ]
    stimulus, made_by = stimulus_of(sections, language="en", pause=pause, max_sentence=max_sentence)
    meta = {
        "dataset": NAME,
        "citation": "Nastase et al. 2021, Scientific Data 8:250, doi 10.1038/s41597-021-01033-3",
        "licence": "CC0",
        "notes": f"{made_by}; {int((stimulus.attribute('aligned') == 0).sum())} of {len(stimulus)} words "
        "were not found in the audio and stand between their neighbours",
        "language": "en",
        "stories": list(names),
        "derivative": derivative,
        "space": chosen_space,
        "mask": mask,
        "atlas": None if atlas is None else str(atlas),
        "slice_time_ref": float(slice_time_ref),
    }

    def load(subject: str, reading: Reading):
        heard = [tellings[subject][name] for name in names]
        for telling in heard:
            for scan in telling.scans:
                check_present(scan, SOURCE)
        if chosen_space == SURFACE:
            left, right = zip(*(telling.scans for telling in heard), strict=True)
            source = open_surfaces(left, right)
        else:
            masks = None
            if mask is None:
                masks = [_brain_mask(root, derivative, telling) for telling in heard]
            options = dict(
                mask=mask, atlas=atlas, labels=labels, resample=resample, own_masks=masks
            )
            scans = [telling.scans[0] for telling in heard]
            source = named_volumes(root, subject, scans, **options)
        return respond_to_sections(
            subject,
            source,
            sections,
            stimulus,
            processing,
            tr=tr,
            release_tr=TR,
            first_volume=[-telling.start for telling in heard],
            slice_time_ref=slice_time_ref,
            release=SOURCE,
            meta=meta,
            reading=reading,
        )

    return scans_dataset(NAME, chosen, stimulus, load, meta)


def find_scans(
    root: Path, derivative: str, spaces: Sequence[str]
) -> tuple[list[tuple[BidsFile, tuple[Path, ...]]], str]:
    """(entities of a scan, its image or its two hemispheres) of all subjects, and the space.

    spaces: in the order in which they are looked for. Raises FileNotFoundError where there are none.
    """
    for space in spaces:
        desc = "preproc" if derivative == "fmriprep" else "clean"
        ending = f"_space-{space}_res-native_desc-{desc}_bold.nii.gz"
        if space == SURFACE:
            ending = f"_space-{space}_hemi-L" + ("" if desc == "preproc" else "_desc-clean")
            ending += ".func.gii"
        scans = []
        for folder in sorted((root / "derivatives" / derivative).glob("sub-*/func")):
            # A folder's own listing has the links of git-annex that lead nowhere, too.
            for path in sorted(folder.iterdir()):
                if not path.name.endswith(ending):
                    continue
                file = parse_name(path.with_name(path.name.removesuffix(ending) + "_bold.nii.gz"))
                if file is not None and {"sub", "task"} <= set(file.entities):
                    other = path.with_name(path.name.replace("_hemi-L", "_hemi-R"))
                    scans.append((file, (path, other) if space == SURFACE else (path,)))
        if scans:
            return scans, space
    name = f"derivatives/{derivative}/sub-001/func/sub-001_task-pieman_run-1{ending}"
    raise FileNotFoundError(
        f"there is no {root / name}, nor another scan of this space; get them from {SOURCE}"
    )


def find_tellings(
    root: Path,
    scans: Sequence[tuple[BidsFile, tuple[Path, ...]]],
    left_out: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Telling]]:
    """Subject -> story -> the first scan in which it was heard, by the events of the scans.

    left_out: subject -> beginnings of the names of scans that do not count.
    Raises FileNotFoundError for missing events, ValueError naming the table and row.
    """
    tellings: dict[str, dict[str, Telling]] = {}
    for file, paths in scans:
        subject = file.entities["sub"]
        # A name ends where the next entity begins: run 1 is not run 10.
        if any(f"{paths[0].name}_".startswith(f"{begin}_") for begin in left_out.get(subject, ())):
            continue
        stem = file.path.name.removesuffix("_bold.nii.gz")
        events = root / f"sub-{subject}" / "func" / f"{stem}_events.tsv"
        check_present(events, SOURCE)
        table = read_table(events)
        names, kinds = table.column("stim_file"), table.column("trial_type")
        onsets = table.numbers("onset")
        for row, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            story = name.removesuffix(_AUDIO)
            if kind != "story" or story == name or story in tellings.get(subject, {}):
                continue
            start = onsets[names.index(name)]
            if not np.isfinite(start) or start > onsets[row]:
                raise ValueError(
                    f"{events}: row {names.index(name) + 1} says that {name} begins at {start} s; get it "
                    f"again from {SOURCE}"
                )
            telling = Telling(float(start), paths, file.entities["task"])
            tellings.setdefault(subject, {})[story] = telling
    return tellings


def read_story(path: Path, name: str, label: int) -> Section:
    """The words of an `align.csv`: word, word in Gentle's vocabulary, start and end (s), no header.

    Raises FileNotFoundError, or ValueError naming the file and row.
    """
    columns = ("word", "aligned", "onset", "offset")
    words, onsets, offsets = [], [], []
    for row, fields in enumerate(read_annotation(path, columns, SOURCE, header=False), 1):
        words.append(fields["word"].strip())
        onsets.append(number_in(fields, "onset", path, f"row {row}"))
        offsets.append(number_in(fields, "offset", path, f"row {row}"))
    starts, ends = np.array(onsets), np.array(offsets)
    aligned = np.isfinite(starts) & np.isfinite(ends)
    if aligned.sum() < max(2, len(words) / 2):
        raise ValueError(
            f"{path}: {int(aligned.sum())} of {len(words)} words have times; get it again from {SOURCE}"
        )
    rows, known = np.arange(len(words)), np.flatnonzero(aligned)
    starts = np.interp(rows, known, starts[known])
    usual = float(np.median(ends[known] - starts[known]))
    following = np.append(starts[1:], starts[-1] + usual)
    ends = np.where(aligned, ends, np.minimum(following, starts + _LONGEST_WORD))
    transcript = path.with_name("transcript.txt")
    return checked_section(
        label,
        _punctuated(words, transcript) if transcript.is_file() else words,
        starts,
        ends,
        story=name,
        path=path,
        places=[f"row {row + 1}" for row in rows],
        values={"aligned": aligned.astype(float)},
    )


def _punctuated(words: list[str], path: Path) -> list[str]:
    """The words with the punctuation that follows them in the transcript; as they are if they differ."""
    check_size(path, 4.0 * path.stat().st_size, "its text")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it so") from error
    place, shown = 0, []
    for word in words:
        start = text.find(word, place)
        if (
            start < 0 or start - place > 200
        ):  # another text: Gentle leaves only signs and blanks out
            return words
        place = start + len(word)
        signs = re.match(r"[^\w\s]*(?=\s|$)", text[place : place + 20])
        shown.append(word + (signs[0] if signs else ""))
    return shown


def _brain_mask(root: Path, derivative: str, telling: Telling) -> Path:
    if derivative == "fmriprep":
        scan = telling.scans[0]
        path = scan.with_name(scan.name.replace("_desc-preproc_bold", "_desc-brain_mask"))
    else:
        folder = root / "derivatives" / derivative / f"tpl-{VOLUME}"
        path = folder / f"tpl-{VOLUME}_res-{telling.task}_desc-brain_mask.nii.gz"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; get it from {SOURCE}, or give mask=")
    return path


def _excluded(path: Path) -> dict[str, list[str]]:
    """Subject -> beginnings of the names of scans that the authors exclude; empty without the file."""
    if not path.is_file():
        return {}
    beginnings: dict[str, list[str]] = {}
    for people in read_json(path).values():
        if not isinstance(people, dict):
            raise ValueError(f"{path} lists no people for a task; get it again from {SOURCE}")
        for subject, names in people.items():
            beginnings.setdefault(subject.removeprefix("sub-"), []).extend(map(str, names))
    return beginnings


def _chosen_stories(
    tellings: Mapping[str, Mapping[str, Telling]], stories: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The stories asked for, or the only one. Raises ValueError listing those that there are."""
    there = sorted({name for heard in tellings.values() for name in heard})
    if stories is None:
        if len(there) != 1:
            raise ValueError(
                f"{NAME}: there are the stories {', '.join(there) or 'none'}; say which with stories="
            )
        return tuple(there)
    names = split_items(stories) if isinstance(stories, str) else [str(name) for name in stories]
    names = [name.strip() for name in names]
    for name in names:
        check_known("story", name, there, of=NAME)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"stories is {stories!r}; name each story once")
    return tuple(names)
