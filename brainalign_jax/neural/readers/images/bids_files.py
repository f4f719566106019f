"""The files of a BIDS folder: their names' entities, which scans are meant, and what belongs to them.

No data set of its own: `bids` builds on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainalign_jax.names import nearest
from brainalign_jax.neural.formats.text.sidecars import read_json
from brainalign_jax.neural.readers.images.image_files import by_number, known_labels, split_names

_NAME = re.compile(
    r"(?P<entities>(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)(?P<suffix>[a-zA-Z0-9]+)(?P<ext>\..+)"
)
FORMATS = {
    ".nii.gz": "volume",
    ".nii": "volume",
    ".func.gii": "surface",
    ".dtseries.nii": "cifti",
}
# Entities that tell one run from another; the others must not differ between the runs of a subject.
_RUN = ("ses", "run")


class BidsFile(NamedTuple):
    """path; entities ("sub" -> "01"); suffix ("bold"); ext (".nii.gz")."""

    path: Path
    entities: Mapping[str, str]
    suffix: str
    ext: str

    @property
    def space(self) -> str:
        """Such as "MNI152NLin2009cAsym:res-2:volume"; "native:volume" where none is named."""
        parts = [self.entities.get("space", "native")]
        parts += [f"{key}-{self.entities[key]}" for key in ("res", "den") if key in self.entities]
        return ":".join([*parts, FORMATS[self.ext]])


class BidsRun(NamedTuple):
    """One run of a subject. label: number of the run; files: one, or the left and right hemisphere."""

    label: int
    files: tuple[BidsFile, ...]


def parse_name(path: Path) -> BidsFile | None:
    """The parts of a file's name, or None where it is not a BIDS name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    pairs = [part.split("-", 1) for part in match["entities"].split("_") if part]
    return BidsFile(path, dict(pairs), match["suffix"], match["ext"])


def find_runs(
    root: Path,
    *,
    task: Any = None,
    session: Any = None,
    space: Any = None,
    runs: Any = None,
    desc: str | None = None,
) -> tuple[dict[str, list[BidsRun]], dict[str, str]]:
    """The runs of every subject in `root` that are meant, and what was chosen ("task", "space").

    Options are labels (numbers match labels such as "01"); None where there is no choice, and for
    sessions and runs: all. desc: None takes files without a description or with "preproc".
    Raises FileNotFoundError where there are no scans; ValueError listing what there is where a
    choice must be made, and for scans that cannot be told apart.
    """
    patterns = ("sub-*/func/*_bold.*", "sub-*/ses-*/func/*_bold.*")
    scans = [parse_name(path) for pattern in patterns for path in sorted(root.glob(pattern))]
    scans = [scan for scan in scans if scan and scan.ext in FORMATS and "sub" in scan.entities]
    if not scans:
        raise FileNotFoundError(
            f"there is no {root / 'sub-*' / 'func' / '*_bold.nii.gz'} (nor one in ses-*); give a BIDS "
            "folder, raw or derivatives, the one with the folders sub-*"
        )
    wanted = (desc,) if desc else (None, "preproc")
    scans = _kept(scans, root, "desc", lambda scan: scan.entities.get("desc") in wanted)
    scans = [scan for scan in scans if scan.entities.get("part", "mag") == "mag"]
    scans = _narrowed(scans, root, "task", "task", task, choose=True)
    scans = _narrowed(scans, root, "session", "ses", session)
    scans = _narrowed(scans, root, "runs", "run", runs)
    spaces = sorted({scan.space for scan in scans}, key=by_number)
    chosen = _choose_space(spaces, space, root)
    scans = [scan for scan in scans if scan.space == chosen]
    subjects = sorted({scan.entities["sub"] for scan in scans}, key=by_number)
    by_name = {name: _runs_of([s for s in scans if s.entities["sub"] == name]) for name in subjects}
    return by_name, {"task": scans[0].entities.get("task", ""), "space": chosen}


