"""The weight files of a checkpoint folder, and the tensors in them, by name.

Formats: safetensors (one file or shards), `pytorch_model.bin` (one file or shards) and
`flax_model.msgpack`. No torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from brainalign_jax.language.models.torch_file import TorchFile
from brainalign_jax.language.models.unchanged_file import UnchangedFile

# In order of preference.
WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "flax_model.msgpack",
)
_FLAX_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one safetensors file under PyTorch names; each is read when asked for.

    A file whose metadata says `format: flax` gets PyTorch's names and orientation. Reading raises
    ValueError once the file was replaced or written to.
    """

    def __init__(self, path: Path):
        self.path, self._unchanged = path, UnchangedFile(path)
        with self._opened() as file:
            names = list(file.keys())
            form = (file.metadata() or {}).get("format", "pt")
        if form not in ("pt", "np", "flax"):
            raise ValueError(
                f"{path} says its format is {form!r}; supported: pt, flax. Use the checkpoint's "
                "PyTorch weights."
            )
        named = [flax_to_torch_name(n) if form == "flax" else (n, False) for n in names]
        self._sources = _without_repeats(
            ((new, (old, turn)) for old, (new, turn) in zip(names, named, strict=True)), path
        )

    def _opened(self):
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.path, framework="numpy")
        except SafetensorError as error:
            raise _damaged(self.path, error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, name: str) -> np.ndarray:
        stored, turned = self._sources[name]
        # Opened anew: the pages of a mapped file stay in memory, read tensor after read tensor.
        self._unchanged.check()
        with self._opened() as file:
            values = file.get_tensor(stored)
        self._unchanged.check()
        return values.T if turned else values


class FlaxFile(dict[str, np.ndarray]):
    """The tensors of a `flax_model.msgpack`, under PyTorch names and orientation."""

    def __init__(self, path: Path):
        from flax.serialization import msgpack_restore
        from flax.traverse_util import flatten_dict

        try:
            tree = msgpack_restore(path.read_bytes())
        except OSError:
            raise
        except Exception as error:  # msgpack and numpy raise many kinds on damaged bytes
            raise _damaged(path, error) from error
        if not isinstance(tree, dict):
            raise _damaged(path, f"it holds {type(tree).__name__}, not a tree of parameters")
        pairs = []
        for stored, values in flatten_dict(tree, sep="/").items():
            name, turned = flax_to_torch_name(stored)
            values = np.asarray(values)
            pairs.append((name, values.T if turned else values))
        super().__init__(_without_repeats(pairs, path))


class ShardedFiles(Mapping[str, np.ndarray]):
    """Several weight files as one mapping, checked against the index that lists them."""

    def __init__(self, index: Path, open_file: Callable[[Path], Mapping[str, np.ndarray]]):
        weight_map = _read_weight_map(index)
        shards = {file: open_file(index.parent / file) for file in _shard_names(index)}
        self._shards = _without_repeats(
            ((name, shard) for shard in shards.values() for name in shard), index
        )
        absent = [name for name in weight_map if name not in self._shards]
        if absent:
            raise ValueError(
                f"{index} lists tensors that its files do not hold: {_first(absent)}. Download "
                "the checkpoint again."
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._shards[name][name]


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights: one, or the shards in order of name.

    Raises FileNotFoundError if there are none, or if a shard of the index is missing.
    """
    chosen = _chosen_file(folder)
    if not chosen.name.endswith(".index.json"):
        return (chosen,)
    files = tuple(folder / name for name in _shard_names(chosen))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{chosen} lists files that are not there: {_first(missing)}. Download them into "
            f"{folder}."
        )
    return files


def read_tensors(folder: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a checkpoint folder, under the names and in the layout PyTorch uses.

    Tensors are read when asked for (`flax_model.msgpack` at once). Where a folder has several
    formats, safetensors is taken before PyTorch's and flax's. Raises FileNotFoundError if there
    is no weight file, ValueError on a damaged or unsupported one.
    """
    folder = Path(folder)
    files = weight_files(folder)
    for file in files:
        _refuse_pointer(file)
    chosen = _chosen_file(folder)
    if ".safetensors" in chosen.name:
        open_file: Callable = SafetensorsFile
    else:
        open_file = FlaxFile if chosen.suffix == ".msgpack" else TorchFile
    if chosen.name.endswith(".index.json"):
        return ShardedFiles(chosen, open_file)
    return open_file(chosen)


def fingerprint(folder: Path) -> str:
    """sha256 (hex) over the bytes of the weight files that `read_tensors` reads, in order."""
    digest = hashlib.sha256()
    for file in weight_files(Path(folder)):
        with open(file, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def flax_to_torch_name(name: str) -> tuple[str, bool]:
    """PyTorch's name of a flax parameter, and whether its matrix must be transposed.

    `h/0/attn/c_attn/kernel` → (`h.0.attn.c_attn.weight`, True). A flax kernel is always the
    transpose of PyTorch's weight, of GPT-2's `Conv1D` too: transformers' `FlaxConv1D` keeps
    [out, in] where PyTorch's keeps [in, out].
    """
    *path, leaf = name.removeprefix("params/").replace("/", ".").split(".")
    return ".".join((*path, _FLAX_NAMES.get(leaf, leaf))), leaf == "kernel"


def _chosen_file(folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    raise FileNotFoundError(
        f"{folder} holds no weights: none of {', '.join(WEIGHT_NAMES)}; it holds "
        f"{_first(found) if found else 'nothing'}. Download the checkpoint's weights into it, or "
        "use untrained:MODEL, which needs config.json only."
    )


def _read_weight_map(index: Path) -> dict[str, str]:
    _refuse_pointer(index)
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, error) from error
    for file in files:
        # The index is foreign text: it may name files of its own folder only.
        if not isinstance(file, str) or PurePosixPath(file).name != file or "\\" in file:
            raise ValueError(f"{index} names a file outside its folder: {file!r}; do not use it.")
    return weight_map


def _shard_names(index: Path) -> list[str]:
    return sorted(set(_read_weight_map(index).values()))


def _without_repeats(pairs: Iterable[tuple[str, object]], path: Path) -> dict:
    unique: dict = {}
    for name, value in pairs:
        if name in unique:
            raise ValueError(f"{path} holds the tensor {name} twice. Download it again.")
        unique[name] = value
    return unique


def _refuse_pointer(file: Path) -> None:
    with open(file, "rb") as stream:
        if stream.read(40).startswith(b"version https://git-lfs"):
            raise ValueError(
                f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in its "
                "folder."
            )


def _damaged(path: Path, error: object) -> ValueError:
    return ValueError(f"{path} is truncated or corrupt ({error}). Download it again.")


def _first(names: list[str], limit: int = 10) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
