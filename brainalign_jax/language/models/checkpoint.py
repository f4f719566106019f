"""From a model's name to a loaded model: find the checkpoint, read its config, fill the model.

Loading is strict both ways: a tensor that no parameter takes and a parameter that no tensor fills
are errors, except for a short list of heads and buffers that are not part of the encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.files import user_path
from brainalign_jax.language.models.families import FAMILIES
from brainalign_jax.language.models.filling import Placement, Weights
from brainalign_jax.language.models.registry import ModelSpec, looks_like_folder, resolve
from brainalign_jax.language.models.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.weight_files import (
    WEIGHT_NAMES,
    fingerprint,
    read_tensors,
    weight_files,
)
from brainalign_jax.names import check_known

__all__ = [
    "fingerprint",
    "load_model",
    "locate",
    "open_weights",
    "read_architecture",
    "read_config",
    "read_tensors",
    "weight_files",
]

_SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_SHARDS = {
    "model.safetensors.index.json": "model-*-of-*.safetensors",
    "pytorch_model.bin.index.json": "pytorch_model-*-of-*.bin",
}


def locate(source: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint, downloaded into the Hugging Face cache if need be.

    `source`: a hub id or, as `resolve` tells it, the path of a folder (returned as it is). Of a hub
    repository only the config, the tokenizer and one format of the weights are fetched, safetensors
    where there is a choice; no weights with `weights=False`. `revision`: branch, tag or commit of
    the hub repository. Raises FileNotFoundError if the folder or repository does not exist, or if
    the machine is offline and the cache lacks it; ValueError if `source` is a file or `revision`
    unknown.
    """
    if not looks_like_folder(source):
        return _download(source, revision, weights)
    folder = user_path(source, "model")
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give the folder that holds config.json.")
    raise FileNotFoundError(
        f"no folder {folder}; give a folder with config.json and the weights, or a hub id "
        "'owner/name'."
    )


def _download(repo: str, revision: str | None, weights: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    try:
        names = huggingface_hub.HfApi().list_repo_files(repo, revision=revision)
        patterns = _needed_files(names, weights)
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns)
        )
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{repo} has no revision {revision!r}; check it on the hub.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FileNotFoundError(
            f"{repo!r} is neither a folder here nor a model on the Hugging Face hub (or it is "
            "private or gated: log in with `hf auth login`). Check the spelling."
        ) from error
    except Exception as error:  # offline shows as errors of hub, HTTP client or socket
        unreachable = error
    # The cache is asked for one format of the weights at a time: it calls a snapshot incomplete
    # that lacks a file of the repository which was never wanted.
    for format in WEIGHT_NAMES if weights else ("config.json",):
        patterns = _needed_files([*_SMALL_FILES, format], weights)
        try:
            folder = Path(
                huggingface_hub.snapshot_download(
                    repo, revision=revision, allow_patterns=patterns, local_files_only=True
                )
            )
        except Exception:  # not in the cache, or not all of this format
            continue
        if (folder / format).is_file():
            return folder
    raise FileNotFoundError(
        f"{repo!r}{at} is not a folder here, is not in the Hugging Face cache, and the hub "
        f"could not be reached ({type(unreachable).__name__}). Go online (unset "
        f"HF_HUB_OFFLINE), or run `hf download {repo}` on a machine that is, and give the "
        "folder."
    ) from unreachable


def _needed_files(names: list[str], weights: bool) -> list[str]:
    needed = [name for name in _SMALL_FILES if name in names]
    chosen = next((name for name in WEIGHT_NAMES if name in names), None)
    if weights and chosen is not None:
        needed += [chosen, *([_SHARDS[chosen]] if chosen in _SHARDS else [])]
    return needed


def read_config(folder: Path, *, family: str | None = None) -> Any:
    """The transformers config of a checkpoint folder.

    `family` is taken where config.json has no `model_type` (old checkpoints). Raises
    FileNotFoundError without config.json, ValueError if it is damaged or its model type is not
    supported.
    """
    from transformers import AutoConfig

    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; download the checkpoint's config.json into {folder}.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}). Download it again.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} is not a JSON object. Download it again.")
    found = fields.get("model_type") or family
    if found not in FAMILIES:
        raise ValueError(
            f"{path}: model_type {found!r} is not supported; supported: {', '.join(FAMILIES)}."
        )
    config_class = type(AutoConfig.for_model(found))
    try:
        return config_class.from_dict({**fields, "model_type": found})
    except Exception as error:  # the strict dataclasses of transformers have their own errors
        raise ValueError(f"{path} does not fit {config_class.__name__}: {error}") from error


