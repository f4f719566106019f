"""What a model adds to what words look like, voxel by voxel, with maps."""

from brainalign_jax.studies.encoding.encoding import run_encoding
from brainalign_jax.studies.encoding.table import EncodingTable
from brainalign_jax.studies.encoding.verdict import headline, verdicts

__all__ = ["EncodingTable", "headline", "run_encoding", "verdicts"]
