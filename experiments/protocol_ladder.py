"""Which choice makes the score? From the paper's protocol to the audited one, a choice at a time.

    python -m experiments.protocol_ladder --dataset=harry_potter --data_dir=../shared/data/harry_potter \
        --models=bert-base --layers=0,6,12 --methods=procrustes --output_dir=out/ladder

Scores the models at up to fifteen steps, each with --n_nulls draws of its own null; the time is that of so
many studies with so few null draws (minutes for two small subjects, hours for ridge on a whole story: choose
layers and methods). Expect a score and null that fall together at the step "folds" where smoothness in time
made the score.

Writes OUT/ladder.parquet, ladder.png, report.html, and a study for each step in OUT/steps. A second call with
the same flags computes no score again.
"""

from absl import app

from brainalign_jax.commands.align import (
    DATA_DIR,
    DATASET,
    EMBEDDING,
    MODELS,
    OUTPUT_DIR,
    PLAN,
    PROGRESS,
    PROTOCOL,
    READER_OPTIONS,
    SCORING,
    SUBJECTS,
    open_data,
)
from brainalign_jax.commands.command import Command, absl_main, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.commands.fixed import FIXED, protocol_fields
from brainalign_jax.options import Option, filled, picked

_EMBEDDING = picked(EMBEDDING, "context")
OPTIONS = (
    DATASET,
    DATA_DIR,
    SUBJECTS,
    READER_OPTIONS,
    OUTPUT_DIR,
    MODELS,
    *_EMBEDDING,
    *picked(SCORING, "methods"),
    Option("steps", "list", None, "Steps to walk, as folds,centring; all if not given.", PROTOCOL),
    FIXED,
    *picked(SCORING, "layers", "lower"),
    Option("k", "int", 10, "The k of precision@k.", PROTOCOL, least=1),
    *picked(PLAN, "n_nulls", default=20, help="Null draws of each step; 0 for none."),
    *picked(PLAN, "null"),
    *picked(SCORING, "seed", help="Seed of every draw."),
    PROGRESS,
)


def _walk(values: dict[str, object], text: str) -> None:
    from brainalign_jax.embedding import Embedding
    from brainalign_jax.names import check_known
    from brainalign_jax.studies.ladder import run_ladder
    from brainalign_jax.studies.ladder.ladder import STEPS
    from brainalign_jax.study.registry import check_decoders

    with misuse():
        fixed = protocol_fields(values["fixed"])
        check_decoders(values["methods"], "the ladder")
        for name in values["steps"] or ():
            check_known("step", name, STEPS)

    passed = ("methods", "steps", "k", "layers", "lower", "n_nulls", "null", "seed", "progress")
    ladder = run_ladder(
        open_data(values),
        values["models"],
        values["output_dir"],
        fixed=fixed,
        embedding=filled(Embedding, _EMBEDDING, values),
        command=text,
        **{name: values[name] for name in passed},
    )
    say_finished("\n".join(ladder.sentences), values["output_dir"])


COMMAND = Command(
    "protocol_ladder",
    "from the paper's protocol to the audited one, a choice at a time",
    (),
    OPTIONS,
    _walk,
)

main = absl_main(COMMAND, __name__, "python -m experiments.protocol_ladder")

if __name__ == "__main__":
    app.run(main)
