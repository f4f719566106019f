"""`brainalign specifications`: does the finding hang on the choices that papers differ in?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Specifications

CHOICES = Option(
    "choices",
    "pairs",
    (),
    "Levels of a choice with : between them, as folds=audited:shuffled,metric=p10; one level does not vary. "
    "Of folds, queries, centring, penalty, candidate_scaling, csls_k, layer and metric, which vary if not "
    "given, and scaling, pca, pooling and context, which do not.",
    align.PROTOCOL,
)
_PLAN = options_of(Specifications, align.PROTOCOL)

SPECIFICATION_OPTIONS = (
    *align.SIDES,
    CHOICES,
    *_PLAN,
    *picked(align.SCORING, "lower"),
    *align.DRAW_SEED,
    *align.VECTOR_STUDY,
)


def _specifications(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.specifications import asked_levels, run_specifications

    with misuse():
        plan = filled(Specifications, _PLAN, values)
        levels = asked_levels(dict(values["choices"] or {}))
    choices = {"choices": levels, "lower": values["lower"], "seed": values["seed"]}
    align.run_on_data(run_specifications, values, text, plan=plan, **choices)


SPECIFICATIONS = Command(
    "specifications",
    "does the finding hang on the choices that papers differ in: all combinations, with a verdict",
    (
        "specifications --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--output_dir=out/specifications",
        "specifications --dataset=alice --data_dir=data/alice --models=gpt2 "
        "--choices=folds=audited:shuffled,queries=types,csls_k=10 --output_dir=out/alice_specifications",
    ),
    SPECIFICATION_OPTIONS,
    _specifications,
    align.VECTORS_KEPT,
)
