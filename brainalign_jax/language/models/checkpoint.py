"""From a model's name to a loaded model: find the checkpoint, read its config, fill the model.

Loading is strict both ways: a tensor that no parameter takes and a parameter that no tensor fills
are errors, except for a short list of heads and buffers that are not part of the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from brainalign_jax.files import user_path
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models.blocks.architecture import check_sizes
from brainalign_jax.language.models.blocks.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.families.table import FAMILIES
from brainalign_jax.language.models.registry import (
    ModelSpec,
    looks_like_folder,
    resolve,
    split_revision,
)
from brainalign_jax.language.models.weights.adapters import merge
from brainalign_jax.language.models.weights.filling import Placement, Weights, check_room
from brainalign_jax.language.models.weights.folders import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    WEIGHT_NAMES,
    checkpoint_folder,
    folder_message,
    format_message,
    gguf_inside,
)
from brainalign_jax.language.models.weights.foreign import (
    refuse_quantised,
    refuse_quantised_config,
    unsupported_family,
)
from brainalign_jax.language.models.weights.gguf.config import config_fields
from brainalign_jax.language.models.weights.gguf.header import is_gguf
from brainalign_jax.language.models.weights.json_files import read_json
from brainalign_jax.language.models.weights.sources import Source
from brainalign_jax.language.models.weights.weight_files import (
    Renamed,
    Tensors,
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
    ADAPTER_CONFIG,
)
# Fields of classification heads, which are never loaded; transformers makes lists as long as they say.
_OF_HEADS = {"num_labels", "id2label", "label2id"}
_SHARDS = {
    "model.safetensors.index.json": "model-*-of-*.safetensors",
    "pytorch_model.bin.index.json": "pytorch_model-*-of-*.bin",
}


def locate(source: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint, downloaded into the Hugging Face cache if need be, or its GGUF file.

    `source`: a hub id or, as `resolve` tells it, the path of a folder or of a GGUF file; a hub id or a
    folder may end with "@revision". A folder may be one of the hub's cache, whose snapshot is taken, or of
    sentence-transformers, whose transformer is; see `checkpoint_folder`. A folder that holds one GGUF file
    and no other weights stands for that file. Of a hub repository only the config, the tokenizer and one
    format of the weights are fetched, safetensors where there is a choice; no weights with
    `weights=False`. `revision`: branch, tag or commit of the repository.
    Raises FileNotFoundError if the folder or repository does not exist, or if the machine is
    offline and the cache lacks it; ValueError if `source` is a file or `revision` unknown.
    """
    source, named = split_revision(source)
    if named and revision not in (None, named):
        raise ValueError(f"{source}@{named} and revision={revision!r} are two revisions; give one.")
    revision = revision or named
    if not looks_like_folder(source):
        return _with_readable_settings(_download(source, revision, weights))
    folder = user_path(source, "model")
    if folder.is_dir():
        folder = checkpoint_folder(folder, revision)
        if weights or not (folder / "config.json").is_file():
            folder = gguf_inside(folder) or folder
        return _with_readable_settings(folder)
    if folder.is_file() and is_gguf(folder):
        if revision is not None:
            raise ValueError(
                f"{folder} is a file, which has no revision {revision!r}; leave it out."
            )
        return folder
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give the folder that holds config.json.")
    if is_gguf(folder):
        raise FileNotFoundError(f"no file {folder}; give a GGUF file that is there.")
    raise FileNotFoundError(
        f"no folder {folder}; give a folder with config.json and the weights, or a hub id "
        "'owner/name'."
    )


def _with_readable_settings(folder: Path) -> Path:
    """The folder, once the tokenizer's settings are found to be JSON that a reader can follow."""
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / name).is_file():
            read_json(folder / name)
    return folder


