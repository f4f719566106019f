"""Le Petit Prince (Li et al. 2022): people heard the story in English, French or Chinese (ds003643)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from brainalign_jax.names import check_known
from brainalign_jax.neural.readers.corpora.sections import (
    Section,
    check_present,
    checked_section,
    chosen_sections,
    got_files,
    named_volumes,
    number_in,
    read_annotation,
    respond_to_sections,
    stimulus_of,
)
from brainalign_jax.neural.readers.images.image_files import known_labels
from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    find_folder,
    register,
    scans_dataset,
)
from brainalign_jax.neural.readout import Processing, Reading

NAME = "little_prince"
SOURCE = "https://openneuro.org/datasets/ds003643"
TR = 2.0
N_SECTIONS = 9
LANGUAGES = {
    "en": "EN",
    "fr": "FR",
    "zh": "CN",
}  # as in a subject's name and the annotation's folder
_IMAGE = re.compile(
    r"sub-(?P<subject>[A-Z]{2}\d+)_task-lpp[A-Z]{2}_run-(?P<run>\d+)"
    r"_space-MNIColin27_desc-preproc_bold\.nii(?:\.gz)?"
)
_TEXTS = ("lemma", "pos")  # further columns, taken where the file has them
_NUMBERS = ("logfreq",)


@register(NAME)
def read_little_prince(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    processing: Processing = Processing(),
    language: str | None = None,
    sections: int | Sequence[int] | None = None,
    mask: str | None = None,
    atlas: str | None = None,
    labels: str | None = None,
    resample: bool = False,
    tr: float | None = None,
    first_volume: float = 0.0,
    slice_time_ref: float = 0.5,
    pause: float = 0.6,
    max_sentence: int = 30,
) -> Dataset:
    """The word responses of people who heard the story in one language, in nine sections of one run each.

    data_dir: the folder with `annotation` and `derivatives`, or its parent if that one is named
    "little_prince" or "ds003643". Subjects are named as "EN057", "FR001" and "CN001".
    language: "en", "fr" or "zh", as the people of a language have words of their own. None takes that of
    `subjects`, or the only one whose scans are there.
    sections: numbers from 1 to 9, None for all.
    mask: an image in data_dir, or "epi", "background" or "all", see `open_volumes`. None is "epi",
    computed for each subject, and "all" with an atlas: the release has no masks.
    atlas, labels: files in data_dir: regions and their names, see `open_volumes`.
    resample: whether a mask or atlas of another grid is resampled.
    tr: seconds, whatever the images say; None takes 2, and an image that says another TR is refused.
    first_volume: seconds from the start of a section's audio to its first volume. The scans begin with
    the audio: the derivatives lack the first four volumes.
    slice_time_ref: part of a TR added to the volume times; 0.5 is the middle, to which AFNI's 3dTshift
    moves slices where it is not told otherwise.
    pause (s), max_sentence (words): how the words become sentences, see `sentences_by_pause`. The
    annotation carries no punctuation.

    The sections are those of one story: `section` of the words is the same part of it in all three
    languages, up to the translations. Further attributes: `story`, `language`, and where the
    annotation has them `lemma`, `pos` and `logfreq`.

    The numbers of the runs in the files' names are the scanner's (15 to 23 for EN057): a subject's runs
    in their order are sections 1 to 9, so that all nine must be there. Rows without a word are left out.

    What is known and from where: names and numbers of files, the TR, slice timing, discarded volumes
    and lengths are in the release (its README and list of files, version 2.0.7); the columns of the
    annotation (word, onset, offset, section; onsets from the start of a section) are those that
    published analyses read. For Chinese the README leaves open whether the volumes without audio were
    taken off the start: `first_volume` says otherwise where they were not.
    Raises FileNotFoundError, or ValueError naming the file and the remedy.
    Reference: Li et al. 2022, Scientific Data 9:530.
    """
    root = find_folder(Path(data_dir), ("", NAME, "ds003643"), "derivatives", SOURCE)
    images = find_images(root)
    asked = known_labels(subjects, tuple(images), "sub-")
    names = tuple(images)
    if asked is None:
        whole = {name: {"runs": [path for _, path in runs]} for name, runs in images.items()}
        names = tuple(got_files(whole, NAME))
    language = _chosen_language(names, asked, language)
    known = tuple(name for name in names if name.startswith(LANGUAGES[language]))
    chosen = choose_subjects(f"{NAME} (language {language})", known, asked)
    numbers = chosen_sections(sections, range(1, N_SECTIONS + 1), "sections")
    code = LANGUAGES[language]
    path = root / "annotation" / code / f"lpp{code}_word_information.csv"
    parts = read_sections(path, numbers)
    stimulus, made_by = stimulus_of(
        parts, language=language, pause=pause, max_sentence=max_sentence
    )
    meta = {
        "dataset": NAME,
        "citation": "Li et al. 2022, Scientific Data 9:530, doi 10.1038/s41597-022-01625-7",
        "licence": "CC0",
        "notes": made_by,
        "language": language,
        "sections": list(numbers),
        "mask": mask,
        "atlas": None if atlas is None else str(atlas),
        "first_volume": float(first_volume),
        "slice_time_ref": float(slice_time_ref),
    }

    def load(subject: str, reading: Reading):
        scans = [_scans_of(images[subject], subject, root)[number - 1] for number in numbers]
        for scan in scans:
            check_present(scan, SOURCE)
        options = dict(mask=mask, atlas=atlas, labels=labels, resample=resample)
        source = named_volumes(root, subject, scans, **options)
        return respond_to_sections(
            subject,
            source,
            parts,
            stimulus,
            processing,
            tr=tr,
            release_tr=TR,
            first_volume=first_volume,
            slice_time_ref=slice_time_ref,
            release=SOURCE,
            meta=meta,
            reading=reading,
        )

    return scans_dataset(NAME, chosen, stimulus, load, meta)


def find_images(root: Path) -> dict[str, list[tuple[int, Path]]]:
    """Subject -> (number of the run in the file's name, scans in MNIColin27), sorted by the numbers.

    Raises FileNotFoundError where there are none; ValueError for two files of one run.
    """
    runs_of: dict[str, dict[int, Path]] = {}
    folders = root.glob("derivatives/sub-*/func")
    # A folder's own listing has the links of git-annex that lead nowhere, too.
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        if match := _IMAGE.fullmatch(path.name):
            runs = runs_of.setdefault(match["subject"], {})
            number = int(match["run"])
            if number in runs:
                raise ValueError(f"{runs[number]} and {path} are of one run; move one away")
            runs[number] = path
    if not runs_of:
        name = "sub-EN057_task-lppEN_run-15_space-MNIColin27_desc-preproc_bold.nii.gz"
        raise FileNotFoundError(
            f"there is no {root / 'derivatives' / 'sub-EN057' / 'func' / name}, nor scans of another "
            f"subject; get them from {SOURCE}, or with `brainalign fetch {NAME}`"
        )
    return {subject: sorted(runs_of[subject].items()) for subject in sorted(runs_of)}


def read_sections(path: Path, numbers: Sequence[int]) -> list[Section]:
    """The words of the sections `numbers` of a `lppXX_word_information.csv`.

    Raises FileNotFoundError, or ValueError naming the file and row.
    """
    rows = [
        (f"row {row}", fields)
        for row, fields in enumerate(
            read_annotation(path, ("word", "onset", "offset", "section"), SOURCE), 1
        )
    ]
    labels = [number_in(fields, "section", path, place) for place, fields in rows]
    for label, (place, _) in zip(labels, rows, strict=True):
        if label not in range(1, N_SECTIONS + 1):
            raise ValueError(
                f"{path}: {place} is of section {label:g}; sections are numbered from 1 to {N_SECTIONS}: "
                f"get the file again from {SOURCE}"
            )
    parts = []
    for number in numbers:
        section_rows = [row for row, label in zip(rows, labels, strict=True) if label == number]
        values: dict[str, list] = {}
        for name in (*_TEXTS, *_NUMBERS):
            if section_rows and name in section_rows[0][1]:
                values[name] = [
                    number_in(fields, name, path, place) if name in _NUMBERS else fields[name]
                    for place, fields in section_rows
                ]
        parts.append(
            checked_section(
                number,
                [fields["word"] for _, fields in section_rows],
                [number_in(fields, "onset", path, place) for place, fields in section_rows],
                [number_in(fields, "offset", path, place) for place, fields in section_rows],
                story=NAME,
                path=path,
                places=[place for place, _ in section_rows],
                values=values,
            )
        )
    return parts


def _scans_of(runs: Sequence[tuple[int, Path]], subject: str, root: Path) -> list[Path]:
    """The scans of sections 1 to 9."""
    if len(runs) != N_SECTIONS:
        numbers = ", ".join(str(number) for number, _ in runs)
        raise ValueError(
            f"{root / 'derivatives' / f'sub-{subject}' / 'func'} has {len(runs)} runs ({numbers}) and the "
            f"story {N_SECTIONS} sections; a run's section is told by its rank alone, so get all of them "
            f"(`brainalign fetch {NAME} --subjects={subject}`), or leave the subject out"
        )
    return [path for _, path in runs]


def _chosen_language(
    known: Sequence[str], asked: Sequence[str] | None, language: str | None
) -> str:
    """The language asked for, that of the subjects asked for, or the only one whose scans are there."""
    if language is not None:
        check_known("language", language, LANGUAGES, of=NAME)
        return language
    names = known if asked is None else [name for name in asked if name in known] or known
    there = [key for key, code in LANGUAGES.items() if any(name.startswith(code) for name in names)]
    if len(there) != 1:
        which = "there are scans of" if asked is None else "the subjects heard"
        raise ValueError(
            f"{NAME}: {which} several languages ({', '.join(there)}), each with words of its own; say which "
            "with language="
        )
    return there[0]
