"""GPT-2: a causal decoder with normalisation before each sub-block.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; layout and arithmetic
as transformers' `GPT2Model`. `reorder_and_upcast_attn` needs no switch: attention scores and
softmax are always in float32 here.
"""

from __future__ import annotations

import math
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

PREFIXES = ("transformer.",)
NOT_ENCODER = (
    r"lm_head\.weight",
    r"h\.\d+\.attn\.(bias|masked_bias)",
    r"(score|classifier|qa_outputs|multiple_choice_head)\..*",
    r"position_ids",
)


def architecture(config: Any) -> TransformerConfig:
    """A transformers `GPT2Config` as a TransformerConfig; ValueError on an unsupported option."""
    refuse_options(
        config,
        {
            "add_cross_attention": False,
            "is_encoder_decoder": False,
            "pruned_heads": {},
            "quantization_config": None,
        },
    )
    std = config.initializer_range or 0.02
    return TransformerConfig(
        family="gpt2",
        vocab_size=config.vocab_size,
        width=config.n_embd,
        n_layers=config.n_layer,
        n_heads=config.n_head,
        ffn_width=4 * config.n_embd if config.n_inner is None else config.n_inner,
        max_length=config.n_positions,
        activation=config.activation_function,
        norm_eps=config.layer_norm_epsilon,
        embed_width=config.n_embd,
        causal=True,
        norm_first=True,
        final_norm=True,
        scale_scores=config.scale_attn_weights,
        scale_by_layer=config.scale_attn_by_inverse_layer_idx,
        init_std=std,
        # transformers scales by the configured range here, without the 0.02 fallback.
        residual_init_std=config.initializer_range / math.sqrt(2 * max(config.n_layer, 1)),
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped.

    GPT-2's `Conv1D` kernels are [in, out] in PyTorch already.
    """
    layer = "h.{layer}."
    return {
        **table("words", "wte"),
        **table("positions", "wpe"),
        **norm("blocks.attention_norm", layer + "ln_1"),
        **linear("blocks.qkv", layer + "attn.c_attn", transposed=False),
        **linear("blocks.attention_out", layer + "attn.c_proj", transposed=False),
        **norm("blocks.ffn_norm", layer + "ln_2"),
        **linear("blocks.ffn_in", layer + "mlp.c_fc", transposed=False),
        **linear("blocks.ffn_out", layer + "mlp.c_proj", transposed=False),
        **norm("final_norm", "ln_f"),
    }


class GPT2(LanguageModel):
    """GPT-2 with seeded random weights, initialised as transformers does."""

    def __init__(self, config: TransformerConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        super().__init__(config, dtype=dtype, rngs=rngs)
        shared = dict(std=config.init_std, dtype=dtype, rngs=rngs)
        self.positions = Embedding(config.max_length, config.width, **shared)

    def embedded(self, input_ids, positions, position_gate) -> jax.Array:
        return self.words(input_ids) + gated(self.positions(positions), position_gate)
