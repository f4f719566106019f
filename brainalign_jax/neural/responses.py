"""One subject's response to every word of a stimulus: the table, its file, and its checks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from brainalign_jax.neural.fields import (
    as_columns,
    check_space,
    check_values,
    checked_meta,
    checked_valid,
    column_blocks,
)
from brainalign_jax.neural.formats.arrays import centred, float32_holds, offsets_cost_digits
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.store import ResponseWriter, read_responses, unreadable
from brainalign_jax.neural.voxels import check_voxels
from brainalign_jax.stimulus import Stimulus


@dataclass(frozen=True, eq=False)
class WordResponses:
    """One subject's word responses.

    subject: the subject's name.
    values: [N, V] float32, one row a word of `stimulus`, one column a voxel, region or component;
        in memory, or a map of the file they were loaded from. Where float32 could not hold the
        offset of a column of what is given, all columns are centred over the valid words first.
    stimulus: the N words.
    valid: [N] bool, False where the recording does not cover the word; its row is then zero.
        None means that all rows are valid.
    meta: JSON-serialisable facts about the data (data set, kernel, TR, feature names, ...).
    space: what the V columns are in the source images, or None where there are no images.

    Raises ValueError for another number of rows than words, non-finite values, valid=False on a
    row that is not zero, or meta that JSON cannot hold. The arrays become read-only views.

    >>> import brainalign_jax as ba
    >>> words = ba.Stimulus.from_words(["sun", "moon"])
    >>> responses = ba.WordResponses("S1", [[0.1, 0.7, 0.3], [0.4, 0.2, 0.6]], words)
    >>> path = responses.save("S1.npz")
    >>> ba.WordResponses.load(path).select_columns([0, 2]).values.shape
    (2, 2)
    """

    subject: str
    values: Float[np.ndarray, "N V"]
    stimulus: Stimulus
    valid: Bool[np.ndarray, " N"] | None = None
    meta: dict = field(default_factory=dict)
    space: VoxelSpace | None = None

    def __post_init__(self) -> None:
        self._settle(contents=True)

    def __repr__(self) -> str:
        """One line: whose they are, and their sizes."""
        sizes = "{} words x {} columns".format(*self.values.shape)
        return f"WordResponses({self.subject!r}, {sizes}, {self.values.dtype}, {self.valid.sum()} valid)"

    def _settle(self, *, contents: bool) -> None:
        """Check the fields and make them what they are declared to be.

        contents: also look through all values, which a large file is too slow for.
        """
        subject, n, values = str(self.subject), len(self.stimulus), self.values
        if not isinstance(values, np.memmap):
            values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] == 0 or values.dtype.kind not in "fiu":
            raise ValueError(
                f"subject {subject}: values have shape {values.shape} and dtype {values.dtype}; "
                "give a numeric matrix [words, voxels] with at least one voxel"
            )
        if len(values) != n:
            raise ValueError(
                f"subject {subject}: {len(values)} response rows for {n} words; "
                "give one row a word, in the order of stimulus.words"
            )
        valid = checked_valid(self.valid, n, subject)
        if not float32_holds(values.dtype) and offsets_cost_digits(values[valid]):
            covered = centred(values[valid])
            values = values.astype(np.float64)  # a copy
            values[valid] = covered
        with np.errstate(over="ignore"):  # the overflow is reported below, with its place
            values = values.astype(np.float32, copy=False)
        check_space(self.space, values.shape[1], subject)
        if contents:
            check_values(values, valid, self.stimulus.words, subject=subject)
        self._set(
            subject=subject,
            values=_read_only(values),
            valid=_read_only(valid),
            meta=checked_meta(self.meta, subject),
        )

    def _set(self, **fields) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, *, contents: bool, **fields) -> WordResponses:
        """As the constructor, but without looking through values that are known to be good."""
        responses = object.__new__(cls)
        responses._set(**fields)
        responses._settle(contents=contents)
        return responses

    def select_columns(self, columns: np.ndarray | Sequence[int]) -> WordResponses:
        """The responses of some columns, with their space and meta["feature_names"].

        columns: a boolean mask [V], or indices in any order, each once; a negative one counts from
        the end. Neighbours in ascending order stay a view of the values, or a map of their file.
        Raises ValueError for indices outside, given twice, or none at all.
        """
        total = self.values.shape[1]
        index = np.asarray(columns)
        if index.ndim != 1 or index.dtype.kind not in "biu" or not index.size:
            raise ValueError(
                f"columns has shape {index.shape} and dtype {index.dtype}; give a boolean mask "
                "or one or more integer indices"
            )
        if index.dtype == bool:
            if len(index) != total or not index.any():
                raise ValueError(
                    f"the mask has {len(index)} entries, {int(index.sum())} of them True, for {total} "
                    "columns; give one a column and select at least one"
                )
            index = np.flatnonzero(index)
        index = index.astype(np.int64)
        outside = (index < -total) | (index >= total)
        if outside.any():
            raise ValueError(
                f"column {int(index[np.argmax(outside)])} is outside the {total} columns"
            )
        index = index % total
        if len(np.unique(index)) < len(index):
            raise ValueError("a column is selected twice; give each once")
        if (np.diff(index) == 1).all():
            values = self.values[:, index[0] : index[-1] + 1]
        elif self.values.flags.f_contiguous:
            values = self.values.T[index].T  # whole columns, which lie together
        else:
            values = self.values[:, index]
        meta, names = dict(self.meta), self.meta.get("feature_names")
        if isinstance(names, list) and len(names) == total:
            meta["feature_names"] = [names[column] for column in index]
        return self._made(
            contents=False,
            subject=self.subject,
            values=values,
            stimulus=self.stimulus,
            valid=self.valid,
            meta=meta,
            space=None if self.space is None else self.space.select(index),
        )

    def with_attributes(self, **arrays) -> WordResponses:
        """The responses with these arrays as attributes of their words, see `Stimulus.with_attributes`."""
        return self._of_words(self.stimulus.with_attributes(**arrays))

    def with_language(self, language: str | None) -> WordResponses:
        """The responses to words of this language, see `Stimulus`."""
        return self._of_words(replace(self.stimulus, language=language))

    def _of_words(self, stimulus: Stimulus) -> WordResponses:
        names = ("subject", "values", "valid", "meta", "space")
        fields = {name: getattr(self, name) for name in names}
        return self._made(contents=False, stimulus=stimulus, **fields)

    def to_image(self, scores: np.ndarray, *, fill: float = 0.0) -> Any:
        """Scores of the columns as an image of the source, see `VoxelSpace.to_image`.

        scores: [V], or [K, V] for K maps. Places without a column hold `fill`.
        Raises ValueError for another number of scores, or where no space is known.
        """
        if self.space is None:
            raise ValueError(
                f"subject {self.subject}: it is not known where the columns lie in an image; read "
                "the recording with a reader that keeps a space, or pass space= to WordResponses"
            )
        return self.space.to_image(scores, fill=fill)

    def save(self, path: str | os.PathLike) -> Path:
        """Write one `.npz` without pickles; the file appears whole or not at all. Returns its path.

        Works in blocks of columns, without a copy of the values. A file that is there is replaced.
        Raises FileNotFoundError where the folder does not exist.
        """
        with ResponseWriter(
            path,
            subject=self.subject,
            stimulus=self.stimulus,
            valid=self.valid,
            n_columns=self.values.shape[1],
            meta=self.meta,
            space=self.space,
        ) as writer:
            for _, block in column_blocks(self.values):
                writer.write(block)
        return writer.path

    @classmethod
    def load(cls, path: str | os.PathLike, *, verify: bool = False) -> WordResponses:
        """Read what `save` or a `ResponseWriter` wrote; the values stay in the file.

        `values` is a read-only map of the file, which needs no memory of its own: leave the file
        as it is while they are in use. The values were checked when they were written. verify:
        look through all of them, and compare the checksums of the file, which takes as long as
        reading it. Files of version 1 are read into memory and checked.
        Raises FileNotFoundError, or ValueError naming the file for any other content.
        """
        stored = read_responses(path, verify=verify)._asdict()
        checked = stored.pop("checked")
        try:
            return cls._made(contents=verify or not checked, **stored)
        except ValueError as error:
            raise unreadable(path, error) from error

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields but the words' attributes, which no score depends on.

        Equal for equal responses, on every machine. Reads all values once, in blocks of columns;
        their order in memory does not count.
        """
        digest = hashlib.sha256(b"brainalign_jax.WordResponses.2")
        words = self.stimulus.fingerprint(attributes=False)
        header = [self.subject, self.meta, list(self.values.shape), words]
        if self.space is not None:
            header.append(self.space.fingerprint())
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.valid).tobytes())
        for _, block in column_blocks(self.values):
            # Adding zero turns -0.0 into 0.0.
            digest.update((as_columns(block) + np.float32(0)).reshape(-1))
        return digest.hexdigest()


def intersubject_correlation(responses: np.ndarray) -> np.ndarray:
    """Correlation of each subject with the mean of the others, voxel by voxel (leave one out).

    responses: [S, N, V], S >= 2 subjects with the same N rows and V columns. Every subject's column
    is z-scored over the rows first, so that no subject's amplitude dominates the mean.
    Returns [S, V] float64; the mean over the first axis is the usual summary.
    Raises ValueError for fewer than two subjects or rows, non-finite values or constant columns.
    Reference: Hasson et al. 2004, Science 303:1634.
    """
    x = np.asarray(responses, np.float64)
    if x.ndim != 3 or x.shape[0] < 2 or x.shape[1] < 2:
        raise ValueError(
            f"responses have shape {x.shape}; give [subjects, rows, voxels] with at least two "
            "subjects and two rows"
        )
    for index, subject in enumerate(x):
        check_voxels(subject, subject=f"number {index}", what="intersubject correlation")
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    others = (z.sum(axis=0) - z) / (len(z) - 1)
    others -= others.mean(axis=1, keepdims=True)
    norm = np.sqrt((others**2).mean(axis=1))
    return (z * others).mean(axis=1) / np.where(norm > 0, norm, np.inf)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
