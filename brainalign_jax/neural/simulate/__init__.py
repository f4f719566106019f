"""Planted ground truth, written in the files of the original releases.

A simulated study goes through the same reader, kernel and tests as a real one. The planted answer
is known: which words were shown when, what every voxel recorded, and which features drive it.
"""

from brainalign_jax.neural.simulate.bold import (
    PlantedBold,
    Schedule,
    Simulation,
    schedule_runs,
    simulate_bold,
    story_words,
)
from brainalign_jax.neural.simulate.harry_potter import release_schedule, simulate_harry_potter
from brainalign_jax.neural.simulate.images import ImageSimulation, simulate_nifti

__all__ = [
    "ImageSimulation",
    "PlantedBold",
    "Schedule",
    "Simulation",
    "release_schedule",
    "schedule_runs",
    "simulate_bold",
    "simulate_harry_potter",
    "simulate_nifti",
    "story_words",
]
