"""Word vectors kept on disk under all that decides them, and extractions that were interrupted.

An entry is one file with a seal (`files.new_sealed_file`): a line of JSON, which names the words and the
settings, and the arrays in NumPy's format. So is the state of an extraction.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import (
    Damaged,
    new_sealed_file,
    remove_leftovers,
    sealed_bytes,
    sealed_file,
    user_path,
)
from brainalign_jax.language.embeddings import Embeddings
from brainalign_jax.language.hidden_states.extraction import Saved

_FORMAT = "brainalign_jax.EmbeddingCache.2"
_ENTRY, _PARTIAL = ".vectors", ".partial"
_LOCKS, _FINGERPRINTS = "locks", "fingerprints"
_SHARE = 0.05  # of an extraction's time may go into saving its state


class Entry(NamedTuple):
    """One line of a listing. kind: "entry", "interrupted" or "leftover" (of a process that died, or of an
    earlier version); model and words are None where the entry cannot be read; age: seconds since it
    was written."""

    name: str
    kind: str
    model: str | None
    words: int | None
    settings: dict
    n_bytes: int
    age: float


class EmbeddingCache:
    """A folder of word vectors. Several processes may use it at once."""

    def __init__(self, folder: str | Path, *, saving_share: float = _SHARE):
        """saving_share: of an extraction's time, what may go into saving its state after a batch; at
        infinity it is saved after every batch."""
        self.folder = user_path(folder, "folder of the cache")
        self.saving_share = saving_share

    def get(self, fields: dict, make: Callable[[Partial], Embeddings]) -> Embeddings:
        """The entry of these settings; made and kept if it is not there or damaged (a warning).

        fields: JSON-serialisable, all that decides the vectors; fields["model"] names the entry.
        make: called with where to save its state. While another process makes the same entry, this
        one waits.
        """
        name = entry_name(fields)
        entry, fault = self._read(name)
        if entry is not None:
            return entry
        _start_backend()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(name):
            entry, fault = self._read(name)
            if entry is not None:
                return entry
            remove_leftovers(self.folder, name)
            self._remove_earlier(name)
            if fault is not None:
                warnings.warn(
                    f"{self.path(name)} is damaged ({fault}): it is made anew", stacklevel=3
                )
                self.path(name).unlink(missing_ok=True)
            partial = Partial(self.folder / f"{name}{_PARTIAL}", share=self.saving_share)
            vectors = make(partial)
            self._write(name, fields, vectors)
            partial.remove()
            return vectors

    def path(self, name: str) -> Path:
        """The file of the entry of this name."""
        return self.folder / f"{name}{_ENTRY}"

    def entries(self) -> list[Entry]:
        """What is in the folder, in order of name."""
        listed = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            kind = _kind(path)
            if kind is None:
                continue
            header: dict = {}
            if kind == "entry":
                with (
                    contextlib.suppress(OSError, ValueError, RecursionError),
                    path.open("rb") as file,
                ):
                    header = _header(file)
                    if not isinstance(header.get("types"), list):
                        header = {}
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            listed.append(
                Entry(
                    path.name,
                    kind,
                    header.get("model"),
                    len(header["types"]) if "types" in header else None,
                    header.get("fields", {}),
                    sum(file.stat().st_size for file in files),
                    time.time() - path.stat().st_mtime,
                )
            )
        return listed

    def faults(self) -> dict[str, str]:
        """name -> what is wrong, of every entry whose arrays or header are damaged."""
        names = [entry.name for entry in self.entries() if entry.kind == "entry"]
        faults = {name: self._read(name.removesuffix(_ENTRY))[1] for name in names}
        return {name: str(fault) for name, fault in faults.items() if fault is not None}

    def remove(self, name: str) -> None:
        """Remove an entry, or what an interrupted extraction left, unless it is being made."""
        import filelock

        path = self.folder / name
        if name not in {entry.name for entry in self.entries()}:
            raise FileNotFoundError(f"{path} is not in the cache; list it first")
        owner = re.sub(r"^\.|(\.vectors|\.partial(\.npz)?)?(\.[^.]*\.tmp)?$", "", name)
        try:
            with self._lock(owner).acquire(timeout=0):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except filelock.Timeout:
            raise ValueError(f"{path} is being written by another process; wait for it") from None

    def remember(self, path: Path, compute: Callable[[], str], files: list[Path]) -> str:
        """compute(), or what it gave last time if none of the files was touched since."""
        state = [str(Path(path).resolve())]
        for file in files:
            stat = file.stat()
            state += [file.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        note = self.folder / _FINGERPRINTS / key
        with contextlib.suppress(OSError, Damaged):  # it is soon made anew
            return sealed_bytes(note).decode()
        value = compute()
        remove_leftovers(note.parent)
        with new_sealed_file(note) as file:
            file.write(value.encode())
        return value

    def _lock(self, name: str):
        import filelock

        (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / _LOCKS / name)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        import filelock

        lock = self._lock(name)
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            warnings.warn(f"waiting for another process that makes {name}", stacklevel=4)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _remove_earlier(self, name: str) -> None:
        """Remove the entry of this name by an earlier version, which cannot be read any more."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / f"{name}.partial.npz").unlink(missing_ok=True)

    def _read(self, name: str) -> tuple[Embeddings | None, Exception | None]:
        """(entry, None), (None, None) where there is none, (None, fault) where it is damaged."""
        path = self.path(name)
        if not path.is_file():
            return None, None
        try:
            header, arrays = read_arrays(path)
            if header["format"] != _FORMAT:
                raise Damaged(f"its format is {header['format']!r}")
            if entry_name(header["fields"]) != name:
                raise Damaged("its settings are not those of its name")
            return Embeddings(
                header["model"],
                tuple(header["types"]),
                arrays["values"],
                arrays.get("final"),
                header["meta"],
                arrays.get("surprisal"),
            ), None
        except FileNotFoundError:  # removed meanwhile
            return None, None
        except (ValueError, KeyError, TypeError) as error:
            return None, error

    def _write(self, name: str, fields: dict, vectors: Embeddings) -> None:
        header = {
            "format": _FORMAT,
            "fields": fields,
            "model": vectors.model,
            "types": vectors.types,
            "meta": vectors.meta,
        }
        _write_arrays(self.path(name), header, vectors.arrays())


