"""Writes docs/options.md, the options of every command, from where they are described.

python docs/make_options.py
"""

from pathlib import Path

from brainalign_jax.cli import COMMANDS, command
from brainalign_jax.commands.command import Command
from brainalign_jax.options import Option

PAGE = Path(__file__).with_name("options.md")
HEAD = """<!-- Written by `python docs/make_options.py`: change the descriptions, not this page. -->

# Options of the commands

`brainalign COMMAND --help` shows the same. Options are written `--name=value`, lists with commas, switches
`--name` or `--name=false`. The options of a data set's reader are listed by `brainalign datasets NAME`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(command(name)) for name in COMMANDS)])


def _section(command: Command) -> str:
    lines = [f"## brainalign {command.name}", "", f"{_sentence(command.summary)}", ""]
    lines += ["| option | default | meaning |", "|---|---|---|"]
    for group, options in command.groups().items():
        if len(command.groups()) > 1:
            lines.append(f"| **{group}** | | |")
        lines += [_row(option) for option in options]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    sign = f"`{option.name}`" if option.positional else f"`--{option.name}`"
    default = option.default_text()
    shown = "required" if option.required else f"`{default}`" if default else ""
    return f"| {sign} | {shown} | {_cell(option.about())} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
