"""`brainalign ablate`: which part of the model carries the alignment?"""

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
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Scoring

_PLAN = options_of(Ablation, PROTOCOL)
_SCORING = (
    *picked(
        SCORING,
        "methods",
        default=("ridge",),
        help="Methods that decode words: ridge, procrustes, rsa.",
    ),
    *picked(SCORING, "ks", default=(1, 10)),
    *picked(SCORING, "lower"),
    *picked(SCORING, "seed", help="Seed of every draw and of untrained weights."),
)
_COMPUTATION = picked(COMPUTATION, "dtype", "threads")

ABLATION_OPTIONS = (
    *SIDES,
    *_PLAN,
    *_SCORING,
    *_COMPUTATION,
    *picked(OPTIONS, "cache_dir", help="Where vectors are kept; below --output_dir if not given."),
    PROGRESS,
)


def _ablate(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.ablation import run_ablation
    from brainalign_jax.study.registry import check_decoders

    with misuse():
        plan = filled(Ablation, _PLAN, values)
        scoring = filled(Scoring, _SCORING, values)
        check_decoders(scoring.methods, "an ablation study")
    table = run_ablation(
        open_data(values),
        values["models"],
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


ABLATE = Command(
    "ablate",
    "which part of the model carries the alignment: parts switched off one at a time, with a verdict",
    (
        "ablate --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--components=heads,attention,ffn --output_dir=out/ablate",
    ),
    ABLATION_OPTIONS,
    _ablate,
    "vectors are kept in the cache, scores are not, and the same command begins anew",
)
