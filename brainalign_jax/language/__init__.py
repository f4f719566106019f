"""The text side: a stimulus and a language model give word vectors of every layer."""

import os

# transformers warns that PyTorch is not there, which nobody here needs.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from brainalign_jax.language.embed import Embeddings, embed
from brainalign_jax.language.models.registry import list_models, resolve
from brainalign_jax.language.span_vectors import embed_spans
from brainalign_jax.language.surprisal import surprisal

__all__ = ["Embeddings", "embed", "embed_spans", "list_models", "resolve", "surprisal"]
