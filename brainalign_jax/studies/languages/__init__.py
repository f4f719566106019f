"""Does it hold for other languages? Trained on the people of one, tested on the people of another."""

from brainalign_jax.studies.languages.languages import run_languages
from brainalign_jax.studies.languages.table import LanguageTable
from brainalign_jax.studies.languages.verdict import headline, verdicts

__all__ = ["LanguageTable", "headline", "run_languages", "verdicts"]
