"""From scans to one response a word: cleaned run by run, read out by a kernel or by deconvolution."""

from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.neural.readout.process import word_responses

__all__ = ["Processing", "word_responses"]
