"""Measures of similarity, each a file that enters its own by `registry.register_measure`."""

from brainalign_jax.study.registry import MEASURES
from brainalign_jax.study.score.measures.base import FunctionMeasure, MatrixMeasure, Measure
from brainalign_jax.study.score.measures.kernels import LinearCka, RbfCka
from brainalign_jax.study.score.measures.neighbours import (
    JaccardNeighbours,
    MutualNeighbours,
    RankOverlap,
)
from brainalign_jax.study.score.measures.rsa import RsaScore
from brainalign_jax.study.score.measures.spaces import Pwcca, Shape, Svcca

__all__ = [
    "FunctionMeasure", "JaccardNeighbours", "LinearCka", "MatrixMeasure", "Measure", "MutualNeighbours",
    "Pwcca", "RankOverlap", "RbfCka", "RsaScore", "Shape", "Svcca", "label_of", "measure_of",
]  # fmt: skip


def label_of(name: str) -> str:
    """What figures call a measure; its name, where it is not known here or a user's function."""
    label = getattr(MEASURES.get(name), "label", name)
    return label if isinstance(label, str) and label else name


def measure_of(name: str, protocol) -> Measure:
    """The measure of that name under the choices of a protocol, as it takes them."""
    entry, choices = MEASURES[name], protocol.of_method(name)
    return entry(choices) if isinstance(entry, type) else FunctionMeasure(choices, entry, name)
