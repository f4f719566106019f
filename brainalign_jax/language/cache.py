"""Word vectors kept on disk under all that decides them, and extractions that were interrupted.

An entry is a folder: `arrays/`, written by orbax, and `entry.json`, which names the words, the
settings and a SHA-256 of every array. It is written under another name and renamed when complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.files import new_file, sync, umask, user_path
from brainalign_jax.language.embeddings import Embeddings
from brainalign_jax.language.extraction import Saved

_FORMAT = "brainalign_jax.EmbeddingCache.1"
_LOCKS, _FINGERPRINTS = "locks", "fingerprints"
_SHARE = 0.05  # of an extraction's time may go into saving its state


class Entry(NamedTuple):
    """One line of a listing. kind: "entry", "interrupted" or "leftover"; model and words are None
    where the entry cannot be read; age: seconds since it was written."""

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
        found, fault = self._read(name)
        if found is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(name):
            found, fault = self._read(name)
            if found is not None:
                return found
            self._remove_leftovers(name)
            if fault is not None:
                warnings.warn(
                    f"{self.folder / name} is damaged ({fault}): it is made anew", stacklevel=3
                )
                shutil.rmtree(self.folder / name)
            partial = Partial(self.folder / f"{name}.partial.npz", share=self.saving_share)
            vectors = make(partial)
            self._write(name, fields, vectors)
            partial.remove()
            return vectors

    def entries(self) -> list[Entry]:
        """What is in the folder, in order of name."""
        found = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path.name in (_LOCKS, _FINGERPRINTS):
                continue
            if path.is_dir():
                kind = "leftover" if path.name.startswith(".") else "entry"
            elif path.name.endswith(".partial.npz"):
                kind = "interrupted"
            elif path.name.startswith(".") and path.name.endswith(".tmp"):
                kind = "leftover"
            else:
                continue
            header: dict = {}
            if kind == "entry":
                with contextlib.suppress(OSError, ValueError):
                    header = json.loads((path / "entry.json").read_text(encoding="utf-8"))
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            found.append(
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
        return found

    def faults(self) -> dict[str, str]:
        """name -> what is wrong, of every entry whose arrays or header are damaged."""
        names = [entry.name for entry in self.entries() if entry.kind == "entry"]
        faults = {name: self._read(name)[1] for name in names}
        return {name: str(fault) for name, fault in faults.items() if fault is not None}

    def remove(self, name: str) -> None:
        """Remove an entry, or what an interrupted extraction left, unless it is being made."""
        import filelock

        path = self.folder / name
        if name not in {entry.name for entry in self.entries()}:
            raise FileNotFoundError(f"{path} is not in the cache; list it first")
        owner = re.sub(r"^\.|\.partial\.npz$|\.[^.]*\.tmp$", "", name)
        try:
            with self._lock(owner).acquire(timeout=0):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
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
        with contextlib.suppress(OSError):
            known = note.read_text(encoding="ascii")
            if re.fullmatch(r"[0-9a-f]{64}", known):
                return known
        value = compute()
        with new_file(note) as file:
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

    def _remove_leftovers(self, name: str) -> None:
        for path in self.folder.glob(f".{name}*.tmp"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _read(self, name: str) -> tuple[Embeddings | None, Exception | None]:
        """(entry, None), (None, None) where there is none, (None, fault) where it is damaged."""
        path = self.folder / name
        if not path.is_dir():
            return None, None
        try:
            header = json.loads((path / "entry.json").read_text(encoding="utf-8"))
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            if entry_name(header["fields"]) != name:
                raise ValueError("its settings are not those of its name")
            if _digest(_text(header, without="sha256")) != header["sha256"]:
                raise ValueError("entry.json was changed")
            arrays = _restore(path / "arrays", header["arrays"])
            for key, described in header["arrays"].items():
                if _digest(arrays[key]) != described["sha256"]:
                    raise ValueError(f"the bytes of {key!r} were changed")
            return Embeddings(
                header["model"],
                tuple(header["types"]),
                arrays["values"],
                arrays.get("final"),
                header["meta"],
                arrays.get("surprisal"),
            ), None
        except Exception as error:  # orbax, tensorstore and json raise many kinds on damaged files
            if not path.is_dir():  # removed meanwhile
                return None, None
            return None, error

    def _write(self, name: str, fields: dict, vectors: Embeddings) -> None:
        import jax

        if jax.process_index() > 0:
            return  # orbax writes NumPy arrays in the first process only
        arrays = vectors.arrays()
        header = {
            "format": _FORMAT,
            "fields": fields,
            "model": vectors.model,
            "types": vectors.types,
            "meta": vectors.meta,
            "arrays": {
                key: {"shape": array.shape, "sha256": _digest(array)}
                for key, array in arrays.items()
            },
        }
        header["sha256"] = _digest(_text(header))
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=self.folder))
        try:
            with _checkpointer(name) as checkpointer:
                checkpointer.save(temporary / "arrays", arrays)
            with new_file(temporary / "entry.json") as file:
                file.write(json.dumps(header, ensure_ascii=False).encode())
            temporary.chmod(0o777 & ~umask())
            sync(temporary)
            try:
                os.rename(temporary, self.folder / name)
            except OSError:
                if not (self.folder / name).is_dir():
                    raise
                # Without locks on this file system another process was first.
                shutil.rmtree(temporary)
            sync(self.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


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
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            header = json.loads(arrays.pop("header").tobytes().decode())
            if {key: _digest(array) for key, array in arrays.items()} != header["sha256"]:
                raise ValueError("its bytes were changed")
            return Saved(int(header["done"]), arrays) if header["plan"] == plan else None
        except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged files
            warnings.warn(f"{self.path} is damaged ({error}): starting anew", stacklevel=3)
            return None

    def due(self) -> bool:
        """Whether to save now: after every batch, but seldom where saving takes long."""
        return time.monotonic() - self._last >= self._cost / self.share

    def save(self, plan: str, done: int, arrays: dict[str, np.ndarray]) -> None:
        """Replace what was saved: `done` units of the plan are in the arrays."""
        begin = time.monotonic()
        digests = {key: _digest(array) for key, array in arrays.items()}
        header = json.dumps({"plan": plan, "done": done, "sha256": digests}).encode()
        with new_file(self.path) as file:
            np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
        self._last = time.monotonic()
        self._cost = self._last - begin

    def remove(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)


def entry_name(fields: dict) -> str:
    """The name of an entry: the model's, made harmless, and a digest of all fields."""
    digest = _digest(json.dumps(fields, sort_keys=True))
    slug = re.sub(r"[^A-Za-z0-9]+", "-", str(fields.get("model", "")))[-40:].strip("-")
    return f"{slug}-{digest[:32]}" if slug else digest[:32]


def _digest(content: str | np.ndarray) -> str:
    data = content.encode() if isinstance(content, str) else np.ascontiguousarray(content)
    digest = hashlib.sha256(data)
    if not isinstance(content, str):
        digest.update(f"{content.dtype.str} {content.shape}".encode())
    return digest.hexdigest()


def _text(header: dict, *, without: str = "") -> str:
    kept = {key: value for key, value in header.items() if key != without}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def _checkpointer(name: str):
    import jax
    import orbax.checkpoint as ocp

    # Processes read and write for themselves: orbax must not wait for the others. Its asynchronous kind
    # does all the same: another process's folder may be taken for the one that is to be there.
    mine = {}
    if jax.process_count() > 1:
        me = jax.process_index()
        mine = dict(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{name}-{me}")
    options = ocp.options.MultiprocessingOptions(**mine)
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _restore(path: Path, described: dict[str, Any]) -> dict[str, np.ndarray]:
    target = {key: np.empty(one["shape"], np.float32) for key, one in described.items()}
    with _checkpointer(path.parent.name) as checkpointer:
        return checkpointer.restore(path.resolve(), target)
