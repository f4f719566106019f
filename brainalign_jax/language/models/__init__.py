"""Language models in Flax NNX, loaded from Hugging Face checkpoints; `families` lists them."""

from brainalign_jax.language.models.blocks.transformer import (
    HiddenStates,
    LanguageModel,
    TransformerConfig,
    hidden_states,
)
from brainalign_jax.language.models.checkpoint import (
    fingerprint,
    load_model,
    locate,
    read_architecture,
    read_config,
    read_tensors,
)
from brainalign_jax.language.models.families.bert import Bert
from brainalign_jax.language.models.families.gpt2 import GPT2
from brainalign_jax.language.models.families.opt import OPT
from brainalign_jax.language.models.registry import ModelSpec, list_models, resolve

__all__ = [
    "GPT2",
    "OPT",
    "Bert",
    "HiddenStates",
    "LanguageModel",
    "ModelSpec",
    "TransformerConfig",
    "fingerprint",
    "hidden_states",
    "list_models",
    "load_model",
    "locate",
    "read_architecture",
    "read_config",
    "read_tensors",
    "resolve",
]
