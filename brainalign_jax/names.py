"""What an unknown name is answered with: the nearest known names, never a list of forty."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_WHOLE = 8  # known names that a message lists; of more it gives the nearest
_NEAREST = 3


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
