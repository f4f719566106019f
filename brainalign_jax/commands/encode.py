"""`brainalign encode`: what a model predicts of every voxel's time course beyond what words look like."""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import VoxelEncoding

_PLAN = options_of(VoxelEncoding, align.PROTOCOL)
ENCODE_OPTIONS = (
    *align.RECORDINGS,
    Option(
        "atlas",
        "path",
        None,
        "Image of region numbers on the grid of the recordings, 0 outside. If not given, regions that the "
        "reader made are regions, and all voxels are one.",
        align.DATA,
    ),
    Option(
        "labels",
        "path",
        None,
        "Names of the atlas's regions: .tsv or .csv with columns index and name, or lines of both.",
        align.DATA,
    ),
    Option(
        "surface",
        "list",
        (),
        "What maps are drawn on, too: fsaverage5 (nilearn's, for volumes in MNI space or recordings on it) "
        "or two GIFTI surfaces in the recordings' space, LEFT,RIGHT.",
        align.DATA,
    ),
    align.OUTPUT_DIR,
    align.MODELS,
    Option(
        "spaces",
        "list",
        (),
        "One to three feature spaces beside each model, between which the variance is divided by banded "
        "ridge: features of words as rate or rate+length, and surprisal:MODEL (no nuisances then), "
        "volumes:FILE (a table with a row a volume), or a model, with #6 for its layer 6.",
        align.MODEL,
    ),
    *_PLAN,
    *picked(align.OPTIONS, "max_memory_gb"),
    *align.VECTOR_CACHE,
    align.PROGRESS,
)


def _encode(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.encoding import run_encoding

    with misuse():
        plan = filled(VoxelEncoding, _PLAN, values)
    memory = values["max_memory_gb"]
    passed = ("spaces", "atlas", "labels", "surface", "cache_dir", "progress")
    table = run_encoding(
        align.open_data(values),
        values["models"],
        values["output_dir"],
        plan=plan,
        max_memory=None if memory is None else int(memory * 2**30),
        command=text,
        **{name: values[name] for name in passed},
    )
    say_finished(table.verdict(), values["output_dir"])


ENCODE = Command(
    "encode",
    "what a model predicts of every voxel beyond word rate and the like: maps, regions, a verdict",
    (
        "encode --dataset=nifti --data_dir=my_scans --models=gpt2 --output_dir=out/encode",
        "encode --dataset=little_prince --data_dir=data/little_prince --reader_options=language=en "
        "--models=gpt2 --atlas=atlas.nii.gz --labels=atlas.tsv --n_shifts=50 --output_dir=out/encode",
    ),
    ENCODE_OPTIONS,
    _encode,
    align.VECTORS_KEPT,
)
