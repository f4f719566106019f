"""What is said of an option, once: type, default, choices, meaning, for flags, docstrings, reports, docs.

Fields of the dataclasses that hold choices are `described`; `options_of` makes the options of a command of
them. Standard library only: commands answer --help and misspelt names from here, before anything heavy.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KINDS = ("text", "path", "list", "int", "ints", "float", "floats", "bool", "choice", "pairs")


@dataclass(frozen=True)
class Option:
    """One option of a command.

    kind: "text"; "path"; "list" of texts, "ints" and "floats" with commas; "int"; "float"; "bool";
      "choice" of `choices`; "pairs", name=value with commas.
    default: None where nothing is given. help: what it means, one or two sentences.
    group: under which heading --help shows it. least: smallest number that is allowed.
    field: of the dataclass that it fills, where it has another name. positional: may stand without its name.
    """

    name: str
    kind: str
    default: object
    help: str
    group: str = "options"
    choices: tuple[str, ...] = ()
    least: float | None = None
    required: bool = False
    field: str = ""
    positional: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"option {self.name} is of the unknown kind {self.kind!r}")

    def default_text(self) -> str:
        """The default as a user types it; empty where there is none."""
        if self.default is None:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple | list):
            return ",".join(map(str, self.default))
        return str(self.default)


def described(
    help: str,
    default: object = dataclasses.MISSING,
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    flag: str | None = None,
):
    """A dataclass field with what is said of it. flag: its name as an option, "" where it is none."""
    about = {"help": help, "choices": tuple(choices), "least": least, "flag": flag}
    return dataclasses.field(default=default, metadata=about)


def documented(cls: type) -> type:
    """Class decorator: the docstring goes on with a line for each described field."""
    lines = []
    for field in dataclasses.fields(cls):
        if "help" not in field.metadata:
            continue
        choices = field.metadata["choices"]
        of = f" One of {', '.join(choices)}." if choices else ""
        default = "" if field.default is dataclasses.MISSING else f" Default: {field.default!r}."
        lines.append(f"  {field.name}: {field.metadata['help']}{of}{default}")
    cls.__doc__ = f"{cls.__doc__.rstrip()}\n\nArgs:\n" + "\n".join(lines)
    return cls


def meanings(cls: type) -> dict[str, str]:
    """What each described field means."""
    return {f.name: f.metadata["help"] for f in dataclasses.fields(cls) if "help" in f.metadata}


def check_fields(values: object) -> None:
    """Raise ValueError for a described field of an instance that is no choice, or below its least."""
    from brainalign_jax.names import check_known

    for field in dataclasses.fields(values):
        value, about = getattr(values, field.name), field.metadata
        if about.get("choices") and isinstance(value, str):
            check_known(f"{field.name}=", value, about["choices"])
        if about.get("least") is not None and value is not None and not value >= about["least"]:
            raise ValueError(f"{field.name}={value} must be at least {about['least']}")


def options_of(
    cls: type, group: str, *, without_defaults: str = "", skip: Iterable[str] = ()
) -> tuple[Option, ...]:
    """The options that fill the described fields of a dataclass.

    without_defaults: in place of every default, a text of where it comes from.
    """
    hints, found = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        about = field.metadata
        if field.name in skip or "help" not in about or about["flag"] == "":
            continue
        default = None if field.default is dataclasses.MISSING else field.default
        help = about["help"]
        if without_defaults:
            default, help = None, f"{help} Default: {without_defaults}."
        found.append(
            Option(
                about["flag"] or field.name,
                "choice" if about["choices"] else _kind(hints[field.name]),
                default,
                help,
                group,
                about["choices"],
                about["least"],
                field=field.name,
            )
        )
    return tuple(found)


def _kind(hint: object) -> str:
    """The kind of an option from the type of a field; X | None is X."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) is tuple:
        return {int: "ints", float: "floats", str: "list"}[typing.get_args(hint)[0]]
    return {bool: "bool", int: "int", float: "float", str: "text"}[hint]


def filled(cls: type, options: Iterable[Option], values: dict[str, object], **more):
    """An instance of the dataclass from the values of its options; None leaves a default."""
    given = {
        option.field: values[option.name]
        for option in options
        if values.get(option.name) is not None
    }
    return cls(**{**given, **more})
