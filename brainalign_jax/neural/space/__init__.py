"""Where the columns of a recording lie in its source images, and how scores go back there."""

from brainalign_jax.neural.space.base import VoxelSpace

__all__ = ["VoxelSpace"]
