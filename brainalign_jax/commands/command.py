"""A command: what it is called, its options, and what it does; flags are made of it here, for both fronts.

`brainalign NAME ...` parses with flags of its own (`run`); a main in experiments/ defines the same options
among the flags of the program (`absl_main`). Nothing heavy is imported before a command does its work.
"""

import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from absl import flags

from brainalign_jax.commands.ending import (
    KEPT,
    STATUSES,
    ended,
    leave,
    plain_output,
    refused,
)
from brainalign_jax.files import user_path
from brainalign_jax.names import check_known, expanded, unknown
from brainalign_jax.options import Option, check_number

_WIDTH = 100
# Kinds of options that take several values -> how these are given.
_SEVERAL = {
    "list": "'A,B@{1,2}'",
    "ints": "1,2",
    "floats": "0.1,1",
    "pairs": "NAME=VALUE,NAME=VALUE",
    "paths": "NAME=FOLDER,NAME=FOLDER",
}
_COMMA = re.compile(r",(?![^{}]*\})")  # none inside of braces


@dataclass(frozen=True)
class Command:
    """name, and `summary` in a line; examples: as they are typed after `brainalign `.

    act: does the work, from the values of the options by name and the command as text for the record, and
    returns the exit status or None. kept: what is left where it is stopped.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    options: tuple[Option, ...]
    act: Callable[[dict[str, object], str], int | None]
    kept: str = KEPT

    def groups(self) -> dict[str, list[Option]]:
        """Options by their group, in order."""
        by_group: dict[str, list[Option]] = {}
        for option in self.options:
            by_group.setdefault(option.group, []).append(option)
        return by_group


def define(
    options: Sequence[Option], flag_values: flags.FlagValues, module: str = "brainalign"
) -> None:
    """One flag an option. Values are converted by `read`, so that every error is of one kind.

    module: whose flags they are in absl's own --help.
    """
    for option in options:
        about = option.about()
        flag: flags.Flag
        if option.kind == "bool":
            flag = flags.BooleanFlag(option.name, cast(Any, option.default), about)
        else:
            default = None if option.default is None else option.default_text()
            flag = flags.Flag(flags.ArgumentParser(), None, option.name, default, about)
        flags.DEFINE_flag(flag, flag_values, module)


def read(options: Sequence[Option], flag_values: flags.FlagValues) -> dict[str, Any]:
    """The values of the options: paths absolute, numbers and lists converted.

    Raises: ValueError naming the option, what was given and what it takes; and for one of several values that
      is given twice.
    """
    _check_once(options, flag_values)
    return {option.name: _value(option, flag_values[option.name].value) for option in options}


def _value(option: Option, text: Any) -> Any:
    sign = f"--{option.name}"
    if text is None:
        if option.required:
            raise ValueError(f"{sign} is missing: {option.help}")
        return None
    if option.kind == "bool":
        return text
    if option.kind == "choice":
        check_known(f"{sign}=", text, option.choices)
        return text
    if not text.strip() and not (option.empty or option.default == ()):
        raise ValueError(f"{sign} is empty: {option.help}")
    if option.kind == "path":
        return user_path(text, sign)
    if option.kind == "text":
        return text
    if option.kind == "pairs":
        return pairs(option.name, text)
    if option.kind == "paths":
        folders = pairs(option.name, text)
        return {
            name: user_path(folder.replace("\\,", ","), f"{sign}={name}")
            for name, folder in folders.items()
        }
    several = [part.strip() for part in _COMMA.split(text)] if text.strip() else []
    if option.kind == "list":
        if "" in several:
            raise ValueError(f"{sign}={text} has an empty item: leave one comma out")
        several = expanded(several)
        for part in several if option.choices else ():
            check_known(f"{sign}=", part, option.choices)
        return tuple(several)
    return _numbers(option, text, several)


def _numbers(option: Option, text: str, several: Sequence[str]) -> object:
    sign = f"--{option.name}"
    kind = int if option.kind.startswith("int") else float
    what = "whole numbers" if kind is int else "numbers"
    try:
        numbers = tuple(kind(part) for part in several)
    except ValueError:
        raise ValueError(f"{sign}={text} must be {what}, as {sign}={_example(option)}") from None
    for number in numbers:
        check_number(f"{sign}={text}", number, **option.bounds())
    if option.kind.endswith("s"):
        return numbers
    if len(numbers) != 1:
        raise ValueError(f"{sign}={text} must be one number")
    return numbers[0]


def _example(option: Option) -> str:
    return option.default_text() or {"int": "3", "ints": "1,5,10"}.get(option.kind, "0.5")


def pairs(name: str, text: str) -> dict[str, str]:
    r"""name=value items between commas as a dict; a comma that belongs to a value is written `\,`.

    Raises: ValueError for an item without "=" or given twice.
    """
    values: dict[str, str] = {}
    for item in _parts(text):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or not value:
            raise ValueError(f"--{name} takes name=value, not {item!r}")
        if key in values:
            raise ValueError(f"--{name} names {key!r} twice: give each once")
        values[key] = value
    return values


def _parts(text: str) -> list[str]:
    """The text cut at commas, but not at those behind a backslash, which stay as they are."""
    parts, kept = [], ""
    for piece in text.split(","):
        kept += piece
        if piece.endswith("\\"):
            kept += ","
            continue
        parts.append(kept)
        kept = ""
    return [part for part in [*parts, kept] if part]


def run(command: Command, arguments: Sequence[str]) -> int:
    """Parse the arguments of `brainalign NAME` and do the work; the exit status."""
    flag_values = flags.FlagValues()
    define(command.options, flag_values)
    try:
        _, *rest = flag_values([command.name, *arguments])
        _take_positional(command, flag_values, rest)
        values = read(command.options, flag_values)
    except flags.UnrecognizedFlagError as error:
        names = [option.name for option in command.options]
        listing = f"`brainalign {command.name} --help`"
        said = unknown("option", f"--{error.flagname}", names, listing=listing)
        return refused(said, "brainalign")
    except (flags.Error, ValueError, OSError) as error:
        return refused(error, "brainalign")
    return acted(command, values, shlex.join(["brainalign", command.name, *arguments]))


def acted(command: Command, values: dict[str, Any], text: str, *, who: str = "brainalign") -> int:
    """Do the work; the exit status, as `ending` has them."""
    return ended(lambda: command.act(values, text), who, command.kept)


def _check_once(options: Sequence[Option], flag_values: flags.FlagValues) -> None:
    """Raises: ValueError for several values given one by one, as a shell does with MODEL@{A,B}: the last one
    would count alone."""
    for option in options:
        times = flag_values[option.name].present
        if option.kind in _SEVERAL and times > 1:
            values = _SEVERAL[option.kind]
            raise ValueError(
                f"--{option.name} is given {times} times: give it once, as --{option.name}={values}"
                + " (in quotes, for the shell)" * ("'" in values)
            )


def _take_positional(command: Command, flag_values: flags.FlagValues, rest: Sequence[str]) -> None:
    places = [option for option in command.options if option.positional]
    if places and places[-1].kind == "list" and len(rest) > len(places):
        rest = [*rest[: len(places) - 1], ",".join(rest[len(places) - 1 :])]
    for option, text in zip(places, rest, strict=False):
        if option.kind == "list" and flag_values[option.name].present:
            raise ValueError(
                f"{text!r} and --{option.name} are given: one of the two would count alone"
            )
        flag_values[option.name].value = text
    if len(rest) > len(places):
        raise ValueError(
            f"unknown argument {rest[len(places)]!r}: write options as --name=value; "
            f"`brainalign {command.name} --help` lists them"
        )


def help_text(command: Command) -> str:
    """What `brainalign NAME --help` prints."""
    lines = [f"brainalign {command.name}: {command.summary}", "", "Examples:"]
    for example in command.examples:
        lines.append(f"  brainalign {example}")
    for group, options in command.groups().items():
        lines += ["", f"{group}:"]
        for option in options:
            about = option.about()
            if option.default_text():
                about += f" [{option.default_text()}]"
            head = f"  --{option.name}" + ("" if option.kind == "bool" else f"={_metavar(option)}")
            text = textwrap.wrap(about, _WIDTH - 30)
            first = head.ljust(30) if len(head) < 30 else head
            if len(head) < 30:
                lines.append(first + text[0])
                text = text[1:]
            else:
                lines.append(first)
            lines += [" " * 30 + line for line in text]
    blank = "  "
    lines += ["", *textwrap.wrap(STATUSES, _WIDTH, initial_indent=blank, subsequent_indent=blank)]
    return "\n".join(lines) + "\n"


def _metavar(option: Option) -> str:
    names = {
        "path": "PATH", "list": "A,B", "ints": "1,2", "floats": "0.1,1", "int": "N", "float": "X",
        "pairs": "NAME=VALUE,..", "paths": "NAME=FOLDER,..",
    }  # fmt: skip
    return names.get(option.kind, "TEXT")


def absl_main(command: Command, module: str, program: str) -> Callable[[list[str]], None]:
    """`main` of an absl program: its flags are the command's options.

    module: __name__ of the program. program: as it is typed.
    """
    define(command.options, flags.FLAGS, sys.argv[0] if module == "__main__" else module)
    who = program.rpartition(".")[2]

    def main(argv: list[str]) -> None:
        from absl import app, logging

        logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
        plain_output()
        if len(argv) > 1:
            raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
        try:
            values = read(command.options, flags.FLAGS)
        except (ValueError, OSError) as error:
            sys.exit(refused(error, who))
        sys.exit(leave(acted(command, values, f"{program} {shlex.join(sys.argv[1:])}", who=who)))

    return main


def say_finished(said: object, folder: Path) -> None:
    """What a command says of a finished study, and where its report is."""
    print(said)
    print(f"report: {shown_path(folder / 'report.html')}")


def shown_path(path: Path) -> str:
    """A path as a user would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