def read_architecture(folder: Path, *, family: str | None = None) -> TransformerConfig:
    """The architecture in config.json; ValueError on an option that is not implemented."""
    config = read_config(folder, family=family)
    try:
        return FAMILIES[config.model_type][0].architecture(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{Path(folder) / 'config.json'}: {error}") from error


def load_model(
    spec: ModelSpec | str,
    *,
    dtype: Any = jnp.float32,
    seed: int = 0,
    revision: str | None = None,
    placement: Placement | None = None,
) -> LanguageModel:
    """A language model with its weights.

    `spec`: a ModelSpec, or a name as `resolve` takes. `dtype` of parameters and activations:
    float32, bfloat16 or float16 (float64 where x64 is enabled). `untrained:MODEL` gets weights
    drawn with `seed` as transformers initialises them. `placement` divides the parameters of a
    checkpoint among devices, see `sharding`. Raises ValueError if a tensor is unused,
    a parameter unfilled or a shape different (all of them listed), if a file is damaged or the
    model family unsupported; FileNotFoundError as `locate`.
    """
    spec = resolve(spec) if isinstance(spec, str) else spec
    if spec.kind == "untrained":
        dtype = _checked_dtype(dtype)
        folder = locate(spec.source, revision=revision, weights=False)
        config = read_architecture(folder, family=spec.family)
        return FAMILIES[config.family][1](config, dtype=dtype, rngs=nnx.Rngs(params=seed))
    return open_weights(spec, dtype=dtype, revision=revision, placement=placement).model()


def open_weights(
    spec: ModelSpec | str,
    *,
    dtype: Any = jnp.float32,
    revision: str | None = None,
    placement: Placement | None = None,
) -> Weights:
    """The weights of a checkpoint, opened and checked by name but not read: `load_model`'s
    arguments and errors."""
    spec = resolve(spec) if isinstance(spec, str) else spec
    if spec.kind != "checkpoint":
        raise ValueError(
            f"{spec.name!r} is a table of word vectors, not a transformer; pass it to embed()."
        )
    dtype = _checked_dtype(dtype)
    folder = locate(spec.source, revision=revision)
    config = read_architecture(folder, family=spec.family)
    family, model_class = FAMILIES[config.family]
    tensors = _encoder_tensors(read_tensors(folder), family, folder)
    return Weights(
        lambda: model_class(config, dtype=dtype, rngs=nnx.Rngs(params=0)),
        family.sources(config),
        tensors,
        tensors.stored,
        dtype=dtype,
        folder=folder,
        placement=placement,
    )


def _checked_dtype(dtype: Any) -> jnp.dtype:
    allowed = ["float32", "bfloat16", "float16"]
    if jax.config.jax_enable_x64:
        allowed.append("float64")
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    check_known("dtype=", name, allowed)
    return jnp.dtype(name)


class _Renamed(Mapping[str, np.ndarray]):
    """Tensors under new names, still read when asked for."""

    def __init__(self, tensors: Mapping[str, np.ndarray], stored: dict[str, str]):
        self.tensors, self.stored = tensors, stored

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.stored[name]]

    def __iter__(self):
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def _encoder_tensors(
    tensors: Mapping[str, np.ndarray], family: ModuleType, folder: Path
) -> _Renamed:
    """The tensors with prefixes stripped and old names renewed, without heads and buffers."""
    stored: dict[str, str] = {}
    for full in tensors:
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", full)
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        prefix = next((p for p in family.PREFIXES if name.startswith(p)), "")
        name = name.removeprefix(prefix)
        if any(re.fullmatch(pattern, name) for pattern in family.NOT_ENCODER):
            continue
        if name in stored:
            raise ValueError(
                f"{folder}: {stored[name]} and {full} are both the tensor {name}; keep one."
            )
        stored[name] = full
    return _Renamed(tensors, stored)
