"""`brainalign compare`: which models are alike, layer by layer, and in the words that brains agree on?"""

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
from brainalign_jax.options import filled, options_of, picked
from brainalign_jax.studies.options import Comparison
from brainalign_jax.study.computation import Computation

_PLAN = options_of(Comparison, PROTOCOL)
_COMPUTATION = picked(COMPUTATION, "dtype", "threads")

COMPARISON_OPTIONS = (
    *SIDES,
    *_PLAN,
    *picked(SCORING, "lower"),
    *picked(SCORING, "seed", help="Seed of every draw and of untrained weights."),
    *_COMPUTATION,
    *picked(OPTIONS, "cache_dir", help="Where vectors are kept; below --output_dir if not given."),
    PROGRESS,
)


def _compare(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.comparison import run_comparison

    with misuse():
        plan = filled(Comparison, _PLAN, values)
    table = run_comparison(
        open_data(values),
        values["models"],
        values["output_dir"],
        plan=plan,
        embedding=filled(Embedding, EMBEDDING, values),
        computation=filled(Computation, _COMPUTATION, values),
        lower=values["lower"],
        seed=values["seed"],
        cache_dir=values["cache_dir"],
        command=text,
        progress=values["progress"],
    )
    say_finished(table.verdict(), values["output_dir"])


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
