"""`brainalign evidence`: what a finished study shows, and more evidence for it."""

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from absl import flags

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command, define, read, say_finished
from brainalign_jax.options import Option

_STUDY = Option(
    "study", "path", None, "Folder of a finished study.", "data", required=True, positional=True
)
_MORE = tuple(
    dataclasses.replace(option, default=None, help=f"{option.help} Default: as in the study.")
    for option in align.PLAN
)


def _evidence(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.study.results import ResultTable

    study = values["study"]
    table = ResultTable.load(study)
    changed = {option.name: values[option.name] for option in _MORE}
    changed = {name: value for name, value in changed.items() if value is not None}
    if changed or "evidence" not in table.extras:
        _again(study, table.manifest, changed)
        return
    say_finished(table, study)


def _again(study: Path, manifest: dict, changed: dict[str, object]) -> None:
    """Run the study's own command again with other evidence: its scores are there already."""
    command, folder = str(manifest.get("command", "")), str(manifest.get("working_folder", ""))
    arguments = recorded_arguments(command)
    if arguments is None:
        raise ValueError(
            f"{study / 'manifest.json'} names no `brainalign align` command that made this study: run it "
            "again from Python with evidence=EvidencePlan(...)"
        )
    if not Path(folder).is_dir():
        raise ValueError(f"{folder!r}, where the study was run, is no longer there: run it again")
    flag_values = flags.FlagValues()
    define(align.OPTIONS, flag_values)
    flag_values(["align", *arguments])
    with contextlib.chdir(folder):  # paths in the command are relative to it
        again = read(align.OPTIONS, flag_values)
        align.ALIGN.act({**again, **changed, "evidence": True, "output_dir": study}, command)


def recorded_arguments(command: str) -> list[str] | None:
    """The arguments of an `align` command as a manifest records it, None for any other."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for program in (["brainalign", "align"], ["python", "-m", "experiments.run_alignment"]):
        if words[: len(program)] == program:
            return words[len(program) :]
    return None


EVIDENCE = Command(
    "evidence",
    "the verdict of a finished study, and more null draws, controls or ceilings for it",
    (
        "evidence out/alice",
        "evidence out/alice --n_nulls=1000",
        "evidence out/alice --controls=nuisance:length --untrained_seeds=3",
    ),
    (_STUDY, *_MORE),
    _evidence,
)
