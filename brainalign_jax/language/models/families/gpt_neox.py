"""GPT-NeoX, of which Pythia: a causal decoder with rotary positions and, as a rule, attention and
feed-forward side by side.

Black et al. 2022, "GPT-NeoX-20B" (arXiv 2204.06745); Biderman et al. 2023, "Pythia" (arXiv
2304.01373); layout and arithmetic as transformers' `GPTNeoXModel`.
"""

from __future__ import annotations

from typing import Any

from brainalign_jax.language.models.blocks.rotary import rotary_frequencies
from brainalign_jax.language.models.blocks.transformer import (
    LanguageModel,
    TransformerConfig,
    refuse_options,
)
from brainalign_jax.language.models.weights.sources import Source, linear, norm, table

PREFIXES = ("gpt_neox.",)
NOT_ENCODER = (
    r"(embed_out|lm_head)\.weight",
    r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
    r"rotary_emb\.inv_freq",
    r"(score|classifier|qa_outputs)\..*",
)


def architecture(config: Any) -> TransformerConfig:
    """A transformers `GPTNeoXConfig` as a TransformerConfig; ValueError on an unsupported option."""
    refuse_options(config, {"quantization_config": None, "pruned_heads": {}})
    head_size = config.hidden_size // max(config.num_attention_heads, 1)
    return TransformerConfig(
        family="gpt_neox",
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        ffn_width=config.intermediate_size,
        max_length=config.max_position_embeddings,
        activation=config.hidden_act,
        norm_eps=config.layer_norm_eps,
        embed_width=config.hidden_size,
        causal=True,
        norm_first=True,
        final_norm=True,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
        parallel=config.use_parallel_residual,
        rotary=rotary_frequencies(config, head_size, partial=True),
        init_std=config.initializer_range or 0.02,
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "layers.{layer}."
    return {
        **table("words", "embed_in"),
        **norm("blocks.attention_norm", layer + "input_layernorm"),
        **linear("blocks.qkv", layer + "attention.query_key_value", packed=config.n_heads),
        **linear("blocks.attention_out", layer + "attention.dense"),
        **norm("blocks.ffn_norm", layer + "post_attention_layernorm"),
        **linear("blocks.ffn_in", layer + "mlp.dense_h_to_4h"),
        **linear("blocks.ffn_out", layer + "mlp.dense_4h_to_h"),
        **norm("final_norm", "final_layer_norm"),
    }


class GPTNeoX(LanguageModel):
    """GPT-NeoX with seeded random weights, initialised as transformers does."""
