"""The grid of Li et al. 2023 under its own protocol and the audited one, side by side.

Families x sizes x layers x subjects x methods on any of the data sets; one study for each data set and
protocol, and what they say together. Reference: Li et al. 2023, arXiv 2306.01930.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.files import output_folder, write_parquet
from brainalign_jax.language import list_models
from brainalign_jax.names import check_known, unknown
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.replication import report
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence import intervals
from brainalign_jax.study.evidence.table import EvidencePlan
from brainalign_jax.study.outputs import CONTENTS, new_outputs
from brainalign_jax.study.protocol import PROTOCOLS, protocol
from brainalign_jax.study.registry import DEFAULT, check_decoders
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.problem import fitting_ks, folds_of
from brainalign_jax.study.score.sweep import Scoring
from brainalign_jax.study.words import is_isolated

# Of each family the sizes that the paper has; other families are taken whole.
PAPER_MODELS = {
    "bert": ("bert-tiny", "bert-mini", "bert-small", "bert-medium", "bert-base", "bert-large"),
    "gpt2": ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
    "opt": ("opt-125m", "opt-1.3b", "opt-6.7b", "opt-30b"),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What an experiment of the paper fixes; models and methods that are named win over it."""

    methods: tuple[str, ...] = DEFAULT
    families: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dataset: str | None = None
    least_datasets: int = 1


PRESETS = {
    "experiment1": Preset(("procrustes",), families=("bert",), dataset="harry_potter"),
    "experiment2": Preset(("rsa",), families=("bert",)),
    "experiment3": Preset(models=("bert-base",), least_datasets=2),
    "all": Preset(families=tuple(PAPER_MODELS)),
    "custom": Preset(),
}


class Grid(NamedTuple):
    """models and methods to score."""

    models: tuple[str, ...]
    methods: tuple[str, ...]


def grid(
    preset: str,
    datasets: Sequence[str],
    *,
    models: Sequence[str] | None = None,
    families: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    max_params: float | None = None,
) -> Grid:
    """The models and methods of a preset, or of the names given in their place.

    families: "bert", "gpt2", "opt" in the sizes of the paper, or another family in all sizes known by
    name. max_params: leave out models of known size above it.

    Raises: ValueError for an unknown preset or family, data sets that the preset is not about, or where no
    model is left.
    """
    check_known("preset", preset, PRESETS)
    chosen = PRESETS[preset]
    if chosen.dataset is not None and tuple(datasets) != (chosen.dataset,):
        raise ValueError(
            f"{preset} is on {chosen.dataset}: give --data_dirs={chosen.dataset}=FOLDER, or take "
            "--preset=custom with --models or --families"
        )
    if len(datasets) < chosen.least_datasets:
        raise ValueError(
            f"{preset} compares data sets: give at least {chosen.least_datasets} as "
            "--data_dirs=NAME=FOLDER,NAME=FOLDER"
        )
    if models is None and families is None:
        models, families = chosen.models, chosen.families
    known = list_models()
    names = list(models or ())
    for family in families or ():
        members = PAPER_MODELS.get(family) or [x.name for x in known if x.family == family]
        if not members:
            families_known = (x.family for x in known)
            raise ValueError(
                unknown("family", family, families_known, listing="`brainalign models`")
            )
        names += members
    sizes = {spec.name: spec.n_params for spec in known}
    names = [n for n in dict.fromkeys(names) if max_params is None or sizes.get(n, 0) <= max_params]
    if not names:
        raise ValueError(
            "no model is left: name some with --models or --families, or raise --max_params"
        )
    check_decoders(methods or (), "the replication")
    return Grid(tuple(names), tuple(methods or chosen.methods))


