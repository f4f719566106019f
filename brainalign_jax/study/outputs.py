"""The files that a study leaves in a folder: they take the place of an earlier study's as one.

They are written to a folder beside them, then moved. The manifest goes first and comes last: it names every
file by its SHA-256, so that a folder without one holds no finished study, and a file that is another's is
told from one that belongs.
"""

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from brainalign_jax.files import (
    Damaged,
    leftovers,
    locked,
    new_file,
    new_folder,
    output_folder,
    read_parquet,
    remove_leftovers,
    sync,
    user_path,
    write_parquet,
)

MANIFEST = "manifest.json"
# Of what is built of studies and has no manifest that can be loaded.
CONTENTS = "contents.json"
EXTRAS = (
    "evidence", "scaling", "intervals", "ranks", "nulls", "ceilings", "chance", "rsa",
    "similarity", "similarity_layers", "group_decoding",
)  # fmt: skip
_FIGURES = ("precision_by_layer", "precision_by_k", "precision_by_model_size", "rsa_by_layer")
# What versions whose manifests did not name files may have written.
_UNNAMED = (
    "results.parquet",
    "region_encoding.parquet",
    "report.html",
    *(f"{name}.parquet" for name in EXTRAS),
    *(f"figures/{name}.png" for name in _FIGURES),
)
_WORK, _REPLACED = "outputs", "replaced"


@contextlib.contextmanager
def new_outputs(folder: Path, pointer: str = MANIFEST) -> Iterator[Path]:
    """A folder to write a study's files to; at the end they replace those of an earlier study in `folder`.

    Files of the earlier study are removed, whether the new one has any of their names or not; what else is
    in the folder stays. After an error while they are written the earlier study is as it was. Where the
    process dies while they are moved there is no manifest, never one of another study.

    pointer: JSON that names the files, of which it gets "files"; made where it is not written.

    Raises: IsADirectoryError where a folder has the name of a file, before anything is replaced.
    """
    with new_folder(folder, _WORK) as new:
        yield new
        names = sorted(
            path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()
        )
        names = [name for name in names if name != pointer]
        content = _read(new / pointer)
        content["files"] = {name: sha256_of(new / name) for name in names}
        write_json(content, new / pointer)
        for path in [new, *(inside for inside in new.rglob("*") if inside.is_dir())]:
            sync(path)
        with locked(folder):
            try:
                _move(new, folder, names, pointer)
            except BaseException:
                if (new / _REPLACED).is_dir():  # the next study learns of it which files to remove
                    os.rename(new, new.with_name(new.name.replace(_WORK, f"{_WORK}-stopped", 1)))
                raise


