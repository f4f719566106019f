"""Claims of papers as small files, tried by their own protocol, then by audited evidence."""

from brainalign_jax.studies.claims.claim_files import Check, Claim, read_claims
from brainalign_jax.studies.claims.claims import run_claims
from brainalign_jax.studies.claims.outcomes import OUTCOMES, Expected, outcome_of
from brainalign_jax.studies.claims.quantities import Quantity
from brainalign_jax.studies.claims.table import ClaimsTable

__all__ = [
    "OUTCOMES", "Check", "Claim", "ClaimsTable", "Expected", "Quantity", "outcome_of", "read_claims",
    "run_claims",
]  # fmt: skip
