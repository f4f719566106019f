"""The file of a `WordResponses`: written in blocks of columns, read by mapping it into memory.

One `.npz` without compression or pickles, which plain `np.load` reads too. Its members: `header` (JSON as
bytes: format, version, subject, words, meta, and language where it is known), `valid`, the arrays of the
stimulus, its attributes as `attribute.NAME`, the arrays of the space as `space.NAME`, and `values` [N, V]
float32, last, column after column (Fortran order) and at a multiple of 64 bytes. So a recording is streamed
to the file voxel by voxel, and read from it lazily.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from brainalign_jax.files import new_file, user_path
from brainalign_jax.neural.fields import (
    FLOAT,
    as_columns,
    check_space,
    check_values,
    checked_meta,
    checked_valid,
)
from brainalign_jax.neural.formats.arrays import ARRAY_DAMAGE, check_float32, read_member
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus

FORMAT = "brainalign_jax.WordResponses"
VERSION = 2  # 1: written by np.savez in C order, without a space
_STIMULUS = ("onsets", "durations", "sentence", "run")
_SPACE = "space."
_ATTRIBUTE = "attribute."
_ALIGNMENT = 64
_ALIGNMENT_FIELD = 0xD935  # zipalign's extra field of a zip member
_HEADER_BYTES = (
    50  # of a member that may exceed 4 GB, in front of its content, beside its name and padding
)


class ResponseWriter:
    """Stream word responses to `path`, which appears whole or not at all.

        with ResponseWriter(path, subject="1", stimulus=stimulus, valid=None, n_columns=V, meta={}) as writer:
            for block in blocks:    # [N, v], consecutive columns
                writer.write(block)

    subject, stimulus, valid, meta, space: as for `WordResponses`; n_columns: V. A file that is there
    is replaced when the with-block ends normally; after an exception it is as it was, and nothing
    else is left. Needs memory for about one block.
    Raises FileNotFoundError without the folder; ValueError for fields that disagree, for too few or
    too many columns, and where `write` says so.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        subject: str,
        stimulus: Stimulus,
        valid: np.ndarray | None = None,
        n_columns: int,
        meta: dict | None = None,
        space: VoxelSpace | None = None,
    ):
        self.path = user_path(path, "path", "a file")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"the folder {self.path.parent} does not exist; create it first"
            )
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a folder; give the name of a file")
        self._subject, n = str(subject), len(stimulus)
        if n_columns < 1:
            raise ValueError(f"subject {subject}: {n_columns} columns; give at least one")
        self._shape = (n, int(n_columns))
        self._valid = checked_valid(valid, n, self._subject)
        check_space(space, self._shape[1], self._subject)
        header = {
            "format": FORMAT,
            "version": VERSION,
            "subject": self._subject,
            "words": list(stimulus.words),
            "meta": checked_meta(meta or {}, self._subject),
        }
        header |= {"language": stimulus.language} if stimulus.language else {}
        # JSON as bytes: NumPy's unicode arrays would drop trailing NULs and take four times as much.
        self._arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        self._arrays["valid"] = self._valid
        for name in _STIMULUS:
            if (value := getattr(stimulus, name)) is not None:
                self._arrays[name] = value
        self._arrays |= {_ATTRIBUTE + name: value for name, value in stimulus.attributes.items()}
        if space is not None:
            self._arrays |= {_SPACE + name: value for name, value in space.to_arrays().items()}
        self._words = stimulus.words
        self._written = 0
        self._member: Any = None

    def __enter__(self) -> ResponseWriter:
        if self._written or self._member is not None:
            raise ValueError(f"{self.path}: a ResponseWriter is used once; make another one")
        with ExitStack() as stack:
            file = stack.enter_context(new_file(self.path))
            archive = stack.enter_context(zipfile.ZipFile(file, "w"))
            for name, array in self._arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            info = zipfile.ZipInfo("values.npy")
            info.extra = _padding(file.tell() + _HEADER_BYTES + len(info.filename))
            self._member = stack.enter_context(archive.open(info, "w", force_zip64=True))
            layout = {"descr": FLOAT.str, "fortran_order": True, "shape": self._shape}
            np.lib.format.write_array_header_1_0(self._member, layout)
            self._closing = stack.pop_all()
        return self

    def write(self, block: np.ndarray) -> None:
        """Append consecutive columns [N, v], stored as float32.

        Raises ValueError for another number of rows, more columns than announced, NaN, infinite
        values (naming the column), or a response of a word that is not valid (naming the row).
        """
        if self._member is None:
            raise ValueError(
                f"{self.path}: write() works inside the with-block of a ResponseWriter"
            )
        block, first = np.asarray(block), self._written
        if block.ndim != 2 or len(block) != self._shape[0] or block.dtype.kind not in "fiu":
            raise ValueError(
                f"subject {self._subject}: a block has shape {block.shape} and dtype {block.dtype}; "
                f"give numbers [{self._shape[0]}, voxels], one row a word"
            )
        if first + block.shape[1] > self._shape[1]:
            raise ValueError(
                f"subject {self._subject}: {first + block.shape[1]} columns were written of the "
                f"{self._shape[1]} that n_columns announced; give their number beforehand"
            )
        check_float32(block, self._subject, first=first)
        columns = as_columns(block)
        check_values(columns.T, self._valid, self._words, subject=self._subject, first=first)
        self._member.write(columns.reshape(-1).view(np.uint8))
        self._written += block.shape[1]

    def __exit__(self, kind, *exception) -> None:
        self._member = None
        if kind is not None or self._written == self._shape[1]:
            self._closing.__exit__(kind, *exception)
            return
        with self._closing:
            raise ValueError(
                f"subject {self._subject}: {self._written} of {self._shape[1]} columns were "
                f"written; {self.path} is not made: write all of them"
            )