def related(
    roots: Iterable[Path], scan: BidsFile, suffix: str, ext: str, *, desc: str | None = None
) -> list[BidsFile]:
    """The files of that suffix that apply to a scan, the most special one last.

    In each of `roots`: files in the folders from the root down to the scan's, whose entities the scan
    has too (BIDS inheritance). desc: of the file itself. Where it names a space, it is the scan's.
    """
    of_scan = dict(scan.entities)
    related_files = []
    for root in roots:
        folders = [root, root / f"sub-{of_scan['sub']}"]
        if "ses" in of_scan:
            folders.append(folders[-1] / f"ses-{of_scan['ses']}")
        folders.append(folders[-1] / "func")
        for folder in folders:
            files = [parse_name(path) for path in sorted(folder.glob(f"*{suffix}{ext}"))]
            applying = []
            for file in files:
                if file is None or (file.suffix, file.ext) != (suffix, ext):
                    continue
                if ext == ".tsv" and not file.entities:  # some table, of no scan in particular
                    continue
                entities = dict(file.entities)
                described = desc is None or entities.pop("desc", None) == desc
                if described and entities.items() <= of_scan.items():
                    applying.append(file)
            related_files += sorted(applying, key=lambda file: len(file.entities))
    return related_files


def read_metadata(roots: Sequence[Path], scan: BidsFile) -> dict[str, Any]:
    """What the JSON files that apply to a scan say, the most special one first in rank.

    Raises ValueError naming a file that is not a JSON object.
    """
    merged: dict[str, Any] = {}
    for file in related(roots, scan, scan.suffix, ".json"):
        merged |= read_json(file.path)
    return merged


def _kept(scans, root: Path, what: str, keep) -> list[BidsFile]:
    left = [scan for scan in scans if keep(scan)]
    if not left:
        labels = sorted({str(scan.entities.get(what, "none")) for scan in scans})
        raise ValueError(
            f"{root}: no scan is of the {what} asked for; there is {', '.join(labels)}"
        )
    return left


def _narrowed(
    scans: list[BidsFile], root: Path, option: str, key: str, asked: Any, *, choose: bool = False
) -> list[BidsFile]:
    """The scans with the labels asked for; `choose`: one label must be left."""
    what = "run" if option == "runs" else option
    present = sorted({scan.entities.get(key, "") for scan in scans}, key=by_number)
    if asked is None:
        if choose and len(present) > 1:
            raise ValueError(
                f"{root} has scans of several {what}s; give {option}=, one of {', '.join(present)}"
            )
        return scans
    labels = known_labels(asked, present, f"{key}-")
    for label in labels:
        if label not in present:
            labelled = [labelled_with for labelled_with in present if labelled_with]
            remedy = nearest(label, labelled) if labelled else f"the names have no {key}-"
            raise ValueError(f"{root} has no scan of {what} {label!r} for {option}=; {remedy}")
    if choose and len(labels) > 1:
        raise ValueError(f"{option} is {', '.join(labels)}; give one {what}")
    return [scan for scan in scans if scan.entities.get(key, "") in labels]


def _choose_space(spaces: Sequence[str], asked: Any, root: Path) -> str:
    """The space meant: all parts of `asked`, parted by ":", must be parts of its name."""
    if asked is None:
        fitting = list(spaces)
    else:
        parts = split_names(asked)
        fitting = [name for name in spaces if set(parts) <= set(name.split(":"))]
        # "MNI152" is the one without a resolution where there is one.
        exact = [
            name for name in fitting if len(name.split(":")) == len({*parts, name.split(":")[-1]})
        ]
        fitting = exact if len(exact) == 1 else fitting
        if not fitting:
            raise ValueError(f"{root} has no scans in space={asked!r}; {nearest(asked, spaces)}")
    if len(fitting) > 1:
        raise ValueError(
            f"{root} has scans in several spaces; give space=, one of {', '.join(fitting)}"
        )
    return fitting[0]


def _runs_of(scans: Sequence[BidsFile]) -> list[BidsRun]:
    groups: dict[tuple[str, str], list[BidsFile]] = {}
    for scan in scans:
        groups.setdefault(tuple(scan.entities.get(key, "") for key in _RUN), []).append(scan)
    ordered = sorted(groups, key=lambda key: [by_number(part) for part in key])
    numbers = [int(run) if run.isdigit() else None for _, run in ordered]
    one_session = len({session for session, _ in ordered}) == 1
    if not one_session or None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(ordered) + 1))
    runs = []
    for number, key in zip(numbers, ordered, strict=True):
        files = groups[key]
        sides = [file.entities.get("hemi", "") for file in files]
        expected = [["L", "R"], ["L"], ["R"]] if FORMATS[files[0].ext] == "surface" else [[""]]
        if sorted(sides) not in expected:
            names = ", ".join(file.path.name for file in files)
            raise ValueError(
                f"{files[0].path.parent} has several scans of one run: {names}; keep one of them (for "
                "several echoes, the combined one) in the folder"
            )
        files = sorted(files, key=lambda file: file.entities.get("hemi", ""))
        runs.append(BidsRun(number, tuple(files)))
    return runs
