"""The families of models, by the `model_type` of config.json."""

from __future__ import annotations

from types import ModuleType

from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.families import (
    bert,
    distilbert,
    gpt2,
    gpt_neo,
    gpt_neox,
    llama,
    opt,
    roberta,
)

# The module gives `architecture`, `sources`, `PREFIXES` and `NOT_ENCODER`.
FAMILIES: dict[str, tuple[ModuleType, type[LanguageModel]]] = {
    "bert": (bert, bert.Bert),
    "roberta": (roberta, roberta.Roberta),
    "distilbert": (distilbert, distilbert.DistilBert),
    "gpt2": (gpt2, gpt2.GPT2),
    "gpt_neo": (gpt_neo, gpt_neo.GPTNeo),
    "gpt_neox": (gpt_neox, gpt_neox.GPTNeoX),
    "opt": (opt, opt.OPT),
    "llama": (llama, llama.Llama),
    "mistral": (llama, llama.Llama),
    "qwen2": (llama, llama.Llama),
    "qwen3": (llama, llama.Llama),
}
