"""Pereira et al. 2018, the participants' MATLAB files: 180 words, 384 and 243 sentences."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.arrays import centred, check_memory, offsets_cost_digits
from brainalign_jax.neural.formats.matlab import MatlabFile, open_matlab
from brainalign_jax.neural.readers.options import Whole
from brainalign_jax.neural.readers.pereira.items import (
    EXPERIMENTS,
    Items,
    item_attributes,
    read_items,
    row_order,
    shipped_vectors,
)
from brainalign_jax.neural.readers.pereira.meta import read_meta, region_columns, voxel_space
from brainalign_jax.neural.readers.pereira.sentences import joined
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.recording import ColumnSource
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.voxels import VoxelAudit, report_voxels
from brainalign_jax.stimulus import Stimulus

NAME = "pereira2018"
SOURCE = "https://osf.io/crwz7 (participants: web.mit.edu/evlab, documents/index2.html)"
BOTH = "627sentences"
PARADIGMS = ("pictures", "sentences", "wordclouds")
_BLOCK_BYTES = 2**24


class Recording(NamedTuple):
    """One file: its matrix [n, V], the row of each item in it, its items and its voxels."""

    path: Path
    matrix: ColumnSource
    order: np.ndarray
    space: VoxelSpace
    columns: np.ndarray | None


@register(NAME)
def read_pereira2018(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    experiment: str = "180concepts",
    paradigms: str = "mean",
    standardize: bool = True,
    roi: Whole | Iterable[str] | None = None,
    bad_voxels: str = "raise",
) -> Dataset:
    """The responses of Pereira et al. 2018 to words (experiment 1) or sentences (2 and 3).

    data_dir: the folder that holds P01/, M01/, ... (files in P01/ or P01/P01/), or its parent. Of a
    file's two names in the release, examples_180concepts_pictures.mat and data_180concepts_...,
    the first is preferred; `meta` says which was read. MATLAB's level 5 and 7.3 are read.

    experiment: "180concepts", "384sentences" or "243sentences"; "627sentences" is the last two one after the
        other, of the participants who have both. Items have no onsets: one row an
        item, in the order of the files. An item of experiments 2 and 3 is a whole sentence, one
        string of several words; `Stimulus.sentence` counts the items, so that context "sentence"
        embeds each as it was read. `Stimulus.run` is its *passage*: sentences of a passage were
        shown one after the other and share their topic, so folds must not part them
        (folds="leave_run_out" does not), and no context reaches into another passage. Scanner runs
        are not in the release. `meta` lists "passages" and "categories" (topics) too.
        The items' attributes are "experiment" and, where the files have them, "passage", "topic" and
        "concreteness".
    paradigms: of experiment 1: "mean", "pictures", "sentences", "wordclouds" or "apart". It showed
        every word in a sentence, with pictures and in a word cloud. "mean" averages the three, as the
        pereira180 release does. "pictures", "sentences" or "wordclouds": that one,
        as it is. "apart": every paradigm of a participant is a subject of its own ("P01-pictures"),
        which keeps one row a word and lets `selection.stability` compare them.
    standardize: whether "mean" z-scores every voxel over the words of each paradigm first.
    roi: voxels of these regions only, such as "languageLH" or "aal:Temporal_Mid_L+aal:Temporal_Mid_R".
        An atlas of the tables in `meta`, one of its regions, or a region of any atlas, with * and ?
        ("gordon:*_Default_L_*"); several are a list, or separated by plus signs or commas. Upper and
        lower case count alike; "aal:?" is an error that lists the regions of an atlas.
    bad_voxels: "raise" or "drop" for voxels that are constant or not finite in a file. P01 has many.

    Participants without the experiment are left out (`meta["left_out"]`). `vectors` holds
    "concreteness" [180, 1] and, where the release's vectors_*.txt lie in data_dir,
    "glove42B_300" [n, 300]. Responses are float32; `space` holds voxel indices (no affine is known).
    Raises FileNotFoundError for a folder without participants, ValueError for an unknown option,
    subject or region, a damaged file, other items than the first file's, or bad voxels.
    """
    _check(experiment, paradigms, bad_voxels)
    if experiment == BOTH:
        return joined(
            *(
                read_pereira2018(
                    data_dir,
                    subjects=subjects,
                    experiment=part,
                    standardize=standardize,
                    roi=roi,
                    bad_voxels=bad_voxels,
                )
                for part in EXPERIMENTS[1:]
            )
        )
    root, usable, left_out = _recordings(Path(data_dir), experiment, paradigms)
    if paradigms == "apart" and subjects is not None:
        subjects = _apart(subjects, usable)
    chosen = choose_subjects(NAME, tuple(usable), subjects, unusable=left_out)
    first = usable[chosen[0]][0]
    with open_matlab(first, source=SOURCE) as file:
        items = read_items(file, first, experiment, file.shape(_matrix(file))[0])
    if len(set(items.words)) < len(items.words):
        twice = next(word for row, word in enumerate(items.words) if word in items.words[:row])
        warnings.warn(
            f"{first} has {twice!r} in two rows, where the release has one row an item: it is damaged, "
            f"or not the release; get it again from {SOURCE}",
            UserWarning,
            stacklevel=2,
        )
    try:
        stimulus = Stimulus(
            items.words,
            sentence=np.arange(len(items.words)),
            run=items.passages,
            attributes=item_attributes(items, experiment),
        )
    except ValueError as error:
        raise ValueError(f"{first}: {error}") from error
    meta = {
        "dataset": NAME,
        "experiment": experiment,
        "paradigms": paradigms if experiment == "180concepts" else None,
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "left_out": left_out,
        "citation": "Pereira et al. 2018, Nature Communications 9:963",
        "licence": "none stated; the study's data are public on OSF (crwz7)",
        "notes": "one response an item; voxels not shared between subjects"
        + ("" if items.passages is None else "; runs are passages, not scanner runs"),
    }
    if items.passages is not None:
        meta["passages"] = items.passages.tolist()
    if items.categories is not None:
        meta["categories"] = list(items.categories)

    def load(subject: str) -> WordResponses:
        recordings = [_open(path, items, experiment, roi) for path in usable[subject]]
        zscored = standardize and experiment == "180concepts" and paradigms == "mean"
        values, space, dropped = _average(recordings, subject, bad_voxels, zscored=zscored)
        of_subject = {"files": [path.name for path in usable[subject]], "dropped_voxels": dropped}
        return WordResponses(subject, values, stimulus, None, {**meta, **of_subject}, space)

    return Dataset(NAME, chosen, stimulus, load, meta, shipped_vectors(root, experiment, items))


def _check(experiment: str, paradigms: str, bad_voxels: str) -> None:
    for name, value, known in (
        ("experiment", experiment, (*EXPERIMENTS, BOTH)),
        ("paradigms", paradigms, ("mean", *PARADIGMS, "apart")),
        ("bad_voxels", bad_voxels, ("raise", "drop")),
    ):
        check_known(f"{name}=", value, known)
    if experiment != "180concepts" and paradigms != "mean":
        raise ValueError(
            f"paradigms={paradigms!r} is for experiment '180concepts'; {experiment} has one only"
        )


def _recordings(
    data_dir: Path, experiment: str, paradigms: str
) -> tuple[Path, dict[str, tuple[Path, ...]], dict[str, str]]:
    """The release's folder, subject -> files, and why the other participants are left out."""
    wanted = [experiment]
    if experiment == "180concepts":
        asked = [name for name in PARADIGMS if paradigms in ("mean", "apart", name)]
        wanted = [f"{experiment}_{name}" for name in asked]
    for root in (data_dir, data_dir / NAME):
        usable, left_out = {}, {}
        for participant in sorted(path for path in root.glob("*") if path.is_dir()):
            folders = (participant, participant / participant.name)
            if not any(
                path
                for folder in folders
                for what in EXPERIMENTS
                for path in folder.glob(f"*_{what}*.mat")
            ):
                continue
            paths = {stem: _file(folders, stem) for stem in wanted}
            lacks = [f"examples_{stem}.mat" for stem, path in paths.items() if path is None]
            if lacks:
                left_out[participant.name] = f"its folder {participant} lacks {' and '.join(lacks)}"
            elif paradigms == "apart":
                for paradigm, path in zip(PARADIGMS, paths.values(), strict=True):
                    usable[f"{participant.name}-{paradigm}"] = (path,)
            else:
                usable[participant.name] = tuple(paths.values())
        if usable:
            return root, usable, left_out
        if left_out:
            reasons = "; ".join(left_out.values())
            raise FileNotFoundError(
                f"no participant has {experiment}: {reasons}; get it from {SOURCE}"
            )
    raise FileNotFoundError(
        f"there is no folder of a participant in {data_dir}, such as P01/examples_{wanted[0]}.mat; "
        f"give the folder that holds P01, M01, ..., or get the release from {SOURCE}"
    )


