"""Methods of scoring by name: those of `score.methods`, which enters them here, and any that users enter."""

from collections.abc import Callable
from typing import Any

BUILT_IN = ("procrustes", "ridge", "rsa")
# name -> what makes the method of a protocol; see `score.methods.Method`.
METHODS: dict[str, Callable[..., Any]] = {}


def known_methods() -> tuple[str, ...]:
    """The names that a study may be asked for."""
    return tuple(dict.fromkeys((*BUILT_IN, *METHODS)))
