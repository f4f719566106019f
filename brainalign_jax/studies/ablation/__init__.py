"""Which part of the model carries the alignment? One part after another is switched off."""

from brainalign_jax.studies.ablation.ablation import run_ablation
from brainalign_jax.studies.ablation.table import AblationTable
from brainalign_jax.studies.ablation.verdict import headline, verdicts

__all__ = ["AblationTable", "headline", "run_ablation", "verdicts"]
