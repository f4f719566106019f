"""What a model adds to word rate and sound power, region by region."""

from brainalign_jax.studies.regions.encoding import run_region_encoding
from brainalign_jax.studies.regions.recordings import RegionRecordings, alice_regions
from brainalign_jax.studies.regions.table import RegionTable
from brainalign_jax.studies.regions.verdict import headline, verdicts

__all__ = [
    "RegionRecordings",
    "RegionTable",
    "alice_regions",
    "headline",
    "run_region_encoding",
    "verdicts",
]