class StoredResponses(NamedTuple):
    """The fields of `WordResponses` as they were stored; checked: whether the values are known good."""

    subject: str
    values: np.ndarray
    stimulus: Stimulus
    valid: np.ndarray
    meta: dict
    space: VoxelSpace | None
    checked: bool


def read_responses(path: str | os.PathLike, *, verify: bool = False) -> StoredResponses:
    """Read the file of a `WordResponses`; `values` is a read-only map of the file.

    Files of version 1, and those that another program packed, are read into memory. The checksums of
    all members but a mapped `values` are checked, with `verify` also its own. Nothing is unpickled.
    Raises FileNotFoundError, or ValueError naming the file for any other content.
    """
    path = user_path(path, "path", "a file")
    if not path.is_file():
        raise FileNotFoundError(f"no word responses at {path}; write them with save()")
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(file, archive, verify)
        except ARRAY_DAMAGE as error:
            raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike, error: BaseException) -> ValueError:
    """What to raise for a file that does not hold word responses."""
    return ValueError(
        f"{path} is not a readable word-response file of version {VERSION} (it is truncated, pickled "
        f"or of another format): {str(error) or type(error).__name__}; delete it and write it again "
        "with WordResponses.save"
    )


def _read(file: BinaryIO, archive: zipfile.ZipFile, verify: bool) -> StoredResponses:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if "header" not in members or "values" not in members:
        raise ValueError("it has no header or no values")
    header = json.loads(read_member(archive, members["header"]).tobytes())
    if header["format"] != FORMAT or header["version"] not in (1, VERSION):
        raise ValueError(
            f"format {header['format']!r} version {header['version']!r}, which this version of "
            "brainalign_jax does not know"
        )
    # A member whose name is damaged would else count as one that was never there.
    known = {"header", "values", "valid", *_STIMULUS}
    unknown = [
        name for name in members if name not in known and not name.startswith((_SPACE, _ATTRIBUTE))
    ]
    if unknown:
        raise ValueError(f"it holds {unknown[0]!r}, which is no part of word responses")
    arrays = {
        name: read_member(archive, info)
        for name, info in members.items()
        if name not in ("header", "values")
    }
    values = _mapped(file, archive, members["values"]) if header["version"] == VERSION else None
    checked = values is not None
    if values is None:
        values = read_member(archive, members["values"])
    if verify and (damaged := archive.testzip()):
        raise ValueError(f"{damaged} does not have its checksum")
    place, attributes = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in (_SPACE, _ATTRIBUTE)
    )
    timing = {name: arrays.get(name) for name in _STIMULUS}
    words, language = tuple(header["words"]), header.get("language")
    stimulus = Stimulus(words, **timing, attributes=attributes, language=language)
    return StoredResponses(
        header["subject"],
        values,
        stimulus,
        arrays["valid"],
        header["meta"],
        VoxelSpace.from_arrays(place) if place else None,
        checked,
    )


def _mapped(file: BinaryIO, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.memmap | None:
    """The member mapped, read-only; None where it is not as `ResponseWriter` writes it."""
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(info):  # zipfile reads and checks the member's own header
        start = file.tell()
    if np.lib.format.read_magic(file) != (1, 0):
        return None
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    if dtype != FLOAT or not FLOAT.isnative or len(shape) != 2 or not fortran_order:
        return None
    if offset + shape[0] * shape[1] * FLOAT.itemsize != start + info.file_size:
        raise ValueError(f"{info.filename} has not the length of its shape {shape}")
    if offset % FLOAT.itemsize:
        return None
    return np.memmap(file, FLOAT, "r", offset, shape, order="F")


def _padding(offset: int) -> bytes:
    """An extra field that moves the content of a zip member from `offset` to a multiple of 64."""
    zeros = -(offset + 6) % _ALIGNMENT
    return struct.pack("<3H", _ALIGNMENT_FIELD, 2 + zeros, _ALIGNMENT) + bytes(zeros)
