"""`brainalign generalise`: does it hold for other words than it was fitted on? Conditions, or a ladder."""

from typing import Any

from brainalign_jax.commands.align import (
    COMPUTATION,
    EMBEDDING,
    OPTIONS,
    PROGRESS,
    PROTOCOL,
    SCORING,
    SIDES,
    open_data,
)
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.embedding import Embedding
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import CELL_KS, Scoring

CONDITIONS = Option(
    "conditions",
    "text",
    None,
    "Two or more with ; between them: attribute, sign and value, as concreteness<3;concreteness>=4, "
    "concreteness<q33 (a quantile), topic=animals|tools, with & for several at once.",
    PROTOCOL,
)
NOVELTY = Option(
    "novelty",
    "bool",
    False,
    "In place of --conditions: new words, sentences, passages, topics, stories, experiments and people, each "
    "level that the data set has.",
    PROTOCOL,
)
_PLAN = options_of(Generalisation, PROTOCOL)
_SCORING = (
    *picked(SCORING, "methods"),
    *picked(
        SCORING, "ks", default=CELL_KS, help="The k of precision@k, below the words of a fold."
    ),
    *picked(SCORING, "layers", "lower"),
    *picked(SCORING, "seed", help="Seed of every draw and of untrained weights."),
)
_COMPUTATION = picked(COMPUTATION, "dtype", "threads")

GENERALISATION_OPTIONS = (
    *SIDES,
    CONDITIONS,
    NOVELTY,
    *_SCORING,
    *_PLAN,
    *_COMPUTATION,
    *picked(OPTIONS, "cache_dir", help="Where vectors are kept; below --output_dir if not given."),
    PROGRESS,
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
    data = open_data(values)
    asked: tuple = (
        (data, values["models"]) if conditions is None else (data, values["models"], conditions)
    )
    study: Any = run_novelty if conditions is None else run_generalisation
    table = study(
        *asked,
        values["output_dir"],
        plan=plan,
        scoring=scoring,
        embedding=filled(Embedding, EMBEDDING, values),
        computation=filled(Computation, _COMPUTATION, values),
        cache_dir=values["cache_dir"],
        command=text,
        progress=values["progress"],
    )
    say_finished(table.verdict(), values["output_dir"])


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
    "vectors are kept in the cache, scores are not, and the same command begins anew",
)
