"""DistilBERT: BERT without token types.

Sanh et al. 2019, "DistilBERT" (arXiv 1910.01108); layout and arithmetic as transformers'
`DistilBertModel`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.blocks.transformer import TransformerConfig, refuse_options
from brainalign_jax.language.models.families.bert import Bert
from brainalign_jax.language.models.weights.sources import Source, linear, norm, table

PREFIXES = ("distilbert.",)
NOT_ENCODER = (
    r"vocab_(transform|layer_norm|projector)\..*",
    r"(pre_classifier|classifier|qa_outputs)\..*",
    r"embeddings\.position_ids",
)
_NORM_EPS = 1e-12  # fixed in transformers; the config has no option for it


def architecture(config: Any) -> TransformerConfig:
    """A transformers `DistilBertConfig` as a TransformerConfig; ValueError on an unsupported
    option."""
    refuse_options(config, {"pruned_heads": {}, "quantization_config": None})
    return TransformerConfig(
        family="distilbert",
        vocab_size=config.vocab_size,
        width=config.dim,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        ffn_width=config.hidden_dim,
        max_length=config.max_position_embeddings,
        activation=config.activation,
        norm_eps=_NORM_EPS,
        embed_width=config.dim,
        causal=False,
        norm_first=False,
        final_norm=False,
        init_std=config.initializer_range or 0.02,
        pad_id=config.pad_token_id,
        sinusoidal=bool(config.sinusoidal_pos_embds),
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "transformer.layer.{layer}."
    heads = [f"{layer}attention.{name}_lin" for name in "qkv"]
    return {
        **table("words", "embeddings.word_embeddings"),
        **table("positions", "embeddings.position_embeddings"),
        **norm("embedding_norm", "embeddings.LayerNorm"),
        **linear("blocks.qkv", *heads),
        **linear("blocks.attention_out", layer + "attention.out_lin"),
        **norm("blocks.attention_norm", layer + "sa_layer_norm"),
        **linear("blocks.ffn_in", layer + "ffn.lin1"),
        **linear("blocks.ffn_out", layer + "ffn.lin2"),
        **norm("blocks.ffn_norm", layer + "output_layer_norm"),
    }


class DistilBert(Bert):
    """DistilBERT with seeded random weights, initialised as transformers does.

    Where the config asks for sinusoidal positions, the table is not random. A checkpoint holds it
    like any other.
    """

    def __init__(self, config: TransformerConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        super().__init__(config, dtype=dtype, rngs=rngs)
        if config.sinusoidal:
            table = sinusoids(config.max_length, config.width)
            self.positions.table = nnx.Param(jnp.asarray(table, dtype))


def sinusoids(rows: int, width: int) -> np.ndarray:
    """Positions as sines (even columns) and cosines (odd ones) of falling frequency, [rows, width].

    Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762).
    """
    columns = np.arange(width)
    angles = np.arange(rows)[:, None] / 10000 ** (2 * (columns // 2) / width)
    return np.where(columns % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
