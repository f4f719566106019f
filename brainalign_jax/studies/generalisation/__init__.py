"""Does it hold beyond what it was fitted on? Trained on words of one condition, tested on another's."""

from brainalign_jax.studies.generalisation.conditions import condition_mask, split_conditions
from brainalign_jax.studies.generalisation.generalisation import run_generalisation
from brainalign_jax.studies.generalisation.novelty import NoveltyTable, run_novelty
from brainalign_jax.studies.generalisation.table import GeneralisationTable
from brainalign_jax.studies.generalisation.verdict import headline, verdicts

__all__ = [
    "GeneralisationTable",
    "NoveltyTable",
    "condition_mask",
    "headline",
    "run_generalisation",
    "run_novelty",
    "split_conditions",
    "verdicts",
]
