"""The architecture of a transformer in one vocabulary for all families, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign_jax.language.models.blocks.activations import ACTIVATIONS
from brainalign_jax.names import unknown


@dataclass(frozen=True)
class TransformerConfig:
    """The architecture, in one vocabulary for all families.

    Sizes. `width` is the width of the residual stream, `embed_width` that of the token embedding
    (they differ in opt-350m only), `head_width` that of one head (None: width / n_heads),
    `n_kv_heads` the number of heads of keys and values, each shared by n_heads / n_kv_heads
    queries (None: n_heads). `max_length` is the number of usable token positions and
    `position_offset` the unused rows before them (2 for OPT and RoBERTa).

    Blocks. `parallel`: attention and feed-forward both read the block's input (GPT-NeoX).
    `rms_norm`: no mean and no bias in the norms. `gated`: the feed-forward sub-layer multiplies
    two products (SwiGLU). `head_norm`: queries and keys are normalised per head (Qwen3). `bias`
    is that of the feed-forward sub-layer, and of the two in attention where `qkv_bias` and
    `out_bias` are None. `scale_by_layer` divides the attention scores of block l (from 0) by
    l + 1. `windows` is, for every block, how many tokens a query sees, itself included (0: all of
    them); () where no block has a window. `rotary` holds the angles by which one position turns
    the pairs of a query's and key's first 2 × len(rotary) elements.

    `init_std`, `pad_id` and `sinusoidal` (the table of positions is not random) matter to untrained
    models only. Raises ValueError on sizes that
    cannot be, or an unknown activation.
    """

    family: str
    vocab_size: int
    width: int
    n_layers: int
    n_heads: int
    ffn_width: int
    max_length: int
    activation: str
    norm_eps: float
    embed_width: int
    causal: bool
    norm_first: bool
    final_norm: bool
    bias: bool = True
    norm_affine: bool = True
    type_vocab_size: int = 0
    position_offset: int = 0
    scale_scores: bool = True
    scale_by_layer: bool = False
    init_std: float = 0.02
    residual_init_std: float | None = None
    pad_id: int | None = None
    head_width: int | None = None
    n_kv_heads: int | None = None
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    parallel: bool = False
    rms_norm: bool = False
    gated: bool = False
    head_norm: bool = False
    windows: tuple[int, ...] = ()
    rotary: tuple[float, ...] = ()
    sinusoidal: bool = False

    def __post_init__(self) -> None:
        sizes = "vocab_size", "width", "n_layers", "n_heads", "ffn_width", "max_length"
        for name in (*sizes, "embed_width", "head_size", "kv_heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{self.family}: {name} is {getattr(self, name)} and must be at least 1; "
                    "correct config.json."
                )
        if self.head_width is None and self.width % self.n_heads:
            raise ValueError(
                f"{self.family}: hidden size {self.width} is not a multiple of the "
                f"{self.n_heads} attention heads; correct config.json."
            )
        if self.n_heads % self.kv_heads:
            raise ValueError(
                f"{self.family}: {self.n_heads} attention heads cannot share {self.kv_heads} "
                "heads of keys and values evenly; correct config.json."
            )
        if self.windows and (len(self.windows) != self.n_layers or min(self.windows) < 0):
            raise ValueError(
                f"{self.family}: attention windows {self.windows} do not fit {self.n_layers} "
                "blocks; correct config.json."
            )
        if 2 * len(self.rotary) > self.head_size:
            raise ValueError(
                f"{self.family}: {2 * len(self.rotary)} rotary elements are more than the "
                f"{self.head_size} of a head; correct config.json."
            )
        for name, numbers in (("norm_eps", (self.norm_eps,)), ("rotary angles", self.rotary)):
            if not all(0 < number < math.inf for number in numbers):
                raise ValueError(
                    f"{self.family}: {name} are not all positive numbers; correct config.json."
                )
        if self.activation not in ACTIVATIONS:
            raise ValueError(unknown("activation", self.activation, ACTIVATIONS, of=self.family))

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // max(self.n_heads, 1) if self.head_width is None else self.head_width

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Elements of all queries, keys and values of a token."""
        keys = self.kv_heads * self.head_size
        return self.n_heads * self.head_size, keys, keys

    def score_scales(self) -> np.ndarray:
        """Factor on the attention scores of each block, [L] float32."""
        scale = 1 / math.sqrt(self.head_size) if self.scale_scores else 1.0
        divisor = np.arange(1, self.n_layers + 1) if self.scale_by_layer else np.ones(self.n_layers)
        return (scale / divisor).astype(np.float32)


# The largest values of config.json that are taken, far above those of any model.
_LAYERS = dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 10_000)
_WIDTHS = dict.fromkeys(
    ("hidden_size", "n_embd", "dim", "hidden_dim", "intermediate_size", "n_inner", "ffn_dim")
    + ("head_dim", "word_embed_proj_dim", "num_attention_heads", "n_head", "n_heads", "num_heads")
    + ("num_key_value_heads", "type_vocab_size"),
    1 << 20,
)
_TABLES = dict.fromkeys(
    ("vocab_size", "max_position_embeddings", "n_positions", "n_ctx", "sliding_window")
    + ("window_size", "max_window_layers", "pad_token_id", "bos_token_id", "eos_token_id"),
    1 << 28,
)
_MOST = {**_LAYERS, **_WIDTHS, **_TABLES}


def check_sizes(fields: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError if a size in config.json is beyond any model's, before anything is made of
    it."""
    for name, most in _MOST.items():
        value = fields.get(name)
        if isinstance(value, int | float) and not -most <= value <= most:
            raise ValueError(
                f"{path}: {name} is {value!r}, and no model has more than {most}; correct it, or "
                "download the checkpoint again."
            )
    for name in ("layer_types", "attention_layers"):
        if isinstance(fields.get(name), list) and len(fields[name]) > _LAYERS["n_layers"]:
            raise ValueError(f"{path}: {name} lists {len(fields[name])} layers; correct it.")
    repeated = fields.get("attention_types")
    if repeated is None:
        return
    try:
        layers = sum(len(kinds) * max(number, 0) for kinds, number in repeated)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: attention_types is not a list of [[kinds], how often]; correct it."
        ) from None
    if layers > _LAYERS["num_layers"]:
        raise ValueError(f"{path}: attention_types stands for {layers} layers; correct it.")


def refuse_options(config: Any, supported: Mapping[str, Any]) -> None:
    """Raise ValueError if an option in a transformers config has a value we do not implement.

    `supported` maps an option to the one value implemented. An absent, None or empty option is
    taken as not set.
    """
    wrong = []
    for option, value in supported.items():
        actual = getattr(config, option, None)
        if actual is not None and actual != value and not (isinstance(actual, dict) and not actual):
            wrong.append(f"{option}={actual!r} (only {value!r})")
    if wrong:
        raise ValueError(
            f"config.json asks for what the {config.model_type} model here does not implement: "
            f"{'; '.join(wrong)}. Use a checkpoint without it."
        )
