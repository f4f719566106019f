"""Is a rewording that follows from an idiom or a metaphor nearer to it than one that does not?"""

from brainalign_jax.studies.figurative.figurative import run_figurative
from brainalign_jax.studies.figurative.pairs import Pairs, read_pairs
from brainalign_jax.studies.figurative.table import FigurativeTable
from brainalign_jax.studies.figurative.verdict import headline, verdicts

__all__ = ["FigurativeTable", "Pairs", "headline", "read_pairs", "run_figurative", "verdicts"]