def _apart(subjects: str | Iterable[str], usable: Iterable[str]) -> list[str]:
    """A participant's name stands for the three subjects made of his or her paradigms."""
    known = set(usable)
    names = []
    for name in [subjects] if isinstance(subjects, str) else subjects:
        three = [f"{name}-{paradigm}" for paradigm in PARADIGMS]
        names += three if known.issuperset(three) else [str(name)]
    return names


def _file(folders: Sequence[Path], stem: str) -> Path | None:
    names = (
        folder / f"{prefix}_{stem}.mat" for prefix in ("examples", "data") for folder in folders
    )
    return next((path for path in names if path.is_file()), None)


def _matrix(file: MatlabFile) -> str:
    # The files named data_... hold responses to whole passages beside those to their sentences.
    passages = "examples" not in file.names and "examples_passagesentences" in file.names
    return "examples_passagesentences" if passages else "examples"


def _open(path: Path, items: Items, experiment: str, roi: str | Iterable[str] | None) -> Recording:
    with open_matlab(path, source=SOURCE) as file:
        name = _matrix(file)
        matrix = file.columns(name)
        file_items = read_items(file, path, experiment, matrix.shape[0])
        meta = read_meta(file.read("meta"), path)
    n_voxels = matrix.shape[1]
    space = voxel_space(meta, n_voxels, path)
    columns = None if roi is None else region_columns(meta, roi, n_voxels, path)
    return Recording(path, matrix, row_order(file_items, items, path), space, columns)


