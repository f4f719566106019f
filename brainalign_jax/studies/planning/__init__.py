"""How many people, words and repetitions does a study need? Power of the package's tests from a pilot."""

from brainalign_jax.studies.planning.planning import (
    run_pilots,
    run_planning,
    simulated_story,
    tested_pace,
)
from brainalign_jax.studies.planning.table import PlanTable
from brainalign_jax.studies.planning.verdict import headline

__all__ = ["PlanTable", "headline", "run_pilots", "run_planning", "simulated_story", "tested_pace"]
