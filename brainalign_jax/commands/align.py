"""`brainalign align`: from a data set and models to scores, evidence and a verdict."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import Misuse, misuse, take_signals
from brainalign_jax.embedding import Embedding
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import GROUPS, EvidencePlan, Scoring
from brainalign_jax.study.protocol import PROTOCOLS, Protocol

DATA, MODEL, PROTOCOL, EVIDENCE, MACHINE = "data", "model", "protocol", "evidence", "machine"

DATASET = Option(
    "dataset",
    "text",
    None,
    "Data set to read; `brainalign datasets` lists them.",
    DATA,
    required=True,
)
DATA_DIR = Option("data_dir", "path", None, "Folder of the release's files.", DATA, required=True)
SUBJECTS = Option("subjects", "list", None, "Subjects; all usable ones if not given.", DATA)
READER_OPTIONS = Option(
    "reader_options",
    "pairs",
    (),
    "Options of the data set's reader as name=value, with : between several values, as "
    "radius=6mm,window=-2:2; `brainalign datasets NAME` lists them.",
    DATA,
)
ATTRIBUTES = Option(
    "attributes",
    "text",
    None,
    "What is known of the words, with commas: tables (.csv, .tsv) with a column word or row (from 1), the "
    "others attributes; norms by name: concreteness, sensorimotor, frequency or frequency:fr.",
    DATA,
)
LANGUAGE = Option(
    "language",
    "text",
    None,
    "Language of the words, as fr or zh (ISO 639-1), where the reader does not say it: how words are joined.",
    DATA,
)
OUTPUT_DIR = Option("output_dir", "path", None, "Folder to write to.", DATA, required=True)
MODELS = Option(
    "models",
    "list",
    None,
    "Models, by name, Hugging Face id or folder (`brainalign models` lists the names); untrained:MODEL is "
    "the same architecture with random weights, static:FILE a file of word vectors, 'MODEL@{512,1000}' a "
    "model at steps of its training (in quotes, for the shell).",
    MODEL,
    required=True,
)
REPORT_K = Option(
    "report_k", "int", 10, "The k shown in the report; one of --ks.", PROTOCOL, least=1
)
PROGRESS = Option("progress", "bool", True, "Show stages and the time to the end.", MACHINE)

EMBEDDING = options_of(Embedding, MODEL)
SCORING = options_of(Scoring, PROTOCOL)
CHOICES = options_of(Protocol, PROTOCOL, without_defaults="by --protocol")
PLAN = options_of(EvidencePlan, EVIDENCE)
COMPUTATION = options_of(Computation, MACHINE)

RECORDINGS = (DATASET, DATA_DIR, SUBJECTS, READER_OPTIONS, ATTRIBUTES, LANGUAGE)  # of `open_data`
# What is compared with what, and where it goes.
SIDES = (*RECORDINGS, OUTPUT_DIR, MODELS, *EMBEDDING)
OPTIONS = (
    *SIDES,
    Option(
        "protocol",
        "choice",
        "audited",
        "How scores are made: audited, or as the paper did. The options of single choices override it.",
        PROTOCOL,
        tuple(PROTOCOLS),
    ),
    *SCORING,
    REPORT_K,
    *CHOICES,
    Option(
        "evidence",
        "bool",
        True,
        "Nulls, controls, ceilings, intervals and a verdict beside the scores.",
        EVIDENCE,
    ),
    *PLAN,
    Option(
        "group_decoding",
        "list",
        (),
        "Also decode all subjects as one: summed (kernels side by side), hyperaligned (a shared space).",
        EVIDENCE,
        GROUPS,
    ),
    *COMPUTATION,
    Option(
        "max_memory_gb",
        "float",
        None,
        "GiB that may be used: of the accelerator, else of the machine. Default: 80 % of what there is.",
        MACHINE,
        above=0.0,
        most=1e6,
    ),
    Option(
        "cache_dir",
        "path",
        None,
        "Where vectors and finished scores are kept; below --output_dir if not given.",
        MACHINE,
    ),
    Option(
        "distributed",
        "bool",
        False,
        "Share the study with the other processes of a TPU slice or cluster job, or of --coordinator.",
        MACHINE,
    ),
    Option("coordinator", "text", None, "host:port of process 0, as seen by all.", MACHINE),
    Option("n_processes", "int", None, "Number of processes.", MACHINE, least=1),
    Option("process", "int", None, "Which process this is, from 0.", MACHINE, least=0),
    PROGRESS,
)

# Of studies that keep their vectors alone.
DRAW_SEED = picked(SCORING, "seed", help="Seed of every draw and of untrained weights.")
VECTOR_CACHE = picked(
    OPTIONS, "cache_dir", help="Where vectors are kept; below --output_dir if not given."
)
_VECTOR_COMPUTATION = picked(COMPUTATION, "dtype", "threads")
VECTOR_STUDY = (*_VECTOR_COMPUTATION, *VECTOR_CACHE, PROGRESS)
VECTORS_KEPT = "vectors are kept in the cache, scores are not, and the same command begins anew"


def study_arguments(values: dict[str, Any], text: str) -> dict[str, Any]:
    """What `VECTOR_STUDY` and the options of vectors say, as the function of such a study takes it."""
    return {
        "embedding": filled(Embedding, EMBEDDING, values),
        "computation": filled(Computation, _VECTOR_COMPUTATION, values),
        "cache_dir": values["cache_dir"],
        "command": text,
        "progress": values["progress"],
    }


def run_on_data(study: Callable, values: dict[str, Any], text: str, *asked, **choices) -> None:
    """Run a study of the data set and models that the options name, and say what it shows.

    asked: what it takes behind these two; choices: beside `study_arguments`.
    """
    table = study(
        open_data(values),
        values["models"],
        *asked,
        values["output_dir"],
        **choices,
        **study_arguments(values, text),
    )
    say_finished(table.verdict(), values["output_dir"])


def open_data(values: dict[str, Any]):
    """The data set that the options of a command name."""
    from brainalign_jax.neural.attributes import split_attributes
    from brainalign_jax.neural.readers import open_dataset
    from brainalign_jax.neural.readers.options import convert_options
    from brainalign_jax.scripts import check_language

    with misuse():
        options = convert_options(values["dataset"], values["reader_options"] or {})
        language = check_language(values.get("language"))
        of_reader = check_language(options.pop("language", None))
    if None not in (language, of_reader) and language != of_reader:
        raise Misuse(
            f"--language={language} and --reader_options=language={of_reader} differ: leave one out"
        )
    text = values.get("attributes")
    attributes = None if text is None else split_attributes(text)
    dataset = open_dataset(
        values["dataset"],
        values["data_dir"],
        subjects=values["subjects"],
        attributes=attributes,
        language=language or of_reader,
        **options,
    )
    if attributes is not None:
        about = dataset.meta["attributes"]
        shares = about["known_of"].items()
        said = ", ".join(f"{name} of {share:.1%}" for name, share in shares)
        print(f"{', '.join(attributes)}: known of the words: {said}")
        for source in about.get("norms", ()):
            print(f"norms: {source}")
    return dataset


def shared_reader_options(names: Iterable[str], options: dict[str, str]) -> dict[str, dict]:
    """Data set -> those of the reader options, converted, that it has.

    Raises: Misuse for an option that no data set has, or a value that a reader does not take.
    """
    from brainalign_jax.neural.readers import reader_options
    from brainalign_jax.neural.readers.options import convert_options

    with misuse():
        known = {name: reader_options(name) for name in names}
        converted = {
            name: convert_options(name, {key: options[key] for key in options if key in accepted})
            for name, accepted in known.items()
        }
    for option in options:
        if not any(option in accepted for accepted in known.values()):
            raise Misuse(f"--reader_options: no data set here has the option {option!r}")
    return converted


def evidence_plan(values: dict[str, Any]) -> EvidencePlan:
    """How much evidence the options of a command ask for."""
    return filled(EvidencePlan, PLAN, values, seed=values["seed"])


def _align(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.study import processes
    from brainalign_jax.study.protocol import protocol
    from brainalign_jax.study.run import check_group_decoding, run_study

    with misuse():
        scoring = filled(Scoring, SCORING, values)
        plan = evidence_plan(values) if values["evidence"] else None
        if values["report_k"] not in scoring.ks:
            raise ValueError(f"--report_k={values['report_k']} is not among --ks: add it")
        check_group_decoding(values["group_decoding"] or (), scoring)
    who = values["coordinator"], values["n_processes"], values["process"]
    if values["distributed"] or any(value is not None for value in who):
        with misuse():
            processes.join(*who)
        take_signals()
    dataset = open_data(values)
    chosen = protocol(
        values["protocol"],
        timed=dataset.stimulus.onsets is not None,
        grouped=dataset.stimulus.run is not None,
        dataset=dataset.name,
        **{option.field: values[option.name] for option in CHOICES},
    )
    with misuse():
        scoring = dataclasses.replace(scoring, protocol=chosen)
    memory = values["max_memory_gb"]
    table = run_study(
        dataset,
        values["models"],
        scoring,
        values["output_dir"],
        embedding=filled(Embedding, EMBEDDING, values),
        computation=filled(Computation, COMPUTATION, values),
        max_memory=None if memory is None else int(memory * 2**30),
        report_k=values["report_k"],
        evidence=plan,
        group_decoding=values["group_decoding"],
        cache_dir=values["cache_dir"],
        command=text,
        progress=values["progress"],
    )
    if processes.index() == 0:  # the first process has written the report
        say_finished(table, values["output_dir"])


ALIGN = Command(
    "align",
    "scores of models' layers against recordings, with the evidence and a verdict",
    (
        "align --dataset=alice --data_dir=data/alice --models=gpt2 --output_dir=out/alice",
        "align --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base,gpt2 --context=word "
        "--output_dir=out/pereira180",
        "align --dataset=table --data_dir=my_words --models=static:vectors.txt --methods=ridge "
        "--evidence=false --output_dir=out/mine",
    ),
    OPTIONS,
    _align,
)
