"""From the paper's protocol to the audited one, a choice at a time."""

from brainalign_jax.studies.ladder.ladder import Ladder, ladder_steps, run_ladder

__all__ = ["Ladder", "ladder_steps", "run_ladder"]
