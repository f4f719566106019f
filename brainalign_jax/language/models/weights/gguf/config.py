"""The config that transformers would give a model, from the metadata of a GGUF file."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from brainalign_jax.language.models.blocks.rotary import rotary_frequencies
from brainalign_jax.language.models.weights.gguf.header import Header, read_header
from brainalign_jax.language.models.weights.gguf.tensors import ROTARY_FACTORS, read_values
from brainalign_jax.names import unknown

ARCHITECTURES = ("llama", "qwen2")
# What metadata of these names would change in the model, and their values that change nothing.
_NOT_READ = {
    "expert_count": (0,),
    "attention.sliding_window": (0,),
    "rope.scaling.attn_factor": (0.0, 1.0),
    "attention.scale": (0.0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "attention.causal": (True,),
}
_LLAMA31 = dict(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)


def config_fields(path: Path) -> dict[str, Any]:
    """The fields of a config.json for the model in a GGUF file.

    Raises: ValueError, with the file, where its architecture is another than ARCHITECTURES, a size is
      not there, or the model does what is not implemented.
    """
    header = read_header(path)
    kind = header.fields.get("general.architecture")
    if kind not in ARCHITECTURES:
        said = unknown("architecture", str(kind)[:60], ARCHITECTURES)
        raise ValueError(f"{path}: {said}; give a model of the llama or qwen2 kind.")
    metadata = _Metadata(header, kind)
    for name, harmless in _NOT_READ.items():
        value = header.fields.get(f"{kind}.{name}")
        if value is not None and value not in harmless:
            raise ValueError(
                f"{path} asks for what the {kind} model here does not implement: {name}={value!r}. Use "
                "a file without it."
            )
    width, n_heads = metadata.integer("embedding_length"), metadata.integer("attention.head_count")
    head_size = metadata.integer("attention.key_length", width // n_heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if metadata.integer(name, head_size) != head_size:
            raise ValueError(
                f"{path}: {name} is {metadata.integer(name)} where a head has {head_size} elements; that "
                "is not implemented: use another file."
            )
    table = header.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise ValueError(f"{path} holds no table token_embd.weight. Download it again.")
    special = {
        f"{role}_token_id": header.fields.get(f"tokenizer.ggml.{named}_token_id")
        for role, named in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    base = metadata.real("rope.freq_base", 10_000.0)
    return {
        "model_type": kind,
        "vocab_size": table.shape[0],
        "hidden_size": width,
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": metadata.integer("attention.head_count_kv", n_heads),
        "head_dim": head_size,
        "max_position_embeddings": metadata.integer("context_length"),
        "rms_norm_eps": metadata.real("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
        "rope_parameters": _rotary(metadata, base, head_size),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        **{name: value for name, value in special.items() if value is not None},
        **_biases(header, kind),
    }


class _Metadata:
    """The metadata of an architecture, checked as they are asked for."""

    def __init__(self, header: Header, kind: str):
        self.header, self.kind = header, kind

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._unfit(name, value, "a whole number of at least 1")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._unfit(name, value, "a number")
        # float32 in the file: the shortest decimal of it is what was meant.
        return float(str(np.float32(value)))

    def above_zero(self, name: str) -> float:
        value = self.real(name)
        if value <= 0:
            raise self._unfit(name, value, "a number above 0")
        return value

    def _value(self, name: str, default: Any) -> Any:
        return self.header.fields.get(f"{self.kind}.{name}", default)

    def _unfit(self, name: str, value: Any, wanted: str) -> ValueError:
        return ValueError(
            f"{self.header.path}: {self.kind}.{name} is {str(value)[:40]}, not {wanted}; give a file of one "
            "model with the same sizes in every block, or download it again."
        )


def _biases(header: Header, kind: str) -> dict[str, bool]:
    if kind != "llama":  # qwen2 always has them, in queries, keys and values
        return {}
    return {
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in header.tensors,
    }


def _rotary(metadata: _Metadata, base: float, head_size: int) -> dict[str, Any]:
    """`rope_parameters`: unscaled, linear, or as Llama 3.1 has them."""
    path, plain = metadata.header.path, {"rope_type": "default", "rope_theta": base}
    fields = metadata.header.fields
    scaling = fields.get(f"{metadata.kind}.rope.scaling.type")
    for name in ("rope.scaling.factor", "rope.scale_linear") if scaling is None else ():
        factor = fields.get(f"{metadata.kind}.{name}", 1)
        if factor not in (0, 1):
            raise ValueError(
                f"{path} scales rotary positions by {name}={str(factor)[:40]} and does not say how; "
                "convert the model anew with a recent llama.cpp."
            )
    if scaling == "linear":
        factor = metadata.above_zero("rope.scaling.factor")
        return plain | {"rope_type": "linear", "factor": factor}
    if scaling not in (None, "none"):
        raise ValueError(
            f"{path}: rotary positions scaled as {str(scaling)[:40]!r} are not read; use a file without."
        )
    place = metadata.header.tensors.get(ROTARY_FACTORS)
    if place is None:
        return plain
    if place.shape != (head_size // 2,):
        raise ValueError(f"{path}: {ROTARY_FACTORS} has shape {place.shape}. Download it again.")
    factors = read_values(path, ROTARY_FACTORS)
    scaled = plain | _LLAMA31 | {"rope_type": "llama3", "factor": float(factors.max())}
    turns = [
        np.array(
            rotary_frequencies(SimpleNamespace(model_type="llama", rope_parameters=p), head_size)
        )
        for p in (plain, scaled)
    ]
    if not np.allclose(turns[0] / turns[1], factors, rtol=1e-3):
        raise ValueError(
            f"{path}: the factors on rotary positions ({ROTARY_FACTORS}) are not those of Llama 3.1, the "
            "only ones that are read; use another file."
        )
    return scaled
