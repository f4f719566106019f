"""Does a finding hang on the choices that papers differ in? All combinations of them, and what decides."""

from brainalign_jax.studies.specifications.choices import CHOICES, Specification, asked_levels
from brainalign_jax.studies.specifications.curve import joint_test, parts_of
from brainalign_jax.studies.specifications.specifications import run_specifications
from brainalign_jax.studies.specifications.table import SpecificationTable

__all__ = [
    "CHOICES",
    "Specification",
    "SpecificationTable",
    "asked_levels",
    "joint_test",
    "parts_of",
    "run_specifications",
]
