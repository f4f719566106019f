"""The choices of the studies that are built of studies: what is asked, beside vectors, scores and protocol.

Light to import: commands make their options of these before anything heavy is loaded.
"""

from brainalign_jax.studies.options.ablation import Ablation
from brainalign_jax.studies.options.planning import TESTS, Planning, largest_effect
from brainalign_jax.studies.options.questions import (
    CANDIDATE_RULES,
    CONDITION,
    JOINT,
    Abilities,
    Comparison,
    Encoding,
    Figurative,
    Generalisation,
    Languages,
    Performance,
    VoxelEncoding,
)
from brainalign_jax.studies.options.specifications import Specifications
from brainalign_jax.studies.options.timecourse import TIME_METHODS, TimeCourse

__all__ = [
    "Abilities",
    "Ablation",
    "CANDIDATE_RULES",
    "CONDITION",
    "Comparison",
    "Encoding",
    "Figurative",
    "Generalisation",
    "JOINT",
    "Languages",
    "Performance",
    "Planning",
    "TESTS",
    "Specifications",
    "TIME_METHODS",
    "TimeCourse",
    "VoxelEncoding",
    "largest_effect",
]
