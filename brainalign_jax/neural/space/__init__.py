"""Where the columns of a recording lie in its source images, and how scores go back there."""

from brainalign_jax.neural.space.base import VoxelSpace
from brainalign_jax.neural.space.surfaces import CiftiSpace, SurfaceSpace
from brainalign_jax.neural.space.volumes import AtlasSpace, VolumeSpace

__all__ = ["AtlasSpace", "CiftiSpace", "SurfaceSpace", "VolumeSpace", "VoxelSpace"]
