"""Corrupted copies of small data sets in every layout: see CASES at the end.

Each must end in an error raised on purpose that names a file, in a warning, or with the right words. Bits
may flip unseen in values that no checksum covers, if words and shapes are right; all other damage
must be seen.
"""

import base64
import collections
import functools
import json
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import corruption
import h5py
import numpy as np
import pytest
from corruption import (
    as_objects,
    cell,
    cut,
    dead_block,
    edit_cifti,
    edit_gifti,
    edit_headers,
    edit_lines,
    edit_mat,
    edit_nifti,
    edit_npy,
    edit_npz,
    edit_table,
    flip,
    nan_block,
    of_column,
    of_field,
    of_pair,
    overlapping,
    patch,
    put,
    shuffled,
    swapped,
    transposed,
    twice,
    without_row,
)
from small_releases import (
    DERIVED,
    DERIVED_SCAN,
    LEBEL_STORY,
    LEBEL_WORDS,
    MAT,
    NARRATIVES_EVENTS,
    NARRATIVES_SCAN,
    NARRATIVES_WORDS,
    PRINCE_SCAN,
    PRINCE_WORDS,
    RELEASES,
    RUN,
    SCAN,
    SMN_SCAN,
    SMN_TRIGGERS,
    SMN_WORDS,
    TIMECOURSES,
    features,
)

from brainalign_jax.neural.readers import list_datasets
from brainalign_jax.neural.readers.stories.alice_files import DATA, TEXTGRID


class Case(NamedTuple):
    """kind: of the corruption; damage: does it to a copy; silent: whether it may go unseen."""

    release: str
    kind: str
    label: str
    damage: Callable[[Path], Any]
    silent: bool = False


def in_bytes():
    """Every layout's files cut off and with flipped bits in the header and in the rest."""
    for name, release in RELEASES.items():
        for number, file in enumerate(release.files):
            ends = (0, 0.37, 0.9, -3) if number == 0 else (0.6,)
            for end in ends:
                damage = functools.partial(at, file, cut, end)
                yield Case(name, "truncated", f"file {number + 1} cut at {end}", damage)
            head = release.head if number == 0 else 40
            flips = {"head": {"last": head}, "body": {"first": head}}
            flips |= {"16": {"bits": 16}} if number == 0 else {}
            for part, where in flips.items():
                label = f"file {number + 1} {part}"
                damage = functools.partial(at, file, flip, f"{name} {label}", **where)
                yield Case(name, "bit-flipped", label, damage, silent=True)


def at(file, change, *arguments, **options):
    """The damage that `change` does to one of a copy's files, or to each that `file` finds."""
    *arguments, folder = arguments
    paths = sorted(folder.glob(file))
    assert paths, file
    for path in paths:
        change(path, *arguments, **options)


def cases(name, file, change, by_kind):
    """Cases of one file, or of all that a pattern finds. by_kind: kind -> label -> arguments."""
    for kind, labelled in by_kind.items():
        for label, arguments in labelled.items():
            args, options = ((), arguments) if isinstance(arguments, dict) else ((arguments,), {})
            yield Case(name, kind, label, functools.partial(at, file, change, *args, **options))


def potter_cases():
    number = np.array([[np.nan]])
    kinds = {
        "shape": {
            "a volume less": {"data": without_row},
            "transposed": {"data": transposed},
            "time without runs": {"time": lambda time: time[:, :1]},
            "no data": {"data": None},
        },
        "nan": {
            "block of data": {"data": nan_block},
            "dead voxels": {"data": dead_block},
            "time": {"time": put((5, 0), np.nan)},
            "onset": {"words": of_column("start", put(7, number))},
        },
        "onsets": {"swapped": {"words": of_column("start", swapped)}},
        "runs": {
            "overlap": {"time": of_column(0, overlapping)},
            "volumes unsorted": {"time": shuffled},
            "labels alternate": {"time": lambda time: put((slice(None, None, 2), 1), 2.0)(time)},
            "a huge label": {"time": put((5, 1), 1e300)},
        },
        "words": {
            "empty": {"words": of_column("text", put(7, cell("")))},
            "blank": {"words": of_column("text", put(7, cell("  ")))},
            "row twice in one subject": {"words": lambda words: twice(words[0])[None]},
        },
        "durations": {"negative": {"words": of_column("length", put(7, -np.eye(1)))}},
    }
    yield from cases("potter", MAT[0], edit_mat, kinds)
    # A grid that does not fit the voxels is documented to be left out.
    for size in (0.0, np.nan, np.inf, 1e19):
        change = of_field("dimx", put((0, 0), size))
        damage = functools.partial(at, MAT[0], edit_mat, meta=change)
        yield Case("potter", "shape", f"{size:g} voxels along x", damage, silent=True)
    few = {kind: dict(list(kinds[kind].items())[:1]) for kind in ("nan", "onsets", "words")}
    yield from cases("potter 7.3", MAT[1], edit_mat, few)
    again = {"words": {"row twice": {"words": lambda words: twice(words[0])[None]}}}
    yield from cases("potter", "*.mat", edit_mat, again)
    yield from cases("potter 7.3", "*.mat", edit_mat, again)