def _average(
    recordings: Sequence[Recording],
    subject: str,
    bad_voxels: str,
    *,
    zscored: bool,
    center: bool = False,
) -> tuple[np.ndarray, VoxelSpace, int]:
    """Mean over the files [n, V] float32, without unusable voxels; their space and their number.

    Read a block of voxels at a time: beside the result there is never a second copy. Where float32
    could not hold the offset of some voxel, all are read again and centred.
    """
    first = recordings[0]
    for other in recordings[1:]:
        if other.matrix.shape != first.matrix.shape or not other.space.same_as(first.space):
            raise ValueError(
                f"{other.path} has {other.matrix.shape[1]} voxels that are not the "
                f"{first.matrix.shape[1]} of {first.path.name}: the paradigms cannot be averaged; "
                "read them with paradigms=apart"
            )
    n, n_voxels = first.matrix.shape
    columns = np.arange(n_voxels) if first.columns is None else first.columns
    check_memory(4 * n * len(columns), first.path, "its responses")
    values = np.empty((n, len(columns)), np.float32)
    audits = [VoxelAudit() for _ in recordings]
    level = False
    size, done = max(1, _BLOCK_BYTES // (8 * n)), 0
    start = 0
    for blocks in zip(*(r.matrix.blocks(size) for r in recordings), strict=True):
        stop = start + blocks[0].shape[1]
        inside = columns[done : np.searchsorted(columns, stop)] - start
        start = stop
        if not len(inside):
            continue
        total = np.zeros((n, len(inside)))
        # Unusable voxels are found by the audits and reported below.
        with np.errstate(all="ignore"):
            for recording, audit, block in zip(recordings, audits, blocks, strict=True):
                block = block[recording.order][:, inside].astype(np.float64)
                audit.add(block)
                if zscored:
                    block -= block.mean(axis=0)
                    block /= block.std(axis=0)
                total += block
            total /= len(recordings)
            level = level or offsets_cost_digits(total)
            values[:, done : done + len(inside)] = centred(total) if center else total
        done += len(inside)
    if level and not center:
        return _average(recordings, subject, bad_voxels, zscored=zscored, center=True)
    space = first.space if first.columns is None else first.space.select(columns)
    kept, problems = np.ones(len(columns), bool), []
    for recording, audit in zip(recordings, audits, strict=True):
        usable, problem = audit.conclude()
        kept &= usable
        problems += [f"{recording.path.name}: {problem}"] * bool(problem)
    if problems:
        report_voxels("; ".join(problems), kept, subject=subject, bad_voxels=bad_voxels, what=NAME)
        return values[:, kept], space.select(kept), int((~kept).sum())
    return values, space, 0
