"""The command `brainalign`: its sub-commands, with help and errors of spelling at once.

brainalign align --dataset=alice --data_dir=data/alice --models=gpt2 --output_dir=out/alice
brainalign align --help
"""

import importlib
import sys
import textwrap
from collections.abc import Sequence

from brainalign_jax.commands.ending import STATUSES, ended, leave, plain_output
from brainalign_jax.names import unknown

# name -> (module of brainalign_jax.commands, its Command)
COMMANDS = {
    "align": ("align", "ALIGN"),
    "evidence": ("evidence", "EVIDENCE"),
    "generalise": ("generalise", "GENERALISE"),
    "encode": ("encode", "ENCODE"),
    "timecourse": ("timecourse", "TIMECOURSE"),
    "figurative": ("figurative", "FIGURATIVE"),
    "languages": ("languages", "LANGUAGES"),
    "specifications": ("specifications", "SPECIFICATIONS"),
    "ablate": ("ablate", "ABLATE"),
    "compare": ("compare", "COMPARE"),
    "performance": ("performance", "PERFORMANCE"),
    "abilities": ("abilities", "ABILITIES"),
    "claims": ("claims", "CLAIMS"),
    "plan-study": ("plan_study", "PLAN_STUDY"),
    "embed": ("words", "EMBED"),
    "surprisal": ("words", "SURPRISAL"),
    "fetch": ("catalog", "FETCH"),
    "models": ("catalog", "MODELS"),
    "datasets": ("catalog", "DATASETS"),
    "kernels": ("kernels", "KERNELS"),
    "cache": ("words", "CACHE"),
    "demo": ("demo", "DEMO"),
}


def command(name: str):
    """The `Command` of that name."""
    module, constant = COMMANDS[name]
    return getattr(importlib.import_module(f"brainalign_jax.commands.{module}"), constant)


def usage() -> str:
    """What `brainalign --help` prints."""
    lines = [
        "usage: brainalign COMMAND [--option=value ...]",
        "",
        "How similar are a language model's word vectors to neural responses to the words, and is it real?",
        "",
    ]
    lines += [f"  {name:<11} {command(name).summary}" for name in COMMANDS]
    lines += ["", "`brainalign COMMAND --help` lists the options. `brainalign demo` shows it all."]
    lines += ["", *textwrap.wrap(STATUSES, 100)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, as `commands.ending` has them.

    arguments: None for those of the process, which then ends with the command.
    """
    plain_output()
    return leave(_main(sys.argv[1:])) if arguments is None else _main(list(arguments))


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "-help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return _main([arguments[1], "--help"])
        return _shown(usage()) or (0 if arguments else 2)
    name, *rest = arguments
    if name == "--version":
        from brainalign_jax import __version__

        return _shown(__version__)
    if name not in COMMANDS:
        said = unknown("command", name, COMMANDS, listing="`brainalign --help`")
        print(f"brainalign: {said}", file=sys.stderr)
        return 2
    from brainalign_jax.commands.command import help_text, run

    if any(argument in ("--help", "-h", "-help", "--helpfull", "--helpshort") for argument in rest):
        return _shown(help_text(command(name)).removesuffix("\n"))
    return run(command(name), rest)


def _shown(text: str) -> int:
    """Print what is asked for instead of work; the status, also where nobody reads it to its end."""
    return ended(lambda: print(text), "brainalign")


if __name__ == "__main__":
    sys.exit(main())
