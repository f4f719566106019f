"""OPT: a causal decoder; normalisation before each sub-block, or after it in opt-350m.

Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models" (arXiv 2205.01068); layout
and arithmetic as transformers' `OPTModel`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from brainalign_jax.language.models.blocks.transformer import (
    Embedding,
    LanguageModel,
    TransformerConfig,
    gated,
    refuse_options,
)
from brainalign_jax.language.models.weights.sources import Source, linear, norm, table

PREFIXES = ("model.decoder.", "decoder.")
NOT_ENCODER = (
    r"lm_head\.weight",
    r"version",
    r"(score|classifier|qa_outputs)\..*",
    r"position_ids",
)
_NORM_EPS = 1e-5  # torch's default; OPT's config has no option for it


def architecture(config: Any) -> TransformerConfig:
    """A transformers `OPTConfig` as a TransformerConfig; ValueError on an unsupported option."""
    refuse_options(
        config,
        {
            "add_cross_attention": False,
            "is_encoder_decoder": False,
            "pruned_heads": {},
            "quantization_config": None,
        },
    )
    removed = getattr(config, "_remove_final_layer_norm", False)
    std = getattr(config, "initializer_range", None)
    return TransformerConfig(
        family="opt",
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        ffn_width=config.ffn_dim,
        max_length=config.max_position_embeddings,
        activation=config.activation_function,
        norm_eps=_NORM_EPS,
        embed_width=config.word_embed_proj_dim,
        causal=True,
        norm_first=config.do_layer_norm_before,
        final_norm=config.do_layer_norm_before and not removed,
        bias=config.enable_bias,
        norm_affine=config.layer_norm_elementwise_affine,
        position_offset=2,
        init_std=config.init_std if std is None else std,
        pad_id=config.pad_token_id,
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "layers.{layer}."
    heads = [f"{layer}self_attn.{name}_proj" for name in "qkv"]
    return {
        **table("words", "embed_tokens"),
        **table("positions", "embed_positions"),
        **linear("project_in", "project_in"),
        **linear("project_out", "project_out"),
        **norm("blocks.attention_norm", layer + "self_attn_layer_norm"),
        **linear("blocks.qkv", *heads),
        **linear("blocks.attention_out", layer + "self_attn.out_proj"),
        **norm("blocks.ffn_norm", layer + "final_layer_norm"),
        **linear("blocks.ffn_in", layer + "fc1"),
        **linear("blocks.ffn_out", layer + "fc2"),
        **norm("final_norm", "final_layer_norm"),
    }


class OPT(LanguageModel):
    """OPT with seeded random weights, initialised as transformers does."""

    def __init__(self, config: TransformerConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        super().__init__(config, dtype=dtype, rngs=rngs)
        c, shared = config, dict(std=config.init_std, dtype=dtype, rngs=rngs)
        self.positions = Embedding(c.max_length + c.position_offset, c.width, **shared)
        self.project_in = self._projection(c.embed_width, c.width, dtype, rngs)

    def embedded(self, input_ids, positions, position_gate) -> jax.Array:
        x = self.words(input_ids)
        if self.project_in is not None:
            x = self.project_in(x)
        rows = self.positions(positions + self.config.position_offset)
        return x + gated(rows, position_gate)

    def places(self, attention_mask) -> jax.Array:
        # Padding takes position -1, so its row is the offset's last one, as in transformers.
        return jnp.cumsum(attention_mask, axis=1, dtype=jnp.int32) * attention_mask - 1
