"""`brainalign compare`: which models are alike, layer by layer, and in the words that brains agree on?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import filled, options_of, picked
from brainalign_jax.studies.options import Comparison

_PLAN = options_of(Comparison, align.PROTOCOL)

COMPARISON_OPTIONS = (
    *align.SIDES,
    *_PLAN,
    *picked(align.SCORING, "lower"),
    *align.DRAW_SEED,
    *align.VECTOR_STUDY,
)


def _compare(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.comparison import run_comparison

    with misuse():
        plan = filled(Comparison, _PLAN, values)
    choices = {"plan": plan, "lower": values["lower"], "seed": values["seed"]}
    align.run_on_data(run_comparison, values, text, **choices)


COMPARE = Command(
    "compare",
    "which models are alike, layer by layer, and in the words that brains agree on, with a verdict",
    (
        "compare --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base,gpt2 --context=word "
        "--output_dir=out/compare",
    ),
    COMPARISON_OPTIONS,
    _compare,
    "vectors are kept in the cache, values are not, and the same command begins anew",
)
