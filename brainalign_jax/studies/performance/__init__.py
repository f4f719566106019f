"""Does alignment go with what models can do, beyond their size, over training, and over ablations?"""

from brainalign_jax.studies.performance.performance import run_performance
from brainalign_jax.studies.performance.table import PerformanceTable
from brainalign_jax.studies.performance.verdict import headline, verdicts

__all__ = ["PerformanceTable", "headline", "run_performance", "verdicts"]