def _move(new: Path, folder: Path, names: list[str], pointer: str) -> None:
    stopped = leftovers(folder, _WORK)
    earlier = set(_UNNAMED)
    for place in [folder, *(p for path in stopped for p in (path, path / _REPLACED))]:
        for listing in (MANIFEST, CONTENTS):
            earlier |= set(_names(_read(place / listing)))
    for name in (*names, pointer):
        if (folder / name).is_dir():
            raise IsADirectoryError(
                f"{folder / name} is a folder: a file of the study is to be there"
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (new / _REPLACED).mkdir()
    for listing in (MANIFEST, CONTENTS):
        if (folder / listing).is_file():
            os.replace(folder / listing, new / _REPLACED / listing)
    _sync_all(folder, names)
    for name in sorted(earlier | set(names)):
        if not (folder / name).is_dir():
            with contextlib.suppress(NotADirectoryError):
                (folder / name).unlink(missing_ok=True)
    _sync_all(folder, names)
    for name in names:
        os.replace(new / name, folder / name)
    _sync_all(folder, names)
    os.replace(new / pointer, folder / pointer)
    sync(folder)
    remove_leftovers(folder)
    for parent in {(folder / name).parent for name in earlier} - {folder}:
        remove_leftovers(parent)
        with contextlib.suppress(OSError):  # it is not empty, or not there
            parent.rmdir()


def _sync_all(folder: Path, names: list[str]) -> None:
    for parent in {(folder / name).parent for name in names} | {folder}:
        sync(parent)


def _read(path: Path) -> dict:
    """The content of a manifest; empty where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _names(content: dict) -> list[str]:
    """The files that a manifest names, none outside of its folder."""
    files = content.get("files")
    paths = [PurePosixPath(name) for name in files] if isinstance(files, dict) else []
    return [str(path) for path in paths if not path.is_absolute() and ".." not in path.parts]


def write_json(content: dict, path: Path) -> None:
    """Write JSON for people, whole or not at all."""
    text = json.dumps(content, indent=2, sort_keys=True, default=str)
    with new_file(path) as file:
        file.write(f"{text}\n".encode())


def read_manifest(folder: Path, what: str) -> tuple[dict, dict[str, str] | None]:
    """(manifest, SHA-256 of its files by name; None of an earlier version's, which named none).

    what: a folder holds, for the message.

    Raises: FileNotFoundError where there is none; ValueError where it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} holds no {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        files = content.pop("files", None)
        if files is not None and not isinstance(files, dict):
            raise ValueError("its files have no names")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): run the study again") from error
    return content, files


def rows_with(rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The rows of a table whose columns have these values.

    >>> import pandas as pd
    >>> rows_with(pd.DataFrame({"k": [1, 1, 5], "value": [0.1, 0.2, 0.4]}), k=1, value=0.2).index.tolist()
    [1]
    """
    chosen = np.ones(len(rows), bool)
    for name, value in columns.items():
        chosen &= (rows[name] == value).to_numpy(bool)
    return rows[chosen]


def output_and_cache(
    output_dir: str | Path | None, cache_dir: str | Path | None
) -> tuple[Path | None, Path | None]:
    """Where a study writes, and where it keeps finished work, its vectors below "embeddings".

    Without a cache_dir that is below output_dir.

    Raises: as `files.output_folder`.
    """
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    if cache_dir is None:
        return output, output and output / "cache"
    return output, output_folder(cache_dir, "cache_dir")


@dataclass(frozen=True)
class StudyTable:
    """The rows of what is built of studies, and the manifest of how they came about.

    file_name: of the rows in a folder; kind: what the folder then holds, for messages. A subclass has both.
    tables: its fields that are tables beside the rows, and their files; optional: those of them that a study
    may lack, which then keep their default, and whether a manifest says that they were asked for.
    """

    rows: pd.DataFrame
    manifest: dict
    file_name: ClassVar[str]
    kind: ClassVar[str]
    tables: ClassVar[Mapping[str, str]] = {}
    optional: ClassVar[Mapping[str, Callable[[dict], object]]] = {}

    def line(self, **wanted) -> pd.Series:
        """The one row whose columns have these values. Raises ValueError where none or several have."""
        rows = rows_with(self.rows, **wanted)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows have {wanted}: name more columns, or others")
        return rows.iloc[0]

    def verdict(self) -> str:
        """What the study says, in words: the headline, and a line for each of its verdicts.

        Both are those of the module `verdict` beside the subclass's.
        """
        own = importlib.import_module(f"{type(self).__module__.rpartition('.')[0]}.verdict")
        return "\n".join([own.headline(self), *(f"- {said.text}" for said in own.verdicts(self))])

    def save(self, folder: str | Path) -> Path:
        """Write the table and manifest.json, both or none, in place of an earlier study's files."""
        folder = user_path(folder, "folder")
        with new_outputs(folder) as new:
            self.write(new)
        return folder / self.file_name

    def write(self, folder: Path) -> None:
        """Write the files of `save` to a folder of `new_outputs`."""
        write_parquet(self.rows, folder / self.file_name)
        write_json(self.manifest, folder / MANIFEST)
        for field, name in self.tables.items():
            table = getattr(self, field)
            if table is not None and (len(table) or self._is_asked_for(field, self.manifest)):
                write_parquet(table, folder / name)

    def finished(self, output: Path | None, write_report: Callable[[Self, Path], object]) -> Self:
        """The table itself, written to `output` together with its report; None writes nothing."""
        if output is not None:
            with new_outputs(output) as new:
                self.write(new)
                write_report(self, new)
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises: FileNotFoundError or ValueError naming the file that is missing, damaged or another study's.
        """
        folder = user_path(folder, "folder")
        content, files = read_manifest(folder, cls.kind)
        rows = read_table(folder, cls.file_name, files)
        beside = {
            field: read_table(folder, name, files)
            for field, name in cls.tables.items()
            if cls._is_asked_for(field, content) or is_named(folder, name, files)
        }
        return cls(rows, content, **beside)

    @classmethod
    def _is_asked_for(cls, field: str, manifest: dict) -> bool:
        """Whether a study of this manifest must have a field of `tables`."""
        return field not in cls.optional or bool(cls.optional[field](manifest))


def is_named(folder: Path, name: str, files: dict[str, str] | None) -> bool:
    """Whether a study has a file: as its manifest says, or, of one that names none, as it is there."""
    return (folder / name).is_file() if files is None else name in files


def read_table(folder: Path, name: str, files: dict[str, str] | None) -> pd.DataFrame:
    """A table of a study. files: of `read_manifest`.

    Raises: FileNotFoundError; ValueError where it is damaged, or not the one that the manifest names.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    content = path.read_bytes()
    if files is not None and hashlib.sha256(content).hexdigest() != files.get(name):
        raise ValueError(
            f"{path} is damaged or of another study than {folder / MANIFEST}, which names a file of other "
            "bytes: run the study again"
        )
    try:
        return read_parquet(content)
    except Damaged as error:
        raise ValueError(f"{path} is damaged ({error}): run the study again") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
