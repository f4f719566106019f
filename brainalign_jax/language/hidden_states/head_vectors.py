"""What each attention head writes into the residual, as vectors of the words: a layer a head.

Pooling to words is linear, so that it goes before the output projection: what the heads give to it is pooled
as any layer is, and each head's part then goes through its own rows of the projection. The heads of a block
sum to what its attention adds, less the bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.machine import free_memory

HEADS = "heads"


def n_layers_of(config: TransformerConfig, sublayers: str | None) -> int:
    """The number of layers behind the embedding output: of blocks, or of heads."""
    return config.n_layers * (config.n_heads if sublayers == HEADS else 1)


def head_of(layer: int, n_heads: int) -> tuple[int, int]:
    """(block, head) of a layer of heads, both from 0; layer 0 is the embedding output."""
    return divmod(layer - 1, n_heads)


def check_size(config: TransformerConfig, n_rows: int, model: str) -> None:
    """Raise ValueError where the vectors of all heads would take more than half of the free memory."""
    n_layers = 1 + n_layers_of(config, HEADS)
    # As they are made, and the copy that `Embeddings` keeps.
    needed = 2 * 4 * n_layers * n_rows * config.width
    if needed > free_memory() // 2:
        raise ValueError(
            f"the vectors of {n_layers - 1} heads of {model} for {n_rows:,} words of width {config.width} "
            f"take {needed:,} bytes, more than half of the free memory: give fewer words, or "
            "sublayers=attention"
        )


def written_by_heads(model: LanguageModel | Any, pooled: np.ndarray) -> np.ndarray:
    """[1 + L H, rows, width] of pooled [1 + L, rows, H x head width, or the width if that is more].

    model: loaded, or its layers; pooled: the embedding output, then what the heads give in each block.
    """
    config = model.config
    n_layers, n_heads, size = config.n_layers, config.n_heads, config.head_size
    shape = (1 + n_layers * n_heads, pooled.shape[1], config.width)
    vectors = np.empty(shape, np.float32)
    vectors[0] = pooled[0, :, : config.width]
    for block in range(n_layers):
        rows = _projection(model, block).reshape(n_heads, size, config.width)
        inputs = pooled[1 + block, :, : n_heads * size].reshape(-1, n_heads, size)
        first = 1 + block * n_heads
        for head in range(n_heads):
            np.matmul(inputs[:, head], rows[head], out=vectors[first + head])
    return vectors


def _projection(model: LanguageModel | Any, block: int) -> np.ndarray:
    """The output projection [H x head width, width] of a block."""
    if isinstance(model, LanguageModel):
        kernel = model.blocks.attention_out.kernel[...][block]
    else:
        kernel = model.layer(block)["attention_out"]["kernel"][...]
    return np.asarray(kernel, np.float32)
