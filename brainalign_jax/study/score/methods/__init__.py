"""Methods of comparison, each a file that enters its own by `registry.register_method`."""

from brainalign_jax.study.registry import METHODS, check_decoders
from brainalign_jax.study.score.methods.base import FoldProblem, Method, pools_folds
from brainalign_jax.study.score.methods.linear import LinearDecoding
from brainalign_jax.study.score.methods.procrustes import Procrustes
from brainalign_jax.study.score.methods.ridge import Ridge, RidgeState
from brainalign_jax.study.score.methods.similarity import SimilarityDecoding

__all__ = [
    "METHODS", "FoldProblem", "LinearDecoding", "Method", "Procrustes", "Ridge", "RidgeState",
    "SimilarityDecoding", "method_of", "pools_folds",
]  # fmt: skip


def method_of(name: str, protocol) -> Method:
    """The method of that name under the choices of a protocol, as it takes them."""
    check_decoders([name], "this study")
    entry, choices = METHODS[name], protocol.of_method(name)
    return entry(choices) if isinstance(entry, type) else LinearDecoding(choices, entry, name)
