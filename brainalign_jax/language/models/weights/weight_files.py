"""The weight files of a checkpoint folder, and the tensors in them, by name.

Formats: safetensors (one file or shards), `pytorch_model.bin` (one file or shards),
`flax_model.msgpack`, and GGUF, where the file stands for the folder. No torch.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from brainalign_jax.language.models.weights.folders import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    WEIGHT_NAMES,
    folder_message,
)
from brainalign_jax.language.models.weights.gguf.header import is_gguf
from brainalign_jax.language.models.weights.gguf.tensors import GgufTensors
from brainalign_jax.language.models.weights.json_files import read_json
from brainalign_jax.language.models.weights.torch_file import TorchFile
from brainalign_jax.language.models.weights.unchanged_file import UnchangedFile

# What PyTorch's wrappers put into names: of a compiled, sharded or checkpointed part of a model, and
# of a whole one on several devices.
_WRAPPER = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(\.|$)|^(module\.)+"
)
_SAFETENSORS_DTYPES = {"BF16": "bfloat16", "BOOL": "bool"}
_SAFETENSORS_DTYPES |= {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)}
_SAFETENSORS_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_SAFETENSORS_DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_FLAX_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name, each read when asked for; shape and dtype are known before."""

    @abstractmethod
    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of a tensor, which is not read."""


class SafetensorsFile(Tensors):
    """The tensors of one safetensors file under PyTorch names; each is read when asked for.

    A file whose metadata says `format: flax` gets PyTorch's names and orientation. Reading raises
    ValueError once the file was replaced or written to.
    """

    def __init__(self, path: Path):
        self.path, self._unchanged = path, UnchangedFile(path)
        with self._opened() as file:
            names = list(file.keys())
            form = (file.metadata() or {}).get("format", "pt")
            slices = {name: file.get_slice(name) for name in names}
            self._headers = {
                name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()
            }
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

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        stored, turned = self._sources[name]
        shape, dtype = self._headers[stored]
        return shape[::-1] if turned else shape, _SAFETENSORS_DTYPES.get(dtype, dtype)


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

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of a tensor."""
        return self[name].shape, self[name].dtype.name


class ShardedFiles(Tensors):
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

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        return self._shards[name].header(name)


class Renamed(Tensors):
    """Tensors under new names; `stored`: those -> the names they had."""

    def __init__(self, tensors: Tensors, stored: Mapping[str, str]):
        self.tensors, self.stored = tensors, stored

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.stored[name]]

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        return self.tensors.header(self.stored[name])


def standard_name(name: str) -> str:
    """A tensor's name without what PyTorch's wrappers put into it.

    >>> standard_name("module._orig_mod.h.0._orig_mod.ln_1.weight")
    'h.0.ln_1.weight'
    """
    while (shorter := _WRAPPER.sub("", name)) != name:
        name = shorter
    return name


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights: one, or the shards in order of name; then an adapter's two.

    Raises FileNotFoundError if there are none, or if a shard of the index is missing.
    """
    return _base_files(folder) + adapter_files(folder)


def adapter_files(folder: Path) -> tuple[Path, ...]:
    """The config and the weights of a folder's adapter; () if it has none.

    Raises FileNotFoundError if one of the two is missing.
    """
    weights = [folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()]
    has_config = (folder / ADAPTER_CONFIG).is_file()
    if not has_config and not weights:
        return ()
    if not has_config or not weights:
        lacking = " or ".join(ADAPTER_WEIGHTS) if has_config else ADAPTER_CONFIG
        raise FileNotFoundError(
            f"{folder} holds half an adapter: it lacks {lacking}. Copy it there, or remove "
            f"{ADAPTER_CONFIG if has_config else weights[0].name} to use the checkpoint alone."
        )
    return folder / ADAPTER_CONFIG, weights[0]


def _base_files(folder: Path) -> tuple[Path, ...]:
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


def read_tensors(folder: Path) -> Tensors:
    """The tensors of a checkpoint folder, under the names and in the layout PyTorch uses.

    What wrappers put into names ("module.", "_orig_mod.") is left out. An adapter is not merged.
    Tensors are read when asked for (`flax_model.msgpack` at once). Where a folder has several
    formats, safetensors is taken before PyTorch's and flax's. Raises FileNotFoundError if there
    is no weight file, ValueError on a damaged or unsupported one.
    """
    folder = Path(folder)
    chosen = _chosen_file(folder)
    for file in _base_files(folder):
        _refuse_pointer(file)
    tensors = (
        ShardedFiles(chosen, open_weight_file)
        if chosen.name.endswith(".index.json")
        else open_weight_file(chosen)
    )
    stored = _without_repeats(((standard_name(name), name) for name in tensors), chosen)
    return tensors if stored.keys() == set(tensors) else Renamed(tensors, stored)


def open_weight_file(path: Path) -> Tensors:
    """The tensors of one file, whose name says its format."""
    _refuse_pointer(path)
    if path.suffix == ".msgpack":
        return FlaxFile(path)
    if is_gguf(path):
        return GgufTensors(path)
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


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
    if is_gguf(folder) and folder.is_file():
        return folder
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    file_names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    raise FileNotFoundError(
        f"{folder} holds no weights: none of {', '.join(WEIGHT_NAMES)}; it holds "
        f"{_first(file_names) if file_names else 'nothing'}. "
        + (
            folder_message(folder)
            or "Download the checkpoint's weights into it, or use untrained:MODEL, which needs "
            "config.json only."
        )
    )


def _read_weight_map(index: Path) -> dict[str, str]:
    _refuse_pointer(index)
    try:
        weight_map = read_json(index)["weight_map"]
        files = set(weight_map.values())
    except (KeyError, TypeError, AttributeError) as error:
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
