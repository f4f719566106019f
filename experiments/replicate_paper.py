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

import sys

from absl import app, flags, logging

from brainalign_jax.neural.readers import open_dataset, reader_options
from brainalign_jax.neural.readers.options import convert_options
from brainalign_jax.study.replication import PRESETS, grid, replicate
from experiments.evidence_flags import evidence_plan
from experiments.study_flags import numbers, pairs, protocol_fields

_DATA_DIRS = flags.DEFINE_list(
    "data_dirs", None, "Data sets and the folders of their releases, NAME=FOLDER.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_PRESET = flags.DEFINE_enum("preset", "custom", list(PRESETS), "Which experiment of the paper.")
_MODELS = flags.DEFINE_list("models", None, "Models, in place of the preset's.")
_FAMILIES = flags.DEFINE_list("families", None, "Families (bert, gpt2, opt, ...), all sizes.")
_METHODS = flags.DEFINE_list("methods", None, "Of procrustes, ridge and rsa; the preset's.")
_MAX_PARAMS = flags.DEFINE_float(
    "max_params", None, "Leave out models known to be larger, as 2e9.", lower_bound=0
)
_PROTOCOLS = flags.DEFINE_list("protocols", ["paper", "audited"], "Of paper and audited.")
_FIXED = flags.DEFINE_list(
    "fixed", [], "Protocol fields of both protocols alike, as csls_k=10,n_folds=5."
)
_READER_OPTIONS = flags.DEFINE_list(
    "reader_options",
    [],
    "Reader options as name=value, each for the data sets that have it. Word responses are read by the "
    "paper's kernel (kind=paper) where nothing else is said.",
)
_LAYERS = flags.DEFINE_list("layers", None, "Layers, 0 is the embedding output; all if not given.")
_CONTEXT = flags.DEFINE_enum(
    "context",
    None,
    ["sentence", "window", "word"],
    "What the model reads: sentences if not given, the word alone for isolated words.",
)
_LOWER = flags.DEFINE_bool("lower", False, "Count word types without regard to case.")
_KS = flags.DEFINE_list("ks", ["1", "5", "10", "30", "50", "100"], "The k of precision@k.")
_REPORT_K = flags.DEFINE_integer("report_k", 10, "The k of the report; one of --ks.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of every draw.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show studies, progress bars and memory plans.")


def _open(name: str, folder: str, options: dict[str, str]):
    known = reader_options(name)
    chosen = convert_options(name, {key: text for key, text in options.items() if key in known})
    if "kind" in known:
        chosen.setdefault("kind", "paper")
    return open_dataset(name, folder, **chosen)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    try:
        folders = pairs("data_dirs", _DATA_DIRS.value)
        options = pairs("reader_options", _READER_OPTIONS.value)
        what = grid(
            _PRESET.value,
            list(folders),
            models=_MODELS.value,
            families=_FAMILIES.value,
            methods=_METHODS.value,
            max_params=_MAX_PARAMS.value,
        )
        fields = [set(reader_options(name)) for name in folders]
        for option in options:
            if not any(option in known for known in fields):
                raise ValueError(f"--reader_options: no data set here has the option {option!r}")
        plan = evidence_plan(seed=_SEED.value)
        if plan is None:
            raise ValueError(
                "--evidence=false leaves no intervals: use --n_nulls=0 --controls= instead"
            )
        replicate(
            [_open(name, folder, options) for name, folder in folders.items()],
            what,
            _OUTPUT_DIR.value,
            protocols=_PROTOCOLS.value,
            fixed=protocol_fields("fixed", _FIXED.value),
            ks=numbers("ks", _KS.value, int),
            k=_REPORT_K.value,
            layers=numbers("layers", _LAYERS.value, int),
            lower=_LOWER.value,
            seed=_SEED.value,
            context=_CONTEXT.value,
            evidence=plan,
            command=" ".join(["python -m experiments.replicate_paper", *sys.argv[1:]]),
            progress=_PROGRESS.value,
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"replicate_paper: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"report: {_OUTPUT_DIR.value}/report.html")


if __name__ == "__main__":
    app.run(main)
