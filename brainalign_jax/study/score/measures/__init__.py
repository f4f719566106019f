"""Measures of similarity, each a file that enters its own by `registry.register_measure`."""

import importlib
import pkgutil

from brainalign_jax.study.registry import MEASURES
from brainalign_jax.study.score.measures.base import FunctionMeasure, MatrixMeasure, Measure

__all__ = ["FunctionMeasure", "MatrixMeasure", "Measure", "label_of", "measure_of"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)


def label_of(name: str) -> str:
    """What figures call a measure; its name, where it is not known here or a user's function."""
    label = getattr(MEASURES.get(name), "label", name)
    return label if isinstance(label, str) and label else name


def measure_of(name: str, protocol) -> Measure:
    """The measure of that name under the choices of a protocol, as it takes them."""
    entry, choices = MEASURES[name], protocol.of_method(name)
    return entry(choices) if isinstance(entry, type) else FunctionMeasure(choices, entry, name)
