"""BERT: a bidirectional encoder with normalisation after each residual sum.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers" (arXiv 1810.04805);
layout and arithmetic as transformers' `BertModel`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from brainalign_jax.language.models.blocks.transformer import (
    Embedding,
    LanguageModel,
    Norm,
    TransformerConfig,
    gated,
    refuse_options,
)
from brainalign_jax.language.models.weights.sources import Source, linear, norm, table

PREFIXES = ("bert.",)
NOT_ENCODER = (
    r"pooler\..*",
    r"cls\..*",
    r"(classifier|qa_outputs|score)\..*",
    r"embeddings\.(position_ids|token_type_ids)",
)


def architecture(config: Any) -> TransformerConfig:
    """A transformers `BertConfig` as a TransformerConfig; ValueError on an unsupported option."""
    refuse_options(
        config,
        {
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "add_cross_attention": False,
            "is_encoder_decoder": False,
            "pruned_heads": {},
            "quantization_config": None,
        },
    )
    return TransformerConfig(
        family="bert",
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        ffn_width=config.intermediate_size,
        max_length=config.max_position_embeddings,
        activation=config.hidden_act,
        norm_eps=config.layer_norm_eps,
        embed_width=config.hidden_size,
        causal=False,
        norm_first=False,
        final_norm=False,
        type_vocab_size=config.type_vocab_size,
        init_std=config.initializer_range or 0.02,
        pad_id=config.pad_token_id,
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "encoder.layer.{layer}."
    heads = [f"{layer}attention.self.{name}" for name in ("query", "key", "value")]
    return {
        **table("words", "embeddings.word_embeddings"),
        **table("positions", "embeddings.position_embeddings"),
        **table("token_types", "embeddings.token_type_embeddings"),
        **norm("embedding_norm", "embeddings.LayerNorm"),
        **linear("blocks.qkv", *heads),
        **linear("blocks.attention_out", layer + "attention.output.dense"),
        **norm("blocks.attention_norm", layer + "attention.output.LayerNorm"),
        **linear("blocks.ffn_in", layer + "intermediate.dense"),
        **linear("blocks.ffn_out", layer + "output.dense"),
        **norm("blocks.ffn_norm", layer + "output.LayerNorm"),
    }


class Bert(LanguageModel):
    """BERT with seeded random weights, initialised as transformers does."""

    def __init__(self, config: TransformerConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        super().__init__(config, dtype=dtype, rngs=rngs)
        shared = dict(std=config.init_std, dtype=dtype, rngs=rngs)
        rows, offset = config.max_length + config.position_offset, config.position_offset
        # RoBERTa's row of the padding token is no position.
        unused = dict(zero_row=offset - 1) if offset else {}
        self.positions = Embedding(rows, config.width, **unused, **shared)
        types = config.type_vocab_size
        self.token_types = Embedding(types, config.width, **shared) if types else None
        self.embedding_norm = Norm((), config.width, eps=config.norm_eps, affine=True, dtype=dtype)

    def embedded(self, input_ids, positions, position_gate) -> jax.Array:
        x = self.words(input_ids)
        if self.token_types is not None:
            # Every token has type 0: one text, never a pair.
            x = x + self.token_types(jnp.zeros((), jnp.int32))
        rows = self.positions(positions + self.config.position_offset)
        return self.embedding_norm(x + gated(rows, position_gate))
