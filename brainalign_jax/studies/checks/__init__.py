"""What noise scores, and what is found: `noise.check_noise` and `power.power`, on simulated studies."""

from brainalign_jax.studies.checks import noise, power

__all__ = ["noise", "power"]
