"""What a study scores with, by name: methods that decode words, and measures that give one number.

Those of `score.methods` and `score.measures` enter themselves here, as any that users enter.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from brainalign_jax.names import check_known

# What a study is scored with where nothing is named; rsa decodes and is a measure.
DEFAULT = ("procrustes", "ridge", "rsa")


def _written_measures() -> tuple[str, ...]:
    """The measures of `score.measures`, without importing them: `@register_measure("NAME")` in its files."""
    folder = Path(__file__).parent / "score" / "measures"
    sources = (path.read_text("utf-8") for path in sorted(folder.glob("*.py")))
    names = [
        name
        for source in sources
        for name in re.findall(r'^@register_measure\("(\w+)"\)$', source, re.MULTILINE)
    ]
    return ("rsa", *(name for name in names if name != "rsa"))


_BUILT_IN_MEASURES = _written_measures()
MEASURES_ALONE = _BUILT_IN_MEASURES[1:]  # those that decode no words
BUILT_IN = tuple(dict.fromkeys((*DEFAULT, *_BUILT_IN_MEASURES)))
# What methods that decode are scored by; a measure's value has its own name.
METRICS = (
    "precision_csls", "precision_csls_tokens", "precision_csls_types", "precision_csls_hapax",
    "precision_nn", "rank_accuracy", "pearson", "r2", "selected_layer",
)  # fmt: skip
# name -> what makes the method of a protocol, or the function of a linear map.
METHODS: dict[str, Callable[..., Any]] = {}
# name -> what makes the measure of a protocol, or the function of both sides.
MEASURES: dict[str, Callable[..., Any]] = {}


def register_method(name: str) -> Callable[[Callable], Callable]:
    """Decorator that makes a method known: a study is then asked for it by name, as for ridge.

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
    return _entering(METHODS, name, "method", f"{__package__}.score.methods.")


def register_measure(name: str) -> Callable[[Callable], Callable]:
    """Decorator that makes a measure of similarity known: a study is then asked for it by name, as for cka.

    A measure is a function `similarity(responses, vectors)` of all words at once, of

      `responses`: [T, R] mean response to each word type, in the axes that the responses span;
      `vectors`: [T, E] of the layer;

    both less their mean over the words, where the protocol centres. It is called by JAX and returns one
    number: the higher, the more alike. Nothing is decoded: a study gives its values by layer, with
    permutations of the words, controls, a ceiling and a verdict. A class is a whole measure, made of a
    protocol: see `study.score.measures.base`.

    Raises: as `register_method`.

    >>> import brainalign_jax as ba
    >>> import jax.numpy as jnp
    >>> @ba.register_measure("rv_coefficient")
    ... def rv_coefficient(responses, vectors):
    ...     brain, model = responses @ responses.T, vectors @ vectors.T
    ...     return (brain * model).sum() / jnp.linalg.norm(brain) / jnp.linalg.norm(model)
    >>> ba.Scoring(methods=("rv_coefficient", "ridge")).measures
    ('rv_coefficient',)
    """
    return _entering(MEASURES, name, "measure", f"{__package__}.score.measures.")


def _entering(entries: dict, name: str, kind: str, home: str) -> Callable[[Callable], Callable]:
    """Decorator that enters what is made under a name, which nothing else may hold."""
    if not name.isidentifier():
        raise ValueError(
            f"{name!r} is no name of a {kind}: write letters, digits and underscores, as partial_ridge"
        )

    if name in METRICS:
        raise ValueError(
            f"{name!r} is what the scores of every method are called: register another name"
        )

    def enter(entry: Callable) -> Callable:
        if not inspect.isclass(entry) and not inspect.isfunction(entry):
            raise TypeError(
                f"the {kind} {name!r} is a {type(entry).__name__}: register a function or a class"
            )
        of_house = (entry.__module__ or "").startswith(home)
        holder = entries.get(name) or (not of_house and {**METHODS, **MEASURES}.get(name)) or None
        place = f"{entry.__module__}.{entry.__qualname__}"
        held = holder and f"{holder.__module__}.{holder.__qualname__}"
        if (holder is not None and held != place) or (name in BUILT_IN and not of_house):
            raise ValueError(
                f"the name {name!r} is taken by {held or __package__}; register another name"
            )
        entries[name] = entry
        return entry

    return enter


def measures_of(methods: Iterable[str]) -> tuple[str, ...]:
    """Those of the methods that are measures of similarity."""
    return tuple(name for name in methods if name in _BUILT_IN_MEASURES or name in MEASURES)


def decoders_of(methods: Iterable[str]) -> tuple[str, ...]:
    """Those of the methods that decode words."""
    return tuple(name for name in methods if name in DEFAULT or name in METHODS)


def check_decoders(methods: Iterable[str], what: str) -> None:
    """Raises: ValueError for a method that decodes no words, which `what` needs."""
    methods = tuple(methods)
    for name in methods:
        if name not in decoders_of(methods):
            raise ValueError(
                f"{name} gives a number and decodes no words, which {what} needs: choose from "
                f"{', '.join(decoders_of(known_methods()))}"
            )


def check_measures(methods: Iterable[str], what: str) -> None:
    """Raises: ValueError for a method that is no measure of similarity on its own, which `what` needs."""
    measures = tuple(name for name in measures_of(known_methods()) if name not in DEFAULT)
    for name in methods:
        check_known("measure", name, measures, of=what)


def known_methods() -> tuple[str, ...]:
    """The names that a study may be asked for."""
    return tuple(dict.fromkeys((*BUILT_IN, *METHODS, *MEASURES)))


def identity_of(name: str) -> str:
    """What tells a method from others in what is kept of a study: its name, and what a user's one does."""
    if name in BUILT_IN:
        return name
    entry = METHODS.get(name) or MEASURES[name]
    shapes = _METHOD_SHAPES if name in METHODS else _METHOD_SHAPES[:2]
    text = _code(entry) + (_traced(entry, shapes) if inspect.isfunction(entry) else "")
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


_METHOD_SHAPES = (9, 5), (9, 7), (9,)  # of a small example


def _code(entry: Callable) -> str:
    try:
        return inspect.getsource(entry)
    except (OSError, TypeError):  # typed into a console
        return ""


def _traced(function: Callable, shapes: tuple) -> str:
    """What the function computes, with all that it calls and refers to, as JAX sees it on a small example."""
    import jax
    import numpy as np

    sides = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    try:
        program = jax.make_jaxpr(function)(*sides)
    except (
        Exception
    ):  # on so few words it may be wrong: then the study says so, or its text tells enough
        return ""
    constants = b"".join(np.asarray(constant).tobytes() for constant in program.consts)
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program))  # places in memory
    return text + hashlib.sha256(constants).hexdigest()