def potter_numpy_cases():
    for file, kinds in {
        "data_subject_F.npy": {
            "shape": {"a volume less": without_row, "one axis": np.ravel},
            "nan": {"block of data": nan_block},
        },
        "time_words_fmri.npy": {
            "onsets": {"swapped": swapped},
            "nan": {"onset": put(7, np.nan)},
            "shape": {"an onset less": without_row},
        },
        "time_fmri.npy": {"runs": {"overlap": overlapping, "volumes unsorted": shuffled}},
        "runs_fmri.npy": {"runs": {"a fraction": put(3, 1.5), "a huge label": put(3, 1e300)}},
        "words_fmri.npy": {"words": {"empty": put(7, ""), "pickled": as_objects}},
        "*words_fmri.npy": {"words": {"row twice": twice}},
    }.items():
        yield from cases("potter npy", file, edit_npy, kinds)


def stories_cases():
    def onsets_swapped(words):
        onset, next_onset = (words[index, 0][1, 0] for index in (7, 8))
        return of_pair(8, 1, onset)(of_pair(7, 1, next_onset)(words))

    kinds = {
        "shape": {
            "a volume less": {"data": without_row},
            "time as a column": {"time": transposed},
            "words as a row": {"words": transposed},
        },
        "nan": {
            "block of data": {"data": nan_block},
            "onset": {"words": of_pair(7, 1, np.array([[np.nan]]))},
        },
        "onsets": {"swapped": {"words": onsets_swapped}},
        "runs": {
            "overlap": {"time": lambda time: overlapping(time[0])[None]},
            "volumes unsorted": {"time": lambda time: shuffled(time[0])[None]},
        },
        "words": {
            "empty": {"words": of_pair(7, 0, "")},
            "text without its cell": {"words": put((7, 0), "text")},
        },
    }
    yield from cases("stories", MAT[0], edit_mat, kinds)
    few = {kind: dict(list(kinds[kind].items())[:1]) for kind in ("nan", "onsets", "words")}
    yield from cases("stories 7.3", MAT[1], edit_mat, few)
    again = {"words": {"row twice": {"words": twice}}}
    yield from cases("stories", "*.mat", edit_mat, again)


def pereira_cases():
    kinds = {
        "shape": {
            "a row less": {"examples": without_row},
            "transposed": {"examples": transposed},
            "a place less": {"meta": of_field("colToCoord", without_row)},
            "no meta": {"meta": None},
            "two voxels in one place": {"meta": of_field("colToCoord", put(4, 1.0))},
            "concreteness as text": {"labelsConcreteness": lambda labels: labels.astype(str)},
        },
        "nan": {"block of responses": {"examples": nan_block}},
        "words": {
            "empty": {"keyConcept": put((4, 0), "")},
            "label of no word": {"labelsConcept": put(4, 99.0)},
            "row twice": {"labelsConcept": put(4, 4.0)},
        },
    }
    yield from cases("pereira", "M02/*_pictures.mat", edit_mat, kinds)
    again = {"words": {"row twice in all files": {"labelsConcept": put(4, 4.0)}}}
    yield from cases("pereira", "*/*.mat", edit_mat, again)
    kinds = {
        "nan": {"block of responses": {"examples": nan_block}},
        "words": {
            "empty": {"keySentences": put((4, 0), "")},
            "a sentence less": {"keySentences": without_row},
            "row twice": {"labelsSentences": put(4, 4.0)},
        },
        "runs": {
            "passage that is not there": {"labelsPassageForEachSentence": put((0, 4), 99.0)},
            "passages in another order": {
                "labelsPassageForEachSentence": lambda labels: labels[:, ::-1]
            },
        },
    }
    yield from cases("pereira 7.3", "M02/*.mat", edit_mat, kinds)
    kinds = {
        "shape": {
            "a word less": {"fmri_pca": lambda values: values[:, 1:]},
            "two axes": {"fmri_pca": lambda values: values[0]},
            "a vector less": {"glove42B_300": without_row},
            "vectors as text": {"glove42B_300": lambda vectors: vectors.astype(str)},
            "responses as text": {"fmri_pca": lambda values: values.astype(str)},
            "one subject's name": {"subjects": lambda names: names[0]},
            "a vector of nothing": {"concreteness": lambda values: values[:0]},
            "no components": {"fmri_pca": lambda values: values[:, :, :0]},
        },
        "nan": {
            "block of responses": {"fmri_pca": put((1, slice(3, 6), slice(2)), np.nan)},
            "concreteness": {"concreteness": put(4, np.nan)},
            "dead subject": {"fmri_pca": put(1, 0.0)},
            "an infinite response": {"fmri_pca": put((1, 3, 2), np.inf)},
        },
        "words": {
            "empty": {"words": put(4, "")},
            "row twice": {"words": put(4, "concept3")},
            "pickled": {"words": as_objects},
        },
    }
    yield from cases("pereira180", "pereira180.npz", edit_npz, kinds)
    # A wild value must not make the other components look constant, which are left out unseen.
    damage = functools.partial(at, "pereira180.npz", edit_npz, fmri_pca=put((1, 3, 2), 1e30))
    yield Case("pereira180", "bit-flipped", "a wild response", damage, silent=True)


