"""The sentences of two experiments of Pereira et al. 2018 as one data set, of the people who have both."""

from __future__ import annotations

import numpy as np

from brainalign_jax.neural.readers.registry import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus


def joined(first: Dataset, second: Dataset) -> Dataset:
    """The items of two experiments one after the other; a passage of one is none of the other.

    Voxels must be the same in both files of a person, which says so when it is loaded.

    Raises: ValueError where nobody took part in both.
    """
    subjects = tuple(name for name in first.subjects if name in second.subjects)
    if not subjects:
        raise ValueError(
            f"nobody has both {first.meta['experiment']} and {second.meta['experiment']}: read one of them"
        )
    stimulus = _joined_items(first.stimulus, second.stimulus)
    meta = {
        **first.meta,
        "experiment": f"{first.meta['experiment']} and {second.meta['experiment']}",
        "left_out": {**first.meta["left_out"], **second.meta["left_out"]},
        "passages": stimulus.run.tolist(),
    }
    meta.pop("categories", None)

    def load(subject: str) -> WordResponses:
        both = [dataset.load(subject) for dataset in (first, second)]
        if not both[0].space.same_as(both[1].space):
            sizes = " and ".join(str(responses.values.shape[1]) for responses in both)
            raise ValueError(
                f"{subject} has other voxels in {first.meta['experiment']} than in "
                f"{second.meta['experiment']} ({sizes}): read one experiment, or a roi without bad voxels"
            )
        values = np.concatenate([np.asarray(responses.values) for responses in both])
        return WordResponses(subject, values, stimulus, None, meta, both[0].space)

    return Dataset(first.name, subjects, stimulus, load, meta)


def _joined_items(first: Stimulus, second: Stimulus) -> Stimulus:
    """The items of both; runs and passages of the second are numbered after those of the first."""
    after = int(first.run.max())
    attributes = {}
    for name in first.attributes:
        if name in second.attributes:
            left, right = first.attribute(name), second.attribute(name)
            attributes[name] = np.concatenate([left, right + after if name == "passage" else right])
    return Stimulus(
        (*first.words, *second.words),
        sentence=np.arange(len(first) + len(second)),
        run=np.concatenate([first.run, second.run + after]),
        attributes=attributes,
    )
