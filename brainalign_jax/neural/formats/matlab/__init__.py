"""MATLAB files of versions 5 to 7.3, read alike; every size and type is checked before it is believed."""

from brainalign_jax.neural.formats.matlab.open import MatlabFile, open_matlab

__all__ = ["MatlabFile", "open_matlab"]
