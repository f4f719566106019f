"""The grid of Li et al. 2023 under the paper's protocol and the audited one, side by side.

    python -m experiments.replicate_paper --preset=experiment1 \
        --data_dirs=harry_potter=../shared/data/harry_potter --output_dir=out/experiment1

Presets: experiment1 (Procrustes x BERT family x Harry Potter), experiment2 (layers of one family by RSA),
experiment3 (one model over all data sets), all (BERT, GPT-2 and OPT x three methods), custom. --models,
--families and --methods win over a preset. The time is that of two run_alignment calls a data set, the
audited one with its null draws: hours for a family on whole stories. Expect higher scores under the paper's
protocol than under the audited one on stories, and in report.html whether any exceeds its null.

Writes OUT/report.html, figures, results.parquet, evidence.parquet, layers.parquet, scaling.parquet and a
study in OUT/DATASET/PROTOCOL. A second call scores only what is missing.
"""

from absl import app

from brainalign_jax.commands.align import (
    EMBEDDING,
    MODEL,
    MODELS,
    OUTPUT_DIR,
    PLAN,
    PROGRESS,
    READER_OPTIONS,
    REPORT_K,
    SCORING,
    evidence_plan,
    shared_reader_options,
)
from brainalign_jax.commands.command import Command, absl_main, shown_path
from brainalign_jax.commands.ending import misuse
from brainalign_jax.commands.fixed import FIXED, PROTOCOL_NAMES, protocol_fields
from brainalign_jax.options import Option, picked

_PRESETS = ("experiment1", "experiment2", "experiment3", "all", "custom")
OPTIONS = (
    Option(
        "data_dirs",
        "paths",
        None,
        "Data sets and the folders of their releases.",
        "data",
        required=True,
    ),
    *picked(
        (READER_OPTIONS,),
        "reader_options",
        help="Reader options as name=value, each for the data sets that have it. Word responses are read by "
        "the paper's kernel (kind=paper) where nothing else is said.",
    ),
    OUTPUT_DIR,
    Option("preset", "choice", "custom", "Which experiment of the paper.", MODEL, _PRESETS),
    *picked((MODELS,), "models", required=False, help="Models, in place of the preset's."),
    Option("families", "list", None, "Families (bert, gpt2, opt, ...), all sizes.", MODEL),
    Option(
        "max_params",
        "float",
        None,
        "Leave out models known to be larger, as 2e9.",
        MODEL,
        least=0.0,
    ),
    *picked(
        EMBEDDING,
        "context",
        default=None,
        help="What the model reads: sentences if not given, the word alone for isolated words.",
    ),
    *picked(SCORING, "methods", default=None, help="Of procrustes, ridge and rsa; the preset's."),
    PROTOCOL_NAMES,
    FIXED,
    *picked(SCORING, "layers", "lower", "ks"),
    REPORT_K,
    *picked(SCORING, "seed", help="Seed of every draw."),
    *PLAN,
    PROGRESS,
)


def _open(name: str, folder, chosen: dict):
    from brainalign_jax.neural.readers import open_dataset, reader_options

    if "kind" in reader_options(name):
        chosen = {"kind": "paper", **chosen}
    return open_dataset(name, folder, **chosen)


def _replicate(values: dict[str, object], text: str) -> None:
    with misuse():
        fixed, plan = protocol_fields(values["fixed"]), evidence_plan(values)
    from brainalign_jax.studies.replication import grid, replicate

    folders = values["data_dirs"]
    asked = ("models", "families", "methods", "max_params")
    with misuse():
        what = grid(values["preset"], list(folders), **{name: values[name] for name in asked})
    options = shared_reader_options(folders, values["reader_options"])
    passed = ("protocols", "ks", "layers", "lower", "seed", "context", "progress")
    replicate(
        [_open(name, folder, options[name]) for name, folder in folders.items()],
        what,
        values["output_dir"],
        fixed=fixed,
        k=values["report_k"],
        evidence=plan,
        command=text,
        **{name: values[name] for name in passed},
    )
    print(f"report: {shown_path(values['output_dir'] / 'report.html')}")


COMMAND = Command(
    "replicate_paper",
    "the grid of Li et al. 2023 under the paper's protocol and the audited one",
    (),
    OPTIONS,
    _replicate,
)

main = absl_main(COMMAND, __name__, "python -m experiments.replicate_paper")

if __name__ == "__main__":
    app.run(main)
