"""RoBERTa: BERT with positions counted from the row after the padding token's.

Liu et al. 2019, "RoBERTa" (arXiv 1907.11692); layout and arithmetic as transformers'
`RobertaModel`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brainalign_jax.language.models.blocks.transformer import TransformerConfig
from brainalign_jax.language.models.families import bert

PREFIXES = ("roberta.",)
NOT_ENCODER = (
    r"pooler\..*",
    r"lm_head\..*",
    r"(classifier|qa_outputs|score)\..*",
    r"embeddings\.(position_ids|token_type_ids)",
)
sources = bert.sources


def architecture(config: Any) -> TransformerConfig:
    """A transformers `RobertaConfig` as a TransformerConfig; ValueError on an unsupported option."""
    if config.pad_token_id is None or config.pad_token_id < 0:
        raise ValueError(
            f"pad_token_id is {config.pad_token_id}, and RoBERTa counts positions from it; "
            "correct config.json."
        )
    offset = config.pad_token_id + 1
    plain = bert.architecture(config)
    return replace(
        plain, family="roberta", max_length=plain.max_length - offset, position_offset=offset
    )


class Roberta(bert.Bert):
    """RoBERTa with seeded random weights, initialised as transformers does."""
