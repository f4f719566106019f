"""`brainalign generalise`: does it hold for other words than it was fitted on? Conditions, or a ladder."""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import CONDITION, Generalisation
from brainalign_jax.study.options import CELL_KS, Scoring

CONDITIONS = Option(
    "conditions",
    "text",
    None,
    "Two or more with ; between them: attribute, sign and value, as concreteness<3;concreteness>=4, "
    "concreteness<q33 (a quantile), topic=animals|tools, with & for several at once.",
    align.PROTOCOL,
)
NOVELTY = Option(
    "novelty",
    "bool",
    False,
    "In place of --conditions: new words, sentences, passages, topics, stories, experiments and people, each "
    "level that the data set has.",
    align.PROTOCOL,
)
_PLAN = options_of(Generalisation, align.PROTOCOL)
_SCORING = (
    *picked(align.SCORING, "methods"),
    *picked(
        align.SCORING,
        "ks",
        default=CELL_KS,
        help="The k of precision@k, below the words of a fold.",
    ),
    *picked(align.SCORING, "layers", "lower"),
    *align.DRAW_SEED,
)

GENERALISATION_OPTIONS = (
    *align.SIDES,
    CONDITIONS,
    NOVELTY,
    *_SCORING,
    *_PLAN,
    *align.VECTOR_STUDY,
)


def _generalise(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.generalisation import (
        run_generalisation,
        run_novelty,
        split_conditions,
    )

    with misuse():
        plan = filled(Generalisation, _PLAN, values)
        scoring = filled(Scoring, _SCORING, values)
        conditions = None
        if values["novelty"] and values["conditions"] is not None:
            raise ValueError("--novelty stands in place of --conditions: give one of them")
        if not values["novelty"]:
            if values["conditions"] is None:
                raise ValueError(f"--conditions is missing, or --novelty: {CONDITIONS.help}")
            conditions = split_conditions(values["conditions"])
        elif plan.match:
            raise ValueError("--match is for --conditions: leave it out, or give them")
        elif plan.candidates != (CONDITION,):
            raise ValueError("--candidates is for --conditions: leave it out, or give them")
    choices = {"plan": plan, "scoring": scoring}
    if conditions is None:
        align.run_on_data(run_novelty, values, text, **choices)
    else:
        align.run_on_data(run_generalisation, values, text, conditions, **choices)


GENERALISE = Command(
    "generalise",
    "does it hold for words of another kind than it was fitted on: gaps between conditions, with a verdict",
    (
        "generalise --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--conditions='concreteness<3;concreteness>=4' --output_dir=out/generalise",
        "generalise --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--novelty --output_dir=out/novelty",
    ),
    GENERALISATION_OPTIONS,
    _generalise,
    align.VECTORS_KEPT,
)
