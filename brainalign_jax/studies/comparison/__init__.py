"""Are models alike, layer by layer, and in the words that brains agree on?"""

from brainalign_jax.studies.comparison.comparison import run_comparison
from brainalign_jax.studies.comparison.table import ComparisonTable
from brainalign_jax.studies.comparison.verdict import headline, verdicts

__all__ = ["ComparisonTable", "headline", "run_comparison", "verdicts"]
