"""Methods of scoring by name: those of `score.methods`, which enters them here, and any that users enter."""

import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any

BUILT_IN = ("procrustes", "ridge", "rsa")
# name -> what makes the method of a protocol, or the function of a linear map.
METHODS: dict[str, Callable[..., Any]] = {}


def register_method(name: str) -> Callable[[Callable], Callable]:
    """Decorator that makes a measure known: a study is then asked for it by name, as for ridge.

    Of a function `fit(responses, vectors, weights)` the study decodes words through the linear map that it
    returns, with the folds, null draws, controls, ceilings and verdict of the built-in methods. It is
    called by JAX, for each fold and layer, with

      `responses`: [T, R] mean response to each word type, in the axes that the responses span;
      `vectors`: [T, E] of the layer, in the axes that they span;
      `weights`: [T] training tokens of each type; 0 for words that are not trained on, whose rows are zero in
        both. Both sides are less their training mean, where the protocol centres;

    and returns the map [R, E] from responses to vectors. A class is a whole method, `prepare` and `evaluate`
    as in `study.score.methods.base`, made of a protocol.
    What a study keeps of a function is found again by what it computes, of a class by its source text.

    Raises ValueError for a name that is no word of letters, digits and underscores, or that another method
    holds; TypeError for what is neither function nor class.

    >>> import brainalign_jax as ba
    >>> @ba.register_method("covariance")
    ... def covariance(responses, vectors, weights):
    ...     return (responses * weights[:, None]).T @ vectors
    >>> ba.Scoring(methods=("covariance", "ridge")).methods
    ('covariance', 'ridge')
    """
    if not name.isidentifier():
        raise ValueError(
            f"{name!r} is no name of a method: write letters, digits and underscores, as partial_ridge"
        )

    def enter(made: Callable) -> Callable:
        if not inspect.isclass(made) and not inspect.isfunction(made):
            raise TypeError(
                f"the method {name!r} is a {type(made).__name__}: register a function or a class"
            )
        holder = METHODS.get(name)
        place = f"{made.__module__}.{made.__qualname__}"
        held = holder and f"{holder.__module__}.{holder.__qualname__}"
        own = name in BUILT_IN and not made.__module__.startswith(f"{__package__}.score.methods.")
        if (holder is not None and held != place) or own:
            raise ValueError(
                f"the method {name!r} is taken by {held or __package__}; register another name"
            )
        METHODS[name] = made
        return made

    return enter


def known_methods() -> tuple[str, ...]:
    """The names that a study may be asked for."""
    return tuple(dict.fromkeys((*BUILT_IN, *METHODS)))


def identity_of(name: str) -> str:
    """What tells a method from others in what is kept of a study: its name, and what a user's one does."""
    if name in BUILT_IN:
        return name
    made = METHODS[name]
    text = _source(made) + (_traced(made) if inspect.isfunction(made) else "")
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _source(made: Callable) -> str:
    try:
        return inspect.getsource(made)
    except (OSError, TypeError):  # typed into a console
        return ""


def _traced(fit: Callable) -> str:
    """What the function computes, with all that it calls and refers to, as JAX sees it on a small example."""
    import jax
    import numpy as np

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((9, 5), (9, 7), (9,))]
    try:
        program = jax.make_jaxpr(fit)(*shapes)
    except (
        Exception
    ):  # on so few words it may be wrong: then the study says so, or its text tells enough
        return ""
    constants = b"".join(np.asarray(constant).tobytes() for constant in program.consts)
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program))  # places in memory
    return text + hashlib.sha256(constants).hexdigest()
