"""What decides how a continuous recording becomes word responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.readout.kernels import KINDS

_READINGS = (*KINDS, "fir", "deconvolution")


@dataclass(frozen=True)
class Processing:
    """How a continuous recording becomes word responses. Times in seconds.

    kind: how a word is read out: "gaussian", "paper", "delay", "hrf", "fir" or "deconvolution". See
      `word_kernel` for the first four; "fir" is linear interpolation at each of `delays`, and
      "deconvolution" a GLM with one regressor a word (see `deconvolution_kernel`).
    delay: of "gaussian", "paper" and "delay": seconds from a word's onset to its response.
    window, sigma: of "gaussian": where its volumes lie around the delay, and the width of its weights.
    delays: of "fir": seconds after the onset, each a feature of its own beside the others of a voxel.
    alpha: ridge penalty of "deconvolution"; None for generalised cross-validation.
    detrend, standardize (z-score), high_pass (Hz): cleaning, run by run, see `clean_runs`. Without the
      first two a recording whose offsets float32 could not hold is centred, voxel by voxel.
    trim: volumes left out at the start and the end of each run, before cleaning.
    bad_voxels: "raise" or "drop", see `check_voxels`.
    responses_dir: folder; the responses are streamed to a file DATASET-SUBJECT.npz there and are read
      from it lazily, so that they need no memory. None keeps them in memory.

    Raises ValueError for choices that do not exist.
    """

    kind: str = "gaussian"
    delay: float = 6.0
    window: tuple[float, float] = (-2.0, 2.0)
    sigma: float = 1.0
    delays: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0)
    alpha: float | None = None
    detrend: bool = True
    standardize: bool = True
    high_pass: float | None = None
    trim: tuple[int, int] = (0, 0)
    bad_voxels: str = "raise"
    responses_dir: str | None = None

    def __post_init__(self) -> None:
        check_known("kind=", self.kind, _READINGS)
        check_known("bad_voxels=", self.bad_voxels, ("raise", "drop"))
        for name, length in (("window", 2), ("trim", 2), ("delays", None)):
            value = getattr(self, name)
            value = tuple(value) if isinstance(value, tuple | list) else (value,)
            if not value or (length and len(value) != length) or not all(map(_is_number, value)):
                example = {"window": "-2:2", "trim": "5:0", "delays": "2:4:6"}[name]
                raise ValueError(
                    f"{name} is {value}; give {length or 'one or more'} numbers, in Python as a tuple, "
                    f"in text as {name}={example}"
                )
            object.__setattr__(self, name, value)
        for name in ("detrend", "standardize"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give true or false")
        for name in ("delay", "sigma", "alpha", "high_pass"):
            value = getattr(self, name)
            optional = name in ("alpha", "high_pass")
            if not (_is_number(value) or (optional and value is None)):
                raise ValueError(
                    f"{name} is {value!r}; give a number"
                    + (", or leave it out" if optional else "")
                )
        if self.high_pass is not None and not self.high_pass > 0:
            raise ValueError(
                f"high_pass is {self.high_pass} Hz; give a positive frequency, or none"
            )
        if self.responses_dir is not None:
            folder = user_path(self.responses_dir, "responses_dir")
            object.__setattr__(self, "responses_dir", str(folder))
        if any(n != int(n) or n < 0 for n in self.trim):
            raise ValueError(f"trim is {self.trim}; give two numbers of volumes, not negative")
        object.__setattr__(self, "trim", tuple(int(n) for n in self.trim))
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}; give a positive penalty, or none")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
