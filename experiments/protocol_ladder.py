"""Which choice makes the score? From the paper's protocol to the audited one, a choice at a time.

    python -m experiments.protocol_ladder --dataset=harry_potter --data_dir=../shared/data/harry_potter \
        --models=bert-base --layers=0,6,12 --methods=procrustes --output_dir=out/ladder

Scores the models at up to twelve steps, each with --n_nulls draws of its own null; the time is that of so
many studies with so few null draws (minutes for two small subjects, hours for ridge on a whole story: choose
layers and methods). Expect a score and null that fall together at the step "folds" where smoothness in time
made the score.

Writes OUT/ladder.parquet, ladder.png, report.html, and a study for each step in OUT/steps. A second call with
the same flags computes no score again.
"""

import sys

from absl import app, flags, logging

from brainalign_jax.neural.readers import list_datasets, open_dataset
from brainalign_jax.neural.readers.options import convert_options
from brainalign_jax.study.ladder import STEPS, run_ladder
from brainalign_jax.study.null_draws import KINDS
from brainalign_jax.study.run import Embedding
from experiments.study_flags import numbers, pairs, protocol_fields

_DATASET = flags.DEFINE_enum("dataset", None, list_datasets(), "Data set to read.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the release's files.", required=True)
_MODELS = flags.DEFINE_list(
    "models", None, "Models: names, hub ids, folders or static:FILE.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_METHODS = flags.DEFINE_list(
    "methods", ["procrustes", "ridge", "rsa"], "Of procrustes, ridge and rsa."
)
_STEPS = flags.DEFINE_list(
    "steps", None, f"Steps to walk, of {', '.join(STEPS)}; all if not given."
)
_FIXED = flags.DEFINE_list(
    "fixed", [], "Protocol fields of every step alike, as csls_k=10,n_folds=5."
)
_SUBJECTS = flags.DEFINE_list("subjects", None, "Subjects; all usable ones if not given.")
_LAYERS = flags.DEFINE_list("layers", None, "Layers, 0 is the embedding output; all if not given.")
_READER_OPTIONS = flags.DEFINE_list(
    "reader_options", [], "Options of the data set's reader as name=value."
)
_CONTEXT = flags.DEFINE_enum(
    "context", "sentence", ["sentence", "window", "word"], "What the model reads around a word."
)
_LOWER = flags.DEFINE_bool("lower", False, "Count word types without regard to case.")
_K = flags.DEFINE_integer("k", 10, "The k of precision@k.", lower_bound=1)
_N_NULLS = flags.DEFINE_integer("n_nulls", 20, "Null draws of each step.", lower_bound=0)
_NULL = flags.DEFINE_enum(
    "null", None, list(KINDS), "How a draw is made; what fits the words if not given."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of every draw.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show steps, progress bars and memory plans.")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    try:
        options = pairs("reader_options", _READER_OPTIONS.value)
        found = run_ladder(
            open_dataset(
                _DATASET.value,
                _DATA_DIR.value,
                subjects=_SUBJECTS.value,
                **convert_options(_DATASET.value, options),
            ),
            _MODELS.value,
            _OUTPUT_DIR.value,
            methods=_METHODS.value,
            steps=_STEPS.value,
            fixed=protocol_fields("fixed", _FIXED.value),
            k=_K.value,
            layers=numbers("layers", _LAYERS.value, int),
            lower=_LOWER.value,
            n_nulls=_N_NULLS.value,
            null=_NULL.value,
            seed=_SEED.value,
            embedding=Embedding(_CONTEXT.value),
            command=" ".join(["python -m experiments.protocol_ladder", *sys.argv[1:]]),
            progress=_PROGRESS.value,
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"protocol_ladder: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(found.sentences))
    print(f"report: {_OUTPUT_DIR.value}/report.html")


if __name__ == "__main__":
    app.run(main)
