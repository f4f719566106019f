"""Names that users give: one that stands for several, and what an unknown one is answered with.

That is the nearest known names, never a list of forty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_WHOLE = 8  # known names that a message lists; of more it gives the nearest
_NEAREST = 3
_MOST_REVISIONS = 1000  # that one name stands for


def check_known(
    what: str, name: object, known: Iterable[str], *, of: str = "", listing: str = ""
) -> None:
    """Raises: ValueError with the message of `unknown` where the name is none of the known ones."""
    names = tuple(known)
    if name not in names:
        raise ValueError(unknown(what, name, names, of=of, listing=listing))


def unknown(
    what: str, name: object, known: Iterable[str], *, of: str = "", listing: str = ""
) -> str:
    """The message for a name that is not known, with the known ones as `nearest` gives them.

    Args:
      what: "model", or an option with its sign, "pooling=". name: what the user gave.
      of: whose names they are, as "alice". listing: a command or call that lists all.

    >>> unknown("pooling=", "men", ("mean", "first", "last"))
    "unknown pooling='men'; known: mean, first, last"
    >>> unknown("step", "12", map(str, range(100)), of="a walk", listing="`steps`")
    "unknown step '12' of a walk; the nearest: 12, 2, 1; `steps` lists all 100"
    """
    said = f"unknown {what}{'' if what.endswith('=') else ' '}{name!r}" + f" of {of}" * bool(of)
    return f"{said}; {nearest(name, known, listing=listing)}"


def nearest(name: object, known: Iterable[str], *, listing: str = "") -> str:
    """The end of a message about a name: up to eight known names, or the nearest three of more.

    listing: a command or call that lists all.
    """
    names = list(dict.fromkeys(map(str, known)))
    if len(names) <= _WHOLE:
        return f"known: {', '.join(names) or 'none'}"
    folded: dict[str, str] = {}
    for known_name in names:
        folded.setdefault(known_name.casefold(), known_name)
    # Names unlike any other still show what a known one looks like, where nothing lists them.
    near = get_close_matches(str(name).casefold(), folded, _NEAREST, 0.6 if listing else 0.0)
    shown = ", ".join(folded[folded_name] for folded_name in near)
    if not listing:
        return f"the nearest of {len(names)}: {shown}"
    return f"the nearest: {shown}; " * bool(near) + f"{listing} lists all {len(names)}"


def expanded(models: Iterable[object] | str) -> list:
    """Names of models, where MODEL@{A,B} stands for MODEL@A and MODEL@B, and a number for a step of training.

    What is no text, as vectors in a model's place, stays.

    >>> expanded(["gpt2", "pythia-70m@{512,1000,main}"])
    ['gpt2', 'pythia-70m@step512', 'pythia-70m@step1000', 'pythia-70m@main']

    Raises: ValueError where the braces are not closed, or hold nothing.
    """
    several: list = []
    for model in _each(models):
        if not isinstance(model, str) or "@{" not in model:
            several.append(model)
            continue
        name, _, rest = model.partition("@{")
        revisions = [part.strip() for part in rest.removesuffix("}").split(",")]
        named = all(revisions) and len(revisions) <= _MOST_REVISIONS
        if not rest.endswith("}") or re.search(r"[{}]", rest[:-1]) or not named or not name.strip():
            raise ValueError(f"{model!r}: write MODEL@{{A,B}}, as pythia-410m@{{512,1000}}.")
        several += [
            f"{name}@step{part}" if part.isdecimal() else f"{name}@{part}" for part in revisions
        ]
    return several


def model_names(models: Iterable[object] | str) -> tuple[str, ...]:
    """The names of models, or of vectors in a model's place; a text alone is one name.

    >>> model_names(["gpt2", "bert-base"])
    ('gpt2', 'bert-base')
    >>> model_names("gpt2")
    ('gpt2',)

    Raises: ValueError where there is none, or a name is given twice.
    """
    names = tuple(str(getattr(model, "model", model)) for model in _each(models))
    if not names:
        raise ValueError("no model is given: name one or more")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"models are given twice: {', '.join(twice)}; give each once")
    return names


def vectors_in(models: Iterable[object] | str) -> dict[str, Any]:
    """Of models, the vectors that stand in a model's place, by their names."""
    return {model.model: model for model in _each(models) if hasattr(model, "model")}


def _each(models: Any) -> Iterable[Any]:
    """Models one by one; a name alone, or vectors alone, are one."""
    return [models] if isinstance(models, str) or hasattr(models, "model") else models


def has_near(name: str, known: Iterable[str]) -> bool:
    """Whether one of the known names is spelt much like it."""
    return bool(get_close_matches(name, list(known), 1))
