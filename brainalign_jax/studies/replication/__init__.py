"""The grid of Li et al. 2023: models × data sets × subjects, under both protocols."""

from brainalign_jax.studies.replication.replication import PRESETS, Grid, grid, replicate

__all__ = ["PRESETS", "Grid", "grid", "replicate"]
