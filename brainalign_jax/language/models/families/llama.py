"""Llama and its kin (Mistral, Qwen2, Qwen3): causal decoders with RMS norms, rotary positions,
shared keys and values, and a gated feed-forward sub-layer.

Touvron et al. 2023, "LLaMA" (arXiv 2302.13971); Jiang et al. 2023, "Mistral 7B" (arXiv
2310.06825); Qwen team 2024 and 2025 (arXiv 2407.10671, 2505.09388); layout and arithmetic as
transformers' `LlamaModel`, `MistralModel`, `Qwen2Model` and `Qwen3Model`.
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

PREFIXES = ("model.",)
NOT_ENCODER = (
    r"lm_head\.weight",
    r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    r"rotary_emb\.inv_freq",
    r"(score|classifier|qa_outputs)\..*",
)


def architecture(config: Any) -> TransformerConfig:
    """A transformers config of the four as a TransformerConfig; ValueError on an unsupported
    option."""
    refuse_options(config, {"quantization_config": None, "pruned_heads": {}})
    kind = config.model_type
    head_size = getattr(config, "head_dim", None)
    if head_size is None:
        head_size = config.hidden_size // max(config.num_attention_heads, 1)
    attention_bias = bool(getattr(config, "attention_bias", False))
    return TransformerConfig(
        family=kind,
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        head_width=head_size,
        ffn_width=config.intermediate_size,
        max_length=config.max_position_embeddings,
        activation=config.hidden_act,
        norm_eps=config.rms_norm_eps,
        embed_width=config.hidden_size,
        causal=True,
        norm_first=True,
        final_norm=True,
        bias=bool(getattr(config, "mlp_bias", False)),
        qkv_bias=kind == "qwen2" or attention_bias,
        out_bias=attention_bias,
        rms_norm=True,
        gated=True,
        head_norm=kind == "qwen3",
        windows=_windows(config),
        rotary=rotary_frequencies(config, head_size),
        init_std=config.initializer_range or 0.02,
        pad_id=config.pad_token_id,
    )


def _windows(config: Any) -> tuple[int, ...]:
    window = getattr(config, "sliding_window", None)
    if config.model_type == "llama" or not window:
        return ()
    kinds = getattr(config, "layer_types", None)
    if config.model_type == "mistral" and kinds is not None:
        # transformers' MistralModel overlooks layer_types: not what its checkpoint was trained as.
        raise ValueError(
            "config.json asks for what the mistral model here does not implement: "
            f"layer_types={kinds!r}. Use a checkpoint without it."
        )
    kinds = kinds or ["sliding_attention"] * config.num_hidden_layers
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise ValueError(f"layer_types {sorted(unknown)} are not supported; correct config.json.")
    return tuple(int(window) if kind == "sliding_attention" else 0 for kind in kinds)


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "layers.{layer}."
    heads = [f"{layer}self_attn.{name}_proj" for name in "qkv"]
    return {
        **table("words", "embed_tokens"),
        **norm("blocks.attention_norm", layer + "input_layernorm"),
        **linear("blocks.qkv", *heads, widths=config.qkv_widths),
        **norm("blocks.query_norm", layer + "self_attn.q_norm"),
        **norm("blocks.key_norm", layer + "self_attn.k_norm"),
        **linear("blocks.attention_out", layer + "self_attn.o_proj"),
        **norm("blocks.ffn_norm", layer + "post_attention_layernorm"),
        **linear("blocks.ffn_in", layer + "mlp.gate_proj", layer + "mlp.up_proj"),
        **linear("blocks.ffn_out", layer + "mlp.down_proj"),
        **norm("final_norm", "norm"),
    }


class Llama(LanguageModel):
    """A model of the Llama kind with seeded random weights, initialised as transformers does."""
