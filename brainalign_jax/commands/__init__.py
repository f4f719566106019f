"""The commands of `brainalign` and of the mains in experiments/: options described once, one call each."""
