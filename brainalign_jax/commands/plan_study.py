"""`brainalign plan-study`: how many people, words and repetitions does a study need?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Planning

_PLAN = options_of(Planning, align.PROTOCOL)
_PILOT = Option(
    "pilot",
    "list",
    None,
    "Folders of finished studies: of `brainalign align` with evidence (test=score, layers, size), of "
    "generalise (gap) or ablate (ablation); several are of the same people and other numbers of words. In "
    "place of it --dataset, --data_dir and --models, of which a pilot is run, or --strength.",
    align.DATA,
)
_STRENGTH = Option(
    "strength",
    "float",
    None,
    "In place of a pilot a simulated story whose words are in the voxels with so many standard deviations of "
    "their noise.",
    align.DATA,
    above=0.0,
    most=1000.0,
)
_SIDES = tuple(
    picked((option,), option.name, required=False)[0]
    if option.name in ("dataset", "data_dir", "models")
    else option
    for option in align.SIDES
)
PLAN_OPTIONS = (_PILOT, *_SIDES, _STRENGTH, *_PLAN, *align.VECTOR_STUDY)


def _plan_study(values: dict[str, Any], text: str) -> None:
    from dataclasses import replace

    with misuse():
        plan = filled(Planning, _PLAN, values)
        _check_sides(values)
    from brainalign_jax.studies.planning import (
        run_pilots,
        run_planning,
        simulated_story,
        tested_pace,
    )

    pilots = values["pilot"]
    if pilots is None:
        if values["strength"] is None:
            data, models = align.open_data(values), values["models"]
        else:
            data, model = simulated_story(values["strength"], seed=values["seed"])
            models = [model]
        arguments = align.study_arguments(values, text)
        del arguments["command"]
        simulated = values["strength"] is not None
        output = values["output_dir"]
        pilots = run_pilots(data, models, output, plan=plan, simulated=simulated, **arguments)
        if plan.words_per_minute is None:
            pace = tested_pace(data, pilots[-1], share=plan.fractions[-1], seed=plan.seed)
            plan = replace(plan, words_per_minute=pace)
    table = run_planning(pilots, values["output_dir"], plan=plan, command=text)
    say_finished(table.verdict(), values["output_dir"])


def _check_sides(values: dict[str, Any]) -> None:
    """Raise ValueError unless there is one kind of pilot."""
    of_data = [name for name in ("dataset", "data_dir", "models") if values[name] is not None]
    kinds = [name for name in ("pilot", "strength") if values[name] is not None]
    if len(kinds) + bool(of_data) != 1:
        raise ValueError(
            "give a pilot: --pilot=FOLDER, or --dataset, --data_dir and --models, or --strength, and one of "
            "these alone"
        )
    if of_data and len(of_data) < 3:
        missing = [name for name in ("dataset", "data_dir", "models") if name not in of_data]
        raise ValueError(f"--{missing[0]} is missing: a pilot is run of a data set and models")


PLAN_STUDY = Command(
    "plan-study",
    "how many people, words and repetitions a study needs, from a pilot, as power curves",
    (
        "plan-study --pilot=out/pereira180 --method=ridge --output_dir=out/plan",
        "plan-study --dataset=alice --data_dir=data/alice --models=gpt2 --output_dir=out/plan",
        "plan-study --pilot=out/ablate --test=ablation --component=attention:3 --effect=0.02 "
        "--output_dir=out/plan",
    ),
    PLAN_OPTIONS,
    _plan_study,
    "what is finished of a pilot that is run is kept, and the same command goes on from there",
)