def alice_cases():
    first = 14  # line of the first interval, of four lines each

    def interval(number, change):
        """A change of the lines xmin, xmax and text of an interval."""

        def changed(lines):
            start = first + 4 * number + 1
            lines[start : start + 3] = change(*lines[start : start + 3])
            return lines

        return changed

    def spoken(lines, count):
        """The first spoken intervals."""
        texts = [index for index, line in enumerate(lines) if line.strip().startswith("text = ")]
        return [index for index in texts if '"sp"' not in lines[index]][:count]

    def shift(line, seconds):
        name, value = line.split("=")
        return f"{name}= {float(value) + seconds!r}"

    def labelled(text):
        def changed(lines):
            lines[spoken(lines, 9)[-1]] = f'            text = "{text}"'
            return lines

        return changed

    def interval_twice(lines):
        size = next(index for index, line in enumerate(lines) if "intervals: size" in line)
        head, count = lines[size].split("=")
        lines[size] = f"{head}= {int(count) + 1}"
        start = first + 4 * 9
        return lines[: start + 4] + lines[start:]

    def exchanged(lines):
        start, after = first + 4 * 9, first + 4 * 10
        return [*lines[:start], *lines[after : after + 4], *lines[start:after], *lines[after + 4 :]]

    kinds = {
        "onsets": {
            "intervals swapped": exchanged,
            "overlap": interval(9, lambda low, high, text: [shift(low, -0.2), high, text]),
            "gap": interval(9, lambda low, high, text: [low, shift(high, -0.01), text]),
        },
        "nan": {"onset": interval(9, lambda low, high, text: ["xmin = nan", high, text])},
        "durations": {
            "negative": interval(
                9, lambda low, high, text: [low, shift(low, -0.1).replace("xmin", "xmax"), text]
            )
        },
        "words": {
            "empty": labelled(""),
            "blank": labelled("  "),
            "row twice": interval_twice,
            "a row less": lambda lines: lines[: first + 36] + lines[first + 40 :],
        },
        "shape": {"tier renamed": lambda lines: [line.replace('"word"', '"w"') for line in lines]},
    }
    yield from cases("alice", TEXTGRID, edit_lines, kinds)
    kinds = {
        "nan": {
            "in a row": lambda lines: put(9, " ".join(["nan"] * 6))(np.array(lines, object)),
            "dead region": lambda lines: [" ".join([*line.split()[:5], "1"]) for line in lines],
        },
        "shape": {
            "a volume less": lambda lines: lines[:-1],
            "a region less": lambda lines: [" ".join(line.split()[:5]) for line in lines],
            "a ragged row": lambda lines: [*lines[:9], lines[9][:30], *lines[10:]],
        },
    }
    yield from cases("alice", TIMECOURSES[0], edit_lines, kinds)
    yield Case("alice", "truncated", "last digits", functools.partial(at, TIMECOURSES[0], cut, -3))
    large = {"nan": {"a huge rate": lambda lines: [*lines[:20], "1e300", *lines[21:]]}}
    yield from cases("alice", f"{DATA}/s18-rate.txt", edit_lines, large)
    row = {"nan": {"motion": lambda lines: [*lines[:20], "nan 0 0 0 0 0", *lines[21:]]}}
    yield from cases("alice", f"{DATA}/s18-rp_*.txt", edit_lines, row)
    less = {"shape": {"a rate less": lambda lines: lines[1:]}}
    yield from cases("alice", f"{DATA}/s18-rate.txt", edit_lines, less)


