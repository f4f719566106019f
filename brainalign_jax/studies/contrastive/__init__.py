"""Maps from responses to word vectors that are trained for retrieval, against ridge."""

from brainalign_jax.studies.contrastive.maps import run_comparison, text_comparison
from brainalign_jax.studies.contrastive.training import Trial

__all__ = ["Trial", "run_comparison", "text_comparison"]
