"""The angles of rotary position embeddings, from a transformers config.

Su et al. 2021, "RoFormer" (arXiv 2104.09864); scalings as transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_SCALINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def rotary_frequencies(config: Any, head_size: int, *, partial: bool = False) -> tuple[float, ...]:
    """Radians by which one position turns each pair of elements.

    `partial`: whether the family may turn the first part of a head only. The rounding is
    transformers' (float32 exponents). Raises ValueError on a scaling that is not implemented.
    """
    options = dict(getattr(config, "rope_parameters", None) or {})
    kind = options.get("rope_type", options.get("type", "default"))
    if kind not in _SCALINGS:
        raise ValueError(
            f"config.json asks for what the {config.model_type} model here does not implement: "
            f"rope_type={kind!r} (only {', '.join(_SCALINGS)}). Use a checkpoint without it."
        )
    missing = [name for name in _SCALINGS[kind] if options.get(name) is None]
    if missing:
        raise ValueError(f"rope_type {kind!r} lacks {', '.join(missing)}; correct config.json.")
    fraction = options.get("partial_rotary_factor")
    fraction = 1.0 if fraction is None else float(fraction)
    if not 0 < fraction <= 1 or (fraction != 1 and not partial):
        raise ValueError(f"partial_rotary_factor={fraction} is not supported; correct config.json.")
    size = int(head_size * fraction)
    if size % 2:
        raise ValueError(f"{size} rotary elements of a head cannot be paired; correct config.json.")
    base = options.get("rope_theta")
    base = 10_000.0 if base is None else float(base)
    if not 0 < base < math.inf:
        raise ValueError(f"rope_theta={base} is no positive number; correct config.json.")
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    turns = np.float32(1) / (base ** exponents.astype(np.float64)).astype(np.float32)
    if kind == "linear":
        turns = turns / np.float32(options["factor"])
    elif kind == "llama3":
        turns = _llama3(turns, *(float(options[name]) for name in _SCALINGS["llama3"]))
    return tuple(float(turn) for turn in turns)


def _llama3(turns, factor, low, high, length):
    """Slow turns divided by `factor`, fast ones kept, those between interpolated (Llama 3.1)."""
    wavelength = np.float32(2 * math.pi) / turns
    slowed = np.where(wavelength > np.float32(length / low), turns / np.float32(factor), turns)
    smooth = (np.float32(length) / wavelength - np.float32(low)) / np.float32(high - low)
    between = (1 - smooth) * slowed / np.float32(factor) + smooth * slowed
    medium = (wavelength >= np.float32(length / high)) & (wavelength <= np.float32(length / low))
    return np.where(medium, between, slowed).astype(np.float32)