# What is changed in several formats: images, meshes and greyordinates [volumes, columns], tables of words.
IMAGE_SHAPES = {
    "one volume": lambda values: values[..., 0],
    "a slice less": lambda values: values[:, :-1],
    "half the volumes": lambda values: values[..., : values.shape[3] // 2],
}
MESH_KINDS = {
    "shape": {"a volume less": lambda rows: rows[1:], "another mesh": lambda rows: rows[:, 1:]},
    "nan": {"block": put((slice(3, 9), slice(9, 12)), np.nan)},
}
CIFTI_KINDS = {
    "shape": {"half the volumes": lambda rows: rows[: len(rows) // 2]},
    "nan": {"block": nan_block, "dead": dead_block},
}
TABLE_KINDS = {
    "onsets": {"swapped": of_column("onset", swapped), "reversed": lambda table: table[::-1]},
    "nan": {"onset": of_column("onset", put(7, np.nan))},
    "words": {
        "empty": of_column("word", put(7, "")),
        "row twice": lambda table: table.iloc[[*range(8), *range(7, len(table))]],
    },
    "shape": {"no onsets": lambda table: table.drop(columns="onset")},
}


def words_table_cases(name, file, *, run=True):
    """Of the text tables with columns onset, duration, word and, in some, run."""
    kinds = {
        **TABLE_KINDS,
        "durations": {"negative": of_column("duration", put(7, -0.5))},
    }
    if run:
        kinds["runs"] = {
            "alternate": of_column("run", put(slice(None, None, 2), 2)),
            "unsorted": of_column("run", lambda run: 3 - run),
            "one too many": of_column("run", put(slice(50, None), 3)),
            "a fraction": of_column("run", lambda run: put(7, 1.5)(run.astype(float))),
            "a huge label": of_column("run", lambda run: put(59, 1e300)(run.astype(float))),
        }
    yield from cases(name, file, edit_table, kinds)


def image_cases():
    scan, mask = f"{RUN}_bold.nii.gz", "mask.nii.gz"
    yield from words_table_cases("nifti gz", "words.tsv")
    yield from words_table_cases("bids", "sub-*/func/*run-1_events.tsv", run=False)
    inside = (slice(2, 4), slice(2, 4), slice(1, 3))
    kinds = {
        "shape": IMAGE_SHAPES,
        "nan": {
            "block of voxels": put((*inside, slice(3, 9)), np.nan),
            "dead voxels": put(inside, 7.0),
        },
    }
    yield from cases("nifti gz", scan, edit_nifti, kinds)
    yield from cases("bids", f"{DERIVED_SCAN}_bold.nii.gz", edit_nifti, {"nan": kinds["nan"]})
    kinds = {
        "shape": {"mask a slice less": lambda values: values[1:], "empty": np.zeros_like},
        "nan": {"mask": lambda values: np.full_like(values, np.nan)},
    }
    yield from cases("nifti gz", mask, edit_nifti, kinds)
    # NaN of the signalling kind, of which NumPy warns when it converts them.
    damage = functools.partial(
        at, f"{RUN}_bold.nii", patch, 352 + 480, "<120I", *[0x7FA00000] * 120
    )
    yield Case("nifti", "nan", "a volume", damage)
    # Bytes of the header, by the NIfTI-1 standard.
    for kind, label, place, form, *values in (
        ("shape", "more volumes", 48, "<h", 3000),
        ("shape", "negative size", 42, "<h", -7),
        ("shape", "unknown type", 70, "<h", 12345),
        ("shape", "values elsewhere", 108, "<f", 1e9),
        ("nan", "TR", 92, "<f", np.nan),
        ("nan", "slope", 112, "<f", np.inf),
        ("nan", "affine", 280, "<f", np.nan),
        ("onsets", "another TR", 92, "<f", 1.0),
        ("mask", "affine", 280, "<f", np.inf),
    ):
        file = {"shape": f"{RUN}_bold.nii", "mask": mask}.get(kind, scan)
        name = "nifti gz" if kind != "shape" else "nifti"
        damage = functools.partial(at, file, patch, place, form, *values)
        kind, label = ("nan", "affine of the mask") if kind == "mask" else (kind, label)
        yield Case(name, kind, f"header: {label}", damage)
    yield from cases("gifti", f"{RUN}_hemi-R_bold.func.gii", edit_gifti, MESH_KINDS)
    yield from cases("cifti", f"{RUN}_bold.dtseries.nii", edit_cifti, CIFTI_KINDS)
    overlap = {"runs": {"overlap": lambda rows: np.concatenate([rows, rows + 1])}}
    yield from cases("nifti one clock", f"{RUN}_bold.dtseries.nii", edit_cifti, overlap)
    kinds = {"onsets": {"swapped": of_column("onset", swapped)}}
    yield from cases("nifti one clock", "words.tsv", edit_table, kinds)
    one_run = {"truncated": {"table after run 1": lambda lines: lines[:31]}}
    yield from cases("nifti gz", "words.tsv", edit_lines, one_run)


def corpus_cases():
    kinds = {
        **TABLE_KINDS,
        "durations": {"negative": of_column("offset", put(7, -0.5))},
        "runs": {"a fraction": of_column("section", lambda run: put(7, 1.5)(run.astype(float)))},
    }
    yield from cases("prince", PRINCE_WORDS, edit_table, kinds)
    kinds = {
        "shape": IMAGE_SHAPES,
        "nan": {"dead voxels": put((slice(2, 4), slice(2, 4), slice(1, 3)), 7.0)},
    }
    yield from cases("prince", PRINCE_SCAN, edit_nifti, kinds)
    damage = functools.partial(at, PRINCE_SCAN, patch, 92, "<f", 1.0)
    yield Case("prince", "onsets", "header: another TR", damage)

    def edit_hdf5(path, change):
        with h5py.File(path, "r+") as file:
            values = change(file["data"][:])
            del file["data"]
            file["data"] = values

    kinds = {
        "shape": {
            "one volume": lambda rows: rows[0],
            "a volume less": lambda rows: rows[:-1],
            "a voxel less": lambda rows: rows[:, 1:],
        },
        "nan": {"block": nan_block, "dead": dead_block},
    }
    yield from cases("lebel", LEBEL_STORY, edit_hdf5, kinds)
    kinds = {
        "words": {
            "row twice": lambda lines: [*lines[:40], *lines[36:]],
            "other tier": lambda lines: [line.replace('"word"', '"mot"') for line in lines],
        },
        "onsets": {"scaled": lambda lines: [line.replace(" 12.", " 212.") for line in lines]},
    }
    yield from cases("lebel", LEBEL_WORDS, edit_lines, kinds)
    yield from cases("smn4lang", SMN_SCAN, edit_cifti, CIFTI_KINDS)
    kinds = {
        "words": {
            "one less": {"word": lambda words: words[:-1]},
            "no texts": {"word": lambda words: np.ones((len(words), 1))},
            "left out": {"word": None},
        },
        "onsets": {"swapped": {"start": lambda times: times[:, ::-1]}},
        "durations": {"negative": {"end": lambda times: times - 100}},
    }
    yield from cases("smn4lang", SMN_WORDS, edit_mat, kinds)
    if "smn4lang meg" in RELEASES:
        yield from cases("smn4lang meg", SMN_WORDS, edit_mat, kinds)
    yield from cases("narratives", NARRATIVES_SCAN, edit_gifti, MESH_KINDS)
    kinds = {
        "words": {
            "empty": lambda lines: [*lines[:4], ",,9.0,9.1", *lines[5:]],
            "row twice": lambda lines: [*lines[:4], lines[3], *lines[4:]],
            "a field less": lambda lines: [*lines[:4], lines[4].rpartition(",")[0], *lines[5:]],
        },
        "onsets": {"swapped": lambda lines: [*lines[:4], lines[9], *lines[5:9], lines[4]]},
    }
    yield from cases("narratives", NARRATIVES_WORDS, edit_lines, kinds)
    kinds = {"onsets": {"negative": of_column("onset", put(0, np.nan))}}
    yield from cases("narratives", NARRATIVES_EVENTS, edit_table, kinds)


def archive_cases():
    """Arrays in archives whose checksums are right: headers that do not end, and what is no array."""
    for name in ("pereira180", "table npz", "table saved", "kernels"):
        for label, old, new in (
            ("headers do not end", b"{'descr'", b"(({escr'"),
            ("no arrays", b"\x93NUMPY", b"\x94NUMPY"),
        ):
            damage = functools.partial(at, RELEASES[name].files[0], edit_headers, old, new)
            yield Case(name, "shape", label, damage)


def bids_cases():
    def sidecar(**fields):
        return lambda lines: json.dumps(json.loads("\n".join(lines)) | fields).splitlines()

    kinds = {
        "nan": {"TR": sidecar(RepetitionTime=float("nan"))},
        "onsets": {
            "TR of zero": sidecar(RepetitionTime=0),
            "TR as text": sidecar(RepetitionTime="2 s"),
            "another TR": sidecar(RepetitionTime=1.5),
        },
        "shape": {"no object": lambda lines: ["[1, 2]"]},
    }
    yield from cases("bids raw", "task-story_bold.json", edit_lines, kinds)
    column, table = "trans_x", f"{DERIVED}/{SCAN}_desc-confounds_timeseries.tsv"
    kinds = {
        "nan": {"confound": of_column(column, put(7, np.nan))},
        "shape": {
            "a volume less": lambda table: table.iloc[1:],
            "no motion": lambda table: table.drop(columns=column),
        },
    }
    yield from cases("bids", table, edit_table, kinds)

    def exchange(path):
        other = path.with_name(path.name.replace("run-1", "run-2"))
        run_bytes, other_bytes = path.read_bytes(), other.read_bytes()
        path.write_bytes(other_bytes)
        other.write_bytes(run_bytes)

    def copy_as(path, name):
        shutil.copy(path, path.with_name(path.name.replace("_bold", name)))

    for kind, label, file, change, *more in (
        ("runs", "events exchanged", f"{SCAN}_events.tsv", exchange),
        ("runs", "no events", f"{SCAN}_events.tsv", Path.unlink),
        ("runs", "a run twice", f"{SCAN}_bold.nii.gz", copy_as, "_acq-2_bold"),
    ):
        yield Case("bids raw", kind, label, functools.partial(at, file, change, *more))


def table_cases():
    for name in ("table csv", "table tsv", "table parquet"):
        file = RELEASES[name].files[0]
        kinds = {
            "onsets": {"swapped": of_column("onset", swapped)},
            "nan": {
                "block of values": of_column("voxel 2", put(slice(3, 9), np.nan)),
                "dead feature": of_column("voxel 2", np.ones_like),
            },
            "words": {"empty": of_column("word", put(7, ""))},
            "durations": {"negative": of_column("duration", put(7, -0.5))},
            "shape": {
                "a row less": without_table_row,
                "no words": lambda table: table.drop(columns="word"),
                "text among numbers": of_column(
                    "voxel 2", lambda column: put(7, "x")(column.astype(str))
                ),
            },
        }
        yield from cases(name, file, edit_table, kinds)
        kinds = {
            "runs": {
                "alternate": of_column("run", put(slice(None, None, 2), 2)),
                "alternate on one clock": alternate_on_one_clock,
            },
            "words": {"row twice": lambda table: table.iloc[[*range(8), *range(7, len(table))]]},
        }
        yield from cases(name, "*", edit_table, kinds)
    kinds = {
        "shape": {
            "a row less": {"values": without_row},
            "transposed": {"values": transposed},
            "a name less": {"feature_names": lambda names: names[:-1]},
            "no values": {"values": None},
        },
        "nan": {"block of values": {"values": nan_block}, "onset": {"onsets": put(7, np.nan)}},
        "onsets": {"swapped": {"onsets": swapped}},
        "runs": {"a huge label": {"run": lambda run: put(59, 1e300)(run.astype(float))}},
        "words": {"empty": {"words": put(7, "")}, "pickled": {"words": as_objects}},
        "durations": {"negative": {"durations": put(7, -0.5)}},
    }
    yield from cases("table npz", "P01.npz", edit_npz, kinds)
    kinds = {
        "shape": {
            "a row less": {"values": without_row},
            "no values": {"values": None},
            "a flag less": {"valid": without_row},
        },
        "nan": {"block of values": {"values": nan_block}},
        "onsets": {"swapped": {"onsets": swapped}},
        "words": {"header pickled": {"header": as_objects}},
    }
    for name in ("table saved", "kernels"):
        yield from cases(name, "P01.npz", edit_npz, kinds)

    def nan_in_place(path):
        data = path.read_bytes()
        place = data.index(features(1)[:, 2].tobytes())  # values are stored column after column
        patch(path, place, "<6f", *[np.nan] * 6)

    damage = functools.partial(at, "P01.npz", nan_in_place)
    yield Case("table saved", "nan", "block in place", damage)


def epochs_cases():
    kinds = {
        "shape": {
            "a row less": {"responses": without_row},
            "transposed": {"responses": transposed},
            "a time less": {"times": without_row},
            "no times": {"times": None},
        },
        "nan": {"block": {"responses": nan_block}, "onset": {"onsets": put(7, np.nan)}},
        "onsets": {"swapped": {"onsets": swapped}, "times swapped": {"times": swapped}},
        "words": {"empty": {"words": put(7, "")}, "pickled": {"words": as_objects}},
        "durations": {"negative": {"durations": put(7, -0.5)}},
    }
    yield from cases("epochs npz", "P01.npz", edit_npz, kinds)
    kinds = {
        "shape": {
            "a row less": without_table_row,
            "no times": lambda table: table.drop(columns="time"),
        },
        "nan": {"block": of_column("MEG2", put(slice(3, 9), np.nan))},
        "onsets": {
            "swapped": lambda table: table.assign(
                onset=np.repeat(swapped(table["onset"].to_numpy()[::10]), 10)
            ),
            "times swapped": of_column("time", swapped),
        },
        "words": {"empty": of_column("word", put(70, ""))},
    }
    yield from cases("epochs parquet", "P01.parquet", edit_table, kinds)


def alternate_on_one_clock(table):
    place = np.arange(len(table))
    return table.assign(onset=0.5 * place, run=1 + place % 2)


def without_table_row(table):
    return table.drop(index=7)


def elsewhere_cases():
    """Files that name other files, and files that declare what memory cannot hold."""

    def replaced(path, old, new, count=-1):
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, count))

    def external(path, name):
        with h5py.File(path, "r+") as file:
            shape, attributes = file[name].shape, dict(file[name].attrs)
            del file[name]
            secret = [(str(path.with_name("secret")), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, shape, "f8", external=secret).attrs.update(attributes)
        path.with_name("secret").write_bytes(bytes(8 * int(np.prod(shape))))

    def as_hdf5(path):
        with h5py.File(path.with_name("other.h5"), "w") as file:
            file["image"] = np.ones(8)
        path.with_name("other.h5").replace(path)

    def declared(path, name, header):
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        members[name] = header
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)

    def empties(path):
        path.write_bytes(vast)

    header = (
        b"{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,), }".ljust(117) + b"\n"
    )
    vast = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    surface = f"{RUN}_hemi-L_bold.func.gii"
    external_name = (b"GZipBase64Binary", b"ExternalFileBinary")
    packed = base64.b64encode(zlib.compress(bytes(2**22)))
    first = re.compile(rb"<Data>[^<]*")

    def bomb(path):
        path.write_bytes(first.sub(b"<Data>" + packed, path.read_bytes(), count=1))

    for name, kind, label, file, change, *more in (
        ("gifti", "elsewhere", "arrays", surface, replaced, *external_name),
        ("gifti", "bomb", "an array", surface, bomb),
        ("gifti", "bomb", "axes", surface, replaced, b'ality="1"', b'ality="1000000000"'),
        ("nifti gz", "elsewhere", "mask in HDF5", "mask.nii.gz", as_hdf5),
        ("potter 7.3", "elsewhere", "data", MAT[0], external, "data"),
        ("stories 7.3", "elsewhere", "times", MAT[0], external, "time"),
        ("pereira 7.3", "elsewhere", "labels", "M02/*.mat", external, "labelsSentences"),
        ("pereira180", "bomb", "words of no bytes", "pereira180.npz", declared, "words.npy", vast),
        ("potter npy", "bomb", "words of no bytes", "words_fmri.npy", empties),
        ("nifti gz", "bomb", "extension", f"{RUN}_bold.nii.gz", patch, 108, "<f", 2.0**30),
        ("nifti gz", "onsets", "header: no unit", f"{RUN}_bold.nii.gz", no_unit),
    ):
        yield Case(name, kind, label, functools.partial(at, file, change, *more))

    def sidecar(text):
        return lambda lines: [text]

    kinds = {
        "bomb": {"nested sidecar": sidecar("[" * 100_000)},
        "onsets": {"corrected, in words": sidecar('{"SliceTimingCorrected": "yes"}')},
    }
    yield from cases("bids raw", "task-story_bold.json", edit_lines, kinds)


def no_unit(path):
    """The header of an image that nibabel made of an array: a step of 1, no unit."""
    patch(path, 92, "<f", 1.0)
    patch(path, 123, "<B", 2)


def kriegeskorte_cases():
    def of(field, change):
        """A change of a field of the first person's second session."""

        def changed(structs):
            structs[0, 0, 1][field] = change(structs[0, 0, 1][field])
            return structs

        return {"RDMs": changed}

    kinds = {
        "shape": {
            "a session less": {"RDMs": lambda structs: structs[..., :1]},
            "an image less": of("RDM", lambda rdm: rdm[:-1, :-1]),
            "no data": {"RDMs": None},
        },
        "nan": {
            "a pair": of("RDM", put((3, 4), np.nan)),
            "all": of("RDM", lambda rdm: rdm * np.nan),
        },
        "words": {"people swapped": {"RDMs": lambda structs: structs[:, ::-1]}},
    }
    yield from cases("kriegeskorte", "92_brainRDMs.mat", edit_mat, kinds)


def mne_cases():
    """Of files that MNE-Python reads, where it is installed."""
    if "mne raw" not in RELEASES:
        return
    empty = {"words": {"empty": of_column("word", put(7, ""))}}
    less = {"shape": {"a row less": without_table_row}}
    yield from cases("mne epochs", "words.tsv", edit_table, empty | less)
    onsets = {
        "onsets": {
            "swapped": of_column("onset", swapped),
            "late": of_column("onset", put(-1, 1e3)),
        },
        "nan": {"onset": of_column("onset", put(7, np.nan))},
    }
    yield from cases("mne raw", "words.tsv", edit_table, empty | onsets)
    triggers = {
        "onsets": {
            "end before start": of_column("onset", lambda times: times[::-1]),
            "before the recording": of_column("onset", put(0, -5.0)),
        },
        "nan": {"onset": of_column("onset", put(0, np.nan))},
        "runs": {"two starts": of_column("trial_type", put(1, "Beg"))},
        "shape": {"no end": lambda table: table[:1]},
    }
    yield from cases("smn4lang meg", SMN_TRIGGERS, edit_table, triggers)


CASES = [
    *in_bytes(),
    *elsewhere_cases(),
    *potter_cases(),
    *potter_numpy_cases(),
    *stories_cases(),
    *pereira_cases(),
    *kriegeskorte_cases(),
    *alice_cases(),
    *image_cases(),
    *corpus_cases(),
    *bids_cases(),
    *archive_cases(),
    *table_cases(),
    *epochs_cases(),
    *mne_cases(),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """name -> folder of a sound release and what its reader makes of it; made when first asked for."""

    @functools.cache
    def made(name):
        release = RELEASES[name]
        folder = tmp_path_factory.mktemp("sound") / "data"
        release.write(folder)
        return folder, corruption.read(release.reader, folder, release.options, release.inner)

    return made


@pytest.mark.parametrize("name", RELEASES)
def test_sound_files_give_the_planted_words(sound, name):
    folder, outcome = sound(name)
    assert outcome.error is None and not outcome.others, outcome
    assert set(outcome.words) == {RELEASES[name].words} and len(outcome.shapes) == 2
    assert corruption.complaint(outcome, outcome, folder, silent=True) == ""
    assert corruption.complaint(outcome, outcome, folder, silent=False) != ""


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.release}-{case.kind}-{case.label}") for case in CASES]
)
def test_corruption_is_seen_or_harmless(sound, tmp_path, case, record_property):
    release, (origin, before) = RELEASES[case.release], sound(case.release)
    folder = tmp_path / "data"
    shutil.copytree(origin, folder)
    case.damage(folder)
    outcome = corruption.read(release.reader, folder, release.options, release.inner)
    record_property("outcome", corruption.verdict(outcome, before))
    assert corruption.complaint(outcome, before, folder, silent=case.silent) == ""


