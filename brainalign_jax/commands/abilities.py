"""`brainalign abilities`: what can models do? Bits, minimal pairs, reading times, multiple choice."""

from typing import Any

from brainalign_jax.commands.align import DATA, EMBEDDING, MODELS, OUTPUT_DIR, PROGRESS, PROTOCOL
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Abilities

_PLAN = options_of(Abilities, PROTOCOL)
_TASKS = ("text", "pairs", "reading", "choices")
ABILITIES_OPTIONS = (
    Option("text", "list", (), "Text files in UTF-8: bits per character and per word.", DATA),
    Option(
        "pairs",
        "path",
        None,
        "Minimal pairs as BLiMP has them, a .jsonl file or a folder of them: the share in which the good "
        "sentence is the likelier one.",
        DATA,
    ),
    Option(
        "reading",
        "path",
        None,
        "Reading times by word: the folder of the Natural Stories corpus, or a table with the columns word, "
        "item, zone, meanItemRT and frequency.",
        DATA,
    ),
    Option(
        "choices",
        "list",
        (),
        "Files of questions (.jsonl) with context, choices and gold; or with text, whose last word is asked.",
        DATA,
    ),
    OUTPUT_DIR,
    MODELS,
    *picked(EMBEDDING, "bos"),
    *_PLAN,
    PROGRESS,
)


def _abilities(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.abilities import run_abilities

    with misuse():
        plan = filled(Abilities, _PLAN, values)
        if not any(values[name] for name in _TASKS):
            raise ValueError(f"nothing is to be measured: give one of --{', --'.join(_TASKS)}")
    passed = ("pairs", "reading", "choices", "bos", "progress")
    table = run_abilities(
        values["models"],
        values["output_dir"],
        texts=values["text"],
        plan=plan,
        command=text,
        **{name: values[name] for name in passed},
    )
    say_finished(table.verdict(), values["output_dir"])


ABILITIES = Command(
    "abilities",
    "what models can do: bits per word, minimal pairs, fit to reading times, multiple choice",
    (
        "abilities --pairs=data/blimp --models=gpt2,bert-base --output_dir=out/abilities",
        "abilities --reading=data/naturalstories --text=story.txt --models=pythia-410m@step1000,pythia-410m "
        "--output_dir=out/abilities",
    ),
    ABILITIES_OPTIONS,
    _abilities,
    "nothing is kept, and the same command begins anew",
)
