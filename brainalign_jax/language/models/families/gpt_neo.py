"""GPT-Neo: GPT-2 with attention in every other block limited to the nearest tokens, and scores
that are not scaled.

Black et al. 2021, "GPT-Neo" (doi 10.5281/zenodo.5297715); layout and arithmetic as transformers'
`GPTNeoModel`.
"""

from __future__ import annotations

from typing import Any

from brainalign_jax.language.models.blocks.transformer import TransformerConfig, refuse_options
from brainalign_jax.language.models.families.gpt2 import GPT2
from brainalign_jax.language.models.weights.sources import Source, linear, norm, table

PREFIXES = ("transformer.",)
NOT_ENCODER = (
    r"lm_head\.weight",
    r"h\.\d+\.attn\.attention\.(bias|masked_bias)",
    r"(score|classifier|qa_outputs)\..*",
    r"position_ids",
)


def architecture(config: Any) -> TransformerConfig:
    """A transformers `GPTNeoConfig` as a TransformerConfig; ValueError on an unsupported option."""
    refuse_options(config, {"quantization_config": None, "pruned_heads": {}})
    kinds = tuple(config.attention_layers)
    unknown = set(kinds) - {"global", "local"}
    if unknown:
        raise ValueError(
            f"attention_types {sorted(unknown)} are not supported; correct config.json."
        )
    width = config.hidden_size
    return TransformerConfig(
        family="gpt_neo",
        vocab_size=config.vocab_size,
        width=width,
        n_layers=config.num_layers,
        n_heads=config.num_heads,
        ffn_width=4 * width if config.intermediate_size is None else config.intermediate_size,
        max_length=config.max_position_embeddings,
        activation=config.activation_function,
        norm_eps=config.layer_norm_epsilon,
        embed_width=width,
        causal=True,
        norm_first=True,
        final_norm=True,
        qkv_bias=False,
        scale_scores=False,
        windows=tuple(config.window_size if kind == "local" else 0 for kind in kinds),
        init_std=config.initializer_range or 0.02,
    )


def sources(config: TransformerConfig) -> dict[str, Source]:
    """Where each parameter lies in a PyTorch checkpoint, prefix stripped."""
    layer = "h.{layer}."
    heads = [f"{layer}attn.attention.{name}_proj" for name in "qkv"]
    return {
        **table("words", "wte"),
        **table("positions", "wpe"),
        **norm("blocks.attention_norm", layer + "ln_1"),
        **linear("blocks.qkv", *heads),
        **linear("blocks.attention_out", layer + "attn.attention.out_proj"),
        **norm("blocks.ffn_norm", layer + "ln_2"),
        **linear("blocks.ffn_in", layer + "mlp.c_fc"),
        **linear("blocks.ffn_out", layer + "mlp.c_proj"),
        **norm("final_norm", "ln_f"),
    }


class GPTNeo(GPT2):
    """GPT-Neo with seeded random weights, initialised as transformers does."""