# Releases whose values have a checksum, and how many bytes of the others precede bare values.
CHECKED = ("potter", "pereira", "pereira180", "nifti gz", "bids raw")
BARE = {"potter npy": 128, "nifti": 352}


@pytest.mark.parametrize("name", [*CHECKED, *BARE])
def test_values_after_a_flip_are_those_that_were_written(sound, tmp_path, name):
    """What has a checksum is equal to the bit or refused; a bare value is one column of responses."""
    release, (origin, before) = RELEASES[name], sound(name)
    files = release.files[:1]
    for number in range(4):
        folder = tmp_path / str(number)
        shutil.copytree(origin, folder)
        at(files[0], flip, f"{name} value {number}", folder, first=BARE.get(name, 0))
        outcome = corruption.read(release.reader, folder, release.options, release.inner)
        assert corruption.complaint(outcome, before, folder, silent=True) == ""
        if corruption.verdict(outcome, before) == "unseen":
            assert 0 <= corruption.changed_columns(outcome, before) <= (name in BARE), number


def test_a_changed_value_is_seen_by_the_check(sound):
    """The check itself: a value, a word and a shape that differ."""
    _, before = sound("pereira180")
    values = {name: subject_values.copy() for name, subject_values in before.values.items()}
    values["M02"][3, 4] += 1e-6
    assert corruption.changed_columns(before, before) == 0
    assert corruption.changed_columns(before._replace(values=values), before) == 1
    assert corruption.changed_columns(before._replace(text=()), before) == -1


def test_all_readers_meet_all_kinds_of_corruption():
    assert len({(case.release, case.kind, case.label) for case in CASES}) == len(CASES) >= 200
    met = collections.defaultdict(set)
    for case in CASES:
        met[RELEASES[case.release].reader].add(case.kind)
    without = set() if "mne raw" in RELEASES else {"mne", "smn4lang_meg"}
    assert set(met) == set(list_datasets()) - without
    everywhere = {"truncated", "bit-flipped", "shape", "nan", "words"}
    timed = {"onsets", "runs", "durations"}
    for kinds in met.values():
        assert everywhere <= kinds
    assert timed <= set.union(*met.values())


def test_files_that_mne_reads_are_among_them():
    pytest.importorskip("mne", reason="needs MNE-Python: pip install 'brainalign_jax[mne]'")
    assert {"mne epochs", "mne raw", "smn4lang meg"} <= set(RELEASES)
