"""What can a language model do? Bits, minimal pairs, reading times and multiple choice, measured here."""

from brainalign_jax.studies.abilities.abilities import run_abilities
from brainalign_jax.studies.abilities.pairs import read_minimal_pairs
from brainalign_jax.studies.abilities.reading import read_reading_times
from brainalign_jax.studies.abilities.table import AbilitiesTable
from brainalign_jax.studies.abilities.verdict import headline, verdicts

__all__ = [
    "AbilitiesTable",
    "headline",
    "read_minimal_pairs",
    "read_reading_times",
    "run_abilities",
    "verdicts",
]
