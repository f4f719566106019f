"""Data sets: one file a data set or format, each with one `@register`ed function."""

from brainalign_jax.neural.readers.registry import (
    Dataset,
    choose_subjects,
    find_folder,
    list_datasets,
    open_dataset,
    reader_of,
    reader_options,
    register,
)

__all__ = [
    "Dataset",
    "choose_subjects",
    "find_folder",
    "list_datasets",
    "open_dataset",
    "reader_of",
    "reader_options",
    "register",
]
