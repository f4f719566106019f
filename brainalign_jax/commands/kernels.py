"""`brainalign kernels export`: what a study needs of recordings that may not be shared."""

from typing import Any

from brainalign_jax.commands.align import (
    ATTRIBUTES,
    DATA_DIR,
    DATASET,
    LANGUAGE,
    READER_OPTIONS,
    SUBJECTS,
    open_data,
)
from brainalign_jax.commands.command import Command, shown_path
from brainalign_jax.options import Option

_ACTION = Option(
    "action",
    "choice",
    None,
    "export: inner products of each person's word responses, a file a person.",
    "data",
    choices=("export",),
    required=True,
    positional=True,
)
_OUTPUT = Option("output_dir", "path", None, "Folder of the kernels.", "data", required=True)


def _kernels(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.neural.readers.kernels import export_kernels

    dataset = open_data(values)
    paths = export_kernels(dataset, values["output_dir"])
    size = sum(path.stat().st_size for path in paths) / 1e6
    print(
        f"{len(paths)} people, {len(dataset.stimulus)} words, {size:.1f} MB in "
        f"{shown_path(values['output_dir'])}. What kernels still reveal: docs/datasets.md."
    )


KERNELS = Command(
    "kernels",
    "inner products of word responses in place of recordings that may not be shared",
    (
        "kernels export --dataset=bids --data_dir=DIR --output_dir=kernels",
        "kernels export --dataset=alice --data_dir=data/alice --subjects=s18 --output_dir=kernels",
    ),
    (
        _ACTION,
        DATASET,
        DATA_DIR,
        SUBJECTS,
        READER_OPTIONS,
        ATTRIBUTES,
        LANGUAGE,
        _OUTPUT,
    ),
    _kernels,
)
