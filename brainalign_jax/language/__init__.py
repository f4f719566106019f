"""The text side: a stimulus and a language model give word vectors of every layer."""

from brainalign_jax.language.embed import Embeddings, embed
from brainalign_jax.language.models.registry import list_models, resolve
from brainalign_jax.language.surprisal import surprisal

__all__ = ["Embeddings", "embed", "list_models", "resolve", "surprisal"]