def replicate(
    datasets: Sequence[Dataset],
    what: Grid,
    output_dir: str | Path,
    *,
    protocols: Sequence[str] = ("paper", "audited"),
    fixed: Mapping[str, object] | None = None,
    ks: tuple[int, ...] = (1, 5, 10, 30, 50, 100),
    k: int = 10,
    layers: tuple[int, ...] | None = None,
    lower: bool = False,
    seed: int = 0,
    context: str | None = None,
    evidence: EvidencePlan | None = None,
    computation: Computation = Computation(),
    max_memory: int | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> dict[tuple[str, str], ResultTable]:
    """Score the grid and write a study to OUT/DATASET/PROTOCOL, and all together to OUT.

    evidence: of the audited protocol; the paper's gets intervals only. fixed: protocol fields of both alike.
    context: what the model reads; None for sentences, and for isolated words the word alone. The rest as
    in `run_study`. Written to OUT: results.parquet, evidence.parquet, layers.parquet (every layer with its
    interval), scaling.parquet, figures/*.png and report.html. Embeddings and cells of a data set are kept
    in OUT/DATASET/cache: a second call scores only what is missing.

    Returns: (data set, protocol) -> table. Raises: ValueError for an unknown protocol or a data set given
    twice, and as `run_study`; of words too few for the folds, k or csls_k of any data set before the first
    one is scored.
    """
    for name in protocols:
        check_known("protocol", name, PROTOCOLS)
    if not protocols:
        raise ValueError(f"no protocol is given: name one or more of {', '.join(PROTOCOLS)}")
    names = [dataset.name for dataset in datasets]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data sets are {names}: give each once")
    evidence = evidence or EvidencePlan(seed=seed)
    output, tables, by_layer = output_folder(output_dir, "output_dir"), {}, []
    bare = dataclasses.replace(
        evidence, n_nulls=0, n_permutations=0, untrained_seeds=0, controls=(), ceilings=False
    )
    scorings = {}
    for dataset in datasets:
        timed, grouped = dataset.stimulus.onsets is not None, dataset.stimulus.run is not None
        for name in dict.fromkeys(protocols):
            how = dict(timed=timed, grouped=grouped, dataset=dataset.name, **(fixed or {}))
            chosen = protocol(name, **how)
            scorings[dataset.name, name] = Scoring(what.methods, chosen, ks, layers, lower, seed)
    _check(datasets, scorings, k)
    for dataset in datasets:
        stimulus = dataset.stimulus
        for name in dict.fromkeys(protocols):
            if progress:
                print(f"{dataset.name}, {name} protocol", flush=True)
            plan = evidence if name == "audited" else bare
            table = run_study(
                dataset,
                what.models,
                scorings[dataset.name, name],
                output / dataset.name / name,
                embedding=Embedding(context or ("word" if is_isolated(stimulus) else "sentence")),
                computation=computation,
                max_memory=max_memory,
                report_k=k,
                evidence=plan,
                cache_dir=output / dataset.name / "cache",
                command=command,
                simulated=simulated,
                progress=progress,
            )
            tables[dataset.name, name] = table
            by_layer.append(intervals.by_layer(table, plan, k=k))
    layers_table = pd.concat(by_layer, ignore_index=True)
    everything = list(tables.values())
    slopes = [t.extras["scaling"].assign(protocol=name) for (_, name), t in tables.items()]
    with new_outputs(output, CONTENTS) as new:
        write_parquet(layers_table, new / "layers.parquet")
        write_parquet(_all([t.rows for t in everything]), new / "results.parquet")
        write_parquet(_all([t.extras["evidence"] for t in everything]), new / "evidence.parquet")
        write_parquet(_all(slopes), new / "scaling.parquet")
        report.write(tables, layers_table, new, k=k, command=command, simulated=simulated)
    return tables


def _check(
    datasets: Sequence[Dataset], scorings: Mapping[tuple[str, str], Scoring], k: int
) -> None:
    """Raise ValueError for what a study of any data set would refuse, before hours go into the first one."""
    for dataset in datasets:
        first = dataset.load(dataset.subjects[0])
        for (of, name), scoring in scorings.items():
            if of != dataset.name:
                continue
            if k not in scoring.ks:
                raise ValueError(f"report_k={k} is not among ks={scoring.ks}: add it")
            fitting, *_ = fitting_ks(first, scoring, k)
            if k not in fitting.ks:
                raise ValueError(
                    f"report_k={k} is above the number of words of {dataset.name}: give smaller --ks and "
                    "--report_k"
                )
            try:
                folds_of(first, fitting)
            except ValueError as error:
                raise ValueError(f"{dataset.name}, {name} protocol: {error}") from error


def _all(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)
