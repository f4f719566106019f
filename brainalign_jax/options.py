"""What is said of an option, once: type, default, choices, meaning, for flags, docstrings, reports, docs.

Fields of the dataclasses that hold choices are `described`; `options_of` makes the options of a command of
them. Standard library only: commands answer --help and misspelt names from here, before anything heavy.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = (
    "text", "path", "list", "int", "ints", "float", "floats", "bool", "choice", "pairs", "paths",
)  # fmt: skip
NUMBERS = ("int", "ints", "float", "floats")
GREATEST = 2**31 - 1  # whole number that every array and seed can take
Function = typing.TypeVar("Function", bound=Callable)
Options = typing.TypeVar("Options", bound=Any)
_BOUNDS = ("least", "most", "above", "below")


@dataclass(frozen=True)
class Option:
    """One option of a command.

    kind: "text"; "path"; "list" of texts, "ints" and "floats" with commas; "int"; "float"; "bool";
      "choice" of `choices`; "pairs", name=value with commas; "paths", name=folder with commas.
    default: None where nothing is given. help: what it means, one or two sentences.
    group: under which heading --help shows it.
    least, most, above, below: bounds of a number; only above and below are left out themselves.
    empty: whether a list may be given without an item.
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
    most: float | None = None
    above: float | None = None
    below: float | None = None
    empty: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"option {self.name} is of the unknown kind {self.kind!r}")

    def bounds(self) -> dict[str, float | None]:
        """What a number must keep to, as `check_number` takes it."""
        return {name: getattr(self, name) for name in _BOUNDS}

    def about(self) -> str:
        """What it means, its choices and its range."""
        said = self.help + f" One of {', '.join(self.choices)}." * bool(self.choices)
        if self.kind not in NUMBERS:
            return said
        said_range = range_text(**self.bounds())
        return said + f" {said_range[:1].upper()}{said_range[1:]}." * bool(said_range)

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
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    empty: bool = False,
    flag: str | None = None,
):
    """A dataclass field with what is said of it, as of an `Option`.

    flag: its name as an option, "" where it is none.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    about = {"help": help, "choices": tuple(choices), "empty": empty, "flag": flag, **bounds}
    return dataclasses.field(default=default, metadata=about)


def field_of(cls: type, name: str):
    """A field that says and holds what that of another dataclass does."""
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def range_text(
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """The bounds of a number in words; empty where there is none."""
    words = {"at least": least, "above": above, "at most": most, "below": below}
    return " and ".join(f"{word} {x:.10g}" for word, x in words.items() if x is not None)


def check_number(what: str, number: float, **bounds: float | None) -> None:
    """Raises: ValueError where a number is not finite or out of its bounds, with the bounds.

    what: the option with its sign and value, as "--alphas=1,inf".

    >>> check_number("--purge=-1", -1.0, least=0)
    Traceback (most recent call last):
    ...
    ValueError: --purge=-1 must be at least 0
    """
    if isinstance(number, int) and abs(number) > GREATEST and bounds.get("most") is None:
        bounds = {**bounds, "most": GREATEST}
    least, most, above, below = (bounds.get(name) for name in _BOUNDS)
    if not isinstance(number, int) and not math.isfinite(number):
        range_ = range_text(**bounds)
        raise ValueError(f"{what} must be finite" + f", {range_}" * bool(range_))
    if (
        (least is not None and number < least)
        or (most is not None and number > most)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        raise ValueError(f"{what} must be {range_text(**bounds)}")


@typing.dataclass_transform(frozen_default=True)
def option_class(cls: type[Options]) -> type[Options]:
    """Class decorator of choices: a frozen dataclass whose described fields are checked when one is made.

    The class's own `__post_init__` comes after that; its docstring goes on with a line for each field.
    """
    further_checks = getattr(cls, "__post_init__", None)

    def checked(self):
        check_fields(self)
        if further_checks is not None:
            further_checks(self)

    cls.__post_init__ = checked
    cls = dataclass(frozen=True)(cls)
    lines = [f"  {line}" for line in _described_lines(cls)]
    cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\nArgs:\n" + "\n".join(lines)
    return cls


def _described_lines(cls: type) -> list[str]:
    """Name, meaning, choices, range and default of each described field."""
    lines = []
    for field in dataclasses.fields(cls):
        if "help" not in field.metadata:
            continue
        choices = field.metadata["choices"]
        of = f" One of {', '.join(choices)}." if choices else ""
        bounds = range_text(**bounds_of(field.metadata))
        of += f" {bounds[:1].upper()}{bounds[1:]}." * bool(bounds)
        default = "" if field.default is dataclasses.MISSING else f" Default: {field.default!r}."
        lines.append(f"{field.name}: {field.metadata['help']}{of}{default}")
    return lines


def takes_options(cls: type) -> Callable[[Function], Function]:
    """Function decorator: the keywords **changes of a function are the described fields of `cls`.

    Its signature names them; in its docstring the line OPTIONS becomes a line for each.
    """

    def decorate(function: Function) -> Function:
        hints = typing.get_type_hints(cls)
        own_parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        fields = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(cls)
        ]
        vars(function)["__signature__"] = inspect.Signature([*own_parameters, *fields])
        lines = "\n".join(f"      {line}" for line in _described_lines(cls))
        function.__doc__ = (function.__doc__ or "").replace("      OPTIONS", lines)
        return function

    return decorate


def changed(cls: type[Options], given: Any, changes: Mapping[str, Any], function: str) -> Options:
    """An instance of a dataclass of options, that given or the defaults, with some changed.

    given: None for the defaults; or an instance of `cls`, or of one that it extends.

    Raises: TypeError for anything else, and for a name that is no field, with the nearest; ValueError as the
      dataclass does.
    """
    from brainalign_jax.names import unknown

    known = [field.name for field in dataclasses.fields(cls)]
    for name in changes:
        if name not in known:
            raise TypeError(f"{function}: {unknown('option', name, known)}")
    if given is None:
        return cls(**changes)
    if type(given) not in cls.__mro__ or not dataclasses.is_dataclass(given):
        raise TypeError(
            f"{function}: {given!r} stands for the options: give {cls.__name__}(...), or single options by "
            f"name, as {known[0]}=..."
        )
    return cls(**{**vars(given), **changes})


def meanings(cls: type) -> dict[str, str]:
    """What each described field means."""
    return {f.name: f.metadata["help"] for f in dataclasses.fields(cls) if "help" in f.metadata}


def bounds_of(about: Mapping) -> dict[str, Any]:
    """The bounds of a described field, from its metadata."""
    return {name: about.get(name) for name in _BOUNDS}


def check_fields(values: Any) -> None:
    """Raise ValueError for a described field of an instance that is no choice, or out of its range."""
    from brainalign_jax.names import check_known

    hints = typing.get_type_hints(type(values))
    for field in dataclasses.fields(values):
        value, about = getattr(values, field.name), field.metadata
        if "help" not in about:
            continue
        hint, said = hints[field.name], f"{field.name}={value!r} must be"
        kind = kind_of(hint)
        if value is None:
            if type(None) not in typing.get_args(hint):
                raise ValueError(f"{said} given")
        elif kind == "bool" and type(value).__name__ not in ("bool", "bool_"):
            raise ValueError(f"{said} True or False")
        elif kind == "list" and isinstance(value, str):
            raise ValueError(f"{said} a tuple of texts")
        elif about["choices"]:
            check_known(f"{field.name}=", value, about["choices"])
        elif kind in NUMBERS:
            _check_numbers(field.name, value, about, hint)


def keep_known(values: Any, name: str, known: Sequence[str], *, what: str = "", empty=False):
    """Let a field of texts of a frozen instance hold each of them once.

    what: a text is called in the message of an unknown one, the field with a sign if not given.

    Raises: ValueError for a text that is none of the known, and for none at all unless `empty`.
    """
    from brainalign_jax.names import check_known

    chosen = tuple(dict.fromkeys(getattr(values, name)))
    for text in chosen:
        check_known(what or f"{name}=", text, known)
    if not chosen and not empty:
        raise ValueError(f"{name} is empty: give one or more of {', '.join(known)}")
    object.__setattr__(values, name, chosen)


def _check_numbers(name: str, value: Any, about: Mapping, hint: object) -> None:
    several = kind_of(hint).endswith("s")
    whole = kind_of(hint).startswith("int")
    if several != isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(
            f"{name}={value!r} must be {'a tuple of numbers' if several else 'a number'}"
        )
    if several and not value and not about["empty"]:
        raise ValueError(f"{name}={value!r} must be one number or more")
    for number in value if several else [value]:
        wanted_type = numbers.Integral if whole else numbers.Real
        if not isinstance(number, wanted_type) or isinstance(number, bool):
            wanted = f"{'whole ' * whole}number"
            raise ValueError(
                f"{name}={value!r} must be {wanted + 's' if several else 'a ' + wanted}"
            )
        check_number(f"{name}={value!r}", typing.cast(float, number), **bounds_of(about))


def options_of(
    cls: type, group: str, *, without_defaults: str = "", skip: Iterable[str] = ()
) -> tuple[Option, ...]:
    """The options that fill the described fields of a dataclass.

    without_defaults: in place of every default, a text of where it comes from.
    """
    hints, options = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        about = field.metadata
        if field.name in skip or "help" not in about or about["flag"] == "":
            continue
        default = None if field.default is dataclasses.MISSING else field.default
        help = about["help"]
        if without_defaults:
            default, help = None, f"{help} Default: {without_defaults}."
        options.append(
            Option(
                about["flag"] or field.name,
                "choice" if about["choices"] else kind_of(hints[field.name]),
                default,
                help,
                group,
                about["choices"],
                field=field.name,
                empty=about["empty"],
                **bounds_of(about),
            )
        )
    return tuple(options)


def picked(options: Iterable[Option], *names: str, **changes) -> tuple[Option, ...]:
    """The options of these names, in the order of the names, with attributes changed."""
    by_name = {option.name: option for option in options}
    return tuple(dataclasses.replace(by_name[name], **changes) for name in names)


def kind_of(hint: Any) -> str:
    """The kind of an option from the type of a field; X | None is X."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = [member for member in typing.get_args(hint) if member is not type(None)]
    if typing.get_origin(hint) is tuple:
        return {int: "ints", float: "floats", str: "list"}[typing.get_args(hint)[0]]
    return {bool: "bool", int: "int", float: "float", str: "text"}[hint]


def filled(cls: type, options: Iterable[Option], values: dict[str, object], **more):
    """An instance of the dataclass from the values of its options; None leaves a default."""
    set_values = {
        option.field: values[option.name]
        for option in options
        if values.get(option.name) is not None
    }
    return cls(**{**set_values, **more})