def _download(repo: str, revision: str | None, weights: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    try:
        names = huggingface_hub.HfApi().list_repo_files(repo, revision=revision)
        patterns = _needed_files(names, weights)
        is_checkpoint = not {"config.json", ADAPTER_CONFIG}.isdisjoint(names)
        if is_checkpoint:
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
    else:
        raise FileNotFoundError(
            format_message(f"{repo!r} on the hub", sorted(names))
            or f"{repo!r} on the hub holds no config.json: it is no checkpoint of transformers; give "
            "one that is."
        )
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
    if weights:
        needed += [name for name in ADAPTER_WEIGHTS if name in names][:1]
    chosen = next((name for name in WEIGHT_NAMES if name in names), None)
    if weights and chosen is not None:
        needed += [chosen, *([_SHARDS[chosen]] if chosen in _SHARDS else [])]
    return needed


def read_config(folder: Path, *, family: str | None = None) -> Any:
    """The transformers config of a checkpoint folder, or of a GGUF file.

    `family` is taken where config.json has no `model_type` (old checkpoints). Raises
    FileNotFoundError without config.json, ValueError if it is damaged or its model type is not
    supported.
    """
    from transformers import AutoConfig

    path = _config_file(folder)
    if not path.is_file():
        message = folder_message(Path(folder))
        raise FileNotFoundError(
            message or f"no {path}; download the checkpoint's config.json into {folder}."
        )
    fields = config_fields(path) if is_gguf(path) else read_json(path)
    # The state-space models' own format names no type, but their part.
    model_type = fields.get("model_type") or family or ("mamba" if "ssm_cfg" in fields else None)
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        architectures = fields.get("architectures")
        raise ValueError(f"{path}: {unsupported_family(model_type, architectures, FAMILIES)}")
    refuse_quantised_config(fields, path)
    check_sizes(fields, path)
    config_class = type(AutoConfig.for_model(model_type))
    known = {name: value for name, value in fields.items() if name not in _OF_HEADS}
    try:
        return config_class.from_dict({**known, "model_type": model_type})
    except Exception as error:  # the strict dataclasses of transformers have their own errors
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} does not fit {config_class.__name__}: {said}") from error


def read_architecture(folder: Path, *, family: str | None = None) -> TransformerConfig:
    """The architecture in config.json; ValueError on an option that is not implemented."""
    config = read_config(folder, family=family)
    try:
        return FAMILIES[config.model_type][0].architecture(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{_config_file(folder)}: {error}") from error


def _config_file(folder: Path) -> Path:
    return Path(folder) if is_gguf(folder) else Path(folder) / "config.json"


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

        def build() -> LanguageModel:
            return FAMILIES[config.family][1](config, dtype=dtype, rngs=nnx.Rngs(params=seed))

        # Weights are drawn in float32 whatever the dtype is.
        needed = 4 * nnx.eval_shape(build).n_params
        check_room(needed, device_bytes(), f"the weights of {spec.name}", "take a smaller model")
        return build()
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
    tensors, sources = read_tensors(folder), family.sources(config)
    refuse_quantised(tensors, folder)
    named = _encoder_tensors(tensors, family, folder)
    merged = merge(
        named,
        folder,
        short=lambda name: _short_name(name, family),
        left_aside=lambda name: _is_left_aside(name, family),
        matrices=_matrices(config, sources),
    )
    return Weights(
        lambda: model_class(config, dtype=dtype, rngs=nnx.Rngs(params=0)),
        sources,
        merged,
        named.stored,
        dtype=dtype,
        folder=folder,
        placement=placement,
    )


def _checked_dtype(dtype: Any) -> jnp.dtype:
    allowed = ["float32", "bfloat16", "float16"]
    if jax.config.read("jax_enable_x64"):
        allowed.append("float64")
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    check_known("dtype=", name, allowed)
    return jnp.dtype(name)


def _encoder_tensors(tensors: Tensors, family: ModuleType, folder: Path) -> Renamed:
    """The tensors with prefixes stripped and old names renewed, without heads and buffers."""
    stored: dict[str, str] = {}
    for full in tensors:
        name = _short_name(full, family)
        if _is_left_aside(name, family):
            continue
        if name in stored:
            raise ValueError(
                f"{folder}: {stored[name]} and {full} are both the tensor {name}; keep one."
            )
        stored[name] = full
    return Renamed(tensors, stored)


def _short_name(full: str, family: ModuleType) -> str:
    name = renewed_name(full)
    return name.removeprefix(next((p for p in family.PREFIXES if name.startswith(p)), ""))


def _is_left_aside(name: str, family: ModuleType) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in family.NOT_ENCODER)


def renewed_name(name: str) -> str:
    """A tensor's name with today's names of a layer norm's parameters."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _matrices(config: TransformerConfig, sources: Mapping[str, Source]) -> dict[str, bool]:
    """The weights of linear layers -> whether they lie in the file as [in, out]."""
    kernels = [source for path, source in sources.items() if path.endswith(".kernel")]
    return {
        name.format(layer=layer): not source.transposed
        for source in kernels
        for name in source.names
        for layer in range(config.n_layers)
    }
