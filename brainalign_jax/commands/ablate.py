"""`brainalign ablate`: which part of the model carries the alignment?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import filled, options_of, picked
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring

_PLAN = options_of(Ablation, align.PROTOCOL)
_SCORING = (
    *picked(
        align.SCORING,
        "methods",
        default=("ridge",),
        help="Methods that decode words: ridge, procrustes, rsa.",
    ),
    *picked(align.SCORING, "ks", default=(1, 10)),
    *picked(align.SCORING, "lower"),
    *align.DRAW_SEED,
)

ABLATION_OPTIONS = (
    *align.SIDES,
    *_PLAN,
    *_SCORING,
    *align.VECTOR_STUDY,
)


def _ablate(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.ablation import run_ablation
    from brainalign_jax.study.registry import check_decoders

    with misuse():
        plan = filled(Ablation, _PLAN, values)
        scoring = filled(Scoring, _SCORING, values)
        check_decoders(scoring.methods, "an ablation study")
    align.run_on_data(run_ablation, values, text, plan=plan, scoring=scoring)


ABLATE = Command(
    "ablate",
    "which part of the model carries the alignment: parts switched off one at a time, with a verdict",
    (
        "ablate --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--components=heads,attention,ffn --output_dir=out/ablate",
    ),
    ABLATION_OPTIONS,
    _ablate,
    align.VECTORS_KEPT,
)