class Partial:
    """The state of an extraction in one file, replaced as a whole."""

    def __init__(self, path: Path, *, share: float = _SHARE):
        self.path, self.share = path, share
        self._last, self._cost = time.monotonic(), 0.0

    def load(self, plan: str) -> Saved | None:
        """What was saved last by the same plan; None, with a warning, where the file is damaged."""
        if not self.path.is_file():
            return None
        try:
            header, arrays = read_arrays(self.path)
            return Saved(int(header["done"]), arrays) if header["plan"] == plan else None
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{self.path} is damaged ({error}): starting anew", stacklevel=3)
            return None

    def due(self) -> bool:
        """Whether to save now: after every batch, but seldom where saving takes long."""
        return time.monotonic() - self._last >= self._cost / self.share

    def save(self, plan: str, done: int, arrays: dict[str, np.ndarray]) -> None:
        """Replace what was saved: `done` units of the plan are in the arrays."""
        begin = time.monotonic()
        _write_arrays(self.path, {"plan": plan, "done": done}, arrays)
        self._last = time.monotonic()
        self._cost = self._last - begin

    def remove(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)


def entry_name(fields: dict) -> str:
    """The name of an entry: the model's, made harmless, and a digest of all fields."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", str(fields.get("model", "")))[-40:].strip("-")
    return f"{slug}-{digest[:32]}" if slug else digest[:32]


def _kind(path: Path) -> str | None:
    """What a file or folder of the cache is to a listing; None for what is none of its business."""
    if path.name in (_LOCKS, _FINGERPRINTS):
        return None
    if path.name.startswith(".") and (path.is_dir() or path.name.endswith(".tmp")):
        return "leftover"
    if path.is_dir():  # an entry was a folder in earlier versions
        return "leftover" if (path / "entry.json").is_file() else None
    if path.name.endswith(".partial.npz"):
        return "leftover"
    return {_ENTRY: "entry", _PARTIAL: "interrupted"}.get(path.suffix)


def _write_arrays(path: Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """A sealed file of a line of JSON and arrays."""
    text = json.dumps({**header, "arrays": list(arrays)}, ensure_ascii=False)
    with new_sealed_file(path) as file:
        file.write(text.encode() + b"\n")
        for array in arrays.values():
            np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def read_arrays(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What `_write_arrays` wrote. Raises: as `files.sealed_file`."""
    with sealed_file(path) as file:
        header = _header(file)
        return header, {
            name: np.lib.format.read_array(file, allow_pickle=False)
            for name in header.pop("arrays")
        }


def _header(file) -> dict:
    header = json.loads(file.readline())
    if not isinstance(header, dict):
        raise Damaged("it has no header")
    return header


def _start_backend() -> None:
    """Where several processes joined, JAX's devices are there before a lock is taken.

    They come when all processes ask for them: one that held the lock would wait for another that waits
    for the lock.
    """
    import jax

    if jax.distributed.is_initialized():
        jax.process_index()
